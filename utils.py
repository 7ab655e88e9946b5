"""What every program shares: errors of one line, files written whole or not at all, progress.

Nothing here belongs to one wing, and importing it changes nothing.
"""

import argparse
import csv
import ctypes
import errno
import glob
import importlib
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
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

ROOT = Path(__file__).parent


def refuse_missing(package):
    """End the program: a package is not installed, most often because no environment is active."""
    folder = ROOT / ".venv"
    install = "pip install -r requirements.txt -c constraints.txt"
    activate = "source " + (".venv" if Path.cwd() == ROOT else str(folder)) + "/bin/activate"
    if not folder.exists():
        do = f"Activate your environment, or build one: make setup in {ROOT}, then {activate}"
    elif os.path.realpath(sys.prefix) == os.path.realpath(folder):
        do = f"The environment is active but lacks it: make setup, or {install}"
    else:
        do = f"Activate the environment: {activate}"
    print(f"error: {package}: expected an installed package, found none. {do}", file=sys.stderr)
    sys.exit(2)


try:
    import filelock
    import pydantic
    from tqdm import tqdm
except ModuleNotFoundError as missing:
    refuse_missing(missing.name)

OURS = ("utils", "scans", "training", "scoring", "reporting", "studies", "networks", "benchmarks")
INTERRUPTED = "interrupted; the same command continues where this one stopped"
REWRITE = "Delete it and repeat the step that wrote it."
NO_ROOM = "Free some space and repeat the command."
ADVICE = {  # what to do about an error of the system
    errno.ENOSPC: NO_ROOM,
    errno.EDQUOT: NO_ROOM,
    errno.EFBIG: "Choose a place that takes larger files, and repeat the command.",
    errno.EROFS: "It cannot be written to: choose a place that can.",
    errno.ELOOP: "Remove the link that leads back to itself.",
    errno.ENAMETOOLONG: "Choose a shorter name."}
KINDS = {  # of JSON values, pydantic's words -> ours
    "a valid string": "text", "a valid integer": "a whole number", "a valid number": "a number",
    "a valid list": "a list", "a valid dictionary": "an object", "a valid tuple": "a list"}
UTF16 = (b"\xff\xfe", b"\xfe\xff")  # how such a text begins
LARGEST = 1e100  # of a number in a file: sums of larger ones would overflow
MALLOC_TRIM_THRESHOLD, MALLOC_MMAP_MAX = -1, -4  # of malloc.h

COLUMN = 6.0  # in: width of every figure, that of the text in the paper's proceedings (PMLR)
PLOT_STYLE = {  # of matplotlib, for every figure, whoever draws it
    "font.size": 7, "font.family": "DejaVu Sans",
    "axes.titlesize": 7.5, "axes.labelsize": 7, "axes.linewidth": 0.7,
    "axes.spines.top": False, "axes.spines.right": False,
    "xtick.labelsize": 7, "ytick.labelsize": 7, "xtick.major.width": 0.7, "ytick.major.width": 0.7,
    "legend.fontsize": 7, "legend.frameon": False, "legend.handlelength": 3.0,
    "lines.linewidth": 1.4, "lines.markersize": 3.5,
    "grid.color": "#dddddd", "grid.linewidth": 0.5,
    "pdf.fonttype": 42, "savefig.dpi": 300, "figure.dpi": 100}
PLOT_LINES = (  # colour, dashes and marker of lines in turn, told apart in grey and colour-blind
    ("#1f5fbf", (0, (5, 1.5)), "o"), ("#d62828", "-", "s"),
    ("#7a7a7a", (0, (6, 1.5, 1.5, 1.5)), "^"), ("#009e73", (0, (2, 1)), "D"))


# Programs: command line, signals, and every error in one line ------------------------------------

class UserError(Exception):
    """A problem the user can solve. Printed as one line; the program then exits with status 2."""

    def __init__(self, where, expected, found, do):
        self.where, self.expected, self.found, self.do = str(where), expected, found, do
        super().__init__(f"{where}: expected {expected}, found {found}. {do}")

    def __reduce__(self):  # so that it comes back whole from a worker process
        return type(self), (self.where, self.expected, self.found, self.do)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that takes words such as file names anywhere between the options."""

    under_way = False

    def parse_known_args(self, args=None, namespace=None):
        if self.under_way:  # what argparse has for this calls this function in turn
            return super().parse_known_args(args, namespace)
        words = sys.argv[1:] if args is None else list(args)
        for before, word in zip(["", *words], words, strict=False):
            if is_undecodable(word):
                self.error(f"expected UTF-8, found {shown(word)}. Rename the file or folder.")
            if re.fullmatch("(--[a-z0-9-]+=)?", word):  # "" would be the current folder
                self.error(f"{word or before or 'a word'}: expected a value, found none. Is a "
                           "variable empty?")
        self.under_way = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self.under_way = False


def argument_parser(text, prog=None):
    """A Parser whose --help prints a program's docstring as it stands."""
    return Parser(prog, description=text, formatter_class=argparse.RawDescriptionHelpFormatter)


@contextmanager
def signals(act):
    """Inside, the first SIGINT or SIGTERM calls act(its number); the second ends the process."""
    numbers = [number for number in (signal.SIGINT, signal.SIGTERM)
               if signal.getsignal(number) != signal.SIG_IGN]
    if threading.current_thread() is not threading.main_thread():
        numbers = []  # only the main thread may set handlers

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
    """End the program here: run_program says how to continue, and exits with 128 + number."""
    raise KeyboardInterrupt(number)


def explain(error):
    """(expected, found, what to do) about memory, CUDA, --compile or --deterministic; else None."""
    text = " ".join(str(error).split())[:160] or "no more"
    if isinstance(error, MemoryError) or re.search(
            "out of memory|can't allocate memory|ALLOC_FAILED", text):
        return ("enough memory", text,
                "Free some, or ask for less of it (smaller --batch-size, --patch, --width, --jobs "
                "or --size), and repeat the command: what was saved before is intact.")
    if type(error).__module__.startswith(("torch._inductor", "torch._dynamo")):
        return ("kernels that can be compiled and loaded", text,
                "Leave out --compile; or, if compiling was interrupted once, remove torch's cache "
                "(torchinductor_<user> in the folder for temporary files) and repeat the command.")
    if "deterministic" in text:  # see training.devices.be_deterministic
        return ("operations with a deterministic form", text,
                "Leave out --deterministic, or take --device cpu.")
    if re.search("gloo|[Cc]onnection (closed|reset)|NCCL|ProcessGroup", text):
        return ("all processes of the run", text,
                "Another one ended, for the reason that it printed. Repeat the command: it "
                "continues from the last complete epoch.")
    if re.search("CUDA|cuDNN|CUBLAS|CUDNN", text):
        return ("a working CUDA device", text,
                "Repeat the command: it continues from what was saved. If this happens again, try "
                "--device cpu.")
    return None


def start(program):
    """Import a program as a module and run its main(); called from the program's own first lines.

    A program takes seconds to import. Started in this way, Ctrl-C meanwhile and a package that is
    not installed are one line each, like everything that goes wrong later.

    Args:
        program: name of the module, e.g. "main" or "scans.download".
    """
    held = []  # what torch says where NumPy is missing is no help

    def hold(*warning):
        held.append(warning)

    show, warnings.showwarning = warnings.showwarning, hold
    try:
        module = importlib.import_module(program)
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except ModuleNotFoundError as error:
        refuse_foreign(error)
    finally:
        warnings.showwarning = show
    for warning in held:
        show(*warning)
    run_program(module.main)


def explain_part(name, text, program):
    """What `python -m name` prints of a module that is part of a program: what it is for."""
    argument_parser(f"{text}\nThis file is not a program: python -m {program} runs it.",
                    f"python -m {name}").print_help()


def refuse_foreign(error):
    """Explain a ModuleNotFoundError, but not of a module of ours: that is a fault of the code."""
    name = (error.name or "").split(".")[0]
    if not name or name in OURS or (ROOT / f"{name}.py").exists():
        raise error
    refuse_missing(name)


def run_program(main):
    """Call `main()` and exit with its status; whatever goes wrong is one line on stderr.

    A UserError and errors of the system end with status 2, SIGINT with 130, SIGTERM with 143.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without some letter shows "?" for it
    try:
        with signals(interrupt):
            sys.exit(main())
    except UserError as error:
        message = " ".join(str(error).split())
    except ModuleNotFoundError as error:  # of a package that only some options need
        refuse_foreign(error)
    except BrokenPipeError:  # the reader of our output (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except (PermissionError, FileNotFoundError, NotADirectoryError, IsADirectoryError,
            FileExistsError) as error:
        message = f"{error.filename}: {error.strerror}. Check the path and its permissions."
    except OSError as error:  # disk full, broken device: atomic_path removed what was unfinished
        number = error.errno or errno.ENOSPC  # NumPy gives no number
        do = ADVICE.get(number, "Check the disk and repeat the command.")
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


# Files: whole or not at all ----------------------------------------------------------------------

@contextmanager
def atomic_path(path):
    """Yield a temporary path beside `path`; rename it to `path` on success, remove it on failure.

    Works for a file or a folder, so a reader sees the whole result or nothing. An existing `path`
    is replaced.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    remove(partial)
    remove_leftovers(path.parent, path.name)
    try:
        yield partial
        if partial.is_file():
            with open(partial, "rb+") as file:
                os.fsync(file.fileno())
        elif path.is_dir():
            shutil.rmtree(path)
        os.replace(partial, path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk names no file
        raise
    finally:
        remove(partial)


def remove(path):
    """Delete a file or a folder tree if it exists."""
    path = Path(path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def is_hidden(path, folder="."):
    """Does its name begin with ".", or that of a folder on the way to it from `folder`?

    macOS leaves "._scan.nii.gz" beside "scan.nii.gz". `folder` itself may lie anywhere.
    """
    path, folder = Path(os.path.abspath(path)), Path(os.path.abspath(folder))
    names = path.relative_to(folder).parts if path.is_relative_to(folder) else path.parts[-1:]
    return any(name.startswith(".") for name in names)


def is_undecodable(name):
    """Is this name of a file, of bytes that are no UTF-8, one that no table could hold?"""
    return any("\ud800" <= letter <= "\udfff" for letter in str(name))


def shown(name):
    """A name of a file as it can be printed, with "\\xfc" for a byte that is no UTF-8."""
    return os.fsencode(name).decode(errors="backslashreplace")


def refuse_undecodable(path):
    """UserError if the path has bytes that are no UTF-8, as from archives in other encodings."""
    if is_undecodable(path):
        raise UserError(shown(path), "a name in UTF-8", "other bytes",
                        "Rename it (convmv -f latin1 -t utf8 does so for many).")


def is_alive(number):
    """Is there a process of this number on this machine? Text that is no number is none."""
    try:
        os.kill(int(number), 0)  # signal 0: only asks
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    except PermissionError:  # there, of another user
        return True
    return True


def is_held(folder):
    """Does a living process of this machine hold the folder, as far as the text of its lock says?

    Asking for the lock would take it.
    """
    try:
        text = (Path(folder) / ".lock").read_text(encoding="utf-8")
    except OSError:
        return False
    found = re.fullmatch(r"process (\d+) on (.*)", text.strip())
    return bool(found) and found[2] == platform.node() and is_alive(found[1])


def remove_leftovers(folder, name=None):
    """Delete what atomic_path left in `folder` for processes that no longer live.

    With `name`, only what was to become the file or folder of that name.
    """
    for path in Path(folder).glob(f"{glob.escape(name) if name else '*'}.partial-*"):
        if not is_alive(path.name.rpartition("-")[2]):
            remove(path)


@contextmanager
def exclusive(folder):
    """Hold `folder` for this process alone. The lock goes with the process, however it ends.

    Where an error comes before anything else is in the folder, it is left as it was: if it was not
    there, it is removed, and so are the folders around it that were made for it.

    Raises:
        UserError: another process holds it; its host and process number are named.
    """
    folder = Path(folder)
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ".lock"
    lock = filelock.FileLock(path, timeout=0)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "flock not supported")  # a file is as good
            lock.acquire()
    except filelock.Timeout:
        holder = path.read_text(encoding="utf-8").strip()
        # where the file system has no locks, a killed process leaves its file behind
        do = ("Wait for it to end, or choose another folder." if is_held(folder) or not
              holder.endswith(f" on {platform.node()}") else
              f"It has ended: remove {path}, and repeat the command.")
        raise UserError(folder, "a folder that no other process uses", holder or "another one",
                        do) from None

    try:
        path.write_text("", encoding="utf-8")
        for leftover in folder.glob("*.partial-*"):  # of a process that was killed
            remove(leftover)
        path.write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")
        yield
    except BaseException:
        if os.listdir(folder) == [path.name]:
            remove(path)
            with suppress(OSError):  # another process may have put something there
                for place in made:
                    place.rmdir()
        raise
    finally:
        with suppress(OSError):
            os.truncate(path, 0)  # nobody holds it, as `is_held` reads it
        lock.release()


def write_text(path, text):
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path, value):
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path, do=REWRITE):
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, or nested too deeply
        raise UserError(path, "a JSON file", f"{type(error).__name__}: {error}", do) from None


def write_csv(path, rows, columns=None):
    """Write a list of dicts as CSV, header first; floats keep every digit (repr)."""
    columns = columns or list(rows[0])
    with atomic_path(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def markdown_table(lines):
    """Lines of cells as a table in Markdown; the first line is its head."""
    lines = [[str(cell).replace("|", "\\|") for cell in line] for line in lines]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def read_csv(path, columns=(), do=REWRITE):
    """Read a CSV as a list of dicts of strings.

    Excel's are read too: columns between semicolons or tabs, UTF-8 with a mark, UTF-16, a line
    "sep=;" in front, empty cells and lines at the end.

    Args:
        columns: those that must be there, in any case.

    Raises:
        UserError: it cannot be read, or a column of `columns` is missing.
    """
    try:
        content = Path(path).read_bytes()
        text = content.decode("utf-16" if content[:2] in UTF16 else "utf-8-sig")
        text = re.sub(r'(?i)^"?sep=."?[\s,;]*\n', "", text.lstrip("\r\n"))
        first = re.split("[\r\n]", text, maxsplit=1)[0]
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter(first, columns))
        reader.fieldnames = named(map(str.strip, reader.fieldnames or []), columns)
        header, rows = reader.fieldnames, list(reader)
    except (csv.Error, UnicodeDecodeError) as error:
        save = " (in Excel: save as CSV UTF-8)" if isinstance(error, UnicodeDecodeError) else ""
        raise UserError(path, "a CSV table", f"{type(error).__name__}: {error}{save}",
                        do) from None

    for row in rows:
        if not any(map(str.strip, row.get(None, ["more"]))):
            del row[None]  # cells beyond the header's, all of them empty
    missing = [name for name in columns if name not in header]
    double = [name for name in columns if header.count(name) > 1]
    if double:
        raise UserError(path, f"one column {double[0]}", "more than one", do)
    if missing or any(None in row or None in row.values() for row in rows):
        found = f"no column {', '.join(missing)}" if missing else \
            "a row of another length than the header"
        raise UserError(path, f"a CSV table with the columns {', '.join(columns)}", found, do)
    return rows


def delimiter(header, columns):
    """What stands between the columns of a header line: a comma, or what Excel writes elsewhere."""
    for mark in ",;\t":
        names = [name.strip().strip('"').strip() for name in header.split(mark)]
        names = named(names, columns)
        if all(name in names for name in columns):
            return mark
    return ","


def named(header, columns):
    """A header's names, with those of `columns` written as there: Subject -> subject."""
    header, known = list(header), {name.lower(): name for name in columns}
    return [name if known.get(name.lower()) in (None, *header) else known[name.lower()]
            for name in header]


# Typed descriptions of what a file holds ---------------------------------------------------------

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


def in_words(words):
    """For pydantic.Field: what an entry is to be, where its type does not say it well."""
    return {"json_schema_extra": {"words": words}}


def in_a_word(name):
    """A name as part of a column's: what is no letter, digit or _ becomes a _."""
    return re.sub(r"\W+", "_", name)


def read_description(path, kind, do=REWRITE, needed=()):
    """A JSON file as a Description; see `describe_object`."""
    return describe_object(path, read_json(path, do), kind, do, needed)


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
    """"size to be a whole number" from one of pydantic's errors."""
    name = error["loc"][0]
    field = kind.model_fields.get(name)
    if field and field.json_schema_extra:
        return f"{name} to be {field.json_schema_extra['words']}"
    words = error["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return f"{name} to be {KINDS.get(words, words)}"


# What is shown, and the machine ------------------------------------------------------------------

def progress(iterable=None, **options):
    """tqdm on a terminal; off one, a line at most every 15 seconds, so that logs stay readable."""
    terminal = sys.stderr.isatty()
    return tqdm(iterable, dynamic_ncols=True, leave=options.pop("leave", True), file=sys.stderr,
                mininterval=0.1 if terminal else 15, **options)


def log(text):
    """Print one line without breaking a progress bar."""
    tqdm.write(text, file=sys.stdout)
    sys.stdout.flush()


def clock():
    """A function that gives the seconds since this call."""
    began = time.perf_counter()
    return lambda: time.perf_counter() - began


def keep_freed_memory():
    """Let the C library keep freed memory instead of giving it back to the system (glibc only).

    A training step frees and asks for the same large buffers again and again. By default each comes
    from the system anew, which fills it with zeros page by page: a fifth of a CPU training step
    (benchmarks/NOTES.md).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return  # another C library
    mallopt(MALLOC_MMAP_MAX, 0)
    mallopt(MALLOC_TRIM_THRESHOLD, 2**31 - 1)


def git_commit():
    """The commit of this code, with "+changes" if the tree is dirty.

    Without git, COMMIT of the environment, which the Dockerfile sets; else "unknown".
    """
    def git(*words):
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True,
                              check=True).stdout.strip()
    try:
        changed = git("status", "--porcelain", "-uno")
        return git("rev-parse", "--short=12", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("COMMIT") or "unknown"
