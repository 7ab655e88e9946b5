"""Losses: GDL + boundary, forward and backward, beside the checked ones of 2018."""

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
    return {"gdl_boundary": show("GDL + boundary, forward + backward, 8x256x256", result, TARGET)}
