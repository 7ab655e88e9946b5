"""float16 on GPUs without bfloat16: the loss is scaled, and too high a scale is no failure."""

import functools
import json

import pytest
import torch
from torch import nn

from conftest import (
    assert_same_run,
    refuses,
    run,
    train,
    write_six_scans,
)
from dataloader import Batch
from pretended_cuda import pretended_cuda
from training import checkpoint, trainer
from training.trainer import Trainer

T4 = (7, 5)


class Line(nn.Module):
    """A network of one weight w, 0 at first, for losses of w itself."""

    dims = 2

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.register_buffer("mean", torch.zeros(()))


def steps(slope, count, offset=0.0, amp=torch.float16):
    """Take steps on the loss offset + slope w; ([did it fail?], scales after each, Trainer)."""
    trained = Trainer(Line(), nn.Identity(), torch.device("cpu"), amp)
    failed, scales = [], []
    for _ in range(count):
        trained.begin_step(Batch(*[torch.zeros(1)] * len(Batch._fields)))
        trained.network.mean += 1  # as a forward pass moves running statistics
        failed.append(bool(trained.end_step(slope * trained.network.weight + offset)))
        scales.append(trained.scaler.get_scale())
    return failed, scales, trained


def test_a_scale_that_is_too_high_is_halved_until_the_gradient_fits_and_nothing_failed():
    # 1e35 overflows float32 (3.4e38) from a scale of 4096 on; the first is 65536
    failed, scales, trained = steps(1e35, 7)
    assert scales == [32768, 16384, 8192, 4096, 2048, 2048, 2048] and not any(failed)
    assert trained.optimizer.state[trained.network.weight]["step"] == 2
    assert trained.network.mean == 2  # the statistics of the steps that were left out are put back


def test_a_loss_that_is_not_finite_fails_at_any_scale():
    failed, scales, trained = steps(1.0, 2, offset=float("nan"))
    assert failed == [True, True] and trained.network.weight == 0


def test_a_gradient_that_overflows_without_scaling_fails_once_the_scale_is_1():
    failed, scales, trained = steps(float("inf"), 18, offset=0.0)
    assert failed == [True] * 18  # inf times 0 is NaN: the loss itself
    failed, scales, trained = steps(*infinite_gradient())
    assert scales[15:] == [1, 0.5, 0.25] and failed == [False] * 16 + [True] * 2
    assert trained.network.weight == 0


def infinite_gradient():
    """A slope whose loss is 0 and whose gradient is infinite, and the steps until that fails."""
    class Slope(torch.autograd.Function):
        @staticmethod
        def forward(ctx, weight):
            return weight * 0

        @staticmethod
        def backward(ctx, gradient):
            return gradient * float("inf")

    class Times:
        def __mul__(self, weight):
            return Slope.apply(weight)

    return Times(), 18


def test_without_float16_nothing_is_scaled():
    failed, scales, trained = steps(1e35, 2, amp=torch.bfloat16)
    assert failed == [False, False] and scales == [1, 1] and trained.scaler.state_dict() == {}
    assert trained.optimizer.state[trained.network.weight]["step"] == 2


# Alpha near 1, where no gradient of these runs overflows
PAPERS = ("--schedule", "rebalance:0.01")


# Whole runs ---------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """raw/, data/, and `run`, trained on a pretended T4, whose scale doubles every second step."""
    root = tmp_path_factory.mktemp("float16")
    write_six_scans(root)
    with pytest.MonkeyPatch.context() as patch:
        growing(patch)
        with pretended_cuda(capability=T4):
            assert train(root / "data", root / "run", *PAPERS).returncode == 0
        yield root


def growing(patch):
    """A scale that doubles every second step, so that a resumed run shows whether it was kept."""
    scaler = functools.partial(torch.amp.GradScaler, growth_interval=2)
    patch.setattr(trainer.torch.amp, "GradScaler", scaler)


def last(folder):
    return torch.load(folder / "last.pt", map_location="cpu", weights_only=True)


def test_a_gpu_without_bfloat16_trains_in_float16_as_the_cpu_would(root, tmp_path):
    result = train(root / "data", tmp_path / "run", "--device", "cpu", "--amp", "fp16", *PAPERS)
    assert result.returncode == 0, result.stderr
    assert_same_run(root / "run", tmp_path / "run")
    assert json.loads((root / "run" / "config.json").read_text())["amp"] == "float16"
    assert last(root / "run")["scaler"]["scale"] == 2.0**19  # 6 steps


def test_a_resumed_run_keeps_the_scale_and_its_age(root, tmp_path):
    for epochs in (1, 2):
        with pretended_cuda(capability=T4):
            assert train(root / "data", tmp_path / "run", *PAPERS, epochs=epochs).returncode == 0
        age = last(tmp_path / "run")["scaler"]["_growth_tracker"]
        assert age == (3 * epochs) % 2
    assert_same_run(root / "run", tmp_path / "run")
    assert last(root / "run")["scaler"] == last(tmp_path / "run")["scaler"]


@pytest.mark.parametrize("first, second", [("fp16", "bf16"), ("bf16", "fp16")])
def test_a_run_goes_on_from_and_to_float16(root, tmp_path, first, second):
    for epochs, amp in ((1, first), (2, second)):
        result = train(root / "data", tmp_path / "run", "--amp", amp, *PAPERS, epochs=epochs)
        assert result.returncode == 0, result.stderr
    assert bool(last(tmp_path / "run")["scaler"]) == (second == "fp16")


def test_a_checkpoint_from_before_there_was_a_scale_is_continued(root, tmp_path):
    train(root / "data", tmp_path / "run", epochs=1)
    state = last(tmp_path / "run")
    del state["scaler"]
    torch.save(state, tmp_path / "run" / "last.pt")
    assert train(root / "data", tmp_path / "run", "--amp", "fp16").returncode == 0


@pytest.mark.parametrize("wrong", [
    {"scale": float("nan")}, {"scale": 0.0}, {"scale": "1"}, {"_growth_tracker": -1},
    {"another": 1.0}])
def test_a_scale_that_is_none_is_told_apart(wrong):
    entry = torch.amp.GradScaler("cpu").state_dict()
    assert checkpoint.scaler_is_sound(entry) and checkpoint.scaler_is_sound({})
    assert not checkpoint.scaler_is_sound({**entry, **wrong})


def test_a_checkpoint_whose_scale_is_none_is_refused(root, tmp_path):
    train(root / "data", tmp_path / "run", "--amp", "fp16", epochs=1)
    state = last(tmp_path / "run")
    state["scaler"]["scale"] = 0.0
    torch.save(state, tmp_path / "run" / "last.pt")
    refuses(train(root / "data", tmp_path / "run", "--amp", "fp16"), "another scale of float16")


def test_a_step_in_float16_never_waits(root, tmp_path, monkeypatch):
    from test_cuda_pretended import train_and_validate
    with pretended_cuda(hollow=True, capability=T4) as cuda:
        found, _ = train_and_validate(
            cuda, monkeypatch, root / "data", tmp_path, "--width", 2, "--amp", "fp16")
    assert [waits for _, waits in found[1:]] == [[], []]


def test_a_network_of_float16_is_predicted_in_float32_on_a_cpu(root, tmp_path):
    result = run("predict.py", "--checkpoint", root / "run" / "best.pt", "--out", tmp_path / "m",
                 "--device", "cpu", root / "raw" / "s0")
    assert result.returncode == 0, result.stderr
    assert "trained in float16, predicted in float32" in result.stdout
    assert "--amp fp16 takes it" in result.stdout
