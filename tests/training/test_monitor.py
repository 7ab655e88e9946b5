"""What a run shows: lines, progress.png, TensorBoard; none of it can stop the training."""

import builtins
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from conftest import draw_progress, run
from dataloader import Scan
from training import monitor, progress

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


@pytest.fixture(autouse=True)
def pictures_of_progress(monkeypatch):
    """Draw them, as outside of tests."""
    monkeypatch.setattr(monitor, "draw_progress", draw_progress)


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


def test_dsc_and_time_left_come_first_and_are_not_cut_off_at_100_columns():
    bar = progress.StepBar(100, 0, "results/wmh/gdl+boundary/seed0 (run 2 of 6)", 10)
    bar.set_postfix_str(monitor.for_people(ROW, [ROW] * 4, 10))
    line = bar.format_meter(**{**bar.format_dict, "ncols": 100})
    bar.close()
    assert len(line) <= 100 and "DSC 0.700, 3.0 min left, epoch 3 (4/10)" in line


def test_off_a_terminal_an_epoch_is_half_a_line():
    line = monitor.short(ROW, [ROW] * 4, 10)
    assert line == "DSC 0.700, 3.0 min left, epoch 3 (4/10), HD95 4.5 mm"


def test_which_run_of_how_many_is_shown_under_make_only(monkeypatch):
    monkeypatch.delenv("RUN_OF", raising=False)
    assert monitor.title("r") == "r"
    monkeypatch.setenv("RUN_OF", "2/6")
    assert monitor.title("r") == "r (run 2 of 6)"


def test_off_a_terminal_every_epoch_is_one_short_line_after_the_estimate(
    data, tmp_path, monkeypatch
):
    monkeypatch.setenv("RUN_OF", "1/6")
    lines = train(data, tmp_path / "run").stdout.splitlines()
    epochs = [at for at, line in enumerate(lines) if "(run 1 of 6): DSC 0." in line]
    told = [at for at, line in enumerate(lines)
            if re.match(r"about \d.* for 6 runs on this CPU", line)]
    assert len(epochs) == 2 and len(told) == 1 and told[0] < epochs[0]
    assert all(len(lines[at].split(": ", 1)[1]) < 80 for at in epochs)


@pytest.mark.parametrize("environment, words", [
    ({}, "about 3.0 h for this run on this CPU"),
    ({"RUN_OF": "1/6"}, "about 18 h for 6 runs on this CPU"),
    ({"RUN_OF": "1/6", "RUNS_TOGETHER": "4"}, "about 6.0 h for 6 runs on this CPU"),
    ({"RUN_OF": "2/6"}, None)])
def test_the_first_run_of_a_matrix_tells_how_long_all_will_take(monkeypatch, capsys, environment,
                                                                words):
    for name in ("RUN_OF", "RUNS_TOGETHER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    train, val = SimpleNamespace(steps=lambda size: 50), [0] * 96  # 12 steps' worth, at a third
    args = SimpleNamespace(batch_size=8, patch=None, epochs=200)
    tell = progress.announce(args, train, val, torch.device("cpu"))
    if words is None:
        assert tell is None
    else:
        tell(1.0)  # (50 + 4) steps of 1 s, 200 times, is 3 h
        assert words in capsys.readouterr().out


@pytest.mark.parametrize("of_epoch, after", [(100, 23), (8, 8), (2, 2), (1, 1)])
def test_a_step_is_timed_after_the_first_ones_or_by_the_end_of_the_epoch(monkeypatch, of_epoch,
                                                                         after):
    clock, told = [0.0], []
    monkeypatch.setattr(progress.time, "perf_counter", lambda: clock[0])
    bar = progress.StepBar(1000, 0, "r", of_epoch, told.append, disable=True)
    counts = []
    for step in range(30):
        clock[0] += 0.5 if step > 2 or of_epoch < 3 else 9.0  # the first are slow
        bar.update()
        counts.append(len(told))
    assert told == [pytest.approx(0.5)] and counts.index(1) + 1 == after


@pytest.mark.parametrize("seconds, words", [
    (0, "0 s"), (45, "45 s"), (100, "2 min"), (5000, "83 min"), (28_800, "8.0 h"), (90_000, "25 h"),
    (200_000, "2.3 days")])
def test_a_time_is_told_in_one_unit(seconds, words):
    assert progress.time_in_words(seconds) == words


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
        result.stdout.count(f"{word} no longer written") == 1
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
