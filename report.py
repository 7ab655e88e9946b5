"""Table 1, Figures 1-4 and a one-page report from the runs of one or several data sets.

python report.py --runs results/wmh results/isles --out results
"""

import argparse
import base64
import math
import os
import re
import shlex
import statistics
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import jinja2

import figures
import figures_cases
from utils import UserError, git_commit, read_csv, read_json, run_program, write_csv, write_text

LOSSES = ("boundary", "gdl", "gdl+boundary")  # the paper's rows, in its order; other losses follow them
SAME_IN_SET = ("data_fingerprint", "protocol", "network", "width", "size", "epochs")
SAME_IN_ROW = ("loss", "schedule", "batch_size", "lr")
SHORT = {"gdl": "GD", "boundary": "B"}  # the paper's subscripts
CHALLENGES = {"wmh": "WMH", "isles": "ISLES"}
REPORTED = Path(__file__).parent / "results" / "reported.json"

# key in table1.csv, heading, column of metrics.csv, decimals, a Hausdorff distance?, the statistics shown
METRICS = (
    ("dsc", "DSC", "val_dice", 3, False, ("reported", "best", "last")),
    ("hd_legacy", "legacy HD", "val_hd_legacy", 3, True, ("reported", "best", "last")),
    ("dsc_3d", "3-D DSC", "val_dice_3d", 3, False, ("best",)),
    ("hd_mm", "HD (mm)", "val_hd", 2, True, ("best",)),
    ("hd95_mm", "HD95 (mm)", "val_hd95", 2, True, ("best",)),
    ("dsc_lesion", "DSC, lesion slices", "val_dice_lesion", 3, False, ("best",)),
)


@dataclass
class Run:
    """One run folder. `rows` are the epochs of metrics.csv with floats, None where a cell is empty or not finite."""
    folder: Path
    config: dict
    rows: list
    summary: dict

    @property
    def name(self):
        return f"{self.folder.parent.name}/{self.folder.name}"

    @property
    def finished(self):
        """summary.json says so, for as many epochs as are asked for now (a finished run can be made longer)."""
        epochs = self.summary.get("epochs", self.config["epochs"])
        return self.summary.get("finished") is True and epochs >= self.config["epochs"]

    @property
    def best(self):
        """The row of the highest slice-mean validation DSC, the first one on ties; {} before the first epoch."""
        return max((row for row in self.rows if row["val_dice"] is not None),
                   key=lambda row: row["val_dice"], default={})

    @property
    def collapsed(self):
        """Does the best model predict no foreground at all on the validation subset?"""
        return self.best.get("val_foreground") == 0

    @property
    def seconds(self):
        return self.summary.get("seconds") or sum(row.get("seconds") or 0 for row in self.rows)


@dataclass
class ResultSet:
    """The runs of one data set. `losses` maps a row of the table to its runs, in the table's order."""
    folder: Path
    data: Path
    info: dict
    fingerprint: dict
    losses: dict
    title: str = ""

    @property
    def runs(self):
        return [run for runs in self.losses.values() for run in runs]

    @property
    def is_phantom(self):
        return self.info["source"] == "phantom"

    @property
    def challenge(self):
        """"wmh" or "isles" if these are the challenge's own scans, so that the paper's numbers may stand beside."""
        return self.info["layout"] if self.info["source"] == "challenge" and self.info["layout"] in CHALLENGES else None

    @property
    def window(self):
        """Length of the last-epochs window: 50 as read off the paper's Figure 3, at most a quarter of the run."""
        return min(50, max(1, int(self.runs[0].config["epochs"]) // 4))


@dataclass
class Cell:
    """One number of the table: text as shown, and the value behind it where there is one."""
    text: str
    kind: str = "measured"  # or "reported", "empty"
    mean: float | None = None
    std: float | None = None
    seeds: int = 0


def load_run(folder):
    """Read one run folder; UserError if a file is damaged or contradicts another."""
    do = "Move this run folder away and repeat its training command."
    config = read_object(folder / "config.json", ("loss", "seed", *SAME_IN_SET), do)
    if not isinstance(config["epochs"], int) or config["epochs"] < 1:
        raise UserError(folder / "config.json", "epochs to be a whole number above 0", repr(config["epochs"]), do)
    path, rows = folder / "metrics.csv", []
    if path.exists():
        table = read_csv(path, ("epoch", "val_dice"), do)
        rows = [{key: number(value, path, line) for key, value in row.items()} for line, row in enumerate(table, 2)]
    if any(row["epoch"] is None for row in rows):
        raise UserError(path, "the number of every epoch", "an empty cell", do)
    summary = read_object(folder / "summary.json", (), do) if (folder / "summary.json").exists() else {}
    unclear = [key for key in ("epochs", "best_epoch", "seconds") if not isinstance(summary.get(key, 0), int | float)]
    if unclear:
        raise UserError(folder / "summary.json", f"a number for {unclear[0]}", repr(summary[unclear[0]]), do)
    run = Run(folder, config, rows, summary)
    expected = run.summary.get("epochs", config["epochs"])
    if run.finished and len(rows) != expected:
        raise UserError(path, f"{expected} epochs, as summary.json says", f"{len(rows)}", do)
    return run


def read_object(path, required, do):
    """A JSON object as a dict; UserError if it is something else or one of `required` is missing or null."""
    values = read_json(path, do)
    missing = [key for key in required if not isinstance(values, dict) or values.get(key) is None]
    if missing or not isinstance(values, dict):
        raise UserError(path, f"a JSON object with {', '.join(required) or 'the state of the run'}",
                        f"no {', '.join(missing)}" if missing else type(values).__name__, do)
    return values


def number(text, path, line):
    """A cell of metrics.csv as float; None if it is empty, infinite or not a number by IEEE 754."""
    if text == "":
        return None
    try:
        value = float(text)
    except ValueError:
        raise UserError(path, "numbers", f"{text[:40]!r} in line {line}", "Repeat the run that wrote it.") from None
    return value if math.isfinite(value) else None


def load_set(folder, data=None):
    """Read every run below `folder` (<loss>/seed<k>/config.json) and the data set they were trained on."""
    folder = Path(folder)
    runs = [load_run(path.parent) for path in sorted(folder.glob("*/seed*/config.json"), key=natural)]
    if not runs:
        raise UserError(folder, "runs in <loss>/seed<k>/ with a config.json", "none",
                        "Train first, for example with make wmh, or name the folder of the runs.")
    by_loss = {}
    for run in runs:
        by_loss.setdefault(run.folder.parent.name, []).append(run)
    by_loss = {name: by_loss[name] for name in sorted(by_loss, key=row_order)}
    refuse_to_mix(runs, SAME_IN_SET)
    for same_loss in by_loss.values():
        refuse_to_mix(same_loss, SAME_IN_ROW)
    data = Path(data or runs[0].config.get("data") or "data")
    info, fingerprint = load_data_description(data, runs[0])
    return ResultSet(folder, data, info, fingerprint, by_loss, set_title(info))


def natural(path):
    """Sort key that puts seed10 after seed9."""
    return [(len(part), part) for part in path.parts[-3:]]


def row_order(name):
    return (LOSSES.index(name) if name in LOSSES else len(LOSSES), name)


def refuse_to_mix(runs, settings):
    """UserError at the first setting in which a run differs from the first one."""
    for run in runs[1:]:
        for key in settings:
            first, other = runs[0].config.get(key), run.config.get(key)
            if first != other:
                raise UserError(run.folder, f"the same {key} as in {runs[0].folder} ({first})", f"{other}",
                                "Runs that differ are not averaged or compared: move one of them to another folder.")


def load_data_description(data, run):
    """dataset.json and fingerprint.json; UserError if they are missing or not what `run` was trained on."""
    if not (data / "dataset.json").is_file() or not (data / "fingerprint.json").is_file():
        raise UserError(data, "a preprocessed data set (dataset.json, fingerprint.json)", "none",
                        "Name its folder with --data.")
    info = read_object(data / "dataset.json", ("name", "layout", "source"), "Repeat preprocess.py.")
    fingerprint = read_object(data / "fingerprint.json", ("sha256", "train", "val"), "Repeat preprocess.py.")
    if fingerprint["sha256"] != run.config["data_fingerprint"]:
        raise UserError(data, f"the data of {run.folder} (fingerprint {run.config['data_fingerprint']})",
                        f"fingerprint {fingerprint['sha256']}",
                        "Name the right folder with --data, or repeat the runs on these data.")
    return info, fingerprint


def set_title(info):
    """WMH and ISLES name the challenges' own scans only; a phantom always says so; other sets go by their name."""
    known = CHALLENGES.get(info["layout"])
    if info["source"] == "phantom":
        return f"{known or info['name']} phantom"
    return known if known and info["source"] == "challenge" else str(info["name"])


def load_sets(folders, data):
    """All sets; where two share a title, the folder's name tells them apart."""
    if data and len(data) != len(folders):
        raise UserError("--data", f"one folder for each of --runs ({len(folders)})", f"{len(data)}",
                        "Name them in the same order, or leave --data out.")
    sets = [load_set(folder, one) for folder, one in zip(folders, data or [None] * len(folders), strict=True)]
    titles = [one.title for one in sets]
    for one in sets:
        if titles.count(one.title) > 1:
            one.title += f" ({one.folder.name})"
    return sets


def averaged(runs):
    """The runs that enter a mean: the finished ones, or, if there is none, whatever has an epoch to show."""
    return [run for run in runs if run.finished] or [run for run in runs if run.best]


def columns(one):
    """The columns of a set: (metric, statistic) pairs. Reported numbers only beside the challenge's own scans."""
    return [(metric, statistic) for metric in METRICS for statistic in metric[5]
            if statistic != "reported" or one.challenge]


def heading(one, metric, statistic):
    _, title, *_, shown = metric
    return title if len(shown) == 1 else \
        f"{title}, " + {"reported": "reported", "best": "best epoch", "last": f"last {one.window}"}[statistic]


def statistic_name(one, statistic):
    return {"best": "best_epoch", "last": f"last_{one.window}"}.get(statistic, statistic)


def value_of(run, column, statistic, window):
    """The number a run gives to a cell; None if it was not computed."""
    if statistic == "best":
        return run.best.get(column)
    values = [row[column] for row in run.rows[-window:] if row.get(column) is not None]
    return statistics.fmean(values) if values else None


def spread(mean, std, digits):
    return f"{mean:.{digits}f} ({'–' if std is None else f'{std:.{digits}f}'})"


def cell(one, loss, metric, statistic, reported):
    """One cell of the table (see METRICS). Collapsed runs give no distance: a distance to nothing is no number."""
    key, _, column, digits, is_distance, _ = metric
    if statistic == "reported":
        known = reported["table1"][one.challenge]
        pair = known.get(loss, {}).get("dsc" if key == "dsc" else "hd")
        return Cell(spread(*pair, digits), "reported", *pair, 2) if pair else \
            Cell("NA" if loss in known else "–", "reported")
    if loss not in one.losses:
        return Cell("not run", "empty")
    runs = averaged(one.losses[loss])
    if is_distance and runs and all(run.collapsed for run in runs):
        return Cell("NA", "empty")
    values = [value_of(run, column, statistic, one.window) for run in runs if not (is_distance and run.collapsed)]
    values = [value for value in values if value is not None]
    if not values:
        return Cell("–", "empty")
    mean, std = statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None
    text = spread(mean, std, digits) + ("" if runs[0].finished else " *")
    if key == "dsc" and statistic == "best" and all(run.collapsed for run in runs):
        text += f" [empty slices: {empty_fraction(one)}]"
    return Cell(text, "measured", mean, std, len(values))


def empty_fraction(one):
    fraction = one.fingerprint.get("val", {}).get("empty_fraction")
    return "unknown" if fraction is None else f"{fraction:.3f}"


def seeds_text(runs):
    """"2", or for example "1 of 2; seed1 at epoch 37 of 200"."""
    if not runs:
        return "–"
    unfinished = [run for run in runs if not run.finished]
    states = [f"{run.folder.name} at epoch {len(run.rows)} of {run.config['epochs']}" for run in unfinished]
    return "; ".join([f"{len(runs) - len(states)} of {len(runs)}", *states]) if states else str(len(runs))


def build_table(sets, reported):
    """{"sets": [{"title", "headings"}], "rows": [{"loss", "groups": [[Cell, ...] per set]}]}; seeds come first."""
    names = sorted({*LOSSES, *(name for one in sets for name in one.losses)}, key=row_order)
    groups = [{"title": one.title, "headings": ["seeds", *(heading(one, *column) for column in columns(one))]}
              for one in sets]
    rows = [{"loss": name, "groups": [[Cell(seeds_text(one.losses.get(name)), "seeds"),
                                       *(cell(one, name, *column, reported) for column in columns(one))]
                                      for one in sets]} for name in names]
    return {"sets": groups, "rows": rows, "has_reported": any(one.challenge for one in sets)}


def tidy_rows(sets, table):
    """table1.csv: one row per set, loss, metric and statistic."""
    rows = []
    for index, one in enumerate(sets):
        for row in table["rows"]:
            for (metric, statistic), shown in zip(columns(one), row["groups"][index][1:], strict=True):
                unfinished = any(not run.finished for run in one.losses.get(row["loss"], []))
                note = [shown.text] if shown.mean is None else []
                note += ["unfinished: " + row["groups"][index][0].text] if unfinished else []
                rows.append({"set": one.title, "source": "paper" if statistic == "reported" else one.info["source"],
                             "loss": row["loss"], "metric": metric[0],
                             "statistic": statistic_name(one, statistic),
                             "mean": shown.mean, "std": shown.std, "seeds": shown.seeds, "note": "; ".join(note)})
    return rows

def notes(sets, reported):
    """What a reader must know to read the table, as plain sentences; the general ones first, then those of each set."""
    windows = [f"{one.title}: {one.window}" for one in sets]
    general = [
        "Measured: mean (sample standard deviation, n - 1) over the seeds that finished. Best epoch = highest mean DSC "
        "over the 2-D validation slices, the first one on ties, chosen on the same validation subset as in the paper; "
        "there is no test set.",
        "Last epochs: mean over the last epochs of each run, then over seeds; the window is 50 epochs, at most a "
        f"quarter of the run ({'; '.join(windows)}).",
        "DSC: mean over 2-D slices, 1 where both masks are empty. 3-D DSC, HD and HD95: mean over whole scans. "
        "DSC, lesion slices: only slices that bear a lesion. These four at the best epoch. A scan in which only one of "
        "the two masks is empty counts with the length of the image's diagonal in HD and HD95.",
        "Legacy HD: the quantity that the paper calls HD (mm). It takes each image row of the 2-D background masks as "
        "one point, so it is no distance in mm; only it may be compared with the reported HD.",
    ]
    return general + [note for one in sets for note in set_notes(one, reported)]


def set_notes(one, reported):
    found = []
    if one.is_phantom:
        found.append(f"{one.title}: synthetic images. These numbers show that the programs work, "
                     "they say nothing about the paper's.")
    if one.challenge:
        found += [comparable(one, reported["empty_fraction"][one.challenge]), digitised(one, reported)]
    for name, runs in one.losses.items():
        collapsed = [run.folder.name for run in averaged(runs) if run.collapsed]
        if collapsed:
            found.append(f"{one.title}, {label(name)}: the best model predicts no foreground at all in "
                         f"{', '.join(collapsed)} ({len(collapsed)} of {len(averaged(runs))} runs). Such a run has no "
                         "Hausdorff distance (NA, or left out of the mean), and its DSC is the fraction of empty "
                         f"validation slices, {empty_fraction(one)} here.")
        if any(not run.finished for run in runs):
            partial = " Only finished runs are averaged." if any(run.finished for run in runs) else \
                " No run has finished: the numbers marked * are those so far."
            found.append(f"{one.title}, {label(name)}: unfinished, {seeds_text(runs)}.{partial}")
        found += [f"{one.title}, {run.name}: summary.json names epoch {run.summary['best_epoch']:g} as the best, "
                  f"metrics.csv {run.best['epoch']:g}." for run in runs
                  if run.finished and run.summary.get("best_epoch", run.best.get("epoch")) != run.best.get("epoch")]
    return found


def comparable(one, paper):
    """Is the user's validation subset like the paper's? Its L_B row gives away the fraction of empty slices there."""
    mine = one.fingerprint.get("val", {}).get("empty_fraction")
    start = (f"{one.title}: the fraction of empty validation slices is {empty_fraction(one)} here and was {paper:.3f} "
             "in the paper (the DSC of its collapsed L_B model). ")
    if mine is None:
        return start
    if abs(mine - paper) < 0.0006:
        return start + "The two agree, as they would on the paper's own split."
    if abs(mine - paper) < 0.03:
        return start + "The two are close: DSC values may be compared, with that difference in mind."
    return start + "They differ, so this is another split: compare the gain from loss to loss, not the DSC values."


def digitised(one, reported):
    parts = [f"{label(loss)} DSC {curve['dsc']['last_50']:.3f}, legacy HD {curve['hd']['last_50']:.2f}"
             for loss, curve in reported["figure3"][one.challenge].items()]
    return (f"{one.title}: over the last 50 epochs the paper's Figure 3, digitised, gives {'; '.join(parts)} "
            "(one run each).")


def reported_only(sets, reported):
    """The paper's numbers for the challenges without a run here: they never share a column with other data."""
    missing = [name for name in ("isles", "wmh") if name not in {one.challenge for one in sets}]
    heads = [f"{CHALLENGES[name]} {metric}, {kind}" for name in missing for metric in ("DSC", "legacy HD")
             for kind in ("reported", "measured")]
    rows = []
    for loss in LOSSES:
        cells = []
        for name in missing:
            for key in ("dsc", "hd"):
                pair = reported["table1"][name][loss][key]
                cells += [spread(*pair, 3) if pair else "NA", f"not run here (`make {name}`)"]
        rows.append({"loss": loss, "cells": cells})
    return {"headings": heads, "rows": rows} if missing else None


def label(loss):
    """gdl+boundary -> L_GD + L_B, ce -> L_CE; the name of a sweep's folder, say, stays as it is."""
    return " + ".join(f"L_{SHORT.get(part, part.upper())}" if part.isalpha() else part for part in loss.split("+"))


def caption(sets):
    return "Table 1. Validation subset: " + ", ".join(one.title for one in sets)


def flat(table):
    """Headings and rows of text, every set's columns side by side."""
    many = len(table["sets"]) > 1
    heads = ["Loss"] + [f"{group['title']}: {head}" if many else head
                        for group in table["sets"] for head in group["headings"]]
    return [heads] + [[label(row["loss"]), *(shown.text for group in row["groups"] for shown in group)]
                      for row in table["rows"]]


def markdown(sets, table, remarks, elsewhere):
    def grid(lines):
        lines = [[text.replace("|", "\\|") for text in line] for line in lines]
        lines.insert(1, ["---"] * len(lines[0]))
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)
    parts = [f"# {caption(sets)}", grid(flat(table)), "\n".join(f"- {note}" for note in remarks)]
    if elsewhere:
        lines = [["Loss", *elsewhere["headings"]]] + [[label(row["loss"]), *row["cells"]] for row in elsewhere["rows"]]
        parts += ["## Reported by the paper", grid(lines)]
    return "\n\n".join(parts) + "\n"


def plain(sets, table, remarks):
    """The table for a terminal: one block per set, the losses side by side, so that it fits without folding."""
    blocks = [caption(sets)]
    for index, group in enumerate(table["sets"]):
        lines = [[group["title"], *(label(row["loss"]) for row in table["rows"])]]
        lines += [[head, *(row["groups"][index][at].text.split(";")[0] for row in table["rows"])]
                  for at, head in enumerate(group["headings"])]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        shown = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
        blocks.append("\n".join([shown[0], "-" * (sum(widths) + 2 * len(widths) - 2), *shown[1:]]))
    folded = [textwrap.fill(note, 100, initial_indent="- ", subsequent_indent="  ") for note in remarks]
    return "\n\n".join(blocks + ["\n".join(folded)]) + "\n"


TEX = {"\\": r"\textbackslash{}", "–": "--", "—": "---",
       **{sign: "\\" + sign for sign in "&%$#_{}"}, "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}


def tex(text):
    return "".join(TEX.get(sign, sign) for sign in text)


def tex_label(loss):
    parts = [part.split("_", 1) for part in label(loss).split(" + ")]
    return " + ".join(rf"$\mathcal{{L}}_{{{part[1]}}}$" if part[0] == "L" else tex("_".join(part)) for part in parts)


def tex_stack(text):
    """A cell or heading on as many lines as it has parts, so that the table stays narrow; states are in the notes."""
    parts = [tex(part) for part in re.split(r", | \[", text.split(";")[0].rstrip("]"))]
    return parts[0] if len(parts) == 1 else r"\shortstack{" + r" \\ ".join(parts) + "}"


def latex(sets, table, remarks):
    """A booktabs table with a column group per set, shrunk to the line width."""
    spans, rules, start = [], [], 2
    for group in table["sets"]:
        width = len(group["headings"])
        spans.append(rf"\multicolumn{{{width}}}{{c}}{{{tex(group['title'])}}}")
        rules.append(rf"\cmidrule(lr){{{start}-{start + width - 1}}}")
        start += width
    heads = [tex_stack(head) for group in table["sets"] for head in group["headings"]]
    body = [" & ".join([tex_label(row["loss"]), *(tex_stack(shown.text) for group in row["groups"] for shown in group)])
            + r" \\" for row in table["rows"]]
    return "\n".join([
        r"% \usepackage{booktabs,graphicx}", r"\begin{table}[t]", r"\centering",
        rf"\caption{{{tex(caption(sets).removeprefix('Table 1. '))}}}",
        r"\setlength{\tabcolsep}{3pt}", r"\resizebox{\linewidth}{!}{%",
        rf"\begin{{tabular}}{{l{'c' * (start - 2)}}}", r"\toprule", " & " + " & ".join(spans) + r" \\", " ".join(rules),
        "Loss & " + " & ".join(heads) + r" \\", r"\midrule", *body, r"\bottomrule", r"\end{tabular}}", "",
        r"\smallskip\raggedright\footnotesize", *(tex(note) + r"\par" for note in remarks), r"\end{table}"]) + "\n"


def headlines(one):
    """What the boundary term changed, measure by measure; nothing while one of the two losses has no finished run."""
    parts = []
    if not all(any(run.finished for run in one.losses.get(loss, [])) for loss in ("gdl", "gdl+boundary")):
        return parts
    for metric, statistic in columns(one):
        if statistic == "reported" or metric[0] in ("hd_mm", "dsc_lesion"):
            continue
        pair = [cell(one, loss, metric, statistic, {}).mean for loss in ("gdl", "gdl+boundary")]
        if None not in pair:
            parts.append({"name": heading(one, metric, statistic), "gdl": f"{pair[0]:.{metric[3]}f}",
                          "both": f"{pair[1]:.{metric[3]}f}", "change": f"{pair[1] - pair[0]:+.{metric[3]}f}",
                          "better": (pair[1] < pair[0]) if metric[4] else (pair[1] > pair[0]),
                          "same": pair[0] == pair[1]})
    return parts


def describe(one):
    """What the page says about a set besides the table: scans, settings, runs, data."""
    shared = {key: value for key, value in one.runs[0].config.items()
              if all(run.config.get(key) == value for run in one.runs)}
    varying = sorted({key for run in one.runs for key in run.config} - set(shared) - {"loss", "seed"})
    return {"set": one, "headlines": headlines(one), "scans": figures_cases.scan_scores(one), "shared": shared,
            "varying": varying, "commands": [train_command(run) for run in one.runs],
            "evaluations": [(run.name, evaluation(run)) for run in one.runs
                            if (run.folder / "evaluation.csv").exists()]}


def evaluation(run):
    """Mean over scans of each numeric column of evaluation.csv (native-grid scores by evaluate.py)."""
    means = {}
    for line, row in enumerate(rows := read_csv(run.folder / "evaluation.csv"), 2):
        for key, text in row.items():
            try:
                value = number(text, run.folder, line)
            except UserError:  # a column of words, such as the subject
                continue
            if value is not None:
                means.setdefault(key, []).append(value)
    return {key: f"{statistics.fmean(values):.3f} ({len(values)} of {len(rows)})" for key, values in means.items()}


def train_command(run):
    """The command as main.py noted it, or the one that the settings amount to."""
    if isinstance(run.config.get("command"), str):
        return run.config["command"]
    flags = ("network", "width", "epochs", "batch_size", "lr", "schedule", "protocol")
    words = ["python", "main.py", "--data", run.config.get("data", "data"), "--loss", run.config["loss"],
             "--seed", run.config["seed"], "--out", run.folder]
    for flag in flags:
        words += ["--" + flag.replace("_", "-"), run.config[flag]] if flag in run.config else []
    return shlex.join(map(str, words))


def html(sets, table, remarks, elsewhere, drawn, words):
    folder = Path(__file__).parent / "templates"
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(folder), autoescape=True, trim_blocks=True,
                                     lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    pictures = [{**figure, "data": base64.b64encode(figure["png"]).decode()} for figure in drawn]
    return environment.get_template("report.html").render(
        label=label, caption=caption(sets), titles=" and ".join(one.title for one in sets), table=table, notes=remarks,
        elsewhere=elsewhere, figures=pictures, parts=[describe(one) for one in sets], commit=git_commit(),
        command=shlex.join(["python", "report.py", *map(str, words)]), phantom=any(one.is_phantom for one in sets))


def main(argv=None):
    """Parse the command line and write every output; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="report.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", nargs="+", required=True, metavar="FOLDER",
                        help="folders of runs, one per data set, each with <loss>/seed<k>/ (as main.py writes them)")
    parser.add_argument("--data", nargs="+", metavar="FOLDER",
                        help="the preprocessed data of each, in the same order (default: what the runs name)")
    parser.add_argument("--out", metavar="FOLDER",
                        help="where the outputs go (default: the runs folder; of several, their common parent)")
    parser.add_argument("--only", choices=("table",), help="write and print the table, leave figures and page alone")
    options = parser.parse_args(argv)
    sets = load_sets(options.runs, options.data)
    folders = [os.path.abspath(folder) for folder in options.runs]
    out = Path(options.out or (options.runs[0] if len(folders) == 1 else os.path.relpath(os.path.commonpath(folders))))
    reported = read_json(REPORTED, "Restore it with git checkout results/reported.json.")
    table = build_table(sets, reported)
    remarks, elsewhere = notes(sets, reported), reported_only(sets, reported)
    write_text(out / "table1.md", markdown(sets, table, remarks, elsewhere))
    write_text(out / "table1.tex", latex(sets, table, remarks))
    write_csv(out / "table1.csv", tidy_rows(sets, table))
    if options.only != "table":
        drawn = figures.draw_all(sets, reported, out)
        write_text(out / "report.html", html(sets, table, remarks, elsewhere, drawn, argv or sys.argv[1:]))
    print(plain(sets, table, remarks))
    print(out / ("report.html" if options.only != "table" else "table1.md"))
    return 0


if __name__ == "__main__":
    run_program(main)
