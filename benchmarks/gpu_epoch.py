"""A real epoch of main.py on a device, split into its parts, and several runs side by side."""

import csv
import functools
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import ExitStack, contextmanager
from statistics import mean, median
from unittest.mock import patch

import numpy as np

import main
from benchmarks.common import ROOT, phantom_scans, significant
from benchmarks.common import run as run_program
from benchmarks.gpu_steps import BATCH, wait
from dataloader import Slices, batches, make_resident
from training import best_model, best_network, checkpoint, validation
from training.run_folder import RunFolder

EPOCHS = 5             # of each run; the first and the last are not counted
SIDE_BY_SIDE = (1, 2, 4)

# What an epoch consists of, in the order in which it waits for it, and what is done beside it by
# threads, or within these parts.
PARTS = {"train": (main, "train_one_epoch"), "validate": (main, "validate"),
         "save": (RunFolder, "save_epoch")}
BESIDE = {"scoring": [(validation, "score_scan")],
          "writing checkpoints": [(module, "write_state")
                                  for module in (checkpoint, best_model, best_network)]}


def data_folder(args, folder):
    """A data folder of full-size phantom scans, of WMH's grids; made once."""
    data = folder / f"gpu-data-{args.subjects}-{args.size}"
    raw = phantom_scans(folder, args.subjects)
    run_program(["preprocess.py", "--layout", "wmh", "--raw", raw, "--size", args.size,
                 "--out", data])
    return data


def words_of(args, data, out, seed=0):
    """The command line of a run, as texts."""
    return list(map(str, ["--data", data, "--out", out, "--seed", seed, "--device", args.device,
                          "--width", args.width, "--epochs", EPOCHS, "--quiet"]))


# An epoch -----------------------------------------------------------------------------------------

def run(args, folder, device):
    """Seconds of an epoch's parts, the median over the later epochs; and the loader's own rate."""
    data = data_folder(args, folder)
    train, val = Slices(data, "train"), Slices(data, "val")
    with watching() as (epochs, starts):
        main.main(words_of(args, data, folder / "epoch"))

    # An epoch ends where the next one begins, so the last has no end.
    whole = median(np.diff(starts)[1:])
    seconds = {name: median(epoch[name] for epoch in epochs[1:-1]) for name in PARTS}
    seconds["the rest"] = max(0.0, whole - sum(seconds.values()))
    beside = {name: median(epoch[name] for epoch in epochs[1:-1]) for name in BESIDE}

    rate = loader_rate(train, device)
    print(f"epoch of {len(train)} and {len(val)} slices: {whole:.3g} s; " + ", ".join(
        f"{name} {part:.3g} s" for name, part in {**seconds, **beside}.items())
        + f"; loader alone {rate:.0f} slices/s", flush=True)
    return {"train": len(train), "val": len(val), "epoch_seconds": significant(whole),
            "seconds": {name: significant(part) for name, part in seconds.items()},
            "beside": {name: significant(part) for name, part in beside.items()},
            "resident": train.resident is not None,
            "loader_slices_per_second": significant(rate)}


@contextmanager
def watching():
    """Inside, main.py's epochs are timed.

    Yields ([{part: its seconds} of each epoch], [when each began]).
    """
    epochs, starts = [], []

    def timing(function, name):
        @functools.wraps(function)
        def timed(*arguments, **options):
            start = time.perf_counter()
            if name == "train":
                starts.append(start)
                epochs.append(defaultdict(float))
            try:
                return function(*arguments, **options)
            finally:
                if epochs:
                    epochs[-1][name] += time.perf_counter() - start

        return timed

    places = [(name, *place) for name, place in PARTS.items()]
    places += [(name, *place) for name, found in BESIDE.items() for place in found]
    with ExitStack() as stack:
        for name, owner, function in places:
            stack.enter_context(patch.object(owner, function, timing(getattr(owner, function),
                                                                     name)))
        yield epochs, starts


def loader_rate(train, device, passes=3):
    """Slices a second that arrive on the device, kept there where they fit; the best pass."""
    make_resident([train], device)
    order, spent = np.random.default_rng(0).permutation(len(train)), []
    for _ in range(passes):
        start = time.perf_counter()
        for _ in batches(train, order, BATCH, device):
            pass
        wait(device)
        spent.append(time.perf_counter() - start)
    return len(train) / min(spent)


# Side by side -------------------------------------------------------------------------------------

def side_by_side(args, folder, device):
    """{count: seconds of an epoch, slices per second in all}, of this many runs at once.

    Only the epochs in which all of them train count: neither the first, which starts up, nor the
    last.
    """
    data, found = data_folder(args, folder), {}
    slices = len(Slices(data, "train"))
    for count in SIDE_BY_SIDE:
        outs = [folder / f"side{count}-{seed}" for seed in range(count)]
        runs = [subprocess.Popen([sys.executable, "main.py", *words_of(args, data, out, seed)],
                                 cwd=ROOT, stdout=subprocess.DEVNULL)
                for seed, out in enumerate(outs)]
        statuses = [process.wait() for process in runs]  # of all, before any is judged
        if any(statuses):
            sys.exit(f"error: main.py failed with {count} runs at a time; its output is above")

        each = mean(median(epoch_times(out)[1:-1]) for out in outs)
        found[str(count)] = {"epoch_seconds": significant(each),
                             "slices_per_second": significant(count * slices / each)}
        print(f"{count} at a time: an epoch {each:.3g} s, {count * slices / each:.1f} slices/s of "
              "all", flush=True)
    return found


def epoch_times(out):
    """Seconds of each epoch of a run."""
    with open(out / "metrics.csv", newline="") as file:
        return [float(row["seconds"]) for row in csv.DictReader(file)]
