"""The best epoch's network of a run under way: kept beside last.pt, which does not hold it.

    last.best.pt      that of the best epoch which last.pt names
    previous.best.pt  that of the best epoch before; previous.pt may name it

last.pt of an epoch that is the best so far is written first, last.best.pt next, best.pt at the end.
So at every moment the network that last.pt or previous.pt names as the best is in one of them: in
last.pt itself where its last epoch is the best, else in last.best.pt or previous.best.pt. best.pt
is what predict.py reads, and one copy more.
"""

import os

from training.checkpoint import read_state, shapes_of, write_state
from utils import UserError, remove

LAST, PREVIOUS = "last.best.pt", "previous.best.pt"
FILES = (LAST, PREVIOUS, "best.pt")  # any of them may hold it


def save(folder, network, epoch):
    """Write last.best.pt; the one before becomes previous.best.pt.

    Args:
        folder: the run folder.
        network: state_dict of the network.
        epoch: the best epoch.
    """
    write_state(folder / LAST, {"network": network, "epoch": epoch}, folder / PREVIOUS)


def find(folder, epoch, like):
    """The network of the best epoch, a state_dict; None if it is in none of the files.

    Args:
        folder: the run folder.
        epoch: the best epoch.
        like: state_dict of such a network, for its names and shapes.
    """
    for name in FILES:
        if network := read_if_of_epoch(folder / name, epoch, like):
            return network
    return None


def keep(folder, epoch, network):
    """Have last.best.pt be this network, of this epoch, before anything else is written."""
    if read_if_of_epoch(folder / LAST, epoch, network):
        return
    if read_if_of_epoch(folder / PREVIOUS, epoch, network):  # last.pt was damaged
        os.replace(folder / PREVIOUS, folder / LAST)
    else:
        save(folder, network, epoch)


def forget_previous(folder):
    """A finished run needs no second one."""
    remove(folder / PREVIOUS)


def forget(folder):
    """Remove all of them: they are of an earlier run, whose epochs have the same numbers."""
    for name in FILES:
        remove(folder / name)


def read_if_of_epoch(path, epoch, like):
    """The network of a sound file of this epoch, of the shapes of `like`; else None."""
    try:
        state = read_state(path) if path.exists() else {}
        fits = state["epoch"] == epoch and shapes_of(state["network"]) == shapes_of(like)
        return state["network"] if fits else None
    except (UserError, KeyError, TypeError, AttributeError):
        return None
