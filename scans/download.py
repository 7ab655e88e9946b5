"""Have a challenge's scans ready for preprocess.py.

Folders are accepted as they are, archives are unpacked, open data are fetched; for anything else it
says what to get and from where.

Examples:
  python -m scans.download --layout wmh --raw data/raw --fetch
  python -m scans.download --layout wmh --raw data/raw --fetch --observers
  python -m scans.download --layout isles --raw data/raw

Scans are looked for at any depth below --raw. If some are missing, the challenge's zips in --raw
are checked against their published md5, and the files that are needed are unpacked into
--raw/<layout>/. With --fetch, the WMH scans still missing come from DataverseNL, into
--raw/wmh/training/; what is there already is not fetched again, and each file's checksum is
compared. The data's terms are shown and kept beside the scans. ISLES 2018 requires registration, so
its zip has to be fetched by hand.

Exit status: 0 when the scans are there; 2 if not, with what to get, from where and where to put it,
or one line that says what is wrong with a file.
"""

if __name__ == "__main__":  # imports this file as a module; see start
    from utils import start
    start("scans.download")

import errno
import fnmatch
import re
import shutil
import sys
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from scans.datasets import find_subjects, get_spec
from scans.dataverse import SERVER, TERMS_FILE, fetch_wmh
from scans.server import Unreachable
from scans.transfer import check_inside, check_space, file_checksum
from utils import UserError, argument_parser, atomic_path, log, progress, remove

MAX_MEMBER = 2 ** 30  # bytes; the largest scan that is needed has some 50 MB
IMPOSSIBLE = (  # what a damaged zip may ask for
    errno.EINVAL, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG)
ARCHIVES = {  # file name -> md5 as published by the challenges
    "wmh": {"Amsterdam_GE3T.zip": "259938e3ba38ec77d878c6eaa7fa3c12",
            "Singapore.zip": "02658fd204a7d2526920f92c37f3d417",
            "Utrecht.zip": "7768dda529a00cdcf49d9f574bb146cd"},
    "isles": {"ISLES2018_Training.zip": "b6d16c456e173743e30a3fbdb3bd29a5"},
}
ADVICE = {
    "wmh": """The scans of the WMH challenge (MICCAI 2017) are not in {raw}.
  get:  the training set, 60 scans: folders training/Utrecht, training/Singapore and
        training/Amsterdam/GE3T (or the challenge's Utrecht.zip, Singapore.zip and
        Amsterdam_GE3T.zip)
  from: DataverseNL, doi:10.34894/AECRSD (open, CC BY-NC 4.0); with internet, `make wmh`
        fetches them by itself
  put:  the folders or zips into {raw}, then repeat the command""",
    "isles": """The scans of ISLES 2018 are not in {raw}.
  get:  ISLES2018_Training.zip, 94 cases
  from: the ISLES 2018 challenge, www.isles-challenge.org (free, after registration)
  put:  the zip, or its folder TRAINING, into {raw}, then repeat the command""",
}


def main(argv=None):
    args = parse_arguments(argv)
    raw, spec, names = Path(args.raw), get_spec(args.layout), ARCHIVES[args.layout]
    if raw.exists() and not raw.is_dir():
        raise UserError(raw, "a folder", "a file",
                        "Give the folder that holds the scans or the zips.")

    archives = [raw / name for name in names if (raw / name).is_file()]
    unpack_archives(archives, raw / args.layout, spec, {} if args.any_md5 else names)
    unreachable = fetch_missing(raw, spec, args) if args.fetch else None

    found = len(scans_below(raw, spec))
    if not found:
        print(ADVICE[args.layout].format(raw=raw), file=sys.stderr)
        if unreachable:
            print(f"  They could not be fetched from here: {unreachable}", file=sys.stderr)
        return 2

    missing = [name for name in names if raw / name not in archives]
    if found < spec.n_subjects and archives and missing:
        raise UserError(raw, f"the {spec.n_subjects} scans of the challenge",
                        f"{found}; {', '.join(missing)} is missing",
                        "Put it beside the others and repeat the command.")
    if found != spec.n_subjects:
        print(f"warning: {raw}: {found} scans, the challenge has {spec.n_subjects}"
              + (f"; {unreachable}" if unreachable else ""), file=sys.stderr)
    return 0


def parse_arguments(argv):
    """The command line; UserError for options that do not go together."""
    parser = argument_parser(__doc__, "python -m scans.download")
    parser.add_argument("--layout", required=True, choices=ARCHIVES,
                        help="the challenge: WMH 2017 or ISLES 2018")
    parser.add_argument("--raw", default="data/raw", metavar="FOLDER",
                        help="where the scans or zips lie (default data/raw)")
    parser.add_argument("--fetch", action="store_true",
                        help="WMH: fetch the scans that are missing")
    parser.add_argument("--observers", action="store_true",
                        help="with --fetch: also the label images of two further raters, "
                        "into additional_annotations/")
    parser.add_argument("--server", default=SERVER, metavar="URL",
                        help=f"the Dataverse to fetch from (default {SERVER})")
    parser.add_argument("--any-md5", action="store_true",
                        help="accept zips of another md5 than the published one, "
                        "such as zips packed again")
    args = parser.parse_args(argv)

    if args.fetch and args.layout != "wmh":
        raise UserError("--fetch", "--layout wmh, the open data set", args.layout,
                        "Fetch the other by hand.")
    if args.observers and not args.fetch:
        raise UserError("--observers", "--fetch beside it", "none",
                        "Add --fetch, or leave out --observers.")
    return args


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


def fetch_missing(raw, spec, args):
    """Fetch from DataverseNL unless all scans are there.

    If the server does not answer and nothing was begun, its error is returned, not raised.
    """
    subjects = scans_below(raw, spec)
    complete = sum(all(subject.files.values()) for subject in subjects)
    if complete >= spec.n_subjects and not args.observers:
        return None
    try:
        fetch_wmh(raw, subjects, args.server, args.observers)
    except Unreachable as error:
        if subjects and (args.observers or (raw / "wmh" / TERMS_FILE).exists()):
            raise
        return error
    return None


def unpack_archives(archives, folder, spec, md5s):
    """Unpack zips into `folder`/<name>/, but for those that were unpacked before.

    Nothing is done if all scans lie beside `folder` already.

    Args:
        archives: paths of zips, in the folder that is searched for scans.
        folder: where they are unpacked to, each completely or not at all.
        spec: the DatasetSpec that says which members are needed.
        md5s: file name -> md5 the archive must have; one that is not listed is not checked.

    Raises:
        UserError: another md5, no zip, a damaged or implausible member, or one that would leave the
            folder.
    """
    unpacked = [folder / archive.stem for archive in archives]
    new = [archive for archive, place in zip(archives, unpacked) if not place.is_dir()]
    if not new or len(scans_below(folder.parent, spec, unpacked)) >= spec.n_subjects:
        return
    for leftover in folder.glob("*.partial-*"):  # of a program that was killed
        remove(leftover)
    for archive in new:
        check_md5(archive, md5s.get(archive.name))
        unpack(archive, folder / archive.stem, spec)


def check_md5(archive, md5):
    """Raise UserError if a file has another md5; None accepts any."""
    if md5 and (found := file_checksum(archive)) != md5:
        raise UserError(archive, f"md5 {md5}", found,
                        "Fetch it again; or unpack it by hand, or give --any-md5 "
                        "(make ... ANY_MD5=yes), if you know that it was packed again.")


def unpack(archive, folder, spec):
    """Extract the images that `spec` needs from a zip into `folder`, all or none.

    Raises as unpack_archives.
    """
    try:
        with zipfile.ZipFile(archive) as zipped:
            members = [item for item in zipped.infolist() if is_wanted(archive, item, spec)]
            if not members:
                raise UserError(archive, f"files such as {spec.label}",
                                f"none among {len(zipped.infolist())}",
                                "Is it the archive of the training set? Fetch it again.")

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


def extract(zipped, item, target):
    """Write one member to the file `target`; BadZipFile if its CRC or size is not as stated."""
    target.parent.mkdir(parents=True, exist_ok=True)
    # zipfile stops at the stated size, and checks the CRC
    with zipped.open(item) as source, open(target, "wb") as sink:
        shutil.copyfileobj(source, sink, 1 << 20)
        if sink.tell() != item.file_size:
            raise zipfile.BadZipFile(f"{sink.tell()} of {item.file_size} bytes in {item.filename}")


def is_wanted(archive, item, spec):
    """True for the images of the data set.

    Raises:
        UserError: a member that points outside, or that no scan would be.
    """
    check_inside(archive, item.filename)
    folders = PurePosixPath(item.filename).parts[:-1]
    skipped = any(re.fullmatch(pattern, folder) for pattern in spec.skip for folder in folders)
    matches = any(fnmatch.fnmatchcase(f"/{item.filename}", f"*/{pattern}")
                  for pattern in (*spec.modalities.values(), spec.label))
    if item.is_dir() or skipped or not matches:
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
