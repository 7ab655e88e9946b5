"""Losses: GDL + boundary beside the checked ones of 2018, and every loss beside the GDL."""

from functools import partial

import numpy as np
import torch

from benchmarks import baseline
from benchmarks.common import alternate, compare, duration, seconds, show
from distance import signed_distance
from losses_regional import REGIONAL_LOSSES, build_loss

TARGET = 6


def run(args, folder):
    torch.manual_seed(0)
    probs = torch.randn(8, 2, 256, 256).softmax(1).requires_grad_()
    labels = (torch.rand(8, 256, 256) < 0.01).long()
    labels[::2] = 0  # half of the slices contain no lesion
    target = torch.stack([labels == 0, labels == 1], 1)
    maps = torch.randn(8, 1, 256, 256) * 50
    both_maps, target_int = torch.cat([-maps, maps], 1), target.int()
    joint = build_loss("gdl+boundary")

    def ours():
        loss = joint(probs, target, maps, (0.5, 0.5))[0]
        return loss.detach(), *torch.autograd.grad(loss, probs)

    def theirs():
        loss = baseline.objective(probs, target_int, both_maps)
        return loss.detach(), *torch.autograd.grad(loss, probs)

    for mine, other in zip(ours(), theirs()):
        torch.testing.assert_close(mine, other)
    result = alternate(theirs, ours, 3 * args.rounds, warm_up=3)
    return {"gdl_boundary": show("GDL + boundary, forward + backward, 8x256x256", result, TARGET),
            "each": every_loss(labels, target, args.rounds)}


def every_loss(labels, target, rounds):
    """{loss: {"seconds" (with gradient), "times_gdl" (as many as the GDL's)}}, measured in turn."""
    # smooth: blobs above 0.5, as a network gives
    noise = torch.nn.functional.avg_pool2d(torch.randn(8, 1, 256, 256), 9, 1, 4)
    logits = torch.cat([1 - 9 * noise, 9 * noise - 1], 1).requires_grad_()          # (B, K, H, W)
    phi = torch.from_numpy(np.array([[signed_distance(image == k) for k in range(2)]
                                     for image in labels.numpy()]))                 # (B, 2, H, W)
    options = {"wce": {"weights": [1, 100]}}
    losses = {name: build_loss(name, options=options.get(name))
              for name in (*REGIONAL_LOSSES, "boundary")}

    maps = {name: torch.from_numpy(np.array([loss.make_maps(image) for image in labels.numpy()]))
            for name, loss in losses.items() if loss.make_maps}

    def gradient(name, loss):
        distance = phi if loss.needs_background else phi[:, 1:]
        value, _ = loss(logits.softmax(1), target, distance, logits=logits, maps=maps.get(name))
        torch.autograd.grad(value, logits)

    times = {name: [] for name in losses}
    for _ in range(rounds + 2):  # the first two warm up
        for name, loss in losses.items():
            times[name].append(seconds(partial(gradient, name, loss)))

    results = {}
    for name, values in times.items():
        result = compare(list(zip(values[2:], times["gdl"][2:], strict=True)))
        print(f"{name:<44} {duration(result['baseline_s']):>9}{'':10} {result['ratio']:>7.2f} "
              "times the GDL", flush=True)
        results[name] = {"seconds": result["baseline_s"], "times_gdl": result["ratio"]}
    return results
