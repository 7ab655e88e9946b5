"""Raw scans to slices: what is written, where it lands, and what is refused."""

import csv
import json
import shutil
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import torch

from checkout import ROOT
from conftest import damage, preprocess, put, refuses, run, write_wmh_subject
from distance import signed_distance
from scans.checks import check_subject
from scans.convert import save_sparse
from scans.datasets import DATASETS, find_subjects, recognise
from scans.resampling import normalise, resample, resample_label, restore_mask
from utils import UserError

WMH = DATASETS["wmh"]


# Values ---------------------------------------------------------------------------------------------------------------

def test_normalisation_is_min_max_over_the_whole_volume():
    volume = np.array([[[2, 4], [6, 10]]], np.int16)
    assert normalise(volume).tolist() == [[[0, 0.25], [0.5, 1]]]


@pytest.mark.parametrize("values", [1e9 + np.array([0, 1, 2, 4]), 1e300 * np.array([-1, 0, 0, 1]),
                                    np.array([-3e38, 0, 1e38, 3e38], np.float32),
                                    np.array([-2000000000, 0, 0, 2000000000], np.int32)], ids=["offset", "1e300", "f4", "i4"])
def test_normalisation_keeps_the_contrast_of_large_numbers(values):
    low, high = float(values.min()), float(values.max())
    expected = [(float(v) - low) / (high - low) for v in values]
    assert normalise(values.reshape(2, 2, 1)).ravel() == pytest.approx(expected)


def test_resampling_by_two_averages_pairs_and_keeps_x_as_rows():
    volume = np.array([[0.0, 2, 4, 6], [0, 2, 4, 6], [8, 8, 8, 8], [8, 8, 8, 8]], np.float32)[..., None]
    assert resample(volume, 2, "bilinear").tolist() == [[[1, 5], [8, 8]]]


SHAPES = [(240, 240), (232, 256), (132, 256), (20, 24), (96, 96), (300, 100), (7, 5), (1, 1), (2, 300)]


@pytest.mark.parametrize("size", [32, 33, 96, 100, 256])
@pytest.mark.parametrize("shape", SHAPES)
def test_resampling_equals_torchs(shape, size):
    rng = np.random.default_rng(0)
    volume, labels = rng.random((*shape, 3), np.float32), rng.integers(0, 9, (*shape, 3)).astype(np.uint8)
    for values, mode, how, tolerance in ((volume, "bilinear", {"mode": "bilinear", "align_corners": False}, 2e-5),
                                         (labels, "nearest", {"mode": "nearest-exact"}, 0)):
        slices = torch.from_numpy(np.moveaxis(values, 2, 0).copy())[:, None]
        expected = torch.nn.functional.interpolate(slices, (size, size), **how)[:, 0].numpy()
        found = resample(values, size, mode)
        assert found.dtype == values.dtype and found.shape == expected.shape and found.flags.c_contiguous
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_volume_of_the_wanted_size_stays_as_it_is(order):
    volume = np.asarray(np.random.default_rng(0).random((32, 32, 3), np.float32), order=order)
    np.testing.assert_array_equal(resample(volume, 32, "bilinear"), np.moveaxis(volume, 2, 0))


def test_a_constant_label_stays_one_where_it_is_interpolated_and_cut():
    label = np.ones((37, 29, 2), np.uint8)
    assert (resample_label(label, WMH.label_map, 100, "linear2018") == 1).all()


def test_preprocessing_needs_no_torch():
    code = "import preprocess, evaluate, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_label_two_becomes_background():
    label = np.array([[0, 1], [2, 1]])[..., None]
    assert resample_label(label, WMH.label_map, 2, "nearest").tolist() == [[[0, 1], [0, 1]]]


def test_the_2018_label_interpolation_makes_ones_between_zero_and_two():
    # 2 beside 0, enlarged from 2 to 4 pixels linearly: 0, 0.5, 1.5, 2 -> cut 0, 0, 1, 2 -> label 2 dropped 0, 0, 1, 0
    label = np.array([[0, 2], [0, 2]])[..., None]
    assert resample_label(label, WMH.label_map, 4, "linear2018")[0, 0].tolist() == [0, 0, 1, 0]
    assert resample_label(label, WMH.label_map, 4, "nearest").max() == 0


def test_written_arrays_are_the_scan_its_label_and_its_distance_map(data, raw):
    folder = data / "subjects" / "s3"
    images, labels, maps = (np.load(folder / f"{name}.npy") for name in ("images", "labels", "distance"))
    assert images.shape == (5, 2, 32, 32) and images.dtype == np.uint16
    assert labels.shape == (5, 32, 32) and labels.dtype == np.uint8
    assert maps.shape == (5, 1, 32, 32) and maps.dtype == np.float32
    flair = np.asanyarray(nib.load(raw / "s3" / "pre" / "FLAIR.nii.gz").dataobj)
    expected = resample((flair - flair.min()) / (flair.max() - flair.min()), 32, "bilinear")
    np.testing.assert_allclose(images[:, 0] / 65535, expected, atol=1e-5)
    np.testing.assert_array_equal(maps[1, 0], signed_distance(labels[1] == 1))
    assert not maps[0].any() and not maps[4].any()  # slices without a lesion


def test_distance_maps_in_mm_use_the_in_plane_spacing_of_the_resampled_grid(raw, tmp_path):
    assert preprocess(raw, tmp_path / "mm", "--unit", "mm").returncode == 0
    folder = tmp_path / "mm" / "subjects" / "s0"
    labels, maps = np.load(folder / "labels.npy"), np.load(folder / "distance.npy")
    np.testing.assert_array_equal(maps[1, 0], signed_distance(labels[1] == 1, (20 / 32, 24 / 32)))  # 20x24 at 1 mm


@pytest.mark.parametrize("unit, spacing", [("px", None), ("mm", (3.0, 20 / 32, 24 / 32))])  # 20x24 pixels, 1x1x3 mm
def test_maps_of_3_dimensions_are_the_slices_of_the_volumes_map(raw, tmp_path, unit, spacing):
    assert preprocess(raw, tmp_path / "3d", "--map-dims", 3, "--unit", unit).returncode == 0
    folder = tmp_path / "3d" / "subjects" / "s0"
    labels, maps = np.load(folder / "labels.npy"), np.load(folder / "distance.npy")
    np.testing.assert_array_equal(maps[:, 0], signed_distance(labels == 1, spacing))
    assert (maps[0] > 0).all()  # a slice without a lesion knows how far the lesion in the next one is


def test_the_2018_code_had_no_maps_of_3_dimensions(raw, tmp_path):
    result = preprocess(raw, tmp_path / "old", "--protocol", "code2018", "--map-dims", 3)
    assert result.returncode == 2 and "--map-dims 3" in result.stderr and not (tmp_path / "old").exists()


def test_protocol_code2018_writes_integer_official_maps(raw, tmp_path):
    assert preprocess(raw, tmp_path / "old", "--protocol", "code2018").returncode == 0
    folder = tmp_path / "old" / "subjects" / "s0"
    labels, maps = np.load(folder / "labels.npy"), np.load(folder / "distance.npy")
    np.testing.assert_array_equal(maps[1, 0], np.trunc(signed_distance(labels[1] == 1, convention="official")))
    assert (maps == np.trunc(maps)).all()


def test_index_and_fingerprint_count_what_was_written(data):
    with open(data / "index.csv") as file:
        rows = list(csv.DictReader(file))
    fingerprint = json.loads((data / "fingerprint.json").read_text())
    assert len(rows) == fingerprint["slices"] == 6 * 5
    assert (fingerprint["train"]["subjects"], fingerprint["val"]["subjects"]) == (4, 2)
    assert fingerprint["val"]["empty_fraction"] == pytest.approx(3 / 5)  # the lesion lies in two of five slices
    foreground = np.load(data / "subjects" / "s0" / "labels.npy")[1].astype(bool).sum()
    assert [int(row["foreground_pixels"]) for row in rows[:5]] == [0, foreground, foreground, 0, 0]


def test_two_runs_give_equal_files(raw, data, tmp_path):
    assert preprocess(raw, tmp_path / "again" / "data").returncode == 0
    for path in sorted(p.relative_to(data) for p in data.rglob("*") if p.is_file() and p.name != "run_time.json"):
        assert (data / path).read_bytes() == (tmp_path / "again" / "data" / path).read_bytes(), path


def test_empty_slices_of_the_distance_maps_take_no_space_on_disk(tmp_path):
    write_wmh_subject(tmp_path / "raw" / "a", shape=(20, 24, 40))
    write_wmh_subject(tmp_path / "raw" / "b", shape=(20, 24, 40))
    result = run("preprocess.py", "--layout", "wmh", "--raw", tmp_path / "raw", "--out", tmp_path / "data", "--size", 128)
    assert result.returncode == 0, result.stderr
    status = (tmp_path / "data" / "subjects" / "a" / "distance.npy").stat()
    assert status.st_blocks * 512 < status.st_size / 4


@pytest.mark.parametrize("shape, dtype", [((0, 4), np.uint8), ((3,), np.uint8), ((3968,), np.uint8), ((3969,), np.uint8),
                                          ((5, 2, 64, 64), np.uint16), ((7, 1, 33, 31), np.float32)])
@pytest.mark.parametrize("share", [0, 0.0003, 1])
def test_sparse_files_hold_what_np_save_would_write(tmp_path, shape, dtype, share):
    rng = np.random.default_rng(0)
    array = (rng.random(shape) < share).astype(dtype)
    save_sparse(tmp_path / "ours.npy", array)
    np.save(tmp_path / "numpy.npy", array)
    assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "numpy.npy").read_bytes()


def test_background_of_zeros_takes_no_space_on_disk(tmp_path):
    image = np.zeros((8, 128, 128), np.uint16)
    image[:, 40:88] = 7
    save_sparse(tmp_path / "images.npy", image)
    status = (tmp_path / "images.npy").stat()
    assert status.st_blocks * 512 <= status.st_size * (48 / 128) + 8 * 2 * 4096  # the blocks at the edges of each slice


# Geometry -------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("affine", [
    np.diag([1.0, 1, 3, 1]), np.diag([-1.0, 1, 3, 1]), np.diag([-1.0, -1, 3, 1]),
    np.array([[0, 0, 3.0, -5], [1, 0, 0, 7], [0, -1, 0, 2], [0, 0, 0, 1]]),  # axes permuted: stored as (A, I, R)
    np.array([[0.99, -0.1, 0, 4], [0.1, 0.99, 0.1, 0], [0, -0.1, 3, 0], [0, 0, 0, 1]]),  # oblique
], ids=["RAS", "LAS", "LPS", "AIR", "oblique"])
def test_labels_to_slices_and_back_land_on_the_scan_voxel_for_voxel(tmp_path, affine):
    labels = write_wmh_subject(tmp_path / "raw" / "a", (36, 40, 34), affine, seed=1)
    write_wmh_subject(tmp_path / "raw" / "b", (36, 40, 34), affine, seed=2)
    result = run("preprocess.py", "--layout", "wmh", "--raw", tmp_path / "raw", "--out", tmp_path / "data", "--size", 80)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "data" / "subjects" / "a"
    meta = json.loads((folder / "meta.json").read_text())
    image = restore_mask(np.load(folder / "labels.npy"), meta["affine"], meta["original_shape"])
    np.testing.assert_array_equal(np.asanyarray(image.dataobj), labels == 1)  # enlarged to 80x80 and back
    np.testing.assert_allclose(image.affine, affine)


def test_references_hold_classes_on_the_scans_own_grid_and_255_where_left_out(data, raw):
    raw_label = np.asanyarray(nib.load(raw / "s0" / "wmh.nii.gz").dataobj)
    reference = np.asanyarray(nib.load(data / "references" / "s0.nii.gz").dataobj)
    np.testing.assert_array_equal(reference, np.where(raw_label == 2, 255, raw_label))


def test_labels_survive_resizing_and_back_on_lesions_of_some_size(tmp_path):
    rng = np.random.default_rng(0)
    label = np.zeros((132, 90, 3), np.uint8)
    for x, y in rng.integers(10, 75, (6, 2)):
        label[x:x + 6, y:y + 5, 1] = 1
    classes = resample_label(label, WMH.label_map, 256, "nearest")
    back = restore_mask(classes, np.diag([1.2, 1, 3, 1]), [132, 90, 3])
    back = np.asanyarray(back.dataobj)
    assert 2 * (back & label).sum() / (back.sum() + label.sum()) > 0.9


@pytest.mark.parametrize("shape", [(240, 240), (232, 256), (132, 256), (256, 256)], ids=lambda shape: "x".join(map(str, shape)))
def test_every_lesion_above_20_voxels_keeps_its_shape_at_the_challenges_sizes(shape):
    label = np.zeros((*shape, 1), np.uint8)
    corners = [(x, y) for x in range(10, shape[0] - 20, 23) for y in range(10, shape[1] - 20, 23)]
    for number, (x, y) in enumerate(corners):  # rectangles of 21 voxels and more, no two of one place on the grid
        label[x:x + 3 + number % 4, y:y + 7] = 1
    classes = resample_label(label, WMH.label_map, 256, "nearest")
    back = restore_mask(classes, np.diag([1.2, 1, 3, 1]), label.shape)
    back = np.asanyarray(back.dataobj)
    for x, y in corners:
        one, two = (array[x - 5:x + 12, y - 5:y + 13] for array in (label, back))
        assert 2 * (one & two).sum() / (one.sum() + two.sum()) > 0.9
    assert shape != (256, 256) or (back == label).all()  # native size: Dice 1


def test_an_image_stored_in_another_orientation_on_the_same_grid_is_reoriented(raw):
    path = raw / "s0" / "pre" / "T1.nii.gz"
    image = nib.load(path)
    flipped = image.as_reoriented([[0, -1], [1, 1], [2, 1]])
    voxels = np.asanyarray(image.dataobj).copy()
    nib.save(nib.Nifti1Image(np.asanyarray(flipped.dataobj).copy(), flipped.affine), path)
    subject = find_subjects(raw, WMH)[0]
    assert check_subject(subject, WMH) == ([], [])
    from scans.nifti import read_volume
    np.testing.assert_array_equal(read_volume(path)[0], voxels)


# Which scans they are -------------------------------------------------------------------------------------------------

def test_subjects_are_found_at_any_depth_and_the_test_set_is_left_out(tmp_path):
    for place in ("training/Utrecht/0", "training/Amsterdam/GE3T/100", "test/Utrecht/1", "__MACOSX/Utrecht/0"):
        write_wmh_subject(tmp_path / place)
    assert [subject.name for subject in find_subjects(tmp_path, WMH)] == ["0", "100"]


def test_the_challenge_is_recognised_by_sites_and_counts(tmp_path):
    places = [f"{site}/{start + n}" for start, site in ((0, "Utrecht"), (50, "Singapore"), (100, "Amsterdam/GE3T"))
              for n in range(20)]
    for place in places:
        (tmp_path / place / "pre").mkdir(parents=True)
        (tmp_path / place / "pre" / "FLAIR.nii.gz").touch()
    subjects = find_subjects(tmp_path, WMH)
    assert recognise(subjects, WMH) and not recognise(subjects[1:], WMH)


def test_a_link_to_itself_is_passed_by(raw):
    (raw / "loop").symlink_to("loop")
    (raw / "a").symlink_to("b")
    (raw / "b").symlink_to("a")
    assert len(find_subjects(raw, WMH)) == 6


def test_a_raw_path_that_is_a_loop_of_links_is_refused(tmp_path):
    (tmp_path / "raw").symlink_to("raw")
    refuses(preprocess(tmp_path / "raw", tmp_path / "data"), tmp_path / "raw", "expected a folder of scans")


def test_a_link_that_leads_back_is_followed_once(tmp_path):
    write_wmh_subject(tmp_path / "raw" / "a")
    (tmp_path / "raw" / "loop").symlink_to(tmp_path / "raw")
    assert len(find_subjects(tmp_path / "raw", WMH)) == 1


def test_one_name_at_two_places_is_refused(raw):
    write_wmh_subject(raw / "site2" / "s1")
    with pytest.raises(UserError, match="s1 also at"):
        find_subjects(raw, WMH)


# Any type of number, and going on ---------------------------------------------------------------------------------------

NUMBERS = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64, np.float32, np.float64]


@pytest.fixture
def whole_numbers(raw):
    """s1 of whole numbers that every type holds, in each of its images."""
    for name in ("FLAIR", "T1"):
        damage(f"pre/{name}.nii.gz", lambda v, a: (np.clip(np.rint(v / 2), 0, 127), a))(raw)
    return raw


@pytest.mark.parametrize("dtype", NUMBERS, ids=lambda kind: kind.__name__)
def test_any_numeric_type_of_image_and_label_gives_the_same_slices(whole_numbers, tmp_path, dtype):
    assert preprocess(whole_numbers, tmp_path / "one").returncode == 0
    for name in ("pre/FLAIR.nii.gz", "pre/T1.nii.gz", "wmh.nii.gz"):
        image = nib.load(whole_numbers / "s1" / name)
        again = nib.Nifti1Image(np.asanyarray(image.dataobj).astype(dtype), image.affine, dtype=dtype)
        nib.save(again, whole_numbers / "s1" / name)
    result = preprocess(whole_numbers, tmp_path / "two")
    assert result.returncode == 0, result.stderr
    for name in ("subjects/s1/images.npy", "subjects/s1/labels.npy", "references/s1.nii.gz"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_scale_factor_and_offset_are_applied_to_image_and_label(whole_numbers, tmp_path):
    assert preprocess(whole_numbers, tmp_path / "one").returncode == 0
    ranges = json.loads((tmp_path / "one" / "subjects" / "s1" / "meta.json").read_text())["intensity_range"]
    for name, slope, offset in (("pre/FLAIR.nii.gz", 0.5, -20), ("wmh.nii.gz", 0.01, 0)):  # 0.01: 100 comes out as 0.99999998
        image = nib.load(whole_numbers / "s1" / name)
        stored = np.rint((np.asanyarray(image.dataobj) - offset) / slope).astype(np.int16)
        scaled = nib.Nifti1Image(stored, image.affine)
        scaled.header.set_slope_inter(slope, offset)
        nib.save(scaled, whole_numbers / "s1" / name)
    result = preprocess(whole_numbers, tmp_path / "two")
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "two" / "subjects" / "s1"
    assert json.loads((folder / "meta.json").read_text())["intensity_range"] == ranges
    for name in ("subjects/s1/images.npy", "subjects/s1/labels.npy", "references/s1.nii.gz"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_a_folder_of_another_data_set_is_refused(raw, data):
    result = run("preprocess.py", "--layout", "wmh", "--raw", raw, "--out", data, "--size", 64)
    refuses(result, data, "another size (32, asked for 64)")
    refuses(preprocess(raw, data, "--map-dims", 3, "--unit", "mm"), data,
            "another distance (unit px, asked for mm; dims 2, asked for 3)", "with make, another NAME")


def test_a_scan_that_was_corrected_in_place_is_done_again(raw, data):
    before = json.loads((data / "fingerprint.json").read_text())
    kept = (data / "subjects" / "s0" / "images.npy").stat().st_mtime_ns
    damage("wmh.nii.gz", put(1, slice(0, 9)))(raw)
    assert preprocess(raw, data).returncode == 0
    assert json.loads((data / "fingerprint.json").read_text())["foreground_ratio"] > before["foreground_ratio"]
    assert (data / "subjects" / "s0" / "images.npy").stat().st_mtime_ns == kept


def test_one_phantom_among_the_scans_makes_the_set_a_phantom(raw, tmp_path):
    path = raw / "s4" / "pre" / "T1.nii.gz"
    image = nib.load(path)
    voxels = np.asanyarray(image.dataobj).copy()
    image.header["descrip"] = b"phantom"
    nib.save(nib.Nifti1Image(voxels, image.affine, image.header), path)
    assert preprocess(raw, tmp_path / "data").returncode == 0
    assert json.loads((tmp_path / "data" / "dataset.json").read_text())["source"] == "phantom"


@pytest.mark.parametrize("option, value", [("--jobs", 0), ("--seed", -1), ("--val", 0), ("--size", 8)])
def test_a_number_that_makes_no_sense_ends_with_status_2(raw, tmp_path, option, value):
    result = preprocess(raw, tmp_path / "data", option, value)
    assert result.returncode == 2 and f"{option}: at least" in result.stderr


def test_a_renamed_data_folder_is_the_same_data_set(raw, data, tmp_path):
    before = json.loads((data / "fingerprint.json").read_text())["sha256"]
    data.rename(tmp_path / "renamed")
    assert preprocess(raw, tmp_path / "renamed").returncode == 0
    assert json.loads((tmp_path / "renamed" / "fingerprint.json").read_text())["sha256"] == before


def test_an_interrupted_run_continues_and_ends_the_same(raw, data, tmp_path):
    part = tmp_path / "part" / "data"
    assert preprocess(raw, part).returncode == 0
    for name in ("s2", "s5"):  # as if killed before these were written
        for path in sorted((part / "subjects" / name).iterdir()):
            path.unlink()
        (part / "subjects" / name).rename(part / "subjects" / f"{name}.partial-123")
    (part / "index.csv").unlink()
    kept = (part / "subjects" / "s0" / "images.npy").stat().st_mtime_ns
    assert preprocess(raw, part).returncode == 0
    assert (part / "subjects" / "s0" / "images.npy").stat().st_mtime_ns == kept
    assert (part / "fingerprint.json").read_bytes() == (data / "fingerprint.json").read_bytes()
    assert not list(part.glob("*/*.partial-*"))


def test_what_a_killed_run_has_converted_is_used_by_the_next_of_the_same_settings(raw, data, tmp_path):
    part = tmp_path / "part" / "data"
    assert preprocess(raw, part).returncode == 0
    (part / "index.csv").unlink()
    for name in ("s1", "s2", "s3"):  # as if killed while moving them to their place: s1's reference is there already
        for path in (part / "subjects" / name, part / "references" / f"{name}.nii.gz"):
            if path.name != "s1.nii.gz":
                target = part / ".pending" / path.relative_to(part)
                target.parent.mkdir(parents=True, exist_ok=True)
                path.rename(target)
    shutil.copy(part / "dataset.json", part / ".pending")
    kept = (part / ".pending" / "subjects" / "s3" / "images.npy").stat().st_mtime_ns
    assert preprocess(raw, part).returncode == 0
    assert (part / "subjects" / "s3" / "images.npy").stat().st_mtime_ns == kept
    for path in sorted(p.relative_to(data) for p in data.rglob("*") if p.is_file() and p.name != "run_time.json"):
        assert (data / path).read_bytes() == (part / path).read_bytes(), path


def test_what_was_converted_with_other_settings_is_not_used(raw, data, tmp_path):
    out = tmp_path / "other" / "data"
    for name in ("subjects", "references", "dataset.json"):
        (out / ".pending").mkdir(parents=True, exist_ok=True)
        (data / name).rename(out / ".pending" / name)
    assert preprocess(raw, out, "--unit", "mm").returncode == 0
    assert np.load(out / "subjects" / "s0" / "distance.npy").max() < 20  # mm: 20x24 of them, here 32x32 pixels
    assert not (out / ".pending").exists()


def test_a_problem_leaves_a_finished_folder_as_it_was(raw, data):
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    damage("wmh.nii.gz", put(1, slice(0, 9)))(raw)  # s1: another label, to be converted again
    (raw / "s4" / "pre" / "T1.nii.gz").write_bytes(b"damaged")
    refuses(preprocess(raw, data, "--jobs", 1), "1 of 6 subjects")
    assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before


def test_paths_with_spaces_and_other_letters_work(raw, tmp_path):
    moved = tmp_path / "données de Zoë"
    raw.rename(moved)
    assert preprocess(moved, tmp_path / "out put é").returncode == 0
