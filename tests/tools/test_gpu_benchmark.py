"""python -m benchmarks gpu, at a small size: on the CPU and on a pretended device."""

import argparse
import json
import os
import time
from types import SimpleNamespace

import pytest
import torch

from benchmarks import gpu, gpu_epoch, gpu_steps
from conftest import write_six_scans
from pretended_cuda import pretended_cuda
from training import step_graph
from utils import UserError


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data folder of four training scans and two for validation, 32x32."""
    root = tmp_path_factory.mktemp("gpu")
    write_six_scans(root)
    return root / "data"


@pytest.fixture
def small(monkeypatch, data):
    """Everything once, on small data; nothing is compiled."""
    monkeypatch.setattr(torch, "compile", lambda network, **options: network)
    monkeypatch.setattr(gpu, "COPIED", {"cuda": 2**12, "cpu": 2**12})
    monkeypatch.setattr(gpu_steps, "SIZES", {"cuda": (8, 16), "cpu": (8, 16)})
    monkeypatch.setattr(gpu_steps, "SECONDS", {"cuda": 0.001, "cpu": 0.001})
    monkeypatch.setattr(gpu_steps, "work_of", lambda *_, **__: SimpleNamespace(flop=10**6))
    monkeypatch.setattr(gpu, "QUEUED", 3)
    monkeypatch.setattr(gpu_steps, "NETWORKS", ("unet",))
    monkeypatch.setattr(gpu_steps, "ROUNDS", 1)
    monkeypatch.setattr(gpu_steps, "STEPS", 1)
    monkeypatch.setattr(gpu_epoch, "EPOCHS", 3)
    monkeypatch.setattr(gpu_epoch, "SIDE_BY_SIDE", (2,))
    monkeypatch.setattr(gpu_epoch, "data_folder", lambda args, folder: data)
    monkeypatch.setattr(step_graph, "apart", lambda step, device: step())
    monkeypatch.setattr(step_graph, "record", lambda step: step)


def options(out, device, *parts):
    return argparse.Namespace(out=out, device=device, parts=parts or gpu.PARTS, width=2, size=32,
                              subjects=6, networks=None)


def check(out, card, parts=gpu.PARTS):
    """What was recorded, with every part in the table too."""
    found = json.loads((out / "gpu.json").read_text())
    text = (out / "gpu.md").read_text()
    assert found["card"] == card and text.startswith(f"# {card}: measured")
    heads = {"device": "| device |", "steps": "| network |", "epoch": "| epoch of 20 and 10 slices",
             "side_by_side": "| runs at a time |"}
    for part in parts:
        assert found[part] and heads[part] in text
    assert ("side_by_side" in parts) == (heads["side_by_side"] in text)
    return found


def test_all_parts_are_measured_on_a_cpu_and_recorded(small, tmp_path):
    gpu.run(options(tmp_path, "cpu"), tmp_path)
    found = check(tmp_path, "cpu")
    assert set(found["device"]["peak_flops"]) == {"bfloat16", "TF32", "float32"}
    assert set(found["device"]["flops"]["float32"]) == {"8", "16"}
    assert found["device"]["bytes_per_second"] > 0 and found["device"]["under_load"] is None

    steps = found["steps"]["networks"]["unet"]
    assert set(steps) == {"eager float32", "eager TF32", "2018, TF32", "here, TF32",
                          "here, bfloat16", "here, bfloat16, compiled"}
    assert steps["eager float32"]["gain"] == 1
    assert all(step["use"] > 0 and step["start_seconds"] > 0 for step in steps.values())

    epoch = found["epoch"]
    assert list(epoch["seconds"]) == ["train", "validate", "save", "the rest"]
    assert sum(epoch["seconds"].values()) == pytest.approx(epoch["epoch_seconds"], rel=0.02)
    assert all(value > 0 for value in epoch["beside"].values())
    assert epoch["loader_slices_per_second"] > 0 and not epoch["resident"]
    assert set(found["side_by_side"]) == {"2"}
    assert len(list(tmp_path.glob("side2-*/summary.json"))) == 2


def test_a_call_for_one_network_keeps_the_steps_of_others_of_the_same_shape():
    before = {"shape": "8x256x256, width 64", "matmul_flops": 1.0,
              "networks": {"unet": {"eager": 1}, "enet": {"eager": 2}}}
    found = before | {"matmul_flops": 2.0, "networks": {"enet": {"eager": 3}}}
    assert gpu.with_other_networks(before, found) == {
        "shape": "8x256x256, width 64", "matmul_flops": 2.0,
        "networks": {"unet": {"eager": 1}, "enet": {"eager": 3}}}
    other = found | {"shape": "8x256x256, width 16"}
    assert gpu.with_other_networks(before, other) == other
    assert gpu.with_other_networks(None, found) == found
    epoch = {"train": 20}
    assert gpu.with_other_networks({"train": 10}, epoch) == epoch


def test_a_pretended_device_is_measured(small, tmp_path):
    with pretended_cuda() as cuda:
        gpu.run(options(tmp_path, "cuda", "device", "steps", "epoch"), tmp_path)
    found = check(tmp_path, "a pretended device", ("device", "steps", "epoch"))
    assert "here, bfloat16, CUDA graph" in found["steps"]["networks"]["unet"]
    assert found["device"]["capability"] == [9, 0] and found["epoch"]["resident"]
    assert cuda.launches


def test_eager_steps_wait_for_nothing_and_those_of_2018_do(small):
    with pretended_cuda() as cuda:
        for build, waits in ((gpu_steps.EagerStep, 0), (gpu_steps.BaselineStep, 14)):
            step = build("unet", 2, 32, 2, torch.device("cuda"))
            step()
            cuda.waits.clear()
            step()
            assert (len(cuda.waits) > 0) == (waits > 0)


def test_the_eager_step_trains_as_ours_does():
    cpu = torch.device("cpu")
    eager, ours = (gpu_steps.EagerStep("unet", 2, 32, 2, cpu),
                   gpu_steps.Step("unet", 2, 32, 2, cpu))
    for _ in range(2):
        torch.testing.assert_close(eager(), ours(), rtol=1e-4, atol=1e-5)


def test_without_a_gpu_it_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("training.gpus.device_files", list)
    with pytest.raises(UserError, match="none that torch can use"):
        gpu.run(options(tmp_path, "cuda"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_does_not_fit_is_recorded_as_that(small, monkeypatch):
    def too_large(*where):
        raise torch.OutOfMemoryError("CUDA out of memory")

    variants = gpu_steps.variants(torch.bfloat16, torch.device("cpu"))
    monkeypatch.setattr(gpu_steps, "variants", lambda amp, device: {
        "eager float32": variants["eager float32"]._replace(build=too_large),
        "here, bfloat16": variants["here, bfloat16"]})
    found = gpu_steps.measure("unet", 2, 32, torch.device("cpu"), torch.bfloat16, 1e12)
    assert found["eager float32"] is None and found["here, bfloat16"]["seconds"] > 0
    assert found["here, bfloat16"]["gain"] is None  # against nothing
    text = gpu.of_steps({"shape": "8x32x32", "networks": {"unet": found}})
    assert "| `unet` | eager float32 | does not fit |" in text and "nan" not in text


def test_switches_are_as_they_were_afterwards():
    before = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    with gpu_steps.switches(tf32=False, benchmark=True):
        assert not torch.backends.cudnn.allow_tf32 and torch.backends.cudnn.benchmark
        assert not torch.backends.cuda.matmul.allow_tf32
    assert before == (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark)


# What is recorded ---------------------------------------------------------------------------------

def test_parts_measured_before_stay_if_the_card_is_the_same(tmp_path):
    path, cpu = tmp_path / "gpu.json", torch.device("cpu")
    assert gpu.earlier(path, cpu) == {"card": "cpu"}
    path.write_text(json.dumps({"card": "cpu", "steps": {"a": 1}, "command": "..."}))
    assert gpu.earlier(path, cpu) == {"card": "cpu", "steps": {"a": 1}}
    path.write_text(json.dumps({"card": "a card", "steps": {"a": 1}}))
    assert gpu.earlier(path, cpu) == {"card": "cpu"}
    path.write_text("{")
    assert gpu.earlier(path, cpu) == {"card": "cpu"}


def test_clocks_and_driver_are_those_that_nvidia_smi_says_of_this_device(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\necho "$1, 580.1, v, P0, 1980 MHz, 1980 MHz, 2619 MHz, 2619 MHz, '
                       '690 W, 700 W, 60, Enabled, Disabled"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    for shown, index, number in (("", 1, "1"), ("3,5", 1, "5"), ("GPU-ab", 0, "GPU-ab")):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
        found = gpu.smi(torch.device("cuda", index))
        assert found["name"] == f"--id={number}" and found["driver_version"] == "580.1"
        assert found["clocks.sm"] == "1980 MHz" and found["mig.mode.current"] == "Disabled"

    program.write_text("#!/bin/sh\necho No devices were found\n")
    assert gpu.smi(torch.device("cuda")) is None and gpu.smi(torch.device("cpu")) is None
    program.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu.smi(torch.device("cuda")) is None


def test_an_epochs_time_is_that_of_its_parts(monkeypatch):
    """Two epochs, each of 3 s of training, 2 of validation and 1 of saving, by a false clock."""
    clock = [0.0]

    def takes(seconds):
        def work(*_):
            clock[0] += seconds

        return work

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    for (owner, name), spent in zip(gpu_epoch.PARTS.values(), (3, 2, 1), strict=True):
        monkeypatch.setattr(owner, name, takes(spent))
    plain = gpu_epoch.main.validate
    with gpu_epoch.watching() as (epochs, starts):
        gpu_epoch.main.validate()  # before any epoch: not counted
        for _ in range(2):
            for owner, name in gpu_epoch.PARTS.values():
                getattr(owner, name)()
    assert [dict(epoch) for epoch in epochs] == [{"train": 3, "validate": 2, "save": 1}] * 2
    assert starts == [2, 8] and gpu_epoch.main.validate is plain
