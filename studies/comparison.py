"""Losses, schedules and networks beside each other: overlap, distance, lesions found, time of an epoch.

Examples:
  python -m studies.comparison --runs results/wmh
  python -m studies.comparison --runs results/wmh results/wmh-enet results/wmh-dims3
  python -m studies.comparison --runs results/lgg --csv losses.csv

The rows of each folder that have finished runs; `make compare NAME=wmh` trains those of COMPARE and calls this. Folders
that stand beside each other have the same validation scans and number of epochs. DSC and HD95 are those of Table 1.
Lesion recall and precision are means over the validation scans on their own grid, from evaluation.csv; a scan in which
nothing is predicted has no precision. An epoch's time is the median over the run's epochs, validation included, and says
nothing where runs shared a machine. The last column is what the boundary loss changes: 3-D DSC of a loss with it against
the same loss without, paired over scans, with a 95 % interval over scans and seeds (see scoring/intervals.py).

Written to the first folder: comparison.md, which is printed too, and comparison.csv, a row per number.

Exit status: 0, or 2 with one line that says which file is wrong and what to do.
"""

if __name__ == "__main__":  # imports this file as a module; see start
    from utils import start
    start("studies.comparison")

import statistics
from pathlib import Path

from reporting.table1 import METRICS, cell, heading, spread, statistic_name
from scoring.cases import validation_names
from scoring.intervals import FEWEST_SCANS, difference
from scoring.rows import label, plain, without_boundary
from scoring.runs import load_set, number
from scoring.scores import row_scores
from utils import UserError, argument_parser, log, read_csv, run_program, write_csv, write_text

METRIC = {metric[0]: metric for metric in METRICS}
COLUMNS = (("dsc", "best"), ("dsc", "last"), ("dsc_3d", "best"), ("hd95_mm", "best"))
LESIONS = {"lesion_recall": "lesion recall", "lesion_precision": "lesion precision"}


def over_seeds(values, digits):
    """(text, mean, std) of one number per seed; None where a seed has none."""
    values = [value for value in values if value is not None]
    if not values:
        return "–", None, None
    mean, std = statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None
    return spread(mean, std, digits), mean, std


def lesion_score(run, name):
    """Mean of a column of a run's evaluation.csv over scans (and classes); None where it was not evaluated, or has no value."""
    path = run.folder / "evaluation.csv"
    needed, do = (name, "prediction_empty"), "Remove it and repeat the command that wrote it."
    rows = read_csv(path, needed, do) if path.exists() else []
    values = [number(row[name], path, line) for line, row in enumerate(rows, 2)
              if name != "lesion_precision" or row["prediction_empty"] != "True"]
    values = [value for value in values if value is not None]
    return statistics.fmean(values) if values else None


def seconds_per_epoch(run):
    values = [row["seconds"] for row in run.rows if row.get("seconds") is not None]
    return statistics.median(values) if values else None


def load_beside(folders):
    """The set of each folder; UserError unless their runs have the same kind of data, validation scans and number of epochs."""
    sets = [load_set(folder) for folder in folders]
    about = {"validation scans": validation_names, "epochs": lambda one: one.runs[0].config.epochs,
             **{what: lambda one, what=what: one.dataset.get(what) for what in ("source", "layout", "size", "classes")}}
    for at, one in enumerate(sets[1:], 1):
        if one.folder.resolve() in [other.folder.resolve() for other in sets[:at]]:
            raise UserError(one.folder, "each folder once", "it twice", "Leave one out.")
        for what, of in about.items():
            if of(one) != of(sets[0]):
                raise UserError(one.folder, f"the same {what} as in {sets[0].folder}", "others",
                                "Leave that folder out, or train it like the first one.")
    return sets


def build_rows(one, folder):
    """One line per loss, of one set, whose folder is called so; variants of a loss follow it.

    Returns:
        [{"set", "folder", "network", "loss", "seeds", "cells": {column: (text, mean, std)}, "empty": names of runs that
        predict nothing, "difference", "low", "high"}, ...]
    """
    lines, scores, order = [], {}, list(one.losses)
    for name in sorted(order, key=lambda name: order.index(loss if (loss := plain(name)) in order else name)):
        runs = one.finished(name)
        if not runs:
            continue
        shown = [cell(one, name, METRIC[key], statistic, {}) for key, statistic in COLUMNS]
        cells = {f"{key}_{statistic_name(one, statistic)}": (found.text, found.mean, found.std)
                 for (key, statistic), found in zip(COLUMNS, shown, strict=True)}
        cells |= {key: over_seeds([lesion_score(run, key) for run in runs], 3) for key in LESIONS}
        cells["seconds_per_epoch"] = over_seeds([seconds_per_epoch(run) for run in runs], 1)
        scores[name] = row_scores(one, name, collapsed=True)
        network = f"{runs[0].config.network}, width {runs[0].config.width}"
        lines.append({"set": one.title, "folder": folder, "network": network, "loss": name, "seeds": len(runs),
                      "cells": cells, "empty": [f"{folder}/{run.name}" for run in runs if run.collapsed or run.ends_empty]})
    for line in lines:
        with_term, without = scores[line["loss"]], scores.get(without_boundary(line["loss"]))
        paired = with_term and without and len(without["dsc_3d"][0]) >= FEWEST_SCANS
        line |= difference(with_term, without, "dsc_3d") if paired else dict.fromkeys(("difference", "low", "high"))
    return lines


def markdown(one, lines):
    """comparison.md; the network is named where there are several, or the folder where they do not tell the rows apart."""
    folders, networks = {line["folder"] for line in lines}, {line["network"] for line in lines}
    told = ["network" if len(networks) == len(folders) else "folder"] if len(folders) > 1 else []
    scores = [heading(one, METRIC[key], statistic) for key, statistic in COLUMNS]
    heads = [*told, "loss", "seeds", *scores, *LESIONS.values(), "s an epoch", "3-D DSC, with boundary against without [95 %]"]
    table = [heads, ["---"] * len(heads)]
    for line in lines:
        change = "–" if line["difference"] is None else f"{line['difference']:+.3f} [{line['low']:+.3f}, {line['high']:+.3f}]"
        cells = [text for text, _, _ in line["cells"].values()]
        table.append([*(line[name] for name in told), label(line["loss"]), str(line["seeds"]), *cells, change])
    empty = [name for line in lines for name in line["empty"]]
    return (f"# Losses beside each other: {one.title}\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in table) + "\n\n"
            "- Mean (sample standard deviation) over the finished seeds; DSC and HD95 as in Table 1.\n"
            "- Lesion recall and precision: mean over the validation scans on their own grid, 26-connected lesions; precision "
            "over those in which something is predicted.\n"
            "- Last column: paired over validation scans, interval over scans and seeds, over scans alone where a row has one "
            f"seed (at least {FEWEST_SCANS} scans).\n"
            + (f"- Without any foreground at the best epoch or the last: {', '.join(empty)}.\n" if empty else ""))


def tidy_rows(lines):
    """comparison.csv: one row per number."""
    numbers = [(line, key, mean, std) for line in lines for key, (_, mean, std) in line["cells"].items()] + [
        (line, f"boundary_{key}", line[key], None) for line in lines for key in ("difference", "low", "high")
        if line[key] is not None]
    return [{"set": line["set"], "folder": line["folder"], "network": line["network"], "loss": line["loss"],
             "seeds": line["seeds"], "column": key, "mean": mean, "std": std} for line, key, mean, std in numbers]


def parse_arguments(argv):
    parser = argument_parser(__doc__, "python -m studies.comparison")
    add = parser.add_argument
    add("--runs", required=True, type=Path, nargs="+", metavar="FOLDER", help="folders of one data set's runs, e.g. "
        "results/wmh results/wmh-enet")
    add("--csv", metavar="FILE", help="where the CSV goes (default comparison.csv in the first folder)")
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_arguments(argv)
    sets = load_beside(args.runs)
    repeated = len({one.folder.name for one in sets}) < len(sets)
    one = sets[0]
    lines = [line for one in sets for line in build_rows(one, one.folder.as_posix() if repeated else one.folder.name)]
    if not lines:
        raise UserError(one.folder, "finished runs", "none", "Train them first, e.g. with make compare.")
    text = markdown(one, lines)
    write_csv(args.csv or one.folder / "comparison.csv", tidy_rows(lines))
    write_text(one.folder / "comparison.md", text)
    log(text)
    return 0


if __name__ == "__main__":
    run_program(main)
