"""Losses with maps of the labels: by hand, beside plain NumPy loops, on slices without a lesion."""

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.ndimage import distance_transform_edt
from test_losses import one_hot, random_case, two_classes
from test_losses_regional import ANY_SHAPE, maps_of

from losses import BoundaryLoss, GeneralizedDiceLoss, JointLoss
from losses_regional import (
    SMOOTH,
    ComponentDiceCELoss,
    DiceCELoss,
    GeneralizedSurfaceLoss,
    RegionWiseLoss,
    build_loss,
    median_sizes,
)


def row(*foreground):
    """Background and foreground of one image of a single row, (1, 2, 1, W)."""
    return two_classes([[list(map(float, foreground))]])


def image_row(*values):
    """One channel of one image of a single row, (1, 1, 1, W)."""
    return torch.tensor([[[values]]], dtype=torch.float64)


# Region-wise by hand ------------------------------------------------------------------------------

def test_region_wise_maps_are_minus_the_depth_inside_and_1_elsewhere():
    # Lesion of two pixels, of depths 1/2 and 1: map of the lesion 1, 1, -1/2, -1; of the background
    # -1, -1/4, 1, 1. Probabilities of the lesion 0, 0.5, 0.5, 1.
    depth = image_row(1, 0.25, 0.5, 1)
    loss = RegionWiseLoss()(row(0, 0.5, 0.5, 1), row(0, 0, 1, 1), depth)
    lesion, background = 0.5 - 0.25 - 1, -1 - 0.125 + 0.5
    assert loss.item() == pytest.approx((lesion + background) / 8)


def test_region_wise_gradient_is_the_map_over_the_number_of_elements():
    probs = row(0, 0.5, 0.5, 1).requires_grad_()
    RegionWiseLoss()(probs, row(0, 0, 1, 1), image_row(1, 0.25, 0.5, 1)).backward()
    assert (8 * probs.grad[0, :, 0]).tolist() == [[-1, -0.25, 1, 1], [1, 1, -0.5, -1]]


def test_region_wise_of_the_labels_own_maps():
    # Distances to the other class, in a row: 2, 1 | 1 | 1, 2, 3; the largest are 2, 1 and 3
    labels = np.array([[0, 0, 1, 2, 2, 2]])
    depth = RegionWiseLoss.make_maps(labels)
    assert_allclose(depth, [[[1, 1 / 2, 1, 1 / 3, 2 / 3, 1]]])

    target = one_hot(labels[None], 3).double()
    loss = RegionWiseLoss((0, 1, 2))(target, target, torch.from_numpy(depth)[None])
    assert loss.item() == pytest.approx(-(1 + 1 / 2 + 1 + 1 / 3 + 2 / 3 + 1) / 18)


def test_region_wise_is_least_for_the_perfect_prediction():
    probs, target = random_case(1, 2, 3)
    loss = build_loss("rwl", 3)
    maps = maps_of(loss, target)
    assert loss(target, target, **maps)[0] < loss(probs, target, **maps)[0]


def test_region_wise_punishes_every_false_positive_of_an_empty_slice_alike():
    # The map of the lesion is 1, of the background -1, so the loss is the mean of s_1 - s_0 over 2.
    labels = np.zeros((1, 4), int)
    depth = torch.from_numpy(RegionWiseLoss.make_maps(labels))[None]
    assert not depth.any()

    probs = row(0.5, 0, 0, 0.25).requires_grad_()
    loss = RegionWiseLoss()(probs, row(0, 0, 0, 0), depth)
    loss.backward()
    assert loss.item() == pytest.approx((0.75 - 3.25) / 8)
    assert probs.grad[0, :, 0].tolist() == [[-1 / 8] * 4, [1 / 8] * 4]


def test_region_wise_names_a_depth_of_another_shape():
    probs = torch.full((1, 2, 2, 2), 0.5)
    with pytest.raises(ValueError, match=r"^depth: expected shape \(1, 1, 2, 2\), found"):
        RegionWiseLoss()(probs, probs, torch.zeros(1, 2, 2, 2))


# Generalized surface by hand ----------------------------------------------------------------------

MAPS = torch.tensor([[[[-2., -1., 0., 1.]], [[2., 1., 0., -1.]]]], dtype=torch.float64)


def test_generalized_surface_counts_a_pixel_by_the_square_of_its_distance():
    # Squares 4, 1, 0, 1, sum 6. Of the lesion: a false positive of 1/2 at distance 2 leaves
    # 4 / 4 of its 4; half a false negative at distance 1 leaves 1 / 4 of its 1. The same of the
    # background: wrong are 4 * 3/4 + 1 * 3/4 of 6, twice.
    probs, target = row(0.5, 0, 0.9, 0.5), row(0, 0, 1, 1)
    loss = GeneralizedSurfaceLoss()(probs, target, MAPS)
    assert loss.item() == pytest.approx((4 * 0.75 + 1 * 0.75) / 6)


def test_generalized_surface_weighs_its_classes():
    # A map of 1 pixel of the lesion alone: squares 1; of the background 6.
    maps = MAPS.clone()
    maps[0, 1] = torch.tensor([0, 0, 0, 1])
    loss = GeneralizedSurfaceLoss(weights=[1, 30])(row(0, 0, 1, 0), row(0, 0, 1, 1), maps)
    assert loss.item() == pytest.approx((1 * 1 + 30 * 1) / (1 * 6 + 30 * 1))


def test_generalized_surface_is_0_for_the_perfect_prediction_and_1_for_the_opposite():
    target = row(0, 0, 1, 1)
    assert GeneralizedSurfaceLoss()(target, target, MAPS).item() == 0
    assert GeneralizedSurfaceLoss()(1 - target, target, MAPS).item() == 1


def test_generalized_surface_of_units_is_the_same():
    probs, target = row(0.5, 0, 0.9, 0.5), row(0, 0, 1, 1)
    loss = GeneralizedSurfaceLoss()
    assert loss(probs, target, 3 * MAPS).item() == pytest.approx(loss(probs, target, MAPS).item())


def test_generalized_surface_takes_the_diagonal_for_a_class_without_a_boundary():
    # Three classes in a 3x4 image, of which the last is absent: squares 25 everywhere, sum 300.
    maps, labels = torch.zeros(1, 3, 3, 4), torch.zeros(1, 3, 4, dtype=torch.long)
    labels[0, :, 2:] = 1
    maps[0, :2, 0, 0] = 10.0                                             # squares 100 each
    target = one_hot(labels, 3).float()
    probs = target.clone()
    probs[0, :, 1, 0] = torch.tensor([0.5, 0.0, 0.5])  # background has no square there
    loss = GeneralizedSurfaceLoss((0, 1, 2))(probs, target, maps)
    assert loss.item() == pytest.approx(25 * 0.75 / (100 + 100 + 300))


def test_generalized_surface_punishes_false_positives_of_an_empty_slice():
    # Mean of s (2 - s) over pixels, and 2 (1 - s) over their number, half of it by each class.
    probs = row(0.5, 0, 0, 0.25).requires_grad_()
    loss = GeneralizedSurfaceLoss()(probs, row(0, 0, 0, 0), torch.zeros(1, 2, 1, 4))
    loss.backward()
    assert loss.item() == pytest.approx((0.75 + 0.4375) / 4)
    slope = probs.grad[0, 1, 0] - probs.grad[0, 0, 0]
    assert slope.tolist() == pytest.approx([2 * 0.5 / 4, 2 / 4, 2 / 4, 2 * 0.75 / 4])


def test_generalized_surface_of_some_classes_is_given_their_maps_beside_the_boundary_loss():
    labels = torch.tensor([[[0, 0, 1, 2, 2]]])
    target, probs = one_hot(labels, 3), torch.full((1, 3, 1, 5), 1 / 3, dtype=torch.float64)
    maps = torch.stack([torch.full((1, 1, 5), float(k)) for k in (1, 2, 3)], 1)
    regional, boundary = GeneralizedSurfaceLoss((1, 2)), BoundaryLoss((2,))
    _, parts = JointLoss(regional, boundary)(probs, target, maps)
    assert parts["gdl"] == regional(probs, target, maps[:, 1:])
    assert parts["boundary"] == 1  # the mean of 3 / 3


def test_generalized_surface_needs_the_backgrounds_map():
    probs = torch.full((1, 2, 2, 2), 0.5)
    with pytest.raises(ValueError, match="Put the map of the background first"):
        build_loss("gsl")(probs, probs, torch.zeros(1, 1, 2, 2))
    with pytest.raises(ValueError, match="^distance: expected the maps phi_G of the gsl loss"):
        build_loss("gsl")(probs, probs)


# Per component by hand ----------------------------------------------------------------------------

def dice_ce(probs, target, smooth=SMOOTH):
    """Dice + cross-entropy of these pixels, lists of foreground probabilities and labels."""
    overlap = sum(s * g for s, g in zip(probs, target))
    dice = 1 - (2 * overlap + smooth) / (sum(probs) + sum(target) + smooth)
    truth = [s if g else 1 - s for s, g in zip(probs, target)]
    return dice - sum(map(math.log, truth)) / len(truth)


def test_each_lesion_counts_alike_whatever_its_size():
    # Lesions of one and of three pixels; the regions meet between places 2 and 3.
    labels = np.array([[1, 0, 0, 0, 1, 1, 1]])
    s, g = [0.25, 0.25, 0.125, 0.125, 0.75, 0.75, 0.5], labels[0].tolist()
    regions = ComponentDiceCELoss().make_maps(labels)
    assert regions.tolist() == [[[1, 1, 1, 2, 2, 2, 2]]]

    loss = ComponentDiceCELoss()(row(*s).log(), row(*g), torch.from_numpy(regions)[None])
    assert loss.item() == pytest.approx((dice_ce(s[:3], g[:3]) + dice_ce(s[3:], g[3:])) / 2)


def test_one_lesion_is_dice_and_cross_entropy_of_the_image():
    probs, labels = row(0.25, 0.5, 0.125, 0.25), np.array([[1, 1, 0, 0]])
    regions = torch.from_numpy(ComponentDiceCELoss().make_maps(labels))[None]
    found = ComponentDiceCELoss()(probs.log(), row(1, 1, 0, 0), regions)
    assert found.item() == pytest.approx(DiceCELoss()(probs.log(), row(1, 1, 0, 0)).item())


def test_an_empty_slice_is_dice_and_cross_entropy_with_their_gradient():
    logits, target = row(0.25, 0.5, 0.125, 0.25).log(), row(0, 0, 0, 0)
    regions = torch.from_numpy(ComponentDiceCELoss().make_maps(np.zeros((1, 4), int)))[None]
    gradients = []
    for loss in (lambda z: ComponentDiceCELoss()(z, target, regions),
                 lambda z: DiceCELoss()(z, target)):
        z = logits.clone().requires_grad_()
        gradients.append(torch.autograd.grad(loss(z), z)[0])
    assert_allclose(*gradients, rtol=1e-9)
    assert_allclose(gradients[0][0, 1, 0], torch.tensor([0.25, 0.5, 0.125, 0.25]) / 4, rtol=1e-3)


def test_pixels_without_a_region_are_left_out_where_there_are_regions():
    regions = torch.tensor([[[[0, 0, 3, 3]]]])
    probs, target = row(0.5, 0.75, 0.25, 0.125), row(0, 0, 1, 0)
    found = ComponentDiceCELoss()(probs.log(), target, regions)
    assert found.item() == pytest.approx(dice_ce([0.25, 0.125], [1, 0]))


def test_each_class_has_regions_of_its_own():
    labels = np.array([[1, 0, 1, 2]])
    regions = ComponentDiceCELoss((1, 2)).make_maps(labels)
    assert regions[1].tolist() == [[1, 1, 1, 1]] and set(regions[0, 0, 2:]) == {2}

    probs, _ = random_case(2, 1, 3, (1, 4))
    target = one_hot(labels[None], 3).double()
    both = ComponentDiceCELoss((1, 2))(probs.log(), target, torch.from_numpy(regions)[None])
    one, two = torch.from_numpy(regions)[:, None, None]
    each = [ComponentDiceCELoss((1,))(probs.log(), target, one),
            ComponentDiceCELoss((2,))(probs.log(), target, two)]
    assert both.item() == pytest.approx(sum(each).item() / 2)


def test_regions_of_another_shape_are_named():
    logits = torch.zeros(1, 2, 2, 2)
    with pytest.raises(ValueError, match=r"^regions: expected shape \(1, 1, 2, 2\), found"):
        ComponentDiceCELoss()(logits, logits, torch.zeros(1, 2, 2, 2))


# Beside plain NumPy -------------------------------------------------------------------------------

def blobs(seed, batch, classes, spatial):
    """Class numbers (B, *spatial) with some blobs of each class; the last image is empty."""
    rng, shape = np.random.default_rng(seed), (batch, *spatial)
    labels = np.where(rng.random(shape) < 0.3, rng.integers(1, classes, shape), 0)
    labels[-1] = 0
    return labels


def region_wise(s, g):
    """The loss of one image of (K, *spatial) arrays."""
    maps = np.ones_like(s)
    for k, mask in enumerate(g > 0):
        if mask.all():
            maps[k] = -1
        elif mask.any():
            distance = distance_transform_edt(mask)
            maps[k][mask] = -distance[mask] / distance.max()
    return (s * maps).mean()


def surface(s, g, phi):
    above = below = 0
    for k in range(len(s)):
        squares = phi[k].astype(float) ** 2
        if not squares.any():
            squares = np.full(squares.shape, float(sum(n * n for n in squares.shape)))
        above += (squares * (1 - (g[k] + s[k])) ** 2).sum()
        below += squares.sum()
    return 1 - above / below


def per_component(s, g, regions):
    means, of_truth = [], -np.log((s * g).sum(0))
    for k in range(1, len(s)):
        losses = []
        for number in np.unique(regions[k - 1]):
            here = regions[k - 1] == number
            overlap, size = (s[k] * g[k])[here].sum(), (s[k] + g[k])[here].sum()
            losses.append(1 - (2 * overlap + SMOOTH) / (size + SMOOTH) + of_truth[here].mean())
        means.append(np.mean(losses))
    return np.mean(means)


@pytest.mark.parametrize("name", ["rwl", "gsl", "cc_dice_ce"])
@pytest.mark.parametrize("batch, classes, spatial", [*ANY_SHAPE, (2, 2, (12, 14))])
def test_losses_of_maps_equal_numpys(name, batch, classes, spatial):
    labels = blobs(3, batch, classes, spatial)
    probs, _ = random_case(4, batch, classes, spatial)
    target, loss = one_hot(labels, classes).double(), build_loss(name, classes)
    maps = maps_of(loss, target)

    by_hand, *given = {"rwl": (region_wise,), "gsl": (surface, maps["distance"]),
                       "cc_dice_ce": (per_component, maps["maps"])}[name]
    arrays = zip(*(tensor.numpy() for tensor in (probs, target, *given)), strict=True)
    expected = np.mean([by_hand(*image) for image in arrays])
    assert_allclose(loss(probs, target, logits=probs.log(), **maps)[0], expected, rtol=1e-6)


# Typical sizes ------------------------------------------------------------------------------------

def test_median_sizes_are_of_the_images_that_have_the_class():
    sizes = [[10, 0, 0], [9, 1, 0], [6, 4, 0], [0, 10, 0]]
    assert median_sizes(sizes) == [9, 4, 10]  # the last is in none of them


def test_gdl_with_median_sizes_punishes_false_positives_of_an_empty_slice():
    target, gradients = torch.zeros(1, 2, 8, 8), []
    target[:, 0] = 1
    for options in ({}, {"absent_size": [60, 4]}):
        probs = torch.full((1, 2, 8, 8), 0.5).requires_grad_()
        GeneralizedDiceLoss(**options)(probs, target).backward()
        gradients.append((probs.grad[:, 1] - probs.grad[:, 0]).mean().item())
    # (r + 1) 2 N / (2 N + (r - 1) S)^2 a pixel, r = (N / 4)^2 = 256, N = 64, S = 32
    assert gradients == pytest.approx([0, 257 * 128 / (128 + 255 * 32) ** 2], abs=1e-9)


# What is refused ----------------------------------------------------------------------------------

@pytest.mark.parametrize("kind, channels", [(RegionWiseLoss, 1), (GeneralizedSurfaceLoss, 2)])
def test_logits_are_named_unless_the_loss_is_made_for_them(kind, channels):
    logits = 6 * torch.randn(2, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    target, maps = one_hot(logits.argmax(1), 2), torch.rand(2, channels, 5, 5)
    with pytest.raises(ValueError, match="^probs: expected probabilities, from 0 to 1, found -"):
        kind()(logits, target, maps)
    with pytest.raises(ValueError, match="^target: expected one-hot"):
        kind()(logits.softmax(1), 255 * target, maps)
    assert kind(softmax=True)(logits, target, maps) == kind()(logits.softmax(1), target, maps)


@pytest.mark.compiles
@pytest.mark.parametrize("kind, channels", [(RegionWiseLoss, 1), (GeneralizedSurfaceLoss, 2)])
def test_compiled_losses_of_maps_make_logits_nan(kind, channels):
    compiled = torch.compile(kind(), backend="eager", fullgraph=True)
    target, maps = one_hot(torch.zeros(1, 4, 4, dtype=torch.long), 2), torch.rand(1, channels, 4, 4)
    logits = torch.full((1, 2, 4, 4), -3.0)
    assert compiled(logits, target, maps).isnan()
    found = compiled(logits.softmax(1), target, maps)
    assert found.item() == pytest.approx(kind()(logits.softmax(1), target, maps).item())


@pytest.mark.parametrize("make_maps", [RegionWiseLoss.make_maps, ComponentDiceCELoss().make_maps])
def test_maps_are_of_class_numbers_and_of_nothing_else(make_maps):
    labels = np.zeros((9, 9))
    labels[1:3, 1:3] = labels[6:8, 5:9] = 1
    expected = make_maps(labels.astype(np.uint8))
    jitter = np.random.default_rng(0).uniform(-1e-4, 1e-4, labels.shape)
    assert_allclose(make_maps(labels + jitter), expected)
    for wrong, found in ((labels * 255, "0, 255"), (labels / 2, "0, 0.5"), (labels - 1, "-1, 0"),
                         (labels * np.nan, "nan")):
        message = f"^labels: expected class numbers, whole ones from 0 to 254, found {found}$"
        with pytest.raises(ValueError, match=message):
            make_maps(wrong)


def test_maps_are_made_with_the_spacing():
    labels = np.array([[1, 1], [1, 0], [1, 0]])  # rows 2 mm apart: the corner is sqrt(5) mm deep
    one, two = 1 / math.sqrt(5), 2 / math.sqrt(5)
    depth = RegionWiseLoss.make_maps(labels, (2, 1))
    assert_allclose(depth, [[[1, two], [one, 1], [one, 1]]], rtol=1e-6)

    # A pixel two rows below one lesion and two columns beside the other
    labels = np.array([[1, 0, 0], [0, 0, 0], [0, 0, 1], [0, 0, 0]])
    maps = [ComponentDiceCELoss().make_maps(labels, spacing)[0] for spacing in ((1, 5), (5, 1))]
    assert maps[0][2, 0] == 1 and maps[1][2, 0] == 2
