"""Eq. 3 and 4: half the boundary distance is the difference of two integrals of phi_G.

On the pixel grid that is exact, and the grid's value approaches the continuum's at the order that
identity.py explains.
"""

import numpy as np
import pytest
import torch

from distance import boundary, signed_distance
from losses import BoundaryLoss
from studies.identity import (
    EXACT,
    D,
    R,
    continuum,
    disc,
    half_distance,
    order,
    relative_errors,
    sizes_of,
    smooth_radius,
    square,
    star,
)

# Exact on the pixel grid --------------------------------------------------------------------------

PAIRS = {
    "disc grown": (disc(40, 0.2), disc(40, 0.35)),
    "disc shrunk": (disc(40, 0.35), disc(40, 0.2)),
    "disc moved": (disc(40, 0.2, (-0.05, 0)), disc(40, 0.2, (0.1, 0.06))),
    "discs apart": (disc(40, 0.1, (-0.3, 0)), disc(40, 0.1, (0.3, 0))),
    "square grown": (square(40, 0.3), square(40, 0.5)),
    "square against disc": (square(40, 0.4), disc(40, 0.25)),
    "ring against disc": (disc(40, 0.4) & ~disc(40, 0.2), disc(40, 0.3)),
    "empty prediction": (disc(40, 0.3), np.zeros((40, 40), bool)),
    **{f"smooth {seed}": (star(40, smooth_radius(seed)), star(40, smooth_radius(seed + 100)))
       for seed in range(6)},
}


def distance_between(g, s):
    """Left side of Eq. 4 in pixels: the sum of D_G, from all pairs, between the contours."""
    apart = np.argwhere(g != s)[:, None] - np.argwhere(boundary(g))[None]
    return np.sqrt((apart ** 2).sum(-1)).min(1).sum()


@pytest.mark.parametrize("name", PAIRS)
def test_half_distance_is_the_difference_of_two_integrals_of_phi(name):
    g, s = PAIRS[name]
    phi = signed_distance(g).astype(float)
    assert phi[s].sum() - phi[g].sum() == pytest.approx(distance_between(g, s), rel=1e-6)


@pytest.mark.parametrize("name", PAIRS)
def test_boundary_losses_differ_by_half_the_distance_per_pixel(name):
    g, s = PAIRS[name]
    phi = torch.as_tensor(signed_distance(g)).double()[None, None]
    of_s, of_g = (BoundaryLoss()(torch.as_tensor(np.array([[~mask, mask]])).double(), phi).item()
                  for mask in (s, g))
    assert of_s - of_g == pytest.approx(distance_between(g, s) / g.size, rel=1e-6)


def test_distance_is_not_symmetric():
    small, large = disc(40, 0.2), disc(40, 0.35)
    assert distance_between(small, large) > 1.2 * distance_between(large, small)


def test_distance_of_a_shape_to_itself_is_0():
    assert half_distance(disc(40, 0.3), disc(40, 0.3), 40) == 0


def test_identity_holds_in_3d():
    side = np.arange(15) - 7
    radius = np.sqrt(side[:, None, None] ** 2 + side[None, :, None] ** 2 + side ** 2)
    g, s = radius < 4, radius < 6
    phi = signed_distance(g).astype(float)
    assert phi[s].sum() - phi[g].sum() == pytest.approx(distance_between(g, s), rel=1e-6)


@pytest.mark.parametrize("steps, pixels", [(5, 1 + 2 + 3 + 4 + 5), (-5, 0 + 1 + 2 + 3 + 4)])
def test_straight_edge_moved_by_d_gives_half_of_d_squared_per_row(steps, pixels):
    # The continuum's d^2 / 2 = 12.5 (Eq. 2 and 3 agree) lies half way between the two directions,
    # within half a pixel for each step.
    columns = np.arange(30)[None]
    phi = signed_distance(columns < 12).astype(float)
    assert phi[columns < 12 + steps].sum() - phi[columns < 12].sum() == pixels


# Towards the closed form --------------------------------------------------------------------------

@pytest.fixture(scope="module")
def errors():
    """Relative error of half the distance against the continuum's value at each resolution."""
    return relative_errors()


@pytest.mark.parametrize("name", [*EXACT, "smooth, outside", "smooth, inside"])
def test_error_shrinks_with_every_doubling_of_the_resolution(errors, name):
    assert (np.diff(np.abs(errors[name])) < 0).all()


@pytest.mark.parametrize("name, sign", [
    ("disc grown", 1), ("disc shrunk", -1), ("square grown", 1), ("square shrunk", -1)])
def test_distances_are_too_long_outside_and_too_short_inside(errors, name, sign):
    # since the boundary lies on pixels of the inside
    assert (np.sign(errors[name]) == sign).all()


@pytest.mark.parametrize("name, least, most", [
    ("disc grown", 1.1, 1.4),
    ("disc shrunk", 0.75, 1.05),
    ("square grown", 0.98, 1.02),
    ("square shrunk", 0.97, 1.02),
    ("smooth, outside", 1.05, 1.45),
    ("smooth, inside", 0.7, 1.05),
])
def test_order_of_convergence(errors, name, least, most):
    assert least < order(sizes_of(name), errors[name]) < most


@pytest.mark.parametrize("name, within", [
    ("disc grown", 0.015), ("disc shrunk", 0.04), ("square grown", 0.04), ("square shrunk", 0.04)])
def test_error_at_the_finest_resolution(errors, name, within):
    assert abs(errors[name][-1]) < within


@pytest.mark.parametrize("name, eq2_over_eq3", [
    ("disc grown", 1 / (1 + 2 * D / (3 * R))), ("disc shrunk", 1 / (1 - 2 * D / (3 * R)))])
def test_curved_contours_follow_eq_3_and_not_eq_2(errors, name, eq2_over_eq3):
    assert EXACT[name] * eq2_over_eq3 == pytest.approx(np.pi * R * D ** 2)  # half of Eq. 2

    from_eq3, from_eq2 = errors[name][-1], errors[name][-1] + 1 - eq2_over_eq3
    assert abs(from_eq3) < 0.15 * abs(from_eq2)


# Random smooth shapes -----------------------------------------------------------------------------

@pytest.mark.parametrize("change, exact", [(D, "disc grown"), (-D, "disc shrunk")])
def test_numerical_reference_gives_the_closed_form_of_the_disc(change, exact):
    value = continuum(lambda angle: R + 0 * angle, lambda angle: R + change + 0 * angle)
    assert value == pytest.approx(EXACT[exact], rel=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_random_smooth_shapes_agree_with_the_continuum_to_5_percent(seed):
    g, s = smooth_radius(seed), smooth_radius(seed + 100)
    grid = half_distance(star(512, g), star(512, s), 512)
    assert grid == pytest.approx(continuum(g, s), rel=0.05)
