"""Losses: GDL + boundary, forward and backward, beside the checked ones of 2018; the Hausdorff distance loss beside the GDL."""

import torch

from benchmarks import baseline
from benchmarks.common import alternate, show
from losses import build_loss

TARGET = 6


def run(args, folder):
    torch.manual_seed(0)
    probs = torch.randn(8, 2, 256, 256).softmax(1).requires_grad_()
    labels = (torch.rand(8, 256, 256) < 0.01).long()
    labels[::2] = 0  # half of the slices bear no lesion
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

    for one, other in zip(ours(), theirs()):
        torch.testing.assert_close(one, other)
    result = alternate(theirs, ours, 3 * args.rounds, warm_up=3)
    return {"gdl_boundary": show("GDL + boundary, forward + backward, 8x256x256", result, TARGET),
            "hausdorff": hausdorff(target, args.rounds)}


def hausdorff(target, rounds):
    """Seconds of the Hausdorff distance loss and of the GDL, whose ratio is what a step pays for it."""
    noise = torch.nn.functional.avg_pool2d(torch.randn(8, 1, 256, 256), 9, 1, 4)  # smooth: blobs above 0.5, as of a network
    probs = torch.cat([1 - 9 * noise, 9 * noise - 1], 1).softmax(1).requires_grad_()

    def step(name):
        loss = build_loss(name)

        def do():
            torch.autograd.grad(loss(probs, target)[0], probs)
        return do
    result = show("Hausdorff distance loss, and GDL, 8x256x256", alternate(step("hausdorff"), step("gdl"), rounds, warm_up=2))
    return {"hausdorff_s": result["baseline_s"], "gdl_s": result["ours_s"],
            **{key: result[key] for key in ("ratio", "ratio_range")}}
