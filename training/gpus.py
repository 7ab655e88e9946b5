"""The GPUs of this machine: which of them torch can use, and what to do about one it cannot."""

import os
import re
import warnings
from pathlib import Path

import torch

from utils import UserError

HELP = "docs/speed.md, \"GPUs\", says how"
ON_CPU = "or take --device cpu"


def count():
    """How many GPUs torch can use; what it warns of is in `check`'s error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.cuda.device_count() if torch.cuda.is_available() else 0


def in_sight():
    """Has the machine an NVIDIA GPU that is not hidden from this process, usable or not?"""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    if shown is not None and (not shown.strip() or shown.strip().startswith(("-", "NoDevFiles"))):
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # The driver's own count, which torch asks for even where it cannot use the driver.
        return torch.cuda.device_count() > 0 or bool(device_files())


def device_files():
    """What the driver's kernel module puts into /dev, one file a GPU."""
    return list(Path("/dev").glob("nvidia[0-9]*"))


def check(device):
    """UserError unless torch can compute on this CUDA device.

    It cannot where there is none, where torch was built without CUDA or for a newer driver, and
    where it has no kernels for the GPU's compute capability.
    """
    found = count()
    if not found and in_sight():
        refuse_unusable()
    if (device.index or 0) >= found:
        raise UserError("--device", f"a CUDA device for {device}",
                        f"{found} of them" if found else "none that torch can use",
                        "Use --device cpu or auto.")

    capability, built_for = capability_of(device), torch.cuda.get_arch_list()
    if not torch.version.hip and not has_kernels(capability, built_for):
        raise UserError(
            f"--device {device}", f"a GPU that torch {torch.__version__} has kernels for "
            f"({', '.join(built_for)})",
            f"{torch.cuda.get_device_name(device)} of sm_{capability[0]}{capability[1]}",
            f"Install a torch built for it ({HELP}), {ON_CPU}.")


def refuse_unusable():
    """UserError that says why torch cannot use the GPU that the machine has."""
    expected = f"a GPU that torch {torch.__version__} can use"
    if not torch.version.cuda and not torch.version.hip:
        raise UserError("--device", expected, "a torch that was built without CUDA",
                        f"Install one with CUDA ({HELP}), {ON_CPU}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.cuda.init()
        reason = "one that it does not count"
    except (RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split()).split(". ")[0]

    old = re.search(r"driver on your system is too old", reason)
    do = (f"Update the driver, or install a torch built for an older CUDA ({HELP}), " if old else
          "See whether nvidia-smi lists it, ")
    raise UserError("--device", expected, reason, f"{do}{ON_CPU}.")


def capability_of(device):
    """(major, minor) compute capability of a CUDA device."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns, in five lines, of what `check` refuses
        return torch.cuda.get_device_capability(device)


def has_kernels(capability, built_for):
    """Can a GPU run code built for these architectures?

    Machine code ("sm_86") runs on its own major version from its minor one on; "compute_90" is
    compiled on the machine, for any later one.

    Args:
        capability: (major, minor) of the GPU.
        built_for: torch.cuda.get_arch_list().
    """
    for name in built_for:
        kind, _, number = name.partition("_")
        digits = re.match(r"\d+", number)
        if not digits:
            continue
        least = divmod(int(digits[0]), 10)
        if kind == "compute" and capability >= least:
            return True
        if kind == "sm" and capability[0] == least[0] and capability[1] >= least[1]:
            return True
    return False
