"""The verdicts that stand in committed results."""

import pytest

from checkout import ROOT
from scoring.run_files import Claims
from studies import verdicts
from studies.claims import TEXTS
from utils import read_description

FILES = sorted((ROOT / "results" / "published").glob("**/claims.json"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_published_claims_are_judged_by_the_rules_of_today(path):
    found = read_description(path, Claims).claims
    assert list(found) == list(TEXTS)
    assert {claim.verdict for claim in found.values()} <= {
        verdicts.SUPPORTED, verdicts.REFUTED, verdicts.UNDECIDED, verdicts.NOT_MEASURED}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_published_verdicts_follow_from_their_intervals(path):
    for name, claim in read_description(path, Claims).claims.items():
        changes, deciding = claim.get("differences"), claim.get("decided_by")
        if changes and claim.verdict != verdicts.NOT_MEASURED:
            sign = -1 if {"hd", "lesions_false"} & set(deciding) else 1  # less is better
            judged = verdicts.join([verdicts.decide(changes[metric], sign, claim.get("margin", 0.0))
                                    for metric in deciding])
            # by studies.stability.supported_unless_emptied
            empty = claim.statistic.partition("at the best epoch or the last: ")[2]
            emptied = name == "C11" and empty.count("gdl+boundary/") > empty.count("gdl/")
            assert claim.verdict == judged or (
                emptied and (judged, claim.verdict) == (verdicts.SUPPORTED, verdicts.UNDECIDED))
