"""Pack a finished set of runs so that others can check it: into results/published/<name>/.

Examples:
  python -m reporting.publish --runs results/wmh --report results/wmh/.published
  python -m reporting.publish --check results/published/wmh-nvidia-a100

`make publish NAME=wmh` does it with a report made for that purpose, without pictures of scans. A
pack holds settings, machine and commit of every run, the data's fingerprint and split, the names
and scores of every scan at every epoch, tables, figures and page. It holds no scans, unless --scans
is given no pictures of them (Figures 1, 2 and 4), and unless --weights is given no weights.

A pack counts only if its numbers can be computed again from it: every column of every metrics.csv
that follows from scores.csv, and Table 1; and if its claims were measured on its runs. --check does
that for an existing pack.

Exit status: 0, or 2 with one line that says which number differs, or what is missing.
"""

if __name__ == "__main__":  # imports this file as a module; see start
    from utils import start
    start("reporting.publish")

import re
import shutil
from pathlib import Path

from reporting import measures
from reporting.figures import NEED_SCANS
from reporting.formats import tidy_rows
from reporting.measures import NOTHING
from reporting.page.build import claims_are_stale
from reporting.table1 import build_table
from scoring import scan_scores
from scoring.rows import RATER
from scoring.run_files import number, read_reported
from scoring.runs import (
    about_data,
    load_data_description,
    load_run,
    load_set,
    refuse_lost,
    refuse_other_classes,
    run_folders,
)
from utils import (
    UserError,
    argument_parser,
    atomic_path,
    log,
    markdown_table,
    read_csv,
    read_json,
    write_json,
    write_text,
)

OF_A_RUN = ("metrics.csv", scan_scores.FILE, "summary.json", "evaluation.csv")
OF_A_SET = ("claims.json", "raters.csv", "comparison.md", "comparison.csv", "ablation.md",
            "ablation.csv", "test_set.md", "test_set.csv")
TOLERANCE = 1e-5  # relative: scores.csv has seven digits


# Packing ------------------------------------------------------------------------------------------

def pack(runs, data, report, name, out, weights, scans):
    """Write the pack of a set and check it; returns its folder.

    Args:
        runs, data: folders of the set's runs and of its data.
        report: folder with the tables, figures and page to publish.
        name: of the pack; None: the set's and the device's.
        out: folder of all packs.
        weights: take best.pt too.
        scans: may the report show some?

    Raises:
        UserError: a run is not finished or lacks its scores, the claims are of other runs, there is
            no report, it shows scans, the pack is there already, or its numbers do not come out
            again.
    """
    results = load_set(runs, data)
    refuse_unfinished(results)
    refuse_stale_claims(results)
    if not (report / "report.html").is_file():
        raise UserError(report, "a report of these runs", "no report.html",
                        f"Run: python report.py --runs {runs} --no-scans --out {report}")
    if not scans:
        refuse_pictures(report, runs)

    target = out / (name or default_name(results))
    if target.exists():
        raise UserError(target, "a new folder", "one that is there already",
                        "Remove it, or give --name (make publish: AS=).")

    with atomic_path(target) as partial:
        set_folder = partial / "runs" / results.folder.name
        for run in results.parts:
            copy_run(run, set_folder / run.folder.relative_to(results.folder), weights)
        (set_folder / "data").mkdir()
        for path in about_data(results.data):
            shutil.copy(path, set_folder / "data" / path.name)
        for path in report.iterdir():
            if path.suffix in (".md", ".csv", ".tex", ".png", ".pdf", ".html", ".json"):
                shutil.copy(path, partial / path.name)
        for path in (results.folder / file for file in OF_A_SET):
            if path.is_file():
                shutil.copy(path, set_folder / path.name)

        write_text(partial / "README.md", readme(results, target.name))
        check(partial)
    return target


def refuse_pictures(report, runs):
    """UserError if a report shows scans, in its figures or on its page."""
    page = (report / "report.html").read_text(encoding="utf-8")
    found = [name for name in NEED_SCANS
             if list(report.glob(f"{name}.*")) or f'<figure id="{name}">' in page]
    found += ["the slices of report.html"] * ('<section id="slices"' in page)
    if found:
        raise UserError(report, "a report without pictures of scans", ", ".join(found),
                        f"Make one in a new folder, python report.py --runs {runs} --no-scans "
                        "--out FOLDER, or, if they may be shown, give --scans (make publish: "
                        "SCANS=yes).")


def refuse_unfinished(results):
    for name, folds in results.lacking.items():
        raise UserError(results.folder / name, "a run of every fold", f"none of fold {folds[0]}",
                        "Train it, or move this seed's runs away.")
    for run in results.parts:
        if not run.finished:
            raise UserError(run.folder, f"{run.config.epochs} epochs, finished",
                            f"{len(run.rows)} of them", "Let it finish: repeat its command.")
        if not run.scans:
            raise UserError(run.folder, f"{scan_scores.FILE}, the scores of every scan and epoch",
                            "none", "It is of an earlier version: train it again.")


def refuse_stale_claims(results):
    """UserError if claims.json beside the runs was measured on others."""
    if claims_are_stale(results):
        raise UserError(results.folder / "claims.json", "claims measured on these runs",
                        "those of others, or of other lengths",
                        f"Run: python -m studies.claims --runs {results.folder}, and report.py.")


def default_name(results):
    """wmh-nvidia-a100: the set and the device; a phantom's says that it is one."""
    of = results.folder.name
    if results.is_phantom and "phantom" not in of:
        of = f"phantom-{of}"
    return f"{of}-{device_slug(results)}"


def device_slug(results):
    """"NVIDIA H100 80GB HBM3" -> nvidia-h100-80gb-hbm3; "cpu, 2 threads, x86_64" -> cpu."""
    sessions = results.parts[0].config.sessions
    device = sessions[-1]["device"] if sessions else "unknown"
    return re.sub(r"[^a-z0-9]+", "-", device.split(",")[0].lower()).strip("-")


def copy_run(run, target, weights):
    target.mkdir(parents=True)
    write_json(target / "config.json", portable(read_json(run.folder / "config.json")))
    for name in (*OF_A_RUN, *(["best.pt"] if weights else [])):
        if (run.folder / name).exists():
            shutil.copy(run.folder / name, target / name)


def portable(value):
    """A JSON value without the paths of this machine: of an absolute one the last part stays."""
    if isinstance(value, dict):
        return {key: portable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [portable(item) for item in value]
    if isinstance(value, str):
        return re.sub(r"(?<![\w.])(?:/[^/\s]+)+/([^/\s]+)", r"\1", value)
    return value


def readme(results, name):
    """README.md of a pack."""
    first = results.parts[0].config
    session = first.sessions[-1] if first.sessions else {}
    versions = ", ".join(f"{key} {value}" for key, value in session.get("versions", {}).items())
    table = markdown_table([["row", "seeds", "runs"], *(
        [row, str(len(runs)), str(sum(len(run.parts) for run in runs))]
        for row, runs in results.losses.items())])
    commands = "\n".join(portable(run.config.command or "") for run in results.parts)
    phantom = " Phantom: synthetic images." if results.is_phantom else ""

    return f"""# {results.title}

Packed by `make publish`.{phantom} Machine: {session.get("device", "unknown")}, precision
{session.get("amp", "unknown")}, commit {session.get("commit", "unknown")}; {versions}. Data:
fingerprint `{results.fingerprint.sha256[:12]}`, {len(results.dataset.subjects) or "?"} scans.

{table}

`table1.md`, the figures and `report.html` are made from `runs/`, where each run has its settings,
a row per epoch (`metrics.csv`) and every measure of every validation scan at every epoch
(`scores.csv`). To compute the numbers again:

```sh
python -m reporting.publish --check results/published/{name}
```

The runs:

```sh
{commands}
```
"""


# Checking -----------------------------------------------------------------------------------------

def check(folder):
    """Compute a pack's numbers again; returns what was computed, in words.

    A pack without a table may be of runs that are still being trained one by one.

    Raises:
        UserError: a number differs from the one that is there, or a file is missing.
    """
    sets = [path for path in sorted((folder / "runs").iterdir())
            if next(path.glob("*/seed*/" + scan_scores.FILE), None)] if (
                folder / "runs").is_dir() else []
    if not sets:
        raise UserError(folder, f"runs with {scan_scores.FILE}", "none", "Is it a pack?")

    epochs = 0
    for place in sets:
        refuse_lost(place)
        runs = [load_run(found) for found in run_folders(place, "config.json")]
        dataset, _ = load_data_description(place / "data", runs[0])
        for run in runs:
            refuse_other_classes(run, dataset.classes)
            epochs += check_epochs(run, dataset.classes)
    tables = [path for name in TABLES if (path := folder / name).exists()]
    results = [load_set(place, place / "data") for place in sets] if tables else []
    for of_set in results:
        refuse_stale_claims(of_set)
    cells = sum(check_table(path, results) for path in tables)
    of_tables = f" and {cells} numbers of {' and '.join(path.name for path in tables)}"
    return f"{epochs} epochs{of_tables if tables else ''} come out again"


def check_epochs(run, classes):
    """UserError unless every epoch's means follow from its scans; returns how many there are."""
    scans = scan_scores.by_epoch(run.scans)
    for row in run.rows:
        if row["epoch"] not in scans:
            raise UserError(run.folder / scan_scores.FILE, f"epoch {row['epoch']:g}", "none of it",
                            scan_scores.DO)
        for name, value in scan_scores.means(scans[row["epoch"]], classes).items():
            if not same(row.get(name), value):
                raise UserError(run.folder / "metrics.csv", f"{name} {value} at epoch "
                                f"{row['epoch']:g}, from {scan_scores.FILE}", row.get(name),
                                scan_scores.DO)
    return len(run.rows)


def check_table(path, sets):
    """UserError unless a table follows from the runs; returns how many numbers do.

    What predicting nothing scores in distances needs the labels, which a pack does not hold.

    Args:
        path: table1.csv or measures.csv of one set.
        sets: the ResultSets of the pack, of which that one has the table's rows.
    """
    what, compute = TABLES[path.name]

    def key(row):
        return row["loss"], row[what], row["statistic"]

    written = read_csv(path, ("loss", what, "statistic", "mean"))
    numbers = {key(row): number(row["mean"], path, line) for line, row in enumerate(written, 2)
               if row.get("source") != "paper"}
    rows = rows_with_runs(numbers)
    candidates = [results for results in sets if rows == set(results.losses)] or [
        results for results in sets if rows <= set(results.losses)]
    if not candidates:
        raise UserError(path, f"the rows of a set in {path.parent / 'runs'}",
                        ", ".join(sorted(rows)), "Make the report again.")

    wrong = []
    for results in candidates:
        again = {key(row): row["mean"] for row in compute(results)}
        asked = {name: value for name, value in numbers.items()
                 if name[0] != NOTHING or again.get(name) is not None}
        wrong = [(name, value, again.get(name)) for name, value in asked.items()
                 if not same(value, again.get(name))]
        if not wrong:
            return sum(value is not None for value in asked.values())
    name, value, found = wrong[0]
    raise UserError(path, f"{found} for {' '.join(name)}, from the runs", value,
                    "Make the report again.")


def rows_with_runs(numbers):
    """The losses that have a number, of {(loss, ...): number or None}; a rater has no runs."""
    return {loss for (loss, *_), value in numbers.items()
            if value is not None and loss != NOTHING and not loss.startswith(RATER)}


def table1_of(results):
    return tidy_rows([results], build_table([results], read_reported()))


# The tables of a pack: what a number is of, beside a loss and a statistic, and how it is computed
TABLES = {"table1.csv": ("metric", table1_of),
          "measures.csv": ("measure", lambda results: measures.tidy_rows([results]))}


def same(written, computed):
    if None in (written, computed):
        return written is computed
    return abs(written - computed) <= TOLERANCE * max(1, abs(computed))


# Command line -------------------------------------------------------------------------------------

def main(argv=None):
    args = parse_arguments(argv)
    if args.check:
        for folder in map(Path, args.check):
            log(f"{folder}: {check(folder)}")
        return 0

    folder = pack(Path(args.runs), args.data, Path(args.report or args.runs), args.name,
                  Path(args.out), args.weights, args.scans)
    log(f"{folder}: {check(folder)}")
    log(f"To send it: git checkout -b results && git add {folder} && git commit -m "
        f"'Results: {folder.name}', push, and open a pull request.")
    return 0


def parse_arguments(argv):
    parser = argument_parser(__doc__, "python -m reporting.publish")
    add = parser.add_argument
    add("--runs", metavar="FOLDER", help="folder of one set's finished runs, e.g. results/wmh")
    add("--data", metavar="FOLDER", help="its data folder (default: the one that the runs name)")
    add("--report", metavar="FOLDER", help="where its report is (default: --runs)")
    add("--name", help="of the pack (default: the set's and the device's)")
    add("--out", default="results/published", metavar="FOLDER",
        help="folder of the packs (default results/published)")
    add("--weights", action="store_true", help="pack each run's best.pt too")
    add("--scans", action="store_true", help="the report may show scans: Figures 1, 2 and 4")
    add("--check", nargs="+", metavar="PACK", help="compute the numbers of these packs again")
    args = parser.parse_args(argv)
    if bool(args.runs) == bool(args.check):
        parser.error("give either --runs or --check")
    return args
