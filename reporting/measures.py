"""What an empty prediction cannot win, in tables of their own beside Table 1.

Slice-mean DSC is (share of empty slices) x (share of them left clean) + (share of lesion slices) x
(DSC there), so that predicting nothing scores the share of empty slices. Here its parts stand
apart, with scores of whole scans and of lesions; docs/protocol.md says what each is.
"""

import statistics
from typing import NamedTuple

from reporting.table1 import averaged, spread
from scoring import epochs
from scoring.emptying import misses_all
from scoring.nothing import scores_of_nothing
from scoring.rows import label
from scoring.run_files import LARGE, SMALL
from utils import markdown_table

NOTHING = "predicts nothing"


class Measure(NamedTuple):
    """A measure: its key in measures.csv, its title, and its column for `scoring.epochs`."""

    key: str
    title: str
    column: str
    digits: int = 3
    sign: int = 1  # 1 if more is better, -1 if less is


# Those that say whether lesions are found come first; the paper's own two, which an empty
# prediction can win, last
MEASURES = (
    Measure("clean", "empty slices left clean", "val_clean"),
    Measure("dsc_lesion", "DSC, lesion slices", "val_dice_lesion"),
    Measure("dsc_3d", "3-D DSC", "val_dice_3d"),
    Measure("lesion_recall", "lesion recall", "val_lesion_recall"),
    Measure("lesion_precision", "lesion precision", "val_lesion_precision"),
    Measure("lesion_f1", "lesion F1", "val_lesion_f1"),
    Measure("recall_small", f"recall below {SMALL:g} ml", "val_recall_small"),
    Measure("recall_medium", f"recall, {SMALL:g} to {LARGE:g} ml", "val_recall_medium"),
    Measure("recall_large", f"recall from {LARGE:g} ml", "val_recall_large"),
    Measure("false_lesions", "false lesions per scan", "val_false_lesions", 1, -1),
    Measure("false_distance", "distance of false lesions (mm)", "val_false_distance", 1),
    Measure("hd95_mm", "HD95 (mm)", "val_hd95", 1, -1),
    Measure("empty", "runs that predict nothing", epochs.EMPTY, 2, -1),
    Measure("dsc", "slice DSC", "val_dice"),
    Measure("hd_legacy", "legacy HD", "val_hd_legacy", 3, -1),
)
STATISTICS = ("last", "best")


def measures_tables(results):
    """The tables of a set: of the last epochs, and of the best one.

    Returns:
        [{"title", "headings", "rows": [{"loss", "label", "cells": [text, ...]}]}], the last row of
        each, of no loss, what an empty prediction scores.
    """
    heads = ["runs", *(measure.title for measure in MEASURES)]
    tables = []
    for statistic in STATISTICS:
        rows = [{"loss": row, "label": label(row),
                 "cells": cells_of(results, averaged(runs), statistic)}
                for row, runs in results.losses.items()]
        rows.append({"loss": None, "label": NOTHING,
                     "cells": ["–", *map(nothing(results).get, MEASURES)]})
        tables.append({"title": statistic_in_words(results, statistic).capitalize(),
                       "headings": heads, "rows": rows})
    return tables


def statistic_in_words(results, statistic):
    """The epochs that a statistic is of, "best epoch" or "last 6 epochs"."""
    if statistic == "best":
        return "best epoch"
    return f"last {results.window} epochs" if results.window > 1 else "last epoch"


def cells_of(results, runs, statistic):
    """The cells of a row as text; a run that predicts nothing counts in every mean."""
    cells = [str(sum(len(run.parts) for run in runs))]
    mark = "" if all(run.finished for run in runs) else " *"  # as in Table 1
    for measure in MEASURES:
        mean, std, count = mean_of(results, runs, measure, statistic)
        if measure.column == epochs.EMPTY and count:
            cells.append(f"{mean * count:g} of {count}{mark}")
        else:
            cells.append("–" if mean is None else spread(mean, std, measure.digits) + mark)
    return cells


def mean_of(results, runs, measure, statistic):
    """(mean, standard deviation or None, number of runs) of a measure; (None, None, 0) without.

    Of cross-validation the folds count together, but each on its own as a run that may predict
    nothing.
    """
    if measure.column == epochs.EMPTY:
        runs = [part for run in runs for part in run.parts]
    values = [value_of(run, measure.column, statistic, results.window) for run in runs]
    values = [value for value in values if value is not None]
    if not values:
        return None, None, 0
    std = statistics.stdev(values) if len(values) > 1 else None
    return statistics.fmean(values), std, len(values)


def value_of(run, column, statistic, window):
    """A column of a run at its best epoch, or over its last ones; None if it was not computed."""
    if statistic == "best":
        return epochs.at_best(run, column)
    return epochs.over_last(run, column, window)


def nothing(results):
    """{Measure: text} of an empty prediction, which is the same at every epoch."""
    scores = scores_of_nothing(results)
    values = {measure: scores.get(measure.column) for measure in MEASURES}
    return {measure: "–" if value is None else f"{value:.{measure.digits}f}"
            for measure, value in values.items()}


def empty_runs(results):
    """Sentences that name the runs whose masks are empty, or hit no lesion; "" for none.

    Empty at the best epoch or the last; without a hit over all of the last epochs.
    """
    parts = [part for runs in results.losses.values() for run in averaged(runs)
             for part in run.parts]
    empty = [f"{part.name} ({'best' if part.collapsed else 'last'} epoch)" for part in parts
             if part.collapsed or part.ends_empty]
    missing = [part.name for part in parts if misses_all(part.last_scans(results.window))]

    found = []
    if empty:
        found.append(f"{len(empty)} of {len(parts)} runs predict no foreground at all: "
                     f"{', '.join(empty)}. They count in every mean; their distances are the "
                     "image's diagonal.")
    if missing:
        found.append(f"{len(missing)} of {len(parts)} runs predict foreground over the last "
                     f"{results.window} epochs, but none of it on a lesion: {', '.join(missing)}. "
                     "They count in every mean.")
    return " ".join(found)


def markdown(sets):
    """Sections for table1.md, one per set."""
    parts = []
    for results in sets:
        parts.append(f"## {results.title}: what an empty prediction cannot win")
        for table in measures_tables(results):
            lines = [["Loss", *table["headings"]],
                     *([row["label"], *row["cells"]] for row in table["rows"])]
            parts += [f"{table['title']}:", markdown_table(lines)]
        parts += filter(None, [empty_runs(results)])
    return "\n" + "\n\n".join(parts) + "\n"


def tidy_rows(sets):
    """measures.csv: one row per set, loss, measure and statistic, and those of predicting nothing.

    The mean of "empty" is the share of runs that predict nothing, folds counted one by one.
    """
    rows = [{"set": results.title, "loss": row, "measure": measure.key, "statistic": statistic,
             **dict(zip(("mean", "std", "runs"),
                        mean_of(results, averaged(runs), measure, statistic)))}
            for results in sets for row, runs in results.losses.items()
            for measure in MEASURES for statistic in STATISTICS]
    return rows + [
        {"set": results.title, "loss": NOTHING, "measure": measure.key, "statistic": statistic,
         "mean": scores_of_nothing(results).get(measure.column), "std": None, "runs": 0}
        for results in sets for measure in MEASURES for statistic in STATISTICS]
