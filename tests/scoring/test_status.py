"""scoring.status: every run of the matrix with its state, epoch, best score and time left."""

import csv
import io
import json
import os
import platform

import pytest

import run_folders
from conftest import refuses, run
from training.run_folder import COLUMNS


def write_run(folder, scores, epochs=10, seconds=30.0, finished=False, lock=None):
    """A run with these validation DSC, one an epoch."""
    folder.mkdir(parents=True)
    config = {"loss": "gdl", "seed": 0, "network": "unet", "width": 8, "epochs": epochs,
              "batch_size": 8, "lr": 0.001, "protocol": "paper", "size": 32,
              "data_fingerprint": "f"}
    (folder / "config.json").write_text(json.dumps(config))

    with open(folder / "metrics.csv", "w", newline="") as file:
        rows = csv.DictWriter(file, COLUMNS)
        rows.writeheader()
        rows.writerows({"epoch": epoch, "val_dice": score, "seconds": seconds}
                       for epoch, score in enumerate(scores))

    if finished:
        summary = {"finished": True, "epochs": len(scores)}
        (folder / "summary.json").write_text(json.dumps(summary))
    if lock is not None:
        (folder / ".lock").write_text(lock)


@pytest.fixture
def results(tmp_path):
    """Four runs of ten epochs and a copy.

    One is finished, one running here, one stopped, one locked by a process on another machine.
    """
    folder = tmp_path / "set"
    living = f"process {os.getpid()} on {platform.node()}"
    ended = f"process {2**31 - 1} on {platform.node()}"
    elsewhere = f"process {os.getpid()} on elsewhere"

    write_run(folder / "gdl" / "seed0", [0.1] * 9 + [0.7], finished=True, lock=living)
    write_run(folder / "gdl" / "seed1", [0.5, 0.4], lock=living)
    write_run(folder / "gdl+boundary" / "seed0", [0.3] * 4, seconds=60, lock=ended)
    write_run(folder / "gdl+boundary" / "seed1", [], lock=elsewhere)
    write_run(folder / "gdl" / "seed0.bak", [0.1])
    return folder


def rows(*words):
    result = run("scoring.status", *words, "--csv")
    assert result.returncode == 0, result.stderr
    return {"/".join(row["run"].split("/")[-2:]): row
            for row in csv.DictReader(io.StringIO(result.stdout))}


def test_states_of_runs(results):
    assert {name: row["state"] for name, row in rows(results).items()} == {
        "gdl/seed0": "finished", "gdl/seed1": "running",
        "gdl+boundary/seed0": "stopped", "gdl+boundary/seed1": "stopped"}


def test_time_left_is_the_epochs_left_at_the_last_pace(results):
    found = rows(results)
    assert found["gdl/seed0"]["seconds_left"] == "0"
    assert float(found["gdl/seed1"]["seconds_left"]) == 8 * 30
    assert float(found["gdl+boundary/seed0"]["seconds_left"]) == 6 * 60


def test_time_left_without_a_pace_is_guessed_from_the_other_runs(results):
    left = float(rows(results)["gdl+boundary/seed1"]["seconds_left"])
    assert left == (300 + 300 + 600) / 3  # their whole length


def test_the_best_score_and_its_epoch(results):
    row = rows(results)["gdl/seed1"]
    found = [row[key] for key in ("epoch", "epochs", "best_score", "best_epoch")]
    assert found == ["2", "10", "0.5", "0.0"]


def test_the_best_score_is_the_one_that_chose_the_epoch(tmp_path):
    data = run_folders.write_data(tmp_path / "data")
    run_folders.write_run(tmp_path / "r" / "gdl" / "seed0", data, "gdl", 0, [0.2, 0.6], epochs=2,
              score="val_dice_3d")
    row, = rows(tmp_path / "r").values()
    assert (row["best_score"], row["best_epoch"]) == ("0.3", "2.0")  # a slice DSC of 0.6


def test_runs_of_the_matrix_that_have_not_begun_are_listed_with_a_guess(results):
    found = rows(results, "--losses", "boundary", "gdl", "--seeds", 0, 1)
    assert list(found)[:2] == ["boundary/seed0", "boundary/seed1"]
    assert found["boundary/seed0"]["state"] == "not begun"
    assert float(found["boundary/seed0"]["seconds_left"]) == 400


def test_a_matrix_that_is_asked_for_is_all_that_is_listed(results):
    assert list(rows(results, "--losses", "boundary", "gdl", "--seeds", 0, 1)) == [
        "boundary/seed0", "boundary/seed1", "gdl/seed0", "gdl/seed1"]


def test_runs_that_make_was_asked_for_are_listed_before_they_begin(results):
    (results / ".asked").write_text("gdl/seed0\nboundary/seed3\n../x/seed0\nno run\n")
    found = rows(results)
    assert list(found)[0] == "boundary/seed3" and len(found) == 5
    assert found["boundary/seed3"]["state"] == "not begun"


def test_the_table_for_people(results):
    text = run("scoring.status", results).stdout
    lines = [line.split() for line in text.splitlines() if "/set/" in line]
    cells = {words[0].split("/set/")[-1]: words[1:] for words in lines}
    assert cells["gdl/seed0"] == ["finished", "10/10", "0.700", "@9", "30.0", "0:00"]
    assert cells["gdl/seed1"] == ["running", "2/10", "0.500", "@0", "30.0", "0:04"]
    assert "4 runs: 1 finished, 1 running, 2 stopped; 0:17 left" in text  # 4 + 6 + 400 s


def test_a_damaged_run_is_named_and_the_others_are_shown(results):
    (results / "gdl" / "seed1" / "config.json").write_text("{")
    result = run("scoring.status", results)
    assert result.returncode == 0 and "damaged" in result.stdout and "config.json" in result.stderr
    assert "finished" in result.stdout


def test_a_folder_without_runs_is_refused(tmp_path):
    result = run("scoring.status", tmp_path, "--losses", "gdl", "--seeds", 0)
    refuses(result, "runs in <loss>/seed<k>/", "make wmh")


def test_rows_or_seeds_alone_leave_the_others_out(results):
    assert list(rows(results, "--losses", "gdl")) == ["gdl/seed0", "gdl/seed1"]
    assert list(rows(results, "--seeds", 1)) == ["gdl/seed1", "gdl+boundary/seed1"]
