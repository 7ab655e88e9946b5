"""Two rows of a set, paired over scans: what each measure gains from the first to the second.

Examples:
  python -m studies.difference --runs results/ms --rows gdl gdl+boundary
  python -m studies.difference --runs results/lgg results/lgg-fill48 --rows gdl gdl+boundary \\
      --figure results/lgg-fill48/difference.png
  python -m studies.difference --runs results/published/ms-fair/runs/ms \\
      --rows gdl+boundary gdl-batch
  python -m studies.difference --runs results/lgg --rows gdl dice+ce --statistic best
  python -m studies.difference --runs results/published/ms-poly/runs/ms --rows gdl gdl+boundary \\
      --epochs 50 99

Each difference is a mean over the validation scans with its 95 % interval over scans and seeds (see
scoring/intervals.py), of the last epochs, of the best one, or of those that you name. "better" and
"worse": the interval excludes 0; "undecided": it does not; "not measured": one seed, whose interval
over scans alone is too narrow, or fewer than 5 scans or patients. On a phantom there is no verdict.

Of several sets each has its table, and the figure shows how the differences change from set to set,
in the order in which they are named.

Printed as tables in Markdown; --csv writes the same numbers, unrounded; --figure draws those of
DSC, of clean empty slices and of lesions found.

Exit status: 0, or 2 with one line that says which file is wrong and what to do.
"""

if __name__ == "__main__":  # imports this file as a module; see start
    from utils import start
    start("studies.difference")

from pathlib import Path

import matplotlib
import numpy as np

from reporting import measures
from reporting.figures import save
from reporting.notes import left_out
from reporting.study_figures import differences
from scans.inputs import begins_with, refuse_inputs
from scoring.intervals import (
    FEWEST_SEEDS,
    change_in_words,
    difference,
    mean_score,
    scans_behind,
)
from scoring.row_scores import row_scores
from scoring.rows import label
from scoring.runs import load_sets, without_foreground
from studies.verdicts import NOT_MEASURED, UNDECIDED, excludes_0
from utils import PLOT_STYLE, UserError, argument_parser, log, markdown_table, write_csv

# The measures of the tables, by their names in row_scores
NAMES = {"false_lesions": "lesions_false", "hd95_mm": "hd95"}  # others are called the same
MEASURES = {NAMES.get(measure.key, measure.key): measure for measure in measures.MEASURES
            if measure.key != "empty"}
TITLES = {"dsc": "slice DSC, which an empty mask can win",  # others as in the tables
          "false_distance": "distance of false lesions, mean of scans (mm)"}
PHANTOM = "phantom: no verdict"
FIGURE = "difference"  # the usual name of the figure, which may be written anew
NEITHER = ("false_distance",)  # is neither better nor worse where it is more


def main(argv=None):
    args = parse_arguments(argv)
    refuse_inputs([args.csv], [], begins_with("set,measure,words,"))
    refuse_inputs(pictures(args.figure), [], lambda path: Path(path).stem == FIGURE)
    sets = load_sets(args.runs, args.data)
    statistic = tuple(args.epochs) if args.epochs else args.statistic
    lines = [line for results in sets for line in compared(results, args.rows, statistic)]
    if args.csv:
        write_csv(args.csv, lines)
        log(f"written: {args.csv}")
    if args.figure:
        with matplotlib.rc_context(PLOT_STYLE):
            drawn = differences(lines, args.rows)
            save(args.figure.stem, args.figure.parent, *drawn)
        log(f"written: {args.figure.with_suffix('.png')} and .pdf")
    return 0


def pictures(figure):
    """The files that --figure names; one of another name than FIGURE is not written over."""
    return [figure.with_suffix(f".{kind}") for kind in ("png", "pdf")] if figure else []


def compared(results, rows, statistic):
    """The lines of a set, printed as a table."""
    first, second = (scores_of(results, row, statistic) for row in rows)
    lines = [{"set": results.title, **line_of(name, first, second)} for name in MEASURES
             if name in first]
    if results.is_phantom:
        lines = [{**line, "verdict": PHANTOM} for line in lines]

    log(f"{results.title}, {' to '.join(map(label, rows))}: "
        f"{len(first['dsc'][0])} scans, {len(first['dsc'])} and {len(second['dsc'])} seeds, "
        f"{in_words(statistic, results)}\n")
    log(markdown(lines, rows) + "\n")
    for note in left_out(results):
        log(note + "\n")
    empty = without_foreground([run for row in rows for run in results.finished(row)
                                if run.scans or statistic == "best"])
    if empty:
        log(f"Without any foreground at the best epoch or the last: {', '.join(empty)}. They "
            "count in every mean.\n")
    return lines


def in_words(statistic, results):
    if statistic in measures.STATISTICS:
        return measures.statistic_in_words(results, statistic)
    return f"epochs {statistic[0]} to {statistic[1]}"


def scores_of(results, row, statistic):
    """`row_scores` of a row that has finished runs.

    Raises:
        UserError: there are none, or one of them lacks an epoch of `statistic`.
    """
    refuse_other_epochs(results, row, statistic)
    scores = row_scores(results, row, statistic) if row in results.losses else None
    if scores is None and results.finished(row):  # of an earlier version
        raise UserError(f"--rows {row}", f"scores.csv in its runs in {results.folder}", "none",
                        "Train them again" + (", or take --statistic best, which reads their masks."
                                              if statistic != "best" else "."))
    if scores is None:
        there = ", ".join(name for name in results.losses if results.finished(name)) or "none"
        there += "".join(f"; {note}" for note in left_out(results))
        raise UserError(f"--rows {row}", f"finished runs with scores in {results.folder}",
                        f"those of {there}", "Train them first, or name another row.")
    return scores


def refuse_other_epochs(results, row, statistic):
    runs = results.finished(row)
    if statistic in measures.STATISTICS or not runs:
        return
    scored = [{scan["epoch"] for scan in part.scans} for run in runs for part in run.parts]
    if not all(scored):  # row_scores tells
        return
    low, high = (int(value) for value in (max(map(min, scored)), min(map(max, scored))))
    if not low <= statistic[0] <= statistic[1] <= high:
        raise UserError("--epochs", f"two epochs from {low} to {high}, which all runs of {row} in "
                        f"{results.folder} have, the earlier one first",
                        " ".join(map(str, statistic)), "Name such epochs.")


def line_of(name, first, second):
    """One measure: both means, the difference, its interval and what that says."""
    change = difference(second, first, name)
    seeds, measure = min(len(row[name]) for row in (first, second)), MEASURES[name]
    return {"measure": name, "words": TITLES.get(name, measure.title),
            "first": known(mean_score(first, name)), "second": known(mean_score(second, name)),
            **change,
            "scans": scans_behind(second, first, name), "seeds": seeds,
            "verdict": verdict(change, 0 if name in NEITHER else measure.sign, seeds)}


def known(value):
    """None for NaN, which would stand in the table."""
    return None if np.isnan(value) else value


def verdict(change, sign, seeds):
    """What an interval says: better, worse, more or less, undecided, or that it says nothing."""
    if change["low"] is None or seeds < FEWEST_SEEDS:
        return NOT_MEASURED
    if not excludes_0(change):
        return UNDECIDED
    if not sign:
        return "more" if change["low"] > 0 else "less"
    return "better" if sign * change["low"] > 0 else "worse"


def markdown(lines, rows):
    """The lines as a table in Markdown."""
    table = [["measure", *map(label, rows), "difference", "verdict"]]
    for line in lines:
        first, second = ("–" if line[key] is None else f"{line[key]:.3f}"
                         for key in ("first", "second"))
        table.append([line["words"], first, second, change_in_words(line), line["verdict"]])
    return markdown_table(table)


def parse_arguments(argv=None):
    parser = argument_parser(__doc__, "python -m studies.difference")
    add = parser.add_argument
    add("--runs", type=Path, nargs="+", required=True,
        help="folder of a set's runs, e.g. results/ms, or several")
    add("--data", type=Path, nargs="+",
        help="the data folder of each (default: the ones that the runs name)")
    add("--rows", nargs=2, required=True, metavar=("FIRST", "SECOND"),
        help="two rows of it, e.g. gdl gdl+boundary")
    epochs = parser.add_mutually_exclusive_group().add_argument
    epochs("--statistic", choices=("last", "best"), default="last",
           help="of each run: the mean over its last epochs, or its best one (default last)")
    epochs("--epochs", type=int, nargs=2, metavar=("FIRST", "LAST"),
           help="the mean over these epochs instead, from 0, both counted")
    add("--csv", type=Path, help="write the numbers to this file too")
    add("--figure", type=Path, help="draw them: a file whose ending becomes .png and .pdf")
    return parser.parse_args(argv)
