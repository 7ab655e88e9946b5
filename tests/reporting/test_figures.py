"""Figures of sets that lack something: a lesion, a column, an intact file; and the paper's curves where they belong."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pytest

from reporting import curves, drawing, figures, pictures
from reporting.page import scores
from reporting.preview import draw_preview
from run_folders import REPORTED, square, write_run, write_set
from scoring import runs
from utils import UserError

LEGACY = (("val_dice", "DSC"), ("val_hd_legacy", "HD"))


def load(folder):
    return runs.load_sets([folder], None)


def words(figure):
    return [" ".join(text.get_text().split()) for axis in figure.axes for text in axis.texts]


def without_lesion(tmp_path):
    """A set whose labels hold no lesion, and whose runs have found none."""
    folder = write_set(tmp_path)
    for subject in ("a", "b"):
        path = tmp_path / "data" / "wmh" / "subjects" / subject / "labels.npy"
        np.save(path, np.load(path) * 0)
    return folder


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_the_papers_curves_are_ticks_beside_those_on_challenge_scans(tmp_path):
    figure, _, caption, _ = curves.figure3(load(write_set(tmp_path, source="challenge")), LEGACY, REPORTED)
    dsc, hd = figure.axes[:2]
    ticks = {line.get_label(): line.get_ydata()[0] for line in dsc.lines if str(line.get_label()).startswith("paper's")}
    assert ticks == {"paper's GDL": 0.735, "paper's GDL + boundary": 0.754}  # PAPER: WMH, best epoch
    assert {line.get_ydata()[0] for line in hd.lines if line.get_xdata()[0] == 1.0} >= {1.02, 1.27, 1.0, 1.01}
    assert hd.get_ylim()[0] <= 1.0 * 0.97 and "the paper's Figure 3, digitised" in caption


@pytest.mark.parametrize("source, reported", [("phantom", REPORTED), ("own", REPORTED), ("challenge", None)])
def test_elsewhere_the_papers_curves_are_not_drawn(tmp_path, source, reported):
    figure, _, caption, _ = curves.figure3(load(write_set(tmp_path, source=source)), LEGACY, reported)
    labels = [str(line.get_label()) for axis in figure.axes for line in axis.lines]
    assert labels and not any(label.startswith("paper's") for label in labels) and "digitised" not in caption


def fill_column(folder, name, value):
    """Write this value in a column of every run's metrics.csv."""
    for path in folder.glob("*/*/metrics.csv"):
        lines = [line.split(",") for line in path.read_text().splitlines()]
        column = lines[0].index(name)
        path.write_text("\n".join(",".join([*line[:column], value if k else name, *line[column + 1:]])
                                  for k, line in enumerate(lines)))


def test_a_score_that_the_runs_have_not_computed_is_said_to_be_missing(tmp_path):
    folder = write_set(tmp_path)
    fill_column(folder, "val_hd95", "")
    figure, _, _, alt = curves.figure3(load(folder), (("val_dice_3d", "DSC"), ("val_hd95", "HD95")), None)
    assert not figure.axes[1].lines and words(figure) == ["not computed in these runs"]
    assert "HD95 undefined at the end" in alt


@pytest.mark.parametrize("epochs, marker", [(1, "o"), (2, "None")])
def test_a_run_of_one_epoch_is_a_point(tmp_path, epochs, marker):
    folder, data = write_set(tmp_path, losses={}), tmp_path / "data" / "wmh"
    write_run(folder / "gdl" / "seed0", data, "gdl", 0, [0.5] * epochs, epochs=epochs)
    figure, _, _, _ = curves.figure3(load(folder), (("val_dice_3d", "DSC"), ("val_hd95", "HD95")), None)
    assert {line.get_marker() for line in figure.axes[0].lines if line.get_label() == "GDL"} == {marker}


def test_where_no_epoch_has_foreground_that_is_said(tmp_path):
    folder = write_set(tmp_path, losses={"gdl": [[0.5] * 8]})
    fill_column(folder, "val_foreground", "0")
    figure, _, _, _ = curves.figure3(load(folder), (("val_dice_3d", "DSC"), ("val_hd95", "HD95")), None)
    assert words(figure) == ["no epoch with foreground"]


@pytest.mark.parametrize("draw, what", [(pictures.figure1, "slice"), (pictures.figure2, "slice"),
                                        (pictures.figure4, "scan")])
def test_a_set_without_a_lesion_is_drawn_with_words_in_its_place(tmp_path, draw, what):
    figure, *_ = draw(load(without_lesion(tmp_path)))
    assert any(f"no validation {what} bears a lesion" in said for said in words(figure)), words(figure)


@pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01\x00"])
def test_a_damaged_scan_is_named(tmp_path, content):
    folder = write_set(tmp_path)
    path = tmp_path / "data" / "wmh" / "subjects" / "b" / "labels.npy"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"b/labels.npy: expected a NumPy array"):
        pictures.figure1(load(folder))


@pytest.mark.parametrize("value", [[1, 1], "1", 3])
def test_a_spacing_that_is_none_is_named(tmp_path, value):
    folder = write_set(tmp_path)
    (tmp_path / "data" / "wmh" / "subjects" / "a" / "meta.json").write_text(json.dumps({"spacing_mm": value}))
    with pytest.raises(UserError, match=r"a/meta.json: expected spacing_mm to be three positive numbers"):
        pictures.figure4(load(folder))


def test_predictions_of_another_shape_are_named(tmp_path):
    folder = write_set(tmp_path)
    np.savez_compressed(folder / "gdl" / "seed0" / "predictions.npz", a=np.zeros((2, 3, 3), np.uint8))
    with pytest.raises(UserError, match=r"predictions.npz: expected \(2, 24, 24\) for a"):
        scores.scan_scores(load(folder)[0])


def test_a_preview_of_a_scan_in_which_nothing_is_found_shows_its_middle_and_says_so(tmp_path, monkeypatch):
    kept, save = [], plt.Figure.savefig
    monkeypatch.setattr(plt.Figure, "savefig", lambda figure, *args, **options: kept.append(words(figure))
                        or save(figure, *args, **options))
    image = np.full((5, 8, 8), 0.5)
    draw_preview(tmp_path / "s.png", "s", image, np.zeros((5, 8, 8), np.uint8), (1, 1))
    assert kept == [["slice 2", "no foreground predicted"]] and (tmp_path / "s.png").exists()


def test_a_preview_draws_each_class_and_says_where_all_is_foreground(tmp_path, monkeypatch):
    kept, drawn, save = [], [], plt.Figure.savefig
    monkeypatch.setattr(plt.Figure, "savefig", lambda figure, *args, **options: kept.append(
        (words(figure), [text.get_text() for text in figure.legends[0].texts])) or save(figure, *args, **options))
    monkeypatch.setattr("reporting.drawing.outline", lambda axis, mask, window, colour, width: drawn.append((int(mask.sum()), colour)))
    mask = np.zeros((2, 8, 8), np.uint8)
    mask[0, 2:4, 2:4], mask[0, 5, 5:], mask[1] = 1, 2, 2
    draw_preview(tmp_path / "s.png", "s", np.full((2, 8, 8), 0.5), mask, (1, 1), ("LV", "RV"))
    assert kept == [(["slice 0", "slice 1 all foreground"], ["LV", "RV"])]
    (a, red), (b, blue), (c, again), (d, _) = drawn
    assert (a, b, c, d) == (4, 3, 0, 64) and red == again != blue


def test_several_classes_have_a_contour_and_a_colour_each_and_their_mean_dsc(tmp_path, monkeypatch):
    folder, data = write_set(tmp_path, losses={}), tmp_path / "data" / "wmh"
    for name in ("a", "b"):
        labels = np.stack([square(4, 4, 4) + 2 * square(12, 12, 6), np.zeros((24, 24))]).astype(np.uint8)
        np.save(data / "subjects" / name / "labels.npy", labels)
    for loss in ("gdl", "gdl+boundary"):
        write_run(folder / loss / "seed0", data, loss, 0, [0.5] * 8)
    info = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps({**info, "classes": ["background", "right", "left"]}))
    drawn = []
    monkeypatch.setattr("reporting.drawing.outline", lambda axis, mask, window, colour, width: drawn.append((int(mask.sum()), colour)))
    figure, _, caption, alt = pictures.figure4(load(folder))
    red, blue = drawing.CLASSES[:2]
    assert set(drawn) == {(16, red), (36, blue)} and [text.get_text() for text in figure.legends[0].texts] == ["right", "left"]
    # moved down by two rows and by one: squares of 4 and 6 overlap by 2/4 and 4/6, by 3/4 and 5/6
    assert "GDL DSC 0.58, GDL + boundary DSC 0.79" in alt and "mean over the classes" in caption and "yellow" not in caption
    captions = []
    monkeypatch.setattr("reporting.drawing.below", lambda figure, caption: captions.append(caption))
    figures.save("figure4", tmp_path, figure, "title", caption, alt)
    assert captions == [caption]
