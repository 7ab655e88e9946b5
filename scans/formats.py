"""What a file is that is not a NIfTI, in words, and what helps."""

import re

from utils import UserError

FETCH = "Fetch the file again."
CONVERT = "Convert it to NIfTI (.nii.gz), for instance with SimpleITK."
GREYSCALE = "Give an image with one number per voxel."

KINDS = (  # how a file begins, what it is, what helps
    (rb"\x00\x00\x00\x01\x00\x00", "a FreeSurfer image (.mgz, .mgh)",
     "Convert it: mri_convert IN OUT.nii.gz."),
    (rb"NRRD000", "an NRRD image", CONVERT),
    (rb"\s*(ObjectType|NDims)\s*=", "a MetaImage (.mha, .mhd)", CONVERT),
    (rb"(?s).{128}DICM", "a DICOM file", "Convert its series: dcm2niix FOLDER."),
    (rb"(CDF[\x01\x02]|\x89HDF)", "a MINC or HDF5 file", "Convert it: mnc2nii IN OUT.nii."),
    (rb"(\x89PNG|\xff\xd8\xff|GIF8|II\*\x00|MM\x00\*)", "a picture (PNG, JPEG, TIFF, ...)",
     CONVERT),
    (rb"PK\x03\x04", "a zip archive", "Unpack it."),
    (rb"7z\xbc\xaf", "a 7z archive", "Unpack it."),
    (rb"\xfd7zXZ", "an xz archive", "Unpack it."),
    (rb"\x28\xb5\x2f\xfd", "a zstd archive", "Unpack it."),
    (rb"(\x1f\x8b|BZh)", "a file compressed twice", "Unpack it once."),
    (rb"(?s).{257}ustar", "a tar archive", "Unpack it."),
    (rb"(?is)\s*<\?xml.*<gifti", "a surface (GIFTI), not an image", "Give the image."),
    (rb"(?i)\s*<(!doctype|html)", "a web page", FETCH),
    (rb"(?i)\s*<\?xml", "XML, such as a server's error", FETCH),
    (rb"version https://git-lfs", "a pointer of Git LFS", "Fetch the image itself: git lfs pull."),
    (rb"(?s)(\x5c\x01\x00\x00|\x00\x00\x01\x5c).{340}(?!n[i+]1\x00)",
     "an Analyze 7.5 header, which does not say which side is left",
     "Convert the scan to NIfTI from what the scanner wrote."),
    (rb"%PDF", "a PDF document", FETCH),
    (rb"\x00{16}", "nothing but zeros at its beginning", FETCH))
LENGTH = 544  # bytes of the beginning that all of them, and a NIfTI header, need


def no_nifti(path, start, size):
    """The UserError for a file that is not a NIfTI.

    Args:
        start: its first LENGTH bytes, unpacked if it is packed.
        size: of the file, bytes.
    """
    if not size or not start:
        return UserError(path, "a NIfTI image", "an empty file", FETCH)
    if known := kind_of(start):
        return UserError(path, "a NIfTI image", *known)
    text = " of text" if start.isascii() and b"\0" not in start else ""
    return UserError(path, "a NIfTI image", f"{size} bytes{text} in another format",
                     "Convert it to NIfTI; if it was one, fetch the file again.")


def kind_of(start):
    """(what it is, what helps) of a file that begins so; None if it is none of KINDS."""
    return next(((kind, do) for pattern, kind, do in KINDS if re.match(pattern, start)), None)


def number_kind(dtype):
    """What the voxels of an image are, None if they are real numbers."""
    if dtype.names:
        return f"{''.join(dtype.names)} colours"
    return {"c": "complex numbers", "V": "voxels of an unknown type"}.get(dtype.kind)


def refuse_other_numbers(path, dtype):
    """UserError unless voxels of this type are real numbers."""
    if found := number_kind(dtype):
        raise UserError(path, "real-valued voxels", found, GREYSCALE)
