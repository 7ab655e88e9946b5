"""What an empty prediction cannot win, in a table of its own beside Table 1.

Slice-mean DSC is (share of empty slices) x (share of them left clean) + (share of lesion slices) x
(DSC there), so that predicting nothing scores the share of empty slices. Here its parts stand
apart, with scores of whole scans and of lesions.
"""

import statistics
from typing import NamedTuple

from reporting.table1 import averaged, empty_fraction, spread, value_of
from scoring.rows import label

NOTHING = "predicts nothing"


class Measure(NamedTuple):
    """A measure: its key in measures.csv, title, column of metrics.csv, and what nothing scores."""

    key: str
    title: str
    column: str
    nothing: float | None = None  # None: that is not a number
    digits: int = 3
    is_distance: bool = False


MEASURES = (
    Measure("clean", "empty slices left clean", "val_clean", 1.0),
    Measure("dsc_lesion", "DSC, lesion slices", "val_dice_lesion", 0.0),
    Measure("dsc_3d", "3-D DSC", "val_dice_3d", 0.0),
    Measure("lesion_recall", "lesion recall", "val_lesion_recall", 0.0),
    Measure("lesion_precision", "lesion precision", "val_lesion_precision", 1.0),
    Measure("lesion_f1", "lesion F1", "val_lesion_f1", 0.0),
    Measure("hd95_mm", "HD95 (mm)", "val_hd95", None, 1, True),
    Measure("dsc", "slice DSC", "val_dice"),  # the share of empty slices
)
STATISTICS = ("last", "best")


def measures_table(results):
    """The table of a set.

    Returns:
        {"headings", "rows": [{"label", "cells": [text, ...]}]}, the last row what an empty
        prediction scores.
    """
    heads = ["runs", "best or last model empty"]
    heads += [f"{measure.title}, {statistic_in_words(results, statistic)}"
              for measure in MEASURES for statistic in STATISTICS]
    rows = [{"label": label(row), "cells": cells_of(results, averaged(runs))}
            for row, runs in results.losses.items()]
    return {"headings": heads, "rows": [*rows, {"label": NOTHING, "cells": nothing(results)}]}


def statistic_in_words(results, statistic):
    return "best epoch" if statistic == "best" else f"last {results.window}"


def cells_of(results, runs):
    """The cells of a row as text; a run that ends empty counts in every mean but the distances."""
    parts = [part for run in runs for part in run.parts]
    empty = sum(part.collapsed or part.ends_empty for part in parts)
    cells = [str(len(parts)), f"{empty} of {len(parts)}"]
    for measure in MEASURES:
        for statistic in STATISTICS:
            mean, std, _ = mean_of(results, runs, measure, statistic)
            cells.append("–" if mean is None else spread(mean, std, measure.digits))
    return cells


def mean_of(results, runs, measure, statistic):
    """(mean, standard deviation or None, number of runs) of a measure; (None, None, 0) without."""
    values = [value_of(run, measure.column, statistic, results.window) for run in runs
              if not (measure.is_distance and run.collapsed)]
    values = [value for value in values if value is not None]
    if not values:
        return None, None, 0
    std = statistics.stdev(values) if len(values) > 1 else None
    return statistics.fmean(values), std, len(values)


def nothing(results):
    """The cells of an empty prediction, which is the same at every epoch."""
    cells = ["–", "–"]
    for measure in MEASURES:
        text = "–" if measure.nothing is None else f"{measure.nothing:.{measure.digits}f}"
        if measure.key == "dsc":
            text = empty_fraction(results)
        cells += [text] * len(STATISTICS)
    return cells


def markdown(sets):
    """Sections for table1.md, one per set."""
    parts = []
    for results in sets:
        table = measures_table(results)
        lines = [["Loss", *table["headings"]], ["---"] * (1 + len(table["headings"])),
                 *([row["label"], *row["cells"]] for row in table["rows"])]
        parts += [f"## {results.title}: what an empty prediction cannot win",
                  "\n".join(f"| {' | '.join(line)} |" for line in lines)]
    return "\n".join(f"\n{part}\n" for part in parts)


def tidy_rows(sets):
    """measures.csv: one row per set, loss, measure and statistic."""
    return [{"set": results.title, "loss": row, "measure": measure.key, "statistic": statistic,
             **dict(zip(("mean", "std", "runs"),
                        mean_of(results, averaged(runs), measure, statistic)))}
            for results in sets for row, runs in results.losses.items()
            for measure in MEASURES for statistic in STATISTICS]
