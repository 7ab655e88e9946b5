"""Losses, schedules and networks beside each other: overlap, distance, lesions found, time of an epoch.

Examples:
  python comparison.py --runs results/wmh
  python comparison.py --runs results/wmh results/wmh-enet results/wmh-dims3
  python comparison.py --runs results/lgg --csv losses.csv

The rows of each folder that have finished runs; `make compare NAME=wmh` trains those of COMPARE and calls this. Folders
that stand beside each other have the same validation scans and number of epochs. DSC and HD95 are those of Table 1.
Lesion recall and precision are means over the validation scans on their own grid, from evaluation.csv. An epoch's time is
the median over the run's epochs, validation included, and says nothing where runs shared a machine. The last column is
what the boundary loss changes: 3-D DSC of a loss with it against the same loss without, paired over scans, with a 95 %
interval over scans and seeds (see bootstrap.py).

Written to the first folder: comparison.md, which is printed too, and comparison.csv, a row per number.

Exit status: 0, or 2 with one line that says which file is wrong and what to do.
"""

import utils  # noqa: F401  isort: skip (first: Ctrl-C during the imports below is one line)

import argparse
import statistics
from pathlib import Path

from bootstrap import FEWEST_SCANS, difference, row_scores
from figures_cases import validation_subjects
from runs import VARIANT, load_set, number
from tables import METRICS, cell, heading, label, spread, statistic_name
from utils import UserError, log, read_csv, run_program, write_csv, write_text

METRIC = {metric[0]: metric for metric in METRICS}
COLUMNS = (("dsc", "best"), ("dsc", "last"), ("dsc_3d", "best"), ("hd95_mm", "best"))
LESIONS = {"lesion_recall": "lesion recall", "lesion_precision": "lesion precision"}
BOUNDARY = "+boundary"


def over_seeds(values, digits):
    """(text, mean, std) of one number per seed; None where a seed has none."""
    values = [value for value in values if value is not None]
    if not values:
        return "–", None, None
    mean, std = statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None
    return spread(mean, std, digits), mean, std


def lesion_score(run, name):
    """Mean of a column of a run's evaluation.csv over scans (and classes); None where it was not evaluated."""
    path = run.folder / "evaluation.csv"
    rows = read_csv(path, (name,), "Remove it and repeat the command that wrote it.") if path.exists() else []
    values = [value for line, row in enumerate(rows, 2) if (value := number(row[name], path, line)) is not None]
    return statistics.fmean(values) if values else None


def seconds_per_epoch(run):
    values = [row["seconds"] for row in run.rows if row.get("seconds") is not None]
    return statistics.median(values) if values else None


def load_beside(folders):
    """The set of each folder; UserError unless their runs have the same validation scans and number of epochs."""
    sets = [load_set(folder) for folder in folders]
    for one in sets[1:]:
        for what, of in (("validation scans", validation_subjects), ("epochs", lambda one: one.runs[0].config["epochs"])):
            if of(one) != of(sets[0]):
                raise UserError(one.folder, f"the same {what} as in {sets[0].folder}", "others",
                                "Leave that folder out, or train it like the first one.")
    return sets


def without_boundary(name):
    """The row that a row with the boundary loss is compared with: gdl+boundary-increase -> gdl. None for one without."""
    variant = VARIANT.fullmatch(name)
    plain = variant[1] if variant else name
    return plain.removesuffix(BOUNDARY) if plain.endswith(BOUNDARY) else None


def build_rows(one):
    """One line per loss, of one set.

    Returns:
        [{"folder", "network", "loss", "seeds", "cells": {column: (text, mean, std)}, "empty": runs that predict nothing,
        "difference", "low", "high"}, ...]
    """
    lines, scores = [], {}
    for name in one.losses:
        runs = one.finished(name)
        if not runs:
            continue
        shown = [cell(one, name, METRIC[key], statistic, {}) for key, statistic in COLUMNS]
        cells = {f"{key}_{statistic_name(one, statistic)}": (found.text, found.mean, found.std)
                 for (key, statistic), found in zip(COLUMNS, shown, strict=True)}
        cells |= {key: over_seeds([lesion_score(run, key) for run in runs], 3) for key in LESIONS}
        cells["seconds_per_epoch"] = over_seeds([seconds_per_epoch(run) for run in runs], 1)
        scores[name] = row_scores(one, name)
        network = f"{runs[0].config['network']}, width {runs[0].config['width']}"
        lines.append({"folder": one.folder.name, "network": network, "loss": name, "seeds": len(runs), "cells": cells,
                      "empty": [run.name for run in runs if run.collapsed or run.ends_empty]})
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
    return (f"# Losses beside each other: {one.title}\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in table) + "\n\n"
            "- Mean (sample standard deviation) over the finished seeds; DSC and HD95 as in Table 1.\n"
            "- Lesion recall and precision: mean over the validation scans on their own grid, 26-connected lesions.\n"
            "- Last column: paired over validation scans, interval over scans and seeds "
            f"(at least {FEWEST_SCANS} scans).\n"
            + "".join(f"- Without any foreground at the best epoch or the last: {', '.join(line['empty'])}.\n"
                      for line in lines if line["empty"]))


def tidy_rows(one, lines):
    """comparison.csv: one row per number."""
    numbers = [(line, key, mean, std) for line in lines for key, (_, mean, std) in line["cells"].items()] + [
        (line, f"boundary_{key}", line[key], None) for line in lines for key in ("difference", "low", "high")
        if line[key] is not None]
    return [{"set": one.title, "folder": line["folder"], "network": line["network"], "loss": line["loss"],
             "seeds": line["seeds"], "column": key, "mean": mean, "std": std} for line, key, mean, std in numbers]


def parse_arguments(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--runs", required=True, type=Path, nargs="+", metavar="FOLDER", help="folders of one data set's runs, e.g. "
        "results/wmh results/wmh-enet")
    add("--csv", metavar="FILE", help="where the CSV goes (default comparison.csv in the first folder)")
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_arguments(argv)
    sets = load_beside(args.runs)
    one, lines = sets[0], [line for one in sets for line in build_rows(one)]
    if not lines:
        raise UserError(one.folder, "finished runs", "none", "Train them first, e.g. with make compare.")
    text = markdown(one, lines)
    write_csv(args.csv or one.folder / "comparison.csv", tidy_rows(one, lines))
    write_text(one.folder / "comparison.md", text)
    log(text)
    return 0


if __name__ == "__main__":
    run_program(main)
