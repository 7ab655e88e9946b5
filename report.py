"""Table 1, Figures 1-4 and a one-page report from the runs of one or several data sets.

Examples:
  python report.py --runs results/wmh results/isles --out results
  python report.py --runs results/wmh --only table

Works with the runs there are: runs that have not finished are marked, and are not averaged with
finished ones. Runs whose data, protocol, network or epochs differ from the first are refused.
Numbers that the paper reports are shown only beside those measured on the challenge's own scans.

Written to --out: table1.md, .csv (a row per number) and .tex; measures.csv; for sets with several
foreground classes also classes.csv; figure1 to figure4 as .png and .pdf, with their captions in
captions.md; report.html, one file that opens without a network. The table is printed too.

Exit status: 0, or 2 with one line that says which runs or files do not belong together and what to
do.
"""

if __name__ == "__main__":  # imports this file as a module; see start
    from utils import start
    start("report")

import os
import sys
from pathlib import Path

from reporting import class_table, figures, measures
from reporting.formats import latex, markdown, plain, tidy_rows
from reporting.notes import table_notes
from reporting.page.build import claims_of, html, refuse_damaged
from reporting.page.slices import BUDGET
from reporting.table1 import build_table, reported_only
from scans.inputs import refuse_inputs
from scoring.run_files import REPORTED, read_reported
from scoring.runs import load_sets
from utils import (
    UserError,
    argument_parser,
    clock,
    remove,
    remove_leftovers,
    write_csv,
    write_text,
)

OUTPUTS = [*(f"table1.{end}" for end in ("md", "tex", "csv")), "measures.csv", "classes.csv",
           "report.html", "captions.md",
           *(f"figure{number}.{end}" for number in range(1, 5) for end in ("png", "pdf"))]


def main(argv=None):
    """Parse the command line and write every output; returns the exit status."""
    options, elapsed = parse_arguments(argv), clock()
    sets = load_sets(options.runs, options.data)
    reported = read_reported()

    # what the table says
    table = build_table(sets, reported)
    notes, elsewhere = table_notes(sets, reported), reported_only(sets, reported)

    # Table 1
    out = output_folder(options)
    refuse_inputs_of(sets, out)
    if options.only != "table":
        refuse_damaged(sets)
    remove_leftovers(out)
    write_text(out / "table1.md",
               markdown(sets, table, notes, elsewhere) + measures.markdown(sets)
               + class_table.markdown(sets))
    write_text(out / "table1.tex", latex(sets, table, notes))
    write_csv(out / "table1.csv", tidy_rows(sets, table))
    write_csv(out / "measures.csv", measures.tidy_rows(sets))
    if by_class := class_table.tidy_rows(sets):
        write_csv(out / "classes.csv", by_class)
    else:
        remove(out / "classes.csv")  # an earlier report's, of other runs

    # figures and page
    last = out / "table1.md"
    if options.only != "table":
        last = out / "report.html"
        drawn = figures.draw_all(sets, reported, out, identity_curves(sets), not options.no_scans)
        write_text(last, html(sets, table, notes, elsewhere, drawn, argv or sys.argv[1:], reported,
                              elapsed, 0 if options.no_slices or options.no_scans else BUDGET))

    print(plain(sets, table, notes))
    print(last)
    return 0


def refuse_inputs_of(sets, out):
    """UserError if an output is, by way of a link, a file that the report is made from."""
    runs = [run.folder for results in sets for run in results.parts]
    data = [results.data for results in sets]
    if (inside := next((folder for folder in runs + data
                        if os.path.realpath(folder) == os.path.realpath(out)), None)):
        raise UserError(inside, "a folder of its own for the report", "a run or a data folder",
                        "Choose another --out.")
    refuse_inputs([out / name for name in OUTPUTS],
                  [REPORTED, *(path for folder in runs + data for path in folder.glob("*.*"))])


def output_folder(options):
    """--out; without it the runs folder, or the common parent of several."""
    if options.out:
        return Path(options.out)
    if len(options.runs) == 1:
        return Path(options.runs[0])
    return Path(os.path.relpath(os.path.commonpath(map(os.path.abspath, options.runs))))


def identity_curves(sets):
    """The curves of claim C9 from the first set that has measured it, {} without one.

    They depend on no data.
    """
    measured = next((claims["C9"].curves for results in sets
                     if "C9" in (claims := claims_of(results))), {})
    return {name: curve.model_dump() for name, curve in measured.items()}


def parse_arguments(argv):
    parser = argument_parser(__doc__)
    pictures = parser.add_mutually_exclusive_group().add_argument
    pictures("--no-slices", action="store_true", help="leave the scans out of the page, but for "
             "the slices in Figures 1, 2 and 4")
    pictures("--no-scans", action="store_true", help="show no scan at all, as for results that are "
             "published: neither these figures nor slices on the page")
    parser.add_argument("--runs", nargs="+", required=True, metavar="FOLDER",
                        help="folders of runs, one per data set, each with <loss>/seed<k>/ "
                             "(as main.py writes them)")
    parser.add_argument("--data", nargs="+", metavar="FOLDER",
                        help="the preprocessed data of each, in the same order "
                             "(default: what the runs name)")
    parser.add_argument("--out", metavar="FOLDER",
                        help="where the outputs go (default: the runs folder; of several, their "
                             "common parent)")
    parser.add_argument("--only", choices=("table",),
                        help="write and print the table, leave figures and page alone")

    return parser.parse_args(argv)
