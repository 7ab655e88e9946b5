"""Claim C5: what the boundary term adds to the time of a step."""

import numpy as np
import pytest
import torch

from pretended_cuda import pretended_cuda
from scoring.run_files import Config
from studies import claims, step_time

CPU = torch.device("cpu")
CONFIG = Config.model_construct(network="unet", width=2, size=32, batch_size=2)


def test_c5_measures_steps_with_and_without_the_term():
    result = claims.c5(CONFIG, 1, 2, CPU, repeats=5)
    assert result["low"] <= result["share"] <= result["high"]
    assert result["step_seconds"] > 0 and result["step_seconds_with"] > 0
    assert "unet, width 2, 32x32, batch 2" in result["statistic"]


def test_c5_of_a_run_in_3d_is_measured_on_its_patch():
    config = CONFIG.model_copy(update={"network": "unet3d", "patch": [8, 16, 24]})
    result = claims.c5(config, 1, 2, CPU, repeats=5)
    assert "unet3d, width 2, 8x16x24, batch 2" in result["statistic"] and result["step_seconds"] > 0


def test_c5_of_several_classes_is_measured_with_theirs(monkeypatch):
    built, shapes = [], set()

    def build_loss(name, *args, **options):
        def loss(probs, target, phi, weights):
            shapes.add((probs.shape[1], target.shape[1], phi.shape[1]))
            return probs.mean(), {}

        built.append((name, args, options))
        return loss

    monkeypatch.setattr(step_time, "build_loss", build_loss)
    config = CONFIG.model_copy(update={"boundary_classes": [1, 3]})
    result = claims.c5(config, 1, 4, CPU, repeats=5)

    assert built == [("gdl", (4,), {"boundary_classes": None}),
                     ("gdl+boundary", (4,), {"boundary_classes": [1, 3]})]
    assert shapes == {(4, 4, 3)} and ", cpu, 4 classes)" in result["statistic"]


def test_c5_is_not_decided_by_steps_that_scatter(monkeypatch):
    losses = np.tile([0.01, 0.014], (20, 1))
    for steps, verdict in (([1, 1, 1, 1, 1], "supported"),
                           ([0.1, 0.1, 1, 1, 1], "undecided")):
        times = np.array([steps, steps]).T, losses
        monkeypatch.setattr(step_time, "step_and_loss_times", lambda *_, times=times: times)
        assert claims.c5(CONFIG, 1, 2, CPU, repeats=20)["verdict"] == verdict


@pytest.mark.parametrize("extra, verdict", [(0.001, "supported"), (0.1, "refuted")])
def test_c5_is_decided_by_the_terms_share_of_a_step(monkeypatch, extra, verdict):
    steps, losses = np.ones((5, 2)), np.tile([0.01, 0.01 + extra], (20, 1))
    monkeypatch.setattr(step_time, "step_and_loss_times", lambda *_: (steps, losses))
    result = claims.c5(CONFIG, 1, 2, CPU, repeats=20)
    assert result["verdict"] == verdict and result["share"] == pytest.approx(extra)


# On a GPU -----------------------------------------------------------------------------------------

@pytest.fixture
def cuda(monkeypatch):
    monkeypatch.setattr(step_time, "SIZE", 8)
    with pretended_cuda(hollow=True) as device:
        yield device


def test_on_cuda_a_call_is_timed_by_events_behind_other_work(cuda, monkeypatch):
    said = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            said.append("event")

        def elapsed_time(self, later):
            return 30.0  # ms

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: said.append("wait"))
    found = step_time.seconds(lambda: said.append("call"), torch.device("cuda"))
    assert found == 30e-3 / step_time.QUEUED
    assert said == ["wait", "event", *["call"] * step_time.QUEUED, "event", "wait"]
    assert cuda.launches.count("mm") == step_time.AHEAD  # before the first event


def test_c5_on_cuda_waits_only_around_what_it_times(cuda, monkeypatch):
    monkeypatch.setattr(step_time, "SECONDS", 0)  # the fewest steps
    share = step_time.share_of_step(CONFIG, 1, 2, torch.device("cuda"), repeats=2)
    assert share["step_seconds"] > 0
    waits = [wait.split(" at ")[0] for wait in cuda.waits]
    timed = waits[waits.index("synchronize"):]  # before it, the network is moved to the device
    assert set(timed) == {"synchronize"}
