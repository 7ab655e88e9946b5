"""Synthetic scans in the layout of the WMH 2017 challenge."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from scans.phantom.grid import DEMO, save_nifti, scan_affine, scan_axes
from scans.phantom.head import TISSUES, build_head, flair_distractors, smooth_field, wmh_lesions


@dataclass(frozen=True)
class Site:
    """One WMH scanner. Intensities are relative to white matter = 1 unless said."""
    folder: str             # below training/
    first_id: int           # subject k of the site is first_id + k * id_step
    id_step: int
    shape: tuple            # voxels
    voxel_mm: tuple
    axis_signs: tuple       # direction of the array axes in RAS+ world space: (-1, 1, 1) is LAS
    tilt_degrees: float     # rotation of the scan about the world's x axis
    head_z_mm: float        # centre of the cerebrum above the centre of the field of view
    blur_mm: float          # in-plane standard deviation of the point-spread function
    noise: float            # standard deviation of the Rician noise
    bias: float             # standard deviation of the logarithm of the multiplicative bias field
    scale: dict             # modality -> intensity of white matter in the file's units
    contrast: dict          # modality -> intensity of each of TISSUES


SITES = (
    Site("Utrecht", 0, 2, (240, 240, 48), (0.958, 0.958, 3.0), (-1, 1, 1), 0.0, 0.0, 0.6, 0.045, 0.10,
         {"FLAIR": 420.0, "T1": 310.0},
         {"FLAIR": (0, 1.25, 0.14, 0.28, 1.22, 1.0, 1.13), "T1": (0, 1.5, 0.15, 0.32, 0.72, 1.0, 0.84)}),
    Site("Singapore", 50, 1, (232, 256, 48), (1.0, 1.0, 3.0), (-1, 1, 1), 7.0, -4.0, 0.75, 0.035, 0.07,
         {"FLAIR": 170.0, "T1": 240.0},
         {"FLAIR": (0, 1.05, 0.10, 0.20, 1.32, 1.0, 1.20), "T1": (0, 1.3, 0.12, 0.25, 0.66, 1.0, 0.80)}),
    Site("Amsterdam/GE3T", 100, 1, (132, 256, 83), (1.2, 0.977, 3.0), (1, 1, 1), 0.0, 30.0, 0.85, 0.055, 0.14,
         {"FLAIR": 1150.0, "T1": 2300.0},
         {"FLAIR": (0, 1.45, 0.18, 0.35, 1.16, 1.0, 1.08), "T1": (0, 1.7, 0.18, 0.38, 0.78, 1.0, 0.88)}),
)


def wmh_name(k):
    """Subject k of the whole set -> (Site, its place in the site, path of its folder below the output folder)."""
    site, place = SITES[k % 3], k // 3
    return site, place, Path("training") / site.folder / str(site.first_id + place * site.id_step)


def wmh_grid(site, size, slices):
    """(shape, voxel_mm) of a site: its own, or at demo scale `size` px in plane, `slices` over DEMO["slab_mm"]."""
    if size is None:
        return site.shape, site.voxel_mm
    shrink = size / max(site.shape[:2])
    shape = (round(site.shape[0] * shrink), round(site.shape[1] * shrink), slices)
    field = np.multiply(site.shape, site.voxel_mm)
    return shape, (float(field[0] / shape[0]), float(field[1] / shape[1]), DEMO["slab_mm"] / slices)


def mr_image(rng, site, modality, tissue, extra, axes, voxel_mm):
    """Blur, bias field, Rician noise and the site's intensity scale; whole numbers in float32, as scanners store."""
    clean = sum(level * tissue[name] for name, level in zip(TISSUES, site.contrast[modality]) if level) + extra
    clean = ndimage.gaussian_filter(np.maximum(clean, 0), [site.blur_mm / v for v in voxel_mm[:2]] + [0], truncate=2.5)
    clean = clean * np.exp(site.bias * smooth_field(rng, axes, 90))
    real, imaginary = (site.noise * rng.standard_normal(clean.shape, dtype=np.float32) for _ in range(2))
    gain = site.scale[modality] * rng.uniform(0.85, 1.15)
    return np.rint(gain * np.hypot(clean + real, imaginary)).astype(np.float32)


def wmh_subject(seed, k, size=None, slices=None):
    """One WMH scan: dict of FLAIR, T1 (float32) and label (uint8), all (X, Y, Z), brain (bool) and the affine."""
    site, place, _ = wmh_name(k)
    rng = np.random.default_rng([seed, 1, k % 3, place])
    shape, voxel_mm = wmh_grid(site, size, slices)
    head_z_mm = site.head_z_mm if size is None else 0.0  # the demo slab is cut to the head
    axes = scan_axes(shape, voxel_mm, site.axis_signs, head_z_mm)
    affine = scan_affine(rng, shape, voxel_mm, site.axis_signs, site.tilt_degrees)
    head = build_head(rng, axes)
    label, flair, t1 = wmh_lesions(rng, head, axes)
    flair += flair_distractors(rng, head, axes) * (label == 0)
    return {"FLAIR": mr_image(rng, site, "FLAIR", head.tissue, flair, axes, voxel_mm),
            "T1": mr_image(rng, site, "T1", head.tissue, t1, axes, voxel_mm),
            "label": label, "brain": head.brain, "affine": affine}


def write_wmh(folder, scan):
    save_nifti(folder / "wmh.nii.gz", scan["label"], scan["affine"])
    for modality in ("FLAIR", "T1"):
        processed, original = folder / "pre" / f"{modality}.nii.gz", folder / "orig" / f"{modality}.nii.gz"
        save_nifti(processed, scan[modality], scan["affine"])
        original.parent.mkdir(exist_ok=True)
        try:
            os.link(processed, original)  # the challenge's orig/ is the scan before bias correction; here the same file
        except OSError:  # a file system without hard links
            shutil.copyfile(processed, original)
