"""The boundary loss's decision rule on discs, and its gradient beside the GDL's, by hand."""

import csv
import shutil

import numpy as np
import pytest

from checkout import ROOT
from conftest import refuses, run
from studies import decision_rule as study
from utils import UserError

ROOT_442 = 442 ** 0.5


def test_a_disc_of_radius_1_is_a_plus_whose_middle_alone_has_a_depth():
    phi, other = study.two_maps(1)
    rows, columns = np.nonzero(phi <= 0)
    assert list(zip(rows - 4, columns - 4)) == [(-1, 0), (0, -1), (0, 0), (0, 1), (1, 0)]
    assert phi[4, 4] == -1 and (phi == 0).sum() == 4
    # the other plus is 22 columns on; its nearest arm 21 from the middle, 20 from the right arm
    assert other[4, 3:6].tolist() == [22, 21, 20]
    assert other[3, 4] == pytest.approx(ROOT_442)


def test_the_middle_is_predicted_from_21_of_22_and_the_whole_from_its_sums():
    phi, other = study.two_maps(1)
    thresholds = study.pixel_thresholds(phi, other)
    assert thresholds[4, 4] == 21 / 22 and np.isinf(thresholds).sum() == thresholds.size - 1
    away = 20 + 21 + 22 + 2 * ROOT_442
    assert study.whole_threshold(phi, other) == pytest.approx(away / (away + 1))


def test_beside_a_slice_without_a_lesion_the_inside_is_predicted_at_any_probability():
    phi, other = study.two_maps(3, study.NOTHING)
    assert not other.any()
    assert set(study.pixel_thresholds(phi, other)[phi < 0]) == {0}
    assert study.whole_threshold(phi, other) == 0


@pytest.mark.parametrize("radius, whole", [(2, 0.98), (5, 0.96), (15, 0.89)])
def test_discs_20_px_apart_are_kept_only_if_they_are_nearly_certain(radius, whole):
    assert study.whole_threshold(*study.two_maps(radius)) == pytest.approx(whole, abs=0.005)


@pytest.mark.parametrize("alternative", [study.ELSEWHERE, study.NOTHING])
def test_minimising_the_loss_flips_predictions_where_the_arithmetic_says(alternative):
    rule = study.rule_of(2, alternative, np.linspace(0.9, 0.999, 100))
    for by_arithmetic, by_optimisation in (rule["pixel"], rule["whole"]):
        assert 0 <= by_optimisation - max(0.9, by_arithmetic) <= 0.001 + 1e-9
    np.testing.assert_array_equal(*rule["shares"])


def test_the_gradients_of_a_perfect_prediction_of_3_by_3_of_5_by_5_pixels():
    mask = np.zeros((5, 5), bool)
    mask[1:4, 1:4] = True
    phi = np.where(mask, 0, 1).astype(np.float32)
    phi[2, 2] = -1
    gdl, boundary = study.gradients(mask, phi, (1.0, 0.0), 0.01)

    # s = g: overlap 1/9 + 1/16 = half the total; d/ds = -2 (1/81 + 1/256) overlap / total^2
    overlap = 1 / 9 + 1 / 16
    expected = (1 / 81 + 1 / 256) / (2 * overlap)
    np.testing.assert_allclose(gdl, [0.01 * expected] * 9, rtol=1e-5)
    np.testing.assert_allclose(boundary, [0] * 4 + [0.99 / 25] + [0] * 4, rtol=1e-6)


def test_a_data_folder_gives_the_ratio_of_its_sums(data, monkeypatch):
    monkeypatch.setattr(study, "STATES", {study.REFERENCE: (0.5, 0.001)})
    found = study.ratios_of(data, 0.01)
    pairs = [np.array([part.sum() for part in study.gradients(mask, phi, (0.5, 0.001), 0.01)])
             for _, mask, phi in study.slices_of(data)]
    total = np.sum(pairs, axis=0)
    assert len(pairs) == 12 and found["ratios"] == {study.REFERENCE: pytest.approx(
        total[0] / total[1])}
    assert found["slices"] == pytest.approx([a / b for a, b in pairs])
    assert 0 < found["flat"] < 1


def test_the_program_writes_table_and_figure(data, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "RADII", (2,))
    monkeypatch.setattr(study, "PROBABILITIES", np.linspace(0.9, 0.99, 10))
    result = run("studies.decision_rule", "--data", data, "--out", tmp_path / "why")
    assert result.returncode == 0, result.stderr
    with open(tmp_path / "why" / "decision_rule.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["experiment"] for row in rows] == ["decision rule"] * 4 + ["gradients"] * 5
    assert {path.name for path in (tmp_path / "why").iterdir()} == {
        "decision_rule.csv", "decision_rule.png", "decision_rule.pdf"}


def test_folders_of_one_name_are_told_apart(data, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "RADII", (2,))
    monkeypatch.setattr(study, "PROBABILITIES", np.linspace(0.9, 0.99, 10))
    copies = [shutil.copytree(data, tmp_path / place / "copy") for place in ("a", "b")]
    assert study.main(["--data", *map(str, copies), "--out", str(tmp_path / "why")]) == 0
    with open(tmp_path / "why" / "decision_rule.csv", newline="") as file:
        names = {row["case"].split(",")[0] for row in csv.DictReader(file)}
    assert {"a/copy", "b/copy"} < names


def test_a_folder_without_a_lesion_is_refused(data, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "slices_of", lambda folder: iter(()))
    with pytest.raises(UserError, match="expected slices with a lesion of class 1, found none"):
        study.ratios_of(data, 0.01)


def test_a_folder_that_is_no_data_set_is_refused(tmp_path):
    refuses(run("studies.decision_rule", "--data", tmp_path / "none", "--out", tmp_path / "why"),
            tmp_path / "none", "Run preprocess.py first")
    assert not (tmp_path / "why").exists()


def test_the_tables_of_protocol_are_the_published_numbers():
    with open(ROOT / "results" / "published" / "why" / "decision_rule.csv", newline="") as file:
        numbers = [(row["case"], row["quantity"], float(row["value"]))
                   for row in csv.DictReader(file)]
    text = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")

    discs = text[text.index("| disc of radius |"):].split("\n\n")[0].splitlines()[2:]
    for line in discs:
        radius, *written = (cell.strip() for cell in line.strip("|").split("|"))
        found = [value for case, _, value in numbers
                 if case == f"disc of radius {radius} or an equal disc 20 px away"]
        assert written == [f"{value:.3f}" for value in found]

    sets = ("ms", "lgg-256px", "lgg", "lgg-fill64", "lgg-fill48", "lgg-fill32")
    lines = text[text.index("| data | foreground"):].split("\n\n")[0].splitlines()[2:]
    for name, line in zip(sets, lines, strict=True):
        *_, zero, ratio = (cell.strip() for cell in line.strip("|").split("|"))
        of_set = {quantity: value for case, quantity, value in reversed(numbers)
                  if case == name or case.startswith(f"{name}, half found")}
        found, = (value for quantity, value in of_set.items() if quantity.startswith("gradient"))
        assert zero == f"{100 * of_set['share of lesion pixels at which phi is 0']:.0f} %"
        assert ratio == f"{found:.2g}"
