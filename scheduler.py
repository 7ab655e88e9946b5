"""How the loss weights and the learning rate change: functions of the epoch and the scores so far.

Nothing here has state, so a resumed run needs no more than its metrics.csv to go on exactly.
"""

# Of alpha (Section 3.2): what it loses after each epoch, and where it stops.
STEP, FLOOR = 0.01, 0.01


# Weights of the losses ----------------------------------------------------------------------------

def alpha(schedule, epoch):
    """Weight of the regional loss in Eq. 6 at an epoch (0-based).

    Args:
        schedule: one of
            "rebalance": the paper's (Section 3.2): 1, falling by 0.01 after each epoch to 0.01.
            "rebalance:0.05": falls by 0.05, for short runs.
            "increase[:STEP]": the same alpha, but only the boundary weight 1 - alpha moves (see
                `weights`).
            "constant:0.5": stays at 0.5.
            "switch:N[:ALPHA]": 1 for N epochs, the regional loss alone, and ALPHA from then on
                (0.01, where "rebalance" ends).
            "code2018": the regional weight of the authors' code, max(0.1, 1 - 0.01 epoch).
        epoch: 0, 1, ...

    Raises:
        ValueError: the schedule is not one of these, a number of it is not in [0, 1], or N is not a
            whole number of 0 or more.
    """
    kind, number, warm_up = _parse(schedule)
    if kind == "constant":
        return number
    if kind == "switch":
        return 1.0 if epoch < warm_up else number

    floor = 0.1 if kind == "code2018" else FLOOR
    return max(floor, round(1 - epoch * number, 10))  # rounded: 0.99, not 0.98999...


def weights(schedule, epoch):
    """(regional, boundary) weights at an epoch: (alpha, 1 - alpha) in Eq. 6.

    "increase" keeps the regional weight at 1. "code2018" starts the boundary weight at 0.01 and
    adds 0.01 after each epoch without a cap, as the authors' code did, so that it passes 1 at
    epoch 100.
    """
    kind, *_ = _parse(schedule)
    regional = alpha(schedule, epoch)
    if kind == "code2018":
        return regional, round(0.01 + 0.01 * epoch, 10)

    boundary = round(1 - regional, 10)
    return (1.0, boundary) if kind == "increase" else (regional, boundary)


def _parse(schedule):
    """(kind, its number, epochs of warm-up)."""
    kind, _, number = schedule.partition(":")
    defaults = {"rebalance": STEP, "increase": STEP, "code2018": STEP, "switch": FLOOR}
    known = schedule == "code2018" or kind in ("rebalance", "increase", "constant", "switch")
    warm_up = 0

    try:
        if kind == "switch":
            epochs, _, number = number.partition(":")
            warm_up = int(epochs)
        value = float(number) if number else defaults[kind]
        if known and 0 <= value <= 1 and warm_up >= 0:
            return kind, value, warm_up
    except (KeyError, ValueError):
        pass

    raise ValueError(
        "schedule: expected rebalance[:STEP], increase[:STEP], constant:ALPHA, "
        "switch:EPOCHS[:ALPHA] or code2018, with STEP and ALPHA from 0 to 1, "
        f"found {schedule!r}")


# Learning rate ------------------------------------------------------------------------------------

def plateau_lr(scores, lr=1e-3, patience=20):
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


def code2018_lr(scores, lr=1e-3, patience=20):
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
