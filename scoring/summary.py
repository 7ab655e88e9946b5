"""summary.json of evaluate.py, in nnU-Net's shape."""

import numpy as np


def nnunet_summary(scores, files, labels):
    """The part of summary.json that nnU-Net writes too.

    Args:
        scores: [{label: {score: value}}], one per scan.
        files: [(prediction, reference)] of each scan.
        labels: those scored.
    """
    means = {label: mean_scores([scan[label] for scan in scores]) for label in labels}
    return {
        "foreground_mean": foreground_mean(list(means.values())),
        "mean": means,
        "metric_per_case": [
            {"metrics": scan, "prediction_file": str(prediction), "reference_file": str(reference)}
            for scan, (prediction, reference) in zip(scores, files, strict=True)],
    }


def mean_scores(rows):
    """The mean of each numeric score over rows (dicts), over its finite values as in nnU-Net."""
    return {key: finite_mean([row[key] for row in rows])
            for key in rows[0] if not key.endswith("_empty")}


def finite_mean(values):
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")


def foreground_mean(means):
    """The mean over labels of their means (dicts), as in nnU-Net.

    NaN where one label has none: a class that occurs in no mask is not left out.
    """
    return {key: float(np.mean([of_label[key] for of_label in means])) for key in means[0]}


def jsonable(value):
    """The same value with NaN and infinities as None, which JSON can hold."""
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
