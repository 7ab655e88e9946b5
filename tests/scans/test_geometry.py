"""Where a scan lies: by its header as SimpleITK reads it, and the same of what is written back."""

import gzip
import json
import struct

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from conftest import preprocess, refuses, run
from scans import geometry
from scans.checks import check_grid
from scans.folder import read_meta
from scans.nifti import read_image, read_volume
from scans.resampling import export_predictions, restore_mask
from utils import UserError

SHAPE, PIXDIM = (6, 5, 4), (1.5, 2, 3)
VOXELS = np.arange(120, dtype=np.int16).reshape(SHAPE)


def turned(degrees, axis=0, sizes=PIXDIM, origin=(5, 6, 7)):
    """The affine of a scan turned about an axis of the world."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.roll(np.array([[1, 0, 0], [0, c, -s], [0, s, c]]), (axis, axis), (0, 1))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * sizes, origin
    return affine


def sheared(degrees):
    """A tilted gantry: slices stacked along an axis that is not at right angles to them."""
    affine = np.diag([*PIXDIM, 1.0])
    affine[1, 2] = PIXDIM[2] * np.tan(np.radians(degrees))
    return affine


def write(path, qform=None, sform=None, codes=(0, 0), pixdim=PIXDIM, units=2, voxels=VOXELS):
    """A NIfTI with these two forms, stored with these codes, and this pixdim."""
    image = nib.Nifti1Image(voxels, None)
    image.set_qform(np.eye(4) if qform is None else qform, 1)
    image.set_sform(np.eye(4) if sform is None else sform, 1)
    whole = bytearray(image.to_bytes())
    struct.pack_into("<hh", whole, 252, *codes)
    if pixdim is not None:
        struct.pack_into("<fff", whole, 80, *pixdim)
    whole[123] = units
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(bytes(whole)) if path.name.endswith(".gz") else bytes(whole))
    return path


def itk_affine(path):
    """Voxel -> mm as SimpleITK reads it, in RAS+."""
    return affine_of(SimpleITK.ReadImage(str(path)))


def affine_of(image):
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return np.diag([-1, -1, 1, 1]) @ affine


SHIFTED, OBLIQUE = np.diag([1.0, 1, 1, 1]), turned(30)
SHIFTED[:3, 3] = 5, 6, 7

SAID = {  # header -> the affine that it says
    "pixdim alone: ISLES 2018": ({"codes": (0, 2)}, np.diag([1.5, 2, 3, 1])),
    "a unit matrix with an origin": ({"codes": (0, 2), "sform": SHIFTED},
                                     np.diag([1.5, 2, 3, 1]) + SHIFTED - np.eye(4)),
    "a mirrored unit matrix": ({"codes": (0, 2), "sform": np.diag([-1.0, -1, 1, 1])},
                               np.diag([-1.5, -2, 3, 1])),
    "no form": ({"codes": (0, 0), "qform": OBLIQUE, "sform": OBLIQUE}, np.diag([-1.5, -2, 3, 1])),
    "qform alone": ({"codes": (1, 0), "qform": OBLIQUE, "pixdim": None}, OBLIQUE),
    "qform, unit sform": ({"codes": (1, 2), "qform": OBLIQUE, "sform": SHIFTED, "pixdim": None},
                          OBLIQUE),
    "sform alone": ({"codes": (0, 1), "sform": OBLIQUE}, OBLIQUE),
    "both": ({"codes": (1, 1), "qform": OBLIQUE, "sform": OBLIQUE, "pixdim": None}, OBLIQUE),
    "both unit": ({"codes": (1, 1)}, np.diag([1.5, 2, 3, 1])),
    "a sheared sform beside a qform": ({"codes": (1, 4), "qform": OBLIQUE, "sform": sheared(20),
                                            "pixdim": None}, OBLIQUE),
    "left-handed": ({"codes": (1, 0), "qform": OBLIQUE @ np.diag([-1, 1, 1, 1]), "pixdim": None},
                    OBLIQUE @ np.diag([-1, 1, 1, 1])),
    "micrometres": ({"codes": (0, 1), "sform": np.diag([1000, 1000, 1000, 1]) @ OBLIQUE,
                     "pixdim": (1500, 2000, 3000), "units": 3}, OBLIQUE),
}


@pytest.mark.parametrize("case", SAID)
def test_the_place_is_that_which_simpleitk_reads(tmp_path, case):
    header, expected = SAID[case]
    path = write(tmp_path / "scan.nii", **header)
    np.testing.assert_allclose(read_image(path).stored_affine, expected, atol=1e-5)
    np.testing.assert_allclose(itk_affine(path), expected, atol=1e-4)


def header_of(path):
    return nib.Nifti1Header(path.read_bytes()[:348], check=False)


@pytest.mark.parametrize("codes", [(0, 1), (1, 2)])
def test_a_form_says_the_size_where_pixdim_was_never_set(tmp_path, codes):
    path = write(tmp_path / "scan.nii", codes=codes, sform=OBLIQUE, pixdim=(1, 1, 1))
    np.testing.assert_allclose(read_image(path).stored_affine, OBLIQUE, atol=1e-5)


@pytest.mark.parametrize("header, expected", [
    ({"codes": (0, 2)}, True), ({"codes": (0, 0)}, True),
    ({"codes": (0, 2), "pixdim": (1, 1, 1)}, False), ({"codes": (1, 2)}, False),
    ({"codes": (0, 1), "sform": OBLIQUE}, False)])
def test_it_is_known_where_the_size_stands_in_pixdim_alone(tmp_path, header, expected):
    assert read_image(write(tmp_path / "scan.nii", **header)).size_from_pixdim is expected


@pytest.mark.parametrize("header, words", [
    ({"codes": (0, 1), "sform": OBLIQUE, "pixdim": (1.5, 2, 5)}, "1.5 x 2 x 3 and 1.5 x 2 x 5 mm"),
    ({"codes": (1, 1), "qform": turned(30, sizes=(2, 2, 3)), "sform": OBLIQUE, "pixdim": None},
     "1.5 x 2 x 3 and 2 x 2 x 3 mm"),
    ({"codes": (1, 1), "qform": turned(90), "sform": turned(0), "pixdim": None}, "one orientation"),
    ({"codes": (1, 1), "qform": OBLIQUE @ np.diag([-1, 1, 1, 1]), "sform": OBLIQUE, "pixdim": None},
     "one orientation"),
    ({"codes": (0, 1), "sform": sheared(20), "pixdim": None}, "right angles, found 70.0 degrees"),
    ({"codes": (0, 1), "sform": sheared(2), "pixdim": None}, "found 88.0 degrees between two"),
    ({"codes": (0, 1), "sform": np.diag([1.0, 0, 3, 1])}, "three independent axes"),
    ({"codes": (0, 2), "pixdim": (1.5, -2, 3)}, "voxels of 0.01 to 100 mm, found -2 mm"),
    ({"codes": (0, 1), "sform": OBLIQUE, "units": 3}, "0.0015, 0.002, 0.003 mm (its xyzt_units"),
], ids=["sizes", "sizes of qform", "turned", "mirrored", "tilt 20", "tilt 2", "flat",
        "negative", "units"])
def test_a_header_that_contradicts_itself_is_refused_in_words(tmp_path, header, words):
    path = write(tmp_path / "scan.nii", **header)
    with pytest.raises(UserError) as caught:
        read_volume(path)
    assert words in str(caught.value) and str(caught.value).startswith(str(path))


def test_an_sform_of_nan_is_refused_unless_there_is_a_qform(tmp_path):
    for codes in ((0, 1), (1, 1)):
        path = write(tmp_path / "scan.nii", qform=OBLIQUE, sform=OBLIQUE, codes=codes, pixdim=None)
        whole = bytearray(path.read_bytes())
        struct.pack_into("<f", whole, 280, np.nan)
        path.write_bytes(whole)
        if codes == (1, 1):
            np.testing.assert_allclose(read_image(path).stored_affine, OBLIQUE, atol=1e-5)
        else:
            with pytest.raises(UserError, match="an affine of finite numbers"):
                read_image(path)


def test_forms_that_differ_in_place_alone_fit_an_image_at_either(tmp_path):
    moved = turned(4)
    scan = read_image(write(tmp_path / "scan.nii", qform=turned(0), sform=moved, codes=(1, 2),
                            pixdim=None))
    for affine in (turned(0), moved):
        one = read_image(write(tmp_path / "one.nii", sform=affine, codes=(0, 1)))
        check_grid("one.nii", one, scan, "the scan")
    far = turned(0, origin=(9, 6, 7))
    elsewhere = read_image(write(tmp_path / "far.nii", sform=far, codes=(0, 1)))
    with pytest.raises(UserError, match="the same place as the scan"):
        check_grid("far.nii", elsewhere, scan, "the scan")


# Orientation --------------------------------------------------------------------------------------

ORDERS = [(0, 1, 2), (2, 0, 1), (1, 0, 2)]


@pytest.mark.parametrize("degrees", [0, 17, 30, 44, 45, 46, 60, 90, 135, 180, 225, 270])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_orientation_depends_on_the_place_and_not_on_the_order_stored(degrees, axis):
    affine, found = turned(degrees, axis), []
    for order in ORDERS:
        for signs in ((1, 1, 1), (-1, 1, -1)):
            stored = affine.copy()
            stored[:3, :3] = affine[:3, list(order)] * signs
            turns = geometry.orientation(stored)
            assert sorted(turns[:, 0]) == [0, 1, 2]
            found.append(geometry.ras_affine(stored, turns, SHAPE)[:3, :3])
    np.testing.assert_allclose(found, np.broadcast_to(found[0], (6, 3, 3)), atol=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_orientation_at_a_tie_survives_rounding(seed):
    rng = np.random.default_rng(seed)
    affine = turned(45, seed % 3)
    rounded = affine.copy()
    rounded[:3, :3] += rng.uniform(-1e-3, 1e-3, (3, 3))
    np.testing.assert_array_equal(geometry.orientation(affine), geometry.orientation(rounded))


@pytest.mark.parametrize("affine", [turned(20), turned(90, 1), turned(180, 2),
                                    turned(100) @ np.diag([-1, 1, 1, 1])])
def test_orientation_is_nibabels_where_there_is_no_tie(affine):
    turns = geometry.orientation(affine)
    np.testing.assert_array_equal(turns, nib.io_orientation(affine))
    image = nib.as_closest_canonical(nib.Nifti1Image(VOXELS, affine))
    np.testing.assert_array_equal(geometry.to_ras(VOXELS, turns), image.dataobj)
    np.testing.assert_allclose(geometry.ras_affine(affine, turns, SHAPE), image.affine)
    np.testing.assert_array_equal(geometry.from_ras(geometry.to_ras(VOXELS, turns), turns), VOXELS)


# Headers rewritten by ITK -------------------------------------------------------------------------

def rewritten(path, out):
    """The same mask written by ITK."""
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(path)), str(out))
    return out


@pytest.mark.parametrize("skew", [0, 1e-4, 1e-3])
@pytest.mark.parametrize("degrees", [0, 20, 45])
def test_a_mask_that_itk_wrote_for_a_scan_is_on_its_grid(tmp_path, skew, degrees):
    rng = np.random.default_rng(0)
    affine = turned(degrees, sizes=(0.45, 0.45, 6), origin=(-110, -120, -40))
    affine[:3, :3] += rng.uniform(-skew, skew, (3, 3)) * (0.45, 0.45, 6)
    mask = np.zeros((400, 400, 6), np.uint8)
    mask[100:200, 50:80, 2:4] = 1
    # SimpleITK needs a qform beside an sform that is not orthonormal
    scan = write(tmp_path / "refs/a.nii.gz", qform=affine, sform=affine, codes=(1, 1), pixdim=None,
                 voxels=mask)
    (tmp_path / "masks").mkdir()
    rewritten(scan, tmp_path / "masks/a.nii.gz")
    result = run("evaluate.py", "--predictions", tmp_path / "masks", "--references",
                 tmp_path / "refs", "--csv", tmp_path / "out.csv")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out.csv").read_text().splitlines()[1].startswith("a,1,1.0,0.0,0.0")


def test_a_header_made_orthonormal_is_on_the_same_grid(tmp_path):
    """The qform of an affine that is 1e-3 off; the corners are 0.32 mm away, voxels of 0.45."""
    skew = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]]) * 1e-3
    affine = turned(0, sizes=(0.45, 0.45, 6))
    affine[:3, :3] = (np.eye(3) + np.triu(skew)) @ affine[:3, :3]
    voxels = np.zeros((1000, 1000, 2), np.uint8)
    scan = read_image(write(tmp_path / "a.nii", sform=affine, codes=(0, 1), voxels=voxels,
                            pixdim=(0.45, 0.45, 6)))
    mask = read_image(write(tmp_path / "b.nii", qform=affine, codes=(1, 0), pixdim=None,
                            voxels=voxels))
    assert np.abs(mask.affine - scan.affine).max() * 999 > 0.5 * 0.45 / 2
    check_grid("b.nii", mask, scan, "the scan")


def test_a_mask_elsewhere_is_refused_with_what_helps(tmp_path):
    write(tmp_path / "refs/a.nii", sform=turned(0), codes=(0, 1), voxels=VOXELS % 2)
    write(tmp_path / "masks/a.nii", sform=turned(0, origin=(9, 6, 7)), codes=(0, 1),
          voxels=VOXELS % 2)
    result = run("evaluate.py", "--predictions", tmp_path / "masks", "--references",
                 tmp_path / "refs")
    refuses(result, "corners 4.00 mm apart", "give it the reference's header")


# What is written back -----------------------------------------------------------------------------

HEADERS = {name: header for name, (header, _) in SAID.items()} | {
    "two places": {"codes": (1, 2), "qform": turned(0), "sform": turned(4), "pixdim": None},
    "LPS": {"codes": (1, 1), "qform": turned(180, 2), "sform": turned(180, 2), "pixdim": None}}


@pytest.mark.parametrize("case", HEADERS)
def test_a_mask_repeats_the_scans_geometry_byte_for_byte(tmp_path, case):
    scan = write(tmp_path / "scan.nii", **HEADERS[case])
    voxels, image = read_volume(scan)
    slices = np.moveaxis(voxels, 2, 0)
    mask = restore_mask(slices, image.stored_affine, image.stored_shape, image.geometry, "me")
    (tmp_path / "mask.nii").write_bytes(mask.to_bytes())

    before, after = header_of(scan), header_of(tmp_path / "mask.nii")
    for field in ("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x",
                  "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z", "xyzt_units"):
        np.testing.assert_array_equal(after[field], before[field], err_msg=field)
    np.testing.assert_array_equal(after["pixdim"][:4], before["pixdim"][:4])
    there, here = (SimpleITK.ReadImage(str(path)) for path in (scan, tmp_path / "mask.nii"))
    for what in ("GetOrigin", "GetDirection", "GetSpacing", "GetSize"):
        assert getattr(here, what)() == getattr(there, what)()
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(here),
                                  SimpleITK.GetArrayFromImage(there))


def test_without_the_scans_header_both_forms_say_the_affine(tmp_path):
    """As in data folders that an earlier version wrote."""
    image = restore_mask(np.zeros((4, 6, 5), np.uint8), OBLIQUE, SHAPE)
    nib.save(image, tmp_path / "mask.nii")
    np.testing.assert_allclose(itk_affine(tmp_path / "mask.nii"), OBLIQUE, atol=1e-5)


@pytest.fixture
def isles(tmp_path):
    """Three scans in the WMH layout whose headers are as those of ISLES 2018."""
    rng = np.random.default_rng(0)
    for number in range(3):
        label = np.zeros((20, 24, 5), np.uint8)
        label[5:11, 8:13, 1:3] = 1
        for name in ("pre/FLAIR.nii.gz", "pre/T1.nii.gz", "wmh.nii.gz"):
            voxels = label if name == "wmh.nii.gz" else rng.normal(
                100, 8, label.shape).astype(np.float32) + 50 * label
            write(tmp_path / f"raw/s{number}" / name, codes=(0, 2), pixdim=(0.8, 0.9, 5),
                  voxels=voxels)
    return tmp_path / "raw"


def test_a_data_set_with_sizes_in_pixdim_alone_is_measured_by_them(isles, tmp_path):
    result = preprocess(isles, tmp_path / "data", "--val", 1)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("note: 9 of 9 images have a unit matrix or none") == 1
    meta = read_meta(tmp_path / "data", "s0")
    assert meta.spacing_mm == pytest.approx([0.8 * 20 / 32, 0.9 * 24 / 32, 5])
    np.testing.assert_allclose(meta.affine, np.diag([0.8, 0.9, 5, 1]))

    reference = SimpleITK.ReadImage(str(tmp_path / "data/references/s0.nii.gz"))
    scan = SimpleITK.ReadImage(str(isles / "s0/wmh.nii.gz"))
    assert reference.GetSpacing() == scan.GetSpacing() == pytest.approx((0.8, 0.9, 5))
    assert reference.GetOrigin() == scan.GetOrigin()
    assert reference.GetDirection() == scan.GetDirection()


def test_a_runs_masks_lie_where_simpleitk_sees_the_scan(isles, tmp_path):
    assert preprocess(isles, tmp_path / "data", "--val", 1).returncode == 0
    export_predictions({"s0": np.ones((5, 32, 32), np.uint8)}, tmp_path / "data", tmp_path / "out")
    mask = SimpleITK.ReadImage(str(tmp_path / "out/s0.nii.gz"))
    scan = SimpleITK.ReadImage(str(isles / "s0/wmh.nii.gz"))
    for what in ("GetOrigin", "GetDirection", "GetSpacing", "GetSize"):
        assert getattr(mask, what)() == getattr(scan, what)()


def test_data_folders_of_earlier_versions_are_converted_again(isles, tmp_path):
    assert preprocess(isles, tmp_path / "data", "--val", 1).returncode == 0
    path = tmp_path / "data/subjects/s0/meta.json"
    before = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in before.items()
                                if name != "geometry"} | {"spacing_mm": [1, 1, 1]}))
    assert preprocess(isles, tmp_path / "data", "--val", 1).returncode == 0
    assert json.loads(path.read_text()) == before


def test_evaluate_measures_such_masks_in_mm_and_ml(isles, tmp_path):
    moved = np.zeros((20, 24, 5), np.uint8)
    moved[5:11, 8:13, 2:4] = 1  # by one slice of 5 mm
    (tmp_path / "masks").mkdir()
    for number in range(3):
        write(tmp_path / f"masks/s{number}.nii.gz", codes=(0, 2), pixdim=(0.8, 0.9, 5),
              voxels=moved)
    result = run("evaluate.py", "--predictions", tmp_path / "masks", "--references", isles,
                 "--csv", tmp_path / "out.csv", "--check")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("note: 6 of 6 images") == 1
    header, row = (line.split(",") for line in (tmp_path / "out.csv").read_text().split()[:2])
    score = dict(zip(header, row, strict=True))
    assert float(score["hd"]) == 5
    assert float(score["reference_ml"]) == pytest.approx(60 * 0.8 * 0.9 * 5 / 1000)
