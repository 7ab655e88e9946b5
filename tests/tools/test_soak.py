"""The short form of `make soak`: a kill of every program changes no result."""

import subprocess
import sys

from checkout import ROOT


def test_kills_at_random_moments_change_no_result():
    command = [sys.executable, ROOT / "tests" / "tools" / "soak.py", "--kills", "8", "--seed", "1"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result
    assert "8 kills in " in result.stdout and "all results identical" in result.stdout, result
