"""The name of a table's row: its grammar, what it means for main.py, its label and its place."""

import re

BOTH, REGIONAL = "gdl+boundary", "gdl"
BOUNDARY = "+boundary"
NAMES = {"gdl": "GDL", "gdl+boundary": "GDL + boundary", "boundary": "boundary alone"}
PAIR = ("gdl", "gdl+boundary")
LOSSES = ("boundary", "gdl", "gdl+boundary")  # the paper's rows, in its order; other losses follow them
VARIANT = re.compile(r"(.+)-(alpha|cap|rebalance|increase|switch)([\d.]*)")  # a row whose name says what changes; see Makefile
RATER = "rater:"  # begins the name of a row that is a further human rater's
SHORT = {"gdl": "GD", "boundary": "B",  # the paper's subscripts
         "dice": "Dice", "focal": "Focal", "tversky": "Tversky", "focal_tversky": "FTversky", "hausdorff": "HDT"}


def without_boundary(name):
    """The row that a row with the boundary loss is compared with: gdl+boundary-increase -> gdl, gdl+boundary-cap1 -> gdl-cap1.

    None for one without.
    """
    loss, *changes = name.split("-")
    kept = [change for change in changes if change.startswith("cap")]  # the others are about alpha
    return "-".join([loss.removesuffix(BOUNDARY), *kept]) if loss.endswith(BOUNDARY) else None


def schedule_name(row):
    """The schedule of alpha that a row's name tells: "increase 0.02", "switch 50"; "the schedule" if it tells none."""
    variant = VARIANT.fullmatch(row)
    return f"{variant[2]} {variant[3]}".rstrip() if variant else "the schedule"


def row_order(name):
    return (LOSSES.index(name) if name in LOSSES else len(LOSSES), name)


def label(loss):
    """gdl+boundary -> L_GD + L_B, ce -> L_CE, gdl-cap1 -> L_GD, cap 1; the name of another folder stays as it is."""
    if loss.startswith(RATER):
        return f"rater {loss.removeprefix(RATER)}"
    if variant := VARIANT.fullmatch(loss):
        return f"{label(variant[1])}, {variant[2]} {variant[3]}".rstrip()
    known = [f"L_{SHORT.get(part, part.upper())}" if part in SHORT or part.isalpha() else part for part in loss.split("+")]
    return " + ".join(known)
