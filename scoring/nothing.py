"""What predicting nothing scores on the validation scans, so that no row is read without it."""

import math
from functools import cache

import numpy as np

from scoring import scan_scores
from scoring.cases import validation_cases
from scoring.scores import BINS, score_scan


@cache
def scores_of_nothing(results):
    """The columns of metrics.csv, and those that scores.csv adds, of an empty prediction.

    They are computed from the labels. Without the data folder they are those of an epoch at which a
    run has predicted nothing on a scan, as scores.csv tells; without such an epoch all but the
    distances follow from what scores.csv counts. Without that too only the share of empty slices is
    known, of a single class.

    Args:
        results: a ResultSet.
    """
    classes = results.classes
    rows = of_labels(results) or of_empty_epochs(results) or of_counts(results)
    if rows:
        found = {**scan_scores.means(rows, classes), **scan_scores.further(rows)}
        return {name: value for name, value in found.items()
                if value is None or not math.isnan(value)}
    empty = results.fingerprint.val.empty_fraction
    return {"val_dice": empty} if len(classes) == 2 and empty is not None else {}


def of_labels(results):
    """The rows of scores.csv for an empty prediction; [] where the data folder is not there."""
    scans = [(case.name, score_scan(np.zeros_like(case.truth), case.truth, case.spacing,
                                    case.classes)) for case in validation_cases(results)]
    return scan_scores.rows_of(0, scans, results.classes)


def of_empty_epochs(results):
    """The same from epochs at which some run predicted nothing; [] if that leaves out a scan."""
    rows = [row for part in results.parts for row in part.scans]
    found = {(row["subject"], row["class_name"]): row for row in rows if row["foreground"] == 0}
    wanted = {(row["subject"], row["class_name"]) for row in rows}
    return list(found.values()) if set(found) == wanted else []


def of_counts(results):
    """The same from the slices and lesions that any epoch counts; the distances are NaN."""
    rows = {(row["subject"], row["class_name"]): row for part in results.parts
            for row in part.scans}
    return [emptied(row) for row in rows.values()]


def emptied(row):
    """A row of scores.csv as it would be if nothing were predicted; the distances are NaN."""
    bearing = row["slices"] - row["slices_empty"]
    return {**row, "slices_clean": row["slices_empty"], "dsc": row["slices_empty"] / row["slices"],
            "dsc_lesion": 0.0 if bearing else None, "dsc_3d": float(not bearing),
            **dict.fromkeys(("hd", "hd95", "hd_legacy"), math.nan), "false_distance": None,
            **dict.fromkeys(("foreground", "foreground_empty", "lesions_found",
                             "lesions_predicted", "lesions_false",
                             *(f"{name}_found" for name in BINS)), 0)}
