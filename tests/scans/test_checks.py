"""What the checks of raw scans say, that all of it is said, and that nothing is written."""

import errno
import gzip
import os
import shutil
import struct
import tracemalloc
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from conftest import damage, preprocess, put, refuses, run, run_apart, write_wmh_subject
from scans.checks import check_grid, check_intensities, check_subject
from scans.convert import save_sparse
from scans.datasets import DATASETS, find_subjects
from scans.folder import is_data_folder
from scans.nifti import read_volume
from utils import UserError

WMH = DATASETS["wmh"]


def scramble(path):
    content = bytearray(path.read_bytes())
    content[3000:3100] = bytes(100)
    path.write_bytes(content)


def no_slices(path):
    nib.save(nib.Nifti1Image(np.zeros((20, 24, 0), np.float32), np.diag([1.0, 1, 3, 1])), path)


def store_spacing(path, value):
    """Set a voxel size in the header as it is stored; the affine stays right."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[80:84] = struct.pack("<f", value)  # pixdim[1]
    path.write_bytes(gzip.compress(bytes(content)))


def gigantic(path):
    header = nib.Nifti1Header()
    header.set_data_shape((30000, 30000, 3000))
    path.write_bytes(gzip.compress(header.binaryblock + bytes(4)))


def make_folder(path):
    path.unlink()
    path.mkdir()


def link(path, target):
    path.unlink()
    path.symlink_to(target)


BAD = {
    "missing modality": (lambda raw: (raw / "s1/pre/T1.nii.gz").unlink(),
                         ["one T1 image", "no such file"]),
    "missing label": (lambda raw: (raw / "s1/wmh.nii.gz").unlink(),
                      ["one label image", "no such file"]),
    "two files": (lambda raw: nib.save(nib.load(raw / "s1/pre/T1.nii.gz"), raw / "s1/pre/T1.nii"),
                  ["T1.nii, T1.nii.gz"]),
    "zero bytes": (lambda raw: (raw / "s1/pre/T1.nii.gz").write_bytes(b""),
                   ["T1.nii.gz", "an empty file"]),
    "not a NIfTI": (lambda raw: (raw / "s1/pre/T1.nii.gz").write_bytes(b"hello" * 99),
                    ["a NIfTI image", "495 bytes"]),
    "truncated": (lambda raw: os.truncate(raw / "s1/pre/T1.nii.gz", 5000),
                  ["T1.nii.gz", "truncated or damaged"]),
    "flipped bytes": (lambda raw: scramble(raw / "s1/pre/T1.nii.gz"), ["T1.nii.gz"]),
    "other shape": (damage("wmh.nii.gz", lambda v, a: (v[:-1], a)),
                    ["shape (20, 24, 5)", "(19, 24, 5)"]),
    "elsewhere": (damage("wmh.nii.gz", lambda v, a: (v, a + np.eye(4, k=3) * 9)),
                  ["corners 9.00 mm apart"]),
    "a long side": (damage("pre/T1.nii.gz", lambda v, a: (np.resize(v, (16400, 2, 5)), a)),
                    ["at most 16384 voxels along an axis", "(16400, 2, 5)"]),
    "huge intensity": (damage("pre/T1.nii.gz", lambda v, a: (v.astype(float) * 1e148, a)),
                       ["intensities up to 1e+100", "e+1"]),
    "4-D": (damage("pre/T1.nii.gz", lambda v, a: (np.stack([v, v], 3), a)),
            ["a 3-D image", "(20, 24, 5, 2)"]),
    "NaN": (damage("pre/T1.nii.gz", put(np.nan)), ["finite intensities", "1 NaN"]),
    "constant": (damage("pre/T1.nii.gz", put(7, ...)),
                 ["an image with contrast", "7 in every voxel"]),
    "label 9": (damage("wmh.nii.gz", put(9)), ["labels among 0, 1, 2", "9"]),
    "label 0.5": (damage("wmh.nii.gz", put(0.5)), ["labels among 0, 1, 2", "0.5"]),
    "infinite": (damage("pre/T1.nii.gz", put(np.inf)), ["finite intensities", "1 NaN or infinite"]),
    "label NaN": (damage("wmh.nii.gz", put(np.nan)), ["labels among 0, 1, 2", "nan"]),
    "zero slices": (lambda raw: no_slices(raw / "s1/pre/T1.nii.gz"),
                    ["a 3-D image", "(20, 24, 0)"]),
    "2-D": (damage("pre/T1.nii.gz", lambda v, a: (v[:, :, 0], a)), ["a 3-D image", "(20, 24)"]),
    "other spacing": (damage("wmh.nii.gz", lambda v, a: (v, a @ np.diag([1.2, 1, 1, 1]))),
                      ["corners 3.80 mm apart"]),
    "mirrored": (damage("wmh.nii.gz", lambda v, a: (v, a @ np.diag([-1, 1, 1, 1]))),
                 ["same place", "19.00 mm apart"]),
    "zero spacing": (lambda raw: store_spacing(raw / "s1/pre/T1.nii.gz", 0),
                     ["voxels of 0.01 to 100 mm", "found 0 mm"]),
    "negative spacing": (lambda raw: store_spacing(raw / "s1/pre/T1.nii.gz", -1),
                         ["voxels of 0.01 to 100 mm", "found -1 mm"]),
    "absurd spacing": (lambda raw: store_spacing(raw / "s1/pre/T1.nii.gz", 1e6),
                       ["voxels of 0.01 to 100 mm", "1e+06 mm"]),
    "NaN spacing": (lambda raw: store_spacing(raw / "s1/pre/T1.nii.gz", np.nan),
                    ["voxels of 0.01 to 100 mm", "nan mm"]),
    "gigantic": (lambda raw: gigantic(raw / "s1/pre/T1.nii.gz"),
                 ["at most 268435456 voxels", "(30000, 30000, 3000)"]),
    "folder for a file": (lambda raw: make_folder(raw / "s1/pre/T1.nii.gz"),
                          ["a readable file", "found a folder"]),
    "link to nothing": (lambda raw: link(raw / "s1/pre/T1.nii.gz", "nowhere"),
                        ["a readable file", "a link to nothing"]),
    "link to itself": (lambda raw: link(raw / "s1/pre/T1.nii.gz", "T1.nii.gz"),
                       ["a link that leads back to itself"]),
    "one number at two sites": (lambda raw: write_wmh_subject(raw / "s1" / "site2" / "s1"),
                                ["occur once", "s1 also at"]),
    "spacing": (damage("wmh.nii.gz", lambda v, a: (v, a @ np.diag([1, 1, 1e4, 1]))),
                ["voxels of 0.01 to 100 mm"]),
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
    gigantic(raw / "s1" / "pre" / "T1.nii.gz")
    subject = find_subjects(raw, WMH)[1]
    tracemalloc.start()
    problems, _ = check_subject(subject, WMH)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(problems) == 1 and "at most 268435456 voxels" in problems[0] and peak < 2**24


def test_a_file_without_permission_is_not_called_damaged(raw, tmp_path, monkeypatch):
    forbidden = raw / "s1" / "pre" / "T1.nii.gz"

    # Not by chmod: tests may run as root, whom no mode keeps out
    def guarded(path, *args, really=open, **options):
        if str(path) == str(forbidden):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return really(path, *args, **options)
    monkeypatch.setattr("builtins.open", guarded)
    result = preprocess(raw, tmp_path / "data")
    refuses(result, "1 of 6 subjects")
    expected = f"{forbidden}: expected a readable file, found no permission to read it. Change"
    assert expected in result.stderr
    assert not (tmp_path / "data").exists()


def test_a_folder_without_permission_is_named(raw, tmp_path, monkeypatch):
    def guarded(path, really=os.scandir):
        if str(path).endswith("s1"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return really(path)
    monkeypatch.setattr("os.scandir", guarded)
    refuses(preprocess(raw, tmp_path / "data"), raw / "s1", "Permission denied", "permissions")


def test_a_folder_that_may_not_be_entered_is_no_data_folder(monkeypatch, tmp_path):
    """As Path.is_file of Python before 3.14 has it; scandir then names the folder itself."""
    def forbidden(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))
    monkeypatch.setattr("pathlib.Path.is_file", forbidden)
    assert not is_data_folder(tmp_path)


def test_a_full_disk_leaves_no_half_subject(raw, tmp_path, monkeypatch):
    saved = []

    def save(path, array, really=save_sparse):
        saved.append(path)
        if len(saved) == 11:  # labels.npy of the fourth subject
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return really(path, array)
    monkeypatch.setattr("scans.convert.save_sparse", save)
    refuses(preprocess(raw, tmp_path / "data", "--jobs", 1), "No space left on device",
            "Free some space")
    monkeypatch.undo()
    assert not (tmp_path / "data" / "index.csv").exists()
    assert not list(tmp_path.rglob("*.partial-*"))

    complete = {"images.npy", "labels.npy", "distance.npy", "meta.json"}
    converted = list((tmp_path / "data").glob("*/subjects/*"))
    assert len(converted) >= 3 and all(set(os.listdir(folder)) == complete for folder in converted)
    assert preprocess(raw, tmp_path / "data").returncode == 0
    assert sorted(os.listdir(tmp_path / "data")) == [
        ".lock", "dataset.json", "fingerprint.json", "index.csv", "references", "run_time.json",
        "split.csv", "subjects"]


def test_the_command_line_refuses_bad_scans_with_status_2(raw, tmp_path):
    for name, case in zip(("s0", "s2", "s3"), ("truncated", "NaN", "label 9")):
        (raw / "s1").rename(raw / "keep")
        (raw / name).rename(raw / "s1")
        BAD[case][0](raw)
        (raw / "s1").rename(raw / name)
        (raw / "keep").rename(raw / "s1")
    result = run_apart("preprocess.py", "--layout", "wmh", "--raw", raw, "--out", tmp_path / "data",
                       "--size", 32)
    refuses(result, "3 of 6 subjects", "3, listed above")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("dtype", [np.complex64, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])],
                         ids=["complex", "RGB"])
def test_complex_and_colour_images_are_listed_as_problems(raw, tmp_path, dtype):
    voxels = np.zeros((20, 24, 5), dtype)
    nib.save(nib.Nifti1Image(voxels, np.diag([1.0, 1, 3, 1])), raw / "s1" / "pre" / "T1.nii.gz")
    result = preprocess(raw, tmp_path / "data")
    refuses(result, "1 of 6 subjects")
    assert "real-valued voxels" in result.stderr


def test_all_problems_are_listed_before_failing(raw, tmp_path):
    (raw / "s1" / "pre" / "T1.nii.gz").unlink()
    (raw / "s4" / "wmh.nii.gz").write_bytes(b"")
    refuses(preprocess(raw, tmp_path / "data"), "2 of 6 subjects", "2, listed above")


def test_duplicates_do_not_hide_other_problems(raw, tmp_path):
    write_wmh_subject(raw / "site2" / "s1")
    (raw / "s4" / "wmh.nii.gz").write_bytes(b"")
    result = preprocess(raw, tmp_path / "data")
    refuses(result, "2 of 6 subjects", "2, listed above")
    assert "s1 also at" in result.stderr and "an empty file" in result.stderr


@pytest.mark.parametrize("change, values",
                         [(lambda v: np.where(v == 1, 2, v), "0, 2"), (lambda v: 0 * v, "0")],
                         ids=["other pathology only", "empty"])
def test_a_label_without_foreground_is_a_warning(raw, tmp_path, change, values):
    damage("wmh.nii.gz", lambda v, a: (change(v), a))(raw)
    result = preprocess(raw, tmp_path / "data")
    assert result.returncode == 0
    assert f"no foreground in this label (values {values})" in result.stderr


def test_folders_of_images_that_the_layout_passes_by_are_named(raw, tmp_path):
    (raw / "s3" / "pre" / "FLAIR.nii.gz").rename(raw / "s3" / "pre" / "flair.nii.gz")
    (raw / "s3" / "pre" / "T1.nii.gz").rename(raw / "s3" / "pre" / "t1.nii.gz")
    (raw / "s3" / "wmh.nii.gz").rename(raw / "s3" / "WMH.nii.gz")
    shutil.copytree(raw / "s1" / "pre", raw / "s1" / "orig")  # of a scan that is taken
    result = preprocess(raw, raw / "data")  # whose references are no scans
    assert result.returncode == 0, result.stderr
    assert (f"warning: 2 folders with NIfTI images hold none of the layout, and are left out: "
            f"{raw / 's3' / 'WMH.nii.gz'}, ...") in result.stdout
    assert "left out" in preprocess(raw, raw / "data").stdout
    shutil.rmtree(raw / "s3")
    result = run("preprocess.py", "--layout", "wmh", "--raw", raw, "--verify")
    assert "left out" not in result.stdout


def test_scans_whose_slices_are_not_across_z_are_counted_in_a_warning(raw, tmp_path):
    """Two of six: of sagittal slices, and of coronal ones that are stored as the others are."""
    for name, affine in (("s1", np.diag([8.0, 1.4, 1.4, 1])), ("s2", np.diag([1.0, 1, 0.5, 1])),
                         ("s3", np.diag([1.0, 1, 2.5, 1])[[0, 2, 1, 3]])):
        shutil.rmtree(raw / name)
        write_wmh_subject(raw / name, affine=affine)
    result = preprocess(raw, tmp_path / "data")
    assert result.returncode == 0, result.stderr
    assert ("warning: 2 of 6 scans (s1, ...) were acquired in slices across x or y, and are cut "
            "into others, across z. Turn them") in result.stderr
    result = run("preprocess.py", "--layout", "wmh", "--raw", raw, "--verify")
    assert "2 of 6 scans (s1, ...)" in result.stderr
    for name in ("s1", "s3"):
        shutil.rmtree(raw / name)
    assert "across x or y" not in preprocess(raw, tmp_path / "other").stderr


@pytest.mark.parametrize("least, warned", [(-32768, True), (-200, True), (-50, False), (0, False)])
def test_padding_far_below_everything_else_is_warned_of(tmp_path, least, warned):
    """The others are -10 to 60: a gap of more than their range is one, from a negative value."""
    voxels = np.linspace(-10, 60, 1000).reshape(10, 10, 10)
    voxels[0] = least
    found = check_intensities("ct.nii.gz", voxels + (200 if least == 0 else 0) * (voxels != 0))
    assert len(found) == warned
    if warned:
        assert f"its least value, {least}, is far below all others (-2.99" in found[0]
        assert "to 60)" in found[0] and "for instance by -2.99" in found[0]


def test_padding_far_above_everything_else_is_warned_of():
    """65535 is -1 in 16 bits; a bright vessel is no padding."""
    voxels = np.linspace(0, 900, 1000).reshape(10, 10, 10)
    assert check_intensities("ct.nii.gz", voxels) == []
    voxels[-1] = 65535
    assert "its greatest value, 65535, is far above all others (0 to 80" in check_intensities(
        "ct.nii.gz", voxels)[0]


def test_a_single_slice_of_another_thickness_lies_elsewhere(tmp_path):
    """5 mm and 1 mm have one centre: only the slice's faces are apart, by 2 mm."""
    images = []
    for thick in (5, 1):
        path = tmp_path / f"{thick}.nii"
        nib.save(nib.Nifti1Image(np.ones((16, 16, 1), np.uint8), np.diag([1, 1, thick, 1])), path)
        images.append(read_volume(path)[1])
    with pytest.raises(UserError, match="within 0.50 mm, found corners 2.00 mm apart"):
        check_grid("1.nii", images[1], images[0], "the FLAIR image")
    check_grid("5.nii", images[0], images[0], "the FLAIR image")


def test_raw_that_is_a_file_or_absent_is_refused(tmp_path):
    (tmp_path / "file").touch()
    refuses(preprocess(tmp_path / "file", tmp_path / "data"), "a folder of scans", "a file")
    refuses(preprocess(tmp_path / "nowhere", tmp_path / "data"), "nothing there")


def test_an_empty_folder_stays_empty_when_the_input_is_bad(raw, tmp_path):
    (tmp_path / "data").mkdir()
    (raw / "s1" / "wmh.nii.gz").unlink()
    refuses(preprocess(raw, tmp_path / "data"), "1 of 6 subjects")
    assert not list((tmp_path / "data").iterdir())


def verify(raw):
    return run("preprocess.py", "--layout", "wmh", "--raw", raw, "--verify")


def test_verify_says_ok_and_writes_nothing(raw, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    result = verify(raw)
    assert result.returncode == 0
    assert "OK: 6 subjects without a problem; fingerprint " in result.stdout
    assert sorted(tmp_path.rglob("*")) == before


def test_verify_counts_slices_foreground_intensities_and_spacing(raw):
    lines = verify(raw).stdout.splitlines()
    volumes = [np.asanyarray(nib.load(path).dataobj) for path in raw.glob("*/pre/T1.nii.gz")]
    # 6x5 of 20x24 in two slices of five
    assert lines[0] == ("30 slices, 60.0% empty, foreground 2.500% of the voxels; "
                        "spacing 1 x 1 x 3 to 1 x 1 x 3 mm")
    assert f"T1 {min(v.min() for v in volumes):g} to {max(v.max() for v in volumes):g}" in lines[1]


def test_the_raw_fingerprint_changes_with_a_file_not_its_place(raw, tmp_path):
    first = verify(raw).stdout
    raw.rename(tmp_path / "moved")
    assert verify(tmp_path / "moved").stdout == first
    damage("pre/T1.nii.gz", put(50))(tmp_path / "moved")
    assert verify(tmp_path / "moved").stdout.split()[-1] != first.split()[-1]


def test_verify_lists_and_counts_problems_and_writes_nothing(raw, tmp_path):
    (raw / "s1" / "pre" / "T1.nii.gz").unlink()
    (raw / "s4" / "wmh.nii.gz").write_bytes(b"")
    before = sorted(tmp_path.rglob("*"))
    result = verify(raw)
    refuses(result, "2 of 6 subjects", "2, listed above")
    listed = [line for line in result.stderr.splitlines() if line.startswith(str(raw))]
    assert len(listed) == 2 and all("expected" in line and "found" in line for line in listed)
    assert "OK" not in result.stdout and sorted(tmp_path.rglob("*")) == before


def test_an_affine_of_dependent_axes_is_named(raw):
    flat = np.array([[1.0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]])  # found by a fuzzer
    damage("pre/T1.nii.gz", lambda voxels, affine: (voxels, flat))(raw)
    result = run("preprocess.py", "--verify", "--layout", "wmh", "--raw", raw)
    refuses(result, "1 of 6 subjects")
    assert "T1.nii.gz: expected an affine with three independent axes" in result.stderr


def test_an_affine_of_nan_is_another_grid():
    image, nowhere = (SimpleNamespace(shape=(4, 4, 4), affine=value * np.eye(4))
                      for value in (1, np.nan))
    with pytest.raises(UserError, match="the same place as the FLAIR image"):
        check_grid("T1.nii", nowhere, image, "the FLAIR image")
