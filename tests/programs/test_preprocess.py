"""Raw scans to slices: what is written, where it lands, and what is refused."""

import csv
import json
import os
import shutil
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

from checkout import ROOT
from conftest import damage, preprocess, put, refuses, run, write_wmh_subject
from distance import signed_distance
from raw_folders import write_nnunet
from scans.checks import check_subject
from scans.datasets import DATASETS, find_subjects
from scans.folder import read_meta
from scans.nifti import read_volume
from scans.resampling import resample, restore_mask

WMH = DATASETS["wmh"]


# What is written ----------------------------------------------------------------------------------

def test_preprocessing_needs_no_torch():
    code = "import preprocess, evaluate, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("code", [
    "sys.modules['nibabel'] = sys.modules['torchvision'] = None; import main",
    "sys.modules['torchvision'] = None; import predict"])
def test_networks_start_without_what_is_slow_to_import_or_may_be_missing(code):
    subprocess.run([sys.executable, "-c", f"import sys; {code}"], cwd=ROOT, check=True)


def test_written_are_the_scan_its_label_and_its_distance_map(data, raw):
    folder = data / "subjects" / "s3"
    images, labels, maps = (np.load(folder / f"{name}.npy")
                            for name in ("images", "labels", "distance"))
    assert images.shape == (5, 2, 32, 32) and images.dtype == np.uint16
    assert labels.shape == (5, 32, 32) and labels.dtype == np.uint8
    assert maps.shape == (5, 1, 32, 32) and maps.dtype == np.float32
    flair = np.asanyarray(nib.load(raw / "s3" / "pre" / "FLAIR.nii.gz").dataobj)
    expected = resample((flair - flair.min()) / (flair.max() - flair.min()), 32, "bilinear")
    np.testing.assert_allclose(images[:, 0] / 65535, expected, atol=1e-5)
    np.testing.assert_array_equal(maps[1, 0], signed_distance(labels[1] == 1))
    assert not maps[0].any() and not maps[4].any()  # slices without a lesion


def test_distance_maps_in_mm_use_the_resampled_in_plane_spacing(raw, tmp_path):
    assert preprocess(raw, tmp_path / "mm", "--unit", "mm").returncode == 0
    folder = tmp_path / "mm" / "subjects" / "s0"
    labels, maps = np.load(folder / "labels.npy"), np.load(folder / "distance.npy")
    # 20x24 at 1 mm
    np.testing.assert_array_equal(maps[1, 0], signed_distance(labels[1] == 1, (20 / 32, 24 / 32)))


# 20x24 pixels, 1x1x3 mm
def test_official_maps_in_mm_of_small_voxels_are_a_warning(raw, tmp_path):
    # resampled voxels: 20 mm / 32 = 0.62 mm wide at the least
    said = preprocess(raw, tmp_path / "mm", "--convention", "official", "--unit", "mm").stdout
    assert "warning: official maps in mm" in said and "voxels are 0.62 mm wide" in said
    phi, labels = (np.load(tmp_path / "mm" / "subjects" / "s0" / f"{kind}.npy")
                   for kind in ("distance", "labels"))
    assert (phi[:, 0][labels == 1] > 0).any()
    for more in (["--convention", "official"], ["--unit", "mm"]):
        result = preprocess(raw, tmp_path / f"only-{more[1]}", *more)
        assert result.returncode == 0 and "warning" not in result.stdout


@pytest.mark.parametrize("unit, spacing", [("px", None), ("mm", (3.0, 20 / 32, 24 / 32))])
def test_maps_of_3_dimensions_are_the_slices_of_the_volumes_map(raw, tmp_path, unit, spacing):
    assert preprocess(raw, tmp_path / "3d", "--map-dims", 3, "--unit", unit).returncode == 0
    folder = tmp_path / "3d" / "subjects" / "s0"
    labels, maps = np.load(folder / "labels.npy"), np.load(folder / "distance.npy")
    np.testing.assert_array_equal(maps[:, 0], signed_distance(labels == 1, spacing))
    # a slice without a lesion knows how far the lesion in the next one is
    assert (maps[0] > 0).all()


def test_a_scan_in_the_middle_of_its_slices_has_maps_of_their_pixels(raw, tmp_path):
    """With --fill 20 a scan of 20x24 pixels of 1 mm lies in the middle of 32x32."""
    assert preprocess(raw, tmp_path / "data", "--fill", 20, "--unit", "mm").returncode == 0
    folder = tmp_path / "data" / "subjects" / "s0"
    labels, maps = np.load(folder / "labels.npy"), np.load(folder / "distance.npy")
    assert read_meta(tmp_path / "data", "s0").spacing_mm == pytest.approx([1, 24 / 20, 3])
    np.testing.assert_array_equal(
        maps[1, 0], signed_distance(labels[1] == 1, (1, 1.2)).astype(np.float32))

    # the lesion's rows 5 to 10 of 20 lie 6 further; its area shrinks with the columns, 24 to 20
    rows = np.flatnonzero(labels[1].any(1))
    assert rows.tolist() == list(range(11, 17)) and labels[1].sum() == 6 * round(5 * 20 / 24)

    settings = json.loads((tmp_path / "data" / "dataset.json").read_text())
    assert (settings["size"], settings["fill"]) == (32, 20)


def test_a_fill_of_the_whole_slice_is_none(raw, data, tmp_path):
    assert preprocess(raw, tmp_path / "whole", "--fill", 32).returncode == 0
    first, second = ((folder / "fingerprint.json").read_text() for folder in (
        data, tmp_path / "whole"))
    assert first == second


def test_the_2018_code_had_no_maps_of_3_dimensions(raw, tmp_path):
    result = preprocess(raw, tmp_path / "old", "--protocol", "code2018", "--map-dims", 3)
    assert result.returncode == 2 and "--map-dims 3" in result.stderr
    assert not (tmp_path / "old").exists()


def test_protocol_code2018_writes_integer_official_maps(raw, tmp_path):
    assert preprocess(raw, tmp_path / "old", "--protocol", "code2018").returncode == 0
    folder = tmp_path / "old" / "subjects" / "s0"
    labels, maps = np.load(folder / "labels.npy"), np.load(folder / "distance.npy")
    official = signed_distance(labels[1] == 1, convention="official")
    np.testing.assert_array_equal(maps[1, 0], np.trunc(official))
    assert (maps == np.trunc(maps)).all()


def test_index_and_fingerprint_count_what_was_written(data):
    with open(data / "index.csv") as file:
        rows = list(csv.DictReader(file))
    fingerprint = json.loads((data / "fingerprint.json").read_text())
    assert len(rows) == fingerprint["slices"] == 6 * 5
    assert (fingerprint["train"]["subjects"], fingerprint["val"]["subjects"]) == (4, 2)
    # the lesion lies in two of five slices
    assert fingerprint["val"]["empty_fraction"] == pytest.approx(3 / 5)
    foreground = np.load(data / "subjects" / "s0" / "labels.npy")[1].astype(bool).sum()
    assert [int(row["foreground_pixels"]) for row in rows[:5]] == [0, foreground, foreground, 0, 0]


def assert_equal_files(expected, found):
    """Assert that two data folders hold the same bytes, but for how long it took."""
    for path in sorted(expected.rglob("*")):
        if path.is_file() and path.name != "run_time.json":
            name = path.relative_to(expected)
            assert path.read_bytes() == (found / name).read_bytes(), name


def test_two_runs_give_equal_files(raw, data, tmp_path):
    assert preprocess(raw, tmp_path / "again" / "data").returncode == 0
    assert_equal_files(data, tmp_path / "again" / "data")


def test_empty_slices_of_the_distance_maps_take_no_space_on_disk(tmp_path):
    write_wmh_subject(tmp_path / "raw" / "a", shape=(20, 24, 40))
    write_wmh_subject(tmp_path / "raw" / "b", shape=(20, 24, 40))
    result = run("preprocess.py", "--layout", "wmh", "--raw", tmp_path / "raw", "--out",
                 tmp_path / "data", "--size", 128)
    assert result.returncode == 0, result.stderr
    status = (tmp_path / "data" / "subjects" / "a" / "distance.npy").stat()
    assert status.st_blocks * 512 < status.st_size / 4


# Geometry -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("affine", [
    np.diag([1.0, 1, 3, 1]), np.diag([-1.0, 1, 3, 1]), np.diag([-1.0, -1, 3, 1]),
    # Axes permuted: stored as (A, I, R)
    np.array([[0, 0, 3.0, -5], [1, 0, 0, 7], [0, -1, 0, 2], [0, 0, 0, 1]]),
    # Oblique
    np.array([[0.8, -0.576, 0.504, 4], [0.6, 0.768, -0.672, 0], [0, 0.28, 2.88, 0], [0, 0, 0, 1]]),
], ids=["RAS", "LAS", "LPS", "AIR", "oblique"])
def test_labels_to_slices_and_back_land_on_the_same_voxels(tmp_path, affine):
    labels = write_wmh_subject(tmp_path / "raw" / "a", (36, 40, 34), affine, seed=1)
    write_wmh_subject(tmp_path / "raw" / "b", (36, 40, 34), affine, seed=2)
    result = run("preprocess.py", "--layout", "wmh", "--raw", tmp_path / "raw", "--out",
                 tmp_path / "data", "--size", 80)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "data" / "subjects" / "a"
    meta = json.loads((folder / "meta.json").read_text())
    image = restore_mask(np.load(folder / "labels.npy"), meta["affine"], meta["original_shape"])
    # enlarged to 80x80 and back
    np.testing.assert_array_equal(np.asanyarray(image.dataobj), labels == 1)
    np.testing.assert_allclose(image.affine, affine)


def test_references_hold_classes_on_the_scans_grid_and_255(data, raw):
    raw_label = np.asanyarray(nib.load(raw / "s0" / "wmh.nii.gz").dataobj)
    reference = np.asanyarray(nib.load(data / "references" / "s0.nii.gz").dataobj)
    np.testing.assert_array_equal(reference, np.where(raw_label == 2, 255, raw_label))


def test_another_orientation_of_the_same_grid_is_reoriented(raw):
    path = raw / "s0" / "pre" / "T1.nii.gz"
    image = nib.load(path)
    flipped = image.as_reoriented([[0, -1], [1, 1], [2, 1]])
    voxels = np.asanyarray(image.dataobj).copy()
    nib.save(nib.Nifti1Image(np.asanyarray(flipped.dataobj).copy(), flipped.affine), path)
    subject = find_subjects(raw, WMH)[0]
    assert check_subject(subject, WMH) == ([], [])
    np.testing.assert_array_equal(read_volume(path)[0], voxels)


# Any type of number, and going on -----------------------------------------------------------------

NUMBERS = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64,
           np.float32, np.float64]


@pytest.fixture
def whole_numbers(raw):
    """s1 of whole numbers that every type holds, in each of its images."""
    for name in ("FLAIR", "T1"):
        damage(f"pre/{name}.nii.gz", lambda v, a: (np.clip(np.rint(v / 2), 0, 127), a))(raw)
    return raw


@pytest.mark.parametrize("dtype", NUMBERS, ids=lambda kind: kind.__name__)
def test_any_type_of_number_gives_the_same_slices(whole_numbers, tmp_path, dtype):
    assert preprocess(whole_numbers, tmp_path / "one").returncode == 0
    for name in ("pre/FLAIR.nii.gz", "pre/T1.nii.gz", "wmh.nii.gz"):
        image = nib.load(whole_numbers / "s1" / name)
        again = nib.Nifti1Image(np.asanyarray(image.dataobj).astype(dtype), image.affine,
                                dtype=dtype)
        nib.save(again, whole_numbers / "s1" / name)
    result = preprocess(whole_numbers, tmp_path / "two")
    assert result.returncode == 0, result.stderr
    for name in ("subjects/s1/images.npy", "subjects/s1/labels.npy", "references/s1.nii.gz"):
        first, second = (tmp_path / folder / name for folder in ("one", "two"))
        assert first.read_bytes() == second.read_bytes(), name


def test_scale_factor_and_offset_are_applied_to_image_and_label(whole_numbers, tmp_path):
    assert preprocess(whole_numbers, tmp_path / "one").returncode == 0
    ranges = read_meta(tmp_path / "one", "s1").intensity_range
    # 0.01: 100 comes out as 0.99999998
    for name, slope, offset in (("pre/FLAIR.nii.gz", 0.5, -20), ("wmh.nii.gz", 0.01, 0)):
        image = nib.load(whole_numbers / "s1" / name)
        stored = np.rint((np.asanyarray(image.dataobj) - offset) / slope).astype(np.int16)
        scaled = nib.Nifti1Image(stored, image.affine)
        scaled.header.set_slope_inter(slope, offset)
        nib.save(scaled, whole_numbers / "s1" / name)
    result = preprocess(whole_numbers, tmp_path / "two")
    assert result.returncode == 0, result.stderr
    assert read_meta(tmp_path / "two", "s1").intensity_range == ranges
    for name in ("subjects/s1/images.npy", "subjects/s1/labels.npy", "references/s1.nii.gz"):
        first, second = (tmp_path / folder / name for folder in ("one", "two"))
        assert first.read_bytes() == second.read_bytes(), name


def test_a_folder_of_another_data_set_is_refused(raw, data):
    result = run("preprocess.py", "--layout", "wmh", "--raw", raw, "--out", data, "--size", 64)
    refuses(result, data, "another size (32, asked for 64)")
    refuses(preprocess(raw, data, "--map-dims", 3, "--unit", "mm"), data,
            "another distance (unit px, asked for mm; dims 2, asked for 3)",
            "with make, another NAME")
    refuses(preprocess(raw, data, "--fill", 20), data, "another fill (none, asked for 20)")
    refuses(preprocess(raw, data, "--normalise", "zscore"), data,
            "another normalise (minmax, asked for zscore)")


def test_a_folder_with_a_border_is_refused_without_one(raw, tmp_path):
    assert preprocess(raw, tmp_path / "data", "--fill", 20).returncode == 0
    refuses(preprocess(raw, tmp_path / "data"), "another fill (20, asked for none)")


def test_a_folder_of_other_scans_says_which(raw, tmp_path):
    data = tmp_path / "data"
    assert preprocess(raw, data).returncode == 0
    result = run("preprocess.py", "--layout", "wmh", "--raw", raw, "--out", data, "--size", 32,
                 "--split", "folds:2")
    refuses(result, data, "another split (how random, asked for folds:2; val 2, asked for none)")
    shutil.copytree(raw / "s0", raw / "new")
    refuses(preprocess(raw, data), data, "other subjects (asked for one with new)")
    shutil.rmtree(raw / "s0")
    shutil.rmtree(raw / "s1")
    refuses(preprocess(raw, data), data,
            "other subjects (asked for one with new and without s0 and 1 more)")


def test_scans_are_not_said_to_be_a_data_folder_that_may_be_removed(tmp_path):
    """nnU-Net's own dataset.json lies beside its scans."""
    raw = write_nnunet(tmp_path / "Dataset001_Lesions")
    result = run("preprocess.py", "--layout", "nnunet", "--raw", raw, "--out", raw)
    refuses(result, raw, "Choose another --out.")
    assert "remove" not in result.stderr


def test_a_scan_that_was_corrected_in_place_is_done_again(raw, data):
    before = json.loads((data / "fingerprint.json").read_text())
    kept = (data / "subjects" / "s0" / "images.npy").stat().st_mtime_ns
    damage("wmh.nii.gz", put(1, slice(0, 9)))(raw)
    assert preprocess(raw, data).returncode == 0
    after = json.loads((data / "fingerprint.json").read_text())
    assert after["foreground_ratio"] > before["foreground_ratio"]
    assert (data / "subjects" / "s0" / "images.npy").stat().st_mtime_ns == kept


def test_one_phantom_among_the_scans_makes_the_set_a_phantom(raw, tmp_path):
    path = raw / "s4" / "pre" / "T1.nii.gz"
    image = nib.load(path)
    voxels = np.asanyarray(image.dataobj).copy()
    image.header["descrip"] = b"phantom"
    nib.save(nib.Nifti1Image(voxels, image.affine, image.header), path)
    assert preprocess(raw, tmp_path / "data").returncode == 0
    assert json.loads((tmp_path / "data" / "dataset.json").read_text())["source"] == "phantom"


@pytest.mark.parametrize("option, value",
                         [("--jobs", 0), ("--seed", -1), ("--val", 0), ("--size", 8),
                          ("--fill", 7), ("--fill", 33)])
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


def test_what_a_killed_run_has_converted_is_used_by_the_next(raw, data, tmp_path):
    part = tmp_path / "part" / "data"
    assert preprocess(raw, part).returncode == 0
    (part / "index.csv").unlink()
    # as if killed while moving them to their place: s1's reference is there already
    for name in ("s1", "s2", "s3"):
        for path in (part / "subjects" / name, part / "references" / f"{name}.nii.gz"):
            if path.name != "s1.nii.gz":
                target = part / ".pending" / path.relative_to(part)
                target.parent.mkdir(parents=True, exist_ok=True)
                path.rename(target)
    shutil.copy(part / "dataset.json", part / ".pending")
    kept = (part / ".pending" / "subjects" / "s3" / "images.npy").stat().st_mtime_ns
    assert preprocess(raw, part).returncode == 0
    assert (part / "subjects" / "s3" / "images.npy").stat().st_mtime_ns == kept
    assert_equal_files(data, part)


@pytest.mark.parametrize("lost", ["references/s2.nii.gz", "subjects/s3/images.npy",
                                  "subjects/s2/distance.npy"])
def test_a_file_that_was_lost_from_a_finished_folder_is_made_again(raw, data, tmp_path, lost):
    whole = shutil.copytree(data, tmp_path / "whole")
    (data / lost).unlink()
    assert preprocess(raw, data).returncode == 0
    assert_equal_files(whole, data)


def test_an_array_that_was_cut_off_is_made_again(raw, data, tmp_path):
    whole = shutil.copytree(data, tmp_path / "whole")
    os.truncate(data / "subjects/s2/distance.npy", 200)
    assert preprocess(raw, data).returncode == 0
    assert_equal_files(whole, data)


def test_an_array_with_other_numbers_is_made_again_in_an_unfinished_folder(raw, data, tmp_path):
    whole = shutil.copytree(data, tmp_path / "whole")
    (data / "index.csv").unlink()
    with open(data / "subjects/s1/distance.npy", "r+b") as file:
        file.seek(-3000, os.SEEK_END)
        file.write(b"\x3f" * 3000)
    kept = (data / "subjects/s0/images.npy").stat().st_mtime_ns
    assert preprocess(raw, data).returncode == 0
    assert_equal_files(whole, data)
    assert (data / "subjects/s0/images.npy").stat().st_mtime_ns == kept


def test_a_copy_of_a_scan_is_named(raw, tmp_path):
    shutil.copytree(raw / "s0", raw / "s0_copy")
    same = "warning: s0, s0_copy hold the same FLAIR image"
    verified = run("preprocess.py", "--layout", "wmh", "--raw", raw, "--verify")
    assert f"{same}. Remove the copies" in verified.stdout

    names = ["s0_copy", *(f"s{number}" for number in range(6))]
    table = tmp_path / "split.csv"
    table.write_text("subject,subset\n" + "".join(
        f"{name},{'val' if name in ('s0', 's5') else 'train'}\n" for name in names))
    result = preprocess(raw, tmp_path / "apart", "--split", table)
    assert result.returncode == 0 and f"{same}, and not all of them are in one" in result.stdout

    patients = tmp_path / "patients.csv"
    patients.write_text("subject,patient\n" + "".join(f"{name},{name[:2]}\n" for name in names))
    result = preprocess(raw, tmp_path / "known", "--patients", patients)
    assert result.returncode == 0 and "warning" not in result.stdout


def test_verify_reads_the_tables_it_is_given(raw, tmp_path):
    for option in ("--split", "--patients"):
        missing = tmp_path / "nothing.csv"
        refuses(run("preprocess.py", "--layout", "wmh", "--raw", raw, "--verify", option, missing),
                missing, "no such file")


def test_what_was_converted_with_other_settings_is_not_used(raw, data, tmp_path):
    out = tmp_path / "other" / "data"
    for name in ("subjects", "references", "dataset.json"):
        (out / ".pending").mkdir(parents=True, exist_ok=True)
        (data / name).rename(out / ".pending" / name)
    assert preprocess(raw, out, "--unit", "mm").returncode == 0
    # mm: 20x24 of them, here 32x32 pixels
    assert np.load(out / "subjects" / "s0" / "distance.npy").max() < 20
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


def test_a_kill_while_the_first_file_is_written_is_continued(raw, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dataset.json.partial-4194999").write_text("{")
    assert preprocess(raw, tmp_path / "data").returncode == 0
    assert not list((tmp_path / "data").glob("*.partial-*"))
