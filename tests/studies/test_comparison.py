"""Losses side by side: the numbers of a row, what the boundary loss changes, what is left out."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from conftest import refuses, run
from run_folders import write_scores, write_set
from scoring import intervals, rows
from scoring.row_scores import row_scores
from scoring.runs import load_set
from studies import comparison
from utils import write_csv


@pytest.fixture
def folder(tmp_path):
    """Four rows; evaluation.csv of gdl/seed0 and seed1 with two scans each."""
    folder = write_set(tmp_path, losses={
        "gdl": [[0.5] * 7 + [0.6], [0.7] + [0.6] * 7], "gdl+boundary": [[0.6] * 8],
        "focal": [[0.4] * 8], "gdl+boundary-alpha0.5": [[0.1] * 8]})

    for seed, recall in ((0, (0.2, 0.4)), (1, (0.6, 1.0))):
        scans = [{"subject": f"s{at}", "label": 1, "lesion_recall": value,
                  "lesion_precision": 0.5 - value / 4, "prediction_empty": False}
                 for at, value in enumerate(recall)]
        scans.append({"subject": "s2", "label": 1, "lesion_recall": "", "lesion_precision": 1.0,
                      "prediction_empty": True})
        write_csv(folder / "gdl" / f"seed{seed}" / "evaluation.csv", scans)
        change(folder / "gdl" / f"seed{seed}", lambda at, row: {"seconds": 100 if at == 7 else 2})
    return folder


def table_of(folder):
    with open(folder / "comparison.csv") as file:
        return {(row["loss"], row["column"]): row for row in csv.DictReader(file)}


def test_a_row_holds_scores_lesions_and_seconds_over_its_seeds(folder):
    result = run("studies.comparison", "--runs", folder)
    assert result.returncode == 0, result.stderr
    table = table_of(folder)

    assert float(table["gdl", "dsc_best_epoch"]["mean"]) == pytest.approx((0.6 + 0.7) / 2)
    assert float(table["gdl", "lesion_recall"]["mean"]) == pytest.approx((0.3 + 0.8) / 2)
    assert float(table["gdl", "lesion_recall"]["std"]) == pytest.approx(np.std([0.3, 0.8], ddof=1))
    precision = float(table["gdl", "lesion_precision"]["mean"])
    assert precision == pytest.approx(0.5 - 0.55 / 4)  # without the 1 of the empty prediction
    assert float(table["gdl", "seconds_per_epoch"]["mean"]) == 2.0  # median of seven 2 and a 100
    assert table["focal", "lesion_recall"]["mean"] == ""
    assert float(table["focal", "seconds_per_epoch"]["mean"]) > 0
    assert list(dict.fromkeys(loss for loss, _ in table)) == [
        "gdl", "gdl+boundary", "gdl+boundary-alpha0.5", "focal"]

    text = (folder / "comparison.md").read_text()
    assert "| L_Focal | 1 |" in text and text in result.stdout


def lines_of(folder):
    return {line["loss"]: line for line in comparison.build_rows(load_set(folder), "wmh")}


def test_the_last_column_is_what_the_boundary_loss_changes(folder, monkeypatch):
    scores = {"gdl": [[0.1] * 6, [0.3] * 6], "gdl+boundary": [[0.7] * 6], "focal": [[0.0] * 6],
              "gdl+boundary-alpha0.5": [[0.4] * 6]}
    monkeypatch.setattr(comparison, "row_scores",
                        lambda results, name: {"dsc_3d": np.array(scores[name])})
    lines = lines_of(folder)
    assert lines["gdl+boundary"]["difference"] == pytest.approx(0.5)
    assert lines["gdl+boundary"]["low"] <= 0.5 <= lines["gdl+boundary"]["high"]
    assert lines["gdl+boundary-alpha0.5"]["difference"] == pytest.approx(0.2)  # against gdl too
    assert lines["gdl"]["difference"] is None and lines["focal"]["difference"] is None


@pytest.mark.parametrize("scans, made", [(4, False), (5, True)])
def test_too_few_scans_give_no_interval(folder, monkeypatch, scans, made):
    monkeypatch.setattr(comparison, "row_scores",
                        lambda results, name: {"dsc_3d": np.full((2, scans), 0.5)})
    lines = comparison.build_rows(load_set(folder), "wmh")
    assert [line["difference"] is not None for line in lines
            if "boundary" in line["loss"]] == [made, made]
    assert any(row["column"] == "boundary_low" and row["mean"] == 0
               for row in comparison.tidy_rows(lines)) is made


def test_a_run_that_predicts_nothing_counts_in_the_last_column(tmp_path, monkeypatch):
    monkeypatch.setattr(intervals, "FEWEST_SCANS", 2)
    losses = {"gdl": [[0.5] * 8], "gdl+boundary": [[0.6] * 8, [0.6] * 8]}
    folder = write_set(tmp_path, losses=losses)
    plain = lines_of(folder)["gdl+boundary"]["difference"]

    empty(folder / "gdl+boundary" / "seed1")
    with np.load(folder / "gdl+boundary" / "seed1" / "predictions.npz") as file:
        masks = {name: np.zeros_like(file[name]) for name in file}
    np.savez_compressed(folder / "gdl+boundary" / "seed1" / "predictions.npz", **masks)

    gdl = row_scores(load_set(folder), "gdl")["dsc_3d"].mean()
    mean = (plain + gdl + 0) / 2  # of the seed as before and the empty one
    assert lines_of(folder)["gdl+boundary"]["difference"] == pytest.approx(mean - gdl)


def test_what_is_left_out_is_said_in_the_file_too(folder):
    write_scores(folder / "gdl" / "seed0")
    assert run("studies.comparison", "--runs", folder).returncode == 0
    text = (folder / "comparison.md").read_text()
    assert "runs without scores.csv, " in text and "gdl+boundary/seed0" in text


def test_without_finished_runs_there_is_nothing_to_compare(tmp_path):
    folder = write_set(tmp_path, losses={"gdl": [[0.5] * 8]})
    (folder / "gdl" / "seed0" / "summary.json").unlink()
    refuses(run("studies.comparison", "--runs", folder), "expected finished runs, found none")
    assert not (folder / "comparison.csv").exists()


def test_runs_that_predict_nothing_are_named(tmp_path):
    folder = write_set(tmp_path, losses={"gdl": [[0.5] * 8], "focal": [[0.4] * 8]})
    empty(folder / "focal" / "seed0")
    text = run("studies.comparison", "--runs", folder).stdout
    assert "- Without any foreground at the best epoch or the last: wmh/focal/seed0.\n" in text
    assert text.count("- Without") == 1


def test_runs_that_end_empty_are_named_too(tmp_path):
    folder = write_set(tmp_path, losses={"focal": [[0.4] * 8]})
    empty(folder / "focal" / "seed0", first=7)
    text = run("studies.comparison", "--runs", folder).stdout
    assert "or the last: wmh/focal/seed0.\n" in text


def empty(folder, first=0):
    """From this epoch on the run predicts no foreground."""
    change(folder, lambda at, row: {"val_foreground": 0 if at >= first else row["val_foreground"]})


def change(folder, new):
    path = folder / "metrics.csv"
    with open(path) as file:
        table = list(csv.DictReader(file))
    write_csv(path, [{**row, **new(at, row)} for at, row in enumerate(table)], list(table[0]))


@pytest.mark.parametrize("name, expected", [
    ("gdl", None),
    ("gdl+boundary", "gdl"),
    ("dice+ce+boundary", "dice+ce"),
    ("gdl+boundary-increase0.1", "gdl"),
    ("gdl-cap1", None),
    ("boundary", None),
    ("gdl+boundary-cap1", "gdl-cap1"),
    ("gdl+boundary-cap0.5-alpha0.25", "gdl-cap0.5"),
    ("focal_tversky+boundary-rebalance0.1", "focal_tversky"),
])
def test_what_a_row_is_compared_with(name, expected):
    assert rows.without_boundary(name) == expected


def beside(folder, name, **changes):
    """A copy of the folder's runs with other settings."""
    other = Path(shutil.copytree(folder, folder.parent / name))
    for path in other.glob("*/seed*/config.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return other


def test_networks_tell_folders_apart(folder):
    other = beside(folder, "wmh-enet", network="enet")
    result = run("studies.comparison", "--runs", folder, other)
    assert result.returncode == 0, result.stderr
    assert "| network | loss |" in result.stdout
    assert "| enet, width 8 | L_Focal | 1 |" in result.stdout
    assert "| unet, width 8 | L_Focal | 1 |" in result.stdout
    with open(folder / "comparison.csv") as file:
        assert {(row["folder"], row["network"]) for row in csv.DictReader(file)} == {
            ("wmh", "unet, width 8"), ("wmh-enet", "enet, width 8")}
    assert not (other / "comparison.md").exists()


def test_two_networks_do_not_tell_three_folders_apart(folder):
    others = beside(folder, "wmh-enet", network="enet"), beside(folder, "wmh-mm")
    result = run("studies.comparison", "--runs", folder, *others, "--csv", folder / "three.csv")
    assert "| folder | loss |" in result.stdout
    text = (folder / "three.csv").read_text()
    assert all(f",{name}," in text for name in ("wmh", "wmh-enet", "wmh-mm"))


def test_folders_of_one_network_are_told_apart_by_their_names(folder):
    result = run("studies.comparison", "--runs", folder, beside(folder, "wmh-mm"))
    assert "| folder | loss |" in result.stdout and "| wmh-mm | L_Focal |" in result.stdout


def test_folders_of_one_name_are_told_apart_by_their_paths(folder):
    other = Path(shutil.copytree(folder, folder.parent.parent / "old" / "wmh"))
    text = run("studies.comparison", "--runs", folder, other).stdout
    assert f"| {folder} | L_Focal |" in text and f"| {other} | L_Focal |" in text


def test_folders_that_cannot_be_compared_are_refused(folder, monkeypatch):
    longer = beside(folder, "wmh-longer", epochs=9)
    refuses(run("studies.comparison", "--runs", folder, longer), longer, "the same epochs as in")
    for what, value in (("source", "own"), ("size", 48), ("layout", "isles")):
        other = beside(folder, f"wmh-{what}", data=str(shutil.copytree(
            folder.parent.parent / "data" / "wmh", folder.parent / what)))
        path = folder.parent / what / "dataset.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), what: value}))
        refuses(run("studies.comparison", "--runs", folder, other), other, f"the same {what} as in")

    refuses(run("studies.comparison", "--runs", folder, folder), "each folder once")

    monkeypatch.setattr(comparison, "validation_names", lambda results: [results.folder.name])
    other = beside(folder, "wmh-other")
    result = run("studies.comparison", "--runs", folder, other)
    refuses(result, other, "the same validation scans as in")
