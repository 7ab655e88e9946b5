"""Two rows of a set, paired over scans: what each measure gains from the first to the second.

Examples:
  python -m studies.difference --runs results/ms --rows gdl gdl+boundary
  python -m studies.difference --runs results/published/ms-fair/runs/ms \\
      --rows gdl+boundary gdl-batch
  python -m studies.difference --runs results/lgg --rows gdl dice+ce --statistic best

Each difference is a mean over the validation scans with its 95 % interval over scans and seeds (see
scoring/intervals.py), of the last epochs or of the best one. "better" and "worse": the interval
excludes 0; "undecided": it does not; "not measured": one seed, whose interval over scans alone is
too narrow, or fewer than 5 scans.

Printed as a table in Markdown; --csv writes the same numbers, unrounded.

Exit status: 0, or 2 with one line that says which file is wrong and what to do.
"""

if __name__ == "__main__":  # imports this file as a module; see start
    from utils import start
    start("studies.difference")

from pathlib import Path

import numpy as np

from reporting import measures
from scans.inputs import begins_with, refuse_inputs
from scoring.intervals import FEWEST_SEEDS, change_in_words, mean_known, scans_behind
from scoring.row_scores import SUMMED, row_scores
from scoring.rows import label
from scoring.runs import load_set, without_foreground
from studies.verdicts import NOT_MEASURED, UNDECIDED, Pair, change_of, excludes_0
from utils import UserError, argument_parser, log, write_csv

# The measures of the tables, by their names in row_scores
NAMES = {"false_lesions": "lesions_false", "hd95_mm": "hd95"}  # others are called the same
MEASURES = {NAMES.get(measure.key, measure.key): measure for measure in measures.MEASURES
            if measure.key != "empty"}
TITLES = {"dsc": "slice DSC, which an empty mask can win"}  # others as in the tables
NEITHER = ("false_distance",)  # is neither better nor worse where it is more


def main(argv=None):
    args = parse_arguments(argv)
    refuse_inputs([args.csv], [], begins_with("measure,words,"))
    results = load_set(args.runs, args.data)
    rows = [scores_of(results, row, args.statistic) for row in args.rows]
    lines = [line_of(name, *rows) for name in MEASURES if name in rows[0]]

    log(f"{results.title}, {' to '.join(map(label, args.rows))}: "
        f"{len(rows[0]['dsc'][0])} scans, {' and '.join(str(len(row['dsc'])) for row in rows)} "
        f"seeds, {'best epoch' if args.statistic == 'best' else f'last {results.window} epochs'}")
    log(markdown(lines, args.rows))
    empty = without_foreground([run for row in args.rows for run in results.finished(row)])
    if empty:
        log(f"\nWithout any foreground at the best epoch or the last: {', '.join(empty)}. They "
            "count in every mean.")
    if args.csv:
        write_csv(args.csv, lines)
        log(f"written: {args.csv}")
    return 0


def scores_of(results, row, statistic):
    """`row_scores` of a row that has finished runs; UserError if there are none."""
    scores = row_scores(results, row, statistic) if row in results.losses else None
    if scores is None:
        there = ", ".join(name for name in results.losses if results.finished(name)) or "none"
        raise UserError(f"--rows {row}", f"finished runs with scores in {results.folder}",
                        f"those of {there}", "Train them first, or name another row.")
    return scores


def line_of(name, first, second):
    """One measure: both means, the difference, its interval and what that says."""
    change = change_of(Pair("", second, first), name)
    seeds, measure = min(len(row[name]) for row in (first, second)), MEASURES[name]
    return {"measure": name, "words": TITLES.get(name, measure.title),
            "first": mean_of(first, name), "second": mean_of(second, name), **change,
            "scans": scans_behind(second, first, name), "seeds": seeds,
            "verdict": verdict(change, 0 if name in NEITHER else measure.sign, seeds)}


def mean_of(row, name):
    """Mean of a measure over seeds and scans; of SUMMED, over their slices or lesions."""
    values = mean_known(row[name], 0)
    if name not in SUMMED:
        return float(mean_known(values, 0))
    count = row[SUMMED[name]][0].sum()
    return float(values.sum() / count) if count else float("nan")


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
    table = [f"| measure | {label(rows[0])} | {label(rows[1])} | difference | verdict |",
             "|---|---|---|---|---|"]
    for line in lines:
        first, second = (f"{line[key]:.3f}" if np.isfinite(line[key]) else "–"
                         for key in ("first", "second"))
        table.append(f"| {line['words']} | {first} | {second} | {change_in_words(line)} | "
                     f"{line['verdict']} |")
    return "\n".join(table)


def parse_arguments(argv=None):
    parser = argument_parser(__doc__, "python -m studies.difference")
    add = parser.add_argument
    add("--runs", type=Path, required=True, help="folder of a set's runs, e.g. results/ms")
    add("--data", type=Path, help="its data folder (default: the one that the runs name)")
    add("--rows", nargs=2, required=True, metavar=("FIRST", "SECOND"),
        help="two rows of it, e.g. gdl gdl+boundary")
    add("--statistic", choices=("last", "best"), default="last",
        help="of each run: the mean over its last epochs, or its best one (default last)")
    add("--csv", type=Path, help="write the numbers to this file too")
    return parser.parse_args(argv)
