"""Two rows paired over scans: means, differences and verdicts by hand, and what a pack gives."""

import csv
import shutil

import numpy as np
import pytest

from checkout import ROOT
from conftest import refuses, run
from reporting import drawing, study_figures
from run_folders import write_scores, write_set
from scoring.rows import label
from scoring.runs import load_sets
from studies import difference

PUBLISHED = ROOT / "results" / "published"
MS, BY_SCORE, BY_PAPER, ACDC = (PUBLISHED / pack / "runs" / name for pack, name in (
    ("ms-poly", "ms"), ("ms-fair", "ms"), ("ms-paper", "ms"), ("acdc", "acdc")))


def row(values, seeds=2, **more):
    """row_scores of so many seeds with the same 3-D DSC of each scan."""
    return {"dsc_3d": np.array([values] * seeds, float), **more}


def test_a_mean_a_difference_and_its_interval():
    line = difference.line_of("dsc_3d", row([0.1, 0.2, 0.3, 0.4, 0.5]),
                              row([0.3, 0.4, 0.5, 0.6, 0.7]))
    assert line["first"] == pytest.approx(0.3) and line["second"] == pytest.approx(0.5)
    assert line["difference"] == pytest.approx(0.2)
    assert line["low"] == pytest.approx(0.2) and line["high"] == pytest.approx(0.2)
    assert (line["scans"], line["seeds"], line["verdict"]) == (5, 2, "better")


def test_what_is_summed_over_slices_is_a_mean_over_slices():
    # 3 of 4 and 0 of 1 empty slices clean against 1 of 4 and 1 of 1: 3/5 against 2/5
    first = {"clean": np.array([[1.0, 1.0]]), "slices_empty": np.array([[4.0, 1.0]])}
    second = {"clean": np.array([[3.0, 0.0]]), "slices_empty": np.array([[4.0, 1.0]])}
    line = difference.line_of("clean", first, second)
    assert (line["first"], line["second"]) == (0.4, 0.6)
    assert line["difference"] == pytest.approx(0.2)


@pytest.mark.parametrize("low, high, sign, seeds, verdict", [
    (0.1, 0.2, 1, 2, "better"), (-0.2, -0.1, 1, 2, "worse"), (-0.2, -0.1, -1, 2, "better"),
    (0.1, 0.2, -1, 2, "worse"), (-0.1, 0.2, 1, 2, "undecided"), (0.0, 0.2, 1, 2, "undecided"),
    (0.1, 0.2, 0, 2, "more"), (-0.2, -0.1, 0, 2, "less"), (0.1, 0.2, 1, 1, "not measured"),
    (None, None, 1, 9, "not measured")])
def test_an_interval_says_better_or_worse_or_nothing(low, high, sign, seeds, verdict):
    assert difference.verdict({"low": low, "high": high}, sign, seeds) == verdict


def test_four_scans_have_no_interval():
    line = difference.line_of("dsc_3d", row([0.1] * 4), row([0.2] * 4))
    assert line["low"] is None and line["verdict"] == "not measured"


@pytest.fixture
def folder(tmp_path):
    folder = write_set(tmp_path, source="own")
    for number, path in enumerate(sorted(folder.glob("gdl*/seed*"))):
        write_scores(path, lambda epoch, of=number: {"dsc_3d": 0.1 * of})
    return folder


def test_the_table_and_its_csv(folder, tmp_path):
    result = run("studies.difference", "--runs", folder, "--rows", "gdl", "gdl+boundary", "--csv",
                 tmp_path / "difference.csv")
    assert result.returncode == 0, result.stderr
    assert "2 scans, 2 and 2 seeds, last 2 epochs" in result.stdout
    # gdl has 0 and 0.1, gdl+boundary 0.2 and 0.3; two scans are too few
    assert "| 3-D DSC | 0.050 | 0.250 | +0.200 | not measured |" in result.stdout
    with open(tmp_path / "difference.csv") as file:
        lines = {line["measure"]: line for line in csv.DictReader(file)}
    assert set(lines) == set(difference.MEASURES)
    assert float(lines["dsc_3d"]["first"]) == pytest.approx(0.05)


def test_a_measure_without_a_value_is_an_empty_cell(folder, tmp_path):
    result = run("studies.difference", "--runs", folder, "--rows", "gdl", "gdl+boundary", "--csv",
                 tmp_path / "difference.csv")
    assert result.returncode == 0, result.stderr
    assert "| recall from 0.5 ml | – | – | – | not measured |" in result.stdout
    with open(tmp_path / "difference.csv") as file:
        large = {line["measure"]: line for line in csv.DictReader(file)}["recall_large"]
    assert large["first"] == large["second"] == large["difference"] == ""


def test_a_phantom_has_no_verdict(tmp_path):
    folder = write_set(tmp_path, source="phantom")
    for path in folder.glob("gdl*/seed*"):
        write_scores(path, lambda epoch: {"dsc_3d": 0.5})
    result = run("studies.difference", "--runs", folder, "--rows", "gdl", "gdl+boundary")
    lines = [line for line in result.stdout.splitlines() if line.startswith("| 3-D DSC")]
    assert result.returncode == 0 and lines[0].endswith("| phantom: no verdict |")


def test_several_sets_are_tables_one_below_the_other_and_a_figure(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "again")
    result = run("studies.difference", "--runs", folder, tmp_path / "again", "--rows", "gdl",
                 "gdl+boundary", "--figure", tmp_path / "drawn.png", "--csv", tmp_path / "all.csv")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("| 3-D DSC | 0.050 | 0.250 | +0.200 | not measured |") == 2
    assert (tmp_path / "drawn.png").stat().st_size and (tmp_path / "drawn.pdf").stat().st_size
    refuses(run("studies.difference", "--runs", folder, "--rows", "gdl", "gdl+boundary",
                "--figure", tmp_path / "drawn.pdf"), tmp_path / "drawn.png", "another file")
    refuses(run("studies.difference", "--runs", folder, tmp_path / "again/../again", tmp_path /
                "again", "--rows", "gdl", "gdl+boundary"), "each folder once")
    with open(tmp_path / "all.csv") as file:
        sets = [line["set"] for line in csv.DictReader(file)]
    assert sets == sorted(sets, key=sets.index) and len(set(sets)) == 2


def test_the_figure_has_a_point_per_set_filled_where_0_is_left_out():
    def line(name, of, values, verdict):
        return {"measure": name, "words": name, "set": of, "verdict": verdict,
                **dict(zip(("difference", "low", "high"), values, strict=True))}

    lines = [line(name, *more) for name in study_figures.DIFFERENCES for more in (
        ("A", (0.2, 0.1, 0.3), "better"), ("B", (-0.1, -0.2, 0.1), "undecided"),
        ("C", (0.4, None, None), "not measured"), ("D", (None, None, None), "not measured"))]
    figure, _, _, words = study_figures.differences(lines, ("gdl", "gdl+boundary"))
    axis = figure.axes[0]
    points = [drawn for drawn in axis.lines if drawn.get_marker() == "o"]
    assert [[*drawn.get_xydata()[0]] for drawn in points] == [[0.2, 0], [-0.1, 1], [0.4, 2]]
    assert [drawn.get_markerfacecolor() == "white" for drawn in points] == [False, True, True]
    bars = [[*drawn.get_xdata()] for drawn in axis.lines if drawn.get_color() == drawing.BLUE
            and drawn.get_marker() != "o"]
    assert bars == [[0.1, 0.3], [-0.2, 0.1]] and "D –" in words
    assert [text.get_text() for text in axis.get_yticklabels()] == ["A", "B", "C", "D"]


def test_data_folders_are_as_many_as_the_runs(folder):
    refuses(run("studies.difference", "--runs", folder, "--data", folder, folder, "--rows", "gdl",
                "gdl+boundary"), "--data", "one folder for each of --runs (1)")


def test_the_mean_over_named_epochs(tmp_path):
    folder = write_set(tmp_path, source="own")  # epochs 1 to 8
    for path in folder.glob("gdl*/seed*"):
        write_scores(path, lambda epoch, of=1 + (path.parent.name == "gdl+boundary"): {
            "dsc_3d": 0.05 * of * epoch})
    words = ("studies.difference", "--runs", folder, "--rows", "gdl", "gdl+boundary", "--epochs")
    result = run(*words, 2, 4)  # 0.10, 0.15, 0.20 and twice as much
    assert result.returncode == 0, result.stderr
    assert "2 and 2 seeds, epochs 2 to 4\n" in result.stdout
    assert "| 3-D DSC | 0.150 | 0.300 | +0.150 | not measured |" in result.stdout
    assert "| 3-D DSC | 0.400 | 0.800 |" in run(*words, 8, 8).stdout

    for epochs in ((0, 4), (4, 9), (4, 2)):
        refuses(run(*words, *epochs), "--epochs", "two epochs from 1 to 8", *map(str, epochs))

    path = folder / "gdl" / "seed1" / "scores.csv"  # of an earlier version up to epoch 3
    path.write_text("".join(line for line in path.read_text().splitlines(True)
                            if line[0] not in "123"))
    refuses(run(*words, 2, 4), "--epochs", "two epochs from 4 to 8")


def test_epochs_and_a_statistic_are_not_named_together(folder):
    result = run("studies.difference", "--runs", folder, "--rows", "gdl", "gdl+boundary",
                 "--statistic", "best", "--epochs", 1, 2)
    assert result.returncode == 2 and "not allowed with argument" in result.stderr


def rewrite(path, keep):
    """Keep the lines of a CSV of which keep(cells) is true, and its header."""
    header, *lines = path.read_text().splitlines(True)
    path.write_text("".join([header, *(line for line in lines if keep(line.split(",")))]))


@pytest.mark.parametrize("keep, words", [
    (lambda cells: cells[0] != "8", "at epoch 8, found none of a"),
    (lambda cells: cells[0] != "7", "at epoch 7, found none of a"),
    (lambda cells: cells[0] != "3", "at epoch 3, found none of a"),
    (lambda cells: cells[:2] != ["7", "b"], "at epoch 7, found none of b"),
    (lambda cells: cells[0] == "8", "at epoch 7, found none of a")])  # the window is two epochs
def test_scores_that_lack_scans_or_epochs_are_refused(folder, keep, words):
    path = folder / "gdl" / "seed1" / "scores.csv"
    rewrite(path, keep)
    refuses(run("studies.difference", "--runs", folder, "--rows", "gdl", "gdl+boundary"), path,
            "expected scores of the 2 scans that validate", words)


def test_an_unfinished_run_has_the_scores_of_its_epochs(folder):
    path = folder / "gdl" / "seed1"
    (path / "summary.json").unlink()
    metrics = (path / "metrics.csv").read_text().splitlines(True)
    (path / "metrics.csv").write_text("".join(metrics[:2]))  # one epoch, below the window of two
    assert len(load_sets([folder], None)[0].runs) == 6
    rewrite(path / "scores.csv", lambda cells: cells[:2] != ["1", "b"])
    refuses(run("report.py", "--runs", folder, "--only", "table"), "at epoch 1, found none of b")


def test_a_run_killed_between_its_first_scores_and_its_first_row_has_no_epoch_yet(folder):
    path = folder / "gdl" / "seed1"
    (path / "summary.json").unlink()
    (path / "metrics.csv").unlink()
    rewrite(path / "scores.csv", lambda cells: cells[0] == "1")
    assert [len(found.rows) for found in load_sets([folder], None)[0].losses["gdl"]] == [8, 0]
    result = run("studies.difference", "--runs", folder, "--rows", "gdl", "gdl+boundary")
    assert result.returncode == 0 and "1 and 2 seeds" in result.stdout, result.stderr


def test_scores_of_other_scans_are_refused(folder):
    path = folder / "gdl" / "seed1" / "scores.csv"
    path.write_text(path.read_text().replace(",b,", ",c,"))
    refuses(run("studies.difference", "--runs", folder, "--rows", "gdl", "gdl+boundary"), path,
            "at epoch 1, found none of b")


def test_runs_without_scores_of_scans_are_named_and_not_said_to_count(folder):
    (folder / "gdl" / "seed1" / "scores.csv").unlink()
    metrics = folder / "gdl" / "seed1" / "metrics.csv"
    metrics.write_text(metrics.read_text().replace(",0.01,", ",0,"))
    result = run("studies.difference", "--runs", folder, "--rows", "gdl", "gdl+boundary")
    assert "1 and 2 seeds" in result.stdout
    assert "by volume and false lesions: runs without scores.csv, " in result.stdout
    assert "boundary/seed1, gdl/seed1." in result.stdout
    assert "count in every mean" not in result.stdout
    (folder / "gdl" / "seed0" / "scores.csv").unlink()
    refuses(run("studies.difference", "--runs", folder, "--rows", "gdl", "gdl+boundary"),
            "--rows gdl: expected scores.csv in its runs", "take --statistic best")


def test_a_row_without_runs_is_refused(folder):
    refuses(run("studies.difference", "--runs", folder, "--rows", "gdl", "dice"),
            "--rows dice", "boundary, gdl, gdl+boundary")


@pytest.mark.parametrize("folder, rows, line", [
    (MS, ("gdl", "gdl+boundary"), "| 3-D DSC | 0.476 | 0.207 | -0.269 [-0.563, +0.093] |"),
    (BY_SCORE, ("gdl+boundary", "gdl-batch"),
     "| 3-D DSC | 0.170 | 0.527 | +0.356 [+0.034, +0.639] |"),
    (BY_PAPER, ("gdl", "boundary"),
     "| DSC, lesion slices | 0.441 | 0.000 | -0.441 [-0.706, -0.156] |"),
    (BY_PAPER, ("gdl+boundary", "gdl+boundary-warm50"),
     "| 3-D DSC | 0.056 | 0.437 | +0.381 [-0.410, +1.000] |"),
    (ACDC, ("ce", "boundary-background"), "| 3-D DSC | 0.813 | 0.804 | -0.009 [-0.046, +0.034] |")])
def test_published_runs_are_compared_without_their_scans(folder, rows, line):
    result = run("studies.difference", "--runs", folder, "--rows", *rows)
    assert result.returncode == 0, result.stderr
    assert line in result.stdout


COLUMNS = {"empty slices left clean": "clean", "DSC, lesion slices": "dsc_lesion",
           "3-D DSC": "dsc_3d", "lesion F1": "lesion_f1", "HD95 (mm)": "hd95"}


MS_COLUMNS = {"lesion recall": "lesion_recall", "lesion precision": "lesion_precision",
              "false lesions per scan": "lesions_false", "recall below 0.05 ml": "recall_small",
              "slice DSC": "dsc"}


def cells_of(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def test_a_pack_s_table_of_losses_beside_gdl_comes_from_its_runs():
    """Each mean, and each difference from GDL, in bold where its interval excludes 0."""
    folder = PUBLISHED / "lgg-sizes"
    text = (folder / "README.md").read_text(encoding="utf-8")
    lines = text[text.index("| loss | empty slices left clean"):].split("\n\n")[0].splitlines()
    head, _, gdl, *rows, nothing = map(cells_of, lines)
    assert gdl[0] == "L_GD" and nothing[0] == "predicts nothing" and len(rows) == 10
    (results,) = load_sets([folder / "runs" / "lgg"], None)
    names = {label(row): row for row in results.losses}

    for written in rows:
        name = names[written[0].partition(" (")[0]]
        found = {line["measure"]: line for line in difference.compared(
            results, ("gdl", name), "last")}
        for title, before, cell in zip(head[1:6], gdl[1:6], written[1:6], strict=True):
            line, form = found[COLUMNS[title]], ".1f" if title == "HD95 (mm)" else ".3f"
            change, low, high = (f"{line[key]:+{form}}" for key in ("difference", "low", "high"))
            bold = "**" if line["verdict"] in ("better", "worse") else ""
            assert before == f"{line['first']:{form}}"
            assert cell == f"{line['second']:{form}} ({bold}{change} [{low}, {high}]{bold})"


def test_the_table_of_means_on_ms_comes_from_its_runs():
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    lines = text[text.index("| rules | loss | empty slices left clean"):].split("\n\n")[0]
    head, _, *rows, nothing = map(cells_of, lines.splitlines())
    assert nothing[1] == "predicts nothing" and len(rows) == 10

    for folder, part in ((MS, rows[:5]), (BY_PAPER, rows[5:])):
        (results,) = load_sets([folder], None)
        names = {label(row): row for row in results.losses}
        for written in part:
            name = names[written[1].partition(" (")[0]]
            found = {line["measure"]: line["first"] for line in difference.compared(
                results, (name, name), "last")}
            for title, cell in zip(head[2:], written[2:], strict=True):
                form = ".1f" if title in ("HD95 (mm)", "false lesions per scan") else ".3f"
                assert cell == f"{found[(COLUMNS | MS_COLUMNS)[title]]:{form}}", (written, title)


def test_the_readme_s_table_comes_from_its_runs():
    """Its means, in bold where they are better than those of GDL + boundary beyond chance."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = text[text.index("| | empty slices left clean"):].split("\n\n")[0].splitlines()
    head, _, *rows, nothing = map(cells_of, lines)
    assert nothing[0] == "predicts nothing"
    (results,) = load_sets([MS], None)
    titles = [title.replace("DSC on slices with a lesion", "DSC, lesion slices")
              for title in head[1:]]

    names = ["gdl", "gdl+boundary", "gdl+boundary-warm50", "gdl-batch", "gdl+boundary-batch"]
    for name, written in zip(names, rows, strict=True):
        found = {line["measure"]: line for line in difference.compared(
            results, ("gdl+boundary", name), "last")}
        for title, cell in zip(titles, written[1:], strict=True):
            line = found[(COLUMNS | MS_COLUMNS)[title]]
            form = ".0f" if title in ("HD95 (mm)", "false lesions per scan") else ".3f"
            bold = "**" if line["verdict"] == "better" else ""
            assert cell == f"{bold}{line['second']:{form}}{bold}", (name, title)


def test_the_table_of_differences_on_ms_comes_from_its_runs():
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    lines = text[text.index("| difference | from GDL to GDL + boundary"):].split("\n\n")[0]
    _, _, *rows = map(cells_of, lines.splitlines())
    (results,) = load_sets([MS], None)
    pairs = (("gdl", "gdl+boundary"), ("gdl", "gdl+boundary-warm50"),
             ("gdl+boundary", "gdl+boundary-warm50"), ("gdl", "gdl-batch"),
             ("gdl+boundary", "gdl-batch"), ("gdl-batch", "gdl+boundary-batch"))
    assert len(rows) == 7

    for place, pair in enumerate(pairs, 1):
        found = {line["measure"]: line for line in difference.compared(results, pair, "last")}
        for row in rows:
            line = found[MS_COLUMNS.get(row[0]) or COLUMNS[row[0]]]
            form = {"HD95 (mm)": "+.1f", "false lesions per scan": "+.0f"}.get(row[0], "+.3f")
            change, low, high = (f"{line[key]:{form}}" for key in ("difference", "low", "high"))
            bold = "**" if line["verdict"] in ("better", "worse") else ""
            assert row[place] == f"{bold}{change} [{low}, {high}]{bold}"
