"""The first screen of the page: what was found, Table 1 set by set, and the claims as a list."""

from reporting.curves import plain_rows
from reporting.measures import MEASURES, statistic_in_words
from reporting.page.scores import means_of, measure_changes, verdict
from reporting.page.words import duration
from reporting.table1 import METRICS, columns
from scoring.nothing import scores_of_nothing
from scoring.rows import PAIR, PAPER, RATER, in_words, is_of_a_study

VERBS = {"better": "raises", "worse": "lowers"}  # of a DSC, by its verdict

NAMES = {  # of the claims, for a list; claims.json has them in full
    "C1": "Better DSC",
    "C2": "Better Hausdorff distance",
    "C3": "Smoother validation curves",
    "C4": "Boundary loss alone collapses",
    "C5": "Negligible time per step",
    "C6": "Schedule of alpha as good as a constant",
    "C7": "Another architecture",
    "C8": "3-D",
    "C9": "Eq. 3 and 4 on known shapes",
    "C10": "Small lesions recovered",
    "C11": "Fewer false positives far away",
}
SCORES = {  # entries of a claim's "differences" in words, and the digits they are shown with
    "dsc": ("slice DSC", 3), "dsc_3d": ("3-D DSC", 3), "hd": ("HD (mm)", 1),
    "hd95": ("HD95 (mm)", 1), "hd_legacy": ("legacy HD", 2),
    "recall_small": ("recall of small lesions", 3), "lesions_false": ("false lesions per scan", 1),
    "false_mm": ("distances of false lesions added up (mm)", 0),
}
LESS_IS_BETTER = ("hd", "hd95", "hd_legacy", "lesions_false", "false_mm")


# The sentence -------------------------------------------------------------------------------------

def finding(results, claims):
    """What was found on a set, in one sentence.

    Args:
        results: a ResultSet.
        claims: {"C1": Claim, ...} of it, whose C1 has the interval where runs kept no scores of
            single scans.
    """
    name = results.title
    if results.is_phantom:
        return (f"{name}: {what_ran(results).rstrip('.')}. Synthetic scans: every program "
                "works, and the numbers say nothing about the paper's.")
    missing = [in_words(loss) for loss in PAIR if not results.finished(loss)]
    if missing:
        done = sum(part.finished for part in results.parts)
        if done == len(results.parts):
            return (f"On {name} GDL and GDL + boundary are not compared, without a run of "
                    f"{' or '.join(missing)}: {what_ran(results)}")
        return (f"On {name} GDL and GDL + boundary cannot be compared yet: {done} of "
                f"{len(results.parts)} runs have finished, none of "
                f"{' and none of '.join(missing)}.")

    statistic = "last" if measure_changes(results, "last") else "best"
    changes = measure_changes(results, statistic)
    by_key = {measure.key: measure for measure in MEASURES}
    slices, whole = (means_of(results, by_key[key], statistic) for key in ("dsc", "dsc_3d"))
    if None in slices:
        return f"On {name} the runs have no validation scores to compare."
    change = changes.get("dsc") or change_of_claim(claims, statistic)

    when = f"; {statistic_in_words(results, statistic)}"
    parts = [dsc_in_words("slice DSC", slices, change, when)]
    if None not in whole:
        change = changes.get("dsc_3d") or change_of_claim(claims, statistic, "dsc_3d")
        parts.append(dsc_in_words("3-D DSC", whole, change))
    sentence = f"On {name}, adding the boundary loss to the GDL {' and '.join(parts)}"
    nothing = scores_of_nothing(results).get("val_dice")
    return sentence + (f"; predicting nothing would score {nothing:.3f} in slice DSC."
                       if nothing is not None else ".")


def change_of_claim(claims, statistic, metric="dsc"):
    """Difference and interval of a DSC as claim C1 has them, {} where it has none."""
    found = claims.get("C1")
    if found is None or ("best" in (found.get("epochs") or "")) != (statistic == "best"):
        return {}
    return (found.get("differences") or {}).get(metric) or {}


def dsc_in_words(title, pair, change, when=""):
    """"raises 3-D DSC from 0.400 to 0.600 (...)": the verb says no more than the interval."""
    verb = VERBS.get(change.get("verdict"), "takes")
    return (f"{verb} {title} from {pair[0]:.3f} to {pair[1]:.3f} "
            f"({interval_in_words(pair, change)}{when})")


def interval_in_words(pair, change):
    """"+0.200, 95 % interval -0.110 to +0.452", with what it decides."""
    words = f"{pair[1] - pair[0]:+.3f}"
    if change.get("low") is None:
        lack = change.get("verdict")
        return words + (f", no interval: {lack}" if lack else "")
    words += f", 95 % interval {change['low']:+.3f} to {change['high']:+.3f}"
    return words + (", undecided" if change["low"] <= 0 <= change["high"] else "")


def what_ran(results):
    """What was trained, and for how long, in a sentence."""
    parts = results.parts
    epochs = sum(len(part.rows) for part in parts)
    left = len(parts) - sum(part.finished for part in parts)
    seconds = sum(part.seconds for part in parts if part.rows)
    return (f"{len(parts)} runs of {', '.join(map(in_words, results.losses))}, {epochs} epochs in "
            f"all, trained in {duration(seconds)}"
            + (f"; {left} of them unfinished" if left else "") + ".")


# The table ----------------------------------------------------------------------------------------

def table_of_set(results, table, index):
    """Table 1 of one set for the template: what is reported and what was measured, side by side.

    Args:
        results: a ResultSet.
        table: of `table1.build_table`.
        index: place of the set in it.

    Returns:
        {"groups": [(title of a measure, number of its columns)], "headings": [(text, kind)],
        "starts": [does a column begin a group?], "rows" and "further": [{"loss", "seeds": Cell,
        "cells": [Cell, ...]}], "nothing": [text, ...]}.
        `further` are rows in which something about a loss is changed, such as constant alphas,
        unless they are few enough for Figure 3.
    """
    shown = columns(results)
    counts = [(metric.title, sum(other is metric for other, _ in shown)) for metric in METRICS]
    words = {"reported": "paper", "best": "here, best",
             "last": "here, last " + (f"{results.window}" if results.window > 1 else "epoch")}
    # a measure with one column is named by it alone
    headings = [(words[statistic] if len(metric.statistics) > 1 else "here, best",
                 "reported" if statistic == "reported" else "measured")
                for metric, statistic in shown]

    rows = [{"loss": row["loss"], "seeds": row["groups"][index][0],
             "cells": row["groups"][index][1:]} for row in table["rows"]
            if is_of_set(results, row["loss"])]
    further = [row for row in rows
               if is_of_a_study(row["loss"]) and row["loss"] not in plain_rows(results)]
    nothing = scores_of_nothing(results)
    values = [None if statistic == "reported" else nothing.get(metric.column)
              for metric, statistic in shown]
    starts = [at == 0 or shown[at - 1][0] is not metric for at, (metric, _) in enumerate(shown)]
    return {"groups": counts, "headings": headings, "starts": starts,
            "rows": [row for row in rows if row not in further], "further": further,
            "nothing": ["–" if value is None else f"{value:.{metric.digits}f}"
                        for (metric, _), value in zip(shown, values, strict=True)]}


def is_of_set(results, name):
    """Does a row of the table say anything about this set?"""
    return (name in PAPER or name in results.losses
            or name.startswith(RATER) and name.removeprefix(RATER) in results.raters)


# The claims ---------------------------------------------------------------------------------------

def claim_list(claims):
    """The claims for the template: [{"key", "name", "number": one number in words, "claim"}]."""
    return [{"key": key, "name": NAMES.get(key, key), "number": number_of(key, found),
             "claim": found} for key, found in claims.items()]


def number_of(key, claim):
    """The number that says most about a claim, in words; "" where nothing was measured."""
    if differences := claim.get("differences"):
        return difference_in_words(differences, claim)
    if key == "C3" and (ratios := claim.get("ratios")):
        ratio = (ratios.get("val_dice") or {}).get("ratio")
        return "" if ratio is None else f"change from epoch to epoch × {ratio:.2f}"
    if key == "C4" and claim.get("runs"):
        return f"{claim.get('collapsed', 0)} of {claim.get('runs')} runs"
    if key == "C5" and claim.get("share") is not None:
        return f"{claim.get('share'):+.1%} of a step".replace("%", " %")
    if against := claim.get("against_best"):
        return f"3-D DSC {against['difference']:+.3f}"
    if claim.curves:
        orders = [curve.order for curve in claim.curves.values()]
        return f"order {min(orders):.2f} to {max(orders):.2f}"
    return ""


def difference_in_words(differences, claim):
    """The difference that decides: of several the first that gives the verdict."""
    names = [name for name in claim.get("decided_by", list(differences)) if name in differences]
    names = [name for name in names if differences[name].get("difference") is not None]
    if not names:
        return ""
    name = next((name for name in names
                 if verdict_of(name, differences[name]) == claim.verdict), names[0])
    words, digits = SCORES.get(name, (name.replace("_", " "), 3))
    return f"{words} {differences[name]['difference']:+.{digits}f}"


def verdict_of(name, change):
    """The verdict that one interval gives."""
    if change.get("low") is None or change.get("high") is None:
        return None
    found = verdict(change, name in LESS_IS_BETTER)
    return {"better": "supported", "worse": "refuted"}.get(found, found)
