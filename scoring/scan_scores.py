"""scores.csv: every measure of every validation scan, epoch by epoch.

What tables, figures and intervals say can be computed again from it, without scans or masks.
"""

import csv
import os
from pathlib import Path

import numpy as np

from scoring.run_files import ScanScores, read_numbers
from scoring.scores import BINS, class_columns, lesion_detection_of
from utils import UserError, atomic_path, remove

FILE = "scores.csv"
COLUMNS = list(ScanScores.model_fields)
WORDS = ("subject", "class_name")  # the columns that are not numbers
ALWAYS = [name for name, field in ScanScores.model_fields.items()  # never empty
          if field.is_required() and name not in WORDS]
DO = "Repeat the run that wrote it."
PUT_BACK = ("Put the run's own back, or remove it: it then begins with the next epoch, and the run "
            "has no scores of single scans from before.")

# What `further` gives: the share of the lesions of a volume that is found, over all scans; the
# false lesions of a scan, and their mean distance from the nearest true one, mm
FURTHER = (*(f"val_recall_{name}" for name in BINS), "val_false_lesions", "val_false_distance")


def rows_of(epoch, scans, classes):
    """The rows of one epoch.

    Args:
        epoch: its number.
        scans: (name, what `scores.score_scan` returned) of each.
        classes: names of all classes, background first.
    """
    return [{"epoch": epoch, "subject": name, "class_name": label, **measures(of_class)}
            for name, scores in scans
            for label, of_class in zip(classes[1:], scores, strict=True)]


def measures(of_class):
    """What scores.csv says of one class of one scan, from its dict of `scores.score_scan`."""
    bearing, dsc, foreground = (np.asarray(of_class[name])
                                for name in ("bearing", "dice", "foreground"))
    empty = ~bearing
    # The DSC of a slice without a lesion is 1 where nothing is predicted, else next to 0.
    return {
        "slices": len(dsc),
        "slices_empty": int(empty.sum()),
        "slices_clean": int((dsc[empty] > 0.5).sum()),
        "dsc": float(dsc.mean()),
        "dsc_lesion": float(dsc[bearing].mean()) if bearing.any() else None,
        "hd_legacy": float(np.mean(of_class["legacy"])),
        "foreground": float(foreground.mean()),
        "foreground_empty": float(foreground[empty].mean()) if empty.any() else None,
        **{name: _none_if_nan(value) for name, value in of_class.items()
           if name in COLUMNS and np.ndim(value) == 0},
    }


def _none_if_nan(value):
    return None if np.isnan(value) else float(value)


def by_epoch(rows):
    """{epoch: its rows}."""
    found = {}
    for row in rows:
        found.setdefault(row["epoch"], []).append(row)
    return found


def means(rows, classes):
    """The columns of metrics.csv that follow from the rows of one epoch, as `scores.epoch_scores`.

    Args:
        rows: of scores.csv, one per scan and class.
        classes: names of all classes, background first.
    """
    per_class = [class_means([row for row in rows if row["class_name"] == label])
                 for label in classes[1:]]
    found = {name: _mean([of_class[name] for of_class in per_class]) for name in per_class[0]}
    for of_class, (dsc, hd95) in zip(per_class, class_columns(classes).values()):
        found |= {dsc: of_class["val_dice_3d"], hd95: of_class["val_hd95"]}
    return found


def class_means(rows):
    """The same of one class; None where a mean does not exist."""
    def over(measure, weight=None):
        weights = [1 if weight is None else weight(row) for row in rows]
        values = [row[measure] * w for row, w in zip(rows, weights, strict=True) if w]
        return sum(values) / sum(weights) if sum(weights) else None

    slices, bearing = (lambda row: row["slices"]), (lambda row: row["slices"] - row["slices_empty"])
    empty = sum(row["slices_empty"] for row in rows)
    detected = [lesion_detection_of(row) for row in rows]
    return {
        "val_dice": over("dsc", slices),
        "val_dice_3d": over("dsc_3d"),
        "val_hd": over("hd"),
        "val_hd95": over("hd95"),
        "val_hd_legacy": over("hd_legacy", slices),
        "val_dice_lesion": over("dsc_lesion", bearing),
        "val_foreground": over("foreground", slices),
        "val_clean": sum(row["slices_clean"] for row in rows) / empty if empty else None,
        **{f"val_lesion_{name}": _mean([counts[name] for counts in detected])
           for name in ("recall", "precision", "f1")},
    }


def further(rows):
    """The measures that metrics.csv lacks, from the rows of one epoch; see FURTHER."""
    false = sum(row["lesions_false"] for row in rows)
    apart = [(row["lesions_false"], row["false_distance"]) for row in rows
             if row["false_distance"] is not None]
    near = sum(count for count, _ in apart)
    return {
        **{f"val_recall_{name}": _share(sum(row[f"{name}_found"] for row in rows),
                                        sum(row[f"{name}_lesions"] for row in rows))
           for name in BINS},
        "val_false_lesions": _share(false, len(rows)),
        "val_false_distance": _share(sum(count * mm for count, mm in apart), near)}


def _share(part, whole):
    return part / whole if whole else None


def _mean(values):
    return None if None in values else sum(values) / len(values)


# The file -----------------------------------------------------------------------------------------

def append(folder, rows):
    """Add an epoch's rows to a run folder's scores.csv; of a number seven digits.

    A file that an earlier version began keeps its columns.
    """
    path = Path(folder) / FILE
    columns = COLUMNS
    if path.exists() and path.stat().st_size:
        with open(path, newline="", encoding="utf-8") as file:
            columns = next(csv.reader(file))
    with open(path, "a", newline="", encoding="utf-8") as file:
        if columns is COLUMNS:
            file.write(",".join(COLUMNS) + "\n")
        csv.writer(file, lineterminator="\n").writerows(
            [f"{value:.7g}" if isinstance(value, float) else value
             for value in (row.get(name) for name in columns)] for row in rows)
        file.flush()
        os.fsync(file.fileno())  # the checkpoint of the epoch, written next, must not outlive it


def keep_epochs(folder, epochs):
    """Leave only the first epochs in scores.csv: a run that continues writes the others again.

    A line that a kill has cut goes with its epoch. Epochs before the file began, of a run whose
    file was removed, may be missing.

    Raises:
        UserError: the file is damaged, or lacks one of the epochs since it began.
    """
    path = Path(folder) / FILE
    if not path.exists():
        return
    if not epochs or not path.stat().st_size:
        remove(path)
        return

    try:
        with open(path, newline="", encoding="utf-8") as file:
            header, *lines = file
    except UnicodeDecodeError as error:
        raise UserError(path, "a CSV table", f"{type(error).__name__}: {error}", PUT_BACK) from None
    numbers = [int(first) if line.endswith("\n") and first.isdecimal() else epochs
               for line in lines for first in [line.split(",", 1)[0]]]
    kept = [line for line, number in zip(lines, numbers, strict=True) if number < epochs]
    found = {number for number in numbers if number < epochs}
    lacking = sorted(set(range(min(found, default=0), epochs)) - found)
    if lacking or header.split(",", 1)[0] != COLUMNS[0]:
        raise UserError(path, f"the scores of {epochs} epochs", f"none of epoch {lacking[0]}"
                        if lacking else "another header", PUT_BACK)

    if len(kept) < len(lines):
        with atomic_path(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
            file.writelines([header, *kept])


def read(folder):
    """The rows of a run folder's scores.csv as dicts, numbers as floats; [] if there is none.

    An empty cell is None.

    Raises:
        UserError: the file is damaged.
    """
    path = Path(folder) / FILE
    return read_numbers(path, (*WORDS, *ALWAYS), WORDS, ALWAYS, DO)
