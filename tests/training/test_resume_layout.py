"""A run continued in another precision or memory layout: every weight keeps its own moments."""

from itertools import product

import pytest
import torch

import main
from conftest import train, train_unfinished
from training import checkpoint, devices, trainer
from training.options import parse
from training.parallel import Group

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@pytest.fixture
def layout(monkeypatch):
    """A function that has networks and images lie in a layout from now on."""
    def choose(name):
        for module in (trainer, devices):
            monkeypatch.setattr(module, "choose_memory_format", lambda *_: LAYOUTS[name])
    return choose


def stopped_run(data, folder, *options):
    """A run stopped after one epoch; returns the state that last.pt holds."""
    train_unfinished(data, folder, *options, "--schedule", "rebalance", epochs=1)
    return checkpoint.read_state(folder / "last.pt")


def continued(data, folder, *options):
    """The Trainer of a run that goes on, before its next step."""
    args = parse(["--data", str(data), "--out", str(folder), "--width", "2", "--threads", "1",
                  *options], "")
    return main.prepare(args, main.open_training(args), Group(alone=True))[0]


def adam_by_hand(state, gradients, lr):
    """The weights after Adam's next step, from a checkpoint and {name: gradient}."""
    weights, moments = dict(state["network"]), state["optimizer"]["state"]
    for number, (name, gradient) in enumerate(gradients.items()):
        step = float(moments[number]["step"]) + 1
        first = 0.9 * moments[number]["exp_avg"] + 0.1 * gradient
        second = 0.999 * moments[number]["exp_avg_sq"] + 0.001 * gradient ** 2
        scaled = (first / (1 - 0.9 ** step)) / ((second / (1 - 0.999 ** step)).sqrt() + 1e-8)
        weights[name] = weights[name] - lr * scaled
    return weights


@pytest.mark.parametrize("before, after", product(["off", "bf16"], repeat=2))
def test_the_first_step_in_any_precision_is_adams_on_the_checkpoint(
    data, tmp_path, before, after
):
    state = stopped_run(data, tmp_path / "run", "--amp", before)
    resumed = continued(data, tmp_path / "run", "--amp", after)

    generator, gradients = torch.Generator().manual_seed(0), {}
    for name, parameter in resumed.network.named_parameters():
        gradients[name] = torch.randn(parameter.shape, generator=generator)
        parameter.grad = torch.empty_like(parameter).copy_(gradients[name])
    resumed.set_learning_rate(1e-3)
    resumed.optimizer.step()

    expected = adam_by_hand(state, gradients, 1e-3)
    for name, parameter in resumed.network.named_parameters():
        torch.testing.assert_close(parameter.detach(), expected[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("before, after", product(["off", "bf16"], repeat=2))
def test_moments_lie_as_their_weights_do(data, tmp_path, before, after):
    stopped_run(data, tmp_path / "run", "--amp", before)
    resumed = continued(data, tmp_path / "run", "--amp", after)
    for parameter, values in resumed.optimizer.state.items():
        assert values["exp_avg"].stride() == values["exp_avg_sq"].stride() == parameter.stride()


@pytest.mark.parametrize("before, after", product(LAYOUTS, repeat=2))
def test_a_run_continued_in_another_layout_equals_one_in_a_piece(
    data, tmp_path, layout, before, after
):
    layout(before)
    train(data, tmp_path / "whole", "--amp", "off", "--schedule", "rebalance", epochs=3)
    stopped_run(data, tmp_path / "parts", "--amp", "off")
    layout(after)
    assert train(data, tmp_path / "parts", "--amp", "off", epochs=3).returncode == 0

    whole, parts = (torch.load(tmp_path / name / "last.pt", weights_only=True)["network"]
                    for name in ("whole", "parts"))
    for name in whole:  # convolutions round differently in another layout
        torch.testing.assert_close(parts[name], whole[name], rtol=0, atol=2e-4)
