"""The slice browser's contours, pictures and choice of slices."""

import base64
import io
import re

import numpy as np
import pytest
from matplotlib.image import imread

from reporting.page import scores, slices
from run_folders import square, write_set
from scoring import runs
from scoring.cases import validation_cases


def corners(path):
    """The closed polygons of a path, in half pixels: a list of int arrays (N, 2)."""
    found = []
    for x, y, steps in re.findall(r"M(-?\d+) (-?\d+)l([^z]*)z", path):
        steps = np.array(steps.split(), int).reshape(-1, 2)
        found.append(np.vstack([[int(x), int(y)], [int(x), int(y)] + np.cumsum(steps, 0)]))
    return found


def area(polygon):
    """Area of a polygon in pixels, by the shoelace formula."""
    x, y = polygon.T / 2
    return abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def mask(*pixels, shape=(6, 8)):
    made = np.zeros(shape, bool)
    made[tuple(np.transpose(pixels))] = True
    return made


def test_the_contour_of_a_pixel_is_a_diamond_around_its_centre():
    polygon, = corners(slices.contour_path(mask((2, 3))))
    found = {tuple(corner) for corner in polygon}
    assert found == {(6, 5), (7, 4), (8, 5), (7, 6)}  # centre (3.5, 2.5) in pixels


def test_straight_sides_are_one_step_and_corners_are_cut():
    polygon, = corners(slices.contour_path(square(1, 2, 4, size=8)))
    assert len(polygon) == 8  # four sides and four corners
    assert area(polygon) == 4 * 4 - 4 * 0.125 - 4 * 0 and polygon.min() >= 2 and polygon.max() <= 12


def test_contours_at_the_edge_of_the_image_are_closed_and_stay_inside():
    polygon, = corners(slices.contour_path(square(0, 0, 8, size=8)))
    assert polygon.min() == 0 and polygon.max() == 16


def test_parts_and_holes_each_have_a_contour():
    ring = square(0, 0, 5, size=8) & ~square(2, 2, 1, size=8)
    outer, inner = sorted(map(area, corners(slices.contour_path(ring))), reverse=True)
    assert outer == 24.5 and inner == 0.5
    assert len(corners(slices.contour_path(mask((0, 0), (3, 3))))) == 2


def test_an_empty_mask_has_no_contour():
    assert slices.contour_path(mask((0, 0)) & False) == ""


def test_pictures_hold_the_grey_levels_they_were_given():
    grey = np.add.outer(np.arange(40), np.arange(60)).astype(np.uint8) * 2
    uri = slices.picture(grey)
    kind, data = re.fullmatch(r"data:image/(webp|png);base64,(.+)", uri).groups()
    read = imread(io.BytesIO(base64.b64decode(data)), format=kind)
    read = read[..., 0] * (255 if read.dtype.kind == "f" else 1)
    assert read.shape == grey.shape and np.abs(read - grey.astype(float)).max() < 8


def test_a_close_up_is_a_square_in_mm_around_the_lesion():
    lesion = square(10, 4, 6, size=24)  # rows 10 to 15, columns 4 to 9
    # pixels of 2 by 5 mm: x from 8 to 20, y from 50 to 80
    assert slices.close_up(lesion, (2, 5)) == [14 - 27, 65 - 27, 54, 54]
    assert slices.close_up(lesion, (1, 1)) == [7 - 24, 13 - 24, 48, 48]  # not closer than that
    assert slices.close_up(lesion & False, (1, 1)) is None


def test_slices_with_a_lesion_are_shown_and_without_any_the_middle_one():
    truth, found = np.zeros((5, 4, 4), bool), np.zeros((5, 4, 4), bool)
    assert slices.informative(truth, [found]) == [2]
    truth[1, 0, 0] = found[4, 3, 3] = True
    assert slices.informative(truth, [found]) == [1, 4]


@pytest.fixture
def results(tmp_path):
    none = np.zeros((24, 24), bool)
    scans = {"a": [square(4, 4, side) for side in (2, 6, 4)],
             "b": [square(8, 8, 8), none, square(8, 8, 6)]}
    return runs.load_sets([write_set(tmp_path, scans=scans)], None)[0]


def test_a_scan_begins_at_its_largest_lesion_and_leaves_empty_slices_out(results):
    view = slices.browser(results, scores.scan_scores(results))
    found = {scan["scores"]["subject"]: scan for scan in view["scans"]}
    assert [part["index"] for part in found["a"]["slices"]] == [0, 1, 2] and found["a"]["open"] == 1
    assert [part["index"] for part in found["b"]["slices"]] == [0, 2] and found["b"]["count"] == 3
    middle = found["a"]["slices"][1]
    assert middle["area"] == 36
    assert middle["seeds"][0]["dice"] == {"gdl": pytest.approx(4 / 6),
                                          "gdl+boundary": pytest.approx(5 / 6)}
    assert [scan["scores"]["subject"] for scan in view["scans"]] == ["a", "b"]  # the worst first


def test_shown_images_are_upright_and_contours_lie_on_the_lesion(results):
    scan = slices.scan_view(validation_cases(results)[0], [])
    part = scan["slices"][1]
    assert part["shape"] == (24, 24) and (scan["width"], scan["height"]) == (24, 24)  # 1x1 mm
    polygon, = corners(part["truth"])
    # stored as [x, y], rows 4 to 9 and columns 4 to 9; upright: x from 4 to 10, and y downwards
    # from 24 - 10 to 24 - 4
    assert polygon.min(0).tolist() == [8, 28] and polygon.max(0).tolist() == [20, 40]


def test_beyond_the_budget_scans_have_one_slice(results):
    scans = scores.scan_scores(results)
    whole = slices.browser(results, scans)
    small = slices.browser(results, scans, budget=1)
    assert [len(scan["slices"]) for scan in whole["scans"]] == [3, 2] and whole["reduced"] == 0
    assert [len(scan["slices"]) for scan in small["scans"]] == [3, 1] and small["reduced"] == 1
    assert small["scans"][1]["slices"][0]["index"] == 0  # that with the largest lesion


def test_every_seed_that_has_predictions_can_be_shown(results):
    first, second = slices.browser(results, scores.scan_scores(results))["seeds"]
    assert (first["name"], second["name"]) == ("seed0", "seed1")
    assert list(first["runs"]) == list(second["runs"]) == ["gdl", "gdl+boundary"]

    (results.losses["gdl"][0].folder / "predictions.npz").unlink()
    view = slices.browser(results, scores.scan_scores(results))
    assert [seed["name"] for seed in view["seeds"]] == ["seed1", "seed0"]  # the whole pair first
    assert list(view["scans"][0]["slices"][0]["seeds"][1]["paths"]) == ["gdl+boundary"]


def test_other_modalities_are_there_as_far_as_the_budget_goes(results):
    scans = scores.scan_scores(results)
    whole = slices.browser(results, scans)
    assert whole["modalities"] == ["FLAIR", "T1"]
    assert {len(part["images"]) for scan in whole["scans"] for part in scan["slices"]} == {2}

    shown = sum(map(slices.size_of, slices.browser(results, scans)["scans"]))
    extra = sum(len(part["images"][1]) for scan in whole["scans"] for part in scan["slices"])
    of_first = sum(len(part["images"][1]) for part in whole["scans"][0]["slices"])
    some = slices.browser(results, scans, budget=shown - extra + of_first)
    assert [len(scan["slices"][0]["images"]) for scan in some["scans"]] == [2, 1]
    assert slices.browser(results, scans, budget=shown - extra)["modalities"] == ["FLAIR"]
