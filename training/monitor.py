"""What a run shows while it trains: a progress bar or lines, progress.png and TensorBoard.

Nothing here can change or stop the training.
"""

import sys
import time
from itertools import cycle
from pathlib import Path

import numpy as np
import torch

from metrics import surface
from networks import flops
from scans.folder import intensities
from scoring import scan_scores
from scoring.emptying import ADVICE, LATELY, found_nothing
from scoring.scores import pace
from training.progress import StepBar, run_of, time_in_words
from utils import COLUMN, PLOT_LINES, PLOT_STYLE, UserError, atomic_path, log

SHARE = 0.02  # of the time that drawing may take: shorter epochs than 50 drawings share one
LEGEND = {"frameon": True, "framealpha": 0.85, "edgecolor": "none"}  # where curves leave no room
OVERLAYS = 3  # validation slices shown in TensorBoard
TRUTH, FOUND = (255, 217, 47), (77, 163, 255)


# Words --------------------------------------------------------------------------------------------

def describe_run(args, trainer, train, val):
    """What is trained on how much data, where and in which precision: a line."""
    channels = len(train.settings.modalities)
    shape = args.patch or [train.settings.size] * 2
    count = sum(parameter.numel() for parameter in trainer.network.parameters())
    cost = flops(trainer.network, (channels, *shape)) / 1e9

    sample = "slice"
    data = f"{len(train)} training and {len(val)} validation slices"
    if args.patch:
        sample = "x".join(map(str, shape))
        data = f"{len(train)} training patches per epoch, {len(val.scans)} validation scans"
    return (f"{args.network} of width {args.width} ({count:,} parameters, {cost:.3g} GFLOP per "
            f"{sample} forward), {data}, {trainer.device}, {trainer.amp or torch.float32}")


def seconds_left(rows, epochs):
    """Time left at the pace of the last five epochs, s."""
    return (epochs - len(rows)) * pace(rows)


def terms_of(row):
    """Columns of the loss's terms in a row of metrics.csv."""
    return [name for name, value in row.items()
            if name.startswith("train_") and name != "train_loss" and value is not None]


def for_people(row, rows, epochs):
    """An epoch in words, for the right end of a progress bar: what matters most comes first."""
    terms = " ".join(f"{name[6:]} {row[name]:.4f}" for name in terms_of(row))
    return (f"{short(row, rows, epochs)}, 3-D DSC {row['val_dice_3d']:.3f}, "
            f"loss {row['train_loss']:.4f} ({terms}), alpha {row['alpha']:.2f}, "
            f"lr {row['lr']:g}, {row['seconds']:.1f} s per epoch")


def short(row, rows, epochs):
    """The same in half a line: DSC and time left, the epoch, and HD95."""
    left = seconds_left(rows, epochs)
    left = f"{left / 60:.1f} min" if 60 <= left < 600 else time_in_words(left)
    return (f"DSC {row['val_dice']:.3f}, {left} left, epoch {row['epoch']} ({len(rows)}/{epochs}), "
            f"HD95 {row['val_hd95']:.1f} mm")


def title(run):
    """The run's name, and under make which of how many it is."""
    number = run_of()
    return "{} (run {} of {})".format(run, *number) if number else str(run)


# While it trains ----------------------------------------------------------------------------------

def progress_bar(args, train, run_folder, about=None):
    """A progress bar over the training steps of all epochs, on a terminal and without --quiet.

    `about` is told the seconds of a step, measured over the first ones of a run that begins.
    """
    steps, under_way = train.steps(args.batch_size), run_folder.epoch_under_way
    done = steps * run_folder.epoch + (under_way.step if under_way else 0)
    first = run_folder.group.first
    return StepBar(steps * args.epochs, done, title(run_folder.path), steps,
                   about if first and not done else None,
                   disable=args.quiet or not first or not sys.stderr.isatty())


class Monitor:
    """Shows the epochs of a run.

    Args:
        run: its folder.
        epochs: of the whole run.
        floor_epoch: the first one with alpha at its floor; None if there is none.
        hidden: show nothing, as one of several processes.
    """

    def __init__(self, run, epochs, floor_epoch=None, hidden=False):
        self.run, self.epochs, self.hidden = Path(run), epochs, hidden
        self.floor_epoch = floor_epoch
        self.writer, self.missing = None, set()
        self.drawn, self.cost = -float("inf"), 0.0  # when progress.png was, and how long it took, s

    def report(self, row, rows, bar, best, overlays):
        """Show an epoch.

        Args:
            row, rows: of metrics.csv: this epoch's, and all so far.
            bar: a progress bar; where it is disabled, a short line is printed.
            best: is it the best epoch so far?
            overlays: called for [(name, (H, W, 3) uint8)] if it is.
        """
        if self.hidden:
            return
        bar.set_postfix_str(for_people(row, rows, self.epochs))
        if bar.disable:
            log(f"{title(self.run)}: {short(row, rows, self.epochs)}")
        if row["val_foreground"] == 0 and (len(rows) == 1 or rows[-2]["val_foreground"]):
            log(f"{self.run}: the model of epoch {row['epoch']} predicts no foreground")
        if row["epoch"] + 1 == self.floor_epoch:
            self.optional("the warning of alpha's floor", self.warn_of_floor)

        self.optional("tensorboard", lambda: self.write_events(row, overlays if best else list))

        start = time.perf_counter()
        if len(rows) == self.epochs or start - self.drawn >= self.cost / SHARE:
            self.optional("progress.png", lambda: draw_progress(rows, self.run / "progress.png"))
            self.drawn = time.perf_counter()
            self.cost = self.drawn - start

    def warn_of_floor(self):
        """Say, in the epoch before alpha reaches its floor, if no lesion was found lately."""
        if found_nothing(scan_scores.read(self.run), self.floor_epoch):
            epochs = min(LATELY, self.floor_epoch)
            log(f"{self.run}: warning: no validation lesion was found in the last {epochs} epochs, "
                f"and alpha is at its floor from epoch {self.floor_epoch} on: such networks were "
                f"emptied. {ADVICE}")

    def optional(self, what, do):
        """Call `do`; say once if its packages are missing or the disk did not take its file."""
        if what in self.missing:
            return
        try:
            do()
        except (ImportError, OSError, UserError) as error:
            self.missing.add(what)
            log(f"{self.run}: {what} no longer written ({error})")

    def write_events(self, row, overlays):
        if self.writer is None:
            # An import of a second, which --help need not wait for.
            from torch.utils.tensorboard import SummaryWriter
            self.writer = SummaryWriter(self.run, purge_step=row["epoch"])

        for name, value in row.items():
            if name != "epoch" and value is not None:
                self.writer.add_scalar(name.replace("_", "/", 1), value, row["epoch"])
        for name, picture in overlays():
            self.writer.add_image(name, picture, row["epoch"], dataformats="HWC")
        self.writer.flush()

    def close(self):
        if self.writer:
            self.writer.close()


# Pictures -----------------------------------------------------------------------------------------

def validation_overlays(val, masks):
    """[(name, (H, W, 3) uint8)]: validation slices with the contours of truth and prediction.

    Args:
        val: the Slices of the validation scans.
        masks: predicted classes, (N, H, W).
    """
    labels = val.labels()
    chosen = shown_rows(labels, val.scans)
    images = intensities(val.stored(0, [row for _, row in chosen]))[:, 0]           # (N, H, W)
    return [(f"validation/{name}", overlay(image, labels[row] > 0, masks[row] > 0))
            for (name, row), image in zip(chosen, images, strict=True)]


def shown_rows(labels, scans, count=OVERLAYS):
    """Rows of the slices with the largest lesion area of `count` scans, spread over the scans."""
    area = labels.astype(bool).sum(axis=(1, 2))
    places = np.unique(np.linspace(0, len(scans) - 1, min(count, len(scans))).round().astype(int))
    chosen = [scans[place] for place in places]
    return [(scan.name, scan.rows.start + int(area[scan.rows].argmax())) for scan in chosen]


def overlay(image, truth, found):
    """A grey image with the edges of truth (yellow) and prediction (blue), each pixel as four.

    Args:
        image: (H, W), in [0, 1].
        truth, found: bool (H, W).

    Returns:
        uint8 (2H, 2W, 3).
    """
    grey = (255 * np.clip(image / max(float(image.max()), 1e-6), 0, 1)).astype(np.uint8)
    picture = np.repeat(grey[..., None], 3, 2)

    # Enlarged first, so that the lines are thin.
    picture, truth, found = (
        array.repeat(2, 0).repeat(2, 1) for array in (picture, truth, found))
    picture[surface(truth)] = TRUTH
    picture[surface(found)] = FOUND
    return picture


def draw_progress(rows, path):
    """Loss, DSC, HD95, alpha and learning rate against the epoch as one PNG; needs matplotlib."""
    import matplotlib
    from matplotlib.figure import Figure  # not pyplot: nothing global is touched

    terms = {name: "GDL" if name == "train_gdl" else name[6:].replace("_", " ")
             for name in terms_of(rows[-1])}
    plots = (
        ("Training loss", {"train_loss": "loss", **terms}),
        ("Validation DSC", {"val_dice": "slices", "val_dice_3d": "3-D",
                            "val_dice_lesion": "lesion slices"}),
        ("Validation HD95 (mm)", {"val_hd95": "HD95"}),
        ("Alpha and learning rate", {"alpha": "alpha"}),
    )
    with matplotlib.rc_context(PLOT_STYLE):
        figure = Figure(figsize=(COLUMN, 4.0), layout="constrained")
        panels = figure.subplots(2, 2, sharex=True)
        for axis, (name, columns) in zip(panels.flat, plots, strict=True):
            draw_panel(axis, name, columns, rows)
        for axis in panels.flat[:3]:
            axis.legend(**LEGEND)
        draw_rate(panels[1, 1], rows)
        for axis in panels[1]:
            axis.set_xlabel("epoch")

        with atomic_path(path) as partial:
            figure.savefig(partial, format="png", dpi=150)


def draw_panel(axis, name, columns, rows):
    """The columns {column of metrics.csv: label} of all rows against the epoch."""
    epochs = [row["epoch"] for row in rows]
    for (column, label), (colour, dashes, marker) in zip(columns.items(), cycle(PLOT_LINES)):
        values = [np.nan if row.get(column) is None else row[column] for row in rows]
        if np.isfinite(values).any():
            axis.plot(epochs, values, label=label, color=colour, linestyle=dashes, marker=marker,
                      markevery=max(1, len(rows) // 6))

    axis.set_title(name)
    axis.grid()


def draw_rate(axis, rows):
    """The learning rate on an axis of its own at the right, and the legend of both lines."""
    colour, dashes, marker = PLOT_LINES[1]
    beside = axis.twinx()
    beside.plot([row["epoch"] for row in rows], [row["lr"] for row in rows], color=colour,
                linestyle=dashes, marker=marker, markevery=max(1, len(rows) // 6))
    beside.set_ylim(0, 1.1 * max(row["lr"] for row in rows))
    beside.set_ylabel("learning rate")
    beside.spines["right"].set_visible(True)
    axis.set_ylim(0, 1.05)
    axis.set_ylabel("alpha")
    beside.legend([axis.lines[0], beside.lines[0]], ["alpha", "learning rate (right)"],
                  loc="center right", **LEGEND)
