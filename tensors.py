"""What every loss does with its tensors first: compare shapes, choose channels, leave half precision."""

import torch


def check_shape(name, tensor, shape):
    """ValueError, naming the argument, unless the tensor has this shape."""
    if tuple(tensor.shape) != tuple(shape):
        raise ValueError(f"{name}: expected shape {tuple(shape)}, found {tuple(tensor.shape)}")


def precise(tensor):
    """A half-precision tensor as float32, whose gradient stays finite on the way back; others as they are."""
    if tensor.dtype not in (torch.float16, torch.bfloat16):
        return tensor
    exact, limit = tensor.float(), torch.finfo(tensor.dtype).max / 4
    if exact.requires_grad:  # an absent class weighs 1e20 in the GDL: its gradient overflows float16
        exact.register_hook(lambda gradient: gradient.clamp(-limit, limit))
    return exact


def select(tensor, classes):
    """The channels `classes` of (B, K, *spatial); a view where they are neighbours, whose gradient needs no scatter."""
    first = classes[0]
    if classes == list(range(first, first + len(classes))) and 0 <= first <= tensor.shape[1] - len(classes):
        return tensor[:, first:first + len(classes)]
    return tensor[:, classes]
