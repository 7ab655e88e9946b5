"""Steps whose loss or gradient is not finite: left out, counted, named; no NaN is kept."""

import json

import numpy as np
import pytest
import torch

import main
from conftest import assert_same_run, refuses, rows, train
from losses import JointLoss
from training import inference, nonfinite
from training.trainer import Trainer
from utils import UserError


def step(gradient, loss=1.0, fused=True):
    """What is left of an Adam step of weights of 1.

    A running mean was 0 before the forward pass, which made it 5.
    """
    weight, buffer = torch.nn.Parameter(torch.ones(2)), torch.tensor([5.0])
    optimizer = torch.optim.Adam([weight], 0.1, fused=fused)
    weight.grad = torch.tensor(gradient)
    bad = nonfinite.is_bad(torch.tensor(loss), [weight])
    nonfinite.step_unless(bad, optimizer, [buffer], [torch.tensor([0.0])])
    moments = (
        [value.sum().item() for value in optimizer.state[weight].values()]
        if optimizer.state
        else [0, 0, 0]
    )
    return bool(bad), weight.tolist(), moments, buffer.item()


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(
    "gradient, loss",
    [
        ([1.0, float("nan")], 1.0),
        ([float("-inf"), 1.0], 1.0),
        ([1.0, 1.0], float("nan")),
        ([1.0, 1.0], float("inf")),
    ],
)
def test_a_bad_step_leaves_weights_moments_and_running_statistics_alone(gradient, loss, fused):
    assert step(gradient, loss, fused) == (True, [1.0, 1.0], [0, 0, 0], 0.0)


@pytest.mark.parametrize("fused", [True, False])
def test_a_good_step_is_taken_and_equals_one_without_the_check(fused):
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([weight], 0.1, fused=fused)
    weight.grad = torch.tensor([3e38, -2e-30])  # large, but finite
    optimizer.step()
    bad, after, moments, buffer = step([3e38, -2e-30], fused=fused)
    assert not bad and after == weight.tolist() and moments[0] == 1 and buffer == 5


def test_a_parameter_without_a_gradient_is_no_fault():
    assert not nonfinite.is_bad(torch.tensor(1.0), [torch.nn.Parameter(torch.ones(1))])


@pytest.mark.parametrize(
    "count, total, refused",
    [(1, 2, False), (2, 20, False), (3, 20, True), (2, 10, True), (1, 1, True), (0, 1, False)],
)
def test_more_than_a_tenth_of_the_steps_is_too_many_one_never(count, total, refused):
    if refused:
        with pytest.raises(
            UserError, match=f"{count} of {total} steps without one in epoch 7; the first is WORDS"
        ):
            nonfinite.refuse_many(count, total, "run", 7, "WORDS")
    else:
        nonfinite.refuse_many(count, total, "run", 7, "")


def test_the_first_bad_step_is_named_with_its_scans():
    bad, order = torch.tensor([False, False, True, True]), [5, 1, 0, 4, 3, 2, 6]
    count, slices, words = nonfinite.left_out(
        bad, order, 2, lambda rows: [f"scan{row}" for row in rows]
    )
    assert (count, slices, words) == (2, 3, "step 2 of 4, scans scan3, scan2")


def test_logits_that_are_not_finite_give_no_class():
    logits = torch.zeros(1, 2, 1, 3)
    logits[0, 1, 0, 0], logits[0, 0, 0, 1] = 1, float("nan")
    masks = nonfinite.classes_of(logits)
    assert masks.tolist() == [[[1, 255, 0]]] and masks.dtype == torch.uint8
    with pytest.raises(UserError, match="on the slices in epoch 3, found other values in 33.3% of"):
        nonfinite.refuse_undefined(masks.numpy(), "run", "the slices in epoch 3")


def spoil(monkeypatch, steps):
    """Make the loss NaN in these steps, counted from the start of the process."""
    parts_of, taken = JointLoss.parts, []

    def spoiled(loss, *inputs):
        parts = parts_of(loss, *inputs)
        taken.append(1)
        return {**parts, "gdl": parts["gdl"] * float("nan")} if len(taken) - 1 in steps else parts

    monkeypatch.setattr(JointLoss, "parts", spoiled)


def test_a_bad_step_of_an_epoch_is_left_out_counted_and_logged(data, tmp_path, monkeypatch):
    spoil(monkeypatch, {1})
    result = train(data, tmp_path / "run", "--batch-size", 7)
    assert result.returncode == 0, result.stderr
    assert "epoch 0, 1 steps left out" in result.stdout and "step 1 of 3, scans s" in result.stdout
    table = rows(tmp_path / "run")

    assert [row["skipped_steps"] for row in table] == ["1", "0"]
    assert all(np.isfinite(float(row["train_loss"])) for row in table)
    assert all(
        value.isfinite().all()
        for value in torch.load(tmp_path / "run" / "best.pt")["network"].values()
    )


def test_means_are_over_the_slices_of_the_other_steps(data, tmp_path, monkeypatch):
    options = ("--batch-size", 14)
    with monkeypatch.context() as patch:
        spoil(patch, {1})
        train(data, tmp_path / "cut", *options, epochs=1)

    first = []
    end_step = Trainer.end_step

    def noting(trainer, loss):
        first.append(loss.item())
        return end_step(trainer, loss)

    monkeypatch.setattr(Trainer, "end_step", noting)
    train(data, tmp_path / "whole", *options, epochs=1)

    assert float(rows(tmp_path / "cut")[0]["train_loss"]) == pytest.approx(first[0], rel=1e-6)


def test_a_bad_forward_pass_leaves_the_running_statistics_alone(data, tmp_path, monkeypatch):
    read, calls = main.batches, []

    def poisoned(slices, *arguments):
        for batch in read(slices, *arguments):
            calls.append(1)
            yield batch._replace(images=batch.images * float("inf")) if len(calls) == 2 else batch

    monkeypatch.setattr(main, "batches", poisoned)

    assert train(data, tmp_path / "run", "--batch-size", 7).returncode == 0
    assert rows(tmp_path / "run")[0]["skipped_steps"] == "1"
    assert all(
        value.isfinite().all()
        for value in torch.load(tmp_path / "run" / "last.pt")["network"].values()
    )


def test_validation_that_is_not_finite_stops_before_it_can_be_the_best(data, tmp_path, monkeypatch):
    train(data, tmp_path / "run", epochs=1)
    before = (tmp_path / "run" / "best.pt").read_bytes()
    build = main.build

    def overflowing(*arguments):
        network = build(*arguments)
        network.register_forward_hook(
            lambda module, _, logits: logits if module.training else logits * float("inf")
        )
        return network

    monkeypatch.setattr(main, "build", overflowing)
    refuses(train(data, tmp_path / "run", epochs=2), "finite network outputs", "in epoch 1")

    assert (tmp_path / "run" / "best.pt").read_bytes() == before and len(
        rows(tmp_path / "run")
    ) == 1


@pytest.mark.signals
def test_an_interruption_after_a_bad_step_keeps_its_count(data, tmp_path, monkeypatch):
    options = ("--batch-size", 7)
    with monkeypatch.context() as patch:
        spoil(patch, {0})
        train(data, tmp_path / "whole", *options)

    with monkeypatch.context() as patch:
        spoil(patch, {0})
        left_out, stop = nonfinite.step_unless, []

        def interrupted(*arguments):
            left_out(*arguments)
            stop.append(1)
            if len(stop) == 2:
                import signal

                signal.raise_signal(signal.SIGINT)

        patch.setattr(nonfinite, "step_unless", interrupted)
        assert train(data, tmp_path / "cut", *options).returncode == 130

    assert train(data, tmp_path / "cut", *options).returncode == 0
    assert rows(tmp_path / "cut")[0]["skipped_steps"] == "1"
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_a_model_that_predicts_nothing_is_noted_in_the_log(data, tmp_path, monkeypatch):
    monkeypatch.setattr(
        inference, "classes_of", lambda logits: torch.zeros_like(logits[:, 0]).to(torch.uint8)
    )
    result = train(data, tmp_path / "run", epochs=1)
    assert "predicts no foreground" in result.stdout
    assert (
        json.loads((tmp_path / "run" / "summary.json").read_text())["best"]["val_foreground"] == 0
    )
