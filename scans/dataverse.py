"""Fetch the scans of the WMH challenge from DataverseNL, where they are open.

One request lists the files. Those that training needs and that are not there yet are transferred
side by side, each checked against the server's md5 before it gets its name, so a program that was
stopped continues where it was.
"""

import hashlib
import io
import json
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from threading import Event

import pooch
import requests
from requests.adapters import HTTPAdapter, Retry

from utils import UserError, exclusive, log, progress, remove, write_text

SERVER = "https://dataverse.nl"
DOI = "doi:10.34894/AECRSD"
SCANS = re.compile(r"(?P<subject>training/(?:[\w-]+/)+)(?P<image>pre/FLAIR|pre/T1|wmh)\.nii\.gz")
RATERS = re.compile(r"additional_annotations/observer_o[34]/training/(?:[\w-]+/)+result\.nii\.gz")
PARALLEL = 4              # transfers at a time: one rarely fills the line, many strain the server
RETRIES = 4               # after a busy server or a bad transfer; the waits between them grow
TIMEOUT_S = (10, 30)      # to connect, and between two pieces of an answer
MAX_FILE = 2 ** 29        # bytes; a scan has some 10 MB
MAX_LIST = 2 ** 26        # bytes; the list of files has about 2 MB
TERMS_FILE = "TERMS.txt"  # beside the scans: the terms were shown, and fetching has begun
TERMS = f"""The scans of the WMH segmentation challenge ({DOI}, DataverseNL) come with terms of use:
  licence: CC BY-NC 4.0, https://creativecommons.org/licenses/by-nc/4.0
           (name the source, no commercial use)
  cite:    H. J. Kuijf et al. Standardized assessment of automatic segmentation of white matter
           hyperintensities and results of the WMH segmentation challenge.
           IEEE Transactions on Medical Imaging 38(11), 2556-2568, 2019.
"""


class Unreachable(UserError):
    """The server does not answer: no internet, a wrong address, or a server that is down."""


@dataclass(frozen=True)
class RemoteFile:
    """One file of the data set."""

    path: str  # in the data set's tree
    id: int    # number on the server
    size: int  # bytes
    md5: str


def fetch_wmh(raw, subjects, server=SERVER, observers=False):
    """Fetch what `raw` lacks of the WMH training set, into `raw`/wmh/ in the server's own layout.

    A file whose md5 is right is not fetched again, nor are scans that lie elsewhere below `raw`.
    Where there are scans of other names than the data set's, nothing is fetched beside them.

    Args:
        raw: folder of the scans (Path).
        subjects: what datasets.find_subjects finds there already.
        server: address of a Dataverse server.
        observers: also the two further raters' label images, into
            `raw`/wmh/additional_annotations/.

    Raises:
        Unreachable: no answer, after retries.
        UserError: an answer that is not the data set, files other than announced, or too little
            space.
    """
    root, server = raw / "wmh", server.rstrip("/")

    with closing(open_session()) as session:
        listed = list_files(session, server, observers)
        files = missing_files(listed, raw, root, subjects)
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
            transfer(session, server, files, root)


def open_session():
    """An HTTP session that asks again, after growing pauses, when a server does not answer."""
    session = requests.Session()
    retry = Retry(total=RETRIES, connect=2, read=2, backoff_factor=1,
                  status_forcelist=(429, 500, 502, 503, 504), raise_on_status=False,
                  respect_retry_after_header=False)  # which may ask for hours
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry, pool_maxsize=PARALLEL))
    session.headers["Accept-Encoding"] = "identity"  # a .nii.gz as it is, not unpacked on the way
    return session


def get(session, url, **query):
    """The server's answer to a GET request, of status 200, its body still to be read."""
    try:
        response = session.get(url, params=query, stream=True, timeout=TIMEOUT_S)
    except (requests.ConnectionError, requests.Timeout) as error:
        reason = getattr(error.args[0] if error.args else error, "reason", error)
        raise Unreachable(url, "an answer", f"none ({type(reason).__name__})",
                          "Check the internet connection and the address, "
                          "then repeat the command.") from None
    except requests.RequestException as error:
        raise UserError(url, f"an address such as {SERVER}", str(error),
                        "Correct --server.") from None

    if response.status_code != 200:
        response.close()
        raise UserError(url, "status 200", f"{response.status_code} {response.reason}",
                        "Try again later, or fetch the files with a browser.")
    return response


def copy_body(response, sink, limit, stop=None):
    """Write the body of an answer to the file `sink`.

    Raises:
        ValueError: more than `limit` bytes.
        requests.RequestException: a transfer that broke off.
        InterruptedError: `stop` was set meanwhile.
    """
    received = 0
    for chunk in response.iter_content(1 << 16):
        received += len(chunk)
        if received > limit:
            raise ValueError(f"more than {limit} bytes")
        if stop is not None and stop.is_set():
            raise InterruptedError("stopped")
        sink.write(chunk)


def list_files(session, server, observers):
    """The files of the data set that are needed, as RemoteFile, sorted by path.

    Raises:
        UserError: the answer is no list, or one of the files is not in it.
    """
    url, body = f"{server}/api/datasets/:persistentId/", io.BytesIO()
    with get(session, url, persistentId=DOI) as response:
        try:
            copy_body(response, body, MAX_LIST)
            entries = json.loads(body.getvalue())["data"]["latestVersion"]["files"]
            files = [needed_file(entry, url, observers) for entry in entries]
        except (requests.RequestException, ValueError, KeyError, TypeError, AttributeError,
                RecursionError) as error:
            raise UserError(url, f"Dataverse's list of the files of {DOI}",
                            f"another answer ({type(error).__name__}: {error})",
                            "Check the address, and that no login page stands before it.") from None
    files = sorted(filter(None, files), key=lambda file: file.path)
    check_complete(files, url, observers)
    return files


def check_complete(files, url, observers):
    """Raise UserError unless the listed files include all three images of each training scan."""
    images = {}
    for file in files:
        if match := SCANS.fullmatch(file.path):
            images.setdefault(match["subject"], set()).add(match["image"])
    lacking = [f"{subject}{image}.nii.gz" for subject, found in images.items()
               for image in ("pre/FLAIR", "pre/T1", "wmh") if image not in found]
    if not images or lacking:
        found = f"{len(lacking)} missing, among them {lacking[0]}" if lacking else "no scan"
        raise UserError(url, "FLAIR, T1 and label of every training scan", found,
                        "Check the address of the server.")
    if observers and len(files) == 3 * len(images):
        raise UserError(url, "additional_annotations/ of observers o3 and o4", "none",
                        "Leave out --observers.")


def needed_file(entry, where, observers):
    """The RemoteFile of one entry of the server's list, or None if training does not need it.

    Raises:
        UserError: a path that leads outside, or a file without a plausible number, size and md5.
        KeyError, TypeError, AttributeError: an entry of another form.
    """
    item = entry["dataFile"]
    path = str(PurePosixPath(entry.get("directoryLabel") or "", item["filename"]))
    check_inside(where, path)
    if not (SCANS.fullmatch(path) or observers and RATERS.fullmatch(path)):
        return None
    number, size, md5 = item["id"], item["filesize"], item["md5"]
    if not (type(number) is int and type(size) is int and 0 < size <= MAX_FILE
            and re.fullmatch("[0-9a-f]{32}", md5)):
        raise UserError(f"{where}: {path}", f"a number, a size of 1 to {MAX_FILE} bytes and an md5",
                        f"{number!r}, {size!r} and {md5!r}", "Check the address of the server.")
    return RemoteFile(path, number, size, md5)


def missing_files(files, raw, root, subjects):
    """The files to fetch.

    Not those that lie in `root` with the right md5, nor what lies elsewhere below `raw`.
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
        match, target = SCANS.fullmatch(file.path), root / file.path
        if match and PurePosixPath(match["subject"]).name in elsewhere:
            return True
        if (raw / file.path).exists() or target.with_suffix("").exists():  # unpacked by hand
            return True
        return target.is_file() and file_md5(target) == file.md5

    return [file for file in files if not is_there(file)]


def check_space(folder, size):
    """Raise UserError unless `size` bytes, and a tenth more, fit on the disk of `folder`."""
    path = Path(folder).absolute()
    there = next(place for place in (path, *path.parents) if place.is_dir())
    free = shutil.disk_usage(there).free
    if free < 1.1 * size:
        raise UserError(folder, f"{1.1 * size / 1e9:.2f} GB of free space", f"{free / 1e9:.2f} GB",
                        "Free some space, or choose another folder.")


def transfer(session, server, files, root):
    """Fetch `files` side by side into `root`.

    On the first error the others stop, and what is complete stays.
    """
    staging, stop = root / f"transfer.partial-{os.getpid()}", Event()
    pooch.get_logger().setLevel("WARNING")
    registry = {str(file.id): f"md5:{file.md5}" for file in files}
    fetcher = pooch.create(path=staging, base_url=f"{server}/api/access/datafile/",
                           retry_if_failed=RETRIES, registry=registry)
    bytes_done = progress(total=sum(file.size for file in files), desc="fetching", unit="B",
                          unit_scale=True)
    try:
        with ThreadPoolExecutor(PARALLEL) as pool, bytes_done as bar:
            futures = {pool.submit(fetch_file, fetcher, session, file, root, stop): file
                       for file in files}

            try:
                for future in as_completed(futures):
                    future.result()
                    bar.update(futures[future].size)
            finally:
                stop.set()
                pool.shutdown(cancel_futures=True)
    finally:
        remove(staging)


def fetch_file(fetcher, session, file, root, stop):
    """Fetch one file to its place below `root`.

    Raises:
        UserError: after retries, it is still not what the server's list says.
    """
    key = str(file.id)
    get_file = partial(download, session=session, size=file.size, stop=stop)
    try:
        staged = fetcher.fetch(key, downloader=get_file)
    except (requests.RequestException, ValueError) as error:
        raise UserError(f"{fetcher.get_url(key)} ({file.path})",
                        f"{file.size} bytes of md5 {file.md5}", str(error),
                        "Repeat the command: it fetches what is missing.") from None
    target = root / file.path
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(staged, target)


def download(url, output_file, _, session, size, stop):
    """What pooch calls to fetch `url` into `output_file`.

    It checks the md5, and calls again on a ValueError.
    """
    with get(session, url) as response, open(output_file, "wb") as sink:
        announced = int(response.headers.get("Content-Length", size))
        if announced != size:
            raise ValueError(f"{announced} bytes announced")
        copy_body(response, sink, size, stop)
    os.chmod(output_file, 0o644)  # pooch makes its temporary file readable by its owner alone


def check_inside(where, name):
    """Raise UserError if a name in an archive or a server's list would leave its folder."""
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise UserError(where, "file names that stay inside their folder", repr(name),
                        "Do not trust this source.")


def file_md5(path):
    """The md5 of a file, as 32 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
