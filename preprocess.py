"""Raw scans to what training reads: 2-D slices, labels, distance maps and their index.

Examples:
  python preprocess.py --layout wmh --raw data/raw/wmh --out data/wmh
  python preprocess.py --layout isles --raw data/raw/isles --out data/isles --split code2018
  python preprocess.py --layout isles --raw data/raw/isles --out data/isles2 --patients auto
  python preprocess.py --layout wmh --raw scans/ --out data/mine --patients patients.csv --jobs 8
  python preprocess.py --layout wmh --raw data/raw/wmh --verify
  python preprocess.py --layout nnunet --raw nnUNet_raw/Dataset001_Lesions --out data/lesions
  python preprocess.py --layout my.toml --raw scans/ --out data/mine

Each modality is min-max normalised over its volume and resampled in plane to --size (Section 3.2 of
the paper), labels to the nearest pixel; --normalise takes percentiles or the z-score instead. With
--fill PX the scan is resampled to PX pixels and put in the middle of slices of --size, whose rest
is background: its lesions get smaller, and masks still come back to its grid. phi_G, the signed
distance to the lesions' boundary, is computed once: per slice, zero on those without a lesion, or
with --map-dims 3 per volume. What a layout is made of is said in docs/data.md; subjects are found
at any depth below --raw.

Every scan is checked: all files there and readable, one 3-D grid, finite intensities with contrast,
known labels. If any has a problem, all problems are listed and nothing is written. The same command
on an unfinished folder continues; on a finished one it converts only the scans that have changed.

Written to --out:
  subjects/<scan>/images.npy     (slices, modalities, size, size) uint16, 0 to 65535 for the
                                 volume's least to greatest intensity, or from percentile to
                                 percentile
  subjects/<scan>/labels.npy     (slices, size, size) uint8 classes
  subjects/<scan>/distance.npy   (slices, classes - 1, size, size) float32 phi_G, px or mm:
                                 negative inside
  subjects/<scan>/meta.json      spacing in mm, geometry, range of intensities, sha256 of the files;
                                 with --normalise zscore mean and standard deviation, by which the
                                 images are normalised where they are read
  references/<scan>.nii.gz       classes on the scan's own grid, 255 where the challenge's
                                 evaluation leaves voxels out
  split.csv                      which subjects train and which validate, and whose they are, a
                                 number for each patient, where that is known
  index.csv                      one row for each slice
  dataset.json                   the settings
  fingerprint.json               what the set is like

Exit status: 0, or 2 with one line that says what is wrong and what to do.
"""

if __name__ == "__main__":  # imports this file as a module; see start
    from utils import start
    start("preprocess")

import shlex
import sys
from functools import partial
from pathlib import Path

from distance import CONVENTIONS
from scans import folder
from scans.checks import check_all
from scans.convert import convert_all, make_settings
from scans.datasets import find_subjects, pick_subjects
from scans.fingerprint import (
    print_fingerprint,
    print_patients,
    print_raw_fingerprint,
    raw_facts,
    raw_fingerprint,
    summarise,
    warn_of_copies,
    warn_of_positive_maps,
)
from scans.inputs import DataFolders, refuse_inputs
from scans.layouts import (
    naming_what_fits,
    note_test_folders,
    read_layout,
    warn_of_other_folders,
    warn_of_unnamed,
)
from scans.patients import known_patients
from scans.splits import (
    check_written,
    choose_split,
    default_val,
    is_table,
    least_drawn,
    patients_of,
    split_code2018,  # noqa: F401  (other people's scripts import it from here)
)
from utils import UserError, argument_parser, clock, exclusive, keep_freed_memory


def main(argv=None):
    args, elapsed = parse_arguments(argv), clock()
    keep_freed_memory()

    # The scans
    duplicates, unnamed, own = {}, [], DataFolders(args.out)
    with naming_what_fits(args.raw):
        args.layout, spec = read_layout(args.layout, args.raw)
        found = find_subjects(args.raw, spec, duplicates, own, unnamed)
    warn_of_unnamed(unnamed, args.layout)
    warn_of_other_folders(args.raw, spec, found, own)
    if args.verify:
        note_test_folders(args.raw, spec, own)
    split_later = args.subjects is not None and not args.verify
    least = least_drawn(found, args.seed, spec, args.patients) if split_later else 2
    subjects = pick_subjects(found, args.subjects, args.seed, least)
    names = [subject.name for subject in subjects]

    # Which of them train and which validate; a table that does not fit is refused here
    patients = patients_of(subjects, spec, args.patients)
    split_given = args.split is not None
    args.val = args.val or default_val(names, spec, patients)
    args.split = args.split or ("code2018" if args.protocol == "code2018" else "random")
    split = None
    if split_given or not args.verify:
        split = choose_split(names, args.split, args.val, args.seed, patients)
        if args.folds and (found_folds := folder.count_folds(split)) != args.folds:
            raise UserError(args.split, f"{args.folds} folds, as --folds (FOLDS) says",
                            found_folds or "train and val", "Correct one of the two.")

    known = patients or known_patients(subjects, spec)
    if args.verify:
        verify(subjects, spec, args.jobs, duplicates, split, known)
        return 0

    # A folder of another data set is refused here, before the long check of the scans
    out = Path(args.out)
    tables = [path for path in (args.split, args.patients) if path and is_table(path)]
    refuse_inputs([folder.split_path(out), folder.index_path(out)], tables)
    settings = make_settings(args, spec, subjects, split, patients)
    folder.refuse_other_settings(out, settings)
    check_written(folder.split_path(out), split)

    with exclusive(out):
        converted = convert_all(subjects, spec, out, settings, args.jobs, duplicates)

        rows, fingerprint = summarise(out, split, list(spec.modalities), known)
        folder.write_split(out, split, known)
        folder.write_fingerprint(out, fingerprint)
        folder.write_index(out, rows)
        print_fingerprint(fingerprint)
        warn_of_positive_maps(settings["distance"], fingerprint["spacing_mm"]["min"])

        command = shlex.join(["python", "preprocess.py", *map(str, argv or sys.argv[1:])])
        folder.note_run_time(out, elapsed(), converted, len(subjects), command)
    return 0


def verify(subjects, spec, jobs, duplicates, split, patients):
    """Check every scan, and print what the set is like; UserError as for check_all."""
    facts = check_all(subjects, spec, jobs, partial(raw_facts, spec=spec), duplicates,
                      desc="checking")
    sources = {fact["subject"]: fact["sources"] for fact in facts}
    warn_of_copies(sources, split, patients)
    print_patients(facts, spec)
    print_raw_fingerprint(raw_fingerprint(facts))


def parse_arguments(argv):
    parser = argument_parser(__doc__)
    add_arguments(parser.add_argument)
    args = parser.parse_args(argv)

    if not args.verify and not args.out:
        parser.error("--out is required unless --verify is given")
    if args.val and (args.split or "").startswith("folds:"):
        parser.error("--val: with folds every scan validates once; leave one of the two out")
    if args.protocol == "code2018" and args.map_dims == 3:
        parser.error("--map-dims 3: the 2018 code made a map for each slice; "
                     "leave one of the two options out")
    for name, least, most in (("size", 32, 4096), ("fill", 8, args.size), ("jobs", 1, 256),
                              ("seed", 0, 2**63 - 1), ("val", 1, 10**6)):
        value = getattr(args, name)
        if value is not None and not least <= value <= most:
            parser.error(f"--{name}: at least {least} and at most {most}, found {value}")
    if args.fill == args.size:
        args.fill = None
    return args


def add_arguments(add):
    # Scans in, data folder out
    add("--layout", required=True, metavar="NAME",
        help="wmh, isles, acdc, nnunet, bids, or your own: my.toml (see docs/data.md)")
    add("--raw", required=True, metavar="FOLDER",
        help="folder of scans; subjects are found at any depth")
    add("--out", metavar="FOLDER", help="data folder to write, e.g. data/wmh")
    add("--subjects", type=int, metavar="N",
        help="use only this many subjects, drawn by seed (default all)")
    add("--verify", action="store_true", help="check the scans, write nothing")

    # Training and validation
    add("--val", type=int, metavar="N",
        help="validation subjects (default: 10 of 60 for wmh, 20 of 94 for isles, else that share)")
    add("--split", metavar="HOW", help="random (default), code2018 (the authors' split), folds:N "
        "(cross-validation, by patient where known) or a CSV with columns subject, subset")
    add("--folds", type=int, metavar="N", help="how many folds the table of --split must have")
    add("--patients", metavar="HOW", help="auto, by the scans' own files (isles; with acdc "
        "and bids always), or a CSV with columns subject, patient: all scans of a patient then "
        "fall in one subset (94 scans of ISLES are of 63 patients); --val is then the most scans, "
        "not the exact number")
    add("--seed", type=int, default=0, metavar="K",
        help="seed of the random split and of --subjects (default 0)")

    # What is made of a scan
    add("--size", type=int, default=256, metavar="PX",
        help="in-plane size of a slice (default 256)")
    add("--fill", type=int, metavar="PX",
        help="resample the scan to PX pixels in plane and surround it with background up to --size "
        "(default: no border)")
    add("--normalise", choices=folder.NORMALISATIONS, default="minmax", metavar="HOW",
        help="each volume by its least and greatest intensity (default minmax, the paper's), "
        "percentiles: cut to its 0.5th and 99.5th, or zscore: to mean 0 and standard deviation 1, "
        "by meta.json's moments")
    add("--protocol", choices=("paper", "code2018"), default="paper",
        help="code2018: integer official maps, labels interpolated linearly, the authors' split "
        "(default paper)")
    add("--convention", choices=CONVENTIONS, default="paper",
        help="distance map: paper, to the boundary's points and 0 on them, or official, that of "
        "the authors' code, EDT outside and -(EDT - 1) inside, 1 px or 1 mm (default paper)")
    add("--unit", choices=("px", "mm"), default="px",
        help="unit of the distance map; mm uses the resampled spacing (default px)")
    add("--map-dims", type=int, choices=(2, 3), default=2,
        help="2: a distance map for each slice; 3: one of the volume, of which each slice takes "
        "its part (default 2)")
    add("--jobs", type=int, default=2, metavar="N",
        help="scans at a time, each with some 0.4 GiB (default 2)")
