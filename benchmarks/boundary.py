"""The boundary loss and its maps beside MONAI's: 8x256x256 slices and a volume, on the CPU."""

from functools import partial

import monai
import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from benchmarks.common import alternate, show
from losses import BoundaryLoss
from losses_regional import HausdorffLoss
from transforms import distance_maps

TARGET = 5  # of maps of slices


def run(args, folder):
    results = {}
    for name, shape in (("slices", (8, 256, 256)), ("volume", (1, 48, 128, 128))):
        labels = lesions(shape)
        one_hot = torch.stack([labels == 0, labels == 1], 1).float()            # (B, 2, *spatial)
        logits = torch.randn(one_hot.shape, generator=torch.Generator().manual_seed(0))
        size = "x".join(map(str, shape))
        target = TARGET if name == "slices" else None
        results[name] = {**maps(labels, one_hot, size, args.rounds, target),
                         **losses(labels, one_hot, logits.requires_grad_(), size, args.rounds)}
    return results


def lesions(shape):
    """Labels (B, *spatial) of which 1 % are lesions, in blobs; the last image of a batch has none.

    A batch of one has some.
    """
    sigma = (0, *[4] * (len(shape) - 1))
    field = gaussian_filter(np.random.default_rng(0).normal(size=shape), sigma)
    labels = torch.from_numpy((field > np.quantile(field, 0.99)).astype(np.int64))
    if len(labels) > 1:
        labels[-1] = 0
    return labels


def maps(labels, one_hot, size, rounds, target):
    """What a map costs in every step: MONAI's, and distance_maps of the same convention."""
    theirs = partial(monai.losses.BoundaryLoss().compute_distance_map, one_hot[:, 1:])
    ours = partial(distance_maps, labels, convention="official")
    torch.testing.assert_close(ours(), theirs(), rtol=1e-5, atol=1e-5)

    official = alternate(theirs, ours, rounds)
    paper = alternate(theirs, partial(distance_maps, labels), rounds)
    return {"maps_official": show(f"maps, official, {size}", official, target),
            "maps": show(f"maps, the paper's, {size}", paper, target)}


def losses(labels, one_hot, logits, size, rounds):
    """Loss and gradient: MONAI's, which makes the maps, and ours of maps that are there."""
    monais = monai.losses.BoundaryLoss(include_background=False, softmax=True)
    ours, phi = BoundaryLoss(softmax=True), distance_maps(labels, convention="official")

    def both(loss, *given):
        value = loss(logits, *given)
        return value.detach(), *torch.autograd.grad(value, logits)

    def with_maps():
        return both(ours, distance_maps(labels, convention="official"))

    theirs, precomputed = partial(both, monais, one_hot), partial(both, ours, phi)
    for found, expected in zip(precomputed(), theirs(), strict=True):
        torch.testing.assert_close(found, expected)

    hausdorff = (partial(both, monai.losses.HausdorffDTLoss(softmax=True), one_hot),
                 partial(both, HausdorffLoss(softmax=True), one_hot))
    return {
        "loss": show(f"loss + gradient, map at hand, {size}",
                     alternate(theirs, precomputed, rounds)),
        "loss_with_maps": show(f"loss + gradient, map in each call, {size}",
                               alternate(theirs, with_maps, rounds)),
        "hausdorff": show(f"Hausdorff loss + gradient, {size}", alternate(*hausdorff, rounds)),
    }
