"""The losses of the paper: Eq. 1 (generalized Dice), Eq. 5 (boundary) and Eq. 6 (both).

They take softmax probabilities (B, K, *spatial), 2-D or 3-D, and return a scalar. Half precision is
computed in float32, also under autocast: a sum over a 256x256 image overflows float16.

This file needs torch and nothing else, so it can be copied into another project as it is. The
losses that may take Eq. 1's place, and `build_loss`, are in losses_regional.py.
"""

import torch
from torch import nn

EPSILON = 1e-10  # added to the size of a class: one without a pixel gets the weight 1e20 in Eq. 1


class GeneralizedDiceLoss(nn.Module):
    """Generalized Dice loss, Eq. 1 (Sudre et al. 2017), of each image, averaged over the batch:

        1 - 2 * sum_k w_k sum_p g s / sum_k w_k sum_p (g + s),    w_k = 1 / (sum_p g)^2

    with probabilities s, one-hot ground truth g, classes k and pixels p.

    Args:
        classes: the classes k in the sums; the paper's are background and foreground, (0, 1).
        max_weight: upper bound of w_k. None is the paper's loss: a class absent from an image has
            the weight 1e20, which makes the loss 1 without a gradient, so that false positives on
            empty slices are not punished. With max_weight=1 an absent class counts as if it had
            a single pixel, and they are.

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
            s = to_float32(select_classes(probs, self.classes).flatten(2))      # (B, k, N)
            g = select_classes(target, self.classes).flatten(2).to(s.dtype)     # (B, k, N)

            size = g.sum(2)                                                     # (B, k)
            weight = 1 / (size + EPSILON) ** 2                                  # (B, k)
            if self.max_weight is not None:
                weight = weight.clamp(max=self.max_weight)

            overlap = (weight * (g * s).sum(2)).sum(1)                          # (B,)
            total = (weight * (size + s.sum(2))).sum(1)                         # (B,)
            loss = 1 - 2 * (overlap + EPSILON) / (total + EPSILON)              # (B,)

            # An image without a pixel of these classes, where none is predicted, is perfect.
            return loss.where(total > 0, 0).mean()


class BoundaryLoss(nn.Module):
    """Boundary loss, Eq. 5: the integral of phi_G * s, as a mean over batch, classes and pixels.

    It is negative when most of the probability lies inside G. Its minimum for an image is the sum
    of phi_G over G divided by the number of pixels, reached by the perfect prediction (Eq. 4).

    Args:
        classes: the foreground classes whose maps are given, in the order of the maps.

    Raises:
        ValueError: the maps do not fit the probabilities.
    """

    def __init__(self, classes=(1,)):
        super().__init__()
        self.classes = list(classes)

    def forward(self, probs, distance):
        """The loss, a scalar.

        Args:
            probs: (B, K, *spatial) softmax.
            distance: (B, len(classes), *spatial), the maps phi_G in pixels or mm.
        """
        expected = (probs.shape[0], len(self.classes), *probs.shape[2:])
        check_shape("distance", distance, expected)

        with torch.autocast(probs.device.type, enabled=False):
            s, phi = to_float32(select_classes(probs, self.classes)), to_float32(distance)
            return (s * phi).mean()


class JointLoss(nn.Module):
    """Eq. 6: alpha * L_regional + beta * L_B, with beta = 1 - alpha in the paper.

    Either part may be absent; the other one then is the loss, with weight 1.

    Args:
        regional: a loss of (probs, target), or of (logits, target) if its attribute `from_logits`
            is true; or None.
        boundary: a BoundaryLoss, or None. It is given the maps of its own classes.
        name: the key of the regional loss among the parts.
    """

    def __init__(self, regional=None, boundary=None, name="gdl"):
        super().__init__()
        self.regional, self.boundary, self.name = regional, boundary, name

    def forward(self, probs, target, distance=None, weights=(1.0, 1.0), logits=None):
        """(loss, {name of a part: its value, unweighted and detached}).

        Args:
            weights: (alpha, beta); without effect where there is only one part.
            probs, target, distance, logits: see `parts`.
        """
        parts = self.parts(probs, target, distance, logits)

        if len(parts) == 1:
            loss, = parts.values()
        else:
            (alpha, beta), (regional, boundary) = weights, parts.values()
            loss = alpha * regional + beta * boundary

        return loss, {name: value.detach() for name, value in parts.items()}

    def parts(self, probs, target, distance=None, logits=None):
        """The terms of Eq. 6 that there are, {name: scalar}: the regional one, then "boundary".

        Args:
            probs, target: (B, K, *spatial) softmax and one-hot.
            distance: (B, K - 1, *spatial), the maps phi_G of all foreground classes; only needed
                with a boundary part.
            logits: (B, K, *spatial), of which probs are the softmax; only needed by a regional
                loss of logits.
        """
        parts = {}

        if self.regional is not None:
            from_logits = getattr(self.regional, "from_logits", False)
            if from_logits and logits is None:
                raise ValueError(f"logits: expected those of the network for the loss {self.name}, "
                                 "found None")
            parts[self.name] = self.regional(logits if from_logits else probs, target)

        if self.boundary is not None:
            if distance is None:
                raise ValueError("distance: expected the maps phi_G of the boundary loss, "
                                 "found None")
            phi = select_classes(distance, [k - 1 for k in self.boundary.classes])
            parts["boundary"] = self.boundary(probs, phi)

        return parts


def build_loss(name, *args, **options):
    """The training loss by its command-line name; see `losses_regional.build_loss`."""
    from losses_regional import build_loss as build  # here: that file imports this one
    return build(name, *args, **options)


# What every loss does first -----------------------------------------------------------------------

def check_shape(name, tensor, shape):
    """ValueError, naming the argument, unless the tensor has this shape."""
    if tuple(tensor.shape) != tuple(shape):
        raise ValueError(f"{name}: expected shape {tuple(shape)}, found {tuple(tensor.shape)}")


def to_float32(tensor):
    """Half precision as float32, with a gradient that stays finite on its way back; else as is."""
    if tensor.dtype not in (torch.float16, torch.bfloat16):
        return tensor

    full, limit = tensor.float(), torch.finfo(tensor.dtype).max / 4
    if full.requires_grad:  # an absent class weighs 1e20 in Eq. 1: its gradient overflows float16
        full.register_hook(lambda gradient: gradient.clamp(-limit, limit))
    return full


def select_classes(tensor, classes):
    """The channels `classes`, a list, of (B, K, *spatial).

    Neighbouring ones come as a view, the gradient of which needs no scatter. A list as an index
    would be copied to the GPU, for which the CPU waits.
    """
    first, count = classes[0], len(classes)
    if classes == list(range(first, first + count)) and 0 <= first <= tensor.shape[1] - count:
        return tensor[:, first:first + count]
    return torch.stack([tensor[:, k] for k in classes], dim=1)
