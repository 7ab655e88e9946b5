"""Augmentation in the training loop: image, label and maps of a batch are changed together.

    flips, right angles   along every axis, each for half of the images; right angles where there
                          are as many rows as columns. The maps move along, none interpolated.
    affine changes        for half of the slices: rotation, scale and shift. The maps are made again
                          from the label that comes out, as the data folder's were. Not in 3-D, nor
                          with maps of volumes, which do not follow from a patch's or slice's label.
    contrast, brightness  of each modality, about its mean over the image

What is drawn depends on the seed, the epoch and the step alone, so that a run repeats and continues
bit for bit, and several processes draw as one does. It is drawn on the CPU, and a GPU gets it
without being waited for. torchvision's own transforms draw from torch's global state, the same for
all images of a batch, and wait for the GPU with each matrix.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from dataloader import Patches, to_device

SHARE = 1 / 2      # of the images that a flip, a right angle or an affine change is drawn for
DEGREES = 10.0     # of rotation, up to, in either direction
SCALE = 0.1        # up to so much larger or smaller
SHIFT = 0.05       # of the size of a slice, along rows and columns
CONTRAST = 0.25    # up to so much more or less
BRIGHTNESS = 0.25  # standard deviations of the image, up or down


class Change(NamedTuple):
    """What is done to one image, its label and its maps."""

    turned: bool               # rows and columns exchanged, before the flips
    flipped: tuple             # axes, counted from the last, -1
    affine: np.ndarray | None  # (2, 3): where in the image each place comes from, see affine_grid
    gains: np.ndarray          # (C,), of the contrast
    shifts: np.ndarray         # (C,), of the brightness, in standard deviations


class Augmentation:
    """Changes the batches of an epoch.

    Args:
        train: the Slices or Patches that they are of.
        loss: the losses.JointLoss whose maps they have.
        seed, epoch: of the run.
    """

    def __init__(self, train, loss, seed, epoch):
        self.train, self.loss, self.seed, self.epoch = train, loss, seed, epoch
        self.deforms = takes_affine(train)

    @torch.no_grad()
    def __call__(self, batch, rows, step, rank=0, world=1):
        """A process's share of a global batch, changed.

        Args:
            batch: a dataloader.Batch with every `world`-th of the rows, from `rank` on.
            rows: of the global batch.
            step: its number in the epoch.
        """
        # NumPy's generator takes a missing word for 0: with step 0 it would be the order's own.
        rng = np.random.default_rng((self.seed, self.epoch, step + 1))
        changes = [self.draw(rng, batch.images.shape[1:]) for _ in rows][rank::world]
        if not changes:
            return batch

        batch = batch._make(torch.stack([moved(item, change) for item, change in
                                         zip(tensor, changes, strict=True)]) for tensor in batch)
        if any(change.affine is not None for change in changes):
            batch = self.deformed(batch, changes, self.train.spacings(rows[rank::world]))
        return batch._replace(images=recoloured(batch.images, changes))

    def draw(self, rng, shape):
        """The Change of an image of shape (C, *spatial)."""
        channels, *spatial = shape
        turned = spatial[-1] == spatial[-2] and bool(rng.random() < SHARE)
        flipped = tuple(axis for axis in range(-len(spatial), 0) if rng.random() < SHARE)
        affine = draw_affine(rng) if self.deforms and rng.random() < SHARE else None

        gains, shifts = rng.uniform(-1, 1, (2, channels))
        return Change(turned, flipped, affine, 1 + CONTRAST * gains, BRIGHTNESS * shifts)

    def deformed(self, batch, changes, spacings):
        """The batch after the affine changes that were drawn; `spacings`: of each image's scan."""
        chosen = [index for index, change in enumerate(changes) if change.affine is not None]
        places = to_device(torch.tensor(chosen), batch.images.device)
        images, labels = batch.images[places], batch.labels[places]

        matrices = numbers_on([changes[index].affine for index in chosen], batch.images.device)
        grid = functional.affine_grid(matrices, (*labels[:, None].shape,), align_corners=False)
        images = sampled(images, grid, "bilinear")
        labels = sampled(labels[:, None].float(), grid, "nearest")[:, 0].to(labels.dtype)

        voxels = [voxel_of(spacings[index], changes[index].turned) for index in chosen]
        parts = images, labels, *self.maps_of(labels, voxels)
        return batch._make(whole.index_copy(0, places, part)
                           for whole, part in zip(batch, parts, strict=True))

    def maps_of(self, labels, voxels):
        """[distance (B, K - 1, H, W), what else the loss needs of labels (B, H, W)].

        As scans.convert and training.maps make them for a data folder. What else is made by the
        CPU, which waits for the labels.

        Args:
            voxels: mm along rows and columns of each.
        """
        from transforms import distance_maps  # here, because it imports torchvision, which is slow

        how, classes = self.train.settings.distance, len(self.train.settings.classes)
        spacings = voxels if how.unit == "mm" else [None] * len(voxels)
        alike = len(set(spacings)) == 1
        parts = [(labels, spacings[0])] if alike else zip(labels.split(1), spacings, strict=True)

        # With all numbers one higher the background is a class like the others.
        more = int(self.loss.needs_background)
        phi = torch.cat([distance_maps(part + more, classes + more, spacing, how.convention)
                         for part, spacing in parts])

        maps = [phi.trunc() if how.truncate else phi]
        if self.loss.make_maps:
            made = map(self.loss.make_maps, labels.cpu().numpy(), spacings)
            maps.append(torch.from_numpy(np.stack(list(made))).to(labels.device))
        return maps


def takes_affine(train):
    """Can the maps of a batch be made again from its labels?"""
    return not isinstance(train, Patches) and train.settings.distance.dims == 2


def in_words(train):
    """What is done, for the line of a run that begins."""
    words = "flips, right angles, " + "affine changes, " * takes_affine(train)
    return f"augmentation by {words}contrast and brightness"


def draw_affine(rng):
    """(2, 3): a rotation, a scale and a shift, for affine_grid."""
    angle = np.radians(DEGREES * rng.uniform(-1, 1))
    scale = 1 + SCALE * rng.uniform(-1, 1)
    shift = 2 * SHIFT * rng.uniform(-1, 1, 2)  # affine_grid counts from -1 to 1
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([turn / scale, shift])


def voxel_of(spacing, turned):
    """mm along the rows and columns of a slice; `spacing`: of slices, rows and columns."""
    rows, columns = spacing[1:]
    return (columns, rows) if turned else (rows, columns)


def moved(item, change):
    """An image, its label or a map (..., H, W) after right angles and flips."""
    return (item.transpose(-2, -1) if change.turned else item).flip(change.flipped)


def sampled(values, grid, mode):
    """(B, C, H, W) at the places of a grid (B, H, W, 2); beyond the edge goes on what is there."""
    return functional.grid_sample(values, grid, mode, "border", align_corners=False)


def recoloured(images, changes):
    """Images (B, C, *spatial) with another contrast and brightness."""
    shape = (*images.shape[:2], *[1] * (images.ndim - 2))
    gains, shifts = (numbers_on([getattr(change, name) for change in changes], images.device)
                     .view(shape) for name in ("gains", "shifts"))
    deviation, mean = torch.std_mean(images, tuple(range(2, images.ndim)), correction=0,
                                     keepdim=True)
    return (images - mean) * gains + (mean + shifts * deviation)


def numbers_on(arrays, device):
    """Arrays of one shape as a float32 tensor on a device, which is not waited for."""
    return to_device(torch.from_numpy(np.stack(arrays).astype(np.float32)), device)
