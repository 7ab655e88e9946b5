"""The scores of a row of the table, scan by scan: of its runs' best models, or last epochs."""

from functools import cache

import numpy as np

from scans.folder import number_patients
from scoring.cases import validation_cases, validation_names
from scoring.scan_scores import by_epoch, measures
from scoring.scores import BINS, lesion_detection_of, score_scan

# Of row_scores, those that are sums over the slices, or the lesions, of a scan:
# {metric: the number of these slices or lesions}
SUMMED = {"dsc": "slices", "hd_legacy": "slices", "clean": "slices_empty",
          "dsc_lesion": "slices_lesion",
          **{f"recall_{name}": f"{name}_lesions" for name in BINS}}
PATIENT = "patient"


def sum_scores(of_classes, weights):
    """The scores of one scan as {metric: float}, each the mean over the foreground classes.

    Those of SUMMED are sums over slices or lesions.

    Args:
        of_classes: rows of scores.csv.
        weights: of each class, see `class_weights`.
    """
    found = [scores_of_class(row, *weights[row["class_name"]]) for row in of_classes]
    return {name: mean_of([of_class[name] for of_class in found]) for name in found[0]}


def class_weights(rows):
    """{class: (weight of its empty slices, of those that it lies in)} of rows of scores.csv.

    With them the sum over all scans, divided by their slices, is the mean over classes of what each
    class has in its own slices, as in every table. With one class they are 1.
    """
    scans = {(row["subject"], row["class_name"]): row for row in rows}.values()
    counts = {}
    for row in scans:
        empty, bearing = counts.get(row["class_name"], (0, 0))
        counts[row["class_name"]] = (empty + row["slices_empty"],
                                     bearing + row["slices"] - row["slices_empty"])

    means = [sum(found) / len(found) for found in zip(*counts.values(), strict=True)]
    return {name: [mean / count if count else 0.0 for mean, count in zip(means, found, strict=True)]
            for name, found in counts.items()}


def scores_of_class(row, of_empty, of_bearing):
    """The same of one class; false_distance NaN without a false lesion."""
    far = row["false_distance"]
    bearing = of_bearing * (row["slices"] - row["slices_empty"])
    return {
        "slices": row["slices"],
        "slices_empty": of_empty * row["slices_empty"],
        "slices_lesion": bearing,
        "dsc": row["dsc"] * row["slices"],
        "clean": of_empty * row["slices_clean"],
        "dsc_lesion": (row["dsc_lesion"] or 0) * bearing,
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
        statistic: "best" epoch, or the mean over epochs, which needs scores.csv: "last"
            (results.window of them), or (first, last), both counted.

    Returns:
        {metric: float array (seeds, scans)}, without runs that lack the scores or the mask of a
        scan; None if there are none. Where the scans' patients are known PATIENT is an entry too,
        a number for each, (1, scans).
    """
    names, per_run = validation_names(results), []
    for run in results.finished(row):
        if statistic == "best":
            scans = scores_in_file(run.best_scans) or scores_of_masks(results, run)
        else:
            scans = scores_in_file(run.last_scans(results.window) if statistic == "last" else
                                   run.scans_of(*statistic))
        if all(name in scans for name in names):
            per_run.append([scans[name] for name in names])

    if not per_run:
        return None
    found = {name: np.array([[scan[name] for scan in scans] for scans in per_run], float)
             for name in per_run[0][0]}
    if (patients := number_patients(results.data, names)) is not None:
        found[PATIENT] = patients[None]
    return found


def scores_in_file(rows):
    """{scan: sum_scores, the mean over the epochs} of rows of scores.csv."""
    scans, weights = {}, class_weights(rows)
    for of_epoch in by_epoch(rows).values():
        of_scan = {}
        for line in of_epoch:
            of_scan.setdefault(line["subject"], []).append(line)
        for name, lines in of_scan.items():
            scans.setdefault(name, []).append(sum_scores(lines, weights))
    return {name: {metric: mean_of([scores[metric] for scores in epochs]) for metric in epochs[0]}
            for name, epochs in scans.items()}


def scores_of_masks(results, run):
    """The same from the masks of a run of an earlier version."""
    rows = []
    for case in validation_cases(results):
        mask = case.predicted(run)
        if mask is not None:
            scores = score_scan(mask, case.truth, case.spacing, case.classes)
            rows += [{"epoch": 0, "subject": case.name, "class_name": number, **measures(of_class)}
                     for number, of_class in enumerate(scores)]
    return scores_in_file(rows)
