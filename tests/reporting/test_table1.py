"""What Table 1 shows of collapsed runs, of the paper's numbers, and of rows beside the paper's."""

import json
import shutil

import pytest

from reporting import formats
from run_folders import (
    SCAN,
    read_table,
    write_data,
    write_run,
    write_scores,
    write_set,
    write_sweep,
)
from scoring import scan_scores
from training.run_folder import COLUMNS

# Collapse -----------------------------------------------------------------------------------------

def test_collapsed_runs_have_no_distance_and_show_the_empty_fraction(tmp_path):
    cells, notes, _ = read_table(write_set(tmp_path, empty=0.5))
    for heading in ("legacy HD, best epoch", "legacy HD, last 2", "HD (mm)", "HD95 (mm)"):
        assert cells["boundary", heading] == "NA"
    assert cells["boundary", "DSC, best epoch"] == "0.500 (0.000) [empty slices: 0.500]"
    expected = "L_B: the best model predicts no foreground at all in seed0, seed1 (2 of 2 seeds)"
    assert expected in notes


def test_last_epochs_have_a_distance_where_the_best_one_alone_is_empty(tmp_path):
    """L_B's best epochs predict nothing; of the last two one predicts something."""
    folder = write_set(tmp_path)
    for seed in (0, 1):
        path = folder / "boundary" / f"seed{seed}" / "metrics.csv"
        *lines, last = path.read_text().splitlines()
        cells = last.split(",")
        cells[COLUMNS.index("val_foreground")] = "0.2"
        path.write_text("\n".join([*lines, ",".join(cells)]) + "\n")
    cells, _, _ = read_table(folder)
    assert cells["boundary", "legacy HD, best epoch"] == "NA"
    assert cells["boundary", "legacy HD, last 2"] == "2.000 (0.000)"


def test_a_run_that_ends_empty_after_its_best_epoch_is_named(tmp_path):
    folder = write_set(tmp_path)
    path = folder / "gdl+boundary" / "seed1" / "metrics.csv"
    lines = path.read_text().splitlines()
    last = lines[-1].split(",")
    last[COLUMNS.index("val_foreground")] = "0"
    path.write_text("\n".join([*lines[:-1], ",".join(last)]) + "\n")

    _, notes, _ = read_table(folder)
    assert "L_GD + L_B: seed1 (1 of 2 runs) ends with a model that predicts no foreground" in notes
    # a run that is empty at its best epoch too is said to have collapsed
    assert notes.count("ends with a model") == 1


def test_a_collapsed_seed_is_named_and_counts_in_the_distances(tmp_path):
    folder = write_set(tmp_path)
    path = folder / "gdl" / "seed1" / "metrics.csv"
    far = path.read_text().replace(",10,5,2,", ",99,99,99,")
    path.write_text(far.replace(",0.01,1.5", ",0,1.5"))
    cells, notes, _ = read_table(folder)
    assert cells["gdl", "HD (mm)"] == "54.50 (62.93)"  # 10 and 99
    assert cells["gdl", "DSC, best epoch"] == "0.550 (0.071)"
    assert "L_GD: the best model predicts no foreground at all in seed1 (1 of 2 seeds)" in notes


# Reported numbers and phantoms --------------------------------------------------------------------

def test_reported_numbers_stand_beside_challenge_scans(tmp_path):
    cells, notes, text = read_table(write_set(tmp_path, source="challenge", empty=0.569))
    assert cells["gdl+boundary", "DSC, reported"] == "0.748 (0.005)"
    assert cells["boundary", "legacy HD, reported"] == "NA"
    assert "empty validation slices is 0.569 here and was 0.569 in the paper" in notes
    assert "agree" in notes
    assert "phantom" not in text
    assert "not run here (`make isles`)" in text and "make wmh" not in text


@pytest.mark.parametrize("source", ["phantom", "own"])
def test_reported_numbers_never_share_a_table_with_other_data(tmp_path, source):
    cells, _, text = read_table(write_set(tmp_path, source=source))
    assert not any("reported" in heading for _, heading in cells)
    first, second = text.split("## Reported by the paper")
    assert "0.748" not in first and "0.748" in second and "not run here (`make wmh`)" in second


def test_another_split_is_called_another_split(tmp_path):
    _, notes, _ = read_table(write_set(tmp_path, source="challenge", layout="isles", empty=0.5))
    assert "0.500 here and was 0.321" in notes and "another split" in notes


def note_patients(folder, **entries):
    """Add entries to the fingerprint of the data folder that write_set made."""
    path = folder.parents[1] / "data" / "wmh" / "fingerprint.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def test_patients_on_both_sides_of_the_split_are_counted(tmp_path):
    folder = write_set(tmp_path, source="challenge", layout="isles")
    note_patients(folder, patients=63, patients_in_both=12)
    _, notes, _ = read_table(folder)
    assert ("ISLES: 12 of 63 patients have scans in both the training and the validation subset"
            in notes)


def test_a_split_of_whole_patients_is_said_to_be_one(tmp_path):
    folder = write_set(tmp_path, source="challenge", layout="isles")
    note_patients(folder, patients=63, patients_in_both=0)
    _, notes, _ = read_table(folder)
    assert "no patient has scans in both the training and the validation subset (63" in notes


@pytest.mark.parametrize("layout, said", [("isles", True), ("wmh", False)])
def test_isles_scans_of_unknown_patients_are_said_to_be_so(tmp_path, layout, said):
    _, notes, _ = read_table(write_set(tmp_path, source="challenge", layout=layout))
    assert ("is not known: the .json files beside the scans" in notes) is said


# Rows beside the paper's --------------------------------------------------------------------------

def test_other_losses_and_sweeps_get_rows_of_their_own(tmp_path):
    losses = {"gdl": [[0.6] * 8], "ce+boundary": [[0.7] * 8]}
    folder = write_set(tmp_path, losses=losses)
    write_run(folder / "gdl+boundary-0.5" / "seed0", tmp_path / "data" / "wmh", "gdl+boundary", 0,
              [0.1] * 8, schedule="constant:0.5")

    cells, _, text = read_table(folder)
    assert cells["ce+boundary", "DSC, best epoch"] == "0.700 (–)"
    assert cells["gdl+boundary", "DSC, best epoch"] == "not run"
    assert "| L_CE + L_B |" in text and "| L_GD + boundary-0.5 |" in text


def test_rows_of_the_sweep_say_what_is_changed(tmp_path):
    folder = write_sweep(tmp_path)
    cells, _, text = read_table(folder)
    assert cells["gdl+boundary-alpha0.25", "DSC, best epoch"] == "0.500 (–)"
    assert "| L_GD + L_B, alpha 0.25 |" in text


def test_the_latex_label_of_a_row_says_what_is_changed():
    assert formats.tex_label("gdl-cap1") == r"$\mathcal{L}_{GD}$, cap 1"


# Notes --------------------------------------------------------------------------------------------

def test_steps_left_out_are_noted(tmp_path):
    folder = write_set(tmp_path)
    assert "training steps left out" not in read_table(folder)[1]
    path = folder / "gdl" / "seed1" / "metrics.csv"
    path.write_text(path.read_text().replace(",1.5,", ",1.5,2", 3))
    expected = "L_GD: training steps left out, loss or gradient not finite: 6 in seed1."
    assert expected in read_table(folder)[1]


def test_steps_left_out_are_counted_fold_by_fold(tmp_path):
    folder, data = tmp_path / "runs", write_data(tmp_path / "data")
    (data / "split.csv").write_text("subject,subset\na,fold0\nb,fold1\n")
    for fold, subject in enumerate("ab"):
        place = write_run(folder / "gdl" / f"seed0-fold{fold}", data, "gdl", 0, [0.5] * 8,
                          folds=2, fold=fold)
        scan_scores.append(place, [{**SCAN, "epoch": epoch, "subject": subject}
                                   for epoch in range(9)])
    path = folder / "gdl" / "seed0-fold1" / "metrics.csv"
    path.write_text(path.read_text().replace(",1.5,", ",1.5,1", 1))
    assert "not finite: 1 in seed0-fold1." in read_table(folder)[1]


def test_with_several_classes_an_empty_mask_scores_the_mean_of_their_shares(tmp_path):
    """No slice is without every class, half of them without the first and all with the second."""
    folder = write_set(tmp_path, source="own", empty=0.0, losses={"boundary": [[0.25] * 8]})
    path = tmp_path / "data" / "wmh" / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()),
                                "classes": ["background", "A", "B"]}))
    shutil.rmtree(tmp_path / "data" / "wmh" / "subjects")
    (folder / "boundary" / "seed0" / "predictions.npz").unlink()
    place = folder / "boundary" / "seed0"
    for name, empty in (("A", 1), ("B", 0)):
        write_scores(place, lambda epoch, name=name, empty=empty: {
            "class_name": name, "slices_empty": empty, "slices_clean": empty, "foreground": 0,
            "dsc": empty / 2})
    cells, notes, _ = read_table(folder)
    assert cells["boundary", "DSC, best epoch"] == "0.250 (–) [empty slices: 0.250]"
    assert "fraction of empty validation slices, 0.250 here" in notes
