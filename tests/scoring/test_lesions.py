"""The table of lesions: by hand, then against a loop over SciPy's components."""

import math

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.distance import cdist

from mask_folders import box, read, run_evaluate, save, write_folders
from scoring.lesions import COLUMNS, lesion_rows


def volume(*voxels, shape=(9, 9, 3)):
    mask = np.zeros(shape, bool)
    for voxel in voxels:
        mask[voxel] = True
    return mask


def test_rows_by_hand():
    target = volume((slice(1, 3), 1, 1), (7, 7, 1))
    pred = volume((2, slice(1, 3), 1), (5, 1, 0))
    found, missed, true, false = lesion_rows(pred, target, (2, 1, 10))

    assert [(row["mask"], row["lesion"]) for row in (found, missed, true, false)] == [
        ("reference", 1), ("reference", 2), ("prediction", 1), ("prediction", 2)]
    assert (found["voxels"], found["volume_ml"], found["overlap"]) == (2, 0.04, 0.5)
    assert [row["found"] for row in (found, missed, true, false)] == [True, False, True, False]
    # (5, 1, 0) to (2, 1, 1): 3 voxels of 2 mm and one of 10; (7, 7, 1) to (2, 2, 1)
    assert (found["distance_mm"], true["distance_mm"]) == (0, 0)
    assert false["distance_mm"] == pytest.approx(math.hypot(6, 10))
    assert missed["distance_mm"] == pytest.approx(math.hypot(10, 5))
    assert [found[axis] for axis in ("x_mm", "y_mm", "z_mm")] == [3, 1, 10]


def test_lesions_that_touch_without_a_common_voxel_are_a_voxel_apart():
    row = lesion_rows(volume((2, 2, 1)), volume((2, 3, 1)), (1, 1.5, 1))[1]
    assert (row["found"], row["distance_mm"]) == (False, 1.5)


def test_a_lesion_inside_another_is_at_no_distance():
    inner = lesion_rows(volume((4, 4, 1)), volume((slice(1, 8),) * 2), (1, 1, 1))[1]
    assert (inner["found"], inner["overlap"], inner["distance_mm"]) == (True, 1, 0)


@pytest.mark.parametrize("pred, target, count", [(0, 0, 0), (1, 0, 1), (0, 1, 1)])
def test_without_a_lesion_in_the_other_mask_there_is_no_distance(pred, target, count):
    rows = lesion_rows(*(volume(*[(1, 1, 1)] * lesions) for lesions in (pred, target)), (1, 1, 1))
    assert [math.isnan(row["distance_mm"]) for row in rows] == [True] * count
    assert [row["found"] for row in rows] == [False] * count


def test_centroids_are_in_the_scans_coordinates():
    affine = np.array([[0, -2, 0, 100], [1, 0, 0, -50], [0, 0, 3, 7], [0, 0, 0, 1.0]])
    row = lesion_rows(volume((4, slice(2, 5), 1)), volume(), (1, 2, 3), affine)[0]
    assert [row[axis] for axis in ("x_mm", "y_mm", "z_mm")] == [100 - 2 * 3, 4 - 50, 3 + 7]


def test_rows_equal_a_loop_over_scipys_components():
    rng = np.random.default_rng(0)
    for density in rng.choice([0.01, 0.05, 0.2], 40):
        pred, target = (rng.random((10, 9, 5)) < density for _ in range(2))
        spacing = rng.uniform(0.5, 3, 3)
        expected = []
        for mask, other in ((target, pred), (pred, target)):
            labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
            for k in range(1, count + 1):
                places = np.argwhere(labels == k) * spacing
                nearest = cdist(places, np.argwhere(other) * spacing).min(initial=np.inf)
                expected.append((len(places), (other[labels == k]).mean(),
                                 math.nan if np.isinf(nearest) else nearest, *places.mean(axis=0)))
        rows = lesion_rows(pred, target, spacing)
        assert all(tuple(row) == COLUMNS for row in rows)
        found = [(row["voxels"], row["overlap"], row["distance_mm"], row["x_mm"], row["y_mm"],
                  row["z_mm"]) for row in rows]
        np.testing.assert_allclose(found, expected, atol=1e-9)


# --- evaluate.py --lesions ---

def test_the_table_has_every_lesion_of_every_scan_and_label(tmp_path):
    write_folders(tmp_path)
    save(tmp_path / "masks/p2.nii.gz",
         box((1, 1, 1), (3, 3, 3)) + box((9, 1, 1), (10, 2, 2)) + box((6, 6, 1), (8, 8, 2), 2))
    table = tmp_path / "lesions.csv"
    run_evaluate(tmp_path, "--labels", "1", "2", "--lesions", str(table))

    rows = read(table)
    assert list(rows[0]) == ["subject", "label", *COLUMNS]
    assert [(row["subject"], row["label"], row["mask"], row["found"]) for row in rows] == [
        ("p1", "1", "reference", "True"), ("p1", "1", "prediction", "True"),
        ("p2", "1", "reference", "True"), ("p2", "1", "prediction", "True"),
        ("p2", "1", "prediction", "False"), ("p2", "2", "prediction", "False")]
    assert float(rows[0]["volume_ml"]) == pytest.approx(48 * 6 / 1000)
    assert float(rows[4]["distance_mm"]) == 7.0 and rows[5]["distance_mm"] == "nan"


def test_a_table_without_lesions_has_a_header(tmp_path):
    for name in ("masks", "refs"):
        save(tmp_path / name / "p.nii.gz", box((0, 0, 0), (0, 0, 0)))
    run_evaluate(tmp_path, "--lesions", str(tmp_path / "lesions.csv"))
    assert (tmp_path / "lesions.csv").read_text().split(",")[:2] == ["subject", "label"]
