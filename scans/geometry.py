"""Where the voxels of a NIfTI lie, in mm: what its header says, and the same said of a mask.

A header can say it twice (qform and sform) and gives the voxel size a third time (pixdim). The rule
here, also in docs/data.md, gives the place that SimpleITK finds wherever that is not ambiguous:

- a form of code 0 says nothing, and a form whose axes all have length 1 says nothing about size;
- the size is that of the forms that say one, else pixdim's (ISLES 2018 has it there alone);
- two forms that place a scan differently must agree on size and orientation: then no number here
  depends on which of them is taken;
- without any form x runs to the left and y to the back, as in SimpleITK;
- axes that are not at right angles are refused: distances along them would not be in mm.

Needs no nibabel, which training does without.
"""

import hashlib
from itertools import permutations
from typing import NamedTuple

import numpy as np

from scans.folder import Geometry
from utils import UserError

UNIT = 1e-3                      # within which an axis has length 1
OBLIQUE = 1e-2                   # cosine between two axes that still counts as a right angle
UNITS_MM = {1: 1000.0, 3: 0.001}  # units of length in xyzt_units -> mm; others are mm
CORRECT = "Correct the header."
RESAMPLE = "Resample it to an orthogonal grid."

# Who writes an image, in its header: masks that these programs wrote are recognised by it.
OURS = "boundaryloss, by "
BY_PREPROCESS, BY_MAIN, BY_PREDICT = f"{OURS}preprocess.py", f"{OURS}main.py", f"{OURS}predict.py"

# A turn by half a degree or so about each axis of the world. At 45 degrees two axes of a scan are
# equally near to one of the world; seen from here one of them is nearer, however it was rounded.
TURN = np.array([[0.99995, -0.0078, 0.0058], [0.0078, 0.99993, -0.0091], [-0.0057, 0.0091, 0.9999]])


class Place(NamedTuple):
    """Where an image lies.

    Attributes:
        affines: of the image as stored, voxel -> mm (RAS+); the first is the one that counts, the
            others are what other programs may take for it.
        size_from_pixdim: only pixdim gives the voxel size.
    """

    affines: tuple
    size_from_pixdim: bool


def find_place(path, header, shape):
    """The Place of an image by its header.

    Args:
        path: the file, for errors.
        header: nibabel's Nifti1Header or Nifti2Header, as stored.
        shape: of the volume, three numbers.

    Raises:
        UserError: no axes at right angles, or two forms that contradict each other.
    """
    factor = UNITS_MM.get(int(header["xyzt_units"]) & 7, 1.0)
    pixdim = np.array(header["pixdim"][:4], np.float64)
    sizes = pixdim[1:] * factor
    forms = {}
    if header["sform_code"] > 0:
        rows = [header[f"srow_{axis}"] for axis in "xyz"]
        forms["sform"] = np.vstack([rows, [0, 0, 0, 1]]).astype(np.float64)
        forms["sform"][:3] *= factor
    if header["qform_code"] > 0:
        forms["qform"] = qform_affine(header, pixdim, factor)

    forms = drop_unusable(path, forms)
    from_pixdim = not forms
    if "sform" in forms and has_unit_axes(forms["sform"], factor):
        from_pixdim = "qform" not in forms
        forms["sform"][:3, :3] *= pixdim[1:]
        forms = dict(sorted(forms.items()))  # a qform says more
    elif set(forms) == {"sform", "qform"} and np.allclose(forms["qform"][:3, :3],
                                                          factor * np.eye(3), atol=UNIT):
        del forms["qform"]  # a unit matrix: what an image has that was never placed
    from_pixdim &= not np.allclose(pixdim[1:], 1, atol=UNIT)

    affines = list(forms.values()) or [np.diag([-sizes[0], -sizes[1], sizes[2], 1.0])]
    refuse_contradiction(path, affines, sizes, factor, shape)
    return Place((*affines, *map(at_right_angles, affines)), bool(from_pixdim))


def qform_affine(header, pixdim, factor):
    """The affine of a header's quaternion, as the NIfTI standard gives it."""
    b, c, d = (float(header[f"quatern_{name}"]) for name in "bcd")
    square = b * b + c * c + d * d
    if square > 1 - 4e-7:  # half a turn, up to the rounding of float32
        b, c, d = np.array([b, c, d]) / np.sqrt(square)
        square = 1.0
    a = np.sqrt(1 - square)

    rotation = np.array([
        [a*a + b*b - c*c - d*d, 2*b*c - 2*a*d, 2*b*d + 2*a*c],
        [2*b*c + 2*a*d, a*a + c*c - b*b - d*d, 2*c*d - 2*a*b],
        [2*b*d - 2*a*c, 2*c*d + 2*a*b, a*a + d*d - b*b - c*c]])
    affine = np.eye(4)
    affine[:3, :3] = rotation * pixdim[1:] * [1, 1, -1 if pixdim[0] < 0 else 1]
    affine[:3, 3] = [header[f"qoffset_{axis}"] for axis in "xyz"]
    affine[:3] *= factor
    return affine


def drop_unusable(path, forms):
    """The forms of finite numbers and right angles; UserError if there are only others."""
    reasons = {name: fault(affine) for name, affine in forms.items()}
    usable = {name: affine for name, affine in forms.items() if not reasons[name]}
    if forms and not usable:
        raise UserError(path, *next(iter(reasons.values())))
    return usable


def fault(affine):
    """(expected, found, what to do) of an affine that says no place; None of a sound one."""
    if not np.isfinite(affine).all():
        return "an affine of finite numbers", "NaN or infinite ones", CORRECT
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    axes = affine[:3, :3] / np.where(lengths > 0, lengths, 1)
    if not abs(np.linalg.det(axes)) > 1e-3:
        return "an affine with three independent axes", "fewer", CORRECT

    largest = np.abs(axes.T @ axes - np.eye(3)).max()
    if largest > OBLIQUE:
        return ("axes at right angles", f"{np.degrees(np.arccos(largest)):.1f} degrees between two "
                "of them (a tilted gantry?)", RESAMPLE)
    return None


def has_unit_axes(affine, factor):
    return np.allclose(np.linalg.norm(affine[:3, :3], axis=0), factor, rtol=UNIT, atol=0)


def refuse_contradiction(path, affines, sizes, factor, shape):
    """UserError where forms, or a form and pixdim, say different voxel sizes or orientations."""
    said = [np.linalg.norm(affine[:3, :3], axis=0) for affine in affines]
    if not np.allclose(sizes, factor, rtol=UNIT, atol=0):  # 1 x 1 x 1: never set
        said.append(sizes)
    for other in said[1:]:
        apart = np.abs(other - said[0]) * np.maximum(np.array(shape) - 1, 1)
        if not (apart <= 0.5 * min(said[0])).all():
            raise UserError(path, "one voxel size in the header",
                            f"{in_words(said[0])} and {in_words(other)} mm (sform, qform, pixdim)",
                            CORRECT)
    if len({orientation(affine).tobytes() for affine in affines}) > 1:
        raise UserError(path, "one orientation in the header",
                        "different ones in its qform and its sform", CORRECT)


def in_words(sizes):
    return " x ".join(f"{size:.4g}" for size in sizes)


def at_right_angles(affine):
    """The affine whose axes are the nearest ones at right angles, as ITK writes them."""
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    left, _, right = np.linalg.svd(affine[:3, :3] / lengths)
    result = affine.copy()
    result[:3, :3] = left @ right * lengths
    return result


# Orientation --------------------------------------------------------------------------------------

def orientation(affine):
    """(3, 2) int: for each axis of an image the nearest axis of the world, and 1 or -1 along it.

    It depends on how the axes lie, not on the order in which they are stored.
    """
    matrix = np.array(affine)[:3, :3]
    cosines = TURN @ (matrix / np.linalg.norm(matrix, axis=0))      # rows: world, columns: image
    best = max(permutations(range(3)), key=lambda axes: sum(abs(cosines[axes, range(3)])))
    return np.array([(axis, 1 if cosines[axis, k] > 0 else -1) for k, axis in enumerate(best)])


def to_ras(voxels, turns):
    """An array as stored -> (X, Y, Z) in RAS+; `turns` as `orientation` gives them."""
    return voxels[flips(turns)].transpose(np.argsort(turns[:, 0]))


def from_ras(voxels, turns):
    """(X, Y, Z) in RAS+ -> an array as it is stored."""
    return np.ascontiguousarray(voxels.transpose(turns[:, 0])[flips(turns)])


def flips(turns):
    return tuple(slice(None, None, sign) for sign in turns[:, 1])


def ras_affine(affine, turns, shape):
    """The affine of an array after `to_ras`; `shape`: before."""
    result = np.eye(4)
    result[:3, 3] = affine[:3, 3]
    for k, (axis, sign) in enumerate(turns):
        result[:3, axis] = sign * affine[:3, k]
        if sign < 0:
            result[:3, 3] += affine[:3, k] * (shape[k] - 1)
    return result


# What is written back -----------------------------------------------------------------------------

def read_geometry(header):
    """What a header says about the place of its image, field by field."""
    def numbers(*names):
        return [float(number) for name in names
                for number in np.nan_to_num(np.atleast_1d(header[name]), posinf=0, neginf=0)]

    return Geometry(
        pixdim=numbers("pixdim")[:4], units=int(header["xyzt_units"]) & 7,
        qform_code=int(header["qform_code"]), sform_code=int(header["sform_code"]),
        quaternion=numbers("quatern_b", "quatern_c", "quatern_d"),
        offset=numbers("qoffset_x", "qoffset_y", "qoffset_z"),
        rows=[numbers(f"srow_{axis}") for axis in "xyz"])


def image_like(voxels, geometry, description):
    """A NIfTI image of these voxels that lies where the scan lies, for every reader.

    Args:
        voxels: array as stored, of the scan's shape; a fourth axis may follow.
        geometry: a folder.Geometry, the scan's own.
        description: who writes it, of at most 79 letters.
    """
    import nibabel as nib

    header = nib.Nifti1Header()
    header.set_data_shape(voxels.shape)
    header.set_data_dtype(voxels.dtype)
    header["pixdim"][:4] = geometry.pixdim
    header["xyzt_units"] = geometry.units
    header["qform_code"], header["sform_code"] = geometry.qform_code, geometry.sform_code
    for name, value in zip("bcd", geometry.quaternion, strict=True):
        header[f"quatern_{name}"] = value
    for axis, offset, row in zip("xyz", geometry.offset, geometry.rows, strict=True):
        header[f"qoffset_{axis}"], header[f"srow_{axis}"] = offset, row
    header["descrip"], header["db_name"] = description.encode(), checksum_of(voxels)
    return nib.Nifti1Image(voxels, None, header)


def checksum_of(voxels):
    """16 bytes of text that tell whether voxels are as they were written, in a field of the header
    that NIfTI leaves free."""
    return hashlib.sha256(np.ascontiguousarray(voxels).tobytes()).hexdigest()[:16].encode()
