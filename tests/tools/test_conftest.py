"""The programs that tests run in pytest's own process."""

import os
import subprocess
import sys

import pytest

from checkout import ROOT

TEST = """
import signal

import pytest
from conftest import run


@MARK
def test_a_program_is_ended(monkeypatch):
    monkeypatch.setattr("report.main", lambda _: signal.raise_signal(signal.SIGTERM))
    assert run("report.py").returncode == 143


def test_after_it():
    pass
"""


@pytest.mark.parametrize("mark, status, passed", [("pytest.mark.signals", 0, 2),
                                                  ("pytest.mark.slow", 143, 0)])
def test_a_signal_for_pytest_that_a_program_takes_ends_the_session(tmp_path, mark, status, passed):
    (tmp_path / "test_signals.py").write_text(TEST.replace("MARK", mark))
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "conftest", "-c", ROOT / "pytest.ini", "--rootdir",
         tmp_path, "-p", "no:cacheprovider", tmp_path / "test_signals.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
        env={name: value for name, value in os.environ.items() if name != "PYTEST_XDIST_WORKER"}
        | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"})
    assert result.returncode == status, result.stdout + result.stderr
    assert ("report.py was ended by a signal" in result.stdout + result.stderr) == (status != 0)
    assert (f"{passed} passed" in result.stdout) == (passed > 0)
