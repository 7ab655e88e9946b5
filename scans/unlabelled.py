"""New scans for predict.py: found without labels, checked to be complete, and read."""

import os
import re
import sys
from dataclasses import replace
from pathlib import Path

from scans import nnunet
from scans.checks import check_grid, check_intensities
from scans.datasets import find_subjects, is_own, matching, subjects_of
from scans.inputs import OwnOutputs
from scans.layouts import conversion_of, warn_of_other_folders
from scans.nifti import read_volume
from scans.spec_file import spec_of
from utils import UserError, is_hidden, log


def find_scans(places, settings, out=None):
    """Every scan in folders and among files, sorted by name.

    Args:
        places: folders or NIfTI files.
        settings: "data" of a checkpoint, with its modalities and layout.
        out: where the masks go; what was written there before is no scan.

    Returns:
        {scan: {modality: [path, ...]}}, with one path for each modality when all is well.

    Raises:
        UserError: a place does not exist or holds no scan, or two scans have the same name.
    """
    modalities, scans = settings.modalities, {}
    places = [Path(os.path.abspath(place)) for place in places]  # absolute: "." has a name then
    own = OwnOutputs(out, places)
    for place in places:
        if not place.exists():
            raise UserError(place, "a scan or a folder of scans", "nothing there",
                            "Check the path.")
        if place.is_dir():
            found = scans_of_folder(place, settings, own)
        elif is_hidden(place):
            raise UserError(place, "a scan", 'a hidden file (its name begins with ".")',
                            "Leave it out, or rename it.")
        else:
            found = scans_of_files([] if place in own else [place], modalities)

        # the files of a scan may be named one by one, and a folder more than once
        for name, files in found.items():
            scan = scans.setdefault(name, {modality: [] for modality in modalities})
            for modality, paths in files.items():
                scan[modality] += [path for path in paths if path not in scan[modality]]
    own.report()
    if not scans:
        raise UserError(out, "scans beside what this program wrote", "none", "Check the path.")
    return dict(sorted(scans.items()))


def scans_of_folder(folder, settings, own=()):
    """The scans at any depth in the layout the network was trained on.

    If there are none, those of the folder's files whose names say which modality they are.

    Args:
        own: the OwnOutputs, which are no scans.
    """
    spec = spec_of(settings, "the checkpoint")
    spec = nnunet.unlabelled(spec) if settings.layout == "nnunet" and spec else spec
    if spec and (found := scans_of_layout(folder, spec, own)):
        return found

    modalities = settings.modalities
    files = sorted(path for path in folder.glob("*")
                   if path.name.lower().endswith((".nii", ".nii.gz"))
                   and not is_hidden(path, folder) and path not in own)
    named = [path for path in files if name_and_modality(path, modalities)[1]]
    if len(modalities) == 1 and 0 < len(named) < len(files):  # labels, or other modalities
        others = [path for path in files if path not in named]
        log(f"left out: {len(others)} files whose names do not end with {modalities[0]} or 0000, "
            f"as others do: {others[0]}" + ", ..." * (len(others) > 1))
        files = named
    found = scans_of_files(files, modalities, strict=False)
    if not found:
        patterns = [", ".join(spec.modalities.values())] if spec else []
        layout = " or ".join([*patterns, f"files named <scan>_{modalities[0]}.nii.gz"])
        raise UserError(folder, f"scans with {layout}", "none",
                        conversion_of(folder) or "Check the path and the names.")
    return found


def scans_of_layout(folder, spec, own=()):
    """The scans of one layout; {} without any."""
    # no label is looked for, and a folder called test may hold what is to be segmented
    first = next(iter(spec.modalities.values()))
    entered = tuple(pattern for pattern in spec.skip if "test" not in pattern)
    unlabelled, duplicates = replace(spec, label=first, skip=entered), {}
    try:
        subjects = find_subjects(folder, unlabelled, duplicates, own)
    except UserError:  # none in this layout
        subjects = [] if spec.one_patient else part_of_set(folder, unlabelled, own)

    if duplicates:
        raise UserError(folder, "scan names that occur once",
                        f"{next(iter(duplicates))} more than once",
                        "Rename one of the folders, or segment one folder after the other.")
    if subjects:
        warn_of_other_folders(folder, unlabelled, subjects, own)
    return {subject.name: {name: subject.files[name] for name in spec.modalities}
            for subject in subjects}


def part_of_set(folder, spec, own=()):
    """The scans in a part of a whole set, such as sub-01/ of BIDS; patterns begin at the set."""
    searched = [*spec.modalities.values()]
    if any(pattern.startswith("**") for pattern in searched):  # would search all of the disk
        return []
    for root in folder.parents[:3]:
        files = {name: sorted(path for path in matching(root, pattern)
                              if path.is_relative_to(folder) and not is_hidden(path, root)
                              and not is_own(path, root, own))
                 for name, pattern in {**spec.modalities, "label": spec.label}.items()}
        if found := subjects_of(root, files, spec):
            return found
    return []


def scans_of_files(files, modalities, strict=True):
    """{scan: {modality: [path, ...]}} by the names of files.

    Args:
        files: Paths.
        modalities: names, in the network's order.
        strict: is a name that does not tell its modality an error? If not, the file is left out.
    """
    scans = {}
    for path in files:
        name, modality = name_and_modality(path, modalities)
        if modality is None and len(modalities) == 1:
            modality = modalities[0]
        if modality is None and strict:
            if do := conversion_of(path):
                raise UserError(path, "a NIfTI image", f"a file named {path.name}", do)
            raise UserError(path, f"a name that ends with the modality ({', '.join(modalities)})",
                            path.name, f"Name it like <scan>_{modalities[0]}.nii.gz.")
        if modality is not None:
            scans.setdefault(name, {}).setdefault(modality, []).append(path)
    return scans


def name_and_modality(path, modalities):
    """What a file's name says: s1_FLAIR.nii.gz -> ("s1", "FLAIR"); None for an unknown modality.

    A file that is named by its modality alone is of the scan that its folder is named after.
    """
    endings = {name.lower(): name for name in modalities}
    endings |= {f"{k:04d}": name for k, name in enumerate(modalities)}  # as nnU-Net names files

    stem = re.sub(r"(?i)(\.nii|\.img|\.hdr)?(\.gz)?$", "", path.name)
    for end in sorted(endings, key=len, reverse=True):  # CT_CBF before CT
        if stem.lower() == end or stem.lower().endswith((f"_{end}", f"-{end}")):
            return stem[:-len(end) - 1] or path.parent.name, endings[end]
    return stem, None


def check_complete(scans, modalities):
    """Check that every scan has one file of each modality.

    Raises:
        UserError: a scan lacks a modality or has two files of one. Of several such scans each is
            printed before.
    """
    checked = [incomplete(name, files, modalities) for name, files in scans.items()]
    problems = [problem for problem in checked if problem]
    if len(problems) == 1:
        raise problems[0]
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        raise UserError("the scans", f"{', '.join(modalities)} of each",
                        f"{len(problems)} of {len(scans)} incomplete",
                        "Complete those listed above, or leave them out; nothing was segmented.")


def incomplete(name, files, modalities):
    """A UserError that says what a scan lacks or has twice; None if it is complete."""
    missing = [modality for modality in modalities if not files[modality]]
    double = [f"{' and '.join(map(str, files[modality]))} for {modality}"
              for modality in modalities if len(files[modality]) > 1]
    if not missing and not double:
        return None

    place = next(path for paths in files.values() for path in paths).parent
    found = "; ".join([f"no {', '.join(missing)}"] * bool(missing) + double)
    do = ("The network was trained on all of them." if missing else
          "Keep one of them, or rename one if they are of two scans.")
    return UserError(f"{name} in {place}", f"one image each of {', '.join(modalities)}", found, do)


def read_scan(files, modalities):
    """Read and check the volumes of a scan; warnings are printed.

    Args:
        files: {modality: [path]}.
        modalities: names, in the network's order.

    Returns:
        (volumes, image): the volumes (X, Y, Z) in RAS+, in that order, and the nifti.Image of the
        first file.
    """
    volumes, images = [], []
    for modality in modalities:
        path = files[modality][0]
        voxels, image = read_volume(path)
        for line in check_intensities(path, voxels):
            print(f"warning: {line}", file=sys.stderr)
        if images:
            check_grid(path, image, images[0], f"the {modalities[0]} image")
        volumes.append(voxels)
        images.append(image)

    return volumes, images[0]
