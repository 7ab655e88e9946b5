"""Synthetic scans in the layout of the ISLES 2018 challenge."""

import json
from pathlib import Path

import numpy as np
from scipy import ndimage

from scans.phantom.grid import save_sized_nifti, scan_axes
from scans.phantom.head import TISSUES, build_head, gaussian_blob, smooth_field
from scans.phantom.lesions import random_voxel, stroke_lesion

ISLES = {
    "in_plane": 256, "voxel_mm": (0.8, 1.0),
    "slices": {"2": 0.38, "4": 0.3, "8": 0.2, "16": 0.07, "22": 0.05},  # number -> share of scans
    "thickness_mm": (5.0, 12.0), "most_coverage_mm": 60.0, "slab_centre_mm": (-2.0, 26.0),

    # Value of each of TISSUES in each map's units; perfusion maps are 0 outside the brain
    "maps": {
        "CT": (-1000, 10, 900, 7, 38, 30, 37),         # HU
        "CT_CBF": (0, 0, 0, 4, 58, 24, 50),            # mL / 100 g / min
        "CT_CBV": (0, 0, 0, 0.8, 4.0, 2.1, 3.6),       # mL / 100 g
        "CT_MTT": (0, 0, 0, 3.0, 4.2, 5.2, 4.4),       # s
        "CT_Tmax": (0, 0, 0, 1.5, 1.2, 2.2, 1.4)},     # s

    # Standard deviation of the noise, same units; of the blurs, mm
    "noise": {"CT": 5.0, "CT_CBF": 9.0, "CT_CBV": 0.6, "CT_MTT": 0.9, "CT_Tmax": 0.9},
    "noise_blur_mm": {"CT": 0.5, "CT_CBF": 1.6, "CT_CBV": 1.6, "CT_MTT": 1.6, "CT_Tmax": 1.6},
    "signal_blur_mm": {"CT": 0.6, "CT_CBF": 2.0, "CT_CBV": 2.0, "CT_MTT": 2.0, "CT_Tmax": 2.0},

    # (lowest, highest) per scan: CBF and CBV are multiplied, the others are raised by so much.
    # "chronic" is unlabelled old damage, where the perfusion delay is normal.
    "deficit": {"CT": (0, 0), "CT_CBF": (0.45, 0.75), "CT_CBV": (0.9, 1.15), "CT_MTT": (2.5, 6),
                "CT_Tmax": (3.5, 9)},
    "core": {"CT": (-7, -2), "CT_CBF": (0.15, 0.45), "CT_CBV": (0.3, 0.65), "CT_MTT": (0, 4),
             "CT_Tmax": (0, 4)},
    "chronic": {"CT": (-6, -3), "CT_CBF": (0.4, 0.7), "CT_CBV": (0.5, 0.8), "CT_MTT": (0, 1.5),
                "CT_Tmax": (0, 1.5)},
    "chronic_probability": 0.5, "chronic_width_mm": (5.0, 12.0),

    # CBF and CBV: gain of the scan, and vessels of a height relative to the tissue
    "gain": (0.75, 1.3), "vessels": (6, 14), "vessel_width_mm": 2.5, "vessel_height": 1.2,

    # Types of the files; CBF and CBV are stored in tenths
    "types": {"CT": "int32", "CT_CBF": "uint16", "CT_CBV": "uint16", "CT_MTT": "float64",
              "CT_Tmax": "float64", "CT_4DPWI": "float32", "OT": "uint8"},
    "tenths": ("CT_CBF", "CT_CBV"),

    # The challenge's releases number their files from about here; cases take turns
    "first_ids": (345562, 339203),

    # Enhancement at the second of the two time points of CT_4DPWI, per mL / 100 g of CBV
    "contrast_agent_HU": 6.0,
}


def isles_name(k):
    """Subject k -> path of its folder below the output folder."""
    return Path("TRAINING") / f"case_{k + 1}"


def isles_slab(k):
    """"Train_01_A": patient and slab of subject k. Two slabs and one take turns: 94 are of 63."""
    return f"Train_{2 * (k // 3) + (k % 3) // 2 + 1:02d}_{'ABA'[k % 3]}"


def isles_grid(rng, size, slices):
    """Draw the grid of one case.

    Returns:
        (shape, voxel_mm, height of the slab's centre above the cerebrum's, mm).
    """
    shares = {int(count): share for count, share in ISLES["slices"].items()
              if slices is None or int(count) <= slices}
    count = int(rng.choice(list(shares), p=np.divide(list(shares.values()), sum(shares.values()))))
    in_plane = ISLES["in_plane"] if size is None else size
    pixel = rng.uniform(*ISLES["voxel_mm"]) * ISLES["in_plane"] / in_plane

    low, high = ISLES["thickness_mm"]
    thickness = rng.uniform(low, min(high, max(low, ISLES["most_coverage_mm"] / count)))
    centre = rng.uniform(*ISLES["slab_centre_mm"])
    return (in_plane, in_plane, count), (pixel, pixel, thickness), centre


def soften(array, sigma_mm, voxel_mm):
    """In-plane Gaussian blur; slices are too thick to share signal."""
    sigma = [sigma_mm / voxel_mm[0], sigma_mm / voxel_mm[1], 0]
    return ndimage.gaussian_filter(np.asarray(array, np.float32), sigma, truncate=2.5)


def ct_map(rng, name, head, severity, vessels, axes, voxel_mm):
    """One CT or perfusion map in its own units, float32 (X, Y, Z).

    Args:
        severity: region of ISLES ("deficit", "core", "chronic") -> softened mask in [0, 1].
        vessels: (X, Y, Z), 0 to some.
    """
    levels = zip(TISSUES, ISLES["maps"][name])
    scan = sum(np.float32(level) * head.tissue[tissue] for tissue, level in levels)
    multiplied = name in ("CT_CBF", "CT_CBV")
    if name != "CT":
        scan = scan * (1 + 0.08 * smooth_field(rng, axes, 18))

    for region in ("chronic", "deficit", "core"):
        change = rng.uniform(*ISLES[region][name])
        weight = severity[region]
        if region == "deficit" and multiplied:
            weight = weight * (1 - severity["core"])
        scan = scan * (1 + (change - 1) * weight) if multiplied else scan + change * weight
    if multiplied:
        scan = scan * (1 + ISLES["vessel_height"] * vessels) * rng.uniform(*ISLES["gain"])
    scan = soften(scan, ISLES["signal_blur_mm"][name], voxel_mm)

    white = rng.standard_normal(scan.shape, dtype=np.float32)
    noise = soften(white, ISLES["noise_blur_mm"][name], voxel_mm)
    noise *= ISLES["noise"][name] / noise.std()
    if name == "CT":
        return scan + noise
    if name in ("CT_MTT", "CT_Tmax"):  # delays are ill-defined where little blood flows
        noise = noise * (1 + 3 * head.tissue["csf"])
    within = head.tissue["air"] + head.tissue["scalp"] + head.tissue["skull"] < 0.5
    return np.where(within, np.maximum(scan + noise, 0), 0).astype(np.float32)


def isles_subject(seed, k, size=None, slices=None):
    """One ISLES case.

    Returns:
        dict of the five maps, CT_4DPWI and label (the core), brain, deficit (bool) and voxel_mm.
    """
    rng = np.random.default_rng([seed, 2, k])
    shape, voxel_mm, head_z = isles_grid(rng, size, slices)
    axes = scan_axes(shape, voxel_mm, (-1, 1, 1), -head_z)
    head = build_head(rng, axes)
    deficit, core = stroke_lesion(rng, head, axes)

    chronic = np.zeros(shape, np.float32)
    if rng.random() < ISLES["chronic_probability"]:
        places = (head.tissue["wm"] > 0.8) & (head.ventricle_distance < 15)
        centre = random_voxel(rng, places, head.brain)
        blob = gaussian_blob(axes, centre, rng.uniform(*ISLES["chronic_width_mm"]))
        chronic = blob * (1 - head.tissue["csf"])
    severity = {"deficit": soften(deficit, 4.0, voxel_mm), "core": soften(core, 2.0, voxel_mm),
                "chronic": chronic}

    vessels = np.zeros(shape, np.float32)
    for _ in range(rng.integers(*ISLES["vessels"])):
        centre = random_voxel(rng, (head.tissue["gm"] > 0.7), head.brain)
        vessels += gaussian_blob(axes, centre, ISLES["vessel_width_mm"])

    scan = {name: ct_map(rng, name, head, severity, vessels, axes, voxel_mm)
            for name in ISLES["maps"]}
    scan["CT"] = np.rint(np.clip(scan["CT"], -1024, 3071))
    peak = scan["CT"] + ISLES["contrast_agent_HU"] * scan["CT_CBV"]
    series = [scan["CT"].astype(np.float32), peak.astype(np.float32)]
    scan["CT_4DPWI"] = np.stack(series, axis=-1)                                    # (X, Y, Z, 2)
    return scan | {"label": core.astype(np.uint8), "brain": head.brain, "deficit": deficit,
                   "voxel_mm": voxel_mm}


def as_stored(name, voxels):
    """A map in the type of the challenge's files."""
    scaled = 10 * voxels if name in ISLES["tenths"] else voxels
    kind = np.dtype(ISLES["types"][name])
    return (np.rint(scaled) if kind.kind in "iu" else scaled).astype(kind)


def write_isles(folder, scan, k):
    """Write each map to its SMIR folder, with a number in its name that is unique.

    Beside it lies the .json file that says whose scan it is.
    """
    series = ISLES["first_ids"]
    first = series[k % len(series)] + 7 * (k // len(series))
    for place, name in enumerate(ISLES["types"]):
        stem = f"SMIR.Brain.XX.O.{name}.{first + place}"
        voxels = as_stored(name, scan["label" if name == "OT" else name])
        save_sized_nifti(folder / stem / f"{stem}.nii", voxels, scan["voxel_mm"])
        about = {"id": first + place, "name": stem, "phantom": True,
                 "description": f"ISLES 2018 - TRAIN - {isles_slab(k)} - {name}"}
        (folder / stem / f"{stem}.json").write_text(json.dumps(about, indent=2) + "\n")
