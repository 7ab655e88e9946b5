"""Raw scans -> 2-D slices, labels, distance maps and their index.

    python preprocess.py --layout wmh --raw data/raw/wmh --out data/wmh
    python preprocess.py --layout isles --raw data/raw/isles --out data/isles --split code2018
    python preprocess.py --layout wmh --raw data/raw/wmh --verify

Each scan is min-max normalised over its volume and resampled in plane (Section 3.2 of the paper); phi_G is computed
once per slice. Every input is checked before anything is written. A subject is written whole or not at all, and a
repeated command continues with those that are missing.
"""

import utils  # noqa: F401  isort: skip (first: Ctrl-C during the imports below is one line)

import argparse
import hashlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from torch.nn import functional

from datasets import find_subjects, get_spec, is_phantom, label_values, read_volume, recognise, source_hashes
from distance import CONVENTIONS, signed_distance, signed_distance_slices
from splits import check_written, choose_split, read_patients, split_code2018, split_settings  # noqa: F401
from stages import clock, note_preprocessing
from utils import (
    IGNORED,
    UserError,
    atomic_path,
    exclusive,
    log,
    progress,
    read_object,
    remove,
    run_program,
    write_csv,
    write_json,
)
from verify import check_all, print_ok, raw_fingerprint

META = {"spacing_mm": list, "intensity_range": list, "sha256": str, "sources": dict}  # what is read of meta.json here
REDO = "Remove this subject's folder and repeat the command."
INTENSITY_MAX = 65535  # images are stored as uint16: value / 65535 is the normalised intensity, exact to 8e-6


def convert_subject(subject, spec, out, settings):
    """Write one subject's folder: images, labels, distance maps and geometry.

    images.npy (S, C, H, W) uint16; labels.npy (S, H, W) uint8 classes; distance.npy (S, K - 1, H, W) float32 phi_G;
    the empty slices of the last two take no space on disk; meta.json. Beside it references/<name>.nii.gz: the classes on
    the scan's own grid, with 255 where the challenge's evaluation leaves voxels out.
    """
    size = settings["size"]
    volumes = [read_volume(subject.files[name][0])[0] for name in spec.modalities]
    raw_label, label_image = read_volume(subject.files["label"][0])
    raw_label = label_values(raw_label)
    images = network_input(volumes, size)
    labels = resample_label(raw_label, spec.label_map, size, settings["label_interpolation"])
    scale = np.array(raw_label.shape[:2]) / size
    spacing = nib.affines.voxel_sizes(label_image.affine) * [*scale, 1]
    with atomic_path(out / "references" / f"{subject.name}.nii.gz") as temporary:
        reference = nib.load(subject.files["label"][0])
        values = label_values(np.asanyarray(reference.dataobj).reshape(reference.shape[:3]))
        classes = label_lookup(spec.label_map)[values]
        classes[np.isin(values, spec.ignore)] = IGNORED
        temporary.write_bytes(gzipped(nib.Nifti1Image(classes, reference.affine)))
    with atomic_path(out / "subjects" / subject.name) as folder:
        folder.mkdir()
        np.save(folder / "images.npy", images)
        save_sparse(folder / "labels.npy", labels)
        maps = distance_maps(labels, len(spec.classes), spacing, settings["distance"])
        digest = hashlib.sha256(images.tobytes() + labels.tobytes() + maps.tobytes()).hexdigest()
        save_sparse(folder / "distance.npy", maps)
        write_json(folder / "meta.json", {
            "subject": subject.name, "spacing_mm": [float(value) for value in spacing],
            "original_shape": list(map(int, reference.shape[:3])), "affine": reference.affine.tolist(),
            "intensity_range": [[float(v.min()), float(v.max())] for v in volumes], "sha256": digest,
            "sources": source_hashes(subject)})


def network_input(volumes, size):
    """What a network sees of a scan: (X, Y, Z) intensities of each modality -> (S, C, size, size) uint16.

    The only place where scans are normalised and resampled, for training and prediction alike.
    """
    images = np.stack([resample(normalise(volume), size, "bilinear") for volume in volumes], axis=1)  # (S, C, H, W)
    return np.rint(images * INTENSITY_MAX).astype(np.uint16)


def distance_maps(labels, classes, spacing, how):
    """phi_G of every foreground class: (S, H, W) classes -> (S, K - 1, H, W) float32.

    Args:
        labels: (S, H, W) classes.
        classes: K.
        spacing: mm along x (rows), y (columns), z (slices).
        how: "distance" of dataset.json. With dims 2 every slice has a map of its own, zero on slices without the class;
            with dims 3 they are the slices of the volume's map. In px, a voxel of such a volume counts as a cube.
    """
    x, y, z = spacing
    measure, unit = (signed_distance, (z, x, y)) if how["dims"] == 3 else (signed_distance_slices, (x, y))
    maps = np.stack([measure(labels == k, unit if how["unit"] == "mm" else None, how["convention"])
                     for k in range(1, classes)], axis=1)
    return np.trunc(maps) if how["truncate"] else maps


def save_sparse(path, array):
    """np.save, but slices of zeros are skipped over: the file has holes there, which take no space on disk."""
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        start = file.tell()
        for index in np.flatnonzero(array.any(axis=tuple(range(1, array.ndim)))):
            file.seek(start + int(index) * array[0].nbytes)
            file.write(array[index].tobytes())
        file.truncate(start + array.nbytes)


def gzipped(image):
    """A NIfTI image as gzip bytes without a time stamp, so that equal images are equal files."""
    import gzip
    return gzip.compress(image.to_bytes(), compresslevel=5, mtime=0)


def normalise(volume):
    """(X, Y, Z) intensities -> float32 in [0, 1], min-max over the volume.

    In float64 throughout: float32 holds neither 1e9 + noise nor the range of a scan that reaches 3e38.
    """
    low, high = float(volume.min()), float(volume.max())
    return ((volume.astype(np.float64) - low) / (high - low)).astype(np.float32)


def resample(volume, size, mode):
    """(X, Y, Z) -> (Z, size, size): every axial slice resampled in plane, rows = x, columns = y."""
    slices = torch.from_numpy(np.ascontiguousarray(np.moveaxis(volume, 2, 0)))[:, None]   # (Z, 1, X, Y)
    if slices.shape[2:] != (size, size):
        align = {"align_corners": False} if mode == "bilinear" else {}
        slices = functional.interpolate(slices, (size, size), mode=mode, **align)
    return slices[:, 0].numpy()


def resample_label(raw_label, label_map, size, interpolation):
    """(X, Y, Z) label values -> (Z, size, size) uint8 classes.

    "nearest" maps the values to classes, then takes the nearest pixel. "linear2018" repeats the authors' code, which
    interpolated the values linearly, cut them to integers and only then dropped label 2.
    """
    lookup = label_lookup(label_map)
    if interpolation == "linear2018":
        return lookup[resample(raw_label.astype(np.float32), size, "bilinear").astype(np.int64)]
    return resample(lookup[raw_label.astype(np.int64)], size, "nearest-exact")


def label_lookup(label_map):
    """Array of classes indexed by label value."""
    lookup = np.zeros(max(label_map) + 1, np.uint8)
    lookup[list(label_map)] = list(label_map.values())
    return lookup


def restore_mask(mask, meta):
    """A mask on the network's grid back on the scan's own: the inverse of `convert_subject`, by the nearest pixel.

    Args:
        mask: (S, H, W) uint8 classes, or float32 of any kind.
        meta: the subject's meta.json.

    Returns:
        nibabel Nifti1Image with the scan's shape, orientation and affine.
    """
    affine, shape = np.array(meta["affine"]), meta["original_shape"]
    to_ras = nib.io_orientation(affine)
    ras_shape = [0, 0, 0]
    for axis, (target, _) in enumerate(to_ras):
        ras_shape[int(target)] = shape[axis]
    slices = functional.interpolate(torch.from_numpy(mask)[:, None], tuple(ras_shape[:2]), mode="nearest-exact")
    volume = np.moveaxis(slices[:, 0].numpy(), 0, 2)                                      # (X, Y, Z) in RAS+
    back = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), to_ras)
    return nib.Nifti1Image(np.ascontiguousarray(nib.apply_orientation(volume, back)), affine)


def summarise(out, split, spec):
    """index rows and fingerprint of a finished data folder, read back from what was written."""
    rows, metas = [], []
    for name in sorted(split):
        folder = out / "subjects" / name
        pixels = (np.load(folder / "labels.npy", mmap_mode="r") > 0).sum(axis=(1, 2))
        metas.append(read_object(folder / "meta.json", META, REDO))
        rows += [{"subject": name, "slice": index, "subset": split[name], "foreground_pixels": int(count)}
                 for index, count in enumerate(pixels)]
    settings = read_object(out / "dataset.json", {"size": int})

    def part(chosen):
        counts = np.array([row["foreground_pixels"] for row in chosen])
        return {"subjects": len({row["subject"] for row in chosen}), "slices": len(counts),
                "empty_fraction": float((counts == 0).mean()),
                "foreground_ratio": float(counts.mean() / settings["size"] ** 2)}

    ranges = np.array([meta["intensity_range"] for meta in metas])                        # (subjects, C, 2)
    spacing = np.array([meta["spacing_mm"] for meta in metas])
    made = {key: value for key, value in settings.items() if key != "name"}  # a folder may be renamed
    digest = hashlib.sha256(repr((made, split, [meta["sha256"] for meta in metas])).encode()).hexdigest()
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
        old = read_object(path, ("layout", "split", "subjects"), "Choose another --out, or remove that folder.")
        different = [key for key in settings if key != "name" and old.get(key) != settings[key]]  # a folder may be renamed
        if different:
            key = different[0]
            found = f"{shorten(old.get(key))}, asked for {shorten(settings[key])}"
            raise UserError(out, "a new folder or one of the same settings", f"a data set with another {key} ({found})",
                            "Choose another --out, or remove that folder.")
    elif out.exists() and (inside := [entry.name for entry in out.iterdir() if entry.name != ".lock"]):
        raise UserError(out, "a new or empty folder", f"{inside[0]} in it", "Choose another --out.")


def is_current(subject, out):
    """True if this subject was converted from the files that it has now."""
    meta = out / "subjects" / subject.name / "meta.json"
    if not meta.exists() or any(len(files) != 1 for files in subject.files.values()):
        return False
    try:
        return read_object(meta, META, REDO)["sources"] == source_hashes(subject)
    except OSError:  # check_all says what is wrong
        return False


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
    torch.set_num_threads(1)  # the scans are what runs in parallel
    spec = get_spec(args.layout)
    duplicates = {}
    subjects = pick_subjects(find_subjects(args.raw, spec, duplicates), args.subjects, args.seed)
    if args.verify:
        print_ok(raw_fingerprint(check_all(subjects, spec, args.jobs, duplicates)))
        return 0
    args.val = args.val or max(1, round(len(subjects) * spec.n_val / spec.n_subjects))
    out, names = Path(args.out), [subject.name for subject in subjects]
    settings = make_settings(args, spec, subjects)
    patients = read_patients(args.patients, names) if args.patients else None
    how = settings["split"]["how"]
    split = choose_split(names, how, args.val, args.seed, patients)
    settings["split"] = split_settings(how, args.val, args.seed, split, patients)
    check_folder(out, settings)  # before the long check of the scans
    check_written(out / "split.csv", split)
    todo = [subject for subject in subjects if not is_current(subject, out)]
    check_all(todo, spec, args.jobs, duplicates, len(subjects))
    with exclusive(out):
        convert_all(todo, spec, out, settings, args.jobs)
        finish(out, split, spec)
        note_preprocessing(out, elapsed(), len(todo), len(subjects))
    return 0


def convert_all(todo, spec, out, settings, jobs):
    for leftover in out.glob("*/*.partial-*"):  # of a run that was killed
        remove(leftover)
    remove(out / "index.csv")  # its presence says that the folder is complete
    write_json(out / "dataset.json", settings)
    with ThreadPoolExecutor(jobs) as pool:
        work = pool.map(partial(convert_subject, spec=spec, out=out, settings=settings), todo)
        list(progress(work, total=len(todo), desc=f"preprocessing {settings['name']}", unit="scan"))


def finish(out, split, spec):
    rows, fingerprint = summarise(out, split, spec)
    write_csv(out / "split.csv", [{"subject": name, "subset": split[name]} for name in sorted(split)])
    write_json(out / "fingerprint.json", fingerprint)
    write_csv(out / "index.csv", rows)
    print_fingerprint(fingerprint)


def parse_arguments(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--layout", required=True, help="wmh, isles, or the name of your own DatasetSpec in datasets.py")
    add("--raw", required=True, help="folder of scans; subjects are found at any depth")
    add("--out", help="data folder to write, e.g. data/wmh")
    add("--val", type=int, help="validation subjects (default: 10 of 60 for wmh, 20 of 94 for isles, else that share)")
    add("--split", help="random (default), code2018 (the authors' split) or a CSV with columns subject, subset")
    add("--patients", metavar="FILE.csv", help="table with columns subject, patient: all scans of a patient then fall in "
        "one subset (several ISLES cases are of one patient); --val is then the most scans, not the exact number")
    add("--seed", type=int, default=0, help="seed of the random split and of --subjects (default 0)")
    add("--size", type=int, default=256, help="in-plane size in pixels (default 256)")
    add("--subjects", type=int, help="use only this many subjects, drawn by seed")
    add("--protocol", choices=("paper", "code2018"), default="paper", help="code2018: integer official maps, labels "
        "interpolated linearly, the authors' split (default paper)")
    add("--convention", choices=CONVENTIONS, default="paper", help="of the distance map (default paper)")
    add("--unit", choices=("px", "mm"), default="px", help="of the distance map (default px)")
    add("--map-dims", type=int, choices=(2, 3), default=2, help="a distance map per slice, or one of the volume, of which "
        "each slice takes its part (default 2)")
    add("--jobs", type=int, default=2, help="scans at a time (default 2)")
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
