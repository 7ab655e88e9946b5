"""Folders of NIfTI masks: found, matched by subject, and scored scan by scan."""

import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np

from metrics import (
    absolute_volume_difference,
    challenge_hausdorff95,
    dice,
    hausdorff_pair,
    leave_out,
    lesion_detection,
)
from scans.checks import check_grid
from scans.datasets import DATASETS, DatasetSpec, find_subjects
from scans.nifti import read_volume
from utils import UserError, log, progress

# Every place where a mask may lie below a subject's folder; `find_subjects` names that folder.
NESTED = DatasetSpec(modalities={"isles": DATASETS["isles"].label, "result": "result.nii*"},
                     label=DATASETS["wmh"].label, label_map={})
RESAMPLE = ("Resample the prediction to the reference's grid with nearest neighbours; if it was "
            "made on that very grid, give it the reference's header instead.")


class ScoredScan(NamedTuple):
    """One scan: {label: {score: value}}, and the set of values in each of its two files."""

    scores: dict
    predicted_values: set
    reference_values: set


def find_masks(folder):
    """{subject: path} of the masks in a flat or nested folder.

    Raises:
        UserError: no mask at all, or two of one subject.
    """
    folder = Path(folder)
    flat = sorted(path for path in folder.glob("*.nii*")
                  if path.name.endswith((".nii", ".nii.gz")) and not path.name.startswith("."))

    if flat:
        files = [(path.name.removesuffix(".gz").removesuffix(".nii"), path) for path in flat]
    elif folder.is_dir() and not any(entry.is_dir() for entry in folder.iterdir()):
        raise UserError(folder, "masks named <subject>.nii or .nii.gz", "none", "Check the path.")
    else:  # the label where a subject has several kinds of mask
        files = [(subject.name, path) for subject in find_subjects(folder, NESTED)
                 for path in (subject.files["label"] or subject.files["isles"]
                              or subject.files["result"])]

    masks = {}
    for subject, path in files:
        if subject in masks:
            raise UserError(path, "one mask per subject", f"also {masks[subject]}",
                            "Remove one of the two.")
        masks[subject] = path
    return masks


def match(predictions, references, folders, allow_partial):
    """Sorted subjects that have both a prediction and a reference.

    Args:
        predictions, references: {subject: path}.
        folders: the two folders, for the error.
        allow_partial: leave out subjects that have only one of the two.

    Raises:
        UserError: there are such subjects and `allow_partial` is False, or nothing else is left.
    """
    both = sorted(set(predictions) & set(references))

    for here, there, where in ((predictions, references, folders[0]),
                               (references, predictions, folders[1])):
        alone = sorted(set(here) - set(there))
        if alone and (not allow_partial or not both):
            more = f" and {len(alone) - 10} more" if len(alone) > 10 else ""
            raise UserError(where, "the same subjects in both folders",
                            f"only here: {', '.join(alone[:10])}{more}",
                            "Add their masks, or give --partial to score the others." if both else
                            "Name the masks after the subjects.")
    return both


def read_labels(path):
    """The label values of a mask, (X, Y, Z) integers in RAS+ orientation, and its image."""
    try:
        voxels, image = read_volume(path)
    except zlib.error as error:
        raise UserError(path, "a complete image", f"damaged compression ({error})",
                        "Fetch the file again.") from None

    # Labels stored with a scale factor are read as floats.
    if voxels.dtype.kind not in "iu":
        whole = np.round(voxels) if voxels.dtype.kind == "f" else None
        if (whole is None or not np.isfinite(voxels).all()
                or np.abs(voxels - whole).max() > 1e-3):
            raise UserError(path, "a mask of whole-number labels", "other values (probabilities?)",
                            "Threshold it, or give the mask instead.")
        voxels = whole.astype(np.int64)
    return voxels, image


def for_each_scan(work, *columns, jobs, desc):
    """[work(*row) for row of `columns`], by `jobs` threads, with progress; stops at an error."""
    with ThreadPoolExecutor(jobs) as pool:
        try:
            results = pool.map(work, *columns)
            return list(progress(results, total=len(columns[0]), desc=desc, unit="scan"))
        except BaseException:  # do not read all other scans before reporting one bad file
            pool.shutdown(cancel_futures=True)
            raise


def score_folder(folders, predictions, references, labels, ignored, empty, jobs):
    """The scores of every scan of a folder.

    Args:
        folders: those of the predictions and of the references, for messages.
        predictions, references: lists of files, a pair of them for each scan.
        labels: values to score, each alone.
        ignored: values of the reference whose voxels are left out of both masks.
        empty: "diagonal" or "nan", the distance where only one mask is empty.
        jobs: scans at a time.

    Returns:
        [{label: {score: value}}], one dict per scan.

    Raises:
        UserError: a file cannot be scored, or no mask of a folder holds any of the labels.
    """
    work = partial(score_pair, labels=labels, ignored=ignored, empty=empty)
    scans = for_each_scan(work, predictions, references, jobs=jobs, desc=f"scoring {folders[0]}")

    predicted = set().union(*(scan.predicted_values for scan in scans))
    true = set().union(*(scan.reference_values for scan in scans))
    refuse_other_labels(folders, (predicted, true), labels, ignored)
    return [scan.scores for scan in scans]


def refuse_other_labels(folders, values, labels, ignored):
    """UserError if the masks of a folder hold values, but none of `labels`; warn of unused labels.

    Args:
        folders: those of the predictions and of the references.
        values: the set of values that the masks of each hold.
    """
    for folder, found in zip(folders, values, strict=True):
        if found - {0, *ignored} and not found & set(labels):
            raise UserError(folder, f"label {' or '.join(map(str, labels))} in some mask",
                            f"only the values {', '.join(map(str, sorted(found)[:10]))}",
                            "Give --labels.")

    unused = sorted(set(labels) - set().union(*values))
    if unused and len(labels) > 1:
        log(f"warning: no mask of {folders[0]} or {folders[1]} holds label "
            f"{' or '.join(map(str, unused))}: two empty masks score as equal")


def score_pair(prediction_path, reference_path, labels, ignored, empty):
    """The ScoredScan of a prediction and its reference."""
    predicted, prediction = read_labels(prediction_path)
    truth, reference = read_labels(reference_path)
    check_grid(prediction_path, prediction, reference, reference_path, RESAMPLE)

    spacing = nib.affines.voxel_sizes(reference.affine)
    # The challenge looks for surfaces within slices as they are stored; here all is turned to RAS+.
    slice_axis = int(reference.turns[2, 0])
    left_out = np.isin(truth, ignored)

    scores = {}
    for label in labels:
        pred, target = leave_out(predicted == label, truth == label, left_out)
        scores[label] = score_masks(pred, target, spacing, slice_axis, empty)
        scores[label].update(count_voxels(pred, target, np.count_nonzero(~left_out)))
    return ScoredScan(scores, set(np.unique(predicted).tolist()), set(np.unique(truth).tolist()))


def score_masks(pred, target, spacing, slice_axis, empty):
    """The columns of the table for two bool masks (X, Y, Z)."""
    hd, hd95 = hausdorff_pair(pred, target, spacing, empty=empty)
    recall, precision, f1 = lesion_detection(pred, target)
    voxel_ml = float(np.prod(spacing)) / 1000

    return {
        "dice": dice(pred, target),
        "hd": hd,
        "hd95": hd95,
        "hd95_challenge": challenge_hausdorff95(pred, target, spacing, slice_axis, empty),
        "lesion_recall": recall,
        "lesion_precision": precision,
        "lesion_f1": f1,
        "volume_difference": absolute_volume_difference(pred, target),
        "prediction_ml": int(pred.sum()) * voxel_ml,
        "reference_ml": int(target.sum()) * voxel_ml,
        "prediction_empty": not pred.any(),
        "reference_empty": not target.any(),
    }


def count_voxels(pred, target, total):
    """nnU-Net's voxel counts, Dice and IoU (NaN if both masks are empty)."""
    tp, n_pred, n_ref = (int(np.count_nonzero(mask)) for mask in (pred & target, pred, target))
    union = n_pred + n_ref - tp

    return {
        "Dice": 2 * tp / (n_pred + n_ref) if union else float("nan"),
        "IoU": tp / union if union else float("nan"),
        "TP": tp, "FP": n_pred - tp, "FN": n_ref - tp, "TN": int(total) - union,
        "n_pred": n_pred, "n_ref": n_ref,
    }
