"""Further raters: found, brought to the network's grid, and scored as a model's masks are."""

import csv
import json

import nibabel as nib
import numpy as np
import pytest

from conftest import preprocess, refuses, run
from metrics import dice
from run_folders import write_set
from utils import write_csv


def rate(raw, rater, name, change=lambda label: label, affine=None):
    """Write a rater's mask of one subject, laid out as the challenge's additional annotations."""
    reference = nib.load(raw / name / "wmh.nii.gz")
    path = raw / "additional_annotations" / rater / "training" / "Utrecht" / name / "result.nii.gz"
    path.parent.mkdir(parents=True)

    label = change(np.asanyarray(reference.dataobj).copy())
    nib.save(nib.Nifti1Image(label, reference.affine if affine is None else affine), path)


def validation_scans(data):
    with open(data / "split.csv") as file:
        return [row["subject"] for row in csv.DictReader(file) if row["subset"] == "val"]


def only_first_slice(label):
    label[..., 2] = 0
    return label


def run_raters(data, raw, *more):
    return run("scoring.raters", "--data", data, "--raw", raw, *more)


def read_rows(path):
    with open(path) as file:
        return {row["rater"]: row for row in csv.DictReader(file)}


def test_a_rater_who_agrees_is_perfect_and_one_who_misses_a_slice_is_not(raw, data, tmp_path):
    for name in validation_scans(data):
        rate(raw, "o3", name)
        rate(raw, "o4", name, only_first_slice)

    result = run_raters(data, raw, "--out", tmp_path / "raters.csv")
    assert result.returncode == 0, result.stderr
    rows = read_rows(tmp_path / "raters.csv")
    assert {name: (row["scans"], row["val_scans"]) for name, row in rows.items()} == {
        "o3": ("2", "2"), "o4": ("2", "2")}

    same, other = rows["o3"], rows["o4"]
    columns = ("val_dice", "val_dice_3d", "val_hd", "val_hd95", "val_hd_legacy")
    assert [float(same[key]) for key in columns] == [1, 1, 0, 0, 0]
    # 5 slices, of which 2 bear the lesion; the second of them is missed: DSC 1, 1, 0, 1, 1 of the
    # slices, and half of the voxels found
    assert float(other["val_dice"]) == pytest.approx(4 / 5)
    assert float(other["val_dice_lesion"]) == pytest.approx(1 / 2)
    assert float(other["val_dice_3d"]) == pytest.approx(2 / 3)
    assert float(other["val_hd"]) == pytest.approx(3)  # mm: a slice


def test_masks_are_brought_to_the_grid_of_the_reference(raw, data, tmp_path):
    def grown(label):
        label[4:12, 7:14, 1:3] = 1
        label[0, 0, 0] = 2  # dropped, as in the reference
        return label

    names = validation_scans(data)
    rate(raw, "o3", names[0], grown)
    result = run_raters(data, raw, "--out", tmp_path / "raters.csv")
    assert "o3: 1 of 2 validation scans" in result.stdout, result.stderr
    row = read_rows(tmp_path / "raters.csv")["o3"]

    reference = np.load(data / "subjects" / names[0] / "labels.npy") == 1
    rows, columns = ((np.arange(32) + 0.5) * size // 32 for size in (20, 24))  # nearest of 20x24
    mine = np.zeros_like(reference)
    mine[1:3] = ((rows >= 4) & (rows < 12))[:, None] & ((columns >= 7) & (columns < 14))
    assert float(row["val_dice_3d"]) == pytest.approx(dice(mine, reference))


def training_scan(data):
    return "s0" if "s0" not in validation_scans(data) else "s1"


def rate_first(raw, data, *change, **options):
    rate(raw, "o3", validation_scans(data)[0], *change, **options)


@pytest.mark.parametrize("change, said", [
    (lambda raw, data: None, "additional_annotations/<rater>/ in it"),
    (lambda raw, data: rate(raw, "o3", training_scan(data)), "masks of validation scans"),
    (lambda raw, data: rate_first(raw, data, lambda label: label * 7), "labels among 0, 1, 2"),
    (lambda raw, data: rate_first(raw, data, lambda label: label[1:]),
     "expected shape (20, 24, 5) as"),
    (lambda raw, data: rate_first(raw, data, affine=np.diag([2.0, 1, 3, 1])),
     "the same place as"),
], ids=["none", "training scans", "label 7", "other shape", "other grid"])
def test_what_cannot_be_scored_is_refused_and_nothing_is_written(raw, data, tmp_path, change, said):
    change(raw, data)
    refuses(run_raters(data, raw, "--out", tmp_path / "raters.csv"), said)
    assert not (tmp_path / "raters.csv").exists()


def test_raters_of_other_scans_may_be_left_out(raw, data, tmp_path):
    """As in data/raw, where one challenge's raters lie beside the other's scans."""
    rate(raw, "o3", training_scan(data))
    out = tmp_path / "raters.csv"
    refuses(run_raters(data, raw, "--out", out), "o3", "Name the masks after the subjects")

    result = run_raters(data, raw, "--out", out, "--optional")
    assert result.returncode == 0 and "left out: " in result.stdout and not out.exists()
    rate(raw, "o4", validation_scans(data)[0])
    assert run_raters(data, raw, "--out", out, "--optional").returncode == 0
    assert list(read_rows(out)) == ["o4"]


def test_raters_are_rows_of_the_table_below_the_models(tmp_path):
    folder = write_set(tmp_path, losses={"gdl": [[0.6, 0.7]]})
    fingerprint = json.loads((tmp_path / "data" / "wmh" / "fingerprint.json").read_text())["sha256"]
    row = {"rater": "observer_o3", "val_scans": 10, "data_fingerprint": fingerprint, "scans": 9,
           "val_dice": 0.8125, "val_dice_3d": 0.75, "val_hd": 12.5, "val_hd95": 4.25,
           "val_hd_legacy": 2.0, "val_dice_lesion": 0.5}
    write_csv(folder / "raters.csv", [row])

    result = run("report.py", "--runs", folder)
    assert result.returncode == 0, result.stderr
    lines = (folder / "table1.md").read_text().splitlines()
    line, = [line for line in lines if line.startswith("| rater observer_o3")]
    assert [cell.strip() for cell in line.split("|")[1:-1]] == [
        "rater observer_o3", "9 of 10 scans", "0.812", "–", "2.000", "–", "0.750", "12.50", "4.25",
        "0.500"]
    assert "the masks of another human rater" in (folder / "table1.md").read_text()
    assert "rater observer_o3" in (folder / "report.html").read_text()


def test_raters_of_other_data_are_refused(tmp_path):
    folder = write_set(tmp_path, losses={"gdl": [[0.6, 0.7]]})
    row = {"rater": "observer_o3", "val_scans": 10, "scans": 9, "val_dice": 0.8125}
    write_csv(folder / "raters.csv", [{**row, "data_fingerprint": "of other data"}])
    refuses(run("report.py", "--runs", folder), "raters.csv", "of other data")


def test_further_raters_are_no_scans_of_the_data_set(raw, data, tmp_path):
    rate(raw, "o3", "s0")
    assert preprocess(raw, tmp_path / "again").returncode == 0
    assert (tmp_path / "again" / "split.csv").read_bytes() == (data / "split.csv").read_bytes()
