"""The first screen's sentence, table and claims, and the words for names and numbers."""

import json

import pytest

from made_runs import made_set
from reporting import table1
from reporting.page import commands, front, words
from reporting.page.build import claims_of, evaluations_view
from run_folders import DSC, REPORTED, page_of, write_run, write_set
from scans.folder import Distance
from scoring import runs
from scoring.run_files import Claim

NO_CLAIMS = {}


def load(folder):
    return runs.load_sets([folder], None)[0]


# The sentence -------------------------------------------------------------------------------------

@pytest.mark.parametrize("gdl, both, verb", [
    ([0.4, 0.41], [0.6, 0.61], "raises"), ([0.6, 0.61], [0.4, 0.41], "lowers"),
    ([0.4, 0.41], [0.3, 0.9], "takes")])
def test_the_sentence_says_raises_only_where_the_interval_does(tmp_path, gdl, both, verb,
                                                               monkeypatch):
    results = made_set(tmp_path, gdl=gdl, gdl_boundary=both)
    monkeypatch.setattr(front, "scores_of_nothing", lambda results: {"val_dice": 0.4})
    said = front.finding(results, NO_CLAIMS)
    assert said.startswith(f"On x, adding the boundary loss to the GDL {verb} slice DSC from ")
    assert ("undecided" in said) == (verb == "takes") and "95\u00a0% interval" in said
    assert said.endswith("predicting nothing would score 0.400 in slice DSC.")


def test_each_dsc_of_the_sentence_has_a_verb_and_an_interval_of_its_own(tmp_path, monkeypatch):
    results = made_set(tmp_path, gdl=[0.4, 0.41], gdl_boundary=[0.6, 0.61])
    monkeypatch.setattr(front, "scores_of_nothing", lambda results: {})
    change = {"low": -0.7, "high": 0.3, "verdict": "undecided"}
    monkeypatch.setattr(front, "means_of", lambda results, measure, _: (
        (0.4, 0.6) if measure.key == "dsc" else (0.6, 0.4)))
    changes = front.measure_changes(results, "last")
    monkeypatch.setattr(front, "measure_changes", lambda *_: changes | {"dsc_3d": change})
    said = front.finding(results, NO_CLAIMS)
    assert "GDL raises slice DSC from 0.400 to 0.600 (+0.200, 95\u00a0% interval" in said
    assert (" and takes 3-D DSC from 0.600 to 0.400 (-0.200, 95\u00a0% interval -0.700 to +0.300, "
            "undecided)") in said


def test_the_sentence_takes_the_interval_of_claim_1_where_runs_kept_no_scores(tmp_path):
    folder = write_set(tmp_path, source="own")
    (folder.parent.parent / "data" / "wmh" / "subjects").rename(tmp_path / "elsewhere")
    change = {"difference": 0.25, "low": -0.1, "high": 0.6}
    found = Claim(claim="c", verdict="undecided", statistic="s", epochs="best epoch",
                  differences={"dsc": change, "dsc_3d": {**change, "low": 0.0625}})
    said = front.finding(load(folder), {"C1": found})
    assert "3-D DSC from 0.275 to 0.400 (+0.125, 95\u00a0% interval +0.062 to +0.600" in said
    # best epochs: 0.6 and 0.5 of GDL, 0.7 and 0.9 of GDL + boundary
    assert "from 0.550 to 0.800 (+0.250, 95\u00a0% interval -0.100 to +0.600, undecided; be" in said


def test_without_a_pair_the_sentence_says_what_is_missing(tmp_path):
    results = load(write_set(tmp_path, source="own", losses={"gdl": DSC["gdl"]}))
    assert front.finding(results, NO_CLAIMS) == (
        "On small GDL and GDL + boundary are not compared, without a run of GDL + boundary: 2 runs "
        "of GDL, 16 epochs in all, trained in 24 s.")

    (tmp_path / "results" / "wmh" / "gdl" / "seed1" / "summary.json").unlink()
    assert front.finding(load(tmp_path / "results" / "wmh"), NO_CLAIMS) == (
        "On small GDL and GDL + boundary cannot be compared yet: 1 of 2 runs have finished, none "
        "of GDL + boundary.")


def test_a_phantoms_sentence_says_what_ran_and_finds_nothing(tmp_path):
    said = front.finding(load(write_set(tmp_path)), NO_CLAIMS)
    assert said.startswith("WMH phantom: 6 runs of boundary alone, GDL, GDL + boundary, "
                           "48 epochs in all, ")
    assert "adding" not in said


# The table ----------------------------------------------------------------------------------------

def test_sets_are_tables_of_their_own_with_the_papers_numbers_beside_challenge_scans_only(tmp_path):
    sets = runs.load_sets([write_set(tmp_path / "a", source="challenge"),
                           write_set(tmp_path / "b", source="own")], None)
    table = table1.build_table(sets, REPORTED)
    real, own = (front.table_of_set(results, table, at) for at, results in enumerate(sets))
    assert [text for text, _ in real["headings"][:3]] == ["paper", "here, best", "here, last 2"]
    assert real["groups"][:2] == [("DSC", 3), ("legacy HD", 3)] and own["groups"][0] == ("DSC", 2)
    assert {kind for _, kind in own["headings"]} == {"measured"}
    assert real["nothing"][:3] == ["–", "0.500", "0.500"]  # two of four slices are empty
    assert real["starts"][:4] == [True, False, False, True]


def test_rows_with_something_changed_are_folded_away(tmp_path):
    folder = write_set(tmp_path, source="own")
    write_run(folder / "gdl+boundary-alpha0.5" / "seed0", tmp_path / "data" / "wmh",
              "gdl+boundary", 0, [0.5] * 8, schedule="constant:0.5")
    results = load(folder)
    view = front.table_of_set(results, table1.build_table([results], REPORTED), 0)
    assert [row["loss"] for row in view["rows"]] == ["boundary", "gdl", "gdl+boundary"]
    assert [row["loss"] for row in view["further"]] == ["gdl+boundary-alpha0.5"]


# The claims ---------------------------------------------------------------------------------------

def claim(verdict="undecided", **entries):
    return Claim(claim="c", verdict=verdict, statistic="s", **entries)


def change(difference, low, high):
    return {"difference": difference, "low": low, "high": high}


@pytest.mark.parametrize("key, found, expected", [
    ("C1", claim(differences={"dsc": change(0.1999, -0.1, 0.4)}, decided_by=["dsc"]),
     "slice DSC +0.200"),
    ("C1", claim("refuted", decided_by=["dsc", "dsc_3d"], differences={
        "dsc": change(0.2, 0.1, 0.3), "dsc_3d": change(-0.3, -0.4, -0.2)}), "3-D DSC -0.300"),
    ("C2", claim("supported", decided_by=["hd"], differences={"hd": change(-39.26, -90, -1)}),
     "HD (mm) -39.3"),
    ("C3", claim(ratios={"val_dice": {"ratio": 1.0498}}), "change from epoch to epoch × 1.05"),
    ("C4", claim(collapsed=1, runs=3), "1 of 3 runs"),
    ("C5", claim(share=0.00701), "+0.7 % of a step"),
    ("C6", claim(against_best=change(0.0077, -0.5, 0.5)), "3-D DSC +0.008"),
    ("C9", claim(curves={"a": {"sizes": [32], "errors": [0.1], "order": 0.77},
                         "b": {"sizes": [32], "errors": [0.1], "order": 1.19}}),
     "order 0.77 to 1.19"),
    ("C8", claim("not measured"), ""),
    ("C7", claim(differences={"dsc": change(None, None, None)}), "")])
def test_a_claim_is_told_by_one_number(key, found, expected):
    assert front.number_of(key, found) == expected


def test_every_claim_has_a_name_and_no_page_shows_the_names_of_files_columns(tmp_path):
    from studies.claims import TEXTS
    assert list(front.NAMES) == list(TEXTS)

    folder = write_set(tmp_path, source="own")
    for run in folder.glob("*/seed*"):
        (run / "evaluation.csv").write_text("subject,dice,hd95,lesion_f1\na,0.52,142.88406372,\n")
    entry = {"claim": "c", "verdict": "undecided", "statistic": "s", "decided_by": ["dsc_3d"],
             "differences": {"dsc_3d": change(0.1, -0.1, 0.2)}}
    (folder / "claims.json").write_text(json.dumps({"claims": {"C1": entry}}))
    page = page_of(folder)
    page = page[:page.index('<script type="application/json">')] + page[page.index("</script>"):]
    for name in ("dsc_3d", "hd95_mm", "val_dice", "lesion_f1", "batch_size", "142.88"):
        assert name not in page.partition('id="again"')[0], name
    assert "142.9 (1 of 1)" in page and "3-D DSC +0.100" in page
    assert "Scores of every run on the scans’ own grid, by evaluate.py: mean over scans (" in page
    assert claims_of(load(folder))["C1"].verdict == "undecided"


def test_runs_without_evaluation_csv_are_named_and_all_scores_of_the_others_shown(tmp_path):
    folder = write_set(tmp_path, source="own")
    for seed, text in enumerate(("subject,dice\na,0.5\n", "subject,dice,hd95\na,0.5,9\n")):
        (folder / "gdl" / f"seed{seed}" / "evaluation.csv").write_text(text)
    view = evaluations_view(load(folder))
    assert view["evaluated"] == ["dice", "hd95"]
    assert view["unscored"] == [f"{loss}/seed{k}" for loss in ("boundary", "gdl+boundary")
                                for k in (0, 1)]
    page = page_of(folder)
    assert "Scores of 2 of 6 runs on the scans’ own grid" in page
    assert "Without evaluation.csv, in one fold at least: boundary/seed0, " in page


@pytest.mark.parametrize("value, expected", [
    (142.88406372070312, "142.9"), (255.0, "255"), (0.001, "0.001"), (65535.5, "65,536")])
def test_numbers_are_rounded(value, expected):
    assert words.rounded(value) == expected


def test_settings_are_words():
    assert words.setting_name("batch_size") == "batch size"
    assert [words.setting_value(value) for value in (None, True, 8, "val_dice", [1, 2.5])] == [
        "none", "yes", "8", "DSC", "1, 2.5"]


# Reproduce ----------------------------------------------------------------------------------------

def test_every_command_from_preprocessing_on_is_listed_in_order(tmp_path):
    folder = write_set(tmp_path, source="own", losses={"gdl": DSC["gdl"]})
    (folder / "gdl" / "seed0" / "evaluation.csv").write_text("subject,dice\na,0.5\n")
    (folder / "claims.json").write_text(json.dumps({"claims": {}}))
    stages = commands.commands_of(load(folder))
    assert [stage["title"] for stage in stages] == [
        "Preprocessing", "Training", "Scores on the scans' own grid", "Claims"]
    assert [len(stage["lines"]) for stage in stages] == [1, 2, 1, 1]
    data = tmp_path / "data" / "wmh"
    assert stages[0]["lines"] == [
        f"python preprocess.py --layout wmh --raw data/raw --out {data} --size 24"]
    assert stages[3]["lines"] == [f"python -m studies.claims --runs {folder} --data {data}"]

    page = page_of(folder)
    places = [page.index(f"python {name}") for name in (
        "preprocess.py", "main.py", "evaluate.py", "-m studies.claims", "report.py")]
    assert places == sorted(places)


def test_the_command_that_preprocessing_noted_is_the_one_that_is_listed(tmp_path):
    folder = write_set(tmp_path)
    noted = {"seconds": 1, "scans": 2, "command": "python preprocess.py --layout wmh --val 2"}
    (tmp_path / "data" / "wmh" / "run_time.json").write_text(json.dumps(noted))
    assert commands.preprocess_command(load(folder), "data") == noted["command"]


@pytest.mark.parametrize("about, expected", [
    ({}, "in px, a map for each slice, 0 on the lesion's boundary"),
    ({"unit": "mm", "dims": 3}, "in mm, one of the volume, 0 on the lesion's boundary"),
    ({"convention": "official", "truncate": True},
     "in px, a map for each slice, inside the lesion as the official code has it, "
     "cut to whole numbers")])
def test_distance_maps_are_described_in_words(about, expected):
    assert words.maps_in_words(Distance(**about)) == expected
