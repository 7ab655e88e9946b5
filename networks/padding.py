"""Images of any size for networks that halve the resolution several times."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Zero-pad (B, C, *spatial) at the end of each spatial axis to the next multiple."""
    shortage = [-size % multiple for size in images.shape[2:]]
    if not any(shortage):
        return images
    return functional.pad(images, [side for missing in reversed(shortage) for side in (0, missing)])


def crop_to(logits: Tensor, spatial: Sequence[int]) -> Tensor:
    """Undo `pad_to_multiple`: the first `spatial` elements of each spatial axis."""
    box: tuple[Any, ...] = (..., *(slice(size) for size in spatial))
    return logits[box]
