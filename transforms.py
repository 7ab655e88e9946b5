"""Distance maps on the fly, and augmentation that moves image, label and map together.

    from torchvision.transforms import v2
    augment = Augment([v2.RandomHorizontalFlip(), RandomRotate90(), v2.RandomAffine(10)])
    image, label, distance = augment(image, label)    # in a Dataset's __getitem__

A flip or a rotation by 90 degrees moves phi_G as it moves the label: the moved map is the map of
the moved label. Any other change of the label (small rotations, scaling, crops, deformations) does
not, so the map is computed again.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import repeat
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from distance import WHOLE, signed_distance, whole_numbers

CHUNK = 2 ** 24  # elements of the largest tensor on the way to a map on a GPU, 64 MiB of float32

# Distance maps ------------------------------------------------------------------------------------

class DistanceMap(tv_tensors.TVTensor):
    """phi_G as a tensor (K - 1, *spatial) float32 that flips and RandomRotate90 move.

    Other transforms leave it alone. Where this file is imported, torch.load(..., weights_only=True)
    reads one that was saved.
    """


torch.serialization.add_safe_globals([DistanceMap])


def distance_map(label: ArrayLike | Tensor, classes: int = 2, spacing: ArrayLike | None = None,
                 convention: str = "paper", one_hot: bool = False) -> DistanceMap:
    """phi_G of every foreground class of a label.

    Args:
        label: (H, W) or (D, H, W), tensor or array, of the whole numbers 0 to K-1, up to 1e-3 off.
            With `one_hot`, (K, H, W) or (K, D, H, W) of zeros and ones. A batch of 2-D labels
            cannot be told from a volume: `distance_maps` takes it.
        classes: number of classes K including background. A label beyond them is an error and not
            background, since 255 may mean foreground: set what is no class to 0 first.
        spacing: size of a pixel along each axis in mm. None: that of a MONAI MetaTensor; of other
            labels the map is in pixels, as in the paper. (1, 1), or (1, 1, 1), is in pixels always.
        convention: see `distance.signed_distance`.
        one_hot: does the label's first axis hold the classes, background first?

    Returns:
        DistanceMap (K - 1, *spatial) float32; BoundaryLoss takes a batch of them. It lies where the
        label lies. On a GPU the CPU waits for nothing, so that a label of other values is no error
        there: its map is NaN.

    Raises:
        ValueError: the label has another shape or holds other values, there are fewer than two
            classes, or `spacing` or a MetaTensor's own does not fit.
    """
    maps = maps_of([label], classes, spacing, convention, one_hot)[0]
    return maps.as_subclass(DistanceMap)


def distance_maps(labels: ArrayLike | Tensor, classes: int = 2, spacing: ArrayLike | None = None,
                  convention: str = "paper", one_hot: bool = False) -> Tensor:
    """phi_G of a batch of labels, as BoundaryLoss takes it: `distance_map` of each.

    On a CPU in as many threads as torch has there (torch.get_num_threads; 1 in the workers of a
    DataLoader). On a GPU all together; that takes a few times the maps' own memory, and 64 MiB at a
    time for the search (see `nearest_along`).

    Args:
        labels: (B, H, W) or (B, D, H, W); with `one_hot`, (B, K, H, W) or (B, K, D, H, W).
        classes, spacing, convention, one_hot: see `distance_map`.

    Returns:
        (B, K - 1, *spatial) float32, where the labels lie.
    """
    labels = labels if isinstance(labels, Tensor) else np.asarray(labels)
    if not len(labels):
        raise ValueError(f"labels: expected one at least, found shape {tuple(labels.shape)}")
    return maps_of(list(labels), classes, spacing, convention, one_hot)


def maps_of(labels: Sequence[Any], classes: int, spacing: ArrayLike | None, convention: str,
            one_hot: bool) -> Tensor:
    """(B, K - 1, *spatial) of B labels of one shape; see `distance_map`."""
    if not isinstance(classes, int | np.integer) or classes < 2:
        raise ValueError("classes: expected at least 2, background included, as a whole number, "
                         f"found {classes!r}")
    first = labels[0]
    if isinstance(first, Tensor) and first.device.type != "cpu":
        return maps_on_device(labels, classes, spacing, convention, one_hot)

    masks, spacings = [], []
    for label in labels:
        values = to_array(label)
        values = read_one_hot(values, classes) if one_hot else checked_label(values, classes)
        masks += [values == k for k in range(1, classes)]
        voxel = own_spacing(label, values.ndim) if spacing is None else spacing
        spacings += [voxel] * (classes - 1)

    given = masks, spacings, repeat(convention)
    threads = min(torch.get_num_threads(), len(masks))
    if threads < 2:
        maps = list(map(signed_distance, *given))
    else:
        with ThreadPoolExecutor(threads) as pool:  # SciPy lets go of Python's lock
            maps = list(pool.map(signed_distance, *given))
    return torch.from_numpy(np.stack(maps)).unflatten(0, (len(labels), classes - 1))


def to_array(label: ArrayLike | Tensor) -> NDArray[Any]:
    """A tensor on any device, or what NumPy takes for an array, as an array."""
    if not isinstance(label, torch.Tensor):
        return np.asarray(label)
    label = label.detach().cpu().as_subclass(torch.Tensor)
    return (label.float() if label.dtype == torch.bfloat16 else label).numpy()


def checked_label(values: NDArray[Any], classes: int) -> NDArray[Any]:
    """The label as whole numbers from 0 to classes - 1; ValueError if it holds others.

    Args:
        values: array (H, W) or (D, H, W).
    """
    if values.ndim not in (2, 3):
        raise ValueError(f"label: expected shape (H, W) or (D, H, W), found {values.shape}. "
                         "Take the channel away: labels[:, 0] of a batch, label[0] of one label; "
                         "distance_maps takes a batch")
    if values.dtype.kind not in "buif":
        raise ValueError(f"label: expected whole numbers, found dtype {values.dtype}")

    whole = whole_numbers(values)
    fits = (whole >= 0) & (whole < classes)  # false of NaN
    if not fits.all():
        wrong = [f"{value:g}" for value in np.unique(values[~fits])]
        listed = ", ".join(wrong[:5] + ["..."] * (len(wrong) > 5))
        do = "Give each class its number, and what is no class 0"
        if np.isnan(whole).any():
            do = "Resample labels by the nearest neighbour, and cut probabilities at a threshold"
        raise ValueError(f"label: expected whole numbers from 0 to {classes - 1}, found {listed}. "
                         f"{do}")
    return whole


def read_one_hot(values: NDArray[Any], classes: int) -> NDArray[Any]:
    """The label (H, W) or (D, H, W) of a one-hot array (classes, *spatial), or ValueError."""
    if values.ndim not in (3, 4) or values.shape[0] != classes:
        raise ValueError(f"label: expected one-hot ({classes}, H, W) or ({classes}, D, H, W), "
                         f"found shape {values.shape}")

    whole = whole_numbers(values)
    if not np.isin(whole, (0, 1)).all() or not (whole.sum(0) == 1).all():
        raise ValueError("label: expected one-hot, with a single one in each pixel and zeros, "
                         "found other values")
    return whole.argmax(0)


def own_spacing(label: Any, dims: int) -> tuple[float, ...] | None:
    """The pixel size of a MONAI MetaTensor in mm, a tuple; None of other labels.

    Args:
        dims: of the label, without channels.

    Raises:
        ValueError: the MetaTensor tells the sizes along more or fewer axes than the label has, as a
            slice of a volume does, and they differ.
    """
    affine = getattr(label, "affine", None)
    if affine is None:
        return None

    affine = to_array(affine)
    axes = affine.shape[-1] - 1
    sizes = np.linalg.norm(affine[..., :axes, :axes], axis=-2).ravel()
    loaded = getattr(label, "meta", {}).get("spatial_shape", ())  # of a 2-D file the affine is 4x4
    if affine.ndim == 2 and (axes == dims or len(loaded) == dims < axes):
        return tuple(sizes[:dims].tolist())
    if np.allclose(sizes, sizes[0], rtol=1e-3):
        return (float(sizes[0]),) * dims

    listed = ", ".join(f"{size:g}" for size in sizes)
    raise ValueError(f"spacing: expected that of the {dims} axes of this label, found {listed} in "
                     "the MetaTensor. Give spacing=")


# On a GPU -----------------------------------------------------------------------------------------

def maps_on_device(labels: Sequence[Tensor], classes: int, spacing: ArrayLike | None,
                   convention: str, one_hot: bool) -> Tensor:
    """`maps_of` for tensors on a GPU, where nothing is waited for."""
    dims = labels[0].ndim - one_hot
    voxels = [own_spacing(label, dims) if spacing is None else spacing for label in labels]
    values = torch.stack([label.detach().as_subclass(Tensor) for label in labels])

    one_hots, factor = one_hot_on_device(values, classes, one_hot)      # (B, K, *spatial), (B,)
    masks = one_hots[:, 1:]
    if all(voxel is voxels[0] or voxel == voxels[0] for voxel in voxels):
        maps = signed_distances(masks.flatten(0, 1), voxels[0], convention)
    else:
        maps = torch.cat([signed_distances(mask, voxel, convention)
                          for mask, voxel in zip(masks, voxels)])
    return maps.unflatten(0, masks.shape[:2]) * factor.reshape(-1, *[1] * (dims + 1))


def one_hot_on_device(values: Tensor, classes: int, one_hot: bool) -> tuple[Tensor, Tensor]:
    """(bools (B, K, *spatial), factor (B,): 1, or NaN of a label with other values)."""
    label, dims = tuple(values.shape[1:]), values.ndim - 1 - one_hot
    expected = f"one-hot ({classes}, H, W) or ({classes}, D, H, W)" if one_hot else (
        "shape (H, W) or (D, H, W)")
    if dims not in (2, 3) or one_hot and label[0] != classes:
        raise ValueError(f"label: expected {expected}, found shape {label}")
    if values.is_complex():
        raise ValueError(f"label: expected whole numbers, found dtype {values.dtype}")

    if not one_hot:
        values = torch.stack([near(values, k) for k in range(classes)], 1)
        fits = values.any(1)
    else:
        ones = near(values, 1)
        fits = (near(values, 0) | ones).all(1) & (ones.sum(1) == 1)
        values = ones
    fits = fits.flatten(1).all(1)
    return values, torch.ones(len(values), device=values.device).masked_fill(~fits, torch.nan)


def near(values: Tensor, number: int) -> Tensor:
    """Where the values are this number, up to 1e-3 off if they are floats; a bool tensor."""
    if not values.is_floating_point():
        return values == number
    return (values.float() - number).abs() <= WHOLE


def signed_distances(masks: Tensor, spacing: ArrayLike | None = None,
                     convention: str = "paper") -> Tensor:
    """`distance.signed_distance` of each of N masks by torch operations, where they lie.

    Exact: by the paper's convention in pixels the values are SciPy's, bit by bit; otherwise up to
    the rounding of float32, 1e-6 of them.

    Args:
        masks: bool (N, H, W) or (N, D, H, W).
        spacing, convention: see `distance.signed_distance`.

    Returns:
        float32 of that shape.

    Raises:
        ValueError: as of `distance.signed_distance`.
    """
    signed_distance(np.zeros((1,) * (masks.ndim - 1), bool), spacing, convention)  # its checks
    voxel = [1.0] * (masks.ndim - 1) if spacing is None else np.ravel(spacing).tolist()

    inside = masks.clone()  # what has no face neighbour in the background
    for axis in range(1, masks.ndim):
        whole, part = masks.movedim(axis, 0), inside.movedim(axis, 0)   # views
        part[1:] &= whole[:-1]
        part[:-1] &= whole[1:]

    phi = distance_to(masks & ~inside, voxel)
    within = -phi if convention == "paper" else 1 - distance_to(~masks, voxel)
    phi = torch.where(masks, within, phi)
    return phi.where(phi.isfinite(), 0)  # where there is no boundary


def distance_to(points: Tensor, voxel: Sequence[float]) -> Tensor:
    """Distance to the nearest of the points (N, *spatial) of each image; inf where it has none.

    The squares of the distances along the last axis come from the positions of the points before
    and after. Each further axis takes the least of (square + step^2) over all steps along it.
    """
    squares = squares_along_last(points) * voxel[-1] ** 2
    for axis in range(points.ndim - 2, 0, -1):
        squares = nearest_along(squares, axis, voxel[axis - 1])
    # torch's root of a float32 may be off by its last bit. Apple's GPUs have no float64.
    dtype = torch.float32 if squares.device.type == "mps" else torch.float64
    return squares.to(dtype).sqrt().float()


def squares_along_last(points: Tensor) -> Tensor:
    """Squared distance in pixels to the nearest point of the row, float32; inf of none."""
    here = torch.arange(points.shape[-1], device=points.device, dtype=torch.float32)
    before = here.where(points, -torch.inf).cummax(-1).values
    after = here.where(points, torch.inf).flip(-1).cummin(-1).values.flip(-1)
    return torch.minimum(here - before, after - here) ** 2


def nearest_along(squares: Tensor, axis: int, size: float) -> Tensor:
    """The least of square + step^2 over all steps along an axis, whose pixels have this size.

    Every step is tried: L additions for each element, in parts of CHUNK elements.
    """
    squares = squares.movedim(axis, -1).contiguous()                    # (N, ..., L)
    places = torch.arange(squares.shape[-1], device=squares.device, dtype=torch.float32)
    steps = (places[:, None] - places) ** 2 * size ** 2                 # (L, L)

    rows = max(1, CHUNK // max(1, squares.numel()))                     # places that fit together
    least = [(squares[..., None, :] + part).amin(-1) for part in steps.split(rows)]
    return torch.cat(least, -1).movedim(-1, axis)


# MONAI's pipelines --------------------------------------------------------------------------------

class _AddDistance:
    """A dictionary transform of MONAI's: adds phi_G of a label under another key.

    Where MONAI is installed this is a monai.transforms.MapTransform without randomness, so that
    CacheDataset keeps its result if no random transform stands before it. Random flips behind it
    are right as long as the map's key is among theirs:

        [LoadImaged(keys, ensure_channel_first=True), AddDistance("label"),
         RandFlipd([*keys, "distance"], prob=0.5)]

    Any other change of the label must come before it. PersistentDataset forgets the spacing of what
    it kept, unless it is given track_meta=True: if AddDistance stands behind random transforms
    there, say `spacing`.

    Args:
        key: of the label, a string or a list with one; it has a channel axis in front if `channel`,
            of length 1 unless `one_hot`.
        out: key of the map, (K - 1, *spatial) float32, a plain tensor.
        channel: does the label have a channel axis, as MONAI's loaders give it?
        classes, spacing, convention, one_hot: see `distance_map`. A MetaTensor's spacing is used
            unless `spacing` is given, and the map then is in mm.
        allow_missing_keys: pass samples without a label through as they are.

    Raises:
        ValueError: there is more than one key; of a call, the label has other channels, or see
            `distance_map`.
    """

    def __init__(self, key: str | Sequence[str] = "label", out: str = "distance",
                 channel: bool = True, classes: int = 2, spacing: ArrayLike | None = None,
                 convention: str = "paper", one_hot: bool = False,
                 allow_missing_keys: bool = False) -> None:
        if one_hot and not channel:
            raise ValueError("one_hot: expected False without a channel axis, found True")

        # as a MapTransform has them
        self.keys = tuple(key) if isinstance(key, list | tuple) else (key,)
        self.allow_missing_keys = allow_missing_keys
        if len(self.keys) != 1:
            raise ValueError(f"key: expected that of one label, found {key!r}. Make an AddDistance "
                             "for each")

        self.key, self.out, self.channel = self.keys[0], out, channel
        self.options: dict[str, Any] = {
            "classes": classes, "spacing": spacing, "convention": convention, "one_hot": one_hot}

    def __call__(self, sample: Mapping[Any, Any]) -> Mapping[Any, Any]:
        if self.allow_missing_keys and self.key not in sample:
            return sample
        label = sample[self.key]
        if self.channel and not self.options["one_hot"]:
            label = self.only_channel(label)

        distance = distance_map(label, **self.options)
        return {**sample, self.out: distance.as_subclass(torch.Tensor)}

    def only_channel(self, label: Any) -> Any:
        """The label without its channel axis, or ValueError."""
        shape = tuple(label.shape)
        if len(shape) not in (3, 4) or shape[0] != 1:
            raise ValueError(
                f"{self.key}: expected a channel axis of length 1 in front of (H, W) or "
                f"(D, H, W), found shape {shape}. If the channels are classes, one-hot, give "
                "one_hot=True; if there is no channel axis, channel=False")
        return label[0]


def __getattr__(name: str) -> type[_AddDistance]:
    """AddDistance, once it is asked for: importing MONAI takes longer than all the rest here."""
    if name != "AddDistance":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    bases: tuple[Any, ...]
    try:
        from monai.transforms import MapTransform
        bases = (_AddDistance, MapTransform)
    except ImportError:
        bases = (_AddDistance,)

    class AddDistance(*bases):  # type: ignore[misc]  # mypy knows no bases that depend on the import
        __doc__, __qualname__ = _AddDistance.__doc__, "AddDistance"  # found by pickle

    globals()[name] = AddDistance
    return AddDistance


# Augmentation -------------------------------------------------------------------------------------

@functional.register_kernel(functional.horizontal_flip, DistanceMap)
def _flip_columns(distance: DistanceMap, *_: Any, **__: Any) -> DistanceMap:
    return tv_tensors.wrap(distance.as_subclass(torch.Tensor).flip(-1), like=distance)


@functional.register_kernel(functional.vertical_flip, DistanceMap)
def _flip_rows(distance: DistanceMap, *_: Any, **__: Any) -> DistanceMap:
    return tv_tensors.wrap(distance.as_subclass(torch.Tensor).flip(-2), like=distance)


class RandomRotate90(v2.Transform):
    """Rotate by 0, 90, 180 or 270 degrees with equal probability: no pixel is interpolated.

    Images that are not square change shape. It moves what v2's flips move: a plain tensor counts as
    the image where there is no other, and PIL's images and boxes turn too.
    """

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        return {"turns": int(torch.randint(4, ()))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:  # torchvision's names
        turns = params["turns"]
        if isinstance(inpt, tv_tensors.Image | tv_tensors.Video | tv_tensors.Mask | DistanceMap):
            rotated = inpt.as_subclass(Tensor).rot90(turns, (-2, -1))
            return tv_tensors.wrap(rotated, like=inpt)
        if isinstance(inpt, Tensor) and not isinstance(inpt, tv_tensors.TVTensor):
            return inpt.rot90(turns, (-2, -1))
        return functional.rotate(inpt, 90 * turns, expand=True)  # PIL's images, boxes


MOVES_THE_MAP = (v2.RandomHorizontalFlip, v2.RandomVerticalFlip, RandomRotate90)
TURNS = (v2.RandomRotation, v2.RandomAffine)  # by any angle of `degrees`


class Augment:
    """Apply torchvision v2 transforms to an image, its label and its distance map at once.

    Flips and RandomRotate90 move the map; after any other transform that changed the label it is
    computed again from the label, as the map of a 2-D slice. That holds inside of Compose,
    nn.Sequential, RandomApply, RandomChoice and RandomOrder, however deep.

    The grid keeps its spacing: what scales, shears or turns by a small angle deforms the anatomy,
    and the map is that of the label that comes out. After Resize, give the new pixel's size.

    Args:
        transforms: a list of v2 transforms, or one. The map of a volume (`--map-dims 3`) does not
            follow from the label of one slice: give flips and RandomRotate90 only.
        classes, spacing, convention: of the map that is computed, see `distance_map`; those of the
            maps that are given.

    Raises:
        ValueError: one is not a v2 transform, or holds others in a way of its own; or pixels that
            are not square are to change their axes, by RandomRotate90 where the map is computed
            again, or by RandomRotation or RandomAffine of more than 45 degrees.
    """

    def __init__(self, transforms: nn.Module | Iterable[nn.Module], classes: int = 2,
                 spacing: ArrayLike | None = None, convention: str = "paper") -> None:
        transforms = [transforms] if isinstance(transforms, nn.Module) else list(transforms)
        steps = [step for transform in transforms for step in steps_of(transform)]
        if spacing is not None and np.unique(np.ravel(spacing)[-2:]).size > 1:
            check_axes(steps, spacing)

        self.transforms = transforms
        self.options: dict[str, Any] = {
            "classes": classes, "spacing": spacing, "convention": convention}
        self.steps = [rebuilt(transform, self) for transform in transforms]
        self.knows_maps = False  # was one that was given found to be what would be computed?

    def __call__(self, image: Tensor, label: Tensor,
                 distance: Tensor | None = None) -> tuple[Tensor, ...]:
        """The three as plain tensors, transformed.

        Args:
            image: (C, H, W).
            label: (H, W).
            distance: (K - 1, H, W), or None: computed from the label.

        Raises:
            ValueError: the label is not one (see `distance_map`), it or the map has another size,
                the label is a MONAI MetaTensor in mm and Augment was given no spacing, or a map is
                to be computed again where another kind of map was given: in another unit or
                convention, or a volume's. The first ones that are not empty are compared.
        """
        if self.options["spacing"] is None and hasattr(label, "affine"):
            sizes = own_spacing(label, label.ndim)
            if sizes and not np.allclose(sizes, 1, rtol=1e-3):
                raise ValueError(f"spacing: expected that of the MetaTensor, {sizes}, found None. "
                                 "Give it to Augment, or (1, 1) for a map in pixels")

        image = tv_tensors.Image(image)
        shape = tuple(image.shape[1:])
        if tuple(label.shape) != shape:
            raise ValueError(f"label: expected the shape of the image without its channels, {shape}"
                             f", found {tuple(label.shape)}")
        if distance is None:
            distance = distance_map(label, **self.options)
        elif distance.shape[1:] != label.shape:
            raise ValueError(f"distance: expected shape (K - 1, *{tuple(label.shape)}), found "
                             f"{tuple(distance.shape)}")

        parts = wrapped(image, label, distance)
        for step in self.steps:
            parts = step(*parts)
        return tuple(part.as_subclass(torch.Tensor) for part in parts)

    def computed_again(self, label: Tensor, label_before: Tensor,
                       distance_before: Tensor) -> DistanceMap:
        """The map of a label that was changed; ValueError if the one before was another kind."""
        if not self.knows_maps and distance_before.any():
            computed, found = distance_map(label_before, **self.options), distance_before.cpu()
            if computed.shape != found.shape or not torch.allclose(computed, found, atol=0.01):
                raise ValueError(
                    "distance: expected the map that is computed from the label, which a transform "
                    "has changed, found another one. Give its classes, spacing and convention, or "
                    "leave it out; with a volume's map, give flips and RandomRotate90 only")
            self.knows_maps = True
        return distance_map(label, **self.options)


def wrapped(image: Tensor, label: Tensor, distance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The three as what torchvision's transforms tell apart."""
    return tv_tensors.Image(image), tv_tensors.Mask(label), DistanceMap(distance)


def apply(transform: nn.Module, augment: Augment, image: Tensor, label: Tensor,
          distance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A step of Augment: the transform, and the map moved with it or computed again."""
    before = label
    # A Lambda may give plain tensors, the second of which the next transform would leave alone.
    image, label, distance = wrapped(*transform(image, label, distance))

    unchanged = label.shape == before.shape and torch.equal(label, before)
    if not isinstance(transform, MOVES_THE_MAP) and not unchanged:
        distance = augment.computed_again(label, before, distance)
    return image, label, distance


# Containers ---------------------------------------------------------------------------------------

CONTAINERS = {  # type -> the same, with other transforms inside
    v2.Compose: lambda container, inside: v2.Compose(inside),
    nn.Sequential: lambda container, inside: v2.Compose(inside),  # which takes several inputs
    v2.RandomApply: lambda container, inside: v2.RandomApply(inside, container.p),
    v2.RandomChoice: lambda container, inside: v2.RandomChoice(inside, container.p),
    v2.RandomOrder: lambda container, inside: v2.RandomOrder(inside),
}


def children(container: Any) -> list[nn.Module]:
    """The transforms in one of CONTAINERS."""
    return list(container if isinstance(container, nn.Sequential) else container.transforms)


def steps_of(transform: nn.Module) -> list[nn.Module]:
    """The transforms that are no containers, in this one or it alone.

    Raises:
        ValueError: one is not a v2 transform, or an unknown container.
    """
    if type(transform) in CONTAINERS:
        return [step for child in children(transform) for step in steps_of(child)]

    name = type(transform).__name__
    if not isinstance(transform, v2.Transform):
        raise ValueError("transforms: expected those of torchvision.transforms.v2, found "
                         f"{type(transform).__module__}.{name}")
    if holds_transforms(transform):
        known = ", ".join(kind.__name__ for kind in CONTAINERS)
        raise ValueError(f"transforms: expected others inside of {known} alone, found some in "
                         f"{name}, which may apply them in its own way")
    return [transform]


def holds_transforms(transform: nn.Module) -> bool:
    """Has it a module, or a list, tuple or dictionary with one, among its attributes?"""
    for value in vars(transform).values():
        values = list(value.values()) if isinstance(value, dict) else value
        values = values if isinstance(values, list | tuple) else [values]
        if any(isinstance(item, nn.Module) or hasattr(item, "transforms") for item in values):
            return True
    return False


def rebuilt(transform: nn.Module, augment: Augment) -> Callable[..., Any]:
    """The transform with `apply` around each that is no container; they draw as they would."""
    rebuild = CONTAINERS.get(type(transform))
    if rebuild is None:
        return partial(apply, transform, augment)
    return rebuild(transform, [rebuilt(child, augment) for child in children(transform)])


def check_axes(steps: Iterable[nn.Module], spacing: ArrayLike) -> None:
    """ValueError if pixels that are not square would change their axes, but not their spacing."""
    rotates = any(isinstance(step, RandomRotate90) for step in steps)
    recomputes = not all(isinstance(step, MOVES_THE_MAP) for step in steps)
    if rotates and recomputes:
        raise ValueError("spacing: expected one pixel size with RandomRotate90 and transforms "
                         f"after which the map is computed again, found {spacing!s}")

    for step in steps:
        if isinstance(step, TURNS) and not keeps_axes(step.degrees):
            raise ValueError(
                f"spacing: expected one pixel size with {type(step).__name__} of more than 45 "
                f"degrees, found {spacing!s}")


def keeps_axes(degrees: Sequence[float]) -> bool:
    """Are rotations by angles between these two nearer to 0 or 180 degrees than to 90?"""
    low, high = degrees
    half_turn = 180 * round((low + high) / 360)
    return half_turn - 45 <= low <= high <= half_turn + 45
