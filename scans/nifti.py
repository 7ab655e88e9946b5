"""Reading a NIfTI volume, and the guards against damaged and hostile files."""

import errno
import os
import zlib

import nibabel as nib
import numpy as np

from utils import UserError

MAX_VOXELS = 2 ** 28      # 1 GiB as float32: refuse a damaged header before memory is taken
MAX_BYTES = 2 ** 31      # of voxels as they are stored: a small .nii.gz may hold wide numbers
UNREADABLE = (OSError, ValueError, EOFError, zlib.error)  # what nibabel and gzip raise on damaged files
PADDING = 2 ** 26         # bytes that a file may have before the first voxel, and after the last: hundreds, usually none
SPACING_MM = (0.01, 100)  # what a voxel of a scan can measure along an axis
WHOLE = 1e-3              # labels stored with a scale factor come out as 0.99999998 where 1 is meant
NOT_OPENED = {            # why a file cannot be opened: what was found, what to do
    errno.EACCES: ("no permission to read it", "Change its permissions."),
    errno.EPERM: ("no permission to read it", "Change its permissions."),
    errno.EISDIR: ("a folder", "Put the image itself in its place."),
    errno.ENOENT: ("a link to nothing", "Put the image itself in its place."),
    errno.ELOOP: ("a link that leads back to itself", "Put the image itself in its place.")}


def read_volume(path):
    """A 3-D image in RAS+ orientation.

    Returns:
        (voxels, image): array (X, Y, Z) with scl_slope and scl_inter applied, and the reoriented nibabel image.

    Raises:
        UserError: not a readable NIfTI, not 3-D, empty, implausible spacing, or too large to be a scan.
    """
    again = "Fetch the file again."
    check_opens(path)
    try:
        image = nib.load(path)
        shape, spacing = image.shape, [*nib.affines.voxel_sizes(image.affine), *stored_spacing(image, path)]
    except (*UNREADABLE, nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError) as error:
        size = os.path.getsize(path)
        found = "an empty file" if size == 0 else f"{size} bytes in another format ({type(error).__name__})"
        raise UserError(path, "a NIfTI image", found, again) from None
    shape = shape[:3] if len(shape) > 3 and set(shape[3:]) == {1} else shape
    if len(shape) != 3 or not all(size > 0 for size in shape):
        raise UserError(path, "a 3-D image", f"shape {shape}", "Give the 3-D image of this modality.")
    if int(np.prod(shape, dtype=object)) > MAX_VOXELS:
        raise UserError(path, f"at most {MAX_VOXELS} voxels", f"shape {shape}", f"The header is damaged. {again}")
    if (size := int(np.prod(shape, dtype=object)) * image.get_data_dtype().itemsize) > MAX_BYTES:
        raise UserError(path, f"at most {MAX_BYTES} bytes of voxels", f"{size}", "Store it in a narrower type.")
    if not 0 <= image.dataobj.offset <= PADDING:
        raise UserError(path, f"voxels that begin within {PADDING} bytes", f"{image.dataobj.offset}",
                        f"The header is damaged. {again}")
    if implausible(spacing):
        raise UserError(path, f"voxels of {SPACING_MM[0]} to {SPACING_MM[1]} mm",
                        f"{', '.join(f'{size:g}' for size in implausible(spacing))} mm", "Correct the header's spacing.")
    try:
        image = nib.as_closest_canonical(whole(image, path) if str(path).endswith(".gz") else image)
        # a flipped image is a view that walks backwards; in order, each pass over it is several times as fast
        return np.asfortranarray(np.asanyarray(image.dataobj).reshape(image.shape[:3])), image
    except nib.orientations.OrientationError:
        raise UserError(path, "an affine with three independent axes", "fewer", "Correct the header.") from None
    except UNREADABLE as error:
        raise UserError(path, "a complete image", f"a truncated or damaged one ({type(error).__name__})", again) from None


def check_opens(path):
    """UserError that says why a file cannot be opened; nibabel calls it no image."""
    try:
        with open(path, "rb"):
            return
    except OSError as error:
        found, do = NOT_OPENED.get(error.errno, (error.strerror or str(error), "Check the file and its disk."))
        raise UserError(path, "a readable file", found, do) from None


def stored_spacing(image, path):
    """The three voxel sizes as the header holds them, mm; nibabel turns 0 into 1 and drops the sign without a word."""
    with nib.openers.ImageOpener(path) as file:
        header = type(image.header).from_fileobj(file, check=False)
    return [float(size) for size in header["pixdim"][1:4]]


def implausible(spacing):
    """Those of the voxel sizes (mm) that no scan has; NaN among them."""
    return [size for size in spacing if not SPACING_MM[0] <= size <= SPACING_MM[1]]


def whole(image, path):
    """The image read from all of its gzip file, whose checksum stands at the end: nibabel stops at the last voxel."""
    size = image.dataobj.offset + int(np.prod(image.shape)) * image.get_data_dtype().itemsize
    with open(path, "rb") as file:  # `read` takes the memory that it is asked for, however small the file is
        packed = file.read(min(os.path.getsize(path), size + 2 * PADDING))
    return type(image).from_bytes(inflate(packed, size + PADDING)[:size])


def inflate(packed, most):
    """The bytes of a gzip file, its members one after the other, each in one call, during which other threads can run.

    Raises:
        ValueError: there are more than `most`.
        EOFError, zlib.error: it is truncated or damaged, its checksum included.
    """
    parts, left = [], most
    while packed := packed.lstrip(b"\0") if parts else packed:  # zeros may follow a member
        member = zlib.decompressobj(16 + zlib.MAX_WBITS)
        parts.append(member.decompress(packed, left + 1))
        left -= len(parts[-1])
        if left < 0:
            raise ValueError(f"more than {most} bytes")
        if not member.eof:
            raise EOFError("the end is missing")
        packed = member.unused_data
    return b"".join(parts) if len(parts) > 1 else parts[0] if parts else b""


def label_values(voxels):
    """Label values as whole numbers, whatever type or scale factor they were stored with; `check_label` checked them."""
    return voxels if voxels.dtype.kind in "iu" else np.rint(voxels).astype(np.int64)
