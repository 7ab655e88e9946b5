"""Scan by scan: GDL against GDL + boundary, paired differences, and recall by lesion volume.

A run that predicts nothing counts in every mean.
"""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from metrics import lesion_sizes
from reporting.measures import MEASURES, mean_of, statistic_in_words
from reporting.page.svg import Axes
from scoring.cases import validation_cases, validation_names
from scoring.intervals import (
    FEWEST_SCANS,
    FEWEST_SEEDS,
    difference,
    mean_score,
    patients_behind,
)
from scoring.row_scores import row_scores
from scoring.rows import ALONE, BOTH, PAIR, REGIONAL
from scoring.run_files import number
from utils import read_csv


class Score(NamedTuple):
    """What the page says about a score of `row_scores`."""

    name: str
    words: str
    digits: int
    less_is_better: bool


SCORES = (
    Score("dsc", "DSC, slice mean", 3, False),
    Score("dsc_3d", "3-D DSC", 3, False),
    Score("hd", "HD (mm)", 1, True),
    Score("hd95", "HD95 (mm)", 1, True),
    Score("hd_legacy", "legacy HD", 3, True),
)
PER_SCAN = ("dsc_3d", "hd95")                          # those listed scan by scan
NAMES = {"hd95_mm": "hd95", "false_lesions": "lesions_false"}  # of measures in `row_scores`
EDGES = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)      # ml: between the bins of lesion volume
SQUARE = {"left": 46, "top": 12, "width": 300, "height": 300}  # of a plot's 360 x 350 units


# Scores of scans ----------------------------------------------------------------------------------

def per_scan(results, loss, metric):
    """A score of each validation scan, mean over seeds; None if there is none.

    The score is one of `row_scores`, and the scans are in its order.
    """
    scores = row_scores(results, loss)
    return None if scores is None else scores[metric].mean(0)


def scan_scores(results):
    """3-D DSC and HD95 of every validation scan at the best epoch.

    They are means over the finished seeds.

    Returns:
        [{"subject", "volume" (ml, None if unknown), "dsc_3d", "hd95": {loss: score or None,
        "difference"}}], the scan with the lowest DSC of GDL + boundary first (of GDL where that has
        not finished). [] without the data folder, unless a run kept the scores.
    """
    found = {metric: {loss: per_scan(results, loss, metric) for loss in PAIR}
             for metric in PER_SCAN}
    has_scores = any(values is not None for pair in found.values() for values in pair.values())
    if not validation_cases(results) and not has_scores:
        return []

    known, rows = volumes(results), []
    for index, name in enumerate(validation_names(results)):
        row = {"subject": name, "volume": known.get(name)}
        for metric, scores in found.items():
            pair = {loss: None if values is None else float(values[index])
                    for loss, values in scores.items()}
            change = None if None in pair.values() else pair[BOTH] - pair[REGIONAL]
            row[metric] = {**pair, "difference": change}
        rows.append(row)
    return sorted(rows, key=badness)


def volumes(results):
    """{scan: ml of lesion}; without the data folder as evaluation.csv has it, on the own grid."""
    if cases := validation_cases(results):
        return {case.name: case.volume_ml for case in cases}

    found = {}
    for run in evaluated_runs(results)[:1]:
        for path in evaluation_files(run):
            for line, row in enumerate(read_csv(path), 2):
                found.setdefault(row["subject"], []).append(
                    number(row.get("reference_ml", ""), path, line) or 0)
    return {name: sum(of_classes) for name, of_classes in found.items()}


def evaluated_runs(results):
    """The runs that evaluate.py has scored, in all folds."""
    return [run for run in results.runs if all(map(Path.exists, evaluation_files(run)))]


def evaluation_files(run):
    """evaluation.csv of a run, or of each fold."""
    return [part.folder / "evaluation.csv" for part in run.parts]


def badness(row):
    """Sort key that puts the worst scan first; scans without any score go by name."""
    dsc = row["dsc_3d"]
    known = [dsc[loss] for loss in (BOTH, REGIONAL) if dsc[loss] is not None]
    return known[0] if known else 0, row["subject"]


# Paired differences -------------------------------------------------------------------------------

def paired_differences(results):
    """What the boundary term changed, score by score: over the last epochs, and at the best one.

    The last epochs take scores.csv. [] until both losses have a usable run.

    Returns:
        [{"name", "epochs", "digits", "gdl", "both", "difference", "low", "high", "better", "worse",
        "verdict"}]: means, their difference with its 95 % interval (None with fewer scans or seeds
        than an interval needs), the number of scans on which GDL + boundary is better and worse,
        and the verdict in words. On a phantom there is none.
    """
    rows = []
    for statistic in ("last", "best"):
        without, with_term = (row_scores(results, loss, statistic) for loss in PAIR)
        if without is None or with_term is None:
            continue
        words = statistic_in_words(results, statistic)
        rows += [{"epochs": words, **compare(without, with_term, score, not results.is_phantom)}
                 for score in SCORES]
    return rows


def compare(without, with_term, score, judged):
    """A row of `paired_differences`, from the row_scores of both losses."""
    lack = lack_of(without, with_term, score.name)
    change = difference(with_term, without, score.name, not lack)

    gains = with_term[score.name].mean(0) - without[score.name].mean(0)
    gains *= -1 if score.less_is_better else 1
    return {
        "name": score.words, "digits": score.digits,
        "gdl": mean_score(without, score.name), "both": mean_score(with_term, score.name),
        **change, "better": int((gains > 1e-9).sum()), "worse": int((gains < -1e-9).sum()),
        "verdict": (lack or verdict(change, score.less_is_better)) if judged else ""}


def lack_of(without, with_term, name):
    """What keeps a score of two row_scores from a verdict, in words; "" if nothing does."""
    if patients_behind(with_term, without, name) < FEWEST_SCANS:
        return "too few scans"
    return "one seed" if min(len(without["dsc"]), len(with_term["dsc"])) < FEWEST_SEEDS else ""


@cache  # the first screen and the table of changes ask for the same
def measure_changes(results, statistic):
    """What the boundary term changed in the measures of `reporting.measures`, paired over scans.

    Args:
        results: a ResultSet.
        statistic: "last" epochs, which takes scores.csv, or "best" epoch.

    Returns:
        {key of a measure: {"gdl", "both", "difference", "low", "high", "verdict"}}, as of
        `paired_differences`, of the runs that kept the scores of every scan; {} until both losses
        have one. The distance of false lesions has none: it is a mean over lesions, of which a scan
        may have none.
    """
    without, with_term = (row_scores(results, loss, statistic) for loss in PAIR)
    if without is None or with_term is None:
        return {}

    found, judged = {}, not results.is_phantom
    for measure in MEASURES:
        name = NAMES.get(measure.key, measure.key)
        if name not in without or measure.key == "false_distance":
            continue
        lack = lack_of(without, with_term, name)
        change = difference(with_term, without, name, not lack)
        found[measure.key] = {
            "gdl": mean_score(without, name), "both": mean_score(with_term, name), **change,
            "verdict": (lack or verdict(change, measure.sign < 0)) if judged else ""}
    return found


def means_of(results, measure, statistic):
    """[GDL, GDL + boundary]: the mean of a measure over the runs behind `measure_changes`.

    Where these have none, over all that are finished; None where a row has none.
    """
    change = measure_changes(results, statistic).get(measure.key)
    if change and change["difference"] is not None:
        return [change["gdl"], change["both"]]
    return [mean_of(results, results.finished(loss), measure, statistic)[0] for loss in PAIR]


def verdict(change, less_is_better):
    """"better" or "worse" where the interval holds no 0, else "undecided"."""
    low, high = change["low"], change["high"]
    if low <= 0 <= high:
        return "undecided"
    return "better" if (high < 0) == less_is_better else "worse"


def scatter(scans, metric):
    """A point per scan: GDL on x, GDL + boundary on y; None while one of them has no score.

    Args:
        scans: of `scan_scores`, whose order numbers the points.
        metric: "dsc_3d" or "hd95".

    Returns:
        {"metric", "name", "points", "ticks", "line" (of equality), "better": "below" or "above"}.
    """
    pairs = [[scan[metric][loss] for loss in PAIR] for scan in scans]
    if not pairs or any(None in pair for pair in pairs):
        return None

    score = next(score for score in SCORES if score.name == metric)
    top = 1.0 if metric == "dsc_3d" else 1.08 * max(map(max, pairs)) or 1.0
    axes = Axes(**SQUARE, x=(0, top), y=(0, top))
    points = [{"scan": at, **point(axes, scan["subject"], *pair, score)}
              for at, (scan, pair) in enumerate(zip(scans, pairs))]
    return {"metric": metric, "name": score.words, "points": points, "ticks": axes.ticks(),
            "line": [*axes.at(0, 0), *axes.at(top, top)],
            "better": "below" if score.less_is_better else "above"}


def point(axes, subject, gdl, both, score):
    """Where a scan's point is, whether the boundary term is better there, and both in words."""
    digits, change = score.digits, round(both - gdl, score.digits)
    better = (change < 0) == score.less_is_better
    how = "equal" if not change else "better" if better else "worse"
    x, y = axes.at(gdl, both)
    title = (f"{subject}: {score.words} {gdl:.{digits}f} with GDL, {both:.{digits}f} with "
             f"GDL + boundary ({change:+.{digits}f}, {how})")
    return {"x": x, "y": y, "how": how, "title": title}


# Lesions by volume --------------------------------------------------------------------------------

def by_volume(results):
    """Recall of the reference's lesions (26-connected) by volume, and false lesions, of each loss.

    Returns:
        {"losses": [row, ...], "bins": [{"name", "lesions", "recall": {row: mean over seeds}}],
        "false": {row: false lesions per scan}}; None without a lesion or without a usable run.
    """
    usable = {row: runs for row in (ALONE, *PAIR) if (runs := usable_runs(results, row))}
    sizes, found = [np.zeros(0)], {row: [] for row in usable}
    false, cases = dict.fromkeys(usable, 0.0), validation_cases(results)
    for case in cases:
        truth = case.lesion
        voxel = np.prod(case.spacing) / 1000  # ml
        sizes.append(lesion_sizes(truth, truth)[0] * voxel)
        for row, runs in usable.items():
            masks = [case.predicted_lesion(run) for run in runs]
            found[row].append(np.mean([lesion_sizes(truth, mask)[1] for mask in masks], axis=0))
            false[row] += np.mean([false_lesions(mask, truth) for mask in masks]) / len(cases)

    sizes = np.concatenate(sizes)  # (lesions,)
    if not sizes.size or not usable:
        return None
    found = {row: np.concatenate(shares) for row, shares in found.items()}  # {row: (lesions,)}
    return {"losses": list(usable), "bins": volume_bins(sizes, found),
            "false": {row: float(value) for row, value in false.items()}}


def false_lesions(mask, truth):
    """The number of a mask's lesions that touch none of the truth."""
    return np.count_nonzero(~lesion_sizes(mask, truth)[1])


def volume_bins(sizes, found):
    """Recall of the lesions of each bin of volume, and last of all.

    Args:
        sizes: (lesions,) in ml.
        found: {row: (lesions,)}, the share of seeds that find each.
    """
    bin_of = np.digitize(sizes, EDGES)
    chosen = {bin_name(index): bin_of == index for index in np.unique(bin_of)}
    chosen["all"] = np.full(len(sizes), True)
    return [{"name": name, "lesions": int(these.sum()),
             "recall": {row: float(shares[these].mean()) for row, shares in found.items()}}
            for name, these in chosen.items()]


def bin_name(index):
    """The volumes of a bin of `EDGES`, in ml."""
    if index == 0:
        return f"below {EDGES[0]:g} ml"
    if index == len(EDGES):
        return f"{EDGES[-1]:g} ml and more"
    return f"{EDGES[index - 1]:g} to {EDGES[index]:g} ml"


def usable_runs(results, row):
    """The finished runs of a row that have predicted every validation scan."""
    return [run for run in results.finished(row) if all(
        case.predicted(run) is not None for case in validation_cases(results))]
