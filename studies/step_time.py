"""What the boundary term adds to the time of a training step (claim C5).

On a GPU the host queues work and does not wait for it. So what is timed there stands in the queue
behind other work, between two events: the device's own time, without the host's launches.
"""

import time
from functools import partial

import numpy as np
import torch

from losses_regional import build_loss
from networks import build
from scoring.intervals import RESAMPLES
from scoring.rows import BOTH, PAIR, REGIONAL
from training.devices import choose_amp, choose_memory_format

QUEUED = 5             # calls between two events
SECONDS = 3            # for all whole steps together
AHEAD, SIZE = 20, 2048  # matrix products in front of them, 17 GFLOP each: some 10 ms


def seconds(work, device):
    """Seconds of a call: by the clock of the host, or of the GPU that does it."""
    if device.type == "cuda":
        return queued_seconds(work, device)
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def queued_seconds(work, device, count=QUEUED):
    """Seconds that a GPU takes for a call, the mean of `count` queued one behind the other.

    Matrix products in front of them keep the device busy while the host queues the calls; without
    these, kernels as short as a loss's would be timed at the host's pace.
    """
    matrix = torch.ones(SIZE, SIZE, device=device)
    before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    for _ in range(AHEAD):
        matrix @ matrix

    before.record()
    for _ in range(count):
        work()
    after.record()
    torch.cuda.synchronize(device)
    return before.elapsed_time(after) / 1000 / count


def step_and_loss_times(config, channels, classes, device, amp, repeats):
    """Seconds of whole training steps, and of loss and gradient alone.

    Each is measured without and with the term in turn, so that both see the same machine.

    Args:
        config: a run's settings: network, width, size, batch_size; patch, if it trains in 3-D;
            boundary_classes.
        channels: number of modalities.
        classes: K.
        device, amp: where and in which precision, see training.devices.choose_amp.
        repeats: how often the loss alone is measured. Whole steps are measured for some seconds, 5
            to 30 pairs of them.

    Returns:
        (steps, losses): arrays (N, 2) and (repeats, 2); first column without, second with the term.
    """
    torch.manual_seed(0)
    batch, shape = config.batch_size, input_shape(config)
    layout = choose_memory_format(amp, device, len(shape))
    network = build(config.network, channels, classes, config.width)
    network = network.to(device, memory_format=layout)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3, fused=True)

    # A made-up batch, in which each foreground class has a hundredth of the pixels
    images = torch.rand(batch, channels, *shape, device=device).contiguous(memory_format=layout)
    labels = torch.randint(100, (batch, 1, *shape), device=device)
    lesions = [labels == k for k in range(1, classes)]
    target = torch.cat([~torch.stack(lesions).any(0), *lesions], 1)                   # (B, K, ...)
    maps = classes if 0 in (config.get("boundary_classes") or ()) else classes - 1
    phi = torch.randn(batch, maps, *shape, device=device)                      # (B, K or K-1, ...)
    logits = torch.randn(batch, classes, *shape, device=device, requires_grad=True)
    boundary_classes = {REGIONAL: None, BOTH: config.get("boundary_classes")}
    losses = {name: build_loss(name, classes, boundary_classes=boundary_classes[name])
              for name in PAIR}

    def step(name):
        with torch.autocast(device.type, amp, enabled=amp is not None):
            output = network(images)
        losses[name](output.float().softmax(1), target, phi, (0.5, 0.5))[0].backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def loss_alone(name):
        losses[name](logits.softmax(1), target, phi, (0.5, 0.5))[0].backward()

    return alternately(step, device), alternately(loss_alone, device, repeats)


def alternately(work, device, times=None):
    """Seconds (times, 2) of work(REGIONAL) and work(BOTH), in turn; two pairs before warm up.

    Without `times`, it is as many as fit into about SECONDS, 5 to 30.
    """
    def pair():
        return [seconds(partial(work, name), device) for name in PAIR]

    pair()
    _, one_step = pair()
    return np.array([pair() for _ in range(times or int(np.clip(SECONDS / one_step, 5, 30)))])


def input_shape(config):
    """Shape of what a run's network sees: a slice, or a patch."""
    return config.get("patch") or [config.size] * 2


def share_of_step(config, channels, classes, device, repeats=100):
    """The term's share of a step.

    The term is timed in the loss and gradient alone: two whole steps differ by more than it takes.

    Returns:
        {"share", "low", "high" (95 % over the measurements), "extra_seconds", "step_seconds",
        "step_seconds_with"}.
    """
    amp = choose_amp("auto", device)
    steps, losses = step_and_loss_times(config, channels, classes, device, amp, repeats)
    without, both = np.median(steps, 0)
    extra = losses[:, 1] - losses[:, 0]

    # The interval of a ratio of two medians
    rng = np.random.default_rng(0)
    drawn = [values[rng.integers(len(values), size=(RESAMPLES, len(values)))]
             for values in (extra, steps[:, 0])]
    ratios = np.median(drawn[0], 1) / np.median(drawn[1], 1)
    low, high = np.percentile(ratios, (2.5, 97.5))

    return {
        "share": float(np.median(extra) / without),
        "low": float(low),
        "high": float(high),
        "extra_seconds": float(np.median(extra)),
        "step_seconds": float(without),
        "step_seconds_with": float(both),
    }


if __name__ == "__main__":
    from utils import explain_part
    explain_part("studies.step_time", __doc__, "studies.claims")
