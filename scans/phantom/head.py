"""A synthetic head as a function of position in mm; lesions.py puts lesions into it.

Coordinates are head-fixed millimetres: x to the right, y to the front, z up, 0 at the centre of the
cerebrum. All surfaces are given by a depth in mm (positive inside), so a shape is the same at any
voxel size.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

# csf holds the ventricles, deep the grey nuclei
TISSUES = ("air", "scalp", "skull", "csf", "gm", "wm", "deep")

# Lengths in mm, angles in degrees; a pair is the range a subject is drawn from
HEAD = {
    "cerebrum_semi_axes": (67, 85, 58), "cerebellum_centre": (20, -50, -42),
    "cerebellum_semi_axes": (30, 29, 21),
    "brainstem": ((0, -18, -15), (0, -30, -75), 12, 9),  # from, to, radius at each
    "neck_centre_y": -15, "neck_semi_axes_xy": (52, 60),
    "size_factor": (0.94, 1.05), "tilt_degrees": 5, "warp_amplitude": 2.0, "warp_knots": 35,
    "scalp": (4, 8), "skull": (4, 7), "csf_gap": (1, 3.5), "cortex": (2.6, 3.4),
    "surface_blur": 1.2,
    "sulcus_knots": 10, "sulcus_depth": (10, 19), "sulcus_half_width": (0.1, 0.9),
}

# Tapered tubes on |x|: (from, to, radius, radius), mm; radii are multiplied by a factor per subject
VENTRICLES = {
    "radius_factor": (0.7, 1.6), "third_centre": (0, -8, 0), "third_semi_axes": (2.0, 14, 9),
    "tubes": (((13, 36, 4), (9, 18, 13), 3.5, 5.0), ((9, 18, 13), (11, -15, 20), 5.0, 4.5),
              ((11, -15, 20), (23, -38, 10), 4.5, 6.5), ((23, -38, 10), (20, -60, 4), 6.0, 2.0),
              ((23, -38, 8), (31, -12, -17), 4.0, 2.0)),
}

# Centre on |x| and semi-axes, mm
NUCLEI = {
    "thalamus": ((11, -13, 6), (8, 14, 9)), "caudate": ((17, 20, 8), (4, 10, 9)),
    "putamen": ((26, 3, 2), (5, 16, 9)),
}


@dataclass
class Head:
    """One subject's anatomy on a voxel grid; arrays are (X, Y, Z) float32."""

    tissue: dict          # name of TISSUES -> volume fraction; they sum to 1
    x: np.ndarray         # head-fixed coordinates of each voxel, mm
    y: np.ndarray
    z: np.ndarray
    cortex_depth: np.ndarray        # mm below the folded surface of the brain
    ventricle_distance: np.ndarray  # mm from the lateral ventricles, negative inside
    brain: np.ndarray     # bool: brain tissue and ventricles


# Shapes -------------------------------------------------------------------------------------------

def smooth_field(rng, axes, knots):
    """A smooth random field of mean 0 and standard deviation about 1.

    The sum of cubic B-splines with normal coefficients. Plain sums instead of BLAS, so that the
    bits do not depend on the number of threads.

    Args:
        axes: three increasing or decreasing 1-D arrays, mm.
        knots: distance between coefficients, mm.

    Returns:
        float32 (X, Y, Z).
    """
    position = [(axis - axis.min()) / knots for axis in axes]
    # Along one axis the squares of the four weights below sum to 0.479 on average.
    coefficients = rng.standard_normal([int(t.max()) + 4 for t in position])
    field = coefficients.astype(np.float32) * 0.479**-1.5

    for dimension, t in enumerate(position):
        i = t.astype(int)
        f = (t - i).astype(np.float32)
        weights = ((1 - f)**3, 3 * f**3 - 6 * f**2 + 4, -3 * f**3 + 3 * f**2 + 3 * f + 1, f**3)
        shape = [-1 if d == dimension else 1 for d in range(3)]
        field = sum(np.take(field, i + k, dimension) * (w / 6).reshape(shape)
                    for k, w in enumerate(weights))
    return field.astype(np.float32)


def ellipsoid_depth(x, y, z, centre, semi_axes):
    """Depth in mm below an ellipsoid's surface, to first order; exact on spheres."""
    p = [(c - c0) / r for c, c0, r in zip((x, y, z), centre, semi_axes)]
    q = np.sqrt(p[0]**2 + p[1]**2 + p[2]**2)
    gradient = [part / r for part, r in zip(p, semi_axes)]
    slope = np.sqrt(gradient[0]**2 + gradient[1]**2 + gradient[2]**2)
    return q * (1 - q) / np.maximum(slope, 1e-6)


def tube_depth(x, y, z, start, end, radius_start, radius_end):
    """Depth in mm below the surface of a tube whose radius changes linearly from end to end."""
    axis = np.subtract(end, start, dtype=float)
    t = sum(float(a) * (c - c0) for a, c, c0 in zip(axis, (x, y, z), start)) / float(axis @ axis)
    t = np.clip(t, 0, 1)
    squares = sum((c - c0 - t * float(a))**2 for a, c, c0 in zip(axis, (x, y, z), start))
    return radius_start + (radius_end - radius_start) * t - np.sqrt(squares)


def inside(depth):
    """Volume fraction of a voxel below a surface `depth` mm above it: a ramp over surface_blur."""
    return np.clip(depth / HEAD["surface_blur"] + 0.5, 0, 1)


def gaussian_blob(axes, centre_index, sigma):
    """A Gaussian of height 1, standard deviation `sigma` mm, around a voxel; float32 (X, Y, Z)."""
    x, y, z = (np.exp(-0.5 * ((axis - axis[i]) / sigma)**2).astype(np.float32)
               for axis, i in zip(axes, centre_index))
    return x[:, None, None] * y[None, :, None] * z[None, None, :]


# One subject --------------------------------------------------------------------------------------

def build_head(rng, axes):
    """Draw one subject.

    Args:
        axes: head-fixed mm of the voxel centres along the three array axes.

    Returns:
        a Head.
    """
    x, y, z = head_coordinates(rng, axes)
    side = np.abs(x)
    cerebrum = ellipsoid_depth(x, y, z, (0, 0, 0), HEAD["cerebrum_semi_axes"])
    depth = np.maximum.reduce([
        cerebrum - np.maximum(0, -z - 38) * 0.8,
        ellipsoid_depth(side, y, z, HEAD["cerebellum_centre"], HEAD["cerebellum_semi_axes"]),
        tube_depth(x, y, z, *HEAD["brainstem"])])
    folded = folded_depth(rng, axes, x, y, z, depth)

    factor = rng.uniform(*VENTRICLES["radius_factor"])
    stretch = rng.uniform(0.9, 1.1)
    lateral = np.maximum.reduce([
        tube_depth(side, y * stretch, z, start, end, r0 * factor, r1 * factor)
        for start, end, r0, r1 in VENTRICLES["tubes"]])
    third_semi_axes = np.multiply(VENTRICLES["third_semi_axes"], (factor, 1, 1)).tolist()
    third = ellipsoid_depth(x, y, z, VENTRICLES["third_centre"], third_semi_axes)
    nuclei = np.maximum.reduce([ellipsoid_depth(side, y, z, *shape) for shape in NUCLEI.values()])

    tissue = tissue_fractions(rng, axes, depth, folded, np.maximum(lateral, third), nuclei, y, x)
    solid = tissue["gm"] + tissue["wm"] + tissue["deep"]
    brain = (solid > 0.5) | (np.maximum(lateral, third) > 0)
    return Head(tissue, x, y, z, folded, -lateral, brain)


def head_coordinates(rng, axes):
    """Head-fixed x, y, z of each voxel in mm: tilted, scaled and bent a little per subject."""
    limit = np.radians(HEAD["tilt_degrees"])
    angles = rng.uniform(-limit, limit, 2)  # nodding about x, turning about z
    # Python's floats leave float32 arrays as they are
    (cos_a, cos_b), (sin_a, sin_b) = (f(angles).tolist() for f in (np.cos, np.sin))
    size = rng.uniform(*HEAD["size_factor"], 3).tolist()

    float_axes = [axis.astype(np.float32) for axis in axes]
    x, y, z = np.meshgrid(*float_axes, indexing="ij", sparse=True)
    y, z = cos_a * y - sin_a * z, sin_a * y + cos_a * z
    x, y = cos_b * x - sin_b * y, sin_b * x + cos_b * y
    bent = [c / s + HEAD["warp_amplitude"] * smooth_field(rng, axes, HEAD["warp_knots"])
            for c, s in zip((x, y, z), size)]
    bent[0] = bent[0] * (1 + 0.0015 * bent[1])  # the forehead is narrower than the back of the head
    return [c.astype(np.float32) for c in bent]


def folded_depth(rng, axes, x, y, z, depth):
    """Depth in mm below the brain's surface with its sulci; negative in the fluid between gyri."""
    knots, lattice = HEAD["sulcus_knots"], np.arange(-120.0, 121, 2)
    fields = [np.abs(smooth_field(rng, [lattice] * 3, knots)) for _ in range(2)]  # enough sulci
    table = np.minimum(*fields)

    # Sulci are the zeros of a random field read on the surface below which a voxel lies, so they
    # run inwards.
    semi = HEAD["cerebrum_semi_axes"]
    q = np.sqrt((x / semi[0])**2 + (y / semi[1])**2 + (z / semi[2])**2) + 1e-3
    pull = 0.25 + 0.75 / q
    at = np.stack([(c * pull + 120) / 2 for c in (x, y, z)])
    sheet = knots * 0.75 * ndimage.map_coordinates(table, at, order=1, mode="nearest")
    sulcus = np.hypot(sheet, np.maximum(0, depth - rng.uniform(*HEAD["sulcus_depth"])))

    # The fissure between the hemispheres
    wave = 1.5 * smooth_field(rng, axes, 9)  # mm; no fissure is straight
    fissure = np.hypot(x + 0.4 * wave, np.maximum(0, depth - 33))

    # The insula, and the sylvian cleft that leads to it along y = course (mm)
    side, outer = np.abs(x), np.maximum(0, np.abs(z - 2) - 13)
    bowl = side - 38 + 0.1 * y + wave
    insula = np.sqrt(bowl**2 + np.maximum(0, np.abs(y - 2) - 17)**2 + outer**2)
    course = 12 - 0.4 * (39 - side) + 0.4 * (z - 2) - 1.5 * wave
    sylvian = np.sqrt(np.maximum(0, 39 - side)**2 + (y - course)**2 + outer**2)

    width = rng.uniform(*HEAD["sulcus_half_width"])
    folds = np.minimum.reduce([sulcus, fissure, insula - 0.6, sylvian - 0.6])
    return np.minimum(depth, folds - width)


def tissue_fractions(rng, axes, depth, folded, ventricle, nuclei, y, x):
    """Volume fraction of each of TISSUES, float32 (X, Y, Z).

    Args:
        depth, folded, ventricle, nuclei: below the surfaces of the brain without and with its
            sulci, of the ventricles and of the nuclei, mm.
    """
    gap, skull, scalp = (rng.uniform(*HEAD[name]) for name in ("csf_gap", "skull", "scalp"))
    scalp = scalp * (1 + 0.25 * smooth_field(rng, axes, 25))
    semi = HEAD["neck_semi_axes_xy"]
    radius = np.sqrt((x / semi[0])**2 + ((y - HEAD["neck_centre_y"]) / semi[1])**2)
    below = axes[2].astype(np.float32) < -55
    neck = np.where(below, (1 - radius) * semi[0], -99)                             # (X, Y, Z)

    within, bone = inside(depth + gap), inside(depth + gap + skull)
    head = np.maximum(inside(np.maximum(depth + gap + skull + scalp, neck)), bone)
    brain = np.minimum(inside(folded), within)
    white = np.minimum(inside(folded - rng.uniform(*HEAD["cortex"])), brain)
    fluid, grey_nuclei = inside(ventricle) * brain, inside(nuclei)
    white, cortex = np.minimum(white, 1 - fluid), np.minimum(brain - white, 1 - fluid)

    fractions = {"air": 1 - head, "scalp": head - bone, "skull": bone - within, "gm": cortex,
                 "wm": white * (1 - grey_nuclei), "deep": white * grey_nuclei}
    fractions["csf"] = np.maximum(0, 1 - sum(fractions.values()))
    return {name: fractions[name].astype(np.float32) for name in TISSUES}
