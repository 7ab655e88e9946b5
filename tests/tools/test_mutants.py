"""mutants.py: what it copies, reads and counts. The mutants themselves: make mutants."""

import json
import subprocess
import sys

import mutants
from checkout import ROOT


def test_the_copy_holds_programs_and_tests_and_imports(tmp_path):
    mutants.copy_checkout(tmp_path, ["losses.py", "losses_regional.py", "metrics.py"])

    settings = (tmp_path / "setup.cfg").read_text()
    assert "source_paths =\n    losses.py\n    losses_regional.py\n    metrics.py\n" in settings
    tests = [f"    tests/library/test_{name}.py\n"
             for name in ("losses", "losses_regional", "build_loss", "losses_of_maps", "metrics")]
    assert "test_selection =\n" + "".join(tests) in settings
    assert "\n    distance.py\n" in settings and (tmp_path / "tests" / "conftest.py").exists()

    code = "import losses, metrics, distance, networks; print(losses.__file__)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == str(tmp_path / "losses.py")


def test_every_file_has_tests_of_its_name():
    for file in mutants.FILES:
        assert (ROOT / file).exists()
        assert (ROOT / "tests" / "library" / f"test_{file}").exists()
    assert all((ROOT / name).exists() for names in mutants.MORE_TESTS.values() for name in names)


def test_a_timeout_counts_as_killed_and_everything_else_does_not(tmp_path):
    statuses = {"a": 1, "b": 1, "c": 3, "d": 36, "e": 0, "f": 33, "g": -11, "h": None}
    (tmp_path / "mutants").mkdir()
    (tmp_path / "mutants" / "one.py.meta").write_text(json.dumps({"exit_code_by_key": statuses}))

    verdicts = mutants.verdicts(tmp_path, "one.py")
    assert [verdicts[name] for name in "defgh"] == [
        "timeout", "survived", "no test", "status -11", "status None"]

    lines, least = mutants.table({"one.py": verdicts, "two.py": {"a": "killed"}})
    assert lines[1].split() == ["one.py", "8", "3", "1", "4", "50.0%"]
    assert lines[2].split() == ["two.py", "1", "1", "0", "0", "100.0%"]
    assert least == 0.5
