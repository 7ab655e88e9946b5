"""Cross-validation: the runs of all folds with one seed are read as a single run.

Each scan validates in exactly one of them, so together they score every scan once.
"""

import statistics
from dataclasses import dataclass
from functools import cached_property

from scoring import scan_scores
from scoring.run_files import Summary
from scoring.runs import Run
from utils import UserError

NOT_AVERAGED = ("epoch", "alpha")  # columns that are the same in every fold


@dataclass
class PooledRun(Run):
    """The runs of all folds with one seed; see Run.

    Attributes:
        of_folds: the Run of each fold.
        class_names: of all classes, background first.
    """

    of_folds: list
    class_names: list

    @property
    def parts(self):
        return self.of_folds

    @property
    def finished(self):
        return all(run.finished for run in self.parts)

    @cached_property
    def best(self):
        """A row as of metrics.csv over all scans, each at its own fold's best epoch; {} if none.

        Its epoch is the mean of theirs.
        """
        if not all(run.best for run in self.parts):
            return {}
        epochs = [run.best["epoch"] for run in self.parts]
        return {**averages([run.best for run in self.parts]),
                **scan_scores.means(self.best_scans, self.class_names),
                "epoch": statistics.fmean(epochs)}

    @cached_property
    def scans(self):
        return [row for run in self.parts for row in run.scans]

    @cached_property
    def best_scans(self):
        return [row for run in self.parts for row in run.best_scans]

    def last_scans(self, window):
        return [row for run in self.parts for row in run.last_scans(window)]

    def scans_of(self, first, last):
        return [row for run in self.parts for row in run.scans_of(first, last)]

    @property
    def seconds(self):
        return sum(run.seconds for run in self.parts)

    def part_of(self, scan):
        """The Run in whose fold a scan validates; None if there is none."""
        return next((run for run in self.parts if scan in run.subjects), None)


def pool(runs, class_names):
    """A PooledRun of runs of one row and seed.

    Args:
        runs: Runs, one of each fold.
        class_names: of all classes, background first.

    Raises:
        UserError: a run lacks epochs in its scores.csv.
    """
    runs = sorted(runs, key=lambda run: run.config.fold)
    seed = runs[0].folder.parent / f"seed{runs[0].config.seed}"
    for run in runs:
        if not {row["epoch"] for row in run.scans}.issuperset(range(len(run.rows))):
            raise UserError(run.folder / scan_scores.FILE, f"{len(run.rows)} epochs, as in "
                            "metrics.csv", "fewer", scan_scores.DO)

    epochs = min(len(run.rows) for run in runs)
    scans = scan_scores.by_epoch(row for run in runs for row in run.scans)
    rows = [{**averages([run.rows[epoch] for run in runs]),
             **scan_scores.means(scans[epoch], class_names)} for epoch in range(epochs)]

    summary = Summary()
    if all(run.summary.finished for run in runs):
        summary = Summary(finished=True, epochs=epochs)
    return PooledRun(seed, runs[0].config, rows, summary, runs, class_names)


def averages(rows):
    """The columns that do not follow from scores.csv, as means over the folds' rows."""
    found = {}
    for name in rows[0]:
        values = [row[name] for row in rows if row.get(name) is not None]
        if not name.startswith("val_"):
            found[name] = (rows[0][name] if name in NOT_AVERAGED else
                           statistics.fmean(values) if values else None)
    return found


def pool_all(by_loss, folds, class_names):
    """The seeds of which every fold has a run, and what the others lack.

    Args:
        by_loss: {row: Runs of folds}.
        folds: how many there are.
        class_names: of all classes, background first.

    Returns:
        ({row: PooledRuns, one per seed}, {"<row>/seed<k>": folds without a run}).

    Raises:
        UserError: no seed has a run of every fold, a run's fold is not one of them, or as `pool`.
    """
    pooled, lacking = {}, {}
    for row, runs in by_loss.items():
        by_seed = {}
        for run in runs:
            if run.config.fold not in range(folds):
                raise UserError(run.folder / "config.json", f"a fold from 0 to {folds - 1}",
                                run.config.fold, "Move this run folder away.")
            by_seed.setdefault(run.config.seed, []).append(run)

        for seed, found in by_seed.items():
            if missing := sorted(set(range(folds)) - {run.config.fold for run in found}):
                lacking[f"{row}/seed{seed}"] = missing
            else:
                pooled.setdefault(row, []).append(pool(found, class_names))

    if not pooled:
        name, missing = next(iter(lacking.items()))
        raise UserError(next(iter(by_loss.values()))[0].folder.parents[1] / name,
                        f"runs of {folds} folds", f"none of fold {missing[0]}", "Train it.")
    return pooled, lacking
