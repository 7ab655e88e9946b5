"""C3 and C4: the curves' jitter, and what is left in the end, by hand."""

import numpy as np
import pytest

from made_runs import SCANS, made_run, made_set
from studies import smoothness, stability


def wave(height, epochs=24):
    return [0.5 + height * (-1) ** epoch for epoch in range(epochs)]


def c3(folder, without, with_term, **options):
    """C3 on runs with these curves; options are those of the runs with the term, one by one."""
    runs = {"gdl": [made_run("gdl", curve=curve, seed=seed) for seed, curve in enumerate(without)],
            "gdl_boundary": [
                made_run("gdl+boundary", curve=curve, seed=seed,
                         **{name: values[seed] for name, values in options.items()})
                for seed, curve in enumerate(with_term)]}
    return stability.c3(made_set(folder, **runs))


# C3 -----------------------------------------------------------------------------------------------

def test_changes_are_those_of_the_last_epochs():
    run = made_run(curve=[0.9, 0.1, 0.3, 0.1, 0.3])
    np.testing.assert_allclose(smoothness.changes(run, "val_dice", 4), [0.2, -0.2, 0.2])


@pytest.mark.parametrize("regional, both, verdict, coloured", [
    (0.2, 0.02, "supported", True), (0.02, 0.2, "refuted", True), (0.1, 0.1, "undecided", False)])
def test_c3_compares_the_jitter_of_both_curves(tmp_path, regional, both, verdict, coloured):
    result = c3(tmp_path, [wave(regional)] * 2, [wave(both)] * 2)
    assert (result["verdict"], result["excludes_0"]) == (verdict, coloured)
    assert result["window"] == 12 and list(result["ratios"]) == ["val_dice", "val_hd_legacy"]
    for ratio in result["ratios"].values():
        assert ratio["ratio"] == pytest.approx(both / regional)
        assert ratio["low"] <= ratio["ratio"] <= ratio["high"]


def test_c3_needs_a_smoother_distance_too(tmp_path):
    runs = [made_run("gdl+boundary", curve=wave(0.02), seed=seed) for seed in range(2)]
    for run in runs:
        for row in run.rows:
            row["val_hd_legacy"] = 500 * (row["val_dice"] - 0.5)  # 10, where GDL's is 2
    gdl = [made_run("gdl", curve=wave(0.2), seed=seed) for seed in range(2)]
    result = stability.c3(made_set(tmp_path, gdl=gdl, gdl_boundary=runs))
    assert result["verdict"] == "refuted" and result["ratios"]["val_dice"]["high"] < 1


def test_c3_is_undecided_where_seeds_disagree(tmp_path):
    result = c3(tmp_path, [wave(0.1), wave(0.12)], [wave(0.02), wave(0.3)])
    assert result["verdict"] == "undecided"


def test_two_seeds_that_differ_a_little_leave_a_wide_interval():
    drawn = smoothness.draw_jitter([np.diff(wave(0.1)), np.diff(wave(0.2))],
                                   np.random.default_rng(0))
    # the spread of changes is about 0.2 and 0.4: mean 0.3, to the power of 6.48 x sqrt(2)
    assert drawn.max() == pytest.approx(0.3 * (4 / 3) ** 9.167, rel=0.2)


def test_two_flat_lines_are_alike():
    found = smoothness.jitter_ratio([np.zeros(5)] * 2, [np.zeros(5)] * 2)
    assert (found["ratio"], found["low"], found["high"]) == (1, 1, 1)


def test_c3_counts_a_run_that_ends_empty_and_names_it(tmp_path):
    flat = wave(0.02)[:18] + [0.6] * 6
    result = c3(tmp_path, [wave(0.2)] * 2, [wave(0.02), flat], empty_from=[None, 18])
    assert all(ratio["high"] < 1 for ratio in result["ratios"].values())
    assert result["verdict"] == "undecided" and not result["excludes_0"]
    assert "gdl+boundary/seed1 (1 of 4 runs)" in result["statistic"]


def test_beside_a_flat_curve_of_gdl_no_other_is_called_jumpy(tmp_path):
    runs = {"gdl": [made_run("gdl", curve=wave(0.02)), made_run("gdl", curve=[0.6] * 24, seed=1,
                                                                empty_from=0)],
            "gdl_boundary": [made_run("gdl+boundary", curve=wave(0.2), seed=seed)
                             for seed in range(2)]}
    result = stability.c3(made_set(tmp_path, **runs))
    assert result["verdict"] == "not measured" and "a curve of gdl is flat" in result["statistic"]


def test_the_flat_lines_of_runs_that_end_empty_are_not_smooth(tmp_path):
    result = c3(tmp_path, [wave(0.2)] * 2, [[0.6] * 24] * 2, empty_from=[0, 0])
    assert result["verdict"] == "not measured"


@pytest.mark.parametrize("seeds, epochs, words", [
    (1, 24, "at least 2 seeds"), (2, 10, "at least 12 epochs, found 10")])
def test_c3_needs_seeds_and_epochs(tmp_path, seeds, epochs, words):
    result = c3(tmp_path, [wave(0.2, epochs)] * seeds, [wave(0.02, epochs)] * seeds)
    assert result["verdict"] == "not measured" and words in result["statistic"]
    assert "ratio 0.10" in result["statistic"]


# C4 -----------------------------------------------------------------------------------------------

def c4(folder, empty, scans=SCANS, **options):
    """C4 on runs that are empty from the first epoch on, or (None) never."""
    runs = [made_run("boundary", seed=seed, scans=scans, empty_from=0 if is_empty else None,
                     **options) for seed, is_empty in enumerate(empty)]
    return stability.c4(made_set(folder, scans, boundary=runs))


@pytest.mark.parametrize("empty, verdict", [
    ([True] * 6, "supported"), ([False] * 6, "refuted"),
    ([True] * 5, "undecided"), ([False] * 5, "undecided"), ([True] * 9 + [False], "undecided")])
def test_c4_counts_the_runs_that_end_empty(tmp_path, empty, verdict):
    result = c4(tmp_path, empty)
    assert result["verdict"] == verdict
    assert result["statistic"].startswith(
        f"{sum(empty)} of {len(empty)} runs end without any foreground")
    assert not result.get("excludes_0")  # of a share, no colour


@pytest.mark.parametrize("count, total, low, high", [
    (0, 2, 0, 0.8419), (2, 2, 0.1581, 1), (6, 6, 0.5407, 1), (5, 5, 0.4782, 1),
    (9, 10, 0.5550, 0.9975)])  # 0.025 ** (1 / n); the last from Clopper and Pearson's tables
def test_the_share_of_runs_has_its_exact_interval(count, total, low, high):
    assert stability.exact_interval(count, total) == pytest.approx((low, high), abs=5e-5)


def test_a_run_that_hits_no_lesion_has_collapsed_too(tmp_path):
    runs = [*(made_run("boundary", seed=seed, empty_from=0) for seed in range(5)),
            made_run("boundary", seed=5, changes={"lesions_found": 0})]
    result = stability.c4(made_set(tmp_path, boundary=runs))
    assert (result["verdict"], result["collapsed"]) == ("supported", 6)
    assert "5 of 6 runs end without any foreground, 1 without any on a lesion," in \
        result["statistic"]
    assert result["statistic"].endswith("; share of runs that collapse 1.00 [0.54, 1.00]")


@pytest.mark.parametrize("empty, options, words", [
    ([True], {}, "needs at least 2 seeds of boundary, found 1"),
    ([True, True], {"epochs": 3}, "needs at least 12 epochs, found 3"),
    ([True, True], {"scans": SCANS[:4]}, "needs at least 5 validation scans, found 4")])
def test_c4_needs_seeds_epochs_and_scans_like_the_others(tmp_path, empty, options, words):
    result = c4(tmp_path, empty, **options)
    assert result["verdict"] == "not measured" and result["statistic"].startswith(words)


def test_unfinished_runs_do_not_count(tmp_path):
    assert c4(tmp_path, [True, True], finished=False)["statistic"].startswith("run: make custom")


def test_runs_of_an_earlier_version_do_not_tell_their_foreground(tmp_path):
    runs = [made_run("boundary", seed=seed) for seed in range(2)]
    runs[0].rows[-1]["val_foreground"] = None
    result = stability.c4(made_set(tmp_path, boundary=runs))
    assert result["verdict"] == "not measured" and "val_foreground" in result["statistic"]
