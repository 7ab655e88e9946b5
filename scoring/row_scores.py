"""The scores of a row of the table: of its runs' best models, scan by scan."""

from functools import cache

import numpy as np

from scoring.cases import validation_cases, validation_names
from scoring.scan_scores import measures
from scoring.scores import lesion_detection_of, score_scan

# Of row_scores, those that are sums over a scan's slices: {metric: the number of these slices}
SUMMED = {"dsc": "slices", "hd_legacy": "slices", "clean": "slices_empty",
          "dsc_lesion": "slices_lesion"}


def sum_scores(of_classes):
    """The scores of one scan as {metric: float}, each the mean over the foreground classes.

    Those of SUMMED are sums over slices.

    Args:
        of_classes: dicts as `scan_scores.measures` gives them, or rows of scores.csv.
    """
    found = [{
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
    } for row in of_classes]
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
        {metric: float array (seeds, scans)} of its finished runs, without those that lack the
        scores or the mask of a scan; None if there are none.
    """
    names, per_run = validation_names(results), []
    for run in results.finished(row):
        if run.collapsed and not collapsed:
            continue
        scans = scores_in_file(run) or scores_of_masks(results, run)
        if all(name in scans for name in names):
            per_run.append([scans[name] for name in names])

    if not per_run:
        return None
    return {name: np.array([[scan[name] for scan in scans] for scans in per_run], float)
            for name in per_run[0][0]}


def scores_in_file(run):
    """{scan: sum_scores} at the best epoch, from scores.csv; {} for a run without one."""
    scans = {}
    for line in run.best_scans:
        scans.setdefault(line["subject"], []).append(line)
    return {name: sum_scores(lines) for name, lines in scans.items()}


def scores_of_masks(results, run):
    """The same from the masks of a run of an earlier version."""
    found = {}
    for case in validation_cases(results):
        mask = case.predicted(run)
        if mask is not None:
            scores = score_scan(mask, case.truth, case.spacing, case.classes)
            found[case.name] = sum_scores([measures(of_class) for of_class in scores])
    return found
