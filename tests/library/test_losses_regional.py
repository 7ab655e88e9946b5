"""The regional losses by hand, beside torch, torchvision and MONAI, and in half precision."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from test_losses import one_hot, random_case, two_classes
from torch.autograd import gradcheck

from distance import signed_distance
from losses import BoundaryLoss, JointLoss
from losses_regional import (
    REGIONAL_LOSSES,
    CrossEntropyLoss,
    DiceCELoss,
    DiceLoss,
    FocalLoss,
    FocalTverskyLoss,
    HausdorffLoss,
    TverskyLoss,
    build_loss,
    contour_distances,
    inverse_frequency,
)

NAMES = [name for name in REGIONAL_LOSSES if name != "gdl"]
SIZED = [DiceLoss, TverskyLoss, FocalTverskyLoss, HausdorffLoss]  # of classes=


def options_of(name, classes=2):
    """What the loss needs beside its name."""
    return {"weights": [1.0 + k for k in range(classes)]} if name == "wce" else None


def maps_of(loss, target):
    """What a JointLoss needs of these labels, {"distance": ..., "maps": ...}."""
    labels, first, maps = target.argmax(1).numpy(), 0 if loss.needs_background else 1, None
    phi = np.array([[signed_distance(image == k) for k in range(first, target.shape[1])]
                    for image in labels])
    if loss.make_maps:
        maps = torch.from_numpy(np.array([loss.make_maps(image) for image in labels]))
    return {"distance": torch.from_numpy(phi), "maps": maps}


def value(name, logits, target, options=None):
    """The regional loss of logits by its name, in their dtype."""
    classes = logits.shape[1]
    loss = build_loss(name, classes, None, options or options_of(name, classes))
    return loss(logits.softmax(1), target, logits=logits, **maps_of(loss, target))[0]


def row(*foreground):
    """Background and foreground of one image of a single row, (1, 2, 1, W)."""
    return two_classes([[list(map(float, foreground))]])


def logits_of(*foreground):
    """Logits whose softmax is `row(*foreground)`."""
    return row(*foreground).log()


# Cross-entropy by hand ----------------------------------------------------------------------------

def test_cross_entropy_is_the_mean_of_minus_log_of_the_true_class():
    # probabilities of the true class: 1/4, 3/4, 1/2
    loss = CrossEntropyLoss()(logits_of(0.25, 0.25, 0.5), row(1, 0, 0))
    assert loss.item() == pytest.approx((math.log(4) + math.log(4 / 3) + math.log(2)) / 3)


def test_weighted_cross_entropy_is_divided_by_the_weights_of_the_pixels():
    # one foreground pixel of weight 6, two of background of weight 2: sum of weights 10
    loss = CrossEntropyLoss([2, 6])(logits_of(0.25, 0.25, 0.5), row(1, 0, 0))
    expected = (6 * math.log(4) + 2 * math.log(4 / 3) + 2 * math.log(2)) / 10
    assert loss.item() == pytest.approx(expected)


def test_cross_entropy_of_three_classes():
    probs = torch.tensor([[[[0.5, 0.2]], [[0.25, 0.2]], [[0.25, 0.6]]]], dtype=torch.float64)
    loss = CrossEntropyLoss()(probs.log(), one_hot([[[1, 2]]], 3))
    assert loss.item() == pytest.approx((math.log(4) - math.log(0.6)) / 2)


def test_cross_entropy_punishes_a_false_positive_on_an_empty_slice():
    logits = logits_of(0.75, 0.25).requires_grad_()
    loss = CrossEntropyLoss()(logits, row(0, 0))
    assert loss.item() == pytest.approx((math.log(4) + math.log(4 / 3)) / 2)
    loss.backward()
    assert_allclose(logits.grad[0, 1, 0], [0.75 / 2, 0.25 / 2])  # (s - g) / pixels


def test_weights_are_float32_which_every_device_has():
    for loss in (CrossEntropyLoss([2, 6]), FocalLoss(weights=[2, 6])):
        assert loss.weights.dtype == torch.float32


def test_weights_of_classes_that_are_not_there_give_0():
    logits = logits_of(0.75, 0.25).requires_grad_()
    loss = CrossEntropyLoss([0, 1])(logits, row(0, 0))
    loss.backward()
    assert loss.item() == 0 and not logits.grad.any()


@pytest.mark.parametrize("counts, weights", [
    ([6, 2], [2 / 3, 2.0]), ([4, 4], [1.0, 1.0]), ([8, 0], [0.5, 0.0]),
    ([6, 2, 4], [2 / 3, 2.0, 1.0])])
def test_weights_are_the_inverse_frequencies(counts, weights):
    assert inverse_frequency(np.array(counts)) == pytest.approx(weights)


# Focal by hand ------------------------------------------------------------------------------------

def test_focal_takes_the_square_of_the_miss():
    # the true class has 1/4 and 3/4: misses 3/4 and 1/4
    loss = FocalLoss()(logits_of(0.25, 0.25), row(1, 0))
    assert loss.item() == pytest.approx((9 / 16 * math.log(4) + 1 / 16 * math.log(4 / 3)) / 2)


def test_focal_with_weights_is_the_mean_over_pixels_all_the_same():
    loss = FocalLoss(gamma=1, weights=[0.75, 0.25])(logits_of(0.25, 0.25), row(1, 0))
    expected = (0.25 * 3 / 4 * math.log(4) + 0.75 * 1 / 4 * math.log(4 / 3)) / 2
    assert loss.item() == pytest.approx(expected)


@pytest.mark.parametrize("loss", [CrossEntropyLoss, partial(FocalLoss, 2.0),
                                  partial(DiceCELoss, (1,))])
@pytest.mark.parametrize("weights", [[3.0], [1.0, 2.0, 3.0]])
def test_another_number_of_weights_than_of_classes_is_refused(loss, weights):
    message = f"^weights: expected 2 of them, one per class, found {len(weights)}$"
    with pytest.raises(ValueError, match=message):
        loss(weights)(logits_of(0.25, 0.25), row(1, 0))


def test_options_may_be_numpys_numbers():
    assert FocalLoss(gamma=np.int64(2)).gamma == 2
    assert DiceLoss(smooth=np.float32(1)).smooth == 1


def test_focal_without_gamma_is_the_cross_entropy():
    logits, target = logits_of(0.25, 0.6, 0.9), row(1, 0, 0)
    expected = CrossEntropyLoss()(logits, target).item()
    assert FocalLoss(gamma=0)(logits, target).item() == pytest.approx(expected)


@pytest.mark.parametrize("gamma", [0, 0.5, 1, 2])
def test_focal_gradient_of_certain_pixels_is_finite(gamma):
    logits = torch.tensor([[[100.0, -100.0]], [[-100.0, 100.0]]])[None].requires_grad_()
    target = one_hot([[[0, 0]]], 2)  # one pixel certainly right, one certainly wrong
    FocalLoss(gamma)(logits, target).backward()
    assert logits.grad.isfinite().all()


# Dice, Tversky by hand, e = 0 ---------------------------------------------------------------------

def test_dice_of_one_pixel_half_found():
    # 2 * 0.5 / (1 + 1)
    loss = DiceLoss(smooth=0)(row(0.5, 0.5, 0, 0), row(1, 0, 0, 0))
    assert loss.item() == pytest.approx(0.5)


@pytest.mark.parametrize("loss", [
    DiceLoss(smooth=0), DiceLoss(squared=True, smooth=0, batch=True), TverskyLoss(smooth=0),
    FocalTverskyLoss(smooth=0)])
def test_nothing_predicted_where_nothing_is_scores_0_without_smoothing(loss):
    """0 / 0; the other image of a batch, of which half is found, keeps its loss and gradient."""
    probs = row(0, 0, 0, 0).requires_grad_()
    value = loss(probs, row(0, 0, 0, 0))
    assert value.item() == pytest.approx(0, abs=1e-5)  # focal Tversky's power keeps off 0
    value.backward()
    assert torch.isfinite(probs.grad).all()
    if not loss.batch:
        half = loss(row(0.5, 0, 0, 0), row(1, 0, 0, 0)).item()
        both = torch.cat([row(0, 0, 0, 0), row(0.5, 0, 0, 0)])
        found = loss(both, torch.cat([row(0, 0, 0, 0), row(1, 0, 0, 0)]))
        assert half > 0.1 and found.item() == pytest.approx(half / 2, abs=1e-5)


def test_squared_dice_squares_soft_targets_too():
    soft = row(0.5, 0.25, 0, 0)
    assert DiceLoss(squared=True)(soft, soft.clone()).item() == pytest.approx(0, abs=1e-6)


def test_squared_dice_of_one_pixel_half_found():
    # 2 * 0.5 / (0.25 + 0.25 + 1) = 2/3
    loss = DiceLoss(squared=True, smooth=0)(row(0.5, 0.5, 0, 0), row(1, 0, 0, 0))
    assert loss.item() == pytest.approx(1 / 3)


def test_dice_is_the_mean_over_images_and_classes():
    # image 1: class 1 found whole, 0; class 2 half, 1 - 1 / 1.5 = 1/3
    # image 2: class 1 missed, 1; class 2 found, 0
    target = one_hot([[[1, 2]], [[1, 2]]], 3).double()
    probs = target.clone()
    probs[0, :, 0, 1] = torch.tensor([0.5, 0, 0.5])
    probs[1, :, 0, 0] = torch.tensor([1.0, 0, 0])
    loss = DiceLoss((1, 2), smooth=0)(probs, target)
    assert loss.item() == pytest.approx((0 + 1 / 3 + 1 + 0) / 4)


def test_tversky_weighs_false_positives_and_false_negatives():
    # found with one false positive: 0.3 / 1.3; half found: 0.7 * 0.5 / (0.5 + 0.35)
    loss = TverskyLoss(smooth=0)
    assert loss(row(1, 1, 0, 0), row(1, 0, 0, 0)).item() == pytest.approx(0.3 / 1.3)
    assert loss(row(0.5, 0, 0, 0), row(1, 0, 0, 0)).item() == pytest.approx(0.35 / 0.85)


def test_tversky_takes_other_weights():
    loss = TverskyLoss(alpha=1, beta=0, smooth=0)(row(1, 1, 0, 0), row(1, 0, 0, 0))
    assert loss.item() == pytest.approx(1 / 2)


def test_tversky_of_equal_weights_is_dice():
    probs, target = random_case(1)
    half = TverskyLoss(alpha=0.5, beta=0.5, smooth=0.1)(probs, target)
    assert half.item() == pytest.approx(DiceLoss(smooth=0.2)(probs, target).item())


def test_focal_tversky_is_the_three_quarters_power_of_each_image():
    probs = torch.cat([row(1, 1, 0, 0), row(0.5, 0, 0, 0)])
    target = torch.cat([row(1, 0, 0, 0)] * 2)
    expected = ((0.3 / 1.3) ** 0.75 + (0.35 / 0.85) ** 0.75) / 2
    assert FocalTverskyLoss(smooth=0)(probs, target).item() == pytest.approx(expected)


def test_focal_tversky_takes_another_power():
    loss = FocalTverskyLoss(gamma=2, smooth=0)(row(1, 1, 0, 0), row(1, 0, 0, 0))
    assert loss.item() == pytest.approx((0.3 / 1.3) ** 0.5)


def test_focal_tversky_of_the_perfect_prediction_has_a_finite_gradient():
    target = row(1, 0, 0, 0)
    probs = target.clone().requires_grad_()
    FocalTverskyLoss()(probs, target).backward()
    assert probs.grad.isfinite().all()


def test_dice_and_cross_entropy_add_up():
    # Dice: s = 1/4, 1/4 of target 1, 0: 1 - 0.5 / 1.5; cross-entropy: log 4 and log 4/3
    loss = DiceCELoss(smooth=0)(logits_of(0.25, 0.25), row(1, 0))
    assert loss.item() == pytest.approx(2 / 3 + (math.log(4) + math.log(4 / 3)) / 2)


@pytest.mark.parametrize("loss, weight", [(DiceLoss, 1), (TverskyLoss, 0.3)])
def test_an_empty_slice_gives_about_1_and_hardly_a_gradient(loss, weight):
    probs = row(0.5, 0.5, 0, 0).requires_grad_()  # sum s = 1
    found = loss()(probs, row(0, 0, 0, 0))
    assert found.item() == pytest.approx(weight / (weight + 1e-5))

    found.backward()
    slope = weight * 1e-5 / (weight + 1e-5) ** 2
    assert probs.grad[:, 1].abs().max().item() == pytest.approx(slope)


def test_dice_over_the_batch():
    # Image 1: half of its pixel found; image 2: empty, half a false positive.
    # Together: overlap 0.5, sums 1 of s and 1 of g.
    probs, target = torch.cat([row(0.5, 0), row(0.5, 0)]), torch.cat([row(1, 0), row(0, 0)])
    assert DiceLoss(smooth=0, batch=1)(probs, target).item() == pytest.approx(1 - 2 * 0.5 / 2)
    # Each on its own: 1 - 1 / 1.5, and 1.
    assert DiceLoss(smooth=0)(probs, target).item() == pytest.approx((1 / 3 + 1) / 2)


def test_tversky_over_the_batch():
    # TP 0.5, FP 0.5, FN 0.5: (0.3 * 0.5 + 0.7 * 0.5) / (0.5 + 0.5)
    probs, target = torch.cat([row(0.5, 0), row(0.5, 0)]), torch.cat([row(1, 0), row(0, 0)])
    assert TverskyLoss(smooth=0, batch=1)(probs, target).item() == pytest.approx(0.5)
    found = FocalTverskyLoss(smooth=0, batch=1, gamma=2)(probs, target)
    assert found.item() == pytest.approx(0.5 ** 0.5)


@pytest.mark.parametrize("batch, least, most", [(0, 0, 1e-3), (1, 0.2, 1)])
def test_dice_over_the_batch_punishes_a_false_positive_on_an_empty_slice(batch, least, most):
    probs = torch.cat([row(0.5, 0), row(0.5, 0)]).requires_grad_()
    DiceLoss(batch=batch)(probs, torch.cat([row(1, 0), row(0, 0)])).backward()
    # Over the batch, of the sums 2: 2 * 0.5 / 2^2.
    assert least < probs.grad[1, 1, 0, 0].item() < most


@pytest.mark.parametrize("loss", [DiceLoss(), TverskyLoss(), HausdorffLoss()])
def test_an_empty_slice_found_empty_gives_0(loss):
    assert loss(row(0, 0, 0, 0), row(0, 0, 0, 0)).item() == pytest.approx(0, abs=1e-12)


# Hausdorff by hand --------------------------------------------------------------------------------

def test_distances_to_the_contour_count_from_the_other_side():
    masks = [[[[1, 0, 0, 0]], [[0, 0, 1, 0]], [[0, 0, 0, 0]], [[1, 1, 1, 1]]]]
    expected = [[[[1, 1, 2, 3]], [[2, 1, 1, 1]], [[0, 0, 0, 0]], [[0, 0, 0, 0]]]]
    assert contour_distances(torch.tensor(masks).bool()).tolist() == expected


def test_hausdorff_of_a_pixel_two_places_off():
    # errors at places 0 and 2, of cost 1^2 + 2^2 and 2^2 + 1^2: 10 over 4 pixels
    assert HausdorffLoss()(row(0, 0, 1, 0), row(1, 0, 0, 0)).item() == 2.5


def test_hausdorff_takes_another_power():
    loss = HausdorffLoss(power=1)(row(0, 0, 1, 0), row(1, 0, 0, 0))
    assert loss.item() == 6 / 4  # 1 + 2 and 2 + 1


def test_hausdorff_squares_the_error_of_probabilities():
    # nothing above 0.5: only the map of the ground truth counts. 0.6^2 * 1^2 over 4 pixels
    assert HausdorffLoss()(row(0.4, 0, 0, 0), row(1, 0, 0, 0)).item() == pytest.approx(0.09)


def test_hausdorff_counts_a_pixel_of_exactly_one_half_as_background():
    # no pixel above 0.5, so only the map of the ground truth counts: 0.5^2 * 1^2 over 4 pixels
    assert HausdorffLoss()(row(0.5, 0, 0, 0), row(1, 0, 0, 0)).item() == 0.0625


def test_distances_to_the_contour_are_float32():
    assert contour_distances(torch.ones(1, 1, 2, 2).bool()).dtype == torch.float32


def test_hausdorff_gradient_is_twice_the_error_times_the_cost():
    probs = row(0, 0, 0.75, 0).requires_grad_()
    HausdorffLoss()(probs, row(1, 0, 0, 0)).backward()
    assert probs.grad[0, 1, 0].tolist() == [2 * -1 * 5 / 4, 0, 2 * 0.75 * 5 / 4, 0]


def test_hausdorff_of_a_false_positive_on_an_empty_slice():
    # d_G = 0; the prediction's own map is 1 on its pixel: 0.8^2 over 4
    assert HausdorffLoss()(row(0, 0, 0.8, 0), row(0, 0, 0, 0)).item() == pytest.approx(0.16)


def test_hausdorff_has_no_gradient_where_both_are_empty():
    probs = row(0.4, 0, 0.3, 0).requires_grad_()
    loss = HausdorffLoss()(probs, row(0, 0, 0, 0))
    loss.backward()
    assert loss.item() == 0 and not probs.grad.any()


# All of them at once ------------------------------------------------------------------------------

ANY_SHAPE = [(1, 2, (5, 9)), (3, 4, (8, 8)), (2, 3, (3, 5, 4))]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("classes, spatial", [(2, (3, 4)), (3, (2, 2, 3))])
def test_gradient(name, classes, spatial):
    probs, target = random_case(3, 2, classes, spatial)
    assert gradcheck(lambda logits: value(name, logits, target), probs.log().requires_grad_())


# But for rwl, which is negative.
@pytest.mark.parametrize("name", [name for name in NAMES if name != "rwl"])
@pytest.mark.parametrize("batch, classes, spatial", ANY_SHAPE)
def test_the_perfect_prediction_gives_about_0_and_the_opposite_more(name, batch, classes, spatial):
    _, target = random_case(4, batch, classes, spatial)
    right = value(name, 40 * target, target).item()
    wrong = value(name, 40 * target.roll(1, 1), target).item()
    assert abs(right) < 1e-4 and wrong > 0.2


# But for wce, whose weights are summed over the batch.
@pytest.mark.parametrize("name", [name for name in NAMES if name != "wce"])
def test_a_batch_is_the_mean_of_its_images(name):
    probs, target = random_case(5, 3, 3)
    apart = [value(name, s.log()[None], g[None]).item() for s, g in zip(probs, target)]
    assert value(name, probs.log(), target).item() == pytest.approx(np.mean(apart))


@pytest.mark.parametrize("name", NAMES)
def test_a_step_along_the_gradient_lowers_the_loss(name):
    _, target = random_case(6, 2, 3)
    noise = torch.as_tensor(np.random.default_rng(6).normal(size=target.shape))
    logits = (noise + 0.5 * target).requires_grad_()
    before = value(name, logits, target)
    step, = torch.autograd.grad(before, logits)
    assert value(name, logits - 0.1 * step / step.norm(), target) < before


EXTREMES = [1e4, 300.0, 1.0]


@pytest.mark.parametrize("image", ["empty", "full", "one pixel"])
@pytest.mark.parametrize("scale", EXTREMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_logits_of_half_precision_give_finite_values_and_gradients(name, dtype, scale, image):
    labels = torch.zeros(2, 32, 32, dtype=torch.long)
    labels[:, 7, 9:10] = 1
    labels = {"empty": 0 * labels, "full": 0 * labels + 1, "one pixel": labels}[image]

    signs = torch.randint(0, 2, (2, 2, 32, 32), generator=torch.Generator().manual_seed(0)) * 2 - 1
    logits = (scale * signs).to(dtype).requires_grad_()

    with torch.autocast("cpu", torch.bfloat16):
        loss = value(name, logits, one_hot(labels, 2))
    loss.backward()
    assert loss.dtype == torch.float32 and loss.isfinite() and logits.grad.isfinite().all()


# Weights that bfloat16 would round.
WEIGHTED = [(name, [0.3, 0.7]) for name in ("ce", "wce", "focal", "dice+ce")]


@pytest.mark.parametrize("name, weights", [(name, None) for name in NAMES] + WEIGHTED)
def test_autocast_changes_nothing(name, weights):
    probs, target = random_case(7)
    logits = probs.float().log()
    options = {"weights": weights} if weights else options_of(name)
    loss = build_loss(f"{name}+boundary", 2, None, options)
    given = {"weights": (0.5, 0.5), "logits": logits, **maps_of(loss, target)}

    plain = loss(logits.softmax(1), target, **given)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert loss(logits.float().softmax(1), target, **given)[0] == plain


@pytest.mark.parametrize("name, weights", WEIGHTED)
def test_weights_are_not_rounded_to_half_precision(name, weights):
    probs, target = random_case(7)
    logits, options = probs.log(), {"weights": weights}
    found = value(name, logits.float(), target, options)
    assert_allclose(found.double(), value(name, logits, target, options), rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_is_computed_in_float32(name):
    # So few pixels that their rounding does not average out.
    probs, target = random_case(8, 2, 2, (4, 5))
    rounded = probs.log().to(torch.bfloat16)
    loss = build_loss(name, 2, None, options_of(name))
    maps = maps_of(loss, target)

    expected, _ = loss(rounded.double().softmax(1), target, logits=rounded.double(), **maps)
    found, _ = loss(rounded.float().softmax(1), target, logits=rounded, **maps)
    assert_allclose(found.double(), expected, rtol=1e-6)


# Beside the boundary loss -------------------------------------------------------------------------

@pytest.mark.parametrize("name", NAMES)
def test_joined_with_the_boundary_loss_it_is_weighted_like_the_gdl(name):
    probs, target = random_case(9, 2, 3)
    logits, joint = probs.log(), build_loss(f"{name}+boundary", 3, None, options_of(name, 3))
    maps = maps_of(joint, target)
    loss, terms = joint(probs, target, weights=(0.25, 0.75), logits=logits, **maps)

    regional = value(name, logits, target).item()
    boundary = BoundaryLoss((1, 2))(probs, maps["distance"][:, -2:]).item()
    assert loss.item() == pytest.approx(0.25 * regional + 0.75 * boundary)
    assert terms.keys() == {name.replace("+", "_"), "boundary"}
    assert terms["boundary"].item() == pytest.approx(boundary)


def test_a_loss_of_logits_without_them_names_them():
    message = "^logits: expected those of the network for the loss focal, found None$"
    with pytest.raises(ValueError, match=message):
        build_loss("focal")(*torch.zeros(2, 1, 2, 3, 3))


@pytest.mark.parametrize("kind", [*SIZED, CrossEntropyLoss, FocalLoss, DiceCELoss])
def test_a_target_of_the_wrong_shape_is_named(kind):
    message = r"^target: expected shape \(2, 2, 4, 4\), found \(2, 2, 4, 5\)"
    with pytest.raises(ValueError, match=message):
        kind()(torch.zeros(2, 2, 4, 4), torch.zeros(2, 2, 4, 5))


@pytest.mark.parametrize("spatial", [(6, 7), (3, 4, 5)])
@pytest.mark.parametrize("kind", SIZED)
def test_logits_given_for_probabilities_are_named(kind, spatial):
    logits = 6 * torch.randn(2, 2, *spatial, generator=torch.Generator().manual_seed(0))
    target = one_hot(logits.argmax(1), 2)
    with pytest.raises(ValueError, match="^probs: expected probabilities, from 0 to 1, found -"):
        kind()(logits, target)
    made_for_them = kind(softmax=True)(logits, target)
    assert made_for_them == kind()(logits.softmax(1), target) and made_for_them.isfinite()


@pytest.mark.compiles
@pytest.mark.parametrize("kind", [DiceLoss, TverskyLoss, FocalTverskyLoss])
def test_compiled_overlaps_make_logits_nan(kind):
    compiled = torch.compile(kind(), backend="eager", fullgraph=True)
    target = one_hot(torch.zeros(1, 4, 4, dtype=torch.long), 2)
    logits = torch.full((1, 2, 4, 4), -3.0, requires_grad=True)
    compiled(logits, target).backward()
    assert compiled(logits, target).isnan() and logits.grad.isnan().any()
    assert compiled(logits.softmax(1), target) == kind()(logits.softmax(1), target)


@pytest.mark.parametrize("name", NAMES)
def test_nan_stays_nan(name):
    probs, target = random_case(18)
    logits = probs.log()
    logits[0, 0, 1, 1] = torch.nan
    assert value(name, logits, target).isnan()


@pytest.mark.parametrize("kind", SIZED)
def test_one_channel_of_a_sigmoid_is_named(kind):
    p = torch.rand(2, 1, 4, 4)
    message = r"^probs: .* 2 channels on axis 1, .* found 1\. .* torch\.cat\(\[1 - p, p\], 1\)$"
    with pytest.raises(ValueError, match=message):
        kind()(p, p.round())


@pytest.mark.parametrize("kind", [CrossEntropyLoss, FocalLoss, DiceCELoss])
def test_one_channel_of_logits_is_named_and_two_are_the_same_sigmoid(kind):
    z, target = torch.randn(2, 1, 4, 4), torch.randn(2, 1, 4, 4).round().clamp(0, 1)
    classes = "1" if kind is DiceCELoss else "0, 1"
    message = (f"^logits: .* on axis 1, for the classes {classes}, "
               r"found 1\. .* torch\.cat\(\[torch\.zeros_like\(z\), z\],")
    with pytest.raises(ValueError, match=message):
        kind()(z, target)

    both = torch.cat([torch.zeros_like(z), z], 1)
    assert_allclose(both.softmax(1)[:, 1:], z.sigmoid(), rtol=1e-6)
    assert kind()(both, torch.cat([1 - target, target], 1)).isfinite()


@pytest.mark.parametrize("kind", [*SIZED, CrossEntropyLoss, FocalLoss, DiceCELoss])
def test_class_indices_for_a_target_are_named_with_what_to_give(kind):
    for indices in (torch.zeros(2, 4, 4), torch.zeros(2, 1, 4, 4)):
        with pytest.raises(ValueError, match=r"^target: expected shape .*one_hot\(.*\.movedim"):
            kind()(torch.full((2, 2, 4, 4), 0.5), indices)


@pytest.mark.parametrize("kind, name", [
    *((kind, "softmax") for kind in SIZED), (DiceLoss, "batch"), (TverskyLoss, "batch")])
def test_a_flag_is_named(kind, name):
    with pytest.raises(ValueError, match=f"^{name}: expected 0 or 1, found 2$"):
        kind(**{name: 2})


def test_one_channel_of_logits_is_named_where_the_loss_applies_the_softmax():
    with pytest.raises(ValueError, match="^logits: expected at least 2 channels on axis 1, "):
        HausdorffLoss(softmax=True)(torch.rand(1, 1, 3, 3), torch.rand(1, 1, 3, 3))


@pytest.mark.parametrize("kind", [*SIZED, DiceCELoss])
def test_a_class_that_is_not_there_is_named(kind):
    half = torch.full((1, 2, 3, 3), 0.5)
    with pytest.raises(ValueError, match="expected at least 3 channels on axis 1, .* found 2$"):
        kind((1, 2))(half, half)


def test_any_module_may_be_the_regional_part():
    probs, target = random_case(10)
    loss, _ = JointLoss(torch.nn.L1Loss())(probs, target)
    assert loss == torch.nn.functional.l1_loss(probs, target)


# Oracles ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("batch, classes, spatial", ANY_SHAPE)
def test_cross_entropy_equals_torchs(batch, classes, spatial, weighted):
    probs, target = random_case(11, batch, classes, spatial)
    weights = torch.arange(1.0, classes + 1, dtype=torch.float64) ** 2 if weighted else None
    expected = torch.nn.functional.cross_entropy(3 * probs, target.argmax(1), weights)
    assert_allclose(CrossEntropyLoss(weights)(3 * probs, target), expected, rtol=1e-12)


@pytest.mark.parametrize("gamma, weights", [
    (2, [0.75, 0.25]), (2, None), (1, None), (0, [0.5, 0.5])])
def test_focal_equals_torchvisions_for_two_classes(gamma, weights):
    from torchvision.ops import sigmoid_focal_loss

    probs, target = random_case(12)
    logits = probs.log()
    alpha = weights[1] if weights else -1
    expected = sigmoid_focal_loss(logits[:, 1] - logits[:, 0], target[:, 1], alpha, gamma, "mean")
    assert_allclose(FocalLoss(gamma, weights)(logits, target), expected, rtol=1e-10)


@pytest.fixture(scope="module")
def monais():
    import monai.losses  # takes seconds
    return monai.losses


@pytest.mark.parametrize("batch, classes, spatial", ANY_SHAPE)
def test_overlaps_equal_monais(monais, batch, classes, spatial):
    probs, target = random_case(13, batch, classes, spatial)
    foreground = range(1, classes)
    options = {"include_background": False, "smooth_nr": 1e-5, "smooth_dr": 1e-5}
    dice = monais.DiceLoss(**options)
    squared = monais.DiceLoss(**options, squared_pred=True)
    tversky = monais.TverskyLoss(**options, alpha=0.3, beta=0.7, reduction="none")(probs, target)

    for ours, theirs in [
            (DiceLoss(foreground), dice(probs, target)),
            (DiceLoss(foreground, squared=True), squared(probs, target)),
            (TverskyLoss(foreground), tversky.mean()),
            (FocalTverskyLoss(foreground), (tversky ** 0.75).mean())]:
        assert_allclose(ours(probs, target), theirs, rtol=1e-6)


@pytest.mark.parametrize("batch, classes, spatial", ANY_SHAPE)
def test_losses_of_logits_equal_monais(monais, batch, classes, spatial):
    probs, target = random_case(14, batch, classes, spatial)
    logits = 3 * probs

    # The mean of MONAI's focal loss is over the classes too.
    focal = monais.FocalLoss(include_background=True, gamma=2, use_softmax=True)
    assert_allclose(FocalLoss()(logits, target), classes * focal(logits, target), rtol=1e-6)

    both = monais.DiceCELoss(include_background=False, softmax=True)
    assert_allclose(DiceCELoss(range(1, classes))(logits, target), both(logits, target), rtol=1e-6)


@pytest.mark.parametrize("batch, classes, spatial", ANY_SHAPE)
def test_overlaps_over_the_batch_equal_monais(monais, batch, classes, spatial):
    probs, target = random_case(17, batch, classes, spatial)
    foreground = range(1, classes)
    options = {"include_background": False, "smooth_nr": 1e-5, "smooth_dr": 1e-5, "batch": True}
    tversky = monais.TverskyLoss(**options, alpha=0.3, beta=0.7)

    for ours, theirs in [
            (DiceLoss(foreground, batch=1), monais.DiceLoss(**options)(probs, target)),
            (TverskyLoss(foreground, batch=1), tversky(probs, target)),
            (DiceCELoss(foreground, batch=1),
             monais.DiceCELoss(**options, softmax=True)(probs, target))]:
        assert_allclose(ours(probs, target), theirs, rtol=1e-6)


@pytest.mark.parametrize("power", [2, 1])
@pytest.mark.parametrize("batch, classes, spatial", ANY_SHAPE)
def test_hausdorff_equals_monais(monais, batch, classes, spatial, power):
    probs, target = random_case(15, batch, classes, spatial)
    probs = (8 * probs).softmax(1)  # some above 0.5
    theirs = monais.HausdorffDTLoss(alpha=power, include_background=False)(probs, target)
    assert_allclose(HausdorffLoss(range(1, classes), power)(probs, target), theirs, rtol=1e-5)


def test_hausdorff_equals_brute_force():
    rng = np.random.default_rng(16)
    s, g = rng.random((9, 11)), rng.random((9, 11)) < 0.2
    pixels = np.argwhere(np.ones_like(g))

    total = 0.0
    for mask in (s > 0.5, g):
        other_sides = [np.argwhere(mask != mask[tuple(pixel)]) for pixel in pixels]
        squares = [((pixel - other) ** 2).sum(1).min() for pixel, other in zip(pixels, other_sides)]
        total += np.sum((s - g).ravel() ** 2 * np.array(squares))

    loss = HausdorffLoss()(two_classes(s[None]), two_classes(g[None]))
    assert_allclose(loss, total / s.size, rtol=1e-6)


# What other programs give -------------------------------------------------------------------------

def test_a_class_ruled_out_by_a_logit_of_minus_infinity_costs_nothing():
    logits = torch.tensor([[[[0., 0.]], [[-torch.inf, 0.]], [[0., -torch.inf]]]])
    target = torch.tensor([[[[1, 0]], [[0, 1]], [[0, 0]]]])
    logits.requires_grad_()
    loss = CrossEntropyLoss()(logits, target)
    loss.backward()
    assert loss.item() == pytest.approx(np.log(2))  # two of the three classes are left
    assert logits.grad.flatten().tolist() == pytest.approx([-1/4, 1/4, 0, -1/4, 1/4, 0])
    assert FocalLoss(gamma=1)(logits, target).item() == pytest.approx(np.log(2) / 2)


def test_a_true_class_that_is_ruled_out_costs_infinity():
    logits, target = torch.tensor([[[[-torch.inf]], [[0.]]]]), torch.tensor([[[[1]], [[0]]]])
    assert CrossEntropyLoss()(logits, target) == torch.inf


@pytest.mark.parametrize("name", NAMES)
def test_a_target_of_255_is_named(name):
    probs, target = random_case(23)
    with pytest.raises(ValueError, match="target: expected one-hot.*pass target > 0"):
        value(name, probs.log(), 255 * target)


@pytest.mark.parametrize("kind", SIZED)
def test_a_mask_of_bools_is_taken_for_probabilities(kind):
    probs, target = random_case(24)
    assert kind()(probs > 0.5, target) == kind()((probs > 0.5).float(), target)
