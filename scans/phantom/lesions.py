"""Lesions in a synthetic head, and the bright structures that resemble them."""

import numpy as np

from scans.phantom.head import ellipsoid_depth, gaussian_blob, inside, smooth_field

# Volumes in mm^3, contrasts relative to white matter, loads as fractions of the brain's voxels
WMH = {
    "load": (0.0005, 0.015), "periventricular_share": 0.2, "median_periventricular": 450.0,
    "median_deep": 35.0, "log_sigma": 1.1,
    "contrast_median": 0.36, "contrast_log_sigma": 0.5, "contrast_scan_log_sigma": 0.2,
    "t1_share_of_contrast": 0.45,
    "pathology_probability": 0.25, "pathology_median": 5000.0, "pathology_log_sigma": 0.7,
    "pathology_rim_contrast": 0.5,
}

# Bright on FLAIR, but no lesions; heights relative to white matter, lengths in mm
DISTRACTORS = {
    "lining_height": 0.22, "lining_width": 1.6, "halo_height": 0.14, "halo_width": 5.0,
    "septum_height": 0.35, "choroid_height": (0.2, 1.1),
    "flow_blobs": (1, 4), "flow_height": (0.5, 1.3),
    "cortex_blobs": (6, 14), "cortex_height": (0.15, 0.55), "blob_width": (3.0, 7.0),
    "scalp_texture": 0.25, "tissue_texture": 0.035,
}

# Territories by centre on |x| (z follows the scan) and semi-axes, mm; core volumes in mm^3
STROKE = {
    "territories": {"MCA": ((44, 2), (34, 48, 38)), "ACA": ((10, 42), (15, 38, 36)),
                    "PCA": ((18, -60), (22, 27, 26))},
    "probability": {"MCA": 0.76, "ACA": 0.1, "PCA": 0.14}, "size_factor": (0.65, 1.05),
    "edge_noise": 0.2,
    "core_median": 14000.0, "core_log_sigma": 1.0, "core_range": (300.0, 90000.0),
    "core_max_share": 0.6, "core_edge_noise": 0.3,
}


# Growing a lesion ---------------------------------------------------------------------------------

def random_voxel(rng, mask, fallback):
    """A voxel (index tuple) drawn from a bool mask, or from `fallback` where the mask is empty."""
    places = np.flatnonzero(mask)
    places = places if len(places) else np.flatnonzero(fallback)
    return np.unravel_index(places[rng.integers(len(places))], mask.shape)


def grow_blob(axes, seed, voxels, free, rough, penalty=None):
    """The `voxels` free voxels nearest to `seed`, with an irregular outline, nearest first.

    Args:
        axes: mm.
        seed: index tuple.
        voxels: how many.
        free: bool (X, Y, Z).
        rough: smooth_field that dents the outline.
        penalty: mm added to the distance of each voxel, e.g. its distance from the ventricles.

    Returns:
        three index arrays, at most `voxels` long.
    """
    voxel_mm = [abs(axis[1] - axis[0]) for axis in axes]
    radius = 3 * (voxels * np.prod(voxel_mm) / 4.19)**(1 / 3) + 2  # mm; room for elongated shapes
    box = tuple(slice(max(0, i - int(radius / v) - 1), i + int(radius / v) + 2)
                for i, v in zip(seed, voxel_mm))

    from_seed = [axis[part] - axis[i] for axis, part, i in zip(axes, box, seed)]
    x, y, z = np.meshgrid(*from_seed, indexing="ij", sparse=True)
    distance = np.sqrt(x**2 + y**2 + z**2) * np.exp(0.35 * rough[box])
    if penalty is not None:
        distance = distance * 0.45 + 1.5 * penalty[box]

    candidates = np.flatnonzero(free[box])
    order = np.argsort(distance.ravel()[candidates], kind="stable")
    chosen = np.unravel_index(candidates[order[:voxels]], distance.shape)
    return tuple(i + part.start for i, part in zip(chosen, box))


# White matter -------------------------------------------------------------------------------------

def wmh_lesions(rng, head, axes):
    """White-matter lesions of one scan.

    Returns:
        (label, FLAIR, T1), all (X, Y, Z): label uint8 (0; 1 = WMH; 2 = other pathology), and the
        contrast of each voxel relative to white matter, float32. The WMH voxels are `load` times
        the brain's, rounded, at least one.
    """
    label = np.zeros(head.brain.shape, np.uint8)
    flair, t1 = np.zeros(label.shape, np.float32), np.zeros(label.shape, np.float32)
    add_pathology(rng, head, axes, label, flair, t1)
    voxel_mm3 = abs(np.prod([axis[1] - axis[0] for axis in axes]))
    wanted = max(1, round(np.exp(rng.uniform(*np.log(WMH["load"]))) * head.brain.sum()))

    # Where lesions may begin: beside the ventricles, at their caps, deep in the white matter
    white = (head.tissue["wm"] > 0.6) & (head.z > -25) & (label == 0)
    free = white | ((head.tissue["deep"] > 0.6) & (label == 0))
    near = np.flatnonzero(white & (head.ventricle_distance < 3))
    caps = near[(np.abs(head.y.ravel()[near] + 8) > 28)]
    deep = np.flatnonzero(white & (head.ventricle_distance > 7) & (head.cortex_depth > 3.8))
    everywhere = np.flatnonzero(free)

    rough = smooth_field(rng, axes, 5)
    scan_contrast = rng.lognormal(0, WMH["contrast_scan_log_sigma"])
    while wanted > 0:
        periventricular = rng.random() < WMH["periventricular_share"]
        pool = (caps if rng.random() < 0.6 else near) if periventricular else deep
        pool = pool if len(pool) else everywhere
        seed = np.unravel_index(pool[rng.integers(len(pool))], label.shape)

        median = WMH["median_periventricular" if periventricular else "median_deep"]
        volume = rng.lognormal(np.log(median), WMH["log_sigma"])
        voxels = min(wanted, max(1, round(volume / voxel_mm3)))
        penalty = head.ventricle_distance if periventricular else None
        blob = grow_blob(axes, seed, voxels, free, rough, penalty)

        spread = rng.lognormal(np.log(WMH["contrast_median"]), WMH["contrast_log_sigma"])
        contrast = scan_contrast * spread
        label[blob], free[blob] = 1, False
        flair[blob], t1[blob] = contrast, -WMH["t1_share_of_contrast"] * contrast
        wanted -= len(blob[0])
    return label, flair, t1


def add_pathology(rng, head, axes, label, flair, t1):
    """Maybe write one old infarct, label 2: a cavity with a rim that is bright on FLAIR."""
    if rng.random() >= WMH["pathology_probability"]:
        return
    tissue = head.tissue["wm"] + head.tissue["gm"] > 0.5
    free = tissue & (head.cortex_depth < 20) & (head.z > -35)
    volume = rng.lognormal(np.log(WMH["pathology_median"]), WMH["pathology_log_sigma"])
    voxels = max(2, round(volume / abs(np.prod([axis[1] - axis[0] for axis in axes]))))

    seed = random_voxel(rng, free, head.brain)
    blob = grow_blob(axes, seed, voxels, free, smooth_field(rng, axes, 8))
    cavity = tuple(i[:len(i) * 45 // 100] for i in blob)
    label[blob], flair[blob], t1[blob] = 2, WMH["pathology_rim_contrast"], -0.25
    flair[cavity], t1[cavity] = -0.65, -0.6


def flair_distractors(rng, head, axes):
    """Brightness to add to FLAIR outside lesions, relative to white matter; float32 (X, Y, Z)."""
    d, tissue = DISTRACTORS, head.tissue
    white = tissue["wm"] + tissue["deep"]

    # Around the ventricles: their lining, a halo, the septum between them
    outside = np.maximum(head.ventricle_distance, 0)
    rim = d["lining_height"] * np.exp(-(outside / d["lining_width"])**2)
    halo = d["halo_height"] * np.exp(-outside / d["halo_width"]) * (1 + smooth_field(rng, axes, 15))
    sheet = d["septum_height"] * np.exp(-(head.x / 1.5)**2)
    septum = sheet * (np.abs(head.y - 8) < 22) * (np.abs(head.z - 12) < 9)
    extra = white * (rim + halo + septum)

    # In them: the choroid plexus
    plexus = ellipsoid_depth(np.abs(head.x), head.y, head.z, (23, -35, 9), (3.5, 7, 4.5))
    extra += tissue["csf"] * inside(plexus) * rng.uniform(*d["choroid_height"])

    # Blobs of flow in the fluid, and in the cortex
    grey = tissue["gm"] + tissue["deep"]
    for share, count, heights in ((tissue["csf"], d["flow_blobs"], d["flow_height"]),
                                  (grey, d["cortex_blobs"], d["cortex_height"])):
        for _ in range(rng.integers(*count)):
            centre = random_voxel(rng, share > 0.7, head.brain)
            blob = gaussian_blob(axes, centre, rng.uniform(*d["blob_width"]))
            extra += share * blob * rng.uniform(*heights)

    extra += tissue["scalp"] * d["scalp_texture"] * smooth_field(rng, axes, 8)
    texture = d["tissue_texture"] * head.brain * smooth_field(rng, axes, 6)
    return (extra + texture).astype(np.float32)


# Stroke -------------------------------------------------------------------------------------------

def stroke_lesion(rng, head, axes):
    """The perfusion deficit of one territory and the infarct core inside it.

    Returns:
        (deficit, core), bool (X, Y, Z); the core is not empty.
    """
    tissue = head.tissue["gm"] + head.tissue["wm"] + head.tissue["deep"] > 0.5
    names, shares = list(STROKE["probability"]), list(STROKE["probability"].values())
    (cx, cy), semi = STROKE["territories"][rng.choice(names, p=shares)]
    side, size = rng.choice([-1, 1]), rng.uniform(*STROKE["size_factor"])
    cz = rng.uniform(axes[2].min(), axes[2].max())  # scans are placed so that they show the deficit

    squares = sum(((c - c0) / (r * size))**2 for c, c0, r in
                  zip((head.x * side, head.y, head.z), (cx, cy, cz), semi))
    distance = np.sqrt(squares)
    own_half = tissue & (head.x * side > 1)
    edge = smooth_field(rng, axes, 14)
    deficit = own_half & (distance + STROKE["edge_noise"] * edge < 1)
    if not deficit.any():  # a slab at the vertex, beside the territory
        deficit = own_half if own_half.any() else tissue

    # The core: about a sphere, of at most a share of the deficit
    seed = random_voxel(rng, deficit & (distance < 0.6), deficit)
    volume = rng.lognormal(np.log(STROKE["core_median"]), STROKE["core_log_sigma"])
    radius = (np.clip(volume, *STROKE["core_range"]) / 4.19)**(1 / 3)
    from_seed = [axis - axis[i] for axis, i in zip(axes, seed)]
    x, y, z = np.meshgrid(*from_seed, indexing="ij", sparse=True)
    reach = np.sqrt(x**2 + y**2 + z**2) * np.exp(STROKE["core_edge_noise"] * edge)
    most = max(1, int(STROKE["core_max_share"] * deficit.sum()))
    limit = min(radius, np.partition(reach[deficit], most - 1)[most - 1])
    return deficit, deficit & (reach <= limit)
