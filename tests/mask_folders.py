"""Small folders of masks for tests of evaluate.py, whose scores can be worked out by hand."""

import csv

import nibabel as nib
import numpy as np
import pytest

import evaluate
from utils import UserError

AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])


def box(low, high, label=1, shape=(12, 10, 6)):
    array = np.zeros(shape, np.uint8)
    array[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = label
    return array


def save(path, array, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def write_folders(root):
    """Two subjects: p1's prediction is its reference moved by 2 voxels of 2 mm; p2's is right."""
    save(root / "refs/p1.nii.gz", box((2, 2, 1), (6, 6, 4)))
    save(root / "masks/p1.nii.gz", box((2, 4, 1), (6, 8, 4)))
    save(root / "refs/p2.nii", box((1, 1, 1), (3, 3, 3)))
    save(root / "masks/p2.nii.gz", box((1, 1, 1), (3, 3, 3)))
    return root


def run_evaluate(root, *options, predictions="masks", references="refs"):
    """evaluate.py in this process, writing out.csv and summary.json in `root`; the CSV's rows."""
    evaluate.main(["--predictions", str(root / predictions), "--references", str(root / references),
                   "--csv", str(root / "out.csv"), "--summary", str(root / "summary.json"),
                   *options])
    return read(root / "out.csv")


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def error_of(root, *options, **where):
    """The message of the UserError that must come; nothing may have been written."""
    before = sorted(root.rglob("*"))
    with pytest.raises(UserError) as caught:
        run_evaluate(root, *options, **where)
    assert sorted(root.rglob("*")) == before
    return str(caught.value)
