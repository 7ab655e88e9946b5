"""Scores: answers worked out by hand, then independent programs as oracles, then properties."""

import math
import re

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from medpy.metric import binary as medpy
from scipy.spatial.distance import cdist, directed_hausdorff

import metrics
from metrics import (
    absolute_volume_difference,
    assd,
    challenge_hausdorff95,
    dice,
    hausdorff,
    hausdorff95,
    hausdorff_pair,
    leave_out,
    legacy_hausdorff,
    lesion_detection,
    lesion_f1,
    lesion_recall,
    lesion_scores,
    panoptic_quality,
    precision,
    recall,
    surface_dice,
    surface_distances,
    surface_scores,
    volume_difference_ml,
)


def mask(shape, *boxes):
    """An empty mask with some boxes (tuples of indices or slices) set."""
    array = np.zeros(shape, bool)
    for box in boxes:
        array[box] = True
    return array


EMPTY = mask((6, 8))
PIXEL = mask((6, 8), (2, 3))


# By hand: Dice and volumes ------------------------------------------------------------------------

@pytest.mark.parametrize("pred, target, expected", [
    (mask((4, 4), (0, slice(0, 2))), mask((4, 4), (0, slice(1, 3))), 0.5),  # 2 * 1 / (2 + 2)
    (mask((4, 4), (0, 0)), mask((4, 4), (0, slice(0, 3))), 0.5),  # 2 * 1 / (1 + 3)
    (PIXEL, PIXEL, 1.0),
    (PIXEL, mask((6, 8), (2, 4)), 0.0),
    (EMPTY, EMPTY, 1.0),
    (EMPTY, PIXEL, 0.0),
    (mask((3, 3, 3), (slice(None),)), mask((3, 3, 3), 0), 0.5),  # 2 * 9 / (27 + 9)
])
def test_dice_by_hand(pred, target, expected):
    assert dice(pred, target) == pytest.approx(expected, abs=1e-7)


def test_dice_of_empty_masks_is_smoothed_like_that_of_the_2018_code():
    assert dice(EMPTY, EMPTY) == 1.0
    assert dice(EMPTY, PIXEL) == 1e-8 / (1 + 1e-8)


@pytest.mark.parametrize("pred, target, expected", [
    (mask((4, 4), 0), mask((4, 4), slice(0, 2)), 50.0),  # 4 of 8 pixels
    (mask((4, 4), slice(0, 3)), mask((4, 4), 0), 200.0),
    (mask((4, 4), 0), mask((4, 4), 3), 0.0),  # volumes only, not places
    (EMPTY, EMPTY, 0.0),
    (EMPTY, PIXEL, 100.0),
    (PIXEL, EMPTY, math.inf),
])
def test_absolute_volume_difference_is_in_percent_of_the_target(pred, target, expected):
    assert absolute_volume_difference(pred, target) == expected


@pytest.mark.parametrize("pred, target, expected", [
    (mask((4, 4), (0, slice(0, 2))), mask((4, 4), (0, slice(1, 4))), (1 / 2, 1 / 3)),
    (PIXEL, mask((6, 8), (2, 4)), (0, 0)),
    (PIXEL, PIXEL, (1, 1)),
    (EMPTY, EMPTY, (1, 1)), (EMPTY, PIXEL, (1, 0)), (PIXEL, EMPTY, (0, 1)),
])
def test_precision_and_recall_by_hand(pred, target, expected):
    assert (precision(pred, target), recall(pred, target)) == expected


@pytest.mark.parametrize("spacing, ml", [(None, 0.001), ((1, 1), 0.001), ((20, 3), 0.06)])
def test_volume_difference_is_positive_where_too_much_is_predicted(spacing, ml):
    two = mask((6, 8), (2, slice(3, 5)))
    assert volume_difference_ml(two, PIXEL, spacing) == pytest.approx(ml)
    assert volume_difference_ml(PIXEL, two, spacing) == pytest.approx(-ml)
    assert volume_difference_ml(EMPTY, two, spacing) == pytest.approx(-2 * ml)
    assert volume_difference_ml(EMPTY, EMPTY, spacing) == 0


# By hand: surface distances -----------------------------------------------------------------------

def test_two_pixels_two_mm_apart_have_distance_two():
    assert hausdorff_pair(PIXEL, mask((6, 8), (2, 5))) == (2.0, 2.0)
    assert hausdorff_pair(PIXEL, mask((6, 8), (2, 4)), spacing=(1, 2)) == (2.0, 2.0)


@pytest.mark.parametrize("shift, spacing, expected", [
    ((0, 3), None, 3.0), ((4, 3), None, 5.0),
    ((3, 0), (2, 1), 6.0), ((0, 3), (2, 1), 3.0), ((2, 3), (2, 1), 5.0)])
def test_shifted_square_is_as_far_as_its_shift(shift, spacing, expected):
    square = mask((20, 20), (slice(4, 9), slice(4, 9)))
    assert hausdorff(np.roll(square, shift, (0, 1)), square, spacing) == expected


def test_anisotropic_spacing_belongs_to_the_axes_in_order():
    below, beside = mask((6, 8), (3, 3)), mask((6, 8), (2, 4))
    assert hausdorff(PIXEL, below, (2, 1)) == 2.0
    assert hausdorff(PIXEL, beside, (2, 1)) == 1.0


def test_one_far_false_positive_counts_fully_in_hd_and_not_in_hd95():
    square = mask((64, 64), (slice(0, 25), slice(0, 25)))  # surface: 96 pixels
    pred = square | mask((64, 64), (0, 60))
    assert hausdorff(pred, square) == 36.0  # from column 24 to column 60
    assert hausdorff95(pred, square) == 0.0
    assert hausdorff95(pred, square, pooled=False) == 0.0


def test_pooled_and_directed_percentiles_differ_for_one_sided_errors():
    # 1 target pixel; 10 separate predicted ones, 9 of them false at 10, 20, ... 90 px.
    target, pred = mask((1, 100), (0, 0)), mask((1, 100), (0, slice(0, 100, 10)))
    # pooled: 0 from pred, 0 from target, 10, ..., 90: position 0.95 * 10 = 9.5 -> between 80 and 90
    assert hausdorff95(pred, target) == pytest.approx(85.0)
    # one direction alone: position 0.95 * 9 = 8.55 -> 80 + 0.55 * 10
    assert hausdorff95(pred, target, pooled=False) == pytest.approx(85.5)


def test_surface_of_a_mask_touching_the_border_includes_the_border():
    filled = mask((5, 5), slice(None))
    to_target, to_pred = surface_distances(filled, mask((5, 5), (2, 2)))
    # The outer ring, not only what has background beside it.
    assert len(to_target) == 16 and len(to_pred) == 1
    assert to_target.max() == math.sqrt(8) and to_pred[0] == 2.0


def test_hole_has_a_surface_of_its_own():
    ring = mask((9, 9), (slice(1, 8), slice(1, 8)))
    ring[4, 4] = False
    to_target, _ = surface_distances(ring, mask((9, 9), (4, 3)))
    assert len(to_target) == 24 + 4  # outer ring, and the four face neighbours of the hole


def test_distance_counts_surfaces_not_volumes():
    outer, inner = mask((9, 9), (slice(0, 9), slice(0, 9))), mask((9, 9), (4, 4))
    assert hausdorff(outer, inner) == math.sqrt(32)
    # Though the pixel lies inside the outer mask.
    assert surface_distances(outer, inner)[1] == [4.0]


@pytest.mark.parametrize("method", ["auto", "tree", "transform"])
def test_surface_distances_come_in_c_order_by_every_method(method):
    pred, target = mask((1, 9), (0, 0), (0, 8)), mask((1, 9), (0, 2))
    to_target, to_pred = surface_distances(pred, target, method=method)
    assert to_target.tolist() == [2.0, 6.0] and to_pred.tolist() == [2.0]


def test_three_dimensions_by_hand():
    a, b = mask((5, 5, 5), (0, 0, 0)), mask((5, 5, 5), (1, 2, 2))
    assert hausdorff_pair(a, b, (1, 1, 1)) == (3.0, 3.0)
    assert hausdorff_pair(a, b, (6, 1.5, 1)) == (7.0, 7.0)  # sqrt(36 + 9 + 4)


def test_average_surface_distance_counts_every_surface_voxel_alike():
    # From 3 predicted pixels 0, 1 and 2 px, from the target's pixel 0: 3 / 4, not (1 + 0) / 2.
    assert assd(mask((1, 9), (0, slice(0, 3))), mask((1, 9), (0, 0))) == 0.75


@pytest.mark.parametrize("gap, spacing, mm", [(3, (1, 1, 1), 3), (4, (2.5, 1, 1), 10)])
def test_parallel_planes_are_their_gap_apart(gap, spacing, mm):
    planes = [mask((12, 7, 6), at) for at in (2, 2 + gap)]
    assert assd(*planes, spacing) == mm
    assert surface_dice(*planes, spacing, mm) == 1
    assert surface_dice(*planes, spacing, mm - 0.01) == 0


def test_concentric_balls_are_the_difference_of_their_radii_apart():
    z, y, x = np.indices((61, 61, 61)) - 30
    distance = np.sqrt(x ** 2 + y ** 2 + z ** 2)
    balls = distance <= 27, distance <= 20
    assert assd(*balls) == pytest.approx(7, abs=0.25)  # of voxels, whose surfaces are rough
    assert surface_dice(*balls, tolerance=6) == 0 and surface_dice(*balls, tolerance=8) == 1


def test_surface_dice_by_hand():
    # Of 4 predicted pixels those at 0 and 1 px lie within 1 px, of 1 true one that one: 3 of 5.
    pred, target = mask((1, 9), (0, slice(0, 4))), mask((1, 9), (0, 0))
    assert surface_dice(pred, target) == surface_dice(target, pred) == 3 / 5
    assert surface_dice(pred, target, tolerance=0) == 2 / 5
    assert surface_dice(pred, target, (1, 0.5), 1) == 4 / 5
    assert surface_dice(pred, target, tolerance=2.999) == 4 / 5
    assert surface_dice(pred, target, tolerance=3) == 1


def test_a_voxel_size_in_float32_is_within_a_tolerance_of_that_size():
    beside = mask((6, 8), (2, 4))
    assert float(np.float32(1.2)) > 1.2
    assert surface_dice(PIXEL, beside, np.float32([1, 1.2]), 1.2) == 1
    assert surface_dice(PIXEL, beside, (1, 1.2 + 1e-5), 1.2) == 0


def test_surface_scores_are_those_of_each_function_in_one():
    pred = mask((1, 100), (0, slice(0, 100, 10)))
    target, spacing = mask((1, 100), (0, 0)), (1, 0.5)
    assert surface_scores(pred, target, spacing, tolerance=10, empty="nan") == {
        "hd": 45, "hd95": pytest.approx(42.5), "hd95_directed": pytest.approx(42.75),
        "assd": pytest.approx(225 / 11), "surface_dice": 4 / 11}
    assert surface_scores(pred, target)["surface_dice"] == 2 / 11  # within 1 mm


# By hand: empty masks -----------------------------------------------------------------------------

FUNCTIONS = [
    hausdorff,
    hausdorff95,
    lambda p, t, s, empty: hausdorff95(p, t, s, pooled=False, empty=empty),
    lambda p, t, s, empty: hausdorff_pair(p, t, s, empty=empty)[0],
    lambda p, t, s, empty: hausdorff_pair(p, t, s, empty=empty)[1],
    assd,
    *[lambda p, t, s, empty, name=name: surface_scores(p, t, s, empty=empty)[name]
      for name in ("hd", "hd95", "hd95_directed", "assd")],
]


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("pred, target, empty, expected", [
    (EMPTY, EMPTY, "diagonal", 0.0), (EMPTY, EMPTY, "nan", 0.0),
    (EMPTY, PIXEL, "diagonal", 20.0), (PIXEL, EMPTY, "diagonal", 20.0),  # |(6 * 2, 8 * 2)|
    (EMPTY, PIXEL, "nan", math.nan), (PIXEL, EMPTY, "nan", math.nan),
    (PIXEL, PIXEL, "diagonal", 0.0), (PIXEL, PIXEL, "nan", 0.0),
])
def test_empty_masks_in_hausdorff(function, pred, target, empty, expected):
    assert function(pred, target, (2, 2), empty=empty) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("empty", ["diagonal", "nan"])
@pytest.mark.parametrize("pred, target, expected", [
    (EMPTY, EMPTY, 1), (EMPTY, PIXEL, 0), (PIXEL, EMPTY, 0)])
def test_surface_dice_of_empty_masks_is_one_if_both_are(pred, target, expected, empty):
    assert surface_dice(pred, target, tolerance=1e9) == expected
    assert surface_scores(pred, target, empty=empty)["surface_dice"] == expected


@pytest.mark.parametrize("nothing", [
    mask((4, 5, 6)), mask((4, 5, 6), (slice(None), slice(None), 2)),
], ids=["empty", "a whole slice"])
def test_challenge_distance_of_masks_without_a_surface(nothing):
    lesion = mask((4, 5, 6), (1, 1, 1))
    assert challenge_hausdorff95(nothing, nothing, empty="nan") == 0.0
    for pair in ((nothing, lesion), (lesion, nothing)):
        assert challenge_hausdorff95(*pair, (2, 2, 2)) == 2 * math.sqrt(77)  # |(8, 10, 12)|
        assert math.isnan(challenge_hausdorff95(*pair, empty="nan"))


def test_challenge_distance_of_all_and_nothing_is_the_diagonal():
    pair = np.ones((4, 5, 6), bool), np.zeros((4, 5, 6), bool)  # neither has a surface
    for masks in (pair, pair[::-1]):
        assert challenge_hausdorff95(*masks, (2, 2, 2)) == 2 * math.sqrt(77)
        assert math.isnan(challenge_hausdorff95(*masks, empty="nan"))


def test_distances_to_an_empty_mask_are_infinite():
    to_target, to_pred = surface_distances(PIXEL, EMPTY)
    assert to_target.tolist() == [math.inf] and to_pred.tolist() == []


@pytest.mark.parametrize("pred, target, recall, precision, f1", [
    (EMPTY, EMPTY, 1.0, 1.0, 1.0), (EMPTY, PIXEL, 0.0, 1.0, 0.0), (PIXEL, EMPTY, 1.0, 0.0, 0.0)])
def test_empty_masks_in_lesion_detection(pred, target, recall, precision, f1):
    assert lesion_detection(pred, target) == (recall, precision, f1)


# By hand: lesions ---------------------------------------------------------------------------------

def test_lesion_detection_by_hand():
    target = mask((9, 9), (1, 1), (1, 5), (5, 1), (5, 5))  # four lesions
    # Touches two of them, and one lesion is false: 2 of 3.
    pred = mask((9, 9), (1, 1), (slice(3, 6), 5), (8, 8))
    assert lesion_detection(pred, target) == pytest.approx((1 / 2, 2 / 3, 4 / 7))
    assert lesion_recall(pred, target) == 1 / 2
    assert lesion_f1(pred, target) == pytest.approx(4 / 7)


def test_lesions_are_measured_and_found_one_by_one():
    lesions = mask((9, 9), (1, 1), (slice(3, 6), 5), (8, slice(0, 2)))
    sizes, touched = metrics.lesion_sizes(lesions, mask((9, 9), (4, 5), (8, 1), (7, 7)))
    # In the order of their first voxel.
    assert sizes.tolist() == [1, 3, 2] and touched.tolist() == [False, True, True]


def test_a_mask_without_lesions_has_no_sizes():
    with pytest.raises(ValueError, match="^other: expected the shape of lesions, "):
        metrics.lesion_sizes(PIXEL, np.zeros((9, 8), bool))
    sizes, touched = metrics.lesion_sizes(EMPTY, PIXEL)
    assert sizes.tolist() == touched.tolist() == []


def test_missing_every_lesion_gives_f1_zero():
    assert lesion_detection(PIXEL, mask((6, 8), (5, 7))) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("shape, neighbour", [
    ((4, 4), (2, 2)), ((4, 4, 4), (2, 2, 2)), ((4, 4, 4), (1, 2, 2))])
def test_lesions_are_joined_across_corners(shape, neighbour):
    first = (1,) * len(shape)
    # One lesion; two would give 1/2.
    assert lesion_recall(mask(shape, first), mask(shape, first, neighbour)) == 1.0


def test_panoptic_quality_by_hand():
    target = mask((9, 9), (1, slice(0, 4)), (5, slice(0, 3)), (8, 8))
    # IoU 3 / 4 with the first, 1 / 3 with the second, none with the third; one is false.
    pred = mask((9, 9), (1, slice(0, 3)), (5, 2), (3, 8))
    assert panoptic_quality(pred, target) == (3 / 4) / 3  # 1 match, 2 false, 2 missed
    assert panoptic_quality(pred, target, 0.3) == pytest.approx((3 / 4 + 1 / 3) / 3)
    assert panoptic_quality(pred, target, 0.75) == 0  # a match exceeds the threshold


@pytest.mark.parametrize("pred, target, expected", [
    (EMPTY, EMPTY, 1), (EMPTY, PIXEL, 0), (PIXEL, EMPTY, 0), (PIXEL, PIXEL, 1)])
def test_panoptic_quality_of_empty_masks_is_one_if_both_are(pred, target, expected):
    assert panoptic_quality(pred, target) == panoptic_quality(pred, target, 0) == expected


def test_below_half_each_lesion_matches_once_and_the_best_pair_first():
    # A prediction across a gap meets a lesion of 5 of its 9 pixels and one of 3: IoU 5/9 and 3/9.
    target, pred = mask((1, 9), (0, slice(0, 3)), (0, slice(4, 9))), mask((1, 9), 0)
    assert panoptic_quality(pred, target, 0.1) == pytest.approx((5 / 9) / 1.5)
    assert panoptic_quality(target, pred, 0.1) == pytest.approx((5 / 9) / 1.5)


def test_lesion_scores_are_those_of_each_function_in_one():
    target = mask((9, 9), (1, 1), (1, 5), (5, 1), (5, 5))
    pred = mask((9, 9), (1, 1), (slice(3, 6), 5), (8, 8))
    assert lesion_scores(pred, target) == {
        "lesion_recall": 1 / 2, "lesion_precision": pytest.approx(2 / 3),
        "lesion_f1": pytest.approx(4 / 7), "panoptic_quality": 2 / 7,
        "prediction_lesions": 3, "reference_lesions": 4}
    assert lesion_scores(pred, target, 0.3)["panoptic_quality"] == pytest.approx((4 / 3) * 2 / 7)


def test_lesions_that_meet_are_paired_with_their_common_voxels():
    target = mask((3, 9), (0, slice(0, 3)), (2, slice(0, 2)), (0, 8))
    pred = mask((3, 9), (slice(0, 3), slice(1, 3)), (2, 8))
    found = metrics.lesion_overlaps(pred, target)
    assert (found.pred_sizes.tolist(), found.target_sizes.tolist()) == ([6, 1], [3, 1, 2])
    assert found.pairs.tolist() == [[0, 0], [0, 2]] and found.shared.tolist() == [2, 1]


def test_lesions_are_numbered_from_one_in_the_order_of_their_first_voxels():
    labels, count = metrics.label_lesions(mask((3, 5), (2, 0), (0, 4), (1, 3)))
    assert labels.tolist() == [[0, 0, 0, 0, 1], [0, 0, 0, 1, 0], [2, 0, 0, 0, 0]] and count == 2
    labels, count = metrics.label_lesions(EMPTY)
    assert labels.shape == EMPTY.shape and not labels.any() and count == 0


def test_one_prediction_over_two_lesions_finds_both():
    target = mask((3, 9), (1, 1), (1, 7))
    assert lesion_detection(mask((3, 9), 1), target) == (1.0, 1.0, 1.0)


def test_leave_out_removes_other_pathology_from_both_masks():
    labels = np.array([0, 1, 1, 2, 2])
    pred, target = leave_out(np.array([0, 1, 0, 1, 0]), labels == 1, labels == 2)
    assert pred.tolist() == [False, True, False, False, False]
    assert target.tolist() == [False, True, True, False, False]


# By hand: the reported "HD" (PAPER.md, point 2) ---------------------------------------------------

def test_legacy_hausdorff_does_not_see_a_square_moved_100_px_down():
    square = mask((256, 256), (slice(20, 40), slice(20, 40)))
    down = np.roll(square, 100, axis=0)
    assert legacy_hausdorff(square, down) == 0.0
    assert hausdorff(square, down) == 100.0


def test_legacy_hausdorff_of_a_square_moved_5_px_right_is_sqrt_10():
    square = mask((256, 256), (slice(20, 40), slice(20, 40)))
    assert legacy_hausdorff(square, np.roll(square, 5, axis=1)) == math.sqrt(10)


def test_legacy_hausdorff_counts_one_far_false_positive_as_one():
    target = mask((256, 256), (slice(20, 40), slice(20, 40)))
    pred = target | mask((256, 256), (166, 20))
    assert legacy_hausdorff(pred, target) == 1.0
    assert hausdorff(pred, target) == 127.0


def test_legacy_hausdorff_of_empty_masks():
    assert legacy_hausdorff(EMPTY, EMPTY) == 0.0
    assert legacy_hausdorff(np.zeros((0, 4)), np.zeros((0, 4))) == 0.0  # not a row
    assert legacy_hausdorff(PIXEL, EMPTY) == legacy_hausdorff(EMPTY, PIXEL) == 1.0


def test_legacy_hausdorff_of_full_masks():
    full = ~EMPTY
    assert legacy_hausdorff(full, full) == 0.0
    assert legacy_hausdorff(full, EMPTY) == math.sqrt(8)  # every row differs in all 8 columns


# Bad arguments ------------------------------------------------------------------------------------

OF_TWO_MASKS = [
    dice, hausdorff, hausdorff95, hausdorff_pair, surface_distances, legacy_hausdorff,
    lesion_detection, absolute_volume_difference, precision, recall, volume_difference_ml, assd,
    surface_dice, surface_scores, panoptic_quality, lesion_scores, metrics.lesion_overlaps]


@pytest.mark.parametrize("function", OF_TWO_MASKS)
def test_other_shapes_are_refused_with_both_shapes(function):
    with pytest.raises(ValueError, match=r"target: .*\(6, 8\), got \(8, 6\)"):
        function(PIXEL, PIXEL.T)


@pytest.mark.parametrize("function", OF_TWO_MASKS)
@pytest.mark.parametrize("bad, found", [
    (np.full((6, 8), 2), r"\[2\]"), (np.full((6, 8), 0.5), r"\[0.5\]"),
    (np.full((6, 8), np.nan), "nan"), (np.full((6, 8), "a"), "dtype <U1")])
def test_anything_but_zeros_and_ones_is_refused(function, bad, found):
    with pytest.raises(ValueError, match="pred: .*" + found):
        function(bad, PIXEL)
    with pytest.raises(ValueError, match="target: .*" + found):
        function(PIXEL, bad)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32])
def test_zeros_and_ones_of_any_type_are_accepted(dtype):
    assert hausdorff(PIXEL.astype(dtype), mask((6, 8), (2, 5))) == 2.0


@pytest.mark.parametrize("function", [
    hausdorff, hausdorff95, hausdorff_pair, surface_distances, assd, surface_dice, surface_scores,
    volume_difference_ml])
@pytest.mark.parametrize("spacing", [
    (1, 1, 1), (1,), 1.0, (1, 0), (1, -2), (1, math.nan), (1, math.inf), (1, "a"), (1, None),
    (1, (1, 1))])
def test_impossible_spacing_is_refused(function, spacing):
    for pred in (PIXEL, EMPTY):
        with pytest.raises(ValueError, match="spacing: expected 2 positive numbers"):
            function(pred, PIXEL, spacing)


@pytest.mark.parametrize("pred, target", [(0, 0), (0, 1), (1, 1)])
@pytest.mark.parametrize("empty", ["diagonal", "nan"])
def test_the_challenge_distance_refuses_a_spacing_for_empty_masks_too(pred, target, empty):
    masks = [mask((3, 4, 5), *[(1, 1, 1)] * count) for count in (pred, target)]
    message = r"^spacing: expected 3 positive numbers in mm, one per axis, got \(1, 1\)$"
    with pytest.raises(ValueError, match=message):
        challenge_hausdorff95(*masks, (1, 1), empty=empty)


def test_scalars_are_refused():
    with pytest.raises(ValueError, match="pred: .* scalar"):
        dice(True, True)


def test_legacy_hausdorff_refuses_three_dimensions():
    with pytest.raises(ValueError, match=r"pred: expected a 2-D mask, got shape \(2, 2, 2\)"):
        legacy_hausdorff(np.zeros((2, 2, 2)), np.zeros((2, 2, 2)))


@pytest.mark.parametrize("function, pred", [
    (hausdorff, PIXEL), (assd, PIXEL), (surface_scores, PIXEL), (surface_scores, EMPTY),
    (challenge_hausdorff95, np.zeros((2, 2, 2)))])
def test_an_unknown_word_for_empty_masks_is_refused(function, pred):
    with pytest.raises(ValueError, match="^empty: .*'zero'$"):
        function(pred, pred, empty="zero")


@pytest.mark.parametrize("function", [surface_dice, surface_scores])
@pytest.mark.parametrize("tolerance", [-1, math.nan, math.inf, "1", None])
def test_an_impossible_tolerance_is_refused(function, tolerance):
    with pytest.raises(ValueError, match=f"^tolerance: .*0 or more, got {tolerance!r}$"):
        function(PIXEL, PIXEL, tolerance=tolerance)


@pytest.mark.parametrize("function", [panoptic_quality, lesion_scores])
@pytest.mark.parametrize("threshold", [-0.1, 1, math.nan, "0.5", None])
def test_an_impossible_overlap_is_refused(function, threshold):
    with pytest.raises(ValueError, match=rf"^threshold: .*\[0, 1\), got {threshold!r}$"):
        function(PIXEL, PIXEL, threshold)


def test_label_lesions_names_its_argument():
    with pytest.raises(ValueError, match="^mask: expected a bool array"):
        metrics.label_lesions(np.array([2]))


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="^method: .*'fast'$"):
        surface_distances(PIXEL, PIXEL, method="fast")


@pytest.mark.parametrize("shape, axis", [
    ((2, 2, 2), 3), ((2, 2, 2), -4), ((2, 2), 0), ((2, 2, 2, 2), 0)])
def test_slices_along_an_axis_that_is_not_there_are_refused(shape, axis):
    message = rf"^slice_axis: .*got {axis} for shape {re.escape(str(shape))}$"
    with pytest.raises(ValueError, match=message):
        challenge_hausdorff95(np.zeros(shape), np.zeros(shape), slice_axis=axis)


def test_at_most_five_wrong_values_are_shown():
    with pytest.raises(ValueError, match=r"got values \[2 3 4 5 6\]$"):
        dice(np.array([7, 6, 5, 4, 3, 2]), np.zeros(6))


@pytest.mark.parametrize("bad, name", [
    ((2, 0, 0), "pred"), ((0, 2, 0), "target"), ((0, 0, 2), "ignored")])
def test_leave_out_names_the_wrong_array(bad, name):
    with pytest.raises(ValueError, match=f"^{name}: expected a bool array"):
        leave_out(*(np.array([value]) for value in bad))


def test_leave_out_refuses_a_map_of_another_shape():
    message = r"^ignored: expected the shape of pred, \(3,\), got \(2,\)$"
    with pytest.raises(ValueError, match=message):
        leave_out(np.zeros(3), np.zeros(3), np.zeros(2))


# Oracles ------------------------------------------------------------------------------------------

def random_pairs(count, seed, dims=(2, 3)):
    """Random pairs of masks, never empty, each with a random spacing."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        shape = rng.integers(1, 13, size=rng.choice(dims))
        pair = [random_mask(rng, shape) for _ in range(2)]
        yield *pair, rng.choice([np.ones(len(shape)), rng.uniform(0.3, 5, len(shape))])


def random_mask(rng, shape):
    """Noise of any density, a box, both, or a single voxel."""
    noise = rng.random(shape) < rng.choice([0.02, 0.1, 0.5, 0.9])
    low, sides = rng.integers(0, shape), rng.integers(1, 8, len(shape))
    box = mask(shape, tuple(slice(a, a + n) for a, n in zip(low, sides)))
    single = mask(shape, tuple(rng.integers(0, shape)))
    return [noise | single, box, box ^ noise | single, single][rng.integers(4)]


@pytest.mark.parametrize("method", ["auto", "tree", "transform"])
def test_hausdorff_equals_medpy_by_every_method(method, monkeypatch):
    search = metrics._nearest
    monkeypatch.setattr(metrics, "_nearest", lambda a, b, spacing, _: search(a, b, spacing, method))

    for pred, target, spacing in random_pairs(1000, seed=1):
        expected = medpy.hd(pred, target, spacing), medpy.hd95(pred, target, spacing)
        assert hausdorff_pair(pred, target, spacing) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("density", [0.001, 0.02, 0.3])
def test_automatic_choice_equals_medpy_on_larger_noise_and_lesions(density):
    noise = np.random.default_rng(2).random((48, 56, 24)) < density
    spacing = (0.96, 0.95, 3)
    lesions = mask(noise.shape, (slice(5, 9), slice(30, 33), 10),
                   (slice(40, 44), slice(2, 8), slice(18, 24)))

    for pred, target in [(noise, lesions), (lesions, noise),
                         (noise, noise[::-1]), (~lesions, lesions)]:
        expected = medpy.hd(pred, target, spacing), medpy.hd95(pred, target, spacing)
        assert hausdorff_pair(pred, target, spacing) == pytest.approx(expected, abs=1e-4)


def test_dense_noise_is_searched_in_full_where_no_neighbour_is_found(monkeypatch):
    rng, searched = np.random.default_rng(3), []
    pred, target = rng.random((40, 40, 20)) < 0.3, rng.random((40, 40, 20)) < 0.3
    target[:12] = False  # some of the prediction has nothing near

    search = metrics._nearest_by_transform
    monkeypatch.setattr(metrics, "_tree", lambda *args, **options: None)
    monkeypatch.setattr(metrics, "_nearest_by_transform", lambda points, *rest: (
        searched.append(len(points)) or search(points, *rest)))
    found = surface_distances(pred, target, (2, 2, 5))

    # What is more than REACH = 3 voxels of 2 mm away.
    assert searched == [np.count_nonzero(found[0] >= 2 * 4)]
    assert 0 < searched[0] < len(found[0])
    expected = surface_distances(pred, target, (2, 2, 5), method="transform")
    for distances, correct in zip(found, expected):
        np.testing.assert_allclose(distances, correct, rtol=1e-12)


@pytest.mark.parametrize("target, spacing, expected", [
    ((4, 4), (1, 1), 0), ((4, 7), (1, 1), 3), ((1, 4), (1, 1), 3), ((6, 7), (1, 1), math.sqrt(13)),
    ((7, 7), (1, 1), math.inf), ((8, 4), (1, 1), math.inf),  # one beyond the cube: 4 < sqrt(18)
    ((6, 6), (1, 2), math.inf), ((4, 6), (1, 2), math.inf), ((4, 5), (1, 3.5), 3.5),
    ((4, 3), (3.5, 1), 1), ((7, 4), (2, 2), 6)])
def test_neighbours_are_searched_3_voxels_far(target, spacing, expected):
    surface = mask((9, 9), target)
    found = metrics._nearest_neighbours(np.array([[4, 4]]), surface, np.array(spacing))
    assert found == pytest.approx([expected])


def test_neighbours_are_not_found_across_the_edge():
    surface = mask((5, 6), (0, 0), (4, 5))
    points = np.array([[0, 5], [4, 0], [1, 0], [3, 5], [0, 2]])
    found = metrics._nearest_neighbours(points, surface, np.ones(2))
    assert found.tolist() == [math.inf, math.inf, 1, 1, 2]


@pytest.mark.parametrize("method, voxels, searched", [
    ("auto", 8, False), ("auto", 9, True), ("tree", 9, False)])
def test_neighbours_are_searched_above_8_percent_of_surface(method, voxels, searched, monkeypatch):
    calls, search = [], metrics._nearest_neighbours
    monkeypatch.setattr(
        metrics, "_nearest_neighbours", lambda *args: calls.append(args) or search(*args))

    queries, surface = mask((10, 10), (2, 2), (0, 0)), mask((10, 10), (0, slice(0, voxels)))
    assert metrics._nearest(queries, surface, np.ones(2), method).tolist() == [0, 2]
    # (0, 0) is known to be at 0.
    assert [points.tolist() for points, _, _ in calls] == searched * [[[2, 2]]]


def set_costs(monkeypatch, **ns):
    """Replace what a search is expected to cost; what is not named is free."""
    for name in ("TREE_BUILD_NS", "TREE_QUERY_NS", "TREE_VISIT_NS", "TRANSFORM_NS"):
        monkeypatch.setattr(metrics, name, ns.get(name, 0))


@pytest.mark.parametrize("transform_ns, chosen", [(22, False), (23, False), (24, True)])
def test_the_tree_is_taken_if_it_costs_less_than_the_transform(transform_ns, chosen, monkeypatch):
    # 3 * 1 to build and 2 * 10 to query: 23.
    set_costs(monkeypatch, TREE_BUILD_NS=1, TREE_QUERY_NS=10, TRANSFORM_NS=transform_ns / 100)
    surface, points = mask((10, 10), (0, slice(0, 3))), np.array([[5, 5], [6, 6]])
    tree = metrics._tree(points, surface, 3, np.ones(2), even_if_slow=False)
    assert (tree is not None) == chosen
    assert metrics._tree(points, surface, 3, np.ones(2), even_if_slow=True).n == 3


@pytest.mark.parametrize("transform_ns, chosen", [(65, False), (66, False), (67, True)])
def test_the_tree_is_taken_where_a_sample_looks_at_few_voxels(transform_ns, chosen, monkeypatch):
    # 33 points 100 voxels of 2 mm apart, one more than may all be asked: every second one is. The
    # nearest voxel is 20 mm away, and those up to 2 voxels farther count: 2 for the points asked, 3
    # for the others. 33 * 2 = 66.
    surface, starts = np.zeros(3300, bool), np.arange(0, 3300, 100)
    surface[np.add.outer(starts, (10, 12, 13))] = True
    surface[starts[1::2] + 11] = True

    set_costs(monkeypatch, TREE_VISIT_NS=1, TRANSFORM_NS=transform_ns / 3300)
    tree = metrics._tree(
        starts[:, None], surface, surface.sum(), np.array([2.0]), even_if_slow=False)
    assert (tree is not None) == chosen


def test_the_chosen_search_is_the_one_that_runs(monkeypatch):
    monkeypatch.setattr(
        metrics, "_nearest_by_transform", lambda points, *_: np.full(len(points), -1.0))

    def nearest(method):
        pair = mask((20, 20), (0, 0)), mask((20, 20), (0, 19))
        return metrics._nearest(*pair, np.ones(2), method)[0]

    set_costs(monkeypatch, TRANSFORM_NS=1)  # the tree is free
    assert [nearest(method) for method in ("auto", "tree", "transform")] == [19, 19, -1]
    set_costs(monkeypatch)  # now the tree costs as much as the transform
    assert [nearest(method) for method in ("auto", "tree")] == [-1, 19]


@pytest.mark.parametrize("masked, margin, expected", [
    ([(2, 3)], 0, (2, 3, 3, 4)), ([(2, 3)], 1, (1, 4, 2, 5)), ([(0, 0), (5, 7)], 1, (0, 7, 0, 9)),
    ([(1, 4), (3, 2)], 0, (1, 4, 2, 5)), ([], 0, (0, 0, 0, 0)), ([], 1, (0, 0, 0, 0))])
def test_the_box_around_a_mask(masked, margin, expected):
    box = metrics._bounding_box(mask((6, 8), *masked), margin)
    assert tuple(edge for part in box for edge in (part.start, part.stop)) == expected


def test_the_box_has_no_margin_by_default():
    assert metrics._bounding_box(mask((6, 8), (2, 3))) == (slice(2, 3), slice(3, 4))


def test_equal_rows_are_compared_once():
    rows = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0], [0, 0, 0]], bool)
    assert metrics._distinct_rows(rows).tolist() == [[0, 1, 0], [1, 1, 1], [0, 0, 0]]


def test_surface_distances_equal_all_pairs_of_points():
    for pred, target, spacing in random_pairs(200, seed=4):
        edges = [np.argwhere(m & ~_eroded(m)) * spacing for m in (pred, target)]
        pairs = cdist(*edges)
        to_target, to_pred = surface_distances(pred, target, spacing)
        np.testing.assert_allclose(to_target, pairs.min(axis=1), atol=1e-9)
        np.testing.assert_allclose(to_pred, pairs.min(axis=0), atol=1e-9)


def _eroded(m):
    """True where a voxel and all its face neighbours are in m; written out voxel by voxel."""
    padded, out = np.pad(m, 1), np.zeros_like(m)
    for index in np.ndindex(m.shape):
        centre = np.array(index) + 1
        units = np.eye(m.ndim, dtype=int)
        around = [centre, *(centre + unit for unit in units), *(centre - unit for unit in units)]
        out[index] = all(padded[tuple(voxel)] for voxel in around)
    return out


def test_dice_equals_medpy():
    for pred, target, _ in random_pairs(500, seed=5):
        assert dice(pred, target) == pytest.approx(medpy.dc(pred, target), abs=1e-7)


def test_legacy_hausdorff_equals_scipy_on_raw_background_masks():
    rng = np.random.default_rng(6)
    for _ in range(1000):
        shape = rng.integers(1, 24, size=2)
        pred, target = (rng.random(shape) < rng.choice([0, 0.02, 0.3, 0.9, 1]) for _ in range(2))
        p, t = (~pred).astype(np.uint8), (~target).astype(np.uint8)
        expected = max(directed_hausdorff(p, t)[0], directed_hausdorff(t, p)[0])
        assert legacy_hausdorff(pred, target) == expected


def image(array, spacing):
    """A SimpleITK image with the array's axes in NumPy's order."""
    out = sitk.GetImageFromArray(array.astype(np.uint8))
    out.SetSpacing([float(mm) for mm in reversed(spacing)])
    return out


def sitk_directed(edge, other, spacing):
    """Distances in mm from the True voxels of `edge` to those of `other`, by SimpleITK."""
    distances = sitk.SignedMaurerDistanceMap(
        image(other, spacing), squaredDistance=False, useImageSpacing=True, insideIsPositive=True)
    return np.abs(sitk.GetArrayFromImage(distances))[edge]


def sitk_edge(m, spacing):
    """The surface voxels of a mask by SimpleITK, with a margin of one voxel."""
    # LabelContour counts neighbours inside the image only, so it gets a margin of background.
    contour = sitk.LabelContour(image(np.pad(m, 1), spacing), fullyConnected=False)
    return sitk.GetArrayFromImage(contour) > 0


def test_directed_percentiles_equal_an_independent_simpleitk_computation():
    for pred, target, spacing in random_pairs(300, seed=7, dims=(3,)):
        edges = [sitk_edge(m, spacing) for m in (pred, target)]
        directed = [sitk_directed(a, b, spacing) for a, b in (edges, edges[::-1])]
        expected = max(np.percentile(distances, 95) for distances in directed)
        assert hausdorff95(pred, target, spacing, pooled=False) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("slice_axis", [0, 2, -1])
def test_challenge_distance_equals_the_challenge_program_step_by_step(slice_axis):
    def edge_points(m):
        stack = image(np.moveaxis(m, slice_axis, 0), (1, 1, 1))
        edge = sitk.Subtract(stack, sitk.BinaryErode(stack, (1, 1, 0)))
        return np.argwhere(np.moveaxis(sitk.GetArrayFromImage(edge), 0, slice_axis))

    for pred, target, spacing in random_pairs(200, seed=8, dims=(3,)):
        edges = [edge_points(m) * spacing for m in (pred, target)]
        if len(edges[0]) and len(edges[1]):
            pairs = cdist(*edges)
            expected = max(np.percentile(pairs.min(axis=axis), 95) for axis in (1, 0))
            found = challenge_hausdorff95(pred, target, spacing, slice_axis)
            assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("percentile", [100, 95])
def test_the_larger_directed_percentile_equals_monais(percentile):
    from monai.metrics import compute_hausdorff_distance  # takes seconds to import

    for pred, target, spacing in random_pairs(100, seed=10):
        masks = [torch.as_tensor(m)[None, None] for m in (pred, target)]
        expected = compute_hausdorff_distance(
            *masks, include_background=True, percentile=percentile, spacing=spacing.tolist()).item()
        found = hausdorff_pair(pred, target, spacing, pooled=False)[percentile == 95]
        assert found == pytest.approx(expected, rel=1e-5)


def test_average_surface_distance_equals_medpys_and_monais():
    from monai.metrics import compute_average_surface_distance

    for pred, target, spacing in random_pairs(200, seed=11):
        found = assd(pred, target, spacing)
        assert found == pytest.approx(medpy.assd(pred, target, spacing), abs=1e-6)
        masks = [torch.as_tensor(m)[None, None] for m in (pred, target)]
        expected = compute_average_surface_distance(
            *masks, include_background=True, symmetric=True, spacing=spacing.tolist()).item()
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("tolerance", [0.0, 1.0, 1.9, 4.0])
def test_surface_dice_equals_monais(tolerance):
    from monai.metrics import compute_surface_dice

    for pred, target, spacing in random_pairs(100, seed=12):
        masks = [torch.as_tensor(m)[None, None] for m in (pred, target)]
        expected = compute_surface_dice(
            *masks, [tolerance], include_background=True, spacing=spacing.tolist()).item()
        assert surface_dice(pred, target, spacing, tolerance) == pytest.approx(expected, rel=1e-6)


def test_precision_and_recall_equal_medpys():
    for pred, target, _ in random_pairs(300, seed=13):
        assert precision(pred, target) == pytest.approx(medpy.precision(pred, target))
        assert recall(pred, target) == pytest.approx(medpy.recall(pred, target))


def lesions_by_simpleitk(m, spacing):
    """The voxels of each lesion as a set of flat indices."""
    labels = sitk.GetArrayFromImage(sitk.ConnectedComponent(image(m, spacing), True)).ravel()
    return [set(np.flatnonzero(labels == k).tolist()) for k in range(1, labels.max() + 1)]


@pytest.mark.parametrize("threshold", [0.5, 0.7])
def test_panoptic_quality_equals_a_loop_over_all_pairs_of_simpleitks_lesions(threshold):
    for pred, target, spacing in random_pairs(300, seed=14):
        found, true = (lesions_by_simpleitk(m, spacing) for m in (pred, target))
        ious = [len(a & b) / len(a | b) for a in found for b in true]
        matches = [iou for iou in ious if iou > threshold]
        false = len(found) - len(matches), len(true) - len(matches)
        expected = sum(matches) / (len(matches) + sum(false) / 2)
        assert panoptic_quality(pred, target, threshold) == pytest.approx(expected)


@pytest.mark.parametrize("count, expected", [(10, 0.5), (19, 0.05), (20, 0.0), (21, 0.0)])
def test_the_pooled_percentile_among_ties_is_interpolated(count, expected):
    # `count` + 1 distances, the last of which is 1 and the others 0: position 0.95 * count.
    assert metrics.percentile95(np.zeros(count), np.ones(1)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("count", [10, 19, 20, 21])
def test_directed_percentiles_are_not_pooled(count):
    assert metrics.percentile95(np.zeros(count), np.ones(1), pooled=False) == 1.0


def test_lesion_detection_equals_simpleitk_components():
    for pred, target, spacing in random_pairs(500, seed=9):
        found = []
        for lesions, other in ((target, pred), (pred, target)):
            labels = sitk.GetArrayFromImage(sitk.ConnectedComponent(image(lesions, spacing), True))
            found.append(len(set(labels[other].tolist()) - {0}) / labels.max())
        assert lesion_detection(pred, target)[:2] == pytest.approx(found)


# Properties ---------------------------------------------------------------------------------------

SHAPES = hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=9)
PAIRS = SHAPES.flatmap(lambda shape: st.tuples(hnp.arrays(bool, shape), hnp.arrays(bool, shape)))
FEW = settings(max_examples=100, deadline=None)


def spacing_of(array):
    return np.array([0.7, 1.3, 3.0])[:array.ndim]


@FEW
@given(PAIRS)
def test_every_distance_is_symmetric_and_hd95_never_exceeds_hd(pair):
    a, b = pair
    for pooled in (True, False):
        hd, hd95 = hausdorff_pair(a, b, spacing_of(a), pooled)
        assert (hd, hd95) == pytest.approx(hausdorff_pair(b, a, spacing_of(a), pooled))
        assert 0 <= hd95 <= hd <= np.linalg.norm(a.shape * spacing_of(a))
    assert dice(a, b) == dice(b, a)
    assert 0 <= assd(a, b, spacing_of(a)) <= hd
    for score in (assd, surface_dice, panoptic_quality):
        assert score(a, b) == pytest.approx(score(b, a))
    found, true, f1 = lesion_detection(a, b)
    assert lesion_detection(b, a) == (true, found, f1)
    assert precision(a, b) == recall(b, a)


@FEW
@given(PAIRS)
def test_a_mask_is_at_no_distance_from_itself(pair):
    a = pair[0]
    assert hausdorff_pair(a, a, spacing_of(a)) == (0, 0)
    assert dice(a, a) == 1
    assert lesion_detection(a, a) == (1, 1, 1)
    assert assd(a, a) == volume_difference_ml(a, a) == 0
    assert surface_dice(a, a, tolerance=0) == panoptic_quality(a, a) == precision(a, a) == 1
    assert absolute_volume_difference(a, a) == 0


@FEW
@given(PAIRS, st.floats(0, 5), st.floats(0, 5))
def test_surface_dice_grows_with_the_tolerance_up_to_one(pair, tolerance, more):
    a, b = pair
    values = [surface_dice(a, b, spacing_of(a), mm) for mm in (tolerance, tolerance + more, 100)]
    assert 0 <= values[0] <= values[1] <= values[2] and values[2] == (a.any() == b.any())


@FEW
@given(PAIRS, st.floats(0, 0.99), st.floats(0, 0.99))
def test_panoptic_quality_falls_as_its_threshold_rises(pair, p, q):
    low, high = (panoptic_quality(*pair, threshold) for threshold in sorted((p, q)))
    assert 0 <= high <= low <= 1


@FEW
@given(PAIRS, st.integers(0, 5), st.integers(0, 5))
def test_moving_both_masks_inside_the_image_changes_nothing(pair, before, after):
    a, b = pair
    if a.any() and b.any():
        moved = [np.pad(m, (before, after)) for m in pair]
        expected = hausdorff_pair(a, b, spacing_of(a))
        assert hausdorff_pair(*moved, spacing_of(a)) == pytest.approx(expected)
        assert lesion_detection(*moved) == lesion_detection(a, b)


@FEW
@given(PAIRS, st.floats(0.01, 100))
def test_distances_scale_with_the_spacing(pair, factor):
    a, b = pair
    expected = factor * np.array(hausdorff_pair(a, b, spacing_of(a)))
    assert hausdorff_pair(a, b, factor * spacing_of(a)) == pytest.approx(tuple(expected))


@FEW
@given(PAIRS)
def test_flipped_and_transposed_masks_score_the_same(pair):
    a, b = pair
    expected = hausdorff_pair(a, b, spacing_of(a))
    assert hausdorff_pair(a[::-1], b[::-1], spacing_of(a)) == pytest.approx(expected)
    assert hausdorff_pair(a.T, b.T, spacing_of(a)[::-1]) == pytest.approx(expected)


@FEW
@given(PAIRS)
def test_arguments_are_left_as_they_were(pair):
    copies = [m.copy() for m in pair]
    hausdorff_pair(*pair)
    lesion_detection(*pair)
    assert all((m == copy).all() for m, copy in zip(pair, copies))
