"""Who may import whom: the house's table, read off the imports of every file."""

import ast
import subprocess
import sys

import pytest

from checkout import ROOT

LIBRARY = {"losses", "losses_regional", "distance", "metrics", "scheduler", "transforms",
           "networks"}
PROGRAMS = {"preprocess", "main", "evaluate", "report", "predict"}
WINGS = {"scans", "training", "scoring", "reporting", "studies"}
OURS = LIBRARY | PROGRAMS | WINGS | {"utils", "dataloader"}
ELSEWHERE = {"benchmarks", "tests", "docs", "results", "setup.py"}  # outside the house

MAY_IMPORT = {  # of ours; a dotted name stands for that module alone
    "library": LIBRARY,
    "utils": set(),
    "scans": {"utils", "distance", "scans"},
    "dataloader": {"utils", "scans.folder"},
    "scoring": {"utils", "scans", "metrics", "scheduler", "scoring"},
    "training": {"utils", *LIBRARY, "dataloader", "scans.folder", "scoring.scores", "scoring.rows",
                 "scoring.run_files", "scoring.scan_scores", "scoring.emptying", "training"},
    "reporting": {"utils", "scoring", "metrics", "reporting"},
    "studies": {"utils", *LIBRARY, "scans", "scoring", "reporting", "training.devices", "studies"},
    "program": OURS - PROGRAMS,
}
NEVER_AT_THE_TOP = {
    "library": {"nibabel", "matplotlib", "tqdm"}, "utils": {"torch"},
    "scans": {"torch", "matplotlib"}, "dataloader": {"nibabel", "matplotlib"},
    "scoring": {"torch", "matplotlib"}, "training": {"nibabel", "matplotlib"},
    "reporting": {"torch"}, "studies": set(), "program": set(),
}
NEEDS_ALONE = {"losses.py": {"torch"}, "distance.py": {"numpy", "scipy"}}  # others copy them
FILES = sorted(path for path in (*ROOT.glob("*.py"), *ROOT.glob("*/**/*.py"))
               if path.relative_to(ROOT).parts[0] not in {*ELSEWHERE, ".venv"})


def owner(path):
    """The line of the table that a file falls under."""
    name = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if name in LIBRARY:
        return "library"
    return "program" if name in PROGRAMS else name


def imports(source):
    """(module as dotted name, is it at the top of the file?) of every import, in order."""
    tree = ast.parse(source)
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:  # `from scans import folder` imports scans.folder
                full = f"{node.module}.{alias.name}"
                is_module = (ROOT / f"{full.replace('.', '/')}.py").exists()
                yield (full if is_module else node.module), id(node) in top


def faults(path, source):
    """What in this file the table forbids."""
    who = owner(path)
    allowed, forbidden = MAY_IMPORT[who], NEVER_AT_THE_TOP[who]
    for module, at_top in imports(source):
        root = module.split(".")[0]
        if root in PROGRAMS:
            yield f"{module} is a program"
        elif root in OURS and not {root, module} & allowed:
            yield f"{who} may not import {module}"
        elif at_top and root in forbidden:
            yield f"{who} may not import {module} at the top of a file"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_only_what_its_wing_may(path):
    assert list(faults(path, path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("name, needed", NEEDS_ALONE.items())
def test_files_that_others_copy_need_nothing_else(name, needed):
    top = {module.split(".")[0] for module, at_top in imports((ROOT / name).read_text()) if at_top}
    assert top - set(sys.stdlib_module_names) == needed


def test_the_root_holds_the_programs_the_library_and_three_more_files():
    files = {path.stem for path in ROOT.glob("*.py")}
    assert files == (LIBRARY - {"networks"}) | PROGRAMS | {"utils", "dataloader", "setup"}
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages == WINGS | {"networks", "benchmarks"}


@pytest.mark.parametrize("path", [path for path in FILES if path.name == "__init__.py"],
                         ids=lambda path: str(path.relative_to(ROOT)))
def test_a_package_says_its_job_in_a_sentence_and_hands_nothing_on(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), path
    if path.parent.name != "networks":  # the registry of networks is code
        assert len(tree.body) == 1


def test_importing_utils_changes_nothing():
    code = ("import signal, sys; "
            "state = lambda: (sys.excepthook, signal.getsignal(signal.SIGINT)); "
            "before = state(); import utils; assert state() == before")
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("place, line", [
    ("scans/new.py", "import torch"), ("scans/new.py", "from matplotlib import pyplot"),
    ("scans/new.py", "from scoring import rows"), ("scoring/new.py", "import torch"),
    ("scoring/new.py", "from training.config import x"), ("training/new.py", "import nibabel"),
    ("training/new.py", "from scans import datasets"),
    ("training/new.py", "from scoring import runs"),
    ("reporting/new.py", "import torch"), ("reporting/page/new.py", "from scans import nifti"),
    ("studies/new.py", "from training import trainer"), ("losses.py", "from tqdm import tqdm"),
    ("metrics.py", "import utils"), ("dataloader.py", "from scans.nifti import x"),
    ("utils.py", "from scans import folder"), ("studies/new.py", "import main"),
    ("evaluate.py", "    import report"), ("scoring/new.py", "def f():\n    import main")])
def test_what_the_table_forbids_is_found(place, line):
    assert list(faults(ROOT / place, line.lstrip() if place == "evaluate.py" else line))


@pytest.mark.parametrize("place, line", [
    ("scans/new.py", "from distance import signed_distance"),
    ("training/new.py", "def f():\n    import nibabel"),
    ("training/new.py", "from scans import folder"), ("studies/new.py", "import torch"),
    ("main.py", "from scans.resampling import x"),
    ("scoring/new.py", "from scans import datasets")])
def test_what_the_table_allows_is_not(place, line):
    assert not list(faults(ROOT / place, line))
