"""A scan to the network's slices and back: normalising, resampling, and images on a scan's own grid."""

import gzip

import nibabel as nib
import numpy as np
import torch
from torch.nn import functional

from dataloader import INTENSITY_MAX


def network_input(volumes, size):
    """What a network sees of a scan: (X, Y, Z) intensities of each modality -> (S, C, size, size) uint16.

    The only place where scans are normalised and resampled, for training and prediction alike.
    """
    images = None
    for channel, volume in enumerate(volumes):
        slices = resample(normalise(volume), size, "bilinear")                            # (S, size, size)
        if images is None:
            images = np.empty((len(slices), len(volumes), size, size), np.uint16)
        slices *= INTENSITY_MAX
        images[:, channel] = np.rint(slices, out=slices)
    return images


def normalise(volume):
    """(X, Y, Z) intensities -> float32 in [0, 1], min-max over the volume.

    In float64 throughout, slice by slice in little memory: float32 holds neither 1e9 + noise nor the range of a scan that
    reaches 3e38.
    """
    low, high = float(volume.min()), float(volume.max())
    result = np.empty_like(volume, np.float32)
    for index in range(volume.shape[2]):
        result[..., index] = (volume[..., index].astype(np.float64) - low) / (high - low)
    return result


def resample(volume, size, mode):
    """(X, Y, Z) -> (Z, size, size): every axial slice resampled in plane, rows = x, columns = y."""
    slices = torch.from_numpy(np.ascontiguousarray(np.moveaxis(volume, 2, 0)))[:, None]   # (Z, 1, X, Y)
    if slices.shape[2:] != (size, size):
        align = {"align_corners": False} if mode == "bilinear" else {}
        slices = functional.interpolate(slices, (size, size), mode=mode, **align)
    return slices[:, 0].numpy()


def resample_label(raw_label, label_map, size, interpolation):
    """(X, Y, Z) label values -> (Z, size, size) uint8 classes.

    "nearest" maps the values to classes, then takes the nearest pixel. "linear2018" repeats the authors' code, which
    interpolated the values linearly, cut them to integers and only then dropped label 2.
    """
    lookup = label_lookup(label_map)
    if interpolation == "linear2018":
        return lookup[resample(raw_label.astype(np.float32), size, "bilinear").astype(np.int64)]
    return resample(lookup[raw_label], size, "nearest-exact")


def label_lookup(label_map):
    """Array of classes indexed by label value."""
    lookup = np.zeros(max(label_map) + 1, np.uint8)
    lookup[list(label_map)] = list(label_map.values())
    return lookup


def restore_mask(mask, meta):
    """A mask on the network's grid back on the scan's own: the inverse of `convert_subject`, by the nearest pixel.

    Args:
        mask: (S, H, W) uint8 classes, or float32 of any kind.
        meta: the subject's meta.json.

    Returns:
        nibabel Nifti1Image with the scan's shape, orientation and affine.
    """
    affine, shape = np.array(meta["affine"]), meta["original_shape"]
    to_ras = nib.io_orientation(affine)
    ras_shape = [0, 0, 0]
    for axis, (target, _) in enumerate(to_ras):
        ras_shape[int(target)] = shape[axis]
    slices = functional.interpolate(torch.from_numpy(mask)[:, None], tuple(ras_shape[:2]), mode="nearest-exact")
    volume = np.moveaxis(slices[:, 0].numpy(), 0, 2)                                      # (X, Y, Z) in RAS+
    return nib.Nifti1Image(from_ras(volume, affine), affine)


def from_ras(volume, affine):
    """(X, Y, Z) in RAS+ -> the same voxels in the order of an image with this affine."""
    back = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.io_orientation(affine))
    return np.ascontiguousarray(nib.apply_orientation(volume, back))


def gzipped(image):
    """A NIfTI image as gzip bytes without a time stamp, so that equal images are equal files."""
    return gzip.compress(image.to_bytes(), compresslevel=1, mtime=0)
