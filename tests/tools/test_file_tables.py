"""The documents say of every file what the programs' own descriptions say."""

import pytest

import file_tables
from checkout import ROOT

DOCUMENTS = sorted((ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_the_tables_of_a_document_are_those_of_the_descriptions(path):
    text = path.read_text(encoding="utf-8")
    assert file_tables.with_tables(text) == text, "python tests/tools/file_tables.py"


def test_every_file_is_described():
    text = "".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)
    for name in ("scans.folder.Dataset", "scans.folder.Meta", "scans.folder.Fingerprint",
                 "scans.folder.SplitRow", "scans.folder.IndexRow", "scoring.run_files.Config",
                 "scoring.run_files.MetricsRow", "scoring.run_files.Summary",
                 "scoring.run_files.Claims", "training.best_model.BestModel"):
        assert f"<!-- file: {name} -->" in text


def test_a_table_has_a_row_for_every_entry():
    lines = file_tables.table("scans.folder.SplitRow").splitlines()
    assert lines[0] == "**A row of split.csv.**"
    assert lines[4:6] == ["| `subject` | text | name of the scan |",
                          "| `subset` | text | train or val, or fold0, fold1, ... |"]
    assert len(lines) == 7 and lines[6].startswith("| *`patient`* | whole number | ")
