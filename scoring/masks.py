"""NIfTI masks in folders or alone: found, matched by subject, and scored scan by scan."""

import re
import unicodedata
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np

from metrics import leave_out
from scans.checks import check_grid
from scans.datasets import DATASETS, DatasetSpec, NothingFits, find_subjects
from scans.nifti import are_whole, label_values, read_volume
from scoring.challenge import wmh_masks, wmh_scores_of_masks
from scoring.columns import score_masks
from scoring.lesions import lesion_rows
from utils import UserError, is_hidden, log, progress, refuse_undecodable

# Every place where a mask may lie below a subject's folder; `find_subjects` names that folder.
# BraTS has <subject>-seg or, until 2021, <subject>_seg beside the scan's modalities.
NESTED = DatasetSpec(
    modalities={"isles": DATASETS["isles"].label, "brats": "*[-_]seg.nii*",
                "result": "result.nii*"},
    label=DATASETS["wmh"].label, label_map={})
KINDS = ("label", "isles", "brats", "result")  # which counts where a subject has several

NIFTI = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)  # how the names of masks end

# What the name of one and the same scan may end with: nnU-Net's first channel, BraTS's mask
ENDINGS = re.compile(r"(?<=.)(_0000|[-_]seg)$")
MODALITY = re.compile(r"(?<=.)[-_](t1|t1ce|t1n|t1c|t2|t2w|t2f|flair)$", re.IGNORECASE)  # BraTS's
RESAMPLE = ("Resample the prediction to the reference's grid with nearest neighbours; if it was "
            "made on that very grid, give it the reference's header instead.")


@dataclass(frozen=True)
class Rules:
    """How masks are scored.

    Attributes:
        labels: values to score, each alone.
        ignored: values of the reference whose voxels are left out of both masks.
        empty: "diagonal" or "nan", the distance where only one mask is empty.
        tolerance: of the surface Dice, mm.
        overlap: IoU that two lesions of the panoptic quality exceed.
        protocol: "wmh" for the challenge's rules (see scoring.challenge), which need labels (1,),
            ignored (2,) and empty "nan"; else None.
        lesions: also give a row per lesion.
        known: all values that a mask may hold; None: any.
    """

    labels: tuple = (1,)
    ignored: tuple = ()
    empty: str = "diagonal"
    tolerance: float = 1.0
    overlap: float = 0.5
    protocol: str | None = None
    lesions: bool = False
    known: tuple | None = None


class ScoredScan(NamedTuple):
    """One scan.

    Attributes:
        scores: {label: {score: value}}.
        lesions: {label: [row, ...]} of `lesion_rows`; {} if the rules did not ask for them.
        predicted_values, reference_values: the set of values in each of its two files; of the
            prediction without those in left-out voxels, where it may hold anything.
    """

    scores: dict
    lesions: dict
    predicted_values: set
    reference_values: set


# Which masks there are ----------------------------------------------------------------------------

def find_all(places):
    """[{subject: path}, ...] of the masks in each of several folders, or of several files.

    Files alone are masks of one scan, whatever their names, and go by that of the last one. In
    folders, names are brought to one where they differ by an ending alone: see `same_names`.

    Raises:
        UserError: see `find_masks`, `same_names`; files and folders beside each other.
    """
    alone = [is_one_mask(place) for place in places]
    if not any(alone):
        return same_names([find_masks(place) for place in places])
    if not all(alone):
        folder = places[alone.index(False)]
        raise UserError(places[alone.index(True)], "folders of masks, or one file in each place",
                        f"a file, beside the folder {folder}", "Give two files or two folders.")

    subject = name_of(Path(places[-1]))
    return [{subject: Path(place)} for place in places]


def is_one_mask(place):
    """Is this a mask, and no folder?

    Raises:
        UserError: a file with another ending, or one that does not exist.
    """
    place = Path(place)
    is_named_so = NIFTI.search(place.name)
    if place.is_file() and not is_named_so:
        raise UserError(place, "a mask named .nii or .nii.gz, or a folder of masks",
                        "a file of another name", "Check the path.")
    if is_named_so and not place.exists():
        raise UserError(place, "a mask", "no such file", "Check the path.")
    return place.is_file()


def name_of(path):
    return NIFTI.sub("", path.name)


def find_masks(folder):
    """{subject: path} of the masks in a flat or nested folder.

    Raises:
        UserError: no mask at all, or two of one subject.
    """
    folder = Path(folder)
    flat = find_flat(folder)
    if flat:
        files = [(name_of(path), path) for path in flat]
    elif folder.is_dir() and not any(entry.is_dir() for entry in folder.iterdir()):
        raise UserError(folder, "masks named <subject>.nii or .nii.gz", "none", "Check the path.")
    else:
        try:
            subjects = find_subjects(folder, NESTED)
        except NothingFits:
            raise UserError(folder, "masks <subject>.nii.gz in it, or below it in the layout of "
                            "WMH, ISLES or BraTS", "none",
                            "Copy the masks into one folder, each named after its scan.") from None
        files = [(subject.name, path) for subject in subjects
                 for path in next(filter(None, map(subject.files.get, KINDS)))]

    masks = {}
    for subject, path in files:
        if subject in masks:
            raise one_of_two(path, masks[subject])
        masks[subject] = path
    return masks


def find_flat(folder):
    """The masks that lie in the folder itself, sorted.

    Beside BraTS's <subject>-seg.nii.gz, <subject>-t1n.nii.gz and the like are no masks.
    """
    found = [path for path in sorted(folder.glob("*"))
             if NIFTI.search(path.name) and not is_hidden(path, folder) and not path.is_dir()]
    names = set(map(name_of, found))

    def is_modality(path):
        subject, count = MODALITY.subn("", name_of(path))
        return count and names & {f"{subject}-seg", f"{subject}_seg"}

    masks = [path for path in found if not is_modality(path)]
    for path in masks:
        refuse_undecodable(path)
    return masks


def one_of_two(path, other):
    return UserError(path, "one mask per subject", f"also {other}", "Remove one of the two.")


def same_names(folders):
    """Masks of several folders, with names that differ by an ending of ENDINGS alone made one.

    case_0000.nii.gz and case.nii.gz are then masks of one subject, "case". Names that stand in
    every folder stay as they are.

    Args:
        folders: [{subject: path}, ...].

    Raises:
        UserError: a folder has two masks of such a subject.
    """
    everywhere = set.intersection(*map(set, folders))
    plain = [{ENDINGS.sub("", name) for name in masks} for masks in folders]

    renamed = []
    for at, masks in enumerate(folders):
        elsewhere = set().union(*(names for k, names in enumerate(plain) if k != at))
        found = {}
        for name, path in masks.items():
            short = ENDINGS.sub("", name)
            subject = short if name not in everywhere and short in elsewhere else name
            if subject in found:
                raise one_of_two(path, found[subject])
            found[subject] = path
        renamed.append(found)
    return renamed


def match(predictions, references, folders, allow_partial):
    """Sorted subjects that have both a prediction and a reference.

    Args:
        predictions, references: {subject: path}.
        folders: the two folders, for the error.
        allow_partial: leave out subjects that have only one of the two.

    Raises:
        UserError: there are such subjects and `allow_partial` is False, or nothing else is left.
    """
    both = sorted(set(predictions) & set(references))

    for here, there, where in ((predictions, references, folders[0]),
                               (references, predictions, folders[1])):
        alone = sorted(set(here) - set(there))
        if alone and (not allow_partial or not both):
            do = ("Add their masks, or give --partial to score the others." if both else
                  "Name the masks after the subjects.")
            if as_stored_alike(alone) & as_stored_alike(set(there) - set(here)):
                do = ("The other folder's names look the same, but store accents in another way "
                      "(Unicode NFC and NFD): rename them.")
            raise UserError(where, "the same subjects in both folders",
                            f"only here: {listed(alone)}", do)
    return both


def as_stored_alike(names):
    """The names with letters and their accents stored as one."""
    return {unicodedata.normalize("NFC", name) for name in names}


def listed(names):
    """The first ten of the names, and how many more there are."""
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(names[:10]) + more


# What they hold, and its scores -------------------------------------------------------------------

def read_labels(path):
    """The label values of a mask, (X, Y, Z) integers in RAS+ orientation, and its image."""
    voxels, image = read_values(path)

    # Labels stored with a scale factor are read as floats.
    if voxels.dtype.kind not in "iu":
        if voxels.dtype.kind != "f" or not are_whole(voxels).all():
            raise UserError(path, "a mask of whole-number labels", "other values (probabilities?)",
                            "Threshold it, or give the mask instead.")
        voxels = label_values(voxels)
    return voxels, image


def read_values(path):
    """The values of a mask, label or probability, (X, Y, Z) in RAS+ orientation, and its image."""
    try:
        voxels, image = read_volume(path)
    except zlib.error as error:
        raise UserError(path, "a complete image", f"damaged compression ({error})",
                        "Fetch the file again.") from None
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        raise UserError(path, "a mask of labels", "NaN or infinite voxels", "Make the mask again.")
    return voxels, image


def for_each_scan(work, *columns, jobs, desc):
    """[work(*row) for row of `columns`], by `jobs` threads, with progress; stops at an error."""
    with ThreadPoolExecutor(jobs) as pool:
        try:
            results = pool.map(work, *columns)
            return list(progress(results, total=len(columns[0]), desc=desc, unit="scan"))
        except BaseException:  # do not read all other scans before reporting one bad file
            pool.shutdown(cancel_futures=True)
            raise


def score_folder(folders, predictions, references, rules, jobs):
    """The scores of every scan of a folder.

    Args:
        folders: those of the predictions and of the references, for messages.
        predictions, references: lists of files, a pair of them for each scan.
        rules: the Rules.
        jobs: scans at a time.

    Returns:
        [ScoredScan], one per scan.

    Raises:
        UserError: a file cannot be scored, or no mask of a folder holds any of the labels.
    """
    work = partial(score_pair, rules=rules)
    scans = for_each_scan(work, predictions, references, jobs=jobs, desc=f"scoring {folders[0]}")

    predicted = set().union(*(scan.predicted_values for scan in scans))
    true = set().union(*(scan.reference_values for scan in scans))
    refuse_other_labels(folders, (predicted, true), rules)
    note_masks_of_others(predictions, scans, true, rules)
    return scans


def refuse_other_labels(folders, values, rules):
    """UserError if the masks of a folder hold values, but none of `labels`; warn of unused labels.

    Where the other folder holds those values too and one of `labels`, the two number their classes
    alike, and this one simply lacks a class.

    Args:
        folders: those of the predictions and of the references.
        values: the set of values that the masks of each hold.
        rules: the Rules.
    """
    labels = set(rules.labels)
    values = values[0], values[1] - set(rules.ignored)
    for folder, found, other in zip(folders, values, values[::-1], strict=True):
        known = other if other & labels else set()
        if found - {0} - known and not found & labels:
            raise UserError(folder, f"label {either(labels)} in some mask",
                            f"only the values {', '.join(map(str, sorted(found)[:10]))}",
                            "Give --labels.")
        missing, instead = labels & other - found, found - {0} - labels - other
        if missing and instead:
            log(f"warning: no mask of {folder} holds label {either(missing)}, and some hold "
                f"{either(instead)}, which is in none of the others: are the classes numbered "
                "alike?")

    unused = labels.difference(*values)
    if unused and len(labels) > 1:
        log(f"warning: no mask of {folders[0]} or {folders[1]} holds label {either(unused)}: two "
            "empty masks score as equal")


def either(values):
    """{4, 2} -> "2 or 4", the first ten."""
    return " or ".join(map(str, sorted(values)[:10]))


def note_masks_of_others(files, scans, true, rules):
    """Warn of predictions whose only values are neither scored nor in any reference.

    Args:
        files, scans: the predictions, and a ScoredScan for each.
        true: the set of values in all references.
        rules: the Rules.
    """
    known = {0, *rules.labels} | true - set(rules.ignored)
    found = [(path, scan.predicted_values) for path, scan in zip(files, scans, strict=True)
             if scan.predicted_values - {0} and not scan.predicted_values & (known - {0})]
    if found:
        path, values = found[0]
        log(f"warning: {len(found)} of {len(files)} predictions hold neither a scored label nor "
            f"another of the references, and count as empty ({path}: "
            f"{', '.join(map(str, sorted(values - {0})[:10]))}). Renumber them, or give --labels.")


def score_pair(prediction_path, reference_path, rules):
    """The ScoredScan of a prediction and its reference.

    Raises:
        UserError: a file cannot be scored, or holds a value that is not one of `rules.known`.
    """
    read = read_labels if rules.protocol is None else read_values
    predicted, truth, reference = read_pair(prediction_path, reference_path, read)
    masks, left_out = masks_of_labels(predicted, truth, rules)
    # By the challenge's rules any value of a prediction is its one label.
    values = {1} if rules.protocol else values_outside(predicted, left_out)
    if rules.known is not None and (unknown := sorted(values - set(rules.known))):
        raise UserError(prediction_path, f"classes among {', '.join(map(str, rules.known))}",
                        ", ".join(map(str, unknown[:10])),
                        "Give masks in the data folder's classes, or --references.")

    spacing, slice_axis = spacing_of(reference), slice_axis_of(reference)
    scores, lesions = {}, {}
    for label, (pred, target) in masks.items():
        scores[label] = score_masks(pred, target, spacing, slice_axis, rules.empty, rules.tolerance,
                                    rules.overlap, np.count_nonzero(~left_out))
        if rules.protocol:
            scores[label].update(wmh_scores_of_masks(pred, target, spacing, slice_axis))
        if rules.lesions:
            lesions[label] = lesion_rows(pred, target, spacing, reference.affine)

    return ScoredScan(scores, lesions, values, set(np.unique(truth).tolist()))


def values_outside(predicted, left_out):
    """The set of values of a prediction; 0 and no other in left-out voxels."""
    return set(np.unique(np.where(left_out, 0, predicted)).tolist())


def read_pair(prediction_path, reference_path, read=read_values):
    """(predicted, truth, reference): values (X, Y, Z) in RAS+, and the reference's image.

    Raises:
        UserError: a file cannot be read, or the two differ in grid.
    """
    predicted, prediction = read(prediction_path)
    truth, reference = read_labels(reference_path)
    check_grid(prediction_path, prediction, reference, reference_path, RESAMPLE)
    return predicted, truth, reference


def spacing_of(image):
    """Voxel size along x, y, z, mm."""
    return nib.affines.voxel_sizes(image.affine)


def slice_axis_of(image):
    """The axis across slices as they are stored, where the challenge looks for surfaces in them.

    All is turned to RAS+ here.
    """
    return int(image.turns[2, 0])


def masks_of_labels(predicted, truth, rules):
    """({label: (pred, target)}, left_out): the bool masks that are scored, of two label images."""
    if rules.protocol:
        pred, target, left_out = wmh_masks(predicted, truth)
        return {1: (pred, target)}, left_out

    left_out = np.isin(truth, rules.ignored)
    return {label: leave_out(predicted == label, truth == label, left_out)
            for label in rules.labels}, left_out
