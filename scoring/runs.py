"""The runs of a data set, as report.py and the studies read them.

They are checked on the way in, and refused where they must not be averaged.
"""

import os
import re
import statistics
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from pathlib import Path

from scans.folder import (
    Dataset,
    Fingerprint,
    dataset_path,
    fingerprint_path,
    read_dataset,
    read_fingerprint,
    read_split,
    split_path,
    subjects_in,
)
from scoring import scan_scores
from scoring.rows import BOTH, is_variant, loss_of, order
from scoring.run_files import RUN_NAME, SAME_IN_ROW, SAME_IN_SET, Config, Summary, number
from utils import UserError, read_csv, read_description

CHALLENGES = {"wmh": "WMH", "isles": "ISLES"}


@dataclass
class Run:
    """One run folder.

    Attributes:
        folder: its path, .../<loss>/seed<k>.
        config: what config.json says.
        rows: the epochs of metrics.csv as floats, None where a cell is empty or not finite.
        summary: what summary.json says; empty before the run has finished.
    """

    folder: Path
    config: Config
    rows: list
    summary: Summary

    @property
    def name(self):
        return f"{self.folder.parent.name}/{self.folder.name}"

    @property
    def finished(self):
        """Has it trained for as many epochs as are asked for? A finished run can be made longer."""
        epochs = self.summary.epochs or self.config.epochs
        return bool(self.summary.finished) and epochs >= self.config.epochs

    @property
    def window(self):
        """How many last epochs means are over: 50, as read off the paper's Figure 3, at most a
        quarter of the run.
        """
        return min(50, max(1, int(self.config.epochs) // 4))

    @property
    def parts(self):
        """The runs it is made of: itself, or of cross-validation the run of each fold."""
        return [self]

    @property
    def best(self):
        """The row of the highest score (main.py --score), the first one on ties; {} if none."""
        score = self.config.score
        return max((row for row in self.rows if row.get(score) is not None),
                   key=lambda row: row[score], default={})

    @cached_property
    def scans(self):
        """The rows of scores.csv; [] for a run of an earlier version, which has none."""
        return scan_scores.read(self.folder)

    @cached_property
    def further(self):
        """{epoch: what scores.csv adds to its row of metrics.csv}, see `scan_scores.further`."""
        return {epoch: scan_scores.further(rows)
                for epoch, rows in scan_scores.by_epoch(self.scans).items()}

    @property
    def best_scans(self):
        """Those of the best epoch."""
        return [row for row in self.scans if row["epoch"] == self.best.get("epoch")]

    def last_scans(self, window):
        """Those of the last `window` epochs."""
        epochs = {row["epoch"] for row in self.rows[-window:]}
        return [row for row in self.scans if row["epoch"] in epochs]

    def scans_of(self, first, last):
        """Those of the epochs from `first` to `last`, both counted."""
        return [row for row in self.scans if first <= row["epoch"] <= last]

    @cached_property
    def subjects(self):
        """The names of its validation scans, as far as scores.csv tells."""
        return {row["subject"] for row in self.scans}

    def part_of(self, scan):
        """The run whose predictions hold a scan."""
        return self

    def last(self, column, window):
        """Mean of a column's filled cells over the last `window` epochs; None if there are none."""
        values = [row[column] for row in self.rows[-window:] if row.get(column) is not None]
        return statistics.fmean(values) if values else None

    @property
    def collapsed(self):
        """Does the best model predict no foreground at all on the validation subset?"""
        return self.best.get("val_foreground") == 0

    @property
    def ends_empty(self):
        """Does the last epoch's model predict no foreground at all, though the best one does?"""
        ends_empty = bool(self.rows) and self.rows[-1].get("val_foreground") == 0
        return ends_empty and not self.collapsed

    @property
    def seconds(self):
        return self.summary.seconds or sum(row.get("seconds") or 0 for row in self.rows)


@dataclass(eq=False)
class ResultSet:
    """The runs of one data set.

    Attributes:
        folder: where the runs are.
        data: the data folder.
        dataset, fingerprint: its descriptions.
        losses: a row of the table -> its runs, in the table's order.
        title: name of the set in tables.
        raters: name of a further human rater -> row of raters.csv.
        lacking: "<loss>/seed<k>" of a seed that is left out -> the folds that it has no run of.
    """

    folder: Path
    data: Path
    dataset: Dataset
    fingerprint: Fingerprint
    losses: dict
    title: str = ""
    raters: dict = field(default_factory=dict)
    lacking: dict = field(default_factory=dict)

    @property
    def runs(self):
        return [run for runs in self.losses.values() for run in runs]

    @property
    def parts(self):
        """The run folders behind them, one for each fold of a run."""
        return [part for run in self.runs for part in run.parts]

    def finished(self, row):
        """The finished runs of a row; [] if it has none."""
        return [run for run in self.losses.get(row, []) if run.finished]

    def models(self, row):
        """The finished runs of a row, of cross-validation each fold's: whatever has a best.pt."""
        return [part for run in self.losses.get(row, []) for part in run.parts if part.finished]

    @property
    def sweep(self):
        """The finished rows of GDL + boundary, both as in the paper, by how alpha behaves.

        Returns:
            (constant, moving): {row: alpha} and [row, ...]. The moving ones begin with the row of
            the runs' own schedule, whose name says no change.
        """
        rows = {row: runs[0].config for row in self.losses if (runs := self.finished(row))}
        schedules = {row: config.schedule or "rebalance" for row, config in rows.items()
                     if config.loss == BOTH and not config.get("gdl_max_weight")
                     and not config.get("loss_options") and not config.lesion_slices
                     and 0 not in (config.boundary_classes or ())}

        constant = {row: float(schedule.removeprefix("constant:"))
                    for row, schedule in schedules.items() if schedule.startswith("constant:")}
        moving = [row for row in schedules if row not in constant]
        return constant, sorted(moving, key=is_variant)

    @property
    def is_phantom(self):
        return self.dataset.source == "phantom"

    @property
    def classes(self):
        """Names of the classes, background first."""
        return self.dataset.classes

    @property
    def challenge(self):
        """"wmh" or "isles" if these are that challenge's own scans, else None.

        Only then may the paper's numbers be shown beside these.
        """
        layout = self.dataset.layout
        return layout if self.dataset.source == "challenge" and layout in CHALLENGES else None

    @property
    def window(self):
        """How many last epochs means are over, see Run."""
        return self.runs[0].window


def without_foreground(runs):
    """Names of the run folders among `runs` whose best or last model predicts no foreground."""
    return [part.name for run in runs for part in run.parts if part.collapsed or part.ends_empty]


def load_run(folder):
    """Read one run folder; UserError if a file is damaged or contradicts another."""
    do = "Move this run folder away and repeat its training command."
    config = read_description(folder / "config.json", Config, do)
    path = folder / "summary.json"
    summary = read_description(path, Summary, do) if path.exists() else Summary()
    rows = read_metrics(folder / "metrics.csv", do)

    run = Run(folder, config, rows, summary)
    expected = summary.epochs or config.epochs
    if run.finished and len(rows) != expected:
        raise UserError(folder / "metrics.csv", f"{expected} epochs, as summary.json says",
                        f"{len(rows)}", do)
    return run


def read_metrics(path, do):
    """The epochs of a metrics.csv as dicts of floats; [] if there is no such file.

    A cell that is empty or not finite is None.
    """
    table = read_csv(path, ("epoch", "val_dice"), do) if path.exists() else []
    rows = [{key: number(value, path, line) for key, value in row.items()}
            for line, row in enumerate(table, 2)]
    if any(row["epoch"] is None for row in rows):
        raise UserError(path, "the number of every epoch", "an empty cell", do)
    return rows


def load_set(folder, data=None):
    """The ResultSet of a folder: every run below it, <loss>/seed<k>/config.json, and their data.

    Args:
        folder: e.g. results/wmh.
        data: the data folder; None: the one that the runs name.

    Raises:
        UserError: no run, a damaged one, or runs that must not be averaged or compared; the scores
            of one's scans are not those of the split, or lack some.
    """
    folder = Path(folder)
    runs = [load_run(place) for place in run_folders(folder, "config.json")]
    refuse_lost(folder)
    if not runs:
        raise UserError(folder, "runs in <loss>/seed<k>/ with a config.json", "none",
                        "Train first, for example with make wmh, or name the folder of the runs.")

    by_loss = {}
    for run in runs:
        by_loss.setdefault(run.folder.parent.name, []).append(run)
    by_loss = {name: by_loss[name] for name in sorted(by_loss, key=order)}

    for run in runs:
        refuse_other_name(run)
    refuse_to_mix(runs, SAME_IN_SET)
    for same_loss in by_loss.values():
        refuse_to_mix(same_loss, SAME_IN_ROW)
        refuse_repeats(same_loss)

    data = Path(data) if data else data_of(runs[0])
    dataset, fingerprint = load_data_description(data, runs[0])
    for run in runs:
        refuse_other_classes(run, dataset.classes)
    lacking = {}
    if folds := runs[0].config.get("folds"):
        from scoring.folds import pool_all  # here: that file imports this one
        by_loss, lacking = pool_all(by_loss, folds, dataset.classes)
    if split_path(data).is_file():
        split = read_split(data)
        for run in runs:
            refuse_other_scans(run, split, dataset.classes)
    return ResultSet(folder, data, dataset, fingerprint, by_loss, set_title(dataset),
                     load_raters(folder, fingerprint), lacking)


def load_raters(folder, fingerprint):
    """{rater: {column: number}} of raters.csv beside the runs, {} if there is none.

    Raises:
        UserError: it is damaged, or of other data.
    """
    path, do = folder / "raters.csv", "Repeat python -m scoring.raters, or remove the file."
    columns = ("rater", "scans", "val_scans", "data_fingerprint")
    rows = read_csv(path, columns, do) if path.exists() else []

    found = {}
    for line, row in enumerate(rows, 2):
        name, other = row.pop("rater"), row.pop("data_fingerprint")
        if other != fingerprint.sha256:
            expected = f"raters on the data of the runs (fingerprint {fingerprint.sha256})"
            raise UserError(path, expected, other, do)
        found[name] = {key: number(value, path, line) for key, value in row.items()}
        for key in ("scans", "val_scans"):
            if found[name][key] is None:
                raise UserError(path, f"a number of {key} in line {line}", "an empty cell", do)
    return found


def run_folders(folder, name):
    """The run folders <loss>/seed<k>/ in `folder` that hold a file `name`, in natural order.

    Those of folds are <loss>/seed<k>-fold<j>/.
    """
    return [path.parent for path in sorted(folder.glob(f"*/seed*/{name}"), key=natural)
            if RUN_NAME.fullmatch(path.parent.name)]


def refuse_other_name(run):
    """UserError if the folder of a run names another loss than its config.json."""
    row, loss = run.folder.parent, run.config.loss
    if loss_of(row.name) not in (None, loss):
        raise UserError(run.folder / "config.json", f"loss {loss_of(row.name)}, as {row} says",
                        loss, f"Move the run to a folder {row.parent / loss}, or another one.")


def refuse_lost(folder):
    """UserError at a run folder with results but no config.json.

    It would drop out of the table unseen.
    """
    for name in ("metrics.csv", "summary.json", "last.pt", "best.pt", "predictions.npz"):
        for place in run_folders(folder, name):
            if not (place / "config.json").exists():
                raise UserError(place, f"a config.json beside {name}", "none",
                                "Move this run folder away, or repeat its training command.")


def natural(path):
    """Sort key that puts seed10 after seed9."""
    return [(len(part), part) for part in path.parts[-3:]]


def refuse_to_mix(runs, settings):
    """UserError at the first setting in which a run differs from the first one."""
    for run in runs[1:]:
        for key in settings:
            first, other = runs[0].config.get(key), run.config.get(key)
            if first != other:
                raise UserError(run.folder, f"the same {key} as in {runs[0].folder} ({first})",
                                f"{other}", "Runs that differ are not averaged or compared: move "
                                "one of them to another folder.")


def refuse_other_classes(run, classes):
    """UserError if scores.csv of a run is of other classes than the data's, background first."""
    found = {row["class_name"] for row in run.scans}
    if found and found != set(classes[1:]):
        raise UserError(run.folder / scan_scores.FILE, f"rows of {', '.join(classes[1:])}, the "
                        "classes in dataset.json", ", ".join(sorted(found)),
                        "Name the data folder of these runs with --data, or train them again.")


def refuse_other_scans(run, split, classes):
    """UserError unless scores.csv has, of every epoch since it began, the scans that validate.

    One that begins late is of a run that went on without it; but the last epochs must be there, or
    it is of none of the means over them.

    Args:
        run: a Run; one without scores of scans passes.
        split: {subject: subset}, from split.csv.
        classes: names of all classes, background first.
    """
    if not run.scans:
        return
    path = run.folder / scan_scores.FILE
    found = {epoch: {(row["subject"], row["class_name"]) for row in rows}
             for epoch, rows in scan_scores.by_epoch(run.scans).items()}
    names = subjects_in(split, "val", run.config.fold)
    expected = set(product(names, classes[1:]))
    start = min([*found, *(row["epoch"] for row in run.rows[-run.window:])])
    for epoch in (row["epoch"] for row in run.rows if row["epoch"] >= start):
        its = found.get(epoch, set())
        if wrong := sorted(expected - its) or sorted(its - expected):
            name = " ".join(wrong[0][:1 if len(classes) == 2 else 2])
            raise UserError(path, f"scores of the {len(names)} scans that validate, at epoch "
                            f"{epoch:g}", f"none of {name}" if expected - its else
                            f"some of {name}", scan_scores.DO)


def refuse_repeats(runs):
    """UserError if two runs of a row have the same seed: a copy would count as a further run."""
    seen = {}
    for run in runs:
        other = seen.setdefault((run.config.seed, run.config.get("fold")), run)
        if other is not run:
            raise UserError(run.folder, f"another seed than {other.folder}",
                            f"seed {run.config.seed} in both", "Move the copy to another folder.")


def data_of(run):
    """The data folder that a run names; where its data are not there, what a pack holds of them."""
    named = Path(run.config.get("data") or "data")
    packed = run.folder.parent.parent / "data"
    return named if is_data_of(run, named) or not is_data_of(run, packed) else packed


def is_data_of(run, data):
    """Whether a folder holds the data set that a run was trained on."""
    return (dataset_path(data).is_file() and fingerprint_path(data).is_file()
            and read_fingerprint(data).sha256 == run.config.data_fingerprint)


def load_data_description(data, run):
    """(Dataset, Fingerprint) of a data folder.

    Raises:
        UserError: they are missing, or are not what `run` was trained on.
    """
    if not dataset_path(data).is_file() or not fingerprint_path(data).is_file():
        raise UserError(data, "a preprocessed data set (dataset.json, fingerprint.json)", "none",
                        "Name its folder with --data.")

    dataset, fingerprint = read_dataset(data), read_fingerprint(data)
    if fingerprint.sha256 != run.config.data_fingerprint:
        raise UserError(
            data, f"the data of {run.folder} (fingerprint {run.config.data_fingerprint})",
            f"fingerprint {fingerprint.sha256}",
            "Name the right folder with --data, or repeat the runs on these data.")
    return dataset, fingerprint


def about_data(data):
    """The files of a data folder that tables need: what a pack of results has in data/."""
    return [dataset_path(data), fingerprint_path(data), split_path(data)]


def set_title(dataset):
    """Name of a set in tables.

    WMH and ISLES are the challenges' own scans only, and a phantom always says so; other sets go by
    their own name, in which lgg is LGG.
    """
    known = CHALLENGES.get(dataset.layout)
    if dataset.source == "phantom":
        name = known or in_words(dataset.name)
        return f"{dataset.layout.upper() if 'phantom' in name.lower() else name} phantom"
    return known if known and dataset.source == "challenge" else in_words(dataset.name)


ACRONYMS = ("acdc", "atlas", "brats", "lgg", "ms")  # WMH and ISLES are the challenges' alone


def in_words(name):
    """A set's name with its acronym as one writes it: "lgg-32px" is "LGG-32px"."""
    first, *rest = re.split(r"(?=[-_ ])", name, maxsplit=1)
    return "".join([first.upper() if first in ACRONYMS else first, *rest])


def load_sets(folders, data):
    """All sets; where two share a title, their folders tell them apart."""
    if data and len(data) != len(folders):
        raise UserError("--data", f"one folder for each of --runs ({len(folders)})", f"{len(data)}",
                        "Name them in the same order, or leave --data out.")
    refuse_twice(folders)

    data = data or [None] * len(folders)
    return told_apart([load_set(folder, place)
                       for folder, place in zip(folders, data, strict=True)])


def refuse_twice(folders):
    """UserError if two of these are one folder."""
    seen = set()
    for folder in folders:
        if (real := os.path.realpath(folder)) in seen:
            raise UserError(folder, "each folder once", "it twice", "Leave one out.")
        seen.add(real)


def told_apart(sets):
    """The ResultSets, those of one title with as much of their folders as tells them apart."""
    by_title = {}
    for results in sets:
        by_title.setdefault(results.title, []).append(results.folder.resolve())
    return [replace(results, title=f"{results.title} ({apart(results.folder, folders)})")
            if len(folders := by_title[results.title]) > 1 else results for results in sets]


def apart(folder, folders):
    """The last parts of a folder's path, as few as are those of no other of these folders."""
    parts, others = folder.resolve().parts, [other.parts for other in folders]
    count = next((count for count in range(1, len(parts)) if [
        other[-count:] for other in others].count(parts[-count:]) == 1), len(parts))
    return "/".join(parts[-count:])
