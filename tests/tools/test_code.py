"""What the code itself must never do, read off its syntax tree."""

import ast

import pytest

from checkout import ROOT

FILES = sorted(path for folder in (".", "networks", "benchmarks") for path in (ROOT / folder).glob("*.py"))
CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "subprocess.getoutput", "marshal.loads"}
MODULES = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal"}


def faults(source):
    """Lines that run text as code, unpickle objects, or hand a string to a shell."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [f"{node.lineno}: import {name}" for name in names if name.split(".")[0] in MODULES]
        if isinstance(node, ast.Call):
            name, options = ast.unparse(node.func), {one.arg: ast.unparse(one.value) for one in node.keywords}
            wrong = (name in CALLS or options.get("shell") == "True" or options.get("allow_pickle") == "True"
                     or name == "torch.load" and options.get("weights_only") != "True")
            found += [f"{node.lineno}: {name}"] * wrong
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_program_runs_text_as_code_unpickles_objects_or_calls_a_shell(path):
    assert faults(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("line", ["eval(x)", "exec(x)", "import pickle", "from pickle import loads", "os.system(x)",
                                  "subprocess.run(x, shell=True)", "torch.load(x)", "torch.load(x, weights_only=False)",
                                  "np.load(x, allow_pickle=True)"])
def test_the_search_finds_them(line):
    assert faults(line)


@pytest.mark.parametrize("line", ["network.eval()", "torch.compile(network)", "torch.load(x, weights_only=True)", "np.load(x)"])
def test_and_nothing_else(line):
    assert not faults(line)
