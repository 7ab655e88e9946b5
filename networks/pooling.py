"""Max-pooling in 3-D and unpooling in 2-D whose gradients on CUDA are the same in every run.

torch's MaxPool3d and MaxUnpool2d have no deterministic form there, so --deterministic would refuse
the networks that need them. Values and gradients are theirs, down to the choice of the first of
several equal voxels.
"""

from torch import Tensor, nn
from torch.nn import functional


class MaxPool3d(nn.Module):
    """Maximum of 2x2x2 voxels: over 2x2 in plane, then over two slices."""

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, D, H, W), sides even -> (B, C, D/2, H/2, W/2)."""
        batch, _, depth, _, _ = x.shape
        planes = functional.max_pool2d(x.movedim(2, 1).flatten(0, 1), 2)    # (B D, C, H/2, W/2)
        x = planes.unflatten(0, (batch, depth)).movedim(1, 2)               # (B, C, D, H/2, W/2)
        return functional.max_pool2d(x.flatten(3), (2, 1)).unflatten(3, x.shape[3:])


def max_unpool2d(x: Tensor, indices: Tensor) -> Tensor:
    """Each value back where it was the maximum of 2x2 pixels, zeros elsewhere.

    Args:
        x: (B, C, H, W).
        indices: (B, C, H, W), from functional.max_pool2d(..., 2, return_indices=True).

    Returns:
        (B, C, 2H, 2W).
    """
    height, width = x.shape[2:]
    whole = x.new_zeros(*x.shape[:2], 4 * height * width)
    whole = whole.scatter(2, indices.flatten(2), x.flatten(2))
    return whole.unflatten(2, (2 * height, 2 * width))
