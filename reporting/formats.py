"""Table 1 as Markdown, CSV, LaTeX and plain text."""

import re
import textwrap

from reporting.table1 import columns, statistic_name
from scoring.rows import label

TEX = {"\\": r"\textbackslash{}", "–": "--", "—": "---",
       **{sign: "\\" + sign for sign in "&%$#_{}"}, "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}


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


def tidy_rows(sets, table):
    """table1.csv: one row per set, loss, metric and statistic."""
    rows = []
    for index, one in enumerate(sets):
        for row in table["rows"]:
            for (metric, statistic), shown in zip(columns(one), row["groups"][index][1:], strict=True):
                unfinished = any(not run.finished for run in one.losses.get(row["loss"], []))
                note = [shown.text] if shown.mean is None else []
                note += ["unfinished: " + row["groups"][index][0].text] if unfinished else []
                rows.append({"set": one.title, "source": "paper" if statistic == "reported" else one.dataset.source,
                             "loss": row["loss"], "metric": metric[0],
                             "statistic": statistic_name(one, statistic),
                             "mean": shown.mean, "std": shown.std, "seeds": shown.seeds, "note": "; ".join(note)})
    return rows
