"""Reading a NIfTI: whole gzip files, headers that mislead, and what is no NIfTI."""

import bz2
import contextlib
import gzip
import io
import math
import struct
import tracemalloc
import zlib

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from scans.nifti import gunzip, read_volume
from utils import UserError

CONTENT = bytes(range(256)) * 40


@pytest.mark.parametrize("parts", [[b"abc"], [b"abc", b"", b"defg"],
                                   [bytes(100_000), bytes(range(256)) * 500], [bytes(3_000_000)]])
@pytest.mark.parametrize("after", [b"", bytes(700)])
def test_all_members_of_a_gzip_file_are_read_and_zeros_may_follow(parts, after):
    packed = b"".join(map(gzip.compress, parts)) + after
    content = gunzip(io.BytesIO(packed), sum(map(len, parts)))
    assert content == b"".join(parts) == gzip.decompress(packed)


@pytest.mark.parametrize("change, error", [
    (lambda packed: packed[:-1], EOFError),
    (lambda packed: packed + b"more", gzip.BadGzipFile),
    (lambda packed: packed[:-8] + bytes(4) + packed[-4:], gzip.BadGzipFile),
    (lambda packed: packed[:10] + b"\xff" + packed[11:], zlib.error),
], ids=["no end", "something else behind", "other checksum", "damaged stream"])
def test_a_gzip_file_that_is_not_whole_is_noticed(change, error):
    with pytest.raises(error):
        gunzip(io.BytesIO(change(gzip.compress(CONTENT))), 10**6)


def test_a_gzip_file_may_be_as_long_as_said_and_no_longer():
    packed = gzip.compress(CONTENT)
    assert gunzip(io.BytesIO(packed), len(CONTENT)) == CONTENT
    with pytest.raises(ValueError, match="more than 10239 bytes"):
        gunzip(io.BytesIO(packed), len(CONTENT) - 1)


@pytest.mark.parametrize("content, most", [(bytes(50_000_000), 1000), (b"abc", 2**31)],
                         ids=["long content", "high bound"])
def test_memory_is_taken_neither_beyond_the_bound_nor_the_content(content, most):
    packed = io.BytesIO(gzip.compress(content))
    refused = pytest.raises(ValueError, match="more than 1000 bytes")
    tracemalloc.start()
    with refused if len(content) > most else contextlib.nullcontext():
        gunzip(packed, most)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


# Headers that mislead -----------------------------------------------------------------------------

VOXELS = np.arange(1, 121, dtype=np.int16).reshape(6, 5, 4)
AFFINE = np.array([[1.5, 0, 0, 5], [0, 2, 0, 6], [0, 0, 3, 7], [0, 0, 0, 1]])
OFFSET, SLOPE, INTER = (108, "f"), (112, "f"), (116, "f")  # place and type of a field


def content(kind=nib.Nifti1Image, order="<", changes=(), cut=slice(0, 0)):
    """The bytes of a NIfTI of VOXELS; `cut` are left out, `changes` are ((place, type), value)."""
    header = kind.header_class(endianness=order)
    image = kind(VOXELS, AFFINE, header)
    image.set_data_dtype(np.int16)
    whole = bytearray(image.to_bytes())
    for (place, kind_), value in changes:
        struct.pack_into(order + kind_, whole, place, value)
    del whole[cut]
    return bytes(whole)


def read(tmp_path, data, name="scan.nii"):
    (tmp_path / name).write_bytes(data)
    return read_volume(tmp_path / name)[0]


def refusal(tmp_path, data, name="scan.nii"):
    with pytest.raises(UserError) as caught:
        read(tmp_path, data, name)
    message = str(caught.value)
    assert message.startswith(str(tmp_path / name)) and "\n" not in message
    return message


NO_FLAG = slice(348, 352)  # the four bytes between header and voxels, which some programs omit


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("cut", [slice(0, 0), NO_FLAG], ids=["with flag", "without"])
@pytest.mark.parametrize("offset", [0, 1, 100, 348, 351])
def test_an_impossible_vox_offset_is_told_by_the_files_length(tmp_path, offset, cut, packed):
    data = content(changes=[(OFFSET, offset)], cut=cut)
    found = read(tmp_path, gzip.compress(data) if packed else data, "scan.nii.gz")
    np.testing.assert_array_equal(found, VOXELS)


@pytest.mark.parametrize("offset", [0, 348, -1, math.nan, math.inf])
def test_voxels_right_behind_the_header_are_read_as_simpleitk_does(tmp_path, offset):
    found = read(tmp_path, content(changes=[(OFFSET, offset)], cut=NO_FLAG))
    np.testing.assert_array_equal(found, itk_voxels(tmp_path / "scan.nii"))


def itk_voxels(path):
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))).transpose()


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("offset", [0, 100, 540])
def test_the_same_of_nifti_2_in_either_byte_order(tmp_path, order, offset):
    data = content(nib.Nifti2Image, order, [((168, "q"), offset)])
    np.testing.assert_array_equal(read(tmp_path, data), VOXELS)
    data = content(nib.Nifti2Image, order, [((168, "q"), offset)], slice(540, 544))
    np.testing.assert_array_equal(read(tmp_path, data), VOXELS)


@pytest.mark.parametrize("gap", [3, 8, 32])
def test_voxels_further_on_are_read_where_the_header_says(tmp_path, gap):
    data = content(changes=[(OFFSET, 352 + gap + 0.5)])
    data = data[:352] + bytes(gap) + data[352:]
    np.testing.assert_array_equal(read(tmp_path, data), VOXELS)
    np.testing.assert_array_equal(itk_voxels(tmp_path / "scan.nii"), VOXELS)


@pytest.mark.parametrize("offset, more, words", [
    (0, bytes(9), "expected voxels from byte 352 on, found vox_offset 0 and 13 bytes too many"),
    (0, b"", "240 bytes of voxels from byte 348 on, found a truncated or damaged image of 582"),
    (-1, b"", "vox_offset -1 and 4 bytes too many"),
    (math.nan, b"", "vox_offset nan and 4 bytes too many"),
    (1e6, b"", "from byte 1000000 on, found a truncated or damaged image of 592 bytes"),
    (400, b"", "from byte 400 on")], ids=["doubt", "cut", "negative", "NaN", "beyond", "short"])
def test_where_the_length_leaves_a_doubt_the_scan_is_refused(tmp_path, offset, more, words):
    data = content(changes=[(OFFSET, offset)]) + more
    assert words in refusal(tmp_path, data[:-10] if "582" in words else data)


def test_a_flag_of_extensions_without_any_is_a_doubt_too(tmp_path):
    data = content(changes=[(OFFSET, 0), ((348, "B"), 1)])
    assert "vox_offset 0 and 4 bytes too many" in refusal(tmp_path, data)


@pytest.mark.parametrize("magic", [b"n+1\0", b"ni1\0"])
@pytest.mark.parametrize("order", "<>")
def test_either_magic_and_byte_order_in_one_file(tmp_path, magic, order):
    data = content(order=order)
    found = read(tmp_path, data[:344] + magic + data[348:])
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, VOXELS)


@pytest.mark.parametrize("slope, inter, expected", [
    (0, 5, VOXELS), (math.nan, 0, VOXELS), (math.inf, 0, VOXELS), (1, math.nan, VOXELS),
    (2, 5, 2.0 * VOXELS + 5), (2, math.inf, 2.0 * VOXELS), (-1, 0, -1.0 * VOXELS)])
def test_scale_factors_that_are_none_leave_the_voxels(tmp_path, slope, inter, expected):
    np.testing.assert_array_equal(
        read(tmp_path, content(changes=[(SLOPE, slope), (INTER, inter)])), expected)
    if slope:  # SimpleITK adds the intercept to a slope of 0, which the standard excludes
        np.testing.assert_array_equal(itk_voxels(tmp_path / "scan.nii"), expected)


@pytest.mark.parametrize("given", ["scan.img", "scan.hdr", "scan.img.gz", "SCAN.IMG"])
def test_a_pair_is_read_by_either_of_its_names(tmp_path, given):
    nib.save(nib.Nifti1Pair(VOXELS, AFFINE), tmp_path / "scan.img")
    other = given.replace("img", "hdr").replace("IMG", "HDR")
    for source, name in (("scan.hdr", other), ("scan.img", given)):
        data = (tmp_path / source).read_bytes()
        if given != "scan.hdr":
            (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    voxels, image = read_volume(tmp_path / given)
    np.testing.assert_array_equal(voxels, VOXELS)
    np.testing.assert_allclose(image.affine, AFFINE)


def test_an_img_without_its_header_says_so(tmp_path):
    assert "its header beside it, scan.hdr" in refusal(tmp_path, VOXELS.tobytes(), "scan.img")


def test_a_trailing_axis_of_length_0_or_1_is_none(tmp_path):
    for length in (0, 1):
        data = content(changes=[((40, "h"), 4), ((48, "h"), length)])
        np.testing.assert_array_equal(read(tmp_path, data), VOXELS)


# What a file is, its content says -----------------------------------------------------------------

@pytest.mark.parametrize("name, pack", [
    ("scan.nii", gzip.compress), ("scan.nii.gz", bytes), ("scan.nii.gz", bz2.compress),
    ("scan", gzip.compress)])
def test_a_name_may_say_another_packing(tmp_path, name, pack):
    np.testing.assert_array_equal(read(tmp_path, pack(content()), name), VOXELS)


OTHERS = {
    "mgz": (gzip.compress(bytes([0, 0, 0, 1, 0, 0, 1, 0]) + bytes(900)), "FreeSurfer", "mri_conv"),
    "nrrd": (b"NRRD0004\ntype: short\n" + bytes(900), "an NRRD image", "SimpleITK"),
    "mha": (b"ObjectType = Image\nNDims = 3\n", "a MetaImage", "SimpleITK"),
    "dicom": (bytes(128) + b"DICM" + bytes(900), "DICOM", "dcm2niix"),
    "png": (b"\x89PNG\r\n" + bytes(900), "a picture", "SimpleITK"),
    "zip": (b"PK\3\4" + bytes(900), "a zip archive", "Unpack it."),
    "twice": (gzip.compress(gzip.compress(content())), "compressed twice", "Unpack it once."),
    "gifti": (b'<?xml version="1.0"?>\n<!DOCTYPE GIFTI SYSTEM "x.dtd">\n<GIFTI>', "GIFTI", "Give"),
    "xml": (b'<?xml version="1.0"?><Error><Code>AccessDenied', "XML, such as", "Fetch the file"),
    "packed nothing": (gzip.compress(b""), "an empty file", "Fetch the file again."),
    "web page": (b"<!DOCTYPE html><html>404</html>", "a web page", "Fetch the file again."),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS", "git lfs pull"),
    "zeros": (bytes(900), "zeros", "Fetch the file again."),
    "analyze": (content()[:344] + bytes(4) + content()[348:], "Analyze 7.5", "scanner"),
    "text": (b"hello" * 200, "1000 bytes of text", "Convert it"),
    "empty": (b"", "an empty file", "Fetch the file again."),
}


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
@pytest.mark.parametrize("kind", OTHERS)
def test_another_format_is_called_by_its_name(tmp_path, kind, name):
    data, found, do = OTHERS[kind]
    message = refusal(tmp_path, data, name)
    assert "expected a NIfTI image, found " in message and found in message and do in message


@pytest.mark.parametrize("dtype, found", [
    (np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]), "RGB colours"),
    (np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1"), ("A", "u1")]), "RGBA colours"),
    (np.complex64, "complex numbers")], ids=["RGB", "RGBA", "complex"])
def test_colours_and_complex_numbers_are_called_so(tmp_path, dtype, found):
    image = nib.Nifti1Image(np.zeros((3, 4, 5), dtype), np.eye(4))
    assert f"real-valued voxels, found {found}" in refusal(tmp_path, image.to_bytes())


@pytest.mark.parametrize("code", [0, 1, 77])
def test_a_type_that_is_not_known_is_refused(tmp_path, code):
    assert "of an unknown type" in refusal(tmp_path, content(changes=[((70, "h"), code)]))


def test_no_line_of_another_library_is_printed(tmp_path, capfd):
    for changes in ([((80, "f"), -1.5)], [(OFFSET, 5)], [((70, "h"), 77)], [((252, "h"), 99)]):
        with contextlib.suppress(UserError):
            read(tmp_path, content(changes=changes))
    assert capfd.readouterr() == ("", "")


def test_a_file_that_is_not_there_is_no_link(tmp_path):
    with pytest.raises(UserError, match="found no such file. Check the path"):
        read_volume(tmp_path / "none.nii.gz")
