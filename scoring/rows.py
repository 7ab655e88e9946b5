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
    gdl-medianabsent             an absent class weighed by the median size of those that are there
    gdl-lesionslices             trained on the slices with foreground alone
    boundary-background          the boundary loss on all classes, with the background's map

A row may also be named in another way by somebody who makes run folders by hand, and a further
human rater is the row rater:NAME.
"""

import re
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
              "hausdorff": "HDT", "rwl": "RW", "gsl": "GS", "cc_dice_ce": "CC"}

PARTS = (*SUBSCRIPTS, "ce", "wce")  # of the losses that main.py knows

NUMBER = r"\d+(?:\.\d*)?|\.\d+"
FLAGS = {  # changes without a number: the option of main.py that each sets, and to what
    "batch": ("loss_options", "batch=1"),
    "medianabsent": ("loss_options", "absent_size=median"),
    "lesionslices": ("lesion_slices", True),
    "background": ("boundary_classes", ["all"]),
}
LABELS = {"medianabsent": "absent: median size", "lesionslices": "lesion slices only",
          "background": "with background", "warm": "warm-up"}  # others as in the name
CHANGE = re.compile(rf"(rebalance|increase)({NUMBER})?|(alpha|cap|floor)({NUMBER})|"
                    rf"(switch|warm)(\d+)|({'|'.join(FLAGS)})")
SCHEDULES = ("alpha", "rebalance", "increase", "switch")
OF_A_SCHEDULE = {"floor": float, "warm": int}
OF_THE_TERM = ("background",)  # means nothing without the boundary loss


@dataclass(frozen=True)
class Row:
    """What the name of a row says.

    Attributes:
        loss: for main.py --loss.
        schedule: for --schedule, with its floor and warm-up; None: the run's own.
        changed: of the run's own, where `schedule` is None: {"floor": ..., "warm_up": ...}.
        gdl_max_weight: for --gdl-max-weight; None: no cap.
        changes: (kind, number as text) of each change, in the order of the name.
    """

    loss: str
    schedule: str | None = None
    gdl_max_weight: float | None = None
    changes: tuple = ()
    changed: dict = field(default_factory=dict)

    @property
    def flags(self):
        """The changes that are in FLAGS."""
        return [kind for kind, _ in self.changes if kind in FLAGS]


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
                f"-increase[STEP], -switchEPOCHS, -floorALPHA, -warmEPOCHS, -{', -'.join(FLAGS)}, "
                f"found {name!r}")
        kind, number, *_ = *filter(None, found.groups()), ""
        changes.append((kind, number))

    of_what = ["schedule" if kind in SCHEDULES else kind for kind, _ in changes]
    if len(set(of_what)) < len(of_what):
        raise ValueError("row: expected one schedule, one cap and one of each other change at "
                         f"most, found {name!r}")

    told = dict(zip(of_what, changes))
    cap = float(told["cap"][1]) if "cap" in told else None
    schedule, changed = _schedule_of(name, told)
    return Row(loss, schedule, cap, tuple(changes), changed)


def _schedule_of(name, told):
    """(schedule, changed) of a Row; told: {"schedule", "floor", "warm": (kind, number)}."""
    own = _schedule(*told["schedule"]) if "schedule" in told else None
    changed = {"warm_up" if kind == "warm" else kind: number_of(told[kind][1])
               for kind, number_of in OF_A_SCHEDULE.items() if kind in told}
    try:
        whole = scheduler.changed(own or "rebalance", **changed)  # in range?
    except ValueError as error:
        reason = str(error).removeprefix("schedule: ").partition(", found")[0]
        raise ValueError(f"row: {reason}, found {name!r}") from None
    return (whole, {}) if own else (None, changed)


def is_schedule(change):
    """Is a (kind, number) of a row's changes about alpha?"""
    return change[0] in (*SCHEDULES, *OF_A_SCHEDULE)


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


def is_of_a_study(name):
    """Does a row vary alpha or cap the GDL's weight, for the alpha study or the ablation?

    Other changes, as in gdl-batch, make it another loss.
    """
    return any(is_schedule(change) or change[0] == "cap" for change in changes_of(name))


def plain(name):
    """The loss of a row without its changes: gdl-cap1 -> gdl."""
    return parse(name).loss if is_variant(name) else name


def loss_of(name):
    """The loss that the name of a row says; None of one that was named in another way."""
    try:
        loss = parse(name).loss
    except ValueError:
        return None
    return loss if set(loss.split("+")) <= set(PARTS) else None


def without_boundary(name):
    """The row that one with the boundary loss is compared with; None for a row without it.

    gdl+boundary-increase -> gdl; gdl+boundary-cap1 -> gdl-cap1: what is changed about alpha, or the
    term's classes, means nothing without the term.
    """
    loss = plain(name)
    if not loss.endswith(TERM):
        return None
    kept = ["".join(change) for change in changes_of(name)
            if not is_schedule(change) and change[0] not in OF_THE_TERM]
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
    return f"{LABELS.get(kind, kind)} {number}".rstrip()


def _part_label(part):
    known = part in SUBSCRIPTS or part.isalpha()
    return f"L_{SUBSCRIPTS.get(part, part.upper())}" if known else part


def in_words(name):
    """A row for a legend: GDL + boundary, "GDL, batch"; for other losses their label."""
    if plain(name) not in IN_WORDS:
        return label(name)
    return ", ".join([IN_WORDS[plain(name)], *map(_in_words, changes_of(name))])


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
