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
        names: "loss" and the parts of it.
        sums: float64 (names,), of each the sum over the slices of the other steps; on the device.
        seconds: what the epoch took in earlier sessions.
    """

    def __init__(self, steps):
        self.step, self.names, self.sums, self.seconds = 0, [], None, 0.0
        self.bad = torch.zeros(steps, dtype=torch.bool)

    def start(self, device):
        """Begin or continue on a device."""
        self.began = time.perf_counter() - self.seconds
        self.bad = self.bad.to(device)
        self.sums = None if self.sums is None else self.sums.to(device)

    def add(self, bad, values, slices):
        """Count a step: was it left out, and the means of its values over this many slices.

        The sums are taken on the device, so nothing waits for it.
        """
        self.bad[self.step] = bad
        latest = torch.stack([value.detach() for value in values.values()]).double()
        total = (latest * slices).masked_fill(bad, 0)
        self.names, self.sums = list(values), total if self.sums is None else self.sums + total
        self.step += 1

    def total(self, group):
        """{name: its sum over all processes of the group}, float64 scalars."""
        return dict(zip(self.names, group.sum(self.sums.clone()).unbind(), strict=True))

    def elapsed(self):
        """Seconds that the epoch took so far, in all sessions."""
        return time.perf_counter() - self.began

    # In last.pt -----------------------------------------------------------------------------------

    def to_entry(self, group):
        """What last.pt keeps: the sums of all processes of the group."""
        seconds, sums = self.elapsed(), self.total(group)
        return {"step": self.step, "sums": sums, "bad": self.bad, "seconds": seconds}

    @classmethod
    def from_entry(cls, entry, group):
        """The inverse of `to_entry`; the first process of the group gets all of the sums."""
        epoch = cls(len(entry["bad"]))
        epoch.step, epoch.bad, epoch.seconds = entry["step"], entry["bad"], entry["seconds"]
        epoch.names, values = list(entry["sums"]), torch.stack(list(entry["sums"].values()))
        epoch.sums = values if group.first else torch.zeros_like(values)
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

    means = {f"train_{name}": float(value) / (len(train) - slices)
             for name, value in epoch_under_way.total(group).items()}
    return {**means, "skipped_steps": count}
