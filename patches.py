"""Patches of volumes for training in 3-D, drawn anew in every epoch."""

import math

import numpy as np

from dataloader import Slices

FOREGROUND = 1 / 3        # of the patches lie around a voxel of a lesion, as in nnU-Net
LARGEST = (32, 128, 128)  # of the patch that is taken by itself: slices, rows, columns


class Patches(Slices):
    """What an epoch in 3-D trains on: random patches of the volumes of one subset, each a row (scan, slice, row, column).

    An epoch draws as many patches of a scan as take up its voxels, at uniform places; a third of them, drawn by lot, lie
    around a voxel of a lesion instead, of a class drawn by lot among those in the scan. Where a patch is larger than the
    volume, intensity, label and distance are zero beyond it.

    Args:
        folder: a data folder written by preprocess.py.
        subset: "train" or "val".
        patch: slices, rows, columns; None: `default_patch`. It is cut to the largest volume's size, slices rounded up to a
            multiple of 8: voxels beyond the volumes would only dilute the boundary loss, a mean over all of them.

    Raises:
        UserError: as Slices.
    """

    def __init__(self, folder, subset, patch=None):
        super().__init__(folder, subset)
        shapes = [labels.shape for _, labels, _ in self.arrays]
        self.patch = list(map(min, patch, whole_eights(np.max(shapes, axis=0)))) if patch else default_patch(shapes)
        self.counts = [math.ceil(math.prod(shape) / math.prod(map(min, shape, self.patch))) for shape in shapes]
        classes = range(1, len(self.settings["classes"]))
        self.places = [[found for k in classes if len(found := np.flatnonzero(labels == k))] for _, labels, _ in self.arrays]

    def __len__(self):
        return sum(self.counts)

    def order(self, seed, epoch):
        """The patches of an epoch, int (N, 4), from the seed and the epoch alone."""
        rng, rows = np.random.default_rng((seed, epoch)), []
        for number, (count, places, (_, labels, _)) in enumerate(zip(self.counts, self.places, self.arrays, strict=True)):
            room = np.maximum(np.subtract(labels.shape, self.patch), 0)
            corners = rng.integers(room + 1, size=(count, 3))
            for at in np.flatnonzero(rng.random(count) < FOREGROUND) if places else ():
                voxels = places[rng.integers(len(places))]
                centre = np.unravel_index(voxels[rng.integers(len(voxels))], labels.shape)
                corners[at] = np.clip(centre - np.array(self.patch) // 2, 0, room)
            rows.append(np.column_stack([np.full(count, number), corners]))
        return rng.permutation(np.concatenate(rows))

    def stored(self, kind, rows):
        """Images, labels or distance maps (kind 0, 1, 2) of these patches: (B, [C or K - 1,] D, H, W)."""
        array = self.arrays[0][kind]
        found = [cut(self.arrays[number][kind], corner, self.patch) for number, *corner in rows]
        return np.stack(found) if found else np.empty((0, *array.shape[1:-2], *self.patch), array.dtype)

    def scans_of(self, rows):
        """The names of the scans that these patches come from, each once."""
        return list(dict.fromkeys(self.scans[row[0]].name for row in rows))


def default_patch(shapes):
    """The patch for volumes of these shapes: their median, up to LARGEST.

    It has a multiple of 8 slices, which a network that halves them three times does not pad.
    """
    return list(map(min, whole_eights(np.median(shapes, axis=0)), LARGEST))


def whole_eights(shape):
    """Slices, rows, columns; slices rounded up to a multiple of 8."""
    slices, rows, columns = map(int, shape)
    return [8 * math.ceil(slices / 8), rows, columns]


def cut(array, corner, patch):
    """A patch (..., *patch) of a volume stored by slices, (S, ..., H, W); zeros beyond the volume."""
    z, y, x = corner
    depth, height, width = patch
    part = np.moveaxis(array[z:z + depth, ..., y:y + height, x:x + width], 0, -3)                   # (..., D, H, W)
    short = np.subtract(patch, part.shape[-3:])
    return np.pad(part, [(0, 0)] * (part.ndim - 3) + [(0, int(count)) for count in short]) if short.any() else part
