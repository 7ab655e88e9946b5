"""The scores of predicted scans: of one, of an epoch for metrics.csv, of a row of the table."""

import re
from functools import cache

import numpy as np

from metrics import dice, hausdorff_pair, legacy_hausdorff
from scoring.cases import validation_cases

PER_SLICE = ("dice", "bearing", "legacy", "foreground")  # of score_scan
PER_SCAN = ("dice_3d", "hd", "hd95")                     # of score_scan
SUMMED = ("dsc", "hd_legacy")  # of row_scores: sums over the slices of a scan


def score_scan(masks, labels, spacing, classes):
    """What one scan adds to the metrics of its epoch.

    Args:
        masks, labels: (S, H, W) uint8 classes, predicted and true.
        spacing: of this grid along slices, rows and columns, mm.
        classes: K.

    Returns:
        list over the foreground classes of dicts: dice, legacy (per slice), bearing (bool per
        slice: has a lesion), dice_3d, hd, hd95 (mm), foreground (share of pixels, per slice).
    """
    found = []
    for k in range(1, classes):
        pred, true = masks == k, labels == k
        hd, hd95 = hausdorff_pair(pred, true, spacing)

        found.append({
            "dice": [dice(p, t) for p, t in zip(pred, true)],
            "bearing": true.any(axis=(1, 2)),
            "legacy": [legacy_hausdorff(p, t) for p, t in zip(pred, true)],
            "dice_3d": dice(pred, true),
            "hd": hd,
            "hd95": hd95,
            "foreground": pred.mean(axis=(1, 2)),
        })
    return found


def to_array(scores):
    """What `score_scan` returned as float64 (S, K - 1, 7), which processes can exchange."""
    per_class = []
    for of_class in scores:
        slices = len(of_class["dice"])
        columns = [of_class[name] for name in PER_SLICE]
        columns += [np.full(slices, of_class[name]) for name in PER_SCAN]
        per_class.append(np.column_stack(columns))
    return np.stack(per_class, axis=1)


def from_array(array):
    """The inverse of `to_array`."""
    found = []
    for of_class in np.moveaxis(array, 1, 0):  # (S, 7)
        scores = {name: of_class[:, at] for at, name in enumerate(PER_SLICE)}
        scores["bearing"] = scores["bearing"] > 0
        scores |= {name: float(of_class[0, at])
                   for at, name in enumerate(PER_SCAN, len(PER_SLICE))}
        found.append(scores)
    return found


def class_columns(classes):
    """The columns of metrics.csv that a foreground class has of its own.

    Args:
        classes: names of all classes, background first.

    Returns:
        {class: [3-D DSC, HD95]}; {} if there is only one foreground class.
    """
    words = {name: re.sub(r"\W+", "_", name) for name in classes[1:]}
    if len(words) < 2:
        return {}
    return {name: [f"val_dice_3d_{word}", f"val_hd95_{word}"] for name, word in words.items()}


def epoch_scores(scans, classes=()):
    """Columns of metrics.csv, each the mean over the foreground classes.

    Args:
        scans: results of `score_scan`.
        classes: names of all classes, background first; several foreground classes get columns of
            their own.

    Returns:
        dict of val_dice (mean over slices), val_dice_3d, val_hd, val_hd95 (mean over scans; mm),
        val_hd_legacy (mean over slices), val_dice_lesion (mean over slices that bear a lesion),
        val_foreground (share of pixels); None where a mean does not exist.
    """
    per_class = [class_means(scores) for scores in zip(*scans)]
    means = {name: float(np.mean([of_class[name] for of_class in per_class]))
             for name in per_class[0]}

    for of_class, (dsc, hd95) in zip(per_class, class_columns(classes).values()):
        means |= {dsc: float(of_class["val_dice_3d"]), hd95: float(of_class["val_hd95"])}
    return {name: value if np.isfinite(value) else None for name, value in means.items()}


def class_means(scores):
    """The columns of `epoch_scores` for one class, from its dict of each scan."""
    per_slice = {name: np.concatenate([scan[name] for scan in scores]) for name in PER_SLICE}
    per_scan = {name: np.mean([scan[name] for scan in scores]) for name in PER_SCAN}
    bearing = per_slice["bearing"]

    return {
        "val_dice": per_slice["dice"].mean(),
        "val_dice_3d": per_scan["dice_3d"],
        "val_hd": per_scan["hd"],
        "val_hd95": per_scan["hd95"],
        "val_hd_legacy": per_slice["legacy"].mean(),
        "val_dice_lesion": per_slice["dice"][bearing].mean() if bearing.any() else np.nan,
        "val_foreground": per_slice["foreground"].mean(),
    }


def sum_scores(scores):
    """What `score_scan` returned as {metric: float}, each the mean over the foreground classes.

    Those of SUMMED are sums over the scan's slices, whose number is `slices`.
    """
    found = [{
        "slices": len(of_class["dice"]),
        "dsc": sum(of_class["dice"]),
        "dsc_3d": of_class["dice_3d"],
        "hd": of_class["hd"],
        "hd95": of_class["hd95"],
        "hd_legacy": sum(of_class["legacy"]),
    } for of_class in scores]
    return {name: float(np.mean([of_class[name] for of_class in found])) for name in found[0]}


@cache  # several claims ask for the same row
def row_scores(results, row, collapsed=False):
    """Scores of a row's best models on the validation scans.

    Args:
        results: a ResultSet.
        row: its name.
        collapsed: include runs that collapsed to empty foreground. They have no distance, and their
            DSC over slices is no more than the share of empty ones.

    Returns:
        {metric: float array (seeds, scans)} of its finished runs, without those that lack the mask
        of a scan; None if there are none.
    """
    cases, per_run = validation_cases(results), []
    for run in results.finished(row):
        if run.collapsed and not collapsed:
            continue
        masks = [case.predicted(run) for case in cases]
        if all(mask is not None for mask in masks):
            per_run.append([
                sum_scores(score_scan(mask, case.truth, case.spacing, case.classes))
                for mask, case in zip(masks, cases, strict=True)])

    if not per_run:
        return None
    return {name: np.array([[scan[name] for scan in scans] for scans in per_run], float)
            for name in per_run[0][0]}


def pace(rows):
    """Seconds per epoch, over the last five; None before the first."""
    recent = [row["seconds"] for row in rows[-5:] if row.get("seconds") is not None]
    return float(np.mean(recent)) if recent else None
