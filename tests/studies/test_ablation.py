"""The ablation's table on small run folders whose numbers can be worked out by hand."""

import csv

import pytest

from conftest import refuses, run
from reporting.page import build
from reporting.table1 import build_table
from run_folders import write_data, write_run, write_set
from scoring import intervals
from scoring.runs import load_set
from studies import ablation
from training.run_folder import COLUMNS
from utils import read_json, write_json


def sets(root, **changes):
    """A base set of GDL + boundary, GDL and its capped row; a variant with official maps in mm."""
    losses = {"gdl": [[0.3] * 8] * 2, "gdl+boundary": [[0.5] * 8, [0.7] * 8]}
    base = write_set(root, "base", losses=losses, source="own")
    write_run(base / "gdl-cap1" / "seed0", root / "data" / "base", "gdl", 0, [0.4] * 8,
              gdl_max_weight=1)

    data = write_data(root / "data" / "variant", source="own")
    info = read_json(data / "dataset.json")
    info["distance"] = {"convention": "official", "unit": "mm", "dims": 3}
    write_json(data / "dataset.json", info)
    variant = root / "results" / "variant"
    write_run(variant / "gdl+boundary" / "seed0", data, "gdl+boundary", 0, [0.9] * 8, **changes)
    return base, variant


def table(base, variant):
    result = run("studies.ablation", "--runs", base, "--variants", variant)
    assert result.returncode == 0, result.stderr
    with open(base / "ablation.csv") as file:
        rows = [row for row in csv.DictReader(file)
                if (row["metric"], row["statistic"]) == ("dsc", "best_epoch")]
    return rows, result.stdout


def test_rows_are_means_over_seeds_named_by_what_is_changed(tmp_path):
    rows, text = table(*sets(tmp_path))
    assert [(row["loss"], float(row["mean"]), int(row["seeds"])) for row in rows] == [
        ("L_GD", pytest.approx(0.3), 2), ("L_GD + L_B", pytest.approx(0.6), 2),
        ("L_GD, cap 1", 0.4, 1), ("L_GD + L_B", 0.9, 1)]
    assert rows[3]["map"] == "official map, mm, map of the volume"
    assert "| 0.600 (0.141) |" in text


def test_other_rows_are_compared_with_the_reference_of_their_loss(tmp_path, monkeypatch):
    monkeypatch.setattr(intervals, "FEWEST_SCANS", 2)
    rows, text = table(*sets(tmp_path))
    assert [row["difference"] for row in rows[:2]] == ["", ""]  # the references themselves
    assert text.count("[+0.000, +0.000]") == 2
    # the masks of equal losses are equal in these folders, so the differences are 0
    assert [float(row["difference"]) for row in rows[2:]] == [0, 0]


def test_two_scans_carry_no_interval(tmp_path):
    rows, _ = table(*sets(tmp_path))
    assert [row["difference"] for row in rows] == [""] * 4


def test_a_collapsed_run_has_no_distance_here_either(tmp_path):
    base, variant = sets(tmp_path)
    for seed in (0, 1):
        path = base / "gdl+boundary" / f"seed{seed}" / "metrics.csv"
        lines = [line.split(",") for line in path.read_text().splitlines()]
        for line in lines[1:]:
            line[COLUMNS.index("val_foreground")] = "0"
        path.write_text("\n".join(map(",".join, lines)) + "\n")
    _, text = table(base, variant)
    line = next(line for line in text.splitlines() if line.startswith("| L_GD + L_B | paper's map"))
    assert line.split(" | ")[6:8] == ["NA", "NA"]
    assert ("best epoch or the last: base/gdl+boundary/seed0, base/gdl+boundary/seed1.\n"
            in text)
    for name in ("base", "variant"):  # the tables that an empty prediction cannot win
        assert f"({name}): what an empty prediction cannot win" in text
    assert text.count("| predicts nothing |") == 4 and text.endswith(f"{base / 'ablation.md'}\n")


def test_a_variant_that_has_not_finished_is_left_out_and_named(tmp_path):
    base, variant = sets(tmp_path)
    (variant / "gdl+boundary" / "seed0" / "summary.json").unlink()
    rows, text = table(base, variant)
    assert len(rows) == 3 and f"{variant}: no finished run of gdl+boundary" in text


@pytest.mark.parametrize("setting, found, words", [
    ("lr", 0.01, "lr 0.001"), ("lr_schedule", "poly", "lr_schedule plateau"),
    ("score", "val_dice_3d", "score val_dice"), ("augment", True, "augment False"),
    ("lesion_slices", True, "lesion_slices False"),
    ("boundary_classes", [0, 1], "boundary_classes None")])
def test_a_variant_of_another_training_is_refused(tmp_path, setting, found, words):
    base, variant = sets(tmp_path, **{setting: found})
    refuses(run("studies.ablation", "--runs", base, "--variants", variant), words, str(found))


def test_a_variant_of_another_split_is_refused(tmp_path):
    base, variant = sets(tmp_path)
    split = tmp_path / "data" / "variant" / "split.csv"
    split.write_text("subject,subset\na,val\nb,train\nt,train\n")
    refuses(run("studies.ablation", "--runs", base, "--variants", variant), "split.csv", "another")


def test_a_set_without_the_reference_is_refused(tmp_path):
    base = write_set(tmp_path, losses={"gdl": [[0.3] * 8]})
    refuses(run("studies.ablation", "--runs", base), "finished runs of gdl+boundary", "none")


def test_alpha_rows_do_not_belong_to_the_ablation(tmp_path):
    base, variant = sets(tmp_path)
    write_run(base / "gdl+boundary-alpha0.5" / "seed0", tmp_path / "data" / "base", "gdl+boundary",
              0, [0.1] * 8, schedule="constant:0.5")
    assert len(table(base, variant)[0]) == 4


def test_the_page_shows_the_table_once_it_is_there(tmp_path):
    base, variant = sets(tmp_path)
    results = load_set(base)
    assert build.ablation_of(results) == []
    table(base, variant)

    rows = build.ablation_of(results)
    assert [row["dsc_best_epoch"] for row in rows] == pytest.approx([0.3, 0.6, 0.4, 0.9])
    table1 = build_table([results], {})
    page = build.html([results], table1, [], None, [], ["--runs"], {}, lambda: 1.0)
    assert 'href="#ablation"' in page and "official map, mm, map of the volume" in page
    assert page.count("0.900") >= 1


def test_map_settings_in_words():
    how = {"convention": "paper", "unit": "px", "dims": 2, "truncate": False}
    assert ablation.map_in_words(how) == "paper's map, pixels, map of the slice"
