"""evaluate.py --check: what it says of sound scores, and that it finds planted faults."""

import math
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

import evaluate
from checkout import ROOT
from mask_folders import box, error_of, run_evaluate, save, write_folders
from metrics import dice, surface_scores
from scans.nifti import read_volume
from scoring import columns, masks


@pytest.fixture
def folders(tmp_path):
    return write_folders(tmp_path)


def test_finds_no_difference_from_medpy_and_simpleitk(folders, capsys):
    run_evaluate(folders, "--check")
    assert capsys.readouterr().out.splitlines()[0] == (
        "check: 2 scans, largest difference from medpy: Dice 0, HD 0 mm, HD95 0 mm; "
        "SimpleITK read the same voxels")


def test_agrees_on_turned_masks_scaled_labels_and_left_out_voxels(folders, capsys):
    rng = np.random.default_rng(0)
    for name in ("p1", "p2"):
        save(folders / f"noise/{name}.nii.gz", rng.integers(0, 4, (12, 10, 6)).astype(np.uint8))
        path = save(folders / f"turned/{name}.nii.gz",
                    rng.integers(0, 4, (12, 10, 6)).astype(np.float32))
        image = nib.load(path).as_reoriented([[1, -1], [2, 1], [0, -1]])
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), image.affine), path)

    run_evaluate(folders, "--check", "--labels", "1", "3", "--ignore", "2",
                 predictions="turned", references="noise")
    assert "check: 2 scans, largest difference from medpy: Dice " in capsys.readouterr().out


def test_empty_masks_are_left_out_of_medpys_comparison_and_counted(folders, capsys):
    save(folders / "refs/p2.nii", box((0, 0, 0), (0, 0, 0)))
    run_evaluate(folders, "--check")
    assert ("check: 2 scans, 1 of 2 pairs of masks left out of medpy's comparison (one is empty), "
            "largest difference from medpy: Dice 0, HD 0 mm") in capsys.readouterr().out


def test_of_empty_masks_alone_has_nothing_for_medpy(folders, capsys):
    for name in ("p1.nii.gz", "p2.nii"):
        save(folders / "refs" / name, box((0, 0, 0), (0, 0, 0)))
    run_evaluate(folders, "--check", "--labels", "1", "4")
    assert "nothing to compare with medpy; SimpleITK read" in capsys.readouterr().out


def test_of_a_comparison_checks_both_folders(folders, capsys):
    evaluate.main(["--compare", str(folders / "masks"), str(folders / "refs"), "--references",
                   str(folders / "refs"), "--check"])
    out = capsys.readouterr().out
    assert f"check of {folders / 'masks'}: 2 scans" in out
    assert f"check of {folders / 'refs'}: 2 scans" in out


def test_finds_a_wrong_dice(folders, monkeypatch):
    monkeypatch.setattr(columns, "dice", lambda pred, target: dice(pred, target) + 2e-6)
    message = error_of(folders, "--check")
    assert message.startswith(str(folders / "masks/p1.nii.gz"))
    assert "medpy's Dice of label 1, 0.5, found 0.500002" in message


@pytest.mark.parametrize("wrong, said", [
    ((0.002, 0), "medpy's HD of label 1, 4 mm, found 4.002 mm"),
    ((0, 0.002), "medpy's HD95 of label 1, 4 mm, found 4.002 mm"),
    ((math.nan, 0), "medpy's HD of label 1, 4 mm, found nan mm")])
def test_finds_a_wrong_distance(folders, monkeypatch, wrong, said):
    def faulty(*args, **options):
        scores = surface_scores(*args, **options)
        return scores | {"hd": scores["hd"] + wrong[0], "hd95": scores["hd95"] + wrong[1]}

    monkeypatch.setattr(columns, "surface_scores", faulty)
    assert said in error_of(folders, "--check")


def test_finds_voxels_read_in_another_order(folders, monkeypatch):
    def flipped(path):
        voxels, image = read_volume(path)
        return voxels[:, ::-1], image

    monkeypatch.setattr(masks, "read_volume", flipped)
    message = error_of(folders, "--check")
    assert message.startswith(str(folders / "masks/p1.nii.gz"))
    assert "the voxels that SimpleITK reads, found 48 different ones" in message


def test_finds_a_voxel_size_in_another_order(folders, monkeypatch):
    monkeypatch.setattr(nib.affines, "voxel_sizes", lambda affine: np.array([3.0, 2, 1]))
    assert "SimpleITK reads, 1 x 2 x 3 mm, found 3 x 2 x 1 mm" in error_of(folders, "--check")


def test_a_nifti_2_which_simpleitk_does_not_read_is_told_so(folders):
    image = nib.load(folders / "refs" / "p2.nii")
    second = nib.Nifti2Image(np.asarray(image.dataobj), image.affine)
    second.to_filename(folders / "refs" / "p2.nii")
    assert "Save it as NIfTI-1, all that it reads, or" in error_of(folders, "--check")


def test_names_a_file_that_simpleitk_cannot_read(folders, monkeypatch):
    def fails(path):
        raise RuntimeError("itkNiftiImageIO.cxx:2135:\nITK ERROR: no orthonormal definition found!")

    monkeypatch.setattr(SimpleITK, "ReadImage", fails)
    message = error_of(folders, "--check")
    assert "SimpleITK can read, found no orthonormal definition found. Correct its" in message


def test_without_check_neither_library_is_imported(folders):
    words = ("import sys, evaluate; evaluate.main(sys.argv[1:]); "
             "sys.exit(bool({'medpy', 'SimpleITK'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", words, "--predictions", folders / "masks",
                           "--references", folders / "refs"], cwd=ROOT)
    assert done.returncode == 0
