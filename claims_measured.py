"""The claims that need no runs but are measured on the spot: C5 step time, C8 a 3-D network, C9 Eq. 3 and 4."""

import time

import numpy as np
import torch
from torch import nn

from devices import choose_amp, choose_memory_format
from distance import signed_distance
from identity import order, relative_errors, sizes_of
from losses import build_loss
from metrics import dice
from networks import build
from scheduler import weights
from scoring.cases import lesions, load_array, spacing, validation_subjects
from scoring.intervals import RESAMPLES
from scoring.rows import BOTH, REGIONAL


def claim(verdict, statistic, **values):
    """One entry of claims.json."""
    return {"verdict": verdict, "statistic": statistic, **values}


def not_measured(what):
    return claim("not measured", f"run: {what}")


# C5: the term's share of a step ----------------------------------------------------------------------------------------

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
        device, amp: where and in which precision, see devices.choose_amp.
        repeats: how often the loss alone is measured; whole steps some seconds long, 5 to 30 pairs of them.

    Returns:
        (steps, losses): arrays (N, 2) and (repeats, 2); first column without, second with the term.
    """
    torch.manual_seed(0)
    batch, shape = config["batch_size"], input_shape(config)
    layout = choose_memory_format(amp, device, len(shape))
    network = build(config["network"], channels, classes, config["width"]).to(device, memory_format=layout)
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
    return config.get("patch") or [config["size"]] * 2


def c5(config, channels, classes, device, repeats=100):
    """The term's share of a step, from the loss and gradient alone: two whole steps differ by more than the term."""
    steps, losses = step_and_loss_times(config, channels, classes, device, choose_amp("auto", device), repeats)
    without, both = np.median(steps, 0)
    extra = losses[:, 1] - losses[:, 0]
    rng = np.random.default_rng(0)
    drawn = [values[rng.integers(len(values), size=(RESAMPLES, len(values)))] for values in (extra, steps[:, 0])]
    low, high = map(float, np.percentile(np.median(drawn[0], 1) / np.median(drawn[1], 1), (2.5, 97.5)))
    share = float(np.median(extra) / without)
    verdict = "supported" if high < 0.01 else "not supported" if low > 0.01 else "not measured"
    size = "x".join(map(str, input_shape(config)))
    where = device.type + (f", {classes} classes" if classes > 2 else "")
    statistic = (f"{share:+.2%} [{low:+.2%}, {high:+.2%}] of a step: {np.median(extra) * 1e3:.2f} ms more in loss and gradient "
                 f"beside a step of {without * 1e3:.0f} ms ({config['network']}, width {config['width']}, {size}, batch "
                 f"{config['batch_size']}, {where}); negligible = under 1 %")
    if verdict == "not measured":
        statistic += "; too noisy to say, run: make claims on an idle machine"
    return claim(verdict, statistic, share=share, low=low, high=high, step_seconds=float(without),
                 step_seconds_with=float(both))


# C8: 3-D --------------------------------------------------------------------------------------------------------------

def network_3d(channels, width=8):
    """Two 3x3x3 convolutions with batch normalisation and ReLU, and a 1x1x1 one to two classes."""
    layers = []
    for count in (channels, width):
        layers += [nn.Conv3d(count, width, 3, padding=1, bias=False), nn.BatchNorm3d(width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv3d(width, 2, 1))


def lesion_volume(one, subject, half=(8, 32, 32)):
    """The surroundings of a lesion as (image (1, C, s, h, w), truth bool (s, h, w), phi (s, h, w) in mm, of the 3-D map)."""
    truth, mm = lesions(one, subject), spacing(one, subject)
    phi = signed_distance(truth, (mm[2], mm[0], mm[1]))                                    # (S, H, W) mm
    centre = np.argwhere(truth).mean(0).astype(int)
    box = tuple(slice(max(0, c - h), c + h) for c, h in zip(centre, half, strict=True))
    image = np.asarray(load_array(one, subject, "images")[box[0], :, box[1], box[2]], np.float32) / 65535
    return torch.from_numpy(image).movedim(1, 0)[None], truth[box], phi[box]


def train_3d(name, image, truth, phi, steps, seed=0):
    """Train with a loss on one volume while alpha falls from 1 by 1 / steps; returns (loss of every step, DSC of the last)."""
    torch.manual_seed(seed)
    network = network_3d(image.shape[1])
    target, distance = torch.from_numpy(np.stack([~truth, truth]))[None], torch.from_numpy(phi.copy())[None, None]
    loss, optimizer, values = build_loss(name), torch.optim.Adam(network.parameters(), 1e-2), []
    for step in range(steps):
        probs = network(image).softmax(1)
        value, _ = loss(probs, target, distance, weights(f"rebalance:{1 / steps}", step))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))
    return values, dice(probs[0].argmax(0).numpy() == 1, truth)


def c8(one, steps=60):
    """Does the joint loss train a small 3-D network on the largest lesion's surroundings, with the 3-D map in mm?

    Where GDL alone does not either, the volume says nothing about the boundary term.
    """
    subject = max(validation_subjects(one), key=lambda name: int(lesions(one, name).sum()))
    if not lesions(one, subject).any():
        return not_measured("a data set whose validation scans bear lesions")
    image, truth, phi = lesion_volume(one, subject)
    values, score = train_3d(BOTH, image, truth, phi, steps)
    trained = bool(np.isfinite(values).all()) and values[-1] < values[0] and score > 0.5
    statistic = (f"on a volume of {' x '.join(map(str, truth.shape))} voxels with its 3-D map in mm the joint loss goes from "
                 f"{values[0]:.3f} to {values[-1]:.3f} in {steps} steps of a small 3-D network, its DSC to {score:.3f}; "
                 "supported if the loss falls and DSC passes 0.5")
    measured = {"first": values[0], "last": values[-1], "dsc": float(score)}
    if trained:
        return claim("supported", statistic, **measured)
    alone = float(train_3d(REGIONAL, image, truth, phi, steps)[1])
    verdict = "not supported" if alone > 0.5 else "not measured"
    statistic += f" (GDL alone: {alone:.3f})"
    if verdict == "not measured":
        statistic += f", too hard; run: make custom NAME={one.folder.name}-dims3 DIMS=3, with these runs' other settings"
    return claim(verdict, statistic, **measured, dsc_alone=alone)


# C9: Eq. 3 and 4 ------------------------------------------------------------------------------------------------------

def c9():
    """Half of Eq. 3 on discs, squares and random smooth shapes against the continuum's value."""
    errors = {name: np.abs(values).tolist() for name, values in relative_errors().items()}
    curves = {name: {"sizes": list(sizes_of(name)), "errors": values, "order": order(sizes_of(name), values)}
              for name, values in errors.items()}
    holds = all(curve["order"] > 0.7 and curve["errors"] == sorted(curve["errors"], reverse=True) for curve in curves.values())
    return claim("supported" if holds else "not supported", "relative error at the finest grid, and its order: " + ", ".join(
        f"{name} {curve['errors'][-1]:.3f} (order {curve['order']:.2f})" for name, curve in curves.items()), curves=curves)
