"""C1, C2, C9 to C11: what decides them, on made-up runs; and the command line."""

import json

import pytest

from conftest import run, train
from distance import signed_distance
from made_runs import SCANS, made_run, made_set
from run_folders import write_data
from scoring.folds import pool
from studies import claims, identity
from utils import read_json, write_json

LOW, HIGH = [0.40, 0.41], [0.60, 0.61]  # of two seeds


def c1(folder, without=LOW, with_term=HIGH, **options):
    return claims.c1(made_set(folder, gdl=without, gdl_boundary=with_term, **options))


# C1, C2 -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("without, with_term, verdict, coloured", [
    (LOW, HIGH, "supported", True), (HIGH, LOW, "refuted", True), (LOW, LOW, "undecided", False),
    (LOW, [0.3, 0.9], "undecided", False)])  # two seeds that differ by so much show nothing
def test_c1_is_read_off_the_interval(tmp_path, without, with_term, verdict, coloured):
    result = c1(tmp_path, without, with_term)
    assert (result["verdict"], result["excludes_0"]) == (verdict, coloured)
    assert (result["scans"], result["seeds"]) == (6, 2)
    assert result["decided_by"] == ["dsc", "dsc_3d"]


def test_c1_is_decided_by_the_last_epochs_and_tells_the_best_one(tmp_path):
    late = [made_run("gdl+boundary", score, seed=seed, curve=[0.9] + [score] * 11)
            for seed, score in enumerate(LOW)]
    for made in late:  # as good as the curve says in the first epoch
        for row in made.scans[:6]:
            row["dsc"] = row["dsc_3d"] = 0.9
    result = c1(tmp_path, LOW, late)
    assert result["verdict"] == "undecided" and result["epochs"] == "last 3 epochs"
    assert result["differences"]["dsc"]["difference"] == pytest.approx(0)
    assert result["differences_best"]["dsc"]["difference"] == pytest.approx(0.9 - 0.405)
    assert "last 3 epochs: slice DSC +0.000" in result["statistic"]
    assert "best epoch: slice DSC +0.495" in result["statistic"]


def test_c1_of_an_earlier_version_without_scores_of_all_epochs_takes_the_best(tmp_path):
    runs = [made_run("gdl", score, seed=seed) for seed, score in enumerate(LOW)]
    for made in runs:
        made.scans = [row for row in made.scans if row["epoch"] == 0]  # the best epoch
    result = c1(tmp_path, runs)
    assert result["verdict"] == "supported" and result["epochs"] == "best epoch"
    assert "differences_best" in result and "last" not in result["statistic"]


@pytest.mark.parametrize("without, with_term, scans, words", [
    (LOW, HIGH, SCANS[:4], "needs at least 5 validation scans, found 4"),
    (LOW, HIGH[:1], SCANS, "needs at least 2 seeds of gdl and of gdl+boundary, found 2 and 1")])
def test_c1_is_not_measured_on_four_scans_or_with_one_seed(tmp_path, without, with_term, scans,
                                                           words):
    result = c1(tmp_path, without, with_term, scans=scans)
    assert result["verdict"] == "not measured" and result["statistic"].startswith(words)
    assert "slice DSC +0." in result["statistic"] and "[" not in result["statistic"]


def empty_runs(count, row="gdl+boundary", from_epoch=0):
    return [made_run(row, 0.6, seed=seed, empty_from=from_epoch)
            for seed in range(count)]


def test_c1_needs_five_patients_where_they_are_known(tmp_path):
    results = made_set(tmp_path, gdl=[0.4, 0.5], gdl_boundary=[0.6, 0.7])
    (tmp_path / "data" / "split.csv").write_text(
        "subject,subset,patient\n" + "".join(f"{name},val,{int(name in 'ab')}\n" for name in SCANS))
    result = claims.c1(results)
    assert result["verdict"] == "not measured"
    assert "needs at least 5 validation patients, found 2" in result["statistic"]


def test_a_mask_of_nothing_does_not_win_c1(tmp_path):
    low = [made_run("gdl", 0.3, seed=seed) for seed in range(2)]
    result = c1(tmp_path, low, empty_runs(2))
    assert result["differences"]["dsc"]["low"] > 0 > result["differences"]["dsc_3d"]["high"]
    assert result["verdict"] == "refuted"
    assert "slice DSC of gdl 0.300, gdl+boundary 0.400, of predicting nothing 0.400" \
        in result["statistic"]


def test_a_run_that_ends_empty_counts_in_the_mean_and_is_named(tmp_path):
    both = [made_run("gdl+boundary", 0.6), made_run("gdl+boundary", 0.6, seed=1, empty_from=6)]
    for measure in (claims.c1, claims.c2):
        result = measure(made_set(tmp_path, gdl=LOW, gdl_boundary=both))
        assert ("without any foreground at the best epoch or the last: gdl+boundary/seed1 "
                "(1 of 4 runs)") in result["statistic"]
    result = c1(tmp_path, LOW, both)
    assert result["differences"]["dsc_3d"]["difference"] == pytest.approx(0.3 - 0.405)
    assert result["differences_best"]["dsc_3d"]["difference"] == pytest.approx(0.6 - 0.405)


def test_c1_says_that_no_run_predicts_anything(tmp_path):
    empty = [made_run("gdl", 0.6, seed=seed, empty_from=0) for seed in range(2)]
    result = c1(tmp_path, empty, empty_runs(2))
    assert result["verdict"] == "not measured"
    assert "every run of gdl and of gdl+boundary predicts no" in result["statistic"]


def test_c1_names_missing_scores(tmp_path):
    runs = [made_run("gdl", 0.4, seed=seed) for seed in range(2)]
    for made in runs:
        made.scans = []
    result = c1(tmp_path, runs)
    assert result["verdict"] == "not measured" and "scores.csv" in result["statistic"]


def test_c2_is_supported_by_smaller_distances(tmp_path):
    result = claims.c2(made_set(tmp_path, gdl=LOW, gdl_boundary=HIGH))
    assert result["verdict"] == "supported" and result["differences"]["hd"]["high"] < 0
    assert claims.c2(made_set(tmp_path, gdl=HIGH, gdl_boundary=LOW))["verdict"] == "refuted"


def test_the_folds_of_a_seed_are_one_run_of_all_scans(tmp_path):
    def fold(loss, dsc, seed, number, **options):
        run = made_run(loss, dsc, seed=seed, scans=SCANS[3 * number:][:3], fold=number, folds=2,
                       **options)
        run.folder = run.folder.with_name(f"seed{seed}-fold{number}")
        return run

    def seeds(loss, scores, **options):
        return [pool([fold(loss, dsc, seed, 0), fold(loss, dsc, seed, 1, **options)],
                     ["background", "lesion"]) for seed, dsc in enumerate(scores)]

    pooled = {"gdl": seeds("gdl", LOW), "gdl_boundary": seeds("gdl+boundary", HIGH, empty_from=9)}
    results = made_set(tmp_path, **pooled)
    for measure in (claims.c1, claims.c2, claims.c3, claims.c10, claims.c11):
        result = measure(results)
        assert ("gdl+boundary/seed0-fold1, gdl+boundary/seed1-fold1 (2 of 8 runs)"
                in result["statistic"])
    result = claims.c1(results)
    assert (result["scans"], result["seeds"]) == (6, 2)
    # 0.6 and 0.61 on three scans, nothing on three
    assert result["differences"]["dsc_3d"]["difference"] == pytest.approx(0.605 / 2 - 0.405)


def test_claims_without_runs_say_what_to_run(tmp_path):
    for measure in (claims.c1, claims.c2, claims.c3, claims.c4, claims.c6, claims.c10, claims.c11):
        result = measure(made_set(tmp_path))
        assert result["verdict"] == "not measured" and result["statistic"].startswith("run: ")


# C10, C11 -----------------------------------------------------------------------------------------

def seeds(loss, changes, count=2):
    return [made_run(loss, 0.5, seed=seed, changes=changes) for seed in range(count)]


@pytest.mark.parametrize("without, with_term, verdict", [
    (0, 2, "supported"), (2, 0, "refuted"), (1, 1, "undecided")])
def test_c10_is_decided_by_the_recall_of_small_lesions(tmp_path, without, with_term, verdict):
    result = claims.c10(made_set(
        tmp_path, gdl=seeds("gdl", {"small_found": without}),
        gdl_boundary=seeds("gdl+boundary", {"small_found": with_term, "large_found": 0})))
    assert result["verdict"] == verdict
    assert result["differences"]["recall_small"]["difference"] == (with_term - without) / 2
    assert result["differences"]["recall_large"]["difference"] == -0.5
    assert "recall of lesions below 0.05 ml" in result["statistic"]


def test_c10_pools_the_lesions_of_all_scans(tmp_path):
    # one scan has 6 small lesions and the others 1: of 11, 6 are found, and none without the term
    found = seeds("gdl+boundary", lambda place: {"small_lesions": 6 if place == 0 else 1,
                                                 "small_found": 6 if place == 0 else 0})
    none = seeds("gdl", lambda place: {"small_lesions": 6 if place == 0 else 1, "small_found": 0})
    result = claims.c10(made_set(tmp_path, gdl=none, gdl_boundary=found))
    assert result["differences"]["recall_small"]["difference"] == pytest.approx(6 / 11)


def test_c10_needs_five_scans_with_small_lesions(tmp_path):
    def four(place):
        return {"small_lesions": 2 * (place < 4), "small_found": 0}

    result = claims.c10(made_set(tmp_path, gdl=seeds("gdl", four),
                                 gdl_boundary=seeds("gdl+boundary", four)))
    assert result["verdict"] == "not measured" and result["statistic"].startswith(
        "needs at least 5 validation scans with a value for recall of lesions below 0.05 ml, found "
        "4")


@pytest.mark.parametrize("count, distance, verdict", [
    (1, 20, "supported"), (3, 20, "refuted"),
    (1, 60, "refuted"),        # fewer, but those far away are left or new: 60 mm in all, not 40
    (2, 20, "undecided")])
def test_c11_counts_false_lesions_and_how_far_they_are(tmp_path, count, distance, verdict):
    changes = {"lesions_false": count, "false_distance": float(distance)}
    result = claims.c11(made_set(tmp_path, gdl=LOW, gdl_boundary=seeds("gdl+boundary", changes)))
    assert result["verdict"] == verdict
    assert "; false lesions of predicting nothing 0; " in result["statistic"]
    assert result["differences"]["lesions_false"]["difference"] == count - 2
    assert result["differences"]["false_mm"]["difference"] == count * distance - 40
    assert result["differences"]["false_distance"]["difference"] == distance - 20


def test_c11_without_a_false_lesion_has_no_distance_and_is_supported(tmp_path):
    changes = {"lesions_false": 0, "false_distance": None}
    result = claims.c11(made_set(tmp_path, gdl=LOW, gdl_boundary=seeds("gdl+boundary", changes)))
    assert result["verdict"] == "supported"
    assert result["differences"]["false_distance"]["difference"] is None
    json.dumps(result, allow_nan=False)


@pytest.mark.parametrize("gdl_is_empty, verdict", [(False, "undecided"), (True, "supported")])
def test_c11_is_not_won_by_runs_that_the_term_empties(tmp_path, gdl_is_empty, verdict):
    both = seeds("gdl+boundary", {"lesions_false": 0, "false_distance": None}, 3)
    gdl = seeds("gdl", {"lesions_false": 9}, 3)
    both[2].rows[-1]["val_foreground"] = 0
    if gdl_is_empty:
        gdl[0].rows[-1]["val_foreground"] = 0
    result = claims.c11(made_set(tmp_path, gdl=gdl, gdl_boundary=both))
    assert result["verdict"] == verdict and result["excludes_0"] == (verdict == "supported")


def test_c11_is_not_lost_to_runs_of_gdl_that_are_empty(tmp_path):
    gdl = seeds("gdl", {"lesions_false": 1, "false_distance": 20.0}, 3)
    gdl[2].rows[-1]["val_foreground"] = 0
    both = seeds("gdl+boundary", {"lesions_false": 9, "false_distance": 20.0}, 3)
    result = claims.c11(made_set(tmp_path, gdl=gdl, gdl_boundary=both))
    assert result["differences"]["lesions_false"]["low"] > 0
    assert (result["verdict"], result["excludes_0"]) == ("undecided", False)


@pytest.mark.parametrize("empty", ["gdl", "gdl+boundary"])
def test_who_predicts_nothing_has_no_false_positives_to_compare(tmp_path, empty):
    runs = {"gdl": LOW, "gdl_boundary": seeds("gdl+boundary", {})}
    runs[empty.replace("+", "_")] = empty_runs(2, empty)
    result = claims.c11(made_set(tmp_path, **runs))
    assert result["verdict"] == "not measured"
    assert f"every run of {empty} predicts no foreground" in result["statistic"]


# C9 -----------------------------------------------------------------------------------------------

def test_c9_finds_every_shape_at_about_first_order():
    result = claims.c9()
    assert result["verdict"] == "supported" and len(result["curves"]) == 6
    assert all(0.7 < curve["order"] < 1.5 for curve in result["curves"].values())
    assert all(curve["errors"][-1] < curve["errors"][0] / 4 for curve in result["curves"].values())


def test_c9_is_refuted_by_a_map_that_is_off(monkeypatch):
    monkeypatch.setattr(identity, "signed_distance",
                        lambda mask, spacing: signed_distance(mask, spacing) + 0.01)
    assert claims.c9()["verdict"] == "refuted"


# The command --------------------------------------------------------------------------------------

def written_claims(folder):
    result = run("studies.claims", "--runs", folder)
    assert result.returncode == 0, result.stderr
    return read_json(folder / "claims.json"), result.stdout


def test_the_command_writes_a_verdict_for_each_claim_but_none_on_a_phantom(data, tmp_path):
    folder = tmp_path / "results" / "set"
    for loss in ("gdl", "gdl+boundary", "boundary"):
        result = train(data, folder / loss / "seed0", loss=loss)
        assert result.returncode == 0, result.stderr

    about = read_json(data / "dataset.json")
    write_json(data / "dataset.json", {**about, "source": "own"})
    written, _ = written_claims(folder)
    assert list(written["claims"]) == [f"C{number}" for number in range(1, 12)]
    assert written["runs"] == {"boundary/seed0": 2, "gdl/seed0": 2, "gdl+boundary/seed0": 2}
    verdicts = {name: entry["verdict"] for name, entry in written["claims"].items()}
    assert verdicts.pop("C5") in ("supported", "refuted", "undecided")
    assert verdicts.pop("C9") == "supported"
    assert set(verdicts.values()) == {"not measured"}  # one seed, two scans, two epochs

    write_json(data / "dataset.json", {**about, "source": "phantom"})
    written, printed = written_claims(folder)
    assert not any("verdict" in entry for entry in written["claims"].values())
    assert "slice DSC of gdl 0." in written["claims"]["C1"]["statistic"]
    assert written["claims"]["C9"]["curves"]
    assert "no claim is judged on a phantom" in printed and "supported" not in printed


def test_damage_in_the_set_itself_is_one_line(tmp_path):
    write_data(tmp_path / "data" / "wmh")
    result = run("studies.claims", "--runs", tmp_path / "results")
    assert result.returncode == 2 and "error:" in result.stderr
