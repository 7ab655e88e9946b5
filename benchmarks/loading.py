"""Loading: slices per second, beside a .npy file per slice and array and maps made on the fly."""

from itertools import islice
from statistics import median

import torch

from benchmarks import baseline
from benchmarks.common import (
    alternate,
    duration,
    phantom_data,
    phantom_scans,
    seconds,
    show,
    significant,
)
from dataloader import Slices, batches, shuffled

TARGET, START_S = 50, 0.2
BATCH, THEIR_BATCHES = 8, 6


def run(args, folder):
    scans = phantom_scans(folder, args.subjects)
    files = folder / f"slices{args.subjects}"
    if not files.exists():
        baseline.preprocess(scans, files)
    data = phantom_data(folder, args.subjects)
    slices, cpu = Slices(data, "train"), torch.device("cpu")

    def theirs():  # a few batches
        for images, _, _ in islice(baseline.loader(files, BATCH), THEIR_BATCHES):
            images.sum()

    def ours():
        for batch in batches(slices, shuffled(len(slices), 0, 0), BATCH, cpu):
            batch.images.sum()

    def start():
        next(batches(Slices(data, "train"), shuffled(len(slices), 0, 0), BATCH, cpu))

    # an epoch; the baseline's follows from its few batches
    result = alternate(theirs, ours, args.rounds)
    share = THEIR_BATCHES * BATCH / len(slices)
    result = {"baseline_s": significant(result["baseline_s"] / share), "ours_s": result["ours_s"],
              "ratio": significant(result["ratio"] / share),
              "ratio_range": [significant(value / share) for value in result["ratio_range"]]}
    epoch = show(f"one pass over {len(slices)} slices of 256x256", result, TARGET)
    rate = {"baseline": len(slices) / result["baseline_s"], "ours": len(slices) / result["ours_s"]}
    print(f"{'slices per second':<44} {rate['baseline']:>9.0f} {rate['ours']:>9.0f}", flush=True)

    # the start
    spent = median(seconds(start) for _ in range(args.rounds))
    print(f"{'opening the set and reading the first batch':<44} {'':>9} {duration(spent):>9}, "
          f"aim under {START_S} s", flush=True)
    return {"epoch": epoch,
            "slices_per_second": {name: significant(value) for name, value in rate.items()},
            "start_s": significant(spent), "start_target_s": START_S, "slices": len(slices)}
