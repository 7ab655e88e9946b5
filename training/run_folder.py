"""The run folder: the history of a run, and the files that keep it.

    config.json      settings, and the sessions that trained the run; see config.py
    metrics.csv      a row per epoch
    scores.csv       every measure of every validation scan, epoch by epoch
    last.pt          everything to continue from, see checkpoint.py; but for
    last.best.pt     the best epoch's network, see best_network.py
    best.pt          the same for predict.py; see best_model.py
    predictions.npz  the best epoch's validation masks on the network's grid
    summary.json     there once the run is finished

An epoch is written by a thread while the next one trains: what a kill costs is the epoch under way,
and the one before it if that is not written yet.
"""

from pathlib import Path

import numpy as np

from losses_regional import parts_of, term_name
from scoring import scan_scores
from scoring.emptying import NOTHING_SCORES, is_empty, rate_in_words
from scoring.run_files import SCORES, MetricsRow, Summary
from scoring.scores import class_columns
from training import best_model, best_network, checkpoint, config, nonfinite
from training.background import Background
from training.devices import amp_name, named_amp
from training.epoch import EpochUnderWay
from training.snapshot import Snapshot
from utils import UserError, atomic_path, read_description, write_csv, write_json

COLUMNS = list(MetricsRow.model_fields)  # of metrics.csv
WRITTEN = ("config.json", "metrics.csv", "scores.csv", "predictions", "predictions.npz",
           "summary.json", "progress.png")


def file_of_others(path):
    """The first file in place of one of a run's, in a folder that holds no run; or None."""
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
        epoch_under_way: an EpochUnderWay, or None between epochs.
        background: the Background that writes.
    """

    def __init__(self, path, trainer, settings, model, columns):
        self.path, self.trainer, self.group = Path(path), trainer, trainer.group
        self.settings, self.model, self.columns = settings, model, columns
        self.identity = config.defining(settings, model.data)  # what its checkpoints must share
        self.rows, self.best, self.epoch_under_way = [], None, None
        self.best_of_old = None  # the best epoch's network, of a last.pt that held it
        self.background, self.snapshot = Background(), Snapshot(trainer.device)

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
        found = checkpoint.load_last(self.path, self.restore)
        if not found or not self.rows or not self.group.first:
            return

        best, epoch = self.path / "best.pt", self.best["epoch"]
        like = self.trainer.network.state_dict()
        if not best_network.read_if_of_epoch(best, epoch, like) and (found := self.find_best()):
            model = self.model.model_copy(update={"amp": amp_name(self.amp_of_best())})
            best_model.save_model(best, found, model, epoch)
        write_csv(self.path / "metrics.csv", self.rows, self.columns)

    def amp_of_best(self):
        """The autocast dtype in which the best epoch was validated, or None."""
        names = [session["amp"] for session in self.settings["sessions"]
                 if session["from_epoch"] <= self.best["epoch"]]
        return named_amp(names[-1]) if names else None

    def find_best(self):
        """The best epoch's network as far as this folder has it, a state_dict; or None.

        To be called before training goes on.
        """
        network = self.trainer.network.state_dict()
        if not self.epoch_under_way and self.best == self.rows[-1]:
            return network
        return self.best_of_old or best_network.find(self.path, self.best["epoch"], network)

    def read_best(self):
        """The best epoch's network, a state_dict, from best.pt."""
        network = self.trainer.network.state_dict()
        found = best_network.read_if_of_epoch(self.path / "best.pt", self.best["epoch"], network)
        return found or self.refuse_without_best()

    def refuse_without_best(self):
        raise UserError(self.path / "best.pt", f"the network of epoch {self.best['epoch']}, the "
                        "best", f"no intact one, nor one in {best_network.LAST}",
                        "Put it back, or remove the run directory and start again.")

    def restore(self, path, state):
        """Take over what a checkpoint holds; UserError if it belongs to another run."""
        network, optimizer = self.trainer.network, self.trainer.optimizer
        checkpoint.check_state(path, state, self.identity, network.state_dict(), self.columns)

        network.load_state_dict(state["network"])
        settings = [dict(group) for group in optimizer.param_groups]
        optimizer.load_state_dict(state["optimizer"])
        if not checkpoint.optimizer_is_sound(optimizer, settings):
            raise UserError(path, "a checkpoint of this run", "another optimizer", checkpoint.OWN)
        for group, own in zip(optimizer.param_groups, settings, strict=True):
            group["capturable"] = own["capturable"]  # of --cuda-graph
        checkpoint.lay_out_moments(optimizer)
        checkpoint.set_random_state(state, self.trainer.device)
        if state.get("scaler"):  # {} unless it was trained in float16
            self.trainer.scaler.load_state_dict(state["scaler"])

        self.rows, self.best, entry = (state[name] for name in ("rows", "best", "part"))
        self.best_of_old = state.get("best_network")
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

        scores.csv is cut to the epochs that last.pt has, and last.best.pt made to fit it. A run
        that starts removes the best networks of an earlier one.
        """
        self.keep_best()
        scan_scores.keep_epochs(self.path, self.epoch)
        config.note_session(self.path, self.settings, self.epoch, epochs, self.trainer)

    def note_end(self):
        """Note in config.json that nothing is left to train, if it was to have more epochs."""
        scan_scores.keep_epochs(self.path, self.epoch)
        if self.settings["epochs"] != self.epoch:
            self.settings["epochs"] = self.epoch
            write_json(self.path / "config.json", self.settings)

    def keep_best(self):
        """Have the best epoch's network beside last.pt, before anything else is written."""
        if self.rows:
            network = self.find_best() or self.refuse_without_best()
            best_network.keep(self.path, self.best["epoch"], network)
            self.best_of_old = None
        else:
            best_network.forget(self.path)

    def begin_epoch(self, steps):
        """Begin an epoch of this many steps, or go on with the one under way; an EpochUnderWay."""
        self.epoch_under_way = self.epoch_under_way or EpochUnderWay(steps)
        self.epoch_under_way.start(self.trainer.device)
        return self.epoch_under_way

    def save_epoch(self, row, scores_of, then):
        """Keep an epoch that has ended.

        Args:
            row: of metrics.csv, with the score that chooses the best epoch; others may be missing.
            scores_of: called in the thread that writes the epoch: (all scores of the epoch, as
                columns of metrics.csv; its rows of scores.csv).
            then: called in the main thread once it is written, with the whole row, and whether it
                is the best so far.
        """
        self.background.finish()
        state = self.take_state(ended=row["epoch"])
        score = self.settings["score"]
        is_best = self.best is None or score_of(row, score) > score_of(self.best, score)
        rows, best = [*self.rows], self.best

        self.rows.append(row)
        self.best = row if is_best else self.best
        self.epoch_under_way = None

        def write():
            scores, of_scans = scores_of()
            whole = {**row, **scores}
            whole["seconds"] = whole.pop("seconds")  # the last, as in a row that was whole before
            if self.group.first:
                self.write_epoch({**state, "rows": [*rows, whole],
                                  "best": whole if is_best else best}, of_scans, is_best)
            return whole

        def written(whole):
            self.rows[-1] = whole
            self.best = whole if is_best else self.best
            then(whole, is_best)

        self.background.begin(write, written)

    def write_epoch(self, state, of_scans, is_best):
        """Write what there is of an epoch; see best_network.py for the order of the checkpoints."""
        scan_scores.append(self.path, of_scans)
        checkpoint.save_last(self.path, state)
        if is_best:
            network, epoch = state["network"], state["best"]["epoch"]
            best_network.save(self.path, network, epoch)
            best_model.save_model(self.path / "best.pt", network, self.model, epoch)
        write_csv(self.path / "metrics.csv", state["rows"], self.columns)

    def save_under_way(self):
        """Keep the epoch under way, if there is one, as far as it is."""
        self.background.finish()
        if self.epoch_under_way:
            state = self.take_state(self.epoch, self.epoch_under_way.to_entry(self.group))
            if self.group.first:
                checkpoint.save_last(self.path, {**state, "rows": self.rows, "best": self.best})

    def take_state(self, ended, entry=None):
        """What last.pt holds beside the rows and the best of them, copied to the host.

        Args:
            ended: the epoch that has ended, or that is under way.
            entry: of epoch.EpochUnderWay, if one is.
        """
        network, optimizer = self.trainer.network.state_dict(), self.trainer.optimizer
        if not checkpoint.all_finite(network):
            raise UserError(self.path, "finite weights", f"others in epoch {ended}",
                            nonfinite.ADVICE)
        if not self.group.first:
            return {}

        return self.snapshot.take({
            "settings": self.identity,
            "network": network,
            "optimizer": optimizer.state_dict(),
            "scaler": self.trainer.scaler.state_dict(),
            **checkpoint.random_state(self.trainer.device),
            "part": entry,
        })

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
        best_network.forget_previous(self.path)
