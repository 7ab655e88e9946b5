"""Whose schedule of alpha a run has, and what is said of it before, while and after it trains."""

import json
from argparse import Namespace
from types import SimpleNamespace

import pytest

from conftest import refuses, train
from scoring import scan_scores
from training import monitor, options, schedules
from training.config import settle_schedule
from training.run_folder import RunFolder


def parsed(*words):
    return options.parse(["--data", "d", "--out", "o", *map(str, words)], "")


def begun(folder, schedule):
    """A run folder with this schedule in its config.json."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"schedule": schedule, "sessions": []}))
    (folder / "last.pt").touch()
    return folder


# Whose it is --------------------------------------------------------------------------------------

@pytest.mark.parametrize("own, words, expected", [
    ("rebalance:0.4", (), "rebalance:0.4"),
    ("rebalance", (), "rebalance"),                               # of an earlier version
    ("rebalance:0.4", ("--schedule", "rebalance:0.2"), "rebalance:0.2"),  # refused later
    ("rebalance:0.4:0.5", (), "rebalance:0.2"),
    ("rebalance:0.4:0.5", ("--row", "gdl+boundary-floor0.5"), "rebalance:0.4:0.5"),
    ("constant:0.5", (), "rebalance:0.2"),
    ("increase:0.4", (), "rebalance:0.2"),
    ("code2018", ("--protocol", "code2018"), "code2018"),
    (None, (), "rebalance:0.2"), (3, (), "rebalance:0.2"), ("up", (), "rebalance:0.2")])
def test_a_run_keeps_its_own_step_where_none_is_asked_for(tmp_path, own, words, expected):
    args = parsed("--epochs", 10, *words)
    settle_schedule(args, begun(tmp_path / "seed0", own))
    assert args.schedule == expected


@pytest.mark.parametrize("name, other, expected", [
    ("seed1", "seed0", "rebalance:0.4"), ("seed0-fold1", "seed0-fold0", "rebalance:0.4"),
    ("run", "seed0", "rebalance:0.2"), ("seed1", "run", "rebalance:0.2")])
def test_a_further_seed_or_fold_takes_the_step_of_its_row(tmp_path, name, other, expected):
    begun(tmp_path / other, "rebalance:0.4")
    args = parsed("--epochs", 10)
    settle_schedule(args, tmp_path / name)
    assert args.schedule == expected


def test_a_run_that_was_not_begun_binds_nobody(tmp_path):
    (begun(tmp_path / "seed0", "rebalance:0.4") / "last.pt").unlink()
    args = parsed("--epochs", 10)
    settle_schedule(args, tmp_path / "seed0")
    assert args.schedule == "rebalance:0.2"


def test_more_epochs_leave_the_schedule_of_a_run_as_it_is(data, tmp_path):
    first = train(data, tmp_path / "seed0", epochs=1)
    assert "alpha falls by 2 / 1 per epoch (rebalance:1)" in first.stdout
    assert "alpha is still 1 in the last epoch, and never reaches its floor of 0.01" in first.stdout

    longer = train(data, tmp_path / "seed0", epochs=3)
    assert "alpha follows rebalance:1, as in the earlier runs of this row; new ones of 3 " \
        "epochs would take rebalance:0.666667" in longer.stdout
    assert "alpha is at its floor of 0.01 from epoch 1 on, after 3 training steps: networks were " \
        "emptied" in longer.stdout

    config = json.loads((tmp_path / "seed0" / "config.json").read_text())
    assert (config["schedule"], config["steps_per_epoch"]) == ("rebalance:1", 3)
    assert "step_is_default" not in config
    text = (tmp_path / "seed0" / "metrics.csv").read_text().splitlines()
    assert [line.split(",")[1] for line in text[1:]] == ["1.0", "0.01", "0.01"]

    asked = train(data, tmp_path / "seed0", "--schedule", "rebalance:0.5", epochs=4)
    refuses(asked, "schedule rebalance:0.5", "schedule rebalance:1")


def test_a_run_that_could_not_be_compared_with_its_set_is_refused_before_it_trains(data, tmp_path):
    first = tmp_path / "set" / "gdl" / "seed0"
    assert train(data, first, loss="gdl", epochs=1).returncode == 0
    refuses(train(data, tmp_path / "set" / "ce" / "seed0", "--lr-schedule", "poly", loss="ce",
                  epochs=1), f"the same lr_schedule as in {first} (plateau), found poly")
    refuses(train(data, tmp_path / "set" / "gdl" / "seed1", "--lesion-slices", loss="gdl",
                  epochs=1), f"the same lesion_slices as in {first} (False), found True")
    assert sorted(path.name for path in (tmp_path / "set").glob("*/*")) == ["seed0"]

    # more epochs are on the way to a longer set; beside a set anything goes
    assert train(data, tmp_path / "set" / "ce" / "seed0", loss="ce", epochs=2).returncode == 0
    assert train(data, tmp_path / "ce" / "seed0", "--width", 4, loss="ce",
                 epochs=1).returncode == 0


# What is said before ------------------------------------------------------------------------------

HASTE = "networks were emptied where that took fewer than some 2,000"


@pytest.mark.parametrize("words, steps, expected", [
    (("--epochs", 30), 20, ["alpha falls by 2 / 30 per epoch (rebalance:0.0666667)",
                            "at its floor of 0.01 from epoch 15 on, after 300 training steps: "
                            + HASTE]),
    (("--epochs", 30), 134, ["falls by 2 / 30", "after 2,010 training steps"]),
    ((), 370, ["at its floor of 0.01 from epoch 99 on, after 36,630 training steps"]),
    (("--schedule", "rebalance:0.1:0.5:2"), 10, [
        "at its floor of 0.5 from epoch 7 on, after 70 training steps: " + HASTE]),
    (("--schedule", "switch:50"), 40, ["0.01 from epoch 50 on, after 2,000 training steps"]),
    (("--schedule", "switch:50"), 39, ["after 1,950 training steps: " + HASTE]),
    (("--epochs", 30, "--schedule", "rebalance"), 20, [
        "alpha is still 0.71 in the last epoch, and never reaches its floor of 0.01"]),
    (("--epochs", 99, "--schedule", "rebalance"), 20, ["alpha is still 0.02"]),
    (("--epochs", 100, "--schedule", "rebalance"), 21, ["epoch 99 on, after 2,079"]),
    (("--schedule", "constant:0.5"), 20, []),
    (("--epochs", 30, "--loss", "gdl"), 20, []),
    (("--epochs", 30, "--loss", "boundary"), 20, [])])
def test_a_line_says_when_alpha_is_at_its_floor(words, steps, expected):
    lines = schedules.lines(parsed(*words), steps)
    assert len(lines) == len(expected)
    assert all(part in line for part, line in zip(expected, lines, strict=True))
    assert (HASTE in "".join(lines)) == (HASTE in "".join(expected))


# ... while it trains ------------------------------------------------------------------------------

def scan(epoch, found=0, lesions=2):
    """A row of scores.csv."""
    zeros = dict.fromkeys(scan_scores.COLUMNS, 0)
    return {**zeros, "epoch": epoch, "subject": "a", "class_name": "lesion",
            "lesions": lesions, "lesions_found": found}


@pytest.mark.parametrize("found, floor_epoch, warns_in", [
    ([0, 0, 0, 0], 2, [1]), ([0, 0, 1, 0], 2, [1]), ([0, 1, 0, 0], 2, []), ([1, 0, 0, 0], 2, []),
    ([0, 0, 0, 0], None, []), ([0, 0, 0, 0], 0, [])])
def test_one_line_warns_where_no_lesion_was_found_before_the_floor(
    tmp_path, capsys, monkeypatch, found, floor_epoch, warns_in
):
    monkeypatch.setattr(monitor, "short", lambda *_: "")
    shown = monitor.Monitor(tmp_path, 4, floor_epoch)
    shown.missing.add("tensorboard")
    bar = SimpleNamespace(disable=True, set_postfix_str=lambda _: None)
    monkeypatch.setattr(monitor, "for_people", lambda *_: "")

    warned = []
    for epoch, count in enumerate(found):
        scan_scores.append(tmp_path, [scan(epoch, count)])
        shown.report({"epoch": epoch, "val_foreground": 1}, [], bar, False, list)
        if "no validation lesion was found in the last 2 epochs" in capsys.readouterr().out:
            warned.append(epoch)
    assert warned == warns_in


# ... and at its end -------------------------------------------------------------------------------

@pytest.mark.parametrize("score, foreground, rates, expected", [
    ("val_dice", 0, [1e-3, 1e-3, 5e-4, 2.5e-4],
     "best DSC 0.600 at epoch 1, which predicts no foreground (the share of slices without a "
     "lesion); the learning rate was then halved twice, from 0.001 to 0.00025"),
    ("val_dice_3d", 0, [1e-3] * 4, "best 3-D DSC 0.600 at epoch 1, which predicts no foreground "
     "(the share of scans without a lesion); the learning rate then stayed at 0.001"),
    ("val_dice", 0, [1e-3, 9e-4, 4.5e-4, 0], "best DSC 0.600 at epoch 1, which predicts no "
     "foreground (the share of slices without a lesion); the learning rate then fell from 0.0009 "
     "to 0"),
    ("val_dice", 0, [1e-3, 5e-4], "best DSC 0.600 at epoch 1, which predicts no foreground "
     "(the share of slices without a lesion)"),
    ("val_dice", 0.1, [1e-3, 5e-4], "best DSC 0.600 at epoch 1")])
def test_the_last_line_says_if_the_best_epoch_predicts_nothing(score, foreground, rates, expected):
    rows = [{"epoch": epoch, "lr": lr, score: 0.6, "val_foreground": foreground}
            for epoch, lr in enumerate(rates)]
    run = Namespace(settings={"score": score}, best=rows[1], rows=rows)
    assert RunFolder.best_in_words(run) == expected
