"""Table 1 as Markdown, CSV, LaTeX and plain text."""

import re
import textwrap

from reporting.table1 import columns, statistic_name
from scoring.rows import label
from utils import markdown_table

TEX = {"\\": r"\textbackslash{}", "–": "--", "—": "---",
       **{sign: "\\" + sign for sign in "&%$#_{}"},
       "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}


def caption(sets):
    """The title of the table, with the sets that it is of."""
    return "Table 1. Validation subset: " + ", ".join(results.title for results in sets)


# Markdown -----------------------------------------------------------------------------------------

def markdown(sets, table, notes, elsewhere):
    """table1.md.

    Args:
        sets: the ResultSets.
        table: of `table1.build_table`.
        notes: sentences, of `notes.table_notes`.
        elsewhere: of `table1.reported_only`.
    """
    parts = [f"# {caption(sets)}", markdown_table(side_by_side(table)),
             "\n".join(f"- {note}" for note in notes)]
    if elsewhere:
        lines = [["Loss", *elsewhere["headings"]]]
        lines += [[label(row["loss"]), *row["cells"]] for row in elsewhere["rows"]]
        parts += ["## Reported by the paper", markdown_table(lines)]
    return "\n\n".join(parts) + "\n"


def side_by_side(table):
    """Headings and rows of text, every set's columns side by side."""
    several = len(table["sets"]) > 1
    heads = [f"{group['title']}: {head}" if several else head
             for group in table["sets"] for head in group["headings"]]
    rows = [[label(row["loss"]), *(shown.text for group in row["groups"] for shown in group)]
            for row in table["rows"]]
    return [["Loss", *heads], *rows]


# Terminal -----------------------------------------------------------------------------------------

def plain(sets, table, notes):
    """The table for a terminal: a block per set, the losses side by side, so that no line folds."""
    blocks = [caption(sets)]
    blocks += [plain_block(table, index) for index in range(len(table["sets"]))]
    folded = [textwrap.fill(note, 100, initial_indent="- ", subsequent_indent="  ")
              for note in notes]
    return "\n\n".join([*blocks, "\n".join(folded)]) + "\n"


def plain_block(table, index):
    """One set: a line per column of the table; states of runs are left to the notes."""
    group = table["sets"][index]
    lines = [[group["title"], *(label(row["loss"]) for row in table["rows"])]]
    lines += [[head, *(row["groups"][index][at].text.split(";")[0] for row in table["rows"])]
              for at, head in enumerate(group["headings"])]

    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    rule = "-" * (sum(widths) + 2 * len(widths) - 2)
    return "\n".join([shown[0], rule, *shown[1:]])


# LaTeX --------------------------------------------------------------------------------------------

def latex(sets, table, notes):
    """table1.tex: a booktabs table with a column group per set, shrunk to the line width."""
    spans, rules, start = [], [], 2
    for group in table["sets"]:
        width = len(group["headings"])
        spans.append(rf"\multicolumn{{{width}}}{{c}}{{{tex(group['title'])}}}")
        rules.append(rf"\cmidrule(lr){{{start}-{start + width - 1}}}")
        start += width

    heads = [tex_stack(head) for group in table["sets"] for head in group["headings"]]
    body = []
    for row in table["rows"]:
        cells = [tex_stack(shown.text) for group in row["groups"] for shown in group]
        body.append(" & ".join([tex_label(row["loss"]), *cells]) + r" \\")

    return "\n".join([
        r"% \usepackage{booktabs,graphicx}", r"\begin{table}[t]", r"\centering",
        rf"\caption{{{tex(caption(sets).removeprefix('Table 1. '))}}}",
        r"\setlength{\tabcolsep}{3pt}", r"\resizebox{\linewidth}{!}{%",
        rf"\begin{{tabular}}{{l{'c' * (start - 2)}}}", r"\toprule",
        " & " + " & ".join(spans) + r" \\", " ".join(rules),
        "Loss & " + " & ".join(heads) + r" \\", r"\midrule", *body,
        r"\bottomrule", r"\end{tabular}}", "",
        r"\smallskip\raggedright\footnotesize", *(tex(note) + r"\par" for note in notes),
        r"\end{table}"]) + "\n"


def tex(text):
    """Text with what LaTeX would read as a command escaped."""
    return "".join(TEX.get(sign, sign) for sign in text)


def tex_label(loss):
    """The label of a row with its losses in mathematics: L_GD, cap 1 as a calligraphic L."""
    text, _, change = label(loss).partition(", ")
    parts = [part.split("_", 1) for part in text.split(" + ")]
    losses = " + ".join(rf"$\mathcal{{L}}_{{{part[1]}}}$" if part[0] == "L" else tex("_".join(part))
                        for part in parts)
    return losses + (f", {tex(change)}" if change else "")


def tex_stack(text):
    """A cell or heading on as many lines as it has parts, so that the table stays narrow.

    States of runs are left to the notes.
    """
    parts = [tex(part) for part in re.split(r", | \[", text.split(";")[0].rstrip("]"))]
    return parts[0] if len(parts) == 1 else r"\shortstack{" + r" \\ ".join(parts) + "}"


# CSV ----------------------------------------------------------------------------------------------

def tidy_rows(sets, table):
    """table1.csv: one row per set, loss, metric and statistic."""
    rows = []
    for index, results in enumerate(sets):
        for row in table["rows"]:
            runs = results.losses.get(row["loss"], [])
            seeds, *cells = row["groups"][index]
            unfinished = [f"unfinished: {seeds.text}"] * any(not run.finished for run in runs)

            for (metric, statistic), shown in zip(columns(results), cells, strict=True):
                source = "paper" if statistic == "reported" else results.dataset.source
                notes = [shown.text] * (shown.mean is None) + unfinished
                rows.append({
                    "set": results.title, "source": source, "loss": row["loss"],
                    "metric": metric.key, "statistic": statistic_name(results, statistic),
                    "mean": shown.mean, "std": shown.std, "seeds": shown.seeds,
                    "note": "; ".join(notes)})
    return rows
