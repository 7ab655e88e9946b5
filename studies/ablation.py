"""What explains the method: other distance maps and a capped GDL weight, beside the paper's.

Examples:
  python -m studies.ablation --runs results/wmh --variants results/wmh-official results/wmh-mm
  python -m studies.ablation --runs results/wmh

One table: the rows of --runs with and without a capped weight, and GDL + boundary of each of
--variants, whose data differ from those of --runs only in their distance maps. `make ablation`
trains what is missing and calls this. Differences are from the paper's setting, with 95 % intervals
over validation scans and seeds (see scoring/intervals.py).

Written to --runs: ablation.md, which is printed too, and ablation.csv, one row per line and column
of the table.

Exit status: 0, or 2 with one line that says which runs do not belong together and what to do.
"""

if __name__ == "__main__":  # imports this file as a module; see start
    from utils import start
    start("studies.ablation")

from pathlib import Path

from reporting import measures
from reporting.notes import left_out
from reporting.table1 import METRICS, cell, heading, statistic_name
from scans.folder import dataset_path, read_split, split_path
from scoring.intervals import CHANGE, FEWEST_SCANS, change_in_words, difference_with_interval
from scoring.row_scores import row_scores
from scoring.rows import changes_of, label, plain
from scoring.run_files import SAME_IN_ROW, SAME_IN_SET
from scoring.runs import load_set, told_apart, without_foreground
from studies.beside import SAME_SCANS
from utils import UserError, argument_parser, log, markdown_table, write_csv, write_text

ROW = "gdl+boundary"
METRIC = {metric[0]: metric for metric in METRICS}
COLUMNS = (("dsc", "best"), ("dsc", "last"), ("dsc_3d", "best"), ("hd95_mm", "best"),
           ("hd_legacy", "best"), ("dsc_lesion", "best"))

# The data differ in their maps, and so in their fingerprint.
SAME_TRAINING = tuple(key for key in SAME_IN_SET + SAME_IN_ROW if key != "data_fingerprint")
MAPS = {
    "convention": {"paper": "paper's map", "official": "official map"},
    "unit": {"px": "pixels", "mm": "mm"},
    "dims": {2: "map of the slice", 3: "map of the volume"},
    "truncate": {False: "", True: "integers"},
}


def map_in_words(how):
    """A folder.Distance as words, e.g. "paper's map, pixels, map of the slice"."""
    words = [names.get(how.get(key), str(how.get(key))) for key, names in MAPS.items()]
    return ", ".join(filter(None, words))


def check_variant(base, variant):
    """UserError unless two sets share scans, split and training, and differ in the map alone."""
    run, other = base.losses[ROW][0], variant.losses[ROW][0]
    for key in SAME_TRAINING:
        if run.config.get(key) != other.config.get(key):
            raise UserError(other.folder, f"{key} {run.config.get(key)} as in {run.folder}",
                            other.config.get(key), "Repeat these runs with the same settings.")

    for key in SAME_SCANS:
        if base.dataset.get(key) != variant.dataset.get(key):
            raise UserError(dataset_path(variant.data), f"the {key} of {base.data}", "another",
                            "Preprocess the same scans.")

    if read_split(base.data) != read_split(variant.data):
        raise UserError(split_path(variant.data), f"the split of {base.data}", "another",
                        "Preprocess it with that split.")


def build_row(results, name, words, reference=None):
    """One line of the table: its cells, and what it changes about slice-mean DSC.

    Args:
        results: a ResultSet.
        name: of its row.
        words: its distance map.
        reference: row_scores of the row it is compared with.

    Raises:
        UserError: damaged predictions.
    """
    line = {
        "row": label(name),
        "map": words,
        "seeds": len(results.finished(name)),
        "cells": [cell(results, name, METRIC[key], statistic, {}) for key, statistic in COLUMNS],
        "empty": [f"{results.folder.name}/{run}"
                  for run in without_foreground(results.finished(name))],
    }
    scores = row_scores(results, name) if reference else None
    return line | difference_with_interval(scores, reference, "dsc")


def build_rows(base, variants):
    """Every line of the table, the references first."""
    words = map_in_words(base.dataset.distance)
    references = {name: row_scores(base, name) for name in ("gdl", ROW) if base.finished(name)}
    rows = [build_row(base, name, words if name == ROW else "–") for name in references]

    for name in base.losses:
        capped = [kind for kind, _ in changes_of(name)] == ["cap"]
        loss = plain(name)
        if capped and base.finished(name) and loss in references:
            rows.append(build_row(base, name, words if loss == ROW else "–", references[loss]))

    for variant in variants:
        if not variant.finished(ROW):
            log(f"{variant.folder}: no finished run of {ROW}, left out")
            continue
        check_variant(base, variant)
        rows.append(build_row(variant, ROW, map_in_words(variant.dataset.distance),
                              references[ROW]))
    return rows


def markdown(base, rows):
    """ablation.md."""
    scores = [heading(base, METRIC[key], statistic) for key, statistic in COLUMNS]
    heads = ["loss", "distance map", "seeds", *scores, "DSC against the reference [95 %]"]
    lines = [heads]
    lines += [[row["row"], row["map"], str(row["seeds"]), *(shown.text for shown in row["cells"]),
               change_in_words(row)] for row in rows]
    empty = [run for row in rows for run in row["empty"]]
    named = ("- Without any foreground at the best epoch or the last: "
             f"{', '.join(empty)}.\n" if empty else "")

    return (
        f"# What explains the method: {base.title}\n\n{markdown_table(lines)}\n\n"
        "- Mean (sample standard deviation) over the finished seeds; columns as in Table 1.\n"
        "- Last column: slice-mean DSC at the best epoch against the row of the same loss among "
        "the first two, paired over validation scans, interval over scans and seeds, over scans "
        f"alone where a row has one seed (at least {FEWEST_SCANS} scans).\n{named}")


def tidy_rows(base, rows):
    """ablation.csv: one row per line and column of the table."""
    return [{"loss": row["row"], "map": row["map"], "seeds": row["seeds"], "metric": key,
             "statistic": statistic_name(base, statistic), "mean": shown.mean, "std": shown.std,
             "runs_without_foreground": len(row["empty"]),
             **{name: row[name] for name in CHANGE}}
            for row in rows
            for (key, statistic), shown in zip(COLUMNS, row["cells"], strict=True)]


def parse_arguments(argv):
    parser = argument_parser(__doc__, "python -m studies.ablation")
    add = parser.add_argument
    add("--runs", required=True, metavar="FOLDER",
        help="folder of the runs with the paper's settings, e.g. results/wmh")
    add("--variants", nargs="*", default=[], metavar="FOLDER",
        help="folders of the runs on data with other distance maps")
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_arguments(argv)
    base, variants = load_set(args.runs), [load_set(folder) for folder in args.variants]
    if not base.finished(ROW):
        raise UserError(args.runs, f"finished runs of {ROW}", "none",
                        "Train them first, e.g. with make ablation.")

    notes = [note for results in (base, *variants) for note in left_out(results)]
    rows = build_rows(base, variants)
    text = markdown(base, rows) + measures.markdown(told_apart([base, *variants]))
    text += "".join(f"\n{note}\n" for note in notes)
    write_csv(base.folder / "ablation.csv", tidy_rows(base, rows))
    write_text(base.folder / "ablation.md", text)
    log(text)
    log(str(Path(args.runs) / "ablation.md"))
    return 0
