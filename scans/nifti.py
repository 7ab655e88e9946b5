"""Reading a NIfTI volume, and the guards against damaged and hostile files."""

import errno
import gzip
import os
import zlib

import nibabel as nib
import numpy as np

from utils import UserError

MAX_VOXELS = 2 ** 28      # 1 GiB as float32: refuse a damaged header before memory is taken
MAX_BYTES = 2 ** 31       # of voxels as they are stored: a small .nii.gz may hold wide numbers
PADDING = 2 ** 26         # bytes before the first voxel, and after the last; usually few or none
CHUNK = 2 ** 18           # bytes unpacked at a time
SPACING_MM = (0.01, 100)  # what a voxel of a scan can measure along an axis
WHOLE = 1e-3              # labels with a scale factor come out as 0.99999998 where 1 is meant
AGAIN = "Fetch the file again."

# What nibabel and gzip raise on damaged files
UNREADABLE = (OSError, ValueError, EOFError, zlib.error)
NOT_NIFTI = (*UNREADABLE, nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError)

# Why a file cannot be opened: what was found, what to do
NOT_OPENED = {
    errno.EACCES: ("no permission to read it", "Change its permissions."),
    errno.EPERM: ("no permission to read it", "Change its permissions."),
    errno.EISDIR: ("a folder", "Put the image itself in its place."),
    errno.ENOENT: ("a link to nothing", "Put the image itself in its place."),
    errno.ELOOP: ("a link that leads back to itself", "Put the image itself in its place.")}


def read_volume(path):
    """A 3-D image in RAS+ orientation.

    Returns:
        (voxels, image): array (X, Y, Z) with scl_slope and scl_inter applied, and the reoriented
        nibabel image.

    Raises:
        UserError: not a readable NIfTI, not 3-D, empty, implausible spacing, or too large to be a
            scan.
    """
    check_opens(path)
    try:
        image = nib.load(path)
        spacing = [*nib.affines.voxel_sizes(image.affine), *stored_spacing(image, path)]
    except NOT_NIFTI as error:
        size = os.path.getsize(path)
        found = f"{size} bytes in another format ({type(error).__name__})"
        raise UserError(path, "a NIfTI image", found if size else "an empty file", AGAIN) from None
    check_header(path, image, spacing)

    try:
        if str(path).endswith(".gz"):
            image = read_to_the_end(image, path)
        image = nib.as_closest_canonical(image)
        voxels = np.asanyarray(image.dataobj).reshape(image.shape[:3])
        # A flipped image is a view that walks backwards; in order, each pass over it is several
        # times as fast.
        return np.asfortranarray(voxels), image
    except nib.orientations.OrientationError:
        raise UserError(path, "an affine with three independent axes", "fewer",
                        "Correct the header.") from None
    except UNREADABLE as error:
        raise UserError(path, "a complete image",
                        f"a truncated or damaged one ({type(error).__name__})", AGAIN) from None


def check_opens(path):
    """Raise UserError that says why a file cannot be opened; nibabel would call it no image."""
    try:
        with open(path, "rb"):
            return
    except OSError as error:
        unknown = (error.strerror or str(error), "Check the file and its disk.")
        found, do = NOT_OPENED.get(error.errno, unknown)
        raise UserError(path, "a readable file", found, do) from None


def check_header(path, image, spacing):
    """Raise UserError unless a header describes a 3-D scan of plausible size, before it is read.

    Args:
        image: as nibabel loads it, voxels unread.
        spacing: voxel sizes from the affine and from the header, mm.
    """
    shape = image.shape
    if len(shape) > 3 and set(shape[3:]) == {1}:
        shape = shape[:3]
    if len(shape) != 3 or not all(size > 0 for size in shape):
        raise UserError(path, "a 3-D image", f"shape {shape}",
                        "Give the 3-D image of this modality.")

    voxels = int(np.prod(shape, dtype=object))  # Python's numbers do not overflow
    if voxels > MAX_VOXELS:
        raise UserError(path, f"at most {MAX_VOXELS} voxels", f"shape {shape}",
                        f"The header is damaged. {AGAIN}")
    size = voxels * image.get_data_dtype().itemsize
    if size > MAX_BYTES:
        raise UserError(path, f"at most {MAX_BYTES} bytes of voxels", f"{size}",
                        "Store it in a narrower type.")
    if not 0 <= image.dataobj.offset <= PADDING:
        raise UserError(path, f"voxels that begin within {PADDING} bytes",
                        f"{image.dataobj.offset}", f"The header is damaged. {AGAIN}")

    low, high = SPACING_MM
    implausible = [size for size in spacing if not low <= size <= high]  # NaN among them
    if implausible:
        raise UserError(path, f"voxels of {low} to {high} mm",
                        f"{', '.join(f'{size:g}' for size in implausible)} mm",
                        "Correct the header's spacing.")


def stored_spacing(image, path):
    """The three voxel sizes as the header holds them, mm.

    nibabel itself turns 0 into 1 and drops the sign without a word.
    """
    with nib.openers.ImageOpener(path) as file:
        header = type(image.header).from_fileobj(file, check=False)
    return [float(size) for size in header["pixdim"][1:4]]


def read_to_the_end(image, path):
    """The same image, read from all of its gzip file.

    The file's checksum stands at its end, while nibabel stops at the last voxel.
    """
    voxels = int(np.prod(image.shape)) * image.get_data_dtype().itemsize
    size = image.dataobj.offset + voxels
    return type(image).from_bytes(gunzip(path, size + PADDING)[:size])


def gunzip(file, most):
    """The content of a gzip file, given as a path or a file object.

    It is read piece by piece: a single read would take the memory that it asks for, however small
    the content is, and a file of zeros unpacks to a thousand times its size.

    Raises:
        ValueError: the content is longer than `most` bytes.
        EOFError, OSError, zlib.error: it is truncated or damaged, its checksum included.
    """
    pieces, left = [], most + 1
    with gzip.open(file) as content:
        while left and (piece := content.read(min(left, CHUNK))):
            pieces.append(piece)
            left -= len(piece)
    if not left:
        raise ValueError(f"more than {most} bytes")
    return b"".join(pieces)


def label_values(voxels):
    """Label values as whole numbers, whatever type or scale factor they were stored with.

    `check_label` has made sure that they are near whole numbers.
    """
    return voxels if voxels.dtype.kind in "iu" else np.rint(voxels).astype(np.int64)
