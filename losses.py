"""The losses of the paper: Eq. 1 (generalized Dice), Eq. 5 (boundary), Eq. 6 (both).

Every loss takes softmax probabilities (B, K, *spatial), 2-D or 3-D, and returns a scalar. Inputs in half precision
are computed in float32, also under autocast: sums over a 256x256 image overflow float16.
"""

import torch
from torch import nn

ABSENT = 1e-10  # stands in for the size of a class with no pixel, whose weight 1/size^2 thereby becomes 1e20


def _precise(tensor):
    """A half-precision tensor as float32, whose gradient stays finite on the way back; others as they are."""
    if tensor.dtype not in (torch.float16, torch.bfloat16):
        return tensor
    precise, limit = tensor.float(), torch.finfo(tensor.dtype).max / 4
    if precise.requires_grad:  # an absent class weighs 1e20: its gradient overflows float16
        precise.register_hook(lambda gradient: gradient.clamp(-limit, limit))
    return precise


def _check(name, tensor, shape):
    if tuple(tensor.shape) != tuple(shape):
        raise ValueError(f"{name}: expected shape {tuple(shape)}, found {tuple(tensor.shape)}")


def _select(tensor, classes):
    """The channels `classes` of (B, K, *spatial); a view where they are neighbours, whose gradient needs no scatter."""
    first = classes[0]
    if classes == list(range(first, first + len(classes))) and 0 <= first <= tensor.shape[1] - len(classes):
        return tensor[:, first:first + len(classes)]
    return tensor[:, classes]


class GeneralizedDiceLoss(nn.Module):
    """Generalized Dice loss, Eq. 1 (Sudre et al. 2017), per image, then the mean over the batch.

    1 - 2 * sum_k w_k sum_p g s / sum_k w_k sum_p (g + s), with w_k = 1 / (pixels of class k in this image)^2.

    Args:
        classes: the classes k that enter the sums; the paper's are background and foreground, (0, 1).
        max_weight: upper bound of w_k. None is the paper's loss: a class absent from an image gets the weight 1e20,
            which makes the loss 1 without a gradient, so false positives on empty slices are not punished.
            With max_weight=1 an absent class counts like one of a single pixel, and they are.

    Raises:
        ValueError: target and probabilities differ in shape, or max_weight is not positive.
    """

    def __init__(self, classes=(0, 1), max_weight=None):
        super().__init__()
        if max_weight is not None and not max_weight > 0:
            raise ValueError(f"max_weight: expected a positive number or None, found {max_weight}")
        self.classes, self.max_weight = list(classes), max_weight

    def forward(self, probs, target):
        """probs (B, K, *spatial) softmax; target (B, K, *spatial) one-hot, any dtype -> scalar."""
        _check("target", target, probs.shape)
        with torch.autocast(probs.device.type, enabled=False):
            s = _precise(_select(probs, self.classes).flatten(2))              # (B, k, N)
            g = _select(target, self.classes).flatten(2).to(s.dtype)           # (B, k, N)
            size = g.sum(2)                                               # (B, k)
            weight = 1 / (size + ABSENT) ** 2
            if self.max_weight is not None:
                weight = weight.clamp(max=self.max_weight)
            overlap = (weight * (g * s).sum(2)).sum(1)                    # (B,)
            total = (weight * (size + s.sum(2))).sum(1)                   # (B,)
            loss = 1 - 2 * (overlap + ABSENT) / (total + ABSENT)          # (B,)
            return loss.where(total > 0, 0).mean()  # no pixel of these classes, and none predicted: perfect


class BoundaryLoss(nn.Module):
    """Boundary loss, Eq. 5: the integral of phi_G * s, as the mean over batch, classes and pixels.

    It is negative when most of the probability lies inside G; its least value for an image is the sum of phi_G over
    G divided by the number of pixels, reached by the perfect prediction (Eq. 4).

    Args:
        classes: the foreground classes whose maps are given, in the order of the maps.

    Raises:
        ValueError: the maps do not fit the probabilities.
    """

    def __init__(self, classes=(1,)):
        super().__init__()
        self.classes = list(classes)

    def forward(self, probs, distance):
        """probs (B, K, *spatial) softmax; distance (B, len(classes), *spatial), phi_G in pixels or mm -> scalar."""
        _check("distance", distance, (probs.shape[0], len(self.classes), *probs.shape[2:]))
        with torch.autocast(probs.device.type, enabled=False):
            return (_precise(_select(probs, self.classes)) * _precise(distance)).mean()


class JointLoss(nn.Module):
    """Eq. 6: regional_weight * L_regional + boundary_weight * L_B; either part may be absent.

    Args:
        regional: a loss of (probs, target), or None.
        boundary: a loss of (probs, distance), or None.
        name: the regional loss's name, the key of its value in the terms.
    """

    def __init__(self, regional=None, boundary=None, name="gdl"):
        super().__init__()
        self.regional, self.boundary, self.name = regional, boundary, name

    def forward(self, probs, target, distance=None, weights=(1.0, 1.0)):
        """Returns (loss, {term name: its unweighted value, detached}).

        probs, target (B, K, *spatial); distance (B, k, *spatial), only needed with a boundary part; weights =
        (alpha, 1 - alpha). A single part is taken with weight 1, whatever the weights.
        """
        terms = {}
        if self.regional is not None:
            terms[self.name] = self.regional(probs, target)
        if self.boundary is not None:
            if distance is None:
                raise ValueError("distance: expected the maps phi_G of the boundary loss, found None")
            terms["boundary"] = self.boundary(probs, distance)
        parts = list(terms.values())
        loss = parts[0] if len(parts) == 1 else weights[0] * parts[0] + weights[1] * parts[1]
        return loss, {name: value.detach() for name, value in terms.items()}


REGIONAL = {"gdl": GeneralizedDiceLoss}


def build_loss(name, classes=2, gdl_max_weight=None):
    """The training loss by its command-line name: "gdl", "boundary" or "gdl+boundary".

    Args:
        name: a regional loss, "boundary", or both joined by "+".
        classes: number of classes K including background; the boundary part covers classes 1 to K-1.
        gdl_max_weight: see GeneralizedDiceLoss.

    Raises:
        ValueError: the name is not known.
    """
    parts = name.split("+")
    regional = [part for part in parts if part in REGIONAL]
    if len(set(parts)) != len(parts) or len(regional) > 1 or set(parts) - set(REGIONAL) - {"boundary"}:
        known = ", ".join([*REGIONAL, "boundary", *(f"{loss}+boundary" for loss in REGIONAL)])
        raise ValueError(f"loss: expected one of {known}, found {name!r}")
    part = REGIONAL[regional[0]](classes=range(classes), max_weight=gdl_max_weight) if regional else None
    bound = BoundaryLoss(classes=range(1, classes)) if "boundary" in parts else None
    return JointLoss(part, bound, *regional)
