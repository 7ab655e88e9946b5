"""Per-scan scores of the runs of a table's row, and paired bootstrap intervals of what two rows differ in."""

from functools import cache

import numpy as np

from figures_cases import load_array, predicted_labels, spacing, validation_subjects
from metrics import dice, hausdorff_pair, legacy_hausdorff

RESAMPLES = 10_000
FEWEST_SCANS = 5                  # below this many validation scans a bootstrap says nothing
PER_SLICE = ("dsc", "hd_legacy")  # means over slices; the others are means over scans


def score_scan(mask, truth, mm, classes=2):
    """Scores of one scan, each the mean over the foreground classes as in main.score.

    Args:
        mask, truth: (S, H, W) classes, predicted and true; bool with one foreground class.
        mm: (row, column, slice) of a voxel.
        classes: K.

    Returns:
        {metric: score}; PER_SLICE ones are sums over the scan's slices, whose number is `slices`.
    """
    x, y, z = mm
    found = []
    for k in range(1, classes):
        pred, true = mask == k, truth == k
        hd, hd95 = hausdorff_pair(pred, true, (z, x, y))
        found.append({"slices": len(true), "dsc": sum(map(dice, pred, true)), "dsc_3d": dice(pred, true), "hd": hd,
                      "hd95": hd95, "hd_legacy": sum(map(legacy_hausdorff, pred, true))})
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
    truths = {subject: np.asarray(load_array(one, subject, "labels")) for subject in validation_subjects(one)}
    classes, per_run = len(one.classes), []
    for run in one.losses.get(row, []):
        if not run.finished or run.collapsed and not collapsed:
            continue
        masks = {subject: predicted_labels(run, subject, truth.shape) for subject, truth in truths.items()}
        if all(mask is not None for mask in masks.values()):
            per_run.append([score_scan(masks[subject], truth, spacing(one, subject), classes)
                            for subject, truth in truths.items()])
    if not per_run:
        return None
    return {name: np.array([[scan[name] for scan in scans] for scans in per_run], float) for name in per_run[0][0]}


def draw_seeds(row, rng):
    """(seeds, scans) scores -> (RESAMPLES, scans) means over seeds drawn with replacement.

    n drawn of n seeds vary less than n new ones would, by (n - 1) / n; deviations are enlarged to make up for it.
    """
    count = len(row)
    means = row[rng.integers(count, size=(RESAMPLES, count))].mean(1)
    return row.mean(0) + (means - row.mean(0)) * (count / max(1, count - 1)) ** 0.5


def paired_interval(with_term, without, weights=None, seed=0):
    """Mean difference of two rows over seeds and scans, with its 95 % bootstrap interval.

    Scans are drawn for both rows alike, so that what is hard for one is hard for the other. The seeds of each row are
    drawn on their own: two losses part after the first step, however they started. With a single seed the interval is
    over scans alone, and too narrow.

    Args:
        with_term, without: (seeds, scans) scores, sums over the slices of a scan where `weights` are given.
        weights: slices of each scan, so that the result is a mean over slices; None: over scans.

    Returns:
        (mean, low, high).
    """
    rng = np.random.default_rng(seed)
    rows = [np.atleast_2d(np.asarray(row, float)) for row in (with_term, without)]
    weights = np.ones(rows[0].shape[1]) if weights is None else np.asarray(weights, float)
    scans = rng.integers(len(weights), size=(RESAMPLES, len(weights)))
    first, second = (draw_seeds(row, rng) for row in rows)                                      # (RESAMPLES, scans)
    means = np.take_along_axis(first - second, scans, 1).sum(1) / weights[scans].sum(1)
    mean = (rows[0].mean(0) - rows[1].mean(0)).sum() / weights.sum()
    return float(mean), *map(float, np.percentile(means, (2.5, 97.5)))


def difference(with_term, without, metric):
    """`paired_interval` of one metric of two `row_scores`, as {"difference", "low", "high"}."""
    weights = without["slices"][0] if metric in PER_SLICE else None
    return dict(zip(("difference", "low", "high"), paired_interval(with_term[metric], without[metric], weights), strict=True))
