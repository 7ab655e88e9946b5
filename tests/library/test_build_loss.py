"""build_loss: from a loss's name and options to the module, or to an error that names them."""

import re

import numpy as np
import pytest
import torch
from test_losses import losses_apart

import losses
import losses_regional
from losses import GeneralizedDiceLoss
from losses_regional import (
    REGIONAL_LOSSES,
    ComponentDiceCELoss,
    DiceCELoss,
    DiceLoss,
    FocalTverskyLoss,
    HausdorffLoss,
    TverskyLoss,
    build_loss,
    checked_options,
    term_name,
)

# Names --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", [
    "", "nonsense", "gdl+", "+boundary", "gdl+gdl", "boundary+boundary", "GDL", "gdl-boundary",
    "gdl+boundary+gdl", "gdl boundary"])
def test_unknown_loss_is_named_in_the_error(name):
    message = f"^loss: expected one of gdl, .*found {re.escape(repr(name))}$"
    with pytest.raises(ValueError, match=message):
        build_loss(name)


def test_unknown_loss_is_answered_with_those_there_are():
    with pytest.raises(ValueError) as error:
        build_loss("nonsense")
    listed = str(error.value).partition(", or one of the first")[0]
    listed = listed.removeprefix("loss: expected one of ").split(", ")
    assert listed == [*REGIONAL_LOSSES, "boundary"]


@pytest.mark.parametrize("name", [
    "dice+boundary+dice", "ce+dice", "dice+focal", "dice+ce+boundary+boundary", "gdl+ce"])
def test_two_regional_losses_are_refused(name):
    with pytest.raises(ValueError, match="^loss: expected one of gdl, ce, wce, focal, dice, "):
        build_loss(name)


def test_an_added_regional_loss_is_built_by_its_name(monkeypatch):
    monkeypatch.setitem(REGIONAL_LOSSES, "further", (GeneralizedDiceLoss, 0))
    probs, target, phi, gdl, boundary = losses_apart()
    _, terms = build_loss("further+boundary")(probs, target, phi)
    assert terms == {"further": gdl, "boundary": boundary}


def test_an_added_regional_loss_joins_the_boundary_loss_only(monkeypatch):
    monkeypatch.setitem(REGIONAL_LOSSES, "further", (GeneralizedDiceLoss, 0))
    message = r"^loss: expected one of .*further, boundary, .*found 'gdl\+further'$"
    with pytest.raises(ValueError, match=message):
        build_loss("gdl+further")


@pytest.mark.parametrize("name, term", [
    ("dice+ce", "dice_ce"), ("focal_tversky", "focal_tversky"), (None, "gdl")])
def test_term_name_joins_with_an_underscore_and_is_gdl_for_none(name, term):
    assert term_name(name) == term


def test_build_loss_can_be_imported_from_losses_too():
    arguments = "focal_tversky+boundary", 3, None, {"gamma": 2.0}
    loss = losses.build_loss(*arguments, boundary_classes=[2])
    assert repr(loss) == repr(build_loss(*arguments, boundary_classes=[2]))
    assert loss.regional.gamma == 2.0 and loss.boundary.classes == [2]
    assert losses.build_loss(name="gdl", gdl_max_weight=0.5).regional.max_weight == 0.5


# Classes ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", [
    DiceLoss, TverskyLoss, FocalTverskyLoss, HausdorffLoss, DiceCELoss, ComponentDiceCELoss])
def test_the_foreground_classes_enter(kind):
    name = next(name for name, (module, _) in REGIONAL_LOSSES.items() if module is kind)
    part = build_loss(name, 4).regional
    assert getattr(part, "dice", part).classes == [1, 2, 3]


@pytest.mark.parametrize("name, chosen, text", [
    ("boundary", [1, 1], "different ones of 0 to 3, found 1, 1"),
    ("gdl+boundary", [-1], "different ones of 0 to 3, found -1"),
    ("gdl+boundary", [0, 4], "different ones of 0 to 3, found 0, 4"),
    ("boundary", [2, 3, 2, 9], "0 to 3, found 2, 3, 2, 9"),
    ("gdl", [1], "none for gdl, which has no boundary part, found 1"),
    ("ce", [1, 2], "none for ce, which has no boundary part, found 1, 2")])
def test_boundary_classes_that_cannot_be_chosen_are_named(name, chosen, text):
    with pytest.raises(ValueError, match=rf"^boundary-classes: expected .*{text}$"):
        build_loss(name, 4, boundary_classes=chosen)


# Options ------------------------------------------------------------------------------------------

def test_no_boundary_class_at_all_is_not_all_of_them():
    assert build_loss("gdl+boundary", 3, boundary_classes=None).boundary.classes == [1, 2]
    assert build_loss("gdl+boundary", 3, boundary_classes=np.array([2])).boundary.classes == [2]
    with pytest.raises(ValueError, match="boundary-classes: expected different ones of 0 to 2, "
                                         "found none"):
        build_loss("gdl+boundary", 3, boundary_classes=[])


@pytest.mark.parametrize("weights", [1.0, iter([1, 2])])
def test_weights_that_are_no_list_are_a_value_error(weights):
    with pytest.raises(ValueError, match="weights: expected 2 of them, one per class, found "):
        build_loss("wce", 2, options={"weights": weights})
    with pytest.raises(ValueError, match="weights: expected a list of numbers, found 1.0"):
        losses_regional.CrossEntropyLoss(1.0)


def test_a_joint_loss_says_what_it_lacks():
    with pytest.raises(ValueError, match="regional: expected a loss there, or as boundary"):
        losses.JointLoss()
    probs = torch.full((1, 2, 4, 4), 0.5)
    with pytest.raises(ValueError, match="maps: expected what make_maps gives for the rwl loss"):
        build_loss("rwl")(probs, probs)


def test_classes_may_come_from_an_iterator():
    assert losses.BoundaryLoss(k for k in (1, 2)).classes == [1, 2]
    for wrong in (5, [1.5], [1, 1], []):
        with pytest.raises(ValueError, match="classes: expected different whole numbers, found"):
            losses.BoundaryLoss(wrong)


def test_options_reach_the_loss():
    loss = build_loss("focal_tversky+boundary", 2, None, {"alpha": 0.4, "gamma": 2.0}).regional
    assert (loss.alpha, loss.beta, loss.gamma) == (0.4, 0.7, 2.0)


@pytest.mark.parametrize("gamma", [1e-3, 1])
def test_the_power_of_focal_tversky_may_be_small(gamma):
    assert build_loss("focal_tversky", 2, None, {"gamma": gamma}).regional.gamma == gamma


def test_weights_reach_the_cross_entropy_beside_dice():
    loss = build_loss("dice+ce", 2, None, {"weights": [1.0, 20.0]}).regional
    assert loss.ce.weights.tolist() == [1.0, 20.0]


def test_an_option_that_is_a_flag_may_be_given_as_a_number():
    assert build_loss("dice", 2, None, {"squared": 1.0}).regional.squared


def test_the_background_may_be_among_the_classes_of_the_boundary_loss():
    loss = build_loss("gdl+boundary", 4, boundary_classes=[0, 1, 2, 3])
    assert loss.boundary.classes == [0, 1, 2, 3] and loss.needs_background
    assert not build_loss("gdl+boundary", 4).needs_background


@pytest.mark.parametrize("name, background, maps", [
    ("rwl", False, True), ("gsl+boundary", True, False), ("cc_dice_ce+boundary", False, True),
    ("gdl+boundary", False, False), ("boundary", False, False)])
def test_a_loss_says_which_maps_it_needs(name, background, maps):
    loss = build_loss(name, 3)
    assert loss.needs_background == background and bool(loss.make_maps) == maps


@pytest.mark.parametrize("name", ["gdl", "dice", "dice+ce", "tversky", "focal_tversky"])
def test_sums_over_the_batch_are_an_option(name):
    part = build_loss(f"{name}+boundary", 2, None, {"batch": 1.0}).regional
    assert getattr(part, "dice", part).batch is True
    part = build_loss(name).regional
    assert getattr(part, "dice", part).batch is False


def test_no_options_are_an_empty_dict():
    assert checked_options("boundary", None) == {}


def test_the_options_given_are_left_as_they_were():
    given = {"alpha": 0.4}
    build_loss("tversky", 2, None, given)
    assert given == {"alpha": 0.4}


def test_build_loss_passes_the_weight_cap_on():
    loss = build_loss("gdl+boundary", gdl_max_weight=0.5)
    assert (loss.regional.max_weight, build_loss("gdl").regional.max_weight) == (0.5, None)
    for name in ("ce", "dice+boundary", "boundary"):  # which have no such weight
        with pytest.raises(ValueError, match="gdl_max_weight: expected a loss with gdl, found"):
            build_loss(name, gdl_max_weight=0.5)


@pytest.mark.parametrize("name, options, words", [
    ("dice", {"gamma": 1.0}, "loss-options: expected batch, smooth, squared for dice, found gamma"),
    ("gdl+boundary", {"max_weight": 1.0},
     r"loss-options: expected absent_size, batch for gdl\+boundary, found max_weight"),
    ("gdl", {"softmax": 1.0}, "loss-options: expected absent_size, batch for gdl, found softmax"),
    ("gdl", {"absent_size": [5.0]}, "absent_size: expected 2 numbers above 0, one per class"),
    ("gsl", {"weights": [1.0]}, "weights: expected 2 of them, one per class, found 1"),
    ("rwl", {"smooth": 1.0}, "loss-options: expected none for rwl, found smooth"),
    ("cc_dice_ce", {"smooth": -1.0}, "smooth: expected a number of at least 0"),
    ("gdl", {"batch": 2.0}, "batch: expected 0 or 1, found 2.0"),
    ("dice+ce", {"batch": [1.0, 1.0]}, "batch: expected 0 or 1, found "),
    ("dice", {"squared": 0.5}, "squared: expected 0 or 1, found 0.5"),
    ("boundary", {"gamma": 1.0}, "loss-options: expected none for boundary, found gamma"),
    ("focal", {"gamma": -1.0}, "gamma: expected a number of at least 0, found -1.0"),
    ("focal", {"gamma": [1.0, 2.0]}, "gamma: expected a number of at least 0"),
    ("focal", {"gamma": float("inf")}, "gamma: expected a number of at least 0, found inf"),
    ("dice", {"smooth": -1.0}, "smooth: expected a number of at least 0"),
    ("tversky", {"smooth": -1.0}, "smooth: expected a number of at least 0"),
    ("tversky", {"alpha": float("nan")}, "alpha: expected a number"),
    ("tversky", {"beta": -1.0}, "beta: expected a number of at least 0"),
    ("focal_tversky", {"gamma": 0.0}, "gamma: expected a number of at least 0.001"),
    ("hausdorff", {"power": 0.0}, "power: expected a number"),
    ("ce", {"weights": [1.0, 2.0, 3.0]}, "weights: expected 2 of them, one per class, found 3"),
    ("ce", {"weights": [0.0, 0.0]}, "weights: expected one above 0"),
    ("ce", {"weights": [1.0, -2.0]}, "weights: expected a number of at least 0, found -2.0"),
    ("wce", None, "weights: expected 2 of them for wce, found none")])
def test_options_that_make_no_sense_are_named(name, options, words):
    with pytest.raises(ValueError, match=f"^{words}"):
        build_loss(name, 2, None, options)


def test_unknown_options_are_all_named():
    message = "^loss-options: expected gamma, weights for focal, found alpha, beta$"
    with pytest.raises(ValueError, match=message):
        checked_options("focal", {"beta": 1, "alpha": 1})
