"""The scores of predicted scans: of one scan, and of an epoch for metrics.csv."""


import numpy as np

from metrics import (
    dice,
    hausdorff_pair,
    label_lesions,
    legacy_hausdorff,
    lesion_overlaps,
    surface_distances,
)
from scoring.lesions import least_distances
from scoring.run_files import LARGE, SMALL
from utils import in_a_word

OVERLAP = ("val_dice", "val_dice_3d", "val_dice_lesion")  # columns that need no distances
PER_SLICE = ("dice", "bearing", "legacy", "foreground")  # of score_scan
BINS = {"small": (0, SMALL), "medium": (SMALL, LARGE), "large": (LARGE, np.inf)}  # ml
LESIONS = ("lesions", "lesions_found", "lesions_predicted", "lesions_false", "false_distance",
           *(f"{name}_{what}" for name in BINS for what in ("lesions", "found")))
COUNTS = tuple(name for name in LESIONS if name != "false_distance")
PER_SCAN = ("dsc_3d", "hd", "hd95", *LESIONS)            # of score_scan


def score_scan(masks, labels, spacing, classes):
    """What one scan adds to the metrics of its epoch.

    Args:
        masks, labels: (S, H, W) uint8 classes, predicted and true.
        spacing: of this grid along slices, rows and columns, mm.
        classes: K.

    Returns:
        list over the foreground classes of dicts: dice, legacy (per slice), bearing (bool per
        slice: has a lesion), dsc_3d, hd, hd95 (mm), foreground (share of pixels, per slice), and
        what `count_lesions` returns.
    """
    found = []
    for k in range(1, classes):
        pred, true = masks == k, labels == k
        distances = surface_distances(pred, true, spacing)
        hd, hd95 = hausdorff_pair(pred, true, spacing, distances=distances)

        found.append({
            "dice": [dice(p, t) for p, t in zip(pred, true)],
            "bearing": true.any(axis=(1, 2)),
            "legacy": [legacy_hausdorff(p, t) for p, t in zip(pred, true)],
            "dsc_3d": dice(pred, true),
            "hd": hd,
            "hd95": hd95,
            "foreground": pred.mean(axis=(1, 2)),
            **count_lesions(pred, true, spacing, distances[0]),
        })
    return found


def score_overlap(masks, labels, classes):
    """What of `score_scan` the columns OVERLAP need: dice, bearing and dsc_3d; a tenth of its time.

    Args:
        masks, labels, classes: see there.
    """
    return [{"dice": [dice(p, t) for p, t in zip(masks == k, labels == k)],
             "bearing": (labels == k).any(axis=(1, 2)),
             "dsc_3d": dice(masks == k, labels == k)} for k in range(1, classes)]


def count_lesions(pred, true, spacing, to_true=None):
    """The lesions (26-connected) of a scan: how many are found, in all and by volume.

    Args:
        pred, true: bool (S, H, W).
        spacing: along slices, rows and columns, mm.
        to_true: of each surface voxel of pred the distance from the surface of true, mm, as
            `surface_distances` gives it; None: computed.

    Returns:
        dict of LESIONS; false_distance is the mean over the false ones of the distance from the
        nearest true lesion, mm, NaN without one of either.
    """
    overlaps = lesion_overlaps(pred, true)
    touching, touched = np.unique(overlaps.pairs[:, 0]), np.unique(overlaps.pairs[:, 1])
    found = np.isin(np.arange(len(overlaps.target_sizes)), touched)
    volumes = overlaps.target_sizes * np.prod(spacing) / 1000                  # ml

    counts = {
        "lesions": len(found),
        "lesions_found": int(found.sum()),
        "lesions_predicted": len(overlaps.pred_sizes),
        "lesions_false": len(overlaps.pred_sizes) - len(touching),
        "false_distance": false_distance(pred, true, spacing, touching, to_true),
    }
    for name, (least, below) in BINS.items():
        these = (least <= volumes) & (volumes < below)
        counts |= {f"{name}_lesions": int(these.sum()), f"{name}_found": int(found[these].sum())}
    return counts


def false_distance(pred, true, spacing, touching, to_true):
    """Mean distance of the predicted lesions that touch no true one from the nearest, mm.

    Args:
        touching: numbers, from 0, of the predicted lesions that touch one.
        pred, true, spacing, to_true: see `count_lesions`.
    """
    labels, count = label_lesions(pred)
    if count == len(touching) or not true.any():
        return np.nan

    if to_true is None:
        to_true = surface_distances(pred, true, spacing)[0]
    nearest = least_distances(pred, labels, count, to_true)
    return float(np.delete(nearest, touching).mean())


def to_array(scores):
    """What `score_scan` returned as float64 (S, K - 1, scores), which processes can exchange."""
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
    for of_class in np.moveaxis(array, 1, 0):  # (S, scores)
        scores = {name: of_class[:, at] for at, name in enumerate(PER_SLICE)}
        scores["bearing"] = scores["bearing"] > 0
        scores |= {name: float(of_class[0, at])
                   for at, name in enumerate(PER_SCAN, len(PER_SLICE))}
        scores |= {name: int(scores[name]) for name in COUNTS}
        found.append(scores)
    return found


def class_columns(classes):
    """The columns of metrics.csv that a foreground class has of its own.

    Args:
        classes: names of all classes, background first.

    Returns:
        {class: [3-D DSC, HD95]}; {} if there is only one foreground class.
    """
    words = {name: in_a_word(name) for name in classes[1:]}
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
        val_hd_legacy (mean over slices), val_dice_lesion (mean over slices that contain a lesion),
        val_foreground (share of pixels), val_clean (share of the slices without a lesion that are
        left empty), val_lesion_recall, _precision and _f1 (mean over scans, as the WMH challenge
        has them); None where a mean does not exist.
    """
    per_class = [class_means(scores) for scores in zip(*scans)]
    means = means_over(per_class)
    for of_class, (dsc, hd95) in zip(per_class, class_columns(classes).values()):
        means |= {dsc: float(of_class["val_dice_3d"]), hd95: float(of_class["val_hd95"])}
    return without_nan(means)


def overlap_scores(scans):
    """The columns OVERLAP of `epoch_scores`, from results of `score_overlap`."""
    return without_nan(means_over([overlap_means(scores) for scores in zip(*scans)]))


def means_over(per_class):
    return {name: float(np.mean([of_class[name] for of_class in per_class]))
            for name in per_class[0]}


def without_nan(means):
    return {name: value if np.isfinite(value) else None for name, value in means.items()}


def overlap_means(scores):
    """The columns OVERLAP for one class, from its dict of each scan."""
    of_slices, bearing = (np.concatenate([scan[name] for scan in scores])
                          for name in ("dice", "bearing"))
    return {
        "val_dice": of_slices.mean(),
        "val_dice_3d": np.mean([scan["dsc_3d"] for scan in scores]),
        "val_dice_lesion": of_slices[bearing].mean() if bearing.any() else np.nan,
    }


def class_means(scores):
    """The columns of `epoch_scores` for one class, from its dict of each scan."""
    per_slice = {name: np.concatenate([scan[name] for scan in scores]) for name in PER_SLICE}
    per_scan = {name: np.mean([scan[name] for scan in scores]) for name in PER_SCAN}
    bearing, clean = per_slice["bearing"], per_slice["dice"] > 0.5
    overlap = overlap_means(scores)

    return {
        "val_dice": overlap["val_dice"],
        "val_dice_3d": overlap["val_dice_3d"],
        "val_hd": per_scan["hd"],
        "val_hd95": per_scan["hd95"],
        "val_hd_legacy": per_slice["legacy"].mean(),
        "val_dice_lesion": overlap["val_dice_lesion"],
        "val_foreground": per_slice["foreground"].mean(),
        "val_clean": clean[~bearing].mean() if not bearing.all() else np.nan,
        **{f"val_lesion_{name}": np.mean([lesion_detection_of(scan)[name] for scan in scores])
           for name in ("recall", "precision", "f1")},
    }


def lesion_detection_of(counts):
    """Recall, precision and F1 of a scan's lesions, as `metrics.lesion_detection`, from counts.

    Recall is 1 where there is no lesion, precision 1 where none is predicted.
    """
    lesions, predicted = counts["lesions"], counts["lesions_predicted"]
    recall = counts["lesions_found"] / lesions if lesions else 1.0
    precision = 1 - counts["lesions_false"] / predicted if predicted else 1.0
    f1 = 2 * recall * precision / (recall + precision) if recall + precision else 0.0
    return {"recall": recall, "precision": precision, "f1": f1}


def pace(rows):
    """Seconds per epoch, over the last five; None before the first."""
    recent = [row["seconds"] for row in rows[-5:] if row.get("seconds") is not None]
    return float(np.mean(recent)) if recent else None
