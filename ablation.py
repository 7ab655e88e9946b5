"""What explains the method: other distance maps and a capped GDL weight, each against the paper's setting, in one table.

    python ablation.py --runs results/wmh --variants results/wmh-official results/wmh-mm results/wmh-3d

The rows of --runs with and without a capped weight, and GDL + boundary of each of --variants, whose data differ from
those of --runs in their distance maps alone. Writes ablation.md and ablation.csv beside the runs. Intervals: see
bootstrap.py. `make ablation` trains what is missing and calls this.
"""

import argparse
from pathlib import Path

import numpy as np

from bootstrap import difference, scan_scores
from runs import VARIANT, load_set
from tables import label, spread
from utils import UserError, log, read_csv, run_program, write_csv, write_text

ROW = "gdl+boundary"
COLUMNS = (("dsc", "val_dice", 3), ("dsc_last", "val_dice", 3), ("dsc_3d", "val_dice_3d", 3), ("hd95_mm", "val_hd95", 2),
           ("hd_legacy", "val_hd_legacy", 3), ("dsc_lesion", "val_dice_lesion", 3))
SAME = ("network", "width", "size", "epochs", "schedule", "batch_size", "lr", "protocol")
MAPS = {"convention": {"paper": "paper's map", "official": "official map"}, "unit": {"px": "pixels", "mm": "mm"},
        "dims": {2: "map of the slice", 3: "map of the volume"}, "truncate": {False: "", True: "integers"}}


def map_in_words(how):
    """"distance" of dataset.json as words, e.g. "paper's map, pixels, map of the slice"."""
    return ", ".join(words for key, names in MAPS.items() if key in how and (words := names.get(how[key], str(how[key]))))


def check_variant(base, variant):
    """UserError unless the two sets are the same scans, split and training, up to the distance map."""
    run, other = base.losses[ROW][0], variant.losses[ROW][0]
    for key in SAME:
        if run.config.get(key) != other.config.get(key):
            raise UserError(other.folder, f"{key} {run.config.get(key)} as in {run.folder}", other.config.get(key),
                            "Repeat these runs with the same settings.")
    tables = [read_csv(one.data / "split.csv", ("subject", "subset")) for one in (base, variant)]
    if tables[0] != tables[1]:
        raise UserError(variant.data / "split.csv", f"the split of {base.data}", "another", "Preprocess it with that split.")


def row_of(one, name, reference, words):
    """One line of the table: means and deviations over seeds, and what differs from `reference` with its interval."""
    runs = [run for run in one.losses[name] if run.finished]
    line = {"row": label(name), "map": words, "seeds": len(runs)}
    for key, column, digits in COLUMNS:
        values = [run.last(column, one.window) if key.endswith("_last") else run.best[column] for run in runs]
        values = [value for value in values if value is not None]
        line[key] = float(np.mean(values)) if values else None
        line[key + "_std"] = float(np.std(values, ddof=1)) if len(values) > 1 else None
        line[key + "_text"] = spread(line[key], line[key + "_std"], digits) if values else "–"
    scores = scan_scores(one, name)
    against = difference(scores, reference, "dsc") if scores and reference and scores is not reference else None
    line |= against or {"difference": None, "low": None, "high": None}
    return line


def build_rows(base, variants):
    """Every line of the table, the references first."""
    words = map_in_words(base.info["distance"])
    references = {name: scan_scores(base, name) for name in ("gdl", ROW) if name in base.losses}
    rows = []
    for name, runs in base.losses.items():
        loss, change = VARIANT.fullmatch(name).group(1, 2) if VARIANT.fullmatch(name) else (name, None)
        if loss in references and change != "alpha" and any(run.finished for run in runs):
            rows.append(row_of(base, name, references[loss] if change else None, words if "boundary" in loss else "–"))
    for variant in variants:
        if ROW in variant.losses and any(run.finished for run in variant.losses[ROW]):
            check_variant(base, variant)
            rows.append(row_of(variant, ROW, references.get(ROW), map_in_words(variant.info["distance"])))
    return rows


def markdown(base, rows):
    heads = ["loss", "distance map", "seeds", "DSC, best epoch", f"DSC, last {base.window}", "3-D DSC", "HD95 (mm)",
             "legacy HD", "DSC, lesion slices", "DSC against the uncapped paper's map [95 %]"]
    lines = [heads, ["---"] * len(heads)]
    for row in rows:
        change = "reference" if row["difference"] is None else \
            f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
        lines.append([row["row"], row["map"], str(row["seeds"]), *(row[key + "_text"] for key, *_ in COLUMNS), change])
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return (f"# What explains the method: {base.title}\n\n{table}\n\n"
            "- Mean (sample standard deviation) over seeds; 3-D DSC, HD95, legacy HD and lesion slices at the best epoch.\n"
            "- Last column: slice-mean DSC at the best epoch against the same loss with the paper's map and no cap, paired "
            "over validation scans, interval over scans and seeds.\n")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", required=True, help="folder of the runs with the paper's settings, e.g. results/wmh")
    parser.add_argument("--variants", nargs="*", default=[], help="folders of the runs on data with other distance maps")
    args = parser.parse_args(argv)
    base, variants = load_set(args.runs), [load_set(folder) for folder in args.variants]
    if ROW not in base.losses or not any(run.finished for run in base.losses[ROW]):
        raise UserError(args.runs, f"finished runs of {ROW}", "none", "Train them first, e.g. with make ablation.")
    rows = build_rows(base, variants)
    text = markdown(base, rows)
    columns = [key for key in rows[0] if not key.endswith("_text")]
    write_csv(base.folder / "ablation.csv", [{key: row[key] for key in columns} for row in rows])
    write_text(base.folder / "ablation.md", text)
    log(text)
    log(str(Path(args.runs) / "ablation.md"))
    return 0


if __name__ == "__main__":
    run_program(main)
