"""Scan by scan: DSC and HD95 of GDL against GDL + boundary, their paired differences, and recall by lesion volume."""

import numpy as np

from metrics import lesion_sizes
from reporting.page.svg import Axes
from scoring.cases import validation_cases
from scoring.intervals import FEWEST_SCANS, difference
from scoring.rows import PAIR
from scoring.scores import SUMMED, row_scores

# of row_scores: name, words, decimals, is less better?
SCORES = (("dsc", "DSC, slice mean", 3, False), ("dsc_3d", "3-D DSC", 3, False), ("hd", "HD (mm)", 1, True),
          ("hd95", "HD95 (mm)", 1, True), ("hd_legacy", "legacy HD", 3, True))
EDGES = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)  # ml: between the bins of lesion volume
SQUARE = {"left": 46, "top": 12, "width": 300, "height": 300}  # of the 360 x 350 units of a scatter plot


def per_scan(one, loss, metric):
    """A score of each validation scan, as of `row_scores` and in its order, mean over seeds; None if there is none."""
    scores = row_scores(one, loss)
    return None if scores is None else scores[metric].mean(0)


def scan_scores(one):
    """3-D DSC and HD95 of every validation scan at the best epoch, means over the finished seeds that did not collapse.

    Returns:
        [{"subject", "volume" (ml), "dsc_3d", "hd95": {loss: score or None, "difference"}}], the scan with the lowest DSC of
        GDL + boundary first (of GDL where that has not finished).
    """
    found = {metric: {loss: per_scan(one, loss, metric) for loss in PAIR} for metric in ("dsc_3d", "hd95")}
    rows = []
    for index, case in enumerate(validation_cases(one)):
        row = {"subject": case.name, "volume": case.volume_ml}
        for metric, scores in found.items():
            pair = {loss: None if values is None else float(values[index]) for loss, values in scores.items()}
            row[metric] = {**pair, "difference": None if None in pair.values() else pair[PAIR[1]] - pair[PAIR[0]]}
        rows.append(row)
    return sorted(rows, key=badness)


def badness(row):
    """Sort key that puts the worst scan first; scans without any score go by name."""
    known = [row["dsc_3d"][loss] for loss in PAIR[::-1] if row["dsc_3d"][loss] is not None]
    return known[0] if known else 0, row["subject"]


def paired_differences(one):
    """What the boundary term changed, score by score; [] while one of the two losses has no usable run.

    Returns:
        [{"name", "digits", "gdl", "both", "difference", "low", "high", "better", "worse", "verdict"}]: means, their difference
        with its 95 % interval (None with fewer scans than a bootstrap needs), scans on which GDL + boundary is better and
        worse, and "better" or "worse" where the interval leaves out 0.
    """
    without, with_term = (row_scores(one, loss) for loss in PAIR)
    if without is None or with_term is None:
        return []
    rows = []
    for name, words, digits, less_is_better in SCORES:
        values = difference(with_term, without, name)
        if without[name].shape[1] < FEWEST_SCANS:
            values |= {"low": None, "high": None}
        means = [scores[name].mean(0).sum() / (scores["slices"][0].sum() if name in SUMMED else scores[name].shape[1])
                 for scores in (without, with_term)]
        gains = (per_scan(one, PAIR[1], name) - per_scan(one, PAIR[0], name)) * (-1 if less_is_better else 1)
        rows.append({"name": words, "digits": digits, "gdl": means[0], "both": means[1], **values,
                     "better": int((gains > 1e-9).sum()), "worse": int((gains < -1e-9).sum()),
                     "verdict": verdict(values, less_is_better)})
    return rows


def verdict(values, less_is_better):
    """"better" or "worse" where the interval holds no 0, else ""."""
    low, high = values["low"], values["high"]
    if low is None or low <= 0 <= high:
        return ""
    return "better" if (high < 0) == less_is_better else "worse"


def scatter(scans, metric):
    """GDL on x, GDL + boundary on y: {"ticks", "line", "points"}; None while one of them has no score.

    Args:
        scans: of `scan_scores`, whose order numbers the points.
        metric: "dsc_3d" or "hd95".
    """
    pairs = [(at, scan["subject"], *(scan[metric][loss] for loss in PAIR)) for at, scan in enumerate(scans)]
    if not pairs or any(value is None for pair in pairs for value in pair[2:]):
        return None
    _, words, digits, less_is_better = next(score for score in SCORES if score[0] == metric)
    top = 1.0 if metric == "dsc_3d" else 1.08 * max(max(pair[2:]) for pair in pairs) or 1.0
    axes, points = Axes(**SQUARE, x=(0, top), y=(0, top)), []
    for at, subject, gdl, both in pairs:
        change = round(both - gdl, digits)
        how = "equal" if not change else "better" if (change < 0) == less_is_better else "worse"
        x, y = axes.at(gdl, both)
        points.append({"scan": at, "x": x, "y": y, "how": how, "title": f"{subject}: {words} {gdl:.{digits}f} with GDL, "
                       f"{both:.{digits}f} with GDL + boundary ({change:+.{digits}f}, {how})"})
    return {"metric": metric, "name": words, "points": points, "ticks": axes.ticks(),
            "line": [*axes.at(0, 0), *axes.at(top, top)], "better": "below" if less_is_better else "above"}


def by_volume(one):
    """Recall of the reference's lesions (26-connected) by their volume, and false lesions, of each usable loss.

    Returns:
        {"losses": [row, ...], "bins": [{"name", "lesions", "recall": {row: mean over seeds}}], "false": {row: false lesions
        per scan}}; None without a lesion or without a usable run.
    """
    usable = {row: runs for row in ("boundary", *PAIR) if (runs := usable_runs(one, row))}
    sizes, found, false = [], {row: [] for row in usable}, dict.fromkeys(usable, 0.0)
    cases = validation_cases(one)
    for case in cases:
        truth = case.lesion
        voxel = np.prod(case.spacing) / 1000                                                # ml
        sizes.append(lesion_sizes(truth, truth)[0] * voxel)
        for row, runs in usable.items():
            masks = [case.predicted_lesion(run) for run in runs]
            found[row].append(np.mean([lesion_sizes(truth, mask)[1] for mask in masks], axis=0))
            false[row] += np.mean([np.count_nonzero(~lesion_sizes(mask, truth)[1]) for mask in masks]) / len(cases)
    sizes = np.concatenate([np.zeros(0), *sizes])
    if not sizes.size or not usable:
        return None
    found = {row: np.concatenate(shares) for row, shares in found.items()}
    bins = []
    for index in np.unique(at := np.digitize(sizes, EDGES)):
        chosen = at == index
        bins.append({"name": bin_name(index), "lesions": int(chosen.sum()),
                     "recall": {row: float(shares[chosen].mean()) for row, shares in found.items()}})
    bins.append({"name": "all", "lesions": len(sizes), "recall": {row: float(one.mean()) for row, one in found.items()}})
    return {"losses": list(usable), "bins": bins, "false": {row: float(value) for row, value in false.items()}}


def bin_name(index):
    """The volumes of a bin of `EDGES`, in ml."""
    if index == 0:
        return f"below {EDGES[0]:g} ml"
    return f"{EDGES[index - 1]:g} to {EDGES[index]:g} ml" if index < len(EDGES) else f"{EDGES[-1]:g} ml and more"


def usable_runs(one, row):
    """The finished runs of a row that did not collapse and whose predictions hold every validation scan."""
    return [run for run in one.finished(row) if not run.collapsed and all(
        case.predicted(run) is not None for case in validation_cases(one))]
