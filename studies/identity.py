"""Eq. 3 and 4 on shapes with known answers: how fast the pixel grid approaches the continuum.

Half of Eq. 3 is the integral of D_G over the region between the contours. Closed forms, with S = G
grown or shrunk by d:

    disc of radius R   grown:  pi (R d^2 + 2/3 d^3)
                       shrunk: pi (R d^2 - 2/3 d^3)
    square of side a   grown:  2 a d^2 + 4/3 (sqrt 2 + asinh 1) d^3
                       shrunk: 2 a d^2 - 8/3 d^3

Disc: integral of t * 2 pi (R +- t) over t from 0 to d. Square grown: four sides a d^2 / 2 and four
corners, where the nearest boundary point is the corner. Square shrunk: integral of t * 4 (a - 2t).

Half of Eq. 2 is pi R d^2 for the disc in either direction. Eq. 3 weighs the normal segments by the
widening of the region between the contours, so the two agree on straight edges only, elsewhere to
first order in d / R.

Order of the discretisation error. dG lies on pixel centres inside G, half a pixel short of the
edge: order 1 for squares, +h/2 outside and -h/2 inside. On a curved contour the nearest boundary
pixel is the one that juts out most. Seen from outside it approaches the contour as h^(4/3) (a ball
touching the contour from outside holds a pixel centre of G once it overlaps G by an area h^2), so
growth converges faster: fitted 1.19 (disc), 1.14 (random shapes). Seen from inside even the deepest
boundary pixels lie up to one pixel in, less a term in h^(4/3): order 1 in the limit, fitted 0.81
and 0.77, rising with the resolution (0.94 between 512 and 1024). Squares: 1.00 and 0.99.
"""

import numpy as np
from scipy.spatial import cKDTree

from distance import signed_distance

# The image measures 1: radius of the disc, change of the contour, side of the square
R, D, A = 0.25, 0.1, 0.4
SIZES = {  # pixels
    "disc": (64, 128, 256, 512),
    "square": (40, 80, 160, 320),
    "smooth": (32, 64, 128, 256, 512),
}
EXACT = {
    "disc grown": np.pi * (R * D ** 2 + 2 / 3 * D ** 3),
    "disc shrunk": np.pi * (R * D ** 2 - 2 / 3 * D ** 3),
    "square grown": 2 * A * D ** 2 + 4 / 3 * (np.sqrt(2) + np.arcsinh(1)) * D ** 3,
    "square shrunk": 2 * A * D ** 2 - 8 / 3 * D ** 3,
}


def pixel_centres(n):
    """Row and column coordinates of n x n pixels of the unit square, from its middle."""
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
    k = np.arange(1, 5)
    weight = np.random.default_rng(seed).normal(0, 0.08, (2, 4)) / k
    return lambda angle: mean * (1 + np.cos(np.multiply.outer(angle, k)) @ weight[0]
                                 + np.sin(np.multiply.outer(angle, k)) @ weight[1])


def combined(combine, first, second):
    """The contour of the union (np.maximum) or intersection (np.minimum) of two stars."""
    return lambda angle: combine(first(angle), second(angle))


def half_distance(g, s, n):
    """Right side of Eq. 4: integral of phi_G over S minus that over G, on n x n pixels."""
    phi = signed_distance(g, (1 / n, 1 / n)).astype(float)
    return (phi[s].sum() - phi[g].sum()) / n ** 2


def half_distance_of_discs(n, change):
    """Mean over three centres within a pixel, which evens out how the circle falls on the grid."""
    shifts = [(0, 0), (0.31, 0.17), (-0.23, 0.41)]
    centres = [(dy / n, dx / n) for dy, dx in shifts]
    return np.mean([half_distance(disc(n, R, centre), disc(n, R + change, centre), n)
                    for centre in centres])


def continuum(radius_g, radius_s):
    """Integral of D_G between two star-shaped contours.

    By Gauss-Legendre along 400 rays, with D_G to the nearest of 20,000 points of the contour.
    """
    angle = np.linspace(0, 2 * np.pi, 20000, endpoint=False)
    contour = radius_g(angle)[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)

    rays = (np.arange(400) + 0.5) / 400 * 2 * np.pi
    nodes, gauss = np.polynomial.legendre.leggauss(12)
    from_g, to_s = radius_g(rays)[:, None], radius_s(rays)[:, None]
    r = (from_g + to_s) / 2 + (to_s - from_g) / 2 * nodes  # (rays, nodes)
    points = np.stack([r * np.cos(rays)[:, None], r * np.sin(rays)[:, None]], -1)

    distance = cKDTree(contour).query(points.reshape(-1, 2))[0].reshape(r.shape)
    return (distance * r * gauss * np.abs(to_s - from_g) / 2).sum() * 2 * np.pi / 400


def order(sizes, errors):
    """Exponent p of error ~ n^-p: the slope of a line through the logarithms."""
    return float(-np.polyfit(np.log(sizes), np.log(np.abs(errors)), 1)[0])


def half_distance_of_squares(n, change):
    return half_distance(square(n, A), square(n, A + 2 * change), n)


def relative_errors(seeds=6):
    """Relative error of half the distance at each of SIZES, signed where there is a closed form.

    Returns:
        {shape: array}. "smooth, outside" and "smooth, inside" are means of absolute errors over
        `seeds` random shapes G. S is another one joined with G (the region between lies outside)
        or cut with it (inside); not both at once, because the errors of the two sides have
        opposite signs and would cancel by chance.
    """
    errors = {}
    for shape, measure in (("disc", half_distance_of_discs), ("square", half_distance_of_squares)):
        for how, change in (("grown", D), ("shrunk", -D)):
            values = np.array([measure(n, change) for n in SIZES[shape]])
            errors[f"{shape} {how}"] = values / EXACT[f"{shape} {how}"] - 1

    for side, combine in (("outside", np.maximum), ("inside", np.minimum)):
        errors[f"smooth, {side}"] = np.mean(
            [errors_of_random_shapes(seed, combine) for seed in range(seeds)], axis=0)
    return errors


def errors_of_random_shapes(seed, combine):
    """Absolute relative error at each of SIZES for a random G, and S made of it and another."""
    g = smooth_radius(seed)
    s = combined(combine, g, smooth_radius(seed + 100))
    exact = continuum(g, s)
    return [abs(half_distance(star(n, g), star(n, s), n) / exact - 1) for n in SIZES["smooth"]]


def sizes_of(name):
    """The resolutions in pixels that an entry of `relative_errors` was measured at."""
    return SIZES[name.split(" ")[0].strip(",")]


def error_curves():
    """{shape: {"sizes", "errors", "order"}}: relative errors of half of Eq. 3, and their order."""
    errors = {name: np.abs(values).tolist() for name, values in relative_errors().items()}
    return {name: {"sizes": list(sizes_of(name)), "errors": values,
                   "order": order(sizes_of(name), values)} for name, values in errors.items()}


if __name__ == "__main__":
    from utils import explain_part
    explain_part("studies.identity", __doc__, "studies.claims")
