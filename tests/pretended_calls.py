"""What calls and operations of torch do on the pretended device; see pretended_cuda."""

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from pretended_rules import CPU, CUDA, PINNED

NAMED = torch.Tensor  # its methods are looked up here, before anything is patched
READS = {NAMED.numpy, NAMED.__array__, NAMED.__dlpack__}
COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd


class Calls(TorchFunctionMode):
    """Takes over what a call from Python says about devices."""

    def __init__(self, device):
        super().__init__()
        self.device = device

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func.__name__ in ("__get__", "__set__"):
            return func(*args, **kwargs)
        if func in METHODS:
            return METHODS[func](self.device, *args, **kwargs)
        if func in READS:
            return read(self.device, func, *args, **kwargs)
        if func is NAMED.new_tensor:
            kwargs = {"device": args[0].device, **kwargs}
        if func is NAMED.register_hook:
            return func(args[0], lambda gradient: self.run(args[1], gradient))
        return self.call(func, args, kwargs)

    def call(self, func, args, kwargs):
        """The call, with tensors made where it says, or else where its arguments lie."""
        device, asked = self.device, kwargs.get("device")
        if asked is None:
            with device.making(lambda: CUDA if device.has(args, kwargs) else CPU):
                return func(*args, **kwargs)

        place = CUDA if is_cuda(asked) else CPU
        kwargs = {**kwargs, "device": CPU} if place == CUDA else kwargs
        with device.making(lambda: place):
            result = func(*args, **kwargs)
        if place == CUDA and device.place_of(result) != CUDA:
            return to(device, result, CUDA)  # values that the host had
        return result

    def run(self, hook, gradient):
        """A gradient's hook: the engine calls it without this mode."""
        with self:
            return hook(gradient)


class Operations(TorchDispatchMode):
    """Hands each operation of torch to the Device."""

    def __init__(self, device):
        super().__init__()
        self.device = device

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunction():
            if is_composite(func):
                with self:
                    return func._op_dk(COMPOSITE, *args, **kwargs)
            return self.device.operate(func, args, kwargs)


def is_composite(func):
    """Is this operation made of others? It comes whole where no gradient is wanted."""
    return torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), COMPOSITE)


# Methods of a tensor ------------------------------------------------------------------------------

def is_cuda(device):
    """Is this (name, number or torch.device) the pretended device? RuntimeError for a second."""
    device = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    if device.type == "cuda" and device.index:
        raise RuntimeError("CUDA error: invalid device ordinal (pretended)")
    return device.type == "cuda"


def to(device, tensor, /, *args, **kwargs):
    """Tensor.to: a copy if the device changes."""
    if args and isinstance(args[0], torch.Tensor):
        args = args[0].device, args[0].dtype, *args[1:]
    args, target = list(args), kwargs.pop("device", None)
    if args and not isinstance(args[0], torch.dtype):
        target = args.pop(0)
    kwargs |= zip(("dtype", "non_blocking", "copy"), args, strict=False)

    there = device.place_of(tensor)
    if target is not None and torch.device(target).type in ("cpu", "cuda"):
        there = CUDA if is_cuda(target) else CPU
    elif target is not None:
        kwargs["device"] = target  # "meta"
    if (device.place_of(tensor) == CUDA) != (there == CUDA):
        kwargs |= {"device": CPU, "copy": True}
    with device.making(lambda: there):
        return NAMED.to(tensor, **kwargs) if kwargs else tensor


def pin_memory(device, tensor, *_):
    """Tensor.pin_memory: a copy in page-locked memory."""
    if device.place_of(tensor) == CUDA:
        raise RuntimeError("cannot pin a tensor on cuda:0, only dense CPU tensors (pretended)")
    copy = tensor.clone()
    device.note(copy, PINNED)
    return copy


def read(device, func, tensor, /, *args, **kwargs):
    """A NumPy array of a tensor."""
    if kwargs.pop("force", False):
        tensor = to(device, tensor.detach(), CPU)
    if device.place_of(tensor) == CUDA:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to "
                        "copy the tensor to host memory first. (pretended)")
    return func(tensor, *args, **kwargs)


def to_list(device, tensor):
    if device.place_of(tensor) == CUDA:
        device.wait("tolist")
    return NAMED.tolist(tensor)


def deep_copy(device, tensor, memo):
    copy = NAMED.__deepcopy__(tensor, memo)
    device.note(copy, device.place_of(tensor))
    return copy


METHODS = {
    NAMED.to: to,
    NAMED.cuda: lambda device, tensor, where=CUDA, /, **options: to(
        device, tensor, CUDA if where is None else where, **options),
    NAMED.cpu: lambda device, tensor, /, **options: to(device, tensor, CPU, **options),
    NAMED.pin_memory: pin_memory,
    NAMED.is_pinned: lambda device, tensor, *_: device.place_of(tensor) == PINNED,
    NAMED.tolist: to_list,
    NAMED.__deepcopy__: deep_copy,
}
