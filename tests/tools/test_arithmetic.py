"""The arithmetic of a step, and that docs/speed.md says what it gives."""

import pytest
import torch

from benchmarks import arithmetic
from benchmarks.arithmetic import Operation, Tally, Work
from checkout import ROOT


def test_a_convolution_and_its_gradients_by_hand():
    image = torch.zeros(1, 1, 4, 4, requires_grad=True)
    convolution = torch.nn.Conv2d(1, 1, 3, padding=1, bias=False)
    with Tally() as tally:
        convolution(image).sum().backward()
    found = {each.name: each for each in tally.operations}

    # 16 pixels, 9 multiply-adds each, counted as two; 16 + 9 floats read and 16 written
    assert found["convolution"] == Operation("convolution", 288, 4 * (16 + 9 + 16))
    # the gradients of image and weights; gradient, image and weights read, both gradients written
    assert found["convolution_backward"] == Operation(
        "convolution_backward", 2 * 288, 4 * (16 + 16 + 9 + 16 + 9))


def test_views_and_reservations_are_neither_launched_nor_read():
    with Tally() as tally:
        torch.empty(3, 4).view(4, 3).T[0].detach()
        torch.zeros(3).add_(1)
    assert [each.name for each in tally.operations] == ["zeros", "add_"]
    assert tally.operations[1] == Operation("add_", 0, 12)  # in place: its bytes count once


def test_the_floor_is_the_longer_of_arithmetic_and_memory_of_each_operation(monkeypatch):
    monkeypatch.setattr(arithmetic, "CARDS", (arithmetic.Card("card", 10.0, 2.0),))
    monkeypatch.setattr(arithmetic, "operations_of", lambda *_, **__: [
        Operation("product", 100, 2),           # 10 s of arithmetic, 1 s of memory
        Operation("sum", 0, 8),                 # 4 s of memory
        *[Operation("linalg_vector_norm", 0, 0)] * 5])  # one launch on a GPU
    assert arithmetic.work_of("a network") == Work(100, 10, 3, {"card": 14.0})


def test_an_epoch_takes_the_longer_of_floor_and_launches():
    step, forward = Work(0, 0, 100, {"card": 0.5}), Work(0, 0, 100, {"card": 0.0})
    assert arithmetic.epoch_seconds({"a": (step, forward)}, "a", "card", (16, 80)) == [
        pytest.approx(2 * 0.5), pytest.approx(10 * 100 * 10e-6)]


def test_tables_are_put_in_the_place_of_those_with_the_same_head():
    text = "a\n\n| x | y |\n|---|---|\n| 1 | 2 |\n\nb | x | z |\n\n| z |\n|---|\n| 0 |\n\nc\n"
    new = "| x | y |\n|---|---|\n| 3 | 4 |\n| 5 | 6 |\n\n| z |\n|---|\n| 7 |"
    assert arithmetic.put_into(text, new) == (
        "a\n\n| x | y |\n|---|---|\n| 3 | 4 |\n| 5 | 6 |\n\nb | x | z |\n\n"
        "| z |\n|---|\n| 7 |\n\nc\n")


@pytest.fixture(scope="module")
def tables():
    return arithmetic.tables()


def test_docs_speed_says_what_the_arithmetic_gives(tables):
    text = (ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
    for table in tables.split("\n\n"):
        assert table in text, "run `python -m benchmarks arithmetic`, which writes them"
    assert "Computed, not measured" in text


def test_the_flop_of_a_step_are_three_forward_passes_less_a_gradient(tables):
    """The first convolution's image needs no gradient: 2 * 9 * 2 * 64 for each of 8 * 256^2."""
    rows = {line.split("|")[1].strip(): line.split("|")[2].strip()
            for line in tables.split("\n\n")[0].splitlines()[2:]}
    assert rows["`unet`"] == "2.309" and rows["`unet2018`"] == "5.047"
    forward = 8 * 96.3e9  # as the README's table of networks has it
    assert (3 * forward - 2 * 9 * 2 * 64 * 8 * 256**2) / 1e12 == pytest.approx(2.309, abs=0.002)
