"""A synthetic heart in short-axis cine MRI, the ACDC challenge's kind of scan.

Coordinates are millimetres: x to the left of the patient's chest, y to the back, 0 at the long axis
of the left ventricle; t runs along that axis, 0 at the apex and 1 at the base. A patient has two
frames, end of diastole and end of systole.
"""

import numpy as np
from scipy import ndimage

from scans.phantom.grid import save_nifti
from scans.phantom.head import gaussian_blob, smooth_field

CAVITY, WALL, RIGHT = 3, 2, 1  # labels as in ACDC: left ventricle, myocardium, right ventricle

# Lengths in mm; a pair is the range a patient is drawn from
HEART = {
    "in_plane": (216, 256), "voxel_mm": (1.37, 1.68), "slices": (8, 12),
    "thickness_mm": (7.0, 10.0),
    "cavity_radius": (21.0, 29.0), "wall": (7.0, 11.0), "squeeze": (0.55, 0.8),
    "outer_squeeze": (0.92, 0.98),
    "right_radius": (26.0, 36.0), "right_shift": (24.0, 31.0), "right_squeeze": (0.7, 0.9),
    "right_from": (0.2, 0.35), "drift": 9.0,
    "chest_semi_axes": (150.0, 105.0), "chest_centre": (-25.0, 10.0),
    "lung_semi_axes": (48.0, 70.0), "lung_centres": ((70.0, 0.0), (-120.0, 5.0)),
    "intensity": {"air": 0.02, "lung": 0.08, "body": 0.42, "fat": 0.85, "blood": 1.0,
                  "muscle": 0.36},
    "papillary": (2, 4), "papillary_width": 3.2, "noise": 0.05, "bias": 0.2, "blur_mm": 0.9,
    "scale": (180.0, 420.0), "es_frame": (8, 14),
    "demo_field": 0.6,  # small scans see that part of the field
}
DRAWN = ("cavity_radius", "wall", "squeeze", "outer_squeeze", "right_radius", "right_shift",
         "right_squeeze", "right_from")


def heart_grid(rng, size, slices):
    """Draw (shape, voxel_mm).

    Args:
        size: longer in-plane side, px, or None for the challenge's.
        slices: number of slices, or None for the challenge's.
    """
    rows, columns = HEART["in_plane"]
    pixel = rng.uniform(*HEART["voxel_mm"])
    if size is not None:
        shrink = size / columns
        rows, columns = round(rows * shrink), size
        pixel = HEART["demo_field"] * pixel / shrink

    low, high = HEART["slices"]
    count = int(rng.integers(low, high + 1))
    thickness = rng.uniform(*HEART["thickness_mm"])
    if slices is not None:  # fewer and thicker ones cover the same heart
        thickness, count = thickness * count / slices, slices
    return (rows, columns, count), (pixel, pixel, thickness)


def heart_patient(seed, k, size=None, slices=None):
    """Patient k.

    Returns:
        dict of frames {number: (image float32, label uint8)}, both (X, Y, Z), the affine, and the
        number of the frame at the end of systole.
    """
    rng = np.random.default_rng([seed, 3, k])
    shape, voxel_mm = heart_grid(rng, size, slices)
    axes = [(np.arange(n) - (n - 1) / 2) * v for n, v in zip(shape, voxel_mm)]
    drawn = {name: rng.uniform(*HEART[name]) for name in DRAWN}
    drift = rng.normal(0, HEART["drift"], 2)  # the long axis is not quite that of the stack
    body, gain = chest(axes, shape), rng.uniform(*HEART["scale"])
    bias = np.exp(HEART["bias"] * smooth_field(rng, axes, 120))

    frames, es = {}, int(rng.integers(*HEART["es_frame"]))
    for number in (1, es):
        label = chambers(axes, shape, drawn, drift, systole=number == es)
        frames[number] = image_of(rng, axes, voxel_mm, body, label, bias, gain), label
    affine = np.diag([*voxel_mm, 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return {"frames": frames, "es": es, "affine": affine}


def chest(axes, shape):
    """Intensity of the chest around the heart, (X, Y, Z) float32."""
    x, y = np.meshgrid(axes[0], axes[1], indexing="ij")
    value = HEART["intensity"]

    def within(centre, semi_axes):
        return (((x - centre[0]) / semi_axes[0]) ** 2 + ((y - centre[1]) / semi_axes[1]) ** 2) < 1

    under_fat = [side - 14 for side in HEART["chest_semi_axes"]]
    plane = np.where(within(HEART["chest_centre"], HEART["chest_semi_axes"]),
                     value["fat"], value["air"])
    plane = np.where(within(HEART["chest_centre"], under_fat), value["body"], plane)
    for centre in HEART["lung_centres"]:
        plane = np.where(within(centre, HEART["lung_semi_axes"]), value["lung"], plane)
    return np.repeat(plane[..., None], shape[2], 2).astype(np.float32)


def chambers(axes, shape, drawn, drift, systole):
    """Labels (X, Y, Z) uint8: right ventricle, myocardium and left ventricle.

    They are empty below the apex and above the base.
    """
    label = np.zeros(shape, np.uint8)
    squeeze, outer, right = ((drawn["squeeze"], drawn["outer_squeeze"], drawn["right_squeeze"])
                             if systole else (1, 1, 1))
    # The wall is thicker in systole
    wall = (drawn["cavity_radius"] + drawn["wall"]) * outer - drawn["cavity_radius"] * squeeze

    for index in range(1, shape[2] - 1):     # the first and last slice lie outside of the heart
        t = (index - 0.5) / (shape[2] - 2)   # from the apex to the base
        profile = np.sqrt(1 - (1 - t) ** 2)
        x, y = np.meshgrid(axes[0] - drift[0] * (t - 0.5), axes[1] - drift[1] * (t - 0.5),
                           indexing="ij")
        distance = np.hypot(x, y)
        cavity = drawn["cavity_radius"] * squeeze * profile

        plane = label[..., index]
        start = drawn["right_from"]
        if t > start:
            radius = drawn["right_radius"] * right * np.sqrt((t - start) / (1 - start))
            plane[np.hypot(x + drawn["right_shift"], 0.8 * y) < radius] = RIGHT
        plane[distance < cavity + wall] = WALL
        plane[distance < cavity] = CAVITY
    return label


def image_of(rng, axes, voxel_mm, body, label, bias, gain):
    """The scan of a label (X, Y, Z): blurred in plane, with coil bias and Rician noise.

    Returns:
        (X, Y, Z) whole numbers in float32.
    """
    value = HEART["intensity"]
    blood = (label == RIGHT) | (label == CAVITY)
    clean = np.where(blood, value["blood"], np.where(label == WALL, value["muscle"], body))

    # Papillary muscles lie in the cavity, and are labelled as cavity
    core = ndimage.binary_erosion(label == CAVITY, np.ones((3, 3, 1)), iterations=2)
    for centre in rng.permutation(np.argwhere(core))[:rng.integers(*HEART["papillary"])]:
        muscle = gaussian_blob(axes, centre, HEART["papillary_width"]) * (label == CAVITY)
        clean = clean - (value["blood"] - value["muscle"]) * muscle

    sigma = [HEART["blur_mm"] / v for v in voxel_mm[:2]] + [0]
    clean = ndimage.gaussian_filter(clean, sigma, truncate=2.5) * bias
    real, imaginary = (HEART["noise"] * rng.standard_normal(clean.shape, dtype=np.float32)
                       for _ in range(2))
    return np.rint(gain * np.hypot(clean + real, imaginary)).astype(np.float32)


def write_acdc(folder, patient):
    """Write two frames with their labels, and which they are.

    The challenge's 4-D series of all frames is left out.
    """
    for number, (image, label) in patient["frames"].items():
        stem = f"{folder.name.split('.')[0]}_frame{number:02d}"
        save_nifti(folder / f"{stem}.nii.gz", image, patient["affine"])
        save_nifti(folder / f"{stem}_gt.nii.gz", label, patient["affine"])
    (folder / "Info.cfg").write_text(f"ED: 1\nES: {patient['es']}\n")
