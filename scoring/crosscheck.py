"""Scores checked against two independent libraries: SimpleITK reads the files, medpy measures."""

from functools import partial
from typing import NamedTuple

import nibabel as nib
import numpy as np

from scans.nifti import read_header
from scoring.masks import for_each_scan, masks_of_labels, read_labels, read_values
from utils import UserError

# The score's column here: medpy's function, name and unit in messages, largest difference allowed.
COMPARED = {"dice": ("dc", "Dice", "", 1e-6), "hd": ("hd", "HD", " mm", 1e-3),
            "hd95": ("hd95", "HD95", " mm", 1e-3)}
SPACING_MM = 1e-3  # within which two readers agree about the size of a voxel
READ_DIFFERENTLY = "Its header may be ambiguous: look at the scan before you use these scores."
SCORED_DIFFERENTLY = "One of the two has a bug: do not use these scores."


class Differences(NamedTuple):
    """What a check found: differences from medpy by score, and pairs left out for an empty mask."""

    largest: dict
    empty: int
    pairs: int


def check_folder(predictions, references, scans, rules, jobs):
    """Read and score every pair of files again, by other libraries.

    Args:
        predictions, references: lists of files, a pair of them for each scan.
        scans: what `masks.score_folder` gave for them, [ScoredScan].
        rules: the Rules they were scored by.
        jobs: scans at a time.

    Returns:
        one line in words.

    Raises:
        UserError: a library disagrees; it names the scan and both numbers.
    """
    work = partial(check_pair, rules=rules)
    found = for_each_scan(work, predictions, references, scans, jobs=jobs, desc="checking")

    empty, pairs = sum(scan.empty for scan in found), sum(scan.pairs for scan in found)
    text = f"{len(found)} scan{'' if len(found) == 1 else 's'}, "
    if empty:
        text += f"{empty} of {pairs} pairs of masks left out of medpy's comparison (one is empty), "
    if empty < pairs:
        largest = {name: max(scan.largest[name] for scan in found) for name in COMPARED}
        text += "largest difference from medpy: " + ", ".join(
            f"{COMPARED[name][1]} {round(value, 9):.2g}{COMPARED[name][2]}"
            for name, value in largest.items())
    else:
        text += "nothing to compare with medpy"
    return f"{text}; SimpleITK read the same voxels"


def check_pair(prediction_path, reference_path, scan, rules):
    """The Differences of one scan; UserError where a library disagrees."""
    from medpy.metric import binary  # here and below: only a check needs these libraries

    predicted, _ = read_again(prediction_path, read_labels if not rules.protocol else read_values)
    truth, spacing = read_again(reference_path)
    masks, _ = masks_of_labels(predicted, truth, rules)

    largest, empty = dict.fromkeys(COMPARED, 0.0), 0
    for label, (pred, target) in masks.items():
        here = scan.scores[label]
        if not pred.any() or not target.any():  # medpy has no distance there
            empty += 1
            continue

        for name, (function, title, unit, tolerance) in COMPARED.items():
            options = {} if name == "dice" else {"voxelspacing": spacing}
            there = float(getattr(binary, function)(pred, target, **options))
            difference = abs(here[name] - there)
            if not difference <= tolerance:  # NaN too
                raise UserError(prediction_path, f"medpy's {title} of label {label}, "
                                f"{there:.9g}{unit}", f"{here[name]:.9g}{unit}",
                                SCORED_DIFFERENTLY)
            largest[name] = max(largest[name], difference)
    return Differences(largest, empty, len(masks))


def read_again(path, read=read_labels):
    """(labels (X, Y, Z) as SimpleITK reads them, in RAS+ orientation; voxel size, mm).

    Args:
        path: the file.
        read: `masks.read_labels`, or `read_values` where it may hold probabilities.

    Raises:
        UserError: SimpleITK cannot read the file, or finds other voxels or another voxel size.
    """
    import SimpleITK

    voxels, image = read(path)
    spacing = nib.affines.voxel_sizes(image.affine)
    try:
        other = SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(path)), "RAS")
    except RuntimeError as error:
        reason = " ".join(str(error).split()).rpartition("ERROR: ")[2]
        second = isinstance(read_header(path).header, nib.Nifti2Header)
        do = "Save it as NIfTI-1, all that it reads" if second else "Correct its header"
        raise UserError(path, "an image that SimpleITK can read", reason[:160].rstrip(" .!"),
                        f"{do}, or leave --check out.") from None

    labels = SimpleITK.GetArrayFromImage(other).transpose()  # it gives (Z, Y, X)
    if labels.shape != voxels.shape:
        raise UserError(path, f"the shape that SimpleITK reads, {labels.shape}",
                        f"{voxels.shape}", READ_DIFFERENTLY)
    if changed := np.count_nonzero(np.abs(labels - voxels.astype(float)) > 1e-3):
        raise UserError(path, "the voxels that SimpleITK reads", f"{changed} different ones",
                        READ_DIFFERENTLY)
    if not np.abs(np.subtract(other.GetSpacing(), spacing)).max() <= SPACING_MM:
        sizes = [" x ".join(f"{size:.6g}" for size in found)
                 for found in (other.GetSpacing(), spacing)]
        raise UserError(path, f"the voxel size that SimpleITK reads, {sizes[0]} mm",
                        f"{sizes[1]} mm", READ_DIFFERENTLY)
    return labels if read is read_values else np.rint(labels).astype(voxels.dtype), spacing
