"""Run times: noted when a stage ends, and never a reason to refuse."""

import json

import pytest

from conftest import run
from reporting.page import run_times, words
from run_folders import write_set
from scans import folder
from scoring.run_times import noted_seconds
from scoring.runs import load_set


def test_calls_that_convert_add_up_and_a_whole_one_starts_over(tmp_path):
    def noted():
        return json.loads((tmp_path / "run_time.json").read_text())

    folder.note_run_time(tmp_path, 4.04, 3, 5)  # interrupted after this
    folder.note_run_time(tmp_path, 2.0, 2, 5)
    assert noted() == {"seconds": 6.0, "scans": 5}
    folder.note_run_time(tmp_path, 0.5, 0, 5)  # nothing to do
    assert noted() == {"seconds": 6.0, "scans": 5}
    folder.note_run_time(tmp_path, 9.0, 5, 5)
    assert noted() == {"seconds": 9.0, "scans": 5}


@pytest.mark.parametrize("text", [
    "", "[]", "{}", '{"seconds": "long", "scans": 3}', '{"seconds": -1, "scans": 3}',
    '{"seconds": true, "scans": 3}'])
def test_a_damaged_note_counts_as_none(tmp_path, text):
    (tmp_path / "run_time.json").write_text(text)
    assert folder.read_run_time(tmp_path) is None
    assert noted_seconds(tmp_path / "run_time.json") is None

    folder.note_run_time(tmp_path, 2.0, 2, 5)
    assert folder.read_run_time(tmp_path).as_dict() == {"seconds": 2.0, "scans": 2}


def test_folders_from_before_have_no_times_but_for_training(tmp_path):
    rows = {row["stage"]: row for row in run_times.stages(load_set(write_set(tmp_path)))}
    others = [rows[name]["seconds"] for name in ("preprocessing", "evaluation", "claims")]
    assert others == [None] * 3 and rows["evaluation"]["what"].startswith("0 of 6 runs")
    assert rows["training"]["seconds"] == 6 * 12
    assert rows["training"]["what"].startswith("6 runs, 48 epochs")


def test_times_are_read_from_what_the_stages_wrote(tmp_path):
    folder = write_set(tmp_path)
    (tmp_path / "data" / "wmh" / "run_time.json").write_text('{"seconds": 3.5, "scans": 2}')
    for seed, seconds in ((0, 1.5), (1, 2.0)):
        path = folder / "gdl" / f"seed{seed}" / "evaluation.json"
        path.write_text(json.dumps({"seconds": seconds}))
        (path.parent / "evaluation.csv").touch()
    (folder / "claims.json").write_text('{"seconds": 60}')

    rows = {row["stage"]: row for row in run_times.stages(load_set(folder))}
    prepared, scored = rows["preprocessing"], rows["evaluation"]
    assert (prepared["seconds"], prepared["what"][:7]) == (3.5, "2 scans")
    assert (scored["seconds"], scored["what"][:11]) == (3.5, "2 of 6 runs")
    assert rows["claims"]["seconds"] == 60

    (folder / "boundary" / "seed0" / "evaluation.csv").touch()  # scored, and nobody noted how long
    rows = {row["stage"]: row for row in run_times.stages(load_set(folder))}
    assert rows["evaluation"]["what"].startswith("3 of 6 runs")
    assert rows["evaluation"]["what"].endswith("(2 of them)")


@pytest.mark.parametrize("seconds, expected", [
    (None, "not recorded"), (0.44, "0.4 s"), (9.99, "10.0 s"), (59.4, "59 s"),
    (59.6, "1 min 00 s"), (3599.7, "1 h 00 min"), (7620, "2 h 07 min")])
def test_times_are_told_in_words(seconds, expected):
    assert words.duration(seconds) == expected


def test_preprocessing_and_evaluation_note_their_time(data, tmp_path):
    noted = folder.read_run_time(data)
    assert noted.scans == 6 and noted.seconds > 0

    result = run("evaluate.py", "--predictions", data / "references",
                 "--references", data / "references", "--ignore", 255,
                 "--summary", tmp_path / "evaluation.json")
    assert result.returncode == 0, result.stderr
    assert noted_seconds(tmp_path / "evaluation.json") > 0
