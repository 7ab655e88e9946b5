"""Per-scan scores, the two bootstraps, and statistics of scores, by hand."""

import math
import warnings

import numpy as np
import pytest

from made_runs import made_run, made_set
from run_folders import write_set
from scoring import intervals, scan_scores
from scoring.columns import limits_of
from scoring.row_scores import row_scores, scores_in_file
from scoring.runs import load_set
from scoring.scan_scores import measures
from scoring.scores import score_scan


def test_equal_differences_have_an_interval_of_no_width():
    assert intervals.paired_interval([0.5, 0.75, 0.25], [0.25, 0.5, 0]) == (0.25, 0.25, 0.25)


def test_a_mean_over_slices_divides_the_sums_by_the_slices():
    # one scan gains 2 over its 4 slices, the other nothing over 6
    mean, low, high = intervals.paired_interval([2.0, 0.0], [0.0, 0.0], weights=[4, 6])
    assert mean == 0.2 and (low, high) == (0.0, 0.5)


def test_an_interval_covers_the_spread_of_the_scans():
    values = np.random.default_rng(1).normal(0.1, 0.2, 400)
    mean, low, high = intervals.paired_interval(values, 0 * values)
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.1)
    assert low < mean < high


def test_an_interval_covers_the_spread_of_seeds_where_scans_agree():
    with_term = [[0.2] * 5, [0.8] * 5]         # two seeds that differ, five scans that do not
    mean, low, high = intervals.paired_interval(with_term, [[0.5] * 5])
    assert mean == pytest.approx(0)
    # each draw is the mean of two seeds, 0.3 off or 0; enlarged by sqrt(2), since two seeds show
    # half of their variance, and by t(1) / 1.96 = 12.706 / 1.96, since they show it badly
    assert high == pytest.approx(0.3 * 2 ** 0.5 * 12.706 / 1.96, rel=1e-3)
    assert low == pytest.approx(-high)


@pytest.mark.parametrize("seeds, quantile", [(2, 12.706), (3, 4.303), (6, 2.571), (30, 2.045)])
def test_what_few_seeds_differ_by_is_widened_by_students_t(seeds, quantile):
    expected = (seeds / (seeds - 1)) ** 0.5 * quantile / 1.96
    assert intervals.widening(seeds) == pytest.approx(expected, rel=1e-3)
    assert intervals.widening(1) == 1


def test_seeds_that_agree_widen_nothing():
    scans = np.linspace(0, 1, 8)
    assert intervals.paired_interval([scans] * 2, [scans * 0] * 2) == \
        pytest.approx(intervals.paired_interval(scans, scans * 0))


def test_the_seeds_of_each_row_are_widened_by_their_own_number():
    mean, _, high = intervals.paired_interval([[0.5] * 5] * 6, [[0.2] * 5, [0.8] * 5])
    assert mean == 0 and high == pytest.approx(0.3 * 2 ** 0.5 * 12.706 / 1.96, rel=1e-3)


def test_a_scan_without_a_score_in_one_row_stays_out():
    nan = np.nan
    mean, low, high = intervals.paired_interval([[1, 2, nan, 4.0, 5, 5]], [[0, 1, 1, 3, 4, nan]])
    assert (mean, low, high) == (1, 1, 1)
    # of two seeds one has a score
    assert intervals.paired_interval([[1.0] * 6, [nan] * 6], [[0.5] * 6])[0] == 0.5
    assert all(map(math.isnan, intervals.paired_interval([[nan] * 5], [[1.0] * 5])))


def test_scans_without_a_lesion_do_not_weigh_in_a_share_of_lesions():
    # found 3 of 4, 1 of 4, and nothing to find in three scans
    mean, low, high = intervals.paired_interval([[3, 1, 0, 0, 0]], [[0] * 5], [4, 4, 0, 0, 0])
    assert (mean, low, high) == (0.5, 0.25, 0.75)


def test_scans_are_drawn_for_both_rows_alike():
    hard = np.array([[0.1, 0.9, 0.5, 0.3]])    # scans differ a lot, the rows by 0.1 on each
    assert intervals.paired_interval(hard + 0.1, hard) == pytest.approx((0.1, 0.1, 0.1))


def test_the_scans_of_a_patient_are_drawn_together():
    values = np.random.default_rng(3).normal(0.1, 0.2, 40)
    twice, patients = np.repeat(values, 2), np.repeat(np.arange(40), 2)  # two scans that are alike
    once = intervals.paired_interval(values, 0 * values)
    assert intervals.paired_interval(twice, 0 * twice, patients=patients) == pytest.approx(once)
    _, low, high = intervals.paired_interval(twice, 0 * twice)
    assert (high - low) * 2 ** 0.5 == pytest.approx(once[2] - once[1], rel=0.05)


def test_a_mean_stays_one_over_scans_however_many_a_patient_has():
    patients = np.array([0, 0, 0, 1])
    found = intervals.paired_interval([1.0, 1, 1, 0], [0.0] * 4, patients=patients)
    assert found == (0.75, 0, 1)  # draws: 6 scans of the first, 3 and 1, 2 of the second


def test_row_scores_know_the_patients_of_a_data_folder(tmp_path):
    results = made_set(tmp_path, gdl=[0.4, 0.5], gdl_boundary=[0.6, 0.7])
    assert "patient" not in row_scores(results, "gdl")
    results = made_set(tmp_path, gdl=[0.4, 0.5], gdl_boundary=[0.6, 0.7])
    (tmp_path / "data" / "split.csv").write_text(
        "subject,subset,patient\na,val,1\nb,val,1\nc,val,2\nd,val,2\ne,val,2\nf,val,2\n")
    pair = [row_scores(results, row) for row in ("gdl+boundary", "gdl")]
    assert pair[0]["patient"].tolist() == [[0, 0, 1, 1, 1, 1]]
    found = intervals.difference(*pair, "dsc_3d")
    assert found == {"difference": pytest.approx(0.2), "low": None, "high": None}  # of 2 patients
    assert intervals.scans_behind(*pair, "dsc_3d") == 6
    assert intervals.patients_behind(*pair, "dsc_3d") == 2


def test_a_rows_own_interval_covers_scans_and_seeds_as_that_of_a_difference_does():
    scores = np.random.default_rng(2).normal(0.7, 0.1, (3, 20))
    own = intervals.mean_interval(scores)
    assert own == pytest.approx(intervals.paired_interval(scores, 0 * scores[:1]), abs=1e-12)


def test_scores_that_are_missing_stay_out_of_a_mean_and_its_interval():
    missing = [[1.0, 3, np.nan, 1, 3, 2], [np.inf, 3, np.nan, 1, 3, np.nan]]
    assert intervals.mean_interval(missing)[0] == pytest.approx(17 / 8)
    mean, low, high = intervals.mean_interval([[1.0, 3, np.nan, 1, 3, 2]])
    assert mean == 2 and 1 <= low < mean < high <= 3
    assert intervals.mean_interval([[1.0] * 6, [np.nan] * 6]) == (1, 1, 1)
    assert intervals.mean_interval([[5.0, np.nan, 5, 5, 5, 5]]) == (5, 5, 5)


def test_a_row_of_few_scans_has_a_mean_alone_and_one_of_none_has_nothing():
    mean, low, high = intervals.mean_interval([[1.0, 2, 3, 4, np.nan]])
    assert mean == 2.5 and math.isnan(low) and math.isnan(high)
    assert all(map(math.isnan, intervals.mean_interval([[np.nan] * 9])))


def test_scores_of_a_scan_sum_over_slices_and_measure_in_mm():
    truth, mask = np.zeros((2, 8, 8), bool), np.zeros((2, 8, 8), bool)
    truth[0, 2, 2:4] = mask[0, 2, 3:5] = True  # one of two pixels overlaps: DSC 0.5
                                               # the other slice is empty: 1
    of_lesion, = score_scan(mask, truth, (3.0, 1.0, 2.0), 2)
    score = scores_in_file([{"epoch": 0, "subject": "a", "class_name": "lesion",
                             **measures(of_lesion)}])["a"]
    assert score["dsc"] == pytest.approx(1.5) and score["dsc_3d"] == pytest.approx(0.5)
    assert score["hd"] == 2.0 and score["slices"] == 2  # one column off, 2 mm


def rows_of_classes(*scans):
    """Rows of scores.csv of scans a, b, ...: masks and truths (D, H, W) of two classes."""
    return [{"epoch": 0, "subject": name, "class_name": label, **measures(of_class)}
            for name, (mask, truth) in zip("ab", scans)
            for label, of_class in zip(("first", "second"),
                                       score_scan(mask, truth, (1.0, 1.0, 1.0), 3), strict=True)]


def test_scores_of_several_classes_are_means_over_them():
    truth, mask = np.zeros((1, 8, 8), np.uint8), np.zeros((1, 8, 8), np.uint8)
    truth[0, 2, 2:4], mask[0, 2, 2:4] = 1, 1       # class 1 is found, class 2 is not
    truth[0, 5, 5] = 2
    score = scores_in_file(rows_of_classes((mask, truth)))["a"]
    assert score["dsc"] == pytest.approx(0.5, abs=1e-6) and score["hd_legacy"] == pytest.approx(0.5)


def test_classes_that_lie_in_more_or_fewer_slices_weigh_the_same():
    truth, found = np.zeros((2, 2, 4, 8, 8), np.uint8)
    truth[0, 0, 1, 1] = 1                          # class 1: in 1 of 8 slices, found there ...
    truth[0, 1:, 5, 1] = truth[1, :3, 5, 1] = 2    # ... class 2 in 6, of which 3 are found
    found[0] = truth[0]
    found[1, 3, 1, 1] = 1                          # of the 7 and 2 without it 6 and 2 are clean
    rows = rows_of_classes(*zip(found, truth, strict=True))
    scans = list(scores_in_file(rows).values())

    means = scan_scores.means(rows, ["background", "first", "second"])
    for name, count, column, expected in (
        ("clean", "slices_empty", "val_clean", (6 / 7 + 1) / 2),
        ("dsc_lesion", "slices_lesion", "val_dice_lesion", (1 + 1 / 2) / 2),
    ):
        whole = sum(scan[name] for scan in scans) / sum(scan[count] for scan in scans)
        assert whole == pytest.approx(expected, abs=1e-6)
        assert means[column] == pytest.approx(expected, abs=1e-6)


def test_row_scores_leave_out_unfinished_and_maskless_runs_but_count_empty_ones(tmp_path):
    folder = write_set(tmp_path, losses={"gdl": [[0.3] * 8] * 4, "boundary": [[0.5] * 8]})
    (folder / "gdl" / "seed1" / "summary.json").unlink()
    (folder / "gdl" / "seed2" / "predictions.npz").unlink()

    results = load_set(folder)
    scores = row_scores(results, "gdl")

    assert scores["dsc"].shape == (2, 2)  # seeds 0 and 3, scans a and b
    assert scores["slices"].tolist() == [[2, 2]] * 2
    assert scores["dsc"][0].tolist() == scores["dsc"][1].tolist()
    empty = row_scores(results, "boundary")
    assert empty["dsc_3d"].max() < 1e-8 and empty["lesions_predicted"].sum() == 0
    assert row_scores(results, "gdl+boundary") is None
    assert row_scores(results, "gdl", "last") is None  # without scores.csv


def test_scores_of_the_last_epochs_are_means_over_them(tmp_path):
    runs = [made_run("gdl", seed=seed) for seed in range(2)]
    for row in runs[1].scans:
        row["dsc_3d"] = row["epoch"] / 10
        row["false_distance"] = None if row["epoch"] == 11 else row["epoch"]
    results = made_set(tmp_path, gdl=runs)  # twelve epochs, of which the last three count
    last = row_scores(results, "gdl", "last")
    assert last["dsc_3d"].tolist() == [[0.5] * 6, [pytest.approx((0.9 + 1.0 + 1.1) / 3)] * 6]
    assert last["false_distance"][1].tolist() == [9.5] * 6
    assert last["false_mm"][1].tolist() == [pytest.approx(2 * (9 + 10 + 0) / 3)] * 6
    assert row_scores(results, "gdl")["dsc_3d"][1].tolist() == [0] * 6  # the first of equal epochs
    assert last["recall_small"][0].tolist() == [1] * 6
    assert last["small_lesions"][0].tolist() == [2] * 6


def test_slice_metrics_differ_over_slices_and_scan_metrics_over_scans():
    without = {"slices": np.array([[4.0, 6.0]]), "dsc": np.array([[0.0, 0.0]]),
               "dsc_3d": np.array([[0.0, 0.0]])}
    with_term = {**without, "dsc": np.array([[2.0, 0.0]]), "dsc_3d": np.array([[0.5, 0.0]])}
    assert intervals.difference(with_term, without, "dsc")["difference"] == 0.2
    assert intervals.difference(with_term, without, "dsc_3d")["difference"] == 0.25


def test_scores_up_to_1_differ_by_1_at_most_and_distances_by_more():
    # the seeds differ by 0.6: 0.3 x sqrt(2) x 6.48 = 2.75
    rows = {name: np.array([[0.2] * 5, [0.8] * 5]) for name in ("dsc_3d", "hd")}
    other = {name: np.full((1, 5), 0.5) for name in ("dsc_3d", "hd")}
    found = {name: intervals.difference(rows, other, name) for name in rows}
    assert (found["dsc_3d"]["low"], found["dsc_3d"]["high"]) == (-1, 1)
    assert found["hd"]["high"] == pytest.approx(2.75, abs=0.01)


def test_statistics_of_values_by_hand():
    got = intervals.summarise([1.0, 2.0, 6.0, 2.0, 4.0, math.nan, math.inf])
    assert (got["n"], got["mean"], got["median"]) == (5, 3.0, 2.0)
    assert got["std"] == pytest.approx(math.sqrt((4 + 1 + 9 + 1 + 1) / 4))
    # Student's: 3 -+ 2.776 x 2 / sqrt(5)
    assert (got["ci95_low"], got["ci95_high"]) == pytest.approx((0.52, 5.48), abs=0.4)


def test_statistics_of_nothing_and_of_one_value():
    assert intervals.summarise([math.nan])["n"] == 0 and math.isnan(intervals.summarise([])["mean"])
    got = intervals.summarise([2.0])
    assert got["mean"] == got["median"] == 2.0 and math.isnan(got["std"])


@pytest.mark.parametrize("count, is_there", [(1, False), (2, False), (4, False), (5, True)])
def test_an_interval_and_a_p_value_need_five_scans(count, is_there):
    values = np.arange(1.0, count + 1)
    padded = [*values, math.nan, math.nan]  # of which no score is left
    for got in (intervals.summarise(padded),
                intervals.summarise_pairs([0.0] * len(padded), padded, better=1)):
        assert math.isfinite(got["ci95_low"]) == math.isfinite(got["ci95_high"]) == is_there
        assert got["mean"] == values.mean() and math.isfinite(got["std"]) == (count > 1)
    assert math.isfinite(got["wilcoxon_p"]) == is_there


def test_bootstrap_interval_is_reproducible_and_close_to_the_normal_one():
    values = np.random.default_rng(1).normal(5, 2, 400)
    low, high = intervals.bootstrap_interval(values)
    assert (low, high) == intervals.bootstrap_interval(values)
    half = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.02)


def test_the_interval_of_few_scans_holds_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(5)
    held = sum(low <= 0 <= high for low, high in (
        intervals.bootstrap_interval(rng.normal(0, 1, 6)) for _ in range(200)))
    assert 183 <= held <= 197  # of percentiles alone about 171


def test_the_scans_of_a_patient_count_together_in_the_statistics_of_scans():
    rng = np.random.default_rng(4)
    values, patients = rng.normal(5, 2, 12), np.arange(12)
    alike, twice = np.repeat(values, 2), np.repeat(patients, 2)  # two scans each that are alike
    once, got = intervals.summarise(values), intervals.summarise(alike, patients=twice)
    for name in ("mean", "ci95_low", "ci95_high"):
        assert got[name] == pytest.approx(once[name])
    assert got["n"] == 24

    once = intervals.summarise_pairs(0 * values, values - 4, better=1)
    got = intervals.summarise_pairs(0 * alike, alike - 4, better=1, patients=twice)
    for name in ("mean", "ci95_low", "ci95_high", "wilcoxon_p"):
        assert got[name] == pytest.approx(once[name])
    # a scan without a score stays out with its number; 1, 1 and 4 have the mean 2, not 2.5
    patients = np.array([7, 7, 3, 3])
    assert intervals.summarise([1, 1, 4, math.nan], patients=patients)["mean"] == 2
    # five scans of four patients are too few
    got = intervals.summarise_pairs([0.0] * 5, np.arange(5.0), 1, np.array([0, 0, 1, 2, 3]))
    assert math.isnan(got["ci95_low"]) and math.isnan(got["wilcoxon_p"])


def test_an_interval_keeps_to_what_a_score_can_be():
    values = [1.0, 1, 1, 1, 0.2]
    assert intervals.summarise(values)["ci95_high"] > 1
    assert intervals.summarise(values, (0, 1))["ci95_high"] == 1
    assert limits_of("dice") == (0, 1) and limits_of("hd95") == (0, math.inf)
    assert limits_of("volume_difference_ml") == (-math.inf, math.inf)


def test_statistics_of_pairs_by_hand():
    got = intervals.summarise_pairs([1, 2, 3, 4, 3, math.nan], [2, 4, 3, 8, 3, 1], better=-1)
    assert (got["n"], got["mean_a"], got["mean_b"]) == (5, 2.6, 4.0)
    assert (got["mean"], got["median"]) == (1.4, 1)
    assert (got["b_better"], got["b_worse"]) == (0, 3)
    assert got["wilcoxon_p"] == pytest.approx(0.25)  # 3 of 3 positive: 2 / 2^3


def test_a_signed_score_is_better_nearer_to_zero():
    got = intervals.summarise_pairs([-3, -2, 1, 2], [1, 0, 4, -2], better=0)
    assert (got["b_better"], got["b_worse"], got["mean"]) == (2, 1, 1.25)


def test_pairs_without_a_difference_are_no_evidence():
    got = intervals.summarise_pairs([1, 2, 3, 4, 5], [1, 2, 3, 4, 5], better=1)
    assert (got["wilcoxon_p"], got["mean"], got["ci95_low"], got["ci95_high"]) == (1.0, 0, 0, 0)


@pytest.mark.parametrize("values", [[0.5], [0.5, 0.5, 0.5], [0.0, 0.0]])
def test_no_sample_makes_the_bootstrap_warn(values):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        low, high = intervals.bootstrap_interval(np.array(values))
    assert (low, high) == (min(values), max(values))


def test_a_change_in_words_has_a_sign_and_an_interval_or_is_a_dash():
    value = {"difference": 0.0124, "low": -0.003, "high": 0.0271}
    assert intervals.change_in_words(value) == "+0.012 [-0.003, +0.027]"
    assert intervals.change_in_words({**value, "low": None, "high": None}) == "+0.012"
    assert intervals.change_in_words({"difference": None, "low": None, "high": None}) == "–"


@pytest.mark.parametrize("scans, interval", [(4, None), (5, 0.25), (0, None)])
def test_a_difference_has_an_interval_from_five_scans_on(scans, interval):
    """Six scans, of which so many have a score."""
    without = np.full((2, 6), np.nan)
    without[:, :scans] = 0.5
    found = intervals.difference({"dsc_3d": without + 0.25}, {"dsc_3d": without}, "dsc_3d")
    assert found == {"difference": 0.25 if scans else None, "low": interval, "high": interval}
