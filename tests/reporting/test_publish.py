"""Packs of results: what is in them, and that their numbers come out again."""

import csv
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_test_set import column, write_masks, write_test_scans

from checkout import ROOT
from conftest import refuses, run, train
from reporting import publish
from run_folders import write_scores, write_set
from scoring import scan_scores
from scoring.runs import load_set

PACKS = sorted({path.parents[4] for path in (ROOT / "results" / "published").glob(
    "*/runs/*/*/seed*/scores.csv")})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A set of two rows in three folds, finished, with its report: (root, results, data)."""
    from conftest import write_wmh_subject
    root = tmp_path_factory.mktemp("publish")
    for number in range(6):
        write_wmh_subject(root / "raw" / f"s{number}", seed=number)
    result = run("preprocess.py", "--layout", "wmh", "--raw", root / "raw", "--out",
                 root / "data", "--size", 32, "--split", "folds:3")
    assert result.returncode == 0, result.stderr

    for row in ("gdl", "gdl+boundary"):
        for fold in range(3):
            place = root / "results" / row / f"seed0-fold{fold}"
            assert train(root / "data", place, "--fold", fold, loss=row).returncode == 0
    result = run("report.py", "--runs", root / "results", "--no-scans", "--out", root / "report")
    assert result.returncode == 0, result.stderr
    return root, root / "results", root / "data"


@pytest.fixture
def pack(made, tmp_path):
    """A pack of that set, in a folder without its data."""
    root, results, _ = made
    result = run("reporting.publish", "--runs", results, "--report", root / "report", "--out",
                 tmp_path)
    assert result.returncode == 0, result.stderr
    return tmp_path / "results-cpu"


# Runs of folds -----------------------------------------------------------------------------------

def test_the_folds_of_a_seed_are_one_run_that_scores_every_scan(made):
    results = load_set(made[1])
    pooled, = results.losses["gdl"]
    assert len(pooled.parts) == 3 and pooled.name == "gdl/seed0" and pooled.finished
    assert sorted(row["subject"] for row in pooled.best_scans) == [f"s{n}" for n in range(6)]
    assert len(pooled.rows) == 2


def test_the_pooled_score_is_the_mean_over_all_scans_at_their_folds_best_epochs(made):
    pooled, = load_set(made[1]).losses["gdl"]
    slices = dice = 0
    for part in pooled.parts:
        for row in part.scans:
            if row["epoch"] == part.best["epoch"]:
                slices += row["slices"]
                dice += row["dsc"] * row["slices"]
    assert pooled.best["val_dice"] == pytest.approx(dice / slices)
    assert pooled.best["val_dice_3d"] == pytest.approx(
        sum(row["dsc_3d"] for row in pooled.best_scans) / 6)


def test_a_seed_that_lacks_folds_is_left_out_and_named(made, tmp_path):
    results = tmp_path / "results"
    shutil.copytree(made[1], results)
    for fold in (1, 2):
        shutil.rmtree(results / "gdl" / f"seed0-fold{fold}")
    result = run("report.py", "--runs", results, "--only", "table")
    assert result.returncode == 0, result.stderr
    found = load_set(results)
    assert "gdl" not in found.losses and found.losses["gdl+boundary"][0].finished
    assert "have no run of some fold, gdl/seed0 (folds 1, 2)." in " ".join(result.stdout.split())
    refuses(run("studies.difference", "--runs", results, "--rows", "gdl", "gdl+boundary"),
            "finished runs with scores", "those of gdl+boundary")

    shutil.rmtree(results / "gdl+boundary" / "seed0-fold0")
    refuses(run("report.py", "--runs", results), "gdl/seed0", "none of fold 1")


@pytest.mark.parametrize("entry, value, words", [
    ("folds", 10**12, "folds"), ("folds", 1, "folds"), ("fold", None, "a fold from 0 to 2"),
    ("fold", 7, "a fold from 0 to 2"), ("fold", -1, "fold")])
def test_impossible_folds_are_refused_at_once(made, tmp_path, entry, value, words):
    shutil.copytree(made[1], tmp_path / "results")
    for path in (tmp_path / "results").glob("*/seed*/config.json"):
        config = json.loads(path.read_text())
        if entry == "folds" or "fold1" in path.parent.name:
            path.write_text(json.dumps({**config, entry: value}))
    refuses(run("report.py", "--runs", tmp_path / "results"), "config.json", words)


def test_a_fold_with_the_scores_of_another_is_refused(made, tmp_path):
    shutil.copytree(made[1], tmp_path / "results")
    place = tmp_path / "results" / "gdl"
    shutil.copy(place / "seed0-fold1" / "scores.csv", place / "seed0-fold0" / "scores.csv")
    refuses(run("report.py", "--runs", tmp_path / "results"),
            place / "seed0-fold0" / "scores.csv", "scans that validate", "found none of s")


def test_the_report_of_folds_has_its_table_and_page(made):
    with open(made[0] / "report" / "table1.csv") as file:
        rows = [row for row in csv.DictReader(file) if row["loss"] == "gdl" and row["mean"]]
    assert {row["seeds"] for row in rows} == {"1"} and len(rows) >= 4
    assert "gdl/seed0" in (made[0] / "report" / "report.html").read_text()


def test_each_folds_model_is_scored_on_the_test_scans(made, tmp_path):
    shutil.copytree(made[1], tmp_path / "results")
    write_test_scans(tmp_path / "raw" / "wmh")
    for place in (tmp_path / "results").glob("gdl/seed0-fold*"):
        write_masks(place, column(1, 1))
        (place / "best.pt").unlink()  # which would have to be the one that wrote them
    result = run("scoring.test_set", "--runs", tmp_path / "results", "--data", made[2], "--raw",
                 tmp_path / "raw")
    assert result.returncode == 0, result.stderr
    text = (tmp_path / "results" / "test_set.md").read_text()
    assert "| L_GD | 3 models | 0.667 " in text
    assert "not predicted: L_GD + L_B, seed0-fold0; L_GD + L_B, seed0-fold1;" in text


# Packs -------------------------------------------------------------------------------------------

def test_a_pack_has_every_run_and_no_scan_no_mask_and_no_weights(pack):
    names = {path.relative_to(pack).as_posix() for path in pack.rglob("*") if path.is_file()}
    assert {"README.md", "table1.md", "table1.csv", "figure3.png", "report.html",
            "runs/results/data/split.csv", "runs/results/data/fingerprint.json",
            "runs/results/gdl/seed0-fold2/scores.csv",
            "runs/results/gdl+boundary/seed0-fold0/config.json"} <= names
    assert not [name for name in names if name.endswith((".npz", ".npy", ".pt", ".nii.gz"))]


@pytest.mark.parametrize("folder, phantom, name", [
    ("wmh", False, "wmh-cpu"), ("wmh", True, "phantom-wmh-cpu"),
    ("phantom-isles", True, "phantom-isles-cpu")])
def test_the_name_of_a_phantoms_pack_says_so(folder, phantom, name):
    part = SimpleNamespace(config=SimpleNamespace(sessions=[{"device": "cpu, 2 threads, x86_64"}]))
    results = SimpleNamespace(folder=Path(folder), is_phantom=phantom, parts=[part])
    assert publish.default_name(results) == name


def test_a_pack_names_no_path_of_the_machine(made, pack):
    for path in pack.rglob("*"):
        if path.suffix in (".json", ".md", ".csv"):
            assert str(made[0]) not in path.read_text(), path


@pytest.mark.parametrize("beside", ["nothing", "empty folder", "other data"])
def test_a_pack_is_reported_without_its_data(made, pack, tmp_path, monkeypatch, beside):
    monkeypatch.chdir(tmp_path)  # a pack's config.json names the last part of a path: data
    if beside == "empty folder":
        (tmp_path / "data").mkdir()
    if beside == "other data":
        shutil.copytree(made[2], tmp_path / "data")
        path = tmp_path / "data" / "fingerprint.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "sha256": "0" * 64}))
    result = run("report.py", "--runs", pack / "runs" / "results", "--out", tmp_path / "again")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "again" / "table1.csv").read_bytes() == (pack / "table1.csv").read_bytes()


def test_a_pack_comes_out_again_and_a_changed_number_does_not(pack):
    result = run("reporting.publish", "--check", pack)
    assert result.returncode == 0 and "12 epochs" in result.stdout, result.stderr

    path = pack / "runs" / "results" / "gdl" / "seed0-fold1" / "scores.csv"
    rows = list(csv.DictReader(path.open()))
    before = path.read_text()
    path.write_text(before.replace(rows[0]["dsc_3d"], str(float(rows[0]["dsc_3d"]) + 0.1)))
    refuses(run("reporting.publish", "--check", pack), "metrics.csv", "val_dice_3d")
    path.write_text(before)

    for name, cell in (("table1.csv", 5), ("measures.csv", 4)):
        table = pack / name
        lines = table.read_text().splitlines(True)
        at = next(i for i, line in enumerate(lines) if ",gdl,dsc_3d," in line)
        cells = lines[at].split(",")
        cells[cell] = str(float(cells[cell]) + 0.01)
        table.write_text("".join([*lines[:at], ",".join(cells), *lines[at + 1:]]))
        refuses(run("reporting.publish", "--check", pack), name, "gdl dsc_3d")
        table.write_text("".join(lines))


def test_raters_are_no_rows_that_a_pack_must_have_runs_of(pack):
    path = pack / "table1.csv"
    first = next(csv.DictReader(path.open()))
    rater = {**first, "source": "own", "loss": "rater:observer2", "mean": "0.5"}
    assert publish.rows_with_runs({("gdl", "dsc", "best"): 0.5, ("gdl-batch", "dsc", "best"): None,
                                   ("predicts nothing", "dsc", "best"): 0.5,
                                   (rater["loss"], "dsc", "best"): 0.5}) == {"gdl"}


@pytest.mark.parametrize("cell", ["word", "1e999"])
def test_a_number_that_is_none_is_one_line(pack, cell):
    path = pack / "table1.csv"
    text = path.read_text()
    mean = next(row["mean"] for row in csv.DictReader(path.open()) if row["mean"])
    path.write_text(text.replace(mean, cell, 1))
    refuses(run("reporting.publish", "--check", pack), "table1.csv")


def test_of_several_sets_with_these_rows_one_must_have_the_numbers(pack):
    another = pack / "runs" / "another"
    shutil.copytree(pack / "runs" / "results", another)
    for name, column_ in (("scores.csv", "dsc_3d"), ("metrics.csv", "val_dice_3d")):
        for path in another.glob(f"gdl/seed*/{name}"):
            rows = list(csv.DictReader(path.open()))
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, rows[0])
                writer.writeheader()
                writer.writerows({**row, column_: 0.75} for row in rows)
    result = run("reporting.publish", "--check", pack)
    assert result.returncode == 0 and "24 epochs" in result.stdout, result.stderr

    shutil.rmtree(pack / "runs" / "results")
    refuses(run("reporting.publish", "--check", pack), "table1.csv", "from the runs")


def test_a_pack_of_several_sets_has_the_table_of_the_one_with_its_rows(pack):
    shutil.copytree(pack / "runs" / "results", pack / "runs" / "another")
    shutil.rmtree(pack / "runs" / "another" / "gdl")
    result = run("reporting.publish", "--check", pack)
    assert result.returncode == 0, result.stderr
    cells = re.search(r"and (\d+) numbers", result.stdout)[1]
    assert int(cells) == sum(bool(row["mean"]) and row.get("source") != "paper"
                             for name in ("table1.csv", "measures.csv")
                             for row in csv.DictReader((pack / name).open()))
    shutil.rmtree(pack / "runs" / "results" / "gdl")
    refuses(run("reporting.publish", "--check", pack), "table1.csv", "the rows of a set")


def test_a_pack_replaces_none_and_needs_finished_runs(made, pack, tmp_path):
    root, results, _ = made
    words = ["reporting.publish", "--report", root / "report", "--out", tmp_path]
    refuses(run(*words, "--runs", results), "one that is there already")

    shutil.copytree(results, tmp_path / "cut")
    summary = tmp_path / "cut" / "gdl" / "seed0-fold0" / "summary.json"
    summary.unlink()
    refuses(run(*words, "--runs", tmp_path / "cut", "--data", made[2]), "seed0-fold0", "finished")
    assert not (tmp_path / "cut-cpu").exists()


def test_a_report_that_shows_scans_is_packed_only_where_it_may(made, tmp_path):
    root, results, _ = made
    assert not list((root / "report").glob("figure[124].*"))
    assert "or were to be left out" in (root / "report" / "report.html").read_text()
    words = ["reporting.publish", "--runs", results, "--report", tmp_path, "--out", tmp_path / "p"]
    assert run("report.py", "--runs", results, "--out", tmp_path).returncode == 0
    refuses(run(*words), tmp_path, "found figure1, figure2, figure4, the slices of report.html",
            "--no-scans", "SCANS=yes")
    assert not (tmp_path / "p" / "results-cpu").exists()
    assert run(*words, "--scans").returncode == 0
    assert (tmp_path / "p" / "results-cpu" / "figure4.png").exists()


def test_claims_of_other_runs_are_not_packed_and_do_not_pass(made, pack, tmp_path):
    root, results, _ = made
    stale = json.dumps({"claims": {}, "runs": {"gdl/seed7": 2}})
    shutil.copytree(results, tmp_path / "results")
    (tmp_path / "results" / "claims.json").write_text(stale)
    refuses(run("reporting.publish", "--runs", tmp_path / "results", "--report", root / "report",
                "--out", tmp_path / "packs"), "claims.json", "claims measured on these runs")
    assert not (tmp_path / "packs" / "results-cpu").exists()

    (pack / "runs" / "results" / "claims.json").write_text(stale)
    refuses(run("reporting.publish", "--check", pack), "claims.json", "those of others")


def test_weights_are_packed_when_asked_for(made, tmp_path):
    root, results, _ = made
    result = run("reporting.publish", "--runs", results, "--report", root / "report", "--out",
                 tmp_path, "--weights", "--name", "mine")
    assert result.returncode == 0, result.stderr
    assert len(list((tmp_path / "mine").rglob("best.pt"))) == 6


@pytest.mark.parametrize("folder", PACKS, ids=lambda folder: folder.name)
def test_the_numbers_of_every_published_pack_come_out_again(folder):
    result = run("reporting.publish", "--check", folder)
    assert result.returncode == 0, result.stderr


def test_paths_of_a_machine_keep_their_last_part():
    from reporting.publish import portable
    words = {"data": "/home/a/data/ms", "command": "python main.py --data /x/y/ms --out results/a"}
    assert portable(words) == {"data": "ms",
                               "command": "python main.py --data ms --out results/a"}
    assert json.dumps(portable([1, None, 0.5])) == "[1, null, 0.5]"


def test_a_set_that_never_predicts_nothing_is_packed(tmp_path):
    """What predicting nothing has in distances comes from the labels, which no pack holds."""
    folder = write_set(tmp_path, source="own", losses={"gdl": [[0.5] * 8], "gdl+boundary": [
        [0.6] * 8]})
    for place in folder.glob("*/seed*"):
        write_scores(place)
        rows = scan_scores.by_epoch(scan_scores.read(place))
        names = ["epoch", *scan_scores.means(rows[1], ["background", "lesion"])]
        with (place / "metrics.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows({"epoch": epoch, **scan_scores.means(of_epoch, ["background",
                             "lesion"])} for epoch, of_epoch in rows.items())

    assert run("report.py", "--runs", folder, "--no-scans", "--out",
               tmp_path / "report").returncode == 0
    with open(tmp_path / "report" / "measures.csv") as file:
        assert any(row["mean"] for row in csv.DictReader(file)
                   if (row["loss"], row["measure"]) == ("predicts nothing", "hd95_mm"))
    result = run("reporting.publish", "--runs", folder, "--report", tmp_path / "report", "--out",
                 tmp_path / "packs", "--name", "own")
    assert result.returncode == 0 and "16 epochs and" in result.stdout, result.stderr

    pack = tmp_path / "packs" / "own"
    table = pack / "measures.csv"
    table.write_text(re.sub(r"(predicts nothing,dsc_3d,\w+),[^,]+", r"\1,0.5", table.read_text()))
    refuses(run("reporting.publish", "--check", pack), "measures.csv", "predicts nothing dsc_3d")
    for name in ("table1.csv", "measures.csv"):
        (pack / name).unlink()
    assert run("reporting.publish", "--check", pack).stdout.endswith("16 epochs come out again\n")
    for path in pack.glob("runs/*/*/*/config.json"):
        path.unlink()
    refuses(run("reporting.publish", "--check", pack), "a config.json beside metrics.csv")
