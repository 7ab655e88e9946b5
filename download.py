"""Have a challenge's scans ready for preprocess.py: accept folders, unpack archives, or say what to get.

    python download.py --layout wmh --raw data/raw
    python download.py --layout isles --raw data/raw

Scans are looked for at any depth below --raw. Where there are none, the challenge's zips there are unpacked beside
themselves into --raw/<layout>/, only the files that are needed. Where there is neither, the program says what to get,
from where and where to put it, and ends with status 2.
"""

import argparse
import fnmatch
import hashlib
import shutil
import sys
import zipfile
from pathlib import Path, PurePosixPath

from datasets import find_subjects, get_spec
from utils import UserError, atomic_path, log, progress, remove, run_program

ARCHIVES = {  # file name -> md5 as published by the challenges
    "wmh": {"Amsterdam_GE3T.zip": "259938e3ba38ec77d878c6eaa7fa3c12", "Singapore.zip": "02658fd204a7d2526920f92c37f3d417",
            "Utrecht.zip": "7768dda529a00cdcf49d9f574bb146cd"},
    "isles": {"ISLES2018_Training.zip": "b6d16c456e173743e30a3fbdb3bd29a5"},
}
ADVICE = {
    "wmh": """The scans of the WMH challenge (MICCAI 2017) are not in {raw}.
  get:  the training set, 60 scans: folders training/Utrecht, training/Singapore, training/Amsterdam/GE3T
        (or the challenge's Utrecht.zip, Singapore.zip and Amsterdam_GE3T.zip)
  from: DataverseNL, doi:10.34894/AECRSD (open, CC BY-NC 4.0)
  put:  the folders or zips into {raw}, then repeat the command""",
    "isles": """The scans of ISLES 2018 are not in {raw}.
  get:  ISLES2018_Training.zip, 94 cases
  from: the ISLES 2018 challenge, www.isles-challenge.org (free, after registration)
  put:  the zip, or its folder TRAINING, into {raw}, then repeat the command""",
}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layout", required=True, choices=ARCHIVES)
    parser.add_argument("--raw", default="data/raw", help="where the scans or zips lie (default data/raw)")
    args = parser.parse_args(argv)
    raw, spec = Path(args.raw), get_spec(args.layout)
    if raw.exists() and not raw.is_dir():
        raise UserError(raw, "a folder", "a file", "Give the folder that holds the scans or the zips.")
    names = ARCHIVES[args.layout]
    archives = [raw / name for name in names if (raw / name).is_file()]
    unpacked = [raw / args.layout / archive.stem for archive in archives]
    if count_scans(raw, spec, unpacked) < spec.n_subjects:  # not all there as folders already
        for leftover in (raw / args.layout).glob("*.partial-*"):  # of a program that was killed
            remove(leftover)
        for archive, folder in zip(archives, unpacked):
            unpack(archive, folder, spec, names[archive.name])
    found = count_scans(raw, spec)
    if not found:
        print(ADVICE[args.layout].format(raw=raw), file=sys.stderr)
        return 2
    missing = [name for name in names if raw / name not in archives]
    if found < spec.n_subjects and archives and missing:
        raise UserError(raw, f"the {spec.n_subjects} scans of the challenge", f"{found}; {', '.join(missing)} is missing",
                        "Put it beside the others and repeat the command.")
    if found != spec.n_subjects:
        print(f"warning: {raw}: {found} scans, the challenge has {spec.n_subjects}", file=sys.stderr)
    return 0


def count_scans(raw, spec, besides=()):
    """Number of subjects below `raw` outside the folders `besides`."""
    try:
        subjects = find_subjects(raw, spec)
    except UserError as error:
        if "none at any depth" in str(error) or "nothing there" in str(error):
            return 0
        raise
    return sum(not any(subject.folder.is_relative_to(folder) for folder in besides) for subject in subjects)


def unpack(archive, folder, spec, md5):
    """Extract the images that `spec` needs from a zip into `folder`, whole or not at all.

    Raises:
        UserError: not a zip, a damaged member, or a member that would leave the folder.
    """
    if folder.is_dir():
        return
    if file_md5(archive) != md5:
        print(f"warning: {archive}: its md5 is not the published {md5}; it is used all the same, and the results say "
              "what was found in it", file=sys.stderr)
    wanted = [f"*/{pattern}" for pattern in (*spec.modalities.values(), spec.label)]
    try:
        with zipfile.ZipFile(archive) as zipped:
            members = [item for item in zipped.infolist() if is_wanted(archive, item.filename, wanted)]
            with atomic_path(folder) as partial:
                partial.mkdir()
                for item in progress(members, desc=f"unpacking {archive.name}", unit="file"):
                    target = partial.joinpath(*PurePosixPath(item.filename).parts)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with zipped.open(item) as source, open(target, "wb") as sink:
                        shutil.copyfileobj(source, sink, 1 << 20)  # reads to the end, where zipfile checks the CRC
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise UserError(archive, "an intact zip archive", str(error), "Fetch it again.") from None
    log(f"{archive.name}: {len(members)} files unpacked to {folder}")


def is_wanted(archive, name, patterns):
    """True for the images of the data set; UserError for a member that points outside."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise UserError(archive, "members inside the archive's own folder", repr(name), "Do not trust this archive.")
    return "__MACOSX" not in path.parts and any(fnmatch.fnmatchcase(f"/{name}", pattern) for pattern in patterns)


def file_md5(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


if __name__ == "__main__":
    run_program(main)
