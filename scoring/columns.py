"""The columns of evaluate.py: which scores there are, and those of two masks."""

import numpy as np

from metrics import (
    absolute_volume_difference,
    challenge_hausdorff95,
    dice,
    lesion_scores,
    precision,
    recall,
    surface_scores,
    volume_difference_ml,
)

# Those that are printed, column: (unit, +1 if more is better, -1 if less is, 0 if nearer to 0 is)
METRICS = {
    "dice": ("", 1),
    "precision": ("", 1),
    "recall": ("", 1),
    "hd": ("mm", -1),
    "hd95": ("mm", -1),
    "hd95_directed": ("mm", -1),
    "hd95_challenge": ("mm", -1),
    "assd": ("mm", -1),
    "surface_dice": ("", 1),
    "lesion_recall": ("", 1),
    "lesion_precision": ("", 1),
    "lesion_f1": ("", 1),
    "panoptic_quality": ("", 1),
    "lesion_count_difference": ("", 0),
    "volume_difference": ("%", -1),
    "volume_difference_ml": ("ml", 0),
}
WMH = ("dice", "hd95_challenge", "volume_difference", "lesion_recall", "lesion_f1")


def limits_of(metric):
    """(least, greatest) value that a score of METRICS can have."""
    unit, better = METRICS[metric]
    if not better:
        return -np.inf, np.inf
    return 0.0, np.inf if unit else 1.0


def score_masks(pred, target, spacing, slice_axis, empty="diagonal", tolerance=1.0, overlap=0.5,
                total=None):
    """The columns of the table for two bool masks (X, Y, Z).

    Args:
        pred, target: the masks.
        spacing: voxel size in mm along each axis.
        slice_axis: the axis across slices, for hd95_challenge.
        empty: "diagonal" or "nan", the distance where only one mask is empty.
        tolerance: of the surface Dice, mm.
        overlap: IoU that two lesions of the panoptic quality exceed.
        total: number of voxels that are scored; None: all.
    """
    surfaces = surface_scores(pred, target, spacing, tolerance, empty)
    lesions = lesion_scores(pred, target, overlap)
    voxels = count_voxels(pred, target, pred.size if total is None else total)
    voxel_ml = float(np.prod(spacing)) / 1000

    return {
        "dice": dice(pred, target),
        "hd": surfaces["hd"],
        "hd95": surfaces["hd95"],
        "hd95_challenge": challenge_hausdorff95(pred, target, spacing, slice_axis, empty),
        "lesion_recall": lesions["lesion_recall"],
        "lesion_precision": lesions["lesion_precision"],
        "lesion_f1": lesions["lesion_f1"],
        "volume_difference": absolute_volume_difference(pred, target),
        "prediction_ml": voxels["n_pred"] * voxel_ml,
        "reference_ml": voxels["n_ref"] * voxel_ml,
        "prediction_empty": voxels["n_pred"] == 0,
        "reference_empty": voxels["n_ref"] == 0,
        **voxels,
        "precision": precision(pred, target),
        "recall": recall(pred, target),
        "hd95_directed": surfaces["hd95_directed"],
        "assd": surfaces["assd"],
        "surface_dice": surfaces["surface_dice"],
        "panoptic_quality": lesions["panoptic_quality"],
        "prediction_lesions": lesions["prediction_lesions"],
        "reference_lesions": lesions["reference_lesions"],
        "lesion_count_difference": lesions["prediction_lesions"] - lesions["reference_lesions"],
        "volume_difference_ml": volume_difference_ml(pred, target, spacing),
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
