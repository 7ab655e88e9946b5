"""Segmentation scores for binary masks: NumPy arrays in, floats out.

Masks are bool arrays (or arrays of 0 and 1) of any dimension, `pred` and `target` of the same
shape. `spacing` is the voxel size in mm along each axis, in the order of the array's axes; None
means 1 mm everywhere. Every function raises ValueError, naming the argument and what was given, for
masks that differ in shape or have other values than 0 and 1, and for a spacing of the wrong length
or not positive.

Two quantities are called Hausdorff distance here. `hausdorff` and `hausdorff95` are distances in mm
between surfaces. `legacy_hausdorff` is what the paper's Table 1 reports (see its docstring); only
it may stand beside those numbers.

`surface_scores` and `lesion_scores` give several scores for the price of one search.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

SMOOTH = 1e-8  # of the 2018 code: makes the DSC of two empty masks 1

# What one surface-to-surface search costs, in ns, fitted on 256x256x48 masks from one lesion to
# pure noise (benchmarks/NOTES.md). Only speed depends on these numbers: every method is exact.
TREE_BUILD_NS = 200  # k-d tree, per surface voxel
TREE_QUERY_NS = 600  # per query voxel
TREE_VISIT_NS = 35  # per surface voxel hardly farther than the nearest, which a query visits too
TRANSFORM_NS = 100  # distance transform, per voxel of the crop
DENSE = 0.08  # share of surface voxels in the crop above which nearly all have one within REACH
REACH = 3  # voxels

# Headers hold voxel sizes in float32: a voxel of 1.2 mm lies 1.2000000477 mm from the next one, and
# within a tolerance of 1.2 mm.
ROUNDING = 1e-6

Distances = tuple[NDArray[np.float64], NDArray[np.float64]]  # from pred to target, and back


# Overlap and volume -------------------------------------------------------------------------------

def dice(pred: ArrayLike, target: ArrayLike) -> float:
    """Dice similarity coefficient, (2 |P & T| + 1e-8) / (|P| + |T| + 1e-8), in [0, 1].

    1.0 if both masks are empty.
    """
    pred, target = _checked_masks(pred, target)
    overlap = np.count_nonzero(pred & target)
    return (2 * overlap + SMOOTH) / (np.count_nonzero(pred) + np.count_nonzero(target) + SMOOTH)


def precision(pred: ArrayLike, target: ArrayLike) -> float:
    """Fraction of the predicted voxels that are true, |P & T| / |P|; 1.0 if none is predicted."""
    pred, target = _checked_masks(pred, target)
    return _fraction(np.count_nonzero(pred & target), np.count_nonzero(pred))


def recall(pred: ArrayLike, target: ArrayLike) -> float:
    """Fraction of the true voxels that are predicted, |P & T| / |T|; 1.0 if none is true."""
    pred, target = _checked_masks(pred, target)
    return _fraction(np.count_nonzero(pred & target), np.count_nonzero(target))


def _fraction(part: float | np.integer, whole: float | np.integer) -> float:
    """part / whole; 1.0 of nothing, since nothing is missing."""
    return float(part / whole) if whole else 1.0


def volume_difference_ml(pred: ArrayLike, target: ArrayLike,
                         spacing: ArrayLike | None = None) -> float:
    """Predicted minus true volume in ml (1000 mm^3): positive where too much is predicted.

    Args:
        pred, target: masks of one shape.
        spacing: voxel size in mm along each axis; None: 1.
    """
    pred, target = _checked_masks(pred, target)
    voxel_ml = float(np.prod(_checked_spacing(spacing, pred.ndim))) / 1000
    return (np.count_nonzero(pred) - np.count_nonzero(target)) * voxel_ml


def absolute_volume_difference(pred: ArrayLike, target: ArrayLike) -> float:
    """| |P| - |T| | in percent of |T|; 0.0 if both masks are empty, inf if only the target is."""
    pred, target = (np.count_nonzero(mask) for mask in _checked_masks(pred, target))
    if target == 0:
        return float("inf") if pred else 0.0
    return 100 * abs(pred - target) / target


def leave_out(pred: ArrayLike, target: ArrayLike,
              ignored: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(pred, target) without the voxels of `ignored`, all bool arrays of one shape.

    The WMH challenge's rule for its label 2 (other pathology):
    `leave_out(pred, labels == 1, labels == 2)`.
    """
    pred, target = _checked_masks(pred, target)
    _, ignored = _checked_masks(pred, ignored, names=("pred", "ignored"))
    return pred & ~ignored, target & ~ignored


# Distances between surfaces, in mm ----------------------------------------------------------------

def hausdorff(pred: ArrayLike, target: ArrayLike, spacing: ArrayLike | None = None,
              empty: str = "diagonal") -> float:
    """Symmetric Hausdorff distance in mm: the largest from a surface voxel to the other surface.

    Surface voxels are those of the mask with a face neighbour in the background or outside the
    image, as in medpy's `hd`.

    Args:
        pred, target: masks of one shape.
        spacing: voxel size in mm along each axis; None: 1.
        empty: the distance if only one mask is empty. "diagonal" is the length of the image's
            diagonal in mm, |shape * spacing|, which no distance within the image exceeds, so that a
            missed lesion counts as worst; "nan" is NaN. Two empty masks score 0.0 either way.
    """
    return hausdorff_pair(pred, target, spacing, empty=empty)[0]


def hausdorff95(pred: ArrayLike, target: ArrayLike, spacing: ArrayLike | None = None,
                pooled: bool = True, empty: str = "diagonal") -> float:
    """95th percentile of the surface distances, in mm; surfaces and empty masks as in `hausdorff`.

    Args:
        pred, target, spacing, empty: see `hausdorff`.
        pooled: True: the percentile of the distances of both directions together, as medpy's
            `hd95`. False: the larger of the two directed 95th percentiles, the WMH challenge's
            definition, on these surfaces; `challenge_hausdorff95` has the challenge's own.
    """
    return hausdorff_pair(pred, target, spacing, pooled, empty)[1]


def hausdorff_pair(pred: ArrayLike, target: ArrayLike, spacing: ArrayLike | None = None,
                   pooled: bool = True, empty: str = "diagonal",
                   distances: Distances | None = None) -> tuple[float, float]:
    """(hausdorff, hausdorff95) for the price of one; arguments as in `hausdorff95`.

    `distances` is what `surface_distances` gave for these masks, where that is known already.
    """
    if distances is None:
        distances = surface_distances(pred, target, spacing)
    of_both = _in_mm(distances, np.shape(pred), spacing, empty)
    return of_both(_largest), of_both(partial(percentile95, pooled=pooled))


def assd(pred: ArrayLike, target: ArrayLike, spacing: ArrayLike | None = None,
         empty: str = "diagonal") -> float:
    """Average symmetric surface distance in mm: the mean of the distances of both directions.

    They are pooled, so that a voxel of either surface counts alike, as in medpy's `assd` and
    MONAI's `compute_average_surface_distance(symmetric=True)`. Arguments, surfaces and empty masks
    as in `hausdorff`.
    """
    return _in_mm(surface_distances(pred, target, spacing), np.shape(pred), spacing, empty)(_mean)


def surface_dice(pred: ArrayLike, target: ArrayLike, spacing: ArrayLike | None = None,
                 tolerance: float = 1.0) -> float:
    """Normalized surface Dice (NSD): the fraction of both surfaces within reach of the other.

    Surface voxels are those of `hausdorff`, measured from centre to centre, and each counts alike,
    as in MONAI's `compute_surface_dice`. (DeepMind's surface-distance weights pieces of a surface
    between the voxels by their area instead.)

    Args:
        pred, target: masks of one shape.
        spacing: voxel size in mm along each axis; None: 1.
        tolerance: the largest distance in mm that counts as none, 0 or more.

    Returns:
        float in [0, 1]. 1.0 if both masks are empty, 0.0 if one is.
    """
    return _share_within(*surface_distances(pred, target, spacing), tolerance)


def surface_scores(pred: ArrayLike, target: ArrayLike, spacing: ArrayLike | None = None,
                   tolerance: float = 1.0, empty: str = "diagonal") -> dict[str, float]:
    """Every score of surfaces, for the price of one search.

    Args:
        pred, target, spacing, empty: see `hausdorff`.
        tolerance: see `surface_dice`.

    Returns:
        {"hd", "hd95" (pooled), "hd95_directed" (not pooled), "assd" (all in mm), "surface_dice"}.
    """
    distances = surface_distances(pred, target, spacing)
    of_both = _in_mm(distances, np.shape(pred), spacing, empty)
    return {
        "hd": of_both(_largest),
        "hd95": of_both(percentile95),
        "hd95_directed": of_both(partial(percentile95, pooled=False)),
        "assd": of_both(_mean),
        "surface_dice": _share_within(*distances, tolerance),
    }


def challenge_hausdorff95(pred: ArrayLike, target: ArrayLike, spacing: ArrayLike | None = None,
                          slice_axis: int = -1, empty: str = "diagonal") -> float:
    """The Hausdorff distance (95th percentile, mm) of the WMH 2017 challenge's program, in 3-D.

    Differs from `hausdorff95(pooled=False)` in its surfaces: they are found slice by slice. A voxel
    is on the surface if one of its 8 neighbours in the slice is background, and the image's edge
    does not count as background (SimpleITK.BinaryErode with radius (1, 1, 0)). Where a mask has no
    surface, because it is empty or fills whole slices, the distance is 0 if both masks are the
    same, else the image's diagonal.

    Args:
        pred, target: 3-D masks of one shape.
        spacing: voxel size in mm along each axis; None: 1.
        slice_axis: the axis across slices.
        empty: "diagonal", or "nan" as in the challenge's program for an empty prediction.
    """
    if empty not in ("diagonal", "nan"):
        raise ValueError(f'empty: expected "diagonal" or "nan", got {empty!r}')
    pred, target = _checked_masks(pred, target)
    if pred.ndim != 3 or slice_axis not in range(-3, 3):
        raise ValueError(f"slice_axis: expected an axis of a 3-D mask, "
                         f"got {slice_axis} for shape {pred.shape}")
    spacing = _checked_spacing(spacing, 3)

    box = _bounding_box(pred | target, margin=1)
    in_plane = [axis for axis in range(3) if axis != slice_axis % 3]
    pred_edge, target_edge = (_slice_surface(mask[box], in_plane) for mask in (pred, target))
    if not pred_edge.any() or not target_edge.any():
        return _without_surface(np.array_equal(pred, target), pred.shape, spacing, empty)

    pred_to_target = _nearest(pred_edge, target_edge, spacing)
    target_to_pred = _nearest(target_edge, pred_edge, spacing)
    return percentile95(pred_to_target, target_to_pred, pooled=False)


def _in_mm(distances: Distances, shape: tuple[int, ...], spacing: ArrayLike | None,
           empty: str) -> Callable[[Callable[..., float]], float]:
    """A function that gives a score of `distances`, or what stands for it if a mask is empty.

    Args:
        distances: what `surface_distances` gave; the score is called with both arrays.
        shape, spacing, empty: of the masks, see `hausdorff`.
    """
    if empty not in ("diagonal", "nan"):
        raise ValueError(f'empty: expected "diagonal" or "nan", got {empty!r}')
    if all(map(len, distances)):
        return lambda score: score(*distances)

    both_empty = not any(map(len, distances))
    value = _without_surface(both_empty, shape, spacing, empty)
    return lambda score: value


def _without_surface(same: bool, shape: tuple[int, ...], spacing: ArrayLike | None,
                     empty: str) -> float:
    """The distance where a mask has no surface: 0.0 if the masks are the same, else by `empty`."""
    if same:
        return 0.0
    if empty == "nan":
        return float("nan")
    return float(np.linalg.norm(shape * _checked_spacing(spacing, len(shape))))


def percentile95(pred_to_target: NDArray[np.float64], target_to_pred: NDArray[np.float64],
                 pooled: bool = True) -> float:
    """95th percentile of two sets of distances (mm): of both together, or the larger of the two."""
    if pooled:
        return float(np.percentile(np.concatenate((pred_to_target, target_to_pred)), 95))
    return float(max(np.percentile(pred_to_target, 95), np.percentile(target_to_pred, 95)))


def _largest(pred_to_target: NDArray[np.float64], target_to_pred: NDArray[np.float64]) -> float:
    return float(max(pred_to_target.max(), target_to_pred.max()))


def _mean(pred_to_target: NDArray[np.float64], target_to_pred: NDArray[np.float64]) -> float:
    count = len(pred_to_target) + len(target_to_pred)
    return float((pred_to_target.sum() + target_to_pred.sum()) / count)


def _share_within(pred_to_target: NDArray[np.float64], target_to_pred: NDArray[np.float64],
                  tolerance: float) -> float:
    """The fraction of all distances up to `tolerance`, mm; 1.0 if there are none."""
    if not isinstance(tolerance, int | float | np.number) or not 0 <= tolerance < np.inf:
        raise ValueError(f"tolerance: expected a distance in mm, 0 or more, got {tolerance!r}")
    within = tolerance * (1 + ROUNDING)
    close = sum(int(np.count_nonzero(distances <= within))
                for distances in (pred_to_target, target_to_pred))
    return _fraction(close, len(pred_to_target) + len(target_to_pred))


# From each surface voxel to the nearest of the other surface --------------------------------------

def surface_distances(pred: ArrayLike, target: ArrayLike, spacing: ArrayLike | None = None,
                      method: str = "auto") -> Distances:
    """Distances in mm from each surface voxel of one mask to the nearest one of the other mask.

    Args:
        pred, target: masks of one shape.
        spacing: voxel size in mm along each axis; None: 1.
        method: "tree" (k-d tree), "transform" (distance transform), or "auto", the one expected to
            be faster.

    Returns:
        (pred_to_target, target_to_pred), float64 arrays in the surface voxels' C order. An empty
        mask has no surface: its own array has length 0, and the distances to it are inf.
    """
    if method not in ("auto", "tree", "transform"):
        raise ValueError(f'method: expected "auto", "tree" or "transform", got {method!r}')
    pred, target = _checked_masks(pred, target)
    spacing = _checked_spacing(spacing, pred.ndim)

    box = _bounding_box(pred | target)  # outside it both are background, which changes nothing
    pred, target = surface(pred[box]), surface(target[box])
    return _nearest(pred, target, spacing, method), _nearest(target, pred, spacing, method)


def surface(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The voxels of a bool array with a face neighbour in the background; outside is background."""
    inside = mask.copy()
    for axis in range(mask.ndim):
        whole, part = np.moveaxis(mask, axis, 0), np.moveaxis(inside, axis, 0)  # views
        part[1:] &= whole[:-1]
        part[:-1] &= whole[1:]
        part[:1] = part[-1:] = False
    return mask & ~inside


def _slice_surface(mask: NDArray[np.bool_], axes: Iterable[int]) -> NDArray[np.bool_]:
    """The voxels of `mask` with background among their 3x3 neighbours along two `axes`.

    Outside the array there is no background.
    """
    inside = mask
    for axis in axes:  # a square is two lines, one after the other
        whole, part = np.moveaxis(inside, axis, 0), np.moveaxis(inside.copy(), axis, 0)
        part[1:] &= whole[:-1]
        part[:-1] &= whole[1:]
        inside = np.moveaxis(part, 0, axis)
    return mask & ~inside


def _bounding_box(mask: NDArray[np.bool_], margin: int = 0) -> tuple[slice, ...]:
    """Slices of the smallest box around all True voxels, empty if there are none, plus a margin."""
    box = []
    for axis in range(mask.ndim):
        used = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        if len(used):
            box.append(slice(max(used[0] - margin, 0), used[-1] + 1 + margin))
        else:
            box.append(slice(0, 0))
        mask = mask[(slice(None),) * axis + (box[-1],)]  # the next axis has less to look at
    return tuple(box)


def _nearest(queries: NDArray[np.bool_], surface: NDArray[np.bool_], spacing: NDArray[np.float64],
             method: str = "auto") -> NDArray[np.float64]:
    """Distance in mm from each True voxel of `queries` to the nearest True voxel of `surface`.

    A k-d tree costs about the number of points, a distance transform costs the same for every voxel
    of the box however few points there are: the tree wins for lesions, the transform for large
    masks far apart. In dense noise most voxels find their answer among their neighbours, and only
    the others are searched for.
    """
    flat = np.flatnonzero(queries)  # faster than argwhere, whose coordinates few of them need
    distances = np.full(len(flat), np.inf)
    distances[surface.ravel()[flat]] = 0  # on both surfaces
    size = int(np.count_nonzero(surface))
    if size == 0:
        return distances

    if method == "auto" and size > DENSE * surface.size:
        unsolved = np.flatnonzero(distances)
        points = _coordinates(flat[unsolved], surface.shape)
        distances[unsolved] = _nearest_neighbours(points, surface, spacing)

    unsolved = np.flatnonzero(np.isinf(distances))  # in dense noise, the few with nothing near
    if len(unsolved) == 0:
        return distances

    points, tree = _coordinates(flat[unsolved], surface.shape), None
    if method != "transform":
        tree = _tree(points, surface, size, spacing, even_if_slow=method == "tree")
    if tree:
        distances[unsolved] = tree.query(points * spacing)[0]
    else:
        distances[unsolved] = _nearest_by_transform(points, surface, spacing)
    return distances


def _coordinates(flat: NDArray[np.intp], shape: tuple[int, ...]) -> NDArray[np.intp]:
    """(N,) indices into the flattened array -> (N, ndim)."""
    return np.stack(np.unravel_index(flat, shape), axis=1)


def _nearest_neighbours(points: NDArray[np.intp], surface: NDArray[np.bool_],
                        spacing: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distances in mm (N,) from points (N, ndim) to the nearest True voxel.

    inf where there is none within about REACH voxels.
    """
    cube = np.indices((2 * REACH + 1,) * surface.ndim).reshape(surface.ndim, -1).T - REACH
    lengths = np.sqrt(np.square(cube * spacing).sum(axis=1))
    order = np.argsort(lengths)
    order = order[lengths[order] < (REACH + 1) * spacing.min()]  # others may lie outside the cube

    padded = np.pad(surface, REACH)
    steps = cube @ (np.array(padded.strides) // padded.itemsize)  # offsets in the flat array
    padded, left = padded.ravel(), np.array(np.ravel_multi_index((points + REACH).T, padded.shape))

    distances, rows = np.full(len(points), np.inf), np.arange(len(points))
    for k in order:  # nearest first: the first hit is the answer
        hit = padded[left + steps[k]]
        distances[rows[hit]] = lengths[k]
        left, rows = left[~hit], rows[~hit]
        if len(rows) == 0:
            break
    return distances


def _tree(points: NDArray[np.intp], surface: NDArray[np.bool_], size: int,
          spacing: NDArray[np.float64], even_if_slow: bool) -> Any:
    """A k-d tree over the `size` True voxels of `surface`.

    None where the distance transform is expected to win, unless `even_if_slow`.
    """
    from scipy.spatial import cKDTree  # takes longer to import than everything else here

    transform_ns = TRANSFORM_NS * surface.size
    tree_ns = TREE_BUILD_NS * size + TREE_QUERY_NS * len(points)
    if tree_ns > transform_ns and not even_if_slow:
        return None

    voxels = _coordinates(np.flatnonzero(surface), surface.shape)
    tree = cKDTree(voxels * spacing, balanced_tree=False, compact_nodes=False)
    if even_if_slow:
        return tree

    # From inside a ball, many surface voxels are about equally far, and the tree has to visit them
    # all. How many, a sample of the points tells.
    sample = points[::-(-len(points) // 32)] * spacing
    reach = tree.query(sample)[0] * (1 + 1e-9) + 2 * spacing.mean()
    visits = tree.query_ball_point(sample, reach, return_length=True).mean()
    return tree if tree_ns + TREE_VISIT_NS * visits * len(points) < transform_ns else None


def _nearest_by_transform(points: NDArray[np.intp], surface: NDArray[np.bool_],
                          spacing: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distances in mm (N,) from points (N, ndim) to the nearest True voxel.

    By SciPy's exact feature transform. Computing the distances of these points only saves half.
    """
    from scipy.ndimage import distance_transform_edt

    nearest = distance_transform_edt(
        ~surface, spacing, return_distances=False, return_indices=True)         # (ndim, *shape)
    flat = np.ravel_multi_index(points.T, surface.shape)
    nearest = nearest.reshape(surface.ndim, -1)[:, flat]                        # (ndim, N)
    return np.sqrt(np.square((nearest - points.T) * spacing[:, None]).sum(axis=0))


# The "HD" of the paper's table --------------------------------------------------------------------

def legacy_hausdorff(pred: ArrayLike, target: ArrayLike) -> float:
    """The quantity reported as "HD (mm)" in the paper's Table 1, for one 2-D slice; dimensionless.

    The 2018 code gave the raw 2-D background masks to scipy's `directed_hausdorff`, which takes
    each image row as one point in as many dimensions as there are columns. So this is the largest,
    over the rows of both masks, of the smallest Euclidean distance to a row of the other mask,
    wherever that row lies: exactly
    max(directed_hausdorff(~pred, ~target)[0], directed_hausdorff(~target, ~pred)[0]).
    Two empty masks score 0.0.

    Args:
        pred, target: (H, W).
    """
    pred, target = _checked_masks(pred, target)
    if pred.ndim != 2:
        raise ValueError(f"pred: expected a 2-D mask, got shape {pred.shape}")
    if not pred.size:
        return 0.0

    # Rows of masks and of their complements differ in the same places, so the foreground will do.
    columns = (pred | target).any(axis=0)  # elsewhere all rows agree
    a, b = (_distinct_rows(mask[:, columns]).astype(np.float32) for mask in (pred, target))

    # |x - y|^2 = |x| + |y| - 2 x.y for vectors of 0 and 1; whole numbers, exact in float32 below
    # 2^24 columns.
    squared = a.sum(axis=1)[:, None] + b.sum(axis=1)[None, :] - 2 * a @ b.T
    return float(np.sqrt(np.float64(max(squared.min(axis=1).max(), squared.min(axis=0).max()))))


def _distinct_rows(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The rows of a bool array (H, W), each once."""
    # A dict of their bytes is ten times faster than np.unique.
    first = {row.tobytes(): k for k, row in enumerate(np.packbits(mask, axis=1))}
    return mask[list(first.values())]


# Lesions ------------------------------------------------------------------------------------------

class LesionOverlaps(NamedTuple):
    """The lesions of two masks, numbered from 0 in the order of their first voxels, and who meets.

    Attributes:
        pred_sizes, target_sizes: voxels of each lesion, int arrays.
        pairs: (N, 2) numbers of a predicted and a true lesion that share voxels.
        shared: (N,) how many they share.
    """

    pred_sizes: NDArray[np.intp]
    target_sizes: NDArray[np.intp]
    pairs: NDArray[np.int64]
    shared: NDArray[np.intp]


def lesion_detection(pred: ArrayLike, target: ArrayLike) -> tuple[float, float, float]:
    """(recall, precision, F1) over lesions, with the WMH challenge's conventions.

    A lesion is a connected component including diagonal neighbours (26 in 3-D, 8 in 2-D). Recall is
    the fraction of the target's lesions that share a voxel with `pred`, precision the fraction of
    the predicted lesions that share a voxel with `target`; both are 1.0 if there are no such
    lesions. F1 is their harmonic mean, 0.0 if both are 0.
    """
    return _detection(lesion_overlaps(pred, target))


def lesion_recall(pred: ArrayLike, target: ArrayLike) -> float:
    """The fraction of the target's lesions that `pred` touches; see `lesion_detection`."""
    return lesion_detection(pred, target)[0]


def lesion_f1(pred: ArrayLike, target: ArrayLike) -> float:
    """Harmonic mean of lesion recall and precision; see `lesion_detection`."""
    return lesion_detection(pred, target)[2]


def panoptic_quality(pred: ArrayLike, target: ArrayLike, threshold: float = 0.5) -> float:
    """Panoptic quality of lesions, sum of IoU over matches / (TP + FP / 2 + FN / 2), in [0, 1].

    Two lesions (see `lesion_detection`) match if their IoU exceeds the threshold. From 0.5 on, as
    in Kirillov et al. 2019, no lesion can match two; below, the pairs with the largest IoU are
    matched first, each lesion once. 1.0 if both masks are empty.

    Args:
        pred, target: masks of one shape.
        threshold: IoU in [0, 1) that a match exceeds.
    """
    return _panoptic_quality(lesion_overlaps(pred, target), threshold)


def lesion_scores(pred: ArrayLike, target: ArrayLike, threshold: float = 0.5) -> dict[str, float]:
    """Every score of lesions, for the price of one labelling.

    Args:
        pred, target: masks of one shape.
        threshold: see `panoptic_quality`.

    Returns:
        {"lesion_recall", "lesion_precision", "lesion_f1", "panoptic_quality", "prediction_lesions",
        "reference_lesions" (how many there are)}.
    """
    overlaps = lesion_overlaps(pred, target)
    return {
        **dict(zip(("lesion_recall", "lesion_precision", "lesion_f1"), _detection(overlaps))),
        "panoptic_quality": _panoptic_quality(overlaps, threshold),
        "prediction_lesions": len(overlaps.pred_sizes),
        "reference_lesions": len(overlaps.target_sizes),
    }


def lesion_overlaps(pred: ArrayLike, target: ArrayLike) -> LesionOverlaps:
    """The LesionOverlaps of two masks of one shape."""
    pred, target = _checked_masks(pred, target)
    box = _bounding_box(pred | target)
    pred_labels, target_labels = (label_lesions(mask[box])[0] for mask in (pred, target))
    pred_sizes, target_sizes = (np.bincount(labels[labels > 0], minlength=1)[1:]
                                for labels in (pred_labels, target_labels))

    # Each pair of lesions as one whole number
    both = pred[box] & target[box]
    codes = pred_labels[both].astype(np.int64) * (len(target_sizes) + 1) + target_labels[both]
    codes, shared = np.unique(codes, return_counts=True)
    pairs = np.stack(np.divmod(codes, len(target_sizes) + 1), axis=1) - 1
    return LesionOverlaps(pred_sizes, target_sizes, pairs, shared)


def label_lesions(mask: ArrayLike) -> tuple[NDArray[np.int32], int]:
    """(labels, count): the number of each voxel's lesion, from 1, int32; 0 in the background.

    Lesions as in `lesion_detection`, in the order of their first voxels.
    """
    from scipy.ndimage import label  # takes longer to import than everything else here

    mask = _as_bool("mask", mask)
    if not mask.any():
        return np.zeros(mask.shape, np.int32), 0
    return label(mask, structure=np.ones((3,) * mask.ndim))


def lesion_sizes(lesions: ArrayLike,
                 other: ArrayLike) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """(voxels, touched) of each lesion of a mask: its size, and whether it meets the other mask.

    Args:
        lesions: the mask whose lesions are taken, see `lesion_detection`.
        other: a mask of the same shape; a lesion that shares a voxel with it is touched.

    Returns:
        int array and bool array (lesions,), both empty without a lesion.
    """
    lesions, other = _checked_masks(lesions, other, names=("lesions", "other"))
    box = _bounding_box(lesions)
    lesions, other = lesions[box], other[box]

    labels, count = label_lesions(lesions)
    touched = np.zeros(count, bool)
    touched[np.unique(labels[lesions & other]) - 1] = True
    return np.bincount(labels.ravel(), minlength=count + 1)[1:], touched


def _detection(overlaps: LesionOverlaps) -> tuple[float, float, float]:
    """(recall, precision, F1) of `lesion_detection`."""
    found = [len(np.unique(overlaps.pairs[:, which])) for which in (1, 0)]
    recall = _fraction(found[0], len(overlaps.target_sizes))
    precision = _fraction(found[1], len(overlaps.pred_sizes))
    f1 = 2 * recall * precision / (recall + precision) if recall + precision else 0.0
    return recall, precision, f1


def _panoptic_quality(overlaps: LesionOverlaps, threshold: float) -> float:
    """The score of `panoptic_quality`."""
    if not isinstance(threshold, int | float | np.number) or not 0 <= threshold < 1:
        raise ValueError(f"threshold: expected an IoU in [0, 1), got {threshold!r}")

    lesions = len(overlaps.pred_sizes) + len(overlaps.target_sizes)
    pred, target = overlaps.pairs.T
    iou = overlaps.shared / (
        overlaps.pred_sizes[pred] + overlaps.target_sizes[target] - overlaps.shared)

    used_pred, used_target, total = set(), set(), 0.0
    for at in np.argsort(-iou, kind="stable"):  # the best match first
        if iou[at] > threshold and pred[at] not in used_pred and target[at] not in used_target:
            used_pred.add(pred[at])
            used_target.add(target[at])
            total += float(iou[at])
    return _fraction(2 * total, lesions)  # TP + FP / 2 + FN / 2 is half of all lesions


# Arguments ----------------------------------------------------------------------------------------

def _checked_masks(pred: ArrayLike, target: ArrayLike,
                   names: Sequence[str] = ("pred", "target")) -> list[NDArray[np.bool_]]:
    """Both masks as bool arrays of one shape, or ValueError."""
    masks = [_as_bool(name, mask) for name, mask in zip(names, (pred, target))]
    if masks[0].shape != masks[1].shape:
        raise ValueError(f"{names[1]}: expected the shape of {names[0]}, {masks[0].shape}, "
                         f"got {masks[1].shape}")
    return masks


def _as_bool(name: str, mask: ArrayLike) -> NDArray[np.bool_]:
    """The mask as a bool array, or ValueError, naming the argument."""
    mask = np.asarray(mask)

    if mask.dtype != bool:
        is_number = mask.dtype.kind in "uif"
        if not is_number or not ((mask == 0) | (mask == 1)).all():
            got = f"values {np.unique(mask)[:5]}" if is_number else f"dtype {mask.dtype}"
            raise ValueError(f"{name}: expected a bool array or an array of 0 and 1, got {got}")
        mask = mask.astype(bool)

    if mask.ndim == 0:
        raise ValueError(f"{name}: expected an array with at least one dimension, got a scalar")
    return mask


def _checked_spacing(spacing: ArrayLike | None, ndim: int) -> NDArray[np.float64]:
    """The voxel size as a float64 array (ndim,), or ValueError."""
    if spacing is None:
        return np.ones(ndim)

    try:
        values = np.asarray(spacing, dtype=np.float64)
    except (TypeError, ValueError):
        values = np.zeros(0)  # not a shape that is accepted
    if values.shape != (ndim,) or not (np.isfinite(values) & (values > 0)).all():
        raise ValueError(f"spacing: expected {ndim} positive numbers in mm, one per axis, "
                         f"got {spacing}")
    return values
