"""Pages and figures that are committed are those that the code of today makes."""

import re

import pytest

from checkout import ROOT
from run_folders import page_of, write_set

PAGES = sorted((ROOT / "results" / "published").glob("*/*.html"))

# Sections that docs/protocol.md describes, by id; of a phantom what ran stands for the claims
DESCRIBED = {"table": "Table 1", "claims": "claims", "curves": "Figure 3",
             "scans": "validation scan", "runs": "run time of every stage",
             "again": "every command", "data": "",
             "summary": "", "measures": "", "figures": ""}


def sections(page):
    return set(re.findall(r'<(?:section|div) id="([a-z-]+)"', page))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.parent.name)
def test_a_published_page_has_every_section_that_is_described(path):
    text = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8").partition("## The page")[2]
    assert all(words in text for words in DESCRIBED.values())
    page = path.read_text(encoding="utf-8")
    claims = "what-ran" if "Contains phantom data" in page else "claims"
    assert set(DESCRIBED) - {"claims"} | {claims} <= sections(page)
    assert '<p class="lead">' in page and "predicts nothing" in page
    assert "were measured on other runs than this page shows" not in page  # claims are of today


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.parent.name)
def test_a_published_page_is_made_by_the_code_of_today(path, tmp_path):
    """Its style and script are those of now; its README says how to make it again."""
    page, now = path.read_text(encoding="utf-8"), page_of(write_set(tmp_path, source="own"))
    for start, end in (("<style>", "</style>"), ("<script>", "</script>")):
        of_page, of_now = (text.partition(start)[2].partition(end)[0] for text in (page, now))
        assert of_page == of_now


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.parent.name)
def test_figures_that_stand_on_a_published_page_stand_beside_it_with_their_captions(path):
    page = path.read_text(encoding="utf-8")
    captions = (path.parent / "captions.md").read_text(encoding="utf-8")
    for name in ("figure3", *re.findall(r'<figure id="(\w+)">', page)):
        assert all((path.parent / f"{name}.{end}").exists() for end in ("png", "pdf"))
        assert f"({name}.pdf, .png)" in captions
