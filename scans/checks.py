"""The checks of raw scans that preprocess.py makes first and `preprocess.py --verify` makes alone; nothing is written."""

import hashlib
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import nibabel as nib
import numpy as np

from scans.datasets import source_hashes
from scans.nifti import WHOLE, label_values, read_volume
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


def check_subject(subject, spec):
    """Everything that is wrong with a subject.

    Returns:
        (problems, warnings): lists of one-line strings "file: expected ..., found .... What to do."; both empty when
        the subject is clean.
    """
    return inspect_subject(subject, spec)[:2]


def inspect_subject(subject, spec):
    """The problems and warnings of `check_subject`, and what was read for it.

    Returns:
        (problems, warnings, volumes): volumes is {modality or "label": (voxels, image)} as `read_volume` gives them.
    """
    problems, warnings, volumes = [], [], {}
    for name, files in subject.files.items():
        pattern = spec.label if name == "label" else spec.modalities[name]
        if len(files) != 1:
            found = "no such file" if not files else f"{len(files)}: {', '.join(path.name for path in files)}"
            do = "Add the missing file." if not files else "Keep one of them."
            problems.append(str(UserError(subject.folder / pattern, f"one {name} image", found, do)))
            continue
        try:
            volumes[name] = read_volume(files[0])
        except UserError as error:
            problems.append(str(error))
    for name, (voxels, image) in volumes.items():
        try:
            if name == "label":
                warnings += check_label(subject.files[name][0], voxels, spec)
            else:
                check_intensities(subject.files[name][0], voxels)
            first = next(iter(volumes))
            check_grid(subject.files[name][0], image, volumes[first][1], first)
        except UserError as error:
            problems.append(str(error))
    return problems, warnings, volumes


def describe(subject, volumes, spec):
    """What a fingerprint of the raw folder needs to know about a clean subject, as plain numbers."""
    label, image = volumes["label"]
    foreground = np.isin(label_values(label), [value for value, number in spec.label_map.items() if number])
    per_slice = foreground.sum(axis=(0, 1))
    return {"subject": subject.name, "slices": len(per_slice), "empty_slices": int((per_slice == 0).sum()),
            "foreground": int(per_slice.sum()), "voxels": foreground.size,
            "spacing_mm": [float(size) for size in nib.affines.voxel_sizes(image.affine)],
            "intensities": {name: (float(volumes[name][0].min()), float(volumes[name][0].max()))
                            for name in spec.modalities},
            "sources": source_hashes(subject)}


def check_intensities(path, voxels):
    """Raise UserError unless the voxels are real numbers, finite, with a range that can be normalised."""
    if voxels.dtype.kind not in "iufb":
        raise UserError(path, "one real number a voxel", f"type {voxels.dtype}", "Convert it to a greyscale image.")
    low, high = float(voxels.min()), float(voxels.max())  # NaN if any voxel is
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UserError(path, "finite intensities", f"{(~np.isfinite(voxels)).sum()} NaN or infinite voxels",
                        "Replace them, for instance by 0, or leave the subject out.")
    if not np.isfinite(high - low):
        raise UserError(path, "intensities whose range fits a float64", f"{low:g} to {high:g}", "Rescale the image.")
    if low == high:
        raise UserError(path, "an image with contrast", f"{low:g} in every voxel", "Fetch the file again.")


def check_label(path, voxels, spec):
    """Raise UserError unless every value has a class; return warnings (a label without foreground)."""
    if voxels.dtype.kind not in "iufb":
        raise UserError(path, "one label a voxel", f"type {voxels.dtype}", "Convert it to whole numbers.")
    foreground = voxels[voxels != 0]  # few: sorting them all would take longer than the rest of the checks
    values = np.unique([*np.unique(foreground), 0] if foreground.size < voxels.size else foreground)
    unknown = [value for value in values.tolist() if not any(abs(value - known) <= WHOLE for known in spec.label_map)]
    if unknown:
        listed = ", ".join(f"{value:g}" for value in unknown[:5]) + (", ..." if len(unknown) > 5 else "")
        raise UserError(path, f"labels among {', '.join(map(str, spec.label_map))}", listed,
                        "Correct the label image, or the label map of the DatasetSpec.")
    if not any(spec.label_map[int(value)] for value in label_values(values)):
        return [f"{path}: no foreground in this label (values {', '.join(f'{v:g}' for v in values)}). "
                "Its slices count as empty."]
    return []


def check_grid(path, image, reference, name):
    """Raise UserError unless two RAS+ images share shape and place: every corner within half a voxel of `name`'s."""
    if image.shape[:3] != reference.shape[:3]:
        raise UserError(path, f"shape {reference.shape[:3]} as the {name} image", f"{image.shape[:3]}",
                        "Resample it to the same grid.")
    corners = np.array(np.meshgrid(*[(0, size - 1) for size in image.shape[:3]])).reshape(3, -1)
    apart = np.abs(nib.affines.apply_affine(image.affine - reference.affine + np.diag((0, 0, 0, 1)), corners.T))
    tolerance = 0.5 * min(nib.affines.voxel_sizes(reference.affine))
    if apart.max() > tolerance:
        raise UserError(path, f"the same place as the {name} image within {tolerance:.2f} mm",
                        f"corners {apart.max():.2f} mm apart", "Register it, or correct its header.")
