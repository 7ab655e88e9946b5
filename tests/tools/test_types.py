"""The library's types are complete and consistent; pyproject.toml says what mypy asks of them."""

import subprocess
import sys
import tomllib

from test_imports import LIBRARY

from checkout import ROOT

SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]


def test_every_file_of_the_library_is_checked():
    assert {name.removesuffix(".py") for name in SETTINGS["files"]} == LIBRARY
    assert SETTINGS["disallow_untyped_defs"]


def test_mypy_finds_no_fault(tmp_path):
    result = subprocess.run([sys.executable, "-m", "mypy", "--cache-dir", tmp_path], cwd=ROOT,
                            capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
