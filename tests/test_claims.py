"""The claims: their statistics by hand, their verdicts on runs made to fit, and the command line."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import claims
from conftest import run
from runs import Run


def made_run(loss="gdl", scores=(), foreground=0.1, schedule="rebalance", finished=True):
    rows = [{"epoch": epoch, "val_dice": score, "val_foreground": foreground} for epoch, score in enumerate(scores)]
    config = {"loss": loss, "epochs": len(rows), "schedule": schedule}
    return Run(Path(loss), config, rows, {"finished": True, "epochs": len(rows)} if finished else {})


def made_set(**losses):
    return SimpleNamespace(losses={name.replace("_", "+"): runs for name, runs in losses.items()}, folder=Path("results/x"))


def test_equal_differences_have_an_interval_of_no_width():
    assert claims.paired_interval([0.25, 0.25, 0.25]) == (0.25, 0.25, 0.25)


def test_a_mean_over_slices_divides_the_sums_by_the_slices():
    mean, low, high = claims.paired_interval([2.0, 0.0], weights=[4, 6])  # one scan gains 2 over 4 slices
    assert mean == 0.2 and (low, high) == (0.0, 0.5)


def test_an_interval_covers_the_spread_of_the_scans():
    values = np.random.default_rng(1).normal(0.1, 0.2, 400)
    mean, low, high = claims.paired_interval(values)
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.1) and low < mean < high


def test_scores_of_a_scan_sum_over_slices_and_measure_in_mm():
    truth, mask = np.zeros((2, 8, 8), bool), np.zeros((2, 8, 8), bool)
    truth[0, 2, 2:4] = mask[0, 2, 3:5] = True      # one of two pixels overlaps: DSC 0.5; the other slice is empty: 1
    score = claims.score_scan(mask, truth, (1.0, 2.0, 3.0))
    assert score["dsc"] == pytest.approx(1.5) and score["dsc_3d"] == pytest.approx(0.5)
    assert score["hd"] == 2.0 and score["slices"] == 2  # one column off, 2 mm


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
    for result in (claims.c3(made_set(gdl=[])), claims.c4(made_set()), claims.c6(made_set()), claims.c7(None)):
        assert result["verdict"] == "not measured" and result["statistic"].startswith("run: ")


def test_unfinished_runs_do_not_count():
    assert claims.c4(made_set(boundary=[made_run("boundary", [0.5], 0, finished=False)]))["verdict"] == "not measured"


@pytest.mark.parametrize("moving, verdict", [(0.80, "supported"), (0.745, "supported"), (0.70, "not supported")])
def test_c6_compares_the_schedule_with_the_best_constant(moving, verdict):
    runs = [made_run("gdl+boundary", [score], schedule=schedule) for score, schedule in
            ((moving, "rebalance"), (0.75, "constant:0.5"), (0.6, "constant:0.9"))]
    result = claims.c6(made_set(a=runs[:1], b=runs[1:2], c=runs[2:]))
    assert result["verdict"] == verdict and "spread of the constants 0.150" in result["statistic"]


def test_c9_finds_the_closed_form_at_about_first_order():
    result = claims.c9()
    assert result["verdict"] == "supported" and 0.8 < result["order"] < 1.5 and result["errors"][-1] < result["errors"][0] / 4


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
    scores = {"gdl": np.full(6, 4.0), "gdl+boundary": np.array([4.5, 4.4, 4.6, 4.5, 4.3, 4.2])}  # sums over ten slices
    monkeypatch.setattr(claims, "scan_scores", lambda one, loss: {
        "slices": np.full(6, 10), "dsc": scores[loss], "dsc_3d": scores[loss] / 10})
    result = claims.c1(made_set(gdl=[made_run()], gdl_boundary=[made_run()]))
    assert result["verdict"] == "supported" and result["scans"] == 6
    assert result["differences"]["dsc"]["difference"] == pytest.approx(2.5 / 60)
