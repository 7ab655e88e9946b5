"""Slices as batches: the right values, in the right order, on any number of ranks."""

import json

import numpy as np
import pytest
import torch

from dataloader import Slices, batches, make_resident, one_hot, shuffled
from utils import UserError

CPU = torch.device("cpu")


def test_a_batch_holds_the_slices_asked_for(data):
    train = Slices(data, "train")
    batch = train.read([7, 0])
    scan = np.load(
        data / "subjects" / train.scans[1].name / "images.npy"
    )  # five slices a scan: row 7 is slice 2 of the second
    np.testing.assert_allclose(batch.images[0], scan[2] / 65535, rtol=1e-6)
    assert batch.images.shape == (2, 2, 32, 32) and batch.images.dtype == torch.float32
    assert batch.labels.shape == (2, 32, 32) and batch.labels.dtype == torch.uint8
    assert batch.distance.shape == (2, 1, 32, 32) and batch.distance.dtype == torch.float32


def test_intensities_stay_within_zero_and_one(data):
    images = Slices(data, "train").read(range(20)).images
    assert (
        0 <= images.min() < 0.1 and 0.9 < images.max() <= 1
    )  # resampling averages the extremes a little


def test_every_slice_comes_once_an_epoch(data):
    train = Slices(data, "train")
    order = shuffled(len(train), seed=0, epoch=3)
    assert sorted(order) == list(range(20))
    sizes = [len(batch.images) for batch in batches(train, order, 8, CPU)]
    assert sizes == [8, 8, 4]


def test_the_order_depends_on_seed_and_epoch_alone():
    assert (shuffled(50, 1, 2) == shuffled(50, 1, 2)).all()
    assert (shuffled(50, 1, 2) != shuffled(50, 1, 3)).any() and (
        shuffled(50, 1, 2) != shuffled(50, 2, 2)
    ).any()


def test_two_ranks_share_each_global_batch(data):
    train = Slices(data, "train")
    whole = list(batches(train, range(20), 8, CPU))
    halves = [list(batches(train, range(20), 8, CPU, rank, 2)) for rank in (0, 1)]
    for one, first, second in zip(whole, *halves):
        torch.testing.assert_close(one.images[0::2], first.images)
        torch.testing.assert_close(one.images[1::2], second.images)


def test_labels_of_the_subset_stand_in_the_order_of_the_rows(data):
    val = Slices(data, "val")
    np.testing.assert_array_equal(val.labels(), val.read(range(len(val))).labels)


def test_scans_tell_their_rows_and_spacing_along_z_x_y(data):
    scan = Slices(data, "val").scans[1]
    assert scan.rows == slice(5, 10) and scan.spacing == pytest.approx((3.0, 20 / 32, 24 / 32))


def test_one_hot_is_true_at_each_pixels_class_only():
    labels = torch.tensor([[[0, 2], [1, 0]]], dtype=torch.uint8)
    assert one_hot(labels, 3).int().tolist() == [
        [[[1, 0], [0, 1]], [[0, 0], [1, 0]], [[0, 1], [0, 0]]]
    ]


def test_a_folder_that_is_not_a_data_set_is_refused(tmp_path):
    with pytest.raises(
        UserError, match="expected a data folder written by preprocess.py, found nothing there"
    ):
        Slices(tmp_path / "none", "train")


def test_a_subject_with_a_damaged_array_is_named(data):
    name = Slices(data, "val").scans[0].name
    (data / "subjects" / name / "labels.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(UserError, match=name):
        Slices(data, "val")


def test_resident_slices_equal_those_on_disk(data):
    disk, resident = Slices(data, "train"), Slices(data, "train")
    resident.move_to(CPU)
    for one, two in zip(
        batches(disk, shuffled(20, 0, 0), 8, CPU),
        batches(resident, shuffled(20, 0, 0), 8, CPU),
        strict=True,
    ):
        for a, b in zip(one, two, strict=True):
            assert torch.equal(a, b)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_resident_batches_equal_those_from_disk(data):
    device = torch.device("cuda")
    disk, resident = Slices(data, "train"), Slices(data, "train")
    assert make_resident([resident], device)
    for one, two in zip(
        batches(disk, range(20), 8, device), batches(resident, range(20), 8, device)
    ):
        for a, b in zip(one, two):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    "name, lacking", [("images", slice(0, 4)), ("distance", slice(0, 4)), ("labels", slice(0, 4))]
)
def test_arrays_of_unequal_slices_are_refused(data, name, lacking):
    path = data / "subjects" / Slices(data, "train").scans[2].name / f"{name}.npy"
    np.save(path, np.load(path)[lacking])
    with pytest.raises(UserError, match=r"expected shape \([45], .*, found \([45], "):
        Slices(data, "train")


def test_an_array_without_one_of_the_modalities_is_refused(data):
    path = data / "subjects" / Slices(data, "train").scans[0].name / "images.npy"
    np.save(path, np.load(path)[:, :1])
    with pytest.raises(UserError, match=r"expected shape \(5, 2, 32, 32\), found \(5, 1, 32, 32\)"):
        Slices(data, "train")


def test_slices_stay_on_a_device_if_they_take_a_quarter_of_its_memory(data, monkeypatch):
    train, moved = Slices(data, "train"), []
    pixels = 4 * 5 * 32 * 32  # scans, slices each
    size = pixels * (
        2 * 2 * 2 + 1 + 4
    )  # two modalities of 16 bits, twice as wide there; labels; one map of float32
    monkeypatch.setattr(Slices, "move_to", lambda self, device: moved.append(device))

    for free, expected in ((4 * size - 4, False), (4 * size, True)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 8 * size))
        assert make_resident([train], torch.device("cuda")) == expected

    assert moved == [torch.device("cuda")] and not make_resident([train], CPU)


def test_a_split_without_training_scans_is_refused(data):
    (data / "split.csv").write_text("subject,subset\ns0,val\n")
    with pytest.raises(
        UserError, match=r"split.csv: expected subjects with subset train, found none"
    ):
        Slices(data, "train")


@pytest.mark.parametrize("values", [[1, 1], [1, 1, 0], [1, 1, "3"], [1, 1, -3]])
def test_a_spacing_of_other_than_three_positive_numbers_is_refused(data, values):
    path = data / "subjects" / "s0" / "meta.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "spacing_mm": values}))
    with pytest.raises(
        UserError, match=r"s0/meta.json: expected spacing_mm to be three positive numbers"
    ):
        for subset in ("train", "val"):
            Slices(data, subset)
