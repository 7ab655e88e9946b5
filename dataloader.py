"""The slices of a data folder as batches: memory-mapped and prefetched, or kept on the GPU."""

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


class Batch(namedtuple("Batch", "images labels distance")):
    """What the network sees, and what the loss compares it with.

    images (B, C, H, W) float32; labels (B, H, W) uint8; distance (B, K - 1, H, W) float32, phi of
    the foreground classes, or (B, K, H, W) with the background's before them.
    """

    maps = None


# maps (B, M, H, W): what else the loss needs of the labels
BatchWithMaps = namedtuple("BatchWithMaps", "images labels distance maps")

# rows: slice into the rows of a Slices; spacing: mm along slices, rows and columns
Scan = namedtuple("Scan", "name rows spacing")


class Slices:
    """Every 2-D slice of one subset of a data folder, in the order of its subjects and slices.

    Args:
        folder: a data folder written by preprocess.py.
        subset: "train" or "val".
        fold: the one that validates, of a data folder that is split into folds.
        lesions_only: leave out the slices without foreground.

    Raises:
        UserError: the folder is not there, not finished, or lacks the arrays of a subject; or all
            slices would be left out.
    """

    def __init__(self, folder, subset, fold=None, lesions_only=False):
        folder = Path(folder)
        data_folder.refuse_unfinished(folder)

        do = f"Repeat preprocess.py into another folder than {folder}."
        self.settings = data_folder.read_dataset(folder, do)
        self.fingerprint = data_folder.read_fingerprint(folder, do).sha256
        names = data_folder.subjects_of(folder, subset, fold)
        if not names:
            raise UserError(data_folder.split_path(folder), f"subjects with subset {subset}",
                            "none", "Correct the split.")

        self.resident = None  # a Batch of all slices, where they are kept on a device
        self.arrays = []      # (images, labels, distance) of each scan, memory-mapped; and its maps
        self.moments = []     # of each scan, (C, 2); see scans.folder.intensities
        self.scans = []       # Scan of each
        self.where = []       # (number of its scan, its slice there) of each row
        for number, name in enumerate(names):
            arrays = data_folder.open_arrays(folder, name, self.settings)
            spacing = data_folder.read_meta(folder, name).spacing
            start, labels = len(self.where), arrays[1]
            self.where += [(number, index) for index in range(len(labels))
                           if not lesions_only or labels[index].any()]
            self.arrays.append(arrays)
            self.moments.append(data_folder.read_moments(folder, name, self.settings))
            self.scans.append(Scan(name, slice(start, len(self.where)), spacing))

        if not self.where:
            raise UserError(folder, "slices with a lesion to train on", "none",
                            "Train on all slices.")

    def __len__(self):
        return len(self.where)

    def steps(self, batch_size):
        """Training steps of an epoch; the last one may have fewer slices or patches."""
        return math.ceil(len(self) / batch_size)

    def read(self, rows):
        """These rows (any order, or none) as a Batch of tensors on the CPU."""
        images, *others = (self.stored(kind, rows) for kind in range(len(self.arrays[0])))
        kind = Batch if len(others) == 2 else BatchWithMaps
        return kind._make(map(torch.from_numpy, (self.normalised(images, rows), *others)))

    def images(self, rows):
        """The images alone of these rows, float32, normalised as the data folder says."""
        return self.normalised(self.stored(0, rows), rows)

    def normalised(self, stored, rows):
        """Images of these rows as stored -> float32."""
        moments = [self.moments[self.scan_of(row)] for row in rows]
        if not moments or moments[0] is None:
            return intensities(stored)
        return intensities(stored, np.stack(moments))

    def beyond(self, row):
        """What lies beyond the volume that a row comes from: (C,), the least of each modality."""
        return self.normalised(np.zeros((1, len(self.settings.modalities)), np.uint16), [row])[0]

    def stored(self, kind, rows):
        """Images, labels, distance or other maps (kind 0 to 3) of these rows, as stored."""
        places = (self.where[row] for row in rows)
        found = [self.arrays[number][kind][index] for number, index in places]
        return np.stack(found) if found else np.array(self.arrays[0][kind][:0])

    def order(self, seed, epoch):
        """The rows of an epoch of training, each once, shuffled."""
        return shuffled(len(self), seed, epoch)

    def scan_of(self, row):
        """The number of the scan that a row comes from."""
        return self.where[row][0]

    def scans_of(self, rows):
        """The names of the scans that these rows come from, each once."""
        return list(dict.fromkeys(self.scans[self.scan_of(row)].name for row in rows))

    def spacings(self, rows):
        """mm along slices, rows and columns of each of these rows."""
        return [self.scans[self.scan_of(row)].spacing for row in rows]

    def labels(self):
        """Ground truth of the whole subset, uint8 (N, H, W)."""
        return np.concatenate([arrays[1] for arrays in self.arrays])

    def class_sizes(self):
        """Pixels of each class in every slice, or in every volume of Patches, int (N, K)."""
        classes = len(self.settings.classes)
        return np.array([np.bincount(np.ravel(labels), minlength=classes)
                         for labels in self.masks()])

    def masks(self):
        """The labels of each image whose classes are counted."""
        return (self.arrays[number][1][index] for number, index in self.where)

    def add_maps(self, make):
        """Give each scan other maps, which are kept in memory.

        Args:
            make: function of labels (S, H, W), distance maps (S, K - 1, H, W) and spacing that
                returns the distance maps to use, and a list of an array (S, M, H, W) or none.
        """
        for number, scan in enumerate(self.scans):
            images, labels, distance = self.arrays[number]
            distance, more = make(labels, distance, scan.spacing)
            self.arrays[number] = images, labels, distance, *more

    def move_to(self, device):
        """Keep every slice on a device from now on.

        One scan at a time passes through the host's memory.
        """
        empty = self.read([])
        self.resident = empty._make(
            torch.empty((len(self.where), *tensor.shape[1:]), dtype=tensor.dtype, device=device)
            for tensor in empty)

        for scan in self.scans:
            slices = self.read(range(scan.rows.start, scan.rows.stop))
            for whole, tensor in zip(self.resident, slices, strict=True):
                whole[scan.rows] = tensor.to(device)


def make_resident(sets, device, share=0.25):
    """Keep these Slices on a CUDA device if they fit; True if they do.

    They fit if all of them take at most `share` of its free memory.
    """
    if device.type != "cuda":
        return False

    # Images are stored in 16 bits and computed with in 32.
    size = sum(2 * images.nbytes + sum(array.nbytes for array in others)
               for slices in sets for images, *others in slices.arrays)
    if size > share * torch.cuda.mem_get_info(device)[0]:
        return False

    for slices in sets:
        slices.move_to(device)
    return True


def shuffled(count, seed, epoch):
    """The order of an epoch: a permutation that depends on the seed and the epoch alone."""
    return np.random.default_rng((seed, epoch)).permutation(count)


def batches(slices, rows, batch_size, device, rank=0, world=1):
    """Yield Batches on `device`: `rows` in order, cut into global batches, of each a rank's share.

    Args:
        slices: a Slices.
        rows: row numbers in the order wanted.
        batch_size: slices of a global batch; the last one may be smaller.
        device: where the tensors shall lie.
        rank, world: this process among those that train together. All get as many Batches; one of
            few slices is empty for some.
    """
    starts = range(0, len(rows), batch_size)

    if slices.resident is not None:
        order = torch.as_tensor(np.asarray(rows), device=device)
        for start in starts:
            chosen = order[start:start + batch_size][rank::world]
            yield slices.resident._make(tensor[chosen] for tensor in slices.resident)
        return

    # A thread reads the next batch while this one is used.
    shares = [rows[start:start + batch_size][rank::world] for start in starts]
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(slices.read, shares[0]) if shares else None
        for number in range(len(shares)):
            batch = reading.result()
            if number + 1 < len(shares):
                reading = pool.submit(slices.read, shares[number + 1])
            yield batch._make(to_device(tensor, device) for tensor in batch)


def to_device(tensor, device):
    """A tensor of the CPU on a device, which a GPU fetches without being waited for."""
    if device.type != "cuda":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


def one_hot(labels, classes):
    """(B, *spatial) class numbers -> (B, K, *spatial) bool."""
    numbers = torch.arange(classes, device=labels.device, dtype=labels.dtype)
    return labels[:, None] == numbers.view(1, -1, *[1] * (labels.ndim - 1))


class Patches(Slices):
    """What an epoch in 3-D trains on: random patches of the volumes of one subset.

    Each is a row (scan, slice, row, column). An epoch draws as many patches of a scan as take up
    its voxels, at uniform places; a third of them, at random, lie around a voxel of a lesion
    instead, of a random class among those in the scan. Where a patch is larger than the volume,
    label and distance are zero beyond it, and each modality has its least intensity.

    Args:
        folder: a data folder written by preprocess.py.
        subset, fold: see Slices.
        patch: slices, rows, columns; None: `default_patch`. It is cut to the largest volume's size,
            slices rounded up to a multiple of 8: voxels beyond the volumes would only dilute the
            boundary loss, a mean over all of them.

    Raises:
        UserError: as Slices.
    """

    def __init__(self, folder, subset, patch=None, fold=None):
        super().__init__(folder, subset, fold)
        shapes = [labels.shape for labels in self.masks()]
        if patch:
            self.patch = list(map(min, patch, whole_eights(np.max(shapes, axis=0))))
        else:
            self.patch = default_patch(shapes)

        # Patches of each scan in an epoch.
        self.counts = [math.ceil(math.prod(shape) / math.prod(map(min, shape, self.patch)))
                       for shape in shapes]

        # Voxels of each class that a scan has, as flat indices.
        classes = range(1, len(self.settings.classes))
        self.places = [[found for k in classes if len(found := np.flatnonzero(labels == k))]
                       for labels in self.masks()]

    def masks(self):
        return (arrays[1] for arrays in self.arrays)

    def __len__(self):
        return sum(self.counts)

    def order(self, seed, epoch):
        """The patches of an epoch, int (N, 4), from the seed and the epoch alone."""
        rng, rows = np.random.default_rng((seed, epoch)), []
        for number, labels in enumerate(self.masks()):
            corners = self.draw_corners(rng, labels.shape, self.counts[number], self.places[number])
            rows.append(np.column_stack([np.full(len(corners), number), corners]))
        return rng.permutation(np.concatenate(rows))

    def draw_corners(self, rng, shape, count, places):
        """Where `count` patches of a volume of this shape begin, int (count, 3).

        `places` are the voxels of each class that it has.
        """
        room = np.maximum(np.subtract(shape, self.patch), 0)
        corners = rng.integers(room + 1, size=(count, 3))
        if not places:
            return corners

        for index in np.flatnonzero(rng.random(count) < FOREGROUND):
            voxels = places[rng.integers(len(places))]
            centre = np.unravel_index(voxels[rng.integers(len(voxels))], shape)
            corners[index] = np.clip(centre - np.array(self.patch) // 2, 0, room)
        return corners

    def stored(self, kind, rows):
        """Images, labels, distance or other maps (kind 0 to 3) of these patches.

        (B, C, D, H, W), (B, D, H, W), (B, K - 1, D, H, W) or (B, M, D, H, W).
        """
        array = self.arrays[0][kind]
        found = [cut(self.arrays[number][kind], corner, self.patch) for number, *corner in rows]
        if not found:
            return np.empty((0, *array.shape[1:-2], *self.patch), array.dtype)
        return np.stack(found)

    def scan_of(self, row):
        return row[0]


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
    """A patch (..., *patch) of a volume stored as slices, (S, ..., H, W); zeros beyond it."""
    z, y, x = corner
    depth, height, width = patch
    inside = array[z:z + depth, ..., y:y + height, x:x + width]
    inside = np.moveaxis(inside, 0, -3)                                     # (..., D, H, W)

    missing = np.subtract(patch, inside.shape[-3:])
    if not missing.any():
        return inside
    return np.pad(inside, [(0, 0)] * (inside.ndim - 3) + [(0, int(count)) for count in missing])
