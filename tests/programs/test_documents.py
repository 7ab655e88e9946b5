"""README and docs/: every link leads somewhere, every command parses."""

import re
import shlex

import pytest

from checkout import ROOT
from conftest import run

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
VARIABLES = set(re.findall(r"^([A-Z][A-Z0-9_]*) *\??= ", MAKEFILE, re.M))
TARGETS = set(re.findall(r"^([a-z]+):.*##", MAKEFILE, re.M))
TORCHRUN = "torch.distributed.run"


def text_of(page):
    return page.read_text(encoding="utf-8")


def anchors(page):
    """The headings of a page as its links name them."""
    headings = re.findall(r"^#+ (.*)$", text_of(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def commands():
    """(page, words) of each command in the pages' shell blocks, comments left out."""
    found = []
    for page in PAGES:
        for block in re.findall(r"^```sh\n(.*?)^```", text_of(page), re.M | re.S):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line.split(" # ")[0].partition("  #")[0])
                if words and words[0].removeprefix(".venv/bin/") in ("make", "python"):
                    found.append((page.name, words))
    return found


@pytest.mark.parametrize("page, words", [case for case in commands() if case[1][0] == "make"],
                         ids=lambda case: case if isinstance(case, str) else " ".join(case)[:60])
def test_make_commands_name_targets_and_variables_that_there_are(page, words):
    targets = [word for word in words[1:] if "=" not in word]
    names = {word.split("=")[0] for word in words[1:] if "=" in word}
    assert set(targets) <= TARGETS and names <= VARIABLES


@pytest.mark.parametrize("page, words", [
    case for case in commands() if case[1][0] != "make" and TORCHRUN not in case[1]
    and "pip" not in case[1] and "venv" not in case[1] and "pytest" not in case[1]],
    ids=lambda case: case if isinstance(case, str) else " ".join(case)[:60])
def test_python_commands_name_programs_and_options_that_there_are(page, words):
    program, *rest = words[2:] if words[1] == "-m" else words[1:]
    if program.startswith("tests/"):
        assert (ROOT / program).exists()
        return
    shown = run(program, "--help")
    assert shown.returncode == 0, shown.stderr
    for option in (word.split("=")[0] for word in rest if word.startswith("--")):
        assert re.search(rf"{option}\b", shown.stdout), option


def test_the_commands_are_found():
    assert len(commands()) > 30
