"""From raw scans to the arrays of the data folder."""

import hashlib
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np

from distance import signed_distance_of_scan
from scans import folder
from scans.checks import check_all
from scans.datasets import DATASETS, is_phantom, recognise, source_hashes
from scans.fingerprint import REDO
from scans.folder import IGNORED, PENDING, Dataset, array_order
from scans.geometry import BY_PREPROCESS, from_ras, image_like
from scans.nifti import label_values
from scans.resampling import gzipped, label_lookup, moments, network_input, resample_label
from scans.spec_file import to_plain
from scans.splits import split_settings
from utils import UserError, atomic_path, read_json, remove, write_json

BLOCK = 4096             # bytes that a file system gives to a file at least


def make_settings(args, spec, subjects, split, patients):
    """dataset.json: what the data folder is and how it was made.

    Runs of equal settings may continue in one folder.

    Args:
        args: options of preprocess.py, with --split and --val filled in.
        spec: the DatasetSpec.
        subjects: those that the folder will hold.
        split: {subject: "train" or "val"}.
        patients: {subject: patient}, or None.
    """
    code2018 = args.protocol == "code2018"
    challenge = recognise(subjects, spec)
    source = "phantom" if any(map(is_phantom, subjects)) else "challenge" if challenge else "own"
    described = {} if args.layout in DATASETS else {"spec": to_plain(spec)}
    # without it nothing new, as in older folders
    filled = {"fill": args.fill} if args.fill else {}
    normalised = {"normalise": args.normalise} if args.normalise != "minmax" else {}

    return {
        "name": Path(args.out).name, "layout": args.layout, **described, "source": source,
        "modalities": list(spec.modalities), "classes": list(spec.classes),
        "ignore": list(spec.ignore), "size": args.size, **filled, **normalised,
        "protocol": args.protocol,
        "distance": {"convention": "official" if code2018 else args.convention,
                     "unit": args.unit, "dims": args.map_dims, "truncate": code2018},
        "label_interpolation": "linear2018" if code2018 and args.layout == "wmh" else "nearest",
        "split": split_settings(args.split, args.val, args.seed, split, patients),
        "subjects": [subject.name for subject in subjects]}


# All scans ----------------------------------------------------------------------------------------

def convert_all(subjects, spec, out, settings, jobs, duplicates):
    """Check and convert the subjects that are not in `out` yet, each read once.

    They are put aside until all have passed their checks, so that nothing is written or replaced
    when one has not. What a killed run has put aside is used by the next one of the same settings.

    Args:
        out: the data folder, which this process holds.
        settings: dataset.json.
        jobs: scans at a time.
        duplicates: problems found while looking for the subjects, see `check_all`.

    Returns:
        the number of scans that were converted.
    """
    pending, dataset = prepare_pending(out, settings), Dataset(**settings)
    is_finished = folder.index_path(out).exists()
    outdated = [subject for subject in subjects
                if not is_current(subject, out, dataset, sums=not is_finished)]
    to_convert = [subject for subject in outdated
                  if not is_current(subject, pending, dataset, sums=True)]
    convert = partial(convert_subject, spec=spec, out=pending, settings=dataset)
    try:
        check_all(to_convert, spec, jobs, convert, duplicates, len(subjects),
                  desc=f"preprocessing {settings['name']}")
    except UserError:
        remove(pending)
        raise

    folder.mark_unfinished(out)
    folder.write_dataset(out, settings)
    for subject in outdated:
        # The reference first: a subject's folder, once there, says that all of it is there.
        for path in (folder.reference_path, folder.subject_path):
            move(path(pending, subject.name), path(out, subject.name))
    remove(pending)
    return len(to_convert)


def prepare_pending(out, settings):
    """The folder where converted subjects wait, without those of other settings and leftovers."""
    pending = out / PENDING
    record = folder.dataset_path(pending)
    if not record.exists() or read_json(record) != settings:
        remove(pending)
        pending.mkdir()
        folder.write_dataset(pending, settings)

    for leftover in [*out.glob("*/*.partial-*"), *pending.glob("*/*.partial-*")]:
        remove(leftover)  # of a run that was killed
    return pending


def is_current(subject, out, dataset, sums):
    """True if this subject was converted from the files that it has now, and all of it is there.

    Args:
        dataset: the Dataset of `out`.
        sums: compare the arrays with their checksum too, which reads them; without it their shapes.
    """
    if not folder.meta_path(folder.subject_path(out, subject.name)).exists():
        return False
    if any(len(files) != 1 for files in subject.files.values()):
        return False
    try:
        meta = folder.read_meta(out, subject.name, ("sources",), REDO)
        # without a geometry: by an earlier version, which took a wrong voxel size from some headers
        if meta.geometry is None or meta.sources != source_hashes(subject):
            return False
    except OSError:  # check_all says what is wrong
        return False

    try:
        arrays = folder.open_arrays(out, subject.name, dataset)
    except UserError:  # lost or cut off
        return False
    is_whole = folder.reference_path(out, subject.name).exists()
    return is_whole and (not sums or checksum(*map(np.ascontiguousarray, arrays)) == meta.sha256)


def move(source, target):
    """Put a file or folder in place of `target`."""
    target.parent.mkdir(exist_ok=True)
    remove(target)
    source.rename(target)


# One scan -----------------------------------------------------------------------------------------

def convert_subject(subject, volumes, spec, out, settings):
    """Write one subject's images, labels, distance maps and meta.json, and its reference.

    What these files hold is said in scans/folder.py.

    Args:
        volumes: {modality or "label": (voxels, image)} of a scan that passed its checks, in RAS+.
        out: the data folder, or the one where converted subjects wait.
        settings: a folder.Dataset.
    """
    size, fill = settings.size, settings.fill
    scans = [volumes[name][0] for name in spec.modalities]
    raw_label, label_image = label_values(volumes["label"][0]), volumes["label"][1]
    scale = np.array(raw_label.shape[:2]) / (fill or size)
    spacing = nib.affines.voxel_sizes(label_image.affine) * [*scale, 1]

    images = network_input(scans, size, fill, settings.normalise)                  # (S, C, H, W)
    labels = resample_label(raw_label, spec.label_map, size, settings.label_interpolation, fill)
    maps = distance_maps(labels, len(spec.classes), spacing, settings.distance)
    write_reference(folder.reference_path(out, subject.name), raw_label, spec, label_image)

    with atomic_path(folder.subject_path(out, subject.name)) as place:
        place.mkdir()
        for kind, array in zip(folder.ARRAYS, (images, labels, maps), strict=True):
            save_sparse(folder.array_path(place, kind), array)
        write_json(folder.meta_path(place), {
            "subject": subject.name, "spacing_mm": [float(value) for value in spacing],
            "original_shape": list(label_image.stored_shape),
            "affine": label_image.stored_affine.tolist(),
            "geometry": label_image.geometry.as_dict(),
            "intensity_range": [[float(scan.min()), float(scan.max())] for scan in scans],
            **({"moments": list(map(moments, scans))} if settings.normalise == "zscore" else {}),
            "sha256": checksum(images, labels, maps), "sources": source_hashes(subject)})


def write_reference(path, raw_label, spec, image):
    """Write the classes on the scan's own grid, IGNORED where evaluation leaves voxels out.

    Args:
        raw_label: (X, Y, Z) label values in RAS+.
        image: the nifti.Image of the label.
    """
    lookup = label_lookup({**spec.label_map, **dict.fromkeys(spec.ignore, IGNORED)})
    classes = from_ras(lookup[raw_label], image.turns)
    with atomic_path(path) as temporary:
        temporary.write_bytes(gzipped(image_like(classes, image.geometry, BY_PREPROCESS)))


def checksum(images, labels, maps):
    """sha256 of a subject's arrays, of the maps only where one is not zero: labels say where."""
    digest = hashlib.sha256(images)
    digest.update(labels)
    digest.update(maps[maps.any(axis=(1, 2, 3))])
    return digest.hexdigest()


def distance_maps(labels, classes, spacing, how):
    """phi_G of every foreground class: (S, H, W) classes -> (S, K - 1, H, W) float32.

    Args:
        labels: (S, H, W) classes.
        classes: K.
        spacing: mm along x (rows), y (columns), z (slices).
        how: the folder.Distance of dataset.json.
    """
    return np.stack([
        signed_distance_of_scan(labels == k, array_order(spacing), how.convention, how.unit,
                                how.dims, how.truncate)
        for k in range(1, classes)], axis=1)


def save_sparse(path, array):
    """np.save, but blocks of zeros are skipped: the file has holes there, which take no space."""
    content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        start = file.tell()

        # Blocks as they lie in the file: the first begins `head` bytes into the array.
        head = -start % BLOCK
        count = max(0, len(content) - head) // BLOCK
        blocks = content[head:head + count * BLOCK].reshape(count, BLOCK)
        filled = np.zeros(count + 2, np.int8)
        filled[1:-1] = blocks.view(np.uint64).any(axis=1)

        file.write(content[:head])
        for first, end in np.flatnonzero(np.diff(filled)).reshape(-1, 2):  # runs of filled blocks
            file.seek(start + head + int(first) * BLOCK)
            file.write(blocks[first:end])
        file.seek(start + head + count * BLOCK)
        file.write(content[head + count * BLOCK:])
        file.truncate(start + len(content))
