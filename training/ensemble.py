"""Trained networks on a new scan: the mean of their softmax, over mirrored images too."""

from itertools import repeat
from typing import NamedTuple

import numpy as np
import torch

from scans.folder import intensities
from training.best_model import BestModel, load_model
from training.devices import logits_of
from training.inference import sliding_window
from training.nonfinite import classes_of, refuse_undefined
from utils import UserError

MIRRORED = ((), (-2,), (-1,), (-2, -1))  # axes of the rows and columns
AGREE = ("modalities", "classes", "size", "fill", "normalise", "layout", "spec")  # of their data


class Member(NamedTuple):
    """A trained network, and how it computes."""

    network: torch.nn.Module
    trained: BestModel              # what best.pt says of it
    amp: torch.dtype | None = None  # of autocast, None without it


def load_members(paths, device):
    """The Members of best.pt files, on the device.

    Raises:
        UserError: see load_model; or two were trained on data of another description.
    """
    members = [Member(*load_model(path, device)) for path in paths]
    first = members[0].trained.data
    for path, member in zip(paths, members, strict=True):
        for name in AGREE:
            found, expected = (getattr(data, name) for data in (member.trained.data, first))
            if found != expected:
                raise UserError(path, f"{name} as in {paths[0]}, {in_short(expected)}",
                                in_short(found), "Take networks of one kind of data.")
    return members


def in_short(value):
    text = ", ".join(value) if isinstance(value, list) else str(value)
    return text if len(text) < 80 else f"{text[:77]}..."


@torch.inference_mode()
def segment(members, device, slices, moments=None, batch_size=8, mirror=False):
    """The classes and the softmax of a scan; of one network, without mirroring, as in training.

    Args:
        members: Members.
        device: where their networks are.
        slices, moments: (S, C, H, W) uint16 and (C, 2) or None, see scans.folder.intensities.
        batch_size: slices at a time, of a network of slices.
        mirror: take the mean over the image and its mirror images along rows, columns and both.

    Returns:
        (S, H, W) uint8 and (S, K, H, W) float32.

    Raises:
        UserError: an output of a network is not finite, as where float16 overflows.
    """
    passes = [(member, axes) for member in members for axes in (MIRRORED if mirror else ((),))]
    classes, total = None, 0
    for member, axes in passes:
        parts = [(classes_of(part).cpu(), part.float().softmax(1).cpu())
                 for part in logits(member, device, slices, moments, batch_size, axes)]
        classes, softmax = map(torch.cat, zip(*parts, strict=True))
        refuse_undefined(classes.numpy(), "the network", "this scan",
                         "Take --amp off, or another checkpoint.")
        total = total + softmax

    mean = total / len(passes)
    if len(passes) > 1:  # the logits of one may differ where its softmax does not
        classes = mean.argmax(1).to(torch.uint8)
    return classes.numpy(), mean.numpy()


def logits(member, device, slices, moments, batch_size, axes):
    """Yield a network's logits of consecutive slices, (B, K, H, W), seen mirrored along `axes`."""
    def seen(stored):
        images = intensities(stored, None if moments is None else moments[None])
        return torch.from_numpy(images).to(device).flip(axes)

    def run(images):
        return logits_of(member.network, images, member.amp)

    if patch := member.trained.patch:
        beyond = seen(np.zeros((1, slices.shape[1], 1, 1), np.uint16)).flatten().tolist()
        volume = seen(slices).movedim(1, 0)                                 # (C, S, H, W)
        parts = [sliding_window(run, volume, patch, beyond=beyond).movedim(1, 0)]
    else:
        starts = range(0, len(slices), batch_size)
        parts = map(run, map(seen, (slices[start:start + batch_size] for start in starts)))
    yield from map(torch.Tensor.flip, parts, repeat(axes))
