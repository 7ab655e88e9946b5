"""The checks of raw scans that preprocess.py makes first and `preprocess.py --verify` makes alone; nothing is written."""

import hashlib
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from datasets import describe, inspect_subject
from utils import UserError, log, progress


def check_all(subjects, spec, jobs, use, duplicates=None, total=None, **options):
    """Check every subject, and use those that are clean while they are in memory; print every warning and problem.

    Args:
        subjects: those to check.
        jobs: how many at a time.
        use: called as use(subject, volumes) with what `inspect_subject` read; no more once a problem was found.
        duplicates: {subject: [problem, ...]} found while looking for them.
        total: number of subjects in the raw folder, if more than those to check.
        options: of the progress bar.

    Returns:
        what `use` returned for each, in order.

    Raises:
        UserError: there were problems; it counts them.
    """
    problems = {name: list(lines) for name, lines in (duplicates or {}).items()}

    def check(subject):
        found, warnings, volumes = inspect_subject(subject, spec)
        if found:
            problems.setdefault(subject.name, []).extend(found)
        return warnings, None if problems else use(subject, volumes)

    with ThreadPoolExecutor(jobs) as pool:
        results = list(progress(pool.map(check, subjects), total=len(subjects), unit="scan", **options))
    for line in (line for warnings, _ in results for line in warnings):
        print(f"warning: {line}", file=sys.stderr)
    for line in (line for name in sorted(problems) for line in problems[name]):
        print(line, file=sys.stderr)
    if problems:
        raise UserError(f"{len(problems)} of {total or len(subjects)} subjects", "no problem",
                        f"{sum(map(len, problems.values()))}, listed above", "Mend them and repeat the command.")
    return [used for _, used in results]


def verify(subjects, spec, jobs, duplicates):
    """`preprocess.py --verify`: check all, then print what the raw folder holds."""
    print_ok(raw_fingerprint(check_all(subjects, spec, jobs, partial(describe, spec=spec), duplicates, desc="checking")))


def raw_fingerprint(facts):
    """What a raw folder holds, from the facts of `datasets.describe`; a dict with the sha256 over all source files.

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
