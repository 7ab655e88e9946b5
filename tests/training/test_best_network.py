"""The best network beside last.pt: whatever a kill or damage leaves, the run ends with the best.

Epochs are played: a network of one number, which a session sets as it likes. So a session that
repeats an epoch may come to another end of it, as on a GPU.
"""

import os
from itertools import count
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from conftest import assert_same_run, refuses, train, train_unfinished
from losses_regional import build_loss
from training import best_network, checkpoint, run_folder
from training.config import DEFINES
from training.run_folder import COLUMNS, RunFolder
from training.trainer import Trainer
from utils import UserError

SETTINGS = {**dict.fromkeys(DEFINES, 0), "score": "val_dice", "sessions": []}
SCORES = [0.5, 0.4, 0.7, 0.8, 0.6, 0.9]  # best at 0, 2, 3 and 5


class Killed(BaseException):
    """Stands for SIGKILL."""


class Number(nn.Module):
    """A network of one number."""

    dims = 2

    def __init__(self):
        super().__init__()
        self.number = nn.Parameter(torch.zeros(()))


class Model:
    """What best.pt says beside the network."""

    data = SimpleNamespace(classes=[0, 1], modalities=[0])

    def __init__(self, **said):
        self.said = said

    def model_copy(self, update):
        return Model(**self.said | update)

    def as_dict(self):
        return self.said


def session(folder, history, scores, first, kill=None):
    """Play the epochs that are left; returns the RunFolder.

    Args:
        history: {epoch: the network's number at its end}, changed in place.
        scores: of the epochs.
        first: the network's number at the end of epoch 0; one more in each.
        kill: number of the rename before which the process is killed, from 1; None: it is not.
    """
    trainer = Trainer(Number(), build_loss("gdl"), torch.device("cpu"))
    run = RunFolder(folder, trainer, SETTINGS, Model(), COLUMNS)
    renames, replace = count(1), os.replace

    def rename(*paths):
        if next(renames) == kill:
            raise Killed
        replace(*paths)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", rename)
        run.resume()
        run.keep_best()
        if run.rows:
            assert trainer.network.number.item() == history[run.epoch - 1]
        with run.background:
            for epoch in range(run.epoch, len(scores)):
                history[epoch] = first + epoch
                trainer.network.number.data.fill_(first + epoch)
                row = {"epoch": epoch, "val_dice": scores[epoch], "seconds": 1.0}
                run.save_epoch(row, lambda: ({}, []), lambda *_: None)
    return run


@pytest.fixture(autouse=True)
def without_sync(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)


DAMAGES = {"nothing": None, "last.pt": b"damaged", "last.best.pt": b"damaged", "best.pt": b"",
           "previous.pt": b"damaged", "previous.best.pt": b""}


@pytest.mark.parametrize("damaged", DAMAGES)
def test_after_a_kill_at_any_rename_and_damage_to_a_file_the_best_is_kept(tmp_path, damaged):
    for kill in count(1):
        folder, history = tmp_path / str(kill), {}
        folder.mkdir()
        try:
            session(folder, history, SCORES, 100, kill)
        except Killed:
            pass
        else:
            break

        there = {path.name for path in folder.iterdir()}
        if {damaged, "last.pt", "previous.pt"} <= there:
            (folder / damaged).write_bytes(DAMAGES[damaged])
        again = [score + 0.01 * (epoch % 2) for epoch, score in enumerate(SCORES)]
        run = session(folder, history, again, 200)

        best = max(run.rows, key=lambda row: row["val_dice"])
        assert run.best == best and [row["epoch"] for row in run.rows] == list(range(6))
        for name in ("best.pt", "last.best.pt"):
            state = checkpoint.read_state(folder / name)
            assert (state["epoch"], state["network"]["number"].item()) == (
                best["epoch"], history[best["epoch"]]), (kill, name)
    assert kill > 25


def test_where_every_copy_of_the_best_is_lost_the_run_does_not_go_on(tmp_path):
    session(tmp_path, {}, SCORES[:5], 1)  # the best is epoch 3
    for name in ("best.pt", "last.best.pt"):
        (tmp_path / name).write_bytes(b"damaged")
    with pytest.raises(UserError, match="best.pt: expected the network of epoch 3, the best, "):
        session(tmp_path, {4: 5}, SCORES, 1)


def test_the_best_network_does_not_travel_in_last_pt(tmp_path):
    session(tmp_path, {}, SCORES, 1)
    assert "best_network" not in checkpoint.read_state(tmp_path / "last.pt")


def test_a_network_of_the_same_epoch_but_other_shapes_is_not_the_best(tmp_path):
    best_network.save(tmp_path, {"number": torch.zeros(2)}, 3)
    assert best_network.find(tmp_path, 3, {"number": torch.zeros(())}) is None
    assert best_network.find(tmp_path, 3, {"number": torch.zeros(2)}) is not None


# Runs ---------------------------------------------------------------------------------------------

@pytest.fixture
def first_is_best(monkeypatch):
    monkeypatch.setattr(run_folder, "score_of", lambda row, _: -row["epoch"])


def test_a_checkpoint_that_holds_the_best_network_itself_still_resumes(
    data, tmp_path, first_is_best
):
    options = ("--schedule", "rebalance:0.01")
    train(data, tmp_path / "whole", *options, epochs=3)
    train_unfinished(data, tmp_path / "old", *options, epochs=2)
    old = checkpoint.read_state(tmp_path / "old" / "last.pt")
    old["best_network"] = checkpoint.read_state(tmp_path / "old" / "best.pt")["network"]
    torch.save(old, tmp_path / "old" / "last.pt")
    for name in ("best.pt", "last.best.pt", "previous.pt"):
        (tmp_path / "old" / name).unlink()

    assert train(data, tmp_path / "old", *options, epochs=3).returncode == 0
    assert_same_run(tmp_path / "whole", tmp_path / "old")
    assert not (tmp_path / "old" / "previous.best.pt").exists()


def test_a_finished_run_that_lost_best_pt_gets_it_again(data, tmp_path, first_is_best):
    train(data, tmp_path / "run", epochs=2)
    before = checkpoint.read_state(tmp_path / "run" / "best.pt")["network"]
    (tmp_path / "run" / "best.pt").unlink()
    assert "finished, 2 epochs" in train(data, tmp_path / "run", epochs=2).stdout
    after = checkpoint.read_state(tmp_path / "run" / "best.pt")["network"]
    assert all(torch.equal(before[name], after[name]) for name in before)

    for name in ("best.pt", "last.best.pt"):
        (tmp_path / "run" / name).unlink()
    assert "finished, 2 epochs" in train(data, tmp_path / "run", epochs=2).stdout
    refuses(train(data, tmp_path / "run", epochs=3), "best.pt", "the network of epoch 0, the best")
