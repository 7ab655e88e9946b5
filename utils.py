"""What several programs share: the error type, atomic writes, tables, seeding, device choice, progress."""

import argparse
import csv
import ctypes
import errno
import io
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import pydantic
from tqdm import tqdm

KINDS = {  # of JSON values, pydantic's words -> ours
    "a valid string": "text", "a valid integer": "a whole number", "a valid number": "a number",
    "a valid list": "a list", "a valid dictionary": "an object", "a valid tuple": "a list"}
LARGEST = 1e100  # of a number in a file: sums of larger ones would overflow
MALLOC_TRIM_THRESHOLD, MALLOC_MMAP_MAX = -1, -4  # of malloc.h
INTERRUPTED = "interrupted; the same command continues where this one stopped"
ADVICE = {  # what to do about an error of the system
    errno.ENOSPC: "Free some space and repeat the command.", errno.EDQUOT: "Free some space and repeat the command.",
    errno.EFBIG: "Choose a place that takes larger files, and repeat the command.",
    errno.EROFS: "It cannot be written to: choose a place that can.",
    errno.ELOOP: "Remove the link that leads back to itself.", errno.ENAMETOOLONG: "Choose a shorter name."}


def report_uncaught(kind, error, trace):
    """sys.excepthook: one line for Ctrl-C during a program's imports, a traceback for anything else."""
    if issubclass(kind, KeyboardInterrupt):
        print(INTERRUPTED, file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = report_uncaught  # programs import this module before the slow ones


class UserError(Exception):
    """A problem the user can solve. Printed as one line; the program then exits with status 2."""

    def __init__(self, where, expected, found, do):
        self.where, self.expected, self.found, self.do = str(where), expected, found, do
        super().__init__(f"{where}: expected {expected}, found {found}. {do}")

    def __reduce__(self):  # so that it comes back whole from a worker process
        return type(self), (self.where, self.expected, self.found, self.do)


def argument_parser(text, prog=None):
    """An ArgumentParser whose --help prints a program's docstring as it stands."""
    return argparse.ArgumentParser(prog, description=text, formatter_class=argparse.RawDescriptionHelpFormatter)


@contextmanager
def signals(act):
    """Inside, the first SIGINT or SIGTERM calls act(its number); the second one ends the process at once."""
    numbers = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN]
    if threading.current_thread() is not threading.main_thread():
        numbers = []  # only the main thread may set them
    def first(number, _):
        for each in numbers:
            signal.signal(each, signal.SIG_DFL)
        act(number)
    old = {number: signal.signal(number, first) for number in numbers}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def interrupt(number):
    """End the program where it is: run_program says how to continue, and exits with 128 + number."""
    raise KeyboardInterrupt(number)


def explain(error):
    """(expected, found, what to do) about memory, a CUDA device, or --deterministic; None for other errors."""
    text = " ".join(str(error).split())[:160] or "no more"
    if isinstance(error, MemoryError) or re.search("out of memory|can't allocate memory|ALLOC_FAILED", text):
        return ("enough memory", text, "Free some, or ask for less of it (smaller --batch-size, --patch, --width, --jobs or "
                "--size), and repeat the command: what was saved before is intact.")
    if "deterministic" in text:  # see training.devices
        return "operations with a deterministic form", text, "Leave out --deterministic, or take --device cpu."
    if re.search("gloo|[Cc]onnection (closed|reset)|NCCL|ProcessGroup", text):
        return ("all processes of the run", text, "Another one ended, for the reason that it gives. Repeat the command: it "
                "continues from the last whole epoch.")
    if re.search("CUDA|cuDNN|CUBLAS|CUDNN", text):
        return ("a working CUDA device", text, "Repeat the command: it continues from what was saved. If this comes again, "
                "try --device cpu.")
    return None


def run_program(main):
    """Call `main()`; turn a UserError into one line and exit status 2, SIGINT into status 130, SIGTERM into 143."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without some letter shows "?" for it
    try:
        with signals(interrupt):
            sys.exit(main())
    except UserError as error:
        message = " ".join(str(error).split())
    except BrokenPipeError:  # the reader of our output (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except (PermissionError, FileNotFoundError, NotADirectoryError, IsADirectoryError, FileExistsError) as error:
        message = f"{error.filename}: {error.strerror}. Check the path and its permissions."
    except OSError as error:  # disk full, broken device: the unfinished output was removed by atomic_path
        do = ADVICE.get(error.errno or errno.ENOSPC, "Check the disk and repeat the command.")  # NumPy gives no number
        message = f"{error.filename or 'writing'}: {error.strerror or error}. {do}"
    except (MemoryError, RuntimeError) as error:  # torch has no type of its own for most of these
        if (explained := explain(error)) is None:
            raise
        message = str(UserError(Path(sys.argv[0]).name, *explained))
    except KeyboardInterrupt as stop:  # its arguments, where it has any: the signal, what to say
        number, text = [*stop.args, *(signal.SIGINT, INTERRUPTED)[len(stop.args):]]
        print(text, file=sys.stderr)
        sys.exit(128 + number)
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


@contextmanager
def atomic_path(path):
    """Yield a temporary path beside `path`; rename it to `path` on success, remove it on failure.

    Works for a file or a folder, so a reader sees the whole result or nothing. An existing `path` is replaced.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    remove(partial)
    try:
        yield partial
        if partial.is_file():
            with open(partial, "rb+") as file:
                os.fsync(file.fileno())
        elif path.is_dir():
            shutil.rmtree(path)
        os.replace(partial, path)
    finally:
        remove(partial)


def remove(path):
    """Delete a file or a folder tree if it exists."""
    path = Path(path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def is_alive(number):
    """Is there a process of this number on this machine? Text that is no process number is none."""
    try:
        os.kill(int(number), 0)  # signal 0: only asks
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    except PermissionError:  # there, of another user
        return True
    return True


def remove_leftovers(folder):
    """Delete what atomic_path left directly in `folder` for processes that were killed; a living one's stays."""
    for path in Path(folder).glob("*.partial-*"):
        if not is_alive(path.name.rpartition("-")[2]):
            remove(path)


def write_text(path, text):
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path, value):
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path, do="Delete it and repeat the step that wrote it."):
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, a number of thousands of digits, or too many brackets
        raise UserError(path, "a JSON file", f"{type(error).__name__}: {error}", do) from None


def _bounded(value):
    if abs(value) > LARGEST:
        raise ValueError(f"a number up to {LARGEST:g}")
    return value


Number = Annotated[int | float, pydantic.AfterValidator(_bounded)]


class Description(pydantic.BaseModel):
    """What one JSON object or one row of a table holds; each file has one class of this kind.

    Values keep the type they were written with, numbers are finite, null is as good as absent, and
    further entries are kept.
    """

    model_config = pydantic.ConfigDict(strict=True, extra="allow", allow_inf_nan=False, frozen=True)

    def get(self, name, default=None):
        """An entry, declared or not; `default` where it is absent."""
        value = getattr(self, name, None)
        return default if value is None else value

    def as_dict(self):
        """The entries that were given, declared ones first."""
        return self.model_dump(exclude_unset=True)


def describe_object(path, values, kind, do, needed=()):
    """`values`, as read from `path`, as a Description of this `kind`.

    Args:
        path: the file, for the error.
        values: what was read.
        kind: a subclass of Description.
        do: what to do about a wrong file.
        needed: entries that may be absent otherwise and must be there.

    Raises:
        UserError: no object, an entry is missing, or one is of another type or out of its range.
    """
    required = [name for name, field in kind.model_fields.items() if field.is_required()]
    required += [name for name in needed if name not in required]
    wanted = f"a JSON object with {', '.join(required) or 'the state of the run'}"
    if not isinstance(values, dict):
        raise UserError(path, wanted, type(values).__name__, do)

    values = {name: value for name, value in values.items() if value is not None}
    if missing := [name for name in required if name not in values]:
        raise UserError(path, wanted, f"no {', '.join(missing)}", do)
    try:
        return kind.model_validate(values)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise UserError(path, _expected(kind, first), f"{first['input']!r:.60}", do) from None


def _expected(kind, error):
    """"size to be a whole number" from the first of pydantic's errors."""
    name = error["loc"][0]
    field = kind.model_fields.get(name)
    if field and field.json_schema_extra:
        return f"{name} to be {field.json_schema_extra['words']}"
    words = error["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return f"{name} to be {KINDS.get(words, words)}"


def in_words(words):
    """What an entry of a Description is to be, for pydantic.Field, where its type does not say it well."""
    return {"json_schema_extra": {"words": words}}


def read_description(path, kind, do="Delete it and repeat the step that wrote it.", needed=()):
    """A JSON file as a Description; see `describe_object`."""
    return describe_object(path, read_json(path, do), kind, do, needed)


def write_csv(path, rows, columns=None):
    """Write a list of dicts as CSV, header first; floats keep every digit (repr)."""
    columns = columns or list(rows[0])
    with atomic_path(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_csv(path, columns=(), do="Delete it and repeat the step that wrote it."):
    """Read a CSV as a list of dicts of strings; UserError if unreadable or a column of `columns` is missing."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            header, rows = reader.fieldnames or [], list(reader)
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(path, "a CSV table", f"{type(error).__name__}: {error}", do) from None
    missing = [name for name in columns if name not in header]
    if missing or any(None in row or None in row.values() for row in rows):
        found = f"no column {', '.join(missing)}" if missing else "a row of another length than the header"
        raise UserError(path, f"a CSV table with the columns {', '.join(columns)}", found, do)
    return rows


def progress(iterable=None, **options):
    """tqdm on a terminal; off one, a plain line at most every 15 seconds, so that logs stay readable."""
    terminal = sys.stderr.isatty()
    return tqdm(iterable, dynamic_ncols=True, leave=options.pop("leave", True), file=sys.stderr,
                mininterval=0.1 if terminal else 15, **options)


def log(text):
    """Print one line without breaking a progress bar."""
    tqdm.write(text, file=sys.stdout)
    sys.stdout.flush()


def keep_freed_memory():
    """Let the C library keep freed memory for the next request instead of giving it back to the system (glibc only).

    A training step frees and asks for the same large buffers again and again. By default each comes from the system
    anew, which fills it with zeros page by page: a fifth of a CPU training step (benchmarks/NOTES.md).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return  # another C library
    mallopt(MALLOC_MMAP_MAX, 0)
    mallopt(MALLOC_TRIM_THRESHOLD, 2**31 - 1)


def git_commit():
    """The commit of this code, with "+changes" if the tree is dirty; "unknown" outside a checkout."""
    def git(*words):
        return subprocess.run(["git", "-C", str(Path(__file__).parent), *words],
                              capture_output=True, text=True, check=True).stdout.strip()
    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+changes" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


@contextmanager
def exclusive(folder):
    """Hold `folder` for this process alone. The lock goes with the process, however it ends.

    Raises:
        UserError: another process holds it; its host and process number are named.
    """
    import fcntl
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UserError(folder, "a folder that no other process uses", file.read().strip(),
                            "Wait for it to end, or choose another folder.") from None
        for leftover in folder.glob("*.partial-*"):  # of a process that was killed
            remove(leftover)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
        yield


def clock():
    """A function that gives the seconds since this call."""
    began = time.perf_counter()
    return lambda: time.perf_counter() - began
