"""Regional losses for Eq. 1's place in Eq. 6, and `build_loss`, which makes a loss from its name.

Cross-entropy, focal, Dice, Tversky and the Hausdorff distance loss; and with maps of the labels,
the region-wise, the generalized surface and the per-component loss. Each is a module of (probs or
logits, target) that returns a scalar, for 2-D and 3-D images and K >= 2 classes. Those with
`from_logits` take the network's logits, because the logarithm of a probability that was rounded to
0 is lost. All compute in float32 or float64, also under autocast. What a loss of probabilities does
about logits stands at the top of losses.py.
"""

from collections.abc import Iterable, Mapping, Sequence, Sized
from inspect import signature
from numbers import Real
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import distance_transform_edt
from torch import Tensor, nn

from distance import class_numbers, depth_in_class, nearest_component
from losses import (
    BoundaryLoss,
    GeneralizedDiceLoss,
    JointLoss,
    check_channels,
    check_maps,
    check_shape,
    check_target,
    checked_classes,
    checked_flag,
    pixels_by_class,
    probabilities,
    select_classes,
    sum_pixels,
    to_float32,
    without_autocast,
)

SMOOTH = 1e-5  # added to numerator and denominator of an overlap, as MONAI and nnU-Net do


# Sums over pixels ---------------------------------------------------------------------------------

class CrossEntropyLoss(nn.Module):
    """Cross-entropy: -sum_k w_k g_k log s_k, summed over pixels, over the sum of their weights.

    Without weights this is the mean over pixels. An image without foreground counts like any other:
    its pixels are all background, and each false positive is punished. The gradient with respect to
    a foreground logit is s over the number of pixels there.

    Args:
        weights: (K,) weight of each class, 0 or more; None: 1 each. As in torch, the sum is divided
            by the weights of the pixels at hand, so a common factor changes nothing. The loss is 0
            if they are all 0.
    """

    from_logits = True
    weights: Tensor | None

    def __init__(self, weights: Iterable[float] | None = None) -> None:
        super().__init__()
        self.register_buffer("weights", checked_weights(weights), persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """logits (B, K, *spatial); target (B, K, *spatial) one-hot, any dtype -> scalar."""
        with without_autocast("logits", logits):
            log_s, g = log_probabilities(logits, target)        # (B, K, N)
            return weighted_mean(-log_of_truth(log_s, g), g, self.weights)


class FocalLoss(nn.Module):
    """Focal loss (Lin et al. 2017, Eq. 5): -w_t (1 - s_t)^gamma log s_t of the true class t.

    The mean over pixels. Those that are already right hardly count. gamma = 0 without weights is
    the cross-entropy. An image without foreground counts like any other. The gradient with respect
    to a foreground logit there is (1 + gamma) s^(1 + gamma) over the number of pixels where s is
    small, so it falls on the pixels that are most certainly false positives.

    Args:
        gamma: 0 or more; 2 in the paper.
        weights: (K,) weight of each class, 0 or more, the paper's alpha_t (0.75 and 0.25 there,
            background first); None: 1 each. Unlike the cross-entropy, the sum is divided by the
            number of pixels, whatever they weigh. (The paper divides by the number of anchors on
            objects, which would be the foreground's pixels.)
    """

    from_logits = True
    weights: Tensor | None

    def __init__(self, gamma: float = 2.0, weights: Iterable[float] | None = None) -> None:
        super().__init__()
        self.gamma = checked_number("gamma", gamma, 0)
        self.register_buffer("weights", checked_weights(weights), persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """logits (B, K, *spatial); target (B, K, *spatial) one-hot, any dtype -> scalar."""
        with without_autocast("logits", logits):
            log_s, g = log_probabilities(logits, target)        # (B, K, N)
            log_t = log_of_truth(log_s, g)                      # (B, N)

            # Not quite 0, where the power has no finite slope if gamma < 1.
            miss = (-torch.expm1(log_t)).clamp(min=torch.finfo(log_t.dtype).tiny)
            values = -miss ** self.gamma * log_t

            if self.weights is not None:
                values = values * pixel_weights(g, self.weights)
            return values.mean()


def log_probabilities(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """(log softmax, one-hot target in its dtype), both (B, K, N), not in half precision."""
    check_channels(logits, (0, 1), logits=True)
    factor = check_target(target, logits.shape)
    log_s = to_float32(logits).flatten(2).log_softmax(1)
    return log_s * factor, target.flatten(2).to(log_s.dtype)


def log_of_truth(log_s: Tensor, g: Tensor) -> Tensor:
    """log s_t of the true class t, (B, N), of log s and one-hot g (B, K, N).

    A class that a logit of -inf rules out costs nothing where it is not the true one.
    """
    return (g * log_s).where(g != 0, 0).sum(1)


def pixel_weights(g: Tensor, weights: Tensor) -> Tensor:
    """Weight of each pixel, (B, N), by its class; g (B, K, N) one-hot, weights (K,).

    The weights are a buffer of the loss: moved to a GPU with it, no step waits for them.

    Raises:
        ValueError: there is not one weight per class.
    """
    check_one_per_class(weights, g.shape[1])
    return (weights.to(g)[:, None] * g).sum(1)


def weighted_mean(values: Tensor, g: Tensor, weights: Tensor | None) -> Tensor:
    """Mean of values (B, N) over pixels, weighted by their class in g (B, K, N)."""
    if weights is None:
        return values.mean()
    weight = pixel_weights(g, weights)
    return (weight * values).sum() / weight.sum().clamp(min=torch.finfo(g.dtype).tiny)


def inverse_frequency(counts: ArrayLike) -> list[float]:
    """Class weights N / (K n_k) from the pixels n_k of each class: a pixel weighs 1 on average.

    Args:
        counts: (K,) pixels of each class in the training set, N in all. A class without a pixel
            gets the weight 0.

    Returns:
        list of K floats.
    """
    counts = np.asarray(counts, float)
    return [float(counts.sum() / (len(counts) * count)) if count else 0.0 for count in counts]


def median_sizes(sizes: ArrayLike) -> list[float]:
    """The median size of each class over the images that it is in, for GDL's absent_size.

    Args:
        sizes: (N, K) pixels of each class in N images. A class that is in none of them gets the
            size of the largest image, so that it weighs least.

    Returns:
        list of K floats.
    """
    sizes = np.asarray(sizes)
    return [float(np.median(found) if len(found := column[column > 0]) else sizes.sum(1).max())
            for column in sizes.T]


# Overlaps per image and class ---------------------------------------------------------------------

class DiceLoss(nn.Module):
    """Soft Dice loss (Milletari et al. 2016): 1 - (2 sum s g + e) / (sum s + sum g + e).

    The mean over images and classes. A class absent from an image gives sum s / (sum s + e): 0 only
    if nothing at all is predicted, else about 1, with a gradient of e / (sum s)^2, almost none. So
    false positives there are hardly punished, as with Eq. 1.

    Args:
        classes: the classes in the mean; the foreground by default.
        squared: sum s^2 + sum g^2 in the denominator, as in Milletari's paper; MONAI and nnU-Net do
            not square.
        smooth: e.
        batch: 1: the sums run over the images of a batch together, and the mean over classes alone,
            as in nnU-Net's 2-D configuration. The pixels of an empty slice then count in the
            batch's overlap, with a gradient of 2 sum s g / (sum s + sum g)^2: false positives
            there are punished like any others. 0: each image on its own.
        softmax: take logits, and apply the softmax over axis 1 here.
    """

    def __init__(self, classes: Iterable[int] = (1,), squared: bool = False, smooth: float = SMOOTH,
                 batch: bool = False, softmax: bool = False) -> None:
        super().__init__()
        self.classes, self.squared = checked_classes(classes), checked_flag("squared", squared)
        self.smooth, self.batch = checked_number("smooth", smooth, 0), checked_flag("batch", batch)
        self.from_logits = checked_flag("softmax", softmax)

    def forward(self, probs: Tensor, target: Tensor) -> Tensor:
        """probs (B, K, *spatial) softmax; target (B, K, *spatial) one-hot, any dtype -> scalar."""
        with without_autocast("probs", probs):
            s, g, factor = pixels_by_class(probs, target, self.classes, self.from_logits)

            overlap = sum_pixels(s * g, self.batch)                             # (B or 1, k)
            of_s, of_g = (sum_pixels(x ** 2 if self.squared else x, self.batch) for x in (s, g))
            size = of_s + of_g + self.smooth                                    # (B or 1, k)
            loss = 1 - over(2 * overlap + self.smooth, size, self.smooth, 1)    # (B or 1, k)
            return loss.mean() * factor


def over(part: Tensor, size: Tensor, smooth: float, of_nothing: float) -> Tensor:
    """part / size; `of_nothing`, without a gradient, where size is 0, as only smooth = 0 lets it.
    """
    if smooth:
        return part / size
    return (part / size.where(size != 0, 1)).where(size != 0, of_nothing)


class TverskyLoss(nn.Module):
    """Tversky loss (Salehi et al. 2017): 1 - TI, TI = (TP + e) / (TP + alpha FP + beta FN + e).

    The mean over images and classes, with TP = sum s g, FP = sum s (1 - g), FN = sum (1 - s) g.
    alpha = beta = 0.5 is the soft Dice loss with e twice as large. A class absent from an image
    gives alpha sum s / (alpha sum s + e), with a gradient of about e / (alpha (sum s)^2), almost
    none; see DiceLoss.

    Args:
        classes: the classes in the mean; the foreground by default.
        alpha, beta: cost of false positives and of false negatives, 0 or more; 0.3 and 0.7 in the
            paper.
        smooth: e.
        batch, softmax: see DiceLoss.
    """

    def __init__(self, classes: Iterable[int] = (1,), alpha: float = 0.3, beta: float = 0.7,
                 smooth: float = SMOOTH, batch: bool = False, softmax: bool = False) -> None:
        super().__init__()
        self.classes, self.smooth = checked_classes(classes), checked_number("smooth", smooth, 0)
        self.alpha, self.beta = checked_number("alpha", alpha, 0), checked_number("beta", beta, 0)
        self.batch = checked_flag("batch", batch)
        self.from_logits = checked_flag("softmax", softmax)

    def forward(self, probs: Tensor, target: Tensor) -> Tensor:
        """probs (B, K, *spatial) softmax; target (B, K, *spatial) one-hot, any dtype -> scalar."""
        return self.shortfall(probs, target).mean()

    def shortfall(self, probs: Tensor, target: Tensor) -> Tensor:
        """1 - TI of each image, or of the batch, and of each class, (B or 1, k).

        Not computed as a difference, so that it is exactly 0 where nothing is wrong.
        """
        with without_autocast("probs", probs):
            s, g, factor = pixels_by_class(probs, target, self.classes, self.from_logits)

            false_positives = sum_pixels(s * (1 - g), self.batch)               # (B or 1, k)
            false_negatives = sum_pixels((1 - s) * g, self.batch)               # (B or 1, k)
            wrong = self.alpha * false_positives + self.beta * false_negatives
            size = sum_pixels(s * g, self.batch) + wrong + self.smooth
            return over(wrong, size, self.smooth, 0) * factor


class FocalTverskyLoss(TverskyLoss):
    """Focal Tversky loss (Abraham and Khan 2019): (1 - TI)^(1 / gamma).

    The mean over images and classes. They call the weight of false negatives alpha (0.7) and that
    of false positives beta; here the names are TverskyLoss's. With gamma > 1 images that are nearly
    right count more. A class absent from an image: the power of TverskyLoss's value there, about 1,
    and 1 / gamma of its gradient, almost none.

    Args:
        classes, alpha, beta, smooth, batch, softmax: see TverskyLoss.
        gamma: from 1 to 3 in the paper, best 4/3.
    """

    LEAST = 1e-7  # of 1 - TI: the power has no finite slope at 0

    def __init__(self, classes: Iterable[int] = (1,), alpha: float = 0.3, beta: float = 0.7,
                 gamma: float = 4 / 3, smooth: float = SMOOTH, batch: bool = False,
                 softmax: bool = False) -> None:
        super().__init__(classes, alpha, beta, smooth, batch, softmax)
        self.gamma = checked_number("gamma", gamma, 1e-3)

    def forward(self, probs: Tensor, target: Tensor) -> Tensor:
        """probs (B, K, *spatial) softmax; target (B, K, *spatial) one-hot, any dtype -> scalar."""
        with without_autocast("probs", probs):
            shortfall = self.shortfall(probs, target).clamp(min=self.LEAST)
            return (shortfall ** (1 / self.gamma)).mean()


class DiceCELoss(nn.Module):
    """Dice + cross-entropy with equal weights, as nnU-Net has it (Isensee et al. 2021).

    nnU-Net sums the Dice part over the images of a batch together in its 2-D configuration, and in
    its 3-D one at full resolution where there is a low-resolution one too: batch=1. Otherwise in
    3-D, each image has an overlap of its own: batch=0, the default here for 2-D as well. nnU-Net
    leaves out the constant 1 of the Dice part and adds the losses of lower resolutions.

    On an image without foreground the cross-entropy does all the work, and its gradient is the
    loss's; with batch=1 the Dice part helps.

    Args:
        classes: those of the Dice part; the foreground by default. The cross-entropy is over all.
        weights: see CrossEntropyLoss.
        smooth, batch: of the Dice part, see DiceLoss.
    """

    from_logits = True

    def __init__(self, classes: Iterable[int] = (1,), weights: Iterable[float] | None = None,
                 smooth: float = SMOOTH, batch: bool = False) -> None:
        super().__init__()
        self.dice = DiceLoss(classes, smooth=smooth, batch=batch, softmax=True)
        self.ce = CrossEntropyLoss(weights)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """logits (B, K, *spatial); target (B, K, *spatial) one-hot, any dtype -> scalar."""
        with without_autocast("logits", logits):
            logits = to_float32(logits)
            return self.dice(logits, target) + self.ce(logits, target)


# Distances ----------------------------------------------------------------------------------------

class HausdorffLoss(nn.Module):
    """Hausdorff distance loss by distance transforms (Karimi and Salcudean 2019), a = 2 as there.

    The mean of (s - g)^2 (d_S^a + d_G^a) over images, classes and pixels: the farther an error lies
    from both contours, the more it costs. d_G and d_S are unsigned distances in pixels to the
    contour of the ground truth and of the prediction, s > 0.5, inside and outside alike. As in
    MONAI's HausdorffDTLoss they are counted to the nearest pixel of the other side, so they are 1
    beside the contour. d_S carries no gradient.

    A mask that is empty or full has no contour, and d = 0: on an image without foreground the loss
    is s^2 d_S^a, and 0 without a gradient where no pixel exceeds 0.5.

    Cost: SciPy's exact distance transform of prediction and target in every step, on the CPU, for
    which a GPU waits; the boundary loss has its maps from preprocessing. Loss and gradient of
    8x256x256 take about 0.1 s on one core, some 25 times as long as Eq. 1's (`make bench
    BENCH=losses`); nothing else here takes more than 6 times as long.

    Args:
        classes: the classes in the mean; the foreground by default.
        power: a, above 0.
        softmax: take logits, and apply the softmax over axis 1 here.
    """

    def __init__(self, classes: Iterable[int] = (1,), power: float = 2.0,
                 softmax: bool = False) -> None:
        super().__init__()
        self.classes, self.power = checked_classes(classes), checked_number("power", power, 1e-3)
        self.from_logits = checked_flag("softmax", softmax)

    def forward(self, probs: Tensor, target: Tensor) -> Tensor:
        """probs (B, K, *spatial) softmax; target (B, K, *spatial) one-hot, any dtype -> scalar."""
        check_channels(probs, self.classes, self.from_logits)
        of_target = check_target(target, probs.shape)

        with without_autocast("probs", probs):
            s, factor = probabilities(probs, self.classes, self.from_logits)  # (B, k, *spatial)
            factor = factor * of_target
            g = select_classes(target, self.classes)                          # (B, k, *spatial)

            masks = (s.detach() > 0.5, g > 0.5)
            cost = sum(contour_distances(mask).to(s) ** self.power for mask in masks)
            return ((s - g.to(s.dtype)) ** 2 * cost).mean() * factor


def contour_distances(masks: Tensor) -> Tensor:
    """Distance of every pixel to the nearest one of the other side, in pixels; 0 if there is none.

    Args:
        masks: bool tensor (B, k, *spatial), on any device.

    Returns:
        float32 tensor of the same shape, on the CPU.
    """
    found = masks.cpu().numpy()
    distances = np.zeros(found.shape, np.float32)

    for index in np.ndindex(found.shape[:2]):
        mask = found[index]
        if mask.any() and not mask.all():
            distances[index] = distance_transform_edt(mask) + distance_transform_edt(~mask)

    return torch.from_numpy(distances)


# With maps of the labels --------------------------------------------------------------------------

class RegionWiseLoss(nn.Module):
    """Rectified region-wise loss (Valverde and Tohka 2023): the mean of s z over all elements.

    The map z_k is -d / max d inside class k, with the distance d to the nearest pixel outside, and
    1 elsewhere; the background has its map too. It has the form of the boundary loss, but false
    positives cost the same near and far, and false negatives at most as much. Its least value is
    that of the perfect prediction, below 0.

    On an image without foreground the background has no edge to measure from. Here z is then -1 for
    the background and 1 for the others, so each false positive is punished alike: the gradient is
    +1 on s_k and -1 on s_0, over the number of elements. (The paper does not say; in its authors'
    program SciPy's transform of a mask without a zero decides.)

    Args:
        classes: the classes in the mean; background and foreground.
        softmax: take logits, and apply the softmax over axis 1 here.
    """

    def __init__(self, classes: Iterable[int] = (0, 1), softmax: bool = False) -> None:
        super().__init__()
        self.classes = checked_classes(classes)
        self.from_logits = checked_flag("softmax", softmax)

    @staticmethod
    def make_maps(labels: ArrayLike, spacing: ArrayLike | None = None) -> NDArray[np.float32]:
        """Class numbers (H, W) or (D, H, W) -> what `forward` takes of an image, (1, *spatial)."""
        return depth_in_class(labels, spacing)[None]

    def forward(self, probs: Tensor, target: Tensor, depth: Tensor) -> Tensor:
        """The loss, a scalar.

        Args:
            probs, target: (B, K, *spatial) softmax and one-hot, any dtype.
            depth: (B, 1, *spatial), d / max d of each pixel's own class; 0 counts as 1.
        """
        with without_autocast("probs", probs):
            s, g, factor = pixels_by_class(probs, target, self.classes, self.from_logits)
            check_shape("depth", depth, (len(probs), 1, *probs.shape[2:]))

            depth = to_float32(depth).flatten(2)                    # (B, 1, N)
            maps = 1 - g * (1 + depth.where(depth != 0, 1))         # (B, k, N)
            return (s * maps).mean() * factor


class GeneralizedSurfaceLoss(nn.Module):
    """Generalized surface loss (Celaya et al. 2023), of each image, averaged over the batch:

        1 - sum_k w_k sum_p (D_k (1 - g_k - s_k))^2 / sum_k w_k sum_p D_k^2

    with the distance maps D of the ground truth. It is 0 for the perfect prediction and 1 for the
    opposite one; a pixel counts by the square of its distance to the boundary. The paper adds it to
    Dice + CE by a schedule like Eq. 6's. Here it takes Eq. 1's place: alone, or beside the boundary
    loss.

    A class without a boundary, because it is absent or fills the image, has no distances; its map
    of zeros is taken for one of the image's diagonal, in pixels, everywhere. So an image without
    foreground has the loss of two classes mean s (2 - s), with s of the foreground, and a gradient
    of 2 (1 - s) over the number of pixels: false positives are punished, the less the more certain
    they are. (That, and where the weights come from, we have not taken from the paper.)

    Args:
        classes: the classes in the sums; background and foreground.
        weights: w of each of the classes, 0 or more; None: 1 each. The paper fixes them beforehand;
            main.py takes the inverse frequencies of the training pixels.
        softmax: take logits, and apply the softmax over axis 1 here.
    """

    takes_distance = True
    weights: Tensor | None

    def __init__(self, classes: Iterable[int] = (0, 1), weights: Iterable[float] | None = None,
                 softmax: bool = False) -> None:
        super().__init__()
        self.classes = checked_classes(classes)
        self.register_buffer("weights", checked_weights(weights), persistent=False)
        if self.weights is not None:
            check_one_per_class(self.weights, len(self.classes))
        self.from_logits = checked_flag("softmax", softmax)

    def forward(self, probs: Tensor, target: Tensor, distance: Tensor) -> Tensor:
        """The loss, a scalar.

        Args:
            probs, target: (B, K, *spatial) softmax and one-hot, any dtype.
            distance: (B, len(classes), *spatial), the maps phi_G in pixels or mm, of either sign.
        """
        with without_autocast("probs", probs):
            s, g, factor = pixels_by_class(probs, target, self.classes, self.from_logits)
            check_maps(distance, probs, self.classes)

            squares = to_float32(distance).flatten(2) ** 2                      # (B, k, N)
            diagonal = sum(size ** 2 for size in probs.shape[2:])
            has_none = squares.amax(2, keepdim=True) == 0                       # (B, k, 1)
            squares = squares.masked_fill(has_none, diagonal)

            # 1 - (1 - g - s)^2, without a difference of nearly equal numbers.
            wrong = (squares * (g + s) * (2 - g - s)).sum(2)                    # (B, k)
            return (self.sum_classes(wrong) / self.sum_classes(squares.sum(2))).mean() * factor

    def sum_classes(self, values: Tensor) -> Tensor:
        """Weighted sum over the classes of (B, k): (B,)."""
        return (values if self.weights is None else values * self.weights.to(values)).sum(1)


class ComponentDiceCELoss(nn.Module):
    """CC-DiceCE (Bouteille et al. 2025): Dice + cross-entropy of each lesion, averaged over them.

    An image is divided into the Voronoi regions of the lesions, which are the connected components
    of a class in the ground truth, and Dice and cross-entropy are computed within each. So a small
    lesion counts as much as a large one, and a false positive counts for the lesion next to it. The
    mean is over the lesions of a class in an image, then over classes, which have regions of their
    own, and images.

    An image without a lesion of the class is one region: there it is Dice + cross-entropy of the
    whole image, as DiceCELoss, whose cross-entropy punishes false positives. (The paper trains on
    single-class volumes in nnU-Net; what it does beyond the mean over components is not here.)

    On a GPU sums over regions are in no fixed order unless torch.use_deterministic_algorithms.

    Args:
        classes: those of the Dice part, with regions of their own; the foreground by default. The
            cross-entropy is over all.
        smooth: of the Dice part, see DiceLoss.
    """

    from_logits = True

    def __init__(self, classes: Iterable[int] = (1,), smooth: float = SMOOTH) -> None:
        super().__init__()
        self.classes, self.smooth = checked_classes(classes), checked_number("smooth", smooth, 0)

    def make_maps(self, labels: ArrayLike,
                  spacing: ArrayLike | None = None) -> NDArray[np.int32]:
        """Class numbers (H, W) or (D, H, W) -> what `forward` takes of an image, (k, *spatial)."""
        labels = class_numbers(labels)
        return np.stack([nearest_component(labels == k, spacing) for k in self.classes])

    def forward(self, logits: Tensor, target: Tensor, regions: Tensor) -> Tensor:
        """The loss, a scalar.

        Args:
            logits, target: (B, K, *spatial) logits and one-hot, any dtype.
            regions: (B, len(classes), *spatial), the number of the region that a pixel lies in, at
                most the number of pixels. Pixels of 0 are left out where there are others.
        """
        with without_autocast("logits", logits):
            log_s, g = log_probabilities(logits, target)                        # (B, K, N)
            check_channels(logits, self.classes, logits=True)
            check_shape("regions", regions, (len(g), len(self.classes), *logits.shape[2:]))
            numbers = regions.flatten(2).long()                                 # (B, k, N)

            cost = -log_of_truth(log_s, g)[:, None].expand(numbers.shape)       # (B, k, N)
            s, g = (select_classes(values, self.classes) for values in (log_s.exp(), g))

            overlap, size, cost, pixels = (                                     # (B, k, N + 1)
                sum_regions(values, numbers)
                for values in (s * g, s + g, cost, torch.ones_like(s)))
            dice = 1 - (2 * overlap + self.smooth) / (size + self.smooth)
            loss = dice + cost / pixels.clamp(min=1)
            return mean_of_regions(loss, pixels > 0).mean()


def sum_regions(values: Tensor, numbers: Tensor) -> Tensor:
    """Sums of (B, k, N) over the pixels of each number in (B, k, N): (B, k, N + 1)."""
    batch, classes, pixels = values.shape
    sums = values.new_zeros(batch, classes, pixels + 1)
    return sums.scatter_add(2, numbers, values)


def mean_of_regions(values: Tensor, there: Tensor) -> Tensor:
    """The mean of (B, k, regions) over those that are there, a bool of that shape: (B, k).

    Region 0 counts if there is no other.
    """
    first = there[..., :1] & ~there[..., 1:].any(2, keepdim=True)
    there = torch.cat([first, there[..., 1:]], 2)
    return values.where(there, 0).sum(2) / there.sum(2)


# Names and options --------------------------------------------------------------------------------

# name -> (module, the first of its classes; None: a loss of all classes)
REGIONAL_LOSSES = {
    "gdl": (GeneralizedDiceLoss, 0),
    "ce": (CrossEntropyLoss, None),
    "wce": (CrossEntropyLoss, None),
    "focal": (FocalLoss, None),
    "dice": (DiceLoss, 1),
    "dice+ce": (DiceCELoss, 1),
    "tversky": (TverskyLoss, 1),
    "focal_tversky": (FocalTverskyLoss, 1),
    "hausdorff": (HausdorffLoss, 1),
    "rwl": (RegionWiseLoss, 0),
    "gsl": (GeneralizedSurfaceLoss, 0),
    "cc_dice_ce": (ComponentDiceCELoss, 1),
}
SET_ELSEWHERE = {"classes", "max_weight", "softmax"}  # by build_loss, and by what JointLoss gives


def build_loss(name: str, classes: int = 2, gdl_max_weight: float | None = None,
               options: Mapping[str, Any] | None = None,
               boundary_classes: Sequence[int] | None = None) -> JointLoss:
    """The training loss by its command-line name: "gdl", "boundary", "gdl+boundary", "ce", ...

    Args:
        name: a regional loss, "boundary", or both joined by "+".
        classes: number of classes K including background.
        gdl_max_weight: of "gdl", see GeneralizedDiceLoss.
        options: keyword arguments of the regional loss, e.g. {"gamma": 1.0}; "wce" needs
            {"weights": [...]}.
        boundary_classes: those of the boundary part; None: all of the foreground, 1 to K-1. With 0,
            the background, its map is needed too (JointLoss.needs_background).

    Returns:
        losses.JointLoss.

    Raises:
        ValueError: the name or an option is unknown, or an option makes no sense.
    """
    regional, has_boundary = parts_of(name)
    boundary_classes = checked_boundary_classes(boundary_classes, classes, name)
    options = checked_options(name, options, classes)
    if gdl_max_weight is not None and regional != "gdl":
        raise ValueError(f"gdl_max_weight: expected a loss with gdl, found {name!r}")
    if regional == "wce" and options.get("weights") is None:
        raise ValueError(f"weights: expected {classes} of them for wce, found none")

    regional_loss = None
    if regional:
        module, first = REGIONAL_LOSSES[regional]
        if regional == "gdl":
            options["max_weight"] = gdl_max_weight
        if first is not None:
            options["classes"] = range(first, classes)
        regional_loss = module(**options)

    boundary_loss = BoundaryLoss(boundary_classes) if has_boundary else None
    return JointLoss(regional_loss, boundary_loss, term_name(regional))


def parts_of(name: str) -> tuple[str | None, bool]:
    """(name of the regional loss or None, is there a boundary part?) of a loss's command-line name.

    Raises:
        ValueError: it is neither a regional loss, nor "boundary", nor both joined by "+".
    """
    parts = name.split("+")
    has_boundary = "boundary" in parts
    if has_boundary:
        parts.remove("boundary")

    regional = "+".join(parts) if parts else None
    if regional not in (*REGIONAL_LOSSES, None):
        raise ValueError(
            f"loss: expected one of {', '.join(REGIONAL_LOSSES)}, boundary, or one of the first "
            f"{len(REGIONAL_LOSSES)} with +boundary, found {name!r}")
    return regional, has_boundary


def term_name(regional: str | None) -> str:
    """A regional loss's name among the terms and in metrics.csv: dice+ce -> dice_ce."""
    return (regional or "gdl").replace("+", "_")


def checked_options(name: str, options: Mapping[str, Any] | None,
                    classes: int | None = None) -> dict[str, Any]:
    """The options of a loss's regional part, as a dict of their own.

    Raises:
        ValueError: one of them is unknown, or there is not one weight per class.
    """
    options, regional = dict(options or {}), parts_of(name)[0]

    known = set()
    if regional:
        known = set(signature(REGIONAL_LOSSES[regional][0]).parameters) - SET_ELSEWHERE
    if unknown := set(options) - known:
        raise ValueError(f"loss-options: expected {', '.join(sorted(known)) or 'none'} for {name}, "
                         f"found {', '.join(sorted(unknown))}")

    if classes and options.get("weights") is not None:
        check_one_per_class(options["weights"], classes)
    return options


def checked_boundary_classes(chosen: Sequence[int] | None, classes: int, name: str) -> list[int]:
    """The classes of the boundary part: those chosen, or all of the foreground.

    Raises:
        ValueError: they are not different classes, or the loss has no boundary part.
    """
    if chosen is None:
        return list(range(1, classes))
    chosen = list(chosen)

    if not parts_of(name)[1]:
        expected = f"none for {name}, which has no boundary part"
    elif not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(range(classes)):
        expected = f"different ones of 0 to {classes - 1}"
    else:
        return chosen
    raise ValueError(f"boundary-classes: expected {expected}, "
                     f"found {', '.join(map(str, chosen)) or 'none'}")


def checked_number(name: str, value: float, least: float) -> float:
    """The number; ValueError unless it is finite and at least `least`."""
    if not isinstance(value, Real) or not least <= value < float("inf"):
        raise ValueError(f"{name}: expected a number of at least {least:g}, found {value}")
    return value


def check_one_per_class(weights: Sized, classes: int) -> None:
    """ValueError unless there are as many weights as classes."""
    count = len(weights) if hasattr(weights, "__len__") else repr(weights)
    if count != classes:
        raise ValueError(f"weights: expected {classes} of them, one per class, found {count}")


def checked_weights(weights: Iterable[float] | None) -> Tensor | None:
    """Class weights (K,) float32, or None; ValueError unless finite, not negative, not all 0."""
    if weights is None:
        return None

    try:
        numbers = [float(value) for value in weights]
    except (TypeError, ValueError):
        raise ValueError(f"weights: expected a list of numbers, found {weights!r}") from None
    found = [checked_number("weights", value, 0) for value in numbers]
    if not any(found):
        raise ValueError("weights: expected one above 0, found none")
    return torch.tensor(found, dtype=torch.float32)  # Apple's GPUs have no float64
