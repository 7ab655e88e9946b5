"""The python that starts at once does what python does."""

import os
import signal
import subprocess
import sys

import pytest

import forked_python

TELLS = """
import os, sys
print(sys.argv, os.getcwd(), os.environ["WORD"], sys.stdin.read(), __name__, sys.path[0])
print("a mistake", file=sys.stderr)
{end}
"""


def result(python, words, folder):
    ran = subprocess.run([python, *words], cwd=folder, input="read", capture_output=True, text=True,
                         env={**os.environ, "WORD": "of the shell"})
    return ran.returncode, ran.stdout, ran.stderr.splitlines()[:1], len(ran.stderr.splitlines()) > 1


@pytest.mark.parametrize("end, status", [("", 0), ("sys.exit(3)", 3), ("1 / 0", 1)])
@pytest.mark.parametrize("words", [
    ["told.py", "--a", "b c"], ["-m", "told", "--a"], ["-u", "told.py", "-u"]])
def test_it_runs_a_program_as_python_does(tmp_path, words, end, status):
    (tmp_path / "told.py").write_text(TELLS.format(end=end))
    expected = result(sys.executable, words, tmp_path)
    found = result(forked_python.path(), words, tmp_path)
    assert found == expected and found[0] == status


def test_other_words_go_to_python_itself():
    ran = subprocess.run([forked_python.path(), "-c", "import sys; print('torch' in sys.modules)"],
                         capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (0, "False\n")


def test_a_program_that_is_killed_has_the_status_of_a_shell(tmp_path):
    (tmp_path / "killed.py").write_text(
        f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})")
    assert result(forked_python.path(), ["killed.py"], tmp_path)[0] == 128 + signal.SIGKILL


def test_each_call_imports_the_programs_own_files_anew(tmp_path):
    for text in ("one", "two, of another size than its bytecode's source"):
        (tmp_path / "module.py").write_text(f"NAME = {text!r}")
        (tmp_path / "told.py").write_text("import module; print(module.NAME)")
        assert result(forked_python.path(), ["told.py"], tmp_path)[1] == f"{text}\n"
