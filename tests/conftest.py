"""Scans that tests write themselves, and programs that they call."""

import csv
import importlib
import io
import os
import re
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout

import nibabel as nib
import numpy as np
import pytest
import torch

from checkout import ROOT
from training import devices, monitor
from utils import run_program

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # so a shell starts background processes
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config):
    """Tests compute on the CPU, whatever the machine has, but for those of `-m cuda`."""
    if not re.search(r"(?<!not )\bcuda\b", config.getoption("markexpr", "") or ""):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # for the programs that tests start too


RUNNING = {"signals": False}  # the test that runs ends programs as a signal would


def pytest_runtest_setup(item):
    RUNNING["signals"] = item.get_closest_marker("signals") is not None


@pytest.fixture(scope="session", autouse=True)
def float32_unless_asked():
    """Tests compute in float32 unless they say otherwise, whatever the machine prefers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "cpu_flags", set)
        yield


draw_progress = monitor.draw_progress


@pytest.fixture(scope="session", autouse=True)
def no_pictures_of_progress():
    """progress.png takes longer than a small run; its own tests take `draw_progress` from here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(monitor, "draw_progress", lambda *_: None)
        yield


@pytest.fixture(params=["off", "bf16"])
def each_precision(request, monkeypatch):
    """The value of --amp; the test runs in float32 and in bfloat16.

    torch emulates bfloat16 where the processor has none.
    """
    flags = {"avx512_bf16"} if request.param == "bf16" else set()
    monkeypatch.setattr(devices, "cpu_flags", lambda: flags)
    return request.param


# Scans --------------------------------------------------------------------------------------------

def write_wmh_subject(folder, shape=(20, 24, 5), affine=None, seed=0, dtype=np.float32):
    """One subject in the WMH layout; returns its label image.

    It is noise with a bright 6x5x2 lesion, label 1, and one voxel of label 2.
    """
    rng = np.random.default_rng(seed)
    label = np.zeros(shape, np.uint8)
    label[5:11, 8:13, 1:3] = 1
    label[15, 3, 2] = 2

    affine = np.diag([1.0, 1.0, 3.0, 1.0]) if affine is None else affine
    (folder / "pre").mkdir(parents=True)
    for name, gain in (("FLAIR", 60), ("T1", -20)):
        image = (rng.normal(100, 8, shape) + gain * (label == 1)).astype(dtype)
        nib.save(nib.Nifti1Image(image, affine), folder / "pre" / f"{name}.nii.gz")
    nib.save(nib.Nifti1Image(label, affine), folder / "wmh.nii.gz")
    return label


@pytest.fixture
def raw(tmp_path):
    """A folder of six subjects in the WMH layout."""
    for number in range(6):
        write_wmh_subject(tmp_path / "raw" / f"s{number}", seed=number)
    return tmp_path / "raw"


@pytest.fixture
def data(raw, tmp_path):
    """The raw folder preprocessed to 32x32: four training and two validation subjects."""
    result = preprocess(raw, tmp_path / "data")
    assert result.returncode == 0, result.stderr
    return tmp_path / "data"


def preprocess(raw, out, *more):
    """preprocess.py to 32x32 with two validation subjects."""
    return run("preprocess.py", "--layout", "wmh", "--raw", raw, "--out", out, "--size", 32,
               "--val", 2, *more)


def write_six_scans(root):
    """raw/ with six scans of 20x24x5, and data/ of size 32, two of them for validation."""
    for number in range(6):
        write_wmh_subject(root / "raw" / f"s{number}", seed=number)
    assert preprocess(root / "raw", root / "data").returncode == 0


def damage(name, change):
    """Change one image of s1: `change` gets (voxels, affine) and returns the new pair."""
    def do(raw):
        path = raw / "s1" / name
        image = nib.load(path)
        voxels, affine = change(np.asanyarray(image.dataobj).copy(), image.affine.copy())
        nib.save(nib.Nifti1Image(voxels, affine), path)

    return do


def put(value, index=(0, 0, 0)):
    """A change for `damage`: this value in one voxel."""
    def change(voxels, affine):
        voxels = voxels.astype(np.float32)
        voxels[index] = value
        return voxels, affine

    return change


# Programs -----------------------------------------------------------------------------------------

def run(program, *arguments):
    """Run a program in this process, as its command line would.

    Returns a CompletedProcess with text output. A program takes the signals that were meant for
    pytest: if one ends it, the session ends, unless xdist's own process has had the signal too.
    """
    module = importlib.import_module(program.removesuffix(".py"))
    if not hasattr(module, "main"):  # a package, as `python -m` runs it
        module = importlib.import_module(f"{program}.__main__")

    arguments = [str(argument) for argument in arguments]
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            run_program(lambda: module.main(arguments))
        except SystemExit as stop:
            status = stop.code or 0
    if status in (130, 143) and not RUNNING["signals"] and "PYTEST_XDIST_WORKER" not in os.environ:
        pytest.exit(f"{program} was ended by a signal: {err.getvalue()}", returncode=status)
    return subprocess.CompletedProcess(
        [program, *arguments], status, out.getvalue(), err.getvalue())


def run_apart(program, *arguments, **options):
    """The same in a process of its own."""
    words = [ROOT / program] if program.endswith(".py") else ["-m", program]
    return subprocess.run([sys.executable, *words, *map(str, arguments)], cwd=ROOT,
                          capture_output=True, text=True, timeout=300, **options)


def refuses(result, *words):
    """Assert that a program ended with status 2 and, last on stderr, a line that holds these words.

    Returns that line.
    """
    assert result.returncode == 2, (result.returncode, result.stderr)
    last = result.stderr.strip().splitlines()[-1]
    assert "Traceback" not in result.stderr and last.startswith("error: "), result.stderr
    for word in words:
        assert str(word) in last, f"{word!r} not in {last!r}"
    return last


def train(data, out, *more, loss="gdl+boundary", epochs=2):
    """main.py with a network of width 2."""
    return run("main.py", "--data", data, "--out", out, "--loss", loss, "--width", 2,
               "--epochs", epochs, "--quiet", "--threads", 1, *more)


def train_unfinished(data, out, *more, epochs):
    """The same, but killed after its last epoch, before the run is marked as finished."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.import_module("main"), "finish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(data, out, *more, epochs=epochs)


# Run folders --------------------------------------------------------------------------------------

def rows(folder):
    """metrics.csv without what differs from run to run."""
    with open(folder / "metrics.csv") as file:
        return [{**row, "seconds": None} for row in csv.DictReader(file)]


def weights(folder, name="best.pt"):
    """The network's tensors in a checkpoint."""
    return torch.load(folder / name, map_location="cpu", weights_only=True)["network"]


def assert_same_run(first, second):
    """Assert that two run folders hold the same epochs, weights and masks, bit for bit."""
    assert rows(first) == rows(second)
    for name in ("best.pt", "last.pt"):
        a, b = weights(first, name), weights(second, name)
        assert all(torch.equal(a[key], b[key]) for key in a), name

    masks, again = np.load(first / "predictions.npz"), np.load(second / "predictions.npz")
    assert all((masks[key] == again[key]).all() for key in masks)
