"""Signed distance maps: answers by hand, brute force over all pairs, properties of any mask."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import distance_transform_edt, gaussian_filter

import distance
from distance import (
    boundary,
    depth_in_class,
    nearest_component,
    signed_distance,
    signed_distance_of_scan,
    signed_distance_slices,
    whole_numbers,
)

S2, S3, S5, S10 = np.sqrt([2, 3, 5, 10])
quick = settings(max_examples=60, deadline=None, database=None, derandomize=True)


def close(found, expected):
    assert_allclose(found, np.array(expected), rtol=1e-6, atol=0)


# By hand, 2-D -------------------------------------------------------------------------------------

def test_single_pixel_is_zero_amid_the_distances_to_it():
    mask = [[0, 0, 0, 0],
            [0, 1, 0, 0],
            [0, 0, 0, 0]]
    close(signed_distance(mask), [[S2, 1, S2, S5],
                                  [1,  0, 1,  2],
                                  [S2, 1, S2, S5]])


SQUARE = [[0, 0, 0, 0, 0, 0, 0],
          [0, 1, 1, 1, 1, 1, 0],
          [0, 1, 1, 1, 1, 1, 0],
          [0, 1, 1, 1, 1, 1, 0],
          [0, 1, 1, 1, 1, 1, 0],
          [0, 1, 1, 1, 1, 1, 0],
          [0, 0, 0, 0, 0, 0, 0]]


@pytest.mark.parametrize("convention", ["paper", "official"])
def test_square_of_5_falls_to_minus_2_at_its_centre(convention):
    close(signed_distance(SQUARE, convention=convention), [[S2, 1,  1,  1,  1, 1, S2],
                                                           [1,  0,  0,  0,  0, 0, 1],
                                                           [1,  0, -1, -1, -1, 0, 1],
                                                           [1,  0, -1, -2, -1, 0, 1],
                                                           [1,  0, -1, -1, -1, 0, 1],
                                                           [1,  0,  0,  0,  0, 0, 1],
                                                           [S2, 1,  1,  1,  1, 1, S2]])


def test_l_shape_of_one_pixel_strokes():
    mask = [[0, 0, 0, 0, 0],
            [0, 1, 0, 0, 0],
            [0, 1, 0, 0, 0],
            [0, 1, 1, 1, 0],
            [0, 0, 0, 0, 0]]
    close(signed_distance(mask), [[S2, 1, S2, S5, S10],
                                  [1,  0, 1,  2,  S5],
                                  [1,  0, 1,  1,  S2],
                                  [1,  0, 0,  0,  1],
                                  [S2, 1, 1,  1,  S2]])


def test_each_point_measures_to_the_nearer_of_two_components():
    mask = [[0, 1, 0, 0, 0, 0, 1, 1, 1, 0]]
    close(signed_distance(mask), [[1, 0, 1, 2, 2, 1, 0, -1, 0, 1]])


def test_hole_is_outside():
    mask = [[0, 0, 0, 0, 0],
            [0, 1, 1, 1, 0],
            [0, 1, 0, 1, 0],
            [0, 1, 1, 1, 0],
            [0, 0, 0, 0, 0]]
    close(signed_distance(mask), [[S2, 1, 1, 1, S2],
                                  [1,  0, 0, 0, 1],
                                  [1,  0, 1, 0, 1],
                                  [1,  0, 0, 0, 1],
                                  [S2, 1, 1, 1, S2]])


@pytest.mark.parametrize("convention", ["paper", "official"])
def test_image_border_is_no_boundary(convention):
    mask = [[1, 1, 1, 0, 0],
            [1, 1, 1, 0, 0]]
    close(signed_distance(mask, convention=convention), [[-2, -1, 0, 1, 2],
                                                         [-2, -1, 0, 1, 2]])


@pytest.mark.parametrize("convention", ["paper", "official"])
@pytest.mark.parametrize("fill", [False, True])
@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4)])
def test_mask_without_boundary_gets_a_zero_map(shape, fill, convention):
    phi = signed_distance(np.full(shape, fill), convention=convention)
    assert_array_equal(phi, np.zeros(shape))


def test_boundary_holds_face_neighbours_of_the_background_only():
    mask = np.array([[0, 1, 1],
                     [1, 1, 1],
                     [1, 1, 1]], bool)  # the centre touches the background at a corner: not a face
    assert_array_equal(boundary(mask), [[0, 1, 0],
                                        [1, 0, 0],
                                        [0, 0, 0]])


def test_conventions_differ_where_the_background_lies_diagonally():
    mask = [[0, 1, 1],
            [1, 1, 1],
            [1, 1, 1]]
    close(signed_distance(mask, convention="paper"), [[1,   0,  -1],
                                                      [0,  -1, -S2],
                                                      [-1, -S2, -S5]])
    close(signed_distance(mask, convention="official"), [[1,  0,      -1],
                                                         [0,  1 - S2,  1 - S5],
                                                         [-1, 1 - S5,  1 - 2 * S2]])


# By hand, spacing ---------------------------------------------------------------------------------

def test_spacing_2_by_1_stretches_the_rows():
    mask = [[0, 0, 0],
            [0, 1, 0],
            [0, 0, 0]]
    close(signed_distance(mask, (2, 1)), [[S5, 2, S5],
                                          [1,  0, 1],
                                          [S5, 2, S5]])


def test_spacing_2_by_1_inside_a_square_of_5():
    inner = signed_distance(SQUARE, (2, 1))[2:5, 2:5]
    close(inner, [[-1, -2, -1],     # up: 2 mm; left and right: 2 px of 1 mm
                  [-1, -2, -1],
                  [-1, -2, -1]])


def test_official_boundary_is_005_off_at_spacing_095():
    mask = [[0, 0, 1, 1, 1, 0]]
    close(signed_distance(mask, (0.95, 0.95), "official"), [[1.9, 0.95, 0.05, -0.9, 0.05, 0.95]])
    close(signed_distance(mask, (0.95, 0.95), "paper"), [[1.9, 0.95, 0, -0.95, 0, 0.95]])


# By hand, 3-D -------------------------------------------------------------------------------------

def test_single_voxel():
    mask = np.zeros((3, 3, 3), bool)
    mask[1, 1, 1] = True
    outer = [[S3, S2, S3],
             [S2, 1,  S2],
             [S3, S2, S3]]
    close(signed_distance(mask), [outer,
                                  [[S2, 1, S2],
                                   [1,  0, 1],
                                   [S2, 1, S2]],
                                  outer])


def test_cube_of_3_has_its_centre_voxel_inside():
    mask = np.zeros((5, 5, 5), bool)
    mask[1:4, 1:4, 1:4] = True
    close(signed_distance(mask)[2], [[S2, 1,  1, 1, S2],
                                     [1,  0,  0, 0, 1],
                                     [1,  0, -1, 0, 1],
                                     [1,  0,  0, 0, 1],
                                     [S2, 1,  1, 1, S2]])


def test_thick_slices_take_their_spacing_from_the_first_axis():
    mask = np.zeros((3, 1, 2), bool)
    mask[0, 0, 0] = True
    close(signed_distance(mask, (3, 1, 1)), [[[0, 1]], [[3, S10]], [[6, np.sqrt(37)]]])


def test_slices_get_a_2d_map_each():
    masks = np.array([[[0, 1, 1]], [[0, 0, 0]], [[1, 0, 0]], [[1, 1, 1]]], bool)
    maps = signed_distance_slices(masks)
    close(maps, [[[1, 0, -1]], [[0, 0, 0]], [[0, 1, 2]], [[0, 0, 0]]])
    assert maps.dtype == np.float32


def test_slices_pass_spacing_and_convention_on():
    masks = np.array([[[0, 1, 1]]], bool)
    close(signed_distance_slices(masks, (1, 0.5), "official"), [[[0.5, 0.5, 0]]])


# Other maps ---------------------------------------------------------------------------------------

def test_a_scan_has_maps_of_slices_or_of_the_volume_in_px_or_mm_whole_or_not():
    mask = np.array([[[1, 0, 0]], [[0, 0, 0]]], bool)
    close(signed_distance_of_scan(mask, (3, 1, 2)), [[[0, 1, 2]], [[0, 0, 0]]])
    close(signed_distance_of_scan(mask, (3, 1, 2), unit="mm"), [[[0, 2, 4]], [[0, 0, 0]]])
    close(signed_distance_of_scan(mask, (3, 1, 2), "official"), [[[0, 1, 2]], [[0, 0, 0]]])
    wide = np.array([[[0, 1, 1, 1, 0]]], bool)
    close(signed_distance_of_scan(wide, (3, 1, 2), unit="mm"), [[[2, 0, -2, 0, 2]]])
    close(signed_distance_of_scan(wide, (3, 1, 2), "official", "mm"), [[[2, -1, -3, -1, 2]]])
    close(signed_distance_of_scan(mask, (3, 1, 2), dims=3), [[[0, 1, 2]], [[1, S2, S5]]])
    volume = signed_distance_of_scan(mask, (3, 1, 2), unit="mm", dims=3)
    close(volume, [[[0, 2, 4]], [[3, np.sqrt(13), 5]]])
    close(signed_distance_of_scan(mask, (3, 1, 2), "official", "mm", 3, truncate=True),
          [[[-1, 2, 4]], [[3, 3, 5]]])


def test_depth_is_relative_to_the_deepest_pixel_of_the_class():
    labels = np.array([[0, 0, 0, 0, 2, 2, 1]])
    close(depth_in_class(labels), [[1, 3 / 4, 2 / 4, 1 / 4, 1, 1, 1]])
    assert depth_in_class(labels).dtype == np.float32


def test_depth_takes_spacing_and_volumes():
    labels = np.array([[[1, 1]], [[1, 0]], [[1, 0]]])  # 2 mm apart along the first axis
    corner = np.sqrt(5)
    close(depth_in_class(labels, (2, 1, 1)), [[[corner / corner, 2 / corner]],
                                              [[1 / corner, 1]], [[1 / corner, 1]]])


def test_depth_of_a_batch_of_volumes_is_refused():
    with pytest.raises(ValueError, match="^labels: expected 2 or 3 dimensions, found 4$"):
        depth_in_class(np.zeros((2, 3, 4, 5), int))


def test_depth_of_one_class_alone_is_0():
    assert not depth_in_class(np.full((3, 3), 2)).any()


def test_pixels_belong_to_the_nearest_component_and_corners_connect():
    mask = [[1, 0, 0, 0, 0, 0],
            [0, 1, 0, 0, 0, 1]]
    found = nearest_component(np.array(mask))
    assert found.tolist() == [[1, 1, 1, 1, 2, 2], [1, 1, 1, 1, 2, 2]] and found.dtype == np.int32
    assert nearest_component(np.array(mask), (1, 2)).tolist() == found.tolist()


def test_components_of_a_volume_take_spacing():
    mask = np.zeros((4, 1, 5), bool)
    mask[0, 0, 0] = mask[3, 0, 4] = True
    assert nearest_component(mask, (10, 1, 1))[1, 0].tolist() == [1] * 5
    assert nearest_component(mask, (1, 10, 10))[1:3, 0].tolist() == [[1, 1, 1, 2, 2],
                                                                     [1, 1, 2, 2, 2]]


@pytest.mark.parametrize("ones, number", [([], 0), ([2], 1), (range(4), 1)])
def test_fewer_than_two_components_have_one_number(ones, number):
    mask = np.zeros((1, 4), bool)
    mask[0, list(ones)] = True
    assert nearest_component(mask).tolist() == [[number] * 4]


@quick
@given(arrays(bool, array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=6)))
def test_the_component_of_a_pixel_is_as_near_as_any(mask):
    found = nearest_component(mask)
    if not mask.any():
        return
    points, owners = np.argwhere(mask), found[mask]
    for place in np.ndindex(mask.shape):
        distance = np.linalg.norm(points - place, axis=1)
        nearest = distance[owners == found[place]].min()
        assert nearest == distance.min()


# Brute force --------------------------------------------------------------------------------------

def shifted_boundary(mask):
    """Points of the mask with a face neighbour outside it, by shifts along each axis and back."""
    found = np.zeros_like(mask)
    for axis in range(mask.ndim):
        here, there = np.moveaxis(mask, axis, 0), np.moveaxis(found, axis, 0)
        there[:-1] |= here[:-1] & ~here[1:]
        there[1:] |= here[1:] & ~here[:-1]
    return found


def all_pairs(points, shape, spacing):
    """Distance of every pixel to the nearest True of `points`, from all pairs."""
    pixels = np.indices(shape).reshape(len(shape), -1).T * spacing
    apart = pixels[:, None] - (np.argwhere(points) * spacing)[None]
    return np.sqrt((apart ** 2).sum(-1)).min(1).reshape(shape)


def random_mask(seed):
    """A random 2-D or 3-D mask, neither empty nor full, and an anisotropic spacing."""
    rng = np.random.default_rng(seed)
    shape = rng.integers(2, 13, 2) if seed % 2 else rng.integers(2, 8, 3)
    mask = rng.random(shape) < rng.choice([0.02, 0.3, 0.7, 0.95])
    mask.flat[rng.choice(mask.size, 2, replace=False)] = True, False
    return mask, tuple(rng.uniform(0.3, 4, len(shape)))


@pytest.mark.parametrize("seed", range(200))
def test_paper_map_equals_brute_force(seed):
    mask, spacing = random_mask(seed)
    far = all_pairs(shifted_boundary(mask), mask.shape, spacing)
    close(signed_distance(mask, spacing), np.where(mask, -far, far))


@pytest.mark.parametrize("seed", range(100))
def test_official_map_is_edt_outside_and_1_minus_edt_inside(seed):
    mask, spacing = random_mask(seed)
    outside, inside = all_pairs(mask, mask.shape, spacing), all_pairs(~mask, mask.shape, spacing)
    expected = np.where(mask, -(inside - 1), outside)
    assert_allclose(signed_distance(mask, spacing, "official"), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("shape", [(40, 60), (9, 20, 30)])
@pytest.mark.parametrize("share", [0.01, 0.03, 0.06, 0.3])  # of the image, and of the mask's box
@pytest.mark.parametrize("spacing", [None, 0.9])
def test_a_sparse_mask_has_the_inside_of_a_dense_one(shape, share, spacing, monkeypatch):
    mask = gaussian_filter(np.random.default_rng(3).normal(size=shape), 1.5)
    mask = mask > np.quantile(mask, 1 - share)
    steps = None if spacing is None else [spacing * (axis + 1) for axis in range(len(shape))]
    maps = []
    for limit in (0, 1):
        monkeypatch.setattr(distance, "SPARSE", limit)
        maps.append(signed_distance(mask, steps, "official"))
    assert_array_equal(*maps)


def test_official_map_is_scipys_on_a_large_image():
    mask = np.random.default_rng(0).random((256, 256)) < 0.5
    expected = np.where(mask, 1 - distance_transform_edt(mask), distance_transform_edt(~mask))
    assert_array_equal(signed_distance(mask, convention="official"), expected.astype(np.float32))


# Properties ---------------------------------------------------------------------------------------

@st.composite
def masks_and_spacings(draw):
    mask = draw(arrays(bool, array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=7)))
    return mask, tuple(draw(st.floats(0.25, 8)) for _ in mask.shape)


@quick
@given(masks_and_spacings())
def test_map_is_zero_on_the_boundary_and_nowhere_else(case):
    mask, spacing = case
    if shifted_boundary(mask).any():
        assert_array_equal(signed_distance(mask, spacing) == 0, shifted_boundary(mask))


@quick
@given(masks_and_spacings())
def test_sign_tells_membership(case):
    mask, spacing = case
    phi = signed_distance(mask, spacing)
    assert (phi[mask] <= 0).all() and (phi[~mask] >= 0).all()


@quick
@given(masks_and_spacings())
def test_map_changes_by_at_most_the_step_between_face_neighbours(case):
    # Between face neighbours, hence along any lattice path. Across a diagonal the boundary's
    # thickness shows: see test_lipschitz_constant_across_a_diagonal.
    mask, spacing = case
    phi = signed_distance(mask, spacing).astype(float)
    for axis, step in enumerate(spacing):
        assert (np.abs(np.diff(phi, axis=axis)) <= step * (1 + 1e-5)).all()


@quick
@given(masks_and_spacings())
def test_map_is_1_lipschitz_on_either_side(case):
    mask, spacing = case
    phi = signed_distance(mask, spacing).astype(float)
    for side in (mask, ~mask):
        points, values = np.argwhere(side) * spacing, phi[side]
        apart = np.sqrt(((points[:, None] - points[None]) ** 2).sum(-1))
        assert (np.abs(values[:, None] - values[None]) <= apart * (1 + 1e-5) + 1e-5).all()


def test_lipschitz_constant_across_a_diagonal():
    # +1 and -1, sqrt(2) apart: the boundary points lie beside the segment.
    phi = signed_distance([[0, 1], [1, 1]])
    close(phi, [[1, 0], [0, -1]])


@quick
@given(masks_and_spacings(), st.sampled_from(["paper", "official"]))
def test_map_of_a_flipped_mask_is_the_flipped_map(case, convention):
    mask, spacing = case
    phi = signed_distance(mask, spacing, convention)
    for axes in [c for n in range(1, mask.ndim + 1) for c in combinations(range(mask.ndim), n)]:
        flipped = signed_distance(np.flip(mask, axes), spacing, convention)
        assert_allclose(flipped, np.flip(phi, axes), rtol=1e-6)


@quick
@given(masks_and_spacings(), st.sampled_from(["paper", "official"]))
def test_map_of_a_transposed_mask_is_the_transposed_map(case, convention):
    mask, spacing = case
    transposed = signed_distance(mask.T, spacing[::-1], convention)
    assert_allclose(transposed, signed_distance(mask, spacing, convention).T, rtol=1e-6, atol=1e-6)


@quick
@given(masks_and_spacings())
def test_map_scales_with_the_spacing(case):
    mask, spacing = case
    doubled = signed_distance(mask, [2 * value for value in spacing])
    assert_allclose(doubled, 2 * signed_distance(mask, spacing), rtol=1e-6)


# Contract -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("convention", ["paper", "official"])
@pytest.mark.parametrize("shape", [(4, 6), (1, 1), (2, 3, 5)])
def test_map_is_float32_of_the_masks_shape(shape, convention):
    mask = np.zeros(shape, bool)
    mask[(0,) * len(shape)] = True
    phi = signed_distance(mask, convention=convention)
    assert (phi.dtype, phi.shape) == (np.float32, shape)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32])
def test_zeros_and_ones_of_any_type_are_a_mask(dtype):
    close(signed_distance(np.array([[0, 1, 1]], dtype)), [[1, 0, -1]])


def test_mask_is_left_as_it_was():
    mask = np.array([[0, 1, 1]], bool)
    signed_distance(mask)
    assert_array_equal(mask, [[False, True, True]])


@pytest.mark.parametrize("mask, message", [
    ([0, 1], "2 or 3 dimensions, found 1"),
    (np.zeros((2, 2, 2, 2)), "2 or 3 dimensions, found 4"),
    ([[0, 2]], "zeros and ones, found 0, 2"),
    ([[0, 0.5]], "zeros and ones, found 0, 0.5"),
    ([[0, -1]], "zeros and ones, found -1, 0"),
    ([[0, np.nan]], "zeros and ones, found 0, nan"),
    ([[0, 1.002]], "zeros and ones, found 0, 1.002"),
    ([[0, np.inf]], "zeros and ones, found 0, inf"),
    ([[0, 255]], "zeros and ones, found 0, 255"),
    (np.full((1, 2), 3, np.uint8), "zeros and ones, found 3"),
    ([["a", "b"]], "zeros and ones, found dtype <U1"),
    ([[0, 1j]], "zeros and ones, found dtype complex128")])
def test_error_names_the_mask(mask, message):
    with pytest.raises(ValueError, match=f"^mask: expected {message}$"):
        signed_distance(mask)


@pytest.mark.parametrize("one", [1.0000153, 1.001, 0.999])
@pytest.mark.parametrize("zero", [0.0, -0.0, 1e-3, -1e-3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_up_to_a_thousandth_off_are_rounded(zero, one, dtype):
    mask = np.array([[zero, one, one, one, zero]], dtype)
    close(signed_distance(mask), [[1, 0, -1, 0, 1]])


@pytest.mark.parametrize("one", [1.0011, 0.9989])
def test_values_more_than_a_thousandth_off_are_refused(one):
    with pytest.raises(ValueError, match="^mask: expected zeros and ones, found 0, "):
        signed_distance([[0, one, 0]])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_whole_numbers_are_kept_and_others_are_nan(dtype):
    found = whole_numbers(np.array([2, 2.5, np.nan, np.inf, -3], dtype))
    assert_array_equal(found, [2, np.nan, np.nan, np.nan, -3])
    assert whole_numbers(np.array([7], np.uint8)).dtype == np.uint8


@pytest.mark.parametrize("spacing", [
    (1,), (1, 1, 1), (0, 1), (-1, 1), (np.nan, 1), (np.inf, 1), 2, "ab", (1, "a"), (1, None),
    (1, (1, 1))])
def test_error_names_the_spacing(spacing):
    with pytest.raises(ValueError, match="^spacing: expected 2 positive numbers, found (?!None)"):
        signed_distance([[0, 1]], spacing)


@pytest.mark.parametrize("spacing", [(0.25, 0.5), [0.25, 0.5], np.array([0.25, 0.5])])
def test_spacing_is_any_sequence(spacing):
    close(signed_distance([[0, 1, 1]], spacing), [[0.5, 0, -0.5]])


def test_error_names_the_convention():
    message = "^convention: expected one of paper, official, found 'chessboard'"
    with pytest.raises(ValueError, match=message):
        signed_distance([[0, 1]], convention="chessboard")
