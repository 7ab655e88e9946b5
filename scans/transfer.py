"""Files from a server, by pooch: checked before they get their names, and resumed."""

import hashlib
import os
import re
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import pooch
import requests

from scans.server import (
    MAX_WORDS,
    RETRIES,
    copy_body,
    get,
    is_page,
    one_line,
    pause,
    said_by,
    words_in,
)
from utils import UserError

PROGRESS = 2 ** 20     # bytes; a transfer that brings fewer than that has not got on
CHECKSUMS = {"md5": 32, "sha1": 40, "sha256": 64, "sha512": 128}  # kind -> hexadecimal digits


class Incomplete(requests.RequestException):
    """A transfer that ended early, though nothing said so."""


# Checksums ----------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Checksum:
    """What a server says its file hashes to: a kind of CHECKSUMS, and hexadecimal digits."""

    kind: str
    value: str

    @classmethod
    def of(cls, kind, value):
        """From a server's words, "SHA-1" and "3F78..."; ValueError if it is none we can compare."""
        name = str(kind).lower().replace("-", "").replace("_", "")
        digits = str(value).lower()
        if not re.fullmatch(f"[0-9a-f]{{{CHECKSUMS.get(name, 0)}}}", digits) or not digits:
            raise ValueError(f"no checksum: {kind!r} {value!r}")
        return cls(name, digits)

    def matches(self, path):
        return file_checksum(path, self.kind) == self.value

    def __str__(self):
        return f"{self.kind} {self.value}"


def file_checksum(path, kind="md5"):
    """The checksum of a file, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


# Files --------------------------------------------------------------------------------------------

def fetch_file(session, url, target, size, checksum, name, stop=None, tell=lambda position: None):
    """Fetch one file to the path `target`.

    The bytes of a transfer that broke off lie beside it until it is complete.

    Args:
        size: bytes.
        checksum: its Checksum.
        name: what to call the file in an error.
        stop: an Event that ends the transfer.
        tell: called with the number of bytes that are there.

    Raises:
        Unreachable, UserError: as `get`; or after retries it is still not the file announced.
    """
    pooch.get_logger().setLevel("WARNING")
    part = part_of(target, checksum)
    fetcher = pooch.create(path=target.parent, base_url="", urls={target.name: url},
                           registry={target.name: f"{checksum.kind}:{checksum.value}"},
                           retry_if_failed=RETRIES)
    get_file = partial(download, session=session, size=size, checksum=checksum, part=part,
                       stop=stop, tell=tell)
    try:
        fetcher.fetch(target.name, downloader=get_file)
    except (requests.RequestException, ValueError) as error:
        if size_of(part) >= size:  # of another content
            part.unlink()
        raise UserError(f"{url} ({name})", f"{size} bytes of {checksum}", one_line(error),
                        "Repeat the command: it fetches what is missing.") from None
    part.unlink(missing_ok=True)


def part_of(target, checksum):
    """Where the bytes of a transfer under way lie: another version's are never taken for them."""
    return target.with_name(f"{target.name}.{checksum.value[:12]}.part")


def download(url, output_file, _, session, size, checksum, part, stop=None,
             tell=lambda position: None):
    """What pooch calls to fetch `url` into `output_file`.

    It compares the checksum, and calls again on a ValueError or an error of the transfer. One that
    breaks off continues by itself as long as it makes progress. `part` stays, as another name of
    the same file, since pooch removes its own if it is interrupted while it compares.
    """
    if size_of(part) >= size and not checksum.matches(part):
        part.unlink()
    while (there := size_of(part)) < size:
        try:
            fetch_rest(url, session, size, part, stop, tell)
        except requests.RequestException:
            if size_of(part) < there + PROGRESS:
                raise
            pause(1, stop)
    os.remove(output_file)
    try:
        os.link(part, output_file)
    except OSError:  # a disk without links
        os.replace(part, output_file)


def fetch_rest(url, session, size, part, stop, tell):
    """Append to the file `part` what it lacks of `size` bytes, or begin it again.

    Raises:
        ValueError: the answer is another file. What was there before stays, unless the server
            cannot go on from it, or something was added to it.
        requests.RequestException: the transfer broke off.
    """
    there = size_of(part)
    headers = {"Range": f"bytes={there}-"} if there else None
    with get(session, url, stop, headers, (200, 206, 416) if there else (200,)) as response:
        if response.status_code == 200:  # the whole file, from a server that knows no ranges
            there = 0
        else:
            refuse_other_bytes(response, part, there, size)
        check_announced(response, size - there)
        try:
            with open(part, "ab" if there else "wb") as sink:
                copy_body(response, sink, size - there, stop, tell)
            if size_of(part) < size:
                check_no_page(part)
                raise Incomplete(f"{size_of(part)} of {size} bytes")
        except ValueError:
            try:
                check_no_page(part)
            finally:
                part.unlink(missing_ok=True)
            raise


def refuse_other_bytes(response, part, there, size):
    """ValueError unless an answer continues `part`, which is then removed: from 0 it may work."""
    place = response.headers.get("Content-Range", "")
    if response.status_code == 416:
        found = f"no bytes from {there} on"
    elif re.fullmatch(rf"bytes {there}-{size - 1}/({size}|\*)", place):
        return
    else:
        found = "bytes from another position"
    part.unlink()
    raise ValueError(found)


def check_announced(response, size):
    """ValueError unless an answer is announced as so many bytes, and not as a web page."""
    if response.headers.get("Content-Type", "").lower().startswith("text/html"):
        raise ValueError(f'a web page, "{said_by(response)}"')
    announced = int(response.headers.get("Content-Length", size))
    if announced != size:
        words = said_by(response) if announced <= MAX_WORDS else ""
        raise ValueError(f"{announced} bytes announced" + (f': "{words}"' if words else ""))


def check_no_page(path):
    """ValueError if a file is a web page, whatever the server called it."""
    if not path.exists():
        return
    with open(path, "rb") as file:
        body = file.read(MAX_WORDS)
    if is_page(body):
        raise ValueError(f'a web page, "{words_in(body)}"')


def size_of(path):
    """Bytes of a file, 0 if there is none."""
    return path.stat().st_size if path.exists() else 0


# Guards -------------------------------------------------------------------------------------------

def check_space(folder, size):
    """Raise UserError unless `size` bytes, and a tenth more, fit on the disk of `folder`."""
    path = Path(folder).absolute()
    there = next(place for place in (path, *path.parents) if place.is_dir())
    free = shutil.disk_usage(there).free
    if free < 1.1 * size:
        raise UserError(folder, f"{1.1 * size / 1e9:.2f} GB of free space", f"{free / 1e9:.2f} GB",
                        "Free some space, or choose another folder.")


def check_inside(where, name):
    """Raise UserError if a name in an archive or a server's list would leave its folder."""
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise UserError(where, "file names that stay inside their folder", repr(name),
                        "Do not trust this source.")
