"""The validation scans of a result set, each with its truth, image, distance map and predictions."""

import zipfile

import numpy as np
from scipy import ndimage

from metrics import dice
from utils import UserError, read_csv, read_object

RULE1 = ("the validation slice whose ground truth has the most separate parts (the larger one on ties), "
         "whatever the predictions are")
RULE4 = ("validation scans that bear a lesion, ranked by lesion volume: the smallest, the median and the largest; "
         "in each the slice with the largest lesion area")


def validation_subjects(one):
    """Names of the validation scans, sorted."""
    return sorted(row["subject"] for row in read_csv(one.data / "split.csv", ("subject", "subset"))
                  if row["subset"] == "val")


def load_array(one, subject, name):
    """images, labels or distance of one subject, memory-mapped; first axis: slices."""
    path = one.data / "subjects" / subject / f"{name}.npy"
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise UserError(path, "a NumPy array", str(error), "Repeat preprocess.py.") from None


def spacing(one, subject):
    """(row, column, slice) in mm."""
    path = one.data / "subjects" / subject / "meta.json"
    values = read_object(path, ("spacing_mm",), "Repeat preprocess.py.")["spacing_mm"]
    if not isinstance(values, list) or len(values) != 3:
        raise UserError(path, "spacing_mm with three numbers", repr(values), "Repeat preprocess.py.")
    return [float(value) for value in values]


def zxy(one, subject):
    """(slice, row, column) in mm."""
    x, y, z = spacing(one, subject)
    return z, x, y


def lesions(one, subject):
    """Ground-truth foreground of one scan as a bool array (S, H, W)."""
    return np.asarray(load_array(one, subject, "labels")) > 0


def predicted_labels(run, subject, shape):
    """Predicted classes (S, H, W) of one scan at the best epoch, or None if the run has not written them."""
    path = run.folder / "predictions.npz"
    if not path.exists():
        return None
    do = "Repeat the run that wrote it."
    try:
        with np.load(path, allow_pickle=False) as stored:
            labels = stored[subject] if subject in stored.files else None
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(path, "arrays by subject", f"{type(error).__name__}: {error}", do) from None
    if labels is not None and labels.shape != shape:
        raise UserError(path, f"{shape} for {subject}, as its labels have", f"{labels.shape}", do)
    return labels


def prediction(run, subject, shape):
    """Predicted foreground (S, H, W), all its classes together, or None if the run has not written it."""
    labels = predicted_labels(run, subject, shape)
    return None if labels is None else labels > 0


def shown_run(one, loss):
    """The run that pictures are drawn from: the first seed that has predictions, finished ones first."""
    runs = [run for run in one.losses.get(loss, []) if (run.folder / "predictions.npz").exists()]
    return min(runs, key=lambda run: not run.finished, default=None)


def ranked_cases(one):
    """RULE4 -> up to three (name, subject, slice)."""
    volumes = []
    for subject in validation_subjects(one):
        truth = lesions(one, subject)
        if truth.any():
            volume = truth.sum() * np.prod(spacing(one, subject)) / 1000  # ml
            volumes.append((volume, subject, int(truth.sum(axis=(1, 2)).argmax())))
    volumes.sort()
    named = {len(volumes) - 1: "largest", (len(volumes) - 1) // 2: "median", 0: "smallest"}  # two scans: no median
    return [(named[at] if len(volumes) > 1 else "only", *volumes[at]) for at in sorted(named) if 0 <= at < len(volumes)]


def most_parts(one):
    """RULE1 -> (subject, slice, number of parts), or None if no validation slice bears a lesion."""
    best, found = (0, 0), None
    for subject in validation_subjects(one):
        for index, truth in enumerate(lesions(one, subject)):
            parts = ndimage.label(truth, np.ones((3, 3)))[1] if truth.any() else 0  # corners touch
            if (parts, truth.sum()) > best:
                best, found = (parts, truth.sum()), (subject, index, parts)
    return found


def shown_modality(one):
    """(channel, name) of the modality that figures show: Tmax where there is one, since CT hardly shows a core."""
    names = one.info.get("modalities") or ["image"]
    channel = names.index("CT_Tmax") if "CT_Tmax" in names else 0
    return channel, names[channel]


def slice_image(one, subject, index):
    """The shown modality of one slice, 0 to 1 (H, W)."""
    return np.asarray(load_array(one, subject, "images")[index, shown_modality(one)[0]], float) / 65535


def slice_dice(one, labels, truth):
    """DSC of a slice, the mean over the foreground classes."""
    return float(np.mean([dice(labels == k, truth == k) for k in range(1, len(one.classes))]))
