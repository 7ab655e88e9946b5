"""Where each data set keeps its files, and reading them with every check a scan must pass.

A data set is one DatasetSpec. To use your own, add an entry to DATASETS (see the README, "Your own data").
"""

import hashlib
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib

from scans.nifti import UNREADABLE
from utils import UserError


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


def is_phantom(subject):
    """True if a header of this subject says that scans.phantom wrote it; a file that cannot be read says nothing."""
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
