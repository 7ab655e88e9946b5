"""Table 1: the columns of a set, what a cell shows, and how far it is from the paper's."""

import statistics
from dataclasses import dataclass
from typing import NamedTuple

from scoring.epochs import EMPTY, series
from scoring.nothing import scores_of_nothing
from scoring.rows import PAPER, RATER, order
from scoring.runs import CHALLENGES


class Metric(NamedTuple):
    """What the columns of a metric have in common."""

    key: str           # in table1.csv
    title: str         # in headings
    column: str        # of metrics.csv
    digits: int        # decimals shown
    is_distance: bool  # then less is better, and a collapsed run has none
    statistics: tuple  # the columns it has, of reported, best (epoch) and last (epochs)


METRICS = (
    Metric("dsc", "DSC", "val_dice", 3, False, ("reported", "best", "last")),
    Metric("hd_legacy", "legacy HD", "val_hd_legacy", 3, True, ("reported", "best", "last")),
    Metric("dsc_3d", "3-D DSC", "val_dice_3d", 3, False, ("best",)),
    Metric("hd_mm", "HD (mm)", "val_hd", 2, True, ("best",)),
    Metric("hd95_mm", "HD95 (mm)", "val_hd95", 2, True, ("best",)),
    Metric("dsc_lesion", "DSC, lesion slices", "val_dice_lesion", 3, False, ("best",)),
)


@dataclass
class Cell:
    """One number of the table: text as shown, and the value behind it where there is one."""

    text: str
    kind: str = "measured"  # or "reported", "empty", "seeds"
    mean: float | None = None
    std: float | None = None
    seeds: int = 0
    deviation: dict | None = None  # from the reported mean, see `deviation`


# Columns ------------------------------------------------------------------------------------------

def columns(results):
    """The (metric, statistic) of each column of a set.

    Reported numbers are shown only beside the challenge's own scans.
    """
    return [(metric, statistic) for metric in METRICS for statistic in metric.statistics
            if statistic != "reported" or results.challenge]


def heading(results, metric, statistic):
    """The heading of a column; metrics with a single column need no statistic in it."""
    if len(metric.statistics) == 1:
        return metric.title
    words = {"reported": "reported", "best": "best epoch", "last": f"last {results.window}"}
    return f"{metric.title}, {words[statistic]}"


def statistic_name(results, statistic):
    """A statistic as table1.csv calls it."""
    names = {"best": "best_epoch", "last": f"last_{results.window}"}
    return names.get(statistic, statistic)


# Cells --------------------------------------------------------------------------------------------

def averaged(runs):
    """The runs that enter a mean: the finished ones, or, without any, all that have an epoch."""
    return [run for run in runs if run.finished] or [run for run in runs if run.best]


def value_of(run, column, statistic, window):
    """The number that a run gives to a cell; None if it was not computed."""
    if statistic == "best":
        return run.best.get(column)
    return run.last(column, window)


def spread(mean, std, digits):
    """Mean and standard deviation as the table shows them: 0.550 (0.071), or 0.550 (–)."""
    return f"{mean:.{digits}f} ({'–' if std is None else f'{std:.{digits}f}'})"


def cell(results, loss, metric, statistic, reported):
    """One cell of the table.

    Args:
        results: a ResultSet.
        loss: the row.
        metric, statistic: the column, as of `columns`.
        reported: results/reported.json; not read for other statistics than "reported".
    """
    if statistic == "reported":
        return reported_cell(reported["table1"][results.challenge], loss, metric)
    if loss.startswith(RATER):
        return rater_cell(results, loss, metric, statistic)
    if loss not in results.losses:
        begun = any(name.startswith(f"{loss}/") for name in results.lacking)
        return Cell("folds missing" if begun else "not run", "empty")
    return measured_cell(results, averaged(results.losses[loss]), metric, statistic)


def reported_cell(paper, loss, metric):
    """What the paper's table holds; paper: {loss: {"dsc", "hd": (mean, std) or None}}."""
    pair = paper.get(loss, {}).get("dsc" if metric.key == "dsc" else "hd")
    if pair:
        return Cell(spread(*pair, metric.digits), "reported", *pair, 2)
    return Cell("NA" if loss in paper else "–", "reported")


def rater_cell(results, name, metric, statistic):
    """What a further human rater scores; masks that were not trained have no epochs but one."""
    rater = results.raters.get(name.removeprefix(RATER), {})
    value = rater.get(metric.column) if statistic == "best" else None
    if value is None:
        return Cell("–", "empty")
    return Cell(f"{value:.{metric.digits}f}", mean=value)


def measured_cell(results, runs, metric, statistic):
    """Mean and standard deviation over runs.

    Where all have collapsed there is no distance: NA, as in the paper. Beside others a collapsed
    run counts as an empty prediction does.
    """
    if metric.is_distance and runs and all(predicts_nothing(run, statistic, results.window)
                                           for run in runs):
        return Cell("NA", "empty")
    values = [value_of(run, metric.column, statistic, results.window) for run in runs]
    values = [value for value in values if value is not None]
    if not values:
        return Cell("–", "empty")

    mean, std = statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None
    text = spread(mean, std, metric.digits) + ("" if runs[0].finished else " *")
    if metric.key == "dsc" and statistic == "best" and all(run.collapsed for run in runs):
        text += f" [empty slices: {empty_fraction(results)}]"
    return Cell(text, "measured", mean, std, len(values))


def predicts_nothing(run, statistic, window):
    """Is the best model empty, or every one of the last epochs'?"""
    if statistic == "best":
        return run.collapsed
    empty = series(run, EMPTY)[-window:]
    return bool(empty) and all(share == 1 for share in empty)


def deviation(measured, paper, metric):
    """How far a measured mean lies from the reported one.

    Returns:
        {"text", "verdict"}: "better" or "worse" where it lies farther than the two standard
        deviations together, else "within"; None where one of the two has no number.
    """
    if measured.mean is None or paper.mean is None:
        return None
    change = measured.mean - paper.mean
    within = abs(change) <= (measured.std or 0) + (paper.std or 0)
    verdict = "within" if within else "better" if (change < 0) == metric.is_distance else "worse"
    return {"text": f"{change:+.{metric.digits}f}, {verdict}", "verdict": verdict}


def set_deviations(results, loss, cells):
    """Note at the best-epoch cells of a finished row how far they lie from the reported ones."""
    if not results.finished(loss):
        return cells

    both = list(zip(columns(results), cells))
    paper = {metric.key: shown for (metric, statistic), shown in both if statistic == "reported"}
    for (metric, statistic), shown in both:
        if statistic == "best" and metric.key in paper:
            shown.deviation = deviation(shown, paper[metric.key], metric)
    return cells


def empty_fraction(results):
    """The share of validation slices without a lesion, mean over classes, as text."""
    fraction = (results.fingerprint.val.empty_fraction if len(results.classes) == 2 else
                scores_of_nothing(results).get("val_dice"))
    return "unknown" if fraction is None else f"{fraction:.3f}"


def seeds_text(runs):
    """"2", or for example "1 of 2; seed1 at epoch 37 of 200"."""
    if not runs:
        return "–"
    states = [f"{run.folder.name} at epoch {len(run.rows)} of {run.config.epochs}"
              for run in runs if not run.finished]
    if not states:
        return str(len(runs))
    return "; ".join([f"{len(runs) - len(states)} of {len(runs)}", *states])


def row_size(results, name):
    """What a row's numbers are made of: its seeds, or of a rater the scans."""
    if not name.startswith(RATER):
        return seeds_text(results.losses.get(name))
    rater = results.raters.get(name.removeprefix(RATER))
    return f"{rater['scans']:g} of {rater['val_scans']:g} scans" if rater else "–"


# The table ----------------------------------------------------------------------------------------

def build_table(sets, reported):
    """Table 1 of these sets, side by side.

    Returns:
        {"sets": [{"title", "headings"}], "rows": [{"loss", "groups": [[Cell, ...] per set]}],
        "has_reported"}; the first column of a set holds its seeds.
    """
    names = sorted({*PAPER, *(name for results in sets for name in results.losses)}, key=order)
    names += [RATER + name
              for name in sorted({name for results in sets for name in results.raters})]

    groups = [{"title": results.title,
               "headings": ["seeds", *(heading(results, *column) for column in columns(results))]}
              for results in sets]
    rows = [{"loss": name, "groups": [row_of_set(results, name, reported) for results in sets]}
            for name in names]
    return {"sets": groups, "rows": rows,
            "has_reported": any(results.challenge for results in sets)}


def row_of_set(results, name, reported):
    """The cells of a row in the columns of one set."""
    cells = [cell(results, name, *column, reported) for column in columns(results)]
    return [Cell(row_size(results, name), "seeds"), *set_deviations(results, name, cells)]


def reported_only(sets, reported):
    """The paper's numbers for the challenges without a run here, None if there is none.

    They never share a column with other data.

    Returns:
        {"headings", "rows": [{"loss", "cells": [text, ...]}]}, side by side; and set by set "sets":
        [{"title", "target" (of make), "rows": [{"loss", "cells": [DSC, legacy HD]}]}].
    """
    present = {results.challenge for results in sets}
    missing = [name for name in ("isles", "wmh") if name not in present]
    if not missing:
        return None

    heads = [f"{CHALLENGES[name]} {metric}, {kind}" for name in missing
             for metric in ("DSC", "legacy HD") for kind in ("reported", "measured")]
    told = {name: {loss: [spread(*pair, 3) if (pair := reported["table1"][name][loss][key])
                          else "NA" for key in ("dsc", "hd")] for loss in PAPER}
            for name in missing}
    rows = [{"loss": loss, "cells": [text for name in missing for cell in told[name][loss]
                                     for text in (cell, f"not run here (`make {name}`)")]}
            for loss in PAPER]
    return {"headings": heads, "rows": rows, "sets": [
        {"title": CHALLENGES[name], "target": name,
         "rows": [{"loss": loss, "cells": told[name][loss]} for loss in PAPER]}
        for name in missing]}
