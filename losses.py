"""The losses of the paper: Eq. 1 (generalized Dice), Eq. 5 (boundary) and Eq. 6 (both).

They take softmax probabilities (B, K, *spatial), 2-D or 3-D, and return a scalar. Half precision is
computed in float32, also under autocast: a sum over a 256x256 image overflows float16.

Logits given for probabilities would make any of these losses low, or flat, without a word. So every
loss of probabilities looks at the least and the greatest value. Outside [0, 1], by more than
rounding, a loss on the CPU raises a ValueError. On other devices and under torch.compile, where to
raise one would mean to wait for the values, the loss and its gradient are NaN. NaN stays NaN.
Logits that happen to lie within [0, 1] pass until training moves them out. With `softmax=True` a
loss takes logits and applies the softmax itself. The reverse mistake, probabilities given to a loss
of logits, cannot be told: any numbers may be logits.

A target that is not from 0 to 1, such as a mask of 0 and 255, is found out in the same way.

The check reads the probabilities once: 0.5 ms of 8x2x256x256 on a CPU core, an eighth of Eq. 1. The
target is read too unless it is of bools, as in main.py.

This file needs torch and nothing else, so it can be copied into another project as it is. The
losses that may take Eq. 1's place, and `build_loss`, are in losses_regional.py.
"""

from collections.abc import Callable, Iterable, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

WITHOUT_AMINMAX = (torch.uint16, torch.uint32, torch.uint64)  # of torch's dtypes
EPSILON = 1e-10  # added to the size of a class: one without a pixel gets the weight 1e20 in Eq. 1
SLACK = 0.01     # by which probabilities may lie outside [0, 1]: they may be rounded, or averaged


class GeneralizedDiceLoss(nn.Module):
    """Generalized Dice loss, Eq. 1 (Sudre et al. 2017), of each image, averaged over the batch:

        1 - 2 * sum_k w_k sum_p g s / sum_k w_k sum_p (g + s),    w_k = 1 / (sum_p g)^2

    with probabilities s, one-hot ground truth g, classes k and pixels p.

    A class absent from an image weighs 1e20. So the loss of an empty slice is 1 if anything at all
    is predicted there, with a gradient below 1e-18 a pixel: false positives are not punished.

    Args:
        classes: the classes k in the sums; the paper's are background and foreground, (0, 1).
        max_weight: upper bound of w_k; None is the paper's loss. With max_weight=1 an absent class
            counts as if it had a single pixel, and false positives on empty slices are punished.
        batch: 1: p runs over the pixels of all images together, as in MONAI's loss with batch=True.
            An empty slice then has the weights of the batch, and its false positives are punished,
            unless the whole batch is empty. 0: the paper's loss.
        softmax: take logits, and apply the softmax over axis 1 here.
        absent_size: pixels of each of the classes, by which one that is absent is weighed: 1 /
            absent_size^2 instead of 1e20. With the size that it usually has, a false positive on an
            empty slice costs what it costs beside a lesion of that size. None is the paper's loss.

    Raises:
        ValueError: target and probabilities differ in shape or lack a class, the values are no
            probabilities (see the top of this file), or an argument makes no sense.
    """

    def __init__(self, classes: Iterable[int] = (0, 1), max_weight: float | None = None,
                 batch: bool = False, softmax: bool = False,
                 absent_size: Iterable[float] | None = None) -> None:
        super().__init__()
        if max_weight is not None and not (isinstance(max_weight, Real) and max_weight > 0):
            raise ValueError(f"max_weight: expected a positive number or None, found {max_weight}")
        self.classes, self.max_weight = checked_classes(classes), max_weight
        self.batch = checked_flag("batch", batch)
        self.from_logits = checked_flag("softmax", softmax)
        self.absent_size = checked_sizes(absent_size, self.classes)

    def forward(self, probs: Tensor, target: Tensor) -> Tensor:
        """probs (B, K, *spatial) softmax; target (B, K, *spatial) one-hot, any dtype -> scalar."""
        with without_autocast("probs", probs):
            s, g, factor = pixels_by_class(probs, target, self.classes, self.from_logits)

            size = sum_pixels(g, self.batch)                                    # (B or 1, k)
            weight = 1 / (self.usual_where_absent(size) + EPSILON) ** 2         # (B or 1, k)
            if self.max_weight is not None:
                weight = weight.clamp(max=self.max_weight)

            overlap = (weight * sum_pixels(g * s, self.batch)).sum(1)           # (B or 1,)
            total = (weight * (size + sum_pixels(s, self.batch))).sum(1)        # (B or 1,)
            loss = 1 - 2 * (overlap + EPSILON) / (total + EPSILON)              # (B or 1,)

            # An image without a pixel of these classes, where none is predicted, is perfect.
            return loss.where(total != 0, 0).mean() * factor  # NaN, which is not 0, stays NaN

    def usual_where_absent(self, size: Tensor) -> Tensor:
        """The sizes of the classes, (B or 1, k), with absent_size in the place of 0."""
        if self.absent_size is None:
            return size
        columns = zip(size.unbind(1), self.absent_size, strict=True)
        return torch.stack([found.where(found != 0, usual) for found, usual in columns], 1)


class BoundaryLoss(nn.Module):
    """Boundary loss, Eq. 5: the integral of phi_G * s, as a mean over batch, classes and pixels.

    It is negative when most of the probability lies inside G. Its minimum for an image is the sum
    of phi_G over G divided by the number of pixels, reached by the perfect prediction (Eq. 4). Its
    gradient is phi_G over the number of elements, whatever s is; on an empty slice phi_G is 0, and
    so are loss and gradient.

    With the "official" map, values and gradients are those of monai.losses.BoundaryLoss (MONAI 1.6)
    with include_background=False. That one computes the maps from the target in every call, on
    the CPU with SciPy (or by cuCIM where it is installed), knows no spacing, and includes the
    background's map unless told otherwise.

    Args:
        classes: those whose maps are given, in the order of the maps. The paper's is the
            foreground; the authors' setting for ACDC has all four, with the background's map.
        softmax: take logits, and apply the softmax over axis 1 here.

    Raises:
        ValueError: the maps do not fit the probabilities, which lack a class or are none (see the
            top of this file), or an argument makes no sense.
    """

    def __init__(self, classes: Iterable[int] = (1,), softmax: bool = False) -> None:
        super().__init__()
        self.classes = checked_classes(classes)
        self.from_logits = checked_flag("softmax", softmax)

    def forward(self, probs: Tensor, distance: Tensor) -> Tensor:
        """The loss, a scalar.

        Args:
            probs: (B, K, *spatial) softmax.
            distance: (B, len(classes), *spatial), the maps phi_G in pixels or mm.
        """
        check_channels(probs, self.classes, self.from_logits)
        check_maps(distance, probs, self.classes)

        with without_autocast("probs", probs):
            s, factor = probabilities(probs, self.classes, self.from_logits)
            return (s * to_float32(distance)).mean() * factor


class JointLoss(nn.Module):
    """Eq. 6: alpha * L_regional + beta * L_B, with beta = 1 - alpha in the paper.

    Either part may be absent; the other one then is the loss, with weight 1.

    Args:
        regional: a loss of (probs, target), or of (logits, target) if its attribute `from_logits`
            is true; or None. It is given a third argument if it has `takes_distance` (the maps of
            its `classes`, or of all, the background first) or `make_maps` (what that makes of the
            labels).
        boundary: a BoundaryLoss, or None. It is given the maps of its own classes, and the logits
            if it was made with softmax=True.
        name: the key of the regional loss among the parts.

    Attributes:
        needs_background: must `distance` begin with the background's map?
        make_maps: makes `maps` from class numbers (H, W) or (D, H, W) and their spacing; None if
            none are needed.

    Raises:
        ValueError: an argument is missing or of another shape, or a class of the boundary loss is
            counted from the last one.
    """

    def __init__(self, regional: nn.Module | None = None, boundary: BoundaryLoss | None = None,
                 name: str = "gdl") -> None:
        super().__init__()
        if boundary is not None and min(boundary.classes) < 0:
            raise ValueError("boundary: expected a loss of classes from 0, "
                             f"found {', '.join(map(str, boundary.classes))}")
        if regional is None and boundary is None:
            raise ValueError("regional: expected a loss there, or as boundary, or both, found none")
        self.regional, self.boundary, self.name = regional, boundary, name

    @property
    def needs_background(self) -> bool:
        takes_all = getattr(self.regional, "takes_distance", False)
        return takes_all or self.boundary is not None and 0 in self.boundary.classes

    @property
    def make_maps(self) -> Callable[..., Any] | None:
        return getattr(self.regional, "make_maps", None)

    def forward(self, probs: Tensor, target: Tensor, distance: Tensor | None = None,
                weights: tuple[float, float] = (1.0, 1.0), logits: Tensor | None = None,
                maps: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """(loss, {name of a part: its value, unweighted and detached}).

        Args:
            weights: (alpha, beta); without effect where there is only one part.
            probs, target, distance, logits, maps: see `parts`.
        """
        parts = self.parts(probs, target, distance, logits, maps)

        if len(parts) == 1:
            loss, = parts.values()
        else:
            (alpha, beta), (regional, boundary) = weights, parts.values()
            loss = alpha * regional + beta * boundary

        return loss, {name: value.detach() for name, value in parts.items()}

    def parts(self, probs: Tensor, target: Tensor, distance: Tensor | None = None,
              logits: Tensor | None = None, maps: Tensor | None = None) -> dict[str, Tensor]:
        """The terms of Eq. 6 that there are, {name: scalar}: the regional one, then "boundary".

        Args:
            probs, target: (B, K, *spatial) softmax and one-hot.
            distance: (B, K - 1, *spatial), the maps phi_G of all foreground classes; only needed
                with a boundary part. (B, K, *spatial), the background's first, if the attribute
                `needs_background` is true.
            logits: (B, K, *spatial), of which probs are the softmax; only needed by a loss of
                logits.
            maps: (B, C, *spatial), what `make_maps` makes of each image's labels, if it is there.
        """
        parts, first = {}, 0 if self.needs_background else 1

        if self.regional is not None:
            values = self._values_for(self.regional, self.name, probs, logits)
            given: list[Tensor | None] = [target]
            if getattr(self.regional, "takes_distance", False):
                phi = self._maps_from(0, distance, values, self.name)
                chosen = getattr(self.regional, "classes", range(phi.shape[1]))
                given.append(select_classes(phi, list(chosen)))
            elif self.make_maps:
                if maps is None:
                    raise ValueError(f"maps: expected what make_maps gives for the {self.name} "
                                     "loss, found None")
                given.append(maps)
            parts[self.name] = self.regional(values, *given)

        if self.boundary is not None:
            values = self._values_for(self.boundary, "boundary", probs, logits)
            check_channels(values, self.boundary.classes)
            distance = self._maps_from(first, distance, values, "boundary")

            phi = select_classes(distance, [k - first for k in self.boundary.classes])
            parts["boundary"] = self.boundary(values, phi)

        return parts

    @staticmethod
    def _maps_from(first: int, distance: Tensor | None, values: Tensor, name: str) -> Tensor:
        """The maps phi_G of the classes from `first` on, checked."""
        if distance is None:
            raise ValueError(f"distance: expected the maps phi_G of the {name} loss, found None")
        check_maps(distance, values, range(first, values.shape[1]))
        return distance

    @staticmethod
    def _values_for(loss: nn.Module, name: str, probs: Tensor, logits: Tensor | None) -> Tensor:
        """What a loss takes: the logits if its attribute `from_logits` is true, else probs."""
        if not getattr(loss, "from_logits", False):
            return probs
        if logits is None:
            raise ValueError(f"logits: expected those of the network for the loss {name}, "
                             "found None")
        return logits


def build_loss(name: str, *args: Any, **options: Any) -> JointLoss:
    """The training loss by its command-line name; see `losses_regional.build_loss`."""
    from losses_regional import build_loss as build  # here: that file imports this one
    return build(name, *args, **options)


# What every loss does first -----------------------------------------------------------------------

def without_autocast(name: str, values: Tensor) -> torch.autocast:
    """A context in which values keep their precision; ValueError, with their name, if no tensor."""
    check_tensor(name, values)
    return torch.autocast(values.device.type, enabled=False)


def pixels_by_class(probs: Tensor, target: Tensor, classes: list[int],
                    softmax: bool) -> tuple[Tensor, Tensor, Tensor | int]:
    """(s, g, factor): these classes of probabilities and target, (B, k, N) each; see below.

    Raises:
        ValueError: as check_channels, check_target and probabilities do.
    """
    check_channels(probs, classes, softmax)
    factor = check_target(target, probs.shape)
    s, of_probs = probabilities(probs, classes, softmax)
    g = select_classes(target, classes).flatten(2).to(s.dtype)
    return s.flatten(2), g, factor * of_probs


def probabilities(values: Tensor, classes: list[int], softmax: bool) -> tuple[Tensor, Tensor | int]:
    """(s, factor): the probabilities of these classes, and what to multiply the loss by.

    Args:
        values: (B, K, *spatial), probabilities, or logits if `softmax`.

    Returns:
        s: (B, k, *spatial), not in half precision.
        factor: 1, or NaN, a tensor (), where values outside [0, 1] cannot be an error.

    Raises:
        ValueError: values on the CPU lie outside [0, 1].
    """
    if softmax:
        return select_classes(to_float32(values).softmax(1), classes), 1

    s = to_float32(select_classes(values, classes))
    return s, within_0_and_1(values, "probs: expected probabilities, from 0 to 1, found {}. If "
                             "they are logits, give logits.softmax(1), or make the loss with "
                             "softmax=True")


def within_0_and_1(values: Tensor, message: str) -> Tensor | int:
    """The factor of a loss of these values: 1, or NaN where it cannot be an error instead.

    Raises:
        ValueError: values on the CPU lie outside [0, 1]; `message` with their range in it.
    """
    if values.dtype == torch.bool or not values.numel():
        return 1
    if values.dtype in WITHOUT_AMINMAX:
        values = values.long()
    low, high = values.detach().aminmax()
    outside = (low < -SLACK) | (high > 1 + SLACK)  # (); not of NaN, which the loss keeps by itself

    if values.device.type == "cpu" and not torch.compiler.is_compiling():
        try:
            found = bool(outside)
        except RuntimeError:  # under torch.func.vmap, which has an answer for each sample
            pass
        else:
            if found:
                raise ValueError(message.format(f"{low.item():.4g} to {high.item():.4g}"))
            return 1

    return torch.ones_like(low, dtype=torch.float32).masked_fill(outside, torch.nan)


def sum_pixels(values: Tensor, batch: bool) -> Tensor:
    """Sums over the pixels N of (B, k, N): (B, k), or (1, k) over the batch's images together."""
    sums = values.sum(2)
    return sums.sum(0, keepdim=True) if batch else sums


def to_float32(tensor: Tensor) -> Tensor:
    """Half precision as float32, with a gradient that stays finite on its way back; else as is.

    Whole numbers and bools, as of a mask, become float32 too.
    """
    if not tensor.is_floating_point():
        return tensor.float()
    if tensor.dtype not in (torch.float16, torch.bfloat16):
        return tensor

    full, limit = tensor.float(), torch.finfo(tensor.dtype).max / 4
    if full.requires_grad:  # an absent class weighs 1e20 in Eq. 1: its gradient overflows float16
        full.register_hook(lambda gradient: gradient.clamp(-limit, limit))
    return full


def select_classes(tensor: Tensor, classes: list[int]) -> Tensor:
    """The channels `classes`, a list, of (B, K, *spatial).

    Neighbouring ones come as a view, the gradient of which needs no scatter. A list as an index
    would be copied to the GPU, for which the CPU waits.
    """
    first, count = classes[0], len(classes)
    if classes == list(range(first, first + count)) and 0 <= first <= tensor.shape[1] - count:
        return tensor[:, first:first + count]
    return torch.stack([tensor[:, k] for k in classes], dim=1)


# Checks -------------------------------------------------------------------------------------------

def check_channels(values: Tensor, classes: Iterable[int], logits: bool = False) -> None:
    """ValueError unless values are (B, K, H, W) or (B, K, D, H, W) and have these classes.

    Args:
        values: probabilities; or logits, whose softmax needs two classes at least.
        classes: indices of channels.
    """
    name = "logits" if logits else "probs"
    check_tensor(name, values)
    shape = tuple(values.shape)
    if logits:
        two_channels = ". For sigmoid logits z pass torch.{}([torch.zeros_like(z), z], 1)"
    else:
        two_channels = ". For sigmoid probabilities p pass torch.{}([1 - p, p], 1)"

    if len(shape) not in (4, 5):
        hint = two_channels.format("stack") if len(shape) == 3 else ""
        raise ValueError(
            f"{name}: expected shape (B, K, H, W) or (B, K, D, H, W), found {shape}{hint}")

    needed = max(k + 1 if k >= 0 else -k for k in classes)
    needed = max(needed, 2) if logits else needed
    if shape[1] < needed:
        hint = two_channels.format("cat") if shape[1] == 1 else ""
        raise ValueError(f"{name}: expected at least {needed} channels on axis 1, for the classes "
                         f"{', '.join(map(str, classes))}, found {shape[1]}{hint}")


def check_target(target: Tensor, shape: Sequence[int]) -> Tensor | int:
    """ValueError unless the target has this shape, (B, K, *spatial), and is from 0 to 1.

    Returns:
        the factor of a loss, see `within_0_and_1`; 1 of bools, the values of which are not read.
    """
    check_tensor("target", target)
    batch, classes, *spatial = shape
    hint = ""
    for indices, what in (((batch, *spatial), "target"), ((batch, 1, *spatial), "target[:, 0]")):
        if tuple(target.shape) == indices:
            hint = (". For class indices pass torch.nn.functional.one_hot"
                    f"({what}.long(), {classes}).movedim(-1, 1)")
    if tuple(target.shape) == (batch, classes, 1, *spatial):
        hint = ". It is made of labels with a channel: take labels[:, 0]"
    check_shape("target", target, shape, hint)
    return within_0_and_1(target, "target: expected one-hot, from 0 to 1, found {}. For a mask of "
                          "0 and 255 pass target > 0")


def check_maps(distance: Tensor, values: Tensor, classes: Sequence[int]) -> None:
    """ValueError unless the maps are (B, len(classes), *spatial), for values (B, K, *spatial)."""
    check_tensor("distance", distance)
    batch, _, *spatial = values.shape
    hint = ""
    if distance.shape == (batch, *spatial):
        hint = ". Give distance[:, None], which has a channel"
    elif distance.shape == (batch, len(classes), 1, *spatial):
        hint = ". It is made of labels with a channel: take labels[:, 0]"
    elif distance.shape == values.shape:
        listed = ", ".join(map(str, classes))
        hint = f". Leave out the map of the background: one for each of the classes {listed}"
    elif len(classes) == values.shape[1] == distance.shape[1] + 1:
        hint = ". Put the map of the background first: signed_distance(labels == 0)"
    check_shape("distance", distance, (batch, len(classes), *spatial), hint)


def check_shape(name: str, tensor: Tensor, shape: Sequence[int], hint: str = "") -> None:
    """ValueError, naming the argument, unless this is a tensor and has this shape."""
    check_tensor(name, tensor)
    if tuple(tensor.shape) != tuple(shape):
        raise ValueError(f"{name}: expected shape {tuple(shape)}, found {tuple(tensor.shape)}"
                         f"{hint}")


def check_tensor(name: str, value: Any) -> None:
    """ValueError, naming the argument, unless this is a tensor."""
    if not isinstance(value, Tensor):
        raise ValueError(f"{name}: expected a tensor, found {type(value).__name__}")


def checked_classes(classes: Iterable[int]) -> list[int]:
    """The classes as a list; ValueError unless they are different whole numbers."""
    try:
        given = list(classes)
        found = [int(k) for k in given]
    except (TypeError, ValueError):
        given, found = [], []
    if not found or found != given or len(set(found)) < len(found):
        raise ValueError(f"classes: expected different whole numbers, found {classes!r}")
    return found


def checked_sizes(sizes: Iterable[float] | None, classes: list[int]) -> list[float] | None:
    """Sizes in pixels, one per class, as a list, or None; ValueError unless finite and above 0."""
    if sizes is None:
        return None
    try:
        found = [float(size) for size in sizes]
    except (TypeError, ValueError):
        found = []
    if len(found) != len(classes) or not all(0 < size < float("inf") for size in found):
        raise ValueError(f"absent_size: expected {len(classes)} numbers above 0, one per class, "
                         f"found {sizes}")
    return found


def checked_flag(name: str, value: float) -> bool:
    """The value as a bool; ValueError unless it is True, False, 1 or 0."""
    if value not in (0, 1):
        raise ValueError(f"{name}: expected 0 or 1, found {value}")
    return bool(value)
