"""Signed distance to the ground-truth boundary: phi_G of Eq. 4 and 5; and other maps of labels.

This file needs NumPy and SciPy and nothing else, so it can be copied into another project as it is.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import distance_transform_edt, label

CONVENTIONS = ("paper", "official")
SPARSE = 0.05  # a mask that fills less of its box is sparse

# Labels stored with a scale factor come out as 1.0000153 where 1 is meant; the last digit leaves
# room for the rounding of 0.999 and 1.001 themselves.
WHOLE = 1.001e-3


def signed_distance(mask: ArrayLike, spacing: ArrayLike | None = None,
                    convention: str = "paper") -> NDArray[np.float32]:
    """Level set phi_G of a mask: negative inside G, positive outside (Eq. 4).

    Args:
        mask: bool (H, W) or (D, H, W), or an array of zeros and ones, up to 1e-3 off.
        spacing: size of a pixel along each axis in mm; None means 1, so the result is in pixels.
        convention: "paper" measures to the boundary set dG, so phi_G is 0 on dG (Section 2).
            "official" is the authors' code of 2018: EDT to G outside and -(EDT - 1) inside. The two
            agree outside, and inside wherever the nearest background pixel lies straight across a
            face at spacing 1.

    Returns:
        float32 array of the mask's shape, in the unit of `spacing`. All zeros when there is no
        boundary: an empty mask (as in the paper, Section 3.2) or one that fills the image.

    Raises:
        ValueError: the mask is not 2-D or 3-D or not binary, `spacing` does not fit it, or the
            convention is unknown.
    """
    mask = _as_bool(mask)
    spacing = _checked_spacing(spacing, mask.ndim)
    if convention not in CONVENTIONS:
        raise ValueError(f"convention: expected one of {', '.join(CONVENTIONS)}, "
                         f"found {convention!r}")

    if mask.all() or not mask.any():
        return np.zeros(mask.shape, np.float32)

    phi = _distance_to(boundary(mask), spacing)  # outside G its nearest point is on dG
    if convention == "paper":
        return np.negative(phi, out=phi, where=mask)

    phi[mask] = 1 - _distance_to_background(mask, spacing)
    return phi


def _distance_to_background(mask: NDArray[np.bool_], spacing: tuple[float, ...]) -> NDArray[Any]:
    """Distance from each pixel of the mask to the nearest one outside, float64.

    That one has a face neighbour in the mask: a step towards the pixel would otherwise lead to a
    nearer one. Where the mask has few pixels they look it up among those; else a transform is
    faster.
    """
    box = _around(mask)
    mask = mask[box]
    count = np.count_nonzero(mask)
    if count > mask.size * SPARSE:
        return _distance_to(~mask, spacing, at=mask)

    from scipy.spatial import cKDTree  # here, because importing it takes a while
    inside, outside = np.argwhere(mask), np.argwhere(boundary(~mask))
    _, nearest = cKDTree(outside * spacing).query(inside * spacing)
    steps: NDArray[np.float64] = (inside - outside[nearest]) * np.asarray(spacing)
    return np.sqrt(np.square(steps).sum(1))


def _distance_to(points: NDArray[np.bool_], spacing: tuple[float, ...],
                 at: NDArray[np.bool_] | None = None) -> NDArray[Any]:
    """Distance from each pixel to the nearest of the points, of which there must be one.

    In pixels its square is a whole number, exact in float32 below 2^24, and the root of that is
    float64's, rounded; SciPy's float64 throughout takes half as long again.

    Returns:
        float32 of the shape of the points; or float64 of the pixels `at` alone.
    """
    in_pixels = all(size == 1 for size in spacing)
    if not in_pixels or sum(size ** 2 for size in points.shape) >= 2 ** 24:
        distance = distance_transform_edt(~points, sampling=spacing)
        return distance.astype(np.float32) if at is None else distance[at]

    nearest = distance_transform_edt(~points, return_distances=False, return_indices=True)
    squares = np.zeros(points.shape, np.float32)
    for axis, places in enumerate(nearest):                         # (H, W) or (D, H, W), int32
        here = np.arange(points.shape[axis], dtype=np.int32)
        places -= here.reshape([-1 if a == axis else 1 for a in range(points.ndim)])
        steps = places.astype(np.float32)
        squares += np.square(steps, out=steps)
    return np.sqrt(squares, out=squares) if at is None else np.sqrt(squares[at].astype(np.float64))


def _around(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """The smallest box around a mask that is not empty, and a pixel more on each side."""
    box = []
    for axis in range(mask.ndim):
        used = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        box.append(slice(max(used[0] - 1, 0), used[-1] + 2))
    return tuple(box)


def signed_distance_slices(masks: NDArray[np.bool_], spacing: ArrayLike | None = None,
                           convention: str = "paper") -> NDArray[np.float32]:
    """`signed_distance` of every 2-D slice of (S, H, W) masks on its own; float32 (S, H, W)."""
    maps = np.zeros(masks.shape, np.float32)
    for index in np.flatnonzero(masks.any(axis=(1, 2))):  # empty slices keep their zero map
        maps[index] = signed_distance(masks[index], spacing, convention)
    return maps


def signed_distance_of_scan(mask: NDArray[np.bool_], spacing: Sequence[float],
                            convention: str = "paper", unit: str = "px", dims: int = 2,
                            truncate: bool = False) -> NDArray[np.float32]:
    """phi_G of a class in a whole scan, as a data folder's dataset.json says it.

    Args:
        mask: bool (S, H, W).
        spacing: mm along slices, rows and columns.
        convention: see signed_distance.
        unit: "px", or "mm". In px a voxel of a volume counts as a cube.
        dims: 2: a map for each slice, zero on slices without the class; 3: the slices of the
            volume's map.
        truncate: cut to whole numbers, as the 2018 code did.

    Returns:
        float32 (S, H, W).
    """
    if dims == 2:
        in_plane = spacing[1:] if unit == "mm" else None
        phi = signed_distance_slices(mask, in_plane, convention)
    else:
        phi = signed_distance(mask, spacing if unit == "mm" else None, convention)
    return np.trunc(phi) if truncate else phi


def boundary(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The boundary set dG: points of G with a face neighbour in the background (Section 2).

    Args:
        mask: bool (H, W) or (D, H, W); 4 face neighbours in 2-D, 6 in 3-D. Beyond the image there
            is no neighbour, so a lesion cut by the image edge has no boundary along that edge.

    Returns:
        bool array of the mask's shape.
    """
    inside = mask.copy()
    for axis in range(mask.ndim):
        whole, part = np.moveaxis(mask, axis, 0), np.moveaxis(inside, axis, 0)  # views
        part[1:] &= whole[:-1]
        part[:-1] &= whole[1:]
    return mask & ~inside


def depth_in_class(labels: ArrayLike, spacing: ArrayLike | None = None) -> NDArray[np.float32]:
    """How deep each pixel lies in its class: d / max d of the class, above 0 and up to 1.

    d is the distance to the nearest pixel of another class, so it is 1 pixel beside one.

    Args:
        labels: class numbers, (H, W) or (D, H, W); see class_numbers.
        spacing: see signed_distance.

    Returns:
        float32 array of that shape; all zeros where one class fills the image.

    Raises:
        ValueError: these are no class numbers of an image, or `spacing` does not fit them.
    """
    labels = class_numbers(labels)
    _check_dimensions("labels", labels)
    spacing = _checked_spacing(spacing, labels.ndim)
    depth, classes = np.zeros(labels.shape, np.float32), np.unique(labels)
    if len(classes) == 1:
        return depth

    for k in classes:
        mask = labels == k
        inside = distance_transform_edt(mask, sampling=spacing)
        depth[mask] = inside[mask] / inside.max()
    return depth


def nearest_component(mask: ArrayLike, spacing: ArrayLike | None = None) -> NDArray[np.int32]:
    """The number of the connected component of a mask that lies nearest to each pixel.

    So the pixels of one number are a component's Voronoi region. Pixels that touch at a corner are
    connected: 8 neighbours in 2-D, 26 in 3-D.

    Args:
        mask: bool (H, W) or (D, H, W).
        spacing: see signed_distance.

    Returns:
        int32 array of that shape, from 1; all zeros of an empty mask.
    """
    mask = _as_bool(mask)
    spacing = _checked_spacing(spacing, mask.ndim)
    numbers, count = label(mask, np.ones((3,) * mask.ndim))
    if count < 2:
        return np.full(mask.shape, count, np.int32)

    nearest = distance_transform_edt(~mask, spacing, return_distances=False, return_indices=True)
    return numbers[tuple(nearest)].astype(np.int32)


def whole_numbers(values: NDArray[Any]) -> NDArray[Any]:
    """Numbers up to 1e-3 off a whole one as that whole number; what is farther off as NaN.

    Args:
        values: array of any numeric type; whole numbers and bools come back as they are.
    """
    if values.dtype.kind != "f":
        return values
    rounded = np.rint(values)
    with np.errstate(invalid="ignore"):  # infinity
        return np.where(abs(values - rounded) <= WHOLE, rounded, np.nan)


def class_numbers(labels: ArrayLike) -> NDArray[Any]:
    """Labels as whole numbers from 0 to 254; ValueError if they are not, up to 1e-3.

    255 is no class: it is the foreground of a mask of 0 and 255, or what is to be left out.
    """
    labels = np.asarray(labels)
    whole = whole_numbers(labels)
    if labels.dtype.kind not in "buif" or not ((whole >= 0) & (whole < 255)).all():
        raise ValueError("labels: expected class numbers, whole ones from 0 to 254, found "
                         f"{_in_words(labels)}")
    return whole


def _in_words(values: NDArray[Any]) -> str:
    """For an error: the values that an array holds, if they are few, or their range."""
    if values.dtype.kind not in "buif":
        return f"dtype {values.dtype}"
    distinct = np.unique(values)
    if len(distinct) <= 5:
        return ", ".join(f"{value:g}" for value in distinct)
    return f"values from {values.min():g} to {values.max():g}"


def _as_bool(mask: ArrayLike) -> NDArray[np.bool_]:
    """The mask as a bool array, or ValueError."""
    mask = np.asarray(mask)
    _check_dimensions("mask", mask)
    if mask.dtype == bool:
        return mask

    whole = whole_numbers(mask)
    if not np.isin(whole, (0, 1)).all():
        raise ValueError(f"mask: expected zeros and ones, found {_in_words(mask)}")
    return whole.astype(bool)


def _check_dimensions(name: str, values: NDArray[Any]) -> None:
    """ValueError unless this is (H, W) or (D, H, W)."""
    if values.ndim not in (2, 3):
        raise ValueError(f"{name}: expected 2 or 3 dimensions, found {values.ndim}")


def _checked_spacing(spacing: ArrayLike | None, ndim: int) -> tuple[float, ...]:
    """The pixel size as a tuple of `ndim` floats, or ValueError."""
    if spacing is None:
        return (1.0,) * ndim

    found = spacing
    try:
        found = tuple(float(value) for value in np.ravel(spacing))
        if len(found) == ndim and all(0 < value < np.inf for value in found):
            return found
    except (TypeError, ValueError):
        pass  # not numbers at all
    raise ValueError(f"spacing: expected {ndim} positive numbers, found {found!r}")
