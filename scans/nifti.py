"""Reading a NIfTI volume, and the guards against damaged, misleading and hostile files.

Every program reads its images here. What a file is, its content says and not its name: packed or
not, NIfTI-1 or -2, of either byte order, in one file or in two (.hdr, .img).
"""

import bz2
import errno
import gzip
import os
import re
import zlib
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
from nibabel.volumeutils import apply_read_scaling

from distance import WHOLE
from scans.formats import LENGTH, no_nifti, refuse_other_numbers
from scans.geometry import (
    UNITS_MM,
    find_place,
    orientation,
    ras_affine,
    read_geometry,
    to_ras,
)
from utils import UserError

MAX_VOXELS = 2 ** 28      # 1 GiB as float32: refuse a damaged header before memory is taken
MAX_BYTES = 2 ** 31       # of voxels as they are stored: a small .nii.gz may hold wide numbers
PADDING = 2 ** 26         # bytes before the first voxel, and after the last; usually few or none
CHUNK = 2 ** 18           # bytes unpacked at a time
SPACING_MM = (0.01, 100)  # what a voxel of a scan can measure along an axis
AGAIN = "Fetch the file again."

# What nibabel and gzip raise on damaged files
UNREADABLE = (OSError, ValueError, EOFError, zlib.error)

# Why a file cannot be opened: what was found, what to do
NOT_OPENED = {
    errno.EACCES: ("no permission to read it", "Change its permissions."),
    errno.EPERM: ("no permission to read it", "Change its permissions."),
    errno.EISDIR: ("a folder", "Put the image itself in its place."),
    errno.ENOENT: ("a link to nothing", "Put the image itself in its place."),
    errno.ELOOP: ("a link that leads back to itself", "Put the image itself in its place.")}


class Image(NamedTuple):
    """What is known of an image beside its voxels.

    Attributes:
        shape, affine: of the voxels in RAS+, mm.
        places: all affines that its header may stand for, in RAS+; the first is `affine`.
        stored_shape, stored_affine: of the voxels as they are stored.
        turns: from the one to the other, see geometry.orientation.
        geometry: a folder.Geometry, the header's own words.
        size_from_pixdim: only pixdim gives the voxel size.
    """

    shape: tuple
    affine: np.ndarray
    places: tuple
    stored_shape: tuple
    stored_affine: np.ndarray
    turns: np.ndarray
    geometry: object
    size_from_pixdim: bool


class Stored(NamedTuple):
    """A header as it is stored, and the file with the voxels."""

    header: nib.Nifti1Header
    voxels: Path
    single: bool  # are both in one file?
    flag: bytes   # the four behind the header: 0, or extensions follow


def read_volume(path):
    """A 3-D image in RAS+ orientation.

    Returns:
        (voxels, image): array (X, Y, Z) with scl_slope and scl_inter applied, and an Image.

    Raises:
        UserError: not a readable NIfTI, not 3-D, empty, no real numbers, implausible spacing, a
            header that contradicts itself, or too large to be a scan.
    """
    stored = read_header(path)
    image = describe(path, stored)
    try:
        voxels = read_voxels(path, stored, image.stored_shape)
    except UNREADABLE as error:
        raise UserError(path, "a complete image",
                        f"a truncated or damaged one ({type(error).__name__})", AGAIN) from None
    # A flipped image is a view that walks backwards; in order, each pass over it is several times
    # as fast.
    return np.asfortranarray(to_ras(voxels, image.turns)), image


def read_image(path):
    """The Image of a file, voxels unread; raises as `read_volume`."""
    return describe(path, read_header(path))


def described_by(path):
    """The header's description of a NIfTI, bytes; raises as `read_volume`."""
    return bytes(read_header(path).header["descrip"].item()).strip(b"\0 ")


# The header ---------------------------------------------------------------------------------------

def read_header(path):
    """The Stored header of a NIfTI of any kind; UserError for anything else."""
    head, voxels = files_of(path)
    for file in {head, voxels}:
        check_opens(file)
    try:
        with unpacked(head) as content:
            start = content.read(LENGTH)
    except UNREADABLE as error:
        raise UserError(head, "a complete image",
                        f"a truncated or damaged one ({type(error).__name__})", AGAIN) from None

    for kind, length, magic in ((nib.Nifti1Header, 348, start[344:348]),
                                (nib.Nifti2Header, 540, start[4:8])):
        for order in ("<", ">"):
            size = int.from_bytes(start[:4], "little" if order == "<" else "big")
            if size == length == len(start[:length]) and re.fullmatch(rb"n[i+][12]\x00", magic):
                header = kind(start[:length], order, check=False)
                single = magic[1:2] == b"+" or head == voxels
                return Stored(header, head if single else voxels, single,
                              start[length:length + 4])
    raise no_nifti(head, start, os.path.getsize(head))


def files_of(path):
    """(file of the header, file of the voxels): the same, but for pairs .hdr and .img."""
    path = Path(path)
    match = re.fullmatch(r"(?is)(.*\.)(hdr|img)(\.gz|\.bz2)?", path.name)
    if not match:
        return path, path
    stem, kind, packed = match.groups(default="")
    other = {"hdr": "img", "img": "hdr"}[kind.lower()]
    partner = path.with_name(stem + (other.upper() if kind.isupper() else other) + packed)
    if not partner.exists():
        if kind.lower() == "hdr":
            return path, path  # the whole image may be in it
        raise UserError(path, f"its header beside it, {partner.name}", "no such file",
                        "Put both files in one folder.")
    return (path, partner) if kind.lower() == "hdr" else (partner, path)


def check_opens(path):
    """Raise UserError that says why a file cannot be opened."""
    try:
        with open(path, "rb"):
            return
    except OSError as error:
        unknown = (error.strerror or str(error), "Check the file and its disk.")
        found, do = NOT_OPENED.get(error.errno, unknown)
        if error.errno == errno.ENOENT and not os.path.islink(path):
            found, do = "no such file", "Check the path."
        raise UserError(path, "a readable file", found, do) from None


def describe(path, stored):
    """The Image of a header.

    Raises:
        UserError: it is not that of a 3-D scan of plausible size, or says no place.
    """
    header = stored.header
    shape = check_header(path, header)
    place = find_place(path, header, shape)
    check_spacing(path, nib.affines.voxel_sizes(place.affines[0]))

    turns = orientation(place.affines[0])
    ras = [ras_affine(affine, turns, shape) for affine in place.affines]
    ras_shape = tuple(int(shape[k]) for k in np.argsort(turns[:, 0]))
    return Image(ras_shape, ras[0], tuple(ras), shape, place.affines[0], turns,
                 read_geometry(header), place.size_from_pixdim)


def check_header(path, header):
    """Refuse a header that is not that of a 3-D scan of plausible size, before voxels are read.

    Returns:
        the shape, three numbers.
    """
    count = int(header["dim"][0])
    shape = tuple(map(int, header["dim"][1:1 + min(max(count, 0), 7)]))
    if len(shape) > 3 and set(shape[3:]) <= {0, 1}:
        shape = shape[:3]
    if len(shape) != 3 or not all(size > 0 for size in shape):
        raise UserError(path, "a 3-D image", f"shape {shape}",
                        "Give the 3-D image of this modality.")

    voxels = int(np.prod(shape, dtype=object))  # Python's numbers do not overflow
    if voxels > MAX_VOXELS:
        raise UserError(path, f"at most {MAX_VOXELS} voxels", f"shape {shape}",
                        f"Crop or resample it; if it is smaller, the header is damaged: {AGAIN}")
    size = voxels * type_of(header).itemsize
    if size > MAX_BYTES:
        raise UserError(path, f"at most {MAX_BYTES} bytes of voxels", f"{size}",
                        "Store it in a narrower type.")
    refuse_other_numbers(path, type_of(header))
    check_spacing(path, header["pixdim"][1:4], header)
    return shape


def type_of(header):
    """The type of the voxels as stored; that of no numbers where the header's code is unknown."""
    try:
        return header.get_data_dtype()
    except (KeyError, nib.spatialimages.HeaderDataError):
        return np.dtype("V1")


def check_spacing(path, spacing, header=None):
    """UserError unless voxels have a plausible size: not 0, negative, NaN, or of metres.

    Args:
        spacing: sizes in mm, or pixdim in the units of its `header`.
    """
    low, high = SPACING_MM
    factor = UNITS_MM.get(int(header["xyzt_units"]) & 7, 1) if header is not None else 1
    implausible = [size for size in spacing if not low <= size * factor <= high]  # NaN among them
    if implausible:
        sizes = ", ".join(f"{size * factor:g}" for size in implausible)
        unit = "" if factor == 1 else " (its xyzt_units are not mm)"
        raise UserError(path, f"voxels of {low} to {high} mm", f"{sizes} mm{unit}",
                        "Correct the header's spacing.")


# The voxels ---------------------------------------------------------------------------------------

def read_voxels(path, stored, shape):
    """The voxels of an image as stored, as an array of this shape with its scale factor applied.

    Raises:
        UserError: the header does not say where they begin, or they are not all there.
        OSError, ValueError, EOFError, zlib.error: the file is damaged.
    """
    header, count = stored.header, int(np.prod(shape))
    kind = type_of(header)
    size, most = count * kind.itemsize, count * kind.itemsize + 2 * PADDING

    if packing(stored.voxels) is open:  # only what is needed is read
        start = first_voxel(path, stored, os.path.getsize(stored.voxels), size)
        voxels = np.fromfile(stored.voxels, kind, count, offset=start)
    else:
        # All of it: a checksum is at its end.
        content = bytearray(gunzip(stored.voxels, most, packing(stored.voxels)))
        start = first_voxel(path, stored, len(content), size)
        voxels = np.frombuffer(content, kind, count, start)

    voxels = voxels.astype(kind.newbyteorder("="), copy=False).reshape(shape, order="F")
    return scaled(voxels, header)


def first_voxel(path, stored, length, size):
    """The byte at which the voxels begin.

    Headers do not always say it: vox_offset may be 0, or lie within the header. Where the rest of
    the file is as long as the voxels there is no doubt; SimpleITK begins behind the header then. A
    number that is no place at all speaks of a damaged header: then SimpleITK must be right.

    Args:
        length: of the unpacked file, bytes.
        size: of the voxels, bytes.
    """
    head = int(stored.header.sizeof_hdr) if stored.single else 0
    least = head + 4 if head else 0  # four bytes say whether extensions follow
    said = float(stored.header["vox_offset"])
    said = np.floor(said) if np.isfinite(said) else -1

    if least <= said <= length - size:
        if said > PADDING:
            raise UserError(path, f"voxels that begin within {PADDING} bytes", f"{said:.9g}",
                            f"The header is damaged. {AGAIN}")
        return int(said)
    if said >= least or length < head + size:
        raise UserError(path, f"{size} bytes of voxels from byte {max(said, head):.9g} on",
                        f"a truncated or damaged image of {length} bytes",
                        f"{AGAIN} If it is whole, its header's vox_offset is wrong.")
    if length == head + size or (said >= 0 and length == least + size and not any(stored.flag)):
        return length - size
    raise UserError(path, f"voxels from byte {least} on", "vox_offset "
                    f"{stored.header['vox_offset']:.9g} and {length - head - size} bytes too many",
                    "Write it again with the program that made it, or correct vox_offset.")


def scaled(voxels, header):
    """Stored numbers with scl_slope and scl_inter applied; a slope of 0, NaN or inf means none."""
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    inter = inter if np.isfinite(inter) else 0.0
    if not np.isfinite(slope) or slope == 0 or (slope, inter) == (1, 0):
        return voxels
    return apply_read_scaling(voxels, slope, inter)


def packing(path):
    """What opens a file by what it begins with: gzip.open, bz2.open or open."""
    with open(path, "rb") as file:
        start = file.read(3)
    return gzip.open if start[:2] == b"\x1f\x8b" else bz2.open if start == b"BZh" else open


def unpacked(path):
    """A file opened for reading its content, unpacked if it is packed."""
    return packing(path)(path, "rb")


def gunzip(file, most, opened=gzip.open):
    """The content of a gzip file, given as a path or a file object.

    It is read piece by piece: a single read would take the memory that it asks for, however small
    the content is, and a file of zeros unpacks to a thousand times its size.

    Raises:
        ValueError: the content is longer than `most` bytes.
        EOFError, OSError, zlib.error: it is truncated or damaged, its checksum included.
    """
    pieces, left = [], most + 1
    with opened(file) as content:
        while left and (piece := content.read(min(left, CHUNK))):
            pieces.append(piece)
            left -= len(piece)
    if not left:
        raise ValueError(f"more than {most} bytes")
    return b"".join(pieces)


def are_whole(values):
    """Bool array: which are whole numbers, but for what a scale factor leaves?"""
    return abs(values - np.rint(values)) <= WHOLE


def label_values(voxels):
    """Label values as whole numbers, whatever type or scale factor they were stored with.

    `check_label` has made sure that they are near whole numbers.
    """
    return voxels if voxels.dtype.kind in "iu" else np.rint(voxels).astype(np.int64)
