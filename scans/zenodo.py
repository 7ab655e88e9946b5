"""Fetch the training set of ISLES 2018 from Zenodo, where the organisers have opened it to all.

The record, in its newest version, lists its files with their md5. Which of them is the training
archive is told by its name; it is fetched as a whole, and unpacked by archives.py.
"""

import re
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import urljoin

from scans.server import ask, one_line, open_session
from scans.transfer import Checksum, check_inside, check_space, fetch_file, part_of, size_of
from utils import UserError, exclusive, log, progress, write_text

SERVER = "https://zenodo.org"
RECORD = 17736412
MAX_FILE = 2 ** 38        # bytes
TERMS_FILE = "TERMS.txt"  # beside the scans
TERMS = """The scans of ISLES 2018 come from Zenodo:
  record:  {url}
  title:   {title} {version}
  doi:     {doi} (cite it)
  licence: {licence}
"""
# What the name of the archive looks like: the first pattern that fits any file counts
YEAR = r"(?<!\d)(?:20)?18(?!\d)"
TRAINING = (re.compile(f"(?i){YEAR}.*train|train.*{YEAR}"),
            re.compile(f"(?i)isles(?!.*test).*{YEAR}"))
CHOOSE = "Choose one: --file NAME (make isles FILE=NAME)."


@dataclass(frozen=True)
class Record:
    """One version of a Zenodo record: what is said about it, and name -> entry of each file."""

    url: str
    latest: str
    files: dict
    about: dict


def fetch_isles(raw, server=SERVER, wanted=None):
    """Fetch the training archive into `raw`/isles/ and return its path.

    Args:
        raw: folder of the scans (Path).
        server: address of Zenodo.
        wanted: name of the file, where it cannot be told from its name that it is the archive.

    Raises:
        Unreachable: no answer, after retries.
        UserError: an answer that is not the record, no file or several that may be it, another
            file than announced, or too little space.
    """
    root = raw / "isles"
    with closing(open_session()) as session:
        record = newest_record(session, server.rstrip("/"))
        name = training_archive(record, wanted, raw)
        url, size, checksum = file_entry(record, name)
        there = size_of(part_of(root / name, checksum))
        check_space(raw, size - there)

        with exclusive(root):
            terms = TERMS.format(url=record.url, **record.about)
            log(terms)
            write_text(root / TERMS_FILE, terms)
            log(f"{server}: fetching {name}, {size / 1e9:.2f} GB, to {root}")
            with progress(total=size, initial=there, desc="fetching", unit="B",
                          unit_scale=True) as bar:
                fetch_file(session, url, root / name, size, checksum, name,
                           tell=lambda position: bar.update(position - bar.n))
    return root / name


def newest_record(session, server):
    """The Record's newest version, by the link that any version gives."""
    url, expected = f"{server}/api/records/{RECORD}", "Zenodo's record of ISLES"
    record = ask(session, url, expected, lambda answer: read_record(url, answer))
    if record.latest == record.url:
        return record
    return ask(session, record.latest, expected, lambda answer: read_record(record.latest, answer))


def read_record(url, answer):
    """A Record from Zenodo's JSON; KeyError, TypeError or AttributeError if it has another form."""
    files = {entry["key"]: entry for entry in answer["files"]}
    if not all(isinstance(name, str) for name in files):
        raise TypeError("files without a name")
    said = answer.get("metadata") or {}
    licence = said.get("license") or {}
    about = {"title": said.get("title"), "doi": answer.get("doi") or said.get("doi"),
             "version": said.get("version"),
             "licence": licence.get("id") if isinstance(licence, dict) else licence}
    latest = (answer.get("links") or {}).get("latest") or url
    return Record(url, urljoin(url, latest), files,
                  {key: one_line(value or "") for key, value in about.items()})


def fitting(names):
    """The names that may be those of the training archive: zips, if there are any."""
    found = next(filter(None, ([name for name in names if pattern.search(name)]
                               for pattern in TRAINING)), [])
    return [name for name in found if is_zip(name)] or found


def is_zip(name):
    return name.lower().endswith(".zip")


def training_archive(record, wanted, raw):
    """Name of the file to fetch.

    Raises:
        UserError: none fits, several fit, or it is no zip. The files are listed.
    """
    found = [name for name in record.files if name == wanted] if wanted else fitting(record.files)
    if wanted and not found:
        raise UserError("--file", f"a file of {record.url}: {listing(record, record.files)}",
                        repr(wanted), "Correct the name (make isles FILE=NAME).")
    if len(found) != 1:
        what = f"{len(found)} that may be it" if found else "none with such a name"
        raise UserError(record.url, "one archive of the ISLES 2018 training set",
                        f"{what}: {listing(record, found or record.files)}", CHOOSE)
    if not is_zip(found[0]):
        raise UserError(f"{record.url}: {one_line(found[0])}", "a zip archive", "another format",
                        f"Fetch it with a browser, unpack it, put its folder TRAINING into {raw}, "
                        "and repeat the command.")
    return found[0]


def listing(record, names):
    """"A.zip (1.20 GB), B.zip", for an error."""
    sizes = [record.files[name].get("size") for name in names]
    return ", ".join(
        one_line(name) + (f" ({size / 1e9:.2f} GB)" if is_plausible(size) else "")
        for name, size in zip(names, sizes)) or "no file at all"


def is_plausible(size):
    """Is this a number of bytes that an archive may have?"""
    return type(size) is int and 0 < size <= MAX_FILE


def file_entry(record, name):
    """(address, bytes, Checksum) of a file; UserError unless they are plausible."""
    entry = record.files[name]
    check_inside(record.url, name)
    try:
        size, said, url = entry["size"], entry["checksum"], entry["links"]["self"]
        if not is_plausible(size) or "/" in name:
            raise ValueError("size or name")
        return urljoin(record.url, url), size, Checksum.of(*said.split(":", 1))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{record.url}: {one_line(name)}",
                        f"a size of 1 to {MAX_FILE} bytes, a checksum and a link",
                        one_line(entry), "Check the address of the server.") from None
