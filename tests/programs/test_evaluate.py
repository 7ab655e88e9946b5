"""evaluate.py end to end on small NIfTI files: what it prints, writes and refuses."""

import json
import math
import shutil
import subprocess
import sys
import unicodedata

import nibabel as nib
import numpy as np
import pytest
from scipy.stats import wilcoxon

import evaluate
from checkout import ROOT
from mask_folders import AFFINE, box, error_of, read, run_evaluate, save, write_folders
from metrics import challenge_hausdorff95
from scans import folder
from utils import UserError


@pytest.fixture
def folders(tmp_path):
    return write_folders(tmp_path)


# --- Scores and tables ---

def test_csv_holds_the_scores_worked_out_by_hand(folders):
    moved, right = run_evaluate(folders)

    assert (moved["subject"], right["subject"]) == ("p1", "p2")
    assert float(moved["dice"]) == pytest.approx(0.5)  # half of it overlaps
    assert float(moved["hd"]) == 4.0  # two voxels of 2 mm
    assert float(moved["hd95"]) == float(moved["hd95_challenge"]) == 4.0
    lesions = [float(moved[k]) for k in ("lesion_recall", "lesion_precision", "lesion_f1")]
    assert lesions == [1, 1, 1]
    assert float(moved["volume_difference"]) == 0
    assert float(moved["reference_ml"]) == pytest.approx(48 * 6 / 1000)  # 4 x 4 x 3 of 6 mm^3
    counts = [int(moved[k]) for k in ("TP", "FP", "FN", "TN", "n_pred", "n_ref")]
    assert counts == [24, 24, 24, 720 - 72, 48, 48]
    assert float(moved["IoU"]) == pytest.approx(1 / 3)
    assert (moved["prediction_empty"], moved["reference_empty"]) == ("False", "False")
    assert float(moved["precision"]) == float(moved["recall"]) == 0.5
    assert float(moved["hd95_directed"]) == 4.0
    # 44 of the 48 voxels are on the surface. In its four layers of 12, 10, 10 and 12, two are 1 mm
    # from the other surface, ten 2 mm and twelve 4 mm; the others lie on it.
    assert float(moved["assd"]) == pytest.approx((2 * 1 + 10 * 2 + 12 * 4) / 44)
    assert float(moved["surface_dice"]) == pytest.approx((12 + 10) / 44)
    assert float(moved["panoptic_quality"]) == 0  # IoU 1/3
    assert [moved[f"{which}_lesions"] for which in ("prediction", "reference")] == ["1", "1"]
    assert (moved["lesion_count_difference"], float(moved["volume_difference_ml"])) == ("0", 0)
    assert float(right["dice"]) == 1.0 and float(right["hd"]) == 0.0


def test_counts_and_volumes_say_which_is_larger(folders):
    save(folders / "masks/p2.nii.gz", box((1, 1, 1), (3, 3, 3)) + box((9, 1, 1), (11, 2, 2)))
    save(folders / "masks/p1.nii.gz", box((2, 2, 1), (6, 6, 3)))
    less, more = run_evaluate(folders)
    assert (less["lesion_count_difference"], more["lesion_count_difference"]) == ("0", "1")
    assert float(less["volume_difference_ml"]) == pytest.approx(-16 * 6 / 1000)
    assert float(more["volume_difference_ml"]) == pytest.approx(2 * 6 / 1000)
    assert float(less["panoptic_quality"]) == pytest.approx(2 / 3)     # IoU 32 / 48
    assert float(more["panoptic_quality"]) == pytest.approx(1 / 1.5)   # one match, one false


def test_tolerance_and_overlap_are_settings(folders):
    moved = run_evaluate(folders, "--tolerance", "4", "--overlap", "0.3")[0]
    assert (float(moved["surface_dice"]), float(moved["panoptic_quality"])) == (1, 1 / 3)
    settings = json.loads((folders / "summary.json").read_text())["settings"]
    assert (settings["tolerance_mm"], settings["overlap"]) == (4, 0.3)


def test_foreground_mean_is_null_where_a_class_occurs_in_no_mask_as_in_nnunet(folders):
    run_evaluate(folders, "--labels", "1", "5")
    summary = json.loads((folders / "summary.json").read_text())
    assert summary["mean"]["1"]["Dice"] == pytest.approx(0.75)
    assert summary["mean"]["5"]["Dice"] is summary["foreground_mean"]["Dice"] is None
    assert summary["foreground_mean"]["TP"] == pytest.approx((24 + 8) / 4)


def test_summary_has_nnunets_shape(folders):
    run_evaluate(folders)
    summary = json.loads((folders / "summary.json").read_text())
    case = summary["metric_per_case"][0]
    assert case["prediction_file"].endswith("masks/p1.nii.gz")
    assert case["reference_file"].endswith("refs/p1.nii.gz")
    named = {"Dice", "IoU", "FN", "FP", "TP", "TN", "n_pred", "n_ref", "hd95"}
    assert named <= set(case["metrics"]["1"])
    assert summary["mean"]["1"]["Dice"] == summary["foreground_mean"]["Dice"] == pytest.approx(0.75)
    assert summary["foreground_mean"]["hd"] == pytest.approx(2.0)
    assert summary["statistics"]["1"]["hd"]["median"] == pytest.approx(2.0)


def test_printed_table_names_units_mean_std_median_and_interval(folders, capsys):
    run_evaluate(folders)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "label 1: 2 scans, 0 empty predictions, 0 empty references"
    assert next(line.split() for line in lines if line.startswith("hd (mm)")) == \
        ["hd", "(mm)", "2", "2.000", "2.828", "2.000", "–"]


@pytest.mark.parametrize("count, is_there", [(1, False), (4, False), (5, True)])
@pytest.mark.parametrize("compare", [False, True])
def test_intervals_and_p_values_are_printed_from_five_scans_on(
        tmp_path, capsys, count, is_there, compare):
    for k in range(count):
        for place, width in (("a", 6), ("b", 5 + k % 2), ("refs", 7)):
            save(tmp_path / f"{place}/s{k}.nii", box((1, 1, 1), (4, width, 4)))
    what = ["--compare", str(tmp_path / "a")] if compare else ["--predictions"]
    evaluate.main([*what, str(tmp_path / "b"), "--references", str(tmp_path / "refs"),
                   "--summary", str(tmp_path / "out.json")])

    printed = capsys.readouterr().out
    dsc = next(line.split() for line in printed.splitlines() if line.startswith("dice "))
    assert "nan" not in printed and ("[" in " ".join(dsc)) == is_there
    assert (dsc[-1] == "–") != is_there  # the interval, or p
    summary = json.loads((tmp_path / "out.json").read_text())
    values = summary["differences" if compare else "statistics"]["1"]["dice"]
    assert (values["ci95_low"] is None) == (values["ci95_high"] is None) == (not is_there)
    assert (values["std"] is None) == (count == 1) and values["median"] is not None
    assert (values.get("wilcoxon_p") is None) == (not (compare and is_there))


def test_empty_masks_are_flagged_and_infinities_stay_out_of_means(folders):
    save(folders / "refs/p2.nii", box((0, 0, 0), (0, 0, 0)))
    row = run_evaluate(folders)[1]
    assert (row["prediction_empty"], row["reference_empty"]) == ("False", "True")
    assert row["volume_difference"] == "inf"
    assert float(row["hd"]) == pytest.approx(math.sqrt(12 ** 2 + 20 ** 2 + 18 ** 2))
    text = (folders / "summary.json").read_text()
    summary = json.loads(text, parse_constant=pytest.fail)  # strict JSON
    assert summary["metric_per_case"][1]["metrics"]["1"]["volume_difference"] is None
    assert summary["statistics"]["1"]["volume_difference"]["n"] == 1
    assert run_evaluate(folders, "--empty", "nan")[1]["hd"] == "nan"


def test_two_empty_masks_score_one_and_are_undefined_for_nnunet(folders):
    for path in ("refs/p2.nii", "masks/p2.nii.gz"):
        save(folders / path, box((0, 0, 0), (0, 0, 0)))
    row = run_evaluate(folders)[1]
    assert (row["dice"], row["hd"], row["Dice"], row["IoU"]) == ("1.0", "0.0", "nan", "nan")
    summary = json.loads((folders / "summary.json").read_text())
    assert summary["mean"]["1"]["Dice"] == pytest.approx(0.5)


def test_ignored_label_is_left_out_of_both_masks(folders):
    reference = box((2, 2, 1), (6, 6, 4))
    reference[2:6, 6:8, 1:4] = 2  # where the prediction goes too far
    save(folders / "refs/p1.nii.gz", reference)
    assert float(run_evaluate(folders)[0]["dice"]) == pytest.approx(0.5)
    ignoring = run_evaluate(folders, "--ignore", "2")[0]
    assert float(ignoring["dice"]) == pytest.approx(2 * 24 / (24 + 48))
    assert [int(ignoring[k]) for k in ("FP", "TN")] == [0, 720 - 24 - 48]


def test_every_label_is_scored_alone(folders):
    save(folders / "refs/p1.nii.gz", box((2, 2, 1), (6, 6, 4)) + box((8, 0, 0), (10, 2, 2), 2))
    save(folders / "masks/p1.nii.gz", box((2, 2, 1), (6, 6, 4)) + box((8, 0, 0), (10, 2, 1), 2))
    rows = run_evaluate(folders, "--labels", "1", "2")
    assert [(row["subject"], row["label"]) for row in rows] == [
        ("p1", "1"), ("p1", "2"), ("p2", "1"), ("p2", "2")]
    assert float(rows[0]["dice"]) == 1.0 and float(rows[1]["dice"]) == pytest.approx(2 / 3)
    assert set(json.loads((folders / "summary.json").read_text())["mean"]) == {"1", "2"}


def test_jobs_do_not_change_the_result(folders):
    assert run_evaluate(folders, "--jobs", "1") == run_evaluate(folders, "--jobs", "3")


# --- Two folders ---

def test_comparison_pairs_the_scans_of_two_folders(folders, capsys):
    rng = np.random.default_rng(0)
    for k in range(8):
        name, high = f"s{k}.nii.gz", rng.integers(4, 9, size=3)
        save(folders / "truth" / name, box((2, 2, 1), (9, 9, 5)))
        save(folders / "a" / name, box((2, 2, 1), (*high[:2], 4)))
        save(folders / "b" / name, box((2, 2, 1), (high[2], 8, 5)))

    evaluate.main(["--compare", str(folders / "a"), str(folders / "b"),
                   "--references", str(folders / "truth"),
                   "--csv", str(folders / "d.csv"), "--summary", str(folders / "d.json")])

    rows = read(folders / "d.csv")
    dices = np.array([[float(row[f"dice_{which}"]) for row in rows] for which in "ab"])
    differences = [float(row["dice_difference"]) for row in rows]
    assert differences == pytest.approx(list(dices[1] - dices[0]))
    found = json.loads((folders / "d.json").read_text())["differences"]["1"]["dice"]
    assert found["mean"] == pytest.approx((dices[1] - dices[0]).mean())
    assert found["wilcoxon_p"] == pytest.approx(wilcoxon(dices[0], dices[1]).pvalue)
    assert "b - a over 8 scans" in capsys.readouterr().out


# --- Finding and matching ---

def test_wmh_layout_is_matched_by_folder_name(folders):
    (folders / "refs/p2.nii").rename(folders / "p2.nii")
    save(folders / "raw/Utrecht/p2/wmh.nii.gz", box((1, 1, 1), (3, 3, 3)))
    save(folders / "raw/Utrecht/p2/pre/FLAIR.nii.gz", box((0, 0, 0), (9, 9, 5)))
    save(folders / "raw/Amsterdam/GE3T/p1/wmh.nii.gz", box((2, 4, 1), (6, 8, 4)))
    assert [float(row["dice"]) for row in run_evaluate(folders, references="raw")] == [1.0, 1.0]


def test_isles_layout_is_matched_by_case_folder(tmp_path):
    mask = box((1, 1, 1), (3, 3, 3))
    save(tmp_path / "raw/TRAINING/case_7/SMIR.Brain.XX.O.OT.1/SMIR.Brain.XX.O.OT.1.nii", mask)
    save(tmp_path / "raw/TRAINING/case_7/SMIR.Brain.XX.O.CT.2/SMIR.Brain.XX.O.CT.2.nii", 0 * mask)
    save(tmp_path / "masks/case_7.nii.gz", mask)
    row, = run_evaluate(tmp_path, references="raw")
    assert (row["subject"], row["dice"]) == ("case_7", "1.0")


def test_second_rater_in_submission_layout_is_a_prediction(tmp_path):
    mask = box((1, 1, 1), (3, 3, 3))
    save(tmp_path / "observer_o3/training/Utrecht/17/result.nii.gz", mask)
    save(tmp_path / "refs/17.nii.gz", mask)
    assert run_evaluate(tmp_path, predictions="observer_o3")[0]["dice"] == "1.0"


@pytest.mark.parametrize("extra, listed_in", [
    ("masks/p3.nii.gz", "masks"), ("refs/p3.nii.gz", "refs")])
def test_unmatched_subjects_are_named_unless_partial(folders, extra, listed_in):
    save(folders / extra, box((1, 1, 1), (3, 3, 3)))
    message = error_of(folders)
    assert message.startswith(str(folders / listed_in))
    assert "only here: p3. " in message and "--partial" in message
    assert len(run_evaluate(folders, "--partial")) == 2


def test_no_common_subject_is_an_error_even_with_partial(folders):
    save(folders / "other/x.nii.gz", box((1, 1, 1), (3, 3, 3)))
    message = error_of(folders, "--partial", predictions="other")
    assert "Name the masks after the subjects" in message


def test_two_masks_of_one_subject_are_refused(folders):
    save(folders / "masks/p1.nii", box((1, 1, 1), (3, 3, 3)))
    assert "one mask per subject" in error_of(folders)


# --- Grids ---

def test_other_orientation_of_the_same_grid_is_turned(folders):
    expected = run_evaluate(folders)
    path = folders / "masks/p1.nii.gz"
    image = nib.load(path)
    turned = image.as_reoriented([[1, -1], [2, 1], [0, -1]])
    nib.save(nib.Nifti1Image(np.asarray(turned.dataobj), turned.affine), path)
    assert nib.load(path).shape == (6, 12, 10)
    assert run_evaluate(folders) == expected


def test_challenge_surface_is_found_in_the_slices_as_stored(tmp_path):
    reference, prediction = box((1, 3, 1), (11, 6, 5)), box((1, 3, 1), (11, 9, 2))
    scores = []
    for axes in ((0, 1, 2), (2, 0, 1)):  # the same masks, cut into slices along another axis
        for name, array in (("refs", reference), ("masks", prediction)):
            save(tmp_path / name / "p.nii.gz", np.transpose(array, axes), AFFINE[:, [*axes, 3]])
        scores.append(run_evaluate(tmp_path)[0])
    assert scores[0]["hd95"] == scores[1]["hd95"]
    direct = [challenge_hausdorff95(prediction, reference, (1, 2, 3), axis) for axis in (2, 1)]
    assert [float(row["hd95_challenge"]) for row in scores] == direct and direct[0] != direct[1]


def test_other_shape_is_refused_with_both_shapes(folders):
    save(folders / "masks/p1.nii.gz", box((1, 1, 1), (3, 3, 3), shape=(12, 10, 7)))
    message = error_of(folders)
    assert "masks/p1.nii.gz" in message and "(12, 10, 6)" in message and "(12, 10, 7)" in message


# Corners may be half of the smallest voxel size apart, which is 0.5 mm in these masks of 12x10x6.
@pytest.mark.parametrize("place, difference, accepted", [
    ((0, 3), 0.49, True), ((0, 3), 0.51, False), ((0, 3), 1, False),
    ((2, 2), 0.098, True), ((2, 2), 0.102, False),
    ((0, 1), 1e-4, True), ((1, 0), 1e-3, True),
], ids=["shift below", "shift above", "a voxel", "spacing below", "spacing above",
        "shear of 1e-4", "shear of 1e-3"])
def test_grids_may_differ_by_half_a_voxel_and_no_more(folders, place, difference, accepted):
    affine = AFFINE.copy()
    affine[place] += difference
    save(folders / "masks/p1.nii.gz", box((2, 4, 1), (6, 8, 4)), affine)
    if accepted:
        assert float(run_evaluate(folders)[0]["hd"]) == 4.0
    else:
        message = error_of(folders)
        assert "the same place as" in message and "refs/p1.nii.gz within 0.50 mm" in message
        assert "mm apart. Resample the prediction" in message


def test_a_rounded_rotation_matrix_is_the_same_grid(folders):
    affine = AFFINE.copy()
    rounded = np.array([[1, 1e-3, -1e-3], [-1e-3, 1, 1e-3], [1e-3, -1e-3, 1]])
    affine[:3, :3] = rounded @ affine[:3, :3]
    save(folders / "masks/p1.nii.gz", box((2, 4, 1), (6, 8, 4)), affine)
    assert float(run_evaluate(folders)[0]["hd"]) == 4.0


# --- Files that cannot be scored ---

def truncated(path):
    path.write_bytes(path.read_bytes()[:-20])


def damaged(path):
    content = bytearray(path.read_bytes())
    content[40:60] = b"\xff" * 20
    path.write_bytes(bytes(content))


def filled(value):
    return np.full((12, 10, 6), value, np.float32)


@pytest.mark.parametrize("break_it", [
    truncated,
    damaged,
    lambda path: path.write_bytes(b""),
    lambda path: path.write_bytes(b"not a NIfTI file"),
    lambda path: save(path, filled(0.3)),
    lambda path: save(path, filled(np.nan)),
    lambda path: save(path, np.zeros((12, 10, 6, 2), np.uint8)),
], ids=["truncated", "damaged", "empty", "text", "probabilities", "nan", "4-D"])
def test_unreadable_mask_is_one_line_that_names_it(folders, break_it):
    break_it(folders / "masks/p1.nii.gz")
    message = error_of(folders)
    assert str(folders / "masks/p1.nii.gz") in message and "\n" not in message


def test_whole_numbers_stored_as_floats_are_a_mask(folders):
    save(folders / "masks/p1.nii.gz", box((2, 4, 1), (6, 8, 4)).astype(np.float32))
    assert float(run_evaluate(folders)[0]["hd"]) == 4.0


def test_masks_of_0_and_255_are_not_taken_for_empty(folders):
    for name in ("p1", "p2"):
        save(folders / f"masks/{name}.nii.gz", box((2, 4, 1), (6, 8, 4), label=255))
    message = error_of(folders)
    assert "only the values 0, 255" in message and "--labels" in message


def test_a_class_that_is_never_predicted_scores_0(folders):
    for name, low, high in (("p1", (8, 8, 4), (11, 10, 6)), ("p2", (6, 6, 1), (9, 9, 2))):
        reference = next((folders / "refs").glob(f"{name}.nii*"))
        truth = np.maximum(nib.load(reference).get_fdata(), box(low, high, label=2))
        save(reference, truth.astype(np.uint8))
    rows = run_evaluate(folders, "--labels", "2")
    assert [float(row["dice"]) for row in rows] == pytest.approx([0, 0], abs=1e-6)


@pytest.mark.parametrize("where", [
    {"predictions": "nowhere"}, {"references": "nowhere"}, {"predictions": "hollow"}])
def test_folder_without_masks_is_refused(folders, where):
    (folders / "hollow").mkdir()
    assert str(folders / next(iter(where.values()))) in error_of(folders, **where)


def test_a_layout_that_is_not_read_says_where_masks_may_lie(folders):
    save(folders / "acdc/patient001/patient001_frame01_gt.nii.gz", box((1, 1, 1), (3, 3, 3)))
    message = error_of(folders, references="acdc")
    assert "Copy the masks into one folder, each named after its scan." in message


def test_names_that_differ_in_how_an_accent_is_stored_are_explained(folders):
    for place, form in (("masks", "NFC"), ("refs", "NFD")):
        (folders / place / "p1.nii.gz").rename(
            folders / place / f"{unicodedata.normalize(form, 'Müller')}.nii.gz")
    message = error_of(folders)
    assert "store accents in another way (Unicode NFC and NFD): rename them" in message


def program(*arguments):
    words = [sys.executable, str(ROOT / "evaluate.py"), *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True)


def test_program_ends_with_one_line_and_status_2_on_a_bad_file(folders):
    truncated(folders / "masks/p1.nii.gz")
    out = folders / "new/out.csv"
    done = program("--predictions", folders / "masks", "--references", folders / "refs",
                   "--csv", out)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2 and len(errors) == 1 and "p1.nii.gz" in errors[0]
    assert "Traceback" not in done.stderr and done.stdout == "" and not out.parent.exists()


def test_program_prints_the_table_and_ends_with_status_0(folders):
    done = program("--predictions", folders / "masks", "--references", folders / "refs")
    assert done.returncode == 0 and "hd95_challenge (mm)" in done.stdout


@pytest.mark.parametrize("options", [
    ["--labels", "0"], ["--labels", "1", "--ignore", "1"], ["--jobs", "0"],
    ["--tolerance", "-1"], ["--tolerance", "nan"], ["--tolerance", "inf"], ["--overlap", "1"],
    ["--overlap", "-0.1"], ["--overlap", "nan"]])
def test_meaningless_options_are_refused(folders, options, capsys):
    with pytest.raises(SystemExit) as caught:
        run_evaluate(folders, *options)
    assert caught.value.code == 2 and options[0] in capsys.readouterr().err


def test_lesions_of_a_comparison_are_refused(folders, capsys):
    with pytest.raises(SystemExit):
        evaluate.main(["--compare", str(folders / "masks"), str(folders / "masks"),
                       "--references", str(folders / "refs"), "--lesions", str(folders / "x.csv")])
    assert "--lesions" in capsys.readouterr().err and not (folders / "x.csv").exists()


def test_two_outputs_in_one_file_are_refused(folders):
    message = error_of(folders, "--lesions", str(folders / "out.csv"))
    assert "out.csv: expected a place for each output" in message


@pytest.mark.parametrize("option, value", [
    ("--labels", "2"), ("--ignore", "2"), ("--protocol", "wmh")])
def test_data_with_labels_or_left_out_ones_is_refused(tmp_path, option, value):
    done = program("--predictions", tmp_path, "--data", tmp_path, option, value)
    assert done.returncode == 2 and f"{option}" in done.stderr and "not with --data" in done.stderr


@pytest.mark.parametrize("text", ["{}", "[]", "null", '{"classes": 2}'])
def test_a_data_folder_with_json_of_another_content_is_refused(tmp_path, text):
    (tmp_path / "dataset.json").write_text(text)
    done = program("--predictions", tmp_path, "--data", tmp_path)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"error: {tmp_path / 'dataset.json'}: expected ")
    assert "classes" in done.stderr


@pytest.fixture
def data(tmp_path):
    """A data folder as far as evaluate.py reads it: p1 trains, p2 and p3 validate; classes 1, 2."""
    data = tmp_path / "data"
    references = data / "references"
    for name, label in (("p1", 1), ("p2", 2), ("p3", 1)):
        save(references / f"{name}.nii.gz", box((1, 1, 1), (3, 3, 3), label))
    folder.write_dataset(data, {"layout": "mine", "source": "own", "size": 12, "modalities": ["T1"],
                                "classes": ["background", "core", "edema"]})
    folder.write_split(data, {"p1": "train", "p2": "val", "p3": "val"})
    folder.write_index(data, [])
    return data


def scored(data, *names, more=()):
    """evaluate.py --data on copies of the references of these subjects: the subjects' rows."""
    masks, out = data.parent / "masks", data.parent / "out.csv"
    masks.mkdir(exist_ok=True)
    for name in names:
        shutil.copy(data / f"references/{name.split('=')[-1]}.nii.gz",
                    masks / f"{name.split('=')[0]}.nii.gz")
    evaluate.main(["--predictions", str(masks), "--data", str(data), "--csv", str(out), *more])
    return [row["subject"] for row in read(out)]


def test_every_validation_scan_of_a_data_folder_needs_a_prediction(data, capsys):
    with pytest.raises(UserError, match="references: expected the same subjects.*only here: p3"):
        scored(data, "p2")
    assert not (data.parent / "out.csv").exists()
    assert scored(data, more=["--partial"]) == ["p2"] * 2
    assert scored(data, "p3") == ["p2", "p2", "p3", "p3"]
    assert "training scans" not in capsys.readouterr().out


def test_training_scans_are_scored_and_named(data, capsys):
    assert scored(data, "p1", "p2", "p3") == ["p1", "p1", "p2", "p2", "p3", "p3"]
    assert f"1 of 3 predicted scans are training scans of {data}: p1" in capsys.readouterr().out


def test_a_prediction_of_no_scan_of_the_data_folder_is_refused(data):
    with pytest.raises(UserError, match="masks: expected the same subjects.*only here: P3"):
        scored(data, "p2", "p3", "P3=p3")


def test_of_folds_those_that_are_predicted_must_be_complete(data):
    folder.write_split(data, {"p1": "fold0", "p2": "fold1", "p3": "fold1"})
    with pytest.raises(UserError, match="only here: p3"):
        scored(data, "p2")
    assert scored(data, "p3") == ["p2", "p2", "p3", "p3"]


def test_predictions_compared_on_a_data_folder_must_be_complete_too(data):
    scored(data, "p2", "p3")
    shutil.copytree(data.parent / "masks", data.parent / "other")
    places = ["--compare", *(str(data.parent / name) for name in ("masks", "other"))]
    evaluate.main([*places, "--data", str(data)])
    for name in ("masks", "other"):
        (data.parent / name / "p3.nii.gz").unlink()
    with pytest.raises(UserError, match="only here: p3"):
        evaluate.main([*places, "--data", str(data)])


def test_intervals_need_five_patients_where_the_data_folder_knows_them(data, capsys):
    """Five copies of the scan p3 stand beside p2, whose first class is empty."""
    for number in range(4, 8):
        shutil.copy(data / "references/p3.nii.gz", data / f"references/p{number}.nii.gz")
    names = [f"p{number}" for number in range(2, 8)]
    split = {"p1": "train", **dict.fromkeys(names, "val")}
    folder.write_split(data, split)
    scored(data, *names)
    assert "label 1: 6 scans, 1 empty " in (printed := capsys.readouterr().out)
    assert "[1.000, 1.000]" in printed
    folder.write_split(data, split, {name: f"of {name in names[:3]}" for name in split})
    scored(data, *names)
    assert "label 1: 6 scans of 2 patients, 1 empty " in (printed := capsys.readouterr().out)
    assert "[1.000, 1.000]" not in printed


def test_an_unfinished_data_folder_is_refused(data):
    folder.mark_unfinished(data)
    with pytest.raises(UserError, match=r"no index\.csv in it"):
        scored(data, "p2", "p3")


def test_a_value_that_is_no_class_of_the_data_folder_is_refused(data):
    save(data.parent / "masks/p2.nii.gz", box((1, 1, 1), (3, 3, 3), 4))
    with pytest.raises(UserError, match=r"p2.nii.gz: expected classes among 0, 1, 2, found 4"):
        scored(data, "p3")


def test_masks_of_0_and_255_are_refused_beside_a_data_folder_too(data):
    """255 is what its references hold in left-out voxels, and a prediction may hold there."""
    for name in ("p2", "p3"):
        reference = nib.load(data / f"references/{name}.nii.gz")
        truth = np.asanyarray(reference.dataobj).copy()
        truth[0, 0, 0] = 255
        save(data / f"references/{name}.nii.gz", truth)
        save(data.parent / f"masks/{name}.nii.gz", truth)
    assert scored(data) == ["p2", "p2", "p3", "p3"]
    save(data.parent / "masks/p2.nii.gz", np.uint8(255) * (truth == 1))
    with pytest.raises(UserError, match="p2.nii.gz: expected classes among 0, 1, 2, found 255"):
        scored(data)


def save_pairs(folders, truth, predicted):
    """The same two masks for both scans."""
    for reference in (folders / "refs").iterdir():
        save(reference, truth)
        save(folders / "masks" / f"{reference.name.partition('.')[0]}.nii.gz", predicted)


def test_masks_of_an_ignored_value_alone_are_not_taken_for_empty(folders, capsys):
    truth = box((2, 4, 1), (6, 8, 4)) + box((0, 0, 0), (1, 1, 1), 2)
    save_pairs(folders, truth, box((2, 4, 1), (6, 8, 4), label=2))
    assert "only the values 0, 2" in error_of(folders, "--ignore", "2")
    save(folders / "masks/p1.nii.gz", box((2, 4, 1), (6, 8, 4)))
    run_evaluate(folders, "--ignore", "2")
    assert "warning: 1 of 2 predictions hold neither a scored label" in capsys.readouterr().out


@pytest.mark.parametrize("labels", [("1", "2", "4"), ("1", "2", "3")])
def test_classes_that_are_numbered_otherwise_are_named(folders, capsys, labels):
    """BraTS's 4 is predicted as the third class; whichever of the two is asked for is not found."""
    truth = sum(box((2 * label, 4, 1), (2 * label + 2, 6, 2), label) for label in (1, 2, 4))
    save_pairs(folders, truth, np.where(truth == 4, 3, truth))
    run_evaluate(folders, "--labels", *labels)
    where, missing, instead = ("masks", 4, 3) if "4" in labels else ("refs", 3, 4)
    assert (f"warning: no mask of {folders / where} holds label {missing}, and some hold "
            f"{instead}, which is in none of the others" in capsys.readouterr().out)


def test_masks_of_other_values_than_the_references_are_named(folders, capsys):
    save(folders / "masks/p2.nii.gz", box((1, 1, 1), (3, 3, 3), 255))
    wrong = run_evaluate(folders)[1]
    assert wrong["prediction_empty"] == "True" and float(wrong["dice"]) < 1e-6
    assert (f"warning: 1 of 2 predictions hold neither a scored label nor another of the "
            f"references, and count as empty ({folders / 'masks/p2.nii.gz'}: 255)"
            in capsys.readouterr().out)


def test_masks_with_a_class_that_is_not_scored_are_not_named(folders, capsys):
    save(folders / "refs/p1.nii.gz", box((2, 2, 1), (6, 6, 4)) + box((8, 8, 1), (9, 9, 3), 3))
    save(folders / "masks/p2.nii.gz", box((1, 1, 1), (3, 3, 3), 3))
    run_evaluate(folders)
    assert "warning" not in capsys.readouterr().out


def test_csv_path_that_is_a_folder_is_refused_and_left_alone(folders):
    (folders / "out.csv").mkdir()
    save(folders / "out.csv/keep.nii", box((1, 1, 1), (3, 3, 3)))
    assert "out.csv: expected a place for the output, a file, found a folder" in error_of(folders)
    assert (folders / "out.csv/keep.nii").exists()


def test_an_output_below_a_file_is_refused_before_the_others_are_written(folders):
    (folders / "file").touch()
    place = folders / "file/new/lesions.csv"
    message = error_of(folders, "--lesions", str(place))
    assert message.startswith(f"{place}: expected a place for the output")
    assert f"{folders / 'file'} is a file" in message


def test_a_label_that_no_mask_holds_is_a_warning(folders, capsys):
    rows = run_evaluate(folders, "--labels", "1", "5")
    assert [row["dice"] for row in rows if row["label"] == "5"] == ["1.0", "1.0"]
    said = f"warning: no mask of {folders / 'masks'} or {folders / 'refs'} holds label 5: "
    assert said in capsys.readouterr().out
    run_evaluate(folders)
    assert "warning" not in capsys.readouterr().out
