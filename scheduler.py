"""How the loss weights and the learning rate change: functions of the epoch and the scores so far.

Nothing here has state, so a resumed run needs no more than its metrics.csv to go on exactly.

A schedule of alpha is a text, its kind and the numbers of it; those in brackets may be left out,
beginning with the last:

    rebalance[:STEP[:FLOOR[:WARM_UP]]]   the paper's (Section 3.2): alpha is 1, and falls by STEP
                                         (0.01) after each epoch to FLOOR (0.01)
    increase[:STEP[:FLOOR[:WARM_UP]]]    the same alpha, but only the boundary weight 1 - alpha
                                         moves: the regional weight stays at 1
    switch:EPOCHS[:ALPHA]                1 for so many epochs, the regional loss alone, and ALPHA
                                         (0.01) from then on
    constant:ALPHA                       ALPHA throughout
    code2018                             of the authors' code: max(0.1, 1 - 0.01 epoch), and a
                                         boundary weight that grows without a cap

With a WARM_UP the fall begins so many epochs later: rebalance:0.25:0.5:2 is 1, 1, 1, 0.75, 0.5,
0.5, ... STEP, FLOOR and ALPHA are from 0 to 1, EPOCHS and WARM_UP whole numbers.
"""

import math
from collections.abc import Iterable
from numbers import Real
from typing import Any, NamedTuple

LR_SCHEDULES = ("plateau", "poly", "constant")
STEP, FLOOR = 0.01, 0.01  # the paper's: what alpha loses after each epoch, and where it stops
LONGEST = 10 ** 6         # epochs of a run


class Schedule(NamedTuple):
    """What the text of a schedule says.

    Attributes:
        kind: its first word.
        step: what alpha loses after each epoch; None of a switch and a constant.
        floor: where it stops.
        warm_up: epochs before it begins to fall, or switches.
    """

    kind: str
    step: float | None = STEP
    floor: float = FLOOR
    warm_up: int = 0


# Of each kind, the schedule without numbers, the numbers in the order of its text, how many of them
# must be there, and which `changed` may change.
FALL = ("step", "floor", "warm_up")
KINDS = {
    "rebalance": (Schedule("rebalance"), FALL, 0, FALL),
    "increase": (Schedule("increase"), FALL, 0, FALL),
    "switch": (Schedule("switch", None), ("warm_up", "floor"), 1, ("floor",)),
    "constant": (Schedule("constant", None), ("floor",), 1, ()),
    "code2018": (Schedule("code2018", STEP, 0.1), (), 0, ()),
}


# Weights of the losses ----------------------------------------------------------------------------

def alpha(schedule: str, epoch: int) -> float:
    """Alpha of Eq. 6 at an epoch: the weight of the regional loss, 1 - alpha that of the boundary.

    In "increase" and "code2018" the losses' weights are others: see `weights`.

    Args:
        schedule: a text, such as "rebalance"; the head of this file has them all.
        epoch: 0, 1, ...

    Raises:
        ValueError: the text is not a schedule's, or a number in it is out of range.
    """
    _, step, floor, warm_up = parse(schedule)
    if step is None:
        return 1.0 if epoch < warm_up else floor

    fallen = step * max(0, epoch - warm_up)
    return max(floor, round(1 - fallen, 10))  # rounded: 0.99, not 0.98999...


def weights(schedule: str, epoch: int) -> tuple[float, float]:
    """(regional, boundary) weights at an epoch: (alpha, 1 - alpha) in Eq. 6.

    "increase" keeps the regional weight at 1. "code2018" starts the boundary weight at 0.01 and
    adds 0.01 after each epoch without a cap, as the authors' code did, so that it passes 1 at
    epoch 100.
    """
    kind = parse(schedule).kind
    regional = alpha(schedule, epoch)
    if kind == "code2018":
        return regional, round(0.01 + 0.01 * epoch, 10)

    boundary = round(1 - regional, 10)
    return (1.0, boundary) if kind == "increase" else (regional, boundary)


def floor_epoch(schedule: str) -> int | None:
    """The first epoch with alpha at its floor; None if alpha does not fall, or in no run's life.

    floor_epoch("rebalance") is 99, floor_epoch("switch:50") is 50.
    """
    kind, step, floor, warm_up = parse(schedule)
    if kind == "constant" or floor == 1:
        return None
    if step is None:
        return warm_up
    if step * LONGEST < 1 - floor:
        return None

    epoch = warm_up + math.ceil((1 - floor) / step) - 1  # at most one early: alpha is rounded
    while alpha(schedule, epoch) > floor:
        epoch += 1
    return epoch


# Texts of schedules -------------------------------------------------------------------------------

def for_epochs(epochs: int) -> str:
    """The paper's schedule in a run of so many epochs: as in its 200, the fall ends half way.

    for_epochs(200) is "rebalance", for_epochs(50) is "rebalance:0.04".

    Raises:
        ValueError: there is not even one epoch.
    """
    if not epochs >= 1:
        raise ValueError(f"epochs: expected at least 1, found {epochs}")
    return changed("rebalance", step=float(f"{min(1, 2 / epochs):.6g}"))


def changed(schedule: str, **numbers: Any) -> str:
    """The text of a schedule with another step, floor or warm_up.

    changed("rebalance:0.02", floor=0.5) is "rebalance:0.02:0.5".

    Raises:
        ValueError: the schedule has no such number (a switch has a floor alone; a constant and
            "code2018" have none), or it is out of range.
    """
    found = parse(schedule)
    plain, names, needed, changeable = KINDS[found.kind]
    if unknown := sorted(set(numbers) - set(changeable)):
        raise ValueError(f"schedule: expected one with a {unknown[0].replace('_', '-')}, "
                         f"found {schedule!r}")
    for name, value in numbers.items():
        if not isinstance(value, Real):
            raise ValueError(f"{name}: expected a number, found {value!r}")
    if not numbers:
        return schedule

    found = found._replace(**numbers)
    while len(names) > needed and getattr(found, names[-1]) == getattr(plain, names[-1]):
        names = names[:-1]
    text = ":".join([found.kind, *(_number(getattr(found, name)) for name in names)])
    parse(text)  # in range?
    return text


def _number(value: float) -> str:
    """As text: 50, 0.0769231."""
    return str(value) if isinstance(value, int) else f"{value:.12g}"


def differ_in_step(first: str, second: str) -> bool:
    """Do two schedules differ in how fast alpha falls, or in nothing?"""
    return parse(first)._replace(step=None) == parse(second)._replace(step=None)


def parse(text: str) -> Schedule:
    """The Schedule that a text says; ValueError if it says none."""
    kind, *words = text.split(":")
    plain, names, needed, _ = KINDS.get(kind, (None, (), 0, ()))

    try:
        if plain and needed <= len(words) <= len(names):
            numbers: dict[str, Any] = {name: int(word) if name == "warm_up" else float(word)
                                       for name, word in zip(names, words)}
            found = plain._replace(**numbers)
            if found.warm_up >= 0 and 0 <= found.floor <= 1 and 0 <= (found.step or 0) <= 1:
                return found
    except ValueError:
        pass

    raise ValueError(
        "schedule: expected rebalance[:STEP], increase[:STEP], constant:ALPHA, "
        "switch:EPOCHS[:ALPHA] or code2018 (STEP may be followed by :FLOOR[:WARM_UP]), with STEP "
        f"and ALPHA from 0 to 1, found {text!r}")


# Learning rate ------------------------------------------------------------------------------------

def plateau_lr(scores: Iterable[float], lr: float = 1e-3, patience: int = 20) -> float:
    """Learning rate of the next epoch, halved after `patience` epochs without a better score.

    As Section 3.2 has it.

    Args:
        scores: validation score of every epoch so far, higher is better.
        lr: the rate at epoch 0.
        patience: epochs without improvement before a halving; counting starts again after each.
    """
    best, waited = float("-inf"), 0
    for score in scores:
        best, waited = (score, 0) if score > best else (best, waited + 1)
        if waited == patience:
            lr, waited = lr / 2, 0
    return lr


def poly_lr(epoch: int, epochs: int, lr: float = 1e-3, power: float = 0.9) -> float:
    """Learning rate of an epoch, falling to 0 with the run: lr (1 - epoch / epochs)^power.

    nnU-Net's, after Chen et al. 2018 (DeepLab). No score moves it, so runs of different losses
    train at the same rates.

    Args:
        epoch: from 0.
        epochs: of the whole run.
        lr: the rate at epoch 0.
        power: above 1 the rate falls faster at first.

    Raises:
        ValueError: the run has no such epoch.
    """
    if not 0 <= epoch < epochs:
        raise ValueError(f"epoch: expected one from 0 to {epochs - 1}, found {epoch}")
    return lr * (1 - epoch / epochs) ** power


def code2018_lr(scores: Iterable[float], lr: float = 1e-3, patience: int = 20) -> float:
    """The authors' code: halved after each epoch with epoch % (best_epoch + 20) == 0.

    That holds at epoch 0 too.
    """
    best, best_epoch = float("-inf"), 0
    for epoch, score in enumerate(scores):
        if score > best:
            best, best_epoch = score, epoch
        if epoch % (best_epoch + patience) == 0:
            lr /= 2
    return lr
