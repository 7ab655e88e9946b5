"""A measure of a run epoch by epoch, at its best epoch and over its last ones.

Its column is one of metrics.csv, one that scores.csv adds (`scan_scores.FURTHER`), or EMPTY.
"""

import statistics

from scoring import scan_scores

EMPTY = "val_empty"  # 1 where the model predicts no foreground at all, else 0; over folds the mean


def series(run, column):
    """The column at every epoch of a Run: [number, or None where it was not computed]."""
    if column == EMPTY:
        parts = [part.rows[:len(run.rows)] for part in run.parts]
        return [_mean([is_empty(row) for row in rows]) for rows in zip(*parts, strict=True)]
    if column in scan_scores.FURTHER:
        return [run.further.get(row["epoch"], {}).get(column) for row in run.rows]
    return [row.get(column) for row in run.rows]


def at_best(run, column):
    """The column at the best epoch (of folds, each at its own); None without it."""
    if column == EMPTY:
        return _mean([is_empty(part.best) for part in run.parts])
    if column in scan_scores.FURTHER:
        return scan_scores.further(run.best_scans)[column]
    return run.best.get(column)


def over_last(run, column, window):
    """The mean over the last `window` epochs; of EMPTY the last one alone. None without any."""
    values = series(run, column)
    return _mean(values[-1:] if column == EMPTY else values[-window:])


def is_empty(row):
    """1 if the model of this epoch predicts no foreground at all, else 0; None if unknown."""
    foreground = row.get("val_foreground")
    return None if foreground is None else float(foreground == 0)


def _mean(values):
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
