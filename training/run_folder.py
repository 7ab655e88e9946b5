"""The run folder: the history of a run, and the files that keep it.

    config.json      settings, and the sessions that trained the run; see config.py
    metrics.csv      a row per epoch
    scores.csv       every measure of every validation scan, epoch by epoch
    last.pt          everything to continue from; see checkpoint.py
    best.pt          the best epoch's network; see best_model.py
    predictions.npz  the best epoch's validation masks on the network's grid
    summary.json     there once the run is finished
"""

from pathlib import Path

import numpy as np

from losses_regional import parts_of, term_name
from scoring import scan_scores
from scoring.emptying import NOTHING_SCORES, is_empty, rate_in_words
from scoring.run_files import SCORES, MetricsRow, Summary
from scoring.scores import class_columns
from training import best_model, checkpoint, config, nonfinite
from training.epoch import EpochUnderWay
from utils import UserError, atomic_path, read_description, write_csv, write_json

COLUMNS = list(MetricsRow.model_fields)  # of metrics.csv
WRITTEN = ("config.json", "metrics.csv", "scores.csv", "predictions", "predictions.npz",
           "summary.json", "progress.png")


def file_of_others(path):
    """The first file in the place of one of a run's, in a folder that holds no run; or None."""
    checkpoints = (checkpoint.LAST, checkpoint.PREVIOUS, "best.pt")
    if any((path / name).exists() for name in checkpoints) or begins_run(path / "config.json"):
        return None
    return next((name for name in WRITTEN if (path / name).exists()), None)


def begins_run(path):
    """Is this a run's config.json? It is the first file that a run writes."""
    try:
        return '"sessions"' in path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False


def score_of(row, score):
    """The score of a row of metrics.csv; less than any other where it does not exist."""
    return float("-inf") if row[score] is None else row[score]


def columns_of(loss, classes):
    """Columns of metrics.csv for a loss and the names of all classes.

    The regional part's column is called after it, and several foreground classes have their own.
    """
    part = f"train_{term_name(parts_of(loss)[0])}"
    columns = [part if name == "train_gdl" else name for name in COLUMNS]
    return columns + [name for names in class_columns(classes).values() for name in names]


class RunFolder:
    """The history of a run: its epochs, the best of them, and the one under way.

    Of several processes that train together each has one and all know the same; only the first
    writes.

    Args:
        path: the folder.
        trainer: the Trainer, whose state is kept here.
        settings: what config.json holds, see config.checked_settings.
        model: a best_model.BestModel without its epoch.
        columns: of metrics.csv.

    Attributes:
        rows: the epochs, as rows of metrics.csv.
        best: the row of the best epoch, or None.
        best_network: state_dict of its network.
        epoch_under_way: an EpochUnderWay, or None between epochs.
    """

    def __init__(self, path, trainer, settings, model, columns):
        self.path, self.trainer, self.group = Path(path), trainer, trainer.group
        self.settings, self.model, self.columns = settings, model, columns
        self.identity = config.defining(settings, model.data)  # what its checkpoints must share
        self.rows, self.best, self.best_network, self.epoch_under_way = [], None, None, None

    @property
    def epoch(self):
        """Number of the next epoch, or of the one under way."""
        return len(self.rows)

    def where_it_begins(self):
        if self.epoch_under_way:
            return f"continues in epoch {self.epoch} after step {self.epoch_under_way.step}"
        return f"continues at epoch {self.epoch}" if self.epoch else "starts"

    def best_in_words(self):
        score, epoch = self.settings["score"], self.best["epoch"]
        words = f"best {SCORES[score]} {self.best[score]:.3f} at epoch {epoch}"
        if is_empty(self.best):
            words += f", which predicts no foreground ({NOTHING_SCORES[score]})"
            words += f"; {rate}" if (rate := rate_in_words(self.rows, epoch)) else ""
        return words

    @property
    def seconds(self):
        """Wall time of all epochs."""
        return sum(row["seconds"] for row in self.rows)

    # Reading --------------------------------------------------------------------------------------

    def resume(self):
        """Continue from last.pt, if it is there; best.pt and metrics.csv are made to fit."""
        if not checkpoint.load_last(self.path, self.restore) or not self.rows:
            return
        best = self.path / "best.pt"
        if self.group.first and not checkpoint.is_of_epoch(best, self.best["epoch"]):
            self.save_best()
        self.write_rows()

    def restore(self, path, state):
        """Take over what a checkpoint holds; UserError if it belongs to another run."""
        network, optimizer = self.trainer.network, self.trainer.optimizer
        checkpoint.check_state(path, state, self.identity, network.state_dict(), self.columns)

        network.load_state_dict(state["network"])
        settings = [dict(group) for group in optimizer.param_groups]
        optimizer.load_state_dict(state["optimizer"])
        if not checkpoint.optimizer_is_sound(optimizer, settings):
            raise UserError(path, "a checkpoint of this run", "another optimizer", checkpoint.OWN)
        checkpoint.lay_out_moments(optimizer)
        checkpoint.set_random_state(state, self.trainer.device)
        if state.get("scaler"):  # {} unless it was trained in float16
            self.trainer.scaler.load_state_dict(state["scaler"])

        self.rows, self.best, self.best_network = (
            state[name] for name in ("rows", "best", "best_network"))
        entry = state["part"]
        self.epoch_under_way = entry and EpochUnderWay.from_entry(entry, self.group)

    def is_finished(self, epochs):
        """Does summary.json cover the epochs asked for, with nothing missing beside it?

        A finished run whose last.pt is gone is not restarted: it counts as finished, and cannot be
        made longer.
        """
        summary = self.read_summary()
        if summary.epochs and not self.rows:
            if summary.epochs < epochs:
                raise UserError(
                    self.path, "last.pt, to continue a finished run", "no such file",
                    "Choose another --out, or remove that run to repeat it.")
            self.rows, self.best = [summary.best] * summary.epochs, summary.best
            return True

        written = all((self.path / name).exists()
                      for name in ("predictions.npz", "predictions", "config.json"))
        return written and summary.epochs == self.epoch >= epochs

    def read_summary(self):
        """The Summary of a finished run; of another run one of 0 epochs."""
        path = self.path / "summary.json"
        if not path.exists():
            return Summary(epochs=0)
        return read_description(path, Summary, "Remove it and repeat the command.",
                                needed=("epochs", "best"))

    # Writing --------------------------------------------------------------------------------------

    def note_session(self, epochs):
        """Note in config.json that this session trains from here to so many epochs.

        scores.csv is cut to the epochs that last.pt has.
        """
        scan_scores.keep_epochs(self.path, self.epoch)
        config.note_session(self.path, self.settings, self.epoch, epochs, self.trainer)

    def begin_epoch(self, steps):
        """Begin an epoch of so many steps, or go on with the one under way; an EpochUnderWay."""
        self.epoch_under_way = self.epoch_under_way or EpochUnderWay(steps)
        self.epoch_under_way.start(self.trainer.device)
        return self.epoch_under_way

    def save_epoch(self, row, of_scans):
        """Keep an epoch that has ended; True if it is the best so far.

        Args:
            row: of metrics.csv.
            of_scans: the epoch's rows of scores.csv.

        last.pt goes before best.pt: after a kill between the two, best.pt is written again from it.
        """
        score = self.settings["score"]
        is_best = self.best is None or score_of(row, score) > score_of(self.best, score)
        if is_best:
            state = self.trainer.network.state_dict()
            self.best = row
            self.best_network = {name: value.detach().clone() for name, value in state.items()}
        self.rows.append(row)
        self.epoch_under_way = None

        if self.group.first:
            scan_scores.append(self.path, of_scans)
        self.save_last(ended=row["epoch"])
        if is_best and self.group.first:
            self.save_best()
        self.write_rows()
        return is_best

    def save_under_way(self):
        """Keep the epoch under way, if there is one, as far as it is."""
        if self.epoch_under_way:
            self.save_last(self.epoch, self.epoch_under_way.to_entry(self.group))

    def save_last(self, ended, entry=None):
        network, optimizer = self.trainer.network, self.trainer.optimizer
        if not checkpoint.all_finite(network.state_dict()):
            raise UserError(self.path, "finite weights", f"others in epoch {ended}",
                            nonfinite.ADVICE)
        if not self.group.first:
            return

        checkpoint.save_last(self.path, {
            "settings": self.identity,
            "network": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scaler": self.trainer.scaler.state_dict(),
            **checkpoint.random_state(self.trainer.device),
            "rows": self.rows,
            "best": self.best,
            "best_network": self.best_network,
            "part": entry,
        })

    def save_best(self):
        best_model.save_model(self.path / "best.pt", self.best_network, self.model,
                              self.best["epoch"])

    def write_rows(self):
        if self.group.first:
            write_csv(self.path / "metrics.csv", self.rows, self.columns)

    def write_masks(self, masks):
        """predictions.npz: {scan: (S, H, W) uint8}."""
        with atomic_path(self.path / "predictions.npz") as partial, open(partial, "wb") as file:
            np.savez_compressed(file, **masks)

    def write_summary(self):
        """summary.json, which marks the run as finished; one checkpoint is enough from here on."""
        write_json(self.path / "summary.json", {
            "finished": True,
            "epochs": self.epoch,
            "best_epoch": self.best["epoch"],
            "best": self.best,
            "seconds": round(self.seconds, 1),
        })
        checkpoint.forget_previous(self.path)
