"""Synthetic scans in the layout of the WMH 2017 challenge."""

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from scans.phantom.grid import DEMO, save_nifti, scan_affine, scan_axes
from scans.phantom.head import TISSUES, build_head, smooth_field
from scans.phantom.lesions import flair_distractors, wmh_lesions


@dataclass(frozen=True)
class Site:
    """One WMH scanner. Intensities are relative to white matter = 1 unless said otherwise."""

    folder: str             # below training/ and test/
    ids: tuple              # of the training scans
    test_ids: tuple
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
    swapped: int = 0        # so many training scans have columns where the others have rows


SITES = (
    Site(folder="Utrecht",
         ids=(0, 2, 4, 6, 8, 11, 17, 19, 21, 23, 25, 27, 29, 31, 33, 35, 37, 39, 41, 49),
         test_ids=(1, 3, 5, 7, 9, 10, 12, 13, 14, 15, 16, 18, 20, 22, 24, 26, 28, 30, 32, 34, 36,
                   38, 40, 42, 43, 44, 45, 46, 47, 48),
         shape=(240, 240, 48), voxel_mm=(0.958, 0.958, 3.0), axis_signs=(-1, 1, 1),
         tilt_degrees=0.0, head_z_mm=0.0, blur_mm=0.6, noise=0.045, bias=0.10,
         scale={"FLAIR": 420.0, "T1": 310.0},
         contrast={"FLAIR": (0, 1.25, 0.14, 0.28, 1.22, 1.0, 1.13),
                   "T1": (0, 1.5, 0.15, 0.32, 0.72, 1.0, 0.84)}),
    Site(folder="Singapore", ids=tuple(range(50, 70)), test_ids=tuple(range(70, 100)), swapped=2,
         shape=(232, 256, 48), voxel_mm=(1.0, 1.0, 3.0), axis_signs=(-1, 1, 1),
         tilt_degrees=7.0, head_z_mm=-4.0, blur_mm=0.75, noise=0.035, bias=0.07,
         scale={"FLAIR": 170.0, "T1": 240.0},
         contrast={"FLAIR": (0, 1.05, 0.10, 0.20, 1.32, 1.0, 1.20),
                   "T1": (0, 1.3, 0.12, 0.25, 0.66, 1.0, 0.80)}),
    Site(folder="Amsterdam/GE3T",
         ids=(*range(100, 111), *range(112, 117), 126, 132, 137, 144),
         test_ids=(111, *range(117, 126), *range(127, 132), *range(133, 137), *range(138, 144),
                   *range(145, 150)),
         shape=(132, 256, 83), voxel_mm=(1.2, 0.977, 3.0), axis_signs=(1, 1, 1),
         tilt_degrees=0.0, head_z_mm=30.0, blur_mm=0.85, noise=0.055, bias=0.14,
         scale={"FLAIR": 1150.0, "T1": 2300.0},
         contrast={"FLAIR": (0, 1.45, 0.18, 0.35, 1.16, 1.0, 1.08),
                   "T1": (0, 1.7, 0.18, 0.38, 0.78, 1.0, 0.88)}),
)


# Two scanners have test scans only. Their own grids are not public; here they have that of GE3T.
TEST_SITES = (
    *SITES,
    replace(SITES[2], folder="Amsterdam/GE1T5", ids=(), test_ids=tuple(range(150, 160)),
            blur_mm=1.0, noise=0.07),
    replace(SITES[2], folder="Amsterdam/Philips_VU .PETMR_01.", ids=(),
            test_ids=tuple(range(160, 170)), blur_mm=0.7, bias=0.18))
TEST_PLACES = [(site, place) for place in range(30) for site in TEST_SITES
               if place < len(site.test_ids)]


def wmh_name(k):
    """Training scan k -> (Site, its place in the site, path of its folder below the output folder).

    A site that is asked for more scans than the challenge's twenty goes on with its test numbers.
    """
    site, place = SITES[k % 3], k // 3
    return site, place, Path("training") / site.folder / str((*site.ids, *site.test_ids)[place])


def wmh_test_name(k):
    """The same of test scan k: the first of each site, then the second, and so on."""
    site, place = TEST_PLACES[k]
    return site, place, Path("test") / site.folder / str(site.test_ids[place])


def wmh_grid(site, size, slices, swapped=False):
    """(shape, voxel_mm) of a site.

    They are the site's own, or at demo scale `size` px in plane and `slices` over DEMO["slab_mm"].
    """
    rows, columns, count = site.shape
    full = (columns, rows, count) if swapped else site.shape
    if size is None:
        return full, site.voxel_mm
    shrink = size / max(full[:2])
    shape = (round(full[0] * shrink), round(full[1] * shrink), slices)
    field = np.multiply(full, site.voxel_mm)
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


def wmh_subject(seed, k, size=None, slices=None, test=False):
    """One WMH scan, of the training or the test set.

    Returns:
        dict of FLAIR, T1 (float32) and label (uint8), all (X, Y, Z), brain (bool) and the affine.
    """
    site, place, _ = wmh_test_name(k) if test else wmh_name(k)
    rng = np.random.default_rng([seed, 4 if test else 1, TEST_SITES.index(site), place])
    shape, voxel_mm = wmh_grid(site, size, slices, place < site.swapped and not test)
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

    The challenge's orig/ is the scan before bias correction; here both are the same file. Its
    labels are stored as floating-point numbers.
    """
    save_nifti(folder / "wmh.nii.gz", scan["label"].astype(np.float32), scan["affine"])
    for modality in ("FLAIR", "T1"):
        processed, original = (folder / stage / f"{modality}.nii.gz" for stage in ("pre", "orig"))
        save_nifti(processed, scan[modality], scan["affine"])
        original.parent.mkdir(exist_ok=True)
        try:
            os.link(processed, original)
        except OSError:  # a file system without hard links
            shutil.copyfile(processed, original)
