"""Atomic writes, tables, error lines, locks."""

import errno
import os
import platform
import re
import signal
import subprocess
import sys

import pytest
import torch

import utils
from checkout import ROOT
from conftest import run_apart
from utils import (
    Description,
    UserError,
    argument_parser,
    atomic_path,
    exclusive,
    read_csv,
    read_description,
    read_json,
    remove_leftovers,
    run_program,
    write_csv,
    write_json,
)


def test_a_failed_write_leaves_the_old_file_and_no_leftover(tmp_path):
    (tmp_path / "a").write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_path(tmp_path / "a") as partial:
        partial.write_text("new, half")
        raise ZeroDivisionError
    assert (tmp_path / "a").read_text() == "old" and os.listdir(tmp_path) == ["a"]


def test_a_folder_is_replaced_whole(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").touch()
    with atomic_path(tmp_path / "a") as partial:
        partial.mkdir()
        (partial / "new").touch()
    assert os.listdir(tmp_path / "a") == ["new"] and os.listdir(tmp_path) == ["a"]


def test_tables_come_back_as_written(tmp_path):
    rows = [{"a": 0.1 + 0.2, "b": "x, \"y\""}, {"a": None, "b": ""}]
    write_csv(tmp_path / "t.csv", rows)
    assert read_csv(tmp_path / "t.csv", ("a", "b")) == [
        {"a": "0.30000000000000004", "b": "x, \"y\""}, {"a": "", "b": ""}]


@pytest.mark.parametrize("text, found", [
    ("x\n1\n", "no column a"), ("a,b\n1\n", "a row of another length"),
    ("a,b\n1,2,3\n", "a row of another length")])
def test_a_table_of_another_shape_is_refused(tmp_path, text, found):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(UserError, match=found):
        read_csv(tmp_path / "t.csv", ("a",))


def test_tables_with_lines_of_old_macs_and_two_columns_of_one_name(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"a;b\r1;2\r")
    assert read_csv(tmp_path / "t.csv", ("a", "b")) == [{"a": "1", "b": "2"}]
    (tmp_path / "t.csv").write_text("a,b,a\n1,2,3\n")
    with pytest.raises(UserError, match="expected one column a, found more than one"):
        read_csv(tmp_path / "t.csv", ("a", "b"))


def test_json_that_begins_with_a_mark_is_read(tmp_path):
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(tmp_path / "a.json") == {"a": 1}


@pytest.mark.parametrize("words", [["--raw", ""], ["--raw="]])
def test_an_empty_word_is_not_the_current_folder(words, capsys):
    parser = argument_parser("x")
    parser.add_argument("--raw")
    with pytest.raises(SystemExit) as error:
        parser.parse_args(words)
    assert error.value.code == 2
    assert "error: --raw" in capsys.readouterr().err


def test_a_broken_json_file_is_named(tmp_path):
    (tmp_path / "a.json").write_text('{"a": ')
    with pytest.raises(UserError, match="a.json: expected a JSON file, found JSONDecodeError"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("error, status, word", [
    (UserError("f", "one\nthing", "two", "Mend it."), 2,
     "f: expected one thing, found two. Mend it."),
    (OSError(28, "No space left on device", "out.npy"), 2, "out.npy: No space left on device"),
    (PermissionError(13, "Permission denied", "in.nii"), 2, "in.nii: Permission denied"),
    (KeyboardInterrupt(), 130, "the same command continues")])
def test_errors_a_user_can_solve_are_one_line_and_a_status(capsys, error, status, word):
    def fail():
        raise error

    with pytest.raises(SystemExit) as stop:
        run_program(fail)
    lines = capsys.readouterr().err.splitlines()
    assert stop.value.code == status and len(lines) == 1 and word in lines[0]


def test_an_error_comes_back_whole_from_a_worker_process():
    import pickle
    error = pickle.loads(pickle.dumps(UserError("f", "one", "two", "Mend it.")))
    assert str(error) == "f: expected one, found two. Mend it." and error.where == "f"


def test_a_fault_of_the_program_itself_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        run_program(lambda: 1 / 0)


def test_a_lock_is_held_by_one_and_free_again_afterwards(tmp_path):
    with exclusive(tmp_path / "run"):
        with pytest.raises(UserError, match=f"process {os.getpid()}"):
            with exclusive(tmp_path / "run"):
                pass
    with exclusive(tmp_path / "run"):
        assert utils.is_held(tmp_path / "run")
    assert not utils.is_held(tmp_path / "run")


def test_without_locks_of_the_file_system_a_file_will_do(tmp_path, monkeypatch, recwarn):
    def flock(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")
    monkeypatch.setattr("fcntl.flock", flock)
    with exclusive(tmp_path):
        with pytest.raises(UserError, match=f"process {os.getpid()} on .* Wait"):
            with exclusive(tmp_path):
                pass
    assert os.listdir(tmp_path) == [] and not recwarn.list

    lock = tmp_path / ".lock"  # of one that was killed
    lock.write_text(f"process {2**30} on {platform.node()}")
    with pytest.raises(UserError, match=re.escape(f"It has ended: remove {lock}, and repeat")):
        with exclusive(tmp_path):
            pass
    lock.write_text("")
    with pytest.raises(UserError, match="found another one. Wait"):
        with exclusive(tmp_path):
            pass


def test_an_error_leaves_no_new_folder_with_nothing_but_a_lock(tmp_path):
    (tmp_path / "old").mkdir()
    for name, made in (("new", ()), ("old", ()), ("begun", ("file",))):
        with pytest.raises(ZeroDivisionError), exclusive(tmp_path / name):
            for file in made:
                (tmp_path / name / file).touch()
            raise ZeroDivisionError
    assert not (tmp_path / "new").exists() and os.listdir(tmp_path / "old") == []
    assert (tmp_path / "begun" / "file").exists()

    (tmp_path / "set" / "row").mkdir(parents=True)
    for name in ("set/new/seed0", "other/new/seed0"):
        with pytest.raises(ZeroDivisionError), exclusive(tmp_path / name):
            raise ZeroDivisionError
    assert os.listdir(tmp_path / "set") == ["row"] and not (tmp_path / "other").exists()


def test_json_keeps_letters_and_ends_with_a_newline(tmp_path):
    write_json(tmp_path / "a.json", {"name": "Zoë"})
    assert (tmp_path / "a.json").read_text() == '{\n  "name": "Zoë"\n}\n'


def test_another_c_library_is_left_alone(monkeypatch):
    def no_library(_):
        raise OSError

    def without_mallopt(_):
        return object()

    for load in (without_mallopt, no_library):
        monkeypatch.setattr(utils.ctypes, "CDLL", load)
        utils.keep_freed_memory()


def test_outside_a_checkout_the_commit_is_unknown(monkeypatch, tmp_path):
    monkeypatch.setattr(utils, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert utils.git_commit() == "unknown"
    monkeypatch.setenv("COMMIT", "0123456789ab")  # of a container
    assert utils.git_commit() == "0123456789ab"


def test_the_commit_of_a_changed_checkout_says_so(monkeypatch, tmp_path):
    def git(*words):
        command = ["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@b", *words]
        subprocess.run(command, check=True, capture_output=True)

    (tmp_path / "utils.py").write_text("1")
    git("init")
    git("add", "utils.py")
    git("commit", "-m", "first")

    monkeypatch.setattr(utils, "ROOT", tmp_path)
    clean = utils.git_commit()
    assert re.fullmatch("[0-9a-f]{12}", clean)
    (tmp_path / "utils.py").write_text("2")
    assert utils.git_commit() == clean + "+changes"


def test_a_process_of_another_user_is_alive(monkeypatch):
    def refuse(number, signal):
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert utils.is_alive(1)


def test_only_the_number_of_a_process_is_alive():
    assert utils.is_alive(os.getpid())
    assert not utils.is_alive("no number") and not utils.is_alive(2**70)


def test_output_that_nobody_reads_any_more_ends_a_program_quietly():
    code = ("from utils import run_program\n"
            "run_program(lambda: [print('x' * 99) for _ in range(10**5)])")
    command = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    command.stdout.readline()
    command.stdout.close()
    assert (command.stderr.read(), command.wait(60)) == (b"", 141)
    command.stderr.close()


@pytest.mark.parametrize("number, advice", [
    (errno.ENOSPC, "Free some space"), (errno.EROFS, "choose a place that can"),
    (errno.ELOOP, "leads back to itself"), (errno.ENAMETOOLONG, "Choose a shorter name"),
    (errno.EIO, "Check the disk"), (None, "Free some space")])
def test_an_error_of_the_system_says_what_helps_against_it(capsys, number, advice):
    def fail():
        if number is None:  # as NumPy's
            raise OSError("2048 requested and 0 written")
        raise OSError(number, "words of the system", "file")

    with pytest.raises(SystemExit):
        run_program(fail)
    error = capsys.readouterr().err
    assert advice in error and error.count("expected") == 0 and len(error.splitlines()) == 1


def test_a_full_disk_says_which_file_it_had_no_room_for(tmp_path, capsys):
    def fill():
        with atomic_path(tmp_path / "a.csv") as partial:
            partial.touch()
            raise OSError(errno.ENOSPC, "No space left on device")  # a write names no file

    with pytest.raises(SystemExit):
        run_program(fill)
    assert f"error: {tmp_path}/a.csv: No space left on device. Free some" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


class WholeNumber(Description):
    a: int


@pytest.mark.parametrize("text, found", [
    ("{}", "no a"), ("[]", "found list"), ("null", "found NoneType"), ('{"a": null}', "no a"),
    ('{"a": [1]}', "a to be a whole number, found [1]")])
def test_a_json_file_of_another_content_is_named(tmp_path, text, found):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=re.escape(found)):
        read_description(tmp_path / "a.json", WholeNumber)


def test_a_locked_folder_is_not_called_a_run(tmp_path):
    expected = "expected a folder that no other process uses"
    with exclusive(tmp_path), pytest.raises(UserError, match=expected):
        with exclusive(tmp_path):
            pass


def test_a_write_removes_what_a_killed_one_left_of_the_same_file(tmp_path):
    for name in ("a[1].csv.partial-4194999", "b.csv.partial-4194999",
                 f"a[1].csv.partial-{os.getppid()}"):
        (tmp_path / name).write_text("cut")
    with atomic_path(tmp_path / "a[1].csv") as partial:
        partial.write_text("whole")
    assert sorted(os.listdir(tmp_path)) == [
        "a[1].csv", f"a[1].csv.partial-{os.getppid()}", "b.csv.partial-4194999"]


def test_leftovers_of_killed_processes_alone_are_removed(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for name in (f"a.partial-{ended.pid}", f"b.partial-{os.getpid()}", "table.md"):
        (tmp_path / name).touch()

    remove_leftovers(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [f"b.partial-{os.getpid()}", "table.md"]


@pytest.mark.parametrize("program", [
    "main.py", "preprocess.py", "evaluate.py", "report.py", "studies.claims", "studies.ablation",
    "scans.phantom"])
def test_ctrl_c_while_a_program_still_imports_is_one_line(tmp_path, program):
    (tmp_path / "numpy.py").write_text("raise KeyboardInterrupt\n")
    result = run_apart(program, "--help", env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert result.stderr == "interrupted; the same command continues where this one stopped\n"
    assert result.returncode != 0


PROGRAMS = ["main.py", "preprocess.py", "evaluate.py", "report.py", "predict.py", "scans.download",
            "scans.phantom", "scoring.status", "scoring.raters", "studies.claims",
            "studies.ablation", "studies.comparison", "benchmarks"]


@pytest.mark.parametrize("program", PROGRAMS)
def test_without_the_environment_every_program_says_how_to_activate_it(program):
    words = [ROOT / program] if program.endswith(".py") else ["-m", program]
    result = subprocess.run([sys.executable, "-S", *words], cwd=ROOT, capture_output=True,
                            text=True)  # -S: without what is installed
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1
    assert re.match("error: filelock: expected an installed package, found none. ", result.stderr)
    assert "ctivate" in result.stderr and "source " in result.stderr


@pytest.mark.parametrize("program", PROGRAMS)
def test_one_package_that_is_missing_is_one_line(program, tmp_path):
    (tmp_path / "numpy.py").write_text("raise ModuleNotFoundError('no numpy', name='numpy')\n")
    result = run_apart(program, "--help", env={**os.environ, "PYTHONPATH": str(tmp_path)})
    if program == "scoring.status" and result.returncode == 0:
        return  # it needs none
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("error: numpy: expected an installed package, found none. ")


def test_a_package_that_only_an_option_needs_is_one_line(capsys):
    def fail():
        import no_such_package  # noqa: F401

    with pytest.raises(SystemExit) as stop:
        run_program(fail)
    assert stop.value.code == 2 and capsys.readouterr().err.startswith("error: no_such_package: ")


def test_a_module_of_ours_that_is_missing_is_a_fault_of_the_code():
    def fail():
        raise ModuleNotFoundError("No module named 'scans.gone'", name="scans.gone")

    with pytest.raises(ModuleNotFoundError):
        run_program(fail)


def test_from_another_folder_the_environment_is_named_by_its_whole_path(tmp_path):
    result = subprocess.run([sys.executable, "-S", ROOT / "predict.py"], cwd=tmp_path,
                            capture_output=True, text=True)
    assert f"source {ROOT / '.venv'}/bin/activate" in result.stderr


@pytest.mark.parametrize("state, words", [
    ("active", "is active but lacks it: make setup, or pip install -r requirements.txt"),
    ("there", "Activate the environment: source"), ("absent", "or build one: make setup in")])
def test_what_helps_depends_on_the_environment_that_is_there(tmp_path, monkeypatch, capsys, state,
                                                             words):
    monkeypatch.setattr(utils, "ROOT", tmp_path)
    if state != "absent":
        (tmp_path / ".venv").mkdir()
    if state == "active":
        monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    with pytest.raises(SystemExit):
        utils.refuse_missing("numpy")
    assert words in capsys.readouterr().err


def test_a_terminal_that_knows_ascii_only_gets_a_question_mark(tmp_path):
    words = "import utils; utils.run_program(lambda: print('0.5 (\u2013)'))"
    result = subprocess.run([sys.executable, "-c", words], cwd=ROOT, capture_output=True,
                            text=True, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (result.returncode, result.stdout, result.stderr) == (0, "0.5 (?)\n", "")


@pytest.mark.parametrize("error, words", [
    (MemoryError(), ("expected enough memory", "smaller --batch-size")),
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
     ("enough memory", "Tried to allocate 2 GiB")),
    (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
     ("enough memory",)),
    (RuntimeError("CUDA error: an illegal memory access\nwas encountered"),
     ("a working CUDA device", "try --device cpu")),
    (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), ("a working CUDA device",)),
    (type("InductorError", (RuntimeError,), {"__module__": "torch._inductor.exc"})(
        "ImportError: invalid ELF header"), ("invalid ELF header", "Leave out --compile"))])
def test_memory_that_runs_out_and_a_device_that_fails_are_one_line(capsys, error, words):
    def fail():
        raise error

    with pytest.raises(SystemExit) as stop:
        run_program(fail)
    lines = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and len(lines) == 1 and all(word in lines[0] for word in words)


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_program_with_one_line_and_its_own_status(capsys, number, status):
    def wait():
        signal.raise_signal(number)
        raise AssertionError("went on")

    with pytest.raises(SystemExit) as stop:
        run_program(wait)
    assert stop.value.code == status
    assert capsys.readouterr().err == \
        "interrupted; the same command continues where this one stopped\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_a_program_at_once(number):
    code = ("import signal, utils\n"
            "with utils.signals(lambda _: print('noted', flush=True)):\n"
            f"    signal.raise_signal({int(number)})\n"
            f"    signal.raise_signal({int(number)})\n"
            "    print('went on')")
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True,
                            text=True)
    assert result.returncode == -number and result.stdout == "noted\n"


def test_a_program_leaves_handlers_and_ignored_signals_as_they_were():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    interrupt_before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(SystemExit):
            run_program(lambda: signal.raise_signal(signal.SIGTERM))
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) == interrupt_before
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_table_in_markdown_has_a_rule_below_its_head_and_escapes_bars():
    assert utils.markdown_table([["a", "b"], ["1", "x|y"]]) == (
        "| a | b |\n| --- | --- |\n| 1 | x\\|y |")
