"""Training on a GPU: steps beside eager PyTorch's, an epoch and its parts, runs side by side.

Each part is recorded as soon as it is measured, in gpu.json and as a table in gpu.md; what an
earlier call measured on the same card stays there.
"""

import json
import os
import shutil
import subprocess

import torch

from benchmarks import gpu_epoch, gpu_steps
from benchmarks.common import save, significant
from training import gpus
from training.devices import choose_device
from utils import markdown_table

PARTS = ("device", "steps", "epoch", "side_by_side")
COPIED = {"cuda": 2**30, "cpu": 2**24}  # bytes, by the kind of device
QUEUED = 1500  # products of 8192x8192, 1.1 TFLOP each: two to ten seconds
QUERY = ("name", "driver_version", "vbios_version", "pstate", "clocks.sm", "clocks.max.sm",
         "clocks.mem", "clocks.max.mem", "power.draw", "power.limit", "temperature.gpu",
         "ecc.mode.current", "mig.mode.current")


def run(args, folder):
    device = choose_device(args.device)  # one line where there is no GPU, or one not to be used
    measure = {"device": device_part, "steps": gpu_steps.run, "epoch": gpu_epoch.run,
               "side_by_side": gpu_epoch.side_by_side}
    results = earlier(args.out / "gpu.json", device)
    for part in args.parts:
        results[part] = with_other_networks(results.get(part), measure[part](args, folder, device))
        save("gpu", results, args.out)
        (args.out / "gpu.md").write_text(markdown(results), encoding="utf-8")
    return results


def earlier(path, device):
    """The parts that were measured on the same card before."""
    here = {"card": card_name(device)}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return here
    if found.get("card") != here["card"]:
        return here
    return here | {part: found[part] for part in PARTS if part in found}


def with_other_networks(before, found):
    """What was found, with the networks whose steps of the same shape an earlier call measured."""
    if before and "networks" in found and before["shape"] == found["shape"]:
        found = found | {"networks": before["networks"] | found["networks"]}
    return found


def card_name(device):
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


# The device itself --------------------------------------------------------------------------------

def device_part(args, folder, device):
    """What it is, and what it gives in practice: matrix products and copies."""
    rates = {}
    for name, dtype, tf32 in (("bfloat16", torch.bfloat16, False), ("TF32", torch.float32, True),
                              ("float32", torch.float32, False)):
        with gpu_steps.switches(tf32=tf32):
            rates[name] = {size: significant(rate)
                           for size, rate in gpu_steps.matmul_rates(device, dtype).items()}
        best = max(rates[name].values())
        print(f"matrix product, {name:<9} {best / 1e12:>8.3g} TFLOP/s", flush=True)

    copied = significant(gpu_steps.copy_rate(device, COPIED[device.type]))
    print(f"memory, read and written {copied / 1e9:>8.4g} GB/s", flush=True)
    return {"name": card_name(device), **libraries(device), "flops": rates,
            "peak_flops": {name: max(found.values()) for name, found in rates.items()},
            "bytes_per_second": copied, "idle": smi(device), "under_load": smi_under_load(device)}


def libraries(device):
    found = {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    if device.type == "cuda":
        capability = gpus.capability_of(device)
        free, total = torch.cuda.mem_get_info(device)
        found |= {"capability": list(capability), "memory_bytes": total, "free_bytes": free}
    return found


def smi_under_load(device):
    """What nvidia-smi says while matrix products are queued: the clocks that training has."""
    if device.type != "cuda":
        return None
    size = gpu_steps.SIZES["cuda"][1]
    matrix = torch.ones(size, size, device=device, dtype=torch.bfloat16)
    for _ in range(QUEUED):
        matrix @ matrix
    found = smi(device)
    torch.cuda.synchronize(device)
    return found


def smi(device):
    """{field: text} of nvidia-smi for the device, None where there is no such program."""
    program = shutil.which("nvidia-smi")
    if device.type != "cuda" or not program:
        return None
    shown = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    index = device.index or 0
    which = shown[index] if index < len(shown) and shown[index] else str(index)
    try:
        text = subprocess.run(
            [program, f"--id={which}", f"--query-gpu={','.join(QUERY)}",
             "--format=csv,noheader"], capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    values = [value.strip() for value in text.strip().split(",")]
    return dict(zip(QUERY, values, strict=True)) if len(values) == len(QUERY) else None


# gpu.md -------------------------------------------------------------------------------------------

def markdown(results):
    """What was measured, as tables."""
    parts = {"device": of_device, "steps": of_steps, "epoch": of_epoch,
             "side_by_side": of_side_by_side}
    texts = [f"# {results['card']}: measured by `python -m benchmarks gpu`"]
    texts += [parts[part](results[part]) for part in PARTS if part in results]
    return "\n\n".join(texts) + "\n"


def of_device(found):
    load = found["under_load"] or found["idle"] or {}
    rows = [*(("matrix product, " + name, f"{rate / 1e12:.3g} TFLOP/s")
              for name, rate in found["peak_flops"].items()),
            ("memory, read and written", f"{found['bytes_per_second'] / 1e9:.4g} GB/s"),
            ("CUDA, cuDNN", f"{found['cuda']}, {found['cudnn']}"),
            *((name, load[name]) for name in QUERY[1:] if name in load)]
    return markdown_table([("device", "best, or under load"), *rows])


def of_steps(found):
    rows = [[f"`{network}`", name, f"{1000 * step['seconds']:.3g} ms",
             f"{step['slices_per_second']:.1f}",
             f"{step['gain']:.2f}x" if step["gain"] else "–", f"{step['use']:.0%}",
             f"{step['memory_bytes'] / 2**30:.1f} GiB", f"{step['start_seconds']:.1f} s"]
            if step else [f"`{network}`", name, "does not fit", *["–"] * 5]
            for network, steps in found["networks"].items() for name, step in steps.items()]
    return markdown_table([("network", f"step of {found['shape']}", "time", "slices/s",
                            "against eager float32", "of the matrix rate", "memory", "first step"),
                           *rows])


def of_epoch(found):
    rows = [(name, f"{seconds:.3g} s", f"{seconds / found['epoch_seconds']:.0%}")
            for name, seconds in found["seconds"].items()]
    rows += [("the epoch", f"{found['epoch_seconds']:.3g} s", ""),
             *((f"beside it: {name}", f"{seconds:.3g} s", "")
               for name, seconds in found["beside"].items()),
             ("loader alone", f"{found['loader_slices_per_second']:.0f} slices/s",
              "slices on the device" if found["resident"] else "slices read from files")]
    head = (f"epoch of {found['train']} and {found['val']} slices", "time", "share")
    return markdown_table([head, *rows])


def of_side_by_side(found):
    rows = [(count, f"{each['epoch_seconds']:.3g} s", f"{each['slices_per_second']:.1f}")
            for count, each in found.items()]
    return markdown_table([("runs at a time", "an epoch of each", "slices/s of all"), *rows])
