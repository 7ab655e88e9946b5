"""Several foreground classes: from a heart phantom to maps, scores and a table for each."""

import csv
import json
import shutil
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from conftest import refuses, run
from distance import signed_distance_slices
from reporting import class_table
from scans.checks import check_subject
from scans.datasets import DATASETS, find_subjects
from scoring.scores import class_columns, epoch_scores, score_scan

ACDC = DATASETS["acdc"]


@pytest.fixture(scope="module")
def hearts(tmp_path_factory):
    """Heart phantom of five patients, as the ACDC challenge lays them out."""
    folder = tmp_path_factory.mktemp("acdc") / "raw"
    result = run("scans.phantom", "--layout", "acdc", "--out", folder, "--subjects", 5,
                 "--size", 40, "--slices", 5, "--jobs", 1)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture(scope="module")
def data(hearts, tmp_path_factory):
    """The hearts preprocessed to 40x40, two patients for validation."""
    out = tmp_path_factory.mktemp("acdc") / "data"
    result = run("preprocess.py", "--layout", "acdc", "--raw", hearts, "--out", out, "--size", 40,
                 "--val", 2)
    assert result.returncode == 0, result.stderr
    return out


# Phantom and layout -------------------------------------------------------------------------------

def label_image(subject):
    return nib.load(subject.files["label"][0])


def test_the_two_scans_of_a_patient_are_told_apart_and_without_problems(hearts):
    subjects = find_subjects(hearts, ACDC)
    assert len(subjects) == 10 and subjects[0].name == "patient001_frame01"
    assert not any(check_subject(subject, ACDC)[0] for subject in subjects)
    for first, second in zip(subjects[::2], subjects[1::2]):
        assert first.folder == second.folder


def test_systole_has_less_blood_and_a_thicker_wall(hearts):
    subjects = find_subjects(hearts, ACDC)
    for scans in zip(subjects[::2], subjects[1::2]):
        labels = [np.asanyarray(label_image(subject).dataobj).ravel() for subject in scans]
        diastole, systole = (np.bincount(label, minlength=4) for label in labels)
        assert (diastole > 0).all()
        assert [systole[k] < diastole[k] for k in (1, 2, 3)] == [True, False, True]


def test_the_cavity_lies_within_the_wall(hearts):
    label = np.asanyarray(label_image(find_subjects(hearts, ACDC)[0]).dataobj)
    for axis in (0, 1):
        for step in (-1, 1):  # in plane the cavity's only neighbour is the wall
            assert np.isin(np.roll(label, step, axis)[label == 3], (2, 3)).all()


def test_the_scan_says_that_it_is_a_phantom(hearts):
    header = label_image(find_subjects(hearts, ACDC)[0]).header
    assert bytes(header["descrip"].item()).strip(b"\0") == b"phantom"


def test_a_frame_without_its_label_is_a_problem_of_that_scan_alone(hearts, tmp_path):
    folder = tmp_path / "training" / "patient001"
    folder.mkdir(parents=True)
    for path in (hearts / "training" / "patient001").iterdir():
        if not path.name.endswith("frame01_gt.nii.gz"):
            (folder / path.name).write_bytes(path.read_bytes())

    problems = {subject.name: check_subject(subject, ACDC)[0]
                for subject in find_subjects(tmp_path, ACDC)}
    assert [len(found) for found in problems.values()] == [1, 0]
    assert "one label image" in problems["patient001_frame01"][0]


# Preprocessing ------------------------------------------------------------------------------------

def test_every_class_has_its_map(data):
    folder = data / "subjects" / "patient002_frame01"
    labels, maps = np.load(folder / "labels.npy"), np.load(folder / "distance.npy")
    assert maps.shape == (5, 3, 40, 40) and set(np.unique(labels)) == {0, 1, 2, 3}
    for k in (1, 2, 3):
        np.testing.assert_array_equal(maps[:, k - 1], signed_distance_slices(labels == k))


def test_scans_of_a_patient_stay_together(data):
    with open(data / "split.csv") as file:
        split = {row["subject"]: row["subset"] for row in csv.DictReader(file)}
    patients = {}
    for name, subset in split.items():
        patients.setdefault(name.partition("_")[0], set()).add(subset)
    assert sorted(map(len, patients.values())) == [1] * 5 and list(split.values()).count("val") == 2


# Scores -------------------------------------------------------------------------------------------

def test_scores_of_each_class_stand_beside_their_mean():
    true = np.zeros((1, 4, 4), np.uint8)
    true[0, 0], true[0, 3] = 1, 2
    found = true.copy()
    found[0, 3, :2] = 0  # half of class 2 is missed: DSC 2/3, and its farthest pixel is 2 away

    names = ["background", "outer wall", "inner"]
    row = epoch_scores([score_scan(found, true, (1.0, 1.0, 1.0), 3)], names)
    assert class_columns(names) == {"outer wall": ["val_dice_3d_outer_wall", "val_hd95_outer_wall"],
                                    "inner": ["val_dice_3d_inner", "val_hd95_inner"]}
    assert (row["val_dice_3d_outer_wall"], row["val_hd95_outer_wall"]) == (1, 0)
    assert row["val_dice_3d_inner"] == pytest.approx(2 / 3)
    assert row["val_dice_3d"] == pytest.approx(5 / 6)
    assert row["val_hd95"] == pytest.approx(row["val_hd95_inner"] / 2)
    assert 1 < row["val_hd95_inner"] <= 2


def test_a_single_class_has_no_columns_of_its_own():
    assert class_columns(["background", "lesion"]) == {}  # the mean is its score


# The whole way ------------------------------------------------------------------------------------

def test_from_hearts_to_a_table_of_classes_and_new_scans(hearts, data, tmp_path):
    runs = tmp_path / "results" / "hearts"

    # two runs
    for loss, more in (("gdl", []), ("gdl+boundary", ["--boundary-classes", "0", "3"])):
        out = runs / loss / "seed0"
        result = run("main.py", "--data", data, "--out", out, "--loss", loss, "--width", 2,
                     "--epochs", 2, "--quiet", *more)
        assert result.returncode == 0, result.stderr
    with open(runs / "gdl" / "seed0" / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    scores = [float(rows[0][f"val_dice_3d_{name}"])
              for name in ("right_ventricle", "myocardium", "left_ventricle")]
    assert float(rows[0]["val_dice_3d"]) == pytest.approx(np.mean(scores))
    config = json.loads((runs / "gdl+boundary" / "seed0" / "config.json").read_text())
    assert config["boundary_classes"] == [0, 3]

    # the table
    result = run("report.py", "--runs", runs)
    assert result.returncode == 0, result.stderr
    with open(runs / "classes.csv") as file:
        table = {(row["loss"], row["class"], row["metric"]): row["mean"]
                 for row in csv.DictReader(file)}
    best = max(rows, key=lambda row: float(row["val_dice"]))
    assert len(table) == 2 * 3 * 2
    assert float(table["gdl", "myocardium", "dsc_3d"]) == float(best["val_dice_3d_myocardium"])
    assert "## data phantom: each class at the best epoch" in (runs / "table1.md").read_text()
    assert "myocardium, HD95 (mm)" in (runs / "report.html").read_text()

    # the run's own masks on the scans' grids
    masks, scores = runs / "gdl" / "seed0" / "predictions", tmp_path / "scores.csv"
    result = run("evaluate.py", "--predictions", masks, "--data", data, "--csv", scores)
    assert result.returncode == 0, result.stderr
    with open(scores) as file:
        assert [row["label"] for row in csv.DictReader(file)] == ["1", "2", "3"] * 2

    # masks of new scans
    result = run("predict.py", "--checkpoint", runs / "gdl" / "seed0" / "best.pt",
                 "--out", tmp_path / "masks", hearts)
    assert result.returncode == 0, result.stderr
    assert len(list((tmp_path / "masks").glob("*.nii.gz"))) == 10


def test_classes_that_the_data_lack_are_refused_before_a_folder_is_made(data, tmp_path):
    result = run("main.py", "--data", data, "--out", tmp_path / "run", "--boundary-classes", 4)
    refuses(result, "--boundary-classes", "0 to 3")
    assert not (tmp_path / "run").exists()


def test_a_score_that_the_validation_scans_lack_is_refused(data, tmp_path):
    """No validation scan has a left ventricle, on whose slices its DSC would be a mean."""
    data, out = shutil.copytree(data, tmp_path / "data"), tmp_path / "run"
    for path in (data / "subjects").glob("*/labels.npy"):
        labels = np.load(path)
        labels[labels == 3] = 0
        np.save(path, labels)
    result = run("main.py", "--data", data, "--out", out, "--width", 2, "--epochs", 1, "--score",
                 "val_dice_lesion")
    refuses(result, "--score: expected validation scans with each class", "with left ventricle")
    assert not out.exists()


def test_a_run_that_predicts_nothing_counts_in_the_distances_of_a_class_beside_others():
    runs = [SimpleNamespace(best={"d": value}, collapsed=empty)
            for value, empty in ((40.0, True), (10.0, False))]
    assert class_table.class_cell(runs, "d", is_distance=True)[0] == 25
    assert class_table.class_cell(runs[:1], "d", is_distance=True) is None
    assert class_table.class_cell(runs[:1], "d", is_distance=False) == (40, None)


def test_a_set_of_one_class_has_no_table_of_classes():
    results = SimpleNamespace(dataset=SimpleNamespace(classes=["background", "lesion"]),
                              losses={}, title="WMH")
    assert class_table.class_table(results) is None
    assert class_table.markdown([results]) == "" and class_table.tidy_rows([results]) == []
