"""Each foreground class of a set with several, in a table of its own beside Table 1."""

import statistics

from reporting.table1 import averaged, spread
from scoring.rows import label
from scoring.scores import class_columns
from utils import markdown_table

# of the columns of a class, in the order of class_columns
HEADS = ("3-D DSC", "HD95 (mm)")
KEYS = ("dsc_3d", "hd95_mm")
DIGITS = (3, 2)


def class_table(results):
    """One set's classes at the best epochs.

    Args:
        results: a ResultSet.

    Returns:
        {"headings": ["right ventricle, 3-D DSC", ...], "rows": [{"loss", "seeds", "cells":
        [(mean, std) or None, ...]}]}, std None for a single run; None where the set has a single
        foreground class. Where some runs have finished, only they enter a mean.
    """
    columns = class_columns(results.dataset.classes)
    if not columns:
        return None

    rows = []
    for loss, runs in results.losses.items():
        runs = averaged(runs)
        cells = [class_cell(runs, column, is_distance=at == 1)
                 for names in columns.values() for at, column in enumerate(names)]
        rows.append({"loss": loss, "seeds": len(runs), "cells": cells})
    return {"headings": [f"{name}, {head}" for name in columns for head in HEADS], "rows": rows}


def class_cell(runs, column, is_distance):
    """(mean, standard deviation or None) over runs, or None; no distance where all collapsed."""
    if is_distance and all(run.collapsed for run in runs):
        return None
    values = [run.best.get(column) for run in runs]
    values = [value for value in values if value is not None]
    if not values:
        return None
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def texts(cells):
    """The cells as they are shown."""
    return ["–" if cell is None else spread(*cell, DIGITS[at % len(DIGITS)])
            for at, cell in enumerate(cells)]


def markdown(sets):
    """Sections for table1.md; "" where no set has several foreground classes."""
    parts = []
    for results in sets:
        if table := class_table(results):
            lines = [["Loss", "seeds", *table["headings"]]]
            lines += [[label(row["loss"]), str(row["seeds"]), *texts(row["cells"])]
                      for row in table["rows"]]
            parts += [f"## {results.title}: each class at the best epoch", markdown_table(lines)]
    return "\n".join(f"\n{part}\n" for part in parts)


def tidy_rows(sets):
    """classes.csv: one row per set, loss, class and metric; [] where no set has several classes."""
    found = []
    for results in sets:
        classes = class_columns(results.dataset.classes)
        keys = [(name, metric) for name in classes for metric in KEYS]
        table = class_table(results) or {"rows": []}
        for row in table["rows"]:
            for (name, metric), cell in zip(keys, row["cells"], strict=True):
                mean, std = cell or (None, None)
                found.append({"set": results.title, "loss": row["loss"], "class": name,
                              "metric": metric, "mean": mean, "std": std, "seeds": row["seeds"]})
    return found
