"""The progress bar of a run, and how long all runs of its matrix will take on this machine."""

import os
import sys
import time

import torch
from tqdm import tqdm

from utils import log

SKIPPED = 3                # first steps, which choose kernels and fill caches
MEASURED, LEAST = 20, 2.0  # steps, and seconds, that an estimate is measured over at least
OF_VALIDATION = 1 / 3      # of a training step's time, for as many slices: the forward pass alone
LATER = "{percentage:3.0f}%|{bar:10}| {words}"
FIRST_EPOCH = "{percentage:3.0f}%|{bar:10}| {remaining} left, {n_fmt} of {total_fmt} steps, {words}"


def run_of():
    """(number of this run, number of runs in its matrix) as make says it; None outside make."""
    number, _, count = os.environ.get("RUN_OF", "").partition("/")
    return (int(number), int(count)) if number.isdigit() and count.isdigit() else None


def time_in_words(seconds):
    """45 s, 12 min, 3.5 h, 2.1 days: a time that is only about so long."""
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            value = seconds / size
            return f"{value:.0f} {unit}" if value >= 10 or unit == "min" else f"{value:.1f} {unit}"
    return f"{round(seconds)} s"


def estimate(step_seconds, steps, epochs, validation, runs, together=1):
    """Seconds that all runs will take.

    Args:
        step_seconds: of a training step.
        steps: training steps of an epoch.
        epochs: of a run.
        validation: steps that as many slices as validate would take.
        runs: how many.
        together: of them, side by side.
    """
    of_a_run = step_seconds * (steps + validation * OF_VALIDATION) * epochs
    return of_a_run * -(-runs // together)


class StepBar(tqdm):
    """A bar over the training steps of all epochs, whose words come before anything is cut off.

    Args:
        total, initial: steps of the run, and of them those done.
        words: shown until the first epoch has ended.
        of_epoch: steps of an epoch.
        about: called once with the seconds of a step, measured over the first ones; None: never.
    """

    def __init__(self, total, initial, words, of_epoch, about=None, **options):
        self.words, self.about, self.of_epoch = words, about, of_epoch
        self.steps, self.began = 0, time.perf_counter()
        super().__init__(total=total, initial=initial, file=sys.stderr, dynamic_ncols=True,
                         bar_format=FIRST_EPOCH, mininterval=0.1, **options)

    @property
    def format_dict(self):
        return {**super().format_dict, "words": self.words}

    def set_postfix_str(self, text="", refresh=True):
        """The words of an epoch."""
        self.words, self.bar_format = text, LATER
        if refresh and not self.disable:
            self.refresh()

    def update(self, n=1):
        super().update(n)
        if self.about is not None:
            self.measure()

    def measure(self):
        """Count a step, and tell once there are enough, or the epoch has no more."""
        self.steps += 1
        skipped = min(SKIPPED, self.of_epoch - 1)
        if self.steps == skipped:
            self.began = time.perf_counter()
            return

        measured, seconds = self.steps - skipped, time.perf_counter() - self.began
        enough = measured >= MEASURED and seconds >= LEAST
        if measured > 0 and (enough or self.steps == self.of_epoch):
            about, self.about = self.about, None
            about(seconds / measured)


def announce(args, train, val, device):
    """A function of the seconds of a step that prints how long all runs will take; None for none.

    The first run of a matrix tells, or a run on its own.
    """
    number, runs = run_of() or (1, 1)
    if number != 1:
        return None
    together = int(os.environ.get("RUNS_TOGETHER") or 1)
    validation = -(-validation_samples(val, args) // args.batch_size)

    def tell(step_seconds):
        seconds = estimate(step_seconds, train.steps(args.batch_size), args.epochs, validation,
                           runs, together)
        which = "this run" if runs == 1 else f"{runs} runs"
        kind = "CPU" if device.type == "cpu" else torch.cuda.get_device_name(device)
        log(f"about {time_in_words(seconds)} for {which} on this {kind} "
            f"({step_seconds:.2g} s per step, {args.epochs} epochs)")

    return tell


def validation_samples(val, args):
    """Slices, or patches of volumes, that a validation predicts."""
    slices = len(val)
    if not args.patch:
        return slices
    size = val.settings.size
    depth, rows, columns = args.patch
    return max(1, round(slices * size * size / (depth * rows * columns)))
