"""The verdicts that stand in committed results."""

import pytest

from checkout import ROOT
from scoring.run_files import Claims
from scoring.runs import load_set
from studies import claims, verdicts
from studies.claims import TEXTS
from utils import read_description, read_json

FILES = sorted((ROOT / "results" / "published").glob("**/claims.json"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_published_claims_are_judged_by_the_rules_of_today(path):
    found = read_description(path, Claims).claims
    assert list(found) == list(TEXTS)
    assert {claim.verdict for claim in found.values()} <= {
        verdicts.SUPPORTED, verdicts.REFUTED, verdicts.UNDECIDED, verdicts.NOT_MEASURED}


@pytest.mark.parametrize("path", [path for path in FILES if any(path.parent.glob(
    "*/seed*/scores.csv"))], ids=lambda path: "-".join(path.parts[-4:-1]))
def test_published_claims_come_out_of_their_runs_again(path):
    """But for C5, a time, C7 and C8, of other sets beside them, and C9, of no runs."""
    written, results = read_json(path)["claims"], load_set(path.parent)
    for name in ("c1", "c2", "c3", "c4", "c6", "c10", "c11"):
        again, found = getattr(claims, name)(results), written[name.upper()]
        assert again["verdict"] == found["verdict"], name
        for key in ("differences", "differences_best", "ratios"):
            for metric, values in found.get(key, {}).items():
                for entry, value in values.items():
                    expected = None if value is None else pytest.approx(value, rel=1e-6, abs=1e-9)
                    assert again[key][metric][entry] == expected, (name, metric, entry)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_published_verdicts_follow_from_their_intervals(path):
    for name, claim in read_description(path, Claims).claims.items():
        changes, deciding = claim.get("differences"), claim.get("decided_by")
        if changes and claim.verdict != verdicts.NOT_MEASURED:
            sign = -1 if {"hd", "lesions_false"} & set(deciding) else 1  # less is better
            judged = verdicts.join([verdicts.decide(changes[metric], sign, claim.get("margin", 0.0))
                                    for metric in deciding])
            # by studies.stability.undecided_where_emptied
            empty = claim.statistic.partition("at the best epoch or the last: ")[2]
            emptied = name == "C11" and empty.count("gdl+boundary/") > empty.count("gdl/")
            assert claim.verdict == judged or (
                emptied and (judged, claim.verdict) == (verdicts.SUPPORTED, verdicts.UNDECIDED))
