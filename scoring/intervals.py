"""Bootstrap intervals: of a mean over scans, and of what two rows of the table differ in."""


import numpy as np

from scoring.scores import SUMMED

RESAMPLES = 10_000
FEWEST_SCANS = 5                  # below this many validation scans a bootstrap says nothing


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
    weights = without["slices"][0] if metric in SUMMED else None
    return dict(zip(("difference", "low", "high"), paired_interval(with_term[metric], without[metric], weights), strict=True))


def bootstrap_interval(values, seed=0):
    """95 % percentile interval of the mean of `values` (n,) over resamples of its members: (low, high)."""
    rng, means = np.random.default_rng(seed), []
    for _ in range(0, RESAMPLES, 500):  # in parts, so that memory does not grow with the square of anything
        means.append(values[rng.integers(len(values), size=(500, len(values)))].mean(axis=1))
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return float(low), float(high)


def describe(values):
    """n, mean, sample std, median and 95 % interval of the mean of the finite values; NaN where undefined."""
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    nan = float("nan")
    if len(values) == 0:
        return {"n": 0, "mean": nan, "std": nan, "median": nan, "ci95_low": nan, "ci95_high": nan}
    low, high = bootstrap_interval(values)
    return {"n": len(values), "mean": float(values.mean()),
            "std": float(values.std(ddof=1)) if len(values) > 1 else nan, "median": float(np.median(values)),
            "ci95_low": low, "ci95_high": high}


def compare(a, b, better):
    """Statistics of the paired differences b - a (n,); `better` is +1 if more is better, -1 if less is."""
    from scipy.stats import wilcoxon
    a, b = np.asarray(a, float), np.asarray(b, float)
    finite = np.isfinite(a) & np.isfinite(b)
    a, b = a[finite], b[finite]
    difference = b - a
    out = {"mean_a": float(a.mean()) if len(a) else float("nan"), "mean_b": float(b.mean()) if len(a) else float("nan")}
    out.update(describe(difference))
    out["b_better"] = int((better * difference > 0).sum())
    out["b_worse"] = int((better * difference < 0).sum())
    # Scans without a difference say nothing about its direction (Wilcoxon's own rule); with no others p is 1.
    changed = difference[difference != 0]
    out["wilcoxon_p"] = float(wilcoxon(changed).pvalue) if len(changed) else 1.0
    return out
