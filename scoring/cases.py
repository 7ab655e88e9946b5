"""The validation scans of a result set: each is read once and handed out as a Case."""

import zipfile
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from scipy import ndimage

from metrics import dice
from scans import folder
from scoring.rows import PAIR
from utils import UserError

RULE1 = ("the validation slice whose ground truth has the most separate parts (the larger one on "
         "ties), whatever the predictions are")
RULE4 = ("validation scans with a lesion, ranked by lesion volume: the smallest, the median and "
         "the largest; in each the slice with the largest lesion area")
RULE_EMPTY = ("of the validation slices without a lesion the one in which GDL predicts the most "
              "foreground (GDL + boundary on ties, then the first one)")


@dataclass(eq=False)
class Case:
    """One validation scan on the network's grid.

    Attributes:
        name: of the scan.
        spacing: size of a voxel along slices, rows and columns, mm.
        truth: (S, H, W) uint8 classes.
        images: (S, C, H, W) uint16, memory-mapped.
        phi: (S, K - 1, H, W) float32 distance maps, memory-mapped.
        channel: number of the modality that figures show.
        classes: K.
    """

    name: str
    spacing: tuple
    truth: np.ndarray
    images: np.ndarray
    phi: np.ndarray
    channel: int
    classes: int

    @property
    def pixel(self):
        """Size of a pixel along rows and columns, mm."""
        return self.spacing[1:]

    @cached_property
    def lesion(self):
        """(S, H, W) bool: foreground of any class."""
        return self.truth > 0

    @property
    def volume_ml(self):
        """Volume of the foreground, ml."""
        return float(self.lesion.sum() * np.prod(self.spacing) / 1000)

    def slice_image(self, index):
        """The shown modality of one slice: (H, W) float, 0 to 1."""
        return np.asarray(self.images[index, self.channel], float) / folder.INTENSITY_MAX

    def projection(self):
        """The shown modality, the brightest of all slices: (H, W) float, 0 to 1."""
        return np.asarray(self.images[:, self.channel].max(0), float) / folder.INTENSITY_MAX

    def predicted(self, run):
        """(S, H, W) classes that a run's best model predicts; None if it has not written them."""
        part = run.part_of(self.name)
        if part is None or not (path := part.folder / "predictions.npz").exists():
            return None
        try:
            with np.load(path, allow_pickle=False) as stored:
                labels = stored[self.name] if self.name in stored.files else None
        except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
            raise UserError(path, "arrays by subject", f"{type(error).__name__}: {error}",
                            "Repeat the run that wrote it.") from None

        if labels is not None and labels.shape != self.truth.shape:
            raise UserError(path, f"{self.truth.shape} for {self.name}, as its labels have",
                            f"{labels.shape}", "Repeat the run that wrote it.")
        return labels

    def predicted_lesion(self, run):
        """(S, H, W) bool: foreground of any class that a run predicts; None as above."""
        labels = self.predicted(run)
        return None if labels is None else labels > 0

    def slice_dice(self, labels, index):
        """DSC of one slice of predicted classes (S, H, W), the mean over the foreground classes."""
        return float(np.mean([dice(labels[index] == k, self.truth[index] == k)
                              for k in range(1, self.classes)]))


def validation_names(results):
    """Names of the validation scans, sorted; of cross-validation all scans."""
    return sorted(folder.subjects_of(results.data, "val"))


@cache
def validation_cases(results):
    """The Cases of a ResultSet, sorted by name; () where the data folder is not there."""
    if not folder.subject_path(results.data, "").is_dir():
        return ()
    channel = shown_modality(results)[0]
    return tuple(
        Case(name, folder.read_meta(results.data, name).spacing,
             np.asarray(folder.open_array(results.data, name, "labels")),
             folder.open_array(results.data, name, "images"),
             folder.open_array(results.data, name, "distance"), channel, len(results.classes))
        for name in validation_names(results))


def shown_modality(results):
    """(channel, name) of the modality that figures show.

    It is Tmax where there is one, since CT hardly shows a core; else the first.
    """
    names = results.dataset.modalities or ["image"]
    channel = names.index("CT_Tmax") if "CT_Tmax" in names else 0
    return channel, names[channel]


def shown_run(results, row):
    """The run that pictures show: the first seed that has predictions, finished ones first."""
    return next(iter(shown_runs(results, row)), None)


def shown_runs(results, row):
    """The runs of a row that have predictions, finished ones first."""
    runs = [run for run in results.losses.get(row, [])
            if all((part.folder / "predictions.npz").exists() for part in run.parts)]
    return sorted(runs, key=lambda run: not run.finished)


def largest_of_class(results, number):
    """(Case, slice) with the largest area of a class, in the scan with the most of it; or None."""
    cases = validation_cases(results)
    areas = [(case.truth == number).sum(axis=(1, 2)) for case in cases]
    volumes = [area.sum() * np.prod(case.spacing) for area, case in zip(areas, cases, strict=True)]
    if not any(volumes):
        return None
    last = len(volumes) - 1 - int(np.argmax(volumes[::-1]))  # of equal ones, as in ranked_cases
    return cases[last], int(areas[last].argmax())


def ranked_cases(results):
    """RULE4 -> up to three (rank in words, volume in ml, Case, slice)."""
    bearing = [case for case in validation_cases(results) if case.lesion.any()]
    found = sorted(((case.volume_ml, case.name, case) for case in bearing),
                   key=lambda entry: entry[:2])

    last = len(found) - 1
    ranks = {last: "largest", last // 2: "median", 0: "smallest"}  # of two scans: no median
    return [(ranks[at] if last else "only", found[at][0], found[at][2],
             int(found[at][2].lesion.sum(axis=(1, 2)).argmax()))
            for at in sorted(ranks) if 0 <= at <= last]


def worst_empty_slice(results):
    """RULE_EMPTY -> (Case, slice); None if no slice is empty, or no run predicts anything there."""
    runs = [run for run in (shown_run(results, row) for row in PAIR) if run]
    most, found = [0] * len(runs), None
    for case in validation_cases(results):
        masks = [case.predicted_lesion(run) for run in runs]
        for index in np.flatnonzero(~case.lesion.any(axis=(1, 2))):
            area = [0 if mask is None else int(mask[index].sum()) for mask in masks]
            if area > most:
                most, found = area, (case, int(index))
    return found


def most_parts(results):
    """RULE1 -> (Case, slice, number of parts), or None if no validation slice contains a lesion."""
    best, found = (0, 0), None
    for case in validation_cases(results):
        for index, truth in enumerate(case.lesion):
            parts = ndimage.label(truth, np.ones((3, 3)))[1] if truth.any() else 0  # corners touch
            if (parts, truth.sum()) > best:
                best, found = (parts, truth.sum()), (case, index, parts)
    return found
