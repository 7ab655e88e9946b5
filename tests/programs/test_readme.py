"""What README and docs/ say is there: tests, losses, files; test_documents.py: links, commands."""

import re

import pytest

from checkout import ROOT
from losses_regional import REGIONAL_LOSSES
from scoring.rows import FLAGS

README = (ROOT / "README.md").read_text(encoding="utf-8")
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")


def named_tests():
    """(file, function) of every `test_x.py::test_y`, and of every `::test_z` that follows one."""
    found, file = [], None
    for name, function in re.findall(r"`(test_\w+\.py)?::(test_\w+)`", README + PROTOCOL):
        file = name or file
        found.append((file, function))
    return found


@pytest.mark.parametrize("file, function", named_tests())
def test_a_test_that_a_document_names_is_there(file, function):
    path = next((ROOT / "tests").rglob(file))
    assert f"def {function}(" in path.read_text(encoding="utf-8")


def test_every_row_of_the_protocol_table_points_to_a_test():
    table = PROTOCOL.split("## Paper text, 2018 code, here")[1].split("##")[0]
    rows = [line for line in table.splitlines() if line.startswith("|")][2:]
    assert len(rows) >= 15 and all("`test_" in row and "::test_" in row for row in rows)


def test_every_loss_and_every_change_of_a_row_stands_in_the_table_of_losses():
    table = (ROOT / "docs" / "losses.md").read_text(encoding="utf-8")
    lines = [line.split("|")[1] for line in table.splitlines() if line.startswith("|")]
    named = {*REGIONAL_LOSSES, "boundary", *(f"-{flag}" for flag in FLAGS)}
    assert not {name for name in named if not any(f"`{name}`" in cell for cell in lines)}


def test_the_files_of_the_layout_are_there():
    """And nothing at the root is missing from the tree."""
    tree = README.split("## Layout")[1].split("```")[1]
    lines = [line for line in tree.splitlines() if line and "-->" not in line]
    folder, named = "", set()
    for line in lines:
        name = line.split()[0]
        folder = folder if line.startswith("  ") else name
        named.add(folder + name if line.startswith("  ") else name)
    assert all((ROOT / name).exists() for name in named), named
    assert {path.name for path in ROOT.glob("*.py")} <= named
