"""Normalising and resampling a scan, and masks back on its own grid."""

import numpy as np
import pytest
import torch

from scans.datasets import DATASETS
from scans.folder import intensities
from scans.resampling import (
    inside,
    moments,
    network_input,
    normalise,
    resample,
    resample_label,
    restore_mask,
    restore_softmax,
)

WMH = DATASETS["wmh"]


def test_normalisation_is_min_max_over_the_whole_volume():
    volume = np.array([[[2, 4], [6, 10]]], np.int16)
    assert normalise(volume).tolist() == [[[0, 0.25], [0.5, 1]]]


@pytest.mark.parametrize("values",
                         [1e9 + np.array([0, 1, 2, 4]), 1e300 * np.array([-1, 0, 0, 1]),
                          np.array([-3e38, 0, 1e38, 3e38], np.float32),
                          np.array([-2000000000, 0, 0, 2000000000], np.int32)],
                         ids=["offset", "1e300", "f4", "i4"])
def test_normalisation_keeps_the_contrast_of_large_numbers(values):
    low, high = float(values.min()), float(values.max())
    expected = [(float(v) - low) / (high - low) for v in values]
    assert normalise(values.reshape(2, 2, 1)).ravel() == pytest.approx(expected)


def test_percentiles_cut_the_volume_at_both_ends():
    volume = np.arange(201.0).reshape(3, 67, 1) - 50  # 0.5 % of 200 steps is one
    found = normalise(volume, "percentiles").ravel()
    assert found[[0, 1, 100, 199, 200]].tolist() == [0, 0, 0.5, 1, 1]
    assert found[2] == np.float32(1 / 198)


def test_where_percentiles_are_equal_the_range_is_taken():
    volume = np.zeros((20, 20, 1))
    volume[3, 4] = 5
    assert normalise(volume, "percentiles")[3, 4] == 1


def test_moments_are_those_of_the_range_of_a_volume():
    mean, deviation = moments(np.array([[[2, 4], [6, 10]]], np.int16))  # 0, 1/4, 1/2, 1
    assert mean == 0.4375 and deviation == pytest.approx(0.13671875 ** 0.5)


def test_intensities_by_moments_have_those_of_their_own_scan():
    stored = np.full((2, 1, 1, 2), [0, 65535], np.uint16)
    found = intensities(stored, [[[0.5, 0.25]], [[0.75, 0.5]]])
    assert found.ravel().tolist() == [-2, 2, -1.5, 0.5] and found.dtype == np.float32


def test_resampling_by_two_averages_pairs_and_keeps_x_as_rows():
    plane = np.array([[0.0, 2, 4, 6], [0, 2, 4, 6], [8, 8, 8, 8], [8, 8, 8, 8]], np.float32)
    assert resample(plane[..., None], 2, "bilinear").tolist() == [[[1, 5], [8, 8]]]


SHAPES = [(240, 240), (232, 256), (132, 256), (20, 24), (96, 96), (300, 100), (7, 5), (1, 1),
          (2, 300)]


# 44 from 96 pixels: a centre lies exactly between two of them
@pytest.mark.parametrize("size", [32, 33, 44, 96, 100, 256])
@pytest.mark.parametrize("shape", SHAPES)
def test_resampling_equals_torchs(shape, size):
    rng = np.random.default_rng(0)
    volume = rng.random((*shape, 3), np.float32)
    labels = rng.integers(0, 9, (*shape, 3)).astype(np.uint8)
    bilinear = {"mode": "bilinear", "align_corners": False}
    for values, mode, how, tolerance in ((volume, "bilinear", bilinear, 2e-5),
                                         (labels, "nearest", {"mode": "nearest-exact"}, 0)):
        slices = torch.from_numpy(np.moveaxis(values, 2, 0).copy())[:, None]
        expected = torch.nn.functional.interpolate(slices, (size, size), **how)[:, 0].numpy()

        found = resample(values, size, mode)
        assert found.dtype == values.dtype and found.shape == expected.shape
        assert found.flags.c_contiguous
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_volume_of_the_wanted_size_stays_as_it_is(order):
    volume = np.asarray(np.random.default_rng(0).random((32, 32, 3), np.float32), order=order)
    np.testing.assert_array_equal(resample(volume, 32, "bilinear"), np.moveaxis(volume, 2, 0))


def test_a_constant_label_stays_one_where_it_is_interpolated_and_cut():
    label = np.ones((37, 29, 2), np.uint8)
    assert (resample_label(label, WMH.label_map, 100, "linear2018") == 1).all()


def test_label_two_becomes_background():
    label = np.array([[0, 1], [2, 1]])[..., None]
    assert resample_label(label, WMH.label_map, 2, "nearest").tolist() == [[[0, 1], [0, 1]]]


def test_the_2018_interpolation_makes_ones_between_zero_and_two():
    # 2 beside 0, enlarged from 2 to 4 pixels linearly: 0, 0.5, 1.5, 2; cut: 0, 0, 1, 2; without
    # label 2: 0, 0, 1, 0
    label = np.array([[0, 2], [0, 2]])[..., None]
    assert resample_label(label, WMH.label_map, 4, "linear2018")[0, 0].tolist() == [0, 0, 1, 0]
    assert resample_label(label, WMH.label_map, 4, "nearest").max() == 0


def test_labels_survive_resizing_and_back_on_lesions_of_some_size(tmp_path):
    rng = np.random.default_rng(0)
    label = np.zeros((132, 90, 3), np.uint8)
    for x, y in rng.integers(10, 75, (6, 2)):
        label[x:x + 6, y:y + 5, 1] = 1
    classes = resample_label(label, WMH.label_map, 256, "nearest")
    back = restore_mask(classes, np.diag([1.2, 1, 3, 1]), [132, 90, 3])
    back = np.asanyarray(back.dataobj)
    assert 2 * (back & label).sum() / (back.sum() + label.sum()) > 0.9


@pytest.mark.parametrize("shape", [(240, 240), (232, 256), (132, 256), (256, 256)],
                         ids=lambda shape: "x".join(map(str, shape)))
def test_lesions_above_20_voxels_keep_their_shape_at_real_sizes(shape):
    label = np.zeros((*shape, 1), np.uint8)
    corners = [(x, y) for x in range(10, shape[0] - 20, 23) for y in range(10, shape[1] - 20, 23)]
    # rectangles of 21 voxels and more, no two of one place on the grid
    for number, (x, y) in enumerate(corners):
        label[x:x + 3 + number % 4, y:y + 7] = 1
    classes = resample_label(label, WMH.label_map, 256, "nearest")
    back = restore_mask(classes, np.diag([1.2, 1, 3, 1]), label.shape)
    back = np.asanyarray(back.dataobj)
    for x, y in corners:
        drawn, found = (array[x - 5:x + 12, y - 5:y + 13] for array in (label, back))
        assert 2 * (drawn & found).sum() / (drawn.sum() + found.sum()) > 0.9
    assert shape != (256, 256) or (back == label).all()  # native size: Dice 1


# A scan that fills the middle of its slices -------------------------------------------------------

def test_a_scan_that_fills_2_of_5_pixels_has_1_before_it_and_2_behind():
    volume = np.array([[[0], [1]], [[2], [4]]])                              # (X, Y, Z) = (2, 2, 1)
    expected = np.zeros((5, 5))
    expected[1:3, 1:3] = [[0, 0.25], [0.5, 1]]
    images = network_input([volume, 4 - volume], 5, 2)                       # (S, C, H, W)
    np.testing.assert_array_equal(images[0, 0], np.rint(65535 * expected))
    assert images[0, 1, 1:3, 1:3].max() == 65535 and images[0, 1].sum(dtype=int) == images[
        0, 1, 1:3, 1:3].sum(dtype=int)

    label = np.array([[[0], [1]], [[1], [1]]])
    assert resample_label(label, {0: 0, 1: 1}, 5, "nearest", 2).tolist() == [
        [[0] * 5, [0, 0, 1, 0, 0], [0, 1, 1, 0, 0], [0] * 5, [0] * 5]]


@pytest.mark.parametrize("interpolation", ["nearest", "linear2018"])
@pytest.mark.parametrize("size, fill", [(32, 32), (32, 17), (33, 10)])
def test_in_the_middle_lies_the_scan_as_it_is_at_that_size(size, fill, interpolation):
    rng = np.random.default_rng(0)
    volume, label = rng.random((20, 24, 3)), rng.integers(0, 3, (20, 24, 3)).astype(np.uint8)
    middle = inside(size, fill)
    np.testing.assert_array_equal(network_input([volume], size, fill)[middle],
                                  network_input([volume], fill))
    labels = resample_label(label, WMH.label_map, size, interpolation, fill)
    np.testing.assert_array_equal(labels[middle],
                                  resample_label(label, WMH.label_map, fill, interpolation))
    assert labels.shape == (3, size, size) and labels.sum() == labels[middle].sum()


def test_a_mask_comes_back_from_the_middle_and_what_lies_around_it_is_left_out():
    affine, mask = np.diag([1.2, 1, 3, 1]), np.zeros((1, 7, 7), np.uint8)
    mask[0, 1:5, 1:5] = np.arange(16).reshape(4, 4)
    mask[0, 5:] = 99
    image = restore_mask(mask, affine, [4, 4, 1], fill=4)
    np.testing.assert_array_equal(np.asanyarray(image.dataobj)[..., 0], mask[0, 1:5, 1:5])


def softmax_of(foreground):
    """(1, 2, H, W) of the foreground's probabilities of a slice."""
    foreground = np.array([foreground], np.float32)
    return np.stack([1 - foreground, foreground], 1)


def test_a_softmax_comes_back_interpolated_before_the_argmax():
    soft = restore_softmax(softmax_of([[0.45, 0.9]] * 2), np.eye(4), (2, 4, 1))
    np.testing.assert_allclose(soft[1, 0, :, 0], [0.45, 0.5625, 0.7875, 0.9], rtol=1e-6)
    assert soft.argmax(0)[0, :, 0].tolist() == [0, 1, 1, 1]
    mask = restore_mask(np.uint8([[[0, 1]] * 2]), np.eye(4), (2, 4, 1))
    assert mask.get_fdata()[0, :, 0].tolist() == [0, 0, 1, 1]  # by the nearest pixel


def test_a_softmax_comes_back_as_torch_interpolates_it_and_as_the_scan_is_stored():
    softmax = np.random.default_rng(0).random((3, 2, 12, 12)).astype(np.float32)
    affine = np.array([[0, 0, 2.0, 0], [-1, 0, 0, 0], [0, 3, 0, 0], [0, 0, 0, 1]])
    found = restore_softmax(softmax, affine, (9, 3, 14), 8)      # stored: -y, z, x
    expected = torch.nn.functional.interpolate(torch.from_numpy(softmax[..., 2:10, 2:10]), (14, 9),
                                               mode="bilinear").numpy()
    np.testing.assert_allclose(found, expected.transpose(1, 3, 0, 2)[:, ::-1], atol=1e-6)
