"""Alpha schedules and learning-rate rules against the rules written out, with exact fractions."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scheduler import (
    alpha,
    changed,
    code2018_lr,
    differ_in_step,
    floor_epoch,
    for_epochs,
    plateau_lr,
    poly_lr,
    weights,
)

# Alpha --------------------------------------------------------------------------------------------

def falling(step, floor, epochs):
    """1, then less by `step` after each epoch, never under `floor`; exact."""
    value, values = Fraction(1), []
    for _ in range(epochs):
        values.append(value)
        value = max(value - Fraction(step), Fraction(floor))
    return values


def test_rebalance_starts_at_1_and_ends_at_001():
    values = [alpha("rebalance", epoch) for epoch in range(200)]
    assert values[:4] == [1.0, 0.99, 0.98, 0.97]
    assert values[97:101] == [0.03, 0.02, 0.01, 0.01]
    assert values[-1] == 0.01


def test_rebalance_is_the_papers_rule_at_all_200_epochs():
    expected = [float(value) for value in falling("0.01", "0.01", 200)]
    assert [alpha("rebalance", epoch) for epoch in range(200)] == expected


@pytest.mark.parametrize("step", ["0.01", "0.05", "0.125", "0.5", "1"])
def test_rebalance_falls_by_the_given_step(step):
    expected = [float(value) for value in falling(step, "0.01", 120)]
    assert [alpha(f"rebalance:{step}", epoch) for epoch in range(120)] == expected


def test_rebalance_by_03_written_out():
    assert [alpha("rebalance:0.3", epoch) for epoch in range(6)] == [1.0, 0.7, 0.4, 0.1, 0.01, 0.01]


@pytest.mark.parametrize("value", ["0", "0.5", "1"])
def test_constant_stays(value):
    assert {alpha(f"constant:{value}", epoch) for epoch in range(200)} == {float(value)}


def test_increase_has_the_alpha_of_rebalance():
    assert [alpha("increase", epoch) for epoch in (0, 1, 99, 199)] == [1.0, 0.99, 0.01, 0.01]


# Floor and warm-up --------------------------------------------------------------------------------

@pytest.mark.parametrize("schedule, expected", [
    ("rebalance:0.25:0.5", [1, 0.75, 0.5, 0.5, 0.5]),
    ("rebalance:0.4:0", [1, 0.6, 0.2, 0, 0]),
    ("rebalance:0.3:0.5", [1, 0.7, 0.5, 0.5]),
    ("rebalance:0.5:1", [1, 1, 1]),
    ("rebalance:0.25:0.5:2", [1, 1, 1, 0.75, 0.5, 0.5]),  # two epochs later
    ("rebalance:0.5:0.01:0", [1, 0.5, 0.01, 0.01]),
    ("increase:0.25:0.5:1", [1, 1, 0.75, 0.5, 0.5])])
def test_alpha_stops_at_the_floor_and_falls_after_the_warm_up(schedule, expected):
    assert [alpha(schedule, epoch) for epoch in range(len(expected))] == expected


def test_increase_keeps_to_the_floor_and_the_warm_up_too():
    found = [weights("increase:0.25:0.5:1", epoch) for epoch in range(5)]
    assert found == [(1, 0), (1, 0), (1, 0.25), (1, 0.5), (1, 0.5)]


@pytest.mark.parametrize("schedule", [
    "rebalance::0.5", "rebalance:0.1:", "rebalance:0.1:1.5", "rebalance:0.1:-0.5",
    "rebalance:0.1:x", "rebalance:0.1:nan", "rebalance:0.1:0.5:1.5", "rebalance:0.1:0.5:-1",
    "rebalance:0.1:0.5:3:4", "constant:0.5:0.1"])
def test_a_floor_or_warm_up_that_makes_no_sense_is_named(schedule):
    message = rf"^schedule: .*followed by :FLOOR\[:WARM_UP\].*found {schedule!r}$"
    with pytest.raises(ValueError, match=message):
        alpha(schedule, 0)


@pytest.mark.parametrize("schedule, epoch", [
    ("rebalance", 99), ("rebalance:0.25:0.5:2", 4), ("rebalance:0.3", 4), ("increase:0.5:0.5", 1),
    ("switch:50", 50), ("switch:0:0.5", 0), ("code2018", 90), ("rebalance:1", 1),
    ("rebalance:2e-6", 495_000), ("rebalance:1e-7", None), ("rebalance:5e-324:0.12345678896", None),
    (f"rebalance:1:0:{10**30}", 10**30 + 1), (f"switch:{10**30}", 10**30),
    ("constant:0.5", None), ("rebalance:0", None), ("rebalance:0.1:1", None), ("switch:3:1", None)])
def test_the_epoch_of_the_floor_written_out(schedule, epoch):
    assert floor_epoch(schedule) == epoch


@given(st.floats(1e-3, 1), st.floats(0, 0.999), st.integers(0, 20))
def test_the_epoch_of_the_floor_is_the_first_there(step, floor, warm_up):
    schedule = f"rebalance:{step!r}:{floor!r}:{warm_up}"
    epoch = floor_epoch(schedule)
    assert alpha(schedule, epoch) == floor < alpha(schedule, epoch - 1)


# Texts --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("epochs, schedule", [
    (200, "rebalance"), (400, "rebalance:0.005"), (50, "rebalance:0.04"),
    (30, "rebalance:0.0666667"), (3, "rebalance:0.666667"), (2, "rebalance:1"),
    (1, "rebalance:1"), (10**6, "rebalance:2e-06")])
def test_a_run_of_any_length_ends_its_fall_half_way(epochs, schedule):
    assert for_epochs(epochs) == schedule
    assert floor_epoch(schedule) == math.ceil(0.99 * max(1, epochs / 2))


def test_no_epochs_have_no_schedule():
    for epochs in (0, math.nan):
        with pytest.raises(ValueError, match=f"epochs: expected at least 1, found {epochs}"):
            for_epochs(epochs)


@pytest.mark.parametrize("schedule, numbers, expected", [
    ("rebalance", {}, "rebalance"),
    ("constant:.5", {}, "constant:.5"),
    ("rebalance", {"floor": 0.5}, "rebalance:0.01:0.5"),
    ("rebalance:0.02", {"warm_up": 50}, "rebalance:0.02:0.01:50"),
    ("increase:0.02:0.3:4", {"floor": 0.5, "warm_up": 0}, "increase:0.02:0.5"),
    ("rebalance:0.02:0.3:4", {"step": 0.01, "floor": 0.01, "warm_up": 0}, "rebalance"),
    ("rebalance", {"warm_up": 10**400}, f"rebalance:0.01:0.01:{10**400}"),
    ("switch:50", {"floor": 0.5}, "switch:50:0.5"),
    ("switch:0:0.5", {"floor": 0.01}, "switch:0")])
def test_a_schedule_with_other_numbers(schedule, numbers, expected):
    assert changed(schedule, **numbers) == expected


@pytest.mark.parametrize("schedule, numbers, word", [
    ("constant:0.5", {"floor": 0.1}, "expected one with a floor, found 'constant:0.5'"),
    ("code2018", {"warm_up": 1}, "expected one with a warm-up"),
    ("switch:50", {"warm_up": 1}, "expected one with a warm-up"),
    ("rebalance", {"floor": 2}, "found 'rebalance:0.01:2'"), ("up", {}, "found 'up'")])
def test_numbers_that_a_schedule_does_not_have_are_named(schedule, numbers, word):
    with pytest.raises(ValueError, match=f"^schedule: .*{word}"):
        changed(schedule, **numbers)


def test_a_changed_number_is_a_number():
    with pytest.raises(ValueError, match="^floor: expected a number, found None$"):
        changed("rebalance", floor=None)


@pytest.mark.parametrize("first, second, expected", [
    ("rebalance", "rebalance:0.4", True), ("rebalance:0.1", "rebalance:0.1", True),
    ("rebalance:0.1:0.5", "rebalance:0.1", False), ("rebalance:0.1", "increase:0.1", False),
    ("rebalance:0.1:0.5:3", "rebalance:0.2:0.5:3", True), ("switch:3", "switch:4", False)])
def test_schedules_that_differ_in_their_step_alone(first, second, expected):
    assert differ_in_step(first, second) is expected


# Weights ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("schedule, expected", [
    ("switch:2", [(1.0, 0.0), (1.0, 0.0), (0.01, 0.99), (0.01, 0.99)]),
    ("switch:1:0.3", [(1.0, 0.0), (0.3, 0.7), (0.3, 0.7)]),
    ("switch:0:0.5", [(0.5, 0.5)]),
    ("switch:50", [(1.0, 0.0)] * 50 + [(0.01, 0.99)] * 150)])
def test_switch_is_the_regional_loss_alone_and_then_a_constant(schedule, expected):
    epochs = range(len(expected))
    assert [weights(schedule, epoch) for epoch in epochs] == expected
    assert [alpha(schedule, epoch) for epoch in epochs] == [pair[0] for pair in expected]


@pytest.mark.parametrize("schedule", [
    "switch", "switch:", "switch:-1", "switch:1.5", "switch:x", "switch:2:1.1", "switch:2:-0.1",
    "switch:2:0.5:1", "switch:2:x"])
def test_a_switch_that_makes_no_sense_is_named(schedule):
    message = rf"^schedule: .*switch:EPOCHS\[:ALPHA\].*found {schedule!r}$"
    with pytest.raises(ValueError, match=message):
        weights(schedule, 0)


@pytest.mark.parametrize("epoch, expected", [
    (0, (1.0, 0.0)), (1, (0.99, 0.01)), (50, (0.5, 0.5)), (99, (0.01, 0.99)), (199, (0.01, 0.99))])
def test_rebalance_weights_are_alpha_and_its_complement(epoch, expected):
    assert weights("rebalance", epoch) == expected


@pytest.mark.parametrize("epoch, expected", [
    (0, (1.0, 0.0)), (1, (1.0, 0.01)), (99, (1.0, 0.99)), (199, (1.0, 0.99))])
def test_increase_moves_the_boundary_weight_only(epoch, expected):
    assert weights("increase", epoch) == expected


def test_increase_takes_a_step():
    found = [weights("increase:0.25", epoch) for epoch in range(3)]
    assert found == [(1.0, 0.0), (1.0, 0.25), (1.0, 0.5)]


def test_constant_weights_are_complementary():
    assert weights("constant:0.3", 7) == (0.3, 0.7)


@pytest.mark.parametrize("epoch, expected", [
    (0, (1.0, 0.01)), (1, (0.99, 0.02)), (2, (0.98, 0.03)),
    (89, (0.11, 0.9)), (90, (0.1, 0.91)), (91, (0.1, 0.92)),
    (99, (0.1, 1.0)), (100, (0.1, 1.01)), (199, (0.1, 2.0))])
def test_code2018_weights_written_out(epoch, expected):
    assert weights("code2018", epoch) == expected


def test_code2018_weights_follow_the_update_after_each_epoch():
    a, b, step = Fraction(1), Fraction("0.01"), Fraction("0.01")
    for epoch in range(200):
        assert weights("code2018", epoch) == (float(a), float(b))
        a, b = max(Fraction("0.1"), a - step), b + step


def test_code2018_alpha_is_its_regional_weight():
    assert [alpha("code2018", epoch) for epoch in (0, 1, 90, 199)] == [1.0, 0.99, 0.1, 0.1]


@pytest.mark.parametrize("function", [alpha, weights])
@pytest.mark.parametrize("schedule", [
    "", "linear", "Rebalance", "constant", "constant:", "constant:2", "constant:-0.1", "constant:x",
    "constant:nan", "rebalance:-1", "rebalance:1.5", "rebalance:", "increase:a", "code2018:0.5",
    "constant:0.5:1"])
def test_unknown_schedule_is_named_in_the_error(function, schedule):
    with pytest.raises(ValueError, match=f"^schedule: .*found {schedule!r}$"):
        function(schedule, 0)


def test_the_error_lists_the_schedules():
    with pytest.raises(ValueError) as error:
        alpha("linear", 0)
    message = str(error.value)
    assert "rebalance[:STEP], increase[:STEP], constant:ALPHA, " in message
    assert "constant:ALPHA, switch:EPOCHS[:ALPHA] or code2018" in message
    assert "with STEP and ALPHA from 0 to 1, found 'linear'" in message


def test_weights_are_rounded_to_ten_decimals():
    assert alpha("rebalance:0.00000000001", 1) == 1.0  # 1 - 1e-11
    assert weights("constant:0.00000000001", 0) == (1e-11, 1.0)


# Plateau of 20 epochs -----------------------------------------------------------------------------

def test_plateau_keeps_the_rate_without_scores():
    assert plateau_lr([]) == 1e-3


def test_plateau_keeps_the_rate_while_the_score_rises():
    assert plateau_lr(list(range(100))) == 1e-3


def test_plateau_halves_after_20_epochs_without_a_better_score():
    assert [plateau_lr([0.5] + [0.4] * waited) for waited in (19, 20, 21)] == [1e-3, 5e-4, 5e-4]


def test_plateau_counts_an_equal_score_as_no_improvement():
    assert plateau_lr([0.5] * 21) == 5e-4


def test_plateau_halves_again_20_epochs_later():
    rates = [plateau_lr([0.5] + [0.4] * waited) for waited in (39, 40, 60)]
    assert rates == [5e-4, 2.5e-4, 1.25e-4]


def test_plateau_starts_counting_again_after_a_better_score():
    assert plateau_lr([0.5] + [0.4] * 19 + [0.6] + [0.4] * 19) == 1e-3


def test_plateau_judges_by_the_best_score_not_by_the_last():
    assert plateau_lr([0.5] + [0.1, 0.2, 0.3, 0.4] * 5) == 5e-4


def test_plateau_counts_nan_as_no_improvement():
    assert [plateau_lr([math.nan] * epochs) for epochs in (19, 20, 40)] == [1e-3, 5e-4, 2.5e-4]
    assert [plateau_lr([0.5] + [math.nan] * epochs) for epochs in (19, 20)] == [1e-3, 5e-4]


def test_plateau_takes_rate_and_patience():
    assert plateau_lr([1, 0, 0], lr=0.8, patience=2) == 0.4


@pytest.mark.parametrize("seed", range(20))
def test_plateau_equals_torchs(seed):
    rng = np.random.default_rng(seed)
    noise, ties = rng.random(150), rng.integers(0, 12, 150) / 12
    rising_steps = np.linspace(0, 1, 150) ** 0.1 // 0.02
    scores = rng.choice([noise, ties, rising_steps])

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-3)
    torchs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max", factor=0.5, patience=19, threshold=0)
    for epoch, score in enumerate(scores.tolist()):
        torchs.step(score)
        assert plateau_lr(scores[:epoch + 1].tolist()) == optimizer.param_groups[0]["lr"]


# The lr that no score moves -----------------------------------------------------------------------

def test_poly_falls_from_the_rate_to_0_at_the_end():
    assert [poly_lr(epoch, 4, lr=8, power=1) for epoch in range(4)] == [8, 6, 4, 2]
    assert [poly_lr(epoch, 4, lr=16, power=2) for epoch in range(4)] == [16, 9, 4, 1]


def test_poly_is_nnunets():
    assert poly_lr(0, 200) == 1e-3
    assert poly_lr(100, 200) == 1e-3 * 0.5 ** 0.9


def test_poly_equals_torchs():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-3)
    torchs = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=50, power=0.9)
    for epoch in range(50):
        assert poly_lr(epoch, 50) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        optimizer.step()
        torchs.step()


@pytest.mark.parametrize("epoch, epochs", [(4, 4), (-1, 4), (0, 0)])
def test_poly_has_no_rate_beyond_the_run(epoch, epochs):
    with pytest.raises(ValueError, match="epoch: expected one from 0 to"):
        poly_lr(epoch, epochs)


# The code's lr rule -------------------------------------------------------------------------------

def test_code2018_halves_after_the_first_epoch():
    assert [code2018_lr(scores) for scores in ([], [0.3], [0.3, 0.2])] == [1e-3, 5e-4, 5e-4]


def test_code2018_halves_20_epochs_after_the_best():
    scores = [0.1, 0.2, 0.3] + [0.2] * 25  # best at epoch 2: 22 % (2 + 20) == 0
    assert [code2018_lr(scores[:epoch + 1]) for epoch in (21, 22, 23)] == [5e-4, 2.5e-4, 2.5e-4]


def test_code2018_halves_at_multiples_of_best_plus_20_only():
    # Best at epoch 5: after epoch 0 again at 25, 50, 75, not every 20.
    scores = [0.1] * 5 + [0.5] + [0.2] * 94
    rates = [code2018_lr(scores[:epoch + 1]) for epoch in range(100)]
    assert [epoch for epoch in range(1, 100) if rates[epoch] < rates[epoch - 1]] == [25, 50, 75]


def test_code2018_does_not_halve_while_the_score_rises():
    assert code2018_lr(list(range(100))) == 5e-4  # only after epoch 0


def test_code2018_keeps_the_first_of_equal_scores_as_the_best():
    rates = [code2018_lr([0.5] * epochs) for epochs in (1, 20, 21, 40, 41)]
    assert rates == [5e-4, 5e-4, 2.5e-4, 2.5e-4, 1.25e-4]


def test_code2018_counts_from_epoch_0_while_every_score_is_nan():
    rates = [code2018_lr([math.nan] * epochs) for epochs in (1, 20, 21, 22)]
    assert rates == [5e-4, 5e-4, 2.5e-4, 2.5e-4]


def test_code2018_takes_rate_and_patience():
    assert code2018_lr([1, 0, 0], lr=0.8, patience=2) == 0.2
