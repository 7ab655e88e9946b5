"""What a run shows: lines, progress.png, TensorBoard; none of it can stop the training."""

import builtins
import csv

import numpy as np
import pytest
from matplotlib.image import imread

from conftest import run
from dataloader import Scan
from training import monitor

ROW = {
    "epoch": 3,
    "alpha": 0.97,
    "lr": 0.001,
    "train_loss": 0.5,
    "train_gdl": 0.6,
    "train_boundary": -0.2,
    "val_dice": 0.7,
    "val_dice_3d": 0.65,
    "val_hd": 9.0,
    "val_hd95": 4.5,
    "val_hd_legacy": 1.5,
    "val_dice_lesion": None,
    "val_foreground": 0.01,
    "seconds": 30.0,
}


def train(data, out, *more):
    return run(
        "main.py", "--data", data, "--out", out, "--width", 2, "--epochs", 2, "--threads", 1, *more
    )


def test_the_line_for_people_has_terms_alpha_rate_scores_and_time_left():
    text = monitor.for_people(ROW, [ROW] * 4, 10)
    for word in (
        "4/10",
        "alpha 0.97",
        "lr 0.001",
        "gdl 0.6000",
        "boundary -0.2",
        "DSC 0.700",
        "HD95 4.5 mm",
        "3.0 min left",
    ):
        assert word in text


def test_the_line_for_machines_is_key_value_words_without_empty_ones(monkeypatch):
    monkeypatch.setenv("RUN_OF", "2/6")
    words = dict(word.split("=") for word in monitor.for_machines("r", ROW, [ROW] * 4, 10).split())
    assert words["of"] == "2/6" and words["epochs"] == "10" and float(words["seconds_left"]) == 180
    assert all(float(words[key]) == value for key, value in ROW.items() if value is not None)
    assert "val_dice_lesion" not in words


def test_which_run_of_how_many_is_shown_under_make_only(monkeypatch):
    monkeypatch.delenv("RUN_OF", raising=False)
    assert monitor.title("r") == "r"
    monkeypatch.setenv("RUN_OF", "2/6")
    assert monitor.title("r") == "r (run 2 of 6)"


def test_off_a_terminal_every_epoch_is_one_line_that_a_program_can_read(data, tmp_path):
    result = train(data, tmp_path / "run")
    lines = [line for line in result.stdout.splitlines() if line.startswith("run=")]
    found = [dict(word.split("=", 1) for word in line.split()) for line in lines]
    with open(tmp_path / "run" / "metrics.csv") as file:
        table = list(csv.DictReader(file))
    assert [line["epoch"] for line in found] == ["0", "1"]
    assert all(
        float(line["val_dice"]) == pytest.approx(float(row["val_dice"]), rel=1e-5)
        for line, row in zip(found, table)
    )


def test_a_run_leaves_progress_png_and_overlays_of_validation_slices(data, tmp_path):
    assert train(data, tmp_path / "run").returncode == 0
    assert imread(tmp_path / "run" / "progress.png").std() > 0.01
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "run")).Reload()
    assert len(events.Tags()["images"]) == 2 and {"alpha", "lr", "val/dice", "train/gdl"} <= set(
        events.Tags()["scalars"]
    )


@pytest.mark.parametrize(
    "package, word", [("matplotlib", "progress.png"), ("torch.utils.tensorboard", "tensorboard")]
)
def test_a_run_does_without_a_package_that_only_shows(data, tmp_path, monkeypatch, package, word):
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith(package):
            raise ImportError(f"No module named {package!r}")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    result = train(data, tmp_path / "run")

    assert result.returncode == 0, result.stderr
    assert (
        result.stdout.count(f"{word} not written from here on") == 1
        and (tmp_path / "run" / "summary.json").exists()
    )


def test_drawing_takes_a_small_share_and_the_last_epoch_is_drawn(monkeypatch, tmp_path):
    clock = [0.0]
    monkeypatch.setattr(monitor.time, "perf_counter", lambda: clock[0])
    drawn = []

    def draw(rows, path):
        drawn.append(len(rows))
        clock[0] += 0.2  # s, of which 2 % allow one in 10 s

    monkeypatch.setattr(monitor, "draw_progress", draw)
    shown = monitor.Monitor(tmp_path, 30)
    shown.missing.add("tensorboard")

    class Bar:
        disable = False
        set_postfix_str = staticmethod(lambda text: None)

    for count in range(1, 31):
        clock[0] += 3
        shown.report(ROW, [ROW] * count, Bar, False, list)

    assert drawn == [1, 5, 9, 13, 17, 21, 25, 29, 30]


def test_overlays_mark_the_edge_of_truth_and_of_the_prediction():
    truth, found = np.zeros((8, 8), bool), np.zeros((8, 8), bool)
    truth[1:4, 1:4], found[5:7, 5:7] = True, True
    picture = monitor.overlay(np.full((8, 8), 0.5), truth, found)
    assert picture.shape == (16, 16, 3)
    assert (picture == monitor.TRUTH).all(-1).sum() == 20  # the rim of 6x6
    assert (picture == monitor.FOUND).all(-1).sum() == 12  # the rim of 4x4
    assert picture[0, 0].tolist() == [255] * 3  # the brightest grey there is


def test_overlays_show_the_largest_lesion_of_scans_spread_over_the_set():
    labels = np.zeros((8, 4, 4), np.uint8)
    labels[1, :2], labels[2, 0, 0], labels[6, 0, 0], labels[7, :3] = 1, 1, 1, 1
    scans = [
        Scan(name, slice(start, start + 2), (1, 1, 1)) for name, start in zip("abcd", (0, 2, 4, 6))
    ]
    assert monitor.shown_rows(labels, scans, 2) == [("a", 1), ("d", 7)]
