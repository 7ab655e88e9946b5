"""Each foreground class of a set with several, in a table of its own beside Table 1."""

import statistics

from reporting.table1 import averaged, spread
from scoring.rows import label
from scoring.scores import class_columns

HEADS = ("3-D DSC", "HD95 (mm)")
DIGITS = (3, 2)


def class_table(one):
    """One set's classes.

    Args:
        one: a runs.ResultSet.

    Returns:
        {"headings": ["right ventricle, 3-D DSC", ...], "rows": [{"loss", "seeds", "cells": [(mean, std) or None, ...]}]} of
        the best epochs, std None for a single run; or None where the set has a single foreground class. Finished runs alone
        enter a mean where there are any; a collapsed run gives no distance.
    """
    columns = class_columns(one.dataset.classes)
    if not columns:
        return None
    rows = []
    for loss, runs in one.losses.items():
        runs, cells = averaged(runs), []
        for names in columns.values():
            for at, name in enumerate(names):
                values = [run.best.get(name) for run in runs if not (at and run.collapsed)]
                values = [value for value in values if value is not None]
                deviation = statistics.stdev(values) if len(values) > 1 else None
                cells.append((statistics.fmean(values), deviation) if values else None)
        rows.append({"loss": loss, "seeds": len(runs), "cells": cells})
    return {"headings": [f"{name}, {head}" for name in columns for head in HEADS], "rows": rows}


def texts(cells):
    """The cells as they are shown."""
    return ["–" if cell is None else spread(*cell, DIGITS[at % 2]) for at, cell in enumerate(cells)]


def markdown(sets):
    """Sections for table1.md; "" where no set has several foreground classes."""
    parts = []
    for one in sets:
        if table := class_table(one):
            lines = [["Loss", "seeds", *table["headings"]], ["---"] * (2 + len(table["headings"]))]
            lines += [[label(row["loss"]), str(row["seeds"]), *texts(row["cells"])] for row in table["rows"]]
            parts += [f"## {one.title}: each class at the best epoch", "\n".join(f"| {' | '.join(line)} |" for line in lines)]
    return "\n".join(f"\n{part}\n" for part in parts)


def tidy_rows(sets):
    """classes.csv: one row per set, loss, class and metric; [] where no set has several foreground classes."""
    rows = []
    for one in sets:
        for row in (class_table(one) or {"rows": []})["rows"]:
            keys = [(name, metric) for name in class_columns(one.dataset.classes) for metric in ("dsc_3d", "hd95_mm")]
            for (name, metric), cell in zip(keys, row["cells"], strict=True):
                mean, std = cell or (None, None)
                rows.append({"set": one.title, "loss": row["loss"], "class": name, "metric": metric, "mean": mean, "std": std,
                             "seeds": row["seeds"]})
    return rows
