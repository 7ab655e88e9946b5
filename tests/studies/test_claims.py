"""The claims: their statistics by hand, their verdicts on made-up runs, and the command line."""

import json
from pathlib import Path

import numpy as np
import pytest

from conftest import run, train
from distance import signed_distance
from run_folders import write_data, write_run, write_set
from scans.folder import Dataset
from scoring.run_files import Config, Summary
from scoring.runs import ResultSet, Run, load_set
from studies import claims, identity, smoothness, verdicts
from utils import UserError


def made_run(loss="gdl", scores=(), foreground=0.1, schedule="rebalance", finished=True,
             **settings):
    rows = [{"epoch": epoch, "val_dice": score, "val_foreground": foreground}
            for epoch, score in enumerate(scores)]
    config = {"loss": loss, "epochs": len(rows), "schedule": schedule, **settings}
    return Run(Path(loss), Config.model_construct(**config), rows,
               Summary(finished=True, epochs=len(rows)) if finished else Summary())


def made_set(**losses):
    """A ResultSet of these runs; "gdl_boundary" stands for the row gdl+boundary."""
    runs = {name.replace("_", "+"): runs for name, runs in losses.items()}
    runs = runs or {"gdl": [made_run(scores=[0.1], finished=False)]}
    dataset = Dataset.model_construct(source="own", layout="wmh")
    return ResultSet(Path("results/x"), Path("data/x"), dataset, None, runs, "x")


def scores(dsc, scans=6, slices=10, seeds=1):
    """row_scores of `scans` scans with this slice-mean DSC in each, or with these."""
    dsc = np.broadcast_to(np.asarray(dsc, float), (seeds, scans))
    return {"slices": np.full((seeds, scans), slices), "dsc": dsc * slices, "dsc_3d": dsc}


# C1, C2 -------------------------------------------------------------------------------------------

def compared(monkeypatch, with_term, without, **losses):
    found = {"gdl": without, "gdl+boundary": with_term}
    monkeypatch.setattr(verdicts, "row_scores", lambda results, row: found[row])
    runs = {"gdl": [made_run(scores=[0.4])], "gdl_boundary": [made_run(scores=[0.5])]}
    return claims.c1(made_set(**{**runs, **losses}))


def test_c1_compares_over_scans(monkeypatch):
    result = compared(monkeypatch, scores([0.45, 0.44, 0.46, 0.45, 0.43, 0.42]), scores(0.4))
    assert result["verdict"] == "supported" and result["scans"] == 6
    assert result["differences"]["dsc"]["difference"] == pytest.approx(0.25 / 6)
    assert "so over scans only" in result["statistic"]


def test_c1_is_not_supported_by_an_interval_that_includes_0(monkeypatch):
    result = compared(monkeypatch, scores([0.5, 0.3] * 3), scores(0.4))
    assert result["verdict"] == "not supported"


def test_c1_is_not_measured_on_four_scans(monkeypatch):
    result = compared(monkeypatch, scores(0.5, scans=4), scores(0.4, scans=4))
    assert result["verdict"] == "not measured" and "found 4" in result["statistic"]


def test_c1_is_not_supported_where_one_run_collapsed(monkeypatch):
    runs = [made_run("gdl+boundary", [0.9]), made_run("gdl+boundary", [0.6], foreground=0)]
    result = compared(monkeypatch, scores(0.9), scores(0.4), gdl_boundary=runs)
    assert result["verdict"] == "not supported"
    assert "1 run of gdl+boundary collapsed" in result["statistic"]


def test_c1_is_not_supported_where_every_run_collapsed(monkeypatch):
    runs = [made_run("gdl+boundary", [0.6], foreground=0)]
    result = compared(monkeypatch, None, scores(0.4), gdl_boundary=runs)
    assert result["verdict"] == "not supported"
    assert "every run of gdl+boundary (1 of 1) collapsed" in result["statistic"]


def test_c1_says_that_no_run_predicts_anything(monkeypatch):
    runs = {name: [made_run(name.replace("_", "+"), [0.6], foreground=0)]
            for name in ("gdl", "gdl_boundary")}
    result = compared(monkeypatch, None, None, **runs)
    assert result["verdict"] == "not measured"
    assert "every run of gdl and of gdl+boundary predicts no" in result["statistic"]


def test_c1_names_missing_predictions(monkeypatch):
    result = compared(monkeypatch, None, scores(0.4))
    assert result["verdict"] == "not measured" and "predictions.npz" in result["statistic"]


# C3, C4 -------------------------------------------------------------------------------------------

def wave(height, epochs=24):
    return [0.5 + height * (-1) ** epoch for epoch in range(epochs)]


def smoothness_claim(regional, both, **options):
    return claims.c3(made_set(gdl=[made_run(scores=curve) for curve in regional],
                              gdl_boundary=[made_run(scores=curve, **options) for curve in both]))


def test_changes_are_those_of_the_last_epochs():
    run = made_run(scores=[0.9, 0.1, 0.3, 0.1, 0.3])
    np.testing.assert_allclose(smoothness.dice_changes(run, 4), [0.2, -0.2, 0.2])


@pytest.mark.parametrize("regional, both, verdict", [
    (0.2, 0.02, "supported"), (0.02, 0.2, "not supported"), (0.1, 0.1, "not supported")])
def test_c3_compares_the_jitter_of_the_curves(regional, both, verdict):
    result = smoothness_claim([wave(regional)] * 2, [wave(both)] * 2)
    assert result["verdict"] == verdict and result["window"] == 12
    assert result["ratio"] == pytest.approx(both / regional)
    assert result["low"] <= result["ratio"] <= result["high"]


def test_c3_is_not_supported_where_seeds_disagree():
    result = smoothness_claim([wave(0.1), wave(0.12)], [wave(0.02), wave(0.3)])
    assert result["verdict"] == "not supported"


def test_c3_of_one_seed_is_not_measured():
    assert smoothness_claim([wave(0.2)], [wave(0.02)])["verdict"] == "not measured"


def test_a_flat_line_of_a_collapsed_run_is_not_smooth():
    result = smoothness_claim([wave(0.2)] * 2, [[0.6] * 24] * 2, foreground=0)
    assert result["verdict"] == "not measured"


@pytest.mark.parametrize("foreground, verdict", [
    ([0, 0], "supported"), ([0, 0.2], "not supported"), ([0, None], "not measured")])
def test_c4_needs_every_run_to_collapse(foreground, verdict):
    runs = [made_run("boundary", [0.5], value) for value in foreground]
    assert claims.c4(made_set(boundary=runs))["verdict"] == verdict


def test_claims_without_runs_say_what_to_run():
    for measure in (claims.c1, claims.c2, claims.c3, claims.c4, claims.c6, claims.c7):
        result = measure(made_set())
        assert result["verdict"] == "not measured" and result["statistic"].startswith("run: ")


def test_unfinished_runs_do_not_count():
    runs = [made_run("boundary", [0.5], 0, finished=False)]
    assert claims.c4(made_set(boundary=runs))["verdict"] == "not measured"


# C9 -----------------------------------------------------------------------------------------------

def test_c9_finds_every_shape_at_about_first_order():
    result = claims.c9()
    assert result["verdict"] == "supported" and len(result["curves"]) == 6
    assert all(0.7 < curve["order"] < 1.5 for curve in result["curves"].values())
    assert all(curve["errors"][-1] < curve["errors"][0] / 4 for curve in result["curves"].values())


def test_c9_is_not_supported_by_a_map_that_is_off(monkeypatch):
    monkeypatch.setattr(identity, "signed_distance",
                        lambda mask, spacing: signed_distance(mask, spacing) + 0.01)
    assert claims.c9()["verdict"] == "not supported"


# C6, C7 -------------------------------------------------------------------------------------------

def sweep_set(moving, constants, **settings):
    """Runs of the schedule and of constant alphas with these DSC."""
    rows = {"gdl_boundary": [made_run("gdl+boundary", [moving])]}
    for alpha, score in constants.items():
        run = made_run("gdl+boundary", [score], schedule=f"constant:{alpha}", **settings)
        rows[f"gdl_boundary-alpha{alpha}"] = [run]
    return made_set(**rows)


def best_scores(results, row):
    """row_scores with the best DSC of the row's first run in every scan; None if it collapsed."""
    found = results.losses[row][0]
    return None if found.collapsed else scores(found.best["val_dice"])


@pytest.mark.parametrize("moving, verdict", [
    (0.80, "supported"), (0.745, "supported"), (0.70, "not supported")])
def test_c6_compares_the_schedule_with_the_best_constant(monkeypatch, moving, verdict):
    monkeypatch.setattr(claims, "row_scores", best_scores)
    result = claims.c6(sweep_set(moving, {0.5: 0.75, 0.9: 0.6}))
    assert result["verdict"] == verdict and "they spread by 0.150" in result["statistic"]
    assert result["against_best"]["difference"] == pytest.approx(moving - 0.75)


def test_c6_does_not_take_a_collapsed_row_for_the_best_constant(monkeypatch):
    monkeypatch.setattr(claims, "row_scores", best_scores)
    results = sweep_set(0.7, {0.1: 0.9, 0.5: 0.65, 0.9: 0.6})
    for row in results.losses["gdl+boundary-alpha0.1"][0].rows:
        row["val_foreground"] = 0

    result = claims.c6(results)
    assert result["verdict"] == "supported"
    assert "1 run of gdl+boundary-alpha0.1 collapsed" in result["statistic"]


@pytest.mark.parametrize("change", [{"gdl_max_weight": 1}, {"loss_options": {"batch": 1.0}}])
def test_c6_leaves_runs_with_another_gdl_out(change):
    results = sweep_set(0.7, {0.5: 0.7, 0.9: 0.9}, **change)
    assert claims.c6(results)["verdict"] == "not measured"


def test_c7_of_3d_runs_does_not_ask_for_a_network_that_does_not_exist():
    result = claims.c7(made_set(gdl=[made_run("gdl", [0.5], patch=[8, 16, 16])]))
    assert result["verdict"] == "not measured" and "only one 3-D network" in result["statistic"]


def network_set(root, name, network, fingerprint="f" * 64):
    data = root / "data" / "wmh"
    for loss in ("gdl", "gdl+boundary"):
        write_run(root / "results" / name / loss / "seed0", data, loss, 0, [0.5] * 8,
                  network=network, data_fingerprint=fingerprint)


def test_c7_takes_neighbouring_runs_of_another_network_on_the_same_data(tmp_path, monkeypatch):
    monkeypatch.setattr(verdicts, "FEWEST_SCANS", 2)
    results = load_set(write_set(tmp_path, losses={"gdl": [[0.6] * 8]}))
    network_set(tmp_path, "wmh-mm", "enet", "0" * 64)  # other data
    network_set(tmp_path, "wmh-same", "unet")          # no other network
    assert claims.c7(results)["verdict"] == "not measured"

    network_set(tmp_path, "wmh-unet2018", "unet2018")
    result = claims.c7(results)
    assert result["verdict"] == "supported"
    assert result["statistic"].startswith("unet2018 of width 8: dsc +")


def test_c7_passes_over_a_neighbour_that_cannot_be_read(tmp_path, capsys):
    results = load_set(write_set(tmp_path, losses={"gdl": [[0.6] * 8]}))
    network_set(tmp_path, "wmh-broken", "enet")
    (tmp_path / "results" / "wmh-broken" / "gdl" / "seed0" / "metrics.csv").write_text("epoch\n")
    assert claims.c7(results)["verdict"] == "not measured"
    assert "wmh-broken" in capsys.readouterr().out


def test_c7_refuses_runs_of_the_same_network(tmp_path):
    results = load_set(write_set(tmp_path, losses={"gdl": [[0.6] * 8]}))
    with pytest.raises(UserError, match="another network than unet"):
        claims.c7(results, results.folder)


# The command --------------------------------------------------------------------------------------

def test_the_command_writes_a_verdict_for_each_claim(data, tmp_path):
    for loss in ("gdl", "gdl+boundary", "boundary"):
        result = train(data, tmp_path / "results" / "set" / loss / "seed0", loss=loss)
        assert result.returncode == 0, result.stderr

    result = run("studies.claims", "--runs", tmp_path / "results" / "set")
    assert result.returncode == 0, result.stderr
    written = json.loads((tmp_path / "results" / "set" / "claims.json").read_text())
    found = written["claims"]
    assert list(found) == [f"C{number}" for number in range(1, 10)]
    assert written["runs"] == {"boundary/seed0": 2, "gdl/seed0": 2, "gdl+boundary/seed0": 2}

    assert found["C4"]["verdict"] in ("supported", "not supported")
    for name in ("C1", "C2"):  # two validation scans carry no interval
        assert found[name]["verdict"] == "not measured"
    assert {found[name]["verdict"] for name in ("C3", "C6", "C7")} == {"not measured"}
    assert found["C9"]["verdict"] == "supported" and found["C8"]["dsc"] >= 0


def test_damage_in_the_set_itself_is_one_line(tmp_path):
    write_data(tmp_path / "data" / "wmh")
    result = run("studies.claims", "--runs", tmp_path / "results")
    assert result.returncode == 2 and "error:" in result.stderr
