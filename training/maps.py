"""The maps that a loss needs beside those of the data folder: made of the labels as a run begins.

They depend on the labels alone, so a run that continues has the same.
"""

import math

import numpy as np

from distance import signed_distance_of_scan
from utils import UserError


def add_maps(train, loss, dims):
    """Give a training set what its loss needs; nothing where the data folder has it all.

    Slices without foreground have maps of zeros, which take no memory.

    Args:
        train: a Slices, or a Patches.
        loss: a losses.JointLoss.
        dims: 2 or 3, those of the network: the loss's own maps are of slices, or of volumes. The
            background's phi is made as the data folder's is.
    """
    how = train.settings.distance

    def make(labels, distance, spacing):
        lesions = labels.any(axis=(1, 2))
        if loss.needs_background:
            phi = signed_distance_of_scan(labels == 0, spacing, how.convention, how.unit, how.dims,
                                          how.truncate)
            distance = join(phi, distance, lesions if how.dims == 2 else lesions | lesions.any())

        if not loss.make_maps:
            return distance, []
        voxel = spacing if how.unit == "mm" else None
        return distance, [made(loss.make_maps, labels, voxel, lesions, dims)]

    if loss.needs_background or loss.make_maps:
        train.add_maps(make)
    if loss.make_maps and dims == 3:
        check_numbers(train)


def join(background, distance, where):
    """The maps of all classes, (S, K, H, W), of (S, H, W) and (S, K - 1, H, W).

    `where` are the slices that are not zero in all of them, bool (S,).
    """
    count, classes, *plane = distance.shape
    joined = np.zeros((count, classes + 1, *plane), np.float32)
    for index in np.flatnonzero(where):
        joined[index, 0], joined[index, 1:] = background[index], distance[index]
    return joined


def made(make_maps, labels, spacing, lesions, dims):
    """What a loss makes of the labels (S, H, W) of a scan: (S, M, H, W).

    Args:
        make_maps: see losses.JointLoss.
        spacing: of slices, rows and columns, or None.
        lesions: the slices that contain one, bool (S,).
        dims: 2: of each slice; 3: of the volume.
    """
    if dims == 3:
        return np.moveaxis(make_maps(labels, spacing), 0, 1)

    plane = spacing and spacing[1:]
    first = make_maps(labels[0], plane)
    maps = np.zeros((len(labels), *first.shape), first.dtype)
    for index in np.flatnonzero(lesions):
        maps[index] = make_maps(labels[index], plane)
    return maps


def check_numbers(train):
    """UserError if a scan has more lesions than a patch has voxels, by which sums are numbered."""
    voxels = math.prod(train.patch)
    for scan, (*_, maps) in zip(train.scans, train.arrays, strict=True):
        if maps.max() > voxels:
            raise UserError("--patch", f"at least as many voxels as {scan.name} has lesions",
                            f"{voxels} voxels and {maps.max():.0f} lesions",
                            "Take a larger patch.")
