"""What the boundary term adds to the time of a training step (claim C5)."""

import time

import numpy as np
import torch

from losses_regional import build_loss
from networks import build
from scoring.intervals import RESAMPLES
from scoring.rows import BOTH, REGIONAL
from training.devices import choose_amp, choose_memory_format


def seconds(work, device):
    """Wall time of one call, the device's queue emptied before and after."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda device: None
    wait(device)
    start = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - start


def step_and_loss_times(config, channels, classes, device, amp, repeats):
    """Seconds of training steps, and of loss and gradient alone, each without and with the term, measured alternately.

    Args:
        config: a run's settings: network, width, size, batch_size; patch, if it trains in 3-D; boundary_classes.
        channels: number of modalities.
        classes: K.
        device, amp: where and in which precision, see training.devices.choose_amp.
        repeats: how often the loss alone is measured; whole steps some seconds long, 5 to 30 pairs of them.

    Returns:
        (steps, losses): arrays (N, 2) and (repeats, 2); first column without, second with the term.
    """
    torch.manual_seed(0)
    batch, shape = config.batch_size, input_shape(config)
    layout = choose_memory_format(amp, device, len(shape))
    network = build(config.network, channels, classes, config.width).to(device, memory_format=layout)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    images = torch.rand(batch, channels, *shape, device=device).contiguous(memory_format=layout)
    labels = torch.randint(100, (batch, 1, *shape), device=device)  # a hundredth of the pixels for each foreground class
    lesions = [labels == k for k in range(1, classes)]
    target = torch.cat([~torch.stack(lesions).any(0), *lesions], 1)
    phi = torch.randn(batch, classes - 1, *shape, device=device)
    logits = torch.randn(batch, classes, *shape, device=device, requires_grad=True)
    losses = {name: build_loss(name, classes, boundary_classes=config.get("boundary_classes") if name == BOTH else None)
              for name in (REGIONAL, BOTH)}

    def step(name):
        with torch.autocast(device.type, amp, enabled=amp is not None):
            output = network(images)
        losses[name](output.float().softmax(1), target, phi, (0.5, 0.5))[0].backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def loss_alone(name):
        losses[name](logits.softmax(1), target, phi, (0.5, 0.5))[0].backward()

    def pair(work):
        return [seconds(lambda name=name: work(name), device) for name in (REGIONAL, BOTH)]

    def alternately(work, times=None):
        _, (_, one) = pair(work), pair(work)  # the first two warm up
        return np.array([pair(work) for _ in range(times or int(np.clip(3 / one, 5, 30)))])

    return alternately(step), alternately(loss_alone, repeats)


def input_shape(config):
    """Of what a run's network sees: the slice, or the patch."""
    return config.get("patch") or [config.size] * 2


def share_of_step(config, channels, classes, device, repeats=100):
    """The term's share of a step, from the loss and gradient alone: two whole steps differ by more than the term.

    Returns:
        {"share", "low", "high" (95 % over the measurements), "extra_seconds", "step_seconds", "step_seconds_with"}.
    """
    steps, losses = step_and_loss_times(config, channels, classes, device, choose_amp("auto", device), repeats)
    without, both = np.median(steps, 0)
    extra = losses[:, 1] - losses[:, 0]

    rng = np.random.default_rng(0)
    drawn = [values[rng.integers(len(values), size=(RESAMPLES, len(values)))] for values in (extra, steps[:, 0])]
    low, high = map(float, np.percentile(np.median(drawn[0], 1) / np.median(drawn[1], 1), (2.5, 97.5)))

    return {"share": float(np.median(extra) / without), "low": low, "high": high, "extra_seconds": float(np.median(extra)),
            "step_seconds": float(without), "step_seconds_with": float(both)}
