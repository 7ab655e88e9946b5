"""Verdicts, entries of claims.json, and GDL + boundary against GDL, paired over scans.

A verdict is read off intervals and nothing else: "supported", "refuted" (an interval lies wholly on
the other side, or beyond the margin), "undecided" (it does not), "not measured" (one seed, fewer
than 5 scans, or other data missing).
"""

from typing import NamedTuple

import numpy as np

from reporting.measures import statistic_in_words
from scoring.emptying import empty_share
from scoring.intervals import (
    FEWEST_SCANS,
    FEWEST_SEEDS,
    change_in_words,
    difference,
    mean_score,
    patients_behind,
    per_patient,
    scans_behind,
    t_quantile,
)
from scoring.row_scores import PATIENT, row_scores
from scoring.rows import BOTH, PAIR, REGIONAL
from scoring.run_files import LARGE, SMALL
from scoring.runs import without_foreground

SUPPORTED, REFUTED, UNDECIDED = "supported", "refuted", "undecided"
NOT_MEASURED = "not measured"
METRICS = {  # of row_scores, in words
    "dsc": "slice DSC", "dsc_3d": "3-D DSC", "dsc_lesion": "DSC on lesion slices",
    "clean": "empty slices left clean",
    "hd": "HD", "hd95": "HD95", "hd_legacy": "legacy HD",
    "recall_small": f"recall of lesions below {SMALL} ml",
    "recall_medium": f"recall to {LARGE} ml", "recall_large": "recall above",
    "lesion_recall": "lesion recall",
    "lesions_false": "false lesions per scan",
    "false_mm": "their distances from the nearest lesion added up (mm)",
    "false_distance": "their mean distance (mm)",
}
MOST_SEEDS = 100  # more of them nobody trains


# Verdicts -----------------------------------------------------------------------------------------

def decide(change, sign=1, margin=0.0):
    """The verdict on one interval.

    Args:
        change: {"low", "high"}.
        sign: 1 if more is better, -1 if less is.
        margin: what counts as similar: the interval must lie above -margin; 0: it must be better.
    """
    low, high = sorted((sign * change["low"], sign * change["high"]))
    return SUPPORTED if low > -margin else REFUTED if high < -margin else UNDECIDED


def join(verdicts):
    """The verdict on a claim about several things: all of them must hold."""
    if REFUTED in verdicts:
        return REFUTED
    for verdict in (NOT_MEASURED, UNDECIDED):
        if verdict in verdicts:
            return verdict
    return SUPPORTED


def excludes_0(change, centre=0.0):
    """Does the interval {"low", "high"} of a difference leave out 0 (of a ratio: `centre` 1)?"""
    return change["low"] > centre or change["high"] < centre


# Entries of claims.json ---------------------------------------------------------------------------

def claim(verdict, statistic, **values):
    """One entry of claims.json."""
    return {"verdict": verdict, "statistic": statistic, **values}


def not_measured(what):
    return claim(NOT_MEASURED, f"run: {what}")


def settings_as(results):
    return f"with the other settings as in {results.runs[0].folder}"


def empty_in_words(runs):
    """"; without any foreground at the best epoch or the last: gdl/seed1 (1 of 6 runs)", or ""."""
    names, count = without_foreground(runs), sum(len(run.parts) for run in runs)
    return (f"; without any foreground at the best epoch or the last: {', '.join(names)} "
            f"({len(names)} of {count} runs)" if names else "")


def lacking(seeds, scans, what="validation scans"):
    """What is missing for a verdict, in words: seeds, or scans; "" for nothing.

    Args:
        seeds: {row: number of its seeds}.
        scans: the number of those that count.
        what: they are called.
    """
    if min(seeds.values()) < FEWEST_SEEDS:
        return (f"needs at least {FEWEST_SEEDS} seeds of {' and of '.join(seeds)}, found "
                f"{' and '.join(map(str, seeds.values()))}")
    return "" if scans >= FEWEST_SCANS else \
        f"needs at least {FEWEST_SCANS} {what}, found {scans}"


# GDL + boundary against GDL -----------------------------------------------------------------------

class Pair(NamedTuple):
    """The `row_scores` of two rows, and what they are of: "last" epochs or "best" epoch."""

    statistic: str
    with_term: dict
    without: dict


def pairs_of(results, rows=PAIR):
    """The Pairs there are of two rows (without, with), the deciding one first.

    Last epochs come first. The best epoch does where runs of an earlier version, which kept no
    scores of the others, would have to be left out.
    """
    found = []
    for statistic in ("last", "best"):
        without, with_term = (row_scores(results, row, statistic) for row in rows)
        if without and with_term:
            found.append(Pair(statistic, with_term, without))
    return sorted(found, key=lambda pair: -len(pair.without["dsc"]) - len(pair.with_term["dsc"]))


def judge_difference(results, deciding, beside=(), sign=1, margin=0.0):
    """BOTH against REGIONAL, paired over scans.

    Args:
        results: a ResultSet.
        deciding: metrics of row_scores, all of which must be better.
        beside: others to tell.
        sign: 1 if more is better, -1 if less is.
        margin: what still counts as similar.

    Returns:
        an entry of claims.json with "differences" (and "differences_best", at the best epoch).
    """
    if not (results.finished(REGIONAL) and results.finished(BOTH)):
        return not_measured(f"make custom NAME={results.folder.name} LOSSES='{REGIONAL} {BOTH}', "
                            + settings_as(results))
    pairs = pairs_of(results)
    if not pairs:
        return not_measured("main.py again where scores.csv and predictions.npz are missing in "
                            f"{results.folder}")

    pair, names = pairs[0], (*deciding, *beside)
    scans = min(scans_behind(*pair[1:], name) for name in deciding)
    lack = predict_nothing(pair, deciding) or lack_of_pair(pair, scans, deciding)
    changes = {of.statistic: {name: difference(of.with_term, of.without, name, not lack)
                              for name in names}
               for of in pairs}
    values = {"differences": changes[pair.statistic], "decided_by": list(deciding),
              "epochs": statistic_in_words(results, pair.statistic),
              "scans": scans, "seeds": min(seeds_of(pair).values())}
    if "best" in changes:
        values["differences_best"] = changes["best"]

    statistic = (comparison_in_words(results, pairs, changes)
                 + empty_in_words([run for row in PAIR for run in results.finished(row)]))
    if lack:
        return claim(NOT_MEASURED, f"{lack}; {statistic}", **values)
    verdicts = {name: decide(values["differences"][name], sign, margin) for name in deciding}
    coloured = [excludes_0(values["differences"][name]) for name in deciding
                if verdicts[name] == join(verdicts.values())]
    return claim(join(verdicts.values()), statistic, excludes_0=bool(coloured) and all(coloured),
                 **values)


def seeds_of(pair, rows=PAIR):
    """{row: number of its seeds}."""
    return dict(zip(rows, (len(pair.without["dsc"]), len(pair.with_term["dsc"])), strict=True))


def judge_dsc(results):
    """By slice DSC, the paper's, which an empty mask can win, and 3-D DSC, which it cannot."""
    return judge_difference(results, ("dsc", "dsc_3d"), ("clean", "dsc_lesion"))


def lack_of_pair(pair, scans, deciding):
    """As `lacking`; scans: the number of those that have the deciding metrics."""
    what = "validation patients" if PATIENT in pair.without else "validation scans"
    if scans < pair.without["dsc"].shape[1]:
        what += f" with a value for {METRICS[deciding[0]]}"
    patients = min(patients_behind(*pair[1:], name) for name in deciding)
    return lacking(seeds_of(pair), patients, what)


def predict_nothing(pair, deciding):
    """Why there is nothing to compare, in words; "" where there is."""
    empty = [row for row, scores in zip(PAIR, (pair.without, pair.with_term), strict=True)
             if not scores["lesions_predicted"].any()]
    of_false_ones = "lesions_false" in deciding  # whoever predicts nothing has none
    if len(empty) == 2 or empty and of_false_ones:
        return (f"every run of {' and of '.join(empty)} predicts no foreground: train for longer, "
                "or a wider network")
    return ""


def comparison_in_words(results, pairs, changes):
    """The differences of each Pair, and how many scans and seeds they are over."""
    parts = [statistic_in_words(results, pair.statistic) + ": " + ", ".join(
        f"{METRICS[name]} {change_in_words(change)}"
        for name, change in changes[pair.statistic].items()) for pair in pairs]
    pair = pairs[0]
    if "dsc" in changes[pair.statistic]:
        parts.append("slice DSC of " + ", ".join(
            f"{row} {mean_score(scores, 'dsc'):.3f}"
            for row, scores in zip(PAIR, (pair.without, pair.with_term), strict=True))
            + f", of predicting nothing {share_of_empty_slices(results, pair):.3f}")
    if "lesions_false" in changes[pair.statistic]:
        parts.append("false lesions of predicting nothing 0")

    seeds = list(seeds_of(pair).values())
    parts.append(f"{pair.without['dsc'].shape[1]} scans, {seeds[0]} and {seeds[1]} seeds")
    return "; ".join(parts)


def share_of_empty_slices(results, pair):
    """What predicting nothing scores in slice DSC: mean over classes, where scores.csv tells."""
    if scans := results.finished(PAIR[0])[0].best_scans:
        return empty_share(scans)
    return pair.without["slices_empty"][0].sum() / pair.without["slices"][0].sum()


# What it would take -------------------------------------------------------------------------------

def needed_for(margin, pair, name):
    """How many seeds, or scans, an interval within +-margin of equal rows takes.

    The variance of the mean over scans stays, that over seeds goes with 1 / seeds, and the interval
    with Student's t, as in scoring/intervals.py. A patient's scans hang together there and here: so
    many scans are needed if further patients have as many each.

    Args:
        margin: in the unit of the metric.
        pair: a Pair.
        name: of a metric that is a mean over scans.

    Returns:
        {"seeds_needed": of each row, None if no number would do or is known, "scans_needed": None
        where seeds suffice, "words"}.
    """
    rows = pair.with_term[name], pair.without[name]
    change = rows[0].mean(0) - rows[1].mean(0)
    patients = pair.without[PATIENT][0] if PATIENT in pair.without else None
    sums, _ = per_patient(change - change.mean(), patients)
    scans, count = len(change), len(sums)
    if min(map(len, rows)) < FEWEST_SEEDS or count < 2:
        return {"seeds_needed": None, "scans_needed": None, "words": ""}
    # half of an interval of one scan; the deviation of one seed of each
    of_scans = 1.96 * ((sums ** 2).sum() / scans * count / (count - 1)) ** 0.5
    of_seeds = sum(row.mean(1).var(ddof=1) for row in rows) ** 0.5

    for seeds in range(FEWEST_SEEDS, MOST_SEEDS + 1):
        half = np.hypot(of_scans / scans ** 0.5, t_quantile(seeds) * of_seeds / seeds ** 0.5)
        if half <= margin:
            return {"seeds_needed": seeds, "scans_needed": None,
                    "words": f"about {seeds} seeds of each could meet it"}

    least = of_scans / scans ** 0.5
    if least <= margin:
        return {"seeds_needed": None, "scans_needed": None,
                "words": f"more than {MOST_SEEDS} seeds of each would have to meet it"}
    enough = int(np.ceil((of_scans / margin) ** 2))
    return {"seeds_needed": None, "scans_needed": enough,
            "words": f"no number of seeds could meet it on these {scans} scans, which alone leave "
                     f"+-{least:.3f}: about {enough} scans could"}


if __name__ == "__main__":
    from utils import explain_part
    explain_part("studies.verdicts", __doc__, "studies.claims")
