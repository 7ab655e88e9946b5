"""Several processes train one network: as one would, with one writer, nothing lost if one dies."""

import csv
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import forked_python
from checkout import ROOT
from conftest import preprocess
from dataloader import Slices, batches
from scoring.scores import from_array, score_scan, to_array
from training import devices
from training.parallel import Group
from utils import UserError, explain

OPTIONS = [
    "--width",
    "2",
    "--epochs",
    "3",
    "--batch-size",
    "3",
    "--amp",
    "off",
    "--quiet",
    "--device",
    "cpu",
]


def start(data, out, processes, *more, python):
    """main.py in one process or, under torchrun, in several; a Popen.

    Args:
        python: that runs it and that torchrun starts; only a real one's children can be signalled.
    """
    launch = (
        ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        if processes > 1
        else []
    )
    words = [python, *launch, "main.py", "--data", data, "--out", out, *OPTIONS, *more]
    return subprocess.Popen(
        list(map(str, words)),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHON_EXEC": python},
    )


def train(data, out, processes, *more):
    child = start(data, out, processes, *more, python=forked_python.path())
    output, errors = child.communicate(timeout=300)
    assert child.returncode == 0, errors
    return output


def rows_of(out):
    with open(out / "metrics.csv") as file:
        return [
            {key: float(value) for key, value in row.items() if key != "seconds" and value}
            for row in csv.DictReader(file)
        ]


def same(found, expected):
    """Equal but for the rounding of float32, which training magnifies from epoch to epoch."""
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected):
        assert mine == pytest.approx(theirs, rel=2e-2, abs=1e-6)


def test_two_processes_train_as_one_with_the_same_global_batch(data, tmp_path):
    # 20 training slices in batches of 3: each process gets 2 or 1 of them
    train(data, tmp_path / "one", 1)
    said = train(data, tmp_path / "two", 2)
    one, two = rows_of(tmp_path / "one"), rows_of(tmp_path / "two")

    assert two[0]["train_loss"] == pytest.approx(one[0]["train_loss"], rel=1e-5)
    same(two, one)
    states = [
        torch.load(tmp_path / name / "last.pt", weights_only=True)["network"]
        for name in ("one", "two")
    ]

    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=0.05, atol=0.02)

    assert (
        said.count(": starts") == said.count(": done") == 1
        and (tmp_path / "two" / "predictions").is_dir()
    )
    assert "finished, 3 epochs" in train(data, tmp_path / "two", 2)


def test_a_slice_for_one_of_two_processes_is_the_step_of_one_alone(data, tmp_path):
    more = [
        "--batch-size",
        "19",
        "--epochs",
        "1",
    ]  # 20 training slices: the second step has a single one
    train(data, tmp_path / "one", 1, *more)
    train(data, tmp_path / "two", 2, *more)
    states = [
        torch.load(tmp_path / name / "last.pt", weights_only=True)["network"]
        for name in ("one", "two")
    ]
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-3, atol=1e-4)

    assert int(states[1]["down.0.1.num_batches_tracked"]) == 2


def test_two_processes_train_on_the_patches_of_one(raw, tmp_path):
    assert preprocess(raw, tmp_path / "volumes", "--map-dims", 3, "--unit", "mm").returncode == 0
    for name, processes in (("one", 1), ("two", 2)):
        train(tmp_path / "volumes", tmp_path / name, processes, "--dims", 3, "--patch", 4, 16, 16)
    one, two = rows_of(tmp_path / "one"), rows_of(tmp_path / "two")
    assert two[0]["train_loss"] == pytest.approx(one[0]["train_loss"], rel=1e-4)
    assert [row["val_dice_3d"] for row in two] == pytest.approx(
        [row["val_dice_3d"] for row in one], abs=0.02
    )


def processes_of(parent):
    """Numbers of main.py's processes below torchrun."""
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, text=True
    ).stdout.split()
    return sorted(map(int, found))


def wait_for(path, child, seconds=120):
    end = time.monotonic() + seconds
    while not path.exists() and child.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    assert path.exists(), child.communicate(timeout=60)[1]


def signalled(data, out, number):
    """What a run of two processes says whose second one got this signal after an epoch."""
    child = start(data, out, 2, "--epochs", "40", python=sys.executable)
    wait_for(out / "metrics.csv", child)
    os.kill(processes_of(child.pid)[1], number)
    _, errors = child.communicate(timeout=120)
    assert child.returncode != 0
    return errors


def test_a_killed_process_ends_all_and_the_run_continues(data, tmp_path):
    errors = signalled(data, tmp_path / "run", signal.SIGKILL)
    assert "SIGKILL" in errors
    done = len(rows_of(tmp_path / "run"))
    assert 1 <= done < 40
    before = rows_of(tmp_path / "run")
    assert "continues" in train(data, tmp_path / "run", 2, "--epochs", done + 2)
    assert rows_of(tmp_path / "run")[:done] == before and len(rows_of(tmp_path / "run")) == done + 2


def test_sigterm_to_one_process_stops_all_after_a_step_that_is_kept(data, tmp_path):
    errors = signalled(data, tmp_path / "run", signal.SIGTERM)
    assert "every step so far is kept" in errors
    assert "continues" in train(
        data, tmp_path / "run", 1, "--epochs", len(rows_of(tmp_path / "run")) + 1
    )  # and alone too


def test_processes_get_equally_many_batches_that_make_up_the_whole(data):
    slices = Slices(data, "train")
    rows = np.arange(len(slices))[:13]
    dealt = [list(batches(slices, rows, 6, torch.device("cpu"), rank, 4)) for rank in range(4)]

    assert [[len(batch.labels) for batch in one] for one in dealt] == [
        [2, 2, 1],
        [2, 2, 0],
        [1, 1, 0],
        [1, 1, 0],
    ]
    whole = slices.read(rows).images
    for step, first in enumerate((0, 6, 12)):
        for rank, one in enumerate(dealt):
            torch.testing.assert_close(one[step].images, whole[first : first + 6][rank::4])


def test_sums_of_each_process_are_pointed_out(capsys):
    group = Group(alone=True)
    for world, loss, options, noted in (
            (1, "gdl+boundary", {"batch": 1}, False), (2, "gdl+boundary", {"batch": 1}, True),
            (2, "gdl", None, False), (2, "ce", {"weights": [1, 2]}, True)):
        group.world = world
        group.note_own_sums(loss, options)
        assert ("each process's own images" in capsys.readouterr().out) == noted, (loss, options)


def test_several_processes_take_no_gpu_by_number(monkeypatch):
    monkeypatch.setattr(devices, "choose_device", torch.device)
    group = Group(alone=True)
    group.world = 2
    args = SimpleNamespace(device="cuda:3", deterministic=False, threads=None)
    with pytest.raises(UserError, match="found cuda:3. Choose the GPUs by CUDA_VISIBLE_DEVICES"):
        devices.set_up_device(args, group)


def test_scans_are_shared_out_whole_and_in_order(monkeypatch):
    parts = []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "3")
        parts.append(Group().share(list("abcdefg")))
    assert parts == [["a", "b"], ["c", "d"], ["e", "f", "g"]]


def test_shares_weigh_so_that_the_mean_over_processes_is_over_slices(
    monkeypatch,
):
    group = Group(alone=True)
    group.world = 2
    batch = type("Batch", (), {"images": torch.zeros(3, 1)})()
    # Losses of 1, 2, 3 here and 5 in the other process: the mean over slices is 11/4, and so is
    # the mean over processes of weight * mean.
    other = type("Batch", (), {"images": torch.zeros(1, 1)})()

    assert (group.take_share(4, batch) * 2 + group.take_share(4, other) * 5) / 2 == 11 / 4
    assert (
        group.take_share(1, type("Batch", (), {"images": torch.zeros(0, 1)})()) == 0
        and not group.present
    )


def test_scores_of_a_scan_survive_the_exchange():
    rng = np.random.default_rng(0)
    masks, labels = (rng.integers(0, 3, (4, 12, 10)).astype(np.uint8) for _ in range(2))
    scores = score_scan(masks, labels, (3.0, 1.0, 1.0), 3)
    for mine, theirs in zip(from_array(to_array(scores)), scores, strict=True):
        assert mine.keys() == theirs.keys()
        for name, value in theirs.items():
            np.testing.assert_array_equal(mine[name], value)
            assert np.asarray(mine[name]).dtype == np.asarray(value).dtype


def test_a_lost_connection_is_explained_in_one_line():
    expected, _, do = explain(
        RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:4242")
    )
    assert expected == "all processes of the run" and "Repeat the command" in do
