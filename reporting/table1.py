"""Table 1: its cells, its notes, and its forms as Markdown, CSV, LaTeX and plain text."""

import statistics
from dataclasses import dataclass

from scoring.rows import PAPER, RATER, order
from scoring.runs import CHALLENGES

# key in table1.csv, heading, column of metrics.csv, decimals, a Hausdorff distance?, the statistics shown
METRICS = (
    ("dsc", "DSC", "val_dice", 3, False, ("reported", "best", "last")),
    ("hd_legacy", "legacy HD", "val_hd_legacy", 3, True, ("reported", "best", "last")),
    ("dsc_3d", "3-D DSC", "val_dice_3d", 3, False, ("best",)),
    ("hd_mm", "HD (mm)", "val_hd", 2, True, ("best",)),
    ("hd95_mm", "HD95 (mm)", "val_hd95", 2, True, ("best",)),
    ("dsc_lesion", "DSC, lesion slices", "val_dice_lesion", 3, False, ("best",)),
)


@dataclass
class Cell:
    """One number of the table: text as shown, and the value behind it where there is one."""
    text: str
    kind: str = "measured"  # or "reported", "empty"
    mean: float | None = None
    std: float | None = None
    seeds: int = 0
    deviation: dict | None = None  # from the reported mean, see `deviation`


def averaged(runs):
    """The runs that enter a mean: the finished ones, or, if there is none, whatever has an epoch to show."""
    return [run for run in runs if run.finished] or [run for run in runs if run.best]


def columns(one):
    """The columns of a set: (metric, statistic) pairs. Reported numbers only beside the challenge's own scans."""
    return [(metric, statistic) for metric in METRICS for statistic in metric[5]
            if statistic != "reported" or one.challenge]


def heading(one, metric, statistic):
    _, title, *_, shown = metric
    return title if len(shown) == 1 else \
        f"{title}, " + {"reported": "reported", "best": "best epoch", "last": f"last {one.window}"}[statistic]


def statistic_name(one, statistic):
    return {"best": "best_epoch", "last": f"last_{one.window}"}.get(statistic, statistic)


def value_of(run, column, statistic, window):
    """The number a run gives to a cell; None if it was not computed."""
    if statistic == "best":
        return run.best.get(column)
    return run.last(column, window)


def spread(mean, std, digits):
    return f"{mean:.{digits}f} ({'–' if std is None else f'{std:.{digits}f}'})"


def cell(one, loss, metric, statistic, reported):
    """One cell of the table (see METRICS). Collapsed runs give no distance: a distance to nothing is no number."""
    key, _, column, digits, is_distance, _ = metric
    if statistic == "reported":
        known = reported["table1"][one.challenge]
        pair = known.get(loss, {}).get("dsc" if key == "dsc" else "hd")
        return Cell(spread(*pair, digits), "reported", *pair, 2) if pair else \
            Cell("NA" if loss in known else "–", "reported")
    if loss.startswith(RATER):
        value = one.raters.get(loss.removeprefix(RATER), {}).get(column) if statistic == "best" else None
        return Cell("–", "empty") if value is None else Cell(f"{value:.{digits}f}", mean=value)
    if loss not in one.losses:
        return Cell("not run", "empty")
    runs = averaged(one.losses[loss])
    if is_distance and runs and all(run.collapsed for run in runs):
        return Cell("NA", "empty")
    values = [value_of(run, column, statistic, one.window) for run in runs if not (is_distance and run.collapsed)]
    values = [value for value in values if value is not None]
    if not values:
        return Cell("–", "empty")
    mean, std = statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None
    text = spread(mean, std, digits) + ("" if runs[0].finished else " *")
    if key == "dsc" and statistic == "best" and all(run.collapsed for run in runs):
        text += f" [empty slices: {empty_fraction(one)}]"
    return Cell(text, "measured", mean, std, len(values))


def deviation(measured, paper, metric):
    """How far a measured mean lies from the reported one.

    Returns:
        {"text", "verdict"}: "better" or "worse" where it lies farther than the two standard deviations together, else
        "within"; None where one of the two has no number.
    """
    if measured.mean is None or paper.mean is None:
        return None
    change = measured.mean - paper.mean
    within = abs(change) <= (measured.std or 0) + (paper.std or 0)
    verdict = "within" if within else "better" if (change < 0) == metric[4] else "worse"
    return {"text": f"{change:+.{metric[3]}f}, {verdict}", "verdict": verdict}


def set_deviations(one, loss, cells):
    """Note at the best-epoch cells of a finished row how far they lie from the reported cells of the same metric."""
    if one.finished(loss):
        paper = {metric[0]: shown for (metric, statistic), shown in zip(columns(one), cells) if statistic == "reported"}
        for (metric, statistic), shown in zip(columns(one), cells):
            if statistic == "best" and metric[0] in paper:
                shown.deviation = deviation(shown, paper[metric[0]], metric)
    return cells


def empty_fraction(one):
    fraction = one.fingerprint.val.empty_fraction
    return "unknown" if fraction is None else f"{fraction:.3f}"


def seeds_text(runs):
    """"2", or for example "1 of 2; seed1 at epoch 37 of 200"."""
    if not runs:
        return "–"
    unfinished = [run for run in runs if not run.finished]
    states = [f"{run.folder.name} at epoch {len(run.rows)} of {run.config.epochs}" for run in unfinished]
    return "; ".join([f"{len(runs) - len(states)} of {len(runs)}", *states]) if states else str(len(runs))


def row_size(one, name):
    """What a row's numbers are made of: its seeds, or of a rater the scans."""
    if not name.startswith(RATER):
        return seeds_text(one.losses.get(name))
    rater = one.raters.get(name.removeprefix(RATER))
    return f"{rater['scans']:g} of {rater['val_scans']:g} scans" if rater else "–"


def build_table(sets, reported):
    """{"sets": [{"title", "headings"}], "rows": [{"loss", "groups": [[Cell, ...] per set]}]}; seeds come first."""
    names = sorted({*PAPER, *(name for one in sets for name in one.losses)}, key=order)
    names += [RATER + name for name in sorted({name for one in sets for name in one.raters})]
    groups = [{"title": one.title, "headings": ["seeds", *(heading(one, *column) for column in columns(one))]}
              for one in sets]
    rows = [{"loss": name, "groups": [[Cell(row_size(one, name), "seeds"),
                                       *set_deviations(one, name, [cell(one, name, *column, reported)
                                                                   for column in columns(one)])]
                                      for one in sets]} for name in names]
    return {"sets": groups, "rows": rows, "has_reported": any(one.challenge for one in sets)}


def reported_only(sets, reported):
    """The paper's numbers for the challenges without a run here: they never share a column with other data."""
    missing = [name for name in ("isles", "wmh") if name not in {one.challenge for one in sets}]
    heads = [f"{CHALLENGES[name]} {metric}, {kind}" for name in missing for metric in ("DSC", "legacy HD")
             for kind in ("reported", "measured")]
    rows = []
    for loss in PAPER:
        cells = []
        for name in missing:
            for key in ("dsc", "hd"):
                pair = reported["table1"][name][loss][key]
                cells += [spread(*pair, 3) if pair else "NA", f"not run here (`make {name}`)"]
        rows.append({"loss": loss, "cells": cells})
    return {"headings": heads, "rows": rows} if missing else None



