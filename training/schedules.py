"""What main.py says of a run's schedule of alpha before it trains."""

import scheduler
from losses_regional import parts_of
from scoring.emptying import ADVICE, HASTE, floor_in_words, is_hasty


def floor_of(args):
    """The first epoch of this run with alpha at its floor; None if there is none.

    A loss that lacks one of the two parts of Eq. 6 has no alpha.
    """
    epoch = scheduler.floor_epoch(args.schedule) if all(parts_of(args.loss)) else None
    return epoch if epoch is not None and epoch < args.epochs else None


def lines(args, steps):
    """What is to be said about alpha before the first step.

    Args:
        args: main.py's options, as `config.checked_settings` completed them.
        steps: of an epoch.
    """
    if not all(parts_of(args.loss)):
        return []
    return [*where_it_is_from(args), *what_to_expect(args, steps)]


def where_it_is_from(args):
    """A line if the command does not say how fast alpha falls, and it is not the paper's way."""
    step = scheduler.parse(args.schedule).step
    usual = scheduler.parse(scheduler.for_epochs(args.epochs)).step
    if not args.step_is_default or step == usual == scheduler.STEP:
        return []
    if step == usual:
        return [f"alpha falls by 2 / {args.epochs} per epoch ({args.schedule}), so that it stops "
                "falling half way, as the paper's does in 200 epochs"]
    return [f"alpha follows {args.schedule}, as in the earlier runs of this row; new ones of "
            f"{args.epochs} epochs would take {scheduler.changed(args.schedule, step=usual)}"]


def what_to_expect(args, steps):
    """A line about alpha's floor: when it is reached, and whether that may be too soon."""
    if scheduler.floor_epoch(args.schedule) is None:
        return []
    if floor_of(args) is None:
        last = scheduler.alpha(args.schedule, args.epochs - 1)
        return [f"alpha is still {last:.2g} in the last epoch, and never reaches its floor of "
                f"{scheduler.parse(args.schedule).floor:g}"]

    line = f"alpha is {floor_in_words(args.schedule, steps)}"
    if is_hasty(args.schedule, steps):
        line += f": networks were emptied where that took fewer than some {HASTE:,}. {ADVICE}"
    return [line]
