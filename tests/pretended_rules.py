"""What CUDA asks of an operation: torch's own rules, and four that torch keeps in its kernels.

Each operation is done on FakeTensors of the same shapes, strides, types and devices, which hold no
values; torch's own device rules and shape functions judge it. One verdict serves all operations of
the same signature.
"""

from typing import NamedTuple

import torch
from torch._subclasses import fake_tensor
from torch.utils._python_dispatch import _disable_current_modes

CUDA, CPU, PINNED = "cuda:0", "cpu", "pinned"  # places; PINNED: page-locked, on the host
NOT_KNOWN = object()  # results of which there is no shape before they are there

aten = torch.ops.aten
WHOLE = {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
HALF = {torch.float16, torch.bfloat16}

# Types that the CPU computes and CUDA has no kernel for: `dtypes - dtypesIfCUDA` of the operators
# in torch.testing._internal.common_methods_invocations (torch 2.14).
NO_KERNEL = {
    **dict.fromkeys(
        (aten.mm, aten.addmm, aten.bmm, aten.baddbmm, aten.addbmm, aten.mv, aten.addmv, aten.dot,
         aten.vdot, aten.convolution, aten.max_pool2d_with_indices,
         aten.max_pool3d_with_indices, aten.avg_pool2d, aten.avg_pool3d), WHOLE),
    **dict.fromkeys(
        (aten.upsample_nearest2d, aten.upsample_bilinear2d, aten.upsample_bicubic2d,
         aten._upsample_bilinear2d_aa), {torch.uint8}),
    **dict.fromkeys((aten.igamma, aten.igammac, aten.histc), HALF),
}
FUSED = {aten._fused_adam_, aten._fused_adamw_}
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
COPIES = {aten._to_copy, aten.copy_}

# Operations that only reserve memory.
FREE = {aten.empty, aten.empty_like, aten.empty_strided, aten.new_empty, aten.new_empty_strided,
        aten.detach, aten._unsafe_view, aten.lift_fresh, aten.set_}


VERDICTS = {}  # signature of an operation: its Verdict


class Verdict(NamedTuple):
    places: list     # where each tensor among the results lies; one for all if NOT_KNOWN
    waits: bool      # does the host wait for the device?
    launch: bool     # does the device get something to do?
    results: object  # what `fill` makes results of, or NOT_KNOWN


class Judge:
    """Judges operations and remembers the verdicts.

    Args:
        place_of: function of a tensor, where it lies.
    """

    def __init__(self, place_of):
        self.place_of = place_of
        self.fakes = Fakes(allow_non_fake_inputs=False, allow_fallback_kernels=False)
        self.fakes.cache_enabled = False  # there is VERDICTS

    def verdict(self, func, args, kwargs):
        """The Verdict on func(*args, **kwargs).

        `device` among kwargs is a place.

        Raises:
            RuntimeError: CUDA would refuse the operation.
        """
        key = func, self.signature(args), self.signature(kwargs)
        if key not in VERDICTS:
            VERDICTS[key] = self.judge(func, args, kwargs)
        return VERDICTS[key]

    def signature(self, value):
        """What a verdict depends on: everything about an argument but the numbers in a tensor."""
        if isinstance(value, torch.Tensor):
            return (value.shape, value.stride() if value.layout == torch.strided else None,
                    value.dtype, self.place_of(value), value.device.type)
        if isinstance(value, list | tuple):
            return tuple(map(self.signature, value))
        if isinstance(value, dict):
            return tuple((name, self.signature(each)) for name, each in value.items())
        return type(value), value

    def judge(self, func, args, kwargs):
        given = tensors_in((args, kwargs))
        places = {self.place_of(tensor) for tensor in given}
        packet = func.overloadpacket
        if CUDA in places:
            refuse_without_kernel(packet, given, self.place_of)
        if packet in FUSED:
            refuse_unlike_lists(args[:4], self.place_of)

        with _disable_current_modes(), self.fakes:
            args_, kwargs_ = self.fake(args), self.fake(kwargs)
            form, found, depends = NOT_KNOWN, None, False
            try:
                results = func(*args_, **kwargs_)
                found = [str(result.device) for result in tensors_in(results)]
                form = form_of(results, tensors_in((args_, kwargs_)))
            except (fake_tensor.DataDependentOutputException,
                    fake_tensor.DynamicOutputShapeException):
                depends = True  # on values, which the host must see before it goes on
            except fake_tensor.UnsupportedOperatorException:
                pass

        on_device = CUDA in places or CUDA in (found or [])
        waits = on_device and (depends or copy_waits(packet, args, kwargs, found, self.place_of)
                               or index_waits(packet, args, self.place_of))
        launch = on_device and not func.is_view and packet not in FREE
        if found is None:
            found = [CUDA if on_device else CPU]
        return Verdict(found, waits, launch, form)

    def fake(self, value):
        """The argument with a FakeTensor in the place of each tensor."""
        if isinstance(value, torch.Tensor):
            place = CUDA if self.place_of(value) == CUDA else value.device.type
            return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=place)
        if isinstance(value, list | tuple):
            return type(value)(map(self.fake, value))
        if isinstance(value, dict):
            return {name: self.fake(each) for name, each in value.items()}
        return value


class Fakes(fake_tensor.FakeTensorMode):
    """Never looks for a real device, though torch.cuda.is_available() says that there is one."""

    avoid_device_init = True


def form_of(results, given):
    """Results with, in the place of each tensor, its shape, strides and type; see `fill`.

    It is the number of an argument where the operation returns that.
    """
    if isinstance(results, torch.Tensor):
        for number, tensor in enumerate(given):
            if tensor is results:
                return number
        return results.shape, results.stride(), results.dtype
    if isinstance(results, list | tuple):
        return [form_of(each, given) for each in results]
    return None


def fill(form, given, make):
    """The results that `form_of` describes; `make` is torch.empty or torch.zeros."""
    if isinstance(form, int):
        return given[form]
    if isinstance(form, tuple):
        shape, strides, dtype = form
        order = sorted(range(len(shape)), key=lambda axis: (strides[axis], shape[axis]))[::-1]
        whole = make([shape[axis] for axis in order], dtype=dtype)
        return whole.permute([order.index(axis) for axis in range(len(shape))])
    if isinstance(form, list):
        return tuple(fill(each, given, make) for each in form)
    return None


def tensors_in(value):
    """The tensors in nested lists, tuples and dicts."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return []
    return [tensor for each in value for tensor in tensors_in(each)]


# Rules that torch keeps in its kernels ------------------------------------------------------------

def refuse_without_kernel(packet, given, place_of):
    """NotImplementedError, as CUDA raises it, for a type that only the CPU computes."""
    for tensor in given:
        if place_of(tensor) == CUDA and tensor.dtype in NO_KERNEL.get(packet, ()):
            raise NotImplementedError(
                f'"{packet.__name__}_cuda" not implemented for {tensor.dtype} (pretended)')


def refuse_unlike_lists(lists, place_of):
    """RuntimeError, as from the fused Adam, unless its lists of tensors are alike.

    That is in shape, dtype, device and strides; those of an axis of length 1 do not matter. The
    fused kernel reads the lists in the order in which they lie in memory.
    """
    def described(tensor):
        strides = [step for step, size in zip(tensor.stride(), tensor.shape, strict=True)
                   if size > 1]
        return tensor.shape, strides, tensor.dtype, place_of(tensor)

    first, *others = ([described(tensor) for tensor in tensors] for tensors in lists)
    if CUDA in {place for *_, place in first} and any(other != first for other in others):
        raise RuntimeError("params, grads, exp_avgs, and exp_avg_sqs must have same dtype, device, "
                           "and layout (pretended)")


def copy_waits(packet, args, kwargs, found, place_of):
    """Does the host wait for this copy between host and device?

    It does not if the copy may be late (non_blocking) and the host's side is page-locked.
    """
    if packet not in COPIES:
        return False
    source = place_of(args[1] if packet is aten.copy_ else args[0])
    target = place_of(args[0]) if packet is aten.copy_ else found[0]
    if (source == CUDA) == (target == CUDA) or "meta" in (source, target):
        return False

    late = kwargs.get("non_blocking", packet is aten.copy_ and len(args) > 2 and args[2])
    return not late or PINNED not in (source, target)


def index_waits(packet, args, place_of):
    """Does the host wait to count a mask's pixels, or to copy the indices to the device?

    Not where one value is written into a mask, which is masked_fill.
    """
    if packet not in INDEXING or place_of(args[0]) != CUDA:
        return False
    indices = [index for index in args[1] if index is not None]
    masks = any(index.dtype in (torch.bool, torch.uint8) for index in indices)
    one_value = packet is not aten.index and args[2].numel() == 1
    return (masks and not one_value) or any(place_of(index) != CUDA for index in indices)
