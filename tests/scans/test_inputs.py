"""No program writes over an input, takes hidden files for scans, or reads its own output."""

import os
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from conftest import preprocess, refuses, run, write_wmh_subject
from mask_folders import write_folders
from networks import build
from scans.datasets import DATASETS, find_subjects
from scans.inputs import begins_with, refuse_inputs
from scoring.masks import find_masks
from utils import UserError, is_hidden


@pytest.fixture
def model(tmp_path):
    """A network of one modality, untrained."""
    torch.manual_seed(0)
    data = {"modalities": ["FLAIR"], "layout": "mine", "classes": ["background", "lesion"],
            "size": 32, "source": "own"}
    network = build("unet", 1, 2, 2)
    torch.save({"network": network.state_dict(), "build": ["unet", 1, 2, 2], "data": data},
               tmp_path / "best.pt")
    return tmp_path / "best.pt"


def write_scan(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.random.default_rng(seed).normal(100, 9, (20, 24, 3)).astype(np.float32)
    nib.save(nib.Nifti1Image(voxels, np.diag([1.0, 1, 3, 1])), path)
    return path


@pytest.fixture
def scans(tmp_path):
    """Two scans of one modality, named by nothing else."""
    for number in range(2):
        write_scan(tmp_path / "scans" / f"p{number}.nii.gz", number)
    return tmp_path / "scans"


def predict(model, out, *places):
    return run("predict.py", "--checkpoint", model, "--amp", "off", "--out", out, *places)


def content(folder):
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


# predict.py ---------------------------------------------------------------------------------------

def test_masks_never_replace_the_scans(model, scans):
    before = content(scans)
    refuses(predict(model, scans, scans), scans / "p0.nii.gz",
            "a place for the output, found one of the inputs", "Choose another place")
    refuses(predict(model, scans, *sorted(scans.iterdir())), scans / "p0.nii.gz")
    assert content(scans) == before


@pytest.mark.parametrize("how", ["folder link", "file link", "hard link"])
def test_masks_never_replace_the_scans_through_a_link(model, scans, tmp_path, how):
    before, out = content(scans), tmp_path / "out"
    if how == "folder link":
        out.symlink_to(scans)
    else:
        out.mkdir()
        (os.link if how == "hard link" else os.symlink)(scans / "p1.nii.gz", out / "p1.nii.gz")
    refuses(predict(model, out, scans), "found one of the inputs", scans)
    assert content(scans) == before and sorted(os.listdir(out))[-1] == "p1.nii.gz"


def test_a_label_of_the_masks_name_is_not_replaced(model, tmp_path):
    scans = tmp_path / "scans"
    write_scan(scans / "p0_FLAIR.nii.gz")
    label = write_scan(tmp_path / "labels" / "p0.nii.gz", 1)
    before = label.read_bytes()
    refuses(predict(model, label.parent, scans), label, "an earlier output of this program",
            "found another file", "Or remove that file")
    assert label.read_bytes() == before


def test_masks_of_a_run_are_not_replaced(data, tmp_path):
    from conftest import train
    assert train(data, tmp_path / "run", epochs=1).returncode == 0
    own = content(tmp_path / "run" / "predictions")
    refuses(run("predict.py", "--checkpoint", tmp_path / "run" / "best.pt", "--out",
                tmp_path / "run" / "predictions", tmp_path / "raw"), "an earlier output")
    assert content(tmp_path / "run" / "predictions") == own


def test_scans_in_the_place_of_the_masks_are_segmented_beside_others(model, scans, tmp_path):
    elsewhere = write_scan(tmp_path / "elsewhere" / "p2.nii.gz", 2)
    for _ in range(2):
        result = predict(model, tmp_path, scans, elsewhere)
        assert result.returncode == 0, result.stderr
        assert sorted(path.name for path in tmp_path.glob("*.nii.gz")) == [
            "p0.nii.gz", "p1.nii.gz", "p2.nii.gz"]
        assert result.stdout.count(" slices") == 3


def test_pictures_of_others_are_not_replaced_by_previews(model, scans, tmp_path):
    picture = tmp_path / "out" / "previews" / "p0.png"
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"\x89PNG of mine")
    refuses(predict(model, tmp_path / "out", scans, "--preview"), picture, "found another file")
    assert picture.read_bytes() == b"\x89PNG of mine"

    picture.unlink()
    for _ in range(2):  # its own pictures are
        assert predict(model, tmp_path / "out", scans, "--preview").returncode == 0


def test_a_second_run_replaces_its_own_masks(model, scans, tmp_path):
    first = predict(model, tmp_path / "out", scans)
    assert first.returncode == 0, first.stderr
    before = content(tmp_path / "out")
    assert predict(model, tmp_path / "out", scans).returncode == 0
    assert content(tmp_path / "out") == before


@pytest.mark.parametrize("place", ["folder", "files"])
def test_masks_below_the_scans_are_no_scans_the_next_time(model, scans, place):
    def places():
        return [scans] if place == "folder" else sorted(scans.rglob("*.nii.gz"))

    assert predict(model, scans / "masks", *places()).returncode == 0
    before = content(scans)
    again = predict(model, scans / "masks", *places())
    assert again.returncode == 0, again.stderr
    assert content(scans) == before
    assert ("left out: what lies below --out" in again.stdout) == (place == "files")


def test_masks_beside_the_scans_are_no_scans_the_next_time(model, tmp_path):
    write_scan(tmp_path / "scans" / "p0_FLAIR.nii.gz")
    for _ in range(2):
        result = predict(model, tmp_path / "scans", tmp_path / "scans")
        assert result.returncode == 0, result.stderr
        assert sorted(os.listdir(tmp_path / "scans")) == ["p0.nii.gz", "p0_FLAIR.nii.gz"]
    assert "left out: what lies below --out" in result.stdout


def test_masks_of_a_layout_that_would_take_them_for_scans(model, tmp_path):
    state = torch.load(model, weights_only=True)
    state["data"] |= {"layout": "acdc", "modalities": ["MR"]}
    torch.save(state, model)
    raw = tmp_path / "raw"
    write_scan(raw / "patient001" / "patient001_frame01.nii.gz")
    for out in (raw / "masks", raw / "masks", raw, raw):
        result = predict(model, out, raw)
        assert result.returncode == 0, result.stderr
        assert result.stdout.count("patient001_frame01:") == 1
        assert result.stdout.count(" slices") == 1


def test_names_of_scans_may_end_in_capitals(model, scans, tmp_path):
    (scans / "p1.nii.gz").rename(scans / "p1.NII.GZ")
    assert predict(model, tmp_path / "m", scans).returncode == 0
    assert sorted(os.listdir(tmp_path / "m")) == ["p0.nii.gz", "p1.nii.gz"]


def test_scans_may_stand_before_and_after_the_options(model, scans, tmp_path):
    first, second = sorted(scans.iterdir())
    result = run("predict.py", first, "--checkpoint", model, "--out", tmp_path / "m", second)
    assert result.returncode == 0, result.stderr
    assert sorted(os.listdir(tmp_path / "m")) == ["p0.nii.gz", "p1.nii.gz"]


def test_every_program_reads_a_pair_of_files(model, tmp_path):
    voxels = np.random.default_rng(0).normal(100, 9, (20, 24, 3)).astype(np.float32)
    nib.save(nib.Nifti1Pair(voxels, np.eye(4)), tmp_path / "p0_FLAIR.img")
    for name in ("p0_FLAIR.img", "p0_FLAIR.hdr"):
        assert predict(model, tmp_path / "m", tmp_path / name).returncode == 0
    assert os.listdir(tmp_path / "m") == ["p0.nii.gz"]


# The other programs -------------------------------------------------------------------------------

def test_tables_of_scores_replace_no_mask_and_no_other_table(tmp_path):
    write_folders(tmp_path)
    (tmp_path / "link.csv").symlink_to(tmp_path / "refs" / "p1.nii.gz")
    (tmp_path / "patients.csv").write_text("subject,patient\np1,a\n")
    (tmp_path / "summary.json").write_text('{"finished": true}')
    (tmp_path / "classes.csv").write_text("subject,label\np1,malignant\n")
    (tmp_path / "nnunet.json").write_text('{"foreground_mean": {"Dice": 0.5, "FN": 1}}')
    before = content(tmp_path)
    masks = ["evaluate.py", "--predictions", tmp_path / "masks", "--references", tmp_path / "refs"]
    for option, name, word in (
            ("--csv", "refs/p1.nii.gz", "one of the inputs"),
            ("--summary", "masks/p2.nii.gz", "one of the inputs"),
            ("--csv", "link.csv", "one of the inputs"),
            ("--csv", "patients.csv", "another file"),
            ("--csv", "classes.csv", "another file"),
            ("--summary", "nnunet.json", "another file"),
            ("--csv", "refs", "a folder"),
            ("--summary", "summary.json", "another file")):
        refuses(run(*masks, option, tmp_path / name), tmp_path / name, word)
        assert content(tmp_path) == before
    refuses(run(*masks, "--csv", tmp_path / "x", "--summary", tmp_path / "x"), "that of")


def test_tables_of_scores_replace_earlier_ones(tmp_path):
    write_folders(tmp_path)
    outputs = ["--csv", tmp_path / "a.csv", "--summary", tmp_path / "a.json"]
    for _ in range(2):
        for folders in (["--predictions", tmp_path / "masks"],
                        ["--compare", tmp_path / "masks", tmp_path / "refs"]):
            result = run("evaluate.py", *folders, "--references", tmp_path / "refs", *outputs)
            assert result.returncode == 0, result.stderr


def test_preprocessing_does_not_replace_the_table_it_reads(raw, data):
    before = (data / "split.csv").read_text()
    refuses(preprocess(raw, data, "--split", data / "split.csv"), "one of the inputs")
    assert (data / "split.csv").read_text() == before


def test_data_folders_below_the_raw_scans_hold_no_scans(tmp_path):
    """The references of the acdc layout are named as its scans are."""
    raw = tmp_path / "raw"
    for number in range(2):
        scan = write_scan(raw / f"patient{number}" / f"patient{number}_frame01.nii.gz")
        label = np.zeros((20, 24, 3), np.uint8)
        label[4:9, 4:9, 1] = 1 + number
        nib.save(nib.Nifti1Image(label, np.diag([1.0, 1, 3, 1])),
                 scan.with_name(f"patient{number}_frame01_gt.nii.gz"))
    for out in (raw / "data", raw / "data", raw / "other"):
        result = run("preprocess.py", "--layout", "acdc", "--raw", raw, "--out", out, "--size", 32)
        assert result.returncode == 0, result.stderr
        assert len(os.listdir(out / "subjects")) == 2


def test_a_run_folder_is_no_data_folder(data, tmp_path):
    before = content(data)
    for out in (data, data / "subjects" / "run"):
        refuses(run("main.py", "--data", data, "--out", out), out, "found a data folder")
    assert content(data) == before


def test_a_run_does_not_replace_a_folder_of_predictions_of_others(data, tmp_path):
    write_scan(tmp_path / "mine" / "predictions" / "a.nii.gz")
    refuses(run("main.py", "--data", data, "--out", tmp_path / "mine"), "predictions of something")


@pytest.mark.parametrize("name", ["config.json", "metrics.csv", "summary.json", "progress.png"])
def test_a_run_does_not_replace_files_of_others(data, tmp_path, name):
    (tmp_path / name).write_text('{"model": "bert"}')
    before = content(tmp_path / name)
    refuses(run("main.py", "--data", data, "--out", tmp_path), f"found {name} of something else")
    assert content(tmp_path / name) == before


# The parts ----------------------------------------------------------------------------------------

def test_outputs_are_compared_by_their_real_paths(tmp_path):
    (tmp_path / "a").write_text("input")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("a")
    os.link(tmp_path / "a", tmp_path / "hard")
    for output in ("a", "link", "hard", "folder/../a", "./a"):
        with pytest.raises(UserError, match="one of the inputs"):
            refuse_inputs([tmp_path / output], [tmp_path / "a"])
    with pytest.raises(UserError, match="one of the inputs"):
        refuse_inputs([tmp_path / "a"], [tmp_path / "link"])
    refuse_inputs([tmp_path / "b", None, tmp_path / "c"], [tmp_path / "a", tmp_path / "gone"])
    with pytest.raises(UserError, match="that of"):
        refuse_inputs([tmp_path / "b", tmp_path / "folder/../b"], [])


def test_what_is_not_this_programs_own_is_refused_unless_it_is_empty(tmp_path):
    for name, text in (("own", "mine: 1"), ("other", "yours: 1"), ("empty", "")):
        (tmp_path / name).write_text(text)
    is_own = begins_with("mine", "ours")
    refuse_inputs([tmp_path / "own", tmp_path / "empty", tmp_path / "new"], [], is_own)
    with pytest.raises(UserError, match="an earlier output of this program, found another file"):
        refuse_inputs([tmp_path / "other"], [], is_own)


def test_hidden_is_what_begins_with_a_dot_as_seen_from_the_folder(tmp_path):
    folder = tmp_path / ".work" / "scans"
    assert not is_hidden(folder / "a.nii", folder) and not is_hidden(folder, folder)
    assert is_hidden(folder / "._a.nii", folder) and is_hidden(folder / ".x" / "a.nii", folder)
    assert is_hidden(folder / "._a.nii", tmp_path / "elsewhere")


def hide_a_copy(path):
    shutil.copy(path, path.with_name(f"._{path.name}"))


def test_hidden_files_are_no_scans_for_preprocessing(tmp_path):
    raw = tmp_path / ".work" / "raw"
    for number in range(2):
        write_wmh_subject(raw / f"s{number}", seed=number)
        hide_a_copy(raw / f"s{number}" / "pre" / "FLAIR.nii.gz")
    heart = write_scan(raw / "heart" / "heart_frame01.nii.gz")
    hide_a_copy(heart)
    assert [len(files) for subject in find_subjects(raw, DATASETS["wmh"])
            for files in subject.files.values()] == [1] * 6
    assert find_subjects(raw, DATASETS["acdc"])[0].files["MR"] == [heart]
    assert find_masks(raw / "heart") == {"heart_frame01": heart}


def test_hidden_files_are_no_scans_for_prediction(model, scans, tmp_path):
    hide_a_copy(scans / "p0.nii.gz")
    assert predict(model, tmp_path / "m", scans).returncode == 0
    assert sorted(os.listdir(tmp_path / "m")) == ["p0.nii.gz", "p1.nii.gz"]
    refuses(predict(model, tmp_path / "n", scans / "._p0.nii.gz"), "a hidden file")
