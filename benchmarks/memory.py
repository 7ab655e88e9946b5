"""Peak memory of preprocessing against the number of scans.

    python benchmarks/memory.py                      # phantoms of 10, 20 and 60 full-size WMH scans, a few minutes
    python benchmarks/memory.py --counts 2 4 --jobs 1

Each measurement runs preprocess.py in a process of its own and takes that process's highest resident set size from
the system (wait4). Memory must not grow with the number of scans; the growth from the smallest to the largest set is
printed, and written with everything else to results/bench/memory.json.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT_GIB = 1.5  # of a worker


def measure(words):
    """Run a program; returns (peak resident set in GiB, seconds)."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, *map(str, words)], cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"error: {' '.join(map(str, words))} ended with status {process.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, bytes
    return usage.ru_maxrss * unit / 2**30, time.perf_counter() - start


def link_first(scans, count, folder):
    """A raw folder of `count` scans, each site's in turn since their sizes differ: links, so nothing is written twice."""
    sites = {}
    for subject in sorted((path.parent for path in scans.rglob("wmh.nii.gz")), key=lambda path: int(path.name)):
        sites.setdefault(subject.parent, []).append(subject)
    in_turn = [subject for row in zip_longest(*sites.values()) for subject in row if subject]
    folder.mkdir()
    for subject in in_turn[:count]:
        (folder / subject.name).symlink_to(subject)
    return folder


def processor():
    """The processor's name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[10, 20, 60], help="scans (default 10 20 60)")
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2], help="scans at a time (default 1 2)")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "bench" / "memory.json")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        temporary = Path(temporary)
        measure(["phantom.py", "--layout", "wmh", "--scale", "full", "--subjects", max(args.counts), "--out",
                 temporary / "scans"])
        for count in sorted(args.counts):
            raw = link_first(temporary / "scans", count, temporary / f"raw{count}")
            for jobs in args.jobs:
                peak, seconds = measure(["preprocess.py", "--layout", "wmh", "--raw", raw, "--jobs", jobs,
                                         "--out", temporary / f"data{count}-{jobs}"])
                rows.append({"scans": count, "jobs": jobs, "peak_gib": round(peak, 3), "seconds": round(seconds, 1)})
                print(f"{count:>4} scans, --jobs {jobs}: {peak:.2f} GiB at most, {seconds:.0f} s", flush=True)
    growth = {}
    for jobs in args.jobs:
        peaks = [row["peak_gib"] for row in rows if row["jobs"] == jobs]
        growth[str(jobs)] = round(peaks[-1] - peaks[0], 3)
        verdict = "within" if max(peaks) <= LIMIT_GIB * jobs else "above"
        print(f"--jobs {jobs}: {growth[str(jobs)]:+.2f} GiB from {min(args.counts)} to {max(args.counts)} scans, "
              f"{verdict} {LIMIT_GIB} GiB a worker")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps({
        "peaks": rows, "growth_gib": growth, "limit_gib_per_worker": LIMIT_GIB, "processor": processor(),
        "cores": os.cpu_count(), "system": platform.platform(terse=True),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in ("torch", "numpy", "nibabel")}},
        "command": " ".join(["python", *sys.argv])}, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
