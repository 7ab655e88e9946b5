"""Per-scan scores and the paired bootstrap, by hand."""

import numpy as np
import pytest

from run_folders import write_set
from scoring import intervals
from scoring.runs import load_set
from scoring.scores import row_scores, score_scan, sum_scores


def test_equal_differences_have_an_interval_of_no_width():
    assert intervals.paired_interval([0.5, 0.75, 0.25], [0.25, 0.5, 0]) == (0.25, 0.25, 0.25)


def test_a_mean_over_slices_divides_the_sums_by_the_slices():
    mean, low, high = intervals.paired_interval([2.0, 0.0], [0.0, 0.0], weights=[4, 6])  # one scan gains 2 over 4 slices
    assert mean == 0.2 and (low, high) == (0.0, 0.5)


def test_an_interval_covers_the_spread_of_the_scans():
    values = np.random.default_rng(1).normal(0.1, 0.2, 400)
    mean, low, high = intervals.paired_interval(values, 0 * values)
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.1) and low < mean < high


def test_an_interval_covers_the_spread_of_the_seeds_where_the_scans_agree():
    with_term = [[0.2] * 5, [0.8] * 5]         # two seeds that differ, five scans that do not
    mean, low, high = intervals.paired_interval(with_term, [[0.5] * 5])
    assert mean == pytest.approx(0)
    # each draw is the mean of two seeds, 0.3 off or 0; enlarged by sqrt(2) since two seeds show half of their variance
    assert (low, high) == pytest.approx((-0.3 * 2 ** 0.5, 0.3 * 2 ** 0.5))


def test_scans_are_drawn_for_both_rows_alike():
    hard = np.array([[0.1, 0.9, 0.5, 0.3]])    # scans differ a lot, the rows by 0.1 on each
    assert intervals.paired_interval(hard + 0.1, hard) == pytest.approx((0.1, 0.1, 0.1))


def test_scores_of_a_scan_sum_over_slices_and_measure_in_mm():
    truth, mask = np.zeros((2, 8, 8), bool), np.zeros((2, 8, 8), bool)
    truth[0, 2, 2:4] = mask[0, 2, 3:5] = True      # one of two pixels overlaps: DSC 0.5; the other slice is empty: 1
    score = sum_scores(score_scan(mask, truth, (3.0, 1.0, 2.0), 2))
    assert score["dsc"] == pytest.approx(1.5) and score["dsc_3d"] == pytest.approx(0.5)
    assert score["hd"] == 2.0 and score["slices"] == 2  # one column off, 2 mm


def test_scores_of_several_classes_are_means_over_them():
    truth, mask = np.zeros((1, 8, 8), np.uint8), np.zeros((1, 8, 8), np.uint8)
    truth[0, 2, 2:4], mask[0, 2, 2:4] = 1, 1       # class 1 is found, class 2 is not
    truth[0, 5, 5] = 2
    score = sum_scores(score_scan(mask, truth, (1.0, 1.0, 1.0), 3))
    assert score["dsc"] == pytest.approx(0.5, abs=1e-6) and score["hd_legacy"] == pytest.approx(0.5)


def test_scores_of_a_row_are_those_of_its_finished_runs_with_a_mask_of_every_scan_that_did_not_collapse(tmp_path):
    folder = write_set(tmp_path, losses={"gdl": [[0.3] * 8] * 4, "boundary": [[0.5] * 8]})
    (folder / "gdl" / "seed1" / "summary.json").unlink()
    (folder / "gdl" / "seed2" / "predictions.npz").unlink()
    one = load_set(folder)
    scores = row_scores(one, "gdl")
    assert scores["dsc"].shape == (2, 2) and scores["slices"].tolist() == [[2, 2]] * 2   # seeds 0 and 3, scans a and b
    assert scores["dsc"][0].tolist() == scores["dsc"][1].tolist()
    assert row_scores(one, "boundary") is None and row_scores(one, "gdl+boundary") is None


def test_differences_of_slice_metrics_are_over_slices_and_of_scan_metrics_over_scans():
    without = {"slices": np.array([[4.0, 6.0]]), "dsc": np.array([[0.0, 0.0]]), "dsc_3d": np.array([[0.0, 0.0]])}
    with_term = {**without, "dsc": np.array([[2.0, 0.0]]), "dsc_3d": np.array([[0.5, 0.0]])}
    assert intervals.difference(with_term, without, "dsc")["difference"] == 0.2
    assert intervals.difference(with_term, without, "dsc_3d")["difference"] == 0.25
