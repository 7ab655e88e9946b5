"""The challenge's test set: masks of finished runs scored by its rules, and the table of them."""

import csv
import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch

from challenge_program import scores_of_files
from conftest import refuses, run
from run_folders import REPORTED, write_run, write_set
from scans.datasets import DATASETS
from scans.geometry import BY_PREDICT
from scans.inputs import by_models
from scoring import test_set, test_table
from scoring.columns import WMH
from scoring.runs import load_set

TESTS = {"1": "Utrecht", "70": "Singapore", "111": "Amsterdam/GE3T", "150": "Amsterdam/GE1T5",
         "160": "Amsterdam/Philips_VU .PETMR_01."}
AFFINE = np.diag([1.0, 1.0, 3.0, 1.0])
TWO_ROWS = {"gdl": [[0.6] * 8, [0.6] * 8], "gdl+boundary": [[0.7] * 8]}


def save(path, voxels, affine=AFFINE, description=f"{BY_PREDICT}, model 0123"):
    image = nib.Nifti1Image(voxels, affine)
    image.header["descrip"] = description
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)


def column(*values, shape=(8, 8, 4)):
    """A mask of zeros but for these values along the first axis, in the middle."""
    voxels = np.zeros(shape, np.uint8)
    voxels[1:1 + len(values), 4, 2] = values
    return voxels


def write_test_scans(raw, reference=None, affine=AFFINE):
    """The five test scans, one of each scanner, of four lesion voxels.

    `reference` is another label image, or a function of the name that gives one.
    """
    for name, site in TESTS.items():
        label = column(1, 1, 1, 1) if reference is None else reference
        label = reference(name) if callable(reference) else label
        place = raw / "test" / site / name
        save(place / "wmh.nii.gz", label.astype(np.float32), affine, b"")
        for at, modality in enumerate(("FLAIR", "T1")):
            image = np.full(label.shape, 100 + int(name) + at, np.float32)
            save(place / "pre" / f"{modality}.nii.gz", image, affine, b"")
    return raw


def write_masks(run_folder, mask, affine=AFFINE):
    """Masks of the five scans; `mask` may be a function of the name."""
    for name in TESTS:
        voxels = mask(name) if callable(mask) else mask
        save(run_folder / "test" / f"{name}.nii.gz", voxels, affine)


@pytest.fixture
def folder(tmp_path):
    """Finished runs of models of the challenge's own scans, with the test scans below raw/.

    Each reference has four voxels; gdl finds two of them (seed 0) or none (seed 1), gdl+boundary
    four and two false ones.
    """
    folder = write_set(tmp_path, losses=TWO_ROWS, source="challenge")
    write_test_scans(tmp_path / "raw" / "wmh")
    write_masks(folder / "gdl" / "seed0", column(1, 1))
    write_masks(folder / "gdl" / "seed1", column())
    write_masks(folder / "gdl+boundary" / "seed0", column(1, 1, 1, 1, 1, 1))
    return folder


@pytest.fixture
def five_scans(monkeypatch):
    """The challenge as if its test set had one scan of each scanner."""
    spec = replace(DATASETS["wmh"], test_sites=dict.fromkeys(DATASETS["wmh"].test_sites, 1))
    monkeypatch.setattr(test_set, "SPEC", spec)
    monkeypatch.setattr(test_table, "SPEC", spec)


def score(folder, *options):
    return run("scoring.test_set", "--runs", folder, "--raw", folder.parent.parent / "raw",
               *options)


def text_of(folder):
    result = score(folder)
    assert result.returncode == 0, result.stderr
    return (folder / "test_set.md").read_text()


def lines_of(text, title):
    """{name: cells} of the block whose heading begins so."""
    part = next(part for part in text.split("\n## ") if part.startswith(title))
    cells = [[cell.strip() for cell in line.split("|")[1:-1]]
             for line in part.splitlines() if line.startswith("| ")]
    return {row[0]: row[1:] for row in cells[2:]}


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


# --- Scores ---

def test_every_scan_of_every_run_has_a_row_with_its_five_scores(folder):
    text_of(folder)
    rows = read(folder / "test_set.csv")
    assert len(rows) == 3 * 5 and list(rows[0])[:6] == [
        "set", "source", "loss", "seed", "run", "best_epoch"]
    assert {row["subject"]: row["scanner"] for row in rows} == {
        name: site.split("/")[-1].split("_")[0] for name, site in TESTS.items()}
    found = {(row["loss"], row["seed"]): [row[name] for name in WMH] for row in rows}
    half = [float(value) for value in found["gdl", "0"]]
    # 2 of 4 voxels in a line of 1 mm: the farthest of the reference's surface is 2 mm away
    assert half == pytest.approx([2 * 2 / 6, np.percentile([0, 0, 1, 2], 95), 50, 1, 1])
    assert found["gdl", "1"][1] == "" and float(found["gdl", "1"][2]) == 100
    assert {row["reference_ml"] for row in rows} == {"0.012"}


@pytest.mark.parametrize("codes", ["RAS", "LAS", "PIL"])
def test_scores_equal_an_independent_simpleitk_computation_on_random_files(folder, codes):
    rng = np.random.default_rng(3)
    affine = nib.orientations.inv_ornt_aff(
        nib.orientations.axcodes2ornt(codes), (9, 10, 4)) @ np.diag([1.2, 0.977, 3.0, 1.0])
    noise = {name: (rng.choice([0, 1, 2], (9, 10, 4), p=[0.85, 0.1, 0.05]).astype(np.uint8),
                    rng.choice([0, 1, 2], (9, 10, 4), p=[0.8, 0.15, 0.05]).astype(np.uint8))
             for name in TESTS}
    raw = write_test_scans(folder.parent.parent / "raw" / "wmh", lambda name: noise[name][0],
                           affine)
    write_masks(folder / "gdl" / "seed0", lambda name: noise[name][1], affine)
    assert score(folder, "--only", "gdl/seed0").returncode == 0
    for row in read(folder / "gdl" / "seed0" / "test.csv"):
        name = row["subject"]
        expected = scores_of_files(folder / "gdl" / "seed0" / "test" / f"{name}.nii.gz",
                                   raw / "test" / TESTS[name] / name / "wmh.nii.gz")
        assert [float(row[key]) for key in WMH] == pytest.approx(expected, abs=1e-5), name


def test_label_2_of_the_reference_is_left_out_and_that_of_a_mask_is_lesion(folder):
    write_test_scans(folder.parent.parent / "raw" / "wmh", column(1, 1, 2, 0, 1))
    write_masks(folder / "gdl" / "seed0", column(2, 1, 1, 0, 2))
    score(folder, "--only", "gdl/seed0")
    assert {float(row["dice"]) for row in read(folder / "gdl" / "seed0" / "test.csv")} == {1.0}


def test_one_run_alone_gets_its_scores_and_no_table(folder):
    result = score(folder, "--only", "gdl+boundary/seed0")
    assert result.returncode == 0 and len(read(folder / "gdl+boundary/seed0/test.csv")) == 5
    assert not (folder / "test_set.csv").exists() and not (folder / "gdl/seed0/test.csv").exists()


def test_only_masks_that_changed_are_scored_again(folder, monkeypatch):
    before, scored = text_of(folder), []
    real = test_set.score_mask
    monkeypatch.setattr(test_set, "score_mask",
                        lambda mask, *rest: scored.append(mask) or real(mask, *rest))
    assert text_of(folder) == before and not scored
    changed = folder / "gdl" / "seed0" / "test" / "70.nii.gz"
    save(changed, column(0, 0, 0, 1))
    assert text_of(folder) != before and scored == [changed]


# --- The table ---

def test_means_are_over_seeds_and_scans_and_tell_how_many_have_a_distance(folder):
    lines = lines_of(text_of(folder), "All 5 test scans")
    gdl = lines["L_GD"]
    assert gdl[0] == "2 seeds" and gdl[1].startswith("0.333 [")  # 2/3 and 0
    assert gdl[2] == "1.85 [1.85, 1.85] (5 of 10)" and gdl[3].startswith("75.0 [")
    assert lines["L_GD + L_B"][0] == "1 seed"
    assert lines["L_GD + L_B"][1] == "0.800"                      # one seed has no interval
    change = lines["L_GD + L_B against L_GD"]
    assert change[1] == "+0.467" and change[2] == "–"             # no scan has all distances
    assert lines["nothing predicted"] == ["–", "0.000", "–", "100.0", "0.000", "0.000"]


def test_an_interval_of_the_test_set_keeps_to_what_a_score_can_be():
    """Two seeds, one of 0.05 and one of 0.9, which Student's t would let reach from -3.4 to 4.4."""
    rows = [{"loss": loss, "run": run, "subject": f"s{number}", "reference_ml": 1.0,
             **dict.fromkeys(WMH, 5.0), "dice": dice}
            for loss, seeds in (("gdl", (0.05, 0.9)), ("gdl+boundary", (0.5, 0.5)))
            for run, dice in zip(("seed0", "seed1"), seeds) for number in range(6)]
    gdl, _, change, _ = test_table.lines_of(rows)
    assert gdl.cells[0] == "0.475 [0.000, 1.000]"
    assert change.cells[:2] == ["+0.025 [-1.000, +1.000]", "+0.00 [+0.00, +0.00]"]


def test_a_reference_without_a_lesion_is_counted_for_a_model_that_predicts_nothing(folder):
    write_test_scans(folder.parent.parent / "raw" / "wmh",
                     lambda name: column() if name == "1" else column(1))
    assert lines_of(text_of(folder), "All")["nothing predicted"][1:] == [
        "0.200", "–", "80.0", "0.200", "0.200"]


def test_each_scanner_has_a_block_and_those_unseen_in_training_are_called_so(folder):
    titles = [line[3:] for line in text_of(folder).splitlines() if line.startswith("## ")]
    assert titles == ["All 5 test scans", "Utrecht, 1 test scan", "Singapore, 1 test scan",
                      "GE3T, 1 test scan", "GE1T5, 1 test scan, not in the training set",
                      "Philips, 1 test scan, not in the training set"]
    one = lines_of(text_of(folder), "Philips")
    assert one["L_GD"][1] == "0.333" and one["L_GD + L_B against L_GD"][1] == "–"
    assert set(one) == {"L_GD", "L_GD + L_B", "L_GD + L_B against L_GD", "nothing predicted"}


def test_leaderboard_and_raters_stand_beside_the_complete_test_set(folder, five_scans):
    text = text_of(folder)
    lines = lines_of(text, "All 5")
    assert lines["pgs"] == ["leaderboard", "0.81", "5.63", "18.6", "0.82", "0.79"]
    assert lines["livia"][1:3] == ["0.61", "22.7"] and lines["truenet_2"][3] == "–"
    assert lines["rater O3"] == ["60 training scans", "0.77", "6.79", "17.3", "0.652", "0.732"]
    assert text.count("| pgs ") == 1 and "on the 60 training scans: not the test scans" in text
    assert "not run here" not in text


def test_reported_rows_have_the_challenges_five_columns_and_a_source():
    for kind in ("leaderboard", "published", "raters"):
        assert REPORTED["wmh_test"][kind]["source"]
        assert {len(row) for row in REPORTED["wmh_test"][kind]["rows"].values()} == {5}


def test_nothing_reported_stands_beside_a_part_of_the_test_set(folder):
    text = text_of(folder)
    assert "complete test set (110 scans)" in text and "not run here (`make wmh TEST=yes`)" in text
    assert "pgs" not in text and "rater" not in text and "leaderboard" not in text.lower()


@pytest.mark.parametrize("source, described, said", [
    ("own", b"", "complete test set"), ("phantom", b"phantom", "Synthetic images"),
    ("phantom", b"", "Synthetic images"), ("challenge", b"phantom", "Synthetic images")])
def test_nothing_reported_stands_beside_other_scans_or_models(tmp_path, five_scans, source,
                                                              described, said):
    folder = write_set(tmp_path, losses={"gdl": [[0.6] * 8]}, source=source)
    raw = write_test_scans(tmp_path / "raw")
    for path in raw.rglob("*.nii.gz"):
        image = nib.load(path)
        save(path, np.asanyarray(image.dataobj), image.affine, described)
    write_masks(folder / "gdl" / "seed0", column(1, 1))
    text = text_of(folder)
    assert said in text and "not run here (`make wmh TEST=yes`)" in text
    assert "pgs" not in text and "rater" not in text and "leaderboard" not in text.lower()


def test_runs_that_are_not_finished_or_not_predicted_are_named(folder):
    write_run(folder / "gdl+boundary" / "seed1", folder.parent.parent / "data" / "wmh",
              "gdl+boundary", 1, [0.3], finished=False)
    write_run(folder / "gdl" / "seed2", folder.parent.parent / "data" / "wmh", "gdl", 2, [0.3] * 8)
    text = text_of(folder)
    assert "not predicted: L_GD, seed2; L_GD + L_B, seed1." in text
    assert len(read(folder / "test_set.csv")) == 3 * 5


# --- What is refused ---

def missing_mask(folder):
    (folder / "gdl" / "seed0" / "test" / "160.nii.gz").unlink()


def no_masks(folder):
    for path in folder.glob("*/*/test/*"):
        path.unlink()
    for path in folder.glob("*/*/test"):
        path.rmdir()


def other_model(folder):
    torch.save({}, folder / "gdl" / "seed0" / "best.pt")


def other_grid(folder):
    save(folder / "gdl" / "seed0" / "test" / "1.nii.gz", column(1, shape=(8, 8, 5)))


def other_labels(folder):
    write_test_scans(folder.parent.parent / "raw" / "wmh", column(1, 3))


def trained_on(folder, modality="FLAIR"):
    data = folder.parent.parent / "data" / "wmh"
    scan = folder.parent.parent / "raw" / "wmh" / "test" / TESTS["150"] / "150"
    digest = test_set.file_checksum(scan / "pre" / f"{modality}.nii.gz", "sha256")
    sources = {"FLAIR": "0", "T1": "0", "label": "0"} | {modality: digest}
    (data / "subjects" / "b" / "meta.json").write_text(
        json.dumps({"spacing_mm": [1, 1, 3], "sources": sources}))


def trained_on_its_t1(folder):
    trained_on(folder, "T1")


@pytest.mark.parametrize("change, words", [
    (missing_mask, ("gdl/seed0/test", "masks of 5 test scans", "160.nii.gz is missing")),
    (no_masks, ("finished runs with test/", "TEST=yes")),
    (other_model, ("gdl/seed0/test/1.nii.gz", "a mask by", "by another model")),
    (other_grid, ("gdl/seed0/test/1.nii.gz", "8, 8, 5")),
    (other_labels, ("wmh.nii.gz", "labels among 0, 1, 2")),
    (trained_on, ("150/pre/FLAIR.nii.gz", "not among those of", "its scan b")),
    (trained_on_its_t1, ("150/pre/T1.nii.gz", "not among those of", "its scan b"))],
    ids=lambda value: getattr(value, "__name__", ""))
def test_what_cannot_be_scored_is_refused_and_no_table_is_written(folder, change, words):
    change(folder)
    refuses(score(folder), *words)
    assert not (folder / "test_set.csv").exists() and not (folder / "test_set.md").exists()


@pytest.mark.parametrize("word, status", [("fp32", 0), ("bf16", 0), ("mirrored", 2)])
def test_masks_in_another_precision_are_those_of_the_model(folder, word, status):
    run_folder = folder / "gdl" / "seed0"
    torch.save({}, run_folder / "best.pt")
    for name in TESTS:
        save(run_folder / "test" / f"{name}.nii.gz", column(1, 1),
             description=by_models([run_folder / "best.pt"], word))
    assert score(folder, "--only", "gdl/seed0").returncode == status


def test_an_unfinished_run_is_not_scored(folder):
    (folder / "gdl" / "seed0" / "summary.json").unlink()
    refuses(score(folder, "--only", "gdl/seed0"), "gdl/seed0", "a finished run")


def test_a_table_of_somebody_else_is_not_replaced(folder):
    (folder / "test_set.csv").write_text("mine\n")
    refuses(score(folder), "test_set.csv", "another file")
    assert (folder / "test_set.csv").read_text() == "mine\n"


# --- Rows of the table again ---

@pytest.mark.parametrize("cell, said", [
    ("lots", "expected numbers, found 'lots' in line 2"), ("x\ny", "another length"),
    ("", "a number for dice, found none in line 2")])
def test_a_damaged_table_of_a_run_is_named(folder, cell, said):
    score(folder, "--only", "gdl/seed0")
    path = folder / "gdl" / "seed0" / "test.csv"
    head, first, *rest = path.read_text().splitlines()
    cells = first.split(",")
    cells[head.split(",").index("dice")] = cell
    path.write_text("\n".join([head, ",".join(cells), *rest]))
    refuses(score(folder), "gdl/seed0/test.csv", said)


def test_the_table_is_stale_once_a_run_has_another_best_epoch(folder):
    text_of(folder)
    results = load_set(folder)
    rows = test_set.load_rows(results)
    assert not test_table.is_stale(results, rows)
    path = folder / "gdl" / "seed0" / "summary.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "best_epoch": 7}))
    assert test_table.is_stale(load_set(folder), rows)


@pytest.mark.parametrize("value, text", [
    (0.8, "0.80"), (0.77, "0.77"), (0.595, "0.595"), (5.63, "5.63"), (6.3, "6.3"), (22.7, "22.7"),
    (None, "–")])
def test_reported_numbers_keep_the_digits_they_were_published_with(value, text):
    assert test_table.as_published(value) == text
