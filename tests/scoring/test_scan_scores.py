"""scores.csv: every measure of every validation scan, by hand and through a run."""

import csv

import numpy as np
import pytest

import scheduler
from conftest import preprocess, refuses, run, train, train_unfinished
from metrics import lesion_detection
from scoring import scan_scores
from scoring.scores import count_lesions, epoch_scores, lesion_detection_of, score_scan

SPACING = (10.0, 1.0, 1.0)  # mm; a voxel is 0.01 ml


def volume(*boxes, shape=(4, 12, 12)):
    """A mask with these boxes, each (slices, rows, columns) as pairs."""
    mask = np.zeros(shape, bool)
    for (z, z_end), (y, y_end), (x, x_end) in boxes:
        mask[z:z_end, y:y_end, x:x_end] = True
    return mask


SMALL = ((0, 1), (0, 2), (0, 2))        # 4 voxels, 0.04 ml
MEDIUM = ((0, 1), (4, 8), (0, 2))       # 8 voxels, 0.08 ml
LARGE = ((2, 3), (0, 8), (0, 8))        # 64 voxels, 0.64 ml
FAR = ((0, 1), (5, 6), (9, 10))         # 8 columns from MEDIUM
OTHER_SLICE = ((3, 4), (11, 12), (11, 12))


def test_lesions_are_counted_in_all_and_by_volume():
    true = volume(SMALL, MEDIUM, LARGE)
    pred = volume(MEDIUM, ((2, 3), (0, 1), (0, 1)), FAR)
    assert count_lesions(pred, true, SPACING) == {
        "lesions": 3, "lesions_found": 2, "lesions_predicted": 3, "lesions_false": 1,
        "false_distance": 8.0,
        "small_lesions": 1, "small_found": 0, "medium_lesions": 1, "medium_found": 1,
        "large_lesions": 1, "large_found": 1}


def test_recall_precision_and_f1_are_those_of_lesion_detection():
    rng = np.random.default_rng(0)
    for share in (0, 0.002, 0.02, 0.1):
        true, pred = rng.random((2, 6, 16, 16)) < share
        found = lesion_detection_of(count_lesions(pred, true, SPACING))
        assert tuple(found.values()) == pytest.approx(lesion_detection(pred, true))


def test_false_distance_is_the_mean_over_false_lesions_in_mm():
    true, pred = volume(MEDIUM), volume(FAR, ((2, 3), (5, 6), (1, 2)))
    assert count_lesions(pred, true, SPACING)["false_distance"] == (8 + 20) / 2


@pytest.mark.parametrize("pred, true", [
    (volume(), volume(SMALL)), (volume(SMALL), volume()), (volume(), volume()),
    (volume(SMALL), volume(SMALL))])
def test_without_a_false_lesion_or_a_true_one_there_is_no_distance(pred, true):
    assert np.isnan(count_lesions(pred, true, SPACING)["false_distance"])


def test_the_measures_of_a_scan_by_hand():
    true = volume(MEDIUM, LARGE)                       # slices 0 and 2; 1 and 3 are empty
    pred = volume(MEDIUM, OTHER_SLICE)                 # slice 1 stays clean
    found = scan_scores.measures(score_scan(pred.astype(np.uint8), true.astype(np.uint8), SPACING,
                                            2)[0])
    assert (found["slices"], found["slices_empty"], found["slices_clean"]) == (4, 2, 1)
    assert found["dsc"] == pytest.approx((1 + 1 + 0 + 0) / 4, abs=1e-6)
    assert found["dsc_lesion"] == pytest.approx((1 + 0) / 2, abs=1e-6)
    pixels = true[0].size
    assert found["foreground"] == pytest.approx((8 + 1) / (4 * pixels))
    assert found["foreground_empty"] == pytest.approx(1 / (2 * pixels))
    assert found["dsc_3d"] == pytest.approx(2 * 8 / (9 + 72))
    assert found["foreground"] == 9 / true.size


def test_slice_dsc_is_the_identity_of_its_two_parts():
    rng = np.random.default_rng(0)
    true, pred = rng.random((2, 9, 8, 8)) < 0.1
    true[:4] = pred[2:5] = False
    found = scan_scores.measures(score_scan(pred.astype(np.uint8), true.astype(np.uint8), SPACING,
                                            2)[0])
    empty = found["slices_empty"] / found["slices"]
    clean = found["slices_clean"] / found["slices_empty"]
    assert found["dsc"] == pytest.approx(empty * clean + (1 - empty) * found["dsc_lesion"],
                                         abs=1e-6)


def test_an_empty_prediction_wins_clean_slices_and_finds_nothing():
    true = volume(SMALL).astype(np.uint8)
    row = epoch_scores([score_scan(np.zeros_like(true), true, SPACING, 2)])
    assert row["val_clean"] == 1 and row["val_dice"] == pytest.approx(0.75)
    assert [row[f"val_lesion_{name}"] for name in ("recall", "precision", "f1")] == [0, 1, 0]


# The file ----------------------------------------------------------------------------------------

def lines(folder):
    with open(folder / "scores.csv") as file:
        return list(csv.DictReader(file))


def test_a_run_keeps_every_scan_of_every_epoch(data, tmp_path):
    train(data, tmp_path / "run", epochs=2)
    rows = lines(tmp_path / "run")
    assert [(row["epoch"], row["subject"]) for row in rows] == [
        ("0", "s2"), ("0", "s3"), ("1", "s2"), ("1", "s3")]
    with open(tmp_path / "run" / "metrics.csv") as file:
        epochs = list(csv.DictReader(file))
    for number, epoch in enumerate(epochs):
        scans = [row for row in rows if row["epoch"] == str(number)]
        for column, measure in (("val_dice_3d", "dsc_3d"), ("val_hd95", "hd95")):
            mean = np.mean([float(row[measure]) for row in scans])
            assert mean == pytest.approx(float(epoch[column]), rel=1e-6)


def test_a_run_that_was_stopped_has_the_scores_of_one_in_a_piece(data, tmp_path):
    schedule = ("--schedule", "rebalance")
    train(data, tmp_path / "whole", *schedule, epochs=3)
    train_unfinished(data, tmp_path / "cut", *schedule, epochs=2)
    with open(tmp_path / "cut" / "scores.csv", "a") as file:  # of an epoch that last.pt lacks
        file.write("2,s1,lesion,5,0,0,0.1,,0.1,1,1,1,0\n2,s2,les")
    assert train(data, tmp_path / "cut", *schedule, epochs=3).returncode == 0
    whole, cut = ((tmp_path / name / "scores.csv").read_bytes() for name in ("whole", "cut"))
    assert whole == cut


def test_a_finished_run_without_its_checkpoint_keeps_its_scores(data, tmp_path):
    train(data, tmp_path / "run", epochs=2)
    before = (tmp_path / "run" / "scores.csv").read_bytes()
    (tmp_path / "run" / "last.pt").unlink()
    assert train(data, tmp_path / "run", epochs=2).returncode == 0
    assert (tmp_path / "run" / "scores.csv").read_bytes() == before


def test_a_file_of_fewer_columns_keeps_them(tmp_path):
    row = {**dict.fromkeys(scan_scores.COLUMNS, 0), "subject": "s", "class_name": "lesion"}
    scan_scores.append(tmp_path, [row])
    path = tmp_path / scan_scores.FILE
    older = "".join(line.rpartition(",")[0] + "\n" for line in path.read_text().splitlines())
    path.write_text(older)
    scan_scores.append(tmp_path, [{**row, "epoch": 1}])
    read = scan_scores.read(tmp_path)
    assert [row["epoch"] for row in read] == [0, 1] and "foreground_empty" not in read[1]


def test_names_with_commas_and_quotes_survive(tmp_path):
    row = dict.fromkeys(scan_scores.COLUMNS, 0)
    scan_scores.append(tmp_path, [{**row, "subject": 'a,"b"', "class_name": "lesion",
                                   "dsc": 0.25, "false_distance": None}])
    read, = scan_scores.read(tmp_path)
    assert read["subject"] == 'a,"b"' and read["dsc"] == 0.25 and read["false_distance"] is None


# What chooses the best epoch ---------------------------------------------------------------------

def test_the_score_chooses_the_best_epoch_and_halves_the_rate(data, tmp_path, monkeypatch):
    slices, scans = [0.9, 0.5, 0.6], [0.1, 0.2, 0.3]

    def scores_of(scans_, names):
        epoch = len(seen)
        seen.append(epoch)
        others = dict.fromkeys(("val_hd", "val_hd95", "val_hd_legacy", "val_foreground"), 1.0)
        return {"val_dice": slices[epoch], "val_dice_3d": scans[epoch], **others}

    for score, best in (("val_dice", 0), ("val_dice_3d", 2)):
        seen = []
        monkeypatch.setattr("training.validation.epoch_scores", scores_of)
        result = train(data, tmp_path / score, "--score", score, epochs=3)
        assert result.returncode == 0, result.stderr
        assert f"at epoch {best}" in result.stdout
        line = refuses(train(data, tmp_path / score, epochs=4)) if score != "val_dice" else ""
        assert not line or "a run with score val_dice, found one with score val_dice_3d" in line


def test_a_run_made_before_there_was_a_choice_goes_on(data, tmp_path):
    train(data, tmp_path / "run", epochs=1)
    path = tmp_path / "run" / "config.json"
    text = path.read_text()
    path.write_text("".join(line for line in text.splitlines(True) if '"score"' not in line))
    assert train(data, tmp_path / "run", epochs=2).returncode == 0
    refuses(train(data, tmp_path / "run", "--score", "val_dice_3d", epochs=3), "score val_dice_3d")


# What moves the learning rate ---------------------------------------------------------------------

def rates_of(out):
    with open(out / "metrics.csv", newline="") as file:
        return [float(row["lr"]) for row in csv.DictReader(file)]


def test_poly_and_constant_rates_follow_no_score(data, tmp_path):
    falling = ("--lr-schedule", "poly", "--lr", 0.01)
    assert train(data, tmp_path / "poly", *falling, epochs=3).returncode == 0
    expected = [0.01, 0.01 * (2 / 3) ** 0.9, 0.01 * (1 / 3) ** 0.9]
    assert rates_of(tmp_path / "poly") == pytest.approx(expected, rel=1e-12)

    kept = ("--lr-schedule", "constant", "--protocol", "code2018")  # whose own rule halves at once
    assert train(data, tmp_path / "constant", *kept, epochs=3).returncode == 0
    assert rates_of(tmp_path / "constant") == [1e-3] * 3


def test_a_poly_run_keeps_its_number_of_epochs(data, tmp_path):
    falling = ("--lr-schedule", "poly")
    for _ in range(2):  # the second call does nothing
        assert train(data, tmp_path / "run", *falling).returncode == 0
    refuses(train(data, tmp_path / "run", *falling, epochs=3),
            "expected a run of 3 epochs, over which poly lets the rate fall, found one of 2")
    assert len(rates_of(tmp_path / "run")) == 2


def test_a_poly_run_that_was_stopped_goes_on_at_its_rates(data, tmp_path):
    falling = ("--lr-schedule", "poly")
    train(data, tmp_path / "whole", *falling, epochs=3)
    poly_lr = scheduler.poly_lr
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scheduler, "poly_lr", lambda epoch, *more: (
            1 / 0 if epoch == 2 else poly_lr(epoch, *more)))
        with pytest.raises(ZeroDivisionError):
            train(data, tmp_path / "cut", *falling, epochs=3)
    assert len(rates_of(tmp_path / "cut")) == 2
    assert train(data, tmp_path / "cut", *falling, epochs=3).returncode == 0
    assert rates_of(tmp_path / "cut") == rates_of(tmp_path / "whole")


def test_a_run_made_before_the_rate_had_a_schedule_was_on_a_plateau(data, tmp_path):
    train(data, tmp_path / "run", epochs=1)
    path = tmp_path / "run" / "config.json"
    lines = path.read_text().splitlines(True)
    path.write_text("".join(line for line in lines if '"lr_schedule"' not in line))
    assert train(data, tmp_path / "run", epochs=2).returncode == 0
    refuses(train(data, tmp_path / "run", "--lr-schedule", "constant", epochs=3),
            "lr_schedule constant", "lr_schedule plateau")


# Folds -------------------------------------------------------------------------------------------

@pytest.fixture
def folds(raw, tmp_path):
    """The six subjects in three folds."""
    result = run("preprocess.py", "--layout", "wmh", "--raw", raw, "--out", tmp_path / "folds",
                 "--size", 32, "--split", "folds:3")
    assert result.returncode == 0, result.stderr
    return tmp_path / "folds"


def test_every_scan_validates_in_one_fold(folds, tmp_path):
    seen = []
    for fold in range(3):
        assert train(folds, tmp_path / str(fold), "--fold", fold, epochs=1).returncode == 0
        validated = {row["subject"] for row in lines(tmp_path / str(fold))}
        assert len(validated) == 2
        seen += validated
    assert sorted(seen) == [f"s{number}" for number in range(6)]


@pytest.mark.parametrize("option, found", [((), "found none"), (("--fold", 3), "found 3")])
def test_a_fold_that_is_not_there_is_refused(folds, tmp_path, option, found):
    refuses(train(folds, tmp_path / "run", *option), "--fold", "expected 0 to 2", found)


def test_a_fold_of_a_set_without_folds_is_refused(data, tmp_path):
    refuses(train(data, tmp_path / "run", "--fold", 0), "--fold", "Leave it out")


def test_a_run_of_one_fold_is_not_continued_as_another(folds, tmp_path):
    train(folds, tmp_path / "run", "--fold", 0, epochs=1)
    refuses(train(folds, tmp_path / "run", "--fold", 1, epochs=2), "fold 1", "fold 0")


def test_more_folds_than_patients_are_refused(raw, tmp_path):
    for text in ("folds:7", "folds:1", "folds:x", "folds:"):
        result = run("preprocess.py", "--layout", "wmh", "--raw", raw, "--out", tmp_path / "out",
                     "--size", 32, "--split", text)
        refuses(result, "folds:N with 2 to 6 folds", text)
    assert preprocess(raw, tmp_path / "out").returncode == 0


# What metrics.csv lacks ---------------------------------------------------------------------------

def test_recall_by_volume_and_false_lesions_of_an_epoch_by_hand():
    none = dict.fromkeys([f"{name}_{what}" for name in ("small", "medium", "large")
                          for what in ("lesions", "found")], 0)
    rows = [{**none, "small_lesions": 3, "small_found": 1, "lesions_false": 1,
             "false_distance": 10.0},
            {**none, "small_lesions": 1, "small_found": 1, "medium_lesions": 2, "lesions_false": 3,
             "false_distance": 2.0},
            {**none, "lesions_false": 5, "false_distance": None}]  # no true lesion to be far from
    assert scan_scores.further(rows) == {
        "val_recall_small": 2 / 4, "val_recall_medium": 0.0, "val_recall_large": None,
        "val_false_lesions": 9 / 3, "val_false_distance": (10 + 3 * 2) / 4}
    assert set(scan_scores.further([])) == set(scan_scores.FURTHER)
