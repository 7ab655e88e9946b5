"""Folders of NIfTI masks: found, matched, compared with each other."""

import zlib
from pathlib import Path

import nibabel as nib
import numpy as np

from metrics import absolute_volume_difference, challenge_hausdorff95, dice, hausdorff_pair, leave_out, lesion_detection
from scans.checks import check_grid
from scans.datasets import DATASETS, DatasetSpec, find_subjects
from scans.nifti import read_volume
from utils import UserError

# All places where a mask may lie below a subject's folder; `find_subjects` names the folder.
NESTED = DatasetSpec(modalities={"isles": DATASETS["isles"].label, "result": "result.nii*"},
                     label=DATASETS["wmh"].label, label_map={})
RESAMPLE = "Resample the prediction to the reference's grid with nearest neighbours."


def find_masks(folder):
    """{subject: path} of the masks in a flat or nested folder; UserError if none or two of one subject."""
    folder = Path(folder)
    flat = sorted(path for path in folder.glob("*.nii*") if path.name.endswith((".nii", ".nii.gz"))
                  and not path.name.startswith("."))
    if flat:
        files = [(path.name.removesuffix(".gz").removesuffix(".nii"), path) for path in flat]
    elif folder.is_dir() and not any(entry.is_dir() for entry in folder.iterdir()):
        raise UserError(folder, "masks named <subject>.nii or .nii.gz", "none", "Check the path.")
    else:  # the label where a folder has one, then the others
        files = [(subject.name, path) for subject in find_subjects(folder, NESTED)
                 for path in subject.files["label"] or subject.files["isles"] or subject.files["result"]]
    masks = {}
    for subject, path in files:
        if subject in masks:
            raise UserError(path, "one mask per subject", f"also {masks[subject]}", "Remove one of the two.")
        masks[subject] = path
    return masks


def match(predictions, references, folders, allow_partial):
    """Sorted subjects with both a prediction and a reference; UserError if others exist, unless `allow_partial`."""
    both = sorted(set(predictions) & set(references))
    for here, there, where in ((predictions, references, folders[0]), (references, predictions, folders[1])):
        alone = sorted(set(here) - set(there))
        if alone and (not allow_partial or not both):
            listed = ", ".join(alone[:10]) + (f" and {len(alone) - 10} more" if len(alone) > 10 else "")
            raise UserError(where, "the same subjects in both folders", f"only here: {listed}",
                            "Add their masks, or give --partial to score the others." if both else
                            "Name the masks after the subjects.")
    return both


def read_labels(path):
    """The label values of a mask, (X, Y, Z) integers in RAS+ orientation, and its image."""
    try:
        voxels, image = read_volume(path)
    except zlib.error as error:
        raise UserError(path, "a complete image", f"damaged compression ({error})", "Fetch the file again.") from None
    if voxels.dtype.kind not in "iu":
        whole = np.round(voxels) if voxels.dtype.kind == "f" else None
        if whole is None or not np.isfinite(voxels).all() or np.abs(voxels - whole).max() > 1e-3:
            raise UserError(path, "a mask of whole-number labels", "other values (probabilities?)",
                            "Threshold it, or give the mask instead.")
        voxels = whole.astype(np.int64)  # labels stored with a scale factor come as floats
    return voxels, image


def score_pair(prediction_path, reference_path, labels, ignored, empty):
    """Every score of one scan: ({label: {score: value}}, values found in the prediction, ... in the reference)."""
    predicted, prediction = read_labels(prediction_path)
    truth, reference = read_labels(reference_path)
    check_grid(prediction_path, prediction, reference, reference_path, RESAMPLE)
    spacing = nib.affines.voxel_sizes(reference.affine)
    # The challenge looks for surfaces within the slices as they are stored; here all is turned to RAS+.
    slice_axis = int(nib.io_orientation(nib.load(reference_path).affine)[2, 0])
    left_out = np.isin(truth, ignored)
    rows = {}
    for label in labels:
        pred, target = leave_out(predicted == label, truth == label, left_out)
        rows[label] = score_masks(pred, target, spacing, slice_axis, empty)
        rows[label].update(count_voxels(pred, target, np.count_nonzero(~left_out)))
    return rows, set(np.unique(predicted).tolist()), set(np.unique(truth).tolist())


def score_masks(pred, target, spacing, slice_axis, empty):
    """The columns of the table for two bool masks (X, Y, Z)."""
    hd, hd95 = hausdorff_pair(pred, target, spacing, empty=empty)
    recall, precision, f1 = lesion_detection(pred, target)
    ml = float(np.prod(spacing)) / 1000  # of one voxel
    return {"dice": dice(pred, target), "hd": hd, "hd95": hd95,
            "hd95_challenge": challenge_hausdorff95(pred, target, spacing, slice_axis, empty),
            "lesion_recall": recall, "lesion_precision": precision, "lesion_f1": f1,
            "volume_difference": absolute_volume_difference(pred, target),
            "prediction_ml": int(pred.sum()) * ml, "reference_ml": int(target.sum()) * ml,
            "prediction_empty": not pred.any(), "reference_empty": not target.any()}


def count_voxels(pred, target, total):
    """nnU-Net's voxel counts, Dice and IoU (NaN if both masks are empty)."""
    tp, n_pred, n_ref = (int(np.count_nonzero(mask)) for mask in (pred & target, pred, target))
    union = n_pred + n_ref - tp
    return {"Dice": 2 * tp / (n_pred + n_ref) if union else float("nan"),
            "IoU": tp / union if union else float("nan"), "TP": tp, "FP": n_pred - tp, "FN": n_ref - tp,
            "TN": int(total) - union, "n_pred": n_pred, "n_ref": n_ref}
