"""A trained network on whole scans: slice by slice, or in 3-D by overlapping patches."""

from itertools import product

import numpy as np
import torch
from torch.nn import functional

from dataloader import batches
from training.nonfinite import classes_of

OVERLAP = 0.5    # of neighbouring patches, along each axis
LEAST = 1e-3     # weight of a voxel; it is 1 in the patch's centre
SIGMA = 1 / 8    # standard deviation of the Gaussian, in patches


def nothing():
    """What is done between two batches, unless there is something to do."""


def scans_by_slices(logits_of, slices, scans, batch_size, device, between=nothing):
    """Yield (Scan, classes uint8 (S, H, W)) for neighbouring scans, each when it is complete.

    Args:
        logits_of: images (B, C, H, W) float32 on the device -> logits (B, K, H, W).
        slices: a Slices.
        scans: neighbours among its scans, in its order.
        batch_size: slices at a time; they may be of several scans.
        device: where the network is.
        between: called after each batch.
    """
    waiting = list(scans)
    first = done = scans[0].rows.start if scans else 0
    rows = range(first, scans[-1].rows.stop if scans else 0)

    parts = []  # classes from slice `first` to `done`, on the device
    for batch in batches(slices, rows, batch_size, device):
        parts.append(classes_of(logits_of(batch.images)))
        between()
        done += len(batch.images)

        while waiting and waiting[0].rows.stop <= done:
            scan, found = waiting.pop(0), torch.cat(parts)
            yield scan, found[scan.rows.start - first:scan.rows.stop - first].cpu().numpy()
            parts, first = [found[scan.rows.stop - first:]], scan.rows.stop


def scans_by_patches(logits_of, slices, scans, patch, device, between=nothing):
    """The same in 3-D: yield (Scan, classes uint8 (S, H, W)), scan by scan.

    Args:
        logits_of: images (1, C, *patch) float32 on the device -> logits (1, K, *patch).
        slices: a Slices.
        scans: of its scans.
        patch: slices, rows, columns.
        device: where the network is.
        between: called after each patch.
    """
    for scan in scans:
        images = slices.images(range(scan.rows.start, scan.rows.stop))      # (S, C, H, W)
        volume = torch.from_numpy(images).movedim(1, 0)                     # (C, S, H, W)
        logits = sliding_window(logits_of, volume.to(device), patch, between,
                                slices.beyond(scan.rows.start))
        yield scan, classes_of(logits[None])[0].cpu().numpy()


def sliding_window(logits_of, volume, patch, between=nothing, beyond=None):
    """The logits of a volume: the mean over patches of it, each weighted by a Gaussian.

    Patches overlap by half or more, evenly spaced, as in nnU-Net (Isensee et al. 2021). Each goes
    through the network alone, so that the outcome does not depend on a batch size.

    Args:
        logits_of: images (1, C, *patch) -> logits (1, K, *patch) of any floating-point type.
        volume: (C, S, H, W) float32; an axis that is shorter than the patch goes on with `beyond`.
        patch: slices, rows, columns.
        between: called after each patch.
        beyond: (C,) intensities; None: zeros.

    Returns:
        (K, S, H, W) float32.
    """
    size = volume.shape[1:]
    depth, height, width = (max(0, wanted - given)
                            for wanted, given in zip(patch, size, strict=True))
    beyond = [0.0] * len(volume) if beyond is None else map(float, beyond)
    volume = torch.stack([functional.pad(channel, (0, width, 0, height, 0, depth), value=value)
                          for channel, value in zip(volume, beyond, strict=True)])

    weight, total = gaussian(patch).to(volume.device), None
    for corner in product(*map(starts, volume.shape[1:], patch)):
        places = (slice(start, start + length)
                  for start, length in zip(corner, patch, strict=True))
        window = (slice(None), *places)
        logits = logits_of(volume[window][None])[0].float()                 # (K, *patch)

        if total is None:
            total = logits.new_zeros(len(logits), *volume.shape[1:])
            weights = logits.new_zeros(1, *volume.shape[1:])
        total[window] += weight * logits
        weights[window] += weight
        between()

    return (total / weights)[:, :size[0], :size[1], :size[2]]


def starts(size, length):
    """Where patches of a length begin along an axis.

    They are evenly spaced from end to end and overlap by half or more.
    """
    count = -(-(size - length) // max(1, int(length * (1 - OVERLAP)))) + 1
    return [int(start) for start in np.linspace(0, size - length, count).round()]


def gaussian(patch):
    """The weight of each voxel of a patch, (*patch) float32: 1 in its centre, less to the edges."""
    axes = [torch.arange(length) - (length - 1) / 2 for length in patch]
    weight = torch.ones(())
    for axis, length in zip(axes, patch, strict=True):
        weight = weight[..., None] * torch.exp(-(axis / (SIGMA * length)).square() / 2)
    return weight.clamp(min=LEAST)

