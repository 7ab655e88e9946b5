"""The test scans of a challenge that has made them public: where they lie, and of which scanner.

Examples:
  python -m scans.test_scans --raw data/raw
  python -m scans.test_scans --layout wmh --raw /path/to/scans

They are looked for in a folder called test, as the WMH challenge has it, that is --raw or lies at
most three folders below. No other program enters such a folder, so what trains and validates is
never among them. Printed is the folder, for predict.py, once each scan is known to be complete.

Exit status: 0, or 2 with one line that says what is wrong and what to do.
"""

if __name__ == "__main__":  # imports this file as a module; see start
    from utils import start
    start("scans.test_scans")

import os
import re
import sys
from pathlib import Path

from scans.archives import scans_below
from scans.datasets import TEST, are_all_of, get_spec, is_phantom, site_of
from utils import UserError, argument_parser, is_hidden

FETCH = "Fetch them with make wmh TEST=yes, or check the path."


def find_test_folder(raw, spec):
    """(folder, its scans): the test folder at most three folders below `raw`, or `raw` itself.

    Returns:
        (Path, [Subject]), the scans sorted by name; (None, []) without one.

    Raises:
        UserError: there are several, or two scans of one name.
    """
    raw, found = Path(raw), {}
    places = [raw, *(place for depth in range(3) for place in sorted(raw.glob("*/" * depth + "*")))]
    for place in places:
        real = Path(os.path.realpath(place))
        is_new = not any(real.is_relative_to(other) for other in found)
        is_named_so = re.fullmatch(TEST, Path(os.path.abspath(place)).name)
        if not is_named_so or not is_new or not place.is_dir() or is_hidden(place, raw):
            continue
        if scans := scans_below(place, spec):
            found[real] = place, scans

    folders = [place for place, _ in found.values()]
    if len(folders) > 1:
        raise UserError(folders[1], "one folder of test scans", f"also {folders[0]}",
                        "Leave one of them there.")
    return next(iter(found.values()), (None, []))


def find_test_scans(raw, spec):
    """The same, of scans that are complete.

    Raises:
        UserError: there is none, or a scan lacks a file or has one twice.
    """
    if not spec.test_sites:
        raise UserError("--layout", "wmh, whose test scans are public", "another",
                        "Leave the test scans out.")
    folder, scans = find_test_folder(raw, spec)
    if not scans:
        raise UserError(raw, "a folder test/ with scans, at most three folders below", "none",
                        FETCH)

    for scan in scans:
        for kind, files in scan.files.items():
            if len(files) != 1:
                pattern = spec.modalities.get(kind, spec.label)
                raise UserError(scan.folder, f"one file {pattern}",
                                " and ".join(path.name for path in files) or "none",
                                "Complete the scan, or remove its folder.")
    return folder, scans


def scanner_of(scan, folder, spec):
    """The scanner of a test scan by its path: "Utrecht", or for others the folders below test/."""
    above = scan.folder.relative_to(folder).parent.as_posix()
    return site_of(scan, spec.test_sites) or ("unknown" if above == "." else above)


def source_of(scans, spec):
    """"challenge" for its complete test set, "phantom", or "own"."""
    if any(map(is_phantom, scans)):
        return "phantom"
    return "challenge" if are_all_of(scans, spec.test_sites) else "own"


def parse_arguments(argv):
    parser = argument_parser(__doc__, "python -m scans.test_scans")
    parser.add_argument("--layout", default="wmh", metavar="NAME",
                        help="how they lie there (default wmh)")
    parser.add_argument("--raw", required=True, type=Path, metavar="FOLDER",
                        help="folder of raw scans")
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_arguments(argv)
    spec = get_spec(args.layout)
    folder, scans = find_test_scans(args.raw, spec)
    count = sum(spec.test_sites.values())
    if len(scans) != count:
        print(f"warning: {folder}: {len(scans)} test scans, the challenge has {count}",
              file=sys.stderr)
    print(folder)
    return 0
