"""Raw scans to what training reads: 2-D slices, labels, distance maps and their index.

Examples:
  python preprocess.py --layout wmh --raw data/raw/wmh --out data/wmh
  python preprocess.py --layout isles --raw data/raw/isles --out data/isles --split code2018
  python preprocess.py --layout wmh --raw scans/ --out data/mine --patients patients.csv --jobs 8
  python preprocess.py --layout wmh --raw data/raw/wmh --verify

Each modality is min-max normalised over its volume and resampled in plane to --size (Section 3.2 of the paper), labels
to the nearest pixel. phi_G, the signed distance to the lesions' boundary, is computed once: per slice, zero on those
without a lesion, or with --map-dims 3 per volume. What a layout is made of stands in scans/datasets.py; subjects are
found at any depth below --raw.

Every scan is checked: files there and readable, one 3-D grid, finite intensities with contrast, known labels. Where one
has a problem, all problems are listed and nothing is written. The same command on an unfinished folder continues; on a
finished one it converts again only the scans that have changed.

Written to --out:
  subjects/<scan>/images.npy     (slices, modalities, size, size) uint16, 0 to 65535 for the volume's least to greatest
  subjects/<scan>/labels.npy     (slices, size, size) uint8 classes
  subjects/<scan>/distance.npy   (slices, classes - 1, size, size) float32 phi_G, px or mm: negative inside
  subjects/<scan>/meta.json      spacing in mm, geometry, range of intensities, sha256 of the scan's files
  references/<scan>.nii.gz       classes on the scan's own grid, 255 where the challenge's evaluation leaves voxels out
  split.csv, index.csv, dataset.json, fingerprint.json   subsets; one row a slice; settings; what the set is like

Exit status: 0, or 2 with one line that says what is wrong and what to do.
"""

if __name__ == "__main__":  # imports this file as a module; see start
    from utils import start
    start("preprocess")

import hashlib
from functools import partial
from pathlib import Path

import numpy as np

from distance import CONVENTIONS
from scans import folder
from scans.checks import check_all, verify
from scans.convert import convert_subject
from scans.datasets import find_subjects, get_spec, is_phantom, recognise, source_hashes
from scans.folder import Dataset, reference_of
from scans.splits import check_written, choose_split, read_patients, split_code2018, split_settings  # noqa: F401
from utils import (
    UserError,
    argument_parser,
    clock,
    exclusive,
    keep_freed_memory,
    log,
    read_json,
    remove,
    run_program,
    write_json,
)

REDO = "Remove this subject's folder and repeat the command."
PENDING = ".pending"     # in a data folder: subjects converted while others still wait for their checks


def summarise(out, split, spec):
    """index rows and fingerprint of a finished data folder, read back from what was written."""
    rows, metas = [], []
    for name in sorted(split):
        pixels = (folder.open_array(out, name, "labels") > 0).sum(axis=(1, 2))
        metas.append(folder.read_meta(out, name, ("intensity_range", "sha256", "sources"), REDO))
        rows += [{"subject": name, "slice": index, "subset": split[name], "foreground_pixels": int(count)}
                 for index, count in enumerate(pixels)]
    settings = read_json(out / "dataset.json")

    def part(chosen):
        counts = np.array([row["foreground_pixels"] for row in chosen])
        return {"subjects": len({row["subject"] for row in chosen}), "slices": len(counts),
                "empty_fraction": float((counts == 0).mean()),
                "foreground_ratio": float(counts.mean() / settings["size"] ** 2)}

    ranges = np.array([meta.intensity_range for meta in metas])                        # (subjects, C, 2)
    spacing = np.array([meta.spacing_mm for meta in metas])
    made = {key: value for key, value in settings.items() if key != "name"}  # a folder may be renamed
    digest = hashlib.sha256(repr((made, split, [meta.sha256 for meta in metas])).encode()).hexdigest()
    fingerprint = {
        **part(rows), "train": part([row for row in rows if row["subset"] == "train"]),
        "val": part([row for row in rows if row["subset"] == "val"]),
        "intensity_range": {name: [float(ranges[:, c, 0].min()), float(ranges[:, c, 1].max())]
                            for c, name in enumerate(spec.modalities)},
        "spacing_mm": {"min": spacing.min(0).tolist(), "max": spacing.max(0).tolist()}, "sha256": digest}
    return rows, fingerprint


def print_fingerprint(fingerprint):
    for subset in ("train", "val"):
        part = fingerprint[subset]
        log(f"{subset:>5}: {part['subjects']} subjects, {part['slices']} slices, {part['empty_fraction']:.1%} empty, "
            f"foreground {part['foreground_ratio']:.3%} of the pixels")
    ranges = ", ".join(f"{name} {low:g} to {high:g}" for name, (low, high) in fingerprint["intensity_range"].items())
    log(f"intensities: {ranges}; fingerprint {fingerprint['sha256'][:12]}")


def make_settings(args, spec, subjects):
    """dataset.json: what this data folder is and how it was made; equal settings may continue in one folder."""
    code2018 = args.protocol == "code2018"
    source = "phantom" if any(map(is_phantom, subjects)) else "challenge" if recognise(subjects, spec) else "own"
    return {
        "name": Path(args.out).name, "layout": args.layout, "source": source, "modalities": list(spec.modalities),
        "classes": list(spec.classes), "ignore": list(spec.ignore), "size": args.size, "protocol": args.protocol,
        "distance": {"convention": "official" if code2018 else args.convention, "unit": args.unit, "dims": args.map_dims,
                     "truncate": code2018},
        "label_interpolation": "linear2018" if code2018 and args.layout == "wmh" else "nearest",
        "split": {"how": args.split or ("code2018" if code2018 else "random"), "seed": args.seed, "val": args.val},
        "subjects": [subject.name for subject in subjects]}


def check_folder(out, settings):
    """Raise UserError unless `out` is new, empty, or begun with the same settings."""
    path = out / "dataset.json"
    if path.exists():
        old = folder.read_dataset(out, "Choose another --out, or remove that folder.").as_dict()
        different = [key for key in settings if key != "name" and old.get(key) != settings[key]]  # a folder may be renamed
        if different:
            key = different[0]
            raise UserError(out, "a new folder or one of the same settings",
                            f"a data set with another {key} ({told_apart(old.get(key), settings[key])})",
                            "Choose another --out (with make, another NAME), or remove that folder.")
    elif out.exists() and (inside := [entry.name for entry in out.iterdir() if entry.name not in (".lock", PENDING)]):
        raise UserError(out, "a new or empty folder", f"{inside[0]} in it", "Choose another --out.")


def is_current(subject, out):
    """True if this subject was converted from the files that it has now."""
    if not (out / "subjects" / subject.name / "meta.json").exists() or any(len(files) != 1 for files in subject.files.values()):
        return False
    try:
        return folder.read_meta(out, subject.name, ("sources",), REDO).sources == source_hashes(subject)
    except OSError:  # check_all says what is wrong
        return False


def told_apart(old, new):
    """"old, asked for new" in words; of two dicts the entries that differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        return "; ".join(f"{key} {told_apart(old.get(key), new[key])}" for key in new if old.get(key) != new[key])
    return f"{shorten(old)}, asked for {shorten(new)}"


def shorten(value):
    return text if len(text := str(value)) < 60 else f"{text[:57]}..."


def pick_subjects(subjects, limit, seed):
    """`limit` of the subjects drawn by seed (all when None), in their order."""
    if limit is None:
        return subjects
    if not 2 <= limit <= len(subjects):
        do = "There are no more subjects in this folder." if limit > 1 else "Training and validation need one each."
        raise UserError("--subjects", f"2 to {len(subjects)}", limit, do)
    return [subjects[index] for index in sorted(np.random.default_rng(seed).permutation(len(subjects))[:limit])]


def main(argv=None):
    args, elapsed = parse_arguments(argv), clock()
    keep_freed_memory()
    spec = get_spec(args.layout)
    duplicates = {}
    subjects = pick_subjects(find_subjects(args.raw, spec, duplicates), args.subjects, args.seed)
    if args.verify:
        verify(subjects, spec, args.jobs, duplicates)
        return 0
    args.val = args.val or max(1, round(len(subjects) * spec.n_val / spec.n_subjects))
    out, names = Path(args.out), [subject.name for subject in subjects]
    settings = make_settings(args, spec, subjects)
    patients = read_patients(args.patients, names) if args.patients else None
    if spec.scan_name and not patients:  # several scans of a patient lie in one folder
        patients = {subject.name: subject.folder.name for subject in subjects}
    how = settings["split"]["how"]
    split = choose_split(names, how, args.val, args.seed, patients)
    settings["split"] = split_settings(how, args.val, args.seed, split, patients)
    check_folder(out, settings)  # before the long check of the scans
    check_written(out / "split.csv", split)
    made = not out.exists()
    with exclusive(out):
        converted = convert_all(subjects, spec, out, settings, args.jobs, duplicates, made)
        finish(out, split, spec)
        folder.note_run_time(out, elapsed(), converted, len(subjects))
    return 0


def convert_all(subjects, spec, out, settings, jobs, duplicates, made):
    """Check and convert the subjects that are not in `out` yet, each read once; returns how many.

    They are put aside until all have passed their checks, so that nothing is written, or replaced, where one has not.
    What a killed run has put aside is used by the next one of the same settings. `made`: this run has made `out`.
    """
    pending = out / PENDING
    if not (pending / "dataset.json").exists() or read_json(pending / "dataset.json") != settings:
        remove(pending)
        pending.mkdir()
        write_json(pending / "dataset.json", settings)
    for leftover in [*out.glob("*/*.partial-*"), *pending.glob("*/*.partial-*")]:  # of a run that was killed
        remove(leftover)
    todo = [subject for subject in subjects if not is_current(subject, out)]
    new = [subject for subject in todo if not is_current(subject, pending)]
    try:
        check_all(new, spec, jobs, partial(convert_subject, spec=spec, out=pending, settings=Dataset(**settings)), duplicates,
                  len(subjects), desc=f"preprocessing {settings['name']}")
    except UserError:
        remove(pending)
        if [entry.name for entry in out.iterdir()] == [".lock"]:
            remove(out if made else out / ".lock")
        raise
    remove(out / "index.csv")  # its presence says that the folder is complete
    write_json(out / "dataset.json", settings)
    for subject in todo:
        move(reference_of(pending, subject.name), reference_of(out, subject.name))
        move(pending / "subjects" / subject.name, out / "subjects" / subject.name)
    remove(pending)
    return len(new)


def move(source, target):
    """Put a file or a folder in the place of `target`; one that was moved by a run killed after it is there already."""
    if source.exists():
        target.parent.mkdir(exist_ok=True)
        remove(target)
        source.rename(target)


def finish(out, split, spec):
    rows, fingerprint = summarise(out, split, spec)
    folder.write_split(out, split)
    write_json(out / "fingerprint.json", fingerprint)
    folder.write_index(out, rows)
    print_fingerprint(fingerprint)


def parse_arguments(argv):
    parser = argument_parser(__doc__)
    add = parser.add_argument
    add("--layout", required=True, metavar="NAME", help="wmh, isles, or the name of your own DatasetSpec in scans/datasets.py")
    add("--raw", required=True, metavar="FOLDER", help="folder of scans; subjects are found at any depth")
    add("--out", metavar="FOLDER", help="data folder to write, e.g. data/wmh")
    add("--val", type=int, metavar="N",
        help="validation subjects (default: 10 of 60 for wmh, 20 of 94 for isles, else that share)")
    add("--split", metavar="HOW", help="random (default), code2018 (the authors' split) or a CSV with columns subject, subset")
    add("--patients", metavar="FILE.csv", help="table with columns subject, patient: all scans of a patient then fall in "
        "one subset (several ISLES cases are of one patient); --val is then the most scans, not the exact number")
    add("--seed", type=int, default=0, metavar="K", help="seed of the random split and of --subjects (default 0)")
    add("--size", type=int, default=256, metavar="PX", help="in-plane size of a slice (default 256)")
    add("--subjects", type=int, metavar="N", help="use only this many subjects, drawn by seed (default all)")
    add("--protocol", choices=("paper", "code2018"), default="paper", help="code2018: integer official maps, labels "
        "interpolated linearly, the authors' split (default paper)")
    add("--convention", choices=CONVENTIONS, default="paper", help="distance map: "
        "to the boundary's points, 0 on them, or that of the authors' code, EDT outside and -(EDT - 1) inside (default paper)")
    add("--unit", choices=("px", "mm"), default="px", help="of the distance map; mm counts the resampled spacing "
        "(default px)")
    add("--map-dims", type=int, choices=(2, 3), default=2, help="a distance map per slice, or one of the volume, of which "
        "each slice takes its part (default 2)")
    add("--jobs", type=int, default=2, metavar="N", help="scans at a time, each with some 0.4 GiB (default 2)")
    add("--verify", action="store_true", help="check the scans, write nothing")
    args = parser.parse_args(argv)
    if not args.verify and not args.out:
        parser.error("--out is required unless --verify is given")
    if args.protocol == "code2018" and args.map_dims == 3:
        parser.error("--map-dims 3: the 2018 code took a map per slice; leave one of the two options out")
    for name, least, most in (("size", 32, 4096), ("jobs", 1, 256), ("seed", 0, 2**63 - 1), ("val", 1, 10**6)):
        value = getattr(args, name)
        if value is not None and not least <= value <= most:
            parser.error(f"--{name}: at least {least} and at most {most}, found {value}")
    return args


if __name__ == "__main__":
    run_program(main)
