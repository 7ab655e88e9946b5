"""The maps that a loss needs beside the data folder's, and the slices and classes of a row."""

import json

import numpy as np
import pytest
import torch

from conftest import assert_same_run, preprocess, refuses, rows, run, train, write_wmh_subject
from dataloader import Patches, Slices, batches
from distance import depth_in_class, nearest_component, signed_distance
from losses_regional import build_loss
from training.maps import add_maps

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """raw/ of four scans of five slices, of which two bear a lesion; data/ and volumes/ of them."""
    root = tmp_path_factory.mktemp("maps")
    for number in range(4):
        write_wmh_subject(root / "raw" / f"s{number}", seed=number)
    for name, more in (("data", ()), ("volumes", ("--map-dims", 3, "--unit", "mm"))):
        assert preprocess(root / "raw", root / name, *more).returncode == 0
    return root


@pytest.fixture(scope="module")
def data(folders):
    return folders / "data"


def of_loss(slices, name, dims=2, **options):
    add_maps(slices, build_loss(name, 2, **options), dims)
    return slices


# Slices -------------------------------------------------------------------------------------------

def test_the_backgrounds_map_comes_first_and_is_that_of_the_other_pixels(data):
    alone, both = (Slices(data, "train") for _ in range(2))
    of_loss(both, "boundary", boundary_classes=[0, 1])
    before, after = (slices.read([1, 0, 7]) for slices in (alone, both))

    assert after.distance.shape == (3, 2, 32, 32) and after.maps is None
    assert torch.equal(after.distance[:, 1:], before.distance)
    for labels, phi in zip(before.labels.numpy(), after.distance[:, 0].numpy(), strict=True):
        np.testing.assert_array_equal(phi, signed_distance(labels == 0))
    assert after.distance[0, 0].any() and not after.distance[1].any()  # slice 0 is empty


def test_maps_are_those_of_each_slice(data):
    for name, make in (("rwl", depth_in_class), ("cc_dice_ce", nearest_component)):
        batch = of_loss(Slices(data, "train"), name).read([2, 0])
        assert batch.maps.shape == (2, 1, 32, 32) and batch.distance.shape == (2, 1, 32, 32)
        np.testing.assert_array_equal(batch.maps[0, 0], make(batch.labels[0].numpy()))
        assert not batch.maps[1].any()


def test_maps_in_mm_take_the_slices_spacing(folders):
    slices = of_loss(Slices(folders / "volumes", "train"), "rwl")
    batch = slices.read([2])
    expected = depth_in_class(batch.labels[0].numpy(), slices.scans[0].spacing[1:])
    np.testing.assert_array_equal(batch.maps[0, 0], expected)


def test_the_background_of_volumes_has_a_map_on_slices_without_a_lesion(folders):
    slices = of_loss(Slices(folders / "volumes", "train"), "gsl")
    labels, scan = slices.labels()[slices.scans[0].rows], slices.scans[0]
    found = slices.read(range(scan.rows.stop)).distance[:, 0].numpy()
    np.testing.assert_array_equal(found, signed_distance(labels == 0, scan.spacing))
    assert found[0].any()


def test_maps_are_shared_out_and_kept_on_a_device_like_the_rest(data):
    disk, resident = (of_loss(Slices(data, "train"), "cc_dice_ce") for _ in range(2))
    resident.move_to(CPU)
    for one, two in zip(batches(disk, range(10), 4, CPU, 1, 2),
                        batches(resident, range(10), 4, CPU, 1, 2), strict=True):
        assert len(one) == len(two) == 4
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_a_loss_without_maps_changes_nothing(data):
    slices = Slices(data, "train")
    arrays = list(slices.arrays)
    add_maps(slices, build_loss("gdl+boundary"), 2)
    assert slices.arrays == arrays and slices.read([1]).maps is None


# Patches ------------------------------------------------------------------------------------------

def test_maps_of_patches_are_cut_from_the_volumes(folders):
    corner = np.array([[1, 0, 4, 0]])
    for name, make in (("rwl", depth_in_class), ("cc_dice_ce", nearest_component)):
        patches = of_loss(Patches(folders / "volumes", "train", [8, 16, 32]), name, dims=3)
        expected = make(patches.arrays[1][1], patches.scans[1].spacing)[:, 4:20]
        found = patches.read(corner).maps[0, 0]
        np.testing.assert_array_equal(found[:5], expected)
        assert found.shape == (8, 16, 32) and not found[5:].any()


def test_a_patch_must_have_as_many_voxels_as_a_scan_has_lesions(folders):
    patches = Patches(folders / "volumes", "train", [1, 1, 1])
    images, labels, distance = patches.arrays[0]
    labels = labels.copy()
    labels[4, 0, 0] = 1  # a second lesion
    patches.arrays[0] = images, labels, distance
    with pytest.raises(Exception, match="^--patch: expected at least as many voxels as s"):
        of_loss(patches, "cc_dice_ce", dims=3)


# Lesion slices, sizes -----------------------------------------------------------------------------

def test_slices_without_a_lesion_are_left_out(data):
    every, some = Slices(data, "train"), Slices(data, "train", lesions_only=True)
    bearing = np.flatnonzero(every.labels().any(axis=(1, 2)))
    assert 0 < len(some) == len(bearing) < len(every)
    for one, two in zip(some.read(range(len(some))), every.read(bearing), strict=True):
        assert torch.equal(one, two)
    assert [scan.rows for scan in some.scans] == [slice(0, 2), slice(2, 4)]

    some.move_to(CPU)
    assert torch.equal(some.resident.labels, every.read(bearing).labels)


def test_classes_are_counted_in_the_slices_that_train(data):
    every, some = Slices(data, "train"), Slices(data, "train", lesions_only=True)
    assert every.class_sizes().shape == (10, 2) and every.class_sizes().sum() == 10 * 32 * 32
    assert (some.class_sizes()[:, 1] == (some.read(range(4)).labels == 1).sum((1, 2)).numpy()).all()


def test_classes_are_counted_in_the_volumes_of_patches(folders):
    sizes = Patches(folders / "volumes", "train", [8, 16, 32]).class_sizes()
    assert sizes.shape == (2, 2) and sizes.sum() == 2 * 5 * 32 * 32


def test_a_set_without_a_lesion_slice_is_refused(data, monkeypatch):
    monkeypatch.setattr("scans.folder.open_arrays",
                        lambda *_: [np.zeros((2, 1, 4, 4)), np.zeros((2, 4, 4)), None])
    with pytest.raises(Exception, match="expected slices with a lesion to train on, found none"):
        Slices(data, "train", lesions_only=True)


# Whole runs ---------------------------------------------------------------------------------------

def train_row(data, out, row, epochs):
    """main.py on a row; returns its config.json."""
    result = run("main.py", "--data", data, "--out", out, "--row", row, "--width", 2, "--epochs",
                 epochs, "--quiet", "--threads", 1)
    assert result.returncode == 0, result.stderr
    return json.loads((out / "config.json").read_text())


def test_a_row_of_maps_trains_and_continues_bit_for_bit(data, tmp_path):
    row = "rwl+boundary-background-lesionslices-alpha0.5"
    for name, epochs in (("whole", 2), ("parts", 1), ("parts", 2)):
        config = train_row(data, tmp_path / name, row, epochs)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert config["boundary_classes"] == [0, 1] and config["lesion_slices"]
    assert all(float(epoch["train_rwl"]) < 1 for epoch in rows(tmp_path / "whole"))


def test_weights_and_sizes_that_were_not_given_are_the_training_slices(data, tmp_path):
    sizes = Slices(data, "train").class_sizes()
    config = train_row(data, tmp_path / "gdl", "gdl-medianabsent", 1)
    medians = [np.median(sizes[:, 0]), np.median(sizes[:, 1][sizes[:, 1] > 0])]
    assert config["loss_options"] == {"absent_size": medians} and not config["lesion_slices"]

    config = train_row(data, tmp_path / "gsl", "gsl", 1)
    frequencies = sizes.sum(0) / sizes.sum()
    assert config["loss_options"]["weights"] == pytest.approx(list(1 / 2 / frequencies))


def test_losses_of_maps_train_on_patches(folders, tmp_path):
    options = ("--dims", 3, "--patch", 8, 32, 32, "--boundary-classes", "all")
    result = train(folders / "volumes", tmp_path / "run", *options, loss="cc_dice_ce+boundary",
                   epochs=1)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("words, expected", [
    (("--row", "gdl-background"), "--boundary-classes: expected none for gdl"),
    (("--dims", "3", "--patch", "8", "32", "32", "--loss", "gsl"), "distance maps of the volumes"),
    (("--row", "rwl-medianabsent"), "loss-options: expected none for rwl, found absent_size"),
    (("--loss", "focal", "--loss-options", "gamma=1", "gamma=2"),
     "loss-options: expected each name once, found gamma twice")])
def test_what_a_loss_cannot_do_is_refused_before_a_folder_is_made(data, tmp_path, words, expected):
    result = run("main.py", "--data", data, "--out", tmp_path / "run", "--width", 2, *words)
    assert result.returncode == 2 and expected in result.stderr
    assert not (tmp_path / "run").exists()


def test_another_choice_of_slices_is_another_run(data, tmp_path):
    assert train(data, tmp_path / "run", loss="gdl", epochs=1).returncode == 0
    result = train(data, tmp_path / "run", "--lesion-slices", loss="gdl", epochs=2)
    refuses(result, "a run with lesion_slices True", "one with lesion_slices False")
