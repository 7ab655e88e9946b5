"""The WMH challenge's rules: by hand, and computed again with SimpleITK from their description."""

import math

import numpy as np
import pytest

import evaluate
from challenge_program import challenge_by_simpleitk
from mask_folders import box, error_of, read, run_evaluate, save, write_folders
from scoring.challenge import wmh_masks, wmh_scores
from scoring.columns import WMH


def row(*values):
    return np.array(values, float).reshape(1, -1, 1)


# --- What counts as lesion ---

@pytest.mark.parametrize("value, is_lesion", [
    (0, False), (0.49, False), (0.5, True), (1, True), (2, True), (7, True), (1000, True),
    (1001, False), (-1, False)])
def test_any_value_of_a_prediction_from_one_half_to_1000_is_lesion(value, is_lesion):
    pred, _, _ = wmh_masks(row(value), row(0))
    assert pred.ravel().tolist() == [is_lesion]


def test_label_2_of_the_reference_is_left_out_of_both_and_that_of_the_prediction_is_not():
    pred, target, left_out = wmh_masks(row(1, 2, 1, 2, 0), row(2, 2, 1, 0, 2))
    assert pred.ravel().tolist() == [False, False, True, True, False]
    assert target.ravel().tolist() == [False, False, True, False, False]
    assert left_out.ravel().tolist() == [True, True, False, False, True]


def test_other_values_of_a_reference_are_background():
    _, target, left_out = wmh_masks(row(0, 0, 0), row(3, 0.4, 255))
    assert not target.any() and not left_out.any()


def test_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"^reference: .*\(1, 2, 1\), got \(1, 1, 1\)$"):
        wmh_masks(row(0, 0), row(0))


# --- Scores ---

def test_scores_by_hand_come_in_the_challenges_order():
    reference, prediction = np.zeros((9, 9, 2)), np.zeros((9, 9, 2))
    reference[1, 1:3, 0] = reference[7, 7, 1] = 1
    reference[4, 4, 0] = 2
    prediction[1, 2:4, 0] = 2                     # half of the first lesion
    prediction[4, 4, 0] = 1                       # left out
    scores = wmh_scores(prediction, reference, (1, 3, 5))
    assert tuple(scores) == WMH
    assert scores["dice"] == pytest.approx(2 * 1 / (2 + 3))
    assert scores["volume_difference"] == pytest.approx(100 / 3)
    assert (scores["lesion_recall"], scores["lesion_f1"]) == (1 / 2, pytest.approx(2 / 3))
    # From the reference: 3 mm, 0, and to the far lesion; the 95th percentile lies at 1.9 of 0 to 2.
    far = math.hypot(6, 4 * 3, 5)
    assert scores["hd95_challenge"] == pytest.approx(3 + 0.9 * (far - 3))


@pytest.mark.parametrize("predicted, true, expected", [
    (0, 1, (0, 100, 0, 0)), (0, 0, (1, 0, 1, 1)), (1, 0, (0, math.inf, 1, 0))])
def test_empty_masks_have_no_distance(predicted, true, expected):
    reference, prediction = np.zeros((5, 5, 3)), np.zeros((5, 5, 3))
    reference[2, 2, 1], prediction[2, 2, 1] = true, predicted
    scores = wmh_scores(prediction, reference, (1, 1, 3))
    assert math.isnan(scores.pop("hd95_challenge"))
    assert tuple(scores.values()) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("kind", ["labels", "probabilities", "empty"])
def test_scores_equal_an_independent_simpleitk_computation(kind):
    rng = np.random.default_rng(0)
    for _ in range(60):
        shape, spacing = rng.integers((8, 8, 2), (16, 16, 6)), rng.uniform(0.5, 4, 3)
        reference = rng.choice([0, 1, 2], shape, p=rng.dirichlet([6, 1, 1])).astype(float)
        reference[tuple(shape // 2)] = 1
        prediction = {"labels": rng.choice([0, 1, 2, 3], shape, p=[0.85, 0.05, 0.05, 0.05]),
                      "probabilities": rng.random(shape) ** 3,
                      "empty": np.where(reference == 2, 1, 0.4)}[kind]
        found = wmh_scores(prediction, reference, spacing)
        expected = challenge_by_simpleitk(prediction, reference, spacing)
        assert tuple(found.values()) == pytest.approx(expected, abs=1e-6, nan_ok=True)


# --- evaluate.py --protocol wmh ---

@pytest.fixture
def folders(tmp_path):
    """The reference's label 2 is found by p1's prediction, which calls its lesion 2, too."""
    write_folders(tmp_path)
    reference = box((2, 2, 1), (6, 6, 4)) + box((8, 2, 1), (10, 4, 2), label=2)
    save(tmp_path / "refs/p1.nii.gz", reference)
    save(tmp_path / "masks/p1.nii.gz",
         box((2, 4, 1), (6, 8, 4), label=2) + box((8, 2, 1), (10, 4, 2), label=1))
    return tmp_path


def test_protocol_prints_the_challenges_scores_in_its_order(folders, capsys):
    run_evaluate(folders, "--protocol", "wmh")
    printed = capsys.readouterr().out.splitlines()[3:]
    assert [line.split()[0] for line in printed] == list(WMH)


def test_protocol_counts_label_2_of_a_prediction_and_a_plain_evaluation_does_not(folders):
    by_rules, plain = (run_evaluate(folders, *options)[0] for options in
                       (["--protocol", "wmh"], ["--labels", "1", "--ignore", "2"]))
    assert float(by_rules["dice"]) == pytest.approx(0.5) and float(plain["dice"]) < 1e-6
    assert float(by_rules["hd95_challenge"]) == 4
    assert (by_rules["TP"], by_rules["FP"], by_rules["FN"]) == ("24", "24", "24")


def test_protocol_takes_probabilities_and_has_no_distance_without_a_lesion(folders):
    save(folders / "masks/p1.nii.gz", box((2, 2, 1), (6, 6, 4)) * np.float32(0.7))
    save(folders / "masks/p2.nii.gz", box((1, 1, 1), (3, 3, 3)) * np.float32(0.3))
    certain, nothing = run_evaluate(folders, "--protocol", "wmh", "--check")
    assert certain["dice"] == "1.0"
    assert (nothing["hd95_challenge"], nothing["volume_difference"]) == ("nan", "100.0")


def test_protocol_compares_two_folders(folders):
    evaluate.main(["--compare", str(folders / "masks"), str(folders / "refs"), "--references",
                   str(folders / "refs"), "--protocol", "wmh", "--csv", str(folders / "d.csv")])
    assert [name for name in read(folders / "d.csv")[0] if name.endswith("_difference")] == [
        f"{name}_difference" for name in WMH]


def test_protocol_has_a_table_of_lesions_too(folders):
    run_evaluate(folders, "--protocol", "wmh", "--lesions", str(folders / "lesions.csv"))
    found = [(row["subject"], row["mask"]) for row in read(folders / "lesions.csv")]
    assert found == [(name, mask) for name in ("p1", "p2") for mask in ("reference", "prediction")]


def test_not_a_number_is_no_probability(folders):
    save(folders / "masks/p1.nii.gz", np.full((12, 10, 6), np.nan, np.float32))
    assert "masks/p1.nii.gz" in error_of(folders, "--protocol", "wmh")


@pytest.mark.parametrize("options", [
    ["--labels", "2"], ["--labels", "1", "3"], ["--ignore", "3"], ["--empty", "diagonal"]])
def test_options_that_contradict_the_protocol_are_refused(folders, options, capsys):
    with pytest.raises(SystemExit) as caught:
        run_evaluate(folders, "--protocol", "wmh", *options)
    said = capsys.readouterr().err
    assert caught.value.code == 2 and f"{options[0]}: --protocol wmh settles it" in said


def test_options_that_agree_with_the_protocol_change_nothing(folders):
    same = ["--labels", "1", "--ignore", "2", "--empty", "nan"]
    assert run_evaluate(folders, "--protocol", "wmh", *same) == run_evaluate(
        folders, "--protocol", "wmh")
