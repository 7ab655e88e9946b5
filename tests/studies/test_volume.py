"""Claim C8: training on one volume, and whole runs in 3-D."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from distance import signed_distance
from losses import BoundaryLoss
from losses_regional import build_loss
from run_folders import write_set
from scoring.cases import validation_cases
from scoring.runs import load_set
from studies import claims, volume
from utils import write_csv


def bright_ball(noise=0.02):
    """A volume whose ball of radius 5 is brighter: (image (1, 1, 12, 24, 24), truth, phi in mm)."""
    z, y, x = np.ogrid[-6:6, -12:12, -12:12]
    truth = z ** 2 + y ** 2 + x ** 2 < 25
    image = 0.3 + 0.4 * truth + np.random.default_rng(0).normal(0, noise, truth.shape)
    image = torch.from_numpy(image.astype(np.float32))[None, None]
    return image, truth, signed_distance(truth, (3, 1, 1))


def volume_claim(tmp_path, monkeypatch, **options):
    monkeypatch.setattr(volume, "lesion_volume", lambda case: bright_ball())
    return claims.c8(load_set(write_set(tmp_path, losses={"gdl": [[0.5]]})), **options)


def test_c8_is_supported_by_a_network_that_learns_the_volume(tmp_path, monkeypatch):
    result = volume_claim(tmp_path, monkeypatch)
    assert result["verdict"] == "supported"
    assert result["dsc"] > 0.5 and result["last"] < result["first"]


def test_c8_is_not_supported_by_a_network_that_predicts_nothing(tmp_path, monkeypatch):
    emptying(monkeypatch, "gdl+boundary")
    result = volume_claim(tmp_path, monkeypatch, steps=60)
    assert result["verdict"] == "not supported" and result["last"] < result["first"]
    assert result["dsc_alone"] > 0.5 and "passes 0.5 (GDL alone: 1.000)" in result["statistic"]


def test_c8_is_not_measured_on_a_volume_that_gdl_does_not_learn(tmp_path, monkeypatch):
    emptying(monkeypatch, "gdl+boundary", "gdl")
    result = volume_claim(tmp_path, monkeypatch, steps=30)
    assert result["verdict"] == "not measured" and result["dsc_alone"] < 0.5
    assert result["statistic"].endswith(
        "run: make custom NAME=wmh-dims3 DIMS=3, with these runs' other settings")


def emptying(monkeypatch, *names):
    """Give these losses a map without an inside: they fall as the prediction empties."""
    def empties(probs, target, phi, weights):
        return BoundaryLoss()(probs, phi.abs()), {}

    monkeypatch.setattr(volume, "build_loss",
                        lambda name: empties if name in names else build_loss(name))


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("low, foreground, verdict", [
    (0.2, 0.01, "supported"), (-0.005, 0.01, "supported"), (-0.02, 0.01, "not supported"),
    (0.2, 0, "not supported")])
def test_c8_is_decided_by_whole_runs_in_3d(tmp_path, monkeypatch, own, low, foreground, verdict):
    plane = write_set(tmp_path, losses={"gdl": [[0.5] * 8], "gdl+boundary": [[0.6] * 8]})
    folders = [plane, Path(shutil.copytree(plane, plane.parent / "wmh-dims3"))]
    for path in folders[1].glob("*/seed*/config.json"):
        changed = {"network": "unet3d", "patch": [8, 32, 32]}
        path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
    for path in folders[1].glob("gdl+boundary/seed*/metrics.csv"):
        change_last_row(path, val_foreground=foreground)
    monkeypatch.setattr(claims, "judge_difference", lambda results, metrics, sign: claims.claim(
        "not supported", f"{metrics[0]} of {results.folder.name}",
        differences={"dsc_3d": {"low": low}}))

    result = claims.c8_of(load_set(folders[own]))
    assert result["verdict"] == verdict
    assert result["statistic"].startswith(
        "unet3d of width 8 in 3-D: dsc_3d of wmh-dims3; similar = not worse by 0.01")


def change_last_row(path, **values):
    with open(path) as file:
        table = list(csv.DictReader(file))
    table[-1] |= values
    write_csv(path, table, list(table[0]))


@pytest.mark.parametrize("beside", [False, True])
def test_c8_without_whole_runs_is_measured_on_the_spot(tmp_path, monkeypatch, beside):
    monkeypatch.setattr(claims, "c8", lambda results: claims.claim("supported", "on the spot"))
    folder = write_set(tmp_path, losses={"gdl": [[0.5] * 8]})
    if beside:  # and it cannot be read
        copy = Path(shutil.copytree(folder, folder.parent / "wmh-dims3"))
        (copy / "gdl" / "seed0" / "config.json").write_text("{")
    assert claims.c8_of(load_set(folder))["statistic"] == "on the spot"


def test_c8_says_what_the_3d_runs_lack(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "c8", lambda results: claims.claim("supported", "on the spot"))
    folder = write_set(tmp_path, losses={"gdl": [[0.5] * 8], "gdl+boundary": [[0.5] * 8]})
    shutil.copytree(folder, folder.parent / "wmh-dims3")
    assert claims.c8_of(load_set(folder))["statistic"] == (
        "on the spot; 3-D runs (wmh-dims3): needs at least 5 validation scans, found 2")


def test_a_lesions_surroundings_come_with_the_map_of_the_whole_volume(tmp_path):
    results = load_set(write_set(tmp_path, losses={"gdl": [[0.5]]}))
    case = validation_cases(results)[1]
    image, truth, phi = volume.lesion_volume(case, half=(8, 4, 4))

    labels = np.load(results.data / "subjects" / "b" / "labels.npy") > 0
    whole = signed_distance(labels, (3, 1, 1))  # mm; spacing 1 x 1 x 3 mm
    _, row, column = np.argwhere(labels).mean(0).astype(int)
    np.testing.assert_array_equal(phi, whole[:, row - 4:row + 4, column - 4:column + 4])
    assert truth.shape == phi.shape and image.shape == (1, 2, *truth.shape)
