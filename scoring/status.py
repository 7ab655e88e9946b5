"""Where every run stands: epoch, best score, time left.

Examples:
  python -m scoring.status results/wmh
  python -m scoring.status results/wmh results/isles --losses gdl gdl+boundary --seeds 0 1
  python -m scoring.status results/wmh --csv > status.csv

Runs are looked for in <folder>/<loss>/seed<k>/. Runs that make was asked for but that have not
begun are listed too. With --losses and --seeds, only the runs of that matrix are listed, begun or
not: make status NAME=wmh LOSSES=gdl SEEDS="0 1". With one of the two, only those of these rows, or
seeds.

Columns: run; state (finished, running, stopped, not begun, damaged; "running" is known of this
machine alone); epochs done of those asked for; the best epoch's score (slice-mean validation DSC,
or what main.py --score named) and its number from 0; seconds per epoch, over the last five; time
left, h:mm. A run that has not begun is assumed to be as slow as the others of its set. The last
line of a set adds up what is left, as if the runs were done one after another.

Exit status: 0, or 2 if no folder given holds a run.
"""

if __name__ == "__main__":  # imports this file as a module; see start
    from utils import start
    start("scoring.status")

import csv
import re
import statistics
import sys
from pathlib import Path

from scoring import rows as row_names
from scoring.run_files import RUN_NAME
from scoring.runs import load_run, natural, run_folders
from scoring.scores import pace
from utils import UserError, argument_parser, is_held

ASKED = ".asked"  # in a set's folder: a run a line, written by make
COLUMNS = ("run", "state", "epoch", "epochs", "best_score", "best_epoch", "seconds_per_epoch",
           "seconds_left")
HEADINGS = ["run", "state", "epochs", "best score", "s/epoch", "left (h:mm)"]


def run_row(folder):
    """The COLUMNS of one run folder; None where there is nothing to say yet."""
    row = dict.fromkeys(COLUMNS) | {"run": str(folder), "state": "not begun", "epoch": 0}
    if not (folder / "config.json").exists():
        return row | {"state": "running"} if is_held(folder) else row

    try:
        run = load_run(folder)
    except UserError as error:
        print(error, file=sys.stderr)
        return row | {"state": "damaged"}

    seconds = pace(run.rows)
    if run.finished:
        state, left = "finished", 0
    else:
        state = "running" if is_held(folder) else "stopped"
        epochs_left = max(0, run.config.epochs - len(run.rows))
        left = None if seconds is None else seconds * epochs_left

    return row | {
        "state": state,
        "epoch": len(run.rows),
        "epochs": run.config.epochs,
        "best_score": run.best.get(run.config.score),
        "best_epoch": run.best.get("epoch"),
        "seconds_per_epoch": seconds,
        "seconds_left": left,
    }


def set_rows(folder, losses, seeds, folds=0):
    """The rows of a set, in the table's order: those of losses x seeds.

    Without losses and seeds, all runs that exist or that make was asked for; with one of the two,
    those of them. With folds, each seed has a run for each.
    """
    folder = Path(folder)
    known = set(run_folders(folder, "config.json"))
    endings = [f"-fold{fold}" for fold in range(folds)] or [""]
    asked = {folder / loss / f"seed{seed}{ending}"
             for loss in losses for seed in seeds for ending in endings}
    shown = asked or {path for path in known | asked_for(folder)
                      if (not losses or path.parent.name in losses)
                      and (not seeds or seed_of(path) in seeds)}
    rows = [run_row(path) for path in sorted(
        known | shown, key=lambda path: (row_names.order(path.parent.name), natural(path)))]

    # A run without a pace of its own is guessed from the whole runs of the others.
    whole = [row["seconds_per_epoch"] * row["epochs"] for row in rows if row["seconds_per_epoch"]]
    for row in rows:
        if row["seconds_left"] is None and row["state"] != "damaged":
            row["seconds_left"] = statistics.fmean(whole) if whole else None
    return [row for row in rows if Path(row["run"]) in shown]


def seed_of(path):
    """3 of a run folder gdl/seed3 or gdl/seed3-fold1."""
    return int(re.match(r"seed(\d+)", path.name)[1])


def asked_for(folder):
    """The run folders that make was asked for, as it noted them; empty where it noted none."""
    try:
        lines = (folder / ASKED).read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError):
        return set()
    places = (line.partition("/") for line in lines)
    return {folder / row / name for row, _, name in places if row and RUN_NAME.fullmatch(name)}


def hours_and_minutes(seconds):
    """h:mm, rounded up, so that 0:00 means finished."""
    if seconds is None:
        return "?"
    minutes = -int(-seconds // 60)
    return f"{minutes // 60}:{minutes % 60:02}"


def cells(row):
    """The cells of a row as text."""
    best, seconds = "–", "–"
    if row["best_score"] is not None:
        best = f"{row['best_score']:.3f} @{row['best_epoch']:.0f}"
    if row["seconds_per_epoch"] is not None:
        seconds = f"{row['seconds_per_epoch']:.1f}"
    return [row["run"], row["state"], f"{row['epoch']}/{row['epochs'] or '?'}", best, seconds,
            hours_and_minutes(row["seconds_left"])]


def table(rows):
    """Lines of a table, run and state to the left, numbers to the right."""
    lines = [HEADINGS, *map(cells, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join([*map(str.ljust, line[:2], widths),
                                *map(str.rjust, line[2:], widths[2:])]) for line in lines)


def total(rows):
    """The last line of a set: how many runs are in which state, and the time left."""
    states = [row["state"] for row in rows]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    left = [row["seconds_left"] for row in rows if row["state"] != "damaged"]
    left = hours_and_minutes(None if None in left else sum(left))
    return f"{len(rows)} runs: {counts}; {left} left, one after another"


def parse_arguments(argv):
    parser = argument_parser(__doc__, "python -m scoring.status")
    add = parser.add_argument
    add("runs", nargs="+", metavar="FOLDER", help="results of a data set, e.g. results/wmh")
    add("--losses", nargs="*", default=[], metavar="ROW",
        help="rows of the matrix, e.g. gdl gdl+boundary")
    add("--seeds", nargs="*", default=[], type=int, metavar="K", help="its seeds, e.g. 0 1")
    add("--folds", type=int, default=0, metavar="N", help="its folds, e.g. 5 (default 0: none)")
    add("--csv", action="store_true", help="print the columns as CSV, times in seconds")
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_arguments(argv)
    sets = [set_rows(folder, args.losses, args.seeds, args.folds) for folder in args.runs]
    if not any(row["state"] != "not begun" for rows in sets for row in rows):
        raise UserError(", ".join(args.runs), "runs in <loss>/seed<k>/", "none",
                        "Train first, for example with make wmh.")

    if args.csv:
        writer = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(row for rows in sets for row in rows)
    else:
        print("\n\n".join(f"{table(rows)}\n{total(rows)}" for rows in sets if rows))
    return 0
