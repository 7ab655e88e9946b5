"""The version stands in three files, which agree."""

import re
import tomllib
from datetime import date

from checkout import ROOT

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
CITATION = (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def field(name):
    """The value of a field at the top level of CITATION.cff."""
    return re.search(rf"^{name}: *(\S+)$", CITATION, re.M)[1].strip("\"'")


def test_the_version_to_be_cited_is_the_packages():
    assert field("version") == VERSION and re.fullmatch(r"\d+\.\d+\.\d+(\.dev0)?", VERSION)


def test_the_citation_has_a_day():
    assert date.fromisoformat(field("date-released")) >= date(2026, 11, 26)


def test_the_changelogs_first_heading_is_that_version_and_says_whether_it_is_released():
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    version, state = re.search(r"^## (\S+), (.+)$", changes, re.M).groups()
    assert version == VERSION.removesuffix(".dev0")
    released = field("date-released") if version == VERSION else "not yet released"
    assert state == released


def test_every_section_of_the_changelog_is_a_version():
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for heading in re.findall(r"^## (.+)$", changes, re.M):
        assert re.fullmatch(r"\d+\.\d+\.\d+, (\d{4}-\d\d-\d\d|not yet released)", heading), heading
