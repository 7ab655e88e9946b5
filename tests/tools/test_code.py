"""What the code itself must never do, read off its syntax tree."""

import ast

import pytest

from checkout import ROOT

PACKAGES = [path.parent for path in ROOT.glob("*/__init__.py")]
FILES = sorted(str(path.relative_to(ROOT)) for path in [
    *ROOT.glob("*.py"), *(path for folder in PACKAGES for path in folder.rglob("*.py"))])
CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "subprocess.getoutput",
         "marshal.loads"}
MODULES = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal"}


def faults(source):
    """Lines that run text as code, unpickle objects, or hand a string to a shell."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            found += [f"{node.lineno}: import {name}" for name in names
                      if name.split(".")[0] in MODULES]
        if isinstance(node, ast.Call) and is_fault(node):
            found.append(f"{node.lineno}: {ast.unparse(node.func)}")
    return found


def is_fault(call):
    """Is this one of the calls that are never made, or one with an option that opens the door?"""
    name = ast.unparse(call.func)
    options = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    return (name in CALLS
            or options.get("shell") == "True"
            or options.get("allow_pickle") == "True"
            or name == "torch.load" and options.get("weights_only") != "True")


@pytest.mark.parametrize("path", FILES)
def test_no_program_runs_text_as_code_unpickles_objects_or_calls_a_shell(path):
    assert faults((ROOT / path).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("line", [
    "eval(x)", "exec(x)", "import pickle", "from pickle import loads", "from six import cPickle",
    "os.system(x)", "subprocess.run(x, shell=True)", "torch.load(x)",
    "torch.load(x, weights_only=False)", "np.load(x, allow_pickle=True)"])
def test_the_search_finds_them(line):
    assert faults(line)


@pytest.mark.parametrize("line", [
    "network.eval()", "torch.compile(network)", "torch.load(x, weights_only=True)", "np.load(x)"])
def test_and_nothing_else(line):
    assert not faults(line)
