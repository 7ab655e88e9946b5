"""The checks of raw scans that preprocess.py makes first and `preprocess.py --verify` makes alone; nothing is written."""

import hashlib
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from datasets import inspect_subject
from utils import UserError, log, progress


def check_all(subjects, spec, jobs, duplicates=None, total=None):
    """Check every subject; print every warning and every problem.

    Args:
        subjects: those to check.
        duplicates: {subject: [problem, ...]} found while looking for them.
        total: number of subjects in the raw folder, if more than those to check.

    Returns:
        what `inspect_subject` found out about each, in order.

    Raises:
        UserError: there were problems; it counts them.
    """
    with ThreadPoolExecutor(jobs) as pool:
        results = list(progress(pool.map(partial(inspect_subject, spec=spec), subjects), total=len(subjects),
                                desc="checking", unit="scan"))
    problems = {name: list(lines) for name, lines in (duplicates or {}).items()}
    for subject, (found, warnings, _) in zip(subjects, results):
        for line in warnings:
            print(f"warning: {line}", file=sys.stderr)
        if found:
            problems.setdefault(subject.name, []).extend(found)
    for line in (line for name in sorted(problems) for line in problems[name]):
        print(line, file=sys.stderr)
    if problems:
        raise UserError(f"{len(problems)} of {total or len(subjects)} subjects", "no problem",
                        f"{sum(map(len, problems.values()))}, listed above", "Mend them and repeat the command.")
    return [facts for _, _, facts in results]


def raw_fingerprint(facts):
    """What a raw folder holds, from the facts of `inspect_subject`; a dict with the sha256 over all source files.

    Slices, empty slices and the foreground's share of voxels count on the scans' own grids.
    """
    modalities = facts[0]["intensities"]
    spacings = [fact["spacing_mm"] for fact in facts]
    return {
        "subjects": len(facts), "slices": sum(fact["slices"] for fact in facts),
        "empty_slices": sum(fact["empty_slices"] for fact in facts),
        "foreground_ratio": sum(fact["foreground"] for fact in facts) / sum(fact["voxels"] for fact in facts),
        "intensity_range": {name: (min(fact["intensities"][name][0] for fact in facts),
                                   max(fact["intensities"][name][1] for fact in facts)) for name in modalities},
        "spacing_mm": {"min": list(map(min, zip(*spacings))), "max": list(map(max, zip(*spacings)))},
        "sha256": hashlib.sha256(repr([(fact["subject"], fact["sources"]) for fact in facts]).encode()).hexdigest()}


def print_ok(fingerprint):
    """The last lines of `make verify`."""
    low, high = (" x ".join(f"{value:.3g}" for value in fingerprint["spacing_mm"][end]) for end in ("min", "max"))
    ranges = ", ".join(f"{name} {low:g} to {high:g}" for name, (low, high) in fingerprint["intensity_range"].items())
    log(f"{fingerprint['slices']} slices, {fingerprint['empty_slices'] / fingerprint['slices']:.1%} empty, foreground "
        f"{fingerprint['foreground_ratio']:.3%} of the voxels; spacing {low} to {high} mm")
    log(f"intensities: {ranges}")
    log(f"OK: {fingerprint['subjects']} subjects without a problem; fingerprint {fingerprint['sha256'][:12]}")
