"""Where each data set keeps its files, and which subjects a folder of raw scans holds.

A data set is one DatasetSpec. DATASETS has those of the challenges; for your own, write one as a
file (see docs/data.md, "Layouts"), or add an entry here.
"""

import hashlib
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path, PurePosixPath

import numpy as np

from scans.nifti import described_by, files_of
from scans.spec_checks import check_spec
from utils import UserError, is_hidden, refuse_undecodable

# Folders that no data set's scans lie in; the last pattern is that of leftovers of a killed program
TEST = r"(?i)test(ing)?"
SKIP = (r"__MACOSX", r"\..*", TEST, r"additional_annotations", r".*\.partial-\d+")


@dataclass(frozen=True)
class DatasetSpec:
    """One data set, declaratively. Patterns are globs relative to a subject's folder."""

    modalities: dict       # name -> pattern; in the order of the network's input channels
    label: str             # pattern of the label image
    label_map: dict        # value in the label image -> class; any other value is an error
    classes: tuple = ("background", "lesion")

    # Size of the full set and of its validation part; smaller sets are split in proportion
    n_subjects: int = 60
    n_val: int = 10

    # Label values that the challenge's evaluation leaves out of both masks
    ignore: tuple = ()

    # Folder name on the path -> subjects, by which the challenge's own scans are recognised
    sites: dict = field(default_factory=dict)

    # The same of its own test set, where that is public: see scans/test_scans.py
    test_sites: dict = field(default_factory=dict)

    # Where a folder holds several scans: regex whose group, found in a file's path from that folder
    # on, names the scan. Are these of one patient? If not, the folder is the whole set.
    scan_name: str = ""
    one_patient: bool = True

    # Regex whose group, found in a file's path with the folder's name in front, names the patient
    patient_name: str = ""

    # Regex whose group, found in the .json file beside an image, names the patient; number of them
    patient: str = ""
    n_patients: int = 0

    # Folders never entered
    skip: tuple = SKIP

    @property
    def sidecars(self):
        """Patterns of the .json files beside the images, where they say whose scans these are."""
        images = (*self.modalities.values(), self.label) if self.patient else ()
        return tuple(f"{PurePosixPath(pattern).parent}/*.json" for pattern in images)

    @property
    def names_patients(self):
        """Do the names of files or folders say whose scans these are?"""
        return bool(self.patient_name or self.scan_name and self.one_patient)


DATASETS = {
    "wmh": DatasetSpec(
        modalities={"FLAIR": "pre/FLAIR.nii*", "T1": "pre/T1.nii*"}, label="wmh.nii*",
        label_map={0: 0, 1: 1, 2: 0}, ignore=(2,), n_subjects=60, n_val=10,
        sites={"Utrecht": 20, "Singapore": 20, "GE3T": 20},
        test_sites={"Utrecht": 30, "Singapore": 30, "GE3T": 30, "GE1T5": 10, "Philips": 10}),
    "isles": DatasetSpec(
        modalities={name: f"SMIR.Brain.*.O.{name}.*/SMIR.Brain.*.O.{name}.*.nii*"
                    for name in ("CT", "CT_CBF", "CT_CBV", "CT_MTT", "CT_Tmax")},
        label="SMIR.Brain.*.O.OT.*/SMIR.Brain.*.O.OT.*.nii*",
        label_map={0: 0, 1: 1}, n_subjects=94, n_val=20, sites={"case_": 94},
        patient=r"\b(Train_\d+)(?:_[A-Z]+)?\b", n_patients=63,  # see scans/patients.py
        skip=(*SKIP, r"(?i)isles(?!.*train).*test(ing)?",
              r"(?i).*isles[_ -]?201[567](?!.*2018).*")),  # its test set, and those of other years
    # Cardiac cine MRI (Bernard et al. 2018): end of diastole and of systole of each patient
    "acdc": DatasetSpec(
        modalities={"MR": "*_frame[0-9][0-9].nii*"}, label="*_frame[0-9][0-9]_gt.nii*",
        label_map={0: 0, 1: 1, 2: 2, 3: 3},
        classes=("background", "right ventricle", "myocardium", "left ventricle"),
        n_subjects=200, n_val=40, scan_name=r"_(frame\d+)"),
}


def get_spec(layout):
    """The DatasetSpec of this name in DATASETS; UserError if there is none, or one with a fault."""
    if layout not in DATASETS:
        raise UserError("--layout", f"one of {', '.join(DATASETS)}", repr(layout),
                        "Add a DatasetSpec for another.")
    check_spec(DATASETS[layout], f"{Path(__file__).parent.name}/{Path(__file__).name}: {layout}")
    return DATASETS[layout]


class NothingFits(UserError):
    """A folder that holds no scan in the layout asked for."""


@dataclass(frozen=True)
class Subject:
    """One scan.

    Attributes:
        name: unique in its raw folder.
        folder: where its files lie.
        files: modality or "label" -> [Path, ...], one entry when all is well.
        patient: whose scan it is, where the names of files or folders say so.
    """

    name: str
    folder: Path
    files: dict
    patient: str | None = None


def find_subjects(raw, spec, duplicates=None, own=(), unnamed=None):
    """Every subject below `raw`, at any depth, sorted by name as strings.

    A folder is a subject when any file of the spec lies in it at its place, so a subject with a
    file missing is found and reported. Links are followed, each real folder once.

    Args:
        duplicates: a dict to which {name: [problem, ...]} is added for names that occur more than
            once; without it they raise.
        own: what holds the folders and files that a program wrote itself (inputs.OwnOutputs); they
            are left out, as hidden files are.
        unnamed: a list to which files are added that fit a pattern, but in whose path the layout's
            `scan_name` finds no name; they are left out.

    Raises:
        UserError: `raw` is not a folder, holds no subject (NothingFits), or two of one name; or a
            name is no UTF-8.
    """
    patterns = {**spec.modalities, "label": spec.label}
    subjects, whole_sets = {}, []
    for folder in folders_below(raw, spec.skip, own):
        if any(folder.is_relative_to(whole) for whole in whole_sets):
            continue
        files = {name: sorted(path for path in matching(folder, pattern)
                              if not is_hidden(path, folder) and not is_own(path, folder, own))
                 for name, pattern in patterns.items()}
        found = subjects_of(folder, files, spec, unnamed)
        for path in (path for subject in found for paths in subject.files.values()
                     for path in paths):
            refuse_undecodable(path)
        if found and not spec.one_patient:
            whole_sets.append(folder)

        for subject in found:
            first = subjects.setdefault(subject.name, subject)
            if first is subject:
                continue
            error = UserError(folder, "subject names that occur once",
                              f"{subject.name} also at {first.folder}",
                              "Rename one of the folders, or remove the copy.")
            if duplicates is None:
                raise error
            duplicates.setdefault(subject.name, []).append(str(error))

    if not subjects:
        raise NothingFits(raw, f"folders with {', '.join(patterns.values())}", "none at any depth",
                          "Check the path and the layout.")
    return [subjects[name] for name in sorted(subjects)]


def matching(folder, pattern):
    """What a pattern fits below `folder`. Links are followed, also those that ** goes through.

    Path.glob stops at these.
    """
    return [folder / name for name in glob(pattern, root_dir=folder, recursive=True)]


def is_own(path, folder, own):
    """Is a file, or a folder on the way to it from `folder`, among a program's own outputs?"""
    between = (parent for parent in path.parents
               if parent != folder and parent.is_relative_to(folder))
    return path in own or any(parent in own for parent in between)


def subjects_of(folder, files, spec, unnamed=None):
    """The subjects in one folder: none, one, or one for each name of a scan.

    Args:
        folder: the folder.
        files: {modality or "label": [Path, ...]} of what was found in it.
        spec: the DatasetSpec.
        unnamed: see `find_subjects`.
    """
    if not any(files.values()):
        return []

    scans = {}  # name -> {modality or "label": [Path, ...]}
    for kind, paths in files.items():
        for path in paths:
            name = folder.name
            if spec.scan_name:
                name = name_in(spec.scan_name, path.relative_to(folder).as_posix())
                if name is None:
                    if unnamed is not None:
                        unnamed.append(path)
                    continue
                name = f"{folder.name}_{name}" if spec.one_patient else name
            scans.setdefault(name, {kind: [] for kind in files})[kind].append(path)

    return [Subject(name, folder, scans[name], patient_by_name(folder, scans[name], spec))
            for name in sorted(scans)]


def patient_by_name(folder, files, spec):
    """The patient that the names of a scan's folder or files say, or None."""
    if not spec.patient_name:
        return folder.name if spec.names_patients else None
    paths = (f"{folder.name}/{path.relative_to(folder).as_posix()}"
             for paths in files.values() for path in paths)
    return next(filter(None, (name_in(spec.patient_name, path) for path in paths)), None)


def name_in(pattern, path):
    """The first group of a regex that is found in a path, with "_" for "/"; None without one."""
    match = re.search(pattern, path)
    name = match and next(filter(None, match.groups()), None)
    return name.replace("/", "_") if name else None


def folders_below(raw, skip=SKIP, own=()):
    """`raw` and the folders in it at any depth, parents first; UserError if it is no folder."""
    raw = Path(raw)
    if not raw.is_dir():
        raise UserError(raw, "a folder of scans", "a file" if raw.exists() else "nothing there",
                        "Give the folder that holds the subjects' folders.")
    return _walk(raw, skip, set(), own)


def _walk(folder, skip, seen, own=()):
    """Folders below `folder`, itself included, parents first; each real folder once."""
    real = os.path.realpath(folder)
    if real in seen:
        return
    seen.add(real)
    yield folder

    for entry in sorted(os.scandir(folder), key=lambda item: item.name):
        path = Path(entry.path)
        # Path.is_dir says False on a loop of links, where DirEntry.is_dir raises
        is_folder = path.is_dir() if entry.is_symlink() else entry.is_dir()
        if not is_folder or any(re.fullmatch(pattern, entry.name) for pattern in skip):
            continue
        if path not in own:
            yield from _walk(path, skip, seen, own)


def too_few(count):
    """The UserError for a single scan, of which no option makes two."""
    return UserError("the scans", "2 subjects or more, to train and to validate", count,
                     "Add some.")


def pick_subjects(subjects, limit, seed, least=2):
    """`limit` of the subjects drawn by seed (all when None), in their order.

    Raises:
        UserError: `limit` is less than `least`, or more than there are.
    """
    if limit is None:
        return subjects
    if len(subjects) < 2:
        raise too_few(len(subjects))
    if not least <= limit <= len(subjects):
        do = ("There are no more subjects in this folder." if limit > len(subjects) else
              f"Training and validation need one each{', of different patients' * (least > 2)}.")
        raise UserError("--subjects", f"{least} to {len(subjects)}", limit, do)

    chosen = np.random.default_rng(seed).permutation(len(subjects))[:limit]
    return [subjects[index] for index in sorted(chosen)]


def recognise(subjects, spec):
    """True if these are the challenge's own scans, by number and site.

    A phantom may have the same number and sites; see `is_phantom`.
    """
    return bool(spec.sites) and are_all_of(subjects, spec.sites)


def are_all_of(subjects, sites):
    """Are these subjects as many of each of `sites`, {folder name: number}, and no others?"""
    return Counter(site_of(subject, sites) for subject in subjects) == Counter(sites)


def site_of(subject, sites):
    """The one of `sites` that a subject is of, by the names on its path; None: of none."""
    return next((site for site in sites
                 if any(part.startswith(site) or part.endswith(f"_{site}")
                        for part in subject.folder.parts[-3:])), None)


def is_phantom(subject):
    """True if a header of this subject says that scans.phantom wrote it."""
    for path in (path for paths in subject.files.values() for path in paths):
        try:
            if described_by(path) == b"phantom":
                return True
        except UserError:
            continue  # check_subject reports a file that cannot be read
    return False


def source_hashes(subject):
    """{modality or "label": sha256 of its file}, by which a changed scan is noticed."""
    hashes = {}
    for name, files in subject.files.items():
        head, voxels = files_of(files[0])
        with open(voxels, "rb") as file:
            digest = hashlib.file_digest(file, "sha256")
        if head != voxels:
            digest.update(head.read_bytes())
        hashes[name] = digest.hexdigest()
    return hashes
