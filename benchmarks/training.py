"""A training step beside the one of 2018, what limits it, and what the boundary term adds to it."""

import multiprocessing
from contextlib import contextmanager, nullcontext
from functools import partial
from statistics import median

import torch
from torch import nn

from benchmarks import baseline
from benchmarks.common import alternate, duration, seconds, show, significant
from dataloader import Batch, one_hot
from losses_regional import build_loss
from networks import build
from training.devices import amp_name, choose_amp, logits_of
from training.trainer import Trainer
from utils import keep_freed_memory

TARGET, PEAK_TARGET, BOUNDARY_TARGET = 2.1, 0.9, 0.01
SIZES = ((16, 128), (64, 256))  # width, pixels


class Step(Trainer):
    """The training step of main.py on random images: everything but the loader."""

    def __init__(self, network, width, size, batch=8, device="cpu", amp=None, compiled=False,
                 graphed=False):
        torch.manual_seed(0)
        super().__init__(build(network, 2, 2, width), build_loss("gdl+boundary"),
                         torch.device(device), amp, compiled=compiled, graphed=graphed)
        self.set_learning_rate(1e-3)
        self.batch = Batch(*(tensor.to(device) for tensor in random_batch(batch, size)))

    def __call__(self):
        _, losses = self.step(losses_of, self.batch, len(self.batch.images))
        return losses["loss"]


def losses_of(step, batch):
    """The loss of a batch and its parts."""
    logits = step.forward(batch.images)
    probs, target = logits.softmax(1), one_hot(batch.labels, 2)
    return step.loss(probs, target, batch.distance, (0.5, 0.5), logits)


class BaselineStep:
    """The step of 2018 on the same images, with the same initial weights."""

    def __init__(self, network, width, size, batch=8, device="cpu"):
        torch.manual_seed(0)
        self.network = build(network, 2, 2, width).to(device)
        self.optimizer = torch.optim.Adam(self.network.parameters(), 1e-3, foreach=False)
        images, labels, maps = (tensor.to(device) for tensor in random_batch(batch, size))
        self.batch = images, one_hot(labels, 2).int(), torch.cat([-maps, maps], 1)

    def __call__(self):
        return baseline.train_step(self.network, self.optimizer, *self.batch)


def random_batch(batch, size):
    """images (B, 2, H, W), labels (B, H, W) uint8, every second slice empty, maps (B, 1, H, W)."""
    generator = torch.Generator().manual_seed(1)
    labels = (torch.rand(batch, size, size, generator=generator) < 0.01).to(torch.uint8)
    labels[::2] = 0
    return (torch.rand(batch, 2, size, size, generator=generator), labels,
            50 * torch.randn(batch, 1, size, size, generator=generator))


def run(args, folder):
    amp = choose_amp("auto", torch.device("cpu"))
    results = {"precision": amp_name(amp), "equal_first_losses": same_training()}
    keep_freed_memory()
    for width, size in SIZES:
        rounds = args.rounds if width < 64 else max(2, args.rounds // 4)
        results[f"step_{width}_{size}"] = measure_step(width, size, amp, rounds)
    return results | compiled(amp, args.rounds)


def measure_step(width, size, amp, rounds):
    """A step beside the baseline's, and the share of its time that its parts take."""
    step = Step("unet", width, size, amp=amp)
    with baseline_apart(width, size) as theirs:
        pair = alternate(theirs, step, rounds)
    result = show(f"step of unet, width {width}, 8x{size}x{size}", pair, TARGET)

    for name, part, aim in (
            ("convolutions", convolutions(step, amp), f"at least {PEAK_TARGET:.0%}"),
            ("boundary", boundary_term(step), f"under {BOUNDARY_TARGET:.0%}")):
        share = part / result["ours_s"]
        print(f"{f'  of it {name} alone':<44} {'':>9} {duration(part):>9} {share:>8.2%}, "
              f"aim {aim}", flush=True)
        result[f"{name}_share"] = significant(share)
    return result


@contextmanager
def baseline_apart(width, size):
    """The baseline's step as a callable.

    It runs in a process of its own, where the C library is as the system starts it.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve_baseline, args=(there, width, size), daemon=True)
    process.start()

    def step():
        here.send("step")
        return here.recv()

    try:
        here.recv()  # ready
        yield step
    finally:
        process.terminate()
        process.join()


def serve_baseline(pipe, width, size):
    step = BaselineStep("unet", width, size)
    pipe.send("ready")
    while pipe.recv():
        pipe.send(step())


def same_training(steps=3):
    """The losses of the first steps in float32, ours and the baseline's; raises if they differ."""
    ours, theirs = Step("unet", 8, 64), BaselineStep("unet", 8, 64)
    pairs = [(float(ours()), float(theirs())) for _ in range(steps)]
    torch.testing.assert_close(*map(torch.tensor, zip(*pairs)), rtol=1e-3, atol=1e-4)
    return [[significant(value, 6) for value in pair] for pair in pairs]


def convolutions(step, amp):
    """Seconds that the convolutions of a step take alone, forward and backward, best of three."""
    seen, handles = [], []

    def keep(module, inputs, output):
        seen.append((module, inputs[0].detach()))

    for module in step.network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            handles.append(module.register_forward_hook(keep))

    with torch.autocast("cpu", amp) if amp else nullcontext():
        logits_of(step.network, step.batch.images, amp)
        for handle in handles:
            handle.remove()
        calls = [partial(convolve, module, image, first=index == 0)
                 for index, (module, image) in enumerate(seen)]
        return sum(min(seconds(call) for _ in range(3)) for call in calls)


def convolve(module, image, first):
    """One convolution and its gradients; the first of a network needs none for its image."""
    output = module(image if first else image.requires_grad_())
    inputs = [module.weight] if first else [image, module.weight]
    torch.autograd.grad(output, inputs, torch.ones_like(output))


def boundary_term(step, pairs=50):
    """Seconds that GDL + boundary takes more than GDL alone, forward and backward."""
    with torch.no_grad():
        probs = step.network(step.batch.images).softmax(1)
    probs, target, weights = probs.requires_grad_(), one_hot(step.batch.labels, 2), (0.5, 0.5)

    def gradient(loss):
        torch.autograd.grad(loss(probs, target, step.batch.distance, weights)[0], probs)

    both, alone = (partial(gradient, build_loss(name)) for name in ("gdl+boundary", "gdl"))
    return max(0.0, median(seconds(both) - seconds(alone) for _ in range(pairs)))


def compiled(amp, rounds, width=16, size=128):
    """torch.compile: what its start costs, what a step gains, after how many steps it has paid."""
    eager = Step("unet", width, size, amp=amp)
    fast = Step("unet", width, size, amp=amp, compiled=True)
    start = seconds(fast)
    result = alternate(eager, fast, rounds)
    gain = result["baseline_s"] - result["ours_s"]
    pays = round(start / gain) if gain > 0 else None
    show(f"torch.compile, width {width} (eager, compiled)", result)
    when = f"after {pays} steps" if pays else "never"
    print(f"{'  its start':<44} {'':>9} {duration(start):>9}, paid back {when}", flush=True)
    return {"compile": {**result, "start_s": significant(start), "pays_after_steps": pays}}
