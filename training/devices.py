"""Where and how tensors are computed: device, precision, memory layout, seeds."""

import os
import random
from pathlib import Path

import numpy as np
import torch

from training import gpus
from utils import UserError, keep_freed_memory

BF16_FROM, FP16_FROM = (8, 0), (7, 0)  # compute capability whose tensor cores have the type


def set_up_device(args, group):
    """Set torch up as main.py's options say; returns the device of this process of the group."""
    if args.deterministic:
        be_deterministic()
    device = choose_device(args.device)
    if group.world > 1 and device.index is not None:  # each process has the one of its number
        raise UserError("--device", "auto, cpu or cuda, with several processes", args.device,
                        "Choose the GPUs by CUDA_VISIBLE_DEVICES=2,3.")
    if (own := group.device(device)) != device:
        device = choose_device(str(own))
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # or page-locked memory would begin the first device's too
    if args.threads:
        torch.set_num_threads(args.threads)
    # cuDNN times its algorithms on each new shape; there are few.
    torch.backends.cudnn.benchmark = device.type == "cuda" and not args.deterministic
    keep_freed_memory()
    return device


def seed_everything(seed):
    """Seed Python, NumPy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def choose_device(name):
    """"auto" -> cuda where the machine has a GPU, else cpu.

    Raises:
        UserError: the device asked for is not there, or there is a GPU that torch cannot use.
    """
    if name == "auto":
        name = "cuda" if gpus.count() or gpus.in_sight() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise UserError("--device", "auto, cpu, cuda or cuda:N", repr(name), "Choose one of them.")

    if device.type == "cuda":
        gpus.check(device)
    return device


def choose_amp(name, device, dims=2):
    """The autocast dtype: torch.bfloat16, torch.float16, or None for float32 without autocast.

    "auto" is bfloat16 where the device computes it natively, float16 on GPUs that have only that,
    else float32. On a CPU a network of volumes (dims 3) computes in float32: see
    volumes_in_bfloat16.py.
    """
    if name == "auto":
        if device.type == "cpu" and dims == 3:
            return None
        kinds = (torch.bfloat16, torch.float16) if device.type == "cuda" else (torch.bfloat16,)
        return next((amp for amp in kinds if is_native(amp, device)), None)
    return {"bf16": torch.bfloat16, "fp16": torch.float16, "off": None}[name]


def is_native(amp, device):
    """Has this very device the type (an autocast dtype, or None), without emulating it slowly?"""
    if amp is None:
        return True
    if device.type == "cpu":
        needed = {torch.bfloat16: "avx512_bf16", torch.float16: "avx512_fp16"}[amp]
        return needed in cpu_flags()
    least = {torch.bfloat16: BF16_FROM, torch.float16: FP16_FROM}[amp]
    return bool(torch.version.hip) or gpus.capability_of(device) >= least


def amp_name(amp):
    """The precision as config.json and checkpoints name it: "bfloat16"; "float32" for None."""
    return str(amp or "float32").removeprefix("torch.")


def named_amp(name):
    """The autocast dtype of a name from amp_name: torch.bfloat16; None for "float32"."""
    return None if name == "float32" else getattr(torch, name)


def choose_memory_format(amp, device, dims=2):
    """torch.channels_last (channels_last_3d in 3-D), except in true float32.

    There, gradients of wide convolutions are slower in it on a CPU, and a GPU's tensor cores, which
    want it, have nothing to do: they take bfloat16 and TF32.
    """
    last = torch.channels_last if dims == 2 else torch.channels_last_3d
    tensor_cores = device.type == "cuda" and torch.backends.cudnn.allow_tf32
    return last if amp or tensor_cores else torch.contiguous_format


def cpu_flags():
    """The processor's feature flags as a set (empty where the system does not list them)."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    flags = (line.split(":", 1)[1].split() for line in lines if line.startswith("flags"))
    return set(next(flags, []))


def be_deterministic():
    """Have torch take only operations that give the same bits in every run, without TF32.

    To be called before CUDA starts. An operation without such a form then raises a RuntimeError,
    which run_program reports in one line.
    """
    # cuBLAS reads this once. Other workspaces may change the order of sums.
    if os.environ.get("CUBLAS_WORKSPACE_CONFIG") not in (":4096:8", ":16:8"):
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"

    torch.use_deterministic_algorithms(True)
    # Filling costs time, and nothing here reads memory that it has not written.
    torch.utils.deterministic.fill_uninitialized_memory = False

    torch.backends.cudnn.benchmark = False  # which chooses the algorithm by timing
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


def logits_of(network, images, amp):
    """images (B, C, *spatial) float32 -> logits (B, K, *spatial).

    They are of the autocast dtype `amp`, or float32 if it is None.
    """
    memory_format = choose_memory_format(amp, images.device, images.ndim - 2)
    images = images.contiguous(memory_format=memory_format)
    with torch.autocast(images.device.type, amp, enabled=amp is not None):
        return network(images)
