"""Where each data set keeps its files, and reading them with every check a scan must pass.

A data set is one DatasetSpec. To use your own, add an entry to DATASETS (see the README, "Your own data").
"""

import errno
import hashlib
import os
import re
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np

from utils import UserError

MAX_VOXELS = 2 ** 28      # 1 GiB as float32: refuse a damaged header before memory is taken
MAX_BYTES = 2 ** 31      # of voxels as they are stored: a small .nii.gz may hold wide numbers
UNREADABLE = (OSError, ValueError, EOFError, zlib.error)  # what nibabel and gzip raise on damaged files
PADDING = 2 ** 26         # bytes that a file may have before the first voxel, and after the last: hundreds, usually none
SPACING_MM = (0.01, 100)  # what a voxel of a scan can measure along an axis
WHOLE = 1e-3              # labels stored with a scale factor come out as 0.99999998 where 1 is meant
NOT_OPENED = {            # why a file cannot be opened: what was found, what to do
    errno.EACCES: ("no permission to read it", "Change its permissions."),
    errno.EPERM: ("no permission to read it", "Change its permissions."),
    errno.EISDIR: ("a folder", "Put the image itself in its place."),
    errno.ENOENT: ("a link to nothing", "Put the image itself in its place."),
    errno.ELOOP: ("a link that leads back to itself", "Put the image itself in its place.")}


@dataclass(frozen=True)
class DatasetSpec:
    """One data set, declaratively. Patterns are globs relative to a subject's folder."""

    modalities: dict       # name -> pattern; the order is the order of the network's input channels
    label: str             # pattern of the label image
    label_map: dict        # value in the label image -> class; any other value is an error
    classes: tuple = ("background", "lesion")
    n_subjects: int = 60   # size of the full set ...
    n_val: int = 10        # ... and its validation part; smaller sets are split in the same proportion
    ignore: tuple = ()     # label values that the challenge's evaluation leaves out of both masks
    sites: dict = field(default_factory=dict)  # folder name on the path -> subjects: how the real set is recognised
    scan_name: str = ""    # where a folder holds several scans: regex whose group, in a file's name, tells them apart
    skip: tuple = (r"__MACOSX", r"\..*", r"(?i)test(ing)?", r"additional_annotations",
                   r".*\.partial-\d+")  # folders never entered; the last are leftovers of a killed program


DATASETS = {
    "wmh": DatasetSpec(
        modalities={"FLAIR": "pre/FLAIR.nii*", "T1": "pre/T1.nii*"}, label="wmh.nii*",
        label_map={0: 0, 1: 1, 2: 0}, ignore=(2,), n_subjects=60, n_val=10,
        sites={"Utrecht": 20, "Singapore": 20, "GE3T": 20}),
    "isles": DatasetSpec(
        modalities={name: f"SMIR.Brain.*.O.{name}.*/SMIR.Brain.*.O.{name}.*.nii*"
                    for name in ("CT", "CT_CBF", "CT_CBV", "CT_MTT", "CT_Tmax")},
        label="SMIR.Brain.*.O.OT.*/SMIR.Brain.*.O.OT.*.nii*",
        label_map={0: 0, 1: 1}, n_subjects=94, n_val=20, sites={"case_": 94}),
    "acdc": DatasetSpec(  # cardiac cine MRI (Bernard et al. 2018): end of diastole and of systole of each patient
        modalities={"MR": "*_frame[0-9][0-9].nii*"}, label="*_frame[0-9][0-9]_gt.nii*",
        label_map={0: 0, 1: 1, 2: 2, 3: 3}, classes=("background", "right ventricle", "myocardium", "left ventricle"),
        n_subjects=200, n_val=40, scan_name=r"_(frame\d+)"),
}


def get_spec(layout):
    if layout not in DATASETS:
        raise UserError("--layout", f"one of {', '.join(DATASETS)}", repr(layout), "Add a DatasetSpec for another.")
    return DATASETS[layout]


@dataclass(frozen=True)
class Subject:
    """One scan: its name, folder, and the file of each modality and of the label (a list, one entry when correct)."""

    name: str
    folder: Path
    files: dict  # modality or "label" -> [Path, ...]


def find_subjects(raw, spec, duplicates=None):
    """Every subject below `raw`, at any depth, sorted by name as strings.

    A folder is a subject when any file of the spec lies in it at its place, so a subject with a file missing is found
    and reported. Links are followed, each real folder once.

    Args:
        duplicates: a dict to which {name: [problem, ...]} is added for names that occur more than once; without it
            they raise.

    Raises:
        UserError: `raw` is not a folder, holds no subject, or holds two of one name.
    """
    raw = Path(raw)
    if not raw.is_dir():
        raise UserError(raw, "a folder of scans", "a file" if raw.exists() else "nothing there",
                        "Give the folder that holds the subjects' folders.")
    patterns = {**spec.modalities, "label": spec.label}
    subjects, seen = {}, set()
    for folder in _walk(raw, spec.skip, seen):
        files = {name: sorted(folder.glob(pattern)) for name, pattern in patterns.items()}
        for subject in subjects_of(folder, files, spec.scan_name):
            if subject.name in subjects:
                error = UserError(folder, "subject names that occur once", f"{subject.name} also at "
                                  f"{subjects[subject.name].folder}", "Rename one of the folders, or remove the copy.")
                if duplicates is None:
                    raise error
                duplicates.setdefault(subject.name, []).append(str(error))
                continue
            subjects[subject.name] = subject
    if not subjects:
        raise UserError(raw, f"folders with {', '.join(patterns.values())}", "none at any depth",
                        "Check the path and the layout.")
    return [subjects[name] for name in sorted(subjects)]


def subjects_of(folder, files, scan_name):
    """The subjects whose files {modality or "label": [Path, ...]} lie in one folder: none, one, or one per scan's name."""
    if not any(files.values()):
        return []
    if not scan_name:
        return [Subject(folder.name, folder, files)]
    names = {path: found[1] for paths in files.values() for path in paths if (found := re.search(scan_name, path.name))}
    return [Subject(f"{folder.name}_{scan}", folder, {name: [path for path in paths if names.get(path) == scan]
                                                      for name, paths in files.items()})
            for scan in sorted(set(names.values()))]


def _walk(folder, skip, seen):
    """Folders below `folder`, itself included, parents first; a link that leads back is not followed again."""
    real = os.path.realpath(folder)
    if real in seen:
        return
    seen.add(real)
    yield folder
    for entry in sorted(os.scandir(folder), key=lambda item: item.name):
        is_folder = Path(entry.path).is_dir() if entry.is_symlink() else entry.is_dir()  # Path: False on a loop of links
        if is_folder and not any(re.fullmatch(pattern, entry.name) for pattern in skip):
            yield from _walk(Path(entry.path), skip, seen)


def recognise(subjects, spec):
    """True if these are the challenge's own scans by number and site (a phantom is told apart by its headers)."""
    if not spec.sites or len(subjects) != sum(spec.sites.values()):
        return False
    count = Counter(site for subject in subjects for site in spec.sites
                    if any(part.startswith(site) or part.endswith(f"_{site}") for part in subject.folder.parts[-3:]))
    return count == Counter(spec.sites)


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


def read_volume(path):
    """A 3-D image in RAS+ orientation.

    Returns:
        (voxels, image): array (X, Y, Z) with scl_slope and scl_inter applied, and the reoriented nibabel image.

    Raises:
        UserError: not a readable NIfTI, not 3-D, empty, implausible spacing, or too large to be a scan.
    """
    again = "Fetch the file again."
    check_opens(path)
    try:
        image = nib.load(path)
        shape, spacing = image.shape, [*nib.affines.voxel_sizes(image.affine), *stored_spacing(image, path)]
    except (*UNREADABLE, nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError) as error:
        size = os.path.getsize(path)
        found = "an empty file" if size == 0 else f"{size} bytes that are not one ({type(error).__name__})"
        raise UserError(path, "a NIfTI image", found, again) from None
    shape = shape[:3] if len(shape) > 3 and set(shape[3:]) == {1} else shape
    if len(shape) != 3 or not all(size > 0 for size in shape):
        raise UserError(path, "a 3-D image", f"shape {shape}", "Give the 3-D image of this modality.")
    if int(np.prod(shape, dtype=object)) > MAX_VOXELS:
        raise UserError(path, f"at most {MAX_VOXELS} voxels", f"shape {shape}", f"The header is damaged. {again}")
    if (size := int(np.prod(shape, dtype=object)) * image.get_data_dtype().itemsize) > MAX_BYTES:
        raise UserError(path, f"at most {MAX_BYTES} bytes of voxels", f"{size}", "Store it in a narrower type.")
    if not 0 <= image.dataobj.offset <= PADDING:
        raise UserError(path, f"voxels that begin within {PADDING} bytes", f"{image.dataobj.offset}",
                        f"The header is damaged. {again}")
    if implausible(spacing):
        raise UserError(path, f"voxels of {SPACING_MM[0]} to {SPACING_MM[1]} mm",
                        f"{', '.join(f'{size:g}' for size in implausible(spacing))} mm", "Correct the header's spacing.")
    try:
        image = nib.as_closest_canonical(whole(image, path) if str(path).endswith(".gz") else image)
        # a flipped image is a view that walks backwards; in order, each pass over it is several times as fast
        return np.asfortranarray(np.asanyarray(image.dataobj).reshape(image.shape[:3])), image
    except nib.orientations.OrientationError:
        raise UserError(path, "three directions of the axes", "an affine that has fewer", "Correct the header.") from None
    except UNREADABLE as error:
        raise UserError(path, "a complete image", f"a truncated or damaged one ({type(error).__name__})", again) from None


def check_opens(path):
    """UserError that says why a file cannot be opened; nibabel calls it no image."""
    try:
        with open(path, "rb"):
            return
    except OSError as error:
        found, do = NOT_OPENED.get(error.errno, (error.strerror or str(error), "Check the file and its disk."))
        raise UserError(path, "a readable file", found, do) from None


def stored_spacing(image, path):
    """The three voxel sizes as the header holds them, mm; nibabel turns 0 into 1 and drops the sign without a word."""
    with nib.openers.ImageOpener(path) as file:
        header = type(image.header).from_fileobj(file, check=False)
    return [float(size) for size in header["pixdim"][1:4]]


def implausible(spacing):
    """Those of the voxel sizes (mm) that no scan has; NaN among them."""
    return [size for size in spacing if not SPACING_MM[0] <= size <= SPACING_MM[1]]


def label_values(voxels):
    """Label values as whole numbers, whatever type or scale factor they were stored with; `check_label` checked them."""
    return voxels if voxels.dtype.kind in "iu" else np.rint(voxels).astype(np.int64)


def whole(image, path):
    """The image read from all of its gzip file, whose checksum stands at the end: nibabel stops at the last voxel."""
    size = image.dataobj.offset + int(np.prod(image.shape)) * image.get_data_dtype().itemsize
    with open(path, "rb") as file:  # `read` takes the memory that it is asked for, however small the file is
        packed = file.read(min(os.path.getsize(path), size + 2 * PADDING))
    return type(image).from_bytes(inflate(packed, size + PADDING)[:size])


def inflate(packed, most):
    """The bytes of a gzip file, its members one after the other, each in one call, during which other threads can run.

    Raises:
        ValueError: there are more than `most`.
        EOFError, zlib.error: it is truncated or damaged, its checksum included.
    """
    parts, left = [], most
    while packed := packed.lstrip(b"\0") if parts else packed:  # zeros may follow a member
        member = zlib.decompressobj(16 + zlib.MAX_WBITS)
        parts.append(member.decompress(packed, left + 1))
        left -= len(parts[-1])
        if left < 0:
            raise ValueError(f"more than {most} bytes")
        if not member.eof:
            raise EOFError("the end is missing")
        packed = member.unused_data
    return b"".join(parts) if len(parts) > 1 else parts[0] if parts else b""


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


def is_phantom(subject):
    """True if a header of this subject says that phantom.py wrote it; a file that cannot be read says nothing."""
    for files in subject.files.values():
        for path in files:
            try:
                if bytes(nib.load(path).header["descrip"].item()).strip(b"\0 ") == b"phantom":
                    return True
            except (*UNREADABLE, nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError):
                continue  # check_subject reports it
    return False


def source_hashes(subject):
    """{modality or "label": sha256 of its file}, by which a changed scan is noticed."""
    hashes = {}
    for name, files in subject.files.items():
        with open(files[0], "rb") as file:
            hashes[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes
