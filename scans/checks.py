"""The checks of raw scans that preprocess.py makes before it writes anything."""

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import nibabel as nib
import numpy as np

from distance import WHOLE
from scans.folder import MAX_SIDE
from scans.formats import refuse_other_numbers
from scans.inputs import note_of_sizes
from scans.nifti import label_values, read_volume
from scans.spec_checks import check_shared_files
from utils import LARGEST, UserError, log, progress

SLICED = 2  # voxels this many times as long along an axis as along both others are of slices
REGISTER = "Register it and resample it to the same grid, or correct its header."


def check_all(subjects, spec, jobs, use, duplicates=None, total=None, **options):
    """Check every subject, and use those without a problem while they are in memory.

    Every warning and every problem is printed.

    Args:
        subjects: those to check.
        jobs: how many at a time.
        use: called as use(subject, volumes) with what `inspect_subject` read; not called any more
            once a problem was found.
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
        images = [image for _, image in volumes.values()]
        return Checked(warnings, [image.size_from_pixdim for image in images],
                       any(map(is_cut_across, images[:1])),
                       None if problems else use(subject, volumes))

    with ThreadPoolExecutor(jobs) as pool:
        checked = pool.map(check, subjects)
        results = list(progress(checked, total=len(subjects), unit="scan", **options))

    for line in (line for result in results for line in result.warnings):
        print(f"warning: {line}", file=sys.stderr)
    warn_of_cuts([subject.name for subject, result in zip(subjects, results, strict=True)
                  if result.is_cut_across], len(subjects))
    noted = [is_so for result in results for is_so in result.sizes_from_pixdim]
    if any(noted):
        log(note_of_sizes(sum(noted), len(noted)))
    for name in sorted(problems):
        for line in problems[name]:
            print(line, file=sys.stderr)
    if problems:
        count = sum(map(len, problems.values()))
        raise UserError(f"{len(problems)} of {total or len(subjects)} subjects", "no problem",
                        f"{count}, listed above", "Correct them and run the command again.")
    return [result.used for result in results]


class Checked(NamedTuple):
    """What there is to say of a scan.

    Attributes:
        warnings: one-line strings.
        sizes_from_pixdim: of each image, does only pixdim give its voxel size?
        is_cut_across: see `is_cut_across`.
        used: what `use` returned.
    """

    warnings: list
    sizes_from_pixdim: list
    is_cut_across: bool
    used: object


def is_cut_across(image):
    """Are a scan's slices, by its voxel size, across x or y, while all is cut into those across z?

    Args:
        image: the nifti.Image of its first modality.
    """
    x, y, z = nib.affines.voxel_sizes(image.affine)
    return x >= SLICED * max(y, z) or y >= SLICED * max(x, z)


def warn_of_cuts(names, total):
    """Say which of `total` scans are cut across their slices, by name, if any are."""
    if names:
        print(f"warning: {len(names)} of {total} scans ({names[0]}" + ", ..." * (len(names) > 1)
              + ") were acquired in slices across x or y, and are cut into others, across z. Turn "
              "them, and labels (header and voxels), so that their slices lie across z.",
              file=sys.stderr)


def check_subject(subject, spec):
    """Everything that is wrong with a subject.

    Returns:
        (problems, warnings): lists of one-line strings "file: expected ..., found .... What to
        do."; both empty when there is nothing to say.
    """
    return inspect_subject(subject, spec)[:2]


def inspect_subject(subject, spec):
    """The problems and warnings of `check_subject`, and what was read for it.

    Returns:
        (problems, warnings, volumes): volumes is {modality or "label": (voxels, image)} as
        `read_volume` gives them.
    """
    problems, warnings, volumes = [], [], {}
    for name, files in subject.files.items():
        try:
            check_shared_files(subject, name, spec)
            check_file(subject, name, files, spec)
            volumes[name] = read_volume(files[0])
        except UserError as error:
            problems.append(str(error))

    first = next(iter(volumes), None)
    for name, (voxels, image) in volumes.items():
        path = subject.files[name][0]
        try:
            if max(voxels.shape) > MAX_SIDE:
                raise UserError(path, f"at most {MAX_SIDE} voxels along an axis",
                                f"shape {voxels.shape}", "Crop or resample the scan.")
            if name == "label":
                warnings += check_label(path, voxels, spec)
            else:
                warnings += check_intensities(path, voxels)
            check_grid(path, image, volumes[first][1], f"the {first} image")
        except UserError as error:
            problems.append(str(error))
    return problems, warnings, volumes


def check_file(subject, name, files, spec):
    """Raise UserError unless a subject has exactly one file of a modality, or one label."""
    place = subject.folder / (spec.label if name == "label" else spec.modalities[name])
    place = f"{place} of {subject.name}" if spec.scan_name else place
    if not files:
        raise UserError(place, f"one {name} image", "no such file", "Add the missing file.")
    if len(files) > 1:
        names = ", ".join(path.name for path in files)
        raise UserError(place, f"one {name} image", f"{len(files)}: {names}", "Keep one of them.")


def check_intensities(path, voxels):
    """Raise UserError unless all voxels are finite real numbers, in a range to normalise by.

    Returns:
        warnings: of a least or greatest value, as of padding, so far from the others that these
        come close together.
    """
    refuse_other_numbers(path, voxels.dtype)
    bottom, top = voxels.min(), voxels.max()
    low, high = float(bottom), float(top)  # NaN if any voxel is
    if not (np.isfinite(low) and np.isfinite(high)):
        count = (~np.isfinite(voxels)).sum()
        raise UserError(path, "finite intensities", f"{count} NaN or infinite voxels",
                        "Replace them, for instance by 0, or leave the subject out.")
    if max(-low, high) > LARGEST:
        raise UserError(path, f"intensities up to {LARGEST:g}", f"{low:g} to {high:g}",
                        "Rescale the image.")
    if low == high:
        raise UserError(path, "an image with contrast", f"{low:g} in every voxel",
                        "Fetch the file again.")
    least = float(voxels.min(where=voxels > low, initial=top)) if low < 0 else low
    most = float(voxels.max(where=voxels < high, initial=bottom))
    if low < 0 and least - low > high - least > 0:
        far, others, instead = f"least value, {low:g}, is far below", (least, high), least
    elif high - most > most - low > 0:
        far, others, instead = f"greatest value, {high:g}, is far above", (low, most), low
    else:
        return []
    return [f"{path}: its {far} all others ({others[0]:g} to {others[1]:g}), which normalisation "
            "then brings close together. If it is padding, replace it, for instance by "
            f"{instead:g}."]


def check_label(path, voxels, spec):
    """Raise UserError unless every value has a class; return warnings (no foreground)."""
    refuse_other_numbers(path, voxels.dtype)
    # Sorting all voxels would take longer than the other checks together; few are foreground.
    foreground = voxels[voxels != 0]
    values = np.unique(foreground)
    if foreground.size < voxels.size:
        values = np.unique([*values, 0])

    unknown = [value for value in values.tolist()
               if not any(abs(value - known) <= WHOLE for known in spec.label_map)]
    if unknown:
        listed = ", ".join(f"{value:g}" for value in unknown[:5])
        raise UserError(path, f"labels among {', '.join(map(str, spec.label_map))}",
                        listed + (", ..." if len(unknown) > 5 else ""),
                        "Correct the label image, or the label map of the DatasetSpec (of "
                        "nnunet: dataset.json; else LAYOUT=my.toml, see docs/data.md).")

    if not any(spec.label_map[int(value)] for value in label_values(values)):
        listed = ", ".join(f"{value:g}" for value in values)
        return [f"{path}: no foreground in this label (values {listed}). "
                "Its slices count as empty."]
    return []


def check_grid(path, image, reference, name, do=REGISTER):
    """Raise UserError unless two RAS+ images lie on one grid: same shape, same place.

    Their corners may be half a voxel apart. Up to that, resampling one to the other's grid by the
    nearest neighbour would change no voxel, and headers that were rounded are accepted. A header
    may stand for several places (see geometry.find_place), of which other programs may have taken
    one or the other: one in common will do. It is the only check of this kind, for scans and masks.

    Args:
        path, image: the image that is checked.
        reference, name: the other image, and what to call it.
        do: what to do about an image elsewhere.
    """
    if image.shape[:3] != reference.shape[:3]:
        raise UserError(path, f"shape {reference.shape[:3]} as {name}", f"{image.shape[:3]}",
                        do)

    ends = [(0, size - 1) if size > 1 else (-0.5, 0.5) for size in image.shape[:3]]
    corners = np.array(np.meshgrid(*ends)).reshape(3, -1).T
    here, there = ([nib.affines.apply_affine(affine, corners)
                    for affine in getattr(scan, "places", (scan.affine,))]
                   for scan in (image, reference))
    apart = min(np.linalg.norm(a - b, axis=1).max() for a in here for b in there)            # mm
    tolerance = 0.5 * min(nib.affines.voxel_sizes(reference.affine))
    if not apart <= tolerance:  # NaN is refused too
        raise UserError(path, f"the same place as {name} within {tolerance:.2f} mm",
                        f"corners {apart:.2f} mm apart", do)
