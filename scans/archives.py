"""The challenges' zips: which members are needed, and unpacking them without leaving the folder."""

import errno
import fnmatch
import re
import shutil
import zipfile
import zlib
from pathlib import PurePosixPath

from scans.datasets import find_subjects
from scans.transfer import check_inside, check_space, file_checksum
from utils import UserError, atomic_path, exclusive, log, progress

MAX_MEMBER = 2 ** 30   # bytes; the largest scan that is needed has some 50 MB
IMPOSSIBLE = (  # what a damaged zip may ask for
    errno.EINVAL, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG)
ARCHIVE = re.compile(r"(?i).*\.(zip|7z|rar|tar|tgz|tar\.\w+)")


def scans_below(raw, spec, besides=()):
    """The subjects below `raw` outside the folders `besides`; none is no error."""
    try:
        subjects = find_subjects(raw, spec)
    except UserError as error:
        if "none at any depth" in str(error) or "nothing there" in str(error):
            return []
        raise
    return [subject for subject in subjects
            if not any(subject.folder.is_relative_to(folder) for folder in besides)]


def unpack_archives(archives, folder, spec, md5s):
    """Unpack zips into `folder`/<name>/, but for those that were unpacked before.

    Nothing is done if all scans lie beside `folder` already.

    Args:
        archives: paths of zips, in the folder that is searched for scans.
        folder: where they are unpacked to, each completely or not at all.
        spec: the DatasetSpec that says which members are needed.
        md5s: file name -> md5 the archive must have; one that is not listed is not checked.

    Raises:
        UserError: another md5, no zip, a damaged or implausible member, one that would leave the
            folder, or another process that works in it.
    """
    places = {archive: folder / archive.stem for archive in archives}
    if all(place.is_dir() for place in places.values()) or len(
            scans_below(folder.parent, spec, places.values())) >= spec.n_subjects:
        return
    with exclusive(folder):
        for archive, place in places.items():
            if not place.is_dir():
                check_md5(archive, md5s.get(archive.name))
                unpack(archive, place, spec)


def check_md5(archive, md5):
    """Raise UserError if a file has another md5; None accepts any."""
    if md5 and (found := file_checksum(archive)) != md5:
        raise UserError(archive, f"md5 {md5}", found,
                        "Fetch it again; or unpack it by hand, or give --any-md5 "
                        "(make ... ANY_MD5=yes), if you know that it was packed again, or that "
                        "its source gives this md5.")


def unpack(archive, folder, spec):
    """Extract the images that `spec` needs from a zip into `folder`, all or none.

    Raises as unpack_archives.
    """
    try:
        with zipfile.ZipFile(archive) as zipped:
            members = [item for item in zipped.infolist() if is_wanted(archive, item, spec)]
            check_holds_scans(archive, zipped, members, spec)

            check_space(folder, sum(item.file_size for item in members))

            with atomic_path(folder) as partial:
                partial.mkdir()
                for item in progress(members, desc=f"unpacking {archive.name}", unit="file"):
                    extract(zipped, item, partial.joinpath(*PurePosixPath(item.filename).parts))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError,
            ValueError) as error:
        raise UserError(archive, "an intact zip archive", str(error), "Fetch it again.") from None
    except OSError as error:
        if error.errno not in IMPOSSIBLE:
            raise
        raise UserError(archive, "an intact zip archive",
                        f"one that cannot be unpacked ({error.strerror})",
                        "Fetch it again.") from None
    log(f"{archive.name}: {len(members)} files unpacked to {folder}")


def check_holds_scans(archive, zipped, members, spec):
    """Raise UserError unless there are images among the `members` that are needed."""
    if any(not item.filename.endswith(".json") for item in members):
        return
    names = zipped.namelist()
    inside = [name for name in names if ARCHIVE.fullmatch(name)]
    if inside:
        raise UserError(archive, f"files such as {spec.label}",
                        f"other archives, such as {inside[0]}",
                        "Unpack it by hand, and put the folders or zips of the training set in "
                        "its place.")
    raise UserError(archive, f"files such as {spec.label}", f"none among {len(names)}",
                    "Is it the archive of the training set? Fetch it again.")


def extract(zipped, item, target):
    """Write one member to the file `target`; BadZipFile if its CRC or size is not as stated."""
    target.parent.mkdir(parents=True, exist_ok=True)
    # zipfile stops at the stated size, and checks the CRC
    with zipped.open(item) as source, open(target, "wb") as sink:
        shutil.copyfileobj(source, sink, 1 << 20)
        if sink.tell() != item.file_size:
            raise zipfile.BadZipFile(f"{sink.tell()} of {item.file_size} bytes in {item.filename}")


def is_wanted(archive, item, spec):
    """True for the images of the data set, and what says whose they are.

    Raises:
        UserError: a member that points outside, or that no scan would be.
    """
    check_inside(archive, item.filename)
    folders = PurePosixPath(item.filename).parts[:-1]
    skipped = any(re.fullmatch(pattern, folder) for pattern in spec.skip for folder in folders)
    matches = any(fnmatch.fnmatchcase(f"/{item.filename}", f"*/{pattern}")
                  for pattern in (*spec.modalities.values(), spec.label, *spec.sidecars))
    hidden = PurePosixPath(item.filename).name.startswith(".")
    if item.is_dir() or skipped or hidden or not matches:
        return False

    # LZMA may ask for gigabytes at once
    if item.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UserError(f"{archive}: {item.filename}",
                        "a member stored or deflated, as the challenges have them",
                        f"compression {item.compress_type}",
                        "Fetch the archive again, or unpack it by hand.")
    if item.file_size > MAX_MEMBER:
        raise UserError(f"{archive}: {item.filename}", f"at most {MAX_MEMBER} bytes",
                        f"{item.file_size} bytes", "Do not trust this archive.")
    return True
