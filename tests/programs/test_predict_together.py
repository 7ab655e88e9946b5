"""predict.py beyond the run's own masks: several networks, mirror images, another way back."""

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import nn

from conftest import refuses, run, write_wmh_subject
from networks import build
from scans.folder import Dataset
from training import ensemble
from training.best_model import BestModel

CPU = torch.device("cpu")
DATA = {"modalities": ["FLAIR", "T1"], "layout": "wmh", "classes": ["background", "lesion"],
        "size": 32, "source": "own"}
TOGETHER = ("--mirror", "--restore", "softmax")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """raw/ with two scans of 20x24x5, and a.pt, b.pt, c.pt: networks of slices."""
    root = tmp_path_factory.mktemp("together")
    for number in range(2):
        write_wmh_subject(root / "raw" / f"s{number}", seed=number)
    for seed, name in enumerate("abc"):
        save(root / f"{name}.pt", seed)
    return root


def save(path, seed, **changes):
    torch.manual_seed(seed)
    network = build("unet", 2, 2, 4)
    with torch.no_grad():  # of random weights, many pixels of either class
        list(network.parameters())[-2].mul_(20)
    torch.save({"network": network.state_dict(), "build": ["unet", 2, 2, 4],
                "data": {**DATA, **changes}}, path)


def predict(root, out, checkpoints, *more):
    """The masks and the probabilities of s0."""
    result = run("predict.py", "--checkpoint", *(root / f"{name}.pt" for name in checkpoints),
                 "--out", out, "--probabilities", *more, root / "raw" / "s0")
    assert result.returncode == 0, result.stderr
    return [np.asanyarray(nib.load(out / folder / "s0.nii.gz").dataobj)
            for folder in ("", "probabilities")]


def member(network, size=4, patch=None):
    data = Dataset(**{**DATA, "modalities": ["FLAIR"], "size": size})
    trained = BestModel(build=["stub", 1, 2, 1], data=data, patch=patch)
    network.dims = 3 if patch else 2
    return ensemble.Member(network, trained)


# By hand ------------------------------------------------------------------------------------------

class Column(nn.Module):
    """Whatever it sees, the logit of the lesion is log 3 in the first column, else 0."""

    def forward(self, images):
        logits = torch.zeros(len(images), 2, *images.shape[2:])
        logits[:, 1, ..., 0] = torch.log(torch.tensor(3.0))
        return logits


class Bright(nn.Module):
    """The logit of the lesion is log 3 where the image is bright, else -log 3."""

    def forward(self, images):
        sign = torch.where(images > 0.5, 1.0, -1.0)
        return torch.cat([torch.zeros_like(images), sign * torch.log(torch.tensor(3.0))], 1)


@pytest.mark.parametrize("patch", [None, [1, 4, 4]])
def test_mirrored_the_softmax_is_the_mean_over_both_sides(patch):
    image = np.zeros((2, 1, 4, 4), np.uint16)
    column = [member(Column(), patch=patch)]
    classes, softmax = ensemble.segment(column, CPU, image)
    assert softmax[1, 1, 2] == pytest.approx([0.75, 0.5, 0.5, 0.5])
    assert classes[1, 2].tolist() == [1, 0, 0, 0]
    classes, softmax = ensemble.segment(column, CPU, image, mirror=True)
    assert softmax[1, 1, 2] == pytest.approx([0.625, 0.5, 0.5, 0.625])
    assert classes[1, 2].tolist() == [1, 0, 0, 1]


def test_what_is_found_in_a_mirror_image_is_turned_back():
    image = np.zeros((1, 1, 4, 4), np.uint16)
    image[0, 0, 1, 0] = 65535
    for mirror in (False, True):
        classes, softmax = ensemble.segment([member(Bright())], CPU, image, mirror=mirror)
        assert np.argwhere(classes).tolist() == [[0, 1, 0]]
        assert softmax[0, 1, 1] == pytest.approx([0.75, 0.25, 0.25, 0.25])


def test_of_several_networks_the_softmax_is_the_mean_of_slices_and_volumes_alike():
    image = np.zeros((1, 1, 4, 4), np.uint16)
    image[0, 0, 0, 0] = 65535
    members = [member(Column()), member(Bright(), patch=[1, 4, 4])]
    classes, softmax = ensemble.segment(members, CPU, image)
    assert softmax[0, 1, :2].ravel() == pytest.approx(
        [0.75, 0.375, 0.375, 0.375, 0.5, 0.375, 0.375, 0.375])
    assert np.argwhere(classes).tolist() == [[0, 0, 0]]


# The program --------------------------------------------------------------------------------------

def test_the_mask_of_three_checkpoints_is_by_their_mean_softmax(root, tmp_path):
    alone = [predict(root, tmp_path / name, name)[1] for name in "abc"]
    mask, soft = predict(root, tmp_path / "abc", "abc")
    np.testing.assert_allclose(soft, np.mean(alone, 0), atol=1e-6)
    assert np.array_equal(mask == 1, soft > 0.5)
    assert 0.02 < mask.mean() < 0.98 and any((mask != (one > 0.5)).any() for one in alone)


@pytest.mark.parametrize("ways", [("--mirror",), ("--restore", "softmax"), TOGETHER])
def test_the_mask_is_where_the_written_probabilities_are_above_one_half(root, tmp_path, ways):
    plain, _ = predict(root, tmp_path / "plain", "a")
    mask, soft = predict(root, tmp_path / "other", "a", *ways)
    assert np.array_equal(mask == 1, soft > 0.5) and (mask != plain).any()


def test_the_usual_way_is_the_nearest_pixel_of_one_image(root, tmp_path):
    plain, usual = (predict(root, tmp_path / str(len(words)), "a", *words)
                    for words in ((), ("--restore", "nearest")))
    assert all(map(np.array_equal, plain, usual))


@pytest.mark.parametrize("change, found", [
    ({"size": 64}, "size as in"), ({"fill": 20}, "fill as in"),
    ({"normalise": "zscore"}, "normalise as in"),
    ({"modalities": ["T1", "FLAIR"]}, "FLAIR, T1, found T1, FLAIR"),
    ({"classes": ["background", "stroke"]}, "background, lesion, found background, stroke")])
def test_networks_of_other_data_are_refused(root, tmp_path, change, found):
    save(tmp_path / "other.pt", 3, **change)
    refuses(run("predict.py", "--checkpoint", root / "a.pt", tmp_path / "other.pt", "--out",
                tmp_path / "m", root / "raw"), tmp_path / "other.pt", found)
    assert not (tmp_path / "m").exists()


def test_checkpoints_and_scans_are_told_apart_wherever_they_stand(root, tmp_path):
    scans = [root / "raw" / name for name in ("s0", "s1")]
    for number, words in enumerate([
            (root / "a.pt", scans[0], "--out", tmp_path / "0", scans[1]),
            (root / "a.pt", *scans, "--out", tmp_path / "1"),
            (root / "a.pt", root / "b.pt", *scans, "--out", tmp_path / "2"),
            (root / "a.pt", "--checkpoint", root / "b.pt", scans[0], "--out", tmp_path / "3",
             scans[1])]):
        result = run("predict.py", "--checkpoint", *words)
        assert result.returncode == 0, result.stderr
        assert len(list((tmp_path / str(number)).glob("s*.nii.gz"))) == 2
    header = nib.load(tmp_path / "3" / "s1.nii.gz").header["descrip"].item()
    assert header == nib.load(tmp_path / "2" / "s0.nii.gz").header["descrip"].item()
    assert header.startswith(b"boundaryloss, by predict.py, 2 models ")


def test_all_checkpoints_are_described(root):
    said = run("predict.py", "--checkpoint", root / "a.pt", root / "b.pt", "--describe").stdout
    assert said.count("unet of width 4") == 2 and f"{root / 'b.pt'}: " in said


def test_resume_repeats_masks_that_were_made_in_another_way(root, tmp_path):
    def done(checkpoints, *ways):
        result = run("predict.py", "--checkpoint", *(root / f"{name}.pt" for name in checkpoints),
                     "--out", tmp_path / "m", "--resume", *ways, root / "raw")
        assert result.returncode == 0, result.stderr
        return result.stdout.count(" slices")

    last = None
    for words in (("a",), ("a", "--mirror"), ("a",), ("a", *TOGETHER), ("a", "--mirror"), ("abc",),
                  ("ab",), ("abc", *TOGETHER)):
        assert done(*words) == 2, (last, words)
        assert done(*words) == 0
        last = words
    assert done("cab", *TOGETHER) == 0  # the same networks
    assert len(nib.load(tmp_path / "m" / "s0.nii.gz").header["descrip"].item()) <= 79
