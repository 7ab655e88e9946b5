"""report.py on small run folders written here: every expected number can be worked out by hand."""

import csv
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

import figures
import figures_cases
import figures_studies
import report
import runs
import tables
from distance import signed_distance
from main import COLUMNS
from utils import UserError, read_json

ROOT = Path(__file__).parent.parent
REPORTED = read_json(ROOT / "results" / "reported.json")
DSC = {"boundary": [[0.5] * 8, [0.5] * 8],  # two seeds, eight epochs: the window of last epochs is two
       "gdl": [[0.1, 0.3, 0.6, 0.5, 0.5, 0.5, 0.2, 0.4], [0.1, 0.3, 0.4, 0.5, 0.5, 0.3, 0.4, 0.4]],
       "gdl+boundary": [[0.2, 0.4, 0.5, 0.6, 0.7, 0.7, 0.6, 0.6], [0.2, 0.4, 0.5, 0.6, 0.9, 0.7, 0.8, 0.8]]}
FIGURES = ("figure1", "figure2", "figure3", "figure3_mm", "figure4")


def square(row, column, side, size=24):
    mask = np.zeros((size, size), bool)
    mask[row:row + side, column:column + side] = True
    return mask


def write_data(folder, source="phantom", layout="wmh", name="small", empty=0.5):
    """Two validation scans of two slices: one 4x4 lesion in "a"; an 8x8 and a 2x2 one in the second slice of "b"."""
    info = {"name": name, "layout": layout, "source": source, "modalities": ["FLAIR", "T1"], "size": 24,
            "classes": ["background", "lesion"], "distance": {"convention": "paper", "unit": "px", "dims": 2}}
    subset = {"subjects": 2, "slices": 4, "empty_fraction": empty, "foreground_ratio": 0.04}
    print_ = {**subset, "train": subset, "val": subset, "intensity_range": {"FLAIR": [0, 1]}, "spacing_mm": [1, 1, 3],
              "sha256": "f" * 64}
    none = np.zeros((24, 24), bool)
    scans = {"a": [square(4, 4, 4), none], "b": [none, square(8, 8, 8) | square(2, 18, 2)]}
    folder.mkdir(parents=True)
    (folder / "dataset.json").write_text(json.dumps(info))
    (folder / "fingerprint.json").write_text(json.dumps(print_))
    (folder / "split.csv").write_text("subject,subset\na,val\nb,val\nt,train\n")
    for subject, slices in scans.items():
        place = folder / "subjects" / subject
        place.mkdir(parents=True)
        labels = np.stack(slices)
        head = (20000 + 9000 * np.hypot(*np.mgrid[-1:1:24j, -1:1:24j])).astype(np.uint16)
        np.save(place / "images.npy", np.stack([np.stack([head + 20000 * mask, head]) for mask in labels]).astype("u2"))
        np.save(place / "labels.npy", labels.astype(np.uint8))
        np.save(place / "distance.npy", np.stack([signed_distance(mask) for mask in labels])[:, None])
        (place / "meta.json").write_text(json.dumps({"spacing_mm": [1, 1, 3]}))
    return folder


def write_run(folder, data, loss, seed, dsc, finished=True, epochs=8, **settings):
    """A run with these validation DSC; the other scores follow: 3-D DSC = DSC / 2, HD = 10, HD95 = 5, legacy HD = 2."""
    config = {"loss": loss, "seed": seed, "network": "unet", "width": 8, "epochs": epochs, "batch_size": 8, "lr": 0.001,
              "schedule": "rebalance", "protocol": "paper", "size": 24, "data": str(data), "device": "cpu",
              "data_fingerprint": "f" * 64, "versions": {"numpy": "2"}, **settings}
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    with open(folder / "metrics.csv", "w", newline="") as file:
        rows = csv.DictWriter(file, COLUMNS)
        rows.writeheader()
        for epoch, value in enumerate(dsc, 1):
            rows.writerow({"epoch": epoch, "val_dice": value, "val_dice_3d": value / 2, "val_hd": 10, "val_hd95": 5,
                           "val_hd_legacy": 2, "val_dice_lesion": value / 4, "seconds": 1.5,
                           "val_foreground": 0 if loss == "boundary" else 0.01})
    if finished:
        (folder / "summary.json").write_text(json.dumps({"finished": True, "epochs": len(dsc), "seconds": 12.0}))
        shift = {"gdl": 2, "gdl+boundary": 1}.get(loss)
        masks = {subject: np.load(data / "subjects" / subject / "labels.npy") for subject in ("a", "b")}
        masks = {key: mask * 0 if shift is None else np.roll(mask, shift, axis=1) for key, mask in masks.items()}
        np.savez_compressed(folder / "predictions.npz", **masks)
    return folder


def write_set(root, folder="wmh", losses=DSC, **about):
    data = write_data(root / "data" / folder, **about)
    for loss, seeds in losses.items():
        for seed, dsc in enumerate(seeds):
            write_run(root / "results" / folder / loss / f"seed{seed}", data, loss, seed, dsc)
    return root / "results" / folder


def read_table(folder):
    """Everything in words: {(loss, heading): text} of the only set, the notes and the Markdown."""
    sets = runs.load_sets([folder], None)
    table = tables.build_table(sets, REPORTED)
    heads = table["sets"][0]["headings"]
    cells = {(row["loss"], head): shown.text for row in table["rows"]
             for head, shown in zip(heads, row["groups"][0], strict=True)}
    notes = tables.notes(sets, REPORTED)
    return cells, "\n".join(notes), tables.markdown(sets, table, notes, tables.reported_only(sets, REPORTED))


# Numbers ------------------------------------------------------------------------------------------------------------

def test_best_epoch_is_averaged_over_seeds_with_the_sample_standard_deviation(tmp_path):
    cells, _, _ = read_table(write_set(tmp_path))
    assert cells["gdl", "DSC, best epoch"] == "0.550 (0.071)"  # 0.6 and 0.5: mean 0.55, std 0.1 / sqrt 2
    assert cells["gdl+boundary", "DSC, best epoch"] == "0.800 (0.141)"  # 0.7 and 0.9
    assert cells["gdl", "3-D DSC"] == "0.275 (0.035)"
    assert cells["gdl", "HD (mm)"] == "10.00 (0.00)"
    assert cells["gdl", "seeds"] == "2"


def test_last_epochs_are_a_quarter_of_a_short_run(tmp_path):
    cells, notes, _ = read_table(write_set(tmp_path))
    assert cells["gdl", "DSC, last 2"] == "0.350 (0.071)"  # 0.3 and 0.4
    assert "WMH phantom: 2" in notes


def test_last_epochs_are_fifty_of_a_long_run(tmp_path):
    dsc = [0.9] * 150 + [0.4] * 25 + [0.6] * 25
    cells, _, _ = read_table(write_long(tmp_path, dsc))
    assert cells["gdl", "DSC, last 50"] == "0.500 (–)"  # one seed: no standard deviation


def write_long(root, dsc):
    data = write_data(root / "data")
    write_run(root / "results" / "gdl" / "seed0", data, "gdl", 0, dsc, epochs=200)
    return root / "results"


def test_first_of_equal_epochs_is_the_best():
    rows = [{"epoch": float(epoch), "val_dice": value} for epoch, value in enumerate([0.3, 0.5, None, 0.5], 1)]
    assert runs.Run(Path("r"), {}, rows, {}).best["epoch"] == 2


def test_csv_is_tidy_and_keeps_every_digit(full):
    rows = list(csv.DictReader((full / "table1.csv").open()))
    row = next(row for row in rows if (row["set"], row["loss"], row["metric"], row["statistic"])
               == ("WMH phantom", "gdl", "dsc", "best_epoch"))
    assert float(row["mean"]) == pytest.approx(0.55) and float(row["std"]) == pytest.approx(0.1 / 2**0.5)
    assert (row["source"], row["seeds"]) == ("phantom", "2")


# Collapse -----------------------------------------------------------------------------------------------------------

def test_collapsed_runs_have_no_distance_and_show_the_empty_fraction(tmp_path):
    cells, notes, _ = read_table(write_set(tmp_path, empty=0.5))
    for heading in ("legacy HD, best epoch", "legacy HD, last 2", "HD (mm)", "HD95 (mm)"):
        assert cells["boundary", heading] == "NA"
    assert cells["boundary", "DSC, best epoch"] == "0.500 (0.000) [empty slices: 0.500]"
    assert "L_B: the best model predicts no foreground at all in seed0, seed1 (2 of 2 runs)" in notes


def test_a_run_that_ends_empty_after_its_best_epoch_is_named(tmp_path):
    folder = write_set(tmp_path)
    path = folder / "gdl+boundary" / "seed1" / "metrics.csv"
    lines = path.read_text().splitlines()
    cells = lines[-1].split(",")
    cells[COLUMNS.index("val_foreground")] = "0"
    path.write_text("\n".join([*lines[:-1], ",".join(cells)]) + "\n")
    _, notes, _ = read_table(folder)
    assert "L_GD + L_B: seed1 (1 of 2 runs) ends with a model that predicts no foreground" in notes
    assert notes.count("ends with a model") == 1  # a run that is empty at its best epoch too is said to have collapsed


def test_one_collapsed_seed_of_two_is_named_and_left_out_of_the_distances(tmp_path):
    folder = write_set(tmp_path)
    path = folder / "gdl" / "seed1" / "metrics.csv"
    path.write_text(path.read_text().replace(",10,5,2,", ",99,99,99,").replace(",0.01,1.5", ",0,1.5"))
    cells, notes, _ = read_table(folder)
    assert cells["gdl", "HD (mm)"] == "10.00 (–)"
    assert cells["gdl", "DSC, best epoch"] == "0.550 (0.071)"
    assert "L_GD: the best model predicts no foreground at all in seed1 (1 of 2 runs)" in notes


# Reported numbers and phantoms --------------------------------------------------------------------------------------

def test_reported_numbers_stand_beside_challenge_scans(tmp_path):
    cells, notes, text = read_table(write_set(tmp_path, source="challenge", empty=0.569))
    assert cells["gdl+boundary", "DSC, reported"] == "0.748 (0.005)"
    assert cells["boundary", "legacy HD, reported"] == "NA"
    assert "empty validation slices is 0.569 here and was 0.569 in the paper" in notes and "agree" in notes
    assert "phantom" not in text
    assert "not run here (`make isles`)" in text and "make wmh" not in text


@pytest.mark.parametrize("source", ["phantom", "own"])
def test_reported_numbers_never_share_a_table_with_other_data(tmp_path, source):
    cells, _, text = read_table(write_set(tmp_path, source=source))
    assert not any("reported" in heading for _, heading in cells)
    first, second = text.split("## Reported by the paper")
    assert "0.748" not in first and "0.748" in second and "not run here (`make wmh`)" in second


def test_phantoms_are_called_phantoms_everywhere(full):
    for name in ("table1.md", "table1.csv", "table1.tex", "report.html"):
        assert "WMH phantom" in (full / name).read_text()
    assert "Contains phantom data" in (full / "report.html").read_text()


def test_own_data_go_by_their_own_name_even_in_the_wmh_layout(tmp_path):
    assert runs.load_sets([write_set(tmp_path, source="own", name="lgg")], None)[0].title == "lgg"


def test_another_split_is_called_another_split(tmp_path):
    _, notes, _ = read_table(write_set(tmp_path, source="challenge", layout="isles", empty=0.5))
    assert "0.500 here and was 0.321" in notes and "another split" in notes


# Unfinished and unlike runs -----------------------------------------------------------------------------------------

def test_unfinished_runs_are_marked_and_not_averaged(tmp_path):
    folder = write_set(tmp_path, losses={"gdl": [[0.6] * 8]})
    write_run(folder / "gdl" / "seed1", tmp_path / "data" / "wmh", "gdl", 1, [0.9] * 3, finished=False)
    cells, notes, _ = read_table(folder)
    assert cells["gdl", "seeds"] == "1 of 2; seed1 at epoch 3 of 8"
    assert cells["gdl", "DSC, best epoch"] == "0.600 (–)"
    assert "Only finished runs are averaged" in notes


def test_partial_numbers_carry_an_asterisk_when_nothing_has_finished(tmp_path):
    data = write_data(tmp_path / "data")
    write_run(tmp_path / "r" / "gdl" / "seed0", data, "gdl", 0, [0.2, 0.3], finished=False)
    cells, notes, _ = read_table(tmp_path / "r")
    assert cells["gdl", "DSC, best epoch"] == "0.300 (–) *" and "those so far" in notes
    assert report.headlines(runs.load_sets([tmp_path / "r"], None)[0]) == []


def test_a_finished_run_that_was_made_longer_counts_as_unfinished(tmp_path):
    folder = write_long(tmp_path, [0.5] * 8)
    assert runs.load_sets([folder], None)[0].runs[0].finished is False


@pytest.mark.parametrize("setting, value", [("data_fingerprint", "0" * 64), ("protocol", "code2018"), ("size", 48),
                                            ("network", "enet"), ("width", 64), ("epochs", 9), ("lr", 0.01)])
def test_runs_that_differ_are_refused(tmp_path, setting, value):
    folder = write_set(tmp_path, losses={"gdl": [[0.6] * 8]})
    write_run(folder / "gdl" / "seed1", tmp_path / "data" / "wmh", "gdl", 1, [0.6] * 8, **{setting: value})
    with pytest.raises(UserError) as error:
        runs.load_sets([folder], None)
    assert all(part in str(error.value) for part in ("seed0", "seed1", setting, str(value)))


def run_report(*words, cwd):
    return subprocess.run([sys.executable, ROOT / "report.py", *words], cwd=cwd, capture_output=True, text=True)


def test_refusal_is_one_line_and_status_2(tmp_path):
    folder = write_set(tmp_path, losses={"gdl": [[0.6] * 8]})
    write_run(folder / "gdl" / "seed1", tmp_path / "data" / "wmh", "gdl", 1, [0.6] * 8, protocol="code2018")
    done = run_report("--runs", "results/wmh", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert not (folder / "table1.md").exists()


@pytest.mark.parametrize("name, content, expected", [
    ("metrics.csv", "epoch,val_dice\n1,high\n", "'high' in line 2"),
    ("metrics.csv", "epoch\n1\n", "no column val_dice"),
    ("metrics.csv", "epoch,val_dice\n1,0.5\n", "8 epochs"), ("config.json", "{", "JSON"),
    ("config.json", "[]", "no loss"), ("config.json", '{"loss": "gdl"}', "no seed"), ("summary.json", "[]", "list"),
    ("summary.json", '{"finished": true, "epochs": "all"}', "'all'"),
    ("metrics.csv", "epoch,val_dice\n,0.5\n", "an empty cell")])
def test_damaged_run_folders_are_named(tmp_path, name, content, expected):
    folder = write_set(tmp_path, losses={"gdl": [[0.6] * 8]})
    (folder / "gdl" / "seed0" / name).write_text(content)
    with pytest.raises(UserError, match=re.escape(expected)):
        runs.load_sets([folder], None)


def test_data_that_the_runs_were_not_trained_on_are_refused(tmp_path):
    folder = write_set(tmp_path)
    path = tmp_path / "data" / "wmh" / "fingerprint.json"
    path.write_text(path.read_text().replace("f" * 64, "e" * 64))
    with pytest.raises(UserError, match="fingerprint"):
        runs.load_sets([folder], None)


def test_damaged_predictions_are_named(tmp_path):
    folder = write_set(tmp_path)
    (folder / "gdl" / "seed0" / "predictions.npz").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(UserError, match="predictions.npz"):
        figures_cases.scan_scores(runs.load_sets([folder], None)[0])


# Cases and scans ----------------------------------------------------------------------------------------------------

def test_scans_are_scored_and_the_worst_comes_first(tmp_path):
    one = runs.load_sets([write_set(tmp_path)], None)[0]
    first, second = figures_cases.scan_scores(one)
    assert (first["subject"], first["volume"]) == ("a", pytest.approx(16 * 3 / 1000))  # 4x4 pixels of 1x1x3 mm
    assert first["gdl"] == pytest.approx(0.5)  # a 4x4 square moved by 2: overlap 8 of 16
    assert first["gdl+boundary"] == pytest.approx(0.75)
    assert first["difference"] == pytest.approx(0.25)
    assert second["gdl"] == pytest.approx(2 * (6 * 8) / (2 * 68))  # the 2x2 lesion is missed altogether


def test_cases_are_chosen_by_volume_and_by_number_of_parts(tmp_path):
    one = runs.load_sets([write_set(tmp_path)], None)[0]
    assert [(rank, subject, index) for rank, _, subject, index in figures_cases.ranked_cases(one)] \
        == [("smallest", "a", 0), ("largest", "b", 1)]
    assert figures_cases.most_parts(one) == ("b", 1, 2)


def test_boundary_distance_is_the_distance_summed_over_the_difference(full):
    # the prediction is the truth moved by one row: it gains a row of cells and loses one that lies on the boundary
    phi = signed_distance(square(8, 8, 8) | square(2, 18, 2))
    truth = phi <= 0
    moved = np.roll(square(8, 8, 8) | square(2, 18, 2), 1, axis=0)
    expected = phi[moved & ~truth].sum() - phi[truth & ~moved].sum()
    assert f"half the boundary distance is {expected:.1f} px" in (full / "report.html").read_text()


def test_crop_keeps_proportions_and_stays_inside_the_image():
    assert figures_cases.box(square(0, 10, 4), 2) == (slice(0, 8), slice(8, 16))
    assert figures_cases.box(square(8, 10, 4), 2, step=(1, 2, 5)) == (slice(2, 18), slice(8, 16))  # 16 mm each way


# Outputs ------------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """The whole program on two sets: a phantom that has finished and own data without predictions yet."""
    root = tmp_path_factory.mktemp("report")
    write_set(root, "wmh")
    data = write_data(root / "data" / "own_50%", source="own", name="own_50%")
    write_run(root / "results" / "own" / "gdl" / "seed0", data, "gdl", 0, [0.2, 0.3], finished=False)
    done = run_report("--runs", "results/wmh", "results/own", cwd=root)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "results/report.html"
    assert "WMH phantom" in done.stdout and "0.550 (0.071)" in done.stdout
    return root / "results"


def test_latex_is_escaped_and_balanced(full):
    text = (full / "table1.tex").read_text()
    assert r"own\_50\%" in text and not re.search(r"(?<!\\)[_%](?!\n|\{| \\usepackage)", text.replace("{%\n", "{\n"))
    bare = text.replace(r"\{", "").replace(r"\}", "")
    assert bare.count("{") == bare.count("}")
    lines = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in lines[1:]} == {18}  # 2 sets x 9 columns
    assert lines[0].count(r"\multicolumn{9}") == 2


def test_page_is_self_contained(full):
    html = (full / "report.html").read_text()
    assert not re.search(r"(src|href|url|@import)\s*[=(]?\s*[\"']?(https?:)?//", html)
    assert html.count("data:image/png;base64,") == 5 and html.count("<img") == len(re.findall(r'alt="[^"]{20}', html))


class Tags(HTMLParser):
    """Checks that every element is closed in order and that ids are unique."""
    void = {"meta", "link", "img", "br"}

    def __init__(self):
        super().__init__()
        self.open, self.ids = [], []

    def handle_starttag(self, tag, attrs):
        self.ids += [value for key, value in attrs if key == "id"]
        self.open += [tag] if tag not in self.void else []

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_page_is_well_formed_and_its_links_lead_somewhere(full):
    html, tags = (full / "report.html").read_text(), Tags()
    tags.feed(html)
    assert tags.open == [] and len(tags.ids) == len(set(tags.ids))
    assert set(re.findall(r'href="#([^"]+)"', html)) <= set(tags.ids)


def test_names_from_files_are_escaped_in_the_page(tmp_path):
    folder = write_set(tmp_path, source="own", name="<script>alert(1)</script>", losses={"gdl": [[0.6] * 8]})
    sets = runs.load_sets([folder], None)
    page = report.html(sets, tables.build_table(sets, REPORTED), tables.notes(sets, REPORTED), None, [], ["--runs"])
    assert "<script" not in page and "&lt;script&gt;" in page


def test_only_the_table_on_request(tmp_path, capsys):
    folder = write_set(tmp_path)
    assert report.main(["--runs", str(folder), "--only", "table"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(folder / "table1.md")
    assert sorted(path.name for path in folder.glob("*.*")) == ["table1.csv", "table1.md", "table1.tex"]


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_pictures(full, name):
    picture = imread(full / f"{name}.png")
    assert picture.ndim == 3 and min(picture.shape[:2]) > 400 and picture[..., :3].std() > 0.02
    pdf = (full / f"{name}.pdf").read_bytes()
    assert pdf.startswith(b"%PDF") and b"/Type3" not in pdf


def test_the_same_runs_give_the_same_bytes(full, tmp_path):
    out = tmp_path / "again"
    assert run_report("--runs", "results/wmh", "results/own", "--out", out, cwd=full.parent).returncode == 0
    for name in ("table1.md", "table1.csv", "table1.tex", *(f"{figure}.png" for figure in FIGURES)):
        assert (out / name).read_bytes() == (full / name).read_bytes(), name


def test_two_sets_of_one_name_are_told_apart_by_their_folders(tmp_path):
    first, second = write_set(tmp_path, "cpu", source="own"), write_set(tmp_path, "gpu", source="own")
    assert [one.title for one in runs.load_sets([first, second], None)] == ["small (cpu)", "small (gpu)"]


def test_other_losses_and_sweeps_get_rows_of_their_own(tmp_path):
    losses = {"gdl": [[0.6] * 8], "ce+boundary": [[0.7] * 8]}
    folder = write_set(tmp_path, losses=losses)
    write_run(folder / "gdl+boundary-0.5" / "seed0", tmp_path / "data" / "wmh", "gdl+boundary", 0, [0.1] * 8,
              schedule="constant:0.5")
    cells, _, text = read_table(folder)
    assert cells["ce+boundary", "DSC, best epoch"] == "0.700 (–)"
    assert cells["gdl+boundary", "DSC, best epoch"] == "not run"
    assert "| L_CE + L_B |" in text and "| L_GD + boundary-0.5 |" in text


def write_sweep(tmp_path):
    """A set with the schedule's row and two constant alphas."""
    folder = write_set(tmp_path, losses={"gdl": [[0.6] * 8], "gdl+boundary": [[0.7] * 8, [0.75] * 8]})
    for alpha, score in ((0.25, 0.5), (0.5, 0.65)):
        write_run(folder / f"gdl+boundary-alpha{alpha}" / "seed0", tmp_path / "data" / "wmh", "gdl+boundary", 0, [score] * 8,
                  schedule=f"constant:{alpha}")
    return folder


def test_rows_of_the_sweep_say_what_is_changed(tmp_path):
    folder = write_sweep(tmp_path)
    cells, _, text = read_table(folder)
    assert cells["gdl+boundary-alpha0.25", "DSC, best epoch"] == "0.500 (–)"
    assert "| L_GD + L_B, alpha 0.25 |" in text and tables.tex_label("gdl-cap1") == r"$\mathcal{L}_{GD}$, cap 1"


def test_the_sweep_is_drawn_apart_and_left_out_of_figure_3(tmp_path):
    one = runs.load_sets([write_sweep(tmp_path)], None)[0]
    assert list(figures.plain_rows(one)) == ["gdl", "gdl+boundary"]
    assert one.sweep == ({"gdl+boundary-alpha0.25": 0.25, "gdl+boundary-alpha0.5": 0.5}, ["gdl+boundary"])
    *_, alt = figures_studies.sweep([one])
    assert "best epoch: schedule 0.725, alpha 0.25 0.500, alpha 0.5 0.650" in alt


def test_sweep_and_convergence_are_among_the_figures_once_there_is_something_to_show(tmp_path):
    folder = write_sweep(tmp_path)
    curves = {"disc grown": {"sizes": [32, 64], "errors": [0.2, 0.1], "order": 1.0}}
    drawn = figures.draw_all(runs.load_sets([folder], None), REPORTED, tmp_path / "out", curves)
    assert [figure["name"] for figure in drawn] == [*FIGURES, "sweep", "identity"]
    assert "disc grown from 0.200 at 32 pixels to 0.100 at 64, order 1.00" in drawn[-1]["alt"]
    assert imread(tmp_path / "out" / "identity.png").std() > 0 and imread(tmp_path / "out" / "sweep.png").std() > 0


def test_claims_appear_on_the_page_once_they_are_measured(tmp_path):
    folder = write_set(tmp_path)
    one = runs.load_sets([folder], None)[0]
    assert report.claims_of(one) == {}
    claim = {"claim": "it <works>", "verdict": "supported", "statistic": "+0.1 [0.0, 0.2]"}
    (folder / "claims.json").write_text(json.dumps({"set": "x", "claims": {"C1": claim}}))
    page = report.html([one], tables.build_table([one], REPORTED), [], None, [], ["--runs"])
    assert 'href="#claims"' in page and "it &lt;works&gt;" in page and "+0.1 [0.0, 0.2]" in page


def test_claims_of_other_runs_than_the_page_shows_are_called_so(tmp_path):
    folder = write_set(tmp_path)
    claim = {"claim": "c", "verdict": "supported", "statistic": "s"}
    for runs_then, stale in (({"gdl/seed0": 8}, True), ({f"{loss}/seed{seed}": 8 for loss in DSC for seed in (0, 1)}, False)):
        (folder / "claims.json").write_text(json.dumps({"set": "x", "runs": runs_then, "claims": {"C1": claim}}))
        one = runs.load_sets([folder], None)[0]
        page = report.html([one], tables.build_table([one], REPORTED), [], None, [], ["--runs"])
        assert ("measured on other runs" in page) == stale


@pytest.mark.parametrize("text", ["[]", "{}", '{"claims": {"C1": {"claim": "x"}}}', '{"claims": 3}',
                                  '{"claims": {"C9": {"claim": "x", "verdict": "y", "statistic": "z", "curves": [1]}}}',
                                  '{"claims": {"C9": {"claim": "x", "verdict": "y", "statistic": "z", "curves": {"disc": '
                                  '{"sizes": [32, 64], "errors": [0.1], "order": 1}}}}}',
                                  '{"claims": {"C9": {"claim": "x", "verdict": "y", "statistic": "z", "curves": {"disc": '
                                  '{"sizes": [32], "errors": ["a"], "order": 1}}}}}',
                                  '{"claims": {"C9": {"claim": "x", "verdict": "y", "statistic": "z", "curves": {"a": 3}}}}'])
def test_a_claims_file_of_another_shape_is_refused(tmp_path, text):
    folder = write_set(tmp_path)
    (folder / "claims.json").write_text(text)
    with pytest.raises(UserError, match=r"claims\.json"):
        report.claims_of(runs.load_sets([folder], None)[0])


def test_figures_show_tmax_where_there_is_one_and_the_first_modality_elsewhere(tmp_path):
    one = runs.load_sets([write_set(tmp_path)], None)[0]
    assert figures_cases.shown_modality(one) == (0, "FLAIR")
    one.info["modalities"] = ["CT", "CT_CBF", "CT_Tmax"]
    assert figures_cases.shown_modality(one) == (2, "CT_Tmax")


def test_a_copy_of_a_run_is_no_further_seed(tmp_path):
    folder = write_set(tmp_path)
    count = len(runs.load_sets([folder], None)[0].losses["gdl"])
    shutil.copytree(folder / "gdl" / "seed0", folder / "gdl" / "seed0.bak")
    assert len(runs.load_sets([folder], None)[0].losses["gdl"]) == count
    shutil.copytree(folder / "gdl" / "seed0", folder / "gdl" / "seed7")
    with pytest.raises(UserError, match="seed 0 in both"):
        runs.load_sets([folder], None)


def test_an_empty_table_of_a_run_is_refused(tmp_path):
    folder = write_set(tmp_path)
    (folder / "gdl" / "seed0" / "metrics.csv").write_text("")
    with pytest.raises(UserError, match=r"metrics\.csv.*no column epoch"):
        runs.load_sets([folder], None)


def test_names_of_subjects_and_labels_and_words_are_not_averaged(tmp_path):
    folder = write_set(tmp_path)
    one = runs.load_sets([folder], None)[0]
    (one.runs[0].folder / "evaluation.csv").write_text("subject,label,dice,site\n2,1,0.5,Utrecht\n4,1,0.7,Singapore\n")
    assert report.evaluation(one.runs[0]) == {"dice": "0.600 (2 of 2)"}


def test_the_command_is_the_one_that_was_given_or_else_what_the_settings_amount_to(tmp_path):
    run = runs.load_sets([write_set(tmp_path, losses={"gdl": [[0.5]]})], None)[0].runs[0]
    assert report.train_command(run) == (
        f"python main.py --data {tmp_path}/data/wmh --loss gdl --seed 0 --out {run.folder} --network unet --width 8 "
        "--epochs 8 --batch-size 8 --lr 0.001 --schedule rebalance --protocol paper")
    run.config["command"] = "python main.py --data here"
    assert report.train_command(run) == "python main.py --data here"


def test_leftovers_of_a_report_that_was_killed_are_cleaned_by_the_next(tmp_path):
    folder = write_set(tmp_path)
    (folder / "report.html.partial-99999999").touch()
    report.main(["--runs", str(folder), "--only", "table"])
    assert not list(folder.glob("*.partial-*"))


def test_a_run_folder_that_lost_its_config_is_refused_and_not_left_out(tmp_path):
    folder = write_set(tmp_path)
    (folder / "gdl" / "seed1" / "config.json").unlink()
    with pytest.raises(UserError, match="seed1: expected a config.json beside metrics.csv, found none"):
        runs.load_sets([folder], None)


def test_a_run_folder_that_never_began_does_not_count(tmp_path):
    folder = write_set(tmp_path)
    (folder / "gdl" / "seed2").mkdir()
    (folder / "gdl" / "seed2" / ".lock").touch()
    cells, _, _ = read_table(folder)
    assert cells["gdl", "seeds"] == "2"


def test_steps_left_out_are_noted(tmp_path):
    folder = write_set(tmp_path)
    assert "training steps left out" not in read_table(folder)[1]
    path = folder / "gdl" / "seed1" / "metrics.csv"
    path.write_text(path.read_text().replace(",1.5,", ",1.5,2", 3))
    assert "L_GD: training steps left out, loss or gradient not finite: 6 in seed1." in read_table(folder)[1]
