"""The scores of predicted scans: of one scan, of an epoch as metrics.csv has them, of a row of the table."""

import re
from functools import cache

import numpy as np

from metrics import dice, hausdorff_pair, legacy_hausdorff
from scoring.cases import validation_cases

PER_SLICE, PER_SCAN = ("dice", "bearing", "legacy", "foreground"), ("dice_3d", "hd", "hd95")  # of score_scan
SUMMED = ("dsc", "hd_legacy")  # of row_scores: sums over the slices of a scan


def score_scan(masks, labels, spacing, classes):
    """What one scan adds to the metrics of its epoch.

    Args:
        masks, labels: (S, H, W) uint8 classes, predicted and true.
        spacing: of this grid, mm along z, x, y.
        classes: K.

    Returns:
        list over the foreground classes of dicts: dice, legacy (per slice), bearing (bool per slice: has a lesion),
        dice_3d, hd, hd95 (mm), foreground (share of pixels, per slice).
    """
    found = []
    for k in range(1, classes):
        pred, true = masks == k, labels == k
        hd, hd95 = hausdorff_pair(pred, true, spacing)
        found.append({
            "dice": [dice(p, t) for p, t in zip(pred, true)], "bearing": true.any(axis=(1, 2)),
            "legacy": [legacy_hausdorff(p, t) for p, t in zip(pred, true)], "dice_3d": dice(pred, true), "hd": hd,
            "hd95": hd95, "foreground": pred.mean(axis=(1, 2))})
    return found


def to_array(scores):
    """What `score_scan` returned as float64 (S, K - 1, 7), in which processes can exchange it."""
    return np.stack([np.column_stack([*(one[name] for name in PER_SLICE), *(np.full(len(one["dice"]), one[name])
                                                                            for name in PER_SCAN)]) for one in scores], axis=1)


def from_array(array):
    """The inverse of `to_array`."""
    return [{**{name: array[:, k, at] for at, name in enumerate(PER_SLICE)}, "bearing": array[:, k, 1] > 0,
             **{name: float(array[0, k, at]) for at, name in enumerate(PER_SCAN, len(PER_SLICE))}}
            for k in range(array.shape[1])]


def class_columns(classes):
    """{foreground class: its columns of metrics.csv}, {} where there is only one; classes: all names, background first."""
    found = {name: re.sub(r"\W+", "_", name) for name in classes[1:]}
    return {name: [f"val_dice_3d_{word}", f"val_hd95_{word}"] for name, word in found.items()} if len(found) > 1 else {}


def epoch_scores(scans, classes=()):
    """Columns of metrics.csv from the results of `score_scan`, each the mean over the foreground classes.

    Args:
        scans: results of `score_scan`.
        classes: names of all classes, background first; with several of the foreground they get columns of their own.

    Returns:
        dict of val_dice (mean over slices), val_dice_3d, val_hd, val_hd95 (mean over scans; mm), val_hd_legacy (mean
        over slices), val_dice_lesion (mean over slices that bear a lesion), val_foreground (share of pixels); None
        where a mean does not exist.
    """
    per_class = []
    for scores in zip(*scans):  # of one class, over the scans
        all_slices = {name: np.concatenate([one[name] for one in scores])
                      for name in ("dice", "legacy", "bearing", "foreground")}
        bearing = all_slices["bearing"]
        per_class.append({
            "val_dice": all_slices["dice"].mean(), "val_dice_3d": np.mean([one["dice_3d"] for one in scores]),
            "val_hd": np.mean([one["hd"] for one in scores]), "val_hd95": np.mean([one["hd95"] for one in scores]),
            "val_hd_legacy": all_slices["legacy"].mean(),
            "val_dice_lesion": all_slices["dice"][bearing].mean() if bearing.any() else np.nan,
            "val_foreground": all_slices["foreground"].mean()})
    means = {name: float(np.mean([one[name] for one in per_class])) for name in per_class[0]}
    for one, columns in zip(per_class, class_columns(classes).values()):
        means |= dict(zip(columns, (float(one["val_dice_3d"]), float(one["val_hd95"])), strict=True))
    return {name: value if np.isfinite(value) else None for name, value in means.items()}


def sum_scores(scores):
    """What `score_scan` returned as {metric: float}, each the mean over the foreground classes.

    Those of SUMMED are sums over the scan's slices, whose number is `slices`.
    """
    found = [{"slices": len(one["dice"]), "dsc": sum(one["dice"]), "dsc_3d": one["dice_3d"], "hd": one["hd"],
              "hd95": one["hd95"], "hd_legacy": sum(one["legacy"])} for one in scores]
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}


@cache  # several claims ask for the same row
def row_scores(one, row, collapsed=False):
    """Scores of a row's best models on the validation scans.

    Args:
        collapsed: also runs that collapsed to empty foreground, which have no distance, and whose DSC over slices is no more
            than the share of empty ones.

    Returns:
        {metric: float array (seeds, scans)} of its finished runs; None without one. A run that lacks the mask of a scan is
        left out.
    """
    cases, classes, per_run = validation_cases(one), len(one.classes), []
    for run in one.losses.get(row, []):
        if not run.finished or run.collapsed and not collapsed:
            continue
        masks = [case.predicted(run) for case in cases]
        if all(mask is not None for mask in masks):
            per_run.append([sum_scores(score_scan(mask, case.truth, case.spacing, classes))
                            for mask, case in zip(masks, cases, strict=True)])
    if not per_run:
        return None
    return {name: np.array([[scan[name] for scan in scans] for scans in per_run], float) for name in per_run[0][0]}


def pace(rows):
    """Seconds an epoch, over the last five; None before the first."""
    recent = [row["seconds"] for row in rows[-5:] if row.get("seconds") is not None]
    return float(np.mean(recent)) if recent else None
