"""Where and how tensors are computed: device, precision, memory layout, seeds."""

import random
from pathlib import Path

import numpy as np
import torch

from utils import UserError


def seed_everything(seed):
    """Seed Python, NumPy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def choose_device(name):
    """"auto" -> cuda where there is one, else cpu; UserError if the device asked for is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise UserError("--device", "auto, cpu, cuda or cuda:N", repr(name), "Choose one of them.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = f"{torch.cuda.device_count()} of them" if torch.cuda.is_available() else "none that torch can use"
        raise UserError("--device", f"a CUDA device for {name}", found, "Use --device cpu or auto.")
    return device


def choose_amp(name, device):
    """The autocast dtype: "auto" is bfloat16 where the processor computes it natively, else float32 (None).

    Returns torch.bfloat16 or None (no autocast).
    """
    if name == "auto":
        if device.type == "cuda":
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            native = "avx512_bf16" in cpu_flags()
        name = "bf16" if native else "off"
    return {"bf16": torch.bfloat16, "off": None}[name]


def amp_name(amp):
    """The precision as config.json and checkpoints call it: "bfloat16", or "float32" without autocast."""
    return str(amp or "float32").removeprefix("torch.")


def choose_memory_format(amp, device, dims=2):
    """torch.channels_last (in 3-D, channels_last_3d), but on a CPU in float32, whose gradients of wide convolutions are slower
    in it."""
    last = torch.channels_last if dims == 2 else torch.channels_last_3d
    return last if amp or device.type == "cuda" else torch.contiguous_format


def cpu_flags():
    """The processor's feature flags as a set (empty where the system does not list them)."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return set(next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), []))
