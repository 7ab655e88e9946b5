"""What the report says of runs whose best epoch predicts nothing, and of an alpha in haste."""

import csv
from types import SimpleNamespace

import pytest

from reporting.notes import nominal_sizes, set_notes
from run_folders import REPORTED, read_table, write_data, write_run
from scoring import runs, scan_scores


def write(folder, data, epochs, loss="gdl+boundary", seed=0, empty=(3, 5), lesions=2, **settings):
    """A finished run whose epochs from 0 on are (slice DSC, foreground, rate, lesions found).

    Its one scan has `empty` slices without a lesion of so many.
    """
    write_run(folder, data, loss, seed, [epoch[0] for epoch in epochs], epochs=len(epochs),
              **settings)
    (data / "split.csv").write_text("subject,subset\n" + (
        "a,fold0\nb,fold1\n" if "fold" in settings else "a,val\nt,train\n"))
    with open(folder / "metrics.csv", newline="") as file:
        table = list(csv.DictReader(file))
    for number, (row, (_, foreground, rate, _)) in enumerate(zip(table, epochs, strict=True)):
        row.update(epoch=number, val_foreground=foreground, lr=rate)
    with open(folder / "metrics.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, table[0])
        writer.writeheader()
        writer.writerows(table)

    scan_scores.append(folder, [
        {**dict.fromkeys(scan_scores.COLUMNS, 0), "epoch": number, "class_name": "lesion",
         "subject": "b" if settings.get("fold") else "a", "slices": empty[1], "dsc": dsc,
         "slices_empty": empty[0], "foreground": foreground, "lesions": lesions,
         "lesions_found": found}
        for number, (dsc, foreground, _, found) in enumerate(epochs)])


def notes_of(tmp_path):
    results = runs.load_set(tmp_path / "set")
    return "\n".join(set_notes(results, REPORTED))


@pytest.fixture
def place(tmp_path):
    """(folder of a row's runs, data)."""
    return tmp_path / "set" / "gdl+boundary", write_data(tmp_path / "data", source="own")


# The best epoch predicts nothing ------------------------------------------------------------------

EMPTY_AT_1 = [(0.2, 0.3, 1e-3, 1), (0.6, 0, 1e-3, 0), (0.5, 0.1, 5e-4, 1), (0.4, 0, 2.5e-4, 0)]
FULL = [(0.2, 0.3, 1e-3, 1), (0.6, 0.1, 1e-3, 1), (0.5, 0, 5e-4, 1), (0.4, 0.1, 2.5e-4, 1)]


def test_a_best_epoch_that_predicts_nothing_is_named_with_its_score_and_the_rate(tmp_path, place):
    write(place[0] / "seed0", place[1], FULL)
    write(place[0] / "seed1", place[1], EMPTY_AT_1, seed=1)
    assert ("L_GD + L_B: an empty prediction is the best epoch of seed1 (epoch 1: DSC 0.600, which "
            "is the share of slices without a lesion; the learning rate was then halved twice, "
            "from 0.001 to 0.00025).") in notes_of(tmp_path)


def test_every_fold_is_named_where_its_best_epoch_predicts_nothing(tmp_path, place):
    folds = [(FULL, (0, 5)), (EMPTY_AT_1, (3, 5))]
    for fold, (epochs, empty) in enumerate(folds):
        write(place[0] / f"seed0-fold{fold}", place[1], epochs, empty=empty, fold=fold, folds=2)
    notes = notes_of(tmp_path)
    assert "the best epoch of seed0-fold1 (epoch 1: DSC 0.600, which is the share" in notes
    assert "seed0-fold0" not in notes and "the best model predicts no foreground" not in notes


def test_a_score_that_is_not_the_empty_share_says_so(tmp_path, place):
    write(place[0] / "seed0", place[1], EMPTY_AT_1, empty=(1, 5))
    assert "DSC 0.600, which is the share of slices without a lesion, but that is 0.200; the" in \
        notes_of(tmp_path)


def test_a_run_without_scores_csv_is_told_by_the_data(tmp_path):
    folder = tmp_path / "set" / "gdl+boundary" / "seed0"
    write(folder, write_data(tmp_path / "data", source="own", empty=0.6), EMPTY_AT_1)
    (folder / "scores.csv").unlink()
    assert "DSC 0.600, which is the share of slices without a lesion; the" in notes_of(tmp_path)


def test_runs_with_foreground_have_no_such_note(tmp_path, place):
    write(place[0] / "seed0", place[1], FULL)
    assert "an empty prediction" not in notes_of(tmp_path)


@pytest.mark.parametrize("score, words", [
    ("val_dice", "Best epoch = highest mean DSC over the 2-D validation slices, the first"),
    ("val_dice_3d", "Best epoch = highest 3-D DSC of the validation scans, the first")])
def test_the_notes_say_what_chooses_the_best_epoch(tmp_path, place, score, words):
    write(place[0] / "seed0", place[1], EMPTY_AT_1, score=score)
    notes = read_table(tmp_path / "set")[1]
    assert words in notes
    assert ("3-D DSC 0.300, which is the share of scans" in notes) == (score == "val_dice_3d")


# Alpha's floor ------------------------------------------------------------------------------------

LATE = [(0.2, 0.1, 1e-3, 0), (0.2, 0.1, 1e-3, 0), (0.2, 0.1, 1e-3, 1), (0.3, 0.1, 1e-3, 2)]


@pytest.mark.parametrize("schedule, steps, expected", [
    ("rebalance:0.5", 100, "alpha is at its floor of 0.01 from epoch 2 on, after 200 training "
                           "steps; networks were emptied where that took fewer than some 2,000."),
    ("rebalance:0.5:0.5", 1999, "at its floor of 0.5 from epoch 1 on, after 1,999 training steps"),
    ("rebalance:0.5", 1000, None), ("rebalance:0.5", None, None), ("rebalance", 1, None),
    ("constant:0.01", 1, None)])
def test_an_alpha_that_is_soon_at_its_floor_is_named(tmp_path, place, schedule, steps, expected):
    write(place[0] / "seed0", place[1], LATE, schedule=schedule, steps_per_epoch=steps)
    notes = notes_of(tmp_path)
    assert (expected or "") in notes and ("alpha is at" in notes) == bool(expected)


@pytest.mark.parametrize("loss, schedule, lesions, named", [
    ("gdl+boundary", "rebalance:0.5", 2, True),    # at its floor in epoch 2, which finds the first
    ("gdl+boundary", "rebalance:0.34", 2, False),  # in epoch 3
    ("gdl+boundary", "rebalance:0.5", 0, False),   # there are none
    ("gdl", "rebalance:0.5", 2, False)])
def test_a_floor_before_any_lesion_was_found_is_named(
    tmp_path, place, loss, schedule, lesions, named
):
    row = place[0].parent / loss
    write(row / "seed0", place[1], LATE, loss, lesions=lesions, schedule=schedule)
    write(row / "seed1", place[1], FULL, loss, seed=1, schedule=schedule)
    words = "found in the 2 epochs before alpha reached its floor, in seed0 (1 of 2 runs)."
    assert (f"no lesion of a validation scan was {words}" in notes_of(tmp_path)) == named


def test_folds_of_unequal_length_give_a_range_of_steps(tmp_path, place):
    for fold, steps in enumerate((10, 12)):
        write(place[0] / f"seed0-fold{fold}", place[1], LATE, fold=fold, folds=2,
              schedule="rebalance:0.5", steps_per_epoch=steps)
    notes = notes_of(tmp_path)
    assert "from epoch 2 on, after 20 to 24 training steps" in notes
    assert "reached its floor, in seed0-fold0, seed0-fold1 (2 of 2 runs)" in notes


@pytest.mark.parametrize("found, named", [
    ([9] * 3 + [0] * 10, True),      # it painted everything, then nothing
    ([9] * 4 + [0] * 9, False), ([0] * 12 + [1], False)])
def test_what_a_new_network_paints_is_not_a_lesion_found(tmp_path, place, found, named):
    epochs = [(0.2, 0.1, 1e-3, count) for count in (*found, 0)]
    write(place[0] / "seed0", place[1], epochs, schedule="switch:13")
    words = "no lesion of a validation scan was found in the 10 epochs before alpha"
    assert (words in notes_of(tmp_path)) == named


# The last epoch predicts nothing ------------------------------------------------------------------

def test_a_fold_that_ends_empty_is_named(tmp_path, place):
    for fold, epochs in enumerate((FULL, [*FULL[:3], (0.4, 0, 1e-3, 0)])):
        write(place[0] / f"seed0-fold{fold}", place[1], epochs, fold=fold, folds=2)
    assert "L_GD + L_B: seed0-fold1 (1 of 2 runs) ends with" in notes_of(tmp_path)


# One loss keeps its learning rate longer than another ---------------------------------------------

def write_rates(tmp_path, data, kept, **settings):
    """Runs of six epochs, {loss: [how many of them at the first rate, of each seed]}."""
    for loss, epochs in kept.items():
        for seed, count in enumerate(epochs):
            rates = [1e-3 if epoch < count else 5e-4 for epoch in range(6)]
            write(tmp_path / "set" / loss / f"seed{seed}", data, [(0.5, 0.1, rate, 1)
                  for rate in rates], loss, seed, **settings)


def test_losses_trained_at_other_rates_are_named(tmp_path, place):
    write_rates(tmp_path, place[1], {"gdl": [1, 2, 6], "ce": [1, 4], "gdl+boundary": [5, 6]})
    told = notes_of(tmp_path)
    assert ("for the first time after so many epochs (median of the runs): L_GD 2, L_GD + L_B 5, "
            "L_CE 2. A difference between these losses is also one between rates") in told


def test_a_run_under_way_tells_nothing_of_rates_and_one_that_kept_its_own_has_no_number(
    tmp_path, place
):
    write_rates(tmp_path, place[1], {"gdl": [1], "boundary": [6]})
    assert "L_B never, L_GD 1. A difference" in notes_of(tmp_path)
    (tmp_path / "set" / "boundary" / "seed0" / "summary.json").unlink()
    assert "between rates" not in notes_of(tmp_path)


@pytest.mark.parametrize("kept, settings", [
    ({"gdl": [3], "gdl+boundary": [6]}, {}),
    ({"gdl": [1], "gdl+boundary": [6]}, {"lr_schedule": "poly"}),
    ({"gdl": [1], "gdl+boundary": [6]}, {"protocol": "code2018"}),
    ({"gdl": [1]}, {})])
def test_losses_trained_alike_are_not(tmp_path, place, kept, settings):
    write_rates(tmp_path, place[1], kept, **settings)
    assert "between rates" not in notes_of(tmp_path)


# Voxel sizes that nobody recorded -----------------------------------------------------------------

@pytest.mark.parametrize("spacing, phantom, named", [
    ({"min": [2.67, 2.67, 1.0], "max": [4.0, 4.0, 1.0]}, False, True),
    ({"min": [0.9, 0.9, 1.0], "max": [0.9, 0.9, 6.4]}, False, False),
    ({"min": [1.0, 1.0, 1.0], "max": [1.0, 1.0, 1.0]}, True, False),
    ({"min": [1.0, 1.0], "max": [1.0, 1.0]}, False, False), ({}, False, False),
    ([], False, False)])
def test_slices_of_exactly_1_mm_may_be_nominal(spacing, phantom, named):
    results = SimpleNamespace(is_phantom=phantom, title="LGG",
                              fingerprint=SimpleNamespace(spacing_mm=spacing))
    found = nominal_sizes(results)
    assert len(found) == named and all("LGG: in every header slices are exactly 1 mm" in note
                                       for note in found)
