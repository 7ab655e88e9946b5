"""Eq. 3 and 4: half the boundary distance is the difference of two integrals of phi_G, exactly on the pixel grid,
and the grid's value tends to the continuum's.

Half of Eq. 3 is the integral of D_G over the region between the contours. Closed forms, S = G grown or shrunk by d:

    disc of radius R      grown: pi (R d^2 + 2/3 d^3)                          shrunk: pi (R d^2 - 2/3 d^3)
    square of side a      grown: 2 a d^2 + 4/3 (sqrt 2 + asinh 1) d^3          shrunk: 2 a d^2 - 8/3 d^3

(disc: integral of t * 2 pi (R +- t) over t from 0 to d; square grown: four sides a d^2 / 2 and four corners, where the
nearest boundary point is the corner; square shrunk: integral of t * 4 (a - 2t)). Half of Eq. 2 is pi R d^2 for the disc
in either direction: Eq. 3 weighs the normal segments by the widening of the region between the contours, so the two
agree on straight edges only, elsewhere to first order in d / R.

Order of the discretisation error. dG lies on pixel centres inside G, half a pixel short of the edge: order 1 for
squares, +h/2 outside and -h/2 inside. On a curved contour the nearest boundary pixel is the one that juts out most.
Seen from outside it approaches the contour as h^(4/3) (a ball touching the contour from outside holds a pixel centre
of G once it overlaps G by an area h^2), so growth converges faster: fitted 1.19 (disc), 1.14 (random shapes). Seen from
inside even the deepest boundary pixels lie up to one pixel in, less a term in h^(4/3): order 1 in the limit, fitted
0.81 and 0.77, rising with the resolution (0.94 between 512 and 1024). Squares: 1.00 and 0.99.
"""

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from distance import boundary, signed_distance
from losses import BoundaryLoss


def pixel_centres(n):
    """Row and column coordinates of n x n pixels over the unit square, with the origin in its middle."""
    side = (np.arange(n) + 0.5) / n - 0.5
    return side[:, None], side[None]


def disc(n, radius, centre=(0, 0)):
    y, x = pixel_centres(n)
    return np.hypot(y - centre[0], x - centre[1]) < radius


def square(n, side):
    y, x = pixel_centres(n)
    return np.maximum(np.abs(y), np.abs(x)) < side / 2


def star(n, radius):
    """The region r < radius(angle)."""
    y, x = pixel_centres(n)
    return np.hypot(y, x) < radius(np.arctan2(y, x))


def smooth_radius(seed, mean=0.25):
    """A random smooth star-shaped contour: radius as a function of the angle, four harmonics."""
    k, weight = np.arange(1, 5), np.random.default_rng(seed).normal(0, 0.08, (2, 4)) / np.arange(1, 5)
    return lambda angle: mean * (1 + np.cos(np.multiply.outer(angle, k)) @ weight[0]
                                 + np.sin(np.multiply.outer(angle, k)) @ weight[1])


def half_distance(g, s, n):
    """Right side of Eq. 4 on n x n pixels of the unit square: integral over S minus integral over G of phi_G."""
    phi = signed_distance(g, (1 / n, 1 / n)).astype(float)
    return (phi[s].sum() - phi[g].sum()) / n ** 2


def order(resolutions, errors):
    """Exponent p of error ~ n^-p: the slope of a line through the logarithms."""
    return -np.polyfit(np.log(resolutions), np.log(np.abs(errors)), 1)[0]


# ------------------------------------------------------------------------------------------- exact on the pixel grid

PAIRS = {
    "disc grown": (disc(40, 0.2), disc(40, 0.35)),
    "disc shrunk": (disc(40, 0.35), disc(40, 0.2)),
    "disc moved": (disc(40, 0.2, (-0.05, 0)), disc(40, 0.2, (0.1, 0.06))),
    "discs apart": (disc(40, 0.1, (-0.3, 0)), disc(40, 0.1, (0.3, 0))),
    "square grown": (square(40, 0.3), square(40, 0.5)),
    "square against disc": (square(40, 0.4), disc(40, 0.25)),
    "ring against disc": (disc(40, 0.4) & ~disc(40, 0.2), disc(40, 0.3)),
    "empty prediction": (disc(40, 0.3), np.zeros((40, 40), bool)),
    **{f"smooth {seed}": (star(40, smooth_radius(seed)), star(40, smooth_radius(seed + 100))) for seed in range(6)},
}


def distance_between(g, s):
    """Left side of Eq. 4 in pixels: the sum of D_G over the region between the contours, D_G from all pairs."""
    apart = np.argwhere(g != s)[:, None] - np.argwhere(boundary(g))[None]
    return np.sqrt((apart ** 2).sum(-1)).min(1).sum()


@pytest.mark.parametrize("name", PAIRS)
def test_half_distance_is_the_difference_of_two_integrals_of_phi(name):
    g, s = PAIRS[name]
    phi = signed_distance(g).astype(float)
    assert phi[s].sum() - phi[g].sum() == pytest.approx(distance_between(g, s), rel=1e-6)


@pytest.mark.parametrize("name", PAIRS)
def test_boundary_losses_of_prediction_and_truth_differ_by_half_the_distance_per_pixel(name):
    g, s = PAIRS[name]
    phi = torch.as_tensor(signed_distance(g)).double()[None, None]
    of_s, of_g = (BoundaryLoss()(torch.as_tensor(np.array([[~m, m]])).double(), phi).item() for m in (s, g))
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
def test_straight_edge_moved_by_d_pixels_gives_half_of_d_squared_within_half_a_pixel(steps, pixels):
    # Per row; the continuum's d^2 / 2 = 12.5 (Eq. 2 and 3 agree) lies half way between the two directions.
    columns = np.arange(30)[None]
    phi = signed_distance(columns < 12).astype(float)
    assert phi[columns < 12 + steps].sum() - phi[columns < 12].sum() == pixels


# ------------------------------------------------------------------------------------------- towards the closed form

R, D, A = 0.25, 0.1, 0.4
RESOLUTIONS = (64, 128, 256, 512)
EXACT = {
    "disc grown": np.pi * (R * D ** 2 + 2 / 3 * D ** 3),
    "disc shrunk": np.pi * (R * D ** 2 - 2 / 3 * D ** 3),
    "square grown": 2 * A * D ** 2 + 4 / 3 * (np.sqrt(2) + np.arcsinh(1)) * D ** 3,
    "square shrunk": 2 * A * D ** 2 - 8 / 3 * D ** 3,
}


def measured_disc(n, change):
    """Mean over three centres within a pixel, which evens out how the circle falls on the grid."""
    shifts = [(0, 0), (0.31, 0.17), (-0.23, 0.41)]
    centres = [(dy / n, dx / n) for dy, dx in shifts]
    return np.mean([half_distance(disc(n, R, centre), disc(n, R + change, centre), n) for centre in centres])


@pytest.fixture(scope="module")
def errors():
    """Relative error of half the distance against the closed form at each resolution."""
    measured = {
        "disc grown": [measured_disc(n, D) for n in RESOLUTIONS],
        "disc shrunk": [measured_disc(n, -D) for n in RESOLUTIONS],
        "square grown": [half_distance(square(n, A), square(n, A + 2 * D), n) for n in (40, 80, 160, 320)],
        "square shrunk": [half_distance(square(n, A), square(n, A - 2 * D), n) for n in (40, 80, 160, 320)],
    }
    return {name: np.array(values) / EXACT[name] - 1 for name, values in measured.items()}


@pytest.mark.parametrize("name", EXACT)
def test_error_shrinks_with_every_doubling_of_the_resolution(errors, name):
    assert (np.diff(np.abs(errors[name])) < 0).all()


@pytest.mark.parametrize("name, sign", [("disc grown", 1), ("disc shrunk", -1),
                                        ("square grown", 1), ("square shrunk", -1)])
def test_boundary_on_inner_pixels_lengthens_distances_outside_and_shortens_them_inside(errors, name, sign):
    assert (np.sign(errors[name]) == sign).all()


@pytest.mark.parametrize("name, least, most", [("disc grown", 1.1, 1.4), ("disc shrunk", 0.75, 1.05),
                                               ("square grown", 0.98, 1.02), ("square shrunk", 0.97, 1.02)])
def test_order_of_convergence(errors, name, least, most):
    resolutions = RESOLUTIONS if name.startswith("disc") else (40, 80, 160, 320)
    assert least < order(resolutions, errors[name]) < most


@pytest.mark.parametrize("name, within", [("disc grown", 0.015), ("disc shrunk", 0.04), ("square grown", 0.04),
                                          ("square shrunk", 0.04)])
def test_error_at_the_finest_resolution(errors, name, within):
    assert abs(errors[name][-1]) < within


@pytest.mark.parametrize("name, eq2_over_eq3", [("disc grown", 1 / (1 + 2 * D / (3 * R))),
                                                ("disc shrunk", 1 / (1 - 2 * D / (3 * R)))])
def test_curved_contours_follow_eq_3_and_not_eq_2(errors, name, eq2_over_eq3):
    assert EXACT[name] * eq2_over_eq3 == pytest.approx(np.pi * R * D ** 2)                  # half of Eq. 2
    assert abs(errors[name][-1]) < 0.15 * abs(errors[name][-1] + 1 - eq2_over_eq3)          # distance to either


# ---------------------------------------------------------------------------------------------- random smooth shapes

def continuum(radius_g, radius_s):
    """Integral of D_G between two star-shaped contours: Gauss-Legendre along 400 rays, D_G to 20,000 contour points."""
    angle = np.linspace(0, 2 * np.pi, 20000, endpoint=False)
    contour = radius_g(angle)[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    rays = (np.arange(400) + 0.5) / 400 * 2 * np.pi
    nodes, gauss = np.polynomial.legendre.leggauss(12)
    from_g, to_s = radius_g(rays)[:, None], radius_s(rays)[:, None]
    r = (from_g + to_s) / 2 + (to_s - from_g) / 2 * nodes                                   # (rays, nodes)
    points = np.stack([r * np.cos(rays)[:, None], r * np.sin(rays)[:, None]], -1)
    distance = cKDTree(contour).query(points.reshape(-1, 2))[0].reshape(r.shape)
    return (distance * r * gauss * np.abs(to_s - from_g) / 2).sum() * 2 * np.pi / 400


@pytest.mark.parametrize("change, exact", [(D, "disc grown"), (-D, "disc shrunk")])
def test_numerical_reference_gives_the_closed_form_of_the_disc(change, exact):
    value = continuum(lambda angle: R + 0 * angle, lambda angle: R + change + 0 * angle)
    assert value == pytest.approx(EXACT[exact], rel=1e-9)


def combined(combine, first, second):
    """The contour of the union (np.maximum) or intersection (np.minimum) of two star-shaped regions."""
    return lambda angle: combine(first(angle), second(angle))


@pytest.mark.parametrize("side, combine, least, most", [("outside", np.maximum, 1.05, 1.45),
                                                        ("inside", np.minimum, 0.7, 1.05)])
def test_order_of_convergence_for_random_smooth_shapes(side, combine, least, most):
    # S = another random shape joined with G (all of the region between lies outside) or cut with it (all inside):
    # apart, because the errors of the two sides have opposite signs and would cancel by chance.
    resolutions, errors = (32, 64, 128, 256, 512), []
    for seed in range(6):
        g, other = smooth_radius(seed), smooth_radius(seed + 100)
        s = combined(combine, g, other)
        found = [half_distance(star(n, g), star(n, s), n) for n in resolutions]
        errors.append(np.abs(np.array(found) / continuum(g, s) - 1))
    assert least < order(resolutions, np.mean(errors, 0)) < most


@pytest.mark.parametrize("seed", range(6))
def test_random_smooth_shapes_agree_with_the_continuum_to_5_percent(seed):
    g, s = smooth_radius(seed), smooth_radius(seed + 100)
    assert half_distance(star(512, g), star(512, s), 512) == pytest.approx(continuum(g, s), rel=0.05)
