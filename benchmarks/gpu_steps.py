"""Training steps on a device: ours, eager PyTorch's and those of 2018, on the same images."""

import time
from contextlib import contextmanager
from typing import NamedTuple

import torch

from benchmarks.arithmetic import work_of
from benchmarks.common import seconds, significant
from benchmarks.training import BaselineStep, Step
from losses_regional import build_loss
from training.devices import amp_name, choose_amp

NETWORKS = ("unet", "unet2018", "enet")
TARGET, USE_TARGET = 4, 0.45  # against eager float32; of the matrix rate
BATCH = 8                     # slices of a step
ROUNDS, STEPS = 3, 20         # steps are queued one behind the other

# By the kind of device: of square matrices, and seconds for each measurement
SIZES = {"cuda": (4096, 8192, 16384), "cpu": (128, 256)}
SECONDS = {"cuda": 2.0, "cpu": 0.1}


class EagerStep(BaselineStep):
    """What a PyTorch user writes today: float32, torch's default Adam and layout, no waits."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.optimizer = torch.optim.Adam(self.network.parameters(), 1e-3)
        self.loss = build_loss("gdl+boundary")

    def __call__(self):
        images, target, maps = self.batch
        self.optimizer.zero_grad()
        loss, _ = self.loss(self.network(images).softmax(1), target, maps[:, 1:], (0.5, 0.5))
        loss.backward()
        self.optimizer.step()
        return loss.detach()


class Variant(NamedTuple):
    """A step: how it is built, and torch's switches while it runs."""

    build: object          # a function of (network, width, size, batch, device)
    tf32: bool = True      # torch's default for convolutions
    benchmark: bool = False  # cuDNN times its algorithms, as main.py has it on CUDA


def variants(amp, device):
    """{name: Variant}, the baseline first."""
    def ours(precision, **how):
        return lambda *where: Step(*where, precision, **how)

    name = amp_name(amp)
    graph = {f"here, {name}, CUDA graph": Variant(ours(amp, graphed=True), benchmark=True)}
    return {
        "eager float32": Variant(EagerStep, tf32=False),
        "eager TF32": Variant(EagerStep),
        "2018, TF32": Variant(BaselineStep),
        "here, TF32": Variant(ours(None), benchmark=True),
        f"here, {name}": Variant(ours(amp), benchmark=True),
        f"here, {name}, compiled": Variant(ours(amp, compiled=True), benchmark=True),
        **(graph if device.type == "cuda" else {}),
    }


def run(args, folder, device):
    """Every variant of every network's step: time, rate, use of the device, memory, start."""
    amp = choose_amp("auto", device) or torch.bfloat16
    peak = max(matmul_rates(device, amp).values())
    found = {}
    for network in args.networks or NETWORKS:
        found[network] = measure(network, args.width, args.size, device, amp, peak)
    return {"shape": f"{BATCH}x{args.size}x{args.size}, width {args.width}",
            "matmul_flops": significant(peak), "networks": found}


def measure(network, width, size, device, amp, peak):
    """{variant: what it takes, or None where the memory does not suffice} of a network's step."""
    flop = work_of(network, width=width, size=size, batch=BATCH).flop
    steps, found = {}, {}
    for name, variant in variants(amp, device).items():
        step, found[name] = begin(variant, (network, width, size, BATCH, device))
        if step:
            steps[name] = (variant, step)
            print(f"{network:<9} {name:<26} first step {found[name]['start_seconds']:.3g} s",
                  flush=True)

    spent = alternate_seconds(steps, device)
    baseline = spent.get("eager float32")  # None where it does not fit
    for name, value in spent.items():
        gain, use = baseline and significant(baseline / value), significant(flop / value / peak)
        found[name] |= {"seconds": significant(value),
                        "slices_per_second": significant(BATCH / value), "gain": gain, "use": use}
        print(f"{network:<9} width {width}, {name:<26} {BATCH / value:>8.1f} slices/s, "
              f"{gain or '–'}x, {use:.1%} of the matrix rate (aims {TARGET}x, {USE_TARGET:.0%})",
              flush=True)
    return found


def begin(variant, where):
    """(a step, {"start_seconds", "memory_bytes"}) of a variant, or (None, None) if it is too large.

    The memory is the most that is allocated in a step, but for what was there before.
    """
    on_gpu = where[-1].type == "cuda"
    before = torch.cuda.memory_allocated(where[-1]) if on_gpu else 0
    try:
        with switches(variant.tf32, variant.benchmark):
            step = variant.build(*where)
            start = seconds(lambda: (step(), wait(where[-1])))
            if on_gpu:
                torch.cuda.reset_peak_memory_stats(where[-1])
            step()
            wait(where[-1])
    except torch.OutOfMemoryError:
        return None, None
    peak = torch.cuda.max_memory_allocated(where[-1]) - before if on_gpu else 0
    return step, {"start_seconds": significant(start), "memory_bytes": peak}


def alternate_seconds(steps, device):
    """{name: seconds of a step}, the best of some rounds in which every variant runs in turn."""
    spent = {name: [] for name in steps}
    for _ in range(ROUNDS):
        for name, (variant, step) in steps.items():
            with switches(variant.tf32, variant.benchmark):
                spent[name].append(timed(step, STEPS, device))
    return {name: min(values) for name, values in spent.items()}


# The device ---------------------------------------------------------------------------------------

@contextmanager
def switches(tf32=True, benchmark=False):
    """Inside, convolutions and matrix products may take TF32, and cuDNN times its algorithms."""
    places = ((torch.backends.cudnn, "allow_tf32", tf32),
              (torch.backends.cuda.matmul, "allow_tf32", tf32),
              (torch.backends.cudnn, "benchmark", benchmark))
    before = [getattr(place, name) for place, name, _ in places]
    try:
        for place, name, value in places:
            setattr(place, name, value)
        yield
    finally:
        for (place, name, _), value in zip(places, before):
            setattr(place, name, value)


def matmul_rates(device, dtype):
    """{size: FLOP/s} of products of square matrices, each the best of several pieces."""
    found = {}
    for size in SIZES[device.type]:
        a = torch.randn(size, size, device=device, dtype=dtype)
        found[size] = 2 * size ** 3 / best_of_pieces(lambda a=a: a @ a, device)
    return found


def copy_rate(device, count):
    """Bytes read and written a second where a tensor of `count` bytes is copied."""
    source = torch.zeros(count, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * count / best_of_pieces(lambda: target.copy_(source), device)


def best_of_pieces(function, device, pieces=8):
    """Seconds of a call, in the fastest of pieces of so many calls that all take SECONDS."""
    once = timed(function, 1, device)
    count = max(1, round(SECONDS[device.type] / pieces / max(once, 1e-9)))
    return min(timed(function, min(count, 10**4), device) for _ in range(pieces))


def timed(function, count, device):
    """Seconds a call, of `count` calls queued one behind the other after a warm-up."""
    function()
    wait(device)
    start = time.perf_counter()
    for _ in range(count):
        function()
    wait(device)
    return (time.perf_counter() - start) / count


def wait(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)
