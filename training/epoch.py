"""The sums of an epoch under way: a run that is stopped within an epoch continues from them."""

import time

import torch

from training import nonfinite
from utils import log


class EpochUnderWay:
    """The training steps taken in an epoch so far.

    Attributes:
        step: how many.
        bad: bool (steps of the whole epoch,), True where one was left out as not finite.
        sums: {"loss" or name of a part: sum over the slices of the other steps}, float64 scalars.
        seconds: what the epoch took in earlier sessions.
    """

    def __init__(self, steps):
        self.step, self.sums, self.seconds = 0, {}, 0.0
        self.bad = torch.zeros(steps, dtype=torch.bool)

    def start(self, device):
        """Begin or continue on a device."""
        self.began = time.perf_counter() - self.seconds
        self.bad = self.bad.to(device)
        self.sums = {name: value.to(device) for name, value in self.sums.items()}

    def add(self, bad, values, slices):
        """Count a step: was it left out, and the means of its values over so many slices.

        The sums are taken on the device, so nothing waits for it.
        """
        self.bad[self.step] = bad
        for name, value in values.items():
            total = (value.detach().double() * slices).masked_fill(bad, 0)
            self.sums[name] = self.sums.get(name, 0) + total
        self.step += 1

    def elapsed(self):
        """Seconds that the epoch took so far, in all sessions."""
        return time.perf_counter() - self.began

    # In last.pt -----------------------------------------------------------------------------------

    def to_entry(self, group):
        """What last.pt keeps: the sums of all processes of the group."""
        seconds = self.elapsed()
        sums = {name: group.sum(value) for name, value in self.sums.items()}
        return {"step": self.step, "sums": sums, "bad": self.bad, "seconds": seconds}

    @classmethod
    def from_entry(cls, entry, group):
        """The inverse of `to_entry`; the first process of the group gets all of the sums."""
        epoch = cls(len(entry["bad"]))
        epoch.step, epoch.bad, epoch.seconds = entry["step"], entry["bad"], entry["seconds"]
        epoch.sums = {name: value if group.first else torch.zeros_like(value)
                      for name, value in entry["sums"].items()}
        return epoch


def training_columns(epoch_under_way, train, order, batch_size, group, run, epoch):
    """The columns of metrics.csv about the training of an epoch: means over its finite steps.

    Args:
        epoch_under_way: an EpochUnderWay with all of its steps.
        train: the Slices or Patches.
        order: their rows in the epoch's order, cut into steps of `batch_size`.
        group: the parallel.Group of processes that train together.
        run, epoch: for the messages.

    Raises:
        UserError: too many steps were not finite.
    """
    count, slices, words = nonfinite.left_out(epoch_under_way.bad, order, batch_size,
                                              train.scans_of)
    nonfinite.refuse_many(count, epoch_under_way.step, run, epoch, words)
    if count:
        log(f"{run}: epoch {epoch}, {count} steps left out, loss or gradient not finite; "
            f"the first is {words}")

    means = {f"train_{name}": float(group.sum(value)) / (len(train) - slices)
             for name, value in epoch_under_way.sums.items()}
    return {**means, "skipped_steps": count}
