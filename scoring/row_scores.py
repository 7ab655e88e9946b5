"""The scores of a row of the table, scan by scan: of its runs' best models, or last epochs."""

from functools import cache

import numpy as np

from scoring.cases import validation_cases, validation_names
from scoring.scan_scores import by_epoch, measures
from scoring.scores import BINS, lesion_detection_of, score_scan

# Of row_scores, those that are sums over the slices, or the lesions, of a scan:
# {metric: the number of these slices or lesions}
SUMMED = {"dsc": "slices", "hd_legacy": "slices", "clean": "slices_empty",
          "dsc_lesion": "slices_lesion",
          **{f"recall_{name}": f"{name}_lesions" for name in BINS}}


def sum_scores(of_classes):
    """The scores of one scan as {metric: float}, each the mean over the foreground classes.

    Those of SUMMED are sums over slices or lesions.

    Args:
        of_classes: dicts as `scan_scores.measures` gives them, or rows of scores.csv.
    """
    found = [scores_of_class(row) for row in of_classes]
    return {name: mean_of([of_class[name] for of_class in found]) for name in found[0]}


def scores_of_class(row):
    """The same of one class; false_distance NaN without a false lesion."""
    far = row["false_distance"]
    return {
        "slices": row["slices"],
        "slices_empty": row["slices_empty"],
        "slices_lesion": row["slices"] - row["slices_empty"],
        "dsc": row["dsc"] * row["slices"],
        "clean": row["slices_clean"],
        "dsc_lesion": (row["dsc_lesion"] or 0) * (row["slices"] - row["slices_empty"]),
        "dsc_3d": row["dsc_3d"],
        "hd": row["hd"],
        "hd95": row["hd95"],
        "hd_legacy": row["hd_legacy"] * row["slices"],
        **{f"lesion_{name}": value for name, value in lesion_detection_of(row).items()},
        **{f"{name}_lesions": row[f"{name}_lesions"] for name in BINS},
        **{f"recall_{name}": row[f"{name}_found"] for name in BINS},
        "lesions_predicted": row["lesions_predicted"],
        "lesions_false": row["lesions_false"],
        "false_distance": np.nan if far is None else far,
        "false_mm": row["lesions_false"] * (far or 0),
    }


def mean_of(values):
    """Mean of the finite values, NaN without any."""
    values = [value for value in values if np.isfinite(value)]
    return float(np.mean(values)) if values else np.nan


@cache  # several claims ask for the same row
def row_scores(results, row, statistic="best"):
    """Scores of a row's finished runs on the validation scans; one that predicts nothing counts.

    Args:
        results: a ResultSet.
        row: its name.
        statistic: "best" epoch, or "last": the mean over the last epochs (results.window), which
            needs scores.csv.

    Returns:
        {metric: float array (seeds, scans)}, without runs that lack the scores or the mask of a
        scan; None if there are none.
    """
    names, per_run = validation_names(results), []
    for run in results.finished(row):
        scans = (scores_in_file(run.last_scans(results.window)) if statistic == "last" else
                 scores_in_file(run.best_scans) or scores_of_masks(results, run))
        if all(name in scans for name in names):
            per_run.append([scans[name] for name in names])

    if not per_run:
        return None
    return {name: np.array([[scan[name] for scan in scans] for scans in per_run], float)
            for name in per_run[0][0]}


def scores_in_file(rows):
    """{scan: sum_scores, the mean over the epochs} of rows of scores.csv."""
    scans = {}
    for of_epoch in by_epoch(rows).values():
        of_scan = {}
        for line in of_epoch:
            of_scan.setdefault(line["subject"], []).append(line)
        for name, lines in of_scan.items():
            scans.setdefault(name, []).append(sum_scores(lines))
    return {name: {metric: mean_of([scores[metric] for scores in epochs]) for metric in epochs[0]}
            for name, epochs in scans.items()}


def scores_of_masks(results, run):
    """The same from the masks of a run of an earlier version."""
    found = {}
    for case in validation_cases(results):
        mask = case.predicted(run)
        if mask is not None:
            scores = score_scan(mask, case.truth, case.spacing, case.classes)
            found[case.name] = sum_scores([measures(of_class) for of_class in scores])
    return found
