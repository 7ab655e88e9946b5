"""Grids and NIfTI files of the synthetic scans."""

import nibabel as nib
import numpy as np

DESCRIP = b"phantom"
DEMO = {"size": 96, "slices": {"wmh": 12, "isles": 8},
        "slab_mm": 144.0}  # what the slices of a wmh scan cover together


def scan_axes(shape, voxel_mm, signs, head_z_mm):
    """Head-fixed mm of the voxel centres along each array axis: (X,), (Y,), (Z,)."""
    axes = [sign * (np.arange(n) - (n - 1) / 2) * v
            for n, v, sign in zip(shape, voxel_mm, signs)]
    axes[2] = axes[2] - head_z_mm
    return axes


def scan_affine(rng, shape, voxel_mm, signs, tilt_degrees):
    """Voxel index -> world mm (RAS+), 4x4; the origin lies within 10 mm of the scan's centre."""
    c, s = np.cos(np.radians(tilt_degrees)), np.sin(np.radians(tilt_degrees))
    rotation = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag(np.multiply(signs, voxel_mm))
    affine[:3, 3] = rng.uniform(-10, 10, 3) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def save_nifti(path, array, affine):
    """Write one NIfTI marked as phantom, both its orientation codes "scanner", lengths in mm."""
    image = nib.Nifti1Image(array, affine)
    image.header["descrip"] = DESCRIP
    image.header.set_xyzt_units("mm", "sec")
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)


def save_sized_nifti(path, array, voxel_mm):
    """Write one NIfTI marked as phantom whose only true geometry is its voxel size, in pixdim.

    So the files of ISLES 2018 are: their sform, "aligned", is the identity, and there is no qform.
    """
    image = nib.Nifti1Image(array, np.eye(4))
    image.header["descrip"] = DESCRIP
    image.header.set_xyzt_units("mm", "sec")
    image.set_qform(None, code=0)
    image.set_sform(np.eye(4), code=2)
    image.header["pixdim"][1:4] = voxel_mm
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
