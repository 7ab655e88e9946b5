"""Per-scan scores of the runs of a table's row, and paired bootstrap intervals of what two rows differ in."""

import numpy as np

from figures_cases import lesions, prediction, spacing, validation_subjects
from metrics import dice, hausdorff_pair, legacy_hausdorff

RESAMPLES = 10_000
PER_SLICE = ("dsc", "hd_legacy")  # means over slices; the others are means over scans


def score_scan(mask, truth, mm):
    """Scores of one scan; mask and truth bool (S, H, W), mm = (row, column, slice). PER_SLICE ones are sums over slices."""
    x, y, z = mm
    hd, hd95 = hausdorff_pair(mask, truth, (z, x, y))
    return {"slices": len(truth), "dsc": sum(map(dice, mask, truth)), "dsc_3d": dice(mask, truth), "hd": hd, "hd95": hd95,
            "hd_legacy": sum(map(legacy_hausdorff, mask, truth))}


def scan_scores(one, row):
    """Scores of a row's best models on the validation scans, its finished runs only.

    Returns:
        {metric: float array (seeds, scans)}, `slices` among them; None without such a run. A run that has no mask of one
        of the scans is left out.
    """
    per_run = []
    truths = {subject: lesions(one, subject) for subject in validation_subjects(one)}
    for run in one.losses.get(row, []):
        masks = {subject: prediction(run, subject, truth.shape) for subject, truth in truths.items()} if run.finished else {}
        if masks and all(mask is not None for mask in masks.values()):
            per_run.append([score_scan(masks[subject], truth, spacing(one, subject)) for subject, truth in truths.items()])
    if not per_run:
        return None
    return {name: np.array([[scan[name] for scan in scans] for scans in per_run], float) for name in per_run[0][0]}


def paired_interval(with_term, without, weights=None, seed=0):
    """Mean difference of two rows over seeds and scans, with its 95 % bootstrap interval.

    Scans are drawn for both rows alike, so that what is hard for one is hard for the other; the seeds of each row are
    drawn on their own (with a single seed the interval is over scans alone).

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
    drawn = [row[rng.integers(len(row), size=(RESAMPLES, len(row)))].mean(1) for row in rows]   # (RESAMPLES, scans)
    differences = np.take_along_axis(drawn[0] - drawn[1], scans, 1)
    means = differences.sum(1) / weights[scans].sum(1)
    mean = (rows[0].mean(0) - rows[1].mean(0)).sum() / weights.sum()
    return float(mean), *map(float, np.percentile(means, (2.5, 97.5)))


def difference(with_term, without, metric):
    """`paired_interval` of one metric of two `scan_scores`, as {"difference", "low", "high"}."""
    weights = without["slices"][0] if metric in PER_SLICE else None
    return dict(zip(("difference", "low", "high"), paired_interval(with_term[metric], without[metric], weights), strict=True))
