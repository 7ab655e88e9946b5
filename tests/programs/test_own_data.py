"""docs/data.md on own data: one modality, three classes, one entry in datasets.py."""

import json
import re
import subprocess

import nibabel as nib
import numpy as np
import pytest

import forked_python
from checkout import ROOT, copy_programs


def write_subject(folder, seed):
    """A scan of the example: flair.nii.gz, and seg.nii.gz with the values 0, 1 and 4."""
    rng = np.random.default_rng(seed)
    label = np.zeros((20, 24, 4), np.int16)
    label[4:14, 5:17, 1:3] = 1
    label[7:11, 9:13, 1:3] = 4
    folder.mkdir(parents=True)
    image = rng.normal(100, 8, label.shape) + 30 * label
    nib.save(nib.Nifti1Image(image.astype(np.float32), np.diag([1.0, 1, 5, 1])),
             folder / "flair.nii.gz")
    nib.save(nib.Nifti1Image(label, np.diag([1.0, 1, 5, 1])), folder / "seg.nii.gz")


@pytest.fixture
def clone(tmp_path):
    """The programs with that entry added to scans/datasets.py, by hand as a user would."""
    folder = copy_programs(tmp_path / "clone")
    section = (ROOT / "docs" / "data.md").read_text().split("## Your own data")[1].split("\n## ")[0]
    entry = re.search(r"```python\n(.*?)```", section, re.DOTALL).group(1)
    assert len(entry.splitlines()) <= 10
    path = folder / "scans" / "datasets.py"
    path.write_text(path.read_text().replace("DATASETS = {\n", "DATASETS = {\n" + entry))
    return folder


def run(clone, *words):
    result = subprocess.run([forked_python.path(), *map(str, words)], cwd=clone,
                            capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_readmes_entry_leads_to_predictions_of_its_classes(clone, tmp_path):
    for number in range(4):
        write_subject(tmp_path / "raw" / f"p{number}", number)
    assert "OK: 4 subjects" in run(clone, "preprocess.py", "--layout", "mine", "--raw",
                                   tmp_path / "raw", "--verify")
    run(clone, "preprocess.py", "--layout", "mine", "--raw", tmp_path / "raw", "--out", "data/mine",
        "--size", 32)
    folder = clone / "data" / "mine" / "subjects" / "p0"
    assert np.load(folder / "images.npy").shape == (4, 1, 32, 32)
    assert np.unique(np.load(folder / "labels.npy")).tolist() == [0, 1, 2]
    assert np.load(folder / "distance.npy").shape == (4, 2, 32, 32)
    run(clone, "main.py", "--data", "data/mine", "--out", "run", "--width", 2, "--epochs", 1,
        "--quiet", "--threads", 1)
    assert json.loads((clone / "run" / "summary.json").read_text())["epochs"] == 1
    scores = run(clone, "evaluate.py", "--predictions", "run/predictions", "--data", "data/mine")
    assert "label 1: 1 scans" in scores and "label 2: 1 scans" in scores
