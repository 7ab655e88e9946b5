"""Distance maps on the fly, and augmentation that moves image, label and map together.

    from torchvision.transforms import v2
    augment = Augment([v2.RandomHorizontalFlip(), RandomRotate90(), v2.RandomAffine(10)])
    image, label, distance = augment(image, label)    # in a Dataset's __getitem__

A flip or a rotation by 90 degrees moves phi_G as it moves the label: the moved map is the map of
the moved label. Any other change of the label (small rotations, scaling, crops, deformations) does
not, so the map is computed again.
"""

import numpy as np
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from distance import signed_distance


class DistanceMap(tv_tensors.TVTensor):
    """phi_G as a tensor (K - 1, *spatial) float32 that flips and RandomRotate90 move.

    Other transforms leave it alone.
    """


@functional.register_kernel(functional.horizontal_flip, DistanceMap)
def _flip_columns(distance, *_, **__):
    return tv_tensors.wrap(distance.as_subclass(torch.Tensor).flip(-1), like=distance)


@functional.register_kernel(functional.vertical_flip, DistanceMap)
def _flip_rows(distance, *_, **__):
    return tv_tensors.wrap(distance.as_subclass(torch.Tensor).flip(-2), like=distance)


class RandomRotate90(v2.Transform):
    """Rotate by 0, 90, 180 or 270 degrees with equal probability: no pixel is interpolated.

    Images that are not square change shape.
    """

    def make_params(self, flat_inputs):
        return {"turns": int(torch.randint(4, ()))}

    def transform(self, inpt, params):  # torchvision's names
        if not isinstance(inpt, tv_tensors.Image | tv_tensors.Mask | DistanceMap):
            return inpt
        rotated = inpt.as_subclass(torch.Tensor).rot90(params["turns"], (-2, -1))
        return tv_tensors.wrap(rotated, like=inpt)


MOVES_THE_MAP = (v2.RandomHorizontalFlip, v2.RandomVerticalFlip, RandomRotate90)


def distance_map(label, classes=2, spacing=None, convention="paper"):
    """phi_G of every foreground class of a label.

    Args:
        label: whole numbers (H, W) or (D, H, W), tensor or array, on any device.
        classes: number of classes K including background.
        spacing: size of a pixel along each axis in mm; None: the map is in pixels, as in the paper.
        convention: see `distance.signed_distance`.

    Returns:
        DistanceMap (K - 1, *spatial) float32 on the CPU; BoundaryLoss takes a batch of them.

    Raises:
        ValueError: the label is not 2-D or 3-D, or `spacing` does not fit it.
    """
    values = np.asarray(label.detach().cpu() if isinstance(label, torch.Tensor) else label)
    maps = [signed_distance(values == k, spacing, convention) for k in range(1, classes)]
    return DistanceMap(torch.from_numpy(np.stack(maps)))


class AddDistance:
    """A dictionary transform in MONAI's manner: adds phi_G of a label under another key.

    Args:
        key: of the label, (H, W) or (D, H, W), with a channel axis of length 1 in front if
            `channel`.
        out: key of the map, (K - 1, *spatial) float32.
        channel: does the label have a channel axis, as MONAI's loaders give it?
        classes, spacing, convention: see `distance_map`.
    """

    def __init__(self, key="label", out="distance", channel=True,
                 classes=2, spacing=None, convention="paper"):
        self.key, self.out, self.channel = key, out, channel
        self.options = {"classes": classes, "spacing": spacing, "convention": convention}

    def __call__(self, sample):
        label = sample[self.key]
        distance = distance_map(label[0] if self.channel else label, **self.options)
        return {**sample, self.out: distance.as_subclass(torch.Tensor)}


class Augment:
    """Apply torchvision v2 transforms to an image, its label and its distance map at once.

    Args:
        transforms: a list of v2 transforms. Flips and RandomRotate90 move the map; after any other
            that changed the label it is computed again from the label, as the map of a 2-D slice.
            The map of a volume (`--map-dims 3`) does not follow from the label of one slice: give
            flips and RandomRotate90 only.
        classes, spacing, convention: of the map that is computed, see `distance_map`.

    Raises:
        ValueError: pixels that are not square are to be rotated by 90 degrees and the map computed
            again: the axes of `spacing` would no longer be those of the image.
    """

    def __init__(self, transforms, classes=2, spacing=None, convention="paper"):
        rotates = any(isinstance(transform, RandomRotate90) for transform in transforms)
        recomputes = not all(isinstance(transform, MOVES_THE_MAP) for transform in transforms)
        if spacing is not None and len(set(spacing)) > 1 and rotates and recomputes:
            raise ValueError(
                f"spacing: expected one pixel size with RandomRotate90, found {spacing}")

        self.transforms = list(transforms)
        self.options = {"classes": classes, "spacing": spacing, "convention": convention}

    def __call__(self, image, label, distance=None):
        """The three as plain tensors, transformed.

        Args:
            image: (C, H, W).
            label: (H, W).
            distance: (K - 1, H, W), or None: computed from the label.
        """
        image, label = tv_tensors.Image(image), tv_tensors.Mask(label)
        if distance is None:
            distance = distance_map(label, **self.options)
        distance = DistanceMap(distance)

        for transform in self.transforms:
            before = label
            image, label, distance = transform(image, label, distance)

            unchanged = label.shape == before.shape and torch.equal(label, before)
            if not isinstance(transform, MOVES_THE_MAP) and not unchanged:
                distance = distance_map(label, **self.options)

        return tuple(part.as_subclass(torch.Tensor) for part in (image, label, distance))
