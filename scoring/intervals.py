"""Bootstrap intervals: of a mean over scans, and of the difference between two rows of a table."""

import numpy as np
from scipy.special import stdtrit

from scoring.row_scores import PATIENT, SUMMED

RESAMPLES = 10_000
FEWEST_SCANS = 5  # with fewer there is no interval and no p-value: they would say nothing
FEWEST_SEEDS = 2  # of a row; with one nobody knows how much seeds differ
BATCH = 500       # resamples in memory at a time
CHANGE = ("difference", "low", "high")  # what `difference` gives
UNBOUNDED = ("hd", "hd95", "hd_legacy", "lesions_false", "false_mm", "false_distance")


def widening(seeds):
    """What the deviations between this many seeds, or scans, are enlarged by; 1 for a single one.

    The mean of n draws out of n seeds varies less than that of n new seeds would, by (n - 1) / n.
    And their spread is itself known from n seeds only: t(n - 1) / 1.96, as between the quantiles of
    Student's t and the normal distribution; 6.5 for two seeds, 2.2 for three, 1.3 for six.
    """
    if seeds < 2:
        return 1.0
    return (seeds / (seeds - 1)) ** 0.5 * t_quantile(seeds) / 1.96


def t_quantile(seeds):
    """The 97.5 % quantile of Student's t for the mean of this many seeds, two or more."""
    return float(stdtrit(seeds - 1, 0.975))


def mean_known(values, axis):
    """Mean over the finite values along an axis; NaN where there is none."""
    known = np.isfinite(values)
    count = known.sum(axis)
    sums = np.where(known, values, 0).sum(axis)
    return np.divide(sums, count, out=np.full(sums.shape, np.nan), where=count > 0)


def mean_score(scores, name):
    """The mean of a metric of `row_scores` over seeds and what it is a score of; NaN without any.

    That is scans, or of SUMMED their slices or lesions.
    """
    values = mean_known(scores[name], 0)
    if name not in SUMMED:
        return float(mean_known(values, 0))
    count = scores[SUMMED[name]][0].sum()
    return float(values.sum() / count) if count else float("nan")


def draw_seeds(row, rng):
    """(seeds, scans) scores -> (RESAMPLES, scans) means over seeds drawn with replacement."""
    count, mean = len(row), mean_known(row, 0)
    means = mean_known(row[rng.integers(count, size=(RESAMPLES, count))], 1)
    return mean + (means - mean) * widening(count)


def paired_interval(with_term, without, weights=None, seed=0, patients=None):
    """Mean difference of two rows over seeds and scans, with its 95 % bootstrap interval.

    The same scans are drawn for both rows, so that a scan that is hard for one is hard for the
    other; of a patient with several scans all or none, since they hang together. The seeds of each
    row are drawn on their own: two losses part after the first step, however they started. What
    their seeds differ by is enlarged, see `widening`. With a single seed the interval is over scans
    alone, and too narrow.

    Args:
        with_term, without: (seeds, scans) scores, sums over the slices of a scan where `weights`
            are given. A scan that has no finite score in one of them stays out.
        weights: slices of each scan, so that the result is a mean over slices; None: over scans.
        patients: (scans,) the number of each scan's patient, from 0; None: each is of another.

    Returns:
        (mean, low, high); NaN where nothing is left.
    """
    rng = np.random.default_rng(seed)
    rows = [np.atleast_2d(np.asarray(row, float)) for row in (with_term, without)]
    if weights is None:
        weights = np.ones(rows[0].shape[1])
    weights = np.asarray(weights, float)

    def of_patients(differences):  # (..., scans), NaN where not known -> 2 x (..., patients)
        known = np.isfinite(differences)
        parts = [np.where(known, values, 0) for values in (differences, weights)]
        return parts if patients is None else [part @ np.eye(count)[patients] for part in parts]

    def mean(sums, total):  # (..., patients) -> (...,)
        sums, total = sums.sum(-1), total.sum(-1)
        return np.divide(sums, total, out=np.full(sums.shape, np.nan), where=total > 0)

    count = len(weights) if patients is None else int(np.max(patients)) + 1
    chosen = rng.integers(count, size=(RESAMPLES, count))
    first, second = (draw_seeds(row, rng) for row in rows)  # (RESAMPLES, scans)
    drawn = mean(*(np.take_along_axis(part, chosen, 1) for part in of_patients(first - second)))
    drawn = drawn[np.isfinite(drawn)]  # a draw may hold no scan that counts
    low, high = np.percentile(drawn, (2.5, 97.5)) if len(drawn) else (np.nan, np.nan)
    whole = of_patients(mean_known(rows[0], 0) - mean_known(rows[1], 0))
    return float(mean(*whole)), float(low), float(high)


def mean_interval(scores, seed=0):
    """Mean of a row over its seeds and scans, with the 95 % bootstrap interval over both.

    Scans and seeds are drawn as in `paired_interval`. What is not finite stays out of every mean.

    Args:
        scores: (seeds, scans).

    Returns:
        (mean, low, high); low and high NaN with fewer than FEWEST_SCANS scans, all NaN where
        nothing is finite.
    """
    scores = np.atleast_2d(np.asarray(scores, float))
    known = np.isfinite(scores)
    values, nan = np.where(known, scores, 0), float("nan")
    if not known.any():
        return nan, nan, nan
    mean = float(values.sum() / known.sum())
    if known.any(0).sum() < FEWEST_SCANS:
        return mean, nan, nan

    rng, (seeds, count) = np.random.default_rng(seed), scores.shape
    scans = rng.integers(count, size=(RESAMPLES, count))
    drawn = rng.integers(seeds, size=(RESAMPLES, seeds))

    def means(of_scan):  # (RESAMPLES or 1, scans) of a sum and of a count -> (RESAMPLES,)
        sums, numbers = (np.take_along_axis(np.broadcast_to(each, scans.shape), scans, 1).sum(1)
                         for each in of_scan)
        return np.divide(sums, numbers, out=np.full(RESAMPLES, nan), where=numbers > 0)

    # Deviations between seeds are enlarged as in draw_seeds; of scans alone they have none
    whole = means([values.sum(0), known.sum(0)])
    resampled = means([values[drawn].sum(1), known[drawn].sum(1)])
    spread = (resampled - whole) * widening(seeds)
    low, high = np.nanpercentile(whole + spread, (2.5, 97.5))
    return mean, float(low), float(high)


def difference(with_term, without, metric, with_interval=True):
    """`paired_interval` of one metric of two `row_scores`: {"difference", "low", "high"}.

    Each is None where no scan has the metric, the interval with fewer than FEWEST_SCANS scans, or
    patients, too, and where it is not asked for. Two scores from 0 to 1 differ by no more than 1,
    however few seeds there are.
    """
    weights = without[SUMMED[metric]][0] if metric in SUMMED else None
    patients = without[PATIENT][0] if PATIENT in without else None
    mean, low, high = paired_interval(with_term[metric], without[metric], weights,
                                      patients=patients)
    if metric not in UNBOUNDED:
        low, high = max(low, -1.0), min(high, 1.0)
    if not with_interval or patients_behind(with_term, without, metric) < FEWEST_SCANS:
        low = high = np.nan
    return {key: value if np.isfinite(value) else None
            for key, value in zip(CHANGE, (mean, low, high), strict=True)}


def difference_with_interval(with_term, without, metric):
    """`difference` for a table; three times None without a row, or where there is no interval."""
    found = difference(with_term, without, metric) if with_term and without else {"low": None}
    return dict.fromkeys(CHANGE) if found["low"] is None else found


def scans_behind(with_term, without, metric):
    """The number of scans that `difference` is made of: those with a score in both rows."""
    return int(are_behind(with_term, without, metric).sum())


def patients_behind(with_term, without, metric):
    """The number of their patients; of scans, where these are not known."""
    known = are_behind(with_term, without, metric)
    return len(set(without[PATIENT][0][known])) if PATIENT in without else int(known.sum())


def are_behind(with_term, without, metric):
    """Which scans have a score in both rows, bool (scans,)."""
    known = np.isfinite(mean_known(with_term[metric], 0) - mean_known(without[metric], 0))
    if metric in SUMMED:
        known &= without[SUMMED[metric]][0] > 0
    return known


def change_in_words(value):
    """"+0.012 [-0.003, +0.027]" from what `difference` gave; "–" for what is None."""
    if value["difference"] is None:
        return "–"
    if value["low"] is None:
        return f"{value['difference']:+.3f}"
    return f"{value['difference']:+.3f} [{value['low']:+.3f}, {value['high']:+.3f}]"


def bootstrap_interval(sums, counts=None, seed=0):
    """95 % interval of the mean of some patients' scores: (low, high).

    Percentiles over resamples of the patients, whose deviations are enlarged because they are few,
    see `widening`: of 5 or 6 the percentiles alone would hold the mean 4 times in 5.

    Args:
        sums: (patients,) of the scores of each patient's scans.
        counts: (patients,) of these scans; None: one each.
    """
    counts = np.ones(len(sums)) if counts is None else counts

    def mean_of_scans(sums, counts, axis=-1):
        return sums.sum(axis) / counts.sum(axis)

    mean = mean_of_scans(sums, counts)
    if len(sums) == 1:  # says nothing of how much it varies
        return float(mean), float(mean)

    from scipy.stats import bootstrap  # here, because importing it takes long
    found = bootstrap((sums, counts), mean_of_scans, paired=True, n_resamples=RESAMPLES,
                      batch=BATCH, method="percentile", confidence_level=0.95,
                      random_state=np.random.default_rng(seed))
    factor = widening(len(sums))
    low, high = (mean + (limit - mean) * factor for limit in found.confidence_interval)
    return float(low), float(high)


def per_patient(values, patients=None):
    """Sums and numbers of scores, (patients,) each; for the numbers None where all are 1.

    Args:
        values: (scans,).
        patients: (scans,) whose they are; None: each is of another.
    """
    if patients is None:
        return values, None
    each = np.unique(patients, return_inverse=True)[1]
    return np.bincount(each, values), np.bincount(each)


def summarise(values, limits=(-np.inf, np.inf), patients=None):
    """Statistics of the finite ones among `values`; NaN where undefined.

    Args:
        values: (n,) scores.
        limits: the least and the greatest that there can be, which the interval keeps to.
        patients: (n,) whose scans they are, drawn together; None: each is of another.

    Returns:
        {"n", "mean", "std" (of the sample, from 2 values on), "median", "ci95_low", "ci95_high" (of
        the mean, from FEWEST_SCANS patients on)}.
    """
    values = np.asarray(values, float)
    known = np.isfinite(values)
    values, patients = values[known], None if patients is None else patients[known]
    nan = float("nan")
    if len(values) == 0:
        return {"n": 0, "mean": nan, "std": nan, "median": nan, "ci95_low": nan, "ci95_high": nan}

    sums, counts = per_patient(values, patients)
    interval = bootstrap_interval(sums, counts) if len(sums) >= FEWEST_SCANS else (nan, nan)
    low, high = np.clip(interval, *limits)  # NaN stays
    return {
        "n": len(values),
        "mean": float(values.mean()),
        "std": float(values.std(ddof=1)) if len(values) > 1 else nan,
        "median": float(np.median(values)),
        "ci95_low": float(low),
        "ci95_high": float(high),
    }


def summarise_pairs(a, b, better, patients=None):
    """Statistics of the paired differences b - a, over the pairs in which both are finite.

    Args:
        a, b: (n,) scores of the same scans.
        better: +1 if more is better, -1 if less is, 0 if it is better to be nearer to 0.
        patients: (n,) whose scans they are; None: each is of another.

    Returns:
        what `summarise` gives for b - a, and "mean_a", "mean_b", "b_better", "b_worse" (numbers of
        scans), "wilcoxon_p" (two-sided, of the patients' means, from FEWEST_SCANS patients on).
    """
    from scipy.stats import wilcoxon
    a, b = np.asarray(a, float), np.asarray(b, float)
    finite = np.isfinite(a) & np.isfinite(b)
    a, b, patients = a[finite], b[finite], None if patients is None else patients[finite]
    change = b - a
    gain = better * change if better else np.abs(a) - np.abs(b)

    # Patients without a change say nothing about its direction (Wilcoxon's own rule); if there
    # are no others, p is 1.
    sums, counts = per_patient(change, patients)
    means = sums if counts is None else sums / counts
    changed = means[means != 0]
    p = float(wilcoxon(changed).pvalue) if len(changed) else 1.0
    if len(means) < FEWEST_SCANS:
        p = float("nan")

    return {
        "mean_a": float(a.mean()) if len(a) else float("nan"),
        "mean_b": float(b.mean()) if len(b) else float("nan"),
        **summarise(change, patients=patients),
        "b_better": int((gain > 0).sum()),
        "b_worse": int((gain < 0).sum()),
        "wilcoxon_p": p,
    }
