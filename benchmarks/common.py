"""What the benchmarks share: alternate timing, the record of machine and versions, phantom data."""

import os
import platform
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

import torch

from training.devices import cpu_flags
from utils import git_commit, write_json

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("torch", "numpy", "scipy", "nibabel", "medpy", "monai", "scikit-image",
            "surface-distance")


def seconds(function):
    """Wall time of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def alternate(baseline, ours, rounds, warm_up=1):
    """Time two callables in turn, so that whatever else the machine does falls on both.

    Returns:
        {"baseline_s", "ours_s" (medians over the rounds), "ratio" (median of the rounds' own
        ratios), "ratio_range" (their smallest and largest)}.
    """
    for _ in range(warm_up):
        baseline()
        ours()
    return compare([(seconds(baseline), seconds(ours)) for _ in range(rounds)])


def compare(pairs):
    """The dict of `alternate` from (baseline, ours) measurements of the same amount of work."""
    ratios = [slow / fast for slow, fast in pairs]
    slow, fast = (significant(median(times)) for times in zip(*pairs))
    return {"baseline_s": slow, "ours_s": fast, "ratio": significant(median(ratios)),
            "ratio_range": [significant(min(ratios)), significant(max(ratios))]}


def significant(value, digits=4):
    """A number rounded to significant digits, for the record."""
    return float(f"{value:.{digits}g}")


def show(name, result, target=None):
    """One line of a comparison made by `alternate`; `target` is the ratio aimed at."""
    low, high = result["ratio_range"]
    met = "" if target is None else "met" if result["ratio"] >= target else "not met"
    aim = "" if target is None else f", aim {target:g}x: {met}"
    print(f"{name:<44} {duration(result['baseline_s']):>9} {duration(result['ours_s']):>9} "
          f"{result['ratio']:>7.1f}x ({low:.1f} to {high:.1f}){aim}", flush=True)
    return result if target is None else {**result, "target": target}


def duration(value):
    """Seconds for a reader: 1.23 s, 4.5 ms, 67 us."""
    for unit, size in (("s", 1), ("ms", 1e-3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e-6:.3g} us"


def save(name, results, out):
    """Write results/published/bench/NAME.json: the results, and what they were measured with."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue

    gpu = {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    write_json(out / f"{name}.json", {
        **results, "processor": processor(), "cores": os.cpu_count(),
        "threads": torch.get_num_threads(), **gpu, "bf16": "avx512_bf16" in cpu_flags(),
        "system": platform.platform(terse=True), "versions": versions, "commit": git_commit(),
        "command": command(sys.argv[1:])})


def command(words):
    """The command line as it is recorded: without the folders, which are this machine's."""
    kept = [word for word, before in zip(words, ["", *words], strict=False)
            if not {word, before} & {"--folder", "--out"}]
    return " ".join(["python", "-m", "benchmarks", *kept])


def processor():
    """The processor's name where the system tells it, with its widest vector unit.

    On clouds names alone say little.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    name = next(names, platform.processor())
    flags = cpu_flags()
    unit = next((unit for unit in ("avx512_bf16", "avx512f", "avx2") if unit in flags), None)
    return f"{name} ({unit})" if unit else name


def run(words, **options):
    """Run a program of this repository to its end; stop with its output where it fails."""
    result = subprocess.run([sys.executable, *map(str, words)], cwd=ROOT, capture_output=True,
                            text=True, **options)
    if result.returncode:
        stop(words, result.returncode, result.stderr)


def stop(words, status, errors):
    """End with what a program said that failed."""
    sys.exit(f"error: {' '.join(map(str, words))} ended with status {status}\n{errors[-2000:]}")


def phantom_scans(folder, subjects):
    """The raw folder of full-size WMH phantoms below `folder`; scans that exist are kept."""
    raw = folder / f"scans{subjects}"
    run(["-m", "scans.phantom", "--layout", "wmh", "--scale", "full", "--subjects", subjects,
         "--test", 0, "--out", raw])
    return raw


def phantom_data(folder, subjects):
    """A data folder of full-size phantom scans at 256x256; made once."""
    data = folder / f"data{subjects}"
    raw = phantom_scans(folder, subjects)
    run(["preprocess.py", "--layout", "wmh", "--raw", raw, "--out", data])
    return data
