"""Figures of sets that lack a lesion, a column or an intact file; the paper's curves."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text

from reporting import curves, drawing, figures, pictures, study_figures
from reporting.page import scores
from reporting.preview import draw_preview
from run_folders import REPORTED, square, write_run, write_scores, write_set, write_sweep
from scoring import runs
from utils import COLUMN, UserError

LEGACY = (("val_dice", "DSC"), ("val_hd_legacy", "HD"))
IN_MM = (("val_dice_3d", "DSC"), ("val_hd95", "HD95"))


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


def test_the_papers_curves_are_ticks_beside_those_on_challenge_scans(tmp_path):
    sets = load(write_set(tmp_path, source="challenge"))
    figure, _, caption, _ = curves.figure3(sets, LEGACY, REPORTED)
    dsc, hd = figure.axes[:2]
    ticks = {line.get_label(): line.get_ydata()[0] for line in dsc.lines
             if str(line.get_label()).startswith("paper's")}
    assert ticks == {"paper's GDL": 0.735, "paper's GDL + boundary": 0.754}  # WMH, best epoch
    beside = {line.get_ydata()[0] for line in hd.lines if line.get_xdata()[0] == 1.0}
    assert beside >= {1.02, 1.27, 1.0, 1.01}
    assert hd.get_ylim()[0] <= 1.0 * 0.97 and "the paper's Figure 3, digitised" in caption


@pytest.mark.parametrize("source, reported", [
    ("phantom", REPORTED), ("own", REPORTED), ("challenge", None)])
def test_elsewhere_the_papers_curves_are_not_drawn(tmp_path, source, reported):
    sets = load(write_set(tmp_path, source=source))
    figure, _, caption, _ = curves.figure3(sets, LEGACY, reported)
    labels = [str(line.get_label()) for axis in figure.axes for line in axis.lines]
    assert labels and not any(label.startswith("paper's") for label in labels)
    assert "digitised" not in caption


def fill_column(folder, name, value):
    """Write this value in a column of every run's metrics.csv."""
    for path in folder.glob("*/*/metrics.csv"):
        lines = [line.split(",") for line in path.read_text().splitlines()]
        column = lines[0].index(name)
        changed = [[*line[:column], value, *line[column + 1:]] for line in lines[1:]]
        path.write_text("\n".join(map(",".join, [lines[0], *changed])))


def test_a_score_that_the_runs_have_not_computed_is_said_to_be_missing(tmp_path):
    folder = write_set(tmp_path)
    fill_column(folder, "val_hd95", "")
    figure, _, _, alt = curves.figure3(load(folder), IN_MM, None)
    assert not figure.axes[1].lines and words(figure) == ["not computed in these runs"]
    assert "HD95 undefined at the end" in alt


def test_a_set_without_such_lesions_says_so_beside_one_that_has_some(tmp_path):
    folders = [write_set(tmp_path / name, name, name=name, losses={"gdl": [[0.6] * 8]})
               for name in ("few", "many")]
    for count, folder in enumerate(folders):
        write_scores(folder / "gdl" / "seed0",
                     lambda epoch, count=count: {"large_lesions": count, "large_found": count})
    sets = runs.load_sets(folders, None)
    figure, *_ = curves.figure3(sets, figures.shown_measures(sets), None)
    assert words(figure) == ["no such lesions in these scans"]


@pytest.mark.parametrize("epochs", [1, 2, 8])
def test_a_curve_has_its_markers_where_it_has_values(tmp_path, epochs):
    folder, data = write_set(tmp_path, losses={}), tmp_path / "data" / "wmh"
    write_run(folder / "gdl" / "seed0", data, "gdl", 0, [0.5] * epochs, epochs=epochs)
    figure, _, _, _ = curves.figure3(load(folder), IN_MM, None)
    mean = next(line for line in figure.axes[0].lines if line.get_label() == "GDL")
    assert mean.get_marker() == "o" and len(mean.get_markevery()) == epochs


def test_rows_differ_in_dashes_and_markers_as_in_colour():
    rows = ["gdl", "gdl+boundary", "boundary", "ce", "dice", "dice+ce", "focal", "hausdorff"]
    styles = [drawing.line_style(row, rows) for row in rows]
    assert [len(set(map(str, kind))) for kind in zip(*styles)] == [8, 8, 8]


def labelled(figure, title):
    """{label: y of each line} of the panel with this title."""
    axis = next(axis for axis in figure.axes if axis.get_title() == title)
    return {line.get_label(): np.asarray(line.get_ydata(), float) for line in axis.lines}


def test_figure_3_has_every_measure_with_a_line_at_what_nothing_scores(tmp_path):
    folder = write_set(tmp_path, losses={"gdl": [[0.6] * 8], "gdl+boundary": [[0.7] * 8] * 2})
    for run in folder.glob("*/seed*"):
        write_scores(run, lambda epoch: {"lesions_false": epoch})
    sets = load(folder)
    figure, title, caption, alt = curves.figure3(sets, figures.shown_measures(sets), REPORTED)
    shown = [axis.get_title() for axis in figure.axes if axis.get_title()]
    # metrics.csv of these runs lacks the recalls, and there is no lesion from 0.5 ml on
    assert shown == ["DSC, lesion slices", "3-D DSC", "recall below 0.05 ml",
                     "recall, 0.05 to 0.5 ml", "false lesions per scan",
                     "distance of false lesions (mm)", "HD95 (mm)", "runs that predict nothing",
                     "slice DSC", "legacy HD"]
    assert labelled(figure, "false lesions per scan")["GDL"].tolist() == list(range(1, 9))
    assert labelled(figure, "slice DSC")["predicts nothing"] == pytest.approx(0.5)
    assert "predicts nothing" not in labelled(figure, "3-D DSC")
    assert title == "Figure 3: validation measures against epoch" and "predicts nothing" in caption
    assert "false lesions per scan ends at 8.00" in alt


def test_of_runs_without_scores_csv_figure_3_has_what_they_have(tmp_path):
    sets = load(write_set(tmp_path))
    titles = [title for _, title in figures.shown_measures(sets)]
    assert titles == ["DSC, lesion slices", "3-D DSC", "HD95 (mm)", "runs that predict nothing",
                      "slice DSC", "legacy HD"]


def test_the_share_of_runs_that_predict_nothing_is_drawn(tmp_path):
    folder = write_set(tmp_path, losses={"gdl": [[0.6] * 8] * 2})
    path = folder / "gdl" / "seed1" / "metrics.csv"
    *lines, last = path.read_text().splitlines()
    path.write_text("\n".join([*lines, last.replace(",0.01,", ",0,")]) + "\n")
    sets = load(folder)
    figure, *_ = curves.figure3(sets, figures.shown_measures(sets), None)
    found = labelled(figure, "runs that predict nothing")
    assert list(found) == ["GDL"] and found["GDL"].tolist() == [0] * 7 + [0.5]


def test_where_no_epoch_has_foreground_that_is_said(tmp_path):
    folder = write_set(tmp_path, losses={"gdl": [[0.5] * 8]})
    fill_column(folder, "val_foreground", "0")
    figure, _, _, _ = curves.figure3(load(folder), IN_MM, None)
    assert words(figure) == ["no epoch with foreground"]


@pytest.mark.parametrize("draw, what", [
    (pictures.figure1, "slice"), (pictures.figure2, "slice"), (pictures.figure4, "scan")])
def test_a_set_without_a_lesion_is_drawn_with_words_in_its_place(tmp_path, draw, what):
    figure, *_ = draw(load(without_lesion(tmp_path)))
    said = words(figure)
    assert any(f"no validation {what} contains a lesion" in text for text in said), said


@pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01\x00"])
def test_a_damaged_scan_is_named(tmp_path, content):
    folder = write_set(tmp_path)
    path = tmp_path / "data" / "wmh" / "subjects" / "b" / "labels.npy"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"b/labels.npy: expected a NumPy array"):
        pictures.figure1(load(folder))


@pytest.mark.parametrize("value", [[1, 1], "1", 3])
def test_a_spacing_that_is_not_one_is_named(tmp_path, value):
    folder = write_set(tmp_path)
    path = tmp_path / "data" / "wmh" / "subjects" / "a" / "meta.json"
    path.write_text(json.dumps({"spacing_mm": value}))
    expected = r"a/meta.json: expected spacing_mm to be three positive numbers"
    with pytest.raises(UserError, match=expected):
        pictures.figure4(load(folder))


def test_predictions_of_another_shape_are_named(tmp_path):
    folder = write_set(tmp_path)
    path = folder / "gdl" / "seed0" / "predictions.npz"
    np.savez_compressed(path, a=np.zeros((2, 3, 3), np.uint8))
    with pytest.raises(UserError, match=r"predictions.npz: expected \(2, 24, 24\) for a"):
        scores.scan_scores(load(folder)[0])


@pytest.fixture
def saved(monkeypatch):
    """The figures that are saved while a test runs."""
    found, save = [], Figure.savefig

    def keep(figure, *args, **options):
        found.append(figure)
        save(figure, *args, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    return found


@pytest.fixture
def outlined(monkeypatch):
    """(pixels, colour) of the masks whose contours would be drawn."""
    found = []
    monkeypatch.setattr("reporting.drawing.outline", lambda axis, mask, window, colour, width:
                        found.append((int(mask.sum()), colour)))
    return found


def legend(figure):
    return [text.get_text() for text in figure.legends[0].texts]


def test_a_preview_in_which_nothing_is_found_shows_the_middle(tmp_path, saved):
    image = np.full((5, 8, 8), 0.5)
    draw_preview(tmp_path / "s.png", "s", image, np.zeros((5, 8, 8), np.uint8), (1, 1))
    assert [words(figure) for figure in saved] == [["slice 2", "no foreground predicted"]]
    assert (tmp_path / "s.png").exists()


def test_a_preview_draws_each_class_and_says_where_all_is_foreground(tmp_path, saved, outlined):
    mask = np.zeros((2, 8, 8), np.uint8)
    mask[0, 2:4, 2:4], mask[0, 5, 5:], mask[1] = 1, 2, 2
    draw_preview(tmp_path / "s.png", "s", np.full((2, 8, 8), 0.5), mask, (1, 1), ("LV", "RV"))

    assert [(words(figure), legend(figure)) for figure in saved] == [
        (["slice 0", "slice 1 all foreground"], ["LV", "RV"])]
    (a, red), (b, blue), (c, again), (d, _) = outlined
    assert (a, b, c, d) == (4, 3, 0, 64) and red == again != blue


@pytest.fixture
def two_classes(tmp_path):
    """A set with a 4x4 square of one class and a 6x6 one of another in the first slices."""
    folder, data = write_set(tmp_path, losses={}), tmp_path / "data" / "wmh"
    labels = np.stack([square(4, 4, 4) + 2 * square(12, 12, 6), np.zeros((24, 24))])
    for name in ("a", "b"):
        np.save(data / "subjects" / name / "labels.npy", labels.astype(np.uint8))
    for loss in ("gdl", "gdl+boundary"):
        write_run(folder / loss / "seed0", data, loss, 0, [0.5] * 8)

    info = json.loads((data / "dataset.json").read_text())
    info["classes"] = ["background", "right", "left"]
    (data / "dataset.json").write_text(json.dumps(info))
    return load(folder)


def test_several_classes_have_a_contour_and_a_colour_each(two_classes, outlined):
    figure, *_ = pictures.figure4(two_classes)
    red, blue = drawing.CLASSES[:2]
    assert set(outlined) == {(16, red), (36, blue)} and legend(figure) == ["right", "left"]


def test_the_dsc_of_several_classes_is_their_mean(two_classes):
    _, _, caption, alt = pictures.figure4(two_classes)
    # moved down by two rows and by one: squares of 4 and 6 overlap by 2/4 and 4/6, by 3/4 and 5/6
    assert "GDL DSC 0.58, GDL + boundary DSC 0.79" in alt
    assert "mean over the classes" in caption and "yellow" not in caption


def test_figures_are_as_wide_as_a_papers_text_and_carry_no_caption(tmp_path, monkeypatch):
    monkeypatch.setitem(figures.PLOT_STYLE, "savefig.dpi", 50)
    saved, out = [], tmp_path / "out"
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda figure, *words, **options: (
        saved.append(figure), save(figure, *words, **options)))
    drawn = figures.draw_all(load(write_sweep(tmp_path)), REPORTED, out)
    for figure in drawn:
        assert imread(out / f"{figure['name']}.png").shape[1] == 50 * COLUMN
        box = re.search(rb"MediaBox \[ 0 0 (\d+)", (out / f"{figure['name']}.pdf").read_bytes())
        assert int(box[1]) == 72 * COLUMN

    burnt = " ".join(text.get_text() for figure in saved for text in figure.findobj(Text))
    captions = (out / "captions.md").read_text()
    for figure in drawn:
        assert figure["caption"][:40] in captions and figure["caption"][:40] not in burnt


def test_captions_of_figures_that_need_the_scans_stay_when_these_are_away(tmp_path, monkeypatch):
    monkeypatch.setitem(figures.PLOT_STYLE, "savefig.dpi", 50)
    folder, out = write_sweep(tmp_path), tmp_path / "out"
    out.mkdir()
    (out / "identity.png").touch()  # of an earlier report, whose runs had claims
    figures.draw_all(load(folder), REPORTED, out)
    assert (out / "sweep.png").exists() and not (out / "identity.png").exists()
    with_scans = sorted((out / "captions.md").read_text().split("\n\n"))

    monkeypatch.setattr(figures, "validation_cases", lambda results: [])
    for _ in range(2):  # those that stay, stay once
        assert {figure["name"] for figure in figures.draw_all(load(folder), REPORTED, out)} \
            & {"figure1", "figure2", "figure4"} == set()
        captions = (out / "captions.md").read_text().split("\n\n")
        assert sorted(caption.strip() for caption in captions) \
            == [caption.strip() for caption in with_scans]

    (out / "figure2.png").unlink()  # a figure that is no longer there needs no caption
    figures.draw_all(load(folder), REPORTED, out)
    captions = (out / "captions.md").read_text()
    assert "(figure2.pdf" not in captions and "(figure4.pdf" in captions


def test_contours_over_one_image_differ_in_dashes_as_in_colour():
    colours = [drawing.TRUTH, *map(drawing.contour_colour, ("gdl", "gdl+boundary", "boundary"))]
    dashes = [str(drawing.CONTOUR_DASHES.get(colour, "-")) for colour in colours]
    assert len(set(dashes)) == 4 and dashes[0] == "-"
    of_classes = {str(drawing.CONTOUR_DASHES[colour]) for colour in drawing.CLASSES}
    assert len(of_classes) == len(drawing.CLASSES)


def test_the_dashes_of_a_colour_are_drawn():
    axis = Figure().subplots()
    mask, window = square(4, 4, 8), (slice(0, 24), slice(0, 24))
    for colour, solid in ((drawing.TRUTH, True), (drawing.contour_colour("gdl"), False)):
        drawing.outline(axis, mask, window, colour)
        (_, pattern), = axis.collections[-1].get_linestyles()
        assert (pattern is None) == solid


@pytest.mark.parametrize("title, expected", [
    ("LGG", "LGG, validation"), ("WMH phantom", "WMH phantom, validation"),
    ("mine", "Mine, validation")])
def test_titles_are_words(title, expected):
    assert drawing.title_in_words(SimpleNamespace(title=title)) == expected


def test_the_sweep_has_one_scale_its_ends_and_all_in_the_legend(tmp_path):
    folder = write_sweep(tmp_path)
    write_run(folder / "boundary" / "seed0", tmp_path / "data" / "wmh", "boundary", 0, [0.3] * 8)
    figure, _, _, alt = study_figures.sweep(load(folder))
    assert len({axis.get_ylim() for axis in figure.axes}) == 1
    constant = next(line for line in figure.axes[0].lines
                    if line.get_label() == "constant alpha")
    assert list(constant.get_xdata()) == [0, 0.25, 0.5, 1]
    assert list(constant.get_ydata()) == [0.3, 0.5, 0.65, 0.6]  # the boundary loss, ..., GDL alone
    assert set(legend(figure)) == {
        "the schedule", "the schedule, range over seeds", "constant alpha",
        "constant alpha, a seed", "predicts nothing"}
    assert "alpha 0 0.300" in alt and "alpha 1 0.600" in alt


# Figure 2 -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("unit, spacing, expected", [
    ("px", [2, 1, 3], "10.0 px³"), ("mm", [2, 1, 3], "20.0 mm³"), ("mm", [1, 1, 3], "10.0 mm³")])
def test_figure_2_integrates_the_distance_over_the_area_between(tmp_path, unit, spacing, expected):
    """The squares of b move by a row: 8 and 2 pixels at a distance of 1 are gained, at 0 lost."""
    folder, data = write_set(tmp_path), tmp_path / "data" / "wmh"
    (data / "subjects" / "b" / "meta.json").write_text(json.dumps({"spacing_mm": spacing}))
    about = json.loads((data / "dataset.json").read_text())
    about["distance"]["unit"] = unit
    (data / "dataset.json").write_text(json.dumps(about))
    _, _, caption, _ = pictures.figure2(load(folder))
    assert (f"b, slice 1, prediction of gdl+boundary/seed0: half the boundary distance is "
            f"{expected}.") in caption


def test_figure_2_says_that_a_prediction_is_empty(tmp_path):
    folder = write_set(tmp_path)
    predict(folder, "gdl+boundary")
    _, _, caption, _ = pictures.figure2(load(folder))
    assert "prediction of gdl+boundary/seed0 (empty)" in caption


def test_figure_2_is_of_the_first_class_alone(tmp_path):
    """b's largest slice is of class 2; a perfect prediction of both has no distance to go."""
    folder, data = write_set(tmp_path), tmp_path / "data" / "wmh"
    about = json.loads((data / "dataset.json").read_text())
    about["classes"] = ["background", "core", "shell"]
    (data / "dataset.json").write_text(json.dumps(about))
    labels = {name: np.load(data / "subjects" / name / "labels.npy") for name in "ab"}
    labels["b"][1] *= 2
    labels["a"][0, 12:20, 12:20] = 2
    for name, found in labels.items():
        np.save(data / "subjects" / name / "labels.npy", found)
    np.savez_compressed(folder / "gdl+boundary" / "seed0" / "predictions.npz", **labels)
    _, _, caption, _ = pictures.figure2(load(folder))
    assert "a, slice 0, core, prediction of gdl+boundary/seed0: half the boundary " in caption
    assert "distance is 0.0 px³" in caption

    labels["a"][labels["a"] == 1] = 2
    np.save(data / "subjects" / "a" / "labels.npy", labels["a"])
    figure, _, _, _ = pictures.figure2(load(folder))
    texts = " ".join(" ".join(text.get_text() for text in figure.findobj(Text)).split())
    assert "no validation slice contains core" in texts


# Figure 4, its last row ---------------------------------------------------------------------------

def predict(folder, loss, **pixels):
    """Predict so many pixels, one row of each, on the slice of each scan that has no lesion."""
    labels = {"a": np.zeros((2, 24, 24), np.uint8), "b": np.zeros((2, 24, 24), np.uint8)}
    for scan, count in pixels.items():
        empty = {"a": 1, "b": 0}[scan]
        labels[scan][empty, 3, :count] = 1
    np.savez_compressed(folder / loss / "seed0" / "predictions.npz", **labels)


@pytest.mark.parametrize("gdl, both, expected", [
    ({"a": 3, "b": 5}, {"a": 9}, "(b, slice 0): GDL false: 5 px in 1 part, GDL + boundary clean"),
    ({"a": 5, "b": 5}, {"b": 2}, "(b, slice 0): GDL false: 5 px in 1 part, "
                                 "GDL + boundary false: 2 px in 1 part"),
    ({"a": 5, "b": 5}, {}, "(a, slice 1): GDL false: 5 px in 1 part, GDL + boundary clean"),
    ({}, {"b": 1}, "(b, slice 0): GDL clean, GDL + boundary false: 1 px in 1 part")])
def test_figure_4_ends_with_the_empty_slice_on_which_gdl_paints_most(tmp_path, gdl, both, expected):
    folder = write_set(tmp_path, losses={"gdl": [[0.5] * 8], "gdl+boundary": [[0.5] * 8]})
    predict(folder, "gdl", **gdl)
    predict(folder, "gdl+boundary", **both)
    figure, _, caption, alt = pictures.figure4(load(folder))
    assert f"a slice without a lesion {expected}" in alt.split("; ")[-1]
    assert "GDL predicts the most foreground" in caption
    assert "no lesion" in words(figure)[-3] and "DSC" not in " ".join(words(figure)[-2:])


def test_figure_4_frames_the_head_and_not_what_an_empty_slice_shows_of_it(tmp_path):
    folder = write_set(tmp_path, losses={"gdl": [[0.5] * 8], "gdl+boundary": [[0.5] * 8]})
    predict(folder, "gdl", a=3)
    predict(folder, "gdl+boundary")
    path = tmp_path / "data" / "wmh" / "subjects" / "a" / "images.npy"
    images = np.load(path)
    images[1] = 0
    images[1, :, 3:6, 3:6] = 60000  # as the top of a skull
    np.save(path, images)
    figure, *_ = pictures.figure4(load(folder))
    assert figure.axes[-4].images[0].get_array().shape == (24, 24)


def test_figure_4_says_where_every_empty_slice_is_left_clean(tmp_path):
    figure, _, _, alt = pictures.figure4(load(write_set(tmp_path)))
    said = "no validation slice without a lesion in which GDL or GDL + boundary predicts anything"
    assert said in alt and sum(said in text for text in words(figure)) == 4


def test_figure_4_says_where_there_are_no_predictions_of_empty_slices(tmp_path):
    folder = write_set(tmp_path, losses={"gdl": [[0.5] * 8], "gdl+boundary": [[0.5] * 8]})
    predict(folder, "gdl", a=3)
    np.savez_compressed(folder / "gdl+boundary" / "seed0" / "predictions.npz",
                        b=np.zeros((2, 24, 24), np.uint8))
    _, _, _, alt = pictures.figure4(load(folder))
    assert alt.endswith("(a, slice 1): GDL false: 3 px in 1 part")

    for path in folder.glob("*/*/predictions.npz"):
        path.unlink()
    _, _, _, alt = pictures.figure4(load(folder))
    assert alt.endswith("no predictions yet")
