"""Checkpoints: damaged ones are noticed and replaced, those of other runs are refused."""

import importlib
import json
import os
import shutil
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from conftest import (
    assert_same_run,
    refuses,
    rows,
    train,
    train_unfinished,
    write_six_scans,
)
from training import checkpoint, inference, nonfinite, validation
from training.run_folder import RunFolder
from utils import UserError


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """data/; whole/, a run of three epochs; killed/, one that was killed before its end."""
    root = tmp_path_factory.mktemp("checkpoint")
    write_six_scans(root)
    assert train(root / "data", root / "whole", epochs=3).returncode == 0
    train_unfinished(root / "data", root / "killed", epochs=3)
    return root


@pytest.fixture
def data(runs):
    return runs / "data"


@pytest.fixture
def stopped(runs, tmp_path):
    """A run of three epochs killed before its end: last.pt of epoch 2, previous.pt of epoch 1."""
    shutil.copytree(runs / "killed", tmp_path / "run")
    return tmp_path / "run"


def epoch_of(path):
    return len(checkpoint.read_state(path)["rows"])


def test_last_pt_and_the_one_before_are_kept_until_the_run_is_finished(data, stopped):
    assert epoch_of(stopped / "last.pt") == 3 and epoch_of(stopped / "previous.pt") == 2
    assert train(data, stopped, epochs=3).returncode == 0
    assert not (stopped / "previous.pt").exists()


DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "words": lambda path: path.write_bytes(b"no checkpoint"),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-3000]),
    "gone": os.remove,
    "of torch, but another thing": lambda path: torch.save({"network": {}}, path),
    "no dict": lambda path: torch.save([1, 2], path),
    "an optimizer of nothing": lambda path: torch.save(
        {**torch.load(path, weights_only=True), "optimizer": {"param_groups": [], "state": {}}},
        path,
    ),
}


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_last_pt_is_replaced_by_the_one_before(data, stopped, runs, how):
    DAMAGES[how](stopped / "last.pt")
    result = train(data, stopped, epochs=3)
    assert result.returncode == 0, result.stderr
    assert "Continuing from previous.pt" in result.stdout and "last.pt: " in result.stdout
    assert_same_run(runs / "whole", stopped)


def test_a_damaged_last_pt_never_takes_the_place_of_the_good_one_before(data, stopped):
    (stopped / "last.pt").write_bytes(b"damaged")
    train_unfinished(data, stopped, epochs=3)
    assert epoch_of(stopped / "previous.pt") == 2 and epoch_of(stopped / "last.pt") == 3
    assert (stopped / "last.damaged.pt").read_bytes() == b"damaged"


def test_without_a_sound_checkpoint_the_last_one_is_named(data, stopped):
    for name in ("last.pt", "previous.pt"):
        (stopped / name).write_bytes(b"damaged")
    refuses(
        train(data, stopped, epochs=3),
        stopped / "last.pt",
        "a damaged file",
        "an unfinished one begins again",
    )
    assert (stopped / "last.pt").read_bytes() == b"damaged"


def test_a_flipped_bit_is_noticed_or_changes_nothing(stopped):
    path, rng = stopped / "best.pt", np.random.default_rng(0)
    whole, before = path.read_bytes(), checkpoint.read_state(path)
    noticed = 0
    for place in rng.integers(len(whole), size=300):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << rng.integers(8)
        path.write_bytes(flipped)
        try:
            after = checkpoint.read_state(path)
        except UserError:
            noticed += 1
            continue
        assert after["epoch"] == before["epoch"] and after["data"] == before["data"]
        assert all(
            torch.equal(after["network"][key], before["network"][key]) for key in before["network"]
        )

    assert noticed > 150  # the rest are gaps between the records


def test_the_checkpoint_of_another_run_is_refused_with_every_difference(data, tmp_path, stopped):
    train(data, tmp_path / "other", "--network", "unet2018", "--seed", 5, epochs=3)
    shutil.copy(tmp_path / "other" / "last.pt", stopped / "last.pt")
    (stopped / "previous.pt").unlink()
    line = refuses(train(data, stopped, epochs=3), stopped / "last.pt")
    assert (
        "expected a checkpoint with seed 0, network unet, found one with seed 5, network unet2018."
        in line
    )


def test_every_setting_that_differs_from_the_directorys_is_named(data, stopped):
    line = refuses(train(data, stopped, "--lr", "0.1", "--network", "unet2018", epochs=3), stopped)
    assert (
        "expected a run with network unet2018, lr 0.1, found one with network unet, lr 0.001."
        in line
    )


def test_a_lost_or_damaged_best_pt_is_made_again(data, stopped, runs, tmp_path):
    for change in (os.remove, lambda path: path.write_bytes(b"damaged")):
        shutil.copytree(stopped, tmp_path / "again")
        change(tmp_path / "again" / "best.pt")
        assert train(data, tmp_path / "again", epochs=3).returncode == 0
        assert_same_run(runs / "whole", tmp_path / "again")
        shutil.rmtree(tmp_path / "again")


def test_a_write_that_does_not_read_back_keeps_the_file_before(tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    checkpoint.write_state(path, {"a": torch.ones(9)})
    save = torch.save

    def lossy(state, place):
        save(state, place)
        place.write_bytes(
            place.read_bytes().replace(
                torch.zeros(99).numpy().tobytes(), torch.ones(99).numpy().tobytes()
            )
        )

    monkeypatch.setattr(torch, "save", lossy)

    with pytest.raises(
        UserError, match="a disk that keeps what is written to it, found ValueError: checksum"
    ):
        checkpoint.write_state(path, {"a": torch.zeros(99)}, tmp_path / "previous.pt")

    assert checkpoint.read_state(path)["a"].sum() == 9 and os.listdir(tmp_path) == ["last.pt"]


def test_objects_are_not_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    torch.save({"network": Trap()}, tmp_path / "last.pt")
    with pytest.raises(UserError, match="a damaged file .UnpicklingError"):
        checkpoint.read_state(tmp_path / "last.pt")
    assert not (tmp_path / "sprung").exists()


def test_a_tensor_that_reaches_beyond_its_file_is_refused(tmp_path):
    import zipfile

    torch.save({"a": torch.ones(1000)}, tmp_path / "a.pt")

    with zipfile.ZipFile(tmp_path / "a.pt") as old, zipfile.ZipFile(tmp_path / "b.pt", "w") as new:
        for record in old.infolist():
            content = old.read(record)
            if record.filename.endswith("data.pkl"):
                assert (
                    content.count(b"M\xe8\x03") == 2
                )  # 1000, as the size of the storage and of the tensor
                content = content.replace(b"M\xe8\x03", b"J\x00\x00\x00\x10")  # 2**28
            new.writestr(record.filename, content)

    with pytest.raises(UserError, match="a damaged file"):
        checkpoint.read_state(tmp_path / "b.pt")


@pytest.mark.signals
@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("step", [1, 3, 4])
def test_a_signal_ends_the_run_after_its_step_and_nothing_is_lost(
    data, tmp_path, monkeypatch, number, status, step
):
    options = ("--batch-size", 7)  # 20 slices: three steps an epoch, the last of six
    train(data, tmp_path / "whole", *options, epochs=2)
    taken, step_unless = [], nonfinite.step_unless

    def signal_in_step(*arguments):
        step_unless(*arguments)
        taken.append(1)
        if len(taken) == step:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(nonfinite, "step_unless", signal_in_step)
        result = train(data, tmp_path / "cut", *options, epochs=2)

    assert result.returncode == status and len(taken) == step
    epoch = (step - 1) // 3

    assert (
        result.stderr.count("\n") == 1
        and f"stopped in epoch {epoch}" in result.stderr
        and "same command" in result.stderr
    )
    again = train(data, tmp_path / "cut", *options, epochs=2)

    assert (
        again.returncode == 0
        and f"continues in epoch {epoch} after step {step - 3 * epoch}" in again.stdout
    )
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.signals
def test_a_signal_during_validation_keeps_the_training_of_the_epoch(data, tmp_path, monkeypatch):
    train(data, tmp_path / "whole", epochs=2)
    classes_of = inference.classes_of

    def signal_in_validation(logits):
        signal.raise_signal(signal.SIGTERM)
        return classes_of(logits)

    with monkeypatch.context() as patch:
        patch.setattr(inference, "classes_of", signal_in_validation)
        assert train(data, tmp_path / "cut", epochs=2).returncode == 143

    assert "continues in epoch 0 after step 3" in train(data, tmp_path / "cut", epochs=2).stdout
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_a_network_of_numbers_that_are_not_finite_is_not_saved(data, tmp_path, monkeypatch):
    train(data, tmp_path / "run", epochs=1)
    before = (tmp_path / "run" / "best.pt").read_bytes()
    predict = validation.predict

    def spoil(trainer, *arguments):
        masks = list(predict(trainer, *arguments))
        next(trainer.network.parameters()).data[0] = float("nan")
        return masks

    monkeypatch.setattr(validation, "predict", spoil)
    refuses(train(data, tmp_path / "run", epochs=2), "finite weights", "epoch 1")

    assert (tmp_path / "run" / "best.pt").read_bytes() == before and epoch_of(
        tmp_path / "run" / "last.pt"
    ) == 1
    assert len(rows(tmp_path / "run")) == 1


# What lies beside it ------------------------------------------------------------------------------

def test_a_run_that_is_ended_with_fewer_epochs_says_so_everywhere(data, stopped):
    config = json.loads((stopped / "config.json").read_text())
    (stopped / "config.json").write_text(json.dumps({**config, "epochs": 8}))
    with open(stopped / "scores.csv", "a") as file:  # of an epoch that last.pt does not have
        file.write(scores_of(stopped)[-1].replace("2,", "3,", 1))

    assert train(data, stopped, epochs=2).returncode == 0
    epochs = [json.loads((stopped / name).read_text())["epochs"]
              for name in ("config.json", "summary.json")]
    assert epochs == [3, 3] and len(rows(stopped)) == 3
    assert scores_of(stopped)[-1].startswith("2,")


def scores_of(folder):
    with open(folder / "scores.csv") as file:
        return file.readlines()


def cut_lines(*kept):
    def cut(path):
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line for line in lines if line.split(",")[0] in ("epoch", *kept)))
    return cut


@pytest.mark.parametrize("damage, words", [
    (cut_lines("0", "2"), "none of epoch 1"), (cut_lines("0", "1"), "none of epoch 2"),
    (cut_lines(), "none of epoch 0"),
    (lambda path: path.write_text("a,b\n" + "".join(scores_of(path.parent)[1:])), "another header"),
    (lambda path: path.write_bytes(b"\xff\xfe\x00\x81\n"), "UnicodeDecodeError")])
def test_damaged_scores_are_refused_until_they_are_removed(data, stopped, damage, words):
    before = scores_of(stopped)
    damage(stopped / "scores.csv")
    refuses(train(data, stopped, epochs=4), "scores.csv: expected", words, "or remove it")
    (stopped / "scores.csv").unlink()
    assert train(data, stopped, epochs=4).returncode == 0
    assert {line.split(",")[0] for line in scores_of(stopped)} == {"epoch", "3"} and before
    assert train(data, stopped, epochs=5).returncode == 0
    assert {line.split(",")[0] for line in scores_of(stopped)} == {"epoch", "3", "4"}


def test_an_empty_file_of_scores_is_begun_again(data, stopped):
    (stopped / "scores.csv").write_bytes(b"")
    assert train(data, stopped, epochs=4).returncode == 0
    assert {line.split(",")[0] for line in scores_of(stopped)} == {"epoch", "3"}


def test_a_run_that_starts_takes_no_best_network_of_an_earlier_one(data, tmp_path, monkeypatch):
    options = ("--lr-schedule", "constant")
    train(data, tmp_path / "whole", *options, "--seed", 1, epochs=1)
    train(data, tmp_path / "run", *options, "--seed", 0, epochs=1)
    for name in ("last.pt", "summary.json"):
        (tmp_path / "run" / name).unlink()

    def killed(*_):
        raise OSError
    with monkeypatch.context() as patch:  # between last.pt and last.best.pt
        patch.setattr("training.best_network.save", killed)
        train(data, tmp_path / "run", *options, "--seed", 1, epochs=1)
    assert (tmp_path / "run" / "last.pt").exists()
    assert train(data, tmp_path / "run", *options, "--seed", 1, epochs=1).returncode == 0
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_masks_are_predicted_in_the_precision_of_the_best_epoch(data, tmp_path, monkeypatch):
    taken, predict = [], importlib.import_module("main").predict

    def note(trainer, *more):
        taken.append(trainer.amp)
        return predict(trainer, *more)
    monkeypatch.setattr("main.predict", note)
    monkeypatch.setattr("main.is_native", lambda amp, device: True)
    options = ("--lr-schedule", "constant", "--lr", 1e-9)
    train(data, tmp_path / "run", *options, "--amp", "off", epochs=1)
    train(data, tmp_path / "run", *options, "--amp", "bf16", epochs=2)
    best = json.loads((tmp_path / "run" / "summary.json").read_text())["best_epoch"]
    assert taken == [None, torch.bfloat16 if best == 1 else None]


def test_the_precision_of_the_best_epoch_is_that_of_the_session_that_validated_it():
    sessions = [{"from_epoch": at, "amp": amp} for at, amp in (
        (0, "float32"), (5, "bfloat16"), (4, "float16"))]  # the last one begins from previous.pt
    run = SimpleNamespace(settings={"sessions": sessions})
    for epoch, amp in ((3, None), (4, torch.float16), (5, torch.float16)):
        run.best = {"epoch": epoch}
        assert RunFolder.amp_of_best(run) == amp
