"""How fuzzed bytes become files: cases and targets, values in place of others, packed archives.

An input's first byte picks the case, the rest becomes its file.
"""

import contextlib
import io
import json
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch

from utils import UserError

# Replacements of a value, with the bytes before them that pick a place (see edit)
VALUES = tuple(bytes([0, number]) + value for number, value in enumerate((
    b"null", b"-1", b"[]", b"{}", b"NaN", b"1e999", b"true", b'"x"', b"[[1, 2], [3]]",
    b"99999999999999999999", b"0", b"0.5")))


@dataclass
class Case:
    """One file that an input becomes, and what then reads it."""

    path: Path               # below the folder of valid files
    read: callable           # without arguments; UserError is fine
    pack: callable = bytes   # input -> content of the file
    seeds: tuple = ()        # inputs to begin with

    def __post_init__(self):
        self.valid = self.path.read_bytes() if self.path.exists() else self.pack(self.seeds[0])


class Target:
    """A list of Cases; called with an input, raises what the programs raise, except UserError.

    Args:
        cases: the Cases.
        slow: an input takes seconds: only files as they are serve as seeds, and one as warm-up.
    """

    def __init__(self, cases, slow=False):
        self.cases, self.last = cases, cases[0]
        self.seeds = [bytes([number]) + seed for number, case in enumerate(cases)
                      for seed in case.seeds if not slow or seed == case.valid]
        self.warm_up = self.seeds[:1] if slow else self.seeds

    def __call__(self, data):
        """True if the programs took the input, False if they refused it with a UserError."""
        case = self.cases[(data[0] if data else 0) % len(self.cases)]
        self.last.path.write_bytes(self.last.valid)
        self.last = case
        case.path.write_bytes(case.pack(data[1:]))

        silent = io.StringIO()
        try:
            with contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent):
                case.read()
            return True
        except UserError as error:
            assert "\n" not in " ".join(str(error).split())
            return False


# One value in place of another --------------------------------------------------------------------

def nodes(value):
    """(container, key) of everything inside nested dicts and lists."""
    for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(inner, dict | list):
            yield from nodes(inner)


def edit(value, data):
    """Replace one node of a nested value in place.

    The first two bytes of `data` say which; the others are JSON, or else a text.
    """
    places, text = list(nodes(value)), data[2:].decode("utf-8", "replace")
    container, key = places[int.from_bytes(data[:2], "big") % len(places)]
    try:
        container[key] = json.loads(text)
    except (ValueError, RecursionError):
        container[key] = text
    return value


def cases_of(path, read):
    """The cases of a file by its kind: any bytes, and of JSON and CSV also one value replaced."""
    if path.suffix in (".json", ".csv"):
        return {".json": json_cases, ".csv": csv_cases}[path.suffix](path, read)
    return [Case(path, read, seeds=(path.read_bytes(),))]


def json_cases(path, read):
    """Two cases: any bytes, and the valid file with one value replaced."""
    whole = path.read_bytes()

    def pack(data):
        return json.dumps(edit(json.loads(whole), data)).encode()

    return [Case(path, read, seeds=(whole,)), Case(path, read, pack, VALUES)]


def csv_cases(path, read):
    """Two cases: any bytes, and the valid file with one cell or row replaced."""
    whole = path.read_bytes()

    def pack(data):
        table = {at: line.split(",") for at, line in enumerate(whole.decode().splitlines())}
        rows = [row for row in edit(table, data).values() if isinstance(row, list)]
        return "\n".join(",".join(map(str, row)) for row in rows).encode("utf-8", "replace")

    return [Case(path, read, seeds=(whole,)),
            Case(path, read, pack, (*VALUES, b"\0\1", b"\0\1inf", b'\0\1"'))]


# Zips ---------------------------------------------------------------------------------------------

def pack_zip(data):
    """A zip whose members stand one in a line.

    Between | each line has the name, mode, compression, content, and how often this is repeated.
    """
    file = io.BytesIO()
    with (zipfile.ZipFile(file, "w") as archive,
          warnings.catch_warnings(action="ignore")):  # names that occur twice
        for line in data.split(b"\n")[:50]:
            name, mode, method, content, count = [*line.split(b"|"), *[b""] * 5][:5]
            item = zipfile.ZipInfo(name.decode("utf-8", "replace") or "x")
            item.external_attr = number(mode, 2 ** 16) << 16
            item.compress_type = number(method, 15) if number(method, 15) in (0, 8, 12, 14) else 0
            with contextlib.suppress(UnicodeEncodeError):
                archive.writestr(item, content * number(count, 2000))
    return file.getvalue()


def number(text, limit):
    """Digits as a number below a limit; 1 for anything else."""
    return int(text) % limit if text.isdigit() and len(text) < 10 else 1


# Checkpoints --------------------------------------------------------------------------------------

# A pickle that runs a command where it is trusted
CALL = b"\x80\x02cposix\nsystem\nX\x0b\x00\x00\x00touch owned\x85R."


def pack_record(whole, record):
    """A function of bytes: the checkpoint `whole` with that record replaced, and right checksums.

    Returns (the function, the record's valid content).
    """
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        records = {item.filename: archive.read(item) for item in archive.infolist()}
    name = next(key for key in records if key.endswith(record))

    def pack(data):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for key, content in {**records, name: data}.items():
                archive.writestr(key, content)
        return file.getvalue()

    return pack, records[name]


def pack_state(whole):
    """A function of bytes: the checkpoint `whole` with one of its values replaced."""
    def pack(data):
        file = io.BytesIO()
        torch.save(edit(torch.load(io.BytesIO(whole), weights_only=True), data), file)
        return file.getvalue()

    return pack
