"""The claims: their statistics by hand, their verdicts on runs made to fit, and the command line."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import claims
from conftest import run
from distance import signed_distance
from runs import Run


def made_run(loss="gdl", scores=(), foreground=0.1, schedule="rebalance", finished=True):
    rows = [{"epoch": epoch, "val_dice": score, "val_foreground": foreground} for epoch, score in enumerate(scores)]
    config = {"loss": loss, "epochs": len(rows), "schedule": schedule}
    return Run(Path(loss), config, rows, {"finished": True, "epochs": len(rows)} if finished else {})


def made_set(**losses):
    return SimpleNamespace(losses={name.replace("_", "+"): runs for name, runs in losses.items()}, folder=Path("results/x"),
                           window=1)


def test_jitter_is_the_deviation_of_first_differences():
    assert claims.jitter(made_run(scores=[0.9, 0.1, 0.3, 0.1, 0.3]), 4) == pytest.approx(np.std([0.2, -0.2, 0.2]))
    assert claims.jitter(made_run(scores=[0.1, 0.2, 0.3]), 3) == pytest.approx(0)


@pytest.mark.parametrize("smooth, verdict", [([0.5] * 8, "supported"), ([0.5, 0.1] * 4, "not supported")])
def test_a_smoother_curve_in_every_seed_supports_c3(smooth, verdict):
    shaky = [0.5, 0.4] * 4
    result = claims.c3(made_set(gdl=[made_run(scores=shaky)] * 2, gdl_boundary=[made_run(scores=smooth)] * 2))
    assert result["verdict"] == verdict and result["window"] == 4


@pytest.mark.parametrize("foreground, verdict", [([0, 0], "supported"), ([0, 0.2], "not supported")])
def test_c4_needs_every_run_to_collapse(foreground, verdict):
    runs = [made_run("boundary", [0.5], value) for value in foreground]
    assert claims.c4(made_set(boundary=runs))["verdict"] == verdict


def test_claims_without_runs_say_what_to_run():
    for result in (claims.c3(made_set(gdl=[])), claims.c4(made_set()), claims.c6(made_set()), claims.c7(made_set())):
        assert result["verdict"] == "not measured" and result["statistic"].startswith("run: ")


def test_unfinished_runs_do_not_count():
    assert claims.c4(made_set(boundary=[made_run("boundary", [0.5], 0, finished=False)]))["verdict"] == "not measured"


@pytest.mark.parametrize("moving, verdict", [(0.80, "supported"), (0.745, "supported"), (0.70, "not supported")])
def test_c6_compares_the_schedule_with_the_best_constant(monkeypatch, moving, verdict):
    monkeypatch.setattr(claims, "scan_scores", lambda one, row: {
        "slices": np.full((1, 4), 10), "dsc": np.full((1, 4), 10 * one.losses[row][0].best["val_dice"])})
    runs = [made_run("gdl+boundary", [score], schedule=schedule) for score, schedule in
            ((moving, "rebalance"), (0.75, "constant:0.5"), (0.6, "constant:0.9"))]
    result = claims.c6(made_set(a=runs[:1], b=runs[1:2], c=runs[2:]))
    assert result["verdict"] == verdict and "spread of the constants 0.150" in result["statistic"]
    assert result["against_best"]["difference"] == pytest.approx(moving - 0.75)


def test_c6_leaves_runs_with_a_capped_weight_out(monkeypatch):
    runs = [made_run("gdl+boundary", [score], schedule=schedule) for score, schedule in
            ((0.7, "rebalance"), (0.7, "constant:0.5"), (0.99, "constant:0.9"))]
    runs[2].config["gdl_max_weight"] = 1
    assert claims.c6(made_set(a=runs[:1], b=runs[1:2], c=runs[2:]))["verdict"] == "not measured"


def test_c7_finds_the_runs_of_another_network_on_the_same_data_beside_this_set(tmp_path):
    own = made_set(gdl=[made_run()])
    own.folder, own.runs = tmp_path / "lgg", own.losses["gdl"]
    own.runs[0].config.update(network="unet", data_fingerprint="f1")
    made = {"lgg-unet2018": ("unet2018", "f1"), "lgg-mm": ("unet", "f2"), "lgg-other": ("unet2018", "f2")}
    for name, (network, fingerprint) in made.items():
        (tmp_path / name / "gdl" / "seed0").mkdir(parents=True)
        (tmp_path / name / "gdl" / "seed0" / "config.json").write_text(
            json.dumps({"network": network, "data_fingerprint": fingerprint}))
    assert [name for name in made if claims.is_other_network(own, tmp_path / name)] == ["lgg-unet2018"]


def test_c9_finds_every_shape_at_about_first_order():
    result = claims.c9()
    assert result["verdict"] == "supported" and len(result["curves"]) == 6
    assert all(0.7 < curve["order"] < 1.5 for curve in result["curves"].values())
    assert all(curve["errors"][-1] < curve["errors"][0] / 4 for curve in result["curves"].values())


def test_c9_is_not_supported_by_a_map_that_is_off_by_a_pixel(monkeypatch):
    import identity
    monkeypatch.setattr(identity, "signed_distance", lambda mask, spacing: signed_distance(mask, spacing) + 0.01)
    assert claims.c9()["verdict"] == "not supported"


def test_c5_measures_steps_with_and_without_the_term():
    result = claims.c5(width=2, size=32, device=torch.device("cpu"), repeats=5)
    assert result["low"] <= result["share"] <= result["high"] and result["step_seconds"] > 0


def test_the_command_writes_a_verdict_for_each_claim(data, tmp_path):
    for loss in ("gdl", "gdl+boundary", "boundary"):
        out = tmp_path / "results" / "set" / loss / "seed0"
        result = run("main.py", "--data", data, "--out", out, "--loss", loss, "--width", 2, "--epochs", 6, "--quiet",
                     "--threads", 1)
        assert result.returncode == 0, result.stderr
    result = run("claims.py", "--runs", tmp_path / "results" / "set")
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "results" / "set" / "claims.json").read_text())["claims"]
    assert list(found) == [f"C{number}" for number in range(1, 10)]
    assert {found[name]["verdict"] for name in ("C3", "C4")} <= {"supported", "not supported"}
    assert found["C1"]["verdict"] == found["C2"]["verdict"] == "not measured"  # two validation scans carry no interval
    assert "here are 2" in found["C1"]["statistic"]
    assert found["C6"]["verdict"] == found["C7"]["verdict"] == "not measured"
    assert found["C8"]["verdict"] == "supported" and found["C9"]["verdict"] == "supported"


def test_c1_compares_over_scans_once_there_are_enough(monkeypatch):
    scores = {"gdl": np.full((1, 6), 4.0), "gdl+boundary": np.array([[4.5, 4.4, 4.6, 4.5, 4.3, 4.2]])}  # sums over ten slices
    monkeypatch.setattr(claims, "scan_scores", lambda one, loss: {
        "slices": np.full((1, 6), 10), "dsc": scores[loss], "dsc_3d": scores[loss] / 10})
    result = claims.c1(made_set(gdl=[made_run()], gdl_boundary=[made_run()]))
    assert result["verdict"] == "supported" and result["scans"] == 6
    assert result["differences"]["dsc"]["difference"] == pytest.approx(2.5 / 60)
