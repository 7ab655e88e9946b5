"""Verdicts from intervals, and what an interval within a margin would take, by hand."""

import numpy as np
import pytest

from made_runs import made_set
from studies import verdicts


@pytest.mark.parametrize("low, high, sign, margin, verdict", [
    (0.1, 0.2, 1, 0, "supported"), (-0.2, -0.1, 1, 0, "refuted"), (-0.1, 0.1, 1, 0, "undecided"),
    (0.1, 0.2, -1, 0, "refuted"), (-0.2, -0.1, -1, 0, "supported"),
    (0.0, 0.1, 1, 0, "undecided"), (0.0, 0.0, 1, 0, "undecided"),
    (-0.005, 0.2, 1, 0.01, "supported"), (-0.3, -0.005, 1, 0.01, "undecided"),
    (-0.3, -0.02, 1, 0.01, "refuted"), (-0.005, 0.3, -1, 0.01, "undecided")])
def test_an_interval_on_one_side_decides(low, high, sign, margin, verdict):
    assert verdicts.decide({"low": low, "high": high}, sign, margin) == verdict


@pytest.mark.parametrize("given, verdict", [
    (["supported", "supported"], "supported"), (["supported", "undecided"], "undecided"),
    (["refuted", "supported"], "refuted"), (["refuted", "undecided"], "refuted"),
    (["supported", "not measured"], "not measured")])
def test_a_claim_about_several_things_needs_all_of_them(given, verdict):
    assert verdicts.join(given) == verdict == verdicts.join(given[::-1])


def pair(with_term, without):
    return verdicts.Pair("last", {"dsc_3d": np.array(with_term)}, {"dsc_3d": np.array(without)})


def test_seeds_that_differ_need_more_seeds():
    # the seeds of one row differ by 0.02 (std 0.01414), those of the other do not, nor do the scans
    found = verdicts.needed_for(0.01, pair([[0.5] * 6, [0.52] * 6], [[0.5] * 6] * 2), "dsc_3d")
    # Student's t(9) = 2.262: 2.262 x 0.01414 / sqrt(10) = 0.01012; t(10) = 2.228, sqrt(11): 0.0095
    assert found["seeds_needed"] == 11 and found["scans_needed"] is None
    assert found["words"] == "about 11 seeds of each could meet it"


def test_scans_that_differ_need_more_scans_whatever_the_seeds():
    rows = [[0.1, 0.3, 0.5, 0.7]] * 2, [[0.4] * 4] * 2  # the differences' std is 0.2582
    found = verdicts.needed_for(0.01, pair(*rows), "dsc_3d")
    # 1.96 x 0.2582 / sqrt(4) = 0.253; (1.96 x 0.2582 / 0.01)^2 = 2561.1
    assert found["seeds_needed"] is None and found["scans_needed"] == 2562
    assert "these 4 scans, which alone leave +-0.253: about 2562 scans" in found["words"]


def test_two_alike_scans_of_a_patient_need_twice_as_many():
    rows = [np.repeat([[0.1, 0.3, 0.5, 0.7]] * 2, 2, axis=1), np.full((2, 8), 0.4)]
    of_patients = pair(*rows)
    of_patients.without["patient"] = np.repeat(np.arange(4), 2)[None]
    # as above of 4 patients: 2 x 2561.1 scans
    found = verdicts.needed_for(0.01, of_patients, "dsc_3d")
    assert found["scans_needed"] == 5123 and "these 8 scans, which alone leave +-0.253" in \
        found["words"]


def test_one_seed_does_not_say_how_many_it_takes():
    found = verdicts.needed_for(0.01, pair([[0.5] * 6], [[0.5] * 6] * 2), "dsc_3d")
    assert found == {"seeds_needed": None, "scans_needed": None, "words": ""}


def test_one_scan_does_not_say_how_many_it_takes():
    found = verdicts.needed_for(0.01, pair([[0.5]] * 2, [[0.6]] * 2), "dsc_3d")
    assert found == {"seeds_needed": None, "scans_needed": None, "words": ""}


def test_predicting_nothing_scores_the_mean_of_the_classes_shares(tmp_path):
    """Of ten slices 4 are without class A and none without B: (0.4 + 0) / 2."""
    made = made_set(tmp_path, gdl=[0.5, 0.5])
    for part in made.finished("gdl"):
        part.scans += [{**row, "class_name": "B", "slices_empty": 0, "slices_clean": 0}
                       for row in part.scans]
    assert verdicts.share_of_empty_slices(made, None) == pytest.approx(0.2)
