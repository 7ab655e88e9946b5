"""A training run: what it writes and refuses, that it learns, resumes and repeats exactly."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import nibabel as nib
import numpy as np
import pytest
import torch

import main
from checkout import ROOT
from conftest import assert_same_run, refuses, rows, run_apart, train, train_unfinished
from dataloader import Scan
from losses import JointLoss
from networks import build
from scoring.scores import epoch_scores, score_scan
from training import checkpoint
from training.config import open_training
from training.parallel import Group
from training.run_folder import COLUMNS
from training.validation import predict


def test_a_run_writes_the_files_of_the_contract(data, tmp_path):
    result = train(data, tmp_path / "run")
    assert result.returncode == 0, result.stderr
    files = {path.name for path in (tmp_path / "run").iterdir()}

    assert {
        "config.json",
        "metrics.csv",
        "last.pt",
        "best.pt",
        "predictions",
        "summary.json",
    } <= files
    assert any(name.startswith("events.out.tfevents") for name in files)
    table = rows(tmp_path / "run")

    assert list(table[0]) == COLUMNS and [row["epoch"] for row in table] == ["0", "1"]
    assert [row["alpha"] for row in table] == ["1.0", "0.01"]  # at its floor half way
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    scores = [float(row["val_dice"]) for row in table]

    assert summary["epochs"] == 2 and summary["best_epoch"] == scores.index(max(scores))
    config = json.loads((tmp_path / "run" / "config.json").read_text())

    assert config["loss"] == "gdl+boundary" and config["versions"]["torch"] == torch.__version__
    assert (
        config["data_fingerprint"] == json.loads((data / "fingerprint.json").read_text())["sha256"]
    )


def test_without_nibabel_a_run_ends_well_and_says_what_it_leaves_out(data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nibabel", None)  # an import of it fails
    result = train(data, tmp_path / "run", epochs=1)
    assert (
        result.returncode == 0
        and "not written, nibabel is not installed here" in result.stdout + result.stderr
    )
    assert (tmp_path / "run" / "predictions.npz").exists() and not (
        tmp_path / "run" / "predictions"
    ).exists()


def test_predictions_lie_on_the_scans_own_grid(data, raw, tmp_path):
    train(data, tmp_path / "run", epochs=1)
    files = sorted((tmp_path / "run" / "predictions").iterdir())
    assert [file.name for file in files] == [
        f"{name}.nii.gz" for name in np.load(tmp_path / "run" / "predictions.npz")
    ]
    reference = nib.load(raw / files[0].name.removesuffix(".nii.gz") / "wmh.nii.gz")
    image = nib.load(files[0])
    assert image.shape == reference.shape and np.array_equal(image.affine, reference.affine)


@pytest.mark.parametrize("loss, gdl, boundary", [("gdl", True, False), ("boundary", False, True)])
def test_only_the_terms_of_the_loss_are_written(data, tmp_path, loss, gdl, boundary):
    train(data, tmp_path / "run", loss=loss, epochs=1)
    row = rows(tmp_path / "run")[0]
    assert (row["train_gdl"] != "", row["train_boundary"] != "") == (gdl, boundary)
    assert row["train_loss"] == (row["train_gdl"] or row["train_boundary"])


def test_it_learns_a_bright_square(data, tmp_path, each_precision):
    result = train(data, tmp_path / "run", "--width", 8, "--lr", 0.003, loss="gdl", epochs=30)
    assert result.returncode == 0, result.stderr
    assert float(rows(tmp_path / "run")[-1]["val_dice_lesion"]) > 0.9


def test_two_runs_of_one_seed_are_bit_identical_and_another_seed_is_not(
    data, tmp_path, each_precision
):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(data, tmp_path / name, "--seed", seed)
    assert_same_run(tmp_path / "a", tmp_path / "b")
    assert rows(tmp_path / "a") != rows(tmp_path / "c")


def test_a_run_continued_to_more_epochs_equals_one_in_a_piece(data, tmp_path, each_precision):
    schedule = ("--schedule", "rebalance:0.3")  # else it would depend on the epochs
    train(data, tmp_path / "whole", *schedule, epochs=4)
    train(data, tmp_path / "parts", *schedule, epochs=1)
    train(data, tmp_path / "parts", *schedule, epochs=4)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_a_killed_run_continues_to_the_same_end(data, tmp_path, each_precision):
    train(data, tmp_path / "whole", epochs=6)
    command = [
        sys.executable,
        ROOT / "main.py",
        "--data",
        data,
        "--out",
        tmp_path / "killed",
        "--width",
        "2",
        "--epochs",
        "6",
        "--quiet",
        "--threads",
        "1",
        "--loss",
        "gdl+boundary",
        "--amp",
        each_precision,
    ]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    while process.poll() is None and not (tmp_path / "killed" / "metrics.csv").exists():
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()

    assert not (tmp_path / "killed" / "summary.json").exists()
    assert train(data, tmp_path / "killed", epochs=6).returncode == 0
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.signals
@pytest.mark.parametrize("name, count", [("last.pt", 2), ("best.pt", 1), ("best.pt", 2)])
def test_a_kill_before_a_checkpoint_is_written_changes_nothing(
    data, tmp_path, monkeypatch, name, count
):
    train(data, tmp_path / "whole", epochs=3)
    write, calls = checkpoint.write_state, []

    def die(path, state, previous=None):
        calls.append(path.name)
        if path.name == name and calls.count(name) == count:
            raise KeyboardInterrupt
        write(path, state, previous)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_state", die)
        stopped = train(data, tmp_path / "cut", epochs=3).returncode

    assert stopped == (130 if calls.count(name) >= count else 0)
    assert train(data, tmp_path / "cut", epochs=3).returncode == 0
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_a_run_made_longer_and_stopped_counts_as_unfinished(data, tmp_path):
    train(data, tmp_path / "run", epochs=1)
    train_unfinished(data, tmp_path / "run", epochs=2)
    assert not (tmp_path / "run" / "summary.json").exists()
    assert train(data, tmp_path / "run", epochs=2).returncode == 0
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["epochs"] == 2


def test_fewer_epochs_than_a_run_has_leave_it_as_it_is(data, tmp_path):
    train(data, tmp_path / "run", epochs=2)
    before = (tmp_path / "run" / "config.json").read_bytes()
    result = train(data, tmp_path / "run", "--amp", "off", epochs=1)
    assert result.returncode == 0 and "finished, 2 epochs" in result.stdout
    assert (tmp_path / "run" / "config.json").read_bytes() == before


def test_every_session_of_a_run_is_noted(data, tmp_path):
    train(data, tmp_path / "run", "--amp", "off", epochs=1)
    train(data, tmp_path / "run", "--amp", "bf16", epochs=2)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert [(session["from_epoch"], session["amp"]) for session in config["sessions"]] == [
        (0, "float32"),
        (1, "bfloat16"),
    ]
    assert config["amp"] == "float32" and config["epochs"] == 2


def test_a_finished_run_without_its_checkpoint_is_not_restarted(data, tmp_path):
    train(data, tmp_path / "run", epochs=2)
    (tmp_path / "run" / "last.pt").unlink()
    table = (tmp_path / "run" / "metrics.csv").read_bytes()
    assert "finished, 2 epochs" in train(data, tmp_path / "run", epochs=2).stdout
    refuses(train(data, tmp_path / "run", epochs=3), "last.pt, to continue a finished run")
    assert (tmp_path / "run" / "metrics.csv").read_bytes() == table


def test_deleted_predictions_of_a_finished_run_are_made_again(data, tmp_path):
    train(data, tmp_path / "run", epochs=2)
    config = (tmp_path / "run" / "config.json").read_bytes()
    shutil.rmtree(tmp_path / "run" / "predictions")
    (tmp_path / "run" / "predictions.npz").rename(tmp_path / "moved.npz")

    assert train(data, tmp_path / "run", epochs=2).returncode == 0
    again, before = np.load(tmp_path / "run" / "predictions.npz"), np.load(tmp_path / "moved.npz")

    assert all((again[name] == before[name]).all() for name in before) and list(
        (tmp_path / "run" / "predictions").iterdir()
    )
    assert (tmp_path / "run" / "config.json").read_bytes() == config and len(
        rows(tmp_path / "run")
    ) == 2


def test_a_run_that_never_ended_an_epoch_does_not_bind_the_next(data, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(main, "train_one_epoch", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(data, tmp_path / "run", "--lr", "0.5", epochs=1)
    assert train(data, tmp_path / "run", epochs=1).returncode == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["lr"] == 0.001


def test_a_full_disk_keeps_the_checkpoint_before(data, tmp_path, monkeypatch):
    train(data, tmp_path / "run", epochs=1)
    before = (tmp_path / "run" / "last.pt").read_bytes()

    def full(state, path):
        path.write_bytes(b"half")
        raise RuntimeError("[enforce fail at inline_container.cc:664] unexpected pos 64 vs 0")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        refuses(
            train(data, tmp_path / "run", epochs=2),
            ".pt: ",
            "room for a checkpoint",
            "Free some space",
        )

    assert (tmp_path / "run" / "last.pt").read_bytes() == before and not list(
        (tmp_path / "run").glob("*partial*")
    )


def test_a_finished_run_says_so_and_changes_nothing(data, tmp_path):
    train(data, tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").glob("*.pt")}
    result = train(data, tmp_path / "run")
    assert result.returncode == 0 and "finished, 2 epochs" in result.stdout
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "run").glob("*.pt")}


def test_another_setting_in_the_same_directory_is_refused(data, tmp_path):
    train(data, tmp_path / "run", epochs=1)
    refuses(
        train(data, tmp_path / "run", "--lr", "0.1", epochs=1),
        tmp_path / "run",
        "lr 0.1",
        "lr 0.001",
    )


def test_a_damaged_checkpoint_is_named(data, tmp_path):
    train(data, tmp_path / "run", epochs=1)
    (tmp_path / "run" / "last.pt").write_bytes(b"not a checkpoint")
    refuses(train(data, tmp_path / "run", epochs=2), "last.pt", "a damaged file")


def test_a_second_process_on_the_directory_is_refused(data, tmp_path):
    from utils import exclusive

    with exclusive(tmp_path / "run"):
        refuses(
            run_apart(
                "main.py", "--data", data, "--out", tmp_path / "run", "--width", 2, "--epochs", 1
            ),
            "that no other process uses",
            f"process {os.getpid()}",
        )


def test_a_loss_that_is_not_finite_stops_the_run_before_it_is_saved(data, tmp_path, monkeypatch):
    monkeypatch.setattr(
        JointLoss, "parts", lambda loss, probs, *_: {"gdl": probs.sum() * float("nan")}
    )
    refuses(train(data, tmp_path / "run", epochs=1), "a finite training loss", "epoch 0")
    assert not (tmp_path / "run" / "last.pt").exists()


@pytest.mark.parametrize(
    "option, value",
    [
        ("--loss", "magic"),
        ("--schedule", "up"),
        ("--network", "x"),
        ("--width", 0),
        ("--seed", -1),
        ("--lr", "nan"),
        ("--device", "toaster"),
        ("--device", "meta"),
        ("--threads", 10**6),
        ("--seed", 10**22),
        ("--lr", "inf"),
    ],
)
def test_an_option_that_makes_no_sense_ends_with_status_2(data, tmp_path, option, value):
    result = train(data, tmp_path / "run", option, value)
    assert (
        result.returncode == 2
        and option.strip("-") in result.stderr
        and "Traceback" not in result.stderr
    )
    assert not (tmp_path / "run" / "config.json").exists()


def test_data_that_is_not_there_is_refused(tmp_path):
    refuses(
        train(tmp_path / "none", tmp_path / "run"), tmp_path / "none", "Run preprocess.py first"
    )


@pytest.mark.parametrize("text", ["{}", "[]", "null", "{"])
@pytest.mark.parametrize("name", ["dataset.json", "fingerprint.json", "subjects/*/meta.json"])
def test_a_data_folder_with_json_of_another_content_is_refused(data, tmp_path, name, text):
    for path in data.glob(name):
        path.write_text(text)
    refuses(train(data, tmp_path / "run", epochs=1), path.name, "expected a JSON")
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize("text", ["{}", "[]", "null", '{"epochs": "all"}'])
@pytest.mark.parametrize("name", ["config.json", "summary.json"])
def test_a_run_folder_with_json_of_another_content_is_refused(data, tmp_path, name, text):
    train(data, tmp_path / "run", epochs=1)
    (tmp_path / "run" / name).write_text(text)
    refuses(
        train(data, tmp_path / "run", epochs=1), tmp_path / "run" / name, "expected a JSON object"
    )


def test_a_meta_file_without_its_geometry_is_refused(data, tmp_path):
    for path in data.glob("subjects/*/meta.json"):
        path.write_text('{"spacing_mm": [1, 1, 3]}')
    refuses(train(data, tmp_path / "run", epochs=1), "meta.json", "no affine, original_shape")


def test_protocols_differ_in_schedule_rate_rule_betas_and_isles_batch(data, tmp_path):
    settings = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps({**settings, "layout": "isles"}))
    found = {}
    for protocol in ("paper", "code2018"):
        train(data, tmp_path / protocol, "--protocol", protocol)
        config = json.loads((tmp_path / protocol / "config.json").read_text())
        last = torch.load(tmp_path / protocol / "last.pt", weights_only=True)
        betas = last["optimizer"]["param_groups"][0]["betas"]
        found[protocol] = (
            config["batch_size"],
            config["schedule"],
            tuple(betas),
            rows(tmp_path / protocol)[1]["lr"],
        )

    assert found["paper"] == (8, "rebalance:1", (0.9, 0.999), "0.001")
    assert found["code2018"] == (4, "code2018", (0.9, 0.99), "0.0005")  # its rule halves at epoch 0


def test_scores_of_one_epoch_by_hand():
    labels = np.zeros((4, 8, 8), np.uint8)  # two scans of two slices
    labels[0, 2:4, 2:4] = 1  # scan a: a 2x2 lesion in its first slice
    masks = np.zeros_like(labels)
    masks[0, 2:4, 3:5] = 1  # found, one pixel off: slice DSC 2 * 2 / (4 + 4) = 0.5
    masks[3, 0, 0] = 1  # scan b: one false positive, slice DSC 0
    scans = [Scan("a", slice(0, 2), (3.0, 2.0, 1.0)), Scan("b", slice(2, 4), (3.0, 2.0, 1.0))]
    result = epoch_scores(
        [score_scan(masks[scan.rows], labels[scan.rows], scan.spacing, 2) for scan in scans]
    )

    assert result["val_dice"] == pytest.approx((0.5 + 1 + 1 + 0) / 4)
    assert result["val_dice_3d"] == pytest.approx((0.5 + 0) / 2)
    assert result["val_dice_lesion"] == pytest.approx(0.5)
    assert result["val_foreground"] == 5 / 256
    diagonal = np.linalg.norm(
        (2 * 3, 8 * 2, 8 * 1)
    )  # scan b: one mask empty, so the diagonal of its image in mm

    assert result["val_hd"] == pytest.approx((1.0 + diagonal) / 2)
    # Rows as points: in slice 0, rows 2 and 3 differ from their nearest counterpart by two pixels,
    # in slice 3 by one.
    assert result["val_hd_legacy"] == pytest.approx((np.sqrt(2) + 1) / 4)


@pytest.mark.parametrize("size", [1, 3, 5, 8, 100])
def test_scans_are_predicted_whole_whatever_the_batch(data, tmp_path, size, each_precision):
    options = main.parse_arguments(
        [
            "--data",
            str(data),
            "--out",
            str(tmp_path),
            "--width",
            "2",
            "--threads",
            "1",
            "--batch-size",
            str(size),
            "--amp",
            each_precision,
        ]
    )
    trainer, val, _ = main.prepare(options, open_training(options), Group(alone=True))
    images, margin = (
        val.read(range(10)).images,
        0.016 if trainer.amp else 1e-5,
    )  # roundings of logits around 1
    trainer.network.eval()

    with torch.no_grad():
        logits = trainer.segment(images).float()
        trainer.network.head.bias[1] += (
            logits[:, 0] - logits[:, 1]
        ).median()  # half of all pixels become foreground
        logits = trainer.segment(images).float()

    expected, clear = (
        logits.argmax(1).numpy(),
        ((logits[:, 0] - logits[:, 1]).abs() > margin).numpy(),
    )

    assert clear.mean() > 0.6 and 0.3 < expected.mean() < 0.7
    found = [(scan.name, masks) for scan, masks in predict(trainer, val, val.scans, options, 0)]

    assert [name for name, _ in found] == [scan.name for scan in val.scans]

    for k, (_, masks) in enumerate(found):
        rows = slice(5 * k, 5 * k + 5)
        assert masks.dtype == np.uint8 and (masks == expected[rows])[clear[rows]].all()


def test_best_pt_rebuilds_the_network(data, tmp_path, each_precision):
    train(data, tmp_path / "run", epochs=1)
    state = torch.load(tmp_path / "run" / "best.pt", weights_only=True)
    build(*state["build"]).load_state_dict(state["network"])
    assert state["data"]["modalities"] == ["FLAIR", "T1"]


def test_help_needs_no_more_than_a_moment_of_reading(capsys):
    with pytest.raises(SystemExit):
        main.main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "Examples: python main.py --data data/wmh" in text and "(default 200)" in text


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_run_on_cuda_completes(data, tmp_path):
    assert train(data, tmp_path / "run", "--device", "cuda").returncode == 0
