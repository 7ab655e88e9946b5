"""The name of a table's row: its grammar, what it means for main.py, its label and its place.

A row is a loss, or a loss with what is changed about it, joined by hyphens:

    gdl+boundary                 the loss of main.py --loss
    gdl+boundary-alpha0.5        alpha held at 0.5
    gdl+boundary-rebalance0.02   another schedule of alpha: -rebalance, -increase or -switch, with
    gdl+boundary-increase        or without its number (see main.py --schedule)
    gdl-cap1                     the class weight of the generalized Dice loss capped at 1
    dice+ce-batch                the regional loss's sums over the images of a batch together
    gdl-medianabsent             an absent class weighed by the median size of those that are there
    gdl-lesionslices             trained on the slices with foreground alone
    boundary-background          the boundary loss on all classes, with the background's map

A row may also be named in another way by somebody who makes run folders by hand, and a further
human rater is the row rater:NAME.
"""

import re
import sys
from dataclasses import dataclass

REGIONAL, BOTH, ALONE = "gdl", "gdl+boundary", "boundary"  # the paper's rows
PAPER = (ALONE, REGIONAL, BOTH)                            # in the order of its table
PAIR = (REGIONAL, BOTH)
TERM = "+boundary"
RATER = "rater:"

IN_WORDS = {"gdl": "GDL", "gdl+boundary": "GDL + boundary", "boundary": "boundary alone"}
SUBSCRIPTS = {"gdl": "GD", "boundary": "B",  # the paper's
              "dice": "Dice", "focal": "Focal", "tversky": "Tversky", "focal_tversky": "FTversky",
              "hausdorff": "HDT", "rwl": "RW", "gsl": "GS", "cc_dice_ce": "CC"}

NUMBER = r"\d+(?:\.\d*)?|\.\d+"
FLAGS = {  # changes without a number: the option of main.py that each sets, and to what
    "batch": ("loss_options", "batch=1"),
    "medianabsent": ("loss_options", "absent_size=median"),
    "lesionslices": ("lesion_slices", True),
    "background": ("boundary_classes", ["all"]),
}
FLAGS_IN_WORDS = {"medianabsent": "absent: median size", "lesionslices": "lesion slices only",
                  "background": "with background"}
CHANGE = re.compile(rf"(alpha|cap|rebalance|increase|switch)({NUMBER})?|({'|'.join(FLAGS)})")
NEEDS_NUMBER = ("alpha", "cap", "switch")
NOT_OF_ALPHA = ("cap", *FLAGS)   # the other changes are schedules of alpha
OF_THE_TERM = ("background",)    # means nothing without the boundary loss


@dataclass(frozen=True)
class Row:
    """What the name of a row says.

    Attributes:
        loss: for main.py --loss.
        schedule: for --schedule; None: the run's own.
        gdl_max_weight: for --gdl-max-weight; None: no cap.
        changes: (kind, number as text) of each change, in the order of the name.
    """

    loss: str
    schedule: str | None = None
    gdl_max_weight: float | None = None
    changes: tuple = ()

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
        if not found or found[1] in NEEDS_NUMBER and not found[2]:
            raise ValueError(
                "row: expected a loss, or one with -alphaNUMBER, -capNUMBER, -rebalance[STEP], "
                f"-increase[STEP], -switchEPOCHS, -{', -'.join(FLAGS)}, found {name!r}")
        changes.append((found[1] or found[3], found[2] or ""))

    caps = [float(number) for kind, number in changes if kind == "cap"]
    schedules = [_schedule(*change) for change in changes if is_schedule(change)]
    flags = [kind for kind, _ in changes if kind in FLAGS]
    if max(len(caps), len(schedules), *(flags.count(flag) for flag in FLAGS)) > 1:
        raise ValueError("row: expected one schedule, one cap and one of each other change at "
                         f"most, found {name!r}")
    return Row(loss, *(schedules or [None]), *(caps or [None]), tuple(changes))


def is_schedule(change):
    """Is a (kind, number) of a row's changes about alpha?"""
    return change[0] not in NOT_OF_ALPHA


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
    changes = "".join(f", {FLAGS_IN_WORDS.get(kind, kind)} {number}".rstrip()
                      for kind, number in changes_of(name))
    return " + ".join(map(_part_label, plain(name).split("+"))) + changes


def _part_label(part):
    known = part in SUBSCRIPTS or part.isalpha()
    return f"L_{SUBSCRIPTS.get(part, part.upper())}" if known else part


def in_words(name):
    """A row for a legend: GDL + boundary, and for rows beside the paper's their label."""
    return IN_WORDS.get(name) or label(name)


def schedule_in_words(name):
    """The schedule that a name tells: "increase 0.02"; "the schedule" if it tells none."""
    told = [" ".join(change).rstrip() for change in changes_of(name) if is_schedule(change)]
    return told[0] if told else "the schedule"


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
    if {"-h", "--help"} & set(names):
        print("usage: python -m scoring.rows ROW ...\n\nChecks names of rows.", __doc__)
        return 0
    for name in names:
        try:
            parse(name)
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":  # make asks before it starts on the scans
    sys.exit(main(sys.argv[1:]))
