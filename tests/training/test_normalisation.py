"""Percentiles and z-scores: what training sees, and that predict.py does the same to a new scan."""

import json

import nibabel as nib
import numpy as np
import pytest
import torch

from conftest import preprocess, refuses, run, train, write_six_scans
from dataloader import Patches, Slices, batches
from scans.folder import NORMALISATIONS

CPU = torch.device("cpu")
WAYS = ("percentiles", "zscore")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """raw/ and data folders of 32x32 pixels: data/, percentiles/, zscore/, and those in 3-D."""
    root = tmp_path_factory.mktemp("normalisation")
    write_six_scans(root)
    for way in WAYS:
        for name, more in ((way, ()), (f"{way}-3d", ("--map-dims", 3, "--unit", "mm"))):
            assert preprocess(root / "raw", root / name, "--normalise", way, *more).returncode == 0
    return root


def volume(root, name, modality="FLAIR"):
    return nib.load(root / "raw" / name / "pre" / f"{modality}.nii.gz").get_fdata()


def at_own_size(root, out, way):
    """A data folder of scans of 32x32 voxels, so that nothing is interpolated; its Slices."""
    for number in range(4):
        image = np.random.default_rng(number).gamma(2, 50 + number, (2, 32, 32, 3))
        place = out / "raw" / f"s{number}"
        (place / "pre").mkdir(parents=True)
        for name, voxels in zip(("FLAIR", "T1"), image, strict=True):
            nib.save(nib.Nifti1Image(voxels.astype(np.float32), np.eye(4)),
                     place / "pre" / f"{name}.nii.gz")
        label = np.zeros((32, 32, 3), np.uint8)
        label[4:9, 4:9] = 1
        nib.save(nib.Nifti1Image(label, np.eye(4)), place / "wmh.nii.gz")
    assert preprocess(out / "raw", out / "data", "--normalise", way).returncode == 0
    return Slices(out / "data", "train")


@pytest.mark.parametrize("way", WAYS)
def test_training_sees_what_the_formula_gives(root, tmp_path, way):
    slices = at_own_size(root, tmp_path, way)
    for scan in slices.scans:
        images = slices.images(range(scan.rows.start, scan.rows.stop))        # (S, C, H, W)
        for channel, modality in enumerate(("FLAIR", "T1")):
            raw = np.moveaxis(volume(tmp_path, scan.name, modality), 2, 0)
            if way == "zscore":
                expected = (raw - raw.mean()) / raw.std()
            else:
                low, high = np.percentile(raw, (0.5, 99.5))
                expected = np.clip((raw - low) / (high - low), 0, 1)
            step = np.ptp(expected) / 65535  # of 16 bits
            np.testing.assert_allclose(images[:, channel], expected, atol=0.51 * step)


def test_the_papers_way_says_nothing_new_and_the_z_score_stores_its_images(root):
    said = {name: json.loads((root / name / "dataset.json").read_text()).get("normalise")
            for name in ("data", *WAYS)}
    assert said == {"data": None, "percentiles": "percentiles", "zscore": "zscore"}
    stored = [np.load(root / name / "subjects" / "s0" / "images.npy") for name in said]
    assert (stored[0] == stored[2]).all() and (stored[0] != stored[1]).any()
    prints = {json.loads((root / name / "fingerprint.json").read_text())["sha256"]
              for name in said}
    assert len(prints) == 3


def test_batches_from_disk_and_from_the_device_are_by_each_scans_own_moments(root):
    disk, resident = (Slices(root / "zscore", "train") for _ in range(2))
    resident.move_to(CPU)
    rows = [0, 7, 12, 19, 3]
    one, two = (next(batches(slices, rows, 5, CPU)).images for slices in (disk, resident))
    assert torch.equal(one, two)
    for image, row in zip(one.numpy(), rows, strict=True):
        number, index = disk.where[row]
        stored = disk.arrays[number][0][index] / 65535
        mean, deviation = disk.moments[number].T[..., None, None]
        np.testing.assert_allclose(image, (stored - mean) / deviation, atol=1e-4)
    assert len(disk.read([]).images) == 0


def test_beyond_a_volume_lies_the_least_intensity_in_training_and_prediction(root):
    patches = Patches(root / "zscore-3d", "train", [8, 32, 32])  # of volumes with 5 slices
    for row in patches.order(0, 0):
        images = patches.read([row]).images[0]                                # (C, D, H, W)
        least = patches.beyond(row)
        mean, deviation = patches.moments[row[0]].T
        np.testing.assert_allclose(least, -mean / deviation, rtol=1e-5)
        assert (images[:, 5:].numpy() == least[:, None, None, None]).all() and least.max() < -1


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("options", [
    (), ("--dims", 3, "--patch", 8, 32, 32, "--loss", "gdl", "--amp", "off")])
def test_predict_gives_the_runs_own_masks(root, tmp_path, way, options):
    folder = root / (f"{way}-3d" if options else way)
    assert train(folder, tmp_path / "run", "--lr", 0.01, *options, epochs=6).returncode == 0
    best = tmp_path / "run" / "best.pt"
    assert NORMALISATIONS[way] in run("predict.py", "--checkpoint", best, "--describe").stdout
    result = run("predict.py", "--checkpoint", best, "--out", tmp_path / "masks", root / "raw")
    assert result.returncode == 0, result.stderr

    own = sorted((tmp_path / "run" / "predictions").iterdir())
    masks = [[nib.load(folder / path.name).get_fdata() for path in own]
             for folder in (tmp_path / "run" / "predictions", tmp_path / "masks")]
    assert len(own) == 2 and np.any(masks[0]) and np.array_equal(*masks)

    other = torch.load(best, weights_only=True)
    torch.save({**other, "data": {**other["data"], "normalise": "minmax"}}, tmp_path / "other.pt")
    refuses(run("predict.py", "--checkpoint", tmp_path / "other.pt", "--describe"), "normalisation")


@pytest.mark.parametrize("moments, found", [
    (None, "moments"), ([[0.5, 0.1]], "moments of 2 modalities, found of 1"),
    ([[0.5, 0.0], [0.5, 0.1]], "a mean and a positive deviation"),
    ([[0.5, float("inf")]] * 2, "a mean and a positive deviation")])
def test_a_scan_without_sound_moments_is_refused(root, tmp_path, moments, found):
    result = preprocess(root / "raw", tmp_path / "data", "--normalise", "zscore")
    assert result.returncode == 0
    path = tmp_path / "data" / "subjects" / "s0" / "meta.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "moments": moments}))
    refuses(train(tmp_path / "data", tmp_path / "run", epochs=1), "s0/meta.json", found)


def test_a_folder_normalised_in_another_way_is_not_continued(root):
    refuses(preprocess(root / "raw", root / "zscore", "--normalise", "percentiles"),
            "another normalise (zscore, asked for percentiles)")
