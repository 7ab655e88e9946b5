"""Losses, schedules and networks side by side: overlap, distance, lesions found, time of an epoch.

Examples:
  python -m studies.comparison --runs results/wmh
  python -m studies.comparison --runs results/wmh results/wmh-enet results/wmh-dims3
  python -m studies.comparison --runs results/lgg --csv losses.csv

The rows of each folder with finished runs are shown; `make compare NAME=wmh` trains those of
COMPARE and calls this. Folders shown together must have the same validation scans and number of
epochs. DSC and HD95 are those of Table 1. Lesion recall and precision are means over the validation
scans on their own grid, from evaluation.csv; a scan in which nothing is predicted has no precision.
An epoch's time is the median over the run's epochs, validation included, and says nothing where
runs shared a machine. The last column is what the boundary loss changes: 3-D DSC of a loss with it
against the same loss without, paired over scans, with a 95 % interval over scans and seeds (see
scoring/intervals.py).

Written to the first folder: comparison.md, which is printed too, and comparison.csv, one row per
number.

Exit status: 0, or 2 with one line that says which file is wrong and what to do.
"""

if __name__ == "__main__":  # imports this file as a module; see start
    from utils import start
    start("studies.comparison")

import statistics
from pathlib import Path

from reporting import measures
from reporting.notes import left_out
from reporting.table1 import METRICS, cell, heading, spread, statistic_name
from scans.inputs import begins_with, refuse_inputs
from scoring.cases import validation_names
from scoring.intervals import CHANGE, FEWEST_SCANS, change_in_words, difference_with_interval
from scoring.row_scores import row_scores
from scoring.rows import label, plain, without_boundary
from scoring.run_files import number
from scoring.runs import load_set, refuse_twice, told_apart, without_foreground
from utils import UserError, argument_parser, log, markdown_table, read_csv, write_csv, write_text

METRIC = {metric[0]: metric for metric in METRICS}
COLUMNS = (("dsc", "best"), ("dsc", "last"), ("dsc_3d", "best"), ("hd95_mm", "best"))
LESIONS = {"lesion_recall": "lesion recall", "lesion_precision": "lesion precision"}


# The numbers --------------------------------------------------------------------------------------

def over_seeds(values, digits):
    """(text, mean, std) of one number per seed; None where a seed has none."""
    values = [value for value in values if value is not None]
    if not values:
        return "–", None, None
    mean = statistics.fmean(values)
    std = statistics.stdev(values) if len(values) > 1 else None
    return spread(mean, std, digits), mean, std


def lesion_score(run, name):
    """Mean of a column of a run's evaluation.csv over scans (and classes).

    None if the run was not evaluated, or no scan has a value.
    """
    needed, do = (name, "prediction_empty"), "Remove it and repeat the command that wrote it."
    values = []
    for path in (part.folder / "evaluation.csv" for part in run.parts):
        rows = read_csv(path, needed, do) if path.exists() else []
        values += [number(row[name], path, line) for line, row in enumerate(rows, 2)
                   if name != "lesion_precision" or row["prediction_empty"] != "True"]
    values = [value for value in values if value is not None]
    return statistics.fmean(values) if values else None


def seconds_per_epoch(run):
    values = [row["seconds"] for row in run.rows if row.get("seconds") is not None]
    return statistics.median(values) if values else None


def load_comparable(folders):
    """The set of each folder.

    Raises:
        UserError: one is named twice, or their runs differ in kind of data, validation scans or
            number of epochs.
    """
    def facts(results):
        same = {key: results.dataset.get(key) for key in ("source", "layout", "size", "classes")}
        return {"validation scans": validation_names(results),
                "epochs": results.runs[0].config.epochs, **same}

    refuse_twice(folders)
    sets = [load_set(folder) for folder in folders]
    for results in sets[1:]:
        for what, value in facts(results).items():
            if value != facts(sets[0])[what]:
                raise UserError(results.folder, f"the same {what} as in {sets[0].folder}", "others",
                                "Leave that folder out, or train it like the first one.")
    return sets


def build_row(results, name, folder):
    """One line of the table: its cells, and the names of runs that predict nothing.

    Returns:
        {"set", "folder", "network", "loss", "seeds", "cells": {column: (text, mean, std)}, "empty"}
    """
    runs = results.finished(name)
    config = runs[0].config

    cells = {}
    for key, statistic in COLUMNS:
        shown = cell(results, name, METRIC[key], statistic, {})
        column = f"{key}_{statistic_name(results, statistic)}"
        cells[column] = (shown.text, shown.mean, shown.std)
    for key in LESIONS:
        cells[key] = over_seeds([lesion_score(run, key) for run in runs], 3)
    cells["seconds_per_epoch"] = over_seeds([seconds_per_epoch(run) for run in runs], 1)

    return {
        "set": results.title,
        "folder": folder,
        "network": f"{config.network}, width {config.width}",
        "loss": name,
        "seeds": len(runs),
        "cells": cells,
        "empty": [f"{folder}/{run}" for run in without_foreground(runs)],
    }


def build_rows(results, folder):
    """One line per loss of a set; variants of a loss follow it.

    Args:
        results: a ResultSet.
        folder: what its folder is called in the table.

    Returns:
        [`build_row` and "difference", "low", "high" (None without a loss to compare with), ...]
    """
    order = list(results.losses)

    def place(name):
        return order.index(plain(name) if plain(name) in order else name)

    names = [name for name in sorted(order, key=place) if results.finished(name)]
    scores = {name: row_scores(results, name) for name in names}

    lines = []
    for name in names:
        line = build_row(results, name, folder)
        with_term, without = scores[name], scores.get(without_boundary(name))
        lines.append(line | difference_with_interval(with_term, without, "dsc_3d"))
    return lines


# What is written ----------------------------------------------------------------------------------

def markdown(results, lines):
    """comparison.md.

    Where there are several folders, the network is named, or the folder if networks do not tell
    them apart.
    """
    folders, networks = {line["folder"] for line in lines}, {line["network"] for line in lines}
    told = []
    if len(folders) > 1:
        told = ["network" if len(networks) == len(folders) else "folder"]
    scores = [heading(results, METRIC[key], statistic) for key, statistic in COLUMNS]
    heads = [*told, "loss", "seeds", *scores, *LESIONS.values(), "s per epoch",
             "3-D DSC, with boundary against without [95 %]"]

    table = [heads]
    for line in lines:
        cells = [text for text, _, _ in line["cells"].values()]
        table.append([*(line[name] for name in told), label(line["loss"]), str(line["seeds"]),
                      *cells, change_in_words(line)])

    empty = [name for line in lines for name in line["empty"]]
    notes = [
        "Mean (sample standard deviation) over the finished seeds; DSC and HD95 as in Table 1.",
        "Lesion recall and precision: mean over the validation scans on their own grid, "
        "26-connected lesions; precision over those in which something is predicted. The tables "
        "below are on the network's grid, and give a scan without a prediction precision 1.",
        "Last column: paired over validation scans, interval over scans and seeds, over scans "
        f"alone where a row has one seed (at least {FEWEST_SCANS} scans).",
    ]
    if empty:
        notes.append(f"Without any foreground at the best epoch or the last: {', '.join(empty)}.")
    notes = "".join(f"- {note}\n" for note in notes)
    return f"# Losses side by side: {results.title}\n\n{markdown_table(table)}\n\n{notes}"


def tidy_rows(lines):
    """comparison.csv: one row per number."""
    numbers = [(line, key, mean, std)
               for line in lines for key, (_, mean, std) in line["cells"].items()]
    numbers += [(line, f"boundary_{key}", line[key], None)
                for line in lines for key in CHANGE if line[key] is not None]

    about = ("set", "folder", "network", "loss", "seeds")
    return [{**{name: line[name] for name in about}, "column": key, "mean": mean, "std": std}
            for line, key, mean, std in numbers]


def parse_arguments(argv):
    parser = argument_parser(__doc__, "python -m studies.comparison")
    add = parser.add_argument
    add("--runs", required=True, type=Path, nargs="+", metavar="FOLDER",
        help="folders of one data set's runs, e.g. results/wmh results/wmh-enet")
    add("--csv", metavar="FILE",
        help="where the CSV goes (default comparison.csv in the first folder)")
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_arguments(argv)
    sets = load_comparable(args.runs)
    first = sets[0]
    refuse_inputs([args.csv], [], begins_with("set,folder,"))

    # Folders go by their names, or by their paths if two of them have the same name.
    repeated = len({results.folder.name for results in sets}) < len(sets)
    lines = []
    notes = [note for results in sets for note in left_out(results)]
    for results in sets:
        name = results.folder.as_posix() if repeated else results.folder.name
        lines += build_rows(results, name)
    if not lines:
        raise UserError(first.folder, "finished runs", "none",
                        "Train them first, e.g. with make compare.")

    text = markdown(first, lines) + measures.markdown(told_apart(sets))
    text += "".join(f"\n{note}\n" for note in notes)
    write_csv(args.csv or first.folder / "comparison.csv", tidy_rows(lines))
    write_text(first.folder / "comparison.md", text)
    log(text)
    return 0
