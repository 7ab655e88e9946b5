"""Table 1: its cells, its notes, and its forms as Markdown, CSV, LaTeX and plain text."""

import re
import statistics
import textwrap
from dataclasses import dataclass

from scoring.rows import LOSSES, RATER, label, row_order
from scoring.runs import CHALLENGES

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
class Cell:
    """One number of the table: text as shown, and the value behind it where there is one."""
    text: str
    kind: str = "measured"  # or "reported", "empty"
    mean: float | None = None
    std: float | None = None
    seeds: int = 0
    deviation: dict | None = None  # from the reported mean, see `deviation`


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
    return run.last(column, window)


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
    if loss.startswith(RATER):
        value = one.raters.get(loss.removeprefix(RATER), {}).get(column) if statistic == "best" else None
        return Cell("–", "empty") if value is None else Cell(f"{value:.{digits}f}", mean=value)
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


def deviation(measured, paper, metric):
    """How far a measured mean lies from the reported one.

    Returns:
        {"text", "verdict"}: "better" or "worse" where it lies farther than the two standard deviations together, else
        "within"; None where one of the two has no number.
    """
    if measured.mean is None or paper.mean is None:
        return None
    change = measured.mean - paper.mean
    within = abs(change) <= (measured.std or 0) + (paper.std or 0)
    verdict = "within" if within else "better" if (change < 0) == metric[4] else "worse"
    return {"text": f"{change:+.{metric[3]}f}, {verdict}", "verdict": verdict}


def set_deviations(one, loss, cells):
    """Note at the best-epoch cells of a finished row how far they lie from the reported cells of the same metric."""
    if one.finished(loss):
        paper = {metric[0]: shown for (metric, statistic), shown in zip(columns(one), cells) if statistic == "reported"}
        for (metric, statistic), shown in zip(columns(one), cells):
            if statistic == "best" and metric[0] in paper:
                shown.deviation = deviation(shown, paper[metric[0]], metric)
    return cells


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


def row_size(one, name):
    """What a row's numbers are made of: its seeds, or of a rater the scans."""
    if not name.startswith(RATER):
        return seeds_text(one.losses.get(name))
    rater = one.raters.get(name.removeprefix(RATER))
    return f"{rater['scans']:g} of {rater['val_scans']:g} scans" if rater else "–"


def build_table(sets, reported):
    """{"sets": [{"title", "headings"}], "rows": [{"loss", "groups": [[Cell, ...] per set]}]}; seeds come first."""
    names = sorted({*LOSSES, *(name for one in sets for name in one.losses)}, key=row_order)
    names += [RATER + name for name in sorted({name for one in sets for name in one.raters})]
    groups = [{"title": one.title, "headings": ["seeds", *(heading(one, *column) for column in columns(one))]}
              for one in sets]
    rows = [{"loss": name, "groups": [[Cell(row_size(one, name), "seeds"),
                                       *set_deviations(one, name, [cell(one, name, *column, reported)
                                                                   for column in columns(one)])]
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
    if one.raters:
        found.append(f"{one.title}, {', '.join(label(RATER + name) for name in one.raters)}: the masks of another human rater "
                     "against the reference, on the network's grid, by the same metrics: about what a model can be asked for.")
    for name, runs in one.losses.items():
        collapsed = [run.folder.name for run in averaged(runs) if run.collapsed]
        if collapsed:
            found.append(f"{one.title}, {label(name)}: the best model predicts no foreground at all in "
                         f"{', '.join(collapsed)} ({len(collapsed)} of {len(averaged(runs))} runs). Such a run has no "
                         "Hausdorff distance (NA, or left out of the mean), and its DSC is the fraction of empty "
                         f"validation slices, {empty_fraction(one)} here.")
        ended = [run.folder.name for run in averaged(runs) if run.ends_empty]
        if ended:
            found.append(f"{one.title}, {label(name)}: {', '.join(ended)} ({len(ended)} of {len(averaged(runs))} runs) ends "
                         "with a model that predicts no foreground at all; its best epoch came before.")
        skipped = {run.folder.name: sum(row.get("skipped_steps") or 0 for row in run.rows) for run in runs}
        if any(skipped.values()):
            counts = ", ".join(f"{count:g} in {seed}" for seed, count in skipped.items() if count)
            found.append(f"{one.title}, {label(name)}: training steps left out, loss or gradient not finite: {counts}.")
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
    text, _, change = label(loss).partition(", ")
    parts = [part.split("_", 1) for part in text.split(" + ")]
    return " + ".join(rf"$\mathcal{{L}}_{{{part[1]}}}$" if part[0] == "L" else tex("_".join(part)) for part in parts) + (
        f", {tex(change)}" if change else "")


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
