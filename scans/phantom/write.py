"""Writing the subjects of a synthetic data set, several at a time.

These functions are not in __main__.py because worker processes cannot import that module by name
where it is run as `python -m scans.phantom`.
"""

import signal
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from scans.phantom.acdc import heart_patient, write_acdc
from scans.phantom.isles import isles_name, isles_subject, write_isles
from scans.phantom.wmh import wmh_name, wmh_subject, wmh_test_name, write_wmh
from utils import UserError, atomic_path, progress


def subject_path(kind, k):
    """Path of subject k's folder below the output folder; `kind`: a layout, or "wmh-test"."""
    if kind == "wmh":
        return wmh_name(k)[2]
    if kind == "wmh-test":
        return wmh_test_name(k)[2]
    if kind == "isles":
        return isles_name(k)
    return Path("training") / f"patient{k + 1:03d}"


def write_subject(out, kind, seed, k, size, slices):
    """Make subject k and put its folder in place, complete or not at all."""
    with atomic_path(out / subject_path(kind, k)) as folder:
        if kind.startswith("wmh"):
            write_wmh(folder, wmh_subject(seed, k, size, slices, test=kind == "wmh-test"))
        elif kind == "isles":
            write_isles(folder, isles_subject(seed, k, size, slices), k)
        else:
            write_acdc(folder, heart_patient(seed, k, size, slices))


def write_all(tasks, jobs):
    """Run write_subject over the tasks, `jobs` at a time.

    A subject that fails stops the rest, and its error is raised.
    """
    if not tasks:
        return
    if jobs == 1 or len(tasks) == 1:
        for task in progress(tasks, desc="phantom", unit="scan"):
            write_subject(*task)
        return

    workers = min(jobs, len(tasks))
    pool = ProcessPoolExecutor(workers, get_context("spawn"), ignore_interrupts)
    try:
        futures = [pool.submit(write_subject, *task) for task in tasks]
        for future in progress(as_completed(futures), desc="phantom", unit="scan",
                               total=len(futures)):
            future.result()
    except BrokenExecutor:
        raise UserError("--jobs", f"memory for {jobs} processes", "one was killed",
                        "Repeat with --jobs 1.") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def ignore_interrupts():
    """In a worker: Ctrl-C is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
