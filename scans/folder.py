"""The data folder: what its files hold, how they are written, read and checked, and the order of spacing."""

from pathlib import Path

import numpy as np

from utils import UserError, read_object, write_json

AGAIN = "Remove this subject's folder and index.csv, and run preprocess.py again."
MAX_SIDE = 2 ** 14  # voxels along an axis of a scan
SETTINGS = {"layout": str, "source": str, "size": int, "classes": list, "modalities": list}  # of dataset.json
FILE = "run_time.json"  # in a data folder; nothing depends on it
IGNORED = 255  # in data/<set>/references: voxels that a challenge's evaluation leaves out of both masks
INTENSITY_MAX = 65535  # images.npy holds uint16, for intensities from 0 to 1
NORMALISATION = "each volume min-max to [0, 1], 16 bits"  # what volumes.network_input does; checkpoints carry it


def intensities(stored):
    """uint16 as images.npy holds them -> float32 in [0, 1]."""
    return np.multiply(stored, np.float32(1 / INTENSITY_MAX), dtype=np.float32)


def check_shapes(here, arrays, settings):
    """UserError unless the arrays of a subject's folder have as many slices as its labels, of the set's size."""
    count, plane = len(arrays[1]), (settings["size"], settings["size"])
    channels = {"images": [len(settings["modalities"])], "labels": [], "distance": [len(settings["classes"]) - 1]}
    for (name, between), array in zip(channels.items(), arrays, strict=True):
        if array.shape != (count, *between, *plane):
            raise UserError(here / f"{name}.npy", f"shape {(count, *between, *plane)}", f"{array.shape}", AGAIN)


def read_spacing(path):
    """spacing_mm of a subject's meta.json, mm along x, y, z; UserError if it is not three positive numbers."""
    values = read_object(path, {"spacing_mm": list}, AGAIN)["spacing_mm"]
    if len(values) != 3 or not all(isinstance(value, int | float) and 0 < value < 1e6 for value in values):
        raise UserError(path, "spacing_mm to be three positive numbers", repr(values)[:60], AGAIN)
    return values


def read_geometry(path):
    """affine and original_shape of a subject's meta.json, as a dict; UserError if they are no grid of a scan."""
    values = read_object(path, {"affine": list, "original_shape": list}, AGAIN)
    shape = values["original_shape"]
    if len(shape) != 3 or not all(type(size) is int and 0 < size <= MAX_SIDE for size in shape):
        raise UserError(path, f"original_shape to be three sizes of 1 to {MAX_SIDE} voxels", f"{shape!r:.60}", AGAIN)
    try:
        affine = np.array(values["affine"], np.float64)                                    # (4, 4)
        sound = affine.shape == (4, 4) and np.isfinite(affine).all() and 1e-12 < abs(np.linalg.det(affine[:3, :3])) < np.inf
    except (ValueError, TypeError, OverflowError):
        sound = False
    if not sound:
        raise UserError(path, "affine to be a 4x4 matrix with three directions", f"{values['affine']!r:.60}", AGAIN)
    return {"affine": affine.tolist(), "original_shape": shape}


def note_preprocessing(out, seconds, scans, total):
    """Add a call of preprocess.py to the data folder's run time.

    Args:
        out: the data folder.
        seconds: wall time of this call.
        scans, total: converted by this call, and in the set. A call that converted all of them begins a new record; one
            that found nothing to do leaves no trace.
    """
    if not scans:
        return
    path = Path(out) / FILE
    before = {} if scans == total or not path.exists() else read_times(path)
    write_json(path, {"seconds": round(before.get("seconds", 0) + seconds, 1), "scans": before.get("scans", 0) + scans})


def read_times(path):
    """{"seconds", "scans"} of a data folder, {} if its file was lost or changed: a run time is not worth a refusal."""
    try:
        found = read_object(path, ("seconds", "scans"))
    except (UserError, OSError):
        return {}
    return found if is_time(found["seconds"]) and is_time(found["scans"]) else {}


def is_time(value):
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def check_names(path, values, do):
    """UserError unless the classes and modalities of a dataset.json, where it has them, are words."""
    for key in ("classes", "modalities"):
        if not all(isinstance(name, str) for name in values.get(key, ())):
            raise UserError(path, f"{key} to be a list of names", f"{values[key]!r:.60}", do)
