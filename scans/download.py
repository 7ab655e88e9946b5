"""Have a challenge's scans ready for preprocess.py.

Folders are accepted as they are, archives are unpacked, and what is missing is fetched: both
challenges' data are open.

Examples:
  python -m scans.download --layout wmh --raw data/raw --fetch
  python -m scans.download --layout wmh --raw data/raw --fetch --observers
  python -m scans.download --layout wmh --raw data/raw --fetch --test
  python -m scans.download --layout isles --raw data/raw --fetch
  python -m scans.download --layout isles --raw data/raw --fetch --file NAME.zip

Scans are looked for at any depth below --raw. If some are missing, the challenge's zips in --raw
are checked against their published md5, and the files that are needed are unpacked into
--raw/<layout>/. With --fetch, the WMH scans still missing come from DataverseNL, into
--raw/wmh/training/, and the training archive of ISLES 2018 comes from Zenodo, into --raw/isles/.
--test asks for the 110 test scans of WMH too, in a folder test/ that is never used for training.
What is there already is not fetched again, an interrupted transfer continues where it stopped, and
each file's checksum is compared with the server's. The data's terms are shown and kept beside the
scans.

Exit status: 0 when the scans are there; 2 if not, with what to get, from where and where to put it,
or one line that says what is wrong with a file.
"""

if __name__ == "__main__":  # imports this file as a module; see start
    from utils import start
    start("scans.download")

import sys
from pathlib import Path

from scans import dataverse, zenodo
from scans.archives import scans_below, unpack_archives
from scans.datasets import get_spec, is_phantom
from scans.server import Unreachable
from scans.test_scans import find_test_folder, find_test_scans
from utils import UserError, argument_parser, log

ARCHIVES = {  # file name -> md5 as published by the challenges
    "wmh": {"Amsterdam_GE3T.zip": "259938e3ba38ec77d878c6eaa7fa3c12",
            "Singapore.zip": "02658fd204a7d2526920f92c37f3d417",
            "Utrecht.zip": "7768dda529a00cdcf49d9f574bb146cd"},
    "isles": {"ISLES2018_Training.zip": "b6d16c456e173743e30a3fbdb3bd29a5"},
}
ADVICE_TEST = """The test scans of the WMH challenge (MICCAI 2017) are not in {raw}.
  get:  its test set, 110 scans: the folder test, with Utrecht, Singapore and Amsterdam/...
  from: DataverseNL, doi:10.34894/AECRSD (open, CC BY-NC 4.0); with internet, `make wmh TEST=yes`
        fetches them by itself
  put:  the folder into {raw}, or leave out TEST"""
SERVERS = {"wmh": dataverse.SERVER, "isles": zenodo.SERVER}
ADVICE = {
    "wmh": """The scans of the WMH challenge (MICCAI 2017) are not in {raw}.
  get:  the training set, 60 scans: folders training/Utrecht, training/Singapore and
        training/Amsterdam/GE3T (or the challenge's Utrecht.zip, Singapore.zip and
        Amsterdam_GE3T.zip)
  from: DataverseNL, doi:10.34894/AECRSD (open, CC BY-NC 4.0); with internet, `make wmh`
        fetches them by itself
  put:  the folders or zips into {raw}, then repeat the command""",
    "isles": """The scans of ISLES 2018 are not in {raw}.
  get:  the training set, 94 scans: the archive of ISLES 2018's training data, or its folder
        TRAINING (or the challenge's own ISLES2018_Training.zip)
  from: Zenodo, doi:10.5281/zenodo.17736412, newest version (open); with internet, `make isles`
        fetches it by itself
  put:  the zip or folder into {raw}, then repeat the command""",
}


def main(argv=None):
    args = parse_arguments(argv)
    raw, spec, names = Path(args.raw), get_spec(args.layout), ARCHIVES[args.layout]
    if raw.exists() and not raw.is_dir():
        raise UserError(raw, "a folder", "a file",
                        "Give the folder that holds the scans or the zips.")

    archives = archives_in(raw, spec, args)
    # What Zenodo sent was compared with Zenodo's md5
    md5s = {path.name: names.get(path.name) for path in archives if path.parent == raw}
    unpack_archives(archives, raw / args.layout, spec, {} if args.any_md5 else md5s)
    unreachable = fetch_missing(raw, spec, args) if args.fetch else None

    found = len(scans_below(raw, spec))
    if not found:
        print(ADVICE[args.layout].format(raw=raw), file=sys.stderr)
        if unreachable:
            print(f"  They could not be fetched from here: {unreachable}", file=sys.stderr)
        return 2

    missing = [name for name in names if raw / name not in archives]
    if args.layout == "wmh" and found < spec.n_subjects and archives and missing:
        raise UserError(raw, f"the {spec.n_subjects} scans of the challenge",
                        f"{found}; {', '.join(missing)} is missing",
                        "Put it beside the others and repeat the command.")
    if found != spec.n_subjects:
        warn_of_number(raw, found, "scans", spec.n_subjects, unreachable)
    return have_test_scans(raw, spec, unreachable) if args.test else 0


def have_test_scans(raw, spec, unreachable):
    """0 if there are complete test scans below `raw`, else 2 and what to do.

    Raises:
        UserError: one of them lacks a file.
    """
    if not find_test_folder(raw, spec)[1]:
        print(ADVICE_TEST.format(raw=raw), file=sys.stderr)
        return 2
    folder, scans = find_test_scans(raw, spec)
    if len(scans) != (count := sum(spec.test_sites.values())):
        warn_of_number(folder, len(scans), "test scans", count, unreachable)
    return 0


def warn_of_number(place, found, what, count, unreachable):
    print(f"warning: {place}: {found} {what}, the challenge has {count}"
          + (f"; {unreachable}" if unreachable else ""), file=sys.stderr)


def parse_arguments(argv):
    """The command line; UserError for options that do not go together."""
    parser = argument_parser(__doc__, "python -m scans.download")
    parser.add_argument("--layout", required=True, choices=ARCHIVES,
                        help="the challenge: WMH 2017 or ISLES 2018")
    parser.add_argument("--raw", default="data/raw", metavar="FOLDER",
                        help="where the scans or zips lie (default data/raw)")
    parser.add_argument("--fetch", action="store_true", help="fetch the scans that are missing")
    parser.add_argument("--observers", action="store_true",
                        help="wmh, with --fetch: also the label images of two further raters, "
                        "into additional_annotations/")
    parser.add_argument("--test", action="store_true",
                        help="wmh: the challenge's test scans too, to be scored with trained "
                        "models")
    parser.add_argument("--file", metavar="NAME",
                        help="isles: the archive of the training set, where several may be it")
    parser.add_argument("--server", metavar="URL",
                        help="the Dataverse or Zenodo to fetch from "
                        f"(default {' or '.join(SERVERS.values())})")
    parser.add_argument("--any-md5", action="store_true",
                        help="accept the challenge's zips with another md5 than the published "
                        "one, such as zips packed again")
    args = parser.parse_args(argv)

    if args.observers and args.layout != "wmh":
        raise UserError("--observers", "--layout wmh, whose further raters are known", args.layout,
                        "Leave it out.")
    if args.test and args.layout != "wmh":
        raise UserError("--test", "--layout wmh, whose test scans are public", args.layout,
                        "Leave it out.")
    if args.observers and not args.fetch:
        raise UserError("--observers", "--fetch beside it", "none",
                        "Add --fetch, or leave out --observers.")
    if args.file and args.layout != "isles":
        raise UserError("--file", "--layout isles, which is one archive", args.layout,
                        "Leave it out.")
    if args.server is None:
        args.server = SERVERS[args.layout]
    return args


def archives_in(raw, spec, args):
    """The zips of the training set in `raw`.

    They are those of the challenge's own names or, for ISLES, the one that Zenodo has.

    Raises:
        UserError: several may be it, or --file names none and nothing is to be fetched.
    """
    archives = [raw / name for name in ARCHIVES[args.layout]
                if (raw / name).is_file() and args.file in (None, name)]
    if archives or args.layout != "isles":
        return archives
    zips = [path for folder in (raw, raw / "isles") if folder.is_dir()
            for path in sorted(folder.iterdir()) if path.is_file() and zenodo.is_zip(path.name)]
    if not zips and not args.file or scans_below(raw, spec):
        return []

    names = [path.name for path in zips]
    fitting = [name for name in names if name == args.file] if args.file else zenodo.fitting(names)
    if args.file and not fitting and not args.fetch:
        raise UserError(raw / args.file, "a zip of the training set", "no such file",
                        "Correct the name, or have it fetched.")
    if len(fitting) > 1:
        raise UserError(raw, "one archive of the ISLES 2018 training set", ", ".join(fitting),
                        zenodo.CHOOSE)
    return [path for path in zips if path.name in fitting]


def fetch_missing(raw, spec, args):
    """Fetch what is missing from DataverseNL or Zenodo.

    If the server does not answer and nothing was begun, its error is returned, not raised.
    """
    subjects = scans_below(raw, spec)
    folder, tests = find_test_folder(raw, spec) if args.test else (None, [])
    if any(map(is_phantom, (*subjects, *tests))):
        log(f"{raw}: phantom scans; nothing is fetched beside them")
        return None
    if (has_all(subjects, spec.n_subjects)
            and (not args.observers or dataverse.has_raters(raw, spec.n_subjects))
            and (not args.test or has_all(tests, sum(spec.test_sites.values())))):
        return None
    try:
        if args.layout == "wmh":
            place = (folder or raw / "wmh" / "test") if args.test else None
            dataverse.fetch_wmh(raw, subjects, args.server, args.observers, place)
        elif not subjects:  # it is one archive: nothing is fetched beside scans that are there
            archive = zenodo.fetch_isles(raw, args.server, args.file)
            unpack_archives([archive], raw / args.layout, spec, {})
    except Unreachable as error:
        needed = args.observers or args.test and not tests
        if subjects and (needed or (raw / "wmh" / dataverse.TERMS_FILE).exists()):
            raise
        return error
    return None


def has_all(subjects, count):
    """Are there so many subjects that lack no file?"""
    return sum(all(subject.files.values()) for subject in subjects) >= count
