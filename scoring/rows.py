"""The name of a table's row: its grammar, what it means for main.py, its label and its place.

A row is a loss, or a loss with what is changed about it, joined by hyphens:

    gdl+boundary                 the loss of main.py --loss
    gdl+boundary-alpha0.5        alpha held at 0.5
    gdl+boundary-rebalance0.02   another schedule of alpha: -rebalance, -increase or -switch, with
    gdl+boundary-increase        or without its number (see scheduler.py)
    gdl+boundary-floor0.5        the run's own schedule, with alpha's floor at 0.5
    gdl+boundary-warm50          the same, beginning to fall 50 epochs later
    gdl+boundary-rebalance0.005-floor0.5-warm50, gdl+boundary-switch50-floor0.5
    gdl-cap1                     the class weight of the generalized Dice loss capped at 1
    dice+ce-batch                the regional loss's sums over the images of a batch together

A row may also be named in another way by somebody who makes run folders by hand, and a further
human rater is the row rater:NAME.
"""

import re
import sys
from dataclasses import dataclass, field

import scheduler

REGIONAL, BOTH, ALONE = "gdl", "gdl+boundary", "boundary"  # the paper's rows
PAPER = (ALONE, REGIONAL, BOTH)                            # in the order of its table
PAIR = (REGIONAL, BOTH)
TERM = "+boundary"
RATER = "rater:"

IN_WORDS = {"gdl": "GDL", "gdl+boundary": "GDL + boundary", "boundary": "boundary alone"}
SUBSCRIPTS = {"gdl": "GD", "boundary": "B",  # the paper's
              "dice": "Dice", "focal": "Focal", "tversky": "Tversky", "focal_tversky": "FTversky",
              "hausdorff": "HDT"}

NUMBER = r"\d+(?:\.\d*)?|\.\d+"
CHANGE = re.compile(rf"(rebalance|increase)({NUMBER})?|(alpha|cap|floor)({NUMBER})|"
                    r"(switch|warm)(\d+)|(batch)")
OF_THE_REGIONAL_LOSS = ("cap", "batch")  # the others are about the schedule of alpha
OF_A_SCHEDULE = ("floor", "warm")        # the others of these are its kind


@dataclass(frozen=True)
class Row:
    """What the name of a row says.

    Attributes:
        loss: for main.py --loss.
        schedule: for --schedule, with its floor and warm-up; None: the run's own.
        changed: of the run's own, where `schedule` is None: {"floor": ..., "warm_up": ...}.
        gdl_max_weight: for --gdl-max-weight; None: no cap.
        changes: (kind, number as text) of each change, in the order of the name.
        batch: for --loss-options batch=1.
    """

    loss: str
    schedule: str | None = None
    gdl_max_weight: float | None = None
    changes: tuple = ()
    batch: bool = False
    changed: dict = field(default_factory=dict)


def parse(name):
    """The Row that a name says.

    Raises:
        ValueError: a change is not known, lacks its number, or is one of two of a kind.
    """
    loss, *words = name.split("-")
    changes = []
    for word in words:
        found = CHANGE.fullmatch(word)
        if not found:
            raise ValueError(
                "row: expected a loss, or one with -alphaNUMBER, -capNUMBER, -rebalance[STEP], "
                "-increase[STEP], -switchEPOCHS, -floorALPHA, -warmEPOCHS or -batch, found "
                f"{name!r}")
        kind, number, *_ = *filter(None, found.groups()), ""
        changes.append((kind, number))

    caps = [float(number) for kind, number in changes if kind == "cap"]
    schedules = [_schedule(*change) for change in changes
                 if is_schedule(change) and change[0] not in OF_A_SCHEDULE]
    numbers = [change for change in changes if change[0] in OF_A_SCHEDULE]
    batches = changes.count(("batch", ""))
    if max(len(caps), len(schedules), batches) > 1 or len(dict(numbers)) < len(numbers):
        raise ValueError("row: expected one schedule, one -floor, one -warm, one cap and one "
                         f"-batch at most, found {name!r}")

    schedule, changed = _with_numbers(name, *(schedules or [None]), dict(numbers))
    return Row(loss, schedule, *(caps or [None]), tuple(changes), bool(batches), changed)


def _with_numbers(name, schedule, numbers):
    """(schedule, changed) of a Row from its kind of schedule, or None, and its other numbers."""
    try:
        changed = {"floor": float(numbers["floor"])} if "floor" in numbers else {}
        if "warm" in numbers:
            changed["warm_up"] = int(numbers["warm"])
        whole = scheduler.changed(schedule or "rebalance", **changed)  # in range?
    except ValueError as error:
        reason = str(error).removeprefix("schedule: ").partition(", found")[0]
        raise ValueError(f"row: {reason}, found {name!r}") from None
    return (whole, {}) if schedule else (None, changed)


def is_schedule(change):
    """Is a (kind, number) of a row's changes about alpha?"""
    return change[0] not in OF_THE_REGIONAL_LOSS


def _schedule(kind, number):
    """("alpha", "0.5") -> "constant:0.5", as main.py --schedule takes it."""
    kind = "constant" if kind == "alpha" else kind
    return f"{kind}:{number}" if number else kind


def changes_of(name):
    """The changes that a name says, () where it says none or is not of this grammar."""
    try:
        return parse(name).changes
    except ValueError:
        return ()


def is_variant(name):
    """Does the name say that something about its loss is changed?"""
    return bool(changes_of(name))


def plain(name):
    """The loss of a row without its changes: gdl-cap1 -> gdl."""
    return parse(name).loss if is_variant(name) else name


def without_boundary(name):
    """The row that one with the boundary loss is compared with; None for a row without it.

    gdl+boundary-increase -> gdl; gdl+boundary-cap1 -> gdl-cap1: what is changed about alpha means
    nothing without the term.
    """
    loss = plain(name)
    if not loss.endswith(TERM):
        return None
    kept = ["".join(change) for change in changes_of(name) if not is_schedule(change)]
    return "-".join([loss.removesuffix(TERM), *kept])


def label(name):
    """gdl+boundary -> L_GD + L_B, gdl-cap1 -> L_GD, cap 1; others stay as they are."""
    if name.startswith(RATER):
        return f"rater {name.removeprefix(RATER)}"
    changes = "".join(f", {_in_words(change)}" for change in changes_of(name))
    return " + ".join(map(_part_label, plain(name).split("+"))) + changes


def _in_words(change):
    """("warm", "50") -> "warm-up 50"; ("batch", "") -> "batch"."""
    kind, number = change
    return f"{'warm-up' if kind == 'warm' else kind} {number}".rstrip()


def _part_label(part):
    known = part in SUBSCRIPTS or part.isalpha()
    return f"L_{SUBSCRIPTS.get(part, part.upper())}" if known else part


def in_words(name):
    """A row for a legend: GDL + boundary, and for rows beside the paper's their label."""
    return IN_WORDS.get(name) or label(name)


def schedule_in_words(name):
    """The schedule that a name tells: "increase 0.02"; "the schedule" if it tells none."""
    told = [_in_words(change) for change in changes_of(name) if is_schedule(change)]
    return ", ".join(told) or "the schedule"


def order(name):
    """Sort key: the paper's rows in its order, then the others by name."""
    return (PAPER.index(name) if name in PAPER else len(PAPER), name)


def style(name, names):
    """The key of a row's colour and line: 0 to 2 for GDL, GDL + boundary and boundary alone.

    Others, 3 and on, go by their place among `names`.
    """
    known = (REGIONAL, BOTH, ALONE)
    others = [other for other in names if other not in known]
    return known.index(name) if name in known else len(known) + others.index(name)


def main(names):
    """Status 0 if every name is a row's; 2, and one line about the first that is not."""
    for name in names:
        try:
            parse(name)
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":  # make asks before it starts on the scans
    sys.exit(main(sys.argv[1:]))
