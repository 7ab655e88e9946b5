"""Training on a GPU: slices per second and model FLOP utilisation, beside a step of 2018."""

import subprocess
import sys
import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.common import ROOT, seconds, significant
from benchmarks.common import run as run_program
from benchmarks.training import BaselineStep, Step

TARGET, UTILISATION_TARGET = 4, 0.45
BATCH = 8            # slices of a step
EPOCH_SLICES = 3000  # training slices of WMH, about
SIDE_BY_SIDE, EPOCHS = (1, 2, 4), 3  # runs of a small set at a time, and the length of each


def run(args, folder, device="cuda", width=64, size=256, steps=30):
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit("error: gpu: expected a CUDA device, found none that torch can use. "
                 "Run it on a machine with one.")
    rate = matmul_rate(device, 8192 if device == "cuda" else 256)
    print(f"bfloat16 matrix product: {rate / 1e12:.3g} TFLOP/s", flush=True)

    results = {"matmul_tflops": significant(rate / 1e12), "device": device}
    for network in ("unet", "unet2018"):
        results[network] = measure(network, width, size, device, steps, rate)
    return results | {"side_by_side": side_by_side(folder, device, width, size)}


def measure(network, width, size, device, steps, rate):
    """Slices per second of a network's step, and its share of the device's rate in FLOP/s."""
    work = flop(Step(network, width, size, BATCH, device)) / BATCH  # of a slice
    variants = {
        "eager fp32, 2018": BaselineStep(network, width, size, BATCH, device),
        "bf16": Step(network, width, size, BATCH, device, torch.bfloat16),
        "bf16, compiled": Step(network, width, size, BATCH, device, torch.bfloat16, compiled=True)}

    found = alternate_rates(variants, steps, device)
    use = {name: value * work / rate for name, value in found.items()}
    for name, value in found.items():
        gain = value / found["eager fp32, 2018"]
        print(f"{network}, width {width}, {name:<20} {value:>8.1f} slices/s, {gain:.2f}x, "
              f"{use[name]:.1%} of the matrix rate (aims {TARGET}x, {UTILISATION_TARGET:.0%}); "
              f"epoch of {EPOCH_SLICES} slices {EPOCH_SLICES / value:.1f} s, "
              f"floor {EPOCH_SLICES * work / rate:.1f} s", flush=True)
    return {"gflop_per_slice": significant(work / 1e9),
            "slices_per_second": {name: significant(value) for name, value in found.items()},
            "utilisation": {name: significant(value) for name, value in use.items()}}


def isles_data(folder, size, subjects=94):
    """A data folder of phantoms as many and as large as the scans of ISLES."""
    raw, data = folder / "isles-scans", folder / "isles-data"
    run_program(["-m", "scans.phantom", "--layout", "isles", "--scale", "full",
                 "--subjects", subjects, "--out", raw])
    run_program(["preprocess.py", "--layout", "isles", "--raw", raw, "--size", size, "--out", data])
    return data


def side_by_side(folder, device, width, size):
    """{count: runs per hour} of a set of ISLES' size with so many on the device at a time.

    So `make JOBS=4` runs them. The set has about 400 slices; EPOCHS stand for the 200 of a run,
    start-up included.
    """
    data, found = isles_data(folder, size), {}
    for count in SIDE_BY_SIDE:
        def together(count=count):
            runs = [start(data, folder / f"side{count}-{seed}", seed, device, width)
                    for seed in range(count)]
            if any(process.wait() for process in runs):
                sys.exit(f"error: main.py failed with {count} runs at a time; its output is above")

        spent = seconds(together)
        found[count] = significant(count * EPOCHS / spent * 3600 / 200)
        print(f"{count} at a time: {found[count]:.3g} runs of 200 epochs per hour", flush=True)
    return found


def start(data, out, seed, device, width):
    """Start main.py; returns its process."""
    words = ["main.py", "--data", data, "--out", out, "--seed", seed, "--device", device,
             "--width", width, "--epochs", EPOCHS, "--quiet"]
    return subprocess.Popen([sys.executable, *map(str, words)], cwd=ROOT,
                            stdout=subprocess.DEVNULL)


def flop(step):
    """FLOP of the network's forward and backward for one batch."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def matmul_rate(device, size):
    """FLOP/s of a bfloat16 matrix product: what the device gives in practice."""
    a = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    return 2 * size ** 3 / timed(lambda: a @ a, 20, device)


def alternate_rates(variants, steps, device):
    """{name: slices per second}, the best of three rounds in which every variant runs in turn."""
    spent = {name: [] for name in variants}
    for _ in range(3):
        for name, step in variants.items():
            spent[name].append(timed(step, steps, device))
    return {name: BATCH / min(values) for name, values in spent.items()}


def timed(function, count, device):
    """Seconds a call, of `count` calls queued one behind the other after a warm-up."""
    for _ in range(3):
        function()
    wait(device)
    start = time.perf_counter()
    for _ in range(count):
        function()
    wait(device)
    return (time.perf_counter() - start) / count


def wait(device):
    if device == "cuda":
        torch.cuda.synchronize()
