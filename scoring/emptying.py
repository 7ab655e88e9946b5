"""Runs that predict nothing, and runs in danger of it: what their schedules and scores tell."""

import math
from itertools import pairwise

from scheduler import floor_epoch, parse
from scoring.rows import TERM

# Training steps up to alpha's floor. Where it came sooner, networks were emptied: on real scans, of
# small lesions, after 400 and 1,000 steps (and some that took 2,000). The paper's takes some 37,000
# on WMH.
HASTE = 2000
LATELY = 10  # epochs
ADVICE = ("More epochs, a smaller STEP, a higher FLOOR or a WARM_UP (main.py --schedule) give a "
          "network time to find lesions first.")

# What an empty mask scores, by the column that chooses the best epoch (main.py --score)
NOTHING_SCORES = {
    "val_dice": "the share of slices without a lesion",
    "val_dice_3d": "the share of scans without a lesion",
    "val_dice_lesion": "the score where nothing is found",
    "val_lesion_f1": "the share of scans without a lesion",
}


# Alpha's floor ------------------------------------------------------------------------------------

def found_nothing(scans, before):
    """Did none of the LATELY epochs before this one find a lesion of a validation scan?

    A new network paints so much that it finds every lesion, so the first epochs tell nothing.

    False where the rows of scores.csv do not tell: they lack an epoch, or there are no lesions. The
    recall in metrics.csv would not do, as it is 1 in scans without a lesion.
    """
    asked = set(range(max(0, before - LATELY), before))
    late = [row for row in scans if row["epoch"] in asked]
    is_told = {row["epoch"] for row in late} == asked and any(row["lesions"] for row in late)
    return is_told and not any(row["lesions_found"] for row in late)


def misses_all(scans):
    """Is foreground predicted in these rows of scores.csv, and no lesion ever found?"""
    return (any(row["lesions"] for row in scans) and any(row["foreground"] for row in scans)
            and not any(row["lesions_found"] for row in scans))


def floor_reached(run):
    """The first epoch of a run (scoring.runs.Run) with alpha at its floor; None if none came."""
    if not run.config.loss.endswith(TERM):
        return None
    epoch = floor_epoch(run.config.schedule or "rebalance")
    return epoch if epoch is not None and epoch < len(run.rows) else None


def floor_in_words(schedule, *steps_per_epoch):
    """Where alpha reaches its floor: "at its floor of 0.01 from epoch 15 on, after 240 steps".

    Several numbers of steps in an epoch, as folds have them, give "240 to 255 steps".
    """
    epoch, floor = floor_epoch(schedule), parse(schedule).floor
    steps = sorted({epoch * steps for steps in steps_per_epoch})
    after = " to ".join(f"{count:,}" for count in dict.fromkeys([steps[0], steps[-1]]))
    return f"at its floor of {floor:g} from epoch {epoch} on, after {after} training steps"


def is_hasty(schedule, steps_per_epoch):
    """Does alpha reach its floor within HASTE steps? False where either of them is not known."""
    epoch = floor_epoch(schedule)
    return None not in (epoch, steps_per_epoch) and epoch * steps_per_epoch < HASTE


# A best epoch without foreground ------------------------------------------------------------------

def is_empty(row):
    """Does the network of this row of metrics.csv predict no foreground at all?"""
    return row.get("val_foreground") == 0


def empty_share(scans):
    """The share of slices without a lesion, mean over classes, of one epoch's rows of scores.csv.

    That is the slice-mean DSC of an empty mask; NaN without rows.
    """
    names = {row["class_name"] for row in scans}
    of_class = [[row for row in scans if row["class_name"] == name] for name in names]
    shares = [sum(row["slices_empty"] for row in rows) / sum(row["slices"] for row in rows)
              for rows in of_class]
    return sum(shares) / len(shares) if shares else math.nan


def rate_in_words(rows, epoch):
    """What the learning rate did after an epoch; "" where metrics.csv does not tell.

    For example: "the learning rate was then halved 3 times, from 0.001 to 0.000125".
    """
    rates = [row["lr"] for row in rows if row["epoch"] >= epoch and row.get("lr") is not None]
    if len(rates) < 2:
        return ""
    falls = [(before, after) for before, after in pairwise(rates) if after < before]
    if not falls:
        return f"the learning rate then stayed at {rates[0]:.3g}"
    if any(before != 2 * after for before, after in falls):  # poly
        return f"the learning rate then fell from {rates[0]:.3g} to {rates[-1]:.3g}"
    times = {1: "once", 2: "twice"}.get(len(falls), f"{len(falls)} times")
    return f"the learning rate was then halved {times}, from {rates[0]:.3g} to {rates[-1]:.3g}"
