"""The notebooks of docs/ run from top to bottom, and say what they say in the repository."""

import base64
import re

import pytest

import notebook
from checkout import ROOT

NOTEBOOKS = sorted((ROOT / "docs").glob("*.ipynb"))
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)


def printed(cell):
    return "".join(line for output in cell["outputs"] for line in output.get("text", ()))


def drawn(cell):
    return [base64.b64decode(output["data"]["image/png"]) for output in cell["outputs"]
            if "data" in output]


def without_numbers(text):
    return re.sub(r"[\d.]+", "#", text)


def test_there_is_one():
    assert NOTEBOOKS


@pytest.mark.slow
@each
def test_a_notebook_prints_and_draws_what_is_committed(path):
    """Cells tagged "varies" hold what was trained: other processors round differently."""
    cells = notebook.code_cells(notebook.read(path))
    for cell, (text, figures) in zip(cells, notebook.run_cells(path), strict=True):
        exact = "varies" not in cell["metadata"].get("tags", ())
        same = str if exact else without_numbers
        assert same(text) == same(printed(cell)), cell["id"]
        assert len(figures) == len(drawn(cell)), cell["id"]


@each
def test_a_notebook_is_small_and_names_no_place_on_a_machine(path):
    content = notebook.read(path)
    cells = notebook.code_cells(content)
    assert path.stat().st_size < 500_000
    assert all(len(figure) < 100_000 for cell in cells for figure in drawn(cell))
    assert set(content["metadata"]) == {"kernelspec", "language_info"}

    text = "".join(map(printed, cells))
    assert not re.search(r"/(home|root|tmp|work|Users)/|[A-Z]:\\", text)


@each
def test_a_notebook_was_run_from_top_to_bottom(path):
    cells = notebook.code_cells(notebook.read(path))
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))


@each
def test_links_of_a_notebook_lead_to_files(path):
    text = "".join(line for cell in notebook.read(path)["cells"] for line in cell["source"])
    links = re.findall(r"\]\(([^)#\s]+)", text)
    assert links and all("://" in link or (path.parent / link).exists() for link in links)


def test_a_cell_that_fails_is_an_error(tmp_path):
    path = tmp_path / "fails.ipynb"
    path.write_text('{"cells": [{"cell_type": "code", "source": ["1 / 0"]}]}', encoding="utf-8")
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        notebook.run_cells(path)
