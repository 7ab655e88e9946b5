"""Eq. 1, 5 and 6 against numbers by hand, NumPy and MONAI; half precision against float64."""

from contextlib import nullcontext
from fractions import Fraction

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch.autograd import gradcheck

from distance import signed_distance
from losses import (
    EPSILON,
    BoundaryLoss,
    GeneralizedDiceLoss,
    JointLoss,
    select_classes,
    to_float32,
)
from losses_regional import build_loss


def two_classes(foreground):
    """Background and foreground (B, 2, *spatial), float64, from foreground values (B, *spatial)."""
    foreground = torch.as_tensor(foreground, dtype=torch.float64)
    return torch.stack([1 - foreground, foreground], 1)


def one_hot(labels, classes):
    return torch.nn.functional.one_hot(torch.as_tensor(labels), classes).movedim(-1, 1)


def random_case(seed, batch=3, classes=2, spatial=(6, 7)):
    """Random softmax probabilities and a one-hot target in which every class occurs, float64."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, (batch, *spatial))
    labels.reshape(batch, -1)[:, :classes] = np.arange(classes)
    probs = torch.as_tensor(rng.normal(size=(batch, classes, *spatial))).softmax(1)
    return probs, one_hot(labels, classes).double()


# GDL by hand --------------------------------------------------------------------------------------

def test_gdl_of_one_foreground_pixel_half_found():
    # w_G = 1/1^2, w_B = 1/3^2.
    # Overlap: 1 * 0.5 + (0.5 + 1 + 1) / 9 = 7/9. Sums: 1 * (1 + 1) + (3 + 3) / 9 = 8/3.
    target = two_classes([[[1, 0],
                           [0, 0]]])
    probs = two_classes([[[0.5, 0.5],
                          [0.0, 0.0]]])
    loss = GeneralizedDiceLoss()(probs, target)
    assert loss.item() == pytest.approx(1 - 2 * (7 / 9) / (8 / 3))  # 5/12


def test_gdl_of_balanced_classes():
    # w_G = w_B = 1/4. Overlap: (1.5 + 1.5) / 4. Sums: (2 + 2 + 2 + 2) / 4 = 2. Loss: 1 - 1.5 / 2.
    target = two_classes([[[1, 1, 0, 0]]])
    probs = two_classes([[[1, 0.5, 0.5, 0]]])
    assert GeneralizedDiceLoss()(probs, target).item() == pytest.approx(0.25)


def test_gdl_of_a_batch_is_the_mean_of_its_images():
    target = two_classes([[[1, 0], [0, 0]], [[1, 1], [0, 0]]])
    probs = two_classes([[[0.5, 0.5], [0, 0]], [[1, 0.5], [0.5, 0]]])
    assert GeneralizedDiceLoss()(probs, target).item() == pytest.approx((5 / 12 + 1 / 4) / 2)


THREE_CLASSES = torch.tensor([[[[1.0, 0.5, 0.0, 0.0]],
                               [[0.0, 0.5, 1.0, 0.5]],
                               [[0.0, 0.0, 0.0, 0.5]]]], dtype=torch.float64)


def test_gdl_of_three_classes():
    # w = 1/4, 1, 1.
    # Overlap: 1.5 / 4 + 1 + 0.5 = 15/8. Sums: (2 + 1.5) / 4 + (1 + 2) + (1 + 0.5) = 43/8.
    loss = GeneralizedDiceLoss(classes=(0, 1, 2))(THREE_CLASSES, one_hot([[[0, 0, 1, 2]]], 3))
    assert loss.item() == pytest.approx(1 - 2 * 15 / 43)


def test_gdl_sums_over_its_classes_only():
    # Without the background: overlap 1.5, sums 4.5.
    loss = GeneralizedDiceLoss(classes=(1, 2))(THREE_CLASSES, one_hot([[[0, 0, 1, 2]]], 3))
    assert loss.item() == pytest.approx(1 / 3)


@pytest.mark.parametrize("shape", [(1, 2, 4, 5), (3, 4, 6, 6), (2, 3, 3, 4, 5)])
def test_gdl_of_the_perfect_prediction_is_0(shape):
    _, target = random_case(0, shape[0], shape[1], shape[2:])
    assert GeneralizedDiceLoss(range(shape[1]))(target, target).item() == pytest.approx(0, abs=1e-8)


def test_gdl_of_the_opposite_prediction_is_1():
    target = two_classes([[[1, 0, 0, 0]]])
    assert GeneralizedDiceLoss()(1 - target, target).item() == pytest.approx(1, abs=1e-8)


def test_gdl_takes_an_integer_target():
    probs, target = random_case(1)
    assert GeneralizedDiceLoss()(probs, target.long()) == GeneralizedDiceLoss()(probs, target)


def test_gdl_adds_1e_10_where_the_2018_code_does():
    # In fractions. Class 1 has one pixel, of which 3/4 are found, and 1/4 beside it; class 0 has
    # three, of which 2 + 3/4 are found, and 1/4 beside them.
    tiny = Fraction(EPSILON)
    weights = 1 / (3 + tiny) ** 2, 1 / (1 + tiny) ** 2
    overlap = weights[0] * Fraction(11, 4) + weights[1] * Fraction(3, 4)
    total = weights[0] * (3 + 3) + weights[1] * (1 + 1)
    expected = 1 - 2 * (overlap + tiny) / (total + tiny)

    probs, target = two_classes([[[0.75, 0.25, 0, 0]]]), two_classes([[[1, 0, 0, 0]]])
    loss = GeneralizedDiceLoss()(probs, target)
    assert loss.item() == pytest.approx(float(expected), rel=0, abs=1e-15)


# GDL on an empty slice ----------------------------------------------------------------------------

def empty_slice(foreground=0.3):
    """Foreground probability spread evenly over an 8x8 slice without lesion."""
    probs = two_classes(torch.full((1, 8, 8), foreground)).float().requires_grad_()
    return probs, two_classes(torch.zeros(1, 8, 8))


def test_gdl_of_an_empty_slice_is_1():
    probs, target = empty_slice()
    assert GeneralizedDiceLoss()(probs, target).item() == 1.0


def test_gdl_does_not_punish_a_false_positive_on_an_empty_slice():
    probs, target = empty_slice()
    GeneralizedDiceLoss()(probs, target).backward()
    assert probs.grad.abs().max() < 1e-18


def test_gdl_of_an_empty_slice_found_empty_is_0():
    _, target = empty_slice()
    assert GeneralizedDiceLoss()(target.float(), target).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("max_weight", [None, 1])
def test_gdl_without_background_is_0_where_nothing_is_and_nothing_is_found(max_weight):
    # The first image, where the 2018 code's 1 - 2 * 1e-10 / 1e-10 is -1, less than that of any
    # perfect prediction; and one with a lesion: 1 - 2/2.
    target = two_classes([[[0, 0, 0, 0]], [[1, 0, 0, 0]]])
    probs = target.clone().requires_grad_()
    loss = GeneralizedDiceLoss(classes=(1,), max_weight=max_weight)
    assert loss(probs, target).item() == pytest.approx(0, abs=1e-9)
    loss(probs, target).backward()
    assert probs.grad[0].tolist() == [[[0] * 4]] * 2 and probs.grad[1, 1].isfinite().all()


def test_max_weight_punishes_a_false_positive_on_an_empty_slice():
    # w_G = 1 in place of 1e20, w_B = 1/16. Overlap: 3/16. Sums: 1 * (0 + 1) + (4 + 3) / 16 = 23/16.
    probs = two_classes([[[1, 0, 0, 0]]])
    loss = GeneralizedDiceLoss(max_weight=1)(probs, two_classes([[[0, 0, 0, 0]]]))
    assert loss.item() == pytest.approx(1 - 6 / 23)


def test_max_weight_gives_the_false_positives_of_an_empty_slice_a_gradient():
    probs, target = empty_slice()
    GeneralizedDiceLoss(max_weight=1)(probs, target).backward()
    assert probs.grad[:, 1].min() > 1e-3 * probs.grad[:, 0].abs().min() > 0


def test_max_weight_1_leaves_present_classes_alone():
    probs, target = random_case(2)
    assert GeneralizedDiceLoss(max_weight=1)(probs, target) == GeneralizedDiceLoss()(probs, target)


def test_max_weight_bounds_the_weight_of_a_small_class():
    # One foreground pixel, w_G = 1 capped to 1/9 = w_B.
    # Overlap: (0.5 + 2.5) / 9. Sums: (1 + 1 + 3 + 3) / 9.
    target = two_classes([[[1, 0], [0, 0]]])
    probs = two_classes([[[0.5, 0.5], [0, 0]]])
    assert GeneralizedDiceLoss(max_weight=1 / 9)(probs, target).item() == pytest.approx(1 - 6 / 8)


# GDL over the batch -------------------------------------------------------------------------------

def test_gdl_over_the_batch_of_two_images():
    # Foreground 1 + 2 pixels, background 3 + 2: w_G = 1/9, w_B = 1/25.
    # Overlap: (0.5 + 1.5) / 9 + (2.5 + 1.5) / 25. Sums: (3 + 3) / 9 + (5 + 5) / 25.
    target = two_classes([[[1, 0], [0, 0]], [[1, 1], [0, 0]]])
    probs = two_classes([[[0.5, 0.5], [0, 0]], [[1, 0.5], [0.5, 0]]])
    expected = 1 - 2 * (2 / 9 + 4 / 25) / (6 / 9 + 10 / 25)
    assert GeneralizedDiceLoss(batch=1)(probs, target).item() == pytest.approx(expected)


def test_gdl_over_a_batch_of_one_is_that_of_the_image():
    probs, target = random_case(12, batch=1, classes=3)
    batch, alone = (GeneralizedDiceLoss(range(3), batch=flag)(probs, target) for flag in (1, 0))
    assert batch == alone


def test_gdl_over_the_batch_punishes_a_false_positive_on_an_empty_slice():
    target = two_classes([[[1, 1, 0, 0]], [[0, 0, 0, 0]]])
    for batch, least, most in ((0, 0, 1e-18), (1, 0.1, 1)):
        probs = two_classes([[[1, 1, 0, 0]], [[0.5, 0.5, 0, 0]]]).requires_grad_()
        GeneralizedDiceLoss(batch=batch)(probs, target).backward()
        assert least < probs.grad[1, 1].min() <= probs.grad[1, 1].max() < most


def test_gdl_over_a_batch_without_any_lesion_is_1_without_a_gradient():
    target = two_classes(torch.zeros(2, 2, 4))
    probs = two_classes(torch.full((2, 2, 4), 0.3)).requires_grad_()
    loss = GeneralizedDiceLoss(batch=1)(probs, target)
    loss.backward()
    assert loss == 1 and probs.grad.abs().max() < 1e-18


def test_gdl_weighs_an_absent_class_by_the_size_it_usually_has():
    # w = 1/2^2 of the foreground, 1/4^2 of the background.
    # Overlap: 3.5 / 16. Sums: 0.5 / 4 + (4 + 3.5) / 16 = 9.5 / 16. Loss: 1 - 7 / 9.5.
    probs, target = two_classes([[[0.5, 0, 0, 0]]]).requires_grad_(), two_classes([[[0, 0, 0, 0]]])
    loss = GeneralizedDiceLoss(absent_size=(1000, 2))(probs, target)
    assert loss.item() == pytest.approx(1 - 7 / 9.5)

    # Of the foreground 2 * 3.5 / 4 / (9.5 / 16)^2 / 16, of the background, which is there, less.
    loss.backward()
    assert probs.grad[0, 1, 0].tolist() == pytest.approx([28 / 9.5 ** 2] * 4)
    assert probs.grad[0, 0, 0].tolist() == pytest.approx([(7 - 2 * 9.5) / 9.5 ** 2] * 4)


def test_the_usual_size_leaves_classes_that_are_there_alone():
    probs, target = random_case(2)
    loss = GeneralizedDiceLoss(absent_size=(5, 7))
    assert loss(probs, target) == GeneralizedDiceLoss()(probs, target)


@pytest.mark.parametrize("sizes", [(3,), (3, 0), (3, float("inf")), "median", 7, (3, None)])
def test_usual_sizes_that_are_none_are_named(sizes):
    with pytest.raises(ValueError, match="^absent_size: expected 2 numbers above 0, one per class"):
        GeneralizedDiceLoss(absent_size=sizes)


# Boundary loss by hand ----------------------------------------------------------------------------

def test_boundary_loss_is_the_mean_of_map_times_probability():
    # -1 * 0.5 + 0 * 1 + 1 * 0.25 + 2 * 0.5 = 0.75, over 4 pixels.
    phi = torch.tensor([[[[-1.0, 0.0, 1.0, 2.0]]]])
    probs = two_classes([[[0.5, 1.0, 0.25, 0.5]]])
    assert BoundaryLoss()(probs, phi).item() == 0.1875


def test_boundary_loss_is_the_mean_over_the_batch():
    phi = torch.tensor([[[[-1.0, 0.0, 1.0, 2.0]]], [[[4.0, 0.0, 0.0, 0.0]]]])
    probs = two_classes([[[0.5, 1.0, 0.25, 0.5]], [[1.0, 0.0, 0.0, 0.0]]])
    assert BoundaryLoss()(probs, phi).item() == (0.75 + 4) / 8


def test_boundary_loss_pairs_each_map_with_its_class():
    # Class 1: -1 * 0.5 + 1 * 1 = 0.5 with the rest 0; class 2: 2 * 0.5 = 1.
    # Over 2 classes x 4 pixels.
    phi = torch.tensor([[[[0.0, -1.0, 1.0, 0.0]],
                         [[0.0, 0.0, 0.0, 2.0]]]])
    assert BoundaryLoss(classes=(1, 2))(THREE_CLASSES, phi).item() == 1.5 / 8


def test_boundary_gradient_is_the_map_over_the_number_of_pixels():
    phi = torch.tensor([[[[-1.0, 0.0, 1.0, 2.0]]]])
    probs = two_classes([[[0.5, 1.0, 0.25, 0.5]]]).requires_grad_()
    BoundaryLoss()(probs, phi).backward()
    assert probs.grad.tolist() == [[[[0, 0, 0, 0]], [[-0.25, 0, 0.25, 0.5]]]]


def test_boundary_loss_of_an_empty_slice_is_0():
    phi = torch.as_tensor(signed_distance(np.zeros((8, 8), bool)))[None, None]
    probs, _ = empty_slice(0.7)
    assert BoundaryLoss()(probs, phi).item() == 0


def lesion():
    """A 4x5 lesion with one corner cut, in 9x9: mask (1, 9, 9) and map (1, 1, 9, 9)."""
    mask = np.zeros((9, 9), bool)
    mask[2:6, 3:8] = True
    mask[2, 3] = False
    return torch.as_tensor(mask)[None], torch.as_tensor(signed_distance(mask)).double()[None, None]


def test_boundary_loss_of_the_perfect_prediction_is_the_mean_of_the_map_over_the_lesion():
    mask, phi = lesion()  # 6 inner pixels at -1; the boundary holds zeros
    assert BoundaryLoss()(two_classes(mask), phi).item() == pytest.approx(-6 / 81)


@pytest.mark.parametrize("seed", range(20))
def test_boundary_loss_is_never_below_that_of_the_perfect_prediction(seed):
    mask, phi = lesion()
    rng = np.random.default_rng(seed)
    changed = torch.as_tensor(rng.random(mask.shape) < 0.1)
    guess = torch.where(changed, torch.as_tensor(rng.random(mask.shape)), mask)
    assert BoundaryLoss()(two_classes(guess), phi) >= BoundaryLoss()(two_classes(mask), phi)


# Gradients ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("max_weight", [None, 0.01])
@pytest.mark.parametrize("classes, spatial", [(2, (3, 4)), (3, (2, 2, 3))])
def test_gdl_gradient(classes, spatial, max_weight):
    probs, target = random_case(3, 2, classes, spatial)
    loss = GeneralizedDiceLoss(range(classes), max_weight)
    assert gradcheck(lambda s: loss(s, target), probs.requires_grad_())


@pytest.mark.parametrize("classes, spatial", [(2, (3, 4)), (3, (2, 2, 3))])
def test_boundary_gradient(classes, spatial):
    probs, _ = random_case(4, 2, classes, spatial)
    phi = torch.linspace(-3, 5, 2 * (classes - 1) * 12, dtype=torch.float64)
    phi = phi.reshape(2, classes - 1, *spatial)
    assert gradcheck(lambda s: BoundaryLoss(range(1, classes))(s, phi), probs.requires_grad_())


def test_joint_gradient_through_the_softmax():
    mask, phi = lesion()
    logits = torch.as_tensor(np.random.default_rng(5).normal(size=(1, 2, 9, 9))).requires_grad_()
    loss = build_loss("gdl+boundary")
    assert gradcheck(lambda z: loss(z.softmax(1), two_classes(mask), phi, (0.3, 0.7))[0], logits)


# Channels, precision ------------------------------------------------------------------------------

@pytest.mark.parametrize("classes, view", [
    ([0], True), ([0, 1], True), ([0, 1, 2], True), ([1, 2], True), ([2], True),
    ([0, 2], False), ([2, 1], False), ([-1], False)])
def test_neighbouring_channels_are_a_view_and_others_a_copy(classes, view):
    tensor = torch.arange(2 * 3 * 2).reshape(2, 3, 2)
    chosen = select_classes(tensor, classes)
    assert torch.equal(chosen, torch.stack([tensor[:, k] for k in classes], 1))
    same_memory = chosen.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr()
    assert same_memory == view


@pytest.mark.parametrize("classes", [[3], [2, 3], [1, 2, 3], [4]])
def test_a_class_that_is_not_there_is_an_error(classes):
    with pytest.raises(IndexError):
        select_classes(torch.zeros(2, 3, 5), classes)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_gradients_into_half_precision_are_clamped_on_both_sides(dtype):
    half, limit = torch.ones(4, dtype=dtype, requires_grad=True), torch.finfo(dtype).max / 4
    full = to_float32(half)
    assert full.dtype == torch.float32
    full.backward(torch.tensor([3.4e38, -3.4e38, 2.0, -0.5]))
    assert half.grad.tolist() == torch.tensor([limit, -limit, 2.0, -0.5]).to(dtype).tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_other_precisions_are_left_alone(dtype):
    tensor = torch.ones(3, dtype=dtype)
    assert to_float32(tensor) is tensor


# Eq. 6 ---------------------------------------------------------------------------------------

def losses_apart(seed=6, classes=2):
    """Probabilities, target and maps, with the value of Eq. 1 and that of Eq. 5."""
    probs, target = random_case(seed, 2, classes)
    phi = torch.as_tensor(np.random.default_rng(seed).normal(size=(2, classes - 1, 6, 7)))
    gdl = GeneralizedDiceLoss(range(classes))(probs, target)
    boundary = BoundaryLoss(range(1, classes))(probs, phi)
    return probs, target, phi, gdl, boundary


@pytest.mark.parametrize("alpha, beta", [(1.0, 0.0), (0.25, 0.75), (0.1, 2.0)])
@pytest.mark.parametrize("classes", [2, 4])
def test_joint_loss_weights_its_parts(classes, alpha, beta):
    probs, target, phi, gdl, boundary = losses_apart(classes=classes)
    loss, _ = build_loss("gdl+boundary", classes)(probs, target, phi, (alpha, beta))
    assert loss.item() == pytest.approx((alpha * gdl + beta * boundary).item())


def test_parts_are_the_terms_of_eq_6_with_their_gradients():
    probs, target, phi, _, _ = losses_apart()
    joint = build_loss("gdl+boundary")

    parts = joint.parts(probs.requires_grad_(), target, phi)
    loss, terms = joint(probs, target, phi, (0.25, 0.75))
    assert list(parts) == ["gdl", "boundary"] and parts == terms

    by_hand = 0.25 * parts["gdl"] + 0.75 * parts["boundary"]
    gradients = [torch.autograd.grad(value, probs)[0] for value in (by_hand, loss)]
    assert by_hand == loss and torch.equal(*gradients)


@pytest.mark.parametrize("name, found", [("gdl", ["gdl"]), ("boundary", ["boundary"])])
def test_parts_holds_only_the_terms_that_exist(name, found):
    probs, target, phi, _, _ = losses_apart()
    assert list(build_loss(name).parts(probs, target, phi)) == found


def test_joint_terms_are_unweighted():
    probs, target, phi, gdl, boundary = losses_apart()
    _, terms = build_loss("gdl+boundary")(probs, target, phi, (0.25, 0.75))
    assert terms == {"gdl": gdl, "boundary": boundary}


def test_joint_terms_are_detached():
    probs, target, phi, _, _ = losses_apart()
    loss, terms = build_loss("gdl+boundary")(probs.requires_grad_(), target, phi, (0.25, 0.75))
    assert loss.requires_grad and not any(term.requires_grad for term in terms.values())


def test_gdl_alone_needs_no_map_and_has_weight_1():
    probs, target, _, gdl, _ = losses_apart()
    assert build_loss("gdl")(probs, target, weights=(0.25, 0.75)) == (gdl, {"gdl": gdl})


def test_boundary_alone_has_weight_1():
    probs, target, phi, _, boundary = losses_apart()
    found = build_loss("boundary")(probs, target, phi, weights=(0.25, 0.75))
    assert found == (boundary, {"boundary": boundary})


def test_joint_loss_is_the_plain_sum_by_default():
    probs, target, phi, gdl, boundary = losses_apart()
    loss, _ = JointLoss(GeneralizedDiceLoss(), BoundaryLoss())(probs, target, phi)
    assert loss == gdl + boundary


def test_joint_loss_calls_its_regional_part_gdl_by_default():
    probs, target, phi, gdl, boundary = losses_apart()
    _, terms = JointLoss(GeneralizedDiceLoss(), BoundaryLoss())(probs, target, phi)
    assert terms == {"gdl": gdl, "boundary": boundary}


@pytest.mark.parametrize("shape", [
    (1, 2, 4, 4), (2, 1, 4, 4), (2, 2, 4, 5), (2, 4, 4), (2, 2, 1, 4)])
def test_gdl_names_a_target_of_the_wrong_shape(shape):
    with pytest.raises(ValueError, match=r"^target: expected shape \(2, 2, 4, 4\), found \("):
        GeneralizedDiceLoss()(torch.zeros(2, 2, 4, 4), torch.zeros(shape))


@pytest.mark.parametrize("shape", [
    (1, 1, 4, 4), (2, 2, 4, 4), (2, 1, 4, 5), (2, 4, 4), (2, 1, 1, 4)])
def test_boundary_loss_names_a_map_of_the_wrong_shape(shape):
    with pytest.raises(ValueError, match=r"^distance: expected shape \(2, 1, 4, 4\), found \("):
        BoundaryLoss()(torch.zeros(2, 2, 4, 4), torch.zeros(shape))


def test_joint_loss_names_the_wrong_argument():
    probs, target = torch.zeros(2, 1, 2, 3, 3)
    with pytest.raises(ValueError, match="^distance: "):
        JointLoss(GeneralizedDiceLoss(), BoundaryLoss())(probs, target, torch.zeros(1, 1, 3, 4))


# Oracles ------------------------------------------------------------------------------------------

def numpy_gdl(probs, target):
    """Eq. 1 image by image and class by class, in float64; an absent class weighs 1e20."""
    values = []
    for s, g in zip(np.float64(probs), np.float64(target)):
        overlap = sums = 0.0
        for s_k, g_k in zip(s, g):
            weight = 1 / g_k.sum() ** 2 if g_k.any() else 1e20
            overlap += weight * np.sum(g_k * s_k)
            sums += weight * (g_k.sum() + s_k.sum())
        values.append(1 - 2 * overlap / sums)
    return np.mean(values)


def numpy_boundary(probs, phi):
    """Eq. 5 over the foreground classes, in float64."""
    probs, phi = np.float64(probs), np.float64(phi)
    return np.mean([np.sum(s[1:] * d) / d.size for s, d in zip(probs, phi)])


ANY_SHAPE = [(1, 2, (5, 9)), (4, 3, (8, 8)), (2, 5, (3, 5, 4)), (3, 2, (1, 6))]


@pytest.mark.parametrize("batch, classes, spatial", ANY_SHAPE)
def test_gdl_equals_numpy(batch, classes, spatial):
    probs, target = random_case(7, batch, classes, spatial)
    loss = GeneralizedDiceLoss(range(classes))(probs, target)
    assert_allclose(loss, numpy_gdl(probs, target), rtol=1e-7)


def test_gdl_equals_numpy_when_classes_are_absent():
    probs, _ = random_case(8, 3, 4)
    labels = np.random.default_rng(8).integers(0, 3, (3, 6, 7))  # class 3 occurs nowhere
    labels[0] = 0                                                # and the first image is empty
    target = one_hot(labels, 4)
    loss = GeneralizedDiceLoss(range(4))(probs, target)
    assert_allclose(loss, numpy_gdl(probs, target), rtol=1e-7)


@pytest.mark.parametrize("batch, classes, spatial", ANY_SHAPE)
def test_boundary_loss_equals_numpy(batch, classes, spatial):
    probs, _ = random_case(9, batch, classes, spatial)
    phi = torch.as_tensor(np.random.default_rng(9).normal(0, 30, (batch, classes - 1, *spatial)))
    loss = BoundaryLoss(range(1, classes))(probs, phi)
    assert_allclose(loss, numpy_boundary(probs, phi), rtol=1e-12)


@pytest.fixture(scope="module")
def monai_gdl():
    """MONAI's loss as Eq. 1: weights 1/size^2, per image, no smoothing to speak of."""
    from monai.losses import GeneralizedDiceLoss as MonaiLoss  # takes seconds to import
    return MonaiLoss(w_type="square", batch=False, smooth_nr=1e-12, smooth_dr=1e-12)


@pytest.mark.parametrize("batch, classes, spatial", ANY_SHAPE)
def test_gdl_equals_monais_where_every_class_is_present(monai_gdl, batch, classes, spatial):
    probs, target = random_case(10, batch, classes, spatial)
    loss = GeneralizedDiceLoss(range(classes))(probs, target)
    assert_allclose(loss, monai_gdl(probs, target), rtol=1e-6)


@pytest.mark.parametrize("batch, classes, spatial", ANY_SHAPE)
def test_gdl_over_the_batch_equals_monais(batch, classes, spatial):
    from monai.losses import GeneralizedDiceLoss as MonaiLoss
    theirs = MonaiLoss(w_type="square", batch=True, smooth_nr=1e-12, smooth_dr=1e-12)

    probs, target = random_case(10, batch, classes, spatial)
    loss = GeneralizedDiceLoss(range(classes), batch=True)(probs, target)
    assert_allclose(loss, theirs(probs, target), rtol=1e-6)


def test_monai_gives_an_absent_class_the_largest_weight_of_the_others(monai_gdl):
    # Empty slice, w_B = 1/16. MONAI: w_G = 1/16 too, so overlap 3/16, sums (4 + 3) / 16 + 1/16:
    # 1 - 6/8. Here w_G = 1e20 and the loss is 1; max_weight = 1/16, one over the number of pixels
    # squared, is MONAI's choice.
    target, probs = two_classes([[[0, 0, 0, 0]]]), two_classes([[[0.5, 0.5, 0, 0]]])
    ours = [GeneralizedDiceLoss(max_weight=cap)(probs, target).item() for cap in (None, 1 / 16)]
    assert_allclose([monai_gdl(probs, target).item(), *ours], [0.25, 1, 0.25], rtol=1e-6)


def monais_boundary(probs, labels, **options):
    """(value, gradient) of MONAI's boundary loss; labels (B, *spatial)."""
    from monai.losses import BoundaryLoss as MonaiLoss
    target = one_hot(labels, probs.shape[1]).float()
    loss = MonaiLoss(**options)(probs, target)
    return loss, torch.autograd.grad(loss, probs)[0]


def ours(probs, labels, classes, spacing=None, convention="official"):
    """(value, gradient) of the boundary loss with the maps of these classes."""
    phi = np.array([[signed_distance(image == k, spacing, convention) for k in classes]
                    for image in labels])
    loss = BoundaryLoss(classes)(probs, torch.as_tensor(phi))
    return loss, torch.autograd.grad(loss, probs)[0]


def boundary_case(batch, classes, spatial):
    """Random probabilities; labels with a block of each class in the first image alone."""
    rng = np.random.default_rng(13)
    labels = np.zeros((batch, *spatial), int)
    for k in range(1, classes):
        labels[0][tuple(slice(k, k + 3) for _ in spatial)] = k
    probs = torch.as_tensor(rng.normal(size=(batch, classes, *spatial))).softmax(1)
    return probs.float().requires_grad_(), labels


@pytest.mark.parametrize("classes, spatial", [(2, (9, 12)), (4, (9, 9)), (3, (6, 7, 8))])
def test_boundary_loss_with_the_official_map_equals_monais(classes, spatial):
    probs, labels = boundary_case(2, classes, spatial)
    for found, expected in zip(ours(probs, labels, range(1, classes)),
                               monais_boundary(probs, labels, include_background=False)):
        assert_allclose(found.detach(), expected.detach(), rtol=1e-5, atol=1e-8)


def test_monais_boundary_loss_takes_in_the_background_unless_told_otherwise():
    probs, labels = boundary_case(2, 3, (9, 9))
    for found, expected in zip(ours(probs, labels, range(3)), monais_boundary(probs, labels)):
        assert_allclose(found.detach(), expected.detach(), rtol=1e-5, atol=1e-8)
    assert abs(ours(probs, labels, [1, 2])[0] - monais_boundary(probs, labels)[0]) > 0.1


def test_monais_boundary_loss_has_neither_the_papers_map_nor_a_spacing():
    # Towards the missing corner phi is -1 and -2 by the paper, but 1 - sqrt(2) and 1 - sqrt(8) by
    # the 2018 code.
    probs, labels = boundary_case(1, 2, (9, 9))
    labels[0, 1:6, 1:6], labels[0, 1, 1] = 1, 0
    expected, _ = monais_boundary(probs, labels, include_background=False)

    paper = ours(probs, labels, [1], convention="paper")[0]
    s = probs[0, 1]
    share = (s[2, 2] * (2 - 2 ** 0.5) + s[3, 3] * (3 - 8 ** 0.5)) / 81
    assert (expected - paper).item() == pytest.approx(share.item(), rel=1e-3)
    assert abs(ours(probs, labels, [1], spacing=(1, 3))[0] - expected) > 0.1


# Half precision -----------------------------------------------------------------------------------

IMAGES = ["empty", "full", "one pixel", "0.5 %"]
CASES = [
    (1, 2, (32, 32)), (16, 2, (24, 28)), (2, 3, (32, 32)), (3, 4, (8, 12, 12)), (1, 5, (6, 16, 16)),
    (1, 2, (256, 256)),  # 65,536 pixels: their sum overflows float16
]


def labels_of(image, batch, classes, spatial):
    """Label maps (B, *spatial) with this content; in "0.5 %" all foreground classes occur."""
    labels = np.zeros((batch, *spatial), np.int64)
    flat = labels.reshape(batch, -1)

    if image == "full":
        flat[:] = classes - 1
    if image == "one pixel":
        flat[:, flat.shape[1] // 2] = 1
    if image == "0.5 %":
        count = max(classes - 1, round(flat.shape[1] * 0.005))
        flat[:, 40:40 + count] = np.arange(count) % (classes - 1) + 1

    return labels


def maps_of(labels, classes):
    """phi of every foreground class (B, K-1, *spatial), float32."""
    maps = [[signed_distance(image == k) for k in range(1, classes)] for image in labels]
    return torch.as_tensor(np.array(maps))


def half_case(image, batch, classes, spatial, scale):
    """(probs, target, maps): float64, of random logits in +-scale that lean towards the labels."""
    labels = labels_of(image, batch, classes, spatial)
    target = one_hot(labels, classes)
    rng = np.random.default_rng(11)
    logits = torch.as_tensor(rng.uniform(-scale, scale, target.shape)) + scale * 0.5 * target
    return logits.clamp(-scale, scale).softmax(1), target, maps_of(labels, classes)


@pytest.mark.parametrize("scale", [1, 50])
@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("batch, classes, spatial", CASES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_within_1e_3_of_float64(dtype, batch, classes, spatial, image, scale):
    probs, target, phi = half_case(image, batch, classes, spatial, scale)
    rounded, coarse = probs.to(dtype), phi.to(dtype)
    with torch.autocast("cpu", dtype):
        gdl = GeneralizedDiceLoss(range(classes))(rounded, target.to(dtype))
        boundary = BoundaryLoss(range(1, classes))(rounded, coarse)

    expected = numpy_gdl(rounded.double(), target)
    assert_allclose(gdl.double(), expected, rtol=0, atol=1e-3)
    expected = numpy_boundary(rounded.double(), coarse.double())
    assert_allclose(boundary.double(), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gives_the_same_without_autocast(dtype):
    probs, target, phi = half_case("0.5 %", 2, 3, (32, 32), 3)
    loss = build_loss("gdl+boundary", 3)
    plain, _ = loss(probs.to(dtype), target, phi, (0.5, 0.5))
    with torch.autocast("cpu", dtype):
        cast, _ = loss(probs.to(dtype), target, phi, (0.5, 0.5))
    assert plain == cast


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_losses_of_half_precision_are_float32(dtype):
    probs, target, phi = half_case("one pixel", 1, 2, (8, 8), 1)
    loss, _ = build_loss("gdl+boundary")(probs.to(dtype), target, phi.to(dtype))
    assert loss.dtype == torch.float32


@pytest.mark.parametrize("scale", [1, 50])
@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("batch, classes, spatial", CASES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_gradient_of_half_precision_logits_is_finite(dtype, batch, classes, spatial, image, scale):
    probs, target, phi = half_case(image, batch, classes, spatial, scale)
    logits = probs.clamp(min=1e-40).log().clamp(-scale, scale).to(dtype).requires_grad_()
    joint = build_loss("gdl+boundary", classes)
    with torch.autocast("cpu", dtype):
        loss, _ = joint(logits.float().softmax(1), target, phi, (0.5, 0.5))
    loss.backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gradients_stay_finite_on_a_slice_correctly_predicted_empty(dtype):
    logits = torch.zeros(1, 2, 32, 32, dtype=dtype)
    logits[:, 0], logits[:, 1] = 10, -10
    target = torch.zeros(1, 2, 32, 32)
    target[:, 0] = 1
    GeneralizedDiceLoss()(logits.requires_grad_().softmax(1), target).backward()
    assert logits.grad.isfinite().all()


def test_a_boundary_loss_without_its_maps_names_them():
    message = "^distance: expected the maps phi_G of the boundary loss, found None$"
    with pytest.raises(ValueError, match=message):
        build_loss("gdl+boundary")(torch.full((1, 2, 4, 4), 0.5), torch.ones(1, 2, 4, 4))


@pytest.mark.parametrize("cap", [1e-3, 0.5, 1, 7])
def test_any_positive_cap_is_taken(cap):
    assert GeneralizedDiceLoss(max_weight=cap).max_weight == cap


@pytest.mark.parametrize("cap", [0, -1, float("nan")])
def test_a_cap_that_is_not_positive_is_refused(cap):
    with pytest.raises(ValueError, match="max_weight: expected a positive number"):
        GeneralizedDiceLoss(max_weight=cap)


# Chosen classes ----------------------------------------------------------------------------

def test_the_boundary_part_takes_the_maps_of_its_own_classes():
    probs = torch.softmax(torch.arange(8.0).reshape(1, 4, 1, 2), 1)
    maps = torch.tensor([[[[1.0, 2.0]], [[10.0, 20.0]], [[100.0, 200.0]]]])  # of classes 1, 2, 3
    products = {k: probs[0, k, 0] * maps[0, k - 1, 0] for k in (1, 2, 3)}

    def loss(boundary_classes):
        joint = build_loss("boundary", 4, boundary_classes=boundary_classes)
        return joint(probs, torch.zeros(1, 4, 1, 2), maps)[0]

    assert loss([2]) == pytest.approx(float(products[2].mean()))
    assert loss([3, 1]) == pytest.approx(float(torch.cat([products[3], products[1]]).mean()))
    assert loss(None) == loss([1, 2, 3])


# What is refused ----------------------------------------------------------------------------------

TO_16 = [torch.float16, torch.bfloat16]


@pytest.mark.parametrize("scale", [-8, 8])
@pytest.mark.parametrize("spatial", [(6, 7), (3, 4, 5)])
def test_logits_given_for_probabilities_are_named_with_what_to_do(spatial, scale):
    logits = scale * torch.rand(2, 2, *spatial)
    with pytest.raises(ValueError) as error:
        GeneralizedDiceLoss()(logits, torch.ones(2, 2, *spatial))
    message = str(error.value)
    assert message.startswith("probs: expected probabilities, from 0 to 1, found ")
    assert "logits.softmax(1)" in message and "softmax=True" in message
    with pytest.raises(ValueError, match="^probs: expected probabilities"):
        BoundaryLoss()(logits, torch.ones(2, 1, *spatial))


def test_logits_of_monais_networks_are_named_too():
    from monai.data import MetaTensor  # as which MONAI's networks give their output
    logits, target = MetaTensor(torch.full((1, 2, 2, 2), -3.0)), torch.ones(1, 2, 2, 2)
    with pytest.raises(ValueError, match="^probs: .* found -3 to -3"):
        GeneralizedDiceLoss()(logits, target)
    assert GeneralizedDiceLoss()(logits.softmax(1), target).isfinite()


def test_logits_of_a_class_outside_the_loss_are_noticed_too():
    values = torch.stack([torch.full((1, 2, 2), 3.0), torch.full((1, 2, 2), 0.5)], 1)
    with pytest.raises(ValueError, match="^probs: expected probabilities, .* 0.5 to 3"):
        BoundaryLoss()(values, torch.ones(1, 1, 2, 2))


@pytest.mark.parametrize("value, is_refused", [
    (-0.02, True), (-0.005, False), (1.005, False), (1.02, True), (float("inf"), True)])
def test_probabilities_may_leave_their_range_by_rounding_alone(value, is_refused):
    probs = torch.tensor([[[[0.5, value]], [[0.5, 0.5]]]])
    try:
        assert BoundaryLoss()(probs, torch.ones(1, 1, 1, 2)) == 0.5 and not is_refused
    except ValueError:
        assert is_refused


@pytest.mark.parametrize("dtype", TO_16)
def test_probabilities_of_half_precision_are_taken(dtype):
    probs, target = random_case(14)
    assert GeneralizedDiceLoss()((9 * probs).softmax(1).to(dtype), target).isfinite()


@pytest.mark.compiles
@pytest.mark.parametrize("loss, other", [
    (GeneralizedDiceLoss(), torch.ones(2, 2, 4, 4)), (BoundaryLoss(), torch.ones(2, 1, 4, 4))])
def test_compiled_losses_make_logits_nan_with_their_gradient(loss, other):
    compiled = torch.compile(loss, backend="eager", fullgraph=True)
    logits = (5 * torch.ones(2, 2, 4, 4)).requires_grad_()
    value = compiled(logits, other)
    value.backward()
    assert value.isnan() and logits.grad.isnan().any()


@pytest.mark.compiles
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_compiled_losses_are_those_that_are_not(dtype):
    probs, target, phi, *_ = losses_apart()
    arguments = [tensor.to(dtype) for tensor in (probs, target, phi)]
    joint = build_loss("gdl+boundary")
    value, _ = torch.compile(joint, backend="eager", fullgraph=True)(*arguments)
    assert value == joint(*arguments)[0] and value.dtype == dtype


def test_other_devices_make_logits_nan_and_ask_for_no_value(monkeypatch):
    # As a GPU would: the values are never looked at in Python.
    class Elsewhere(torch.Tensor):
        device = property(lambda self: torch.device("cuda"))

        def refuse(self, *_):
            raise AssertionError("waits for the device")

        __bool__ = __float__ = __int__ = item = tolist = cpu = numpy = refuse

    probs, target = random_case(19)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    for values, is_nan in ((probs, False), (9 * probs, True)):
        values, maps = values.as_subclass(Elsewhere), torch.ones(3, 1, 6, 7).double()
        for loss, other in ((GeneralizedDiceLoss(), target), (BoundaryLoss(), maps)):
            found = loss(values, other).as_subclass(torch.Tensor)
            assert found.isnan().item() == is_nan


def test_under_vmap_the_samples_of_logits_alone_are_nan():
    probs, target = random_case(15, batch=2)
    values = torch.stack([probs[:1], 9 * probs[1:]])
    found = torch.func.vmap(GeneralizedDiceLoss())(values, target[:, None])
    assert found[0] == GeneralizedDiceLoss()(probs[:1], target[:1]) and found[1].isnan()


@pytest.mark.parametrize("where", [(0, slice(None), 1, 2), (slice(None),)])
@pytest.mark.parametrize("options", [{}, {"batch": 1}, {"max_weight": 1}, {"softmax": True}])
def test_gdl_of_nan_is_nan(options, where):
    probs, target = random_case(16)
    probs[where] = torch.nan
    assert GeneralizedDiceLoss(**options)(probs, target).isnan()


def test_gdl_of_a_target_of_nan_is_nan():
    probs, target = random_case(16)
    target[0, 1, 2, 3] = torch.nan
    assert GeneralizedDiceLoss()(probs, target).isnan()


def test_boundary_loss_of_nan_is_nan():
    probs, phi = torch.full((1, 2, 2, 2), 0.5), torch.zeros(1, 1, 2, 2)
    for tensor in (probs, phi):
        broken = tensor.clone()
        broken[..., 0] = torch.nan
        pair = (broken, phi) if tensor is probs else (probs, broken)
        assert BoundaryLoss()(*pair).isnan()


def test_losses_made_for_logits_apply_the_softmax():
    probs, target, phi, gdl, boundary = losses_apart()
    logits = probs.log()
    assert GeneralizedDiceLoss(softmax=True)(logits, target).item() == pytest.approx(gdl.item())
    assert BoundaryLoss(softmax=True)(logits, phi).item() == pytest.approx(boundary.item())

    joint = JointLoss(GeneralizedDiceLoss(softmax=1), BoundaryLoss(softmax=1))
    loss, _ = joint(None, target, phi, (0.25, 0.75), logits)
    assert loss.item() == pytest.approx((0.25 * gdl + 0.75 * boundary).item())


def test_a_boundary_loss_of_logits_without_them_names_them():
    message = "^logits: expected those of the network for the loss boundary, found None$"
    with pytest.raises(ValueError, match=message):
        JointLoss(None, BoundaryLoss(softmax=True))(*torch.zeros(2, 1, 2, 3, 3),
                                                    torch.zeros(1, 1, 3, 3))


@pytest.mark.parametrize("spatial", [(4, 5), (2, 4, 5)])
def test_one_channel_of_a_sigmoid_is_named_with_what_to_do(spatial):
    p = torch.rand(2, 1, *spatial)
    words = [r"on axis 1, for the classes 0, 1, found 1", r"pass torch.cat\(\[1 - p, p\], 1\)$"]
    with pytest.raises(ValueError, match=f"^probs: expected at least 2 channels {words[0]}.*"
                                         f"{words[1]}"):
        GeneralizedDiceLoss()(p, p.round())
    with pytest.raises(ValueError, match="^probs: expected at least 2 channels on axis 1, for"):
        BoundaryLoss()(p, p)
    with pytest.raises(ValueError, match="^probs: expected at least 2 channels on axis 1, for"):
        JointLoss(None, BoundaryLoss())(p, p, p)

    both = torch.cat([1 - p, p], 1)
    assert GeneralizedDiceLoss()(both, torch.cat([1 - p.round(), p.round()], 1)).isfinite()


@pytest.mark.parametrize("shape, words", [
    ((2, 4, 5), r"found \(2, 4, 5\)\. For .* pass torch\.stack\(\[1 - p, p\], 1\)$"),
    ((2, 2), r"found \(2, 2\)$"), ((1, 1, 2, 3, 4, 5), r"found \(1, 1, 2, 3, 4, 5\)$")])
def test_probabilities_of_other_dimensions_are_named(shape, words):
    with pytest.raises(ValueError, match=r"^probs: expected shape \(B, K, H, W\) or .*" + words):
        GeneralizedDiceLoss()(torch.zeros(shape), torch.zeros(shape))


@pytest.mark.parametrize("classes, needed", [((0, 1, 2), 3), ((1, 3), 4), ((-3, 1), 3)])
def test_a_class_that_the_probabilities_lack_is_named(classes, needed):
    probs = torch.full((1, 2, 3, 3), 0.5)
    listed = ", ".join(map(str, classes))
    message = f"^probs: expected at least {needed} channels on axis 1, for the classes {listed}, "
    with pytest.raises(ValueError, match=message + "found 2$"):
        GeneralizedDiceLoss(classes)(probs, probs)
    with pytest.raises(ValueError, match=message + "found 2$"):
        BoundaryLoss(classes)(probs, torch.zeros(1, len(classes), 3, 3))


def test_class_indices_for_a_target_come_with_the_call_that_helps():
    probs, target = random_case(17, 2, 3)
    labels, loss = target.argmax(1), GeneralizedDiceLoss(range(3))
    for wrong, name in ((labels, "target"), (labels[:, None], "target[:, 0]")):
        with pytest.raises(ValueError) as error:
            loss(probs, wrong)
        call = f"torch.nn.functional.one_hot({name}.long(), 3).movedim(-1, 1)"
        assert str(error.value).endswith(f". For class indices pass {call}")

    right = torch.nn.functional.one_hot(labels[:, None][:, 0].long(), 3).movedim(-1, 1)
    assert loss(probs, right) == loss(probs, target)


def test_a_target_made_of_labels_with_a_channel_comes_with_what_helps():
    probs, target = random_case(17, 2, 3)
    with pytest.raises(ValueError, match=r"^target: expected shape .*: take labels\[:, 0\]$"):
        GeneralizedDiceLoss(range(3))(probs, target[:, :, None])


def test_maps_made_of_labels_with_a_channel_come_with_what_helps():
    probs, _ = random_case(17, 2, 2)
    with pytest.raises(ValueError, match=r"^distance: expected shape .*: take labels\[:, 0\]$"):
        BoundaryLoss()(probs, probs[:, :1, None])


@pytest.mark.parametrize("name", ["gdl", "ce", "focal", "dice", "tversky", "focal_tversky",
                                  "dice+ce", "hausdorff"])
def test_what_is_no_tensor_is_named_by_every_loss(name):
    """None, and the list of outputs of a network with deep supervision."""
    loss = build_loss(name).regional
    probs, target = random_case(17, 2, 2)
    values = "logits" if getattr(loss, "from_logits", False) else "probs"
    with pytest.raises(ValueError, match=f"^{values}: expected a tensor, found list$"):
        loss([probs, probs], target)
    with pytest.raises(ValueError, match="^target: expected a tensor, found NoneType$"):
        loss(probs, None)


def test_an_array_in_place_of_a_tensor_is_named():
    probs, _ = random_case(17, 2, 2)
    with pytest.raises(ValueError, match="^distance: expected a tensor, found NoneType$"):
        BoundaryLoss()(probs, None)
    with pytest.raises(ValueError, match="^probs: expected a tensor, found ndarray$"):
        BoundaryLoss()(probs.numpy(), probs[:, 1:])
    with pytest.raises(ValueError, match="^distance: expected a tensor, found ndarray$"):
        BoundaryLoss()(probs, np.zeros((2, 1, *probs.shape[2:]), np.float32))
    with pytest.raises(ValueError, match="^target: expected a tensor, found ndarray$"):
        GeneralizedDiceLoss()(probs, np.zeros(probs.shape, np.float32))


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64])
def test_a_target_may_be_of_any_whole_numbers(dtype):
    probs, target = random_case(17, 2, 2)
    assert torch.equal(GeneralizedDiceLoss()(probs, target.to(dtype)),
                       GeneralizedDiceLoss()(probs, target))


@pytest.mark.parametrize("shape, words", [
    ((2, 6, 7), "Give distance[:, None], which has a channel"),
    ((2, 3, 6, 7), "Leave out the map of the background: one for each of the classes 1, 2")])
@pytest.mark.parametrize("loss", [
    BoundaryLoss((1, 2)), lambda probs, phi: JointLoss(None, BoundaryLoss())(probs, None, phi)])
def test_maps_of_another_form_come_with_what_to_give(loss, shape, words):
    with pytest.raises(ValueError) as error:
        loss(random_case(18, 2, 3)[0], torch.zeros(shape))
    start = f"distance: expected shape (2, 2, 6, 7), found {shape}"
    assert str(error.value) == f"{start}. {words}"


@pytest.mark.parametrize("maps", [1, 3])
def test_joint_loss_needs_the_maps_of_all_foreground_classes(maps):
    probs = torch.full((1, 3, 2, 2), 1 / 3)
    with pytest.raises(ValueError, match=r"^distance: expected shape \(1, 2, 2, 2\), found"):
        JointLoss(None, BoundaryLoss((2,)))(probs, None, torch.zeros(1, maps, 2, 2))


def test_joint_loss_takes_no_class_counted_from_the_last():
    with pytest.raises(ValueError, match="^boundary: expected .* from 0, found 1, -1$"):
        JointLoss(None, BoundaryLoss((1, -1)))


def test_joint_loss_of_the_background_takes_its_map_first():
    probs = torch.tensor([[[[0.5]], [[0.25]], [[0.25]]]])
    loss, phi = JointLoss(None, BoundaryLoss((0, 2))), torch.tensor([[[[8.]], [[99.]], [[-4.]]]])
    assert loss.needs_background and loss(probs, None, phi)[0].item() == (0.5 * 8 - 0.25 * 4) / 2

    words = r"\(1, 3, 1, 1\), found \(1, 2, 1, 1\). Put the map of the background first"
    with pytest.raises(ValueError, match=f"^distance: expected shape {words}"):
        loss(probs, None, phi[:, 1:])
    assert not JointLoss(None, BoundaryLoss((1, 2))).needs_background


@pytest.mark.parametrize("classes", [1, (), (1, 1), (0.5,), "ab", (None,)])
@pytest.mark.parametrize("kind", [GeneralizedDiceLoss, BoundaryLoss])
def test_classes_that_are_none_are_named(kind, classes):
    with pytest.raises(ValueError, match="^classes: expected different whole numbers, found "):
        kind(classes)


@pytest.mark.parametrize("value", [2, -1, 0.5, float("nan"), None, "1", [1.0, 1.0]])
@pytest.mark.parametrize("kind, name", [
    (GeneralizedDiceLoss, "batch"), (GeneralizedDiceLoss, "softmax"), (BoundaryLoss, "softmax")])
def test_a_flag_is_0_or_1(kind, name, value):
    with pytest.raises(ValueError, match=f"^{name}: expected 0 or 1, found "):
        kind(**{name: value})


HALF = torch.full((2, 2, 3, 3), 0.5)
OF_LOGITS = ". For sigmoid logits z pass torch.cat([torch.zeros_like(z), z], 1)"


@pytest.mark.parametrize("loss, values, other, message", [
    (GeneralizedDiceLoss(), 6 * HALF, HALF,
     "probs: expected probabilities, from 0 to 1, found 3 to 3. If they are logits, give "
     "logits.softmax(1), or make the loss with softmax=True"),
    (GeneralizedDiceLoss(), HALF, 510 * HALF,
     "target: expected one-hot, from 0 to 1, found 255 to 255. For a mask of 0 and 255 pass "
     "target > 0"),
    (GeneralizedDiceLoss(), HALF, HALF[:, :, 1:],
     "target: expected shape (2, 2, 3, 3), found (2, 2, 2, 3)"),
    (BoundaryLoss(), HALF, HALF[:, :1, 1:],
     "distance: expected shape (2, 1, 3, 3), found (2, 1, 2, 3)"),
    (BoundaryLoss(), HALF[:, 0], HALF[:, :1],
     "probs: expected shape (B, K, H, W) or (B, K, D, H, W), found (2, 3, 3). For sigmoid "
     "probabilities p pass torch.stack([1 - p, p], 1)"),
    (BoundaryLoss(softmax=True), HALF[:, :1], HALF[:, :1],
     "logits: expected at least 2 channels on axis 1, for the classes 1, found 1" + OF_LOGITS),
    (BoundaryLoss((0,), softmax=True), HALF[:, :1], HALF[:, :1],
     "logits: expected at least 2 channels on axis 1, for the classes 0, found 1" + OF_LOGITS)])
def test_what_is_not_as_expected_is_said_in_full(loss, values, other, message):
    with pytest.raises(ValueError) as error:
        loss(values, other)
    assert str(error.value) == message


def test_one_channel_is_enough_for_probabilities_of_class_0():
    assert BoundaryLoss((0,))(HALF[:, :1], HALF[:, :1]) == 0.25


@pytest.mark.parametrize("value", [True, 1, 1.0])
def test_a_flag_may_be_a_number(value):
    assert GeneralizedDiceLoss(batch=value).batch is True


# Targets and types that other programs give -------------------------------------------------------

@pytest.mark.parametrize("make, found", [
    (lambda one_hot: 255 * one_hot, "0 to 255"),
    (lambda one_hot: (255 * one_hot).to(torch.uint8), "0 to 255"),
    (lambda one_hot: one_hot - 1, "-1 to 0"),
    (lambda one_hot: 2 * one_hot.long(), "0 to 2")])
def test_a_target_that_is_not_one_hot_is_named(make, found):
    probs, target = random_case(21)
    with pytest.raises(ValueError, match=f"target: expected one-hot, from 0 to 1, found {found}"):
        GeneralizedDiceLoss()(probs, make(target))


@pytest.mark.compiles
def test_compiled_losses_make_such_a_target_nan():
    probs, target = random_case(21)
    compiled = torch.compile(GeneralizedDiceLoss(), backend="eager", fullgraph=True)
    assert compiled(probs, 255 * target).isnan()
    assert compiled(probs, target) == GeneralizedDiceLoss()(probs, target)


def test_a_target_may_be_soft_and_of_any_type():
    probs, target = random_case(21)
    expected = GeneralizedDiceLoss()(probs, target)
    for dtype in (torch.bool, torch.uint8, torch.int64, torch.float16):
        assert GeneralizedDiceLoss()(probs, target.to(dtype)) == pytest.approx(expected.item())
    assert GeneralizedDiceLoss()(probs, 0.9 * target + 0.05).isfinite()


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64])
def test_a_mask_in_the_place_of_probabilities_is_taken(dtype):
    probs, target = random_case(22)
    mask, maps = probs > 0.5, torch.randn(len(probs), 1, *probs.shape[2:])
    for loss, other in ((GeneralizedDiceLoss(), target), (BoundaryLoss(), maps)):
        assert loss(mask.to(dtype), other) == loss(mask.float(), other)


def test_a_batch_of_no_images_is_nan_as_in_torch():
    probs, target = random_case(22)
    assert GeneralizedDiceLoss()(probs[:0], target[:0]).isnan()
