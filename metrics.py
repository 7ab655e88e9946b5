"""Segmentation scores for binary masks: NumPy arrays in, floats out.

Masks are bool arrays (or arrays of 0 and 1) of any dimension, `pred` and `target` of the same shape. `spacing` is the
voxel size in mm along each axis, in the order of the array's axes; None means 1 mm everywhere. Every function raises
ValueError, naming the argument and what was given, for masks of different shapes or with other values than 0 and 1,
and for a spacing of the wrong length or not positive.

Two quantities are called Hausdorff distance here. `hausdorff` and `hausdorff95` are distances in mm between surfaces.
`legacy_hausdorff` is what the paper's Table 1 reports (see its docstring); only it may stand beside those numbers.
"""

import numpy as np

SMOOTH = 1e-8  # of the 2018 code: makes the DSC of two empty masks 1

# What one surface-to-surface search costs, in ns, fitted on 256x256x48 masks from one lesion to pure noise
# (benchmarks/NOTES.md). Only speed depends on these numbers: every method is exact.
TREE_BUILD_NS = 200  # k-d tree, per surface voxel
TREE_QUERY_NS = 600  # per query voxel
TREE_VISIT_NS = 35  # per surface voxel not much farther away than the nearest, which a query has to look at too
TRANSFORM_NS = 100  # distance transform, per voxel of the crop
DENSE = 0.08  # share of surface voxels in the crop from which nearly every voxel has one within REACH voxels
REACH = 3


def dice(pred, target):
    """Dice similarity coefficient, (2 |P & T| + 1e-8) / (|P| + |T| + 1e-8), in [0, 1]; 1.0 if both masks are empty."""
    pred, target = _masks(pred, target)
    overlap = np.count_nonzero(pred & target)
    return (2 * overlap + SMOOTH) / (np.count_nonzero(pred) + np.count_nonzero(target) + SMOOTH)


def hausdorff(pred, target, spacing=None, empty="diagonal"):
    """Symmetric Hausdorff distance in mm: the largest distance from a surface voxel to the other mask's surface.

    Surface voxels are those of the mask with a face neighbour in the background or outside the image, as in medpy's
    `hd`. Two empty masks score 0.0. If only one is empty no distance exists: empty="diagonal" returns the length of
    the image's diagonal in mm, |shape * spacing|, which no distance within the image exceeds, so that a missed lesion
    counts as worst; empty="nan" returns NaN.
    """
    return hausdorff_pair(pred, target, spacing, empty=empty)[0]


def hausdorff95(pred, target, spacing=None, pooled=True, empty="diagonal"):
    """95th percentile of the surface distances, in mm; surfaces and empty masks as in `hausdorff`.

    pooled=True: the percentile of the distances of both directions together, as medpy's `hd95`.
    pooled=False: the larger of the two directed 95th percentiles, the WMH challenge's definition, on these surfaces;
    `challenge_hausdorff95` takes the challenge's own surfaces too.
    """
    return hausdorff_pair(pred, target, spacing, pooled, empty)[1]


def hausdorff_pair(pred, target, spacing=None, pooled=True, empty="diagonal"):
    """(hausdorff, hausdorff95) for the price of one; arguments as in `hausdorff95`."""
    if empty not in ("diagonal", "nan"):
        raise ValueError(f'empty: expected "diagonal" or "nan", got {empty!r}')
    there, back = surface_distances(pred, target, spacing)
    if len(there) and len(back):
        return float(max(there.max(), back.max())), percentile95(there, back, pooled)
    value = _of_empty(len(there) + len(back) == 0, np.shape(pred), spacing, empty)
    return value, value


def challenge_hausdorff95(pred, target, spacing=None, slice_axis=-1, empty="diagonal"):
    """The Hausdorff distance (95th percentile, mm) of the WMH 2017 challenge's evaluation program, for 3-D masks.

    Differs from `hausdorff95(pooled=False)` in its surfaces: they are found slice by slice, a voxel being on the
    surface if one of its 8 neighbours in the slice is background, and the image's edge does not count as background.
    (SimpleITK.BinaryErode with radius (1, 1, 0).) Where a mask has no surface, because it is empty or fills whole slices, the
    distance is 0 if both masks are the same, else the image's diagonal.
    slice_axis: the axis across slices. The challenge gives NaN for an empty prediction: that is empty="nan".
    """
    if empty not in ("diagonal", "nan"):
        raise ValueError(f'empty: expected "diagonal" or "nan", got {empty!r}')
    pred, target = _masks(pred, target)
    if pred.ndim != 3 or slice_axis not in range(-3, 3):
        raise ValueError(f"slice_axis: expected an axis of a 3-D mask, got {slice_axis} for shape {pred.shape}")
    spacing = _spacing(spacing, 3)
    box = _bounding_box(pred | target, margin=1)
    in_plane = [axis for axis in range(3) if axis != slice_axis % 3]
    pred_edge, target_edge = (_slice_surface(mask[box], in_plane) for mask in (pred, target))
    if not pred_edge.any() or not target_edge.any():
        return _of_empty(np.array_equal(pred, target), pred.shape, spacing, empty)
    return percentile95(_nearest(pred_edge, target_edge, spacing), _nearest(target_edge, pred_edge, spacing), False)


def _of_empty(both, shape, spacing, empty):
    """The distance where a mask has no surface: 0.0 if `both` are alike in that, else the image's diagonal in mm or NaN."""
    if both:
        return 0.0
    return float(np.linalg.norm(shape * _spacing(spacing, len(shape)))) if empty == "diagonal" else float("nan")


def percentile95(pred_to_target, target_to_pred, pooled=True):
    """95th percentile of two sets of surface distances (mm): of both together, or the larger of the two."""
    if pooled:
        return float(np.percentile(np.concatenate((pred_to_target, target_to_pred)), 95))
    return float(max(np.percentile(pred_to_target, 95), np.percentile(target_to_pred, 95)))


def surface_distances(pred, target, spacing=None, method="auto"):
    """Distances in mm from each surface voxel of one mask to the nearest surface voxel of the other.

    Returns (pred_to_target, target_to_pred), two float64 arrays in the surface voxels' C order. An empty mask has no
    surface: its own array has length 0 and the distances to it are inf.
    method: "tree" (k-d tree), "transform" (distance transform), or "auto", the one expected to be faster.
    """
    if method not in ("auto", "tree", "transform"):
        raise ValueError(f'method: expected "auto", "tree" or "transform", got {method!r}')
    pred, target = _masks(pred, target)
    spacing = _spacing(spacing, pred.ndim)
    box = _bounding_box(pred | target)
    pred, target = surface(pred[box]), surface(target[box])  # outside the box both are background: nothing changes
    return _nearest(pred, target, spacing, method), _nearest(target, pred, spacing, method)


def _nearest(queries, surface, spacing, method="auto"):
    """Distance in mm from each True voxel of `queries` to the nearest True voxel of `surface` (same shape).

    A k-d tree costs about the number of points, a distance transform costs the same for every voxel of the box however
    few points there are: the tree wins for lesions, the transform for large masks far apart. In dense noise most
    voxels find their answer among their neighbours, and only the others are searched for.
    """
    flat = np.flatnonzero(queries)  # faster than argwhere, whose coordinates few of them need
    distances = np.full(len(flat), np.inf)
    distances[surface.ravel()[flat]] = 0  # on both surfaces
    size = np.count_nonzero(surface)
    if size == 0:
        return distances
    if method == "auto" and size > DENSE * surface.size:
        open_ = np.flatnonzero(distances)
        distances[open_] = _nearest_neighbours(_coordinates(flat[open_], surface.shape), surface, spacing)
    open_ = np.flatnonzero(np.isinf(distances))  # in dense noise, the few with nothing near
    points, tree = _coordinates(flat[open_], surface.shape), None
    if len(points) and method != "transform":
        tree = _tree(points, surface, size, spacing, even_if_slow=method == "tree")
    if len(points):
        distances[open_] = tree.query(points * spacing)[0] if tree else _nearest_by_transform(points, surface, spacing)
    return distances


def _coordinates(flat, shape):
    """(N,) indices into the flattened array -> (N, ndim)."""
    return np.stack(np.unravel_index(flat, shape), axis=1)


def _nearest_neighbours(points, surface, spacing):
    """Distances in mm (N,) from points (N, ndim) to the nearest True voxel, inf where none is within about REACH."""
    cube = np.indices((2 * REACH + 1,) * surface.ndim).reshape(surface.ndim, -1).T - REACH
    lengths = np.sqrt(np.square(cube * spacing).sum(axis=1))
    order = np.argsort(lengths)
    order = order[lengths[order] < (REACH + 1) * spacing.min()]  # further ones may lie outside the cube
    padded = np.pad(surface, REACH)
    steps = cube @ (np.array(padded.strides) // padded.itemsize)  # offsets in the flat array
    padded, left = padded.ravel(), np.ravel_multi_index((points + REACH).T, padded.shape)
    distances, rows = np.full(len(points), np.inf), np.arange(len(points))
    for k in order:  # nearest first: the first hit is the answer
        hit = padded[left + steps[k]]
        distances[rows[hit]] = lengths[k]
        left, rows = left[~hit], rows[~hit]
        if len(rows) == 0:
            break
    return distances


def _tree(points, surface, size, spacing, even_if_slow):
    """A k-d tree over the `size` True voxels of `surface`, or None where the distance transform is expected to win."""
    from scipy.spatial import cKDTree  # here, because it takes longer to import than everything else
    transform_ns = TRANSFORM_NS * surface.size
    tree_ns = TREE_BUILD_NS * size + TREE_QUERY_NS * len(points)
    if tree_ns > transform_ns and not even_if_slow:
        return None
    tree = cKDTree(_coordinates(np.flatnonzero(surface), surface.shape) * spacing, balanced_tree=False, compact_nodes=False)
    if even_if_slow:
        return tree
    # From inside a ball, many surface voxels are about equally far, and the tree cannot tell them apart.
    sample = points[::-(-len(points) // 32)] * spacing
    reach = tree.query(sample)[0] * (1 + 1e-9) + 2 * spacing.mean()
    visits = tree.query_ball_point(sample, reach, return_length=True).mean()
    return tree if tree_ns + TREE_VISIT_NS * visits * len(points) < transform_ns else None


def _nearest_by_transform(points, surface, spacing):
    """Distances in mm (N,) from points (N, ndim) to the nearest True voxel, by SciPy's exact feature transform."""
    from scipy.ndimage import distance_transform_edt
    nearest = distance_transform_edt(~surface, spacing, return_distances=False, return_indices=True)
    nearest = nearest.reshape(surface.ndim, -1)[:, np.ravel_multi_index(points.T, surface.shape)]  # (ndim, N)
    return np.sqrt(np.square((nearest - points.T) * spacing[:, None]).sum(axis=0))  # of these voxels only: saves half


def surface(mask):
    """The voxels of a bool array with a face neighbour in the background; outside the array is background."""
    inside = mask.copy()
    for axis in range(mask.ndim):
        whole, part = np.moveaxis(mask, axis, 0), np.moveaxis(inside, axis, 0)  # views
        part[1:] &= whole[:-1]
        part[:-1] &= whole[1:]
        part[:1] = part[-1:] = False
    return mask & ~inside


def _slice_surface(mask, axes):
    """The voxels of `mask` with background among the 3x3 neighbours along two `axes`; outside the array is none."""
    inside = mask
    for axis in axes:  # a square is two lines, one after the other
        whole, part = np.moveaxis(inside, axis, 0), np.moveaxis(inside.copy(), axis, 0)
        part[1:] &= whole[:-1]
        part[:-1] &= whole[1:]
        inside = np.moveaxis(part, 0, axis)
    return mask & ~inside


def _bounding_box(mask, margin=0):
    """Slices of the smallest box that holds every True voxel (an empty box if there is none), plus a margin."""
    box = []
    for axis in range(mask.ndim):
        used = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        box.append(slice(max(used[0] - margin, 0), used[-1] + 1 + margin) if len(used) else slice(0, 0))
        mask = mask[(slice(None),) * axis + (box[-1],)]  # the next axis has less to look at
    return tuple(box)


def legacy_hausdorff(pred, target):
    """The quantity reported as "HD (mm)" in the paper's Table 1, for one 2-D slice; dimensionless.

    The 2018 code gave the raw 2-D background masks to scipy's `directed_hausdorff`, which takes each image row as one
    point in as many dimensions as there are columns. So this is the largest, over the rows of both masks, of the
    smallest Euclidean distance to a row of the other mask, wherever that row lies. Two empty masks score 0.0.
    pred, target: (H, W). Exactly max(directed_hausdorff(~pred, ~target)[0], directed_hausdorff(~target, ~pred)[0]).
    """
    pred, target = _masks(pred, target)
    if pred.ndim != 2:
        raise ValueError(f"pred: expected a 2-D mask, got shape {pred.shape}")
    columns = (pred | target).any(axis=0)  # elsewhere all rows agree
    # Rows of masks and of their complements differ in the same places, so the foreground will do.
    a, b = (_distinct_rows(mask[:, columns]).astype(np.float32) for mask in (pred, target))
    # |x - y|^2 = |x| + |y| - 2 x.y for 0/1 vectors; whole numbers, exact in float32 below 2^24 columns.
    squared = a.sum(axis=1)[:, None] + b.sum(axis=1)[None, :] - 2 * a @ b.T
    return float(np.sqrt(np.float64(max(squared.min(axis=1).max(), squared.min(axis=0).max()))))


def _distinct_rows(mask):
    """The rows of a bool array (H, W), each once; a dict of their bytes is ten times faster than np.unique."""
    first = {row.tobytes(): k for k, row in enumerate(np.packbits(mask, axis=1))}
    return mask[list(first.values())]


def lesion_detection(pred, target):
    """(recall, precision, F1) over lesions, with the WMH challenge's conventions.

    A lesion is a connected component including diagonal neighbours (26 in 3-D, 8 in 2-D). Recall: the part of the
    target's lesions that share a voxel with `pred`, 1.0 if there is none; precision: the part of the predicted lesions
    that share a voxel with `target`, 1.0 if there is none; F1: their harmonic mean, 0.0 if both are 0.
    """
    pred, target = _masks(pred, target)
    recall, precision = _touched(target, pred), _touched(pred, target)
    return recall, precision, 2 * recall * precision / (recall + precision) if recall + precision else 0.0


def _touched(lesions, other):
    """The fraction of the components of `lesions` that share a voxel with `other`; 1.0 if there are none."""
    touched = lesion_sizes(lesions, other)[1]
    return np.count_nonzero(touched) / len(touched) if len(touched) else 1.0


def lesion_sizes(lesions, other):
    """(voxels, touched) of each lesion of a mask, see `lesion_detection`: its size, and whether it shares a voxel with `other`.

    Returns:
        int array and bool array (lesions,), both empty without a lesion.
    """
    from scipy.ndimage import label
    lesions, other = _masks(lesions, other, names=("lesions", "other"))
    box = _bounding_box(lesions)
    lesions, other = lesions[box], other[box]
    if not lesions.any():
        return np.zeros(0, int), np.zeros(0, bool)
    labels, count = label(lesions, structure=np.ones((3,) * lesions.ndim))
    touched = np.zeros(count, bool)
    touched[np.unique(labels[lesions & other]) - 1] = True
    return np.bincount(labels.ravel(), minlength=count + 1)[1:], touched


def lesion_recall(pred, target):
    """The fraction of the target's lesions that `pred` touches; see `lesion_detection`."""
    return lesion_detection(pred, target)[0]


def lesion_f1(pred, target):
    """Harmonic mean of lesion recall and precision; see `lesion_detection`."""
    return lesion_detection(pred, target)[2]


def absolute_volume_difference(pred, target):
    """| |P| - |T| | in percent of |T|; 0.0 if both masks are empty, inf if only the target is."""
    pred, target = (np.count_nonzero(mask) for mask in _masks(pred, target))
    if target == 0:
        return float("inf") if pred else 0.0
    return 100 * abs(pred - target) / target


def leave_out(pred, target, ignored):
    """(pred, target) without the voxels of `ignored`, all bool arrays of one shape.

    The WMH challenge's rule for its label 2 (other pathology): `leave_out(pred, labels == 1, labels == 2)`.
    """
    pred, target = _masks(pred, target)
    _, ignored = _masks(pred, ignored, names=("pred", "ignored"))
    return pred & ~ignored, target & ~ignored


def _masks(pred, target, names=("pred", "target")):
    """Both masks as bool arrays of one shape, or ValueError."""
    masks = []
    for name, mask in zip(names, (pred, target)):
        mask = np.asarray(mask)
        if mask.dtype != bool:
            if mask.dtype.kind not in "uif" or not ((mask == 0) | (mask == 1)).all():
                shown = f"values {np.unique(mask)[:5]}" if mask.dtype.kind in "uif" else f"dtype {mask.dtype}"
                raise ValueError(f"{name}: expected a bool array or an array of 0 and 1, got {shown}")
            mask = mask.astype(bool)
        if mask.ndim == 0:
            raise ValueError(f"{name}: expected an array with at least one dimension, got a scalar")
        masks.append(mask)
    if masks[0].shape != masks[1].shape:
        raise ValueError(f"{names[1]}: expected the shape of {names[0]}, {masks[0].shape}, got {masks[1].shape}")
    return masks


def _spacing(spacing, ndim):
    """The voxel size as a float64 array (ndim,), or ValueError."""
    if spacing is None:
        return np.ones(ndim)
    try:
        values = np.asarray(spacing, dtype=np.float64)
    except (TypeError, ValueError):
        values = np.zeros(0)  # of no shape that is right
    if values.shape != (ndim,) or not (np.isfinite(values) & (values > 0)).all():
        raise ValueError(f"spacing: expected {ndim} positive numbers in mm, one per axis, got {spacing}")
    return values
