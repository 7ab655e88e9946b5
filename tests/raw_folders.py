"""Raw scans in layouts that people have, which tests write themselves."""

import json

import nibabel as nib
import numpy as np

from conftest import run
from scans.datasets import find_subjects
from scans.layouts import read_layout


def write_image(path, values=(), seed=0, shape=(8, 9, 2)):
    """Noise; or, with values, a label image that holds them, one voxel each, and 0."""
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.random.default_rng(seed).normal(100, 9, shape).astype(np.float32)
    if values:
        voxels = np.zeros(shape, np.uint8)
        voxels[:len(values), 3, 1] = values
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), path)


def write_nnunet(root, cases=3, channels=2, ending=".nii.gz", values=(1,), **described):
    """A raw data set of nnU-Net; `described` changes its dataset.json."""
    for case in range(cases):
        for channel in range(channels):
            write_image(root / "imagesTr" / f"c_{case:04d}_{channel:04d}{ending}", seed=channel)
        write_image(root / "labelsTr" / f"c_{case:04d}{ending}", values)
    names = {str(number): f"M{number}" for number in range(channels)}
    (root / "dataset.json").write_text(json.dumps(
        {"channel_names": names, "labels": {"background": 0, "lesion": 1}, "numTraining": cases,
         "file_ending": ending} | described))
    return root


def write_bids(root, scans=("sub-1", "sub-2"), tails=("FLAIR", "T1w"),
               mask="derivatives/manual/{}_label-lesion_mask"):
    """A BIDS data set; a scan is named sub-1 or sub-1_ses-2."""
    for scan in scans:
        place = f"{scan.replace('_', '/')}/anat/{scan}"
        for number, tail in enumerate(tails):
            write_image(root / f"{place}_{tail}.nii.gz", seed=number)
        if mask:
            folder, _, tail = mask.partition("{}")
            write_image(root / f"{folder}{place}{tail}.nii.gz", (1,))
    return root


def found(layout, raw):
    """{scan: {modality or "label": names of its files}} in a layout."""
    subjects = find_subjects(raw, read_layout(layout, raw)[1])
    return {subject.name: {kind: [path.name for path in paths]
                           for kind, paths in subject.files.items()} for subject in subjects}


def verify(layout, raw):
    return run("preprocess.py", "--layout", layout, "--raw", raw, "--verify")


TOML = 'label = "seg.nii*"\nmodalities.FLAIR = "flair.nii*"\nlabel_map = {0 = 0, 1 = 1}\n'


def write_toml(folder, text=TOML, name="my.toml"):
    (folder / name).write_text(text)
    return folder / name
