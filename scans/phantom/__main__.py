"""Write a synthetic data set in the exact layout of the WMH 2017, ISLES 2018 or ACDC challenge.

Examples:
  python -m scans.phantom --layout wmh --out raw/wmh_phantom
  python -m scans.phantom --layout isles --out raw/isles_phantom --scale full --jobs 8
  python -m scans.phantom --layout wmh --out raw/tiny --subjects 4 --size 48 --slices 6

It exists to run and test all programs without patient data. Numbers measured on it say nothing
about patients: every NIfTI header carries descrip = "phantom", and PHANTOM.json in the output
folder lists all parameters. The head and its lesions are in head.py and lesions.py, the scanners
and intensities in wmh.py and isles.py, the heart (three classes, two frames per patient) in
acdc.py.

The training scans have the challenges' own numbers; those of wmh come with some of its public
test set. Demo scale makes small scans in seconds; full scale has the challenges' matrix sizes and
spacings. Voxels depend only on --seed, the subject's place in its site, and the scale, so more
subjects or other --jobs give the same ones. The same command continues an unfinished folder; one of
other parameters is refused.

Exit status: 0, or 2 with one line that says what is wrong.
"""

if __name__ == "__main__":  # imports this file as a module; see start
    from utils import start
    start("scans.phantom.__main__")

import json
from dataclasses import asdict
from pathlib import Path

from scans.phantom.acdc import HEART
from scans.phantom.grid import DEMO
from scans.phantom.head import HEAD, NUCLEI, TISSUES, VENTRICLES
from scans.phantom.isles import ISLES
from scans.phantom.lesions import DISTRACTORS, STROKE, WMH
from scans.phantom.wmh import TEST_PLACES, TEST_SITES
from scans.phantom.write import subject_path, write_all
from utils import UserError, argument_parser, log, read_json, remove, write_json

DEFAULT_SUBJECTS = {
    ("wmh", "demo"): 12, ("wmh", "full"): 60,
    ("isles", "demo"): 16, ("isles", "full"): 94,
    ("acdc", "demo"): 10, ("acdc", "full"): 100}

# The wmh sites have as many training and test numbers; those of two sites never meet
MOST_SUBJECTS = {"wmh": 75, "isles": 999, "acdc": 999}
TEST_SCANS = 5  # one of each site, so that a test/ folder is beside training/

NOTE = ("Synthetic data, not patients. Lengths in mm, volumes in mm^3, angles in degrees; MR "
        "intensities relative to white matter = 1; CT in HU, CBF in mL/100 g/min and CBV in "
        "mL/100 g (their files hold tenths), MTT and Tmax in s; CT_4DPWI holds two time points and "
        "is not meant to be read. The tables are explained in scans/phantom/.")


def main(argv=None):
    args = parse_arguments(argv)
    check_options(args)
    prepare_folder(args.out, parameters(args))

    scans = [*((args.layout, k) for k in range(args.subjects)),
             *(("wmh-test", k) for k in range(args.test or 0))]
    missing = [(kind, k) for kind, k in scans if not (args.out / subject_path(kind, k)).exists()]
    write_all([(args.out, kind, args.seed, k, args.size, args.slices) for kind, k in missing],
              args.jobs)
    log(f"{args.out}: {len(scans)} {args.layout} phantom scans ({len(missing)} new)")
    return 0


def parse_arguments(argv):
    parser = argument_parser(__doc__, "python -m scans.phantom")
    add = parser.add_argument
    add("--layout", required=True, choices=MOST_SUBJECTS,
        help="FLAIR and T1, CT with four perfusion maps, or cine MRI of the heart")
    add("--out", required=True, type=Path, metavar="FOLDER",
        help="folder to write; a second run continues it")
    add("--subjects", type=int, metavar="N",
        help="scans, or patients of acdc with two scans each (default: wmh 12, at full scale 60; "
        "isles 16 and 94; acdc 10 and 100)")
    add("--test", type=int, metavar="N",
        help="wmh: scans in test/, up to the challenge's 110, which no training reads (default "
        f"{TEST_SCANS}, one of each scanner)")
    add("--scale", default="demo", choices=("demo", "full"),
        help="small scans, or the challenge's sizes (default demo)")
    add("--size", type=int, metavar="PX", help="demo scale: longer in-plane side (default 96)")
    add("--slices", type=int, metavar="N",
        help="demo scale: slices of wmh (default 12) and acdc (8); at most this many of isles (8)")
    add("--seed", type=int, default=0, metavar="K", help="determines every voxel (default 0)")
    add("--jobs", type=int, default=2, metavar="N", help="processes, a scan each (default 2)")
    return parser.parse_args(argv)


def check_options(args):
    """Fill in the defaults that depend on other options; UserError for a value out of range."""
    if args.scale == "full" and (args.size or args.slices):
        raise UserError("--size/--slices", "neither with --scale full", "one",
                        "Use --scale demo, or leave them out.")

    if args.scale == "demo":
        args.size = DEMO["size"] if args.size is None else args.size
        default = DEMO["slices"].get(args.layout, 8)
        args.slices = default if args.slices is None else args.slices
    if args.subjects is None:
        args.subjects = DEFAULT_SUBJECTS[args.layout, args.scale]

    if args.test is not None and args.layout != "wmh":
        raise UserError("--test", "--layout wmh, whose test scans are public", args.layout,
                        "Leave it out.")
    if args.layout == "wmh" and args.test is None:
        args.test = TEST_SCANS

    limits = {"subjects": (1, MOST_SUBJECTS[args.layout]), "test": (0, len(TEST_PLACES)),
              "size": (32, 512), "slices": (2, 64), "jobs": (1, 256), "seed": (0, 2**32 - 1)}
    for name, (low, high) in limits.items():
        value = getattr(args, name)
        if value is not None and not low <= value <= high:
            raise UserError(f"--{name}", f"a number from {low} to {high}", value,
                            "Choose another.")


def parameters(args):
    """Everything the voxels depend on, as JSON values; written to PHANTOM.json."""
    if args.layout == "acdc":
        tables = {"heart": HEART}
    else:
        tables = {"tissues": TISSUES, "head": HEAD, "ventricles": VENTRICLES, "nuclei": NUCLEI}
    if args.layout == "wmh":
        sites = [asdict(site) for site in TEST_SITES]
        tables |= {"wmh": WMH, "distractors": DISTRACTORS, "sites": sites}
    elif args.layout == "isles":
        tables |= {"stroke": STROKE, "isles": ISLES}

    values = {
        "note": NOTE, "layout": args.layout, "scale": args.scale, "subjects": args.subjects,
        "test": args.test, "seed": args.seed, "size": args.size, "slices": args.slices,
        "demo": DEMO, **tables}
    return json.loads(json.dumps(values))  # tuples become lists, as they are when read back


def prepare_folder(out, wanted):
    """Make `out` ready: new, or a phantom of the same parameters.

    Anything else is refused, real data above all.
    """
    record, do = out / "PHANTOM.json", "Choose another --out, or delete that folder."
    if record.exists():
        found = read_json(record, do)
        if not isinstance(found, dict):
            raise UserError(record, "the parameters of a phantom", type(found).__name__, do)
        for name, value in wanted.items():
            if name != "note" and found.get(name) != value:
                raise UserError(record, f"{name} = {brief(value)}", brief(found.get(name)), do)
    elif out.exists() and any(".partial-" not in path.name for path in out.iterdir()):
        raise UserError(out, "an empty folder or a phantom", "other files", do)
    else:
        write_json(record, wanted)

    for leftover in list(out.rglob("*.partial-*")):  # of a run that was killed
        remove(leftover)


def brief(value):
    """A JSON value for an error of one line."""
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:50] + " ..."
