"""The claims: their statistics by hand, their verdicts on runs made to fit, and the command line."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import run
from distance import signed_distance
from run_folders import write_data, write_run, write_set
from scans.folder import Dataset
from scoring.cases import validation_cases
from scoring.run_files import Config, Summary
from scoring.runs import ResultSet, Run, load_set
from studies import claims, step_time, volume
from utils import write_csv

CPU = torch.device("cpu")


def made_run(loss="gdl", scores=(), foreground=0.1, schedule="rebalance", finished=True, **settings):
    rows = [{"epoch": epoch, "val_dice": score, "val_foreground": foreground} for epoch, score in enumerate(scores)]
    config = {"loss": loss, "epochs": len(rows), "schedule": schedule, **settings}
    return Run(Path(loss), Config.model_construct(**config), rows,
               Summary(finished=True, epochs=len(rows)) if finished else Summary())


def made_set(**losses):
    runs = {name.replace("_", "+"): runs for name, runs in losses.items()} or {"gdl": [made_run(scores=[0.1], finished=False)]}
    dataset = Dataset.model_construct(source="own", layout="wmh")
    return ResultSet(Path("results/x"), Path("data/x"), dataset, None, runs, "x")


def scores(dsc, scans=6, slices=10, seeds=1):
    """row_scores of `scans` scans with this slice-mean DSC in each, or these."""
    dsc = np.broadcast_to(np.asarray(dsc, float), (seeds, scans))
    return {"slices": np.full((seeds, scans), slices), "dsc": dsc * slices, "dsc_3d": dsc}


# C1, C2 ---------------------------------------------------------------------------------------------------------------

def compared(monkeypatch, with_term, without, **losses):
    monkeypatch.setattr(claims, "row_scores", lambda one, row: {"gdl": without, "gdl+boundary": with_term}[row])
    return claims.c1(made_set(**{"gdl": [made_run(scores=[0.4])], "gdl_boundary": [made_run(scores=[0.5])], **losses}))


def test_c1_compares_over_scans(monkeypatch):
    result = compared(monkeypatch, scores([0.45, 0.44, 0.46, 0.45, 0.43, 0.42]), scores(0.4))
    assert result["verdict"] == "supported" and result["scans"] == 6
    assert result["differences"]["dsc"]["difference"] == pytest.approx(0.25 / 6)
    assert "so over scans only" in result["statistic"]


def test_c1_is_not_supported_by_an_interval_that_includes_no_difference(monkeypatch):
    assert compared(monkeypatch, scores([0.5, 0.3] * 3), scores(0.4))["verdict"] == "not supported"


def test_c1_is_not_measured_on_four_scans(monkeypatch):
    result = compared(monkeypatch, scores(0.5, scans=4), scores(0.4, scans=4))
    assert result["verdict"] == "not measured" and "here are 4" in result["statistic"]


def test_c1_is_not_supported_where_a_run_of_the_joint_loss_collapsed(monkeypatch):
    runs = [made_run("gdl+boundary", [0.9]), made_run("gdl+boundary", [0.6], foreground=0)]
    result = compared(monkeypatch, scores(0.9), scores(0.4), gdl_boundary=runs)
    assert result["verdict"] == "not supported" and "1 runs of gdl+boundary collapsed" in result["statistic"]


def test_c1_is_not_supported_where_every_run_of_the_joint_loss_collapsed(monkeypatch):
    result = compared(monkeypatch, None, scores(0.4), gdl_boundary=[made_run("gdl+boundary", [0.6], foreground=0)])
    assert result["verdict"] == "not supported" and "every one of 1 runs" in result["statistic"]


def test_c1_says_that_no_run_predicts_anything(monkeypatch):
    runs = {name: [made_run(name.replace("_", "+"), [0.6], foreground=0)] for name in ("gdl", "gdl_boundary")}
    result = compared(monkeypatch, None, None, **runs)
    assert result["verdict"] == "not measured" and "every run of gdl and of gdl+boundary predicts no" in result["statistic"]


def test_c1_names_missing_predictions(monkeypatch):
    result = compared(monkeypatch, None, scores(0.4))
    assert result["verdict"] == "not measured" and "predictions.npz" in result["statistic"]


# C3, C4 ---------------------------------------------------------------------------------------------------------------

def wave(height, epochs=24):
    return [0.5 + height * (-1) ** epoch for epoch in range(epochs)]


def smoothness(regional, both, **options):
    return claims.c3(made_set(gdl=[made_run(scores=one) for one in regional],
                              gdl_boundary=[made_run(scores=one, **options) for one in both]))


def test_changes_are_those_of_the_last_epochs():
    np.testing.assert_allclose(claims.changes(made_run(scores=[0.9, 0.1, 0.3, 0.1, 0.3]), 4), [0.2, -0.2, 0.2])


@pytest.mark.parametrize("regional, both, verdict", [(0.2, 0.02, "supported"), (0.02, 0.2, "not supported"),
                                                     (0.1, 0.1, "not supported")])
def test_c3_compares_the_jitter_of_the_curves(regional, both, verdict):
    result = smoothness([wave(regional)] * 2, [wave(both)] * 2)
    assert result["verdict"] == verdict and result["window"] == 12
    assert result["ratio"] == pytest.approx(both / regional) and result["low"] <= result["ratio"] <= result["high"]


def test_c3_is_not_supported_where_seeds_disagree():
    assert smoothness([wave(0.1), wave(0.12)], [wave(0.02), wave(0.3)])["verdict"] == "not supported"


def test_c3_of_one_seed_is_not_measured():
    assert smoothness([wave(0.2)], [wave(0.02)])["verdict"] == "not measured"


def test_a_flat_line_of_a_collapsed_run_is_not_smooth():
    assert smoothness([wave(0.2)] * 2, [[0.6] * 24] * 2, foreground=0)["verdict"] == "not measured"


@pytest.mark.parametrize("foreground, verdict", [([0, 0], "supported"), ([0, 0.2], "not supported"),
                                                 ([0, None], "not measured")])
def test_c4_needs_every_run_to_collapse(foreground, verdict):
    runs = [made_run("boundary", [0.5], value) for value in foreground]
    assert claims.c4(made_set(boundary=runs))["verdict"] == verdict


def test_claims_without_runs_say_what_to_run():
    for measure in (claims.c1, claims.c2, claims.c3, claims.c4, claims.c6, claims.c7):
        result = measure(made_set())
        assert result["verdict"] == "not measured" and result["statistic"].startswith("run: ")


def test_unfinished_runs_do_not_count():
    assert claims.c4(made_set(boundary=[made_run("boundary", [0.5], 0, finished=False)]))["verdict"] == "not measured"


# C5, C8, C9 -----------------------------------------------------------------------------------------------------------

CONFIG = Config.model_construct(network="unet", width=2, size=32, batch_size=2)


def test_c5_measures_steps_with_and_without_the_term():
    result = claims.c5(CONFIG, 1, 2, CPU, repeats=5)
    assert result["low"] <= result["share"] <= result["high"]
    assert result["step_seconds"] > 0 and result["step_seconds_with"] > 0
    assert "unet, width 2, 32x32, batch 2" in result["statistic"]


def test_c5_of_a_run_in_3d_is_measured_on_its_patch():
    result = claims.c5(CONFIG.model_copy(update={"network": "unet3d", "patch": [8, 16, 24]}), 1, 2, CPU, repeats=5)
    assert "unet3d, width 2, 8x16x24, batch 2" in result["statistic"] and result["step_seconds"] > 0


def test_c5_of_several_classes_is_measured_with_theirs(monkeypatch):
    seen = []
    monkeypatch.setattr(step_time, "build_loss", lambda name, *args, **options: seen.append((name, args, options)) or (
        lambda probs, target, phi, weights: seen.append((probs.shape[1], target.shape[1], phi.shape[1])) or (probs.mean(), {})))
    result = claims.c5(CONFIG.model_copy(update={"boundary_classes": [1, 3]}), 1, 4, CPU, repeats=5)
    assert seen[:2] == [("gdl", (4,), {"boundary_classes": None}), ("gdl+boundary", (4,), {"boundary_classes": [1, 3]})]
    assert set(seen[2:]) == {(4, 4, 3)} and ", cpu, 4 classes)" in result["statistic"]


def test_c5_is_not_decided_by_steps_that_scatter(monkeypatch):
    losses = np.tile([0.01, 0.014], (20, 1))
    for steps, verdict in (([1, 1, 1, 1, 1], "supported"), ([0.1, 0.1, 1, 1, 1], "not measured")):
        times = np.array([steps, steps]).T, losses
        monkeypatch.setattr(step_time, "step_and_loss_times", lambda *_, times=times: times)
        assert claims.c5(CONFIG, 1, 2, CPU, repeats=20)["verdict"] == verdict


@pytest.mark.parametrize("extra, verdict", [(0.001, "supported"), (0.1, "not supported")])
def test_c5_is_decided_by_the_terms_share_of_a_step(monkeypatch, extra, verdict):
    steps, losses = np.ones((5, 2)), np.tile([0.01, 0.01 + extra], (20, 1))
    monkeypatch.setattr(step_time, "step_and_loss_times", lambda *_: (steps, losses))
    result = claims.c5(CONFIG, 1, 2, CPU, repeats=20)
    assert result["verdict"] == verdict and result["share"] == pytest.approx(extra)


def bright_ball(noise=0.02):
    """A volume whose ball of radius 5 is brighter: (image (1, 1, 12, 24, 24), truth, phi in mm)."""
    z, y, x = np.ogrid[-6:6, -12:12, -12:12]
    truth = z ** 2 + y ** 2 + x ** 2 < 25
    image = 0.3 + 0.4 * truth + np.random.default_rng(0).normal(0, noise, truth.shape)
    return torch.from_numpy(image.astype(np.float32))[None, None], truth, signed_distance(truth, (3, 1, 1))


def volume_claim(tmp_path, monkeypatch, **options):
    monkeypatch.setattr(volume, "lesion_volume", lambda case: bright_ball())
    return claims.c8(load_set(write_set(tmp_path, losses={"gdl": [[0.5]]})), **options)


def test_c8_is_supported_by_a_network_that_learns_the_volume(tmp_path, monkeypatch):
    result = volume_claim(tmp_path, monkeypatch)
    assert result["verdict"] == "supported" and result["dsc"] > 0.5 and result["last"] < result["first"]


def test_c8_is_not_supported_by_a_network_that_predicts_nothing(tmp_path, monkeypatch):
    emptying(monkeypatch, "gdl+boundary")
    result = volume_claim(tmp_path, monkeypatch, steps=60)
    assert result["verdict"] == "not supported" and result["last"] < result["first"]
    assert result["dsc_alone"] > 0.5 and "passes 0.5 (GDL alone: 1.000)" in result["statistic"]


def test_c8_is_not_measured_on_a_volume_that_gdl_alone_does_not_learn(tmp_path, monkeypatch):
    emptying(monkeypatch, "gdl+boundary", "gdl")
    result = volume_claim(tmp_path, monkeypatch, steps=30)
    assert result["verdict"] == "not measured" and result["dsc_alone"] < 0.5
    assert result["statistic"].endswith("run: make custom NAME=wmh-dims3 DIMS=3, with these runs' other settings")


def emptying(monkeypatch, *names):
    """Give these losses a map without an inside: they fall as the prediction empties."""
    from losses import BoundaryLoss, build_loss
    monkeypatch.setattr(volume, "build_loss", lambda name: build_loss(name) if name not in names else (
        lambda probs, target, phi, weights: (BoundaryLoss()(probs, phi.abs()), {})))


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("low, foreground, verdict", [
    (0.2, 0.01, "supported"), (-0.005, 0.01, "supported"), (-0.02, 0.01, "not supported"), (0.2, 0, "not supported")])
def test_c8_is_decided_by_whole_runs_in_3d(tmp_path, monkeypatch, own, low, foreground, verdict):
    plane = write_set(tmp_path, losses={"gdl": [[0.5] * 8], "gdl+boundary": [[0.6] * 8]})
    folders = [plane, Path(shutil.copytree(plane, plane.parent / "wmh-dims3"))]
    for path in folders[1].glob("*/seed*/config.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "network": "unet3d", "patch": [8, 32, 32]}))
    for path in folders[1].glob("gdl+boundary/seed*/metrics.csv"):
        change_last_row(path, val_foreground=foreground)
    monkeypatch.setattr(claims, "compare", lambda one, metrics, sign: claims.claim(
        "not supported", f"{metrics[0]} of {one.folder.name}", differences={"dsc_3d": {"low": low}}))
    result = claims.c8_of(load_set(folders[own]))
    assert result["verdict"] == verdict
    assert result["statistic"].startswith("unet3d of width 8 on volumes: dsc_3d of wmh-dims3; similar = not worse by 0.01")


def change_last_row(path, **values):
    with open(path) as file:
        table = list(csv.DictReader(file))
    table[-1] |= values
    write_csv(path, table, list(table[0]))


@pytest.mark.parametrize("beside", [False, True])
def test_c8_without_whole_runs_is_measured_on_the_spot(tmp_path, monkeypatch, beside):
    monkeypatch.setattr(claims, "c8", lambda one: claims.claim("supported", "on the spot"))
    folder = write_set(tmp_path, losses={"gdl": [[0.5] * 8]})
    if beside:  # and it cannot be read
        (Path(shutil.copytree(folder, folder.parent / "wmh-dims3")) / "gdl" / "seed0" / "config.json").write_text("{")
    assert claims.c8_of(load_set(folder))["statistic"] == "on the spot"


def test_c8_says_what_the_runs_of_volumes_lack(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "c8", lambda one: claims.claim("supported", "on the spot"))
    folder = write_set(tmp_path, losses={"gdl": [[0.5] * 8], "gdl+boundary": [[0.5] * 8]})
    shutil.copytree(folder, folder.parent / "wmh-dims3")
    assert claims.c8_of(load_set(folder))["statistic"] == (
        "on the spot; runs of volumes (wmh-dims3): needs at least 5 validation scans, here are 2")


def test_a_lesions_surroundings_come_with_the_map_of_the_whole_volume_in_mm(tmp_path):
    one = load_set(write_set(tmp_path, losses={"gdl": [[0.5]]}))
    case = validation_cases(one)[1]
    image, truth, phi = volume.lesion_volume(case, half=(8, 4, 4))
    labels = np.load(one.data / "subjects" / "b" / "labels.npy") > 0
    whole = signed_distance(labels, (3, 1, 1))  # spacing 1 x 1 x 3 mm
    centre = np.argwhere(labels).mean(0).astype(int)
    np.testing.assert_array_equal(phi, whole[:, centre[1] - 4:centre[1] + 4, centre[2] - 4:centre[2] + 4])
    assert truth.shape == phi.shape and image.shape == (1, 2, *truth.shape)


def test_c9_finds_every_shape_at_about_first_order():
    result = claims.c9()
    assert result["verdict"] == "supported" and len(result["curves"]) == 6
    assert all(0.7 < curve["order"] < 1.5 for curve in result["curves"].values())
    assert all(curve["errors"][-1] < curve["errors"][0] / 4 for curve in result["curves"].values())


def test_c9_is_not_supported_by_a_map_that_is_off(monkeypatch):
    from studies import identity
    monkeypatch.setattr(identity, "signed_distance", lambda mask, spacing: signed_distance(mask, spacing) + 0.01)
    assert claims.c9()["verdict"] == "not supported"


# C6, C7 ---------------------------------------------------------------------------------------------------------------

def sweep_set(moving, constants, **settings):
    """Runs of the schedule and of constant alphas with these DSC."""
    rows = {"gdl_boundary": [made_run("gdl+boundary", [moving])]}
    rows |= {f"gdl_boundary-alpha{alpha}": [made_run("gdl+boundary", [score], schedule=f"constant:{alpha}", **settings)]
             for alpha, score in constants.items()}
    return made_set(**rows)


def best_scores(one, row):
    """row_scores with the best DSC of the row's first run in every scan; None if it collapsed."""
    found = one.losses[row][0]
    return None if found.collapsed else scores(found.best["val_dice"])


@pytest.mark.parametrize("moving, verdict", [(0.80, "supported"), (0.745, "supported"), (0.70, "not supported")])
def test_c6_compares_the_schedule_with_the_best_constant(monkeypatch, moving, verdict):
    monkeypatch.setattr(claims, "row_scores", best_scores)
    result = claims.c6(sweep_set(moving, {0.5: 0.75, 0.9: 0.6}))
    assert result["verdict"] == verdict and "they spread by 0.150" in result["statistic"]
    assert result["against_best"]["difference"] == pytest.approx(moving - 0.75)


def test_c6_does_not_take_a_collapsed_row_for_the_best_constant(monkeypatch):
    monkeypatch.setattr(claims, "row_scores", best_scores)
    one = sweep_set(0.7, {0.1: 0.9, 0.5: 0.65, 0.9: 0.6})
    for row in one.losses["gdl+boundary-alpha0.1"][0].rows:
        row["val_foreground"] = 0
    result = claims.c6(one)
    assert result["verdict"] == "supported" and "1 runs of gdl+boundary-alpha0.1 collapsed" in result["statistic"]


def test_c6_leaves_runs_with_a_capped_weight_out():
    assert claims.c6(sweep_set(0.7, {0.5: 0.7, 0.9: 0.9}, gdl_max_weight=1))["verdict"] == "not measured"


def test_c7_of_volumes_asks_for_no_network_that_there_is_not():
    result = claims.c7(made_set(gdl=[made_run("gdl", [0.5], patch=[8, 16, 16])]))
    assert result["verdict"] == "not measured" and "one network of volumes" in result["statistic"]


def network_set(root, name, network, fingerprint="f" * 64):
    data = root / "data" / "wmh"
    for loss in ("gdl", "gdl+boundary"):
        write_run(root / "results" / name / loss / "seed0", data, loss, 0, [0.5] * 8, network=network,
                  data_fingerprint=fingerprint)


def test_c7_takes_the_runs_of_another_network_on_the_same_data_beside_this_set(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "FEWEST_SCANS", 2)
    one = load_set(write_set(tmp_path, losses={"gdl": [[0.6] * 8]}))
    network_set(tmp_path, "wmh-mm", "enet", "0" * 64)       # other data
    network_set(tmp_path, "wmh-same", "unet")               # no other network
    assert claims.c7(one)["verdict"] == "not measured"
    network_set(tmp_path, "wmh-unet2018", "unet2018")
    result = claims.c7(one)
    assert result["verdict"] == "supported" and result["statistic"].startswith("unet2018 of width 8: dsc +")


def test_c7_passes_over_a_neighbour_that_cannot_be_read(tmp_path, capsys):
    one = load_set(write_set(tmp_path, losses={"gdl": [[0.6] * 8]}))
    network_set(tmp_path, "wmh-broken", "enet")
    (tmp_path / "results" / "wmh-broken" / "gdl" / "seed0" / "metrics.csv").write_text("epoch\n")
    assert claims.c7(one)["verdict"] == "not measured" and "wmh-broken" in capsys.readouterr().out


def test_c7_refuses_runs_of_the_same_network(tmp_path):
    one = load_set(write_set(tmp_path, losses={"gdl": [[0.6] * 8]}))
    with pytest.raises(claims.UserError, match="another network than unet"):
        claims.c7(one, one.folder)


# The command ----------------------------------------------------------------------------------------------------------

def test_the_command_writes_a_verdict_for_each_claim(data, tmp_path):
    for loss in ("gdl", "gdl+boundary", "boundary"):
        out = tmp_path / "results" / "set" / loss / "seed0"
        result = run("main.py", "--data", data, "--out", out, "--loss", loss, "--width", 2, "--epochs", 2, "--quiet",
                     "--threads", 1)
        assert result.returncode == 0, result.stderr
    result = run("studies.claims", "--runs", tmp_path / "results" / "set")
    assert result.returncode == 0, result.stderr
    written = json.loads((tmp_path / "results" / "set" / "claims.json").read_text())
    found = written["claims"]
    assert list(found) == [f"C{number}" for number in range(1, 10)]
    assert written["runs"] == {f"{loss}/seed0": 2 for loss in ("boundary", "gdl", "gdl+boundary")}
    assert found["C4"]["verdict"] in ("supported", "not supported")
    assert found["C1"]["verdict"] == found["C2"]["verdict"] == "not measured"  # two validation scans carry no interval
    assert {found[name]["verdict"] for name in ("C3", "C6", "C7")} == {"not measured"}
    assert found["C9"]["verdict"] == "supported" and found["C8"]["dsc"] >= 0


def test_damage_in_the_set_itself_is_one_line(tmp_path):
    write_data(tmp_path / "data" / "wmh")
    result = run("studies.claims", "--runs", tmp_path / "results")
    assert result.returncode == 2 and "error:" in result.stderr
