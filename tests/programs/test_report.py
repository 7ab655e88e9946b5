"""report.py on small run folders written here: every expected number can be worked out by hand."""

import csv
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.image import imread

import report
from distance import signed_distance
from reporting import curves, drawing, figures, study_figures
from reporting.page import build, commands
from run_folders import (
    DSC,
    REPORTED,
    read_table,
    run_report,
    square,
    write_data,
    write_long,
    write_run,
    write_set,
    write_sweep,
)
from scans.folder import Dataset
from scoring import cases, runs
from utils import UserError

FIGURES = ("figure1", "figure2", "figure3", "figure3_mm", "figure4")


# Numbers ------------------------------------------------------------------------------------------

def test_best_epoch_is_averaged_over_seeds_with_the_sample_standard_deviation(tmp_path):
    cells, _, _ = read_table(write_set(tmp_path))
    # 0.6 and 0.5: mean 0.55, std 0.1 / sqrt 2
    assert cells["gdl", "DSC, best epoch"] == "0.550 (0.071)"
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


def test_first_of_equal_epochs_is_the_best():
    rows = [{"epoch": float(epoch), "val_dice": value}
            for epoch, value in enumerate([0.3, 0.5, None, 0.5], 1)]
    config = SimpleNamespace(score="val_dice")
    assert runs.Run(Path("r"), config, rows, {}).best["epoch"] == 2


def test_csv_is_tidy_and_keeps_every_digit(full):
    rows = list(csv.DictReader((full / "table1.csv").open()))
    row = next(row for row in rows if (row["set"], row["loss"], row["metric"], row["statistic"])
               == ("WMH phantom", "gdl", "dsc", "best_epoch"))
    assert float(row["mean"]) == pytest.approx(0.55)
    assert float(row["std"]) == pytest.approx(0.1 / 2**0.5)
    assert (row["source"], row["seeds"]) == ("phantom", "2")


# Unfinished and unlike runs -----------------------------------------------------------------------

def test_unfinished_runs_are_marked_and_not_averaged(tmp_path):
    folder = write_set(tmp_path, losses={"gdl": [[0.6] * 8]})
    write_run(folder / "gdl" / "seed1", tmp_path / "data" / "wmh", "gdl", 1, [0.9] * 3,
              finished=False)
    cells, notes, _ = read_table(folder)
    assert cells["gdl", "seeds"] == "1 of 2; seed1 at epoch 3 of 8"
    assert cells["gdl", "DSC, best epoch"] == "0.600 (–)"
    assert "Only finished runs are averaged" in notes


def test_partial_numbers_carry_an_asterisk_when_nothing_has_finished(tmp_path):
    data = write_data(tmp_path / "data")
    write_run(tmp_path / "r" / "gdl" / "seed0", data, "gdl", 0, [0.2, 0.3], finished=False)
    cells, notes, _ = read_table(tmp_path / "r")
    assert cells["gdl", "DSC, best epoch"] == "0.300 (–) *" and "those so far" in notes
    assert build.headlines(runs.load_sets([tmp_path / "r"], None)[0]) == []


def test_a_finished_run_that_was_made_longer_counts_as_unfinished(tmp_path):
    folder = write_long(tmp_path, [0.5] * 8)
    assert runs.load_sets([folder], None)[0].runs[0].finished is False


@pytest.mark.parametrize("setting, value", [
    ("data_fingerprint", "0" * 64), ("protocol", "code2018"), ("size", 48), ("network", "enet"),
    ("width", 64), ("epochs", 9), ("lr", 0.01)])
def test_runs_that_differ_are_refused(tmp_path, setting, value):
    folder = write_set(tmp_path, losses={"gdl": [[0.6] * 8]})
    write_run(folder / "gdl" / "seed1", tmp_path / "data" / "wmh", "gdl", 1, [0.6] * 8,
              **{setting: value})
    with pytest.raises(UserError) as error:
        runs.load_sets([folder], None)
    assert all(part in str(error.value) for part in ("seed0", "seed1", setting, str(value)))


def test_a_run_in_the_folder_of_another_loss_is_refused(tmp_path):
    folder = write_set(tmp_path, losses={"mine": [[0.5] * 8], "gdl": [[0.5] * 8]})
    runs.load_sets([folder], None)  # "mine" says nothing of its loss
    path = folder / "gdl" / "seed0" / "config.json"
    path.write_text(path.read_text().replace('"gdl"', '"gdl+boundary"'))
    with pytest.raises(UserError, match=r"config.json: expected loss gdl, as .*/gdl says, found "
                                        r"gdl\+boundary. Move the run to a folder "):
        runs.load_sets([folder], None)


def test_refusal_is_one_line_and_status_2(tmp_path):
    folder = write_set(tmp_path, losses={"gdl": [[0.6] * 8]})
    write_run(folder / "gdl" / "seed1", tmp_path / "data" / "wmh", "gdl", 1, [0.6] * 8,
              protocol="code2018")
    done = run_report("--runs", "results/wmh", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert not (folder / "table1.md").exists()


@pytest.mark.parametrize("name, content, expected", [
    ("metrics.csv", "epoch,val_dice\n1,high\n", "'high' in line 2"),
    ("metrics.csv", "epoch\n1\n", "no column val_dice"),
    ("metrics.csv", "epoch,val_dice\n1,0.5\n", "8 epochs"),
    ("config.json", "{", "JSON"),
    ("config.json", "[]", "found list"),
    ("config.json", '{"loss": "gdl"}', "no seed"),
    ("summary.json", "[]", "list"),
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


# Cases and scans ----------------------------------------------------------------------------------

def test_cases_are_chosen_by_volume_and_by_number_of_parts(tmp_path):
    results = runs.load_set(write_set(tmp_path))
    ranked = [(rank, case.name, index) for rank, _, case, index in cases.ranked_cases(results)]
    assert ranked == [("smallest", "a", 0), ("largest", "b", 1)]
    case, index, parts = cases.most_parts(results)
    assert (case.name, index, parts) == ("b", 1, 2)


def test_boundary_distance_is_the_distance_summed_over_the_difference(full):
    # the prediction is the truth moved by one row: it gains a row of cells and loses one that lies
    # on the boundary
    phi = signed_distance(square(8, 8, 8) | square(2, 18, 2))
    truth = phi <= 0
    moved = np.roll(square(8, 8, 8) | square(2, 18, 2), 1, axis=0)
    expected = phi[moved & ~truth].sum() - phi[truth & ~moved].sum()
    page = (full / "report.html").read_text()
    assert f"half the boundary distance is {expected:.1f} px" in page


def test_crop_keeps_proportions_and_stays_inside_the_image():
    assert drawing.box(square(0, 10, 4), 2) == (slice(0, 8), slice(8, 16))
    # 16 mm each way
    assert drawing.box(square(8, 10, 4), 2, step=(1, 2, 5)) == (slice(2, 18), slice(8, 16))


# Outputs ------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """The program on two sets: a phantom that has finished, and own data without predictions."""
    root = tmp_path_factory.mktemp("report")
    write_set(root, "wmh")
    data = write_data(root / "data" / "own_50%", source="own", name="own_50%")
    write_run(root / "results" / "own" / "gdl" / "seed0", data, "gdl", 0, [0.2, 0.3],
              finished=False)

    done = run_report("--runs", "results/wmh", "results/own", cwd=root)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "results/report.html"
    assert "WMH phantom" in done.stdout and "0.550 (0.071)" in done.stdout
    return root / "results"


def test_phantoms_are_called_phantoms_everywhere(full):
    for name in ("table1.md", "table1.csv", "table1.tex", "report.html"):
        assert "WMH phantom" in (full / name).read_text()
    assert "Contains phantom data" in (full / "report.html").read_text()


def test_latex_is_escaped_and_balanced(full):
    text = (full / "table1.tex").read_text()
    assert r"own\_50\%" in text
    unescaped = r"(?<!\\)[_%](?!\n|\{| \\usepackage)"
    assert not re.search(unescaped, text.replace("{%\n", "{\n"))

    bare = text.replace(r"\{", "").replace(r"\}", "")
    assert bare.count("{") == bare.count("}")

    lines = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in lines[1:]} == {18}  # 2 sets x 9 columns
    assert lines[0].count(r"\multicolumn{9}") == 2


def test_only_the_table_on_request(tmp_path, capsys):
    folder = write_set(tmp_path)
    assert report.main(["--runs", str(folder), "--only", "table"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(folder / "table1.md")
    written = sorted(path.name for path in folder.glob("*.*"))
    assert written == ["measures.csv", "table1.csv", "table1.md", "table1.tex"]


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_pictures(full, name):
    picture = imread(full / f"{name}.png")
    assert picture.ndim == 3 and min(picture.shape[:2]) > 400 and picture[..., :3].std() > 0.02
    pdf = (full / f"{name}.pdf").read_bytes()
    assert pdf.startswith(b"%PDF") and b"/Type3" not in pdf


def test_the_same_runs_give_the_same_bytes(full, tmp_path):
    out = tmp_path / "again"
    done = run_report("--runs", "results/wmh", "results/own", "--out", out, cwd=full.parent)
    assert done.returncode == 0
    for name in ("table1.md", "table1.csv", "table1.tex", *(f"{figure}.png" for figure in FIGURES)):
        assert (out / name).read_bytes() == (full / name).read_bytes(), name


def test_two_sets_of_one_name_are_told_apart_by_their_folders(tmp_path):
    folders = [write_set(tmp_path, name, source="own") for name in ("cpu", "gpu")]
    titles = [results.title for results in runs.load_sets(folders, None)]
    assert titles == ["small (cpu)", "small (gpu)"]


def test_the_sweep_is_drawn_apart_and_left_out_of_figure_3(tmp_path):
    results = runs.load_set(write_sweep(tmp_path))
    assert list(curves.plain_rows(results)) == ["gdl", "gdl+boundary"]
    constant, moving = results.sweep
    assert constant == {"gdl+boundary-alpha0.25": 0.25, "gdl+boundary-alpha0.5": 0.5}
    assert moving == ["gdl+boundary"]
    *_, alt = study_figures.sweep([results])
    assert "best epoch: schedule 0.725, alpha 0.25 0.500, alpha 0.5 0.650" in alt


@pytest.mark.parametrize("further, drawn", [
    ((), True), (("gdl-batch", "ce", "dice"), False)])  # six rows in all
def test_a_warm_up_is_drawn_beside_few_other_rows(tmp_path, further, drawn):
    rows = ("gdl", "gdl+boundary", "gdl+boundary-warm2", *further)
    results = runs.load_set(write_set(tmp_path, losses=dict.fromkeys(rows, DSC["gdl"])))
    assert ("gdl+boundary-warm2" in curves.plain_rows(results)) == drawn


def test_sweep_and_convergence_are_drawn_once_they_were_measured(tmp_path):
    sets, out = runs.load_sets([write_sweep(tmp_path)], None), tmp_path / "out"
    errors = {"disc grown": {"sizes": [32, 64], "errors": [0.2, 0.1], "order": 1.0}}
    drawn = figures.draw_all(sets, REPORTED, out, errors)
    assert [figure["name"] for figure in drawn] == [*FIGURES, "sweep", "identity"]
    assert "disc grown from 0.200 at 32 pixels to 0.100 at 64, order 1.00" in drawn[-1]["alt"]
    assert all(imread(out / f"{name}.png").std() > 0 for name in ("identity", "sweep"))


def test_figures_show_tmax_and_without_it_the_first_modality(tmp_path):
    results = runs.load_set(write_set(tmp_path))
    assert cases.shown_modality(results) == (0, "FLAIR")
    modalities = {"modalities": ["CT", "CT_CBF", "CT_Tmax"]}
    results.dataset = results.dataset.model_copy(update=modalities)
    assert cases.shown_modality(results) == (2, "CT_Tmax")


def test_a_copy_of_a_run_is_not_another_seed(tmp_path):
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
    run = runs.load_set(write_set(tmp_path)).runs[0]
    (run.folder / "evaluation.csv").write_text(
        "subject,label,dice,site\n2,1,0.5,Utrecht\n4,1,0.7,Singapore\n")
    assert build.evaluation(run) == {"dice": "0.600 (2 of 2)"}


def test_the_command_is_the_one_that_was_given_or_follows_from_settings(tmp_path):
    run = runs.load_set(write_set(tmp_path, losses={"gdl": [[0.5]]})).runs[0]
    assert commands.train_command(run) == (
        f"python main.py --data {tmp_path}/data/wmh --loss gdl --seed 0 --out {run.folder} "
        "--network unet --width 8 --epochs 8 --batch-size 8 --lr 0.001 --schedule rebalance "
        "--protocol paper")
    run.config = run.config.model_copy(update={"command": "python main.py --data here"})
    assert commands.train_command(run) == "python main.py --data here"


def test_leftovers_of_a_report_that_was_killed_are_cleaned_by_the_next(tmp_path):
    folder = write_set(tmp_path)
    (folder / "report.html.partial-99999999").touch()
    report.main(["--runs", str(folder), "--only", "table"])
    assert not list(folder.glob("*.partial-*"))


def test_a_run_folder_that_lost_its_config_is_refused_and_not_left_out(tmp_path):
    folder = write_set(tmp_path)
    (folder / "gdl" / "seed1" / "config.json").unlink()
    expected = "seed1: expected a config.json beside metrics.csv, found none"
    with pytest.raises(UserError, match=expected):
        runs.load_sets([folder], None)


def test_a_run_folder_that_never_began_does_not_count(tmp_path):
    folder = write_set(tmp_path)
    (folder / "gdl" / "seed2").mkdir()
    (folder / "gdl" / "seed2" / ".lock").touch()
    cells, _, _ = read_table(folder)
    assert cells["gdl", "seeds"] == "2"


@pytest.mark.parametrize("info, title", [
    ({"layout": "wmh", "source": "phantom", "name": "x"}, "WMH phantom"),
    ({"layout": "acdc", "source": "phantom", "name": "phantom-acdc"}, "ACDC phantom"),
    ({"layout": "acdc", "source": "phantom", "name": "hearts"}, "hearts phantom"),
    ({"layout": "wmh", "source": "challenge", "name": "x"}, "WMH"),
    ({"layout": "wmh", "source": "own", "name": "x"}, "x"),
    ({"layout": "wmh", "source": "own", "name": "lgg"}, "LGG"),
    ({"layout": "wmh", "source": "own", "name": "lgg-32px"}, "LGG-32px"),
    ({"layout": "wmh", "source": "own", "name": "lggs"}, "lggs"),
    ({"layout": "acdc", "source": "phantom", "name": "ms"}, "MS phantom"),
    ({"layout": "wmh", "source": "own", "name": "wmh"}, "wmh")])
def test_a_phantom_is_called_so_once(info, title):
    assert runs.set_title(Dataset.model_construct(**info)) == title


def test_own_data_go_by_their_own_name_even_in_the_wmh_layout(tmp_path):
    assert runs.load_sets([write_set(tmp_path, source="own", name="mine")], None)[0].title == "mine"
