"""What must not change a run by a bit: --deterministic on a CPU, threads, scans at a time."""

import json
import os
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from checkout import ROOT
from conftest import assert_same_run, preprocess, refuses, run, train
from dataloader import Slices, batches
from losses import JointLoss
from networks import NETWORKS
from training import devices, validation
from utils import UserError


@pytest.fixture
def switches(monkeypatch):
    """Torch's switches as they were, after the test."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    places = [
        (torch.backends.cudnn, "benchmark"),
        (torch.backends.cudnn, "allow_tf32"),
        (torch.backends.cuda.matmul, "allow_tf32"),
        (torch.utils.deterministic, "fill_uninitialized_memory"),
    ]
    before = [getattr(*place) for place in places]
    yield
    torch.use_deterministic_algorithms(False)
    for place, value in zip(places, before, strict=True):
        setattr(*place, value)
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


def test_deterministic_changes_no_bit_of_a_run_on_a_cpu_and_is_noted(
    data, tmp_path, switches, each_precision
):
    train(data, tmp_path / "plain", "--device", "cpu")
    assert train(data, tmp_path / "asked", "--device", "cpu", "--deterministic").returncode == 0
    assert_same_run(tmp_path / "plain", tmp_path / "asked")
    noted = [
        json.loads((tmp_path / name / "config.json").read_text())["deterministic"]
        for name in ("plain", "asked")
    ]
    assert noted == [False, True]


@pytest.mark.parametrize(
    "given, used", [(None, ":4096:8"), (":16:8", ":16:8"), (":0:0", ":4096:8")]
)
def test_deterministic_sets_every_switch_before_cuda_starts(
    data, tmp_path, switches, monkeypatch, given, used
):
    if given:
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", given)
    torch.backends.cudnn.benchmark = True
    seen = []

    def look(device):
        seen.append(
            (
                os.environ["CUBLAS_WORKSPACE_CONFIG"],
                torch.are_deterministic_algorithms_enabled(),
                torch.is_deterministic_algorithms_warn_only_enabled(),
                torch.backends.cudnn.benchmark,
                torch.backends.cudnn.allow_tf32,
                torch.backends.cuda.matmul.allow_tf32,
            )
        )
        raise UserError("device", "none", "one", "Look at the switches.")

    monkeypatch.setattr(devices, "choose_device", look)
    train(data, tmp_path / "run", "--deterministic")

    assert seen == [(used, True, False, False, False, False)]


def test_deterministic_may_change_when_a_run_continues(data, tmp_path, switches):
    train(data, tmp_path / "run", epochs=1)
    assert train(data, tmp_path / "run", "--deterministic", epochs=2).returncode == 0
    sessions = json.loads((tmp_path / "run" / "config.json").read_text())["sessions"]
    assert [session["deterministic"] for session in sessions] == [False, True]


def test_a_run_started_before_sessions_noted_it_continues(data, tmp_path):
    train(data, tmp_path / "run", epochs=1)
    path = tmp_path / "run" / "config.json"
    config = json.loads(path.read_text())
    del config["deterministic"], config["sessions"][0]["deterministic"]
    path.write_text(json.dumps(config))
    assert train(data, tmp_path / "run", epochs=2).returncode == 0


def test_an_operation_without_a_deterministic_form_is_one_line(
    data, tmp_path, switches, monkeypatch
):
    monkeypatch.setattr(
        JointLoss,
        "parts",
        lambda loss, probs, *_: {
            "gdl": probs.clone().put_(torch.tensor([0, 0]), torch.ones(2, dtype=probs.dtype)).sum()
        },
    )
    refuses(
        train(data, tmp_path / "run", "--deterministic"),
        "a deterministic form",
        "put_",
        "Leave out --deterministic",
    )
    assert not (tmp_path / "run" / "last.pt").exists()


def test_deterministic_and_compile_exclude_each_other(data, tmp_path):
    result = train(data, tmp_path / "run", "--deterministic", "--compile")
    assert result.returncode == 2 and "--deterministic: not with --compile" in result.stderr


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("amp", ["off", "bf16"])
def test_two_deterministic_runs_on_cuda_are_bit_identical(data, tmp_path, switches, network, amp):
    for name in ("a", "b"):
        result = train(
            data,
            tmp_path / name,
            "--device",
            "cuda",
            "--deterministic",
            "--network",
            network,
            "--width",
            16,
            "--amp",
            amp,
            epochs=4,
            loss="gdl" if network == "unet3d" else "gdl+boundary",
        )
        assert result.returncode == 0, result.stderr

    assert_same_run(tmp_path / "a", tmp_path / "b")


# Threads ------------------------------------------------------------------------------------------


def test_a_reader_that_comes_late_changes_nothing(data, tmp_path, monkeypatch):
    train(data, tmp_path / "whole")
    read, rng = Slices.read, random.Random(0)

    def slow(slices, rows):
        time.sleep(rng.choice([0, 0.002, 0.01]))
        return read(slices, rows)

    monkeypatch.setattr(Slices, "read", slow)
    train(data, tmp_path / "late")
    assert_same_run(tmp_path / "whole", tmp_path / "late")


def test_slices_read_ahead_by_a_thread_are_those_kept_on_the_device(data):
    ahead, resident, device = Slices(data, "train"), Slices(data, "train"), torch.device("cpu")
    resident.move_to(device)
    order = np.random.default_rng(0).permutation(len(ahead))
    pairs = list(
        zip(batches(ahead, order, 3, device), batches(resident, order, 3, device), strict=True)
    )
    assert len(pairs) == 7 and all(
        torch.equal(a, b) for one, two in pairs for a, b in zip(one, two, strict=True)
    )


@pytest.mark.parametrize("count", [2, 8])
def test_any_number_of_threads_that_score_gives_the_same_run(data, tmp_path, monkeypatch, count):
    train(data, tmp_path / "one")
    monkeypatch.setattr(validation, "ThreadPoolExecutor", lambda _: ThreadPoolExecutor(count))
    train(data, tmp_path / "many")
    assert_same_run(tmp_path / "one", tmp_path / "many")


def test_any_number_of_scans_at_a_time_gives_the_same_data_and_scores(raw, tmp_path):
    written = []
    for jobs in (1, 2, 7):
        out = tmp_path / "data" / str(jobs) / "set"
        assert preprocess(raw, out, "--jobs", jobs).returncode == 0
        result = run(
            "evaluate.py",
            "--predictions",
            raw,
            "--references",
            raw,
            "--jobs",
            jobs,
            "--csv",
            out / "scores.csv",
        )
        assert result.returncode == 0, result.stderr
        written.append(
            {
                path.relative_to(out): path.read_bytes()
                for path in sorted(out.rglob("*"))
                if path.is_file() and path.name not in (".lock", "run_time.json")
            }
        )  # the seconds it took

    assert written[0] == written[1] == written[2] and len(written[0]) > 30


# Processes ----------------------------------------------------------------------------------------

COUNT = """
import sys
sys.path.insert(0, {root!r})
import main
epoch, started = [], []
STARTS = ("os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.exec", "os.system",
          "subprocess.Popen")
sys.addaudithook(
    lambda event, _: started.append((len(epoch), event)) if event in STARTS else None)
train = main.train_one_epoch
main.train_one_epoch = lambda *arguments: (epoch.append(0), train(*arguments))[1]
main.main({arguments!r})
print(started)
"""


def test_no_process_starts_once_training_has_begun(data, tmp_path):
    arguments = [
        "--data",
        str(data),
        "--out",
        str(tmp_path / "run"),
        "--width",
        "1",
        "--epochs",
        "4",
        "--threads",
        "2",
        "--quiet",
    ]
    result = subprocess.run(
        [sys.executable, "-c", COUNT.format(root=str(ROOT), arguments=arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    started = eval(result.stdout.splitlines()[-1], {})

    assert started and {epoch for epoch, _ in started} == {0}, (
        started
    )  # git, for config.json, before the first epoch
