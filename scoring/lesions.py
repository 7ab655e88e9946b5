"""Every lesion of two masks: its volume, whether the other mask finds it, and how far that is."""

import numpy as np

from metrics import label_lesions, surface, surface_distances

COLUMNS = ("mask", "lesion", "voxels", "volume_ml", "found", "overlap", "distance_mm",
           "x_mm", "y_mm", "z_mm")


def lesion_rows(pred, target, spacing, affine=None):
    """One row per lesion of both masks, the reference's first.

    A missed lesion of the reference has "found" False, and so has a false positive, a lesion of the
    prediction that meets none of the reference.

    Args:
        pred, target: bool (X, Y, Z), the prediction and the reference.
        spacing: voxel size in mm along each axis.
        affine: (4, 4) from voxels to mm, for the centroid; None: the first voxel's centre is 0.

    Returns:
        [{"mask": "reference" or "prediction", "lesion": its number from 1 within the mask (in the
        order of first voxels; see `metrics.lesion_detection` for what a lesion is), "voxels",
        "volume_ml", "found": it shares a voxel with the other mask, "overlap": fraction of its
        voxels that the other mask holds, "distance_mm": between the centres of its nearest voxel
        and the nearest lesion's of the other mask (0 where they share one, NaN if there is no
        lesion), "x_mm", "y_mm", "z_mm": its centroid}, ...]
    """
    if affine is None:
        affine = np.diag([*spacing, 1.0])
    to_target, to_pred = surface_distances(pred, target, spacing)
    return [*_rows_of("reference", target, pred, to_pred, spacing, affine),
            *_rows_of("prediction", pred, target, to_target, spacing, affine)]


def least_distances(mask, labels, count, distances):
    """The least distance of each lesion's surface, (count,); infinite where there is none.

    Args:
        mask, labels, count: the lesions, and what `label_lesions` gave for them.
        distances: of each surface voxel of the mask, in C order.
    """
    least = np.full(count + 1, np.inf)
    np.minimum.at(least, labels[surface(mask)], distances)
    return least[1:]


def _rows_of(name, mask, other, distances, spacing, affine):
    """The rows of one mask's lesions.

    Args:
        distances: mm, from each surface voxel of the mask to the other's surface.
    """
    labels, count = label_lesions(mask)
    voxels = np.bincount(labels[mask], minlength=count + 1)[1:]
    shared = np.bincount(labels[mask & other], minlength=count + 1)[1:]

    # Two lesions without a common voxel are nearest to each other at their surfaces.
    nearest = np.where(shared > 0, 0, least_distances(mask, labels, count, distances))
    nearest[np.isinf(nearest)] = np.nan

    positions = np.argwhere(mask)
    centres = np.stack([np.bincount(labels[mask], axis, count + 1)[1:] / voxels
                        for axis in positions.T], axis=1)                       # (lesions, 3)
    centres = centres @ np.asarray(affine)[:3, :3].T + np.asarray(affine)[:3, 3]

    voxel_ml = float(np.prod(spacing)) / 1000
    return [{
        "mask": name,
        "lesion": k + 1,
        "voxels": int(voxels[k]),
        "volume_ml": float(voxels[k] * voxel_ml),
        "found": bool(shared[k]),
        "overlap": float(shared[k] / voxels[k]),
        "distance_mm": float(nearest[k]),
        **dict(zip(("x_mm", "y_mm", "z_mm"), centres[k].tolist(), strict=True)),
    } for k in range(count)]
