"""Time and memory of preprocessing and training against the number of scans; draws growth.png.

Each measurement runs a program in a process of its own. Memory is what it has asked for itself,
read ten times a second; the slices, which are mapped from their files, are not in it: the system
drops them when it needs the room.
"""

import csv
import math
import re
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import zip_longest
from pathlib import Path

from benchmarks.common import ROOT, phantom_scans, significant, stop
from scans.folder import index_path
from utils import COLUMN, PLOT_LINES, PLOT_STYLE

LIMIT_GIB = 1.5  # of preprocessing, a worker
WIDTH = 2        # of the network: small, so that 60 scans take a minute


def measure(words):
    """Run a program; returns (most memory of its own in GiB, seconds)."""
    start, peak = time.perf_counter(), 0.0
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen([sys.executable, *map(str, words)], cwd=ROOT,
                                   stdout=subprocess.DEVNULL, stderr=errors)
        while process.poll() is None:
            peak = max(peak, own_memory(process.pid))
            time.sleep(0.1)
        spent = time.perf_counter() - start
        if process.returncode:
            errors.seek(0)
            stop(words, process.returncode, errors.read())
    return peak, spent


def own_memory(number):
    """Resident memory of a process that no file lies behind, GiB.

    NaN where the system does not tell; only Linux does.
    """
    try:
        status = Path(f"/proc/{number}/status").read_text()
    except OSError:
        return 0.0 if sys.platform == "linux" else math.nan  # it has just ended
    found = re.search(r"RssAnon:\s+(\d+) kB", status)
    return int(found[1]) / 2**20 if found else 0.0


def link_first(scans, count, folder):
    """A raw folder of `count` scans, each site's in turn since their sizes differ.

    It holds links, so that nothing is written twice.
    """
    subjects = [path.parent for path in scans.rglob("wmh.nii.gz")]
    sites = {}
    for subject in sorted(subjects, key=lambda path: int(path.name)):
        sites.setdefault(subject.parent, []).append(subject)
    in_turn = [subject for row in zip_longest(*sites.values()) for subject in row if subject]

    folder.mkdir(exist_ok=True)
    for subject in in_turn[:count]:
        if not (folder / subject.name).exists():
            (folder / subject.name).symlink_to(subject)
    return folder


def run(args, folder):
    scans = phantom_scans(folder, max(args.counts))
    rows = []
    for count in sorted(args.counts):
        raw = link_first(scans, count, folder / f"raw{count}")
        row = {"scans": count, **preprocessing_growth(raw, folder), **training_growth(raw, folder)}
        rows.append(row)
        print(f"{count} scans, {row['slices']} slices: preprocessing {row['preprocess_1_s']:.0f} s "
              f"and {row['preprocess_1_gib']:.2f} GiB, two at a time {row['preprocess_2_s']:.0f} s "
              f"and {row['preprocess_2_gib']:.2f} GiB; an epoch of width {WIDTH} "
              f"{row['epoch_s']:.1f} s and {row['training_gib']:.2f} GiB", flush=True)
    draw(rows, args.out / "growth.png")
    return {"rows": rows, "limit_gib_per_worker": LIMIT_GIB, "width": WIDTH}


def data_folder(raw, folder, jobs):
    return folder / f"data-of-{raw.name}-{jobs}"


def preprocessing_growth(raw, folder):
    """Memory and time of preprocessing the scans of a raw folder, one and two at a time."""
    found = {}
    for jobs in (1, 2):
        data = data_folder(raw, folder, jobs)
        # of an earlier time: what is finished would be measured as nothing
        shutil.rmtree(data, ignore_errors=True)
        peak, spent = measure(["preprocess.py", "--layout", "wmh", "--raw", raw, "--jobs", jobs,
                               "--out", data])
        found |= {f"preprocess_{jobs}_gib": significant(peak),
                  f"preprocess_{jobs}_s": significant(spent)}
    return found


def training_growth(raw, folder):
    """Memory and time of an epoch on the scans of a raw folder, once they are preprocessed."""
    data, out = data_folder(raw, folder, 2), folder / f"run-of-{raw.name}"
    shutil.rmtree(out, ignore_errors=True)
    peak, _ = measure(["main.py", "--data", data, "--out", out, "--width", WIDTH, "--epochs", 2,
                       "--quiet", "--device", "cpu"])
    with open(out / "metrics.csv", newline="") as file:
        epochs = [float(row["seconds"]) for row in csv.DictReader(file)]
    with open(index_path(data)) as file:
        slices = sum(1 for _ in file) - 1
    return {"slices": slices, "epoch_s": min(epochs), "training_gib": significant(peak)}


def draw(rows, path):
    """Time and memory against the number of scans, as PNG and PDF."""
    import matplotlib
    from matplotlib.figure import Figure
    counts = [row["scans"] for row in rows]
    panels = (
        ("Preprocessing", "s",
         (("one at a time", "preprocess_1_s"), ("two at a time", "preprocess_2_s"))),
        (f"An epoch, width {WIDTH}", "s",
         (("training and validation", "epoch_s"),)),
        ("Memory at most", "GiB",
         (("preprocessing, one", "preprocess_1_gib"), ("preprocessing, two", "preprocess_2_gib"),
          ("training", "training_gib"))))

    with matplotlib.rc_context(PLOT_STYLE):
        figure = Figure(figsize=(COLUMN, 2.1), layout="constrained")
        for axis, (title, unit, lines) in zip(figure.subplots(1, len(panels)), panels):
            for (name, key), (colour, dashes, marker) in zip(lines, PLOT_LINES):
                axis.plot(counts, [row[key] for row in rows], color=colour, linestyle=dashes,
                          marker=marker, label=name)
            axis.set(title=title, ylabel=unit, xlabel="scans of full size", xlim=(0, None),
                     ylim=(0, None))
            axis.grid(axis="y")
            if len(lines) > 1:
                axis.legend()
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Software": None})
        figure.savefig(path.with_suffix(".pdf"), metadata={"CreationDate": None})
