"""What a run shows while it trains: a line, progress.png and TensorBoard. Nothing here can change or stop the training."""

import os
import sys
import time
from pathlib import Path

import numpy as np

from metrics import surface
from scoring.scores import pace
from utils import atomic_path, log

SHARE = 0.02  # of the time that drawing may take: shorter epochs than 50 drawings share one
OVERLAYS = 3  # validation slices shown in TensorBoard
TRUTH, FOUND = (255, 217, 47), (255, 90, 79)


def seconds_left(rows, epochs):
    """Time left at the pace of the last five epochs, s."""
    return (epochs - len(rows)) * pace(rows)


def terms_of(row):
    """Columns of the loss's terms in a row of metrics.csv."""
    return [name for name, value in row.items() if name.startswith("train_") and name != "train_loss" and value is not None]


def for_people(row, rows, epochs):
    """An epoch as words, for the right end of a progress bar."""
    terms = " ".join(f"{name[6:]} {row[name]:.4f}" for name in terms_of(row))
    return (f"epoch {row['epoch']} ({len(rows)}/{epochs}) alpha {row['alpha']:.2f} lr {row['lr']:g} "
            f"loss {row['train_loss']:.4f} ({terms}) DSC {row['val_dice']:.3f} "
            f"3-D {row['val_dice_3d']:.3f} HD95 {row['val_hd95']:.1f} mm, "
            f"{row['seconds']:.1f} s, {seconds_left(rows, epochs) / 60:.1f} min left")


def for_machines(run, row, rows, epochs):
    """An epoch as key=value words: the columns of metrics.csv that have a value, and the time left in s."""
    words = {"run": run, "of": os.environ.get("RUN_OF"), **row, "epochs": epochs, "seconds_left": seconds_left(rows, epochs)}
    return " ".join(f"{key}={value:.6g}" if isinstance(value, float) else f"{key}={value}"
                    for key, value in words.items() if value is not None)


def title(run):
    """The run's name, and under make which of how many it is."""
    number = os.environ.get("RUN_OF")
    return f"{run} (run {number.replace('/', ' of ')})" if number else str(run)


class Live:
    """Shows the epochs of one run.

    Args:
        out: the run folder.
        epochs: number of epochs of the run.
    """

    def __init__(self, out, epochs):
        self.out, self.epochs, self.writer, self.missing = Path(out), epochs, None, set()
        self.drawn, self.cost = -float("inf"), 0.0

    def report(self, row, rows, bar, best, overlays):
        """Show one epoch. `overlays` is called for [(name, (H, W, 3) uint8)] when the epoch is the best so far."""
        bar.set_postfix_str(for_people(row, rows, self.epochs))
        if bar.disable:
            human = sys.stdout.isatty()  # --quiet on a terminal
            log(f"{title(self.out)}: {for_people(row, rows, self.epochs)}" if human else
                for_machines(self.out, row, rows, self.epochs))
        if row["val_foreground"] == 0 and (len(rows) == 1 or rows[-2]["val_foreground"]):
            log(f"{self.out}: the model of epoch {row['epoch']} predicts no foreground")
        self.optional("tensorboard", lambda: self.write_events(row, overlays if best else list))
        start = time.perf_counter()
        if len(rows) == self.epochs or start - self.drawn >= self.cost / SHARE:
            self.optional("progress.png", lambda: draw_progress(rows, self.out / "progress.png"))
            self.drawn = time.perf_counter()
            self.cost = self.drawn - start

    def optional(self, what, do):
        """Do it if its packages are here; say once that they are not, or that the disk did not take it."""
        if what in self.missing:
            return
        try:
            do()
        except (ImportError, OSError) as error:
            self.missing.add(what)
            log(f"{self.out}: {what} not written from here on ({error})")

    def write_events(self, row, overlays):
        if self.writer is None:
            from torch.utils.tensorboard import SummaryWriter  # a second of import that --help need not pay
            self.writer = SummaryWriter(self.out, purge_step=row["epoch"])
        for name, value in row.items():
            if name != "epoch" and value is not None:
                self.writer.add_scalar(name.replace("_", "/", 1), value, row["epoch"])
        for name, picture in overlays():
            self.writer.add_image(name, picture, row["epoch"], dataformats="HWC")
        self.writer.flush()

    def close(self):
        if self.writer:
            self.writer.close()


def shown_rows(labels, scans, count=OVERLAYS):
    """Rows of the slices with the largest lesion area of `count` scans, spread over the scans."""
    area = labels.astype(bool).sum(axis=(1, 2))
    chosen = [scans[at] for at in np.unique(np.linspace(0, len(scans) - 1, min(count, len(scans))).round().astype(int))]
    return [(scan.name, scan.rows.start + int(area[scan.rows].argmax())) for scan in chosen]


def overlay(image, truth, found):
    """A grey image (H, W) in [0, 1] with the edges of truth (yellow) and prediction (red): (2H, 2W, 3) uint8."""
    picture = np.repeat((255 * np.clip(image / max(float(image.max()), 1e-6), 0, 1)).astype(np.uint8)[..., None], 3, 2)
    picture, truth, found = (array.repeat(2, 0).repeat(2, 1) for array in (picture, truth, found))  # thin lines on it
    picture[surface(truth)] = TRUTH
    picture[surface(found)] = FOUND
    return picture


def draw_progress(rows, path):
    """Loss and its terms, DSC, HD95, alpha and learning rate against the epoch as one PNG; needs matplotlib."""
    from matplotlib.figure import Figure  # not pyplot: nothing global is touched
    figure = Figure(figsize=(9, 6), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True).flat
    terms = {name: "GDL" if name == "train_gdl" else name[6:].replace("_", " ") for name in terms_of(rows[-1])}
    plots = (("training loss", {"train_loss": "loss", **terms}),
             ("validation DSC", {"val_dice": "slices", "val_dice_3d": "3-D", "val_dice_lesion": "lesion slices"}),
             ("validation HD95 (mm)", {"val_hd95": "HD95"}), ("alpha, learning rate", {"alpha": "alpha"}))
    epochs = [row["epoch"] for row in rows]
    for axis, (name, columns) in zip(panels, plots, strict=True):
        for column, label in columns.items():
            values = [np.nan if row.get(column) is None else row[column] for row in rows]
            if np.isfinite(values).any():
                axis.plot(epochs, values, label=label, linewidth=1.2, marker="." if len(rows) < 30 else "")
        axis.set_title(name, fontsize=9)
        axis.grid(color="#dddddd", linewidth=0.5)
        axis.legend(fontsize=8, frameon=False)
        axis.set_xlabel("epoch")
    rate = axis.twinx()
    rate.plot(epochs, [row["lr"] for row in rows], color="#d62828", linestyle="--", linewidth=1)
    rate.set_ylim(0, 1.1 * max(row["lr"] for row in rows))
    rate.set_ylabel("learning rate (dashed)", fontsize=8)
    with atomic_path(path) as partial:
        figure.savefig(partial, format="png", dpi=90)
