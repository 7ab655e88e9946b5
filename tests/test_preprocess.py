"""Raw scans to slices: what is written, where it lands, and what is refused."""

import csv
import json
import os
import random

import nibabel as nib
import numpy as np
import pytest

from conftest import refuses, run, write_wmh_subject
from datasets import DATASETS, check_subject, find_subjects, recognise
from distance import signed_distance
from preprocess import choose_split, normalise, resample, resample_label, restore_mask, split_code2018
from utils import UserError

WMH = DATASETS["wmh"]


def preprocess(raw, out, *more):
    return run("preprocess.py", "--layout", "wmh", "--raw", raw, "--out", out, "--size", 32, "--val", 2, *more)


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
    for path in sorted(p.relative_to(data) for p in data.rglob("*") if p.is_file()):
        assert (data / path).read_bytes() == (tmp_path / "again" / "data" / path).read_bytes(), path


def test_empty_slices_of_the_distance_maps_take_no_space_on_disk(tmp_path):
    write_wmh_subject(tmp_path / "raw" / "a", shape=(20, 24, 40))
    write_wmh_subject(tmp_path / "raw" / "b", shape=(20, 24, 40))
    result = run("preprocess.py", "--layout", "wmh", "--raw", tmp_path / "raw", "--out", tmp_path / "data", "--size", 128)
    assert result.returncode == 0, result.stderr
    status = (tmp_path / "data" / "subjects" / "a" / "distance.npy").stat()
    assert status.st_blocks * 512 < status.st_size / 4


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
    image = restore_mask(np.load(folder / "labels.npy"), json.loads((folder / "meta.json").read_text()))
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
    back = restore_mask(classes, {"affine": np.diag([1.2, 1, 3, 1]).tolist(), "original_shape": [132, 90, 3]})
    back = np.asanyarray(back.dataobj)
    assert 2 * (back & label).sum() / (back.sum() + label.sum()) > 0.9


def test_an_image_stored_in_another_orientation_on_the_same_grid_is_reoriented(raw):
    path = raw / "s0" / "pre" / "T1.nii.gz"
    image = nib.load(path)
    flipped = image.as_reoriented([[0, -1], [1, 1], [2, 1]])
    voxels = np.asanyarray(image.dataobj).copy()
    nib.save(nib.Nifti1Image(np.asanyarray(flipped.dataobj).copy(), flipped.affine), path)
    subject = find_subjects(raw, WMH)[0]
    assert check_subject(subject, WMH) == ([], [])
    from datasets import read_volume
    np.testing.assert_array_equal(read_volume(path)[0], voxels)


# Splits ---------------------------------------------------------------------------------------------------------------

def test_the_2018_split_sorts_as_strings_and_seeds_with_zero():
    names = [f"case_{n}" for n in range(1, 95)]
    random.seed(0)
    expected = random.sample(sorted(names), 20)
    assert split_code2018(reversed(names), 20) == expected
    assert expected[:5] == ["case_54", "case_58", "case_14", "case_4", "case_69"]


# The folders of the WMH challenge's training set: bare subject numbers, unique over the three sites
UTRECHT = (0, 2, 4, 6, 8, 11, 17, 19, 21, 23, 25, 27, 29, 31, 33, 35, 37, 39, 41, 49)
SINGAPORE = tuple(range(50, 70))
GE3T = (*range(100, 111), *range(112, 117), 126, 132, 137, 144)


def test_the_2018_split_of_the_wmh_folders_written_out():
    names = [str(number) for number in (*UTRECHT, *SINGAPORE, *GE3T)]
    assert len(set(names)) == 60
    assert split_code2018(names, 10) == ["65", "2", "6", "67", "23", "101", "115", "35", "33", "21"]


def test_the_2018_split_of_the_isles_folders_written_out():
    numbers = (54, 58, 14, 4, 69, 66, 56, 44, 65, 50, 77, 34, 68, 25, 42, 20, 81, 39, 71, 91)
    assert split_code2018([f"case_{n}" for n in range(1, 95)], 20) == [f"case_{n}" for n in numbers]


def test_protocol_code2018_takes_the_2018_split_unless_another_is_given(raw, tmp_path):
    assert preprocess(raw, tmp_path / "old", "--protocol", "code2018").returncode == 0
    assert preprocess(raw, tmp_path / "own", "--protocol", "code2018", "--split", "random").returncode == 0
    assert validation(tmp_path / "old") == sorted(split_code2018([f"s{n}" for n in range(6)], 2))
    expected = choose_split([f"s{n}" for n in range(6)], "random", 2, 0)
    assert validation(tmp_path / "own") == [name for name, subset in expected.items() if subset == "val"]


def validation(data):
    with open(data / "split.csv") as file:
        return [row["subject"] for row in csv.DictReader(file) if row["subset"] == "val"]


def test_a_random_split_depends_on_the_seed_alone():
    names = [f"p{n}" for n in range(60)]
    one, two = choose_split(names, "random", 10, 0), choose_split(names[::-1], "random", 10, 0)
    assert one == two and sum(value == "val" for value in one.values()) == 10
    assert one != choose_split(names, "random", 10, 1)


def test_a_split_from_a_table_is_taken_as_it_is(raw, tmp_path):
    table = tmp_path / "split.csv"
    table.write_text("subject,subset\n" + "".join(f"s{n},{'val' if n in (1, 4) else 'train'}\n" for n in range(6)))
    assert preprocess(raw, tmp_path / "data", "--split", table).returncode == 0
    assert (tmp_path / "data" / "split.csv").read_text() == table.read_text()


@pytest.mark.parametrize("subset", ["train", "val"])
def test_a_split_table_with_one_subset_only_is_refused(raw, tmp_path, subset):
    table = tmp_path / "split.csv"
    table.write_text("subject,subset\n" + "".join(f"s{n},{subset}\n" for n in range(6)))
    refuses(preprocess(raw, tmp_path / "data", "--split", table), table, "subjects in train and in val", f"all in {subset}")
    assert not (tmp_path / "data").exists()


def test_an_empty_split_table_is_refused(raw, tmp_path):
    (tmp_path / "split.csv").touch()
    refuses(preprocess(raw, tmp_path / "data", "--split", tmp_path / "split.csv"), "split.csv", "no column subject, subset")


def test_a_split_table_saved_by_a_spreadsheet_with_a_byte_order_mark_is_read(raw, tmp_path):
    table = tmp_path / "split.csv"
    table.write_text("\ufeffsubject,subset\n" + "".join(f"s{n},{'val' if n else 'train'}\n" for n in range(6)))
    assert preprocess(raw, tmp_path / "data", "--split", table).returncode == 0


def test_a_split_table_without_a_subject_is_refused(raw, tmp_path):
    table = tmp_path / "split.csv"
    table.write_text("subject,subset\ns0,train\n")
    refuses(preprocess(raw, tmp_path / "data", "--split", table), table, "s1 without one")


def test_more_validation_subjects_than_there_are_is_refused(raw, tmp_path):
    result = run("preprocess.py", "--layout", "wmh", "--raw", raw, "--out", tmp_path / "data", "--val", 6)
    refuses(result, "--val", "1 to 5 of the 6 subjects", "found 6")


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


def test_a_link_that_leads_back_is_followed_once(tmp_path):
    write_wmh_subject(tmp_path / "raw" / "a")
    (tmp_path / "raw" / "loop").symlink_to(tmp_path / "raw")
    assert len(find_subjects(tmp_path / "raw", WMH)) == 1


def test_one_name_at_two_places_is_refused(raw):
    write_wmh_subject(raw / "site2" / "s1")
    with pytest.raises(UserError, match="s1 also at"):
        find_subjects(raw, WMH)


# Bad input ------------------------------------------------------------------------------------------------------------

def damage(name, change):
    """Change one image of s1: `change` gets (voxels, affine) and returns the new pair."""
    def do(raw):
        path = raw / "s1" / name
        image = nib.load(path)
        voxels, affine = change(np.asanyarray(image.dataobj).copy(), image.affine.copy())
        nib.save(nib.Nifti1Image(voxels, affine), path)
    return do


def put(value, index=(0, 0, 0)):
    def change(voxels, affine):
        voxels = voxels.astype(np.float32)
        voxels[index] = value
        return voxels, affine
    return change


def scramble(path):
    content = bytearray(path.read_bytes())
    content[3000:3100] = bytes(100)
    path.write_bytes(content)


BAD = {
    "missing modality": (lambda raw: (raw / "s1/pre/T1.nii.gz").unlink(), ["one T1 image", "no such file"]),
    "missing label": (lambda raw: (raw / "s1/wmh.nii.gz").unlink(), ["one label image", "no such file"]),
    "two files": (lambda raw: nib.save(nib.load(raw / "s1/pre/T1.nii.gz"), raw / "s1/pre/T1.nii"), ["T1.nii, T1.nii.gz"]),
    "zero bytes": (lambda raw: (raw / "s1/pre/T1.nii.gz").write_bytes(b""), ["T1.nii.gz", "an empty file"]),
    "not a NIfTI": (lambda raw: (raw / "s1/pre/T1.nii.gz").write_bytes(b"hello" * 99), ["a NIfTI image", "495 bytes"]),
    "truncated": (lambda raw: os.truncate(raw / "s1/pre/T1.nii.gz", 5000), ["T1.nii.gz", "truncated or damaged"]),
    "flipped bytes": (lambda raw: scramble(raw / "s1/pre/T1.nii.gz"), ["T1.nii.gz"]),
    "other shape": (damage("wmh.nii.gz", lambda v, a: (v[:-1], a)), ["shape (20, 24, 5)", "(19, 24, 5)"]),
    "elsewhere": (damage("wmh.nii.gz", lambda v, a: (v, a + np.eye(4, k=3) * 9)), ["corners 9.00 mm apart"]),
    "4-D": (damage("pre/T1.nii.gz", lambda v, a: (np.stack([v, v], 3), a)), ["a 3-D image", "(20, 24, 5, 2)"]),
    "NaN": (damage("pre/T1.nii.gz", put(np.nan)), ["finite intensities", "1 NaN"]),
    "constant": (damage("pre/T1.nii.gz", put(7, ...)), ["an image with contrast", "7 in every voxel"]),
    "label 9": (damage("wmh.nii.gz", put(9)), ["labels among 0, 1, 2", "9"]),
    "label 0.5": (damage("wmh.nii.gz", put(0.5)), ["labels among 0, 1, 2", "0.5"]),
    "spacing": (damage("wmh.nii.gz", lambda v, a: (v, a @ np.diag([1, 1, 1e4, 1]))), ["voxels of 0.01 to 100 mm"]),
}


@pytest.mark.parametrize("case", ["zero bytes", "not a NIfTI", "missing label"])
def test_a_damaged_first_subject_is_named_too(raw, tmp_path, case):
    (raw / "s0").rename(raw / "s9")
    BAD[case][0](raw)
    refuses(preprocess(raw, tmp_path / "data"), "1 of 6 subjects")


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named_and_nothing_is_written(raw, tmp_path, case):
    spoil, words = BAD[case]
    spoil(raw)
    result = preprocess(raw, tmp_path / "data")
    refuses(result, "1 of 6 subjects")
    listed = [line for line in result.stderr.splitlines() if str(raw / "s1") in line]
    assert listed and all(any(word in line for line in listed) for word in words), result.stderr
    assert not (tmp_path / "data").exists()


def test_a_gigantic_header_is_refused_before_memory_is_taken(raw):
    path = raw / "s1" / "pre" / "T1.nii"
    header = nib.Nifti1Header()
    header.set_data_shape((30000, 30000, 3000))
    path.write_bytes(header.binaryblock + b"\0" * 4)
    (raw / "s1" / "pre" / "T1.nii.gz").unlink()
    problems, _ = check_subject(find_subjects(raw, WMH)[1], WMH)
    assert len(problems) == 1 and "at most 268435456 voxels" in problems[0]


@pytest.mark.parametrize("dtype", [np.complex64, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])], ids=["complex", "RGB"])
def test_an_image_that_is_not_one_real_number_a_voxel_is_a_problem_like_others(raw, tmp_path, dtype):
    voxels = np.zeros((20, 24, 5), dtype)
    nib.save(nib.Nifti1Image(voxels, np.diag([1.0, 1, 3, 1])), raw / "s1" / "pre" / "T1.nii.gz")
    result = preprocess(raw, tmp_path / "data")
    refuses(result, "1 of 6 subjects")
    assert "one real number a voxel" in result.stderr


def test_all_problems_are_listed_before_failing(raw, tmp_path):
    (raw / "s1" / "pre" / "T1.nii.gz").unlink()
    (raw / "s4" / "wmh.nii.gz").write_bytes(b"")
    refuses(preprocess(raw, tmp_path / "data"), "2 of 6 subjects", "2, listed above")


def test_a_label_without_foreground_is_a_warning(raw, tmp_path):
    damage("wmh.nii.gz", lambda v, a: (np.where(v == 1, 2, v), a))(raw)  # only "other pathology"
    result = preprocess(raw, tmp_path / "data")
    assert result.returncode == 0 and "no foreground in this label (values 0, 2)" in result.stderr


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float64])
def test_any_numeric_type_of_image_is_read(tmp_path, dtype):
    write_wmh_subject(tmp_path / "a", dtype=dtype)
    assert check_subject(find_subjects(tmp_path, WMH)[0], WMH) == ([], [])


def test_raw_that_is_a_file_or_absent_is_refused(tmp_path):
    (tmp_path / "file").touch()
    refuses(preprocess(tmp_path / "file", tmp_path / "data"), "a folder of scans", "a file")
    refuses(preprocess(tmp_path / "nowhere", tmp_path / "data"), "nothing there")


def test_a_folder_of_another_data_set_is_refused(raw, data):
    result = run("preprocess.py", "--layout", "wmh", "--raw", raw, "--out", data, "--size", 64)
    refuses(result, data, "another size (32, asked for 64)")


def test_an_existing_empty_folder_stays_empty_when_the_input_is_bad(raw, tmp_path):
    (tmp_path / "data").mkdir()
    (raw / "s1" / "wmh.nii.gz").unlink()
    refuses(preprocess(raw, tmp_path / "data"), "1 of 6 subjects")
    assert not list((tmp_path / "data").iterdir())


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


def test_verify_says_ok_and_writes_nothing(raw, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    result = run("preprocess.py", "--layout", "wmh", "--raw", raw, "--verify")
    assert result.returncode == 0 and "OK: 6 subjects" in result.stdout
    assert sorted(tmp_path.rglob("*")) == before


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


def test_paths_with_spaces_and_other_letters_work(raw, tmp_path):
    moved = tmp_path / "données de Zoë"
    raw.rename(moved)
    assert preprocess(moved, tmp_path / "out put é").returncode == 0
