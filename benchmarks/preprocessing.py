"""Preprocessing: time and disk beside the scripts of 2018, and where the time goes."""

import shutil

from benchmarks import baseline
from benchmarks.common import compare, phantom_scans, seconds, show, significant
from benchmarks.common import run as run_program
from scans.checks import inspect_subject
from scans.convert import convert_subject, distance_maps, save_sparse
from scans.datasets import find_subjects, get_spec
from scans.folder import Dataset, Distance
from scans.resampling import network_input, resample_label

TARGET, DISK_TARGET = 12, 1 / 3


def on_disk(folder):
    """Bytes that a folder takes on the disk, by the blocks that the file system gives it."""
    return sum(512 * path.stat().st_blocks for path in folder.rglob("*") if path.is_file())


def run(args, folder):
    scans = phantom_scans(folder, args.subjects)
    theirs, ours = folder / "timed-slices", folder / "timed-data"

    def preprocess():  # with the start of Python and all checks
        run_program(["preprocess.py", "--layout", "wmh", "--raw", scans, "--jobs", 2,
                     "--out", ours])

    # time
    pairs = []
    for _ in range(max(1, args.rounds // 4)):
        for path in (theirs, ours):
            shutil.rmtree(path, ignore_errors=True)
        slow = seconds(lambda: baseline.preprocess(scans, theirs, jobs=2))
        pairs.append((slow, seconds(preprocess)))
    whole = show(f"preprocessing {args.subjects} scans, two at a time", compare(pairs), TARGET)

    # disk
    disk = {"baseline_mb": on_disk(theirs) / 1e6 / args.subjects,
            "ours_mb": on_disk(ours) / 1e6 / args.subjects}
    share = disk["ours_mb"] / disk["baseline_mb"]
    print(f"{'disk, MB a scan':<44} {disk['baseline_mb']:>9.1f} {disk['ours_mb']:>9.1f} "
          f"{share:>7.2f} of it, aim {DISK_TARGET:.2f}", flush=True)

    # where the time goes
    parts = where_time_goes(scans, folder)
    total = sum(parts.values())
    shares = ", ".join(f"{name} {part / total:.0%}" for name, part in parts.items())
    print(f"one scan, one thread: {shares} of {total:.2f} s", flush=True)
    return {"preprocess": whole,
            "disk": {name: significant(value) for name, value in disk.items()},
            "disk_share": significant(share), "disk_share_target": DISK_TARGET,
            "parts_s": {name: significant(value) for name, value in parts.items()}}


def where_time_goes(scans, folder):
    """Seconds for the parts of one Utrecht-sized scan, each measured alone.

    "The rest" is hashing and the reference.
    """
    spec, found = get_spec("wmh"), {}
    subject = find_subjects(scans, spec)[0]
    how = Distance()
    settings = Dataset(layout="wmh", source="phantom", size=256, distance=how,
                       modalities=list(spec.modalities), classes=list(spec.classes))

    def read():
        found["volumes"] = inspect_subject(subject, spec)[2]

    def resize():
        images = [found["volumes"][name][0] for name in spec.modalities]
        label = found["volumes"]["label"][0]
        found["images"] = network_input(images, 256)
        found["labels"] = resample_label(label, spec.label_map, 256, "nearest")

    def maps():
        found["maps"] = distance_maps(found["labels"], 2, (1, 1, 1), how)

    def write():
        for name in ("images", "labels", "maps"):
            save_sparse(folder / f"{name}.npy", found[name])

    def convert():
        convert_subject(subject, found["volumes"], spec, folder / "one", settings)

    parts = {"reading (gzip) and checks": read, "normalising and resizing": resize,
             "distance maps": maps, "writing": write}
    parts = {name: min(seconds(part) for _ in range(3)) for name, part in parts.items()}
    whole = min(seconds(convert) for _ in range(3))
    return parts | {"the rest": whole - sum(parts.values()) + parts["reading (gzip) and checks"]}
