"""Synthetic scans in the layout of the WMH 2017 challenge."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from scans.phantom.grid import DEMO, save_nifti, scan_affine, scan_axes
from scans.phantom.head import TISSUES, build_head, smooth_field
from scans.phantom.lesions import flair_distractors, wmh_lesions


@dataclass(frozen=True)
class Site:
    """One WMH scanner. Intensities are relative to white matter = 1 unless said otherwise."""

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
    Site(folder="Utrecht", first_id=0, id_step=2,
         shape=(240, 240, 48), voxel_mm=(0.958, 0.958, 3.0), axis_signs=(-1, 1, 1),
         tilt_degrees=0.0, head_z_mm=0.0, blur_mm=0.6, noise=0.045, bias=0.10,
         scale={"FLAIR": 420.0, "T1": 310.0},
         contrast={"FLAIR": (0, 1.25, 0.14, 0.28, 1.22, 1.0, 1.13),
                   "T1": (0, 1.5, 0.15, 0.32, 0.72, 1.0, 0.84)}),
    Site(folder="Singapore", first_id=50, id_step=1,
         shape=(232, 256, 48), voxel_mm=(1.0, 1.0, 3.0), axis_signs=(-1, 1, 1),
         tilt_degrees=7.0, head_z_mm=-4.0, blur_mm=0.75, noise=0.035, bias=0.07,
         scale={"FLAIR": 170.0, "T1": 240.0},
         contrast={"FLAIR": (0, 1.05, 0.10, 0.20, 1.32, 1.0, 1.20),
                   "T1": (0, 1.3, 0.12, 0.25, 0.66, 1.0, 0.80)}),
    Site(folder="Amsterdam/GE3T", first_id=100, id_step=1,
         shape=(132, 256, 83), voxel_mm=(1.2, 0.977, 3.0), axis_signs=(1, 1, 1),
         tilt_degrees=0.0, head_z_mm=30.0, blur_mm=0.85, noise=0.055, bias=0.14,
         scale={"FLAIR": 1150.0, "T1": 2300.0},
         contrast={"FLAIR": (0, 1.45, 0.18, 0.35, 1.16, 1.0, 1.08),
                   "T1": (0, 1.7, 0.18, 0.38, 0.78, 1.0, 0.88)}),
)


def wmh_name(k):
    """Subject k -> (Site, its place in the site, path of its folder below the output folder)."""
    site, place = SITES[k % 3], k // 3
    number = site.first_id + place * site.id_step
    return site, place, Path("training") / site.folder / str(number)


def wmh_grid(site, size, slices):
    """(shape, voxel_mm) of a site.

    They are the site's own, or at demo scale `size` px in plane and `slices` over DEMO["slab_mm"].
    """
    if size is None:
        return site.shape, site.voxel_mm
    shrink = size / max(site.shape[:2])
    shape = (round(site.shape[0] * shrink), round(site.shape[1] * shrink), slices)
    field = np.multiply(site.shape, site.voxel_mm)
    voxel_mm = (float(field[0] / shape[0]), float(field[1] / shape[1]), DEMO["slab_mm"] / slices)
    return shape, voxel_mm


def mr_image(rng, site, modality, tissue, extra, axes, voxel_mm):
    """Blur, bias field, Rician noise and the site's intensity scale.

    Returns:
        (X, Y, Z) whole numbers in float32, as scanners store them.
    """
    levels = zip(TISSUES, site.contrast[modality])
    clean = sum(level * tissue[name] for name, level in levels if level) + extra
    sigma = [site.blur_mm / v for v in voxel_mm[:2]] + [0]
    clean = ndimage.gaussian_filter(np.maximum(clean, 0), sigma, truncate=2.5)
    clean = clean * np.exp(site.bias * smooth_field(rng, axes, 90))

    real, imaginary = (site.noise * rng.standard_normal(clean.shape, dtype=np.float32)
                       for _ in range(2))
    gain = site.scale[modality] * rng.uniform(0.85, 1.15)
    return np.rint(gain * np.hypot(clean + real, imaginary)).astype(np.float32)


def wmh_subject(seed, k, size=None, slices=None):
    """One WMH scan.

    Returns:
        dict of FLAIR, T1 (float32) and label (uint8), all (X, Y, Z), brain (bool) and the affine.
    """
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
    """Write the label and both modalities, before and after bias correction.

    The challenge's orig/ is the scan before bias correction; here both are the same file.
    """
    save_nifti(folder / "wmh.nii.gz", scan["label"], scan["affine"])
    for modality in ("FLAIR", "T1"):
        processed, original = (folder / stage / f"{modality}.nii.gz" for stage in ("pre", "orig"))
        save_nifti(processed, scan[modality], scan["affine"])
        original.parent.mkdir(exist_ok=True)
        try:
            os.link(processed, original)
        except OSError:  # a file system without hard links
            shutil.copyfile(processed, original)
