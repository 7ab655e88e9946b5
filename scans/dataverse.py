"""Fetch the scans of the WMH challenge from DataverseNL, where they are open.

One request lists the files. Those that are needed and are not there yet are transferred
side by side, each checked against the server's checksum before it gets its name, so a program that
was stopped continues where it was.
"""

import os
import re
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass
from pathlib import PurePosixPath
from threading import Event

from scans.datasets import matching
from scans.server import PARALLEL, ask, open_session
from scans.transfer import CHECKSUMS, Checksum, check_inside, check_space, fetch_file
from utils import UserError, atomic_path, exclusive, log, progress, remove, write_text

SERVER = "https://dataverse.nl"
DOI = "doi:10.34894/AECRSD"
SCANS = re.compile(r"(?P<subject>training/(?:[\w-]+/)+)(?P<image>pre/FLAIR|pre/T1|wmh)\.nii\.gz")
TEST = re.compile(  # one of its folders is "Philips_VU .PETMR_01."
    r"(?P<subject>test/(?:\w[\w .-]*/)+)(?P<image>pre/FLAIR|pre/T1|wmh)\.nii\.gz")
RATERS = re.compile(r"additional_annotations/observer_o[34]/training/(?:[\w-]+/)+result\.nii\.gz")
MAX_FILE = 2 ** 29        # bytes; a scan has some 10 MB
TERMS_FILE = "TERMS.txt"  # beside the scans: the terms were shown, and fetching has begun
TERMS = f"""The scans of the WMH segmentation challenge ({DOI}, DataverseNL) come with terms of use:
  licence: CC BY-NC 4.0, https://creativecommons.org/licenses/by-nc/4.0
           (name the source, no commercial use)
  cite:    H. J. Kuijf et al. Standardized assessment of automatic segmentation of white matter
           hyperintensities and results of the WMH segmentation challenge.
           IEEE Transactions on Medical Imaging 38(11), 2556-2568, 2019.
"""


@dataclass(frozen=True)
class RemoteFile:
    """One file of the data set."""

    path: str  # in the data set's tree
    id: int    # number on the server
    size: int  # bytes
    checksum: Checksum


def fetch_wmh(raw, subjects, server=SERVER, observers=False, test=None):
    """Fetch what `raw` lacks of the WMH training set, into `raw`/wmh/ in the server's own layout.

    A file whose checksum is right is not fetched again, nor are scans that lie elsewhere below
    `raw`. Where there are scans of other names than the data set's, nothing is fetched beside them.

    Args:
        raw: folder of the scans (Path).
        subjects: what datasets.find_subjects finds there already.
        server: address of a Dataverse server.
        observers: also the two further raters' label images, into
            `raw`/wmh/additional_annotations/.
        test: the folder of the challenge's test scans, which are then fetched into it too.

    Raises:
        Unreachable: no answer, after retries.
        UserError: an answer that is not the data set, files other than announced, or too little
            space.
    """
    root, server = raw / "wmh", server.rstrip("/")

    with closing(open_session()) as session:
        listed = list_files(session, server, observers, test is not None)
        files = missing_files(listed, raw, root, subjects, test)
        size = sum(file.size for file in files)
        if not files:
            return
        check_space(raw, size)

        with exclusive(root):
            if not (root / TERMS_FILE).exists():
                log(TERMS)
                write_text(root / TERMS_FILE, TERMS)
            log(f"{server}: fetching {len(files)} of {len(listed)} files, {size / 1e9:.2f} GB, "
                f"to {root}")
            transfer(session, server, files, root, test)


def list_files(session, server, observers, test=False):
    """The files of the data set that are needed, as RemoteFile, sorted by path.

    Raises:
        UserError: the answer is no list, or one of the files is not in it.
    """
    url = f"{server}/api/datasets/:persistentId/"
    needed = (SCANS, *[RATERS] * observers, *[TEST] * test)

    def parse(answer):
        entries = answer["data"]["latestVersion"]["files"]
        return [needed_file(entry, url, needed) for entry in entries]

    entries = ask(session, url, f"Dataverse's list of the files of {DOI}", parse, persistentId=DOI)
    files = sorted(filter(None, entries), key=lambda file: file.path)
    check_scans(files, url, SCANS, "training")
    if observers and not any(RATERS.fullmatch(file.path) for file in files):
        raise UserError(url, "additional_annotations/ of observers o3 and o4", "none",
                        "Leave out --observers.")
    if test:
        check_scans(files, url, TEST, "test")
    return files


def check_scans(files, url, pattern, kind):
    """Raise UserError unless the listed files include all three images of each scan of a kind."""
    images = {}
    for file in files:
        if match := pattern.fullmatch(file.path):
            images.setdefault(match["subject"], set()).add(match["image"])
    lacking = [f"{subject}{image}.nii.gz" for subject, found in images.items()
               for image in ("pre/FLAIR", "pre/T1", "wmh") if image not in found]
    if not images or lacking:
        found = f"{len(lacking)} missing, among them {lacking[0]}" if lacking else "no scan"
        raise UserError(url, f"FLAIR, T1 and label of every {kind} scan", found,
                        "Check the address of the server.")


def needed_file(entry, where, needed):
    """The RemoteFile of one entry of the server's list, or None if its path is not as needed.

    Args:
        entry: of the list.
        where: the list's address, for errors.
        needed: regular expressions, one of which must match the path.

    Raises:
        UserError: a path that leads outside, or a file without a plausible number, size and
            checksum.
        KeyError, TypeError, AttributeError: an entry of another form.
    """
    item = entry["dataFile"]
    path = str(PurePosixPath(entry.get("directoryLabel") or "", item["filename"]))
    check_inside(where, path)
    if not any(pattern.fullmatch(path) for pattern in needed):
        return None
    number, size, said = item["id"], item["filesize"], checksum_entry(item)
    try:
        if not (type(number) is int and type(size) is int and 0 < size <= MAX_FILE):
            raise ValueError("number or size")
        return RemoteFile(path, number, size, Checksum.of(*said))
    except ValueError:
        kinds = ", ".join(kind.upper() for kind in CHECKSUMS)
        raise UserError(f"{where}: {path}",
                        f"a number, a size of 1 to {MAX_FILE} bytes and a checksum ({kinds})",
                        f"{number!r}, {size!r} and {' '.join(map(repr, said))}",
                        "Check the address of the server.") from None


def checksum_entry(item):
    """(kind, digits) as the server gives them; servers of old versions know `md5` alone."""
    said = item.get("checksum") or {"type": "MD5", "value": item.get("md5")}
    return said["type"], said["value"]


def place_of(file, root, test):
    """Where a file belongs: in `root` at its own path, of a test scan in the folder `test`."""
    if test and TEST.fullmatch(file.path):
        return test / file.path.removeprefix("test/")
    return root / file.path


def missing_files(files, raw, root, subjects, test=None):
    """The files to fetch.

    Not those that lie in `root` with the right checksum, nor what lies elsewhere below `raw`.
    """
    folders = {match["subject"].rstrip("/")
               for file in files if (match := SCANS.fullmatch(file.path))}
    elsewhere = {subject.name for subject in subjects
                 if not subject.folder.is_relative_to(root / "training")}

    others = elsewhere - {PurePosixPath(folder).name for folder in folders}
    if others:
        log(f"{raw}: {len(others)} scans that are not of {DOI}, such as {min(others)}; "
            "nothing is fetched beside them")
        return []

    def is_there(file):
        match, target = SCANS.fullmatch(file.path), place_of(file, root, test)
        if match and PurePosixPath(match["subject"]).name in elsewhere:
            return True
        if (raw / file.path).exists() or target.with_suffix("").exists():  # unpacked by hand
            return True
        if not target.is_relative_to(root):  # test scans put there by hand
            return target.is_file()
        return target.is_file() and file.checksum.matches(target)

    return [file for file in files if not is_there(file)]


def has_raters(raw, count):
    """Are there label images of so many scans by each of the two further raters?"""
    found = Counter()
    for root in (raw, raw / "wmh"):
        for path in matching(root, "additional_annotations/*/**/result.nii.gz"):
            if RATERS.fullmatch(path.relative_to(root).as_posix()):
                found[path.relative_to(root).parts[1]] += 1
    return len(found) == 2 and min(found.values()) >= count


def transfer(session, server, files, root, test=None):
    """Fetch `files` side by side, each to its `place_of`.

    On the first error the others stop, and what is complete stays.
    """
    staging, stop = root / f"transfer.partial-{os.getpid()}", Event()
    bytes_done = progress(total=sum(file.size for file in files), desc="fetching", unit="B",
                          unit_scale=True)
    try:
        with ThreadPoolExecutor(PARALLEL) as pool, bytes_done as bar:
            futures = {pool.submit(fetch_to, place_of(file, root, test), session, server, file,
                                   staging, stop): file for file in files}

            try:
                for future in as_completed(futures):
                    future.result()
                    bar.update(futures[future].size)
            finally:
                stop.set()
                pool.shutdown(cancel_futures=True)
    finally:
        remove(staging)


def fetch_to(target, session, server, file, staging, stop):
    """Fetch one file to its place `target`; see `transfer.fetch_file`."""
    url, staged = f"{server}/api/access/datafile/{file.id}", staging / str(file.id)
    fetch_file(session, url, staged, file.size, file.checksum, file.path, stop)
    with atomic_path(target) as partial:  # `target` may be on another disk
        shutil.move(staged, partial)
