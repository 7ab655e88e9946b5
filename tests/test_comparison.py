"""Losses beside each other: the numbers of a row, what the boundary loss changes, and what is left out."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import comparison
from conftest import refuses, run
from run_folders import write_set
from utils import write_csv


@pytest.fixture
def folder(tmp_path):
    """Four rows; evaluation.csv of gdl/seed0 and seed1 with two scans each."""
    folder = write_set(tmp_path, losses={
        "gdl": [[0.5] * 7 + [0.6], [0.7] + [0.6] * 7], "gdl+boundary": [[0.6] * 8], "focal": [[0.4] * 8],
        "gdl+boundary-alpha0.5": [[0.1] * 8]})
    for seed, recall in ((0, (0.2, 0.4)), (1, (0.6, 1.0))):
        write_csv(folder / "gdl" / f"seed{seed}" / "evaluation.csv",
                  [{"subject": f"s{at}", "label": 1, "lesion_recall": value, "lesion_precision": 0.5}
                   for at, value in enumerate(recall)])
    return folder


def table_of(folder):
    with open(folder / "comparison.csv") as file:
        return {(row["loss"], row["column"]): row for row in csv.DictReader(file)}


def test_a_row_holds_scores_lesions_and_seconds_over_its_seeds(folder):
    result = run("comparison.py", "--runs", folder)
    assert result.returncode == 0, result.stderr
    table = table_of(folder)
    assert float(table["gdl", "dsc_best_epoch"]["mean"]) == pytest.approx((0.6 + 0.7) / 2)
    assert float(table["gdl", "lesion_recall"]["mean"]) == pytest.approx((0.3 + 0.8) / 2)
    assert float(table["gdl", "lesion_recall"]["std"]) == pytest.approx(np.std([0.3, 0.8], ddof=1))
    assert table["focal", "lesion_recall"]["mean"] == "" and float(table["focal", "seconds_per_epoch"]["mean"]) > 0
    assert {loss for loss, _ in table} == {"gdl", "gdl+boundary", "focal", "gdl+boundary-alpha0.5"}
    text = (folder / "comparison.md").read_text()
    assert "| L_Focal | 1 |" in text and text in result.stdout


def test_the_last_column_is_what_the_boundary_loss_changes(folder, monkeypatch):
    scores = {"gdl": [[0.1] * 6, [0.3] * 6], "gdl+boundary": [[0.7] * 6], "focal": [[0.0] * 6],
              "gdl+boundary-alpha0.5": [[0.4] * 6]}
    monkeypatch.setattr(comparison, "row_scores", lambda one, name: {"dsc_3d": np.array(scores[name])})
    lines = {line["loss"]: line for line in comparison.build_rows(comparison.load_set(folder))}
    assert lines["gdl+boundary"]["difference"] == pytest.approx(0.5)
    assert lines["gdl+boundary"]["low"] <= 0.5 <= lines["gdl+boundary"]["high"]
    assert lines["gdl+boundary-alpha0.5"]["difference"] == pytest.approx(0.2)  # against gdl too
    assert lines["gdl"]["difference"] is None and lines["focal"]["difference"] is None


def test_of_too_few_scans_no_interval_is_made(folder, monkeypatch):
    monkeypatch.setattr(comparison, "row_scores", lambda one, name: {"dsc_3d": np.full((2, 4), 0.5)})
    assert all(line["difference"] is None for line in comparison.build_rows(comparison.load_set(folder)))


def test_without_finished_runs_there_is_nothing_to_compare(tmp_path):
    folder = write_set(tmp_path, losses={"gdl": [[0.5] * 8]})
    (folder / "gdl" / "seed0" / "summary.json").unlink()
    refuses(run("comparison.py", "--runs", folder), "expected finished runs, found none")
    assert not (folder / "comparison.csv").exists()


def test_runs_that_predict_nothing_are_named(tmp_path):
    folder = write_set(tmp_path, losses={"gdl": [[0.5] * 8], "focal": [[0.4] * 8]})
    path = folder / "focal" / "seed0" / "metrics.csv"
    with open(path) as file:
        table = list(csv.DictReader(file))
    write_csv(path, [{**row, "val_foreground": 0} for row in table], list(table[0]))
    text = run("comparison.py", "--runs", folder).stdout
    assert "- Without any foreground at the best epoch or the last: focal/seed0.\n" in text and text.count("- Without") == 1


@pytest.mark.parametrize("name, expected", [
    ("gdl", None), ("gdl+boundary", "gdl"), ("dice+ce+boundary", "dice+ce"), ("gdl+boundary-increase0.1", "gdl"),
    ("gdl-cap1", None), ("boundary", None)])
def test_what_a_row_is_compared_with(name, expected):
    assert comparison.without_boundary(name) == expected


def beside(folder, name, **changes):
    """A copy of the folder's runs with other settings."""
    other = Path(shutil.copytree(folder, folder.parent / name))
    for path in other.glob("*/seed*/config.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return other


def test_folders_stand_beside_each_other_and_the_network_tells_them_apart(folder):
    other = beside(folder, "wmh-enet", network="enet")
    result = run("comparison.py", "--runs", folder, other)
    assert result.returncode == 0, result.stderr
    assert "| network | loss |" in result.stdout
    assert "| enet, width 8 | L_Focal | 1 |" in result.stdout and "| unet, width 8 | L_Focal | 1 |" in result.stdout
    with open(folder / "comparison.csv") as file:
        assert {(row["folder"], row["network"]) for row in csv.DictReader(file)} == {
            ("wmh", "unet, width 8"), ("wmh-enet", "enet, width 8")}
    assert not (other / "comparison.md").exists()


def test_folders_of_one_network_are_told_apart_by_their_names(folder):
    result = run("comparison.py", "--runs", folder, beside(folder, "wmh-mm"))
    assert "| folder | loss |" in result.stdout and "| wmh-mm | L_Focal |" in result.stdout


def test_folders_with_other_epochs_or_validation_scans_are_refused(folder, monkeypatch):
    longer = beside(folder, "wmh-longer", epochs=9)
    refuses(run("comparison.py", "--runs", folder, longer), longer, "the same epochs as in")
    monkeypatch.setattr(comparison, "validation_subjects", lambda one: [one.folder.name])
    other = beside(folder, "wmh-other")
    refuses(run("comparison.py", "--runs", folder, other), other, "the same validation scans as in")
