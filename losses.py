"""The losses of the paper: Eq. 1 (generalized Dice), Eq. 5 (boundary), Eq. 6 (both); regional.py has others for Eq. 1's place.

Every loss here takes softmax probabilities (B, K, *spatial), 2-D or 3-D, and returns a scalar. Inputs in half precision
are computed in float32, also under autocast: sums over a 256x256 image overflow float16.
"""

from inspect import signature

import torch
from torch import nn

from regional import (
    CrossEntropyLoss,
    DiceCELoss,
    DiceLoss,
    FocalLoss,
    FocalTverskyLoss,
    HausdorffLoss,
    TverskyLoss,
)
from tensors import check_shape, precise, select

ABSENT = 1e-10  # stands in for the size of a class with no pixel, whose weight 1/size^2 thereby becomes 1e20


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
        check_shape("target", target, probs.shape)
        with torch.autocast(probs.device.type, enabled=False):
            s = precise(select(probs, self.classes).flatten(2))              # (B, k, N)
            g = select(target, self.classes).flatten(2).to(s.dtype)           # (B, k, N)
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
        check_shape("distance", distance, (probs.shape[0], len(self.classes), *probs.shape[2:]))
        with torch.autocast(probs.device.type, enabled=False):
            return (precise(select(probs, self.classes)) * precise(distance)).mean()


class JointLoss(nn.Module):
    """Eq. 6: regional_weight * L_regional + boundary_weight * L_B; either part may be absent.

    Args:
        regional: a loss of (probs, target), or of (logits, target) if it has a true `from_logits`; or None.
        boundary: a BoundaryLoss, or None. Its classes' maps are taken from those of all foreground classes.
        name: the regional loss's name, the key of its value in the terms.
    """

    def __init__(self, regional=None, boundary=None, name="gdl"):
        super().__init__()
        self.regional, self.boundary, self.name = regional, boundary, name

    def forward(self, probs, target, distance=None, weights=(1.0, 1.0), logits=None):
        """Returns (loss, {term name: its unweighted value, detached}).

        probs, target (B, K, *spatial); distance (B, K - 1, *spatial), only needed with a boundary part; weights =
        (alpha, 1 - alpha). A single part is taken with weight 1, whatever the weights. logits (B, K, *spatial), of which
        probs are the softmax, are only needed by a regional part that says so.
        """
        terms = {}
        if self.regional is not None:
            from_logits = getattr(self.regional, "from_logits", False)
            if from_logits and logits is None:
                raise ValueError(f"logits: expected those of the network for the loss {self.name}, found None")
            terms[self.name] = self.regional(logits if from_logits else probs, target)
        if self.boundary is not None:
            if distance is None:
                raise ValueError("distance: expected the maps phi_G of the boundary loss, found None")
            terms["boundary"] = self.boundary(probs, select(distance, [k - 1 for k in self.boundary.classes]))
        parts = list(terms.values())
        loss = parts[0] if len(parts) == 1 else weights[0] * parts[0] + weights[1] * parts[1]
        return loss, {name: value.detach() for name, value in terms.items()}


REGIONAL = {  # name -> module, and the first class of those that enter it (None: a loss of all classes)
    "gdl": (GeneralizedDiceLoss, 0), "ce": (CrossEntropyLoss, None), "wce": (CrossEntropyLoss, None),
    "focal": (FocalLoss, None), "dice": (DiceLoss, 1), "dice+ce": (DiceCELoss, 1), "tversky": (TverskyLoss, 1),
    "focal_tversky": (FocalTverskyLoss, 1), "hausdorff": (HausdorffLoss, 1),
}


def parts_of(name):
    """(name of the regional loss or None, has it a boundary part?) of a loss's command-line name.

    Raises:
        ValueError: it is neither a regional loss, nor "boundary", nor both joined by "+".
    """
    parts = name.split("+")
    bound = "boundary" in parts
    if bound:
        parts.remove("boundary")
    regional = "+".join(parts) if parts else None
    if regional not in (*REGIONAL, None):
        raise ValueError(f"loss: expected one of {', '.join(REGIONAL)}, boundary, or one of the first {len(REGIONAL)} with "
                         f"+boundary, found {name!r}")
    return regional, bound


def term_name(regional):
    """Name of a regional loss among the terms and in the columns of metrics.csv: dice+ce -> dice_ce."""
    return (regional or "gdl").replace("+", "_")


def checked_options(name, options, classes=None):
    """The options of a loss's regional part; ValueError if one is not known, or the weights are not one a class."""
    options, regional = dict(options or {}), parts_of(name)[0]
    known = set(signature(REGIONAL[regional][0]).parameters) - {"classes", "max_weight"} if regional else set()
    if unknown := set(options) - known:
        raise ValueError(f"loss-options: expected {', '.join(sorted(known)) or 'none'} for {name}, "
                         f"found {', '.join(sorted(unknown))}")
    if classes and options.get("weights") is not None and len(options["weights"]) != classes:
        raise ValueError(f"weights: expected {classes} of them, one a class, found {len(options['weights'])}")
    return options


def build_loss(name, classes=2, gdl_max_weight=None, options=None, boundary_classes=None):
    """The training loss by its command-line name: "gdl", "boundary", "gdl+boundary", "ce", "ce+boundary", ...

    Args:
        name: a regional loss, "boundary", or both joined by "+".
        classes: number of classes K including background.
        gdl_max_weight: see GeneralizedDiceLoss.
        options: keyword arguments of the regional loss, e.g. {"gamma": 1.0}; "wce" needs {"weights": [...]}.
        boundary_classes: those that the boundary part covers; None: all of the foreground, 1 to K-1.

    Raises:
        ValueError: the name or an option is not known, or an option has no sense.
    """
    regional, bound = parts_of(name)
    covered = list(boundary_classes or range(1, classes))
    if boundary_classes and (not bound or len(set(covered)) < len(covered) or not set(covered) <= set(range(1, classes))):
        expected = f"different ones of 1 to {classes - 1}" if bound else f"none for {name}, which has no boundary part"
        raise ValueError(f"boundary-classes: expected {expected}, found {', '.join(map(str, covered))}")
    options = checked_options(name, options, classes)
    if regional == "wce" and options.get("weights") is None:
        raise ValueError(f"weights: expected {classes} of them for wce, found none")
    part = None
    if regional:
        module, first = REGIONAL[regional]
        options |= {"max_weight": gdl_max_weight} if regional == "gdl" else {}
        part = module(**options) if first is None else module(classes=range(first, classes), **options)
    return JointLoss(part, BoundaryLoss(covered) if bound else None, term_name(regional))
