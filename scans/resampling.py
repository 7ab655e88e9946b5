"""A scan to the network's slices and back: normalising, resampling, and masks on a scan's own grid.

Needs no torch, whose import takes as long as some ten scans. Training imports this file and runs
without nibabel, so that is imported where it is used.
"""

import gzip

import numpy as np
from scipy import ndimage

from scans.folder import INTENSITY_MAX, PERCENTILES, read_dataset, read_geometry
from scans.geometry import BY_MAIN, from_ras, image_like, orientation
from utils import atomic_path, log


def network_input(volumes, size, fill=None, how="minmax"):
    """What a network sees of a scan: (X, Y, Z) per modality -> (S, C, size, size) uint16.

    The only place where scans are normalised and resampled, for training and prediction alike.
    By z-score a network sees them after `folder.intensities` with the `moments` of each modality.

    Args:
        volumes: (X, Y, Z) of each modality.
        size: rows and columns of a slice, px.
        fill: of them those that the scan takes up, see `inside`; around it every modality has its
            volume's least intensity.
        how: one of folder.NORMALISATIONS.
    """
    images = np.zeros((volumes[0].shape[2], len(volumes), size, size), np.uint16)
    scan = images[inside(size, fill)]
    for channel, volume in enumerate(volumes):
        planes = resampled(normalise(volume, how), fill or size)
        for plane, out in zip(planes, scan[:, channel], strict=True):
            plane *= INTENSITY_MAX
            out[:] = np.rint(plane, out=plane)
    return images


def inside(size, fill=None):
    """Where a scan lies in its slices, as an index of the last two axes of (..., size, size).

    It is their middle of `fill` x `fill` pixels, with an odd pixel more behind it than before it;
    all of them where `fill` is None.
    """
    fill = fill or size
    start = (size - fill) // 2
    return (..., slice(start, start + fill), slice(start, start + fill))


def normalise(volume, how="minmax"):
    """(X, Y, Z) intensities -> float32 in [0, 1]: the volume's range, or that of its percentiles.

    In float64, since float32 holds neither 1e9 + noise nor the range of a scan that reaches 3e38;
    and slice by slice, which takes little memory.
    """
    low, high = bounds(volume, how)
    result = np.empty_like(volume, np.float32)
    for index in range(volume.shape[2]):
        plane = np.clip(volume[..., index].astype(np.float64), low, high)
        result[..., index] = (plane - low) / (high - low)
    return result


def bounds(volume, how="minmax"):
    """The intensities of a volume that become 0 and 1.

    By percentiles: PERCENTILES of all voxels, linear between two of them; the least and greatest
    intensity where the two are equal, as in a map of few voxels that are not 0.
    """
    low, high = float(volume.min()), float(volume.max())
    if how == "percentiles":
        inner = np.percentile(volume, PERCENTILES).tolist()
        low, high = inner if inner[0] < inner[1] else (low, high)
    return low, high


def moments(volume):
    """[mean, standard deviation] of all voxels, where 0 and 1 are the least and the greatest."""
    values = normalise(volume)
    return [float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))]


def resample(volume, size, mode):
    """(X, Y, Z) -> (Z, size, size): every axial slice resampled in plane, rows = x, columns = y.

    Pixels are areas, as in torch's interpolate without align_corners: "bilinear" interpolates
    between the centres of the old pixels, the outer ones going on beyond theirs; "nearest" takes
    the old pixel in which the centre of the new one lies.
    """
    if mode == "bilinear":
        return np.stack(list(resampled(volume, size)))
    return nearest(np.moveaxis(volume, 2, 0), (size, size))


def resampled(volume, size):
    """Yield the axial slices (size, size) of a volume (X, Y, Z) of floats, "bilinear".

    One by one, which takes little memory.
    """
    for plane in np.moveaxis(volume, 2, 0):                                              # (X, Y)
        yield bilinear(plane, (size, size))


def bilinear(plane, shape):
    """A plane of floats, resampled; pixels are areas, and the new ones cover the same field."""
    factors = [size / length for size, length in zip(shape, plane.shape, strict=True)]
    return ndimage.zoom(plane, factors, order=1, mode="nearest", grid_mode=True)


def nearest(slices, shape):
    """(S, X, Y) -> (S, *shape), each new pixel that of the old ones in which its centre lies.

    Not by ndimage.zoom with order=0: where a centre lies exactly between two pixels, its rounding
    picks another one than torch's "nearest-exact" for 562 of 24,900 pairs of sizes. In float32, as
    in torch, labels stay what they were.
    """
    for axis, size in enumerate(shape, 1):
        length = slices.shape[axis]
        centres = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(length / size)
        slices = slices.take(np.minimum(centres.astype(int), length - 1), axis)
    return np.ascontiguousarray(slices)


def resample_label(raw_label, label_map, size, interpolation, fill=None):
    """(X, Y, Z) label values -> (Z, size, size) uint8 classes, background around the scan.

    `fill` is as for `network_input`. "nearest" maps the values to classes, then takes the nearest
    pixel. "linear2018" repeats the authors' code, which interpolated the values linearly, cut them
    to integers and only then dropped label 2.
    """
    lookup, side = label_lookup(label_map), fill or size
    if interpolation == "linear2018":
        values = resample(raw_label.astype(np.float32), side, "bilinear")
        classes = lookup[values.astype(np.int64)]
    else:
        classes = resample(lookup[raw_label], side, "nearest")
    if side == size:
        return classes

    padded = np.zeros((len(classes), size, size), np.uint8)
    padded[inside(size, fill)] = classes
    return padded


def label_lookup(label_map):
    """Array of classes indexed by label value."""
    lookup = np.zeros(max(label_map) + 1, np.uint8)
    lookup[list(label_map)] = list(label_map.values())
    return lookup


def restore_mask(mask, affine, shape, geometry=None, description="", fill=None):
    """A mask on the network's grid back on the scan's own, by the nearest pixel.

    Args:
        mask: (S, H, W) uint8 classes, or float32 of any kind.
        affine, shape: of the scan as it is stored.
        geometry: the scan's folder.Geometry; without one, as in data folders of earlier versions,
            the header says the affine alone.
        description: of who writes it, for the header.
        fill: pixels of a slice that the scan takes up, see `inside`; what was predicted around it
            lies outside the scan and is left out.

    Returns:
        nibabel Nifti1Image with the scan's shape and orientation, at its place.
    """
    volume = restore_array(mask, affine, shape, fill)
    if geometry:
        return image_like(volume, geometry, description)

    import nibabel as nib
    image = nib.Nifti1Image(volume, np.array(affine))
    image.set_qform(image.affine, 1)
    image.set_sform(image.affine, 1)
    return image


def restore_array(mask, affine, shape, fill=None):
    """The voxels of `restore_mask`, in the order in which the scan's are stored."""
    if fill:
        mask = mask[inside(mask.shape[-1], fill)]
    turns = orientation(affine)
    ras_shape = [shape[k] for k in np.argsort(turns[:, 0])]
    volume = np.moveaxis(nearest(mask, ras_shape[:2]), 0, 2)                  # (X, Y, Z) in RAS+
    return from_ras(volume, turns)


def restore_softmax(softmax, affine, shape, fill=None):
    """A softmax on the network's grid on the scan's own, bilinear in plane; its argmax is a mask.

    Args:
        softmax: (S, K, H, W) float32.
        affine, shape, fill: see `restore_mask`.

    Returns:
        (K, *shape) float32, in the order in which the scan's voxels are stored.
    """
    if fill:
        softmax = softmax[inside(softmax.shape[-1], fill)]
    turns = orientation(affine)
    ras_shape = [shape[k] for k in np.argsort(turns[:, 0])]
    return np.stack([
        from_ras(np.stack([bilinear(plane, ras_shape[:2]) for plane in channel], -1), turns)
        for channel in np.moveaxis(softmax, 1, 0)])


def gzipped(image):
    """A NIfTI image as gzip bytes without a time stamp, so that equal images are equal files."""
    return gzip.compress(image.to_bytes(), compresslevel=1, mtime=0)


def export_predictions(masks, data, folder):
    """Write masks {scan: (S, H, W)} as NIfTI in each scan's own grid.

    Where nibabel is missing, which training does not need, only say so.
    """
    try:
        import nibabel  # noqa: F401
    except ImportError:
        log(f"{folder}: not written, nibabel is not installed here; "
            "predictions.npz holds the masks")
        return

    fill = read_dataset(data).fill
    with atomic_path(folder) as partial:
        partial.mkdir()
        for name, mask in masks.items():
            meta = read_geometry(data, name)
            image = restore_mask(mask, meta.affine, meta.original_shape, meta.geometry, BY_MAIN,
                                 fill)
            (partial / f"{name}.nii.gz").write_bytes(gzipped(image))
