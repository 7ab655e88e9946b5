"""A synthetic head and the lesions in it, as functions of position in mm; wmh.py and isles.py turn them into scans.

Coordinates are head-fixed millimetres: x to the right, y to the front, z up, 0 at the centre of the cerebrum. All
surfaces are given by a depth in mm (positive inside), so a shape is the same at any voxel size.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

TISSUES = ("air", "scalp", "skull", "csf", "gm", "wm", "deep")  # csf holds the ventricles, deep the grey nuclei

HEAD = {  # lengths in mm, angles in degrees; a pair is the range a subject is drawn from
    "cerebrum_semi_axes": (67, 85, 58), "cerebellum_centre": (20, -50, -42), "cerebellum_semi_axes": (30, 29, 21),
    "brainstem": ((0, -18, -15), (0, -30, -75), 12, 9),  # from, to, radius at each
    "neck_centre_y": -15, "neck_semi_axes_xy": (52, 60),
    "size_factor": (0.94, 1.05), "tilt_degrees": 5, "warp_amplitude": 2.0, "warp_knots": 35,
    "scalp": (4, 8), "skull": (4, 7), "csf_gap": (1, 3.5), "cortex": (2.6, 3.4), "surface_blur": 1.2,
    "sulcus_knots": 10, "sulcus_depth": (10, 19), "sulcus_half_width": (0.1, 0.9),
}
VENTRICLES = {  # tapered tubes on |x|: (from, to, radius, radius), mm; radii are multiplied by a factor per subject
    "radius_factor": (0.7, 1.6), "third_centre": (0, -8, 0), "third_semi_axes": (2.0, 14, 9),
    "tubes": (((13, 36, 4), (9, 18, 13), 3.5, 5.0), ((9, 18, 13), (11, -15, 20), 5.0, 4.5),
              ((11, -15, 20), (23, -38, 10), 4.5, 6.5), ((23, -38, 10), (20, -60, 4), 6.0, 2.0),
              ((23, -38, 8), (31, -12, -17), 4.0, 2.0)),
}
NUCLEI = {  # centre on |x| and semi-axes, mm
    "thalamus": ((11, -13, 6), (8, 14, 9)), "caudate": ((17, 20, 8), (4, 10, 9)), "putamen": ((26, 3, 2), (5, 16, 9)),
}
WMH = {  # volumes in mm^3, contrasts relative to white matter, loads as fractions of the brain's voxels
    "load": (0.0005, 0.015), "periventricular_share": 0.2, "median_periventricular": 450.0, "median_deep": 35.0,
    "log_sigma": 1.1, "contrast_median": 0.36, "contrast_log_sigma": 0.5, "contrast_scan_log_sigma": 0.2,
    "t1_share_of_contrast": 0.45, "pathology_probability": 0.25, "pathology_median": 5000.0,
    "pathology_log_sigma": 0.7, "pathology_rim_contrast": 0.5,
}
DISTRACTORS = {  # FLAIR-bright structures that are no lesions; heights relative to white matter, lengths in mm
    "lining_height": 0.22, "lining_width": 1.6, "halo_height": 0.14, "halo_width": 5.0, "septum_height": 0.35,
    "choroid_height": (0.2, 1.1), "flow_blobs": (1, 4), "flow_height": (0.5, 1.3), "cortex_blobs": (6, 14),
    "cortex_height": (0.15, 0.55), "blob_width": (3.0, 7.0), "scalp_texture": 0.25, "tissue_texture": 0.035,
}
STROKE = {  # centre on |x| (z follows the scan) and semi-axes of the territories, mm; core volumes in mm^3
    "territories": {"MCA": ((44, 2), (34, 48, 38)), "ACA": ((10, 42), (15, 38, 36)), "PCA": ((18, -60), (22, 27, 26))},
    "probability": {"MCA": 0.76, "ACA": 0.1, "PCA": 0.14}, "size_factor": (0.65, 1.05), "edge_noise": 0.2,
    "core_median": 14000.0, "core_log_sigma": 1.0, "core_range": (300.0, 90000.0), "core_max_share": 0.6,
    "core_edge_noise": 0.3,
}


@dataclass
class Head:
    """One subject's anatomy on a voxel grid; arrays are (X, Y, Z) float32."""
    tissue: dict          # name of TISSUES -> volume fraction; they sum to 1
    x: np.ndarray         # head-fixed coordinates of each voxel, mm
    y: np.ndarray
    z: np.ndarray
    cortex_depth: np.ndarray       # mm below the folded surface of the brain
    ventricle_distance: np.ndarray  # mm from the lateral ventricles, negative inside
    brain: np.ndarray     # bool: brain tissue and ventricles


def smooth_field(rng, axes, knots):
    """A smooth random field of mean 0 and standard deviation about 1: cubic B-splines with normal coefficients.

    Args: axes: three increasing or decreasing 1-D arrays, mm; knots: distance between coefficients, mm.
    Returns: float32 (X, Y, Z). Plain sums instead of BLAS, so the bits do not depend on the number of threads.
    """
    position = [(axis - axis.min()) / knots for axis in axes]
    # Along one axis the squares of the four weights below sum to 0.479 on average.
    field = rng.standard_normal([int(t.max()) + 4 for t in position]).astype(np.float32) * 0.479**-1.5
    for dimension, t in enumerate(position):
        i = t.astype(int)
        f = (t - i).astype(np.float32)
        weights = ((1 - f)**3, 3 * f**3 - 6 * f**2 + 4, -3 * f**3 + 3 * f**2 + 3 * f + 1, f**3)
        shape = [-1 if d == dimension else 1 for d in range(3)]
        field = sum(np.take(field, i + k, dimension) * (w / 6).reshape(shape) for k, w in enumerate(weights))
    return field.astype(np.float32)


def ellipsoid_depth(x, y, z, centre, semi_axes):
    """Depth in mm below an ellipsoid's surface (first-order approximation of the distance; exact on spheres)."""
    p = [(c - c0) / r for c, c0, r in zip((x, y, z), centre, semi_axes)]
    q = np.sqrt(p[0]**2 + p[1]**2 + p[2]**2)
    slope = np.sqrt((p[0] / semi_axes[0])**2 + (p[1] / semi_axes[1])**2 + (p[2] / semi_axes[2])**2)
    return q * (1 - q) / np.maximum(slope, 1e-6)


def tube_depth(x, y, z, start, end, radius_start, radius_end):
    """Depth in mm below the surface of a tube whose radius changes linearly between two points."""
    axis = np.subtract(end, start, dtype=float)
    t = sum(float(a) * (c - c0) for a, c, c0 in zip(axis, (x, y, z), start)) / float(axis @ axis)
    t = np.clip(t, 0, 1)
    squares = sum((c - c0 - t * float(a))**2 for a, c, c0 in zip(axis, (x, y, z), start))
    return radius_start + (radius_end - radius_start) * t - np.sqrt(squares)


def head_coordinates(rng, axes):
    """Head-fixed x, y, z of each voxel in mm: the scan's axes, tilted, scaled and bent a little per subject."""
    limit = np.radians(HEAD["tilt_degrees"])
    angles = rng.uniform(-limit, limit, 2)  # nodding about x, turning about z
    (cos_a, cos_b), (sin_a, sin_b) = (f(angles).tolist() for f in (np.cos, np.sin))  # Python floats keep float32
    size = rng.uniform(*HEAD["size_factor"], 3).tolist()
    x, y, z = np.meshgrid(*[axis.astype(np.float32) for axis in axes], indexing="ij", sparse=True)
    y, z = cos_a * y - sin_a * z, sin_a * y + cos_a * z
    x, y = cos_b * x - sin_b * y, sin_b * x + cos_b * y
    bent = [c / s + HEAD["warp_amplitude"] * smooth_field(rng, axes, HEAD["warp_knots"])
            for c, s in zip((x, y, z), size)]
    bent[0] = bent[0] * (1 + 0.0015 * bent[1])  # the forehead is narrower than the back of the head
    return [c.astype(np.float32) for c in bent]


def folded_depth(rng, axes, x, y, z, depth):
    """Depth in mm below the brain's surface once sulci cut into it; negative in the fluid between the gyri."""
    knots, lattice = HEAD["sulcus_knots"], np.arange(-120.0, 121, 2)
    fields = [np.abs(smooth_field(rng, [lattice] * 3, knots)) for _ in range(2)]  # two make about enough sulci
    table = np.minimum(*fields)
    # Sulci are the zeros of a random field read on the surface below which a voxel lies, so they run inwards.
    semi = HEAD["cerebrum_semi_axes"]
    q = np.sqrt((x / semi[0])**2 + (y / semi[1])**2 + (z / semi[2])**2) + 1e-3
    pull = 0.25 + 0.75 / q
    at = np.stack([(c * pull + 120) / 2 for c in (x, y, z)])
    sheet = knots * 0.75 * ndimage.map_coordinates(table, at, order=1, mode="nearest")
    sulcus = np.hypot(sheet, np.maximum(0, depth - rng.uniform(*HEAD["sulcus_depth"])))
    wave = 1.5 * smooth_field(rng, axes, 9)  # mm; no fissure is straight
    fissure = np.hypot(x + 0.4 * wave, np.maximum(0, depth - 33))  # between the hemispheres
    side, outer = np.abs(x), np.maximum(0, np.abs(z - 2) - 13)
    insula = np.sqrt((side - 38 + 0.1 * y + wave)**2 + np.maximum(0, np.abs(y - 2) - 17)**2 + outer**2)
    course = 12 - 0.4 * (39 - side) + 0.4 * (z - 2) - 1.5 * wave  # mm; y of the cleft that leads to the insula
    sylvian = np.sqrt(np.maximum(0, 39 - side)**2 + (y - course)**2 + outer**2)
    width = rng.uniform(*HEAD["sulcus_half_width"])
    folds = np.minimum.reduce([sulcus, fissure, insula - 0.6, sylvian - 0.6])
    return np.minimum(depth, folds - width)


def inside(depth):
    """Volume fraction of a voxel inside a surface `depth` mm above it: a ramp over HEAD["surface_blur"]."""
    return np.clip(depth / HEAD["surface_blur"] + 0.5, 0, 1)


def build_head(rng, axes):
    """Draw one subject. Args: axes: head-fixed mm of the voxel centres along the three array axes. Returns: Head."""
    x, y, z = head_coordinates(rng, axes)
    side = np.abs(x)
    depth = np.maximum.reduce([
        ellipsoid_depth(x, y, z, (0, 0, 0), HEAD["cerebrum_semi_axes"]) - np.maximum(0, -z - 38) * 0.8,
        ellipsoid_depth(side, y, z, HEAD["cerebellum_centre"], HEAD["cerebellum_semi_axes"]),
        tube_depth(x, y, z, *HEAD["brainstem"])])
    folded = folded_depth(rng, axes, x, y, z, depth)
    factor = rng.uniform(*VENTRICLES["radius_factor"])
    stretch = rng.uniform(0.9, 1.1)
    lateral = np.maximum.reduce([tube_depth(side, y * stretch, z, start, end, r0 * factor, r1 * factor)
                                 for start, end, r0, r1 in VENTRICLES["tubes"]])
    third = ellipsoid_depth(x, y, z, VENTRICLES["third_centre"],
                            np.multiply(VENTRICLES["third_semi_axes"], (factor, 1, 1)).tolist())
    nuclei = np.maximum.reduce([ellipsoid_depth(side, y, z, *shape) for shape in NUCLEI.values()])
    tissue = tissue_fractions(rng, axes, depth, folded, np.maximum(lateral, third), nuclei, y, x)
    brain = (tissue["gm"] + tissue["wm"] + tissue["deep"] > 0.5) | (np.maximum(lateral, third) > 0)
    return Head(tissue, x, y, z, folded, -lateral, brain)


def tissue_fractions(rng, axes, depth, folded, ventricle, nuclei, y, x):
    """Volume fraction of each of TISSUES, float32 (X, Y, Z), from the depths in mm of the surfaces."""
    gap, skull, scalp = (rng.uniform(*HEAD[name]) for name in ("csf_gap", "skull", "scalp"))
    scalp = scalp * (1 + 0.25 * smooth_field(rng, axes, 25))
    semi = HEAD["neck_semi_axes_xy"]
    neck = (1 - np.sqrt((x / semi[0])**2 + ((y - HEAD["neck_centre_y"]) / semi[1])**2)) * semi[0]
    below = axes[2].astype(np.float32) < -55
    neck = np.where(below, neck, -99)  # (X, Y, Z)
    within, bone = inside(depth + gap), inside(depth + gap + skull)
    whole = np.maximum(inside(np.maximum(depth + gap + skull + scalp, neck)), bone)
    brain = np.minimum(inside(folded), within)
    white = np.minimum(inside(folded - rng.uniform(*HEAD["cortex"])), brain)
    fluid, grey_nuclei = inside(ventricle) * brain, inside(nuclei)
    white, cortex = np.minimum(white, 1 - fluid), np.minimum(brain - white, 1 - fluid)
    fractions = {"air": 1 - whole, "scalp": whole - bone, "skull": bone - within, "gm": cortex,
                 "wm": white * (1 - grey_nuclei), "deep": white * grey_nuclei}
    fractions["csf"] = np.maximum(0, 1 - sum(fractions.values()))
    return {name: fractions[name].astype(np.float32) for name in TISSUES}


def gaussian_blob(axes, centre_index, sigma):
    """A Gaussian of height 1 and standard deviation `sigma` mm around a voxel; float32 (X, Y, Z)."""
    x, y, z = (np.exp(-0.5 * ((axis - axis[i]) / sigma)**2).astype(np.float32) for axis, i in zip(axes, centre_index))
    return x[:, None, None] * y[None, :, None] * z[None, None, :]


def random_voxel(rng, mask, fallback):
    """A voxel (index tuple) drawn from a bool mask, or from `fallback` where the mask is empty."""
    places = np.flatnonzero(mask)
    places = places if len(places) else np.flatnonzero(fallback)
    return np.unravel_index(places[rng.integers(len(places))], mask.shape)


def grow_blob(axes, seed, voxels, free, rough, penalty=None):
    """The `voxels` free voxels nearest to `seed`, with an irregular outline, nearest first.

    Args: axes: mm; seed: index tuple; free: bool (X, Y, Z); rough: smooth_field that dents the outline;
        penalty: mm added to the distance of each voxel, e.g. its distance from the ventricles.
    Returns: three index arrays, at most `voxels` long.
    """
    voxel_mm = [abs(axis[1] - axis[0]) for axis in axes]
    radius = 3 * (voxels * np.prod(voxel_mm) / 4.19)**(1 / 3) + 2  # mm; room for elongated shapes
    box = tuple(slice(max(0, i - int(radius / v) - 1), i + int(radius / v) + 2) for i, v in zip(seed, voxel_mm))
    offset = np.meshgrid(*[axis[s] - axis[i] for axis, s, i in zip(axes, box, seed)], indexing="ij", sparse=True)
    distance = np.sqrt(offset[0]**2 + offset[1]**2 + offset[2]**2) * np.exp(0.35 * rough[box])
    if penalty is not None:
        distance = distance * 0.45 + 1.5 * penalty[box]
    candidates = np.flatnonzero(free[box])
    chosen = candidates[np.argsort(distance.ravel()[candidates], kind="stable")[:voxels]]
    return tuple(i + s.start for i, s in zip(np.unravel_index(chosen, distance.shape), box))


def add_pathology(rng, head, axes, label, flair, t1):
    """Maybe write one old infarct into label (2) and the contrast maps: a cavity with a FLAIR-bright rim."""
    if rng.random() >= WMH["pathology_probability"]:
        return
    free = (head.tissue["wm"] + head.tissue["gm"] > 0.5) & (head.cortex_depth < 20) & (head.z > -35)
    volume = rng.lognormal(np.log(WMH["pathology_median"]), WMH["pathology_log_sigma"])
    voxels = max(2, round(volume / abs(np.prod([axis[1] - axis[0] for axis in axes]))))
    blob = grow_blob(axes, random_voxel(rng, free, head.brain), voxels, free, smooth_field(rng, axes, 8))
    cavity = tuple(i[:len(i) * 45 // 100] for i in blob)
    label[blob], flair[blob], t1[blob] = 2, WMH["pathology_rim_contrast"], -0.25
    flair[cavity], t1[cavity] = -0.65, -0.6


def wmh_lesions(rng, head, axes):
    """White-matter lesions of one scan.

    Returns: label uint8 (0; 1 = WMH; 2 = other pathology) and the FLAIR and T1 contrast of each voxel relative to white
    matter, float32, all (X, Y, Z). The WMH voxels are `load` times the brain's, rounded, at least one.
    """
    label = np.zeros(head.brain.shape, np.uint8)
    flair, t1 = np.zeros(label.shape, np.float32), np.zeros(label.shape, np.float32)
    add_pathology(rng, head, axes, label, flair, t1)
    voxel_mm3 = abs(np.prod([axis[1] - axis[0] for axis in axes]))
    wanted = max(1, round(np.exp(rng.uniform(*np.log(WMH["load"]))) * head.brain.sum()))
    white = (head.tissue["wm"] > 0.6) & (head.z > -25) & (label == 0)
    free = white | ((head.tissue["deep"] > 0.6) & (label == 0))
    near = np.flatnonzero(white & (head.ventricle_distance < 3))
    caps = near[(np.abs(head.y.ravel()[near] + 8) > 28)]
    deep = np.flatnonzero(white & (head.ventricle_distance > 7) & (head.cortex_depth > 3.8))
    everywhere = np.flatnonzero(free)
    rough, scan_contrast = smooth_field(rng, axes, 5), rng.lognormal(0, WMH["contrast_scan_log_sigma"])
    while wanted > 0:
        periventricular = rng.random() < WMH["periventricular_share"]
        pool = (caps if rng.random() < 0.6 else near) if periventricular else deep
        pool = pool if len(pool) else everywhere
        seed = np.unravel_index(pool[rng.integers(len(pool))], label.shape)
        volume = rng.lognormal(np.log(WMH["median_periventricular" if periventricular else "median_deep"]),
                               WMH["log_sigma"])
        voxels = min(wanted, max(1, round(volume / voxel_mm3)))
        blob = grow_blob(axes, seed, voxels, free, rough, head.ventricle_distance if periventricular else None)
        contrast = scan_contrast * rng.lognormal(np.log(WMH["contrast_median"]), WMH["contrast_log_sigma"])
        label[blob], free[blob] = 1, False
        flair[blob], t1[blob] = contrast, -WMH["t1_share_of_contrast"] * contrast
        wanted -= len(blob[0])
    return label, flair, t1


def flair_distractors(rng, head, axes):
    """Brightness to add to FLAIR where no lesion is, relative to white matter; float32 (X, Y, Z)."""
    d, tissue = DISTRACTORS, head.tissue
    outside = np.maximum(head.ventricle_distance, 0)
    white = tissue["wm"] + tissue["deep"]
    rim = d["lining_height"] * np.exp(-(outside / d["lining_width"])**2)
    halo = d["halo_height"] * np.exp(-outside / d["halo_width"]) * (1 + smooth_field(rng, axes, 15))
    septum = d["septum_height"] * np.exp(-(head.x / 1.5)**2) * (np.abs(head.y - 8) < 22) * (np.abs(head.z - 12) < 9)
    extra = white * (rim + halo + septum)
    plexus = ellipsoid_depth(np.abs(head.x), head.y, head.z, (23, -35, 9), (3.5, 7, 4.5))
    extra += tissue["csf"] * inside(plexus) * rng.uniform(*d["choroid_height"])
    for share, count, heights in ((tissue["csf"], d["flow_blobs"], d["flow_height"]),
                                  (tissue["gm"] + tissue["deep"], d["cortex_blobs"], d["cortex_height"])):
        for _ in range(rng.integers(*count)):
            centre = random_voxel(rng, share > 0.7, head.brain)
            extra += share * gaussian_blob(axes, centre, rng.uniform(*d["blob_width"])) * rng.uniform(*heights)
    extra += tissue["scalp"] * d["scalp_texture"] * smooth_field(rng, axes, 8)
    return (extra + d["tissue_texture"] * head.brain * smooth_field(rng, axes, 6)).astype(np.float32)


def stroke_lesion(rng, head, axes):
    """The perfusion deficit of one territory and the infarct core inside it; bool (X, Y, Z) both, core not empty."""
    tissue = head.tissue["gm"] + head.tissue["wm"] + head.tissue["deep"] > 0.5
    name = rng.choice(list(STROKE["probability"]), p=list(STROKE["probability"].values()))
    (cx, cy), semi = STROKE["territories"][name]
    side, size = rng.choice([-1, 1]), rng.uniform(*STROKE["size_factor"])
    cz = rng.uniform(axes[2].min(), axes[2].max())  # in the scanned slab, as scans are placed to show the deficit
    distance = np.sqrt(sum(((c - c0) / (r * size))**2 for c, c0, r in
                           zip((head.x * side, head.y, head.z), (cx, cy, cz), semi)))
    own_half = tissue & (head.x * side > 1)
    edge = smooth_field(rng, axes, 14)
    deficit = own_half & (distance + STROKE["edge_noise"] * edge < 1)
    if not deficit.any():  # a slab at the vertex, beside the territory
        deficit = own_half if own_half.any() else tissue
    seed = random_voxel(rng, deficit & (distance < 0.6), deficit)
    volume = np.clip(rng.lognormal(np.log(STROKE["core_median"]), STROKE["core_log_sigma"]), *STROKE["core_range"])
    radius = (volume / 4.19)**(1 / 3)
    offset = np.meshgrid(*[axis - axis[i] for axis, i in zip(axes, seed)], indexing="ij", sparse=True)
    reach = np.sqrt(offset[0]**2 + offset[1]**2 + offset[2]**2) * np.exp(STROKE["core_edge_noise"] * edge)
    most = max(1, int(STROKE["core_max_share"] * deficit.sum()))
    limit = min(radius, np.partition(reach[deficit], most - 1)[most - 1])
    return deficit, deficit & (reach <= limit)
