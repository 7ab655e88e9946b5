"""A pretended CUDA device, cuda:0: test equipment for machines without one.

    with pretended_cuda() as cuda:
        result = train(data, out, "--device", "cuda")

Inside, torch says that there is a device. Tensors on it hold their values in the host's memory and
say `.device == cuda:0`; the device is noted beside their storage, so that views, detached tensors,
parameters and in-place operations share it. Each operation, those of backward passes among them,
is first judged (pretended_rules) and then done by the CPU. So values are those of the CPU's own
kernels, and what CUDA would refuse is refused: tensors of two devices in an operation, NumPy
arrays of a tensor on the device, types without a kernel, a fused Adam over unlike layouts.

Counted are launches (operations that the device gets) and waits: places where the host must stand
still until the device is done. Those are values that Python asks for (.item(), bool(), .tolist()),
shapes that depend on values (nonzero, a mask as an index), copies between host and device unless
they are non_blocking from page-locked memory, indices on the host, and torch.cuda.synchronize().

With `hollow=True` the device computes nothing: its tensors are memory that is never written, which
takes none, and what is copied from it to the host is zeros. Full-size networks are judged in
seconds.

What it cannot see:
  - kernels: their results, speed, limits of size; whether one is deterministic; cuDNN's choices;
    operations inside torch that branch on the device, such as a fused dropout;
  - the lists of operations that CUDA's autocast runs in which type: the CPU's are used, and an
    autocast of "cpu" would act on the device's tensors;
  - streams and events: everything runs in order, and memory is never reused too early; an event
    notes the host's time;
  - memory: how much is taken, and running out of it;
  - a second device, NCCL and whatever is between processes; torch.compile and CUDA graphs;
  - gradients through a copy between devices, and threads: an operation in a thread other than the
    one that entered the context is done, but not judged.
"""

import time
import traceback
from contextlib import contextmanager

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef

import pretended_calls
import pretended_rules
from pretended_calls import Calls, Operations, is_cuda
from pretended_rules import CPU, CUDA, NOT_KNOWN, Judge, aten, fill, tensors_in

DEVICE = torch.device(CUDA)
MEMORY = 80 * 2**30  # bytes of the pretended device
OURS = {__file__, pretended_calls.__file__, pretended_rules.__file__}
true_device = torch.Tensor.device.__get__


@contextmanager
def pretended_cuda(hollow=False, memory=MEMORY, capability=(9, 0)):
    """Inside, there is a CUDA device. Yields the Device, whose counts can be read.

    Args:
        hollow: the device computes nothing; see above.
        memory: bytes that torch.cuda.mem_get_info says are free.
        capability: (major, minor), for which torch was built.
    """
    device = Device(hollow)
    with pytest.MonkeyPatch.context() as patch:
        install(patch, device, memory, capability)
        with Operations(device), Calls(device):
            yield device


class Device:
    """Where tensors lie, and what the device was asked to do.

    Attributes:
        launches: names of the operations that it got.
        waits: a text for each time the host waited for it: what for, and where.
        hollow: does it compute nothing?
    """

    def __init__(self, hollow=False):
        self.hollow, self.launches, self.waits = hollow, [], []
        self.kept = {}           # address of a storage: (where it lies, weak reference to it)
        self.limit = 1000        # of `kept`, before what is gone is dropped
        self.asked = lambda: CPU  # where the call under way makes its tensors
        self.judge = Judge(self.place_of)
        self.random = torch.Generator().get_state()

    # Where tensors lie ----------------------------------------------------------------------------

    def place_of(self, tensor):
        """CUDA, PINNED or CPU (any other true device too)."""
        if tensor.layout != torch.strided:
            return CPU
        with torch._C.DisableTorchFunction():
            address = tensor.untyped_storage()._cdata
        return self.kept.get(address, (CPU,))[0]

    def has(self, *arguments):
        """Is any tensor among the arguments on the device?"""
        return any(self.place_of(tensor) == CUDA for tensor in tensors_in(arguments))

    def note(self, tensor, place):
        """Note where a tensor lies, unless its storage is known."""
        with torch._C.DisableTorchFunction():
            storage = tensor.untyped_storage()
        self.kept.setdefault(storage._cdata, (place, StorageWeakRef(storage)))

        # An address is not used again while there is a weak reference to it.
        if len(self.kept) > self.limit:
            self.kept = {address: (place, reference)
                         for address, (place, reference) in self.kept.items()
                         if not reference.expired()}
            self.limit = 1000 + 2 * len(self.kept)

    def device_of(self, tensor):
        """What `tensor.device` says."""
        return DEVICE if self.place_of(tensor) == CUDA else true_device(tensor)

    # What is done ---------------------------------------------------------------------------------

    @contextmanager
    def making(self, place):
        """Inside, tensors that are made without an example lie at place()."""
        before, self.asked = self.asked, place
        try:
            yield
        finally:
            self.asked = before

    def operate(self, func, args, kwargs):
        """Judge an operation, count it, do it, and note where its results lie."""
        asked = dict(kwargs)
        if (given := asked.get("device")) is not None and given.type == "cpu":
            asked["device"] = torch.device(self.asked())
        here = self.has(args, kwargs) or asked.get("device") == DEVICE
        if not here or func.overloadpacket is aten.set_:
            return func(*args, **kwargs)

        verdict = self.judge.verdict(func, args, asked)
        if verdict.waits:
            self.wait(func)
        if verdict.launch:
            self.launches.append(func.overloadpacket.__name__)

        results = self.compute(func, args, kwargs, verdict)
        found = tensors_in(results)
        known = verdict.results is not NOT_KNOWN
        places = verdict.places if known else verdict.places * len(found)
        for result, place in zip(found, places, strict=True):
            if place == CUDA:
                self.note(result, CUDA)
        return results

    def compute(self, func, args, kwargs, verdict):
        """The results: the CPU's, or memory without values."""
        if self.hollow and verdict.launch and verdict.results is not NOT_KNOWN:
            to_host = func.overloadpacket is aten._to_copy and verdict.places[0] != CUDA
            make = torch.zeros if to_host else torch.empty
            return fill(verdict.results, tensors_in((args, kwargs)), make)

        if not verdict.launch or torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)

        # The device has random numbers of its own.
        host = torch.get_rng_state()
        torch.set_rng_state(self.random)
        results = func(*args, **kwargs)
        self.random = torch.get_rng_state()
        torch.set_rng_state(host)
        return results

    def wait(self, what):
        """Note that the host waits for the device."""
        places = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_stack(None)]
        where = [f"{file.rpartition('/')[2]}:{line}" for file, line in places
                 if "/torch/" not in file and file not in OURS]
        self.waits.append(f"{what} at {', '.join(where[:3])}")

    def seed(self, number):
        self.random = torch.Generator().manual_seed(number).get_state()


# What torch says about devices --------------------------------------------------------------------

class Autocast(torch.autocast):
    """torch.autocast, in which "cuda" is bfloat16 on the CPU unless a type is given."""

    def __init__(self, device_type, *args, **kwargs):
        super().__init__("cpu" if device_type == "cuda" else device_type, *args, **kwargs)


class Event:
    """torch.cuda.Event: everything runs in order, so the time of the host serves."""

    def __init__(self, **_):
        self.time = None

    def record(self, *_):
        self.time = time.perf_counter()

    def elapsed_time(self, later):
        return 1000 * (later.time - self.time)


def install(patch, device, memory, capability):
    """Patch torch so that there is this Device, until the patch ends."""
    # Keeps torch from looking for a driver when a FakeTensor is on cuda:0.
    torch._C._ensureCUDADeviceGuardSet()

    # tensors
    patch.setattr(torch.Tensor, "device", property(device.device_of))
    patch.setattr(torch.Tensor, "is_cuda",
                  property(lambda tensor: device.device_of(tensor).type == "cuda"))
    patch.setattr(torch.Tensor, "get_device", lambda tensor: (
        0 if device.device_of(tensor).type == "cuda" else -1))

    # the device
    def set_random(state, *_):
        device.random = state.clone()

    for name, answer in {
        "is_available": lambda: True, "device_count": lambda: 1, "current_device": lambda: 0,
        "get_device_name": lambda *_: "a pretended device",
        "get_device_capability": lambda *_: capability,
        "get_arch_list": lambda: ["sm_{}{}".format(*capability)],
        "is_bf16_supported": lambda *_, **__: capability >= (8, 0),
        "mem_get_info": lambda *_: (memory, memory),
        "get_rng_state": lambda *_: device.random.clone(), "set_rng_state": set_random,
        "manual_seed": device.seed, "manual_seed_all": device.seed,
        "synchronize": lambda *_: device.wait("synchronize"),
        "set_device": is_cuda, "empty_cache": lambda: None, "Event": Event,
        "memory_allocated": lambda *_: 0, "max_memory_allocated": lambda *_: 0,
        "reset_peak_memory_stats": lambda *_: None,
    }.items():
        patch.setattr(torch.cuda, name, answer)

    # what torch asks its own C++ about a tensor's device
    patch.setattr(torch._C, "_group_tensors_by_device_and_dtype", by_device_and_dtype)
    patch.setattr(torch._C, "_conv_determine_backend_memory_format", layout_of_convolution)
    patch.setattr(torch.optim.Optimizer, "_accelerator_graph_capture_health_check",
                  lambda optimizer: None, raising=False)
    patch.setattr(torch, "autocast", Autocast)
    patch.setattr(torch.amp, "autocast", Autocast)

    # torch.save notes the device of a storage, torch.load without map_location goes back to it
    def tag(storage):
        return CUDA if device.kept.get(storage._cdata, (CPU,))[0] == CUDA else None

    def restore(storage, location):
        if not location.startswith("cuda"):
            return None
        device.kept[storage._cdata] = CUDA, StorageWeakRef(storage)
        return storage

    packages = torch.serialization._package_registry
    patch.setattr(torch.serialization, "_package_registry", [(0, tag, restore), *packages])


def layout_of_convolution(images, weight, _):
    """The layout of what a convolution gives: cuDNN keeps channels_last in every precision.

    Without a device torch takes it that cuDNN has no bfloat16, for which it would keep none.
    """
    last = torch.channels_last if images.ndim == 4 else torch.channels_last_3d
    kept = any(tensor.is_contiguous(memory_format=last) and not tensor.is_contiguous()
               for tensor in (images, weight))
    return last if kept else torch.contiguous_format


def by_device_and_dtype(lists, with_indices=False):
    """{(device, dtype) of the first list's tensors: (the lists, indices)}, as torch's own."""
    groups = {}
    for number, first in enumerate(lists[0]):
        found, indices = groups.setdefault((first.device, first.dtype), ([[] for _ in lists], []))
        for group, tensors in zip(found, lists, strict=True):
            if tensors:
                group.append(tensors[number])
        if with_indices:
            indices.append(number)
    return groups
