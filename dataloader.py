"""The slices of a data folder as batches: memory-mapped, prefetched, or resident on the GPU when they fit."""

import math
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from scans import folder as data_folder
from scans.folder import intensities
from utils import UserError

FOREGROUND = 1 / 3        # of the patches lie around a voxel of a lesion, as in nnU-Net
LARGEST = (32, 128, 128)  # of the patch that is taken by itself: slices, rows, columns

Batch = namedtuple("Batch", "images labels distance")  # (B, C, H, W) float32, (B, H, W) uint8, (B, K - 1, H, W) float32
Scan = namedtuple("Scan", "name rows spacing")         # rows: slice into the data set; spacing: mm along z, x, y


class Slices:
    """Every 2-D slice of one subset of a data folder, in the order of its subjects and slices.

    Args:
        folder: a data folder written by preprocess.py.
        subset: "train" or "val".

    Raises:
        UserError: the folder is not there, not finished, or lacks the arrays of a subject.
    """

    def __init__(self, folder, subset):
        folder = Path(folder)
        data_folder.refuse_unfinished(folder)
        do = f"Repeat preprocess.py into another folder than {folder}."
        self.settings = data_folder.read_dataset(folder, do)
        self.fingerprint = data_folder.read_fingerprint(folder, do).sha256
        names = data_folder.subjects_of(folder, subset)
        if not names:
            raise UserError(data_folder.split_path(folder), f"subjects with subset {subset}", "none",
                            "Correct the split.")
        self.arrays, self.scans, self.where, self.resident = [], [], [], None
        for number, name in enumerate(names):
            arrays = data_folder.open_arrays(folder, name, self.settings)
            spacing = data_folder.read_meta(folder, name).spacing
            start = len(self.where)
            self.where += [(number, index) for index in range(len(arrays[0]))]
            self.arrays.append(arrays)
            self.scans.append(Scan(name, slice(start, len(self.where)), spacing))

    def __len__(self):
        return len(self.where)

    def read(self, rows):
        """These rows (any order, or none) as a Batch of tensors on the CPU."""
        images, labels, distance = (self.stored(kind, rows) for kind in range(3))
        return Batch(*map(torch.from_numpy, (intensities(images), labels, distance)))

    def images(self, rows):
        """The images alone of these rows, float32 in [0, 1]."""
        return intensities(self.stored(0, rows))

    def stored(self, kind, rows):
        """Images, labels or distance maps (kind 0, 1, 2) of these rows as they are stored, one after the other."""
        found = [self.arrays[number][kind][index] for number, index in (self.where[row] for row in rows)]
        return np.stack(found) if found else np.array(self.arrays[0][kind][:0])

    def order(self, seed, epoch):
        """The rows of an epoch of training, each once, in an order of its own."""
        return shuffled(len(self), seed, epoch)

    def scans_of(self, rows):
        """The names of the scans that these slices come from, each once."""
        return list(dict.fromkeys(self.scans[self.where[row][0]].name for row in rows))

    def labels(self):
        """Ground truth of the whole subset, uint8 (N, H, W)."""
        return np.concatenate([labels for _, labels, _ in self.arrays])

    def class_counts(self):
        """Pixels of each class in the whole subset, int (K,)."""
        classes = len(self.settings.classes)
        return sum(np.bincount(np.ravel(labels), minlength=classes) for _, labels, _ in self.arrays)

    def move_to(self, device):
        """Keep every slice on a device from now on; one scan at a time passes through the host's memory."""
        images, labels, distance = (arrays[0] for arrays in zip(*self.arrays, strict=True))
        shapes = ((images.shape[1:], torch.float32), (labels.shape[1:], torch.uint8), (distance.shape[1:], torch.float32))
        self.resident = Batch(*(torch.empty((len(self.where), *shape), dtype=dtype, device=device) for shape, dtype in shapes))
        for scan in self.scans:
            for whole, part in zip(self.resident, self.read(range(scan.rows.start, scan.rows.stop)), strict=True):
                whole[scan.rows] = part.to(device)


def make_resident(sets, device, share=0.25):
    """Keep these Slices on a CUDA device if all of them take at most `share` of its free memory; True if so."""
    if device.type != "cuda":
        return False
    size = sum(2 * images.nbytes + labels.nbytes + distance.nbytes for one in sets for images, labels, distance in one.arrays)
    if size > share * torch.cuda.mem_get_info(device)[0]:
        return False
    for one in sets:
        one.move_to(device)
    return True


def shuffled(count, seed, epoch):
    """The order of an epoch: a permutation that depends on the seed and the epoch alone."""
    return np.random.default_rng((seed, epoch)).permutation(count)


def batches(slices, rows, batch_size, device, rank=0, world=1):
    """Yield Batches on `device`: `rows` in order, cut into global batches, of which each rank takes its share.

    Args:
        slices: a Slices.
        rows: row numbers in the order wanted.
        batch_size: slices of a global batch; the last one may be smaller.
        device: where the tensors shall lie.
        rank, world: this process among those that train together. All get as many Batches; one of few slices is empty
            for some.
    """
    chunks = [rows[start:start + batch_size][rank::world] for start in range(0, len(rows), batch_size)]
    if slices.resident is not None:
        order = torch.as_tensor(np.asarray(rows), device=device)
        for start in range(0, len(rows), batch_size):
            chosen = order[start:start + batch_size][rank::world]
            yield Batch(*(tensor[chosen] for tensor in slices.resident))
        return
    if not chunks:
        return
    with ThreadPoolExecutor(1) as pool:  # the next batch is read while this one is used
        pending = [pool.submit(slices.read, chunk) for chunk in chunks[:1]]
        for chunk in [*chunks[1:], None]:
            batch = pending.pop().result()
            if chunk is not None:
                pending.append(pool.submit(slices.read, chunk))
            pinned = device.type == "cuda"
            yield Batch(*(t.pin_memory().to(device, non_blocking=True) if pinned else t for t in batch))


def one_hot(labels, classes):
    """(B, *spatial) class numbers -> (B, K, *spatial) bool."""
    numbers = torch.arange(classes, device=labels.device, dtype=labels.dtype)
    return labels[:, None] == numbers.view(1, -1, *[1] * (labels.ndim - 1))


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
        classes = range(1, len(self.settings.classes))
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
