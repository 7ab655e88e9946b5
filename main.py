"""One training run: train, validate every epoch, checkpoint, resume.

Examples:
  python main.py --data data/wmh --loss gdl+boundary --seed 0 --out results/wmh/gdl+boundary/seed0
  python main.py --data data/wmh --loss dice+ce+boundary --schedule increase --out results/wmh/dice+ce+boundary/seed0
  python main.py --data data/mine --network resunet --width 32 --epochs 100 --device cuda:1 --out results/mine/gdl/seed0
  python main.py --data data/wmh-dims3 --dims 3 --patch 32 128 128 --width 32 --out results/wmh-dims3/gdl+boundary/seed0

The defaults are the paper's: UNet of width 64, Adam 1e-3, batch 8, learning rate halved after 20 epochs without a
better validation score, alpha 1 falling by 0.01 an epoch, 200 epochs. The loss is alpha L_regional + (1 - alpha)
L_boundary (Eq. 6); without one of the two parts, the other alone. The best epoch is that of the highest mean DSC over
the 2-D validation slices.

With --dims 3 it trains on random patches of the volumes and predicts by overlapping patches; the boundary loss then wants
3-D distance maps (preprocess.py --map-dims 3 --unit mm). An epoch draws as many patches as take up the volumes' voxels.

The same command continues an unfinished run, bit for bit on a CPU, and does nothing on a finished one; with more --epochs
that goes on. Ctrl-C ends after the step under way, which is kept. Precision, device, threads and epochs may change on the
way; whatever defines the run may not, and is refused with the difference.

Written to --out:
  config.json, metrics.csv      all settings and versions; a row per epoch
  last.pt, best.pt              everything to continue; the best epoch's network, for predict.py
  predictions/, predictions.npz the best epoch's validation masks, on each scan's own grid and on the network's
  progress.png, TensorBoard events, summary.json once it is finished

Exit status: 0, 2 with one line that says what is wrong, 130 after Ctrl-C, 143 after SIGTERM.
"""

import utils  # noqa: F401  isort: skip (first: Ctrl-C during the imports below is one line)

import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch

import scheduler
from dataloader import Slices, batches, make_resident
from losses_regional import build_loss, parts_of, term_name
from networks import build, flops
from scans.folder import NORMALISATION
from scans.resampling import export_predictions
from scoring.run_files import MetricsRow, Summary
from scoring.scores import PER_SCAN, PER_SLICE, class_columns, epoch_scores, from_array, score_scan, to_array
from training import checkpoint, monitor, nonfinite, options
from training.config import checked_settings, defining, note_session, open_training
from training.devices import amp_name, be_deterministic, choose_amp, choose_device, logits_of, seed_everything
from training.inference import scans_by_patches, scans_by_slices
from training.parallel import Group
from training.trainer import Trainer
from utils import (
    UserError,
    atomic_path,
    exclusive,
    keep_freed_memory,
    log,
    progress,
    read_description,
    run_program,
    signals,
    write_csv,
    write_json,
)

COLUMNS = list(MetricsRow.model_fields)


def main(argv=None):
    args = parse_arguments(argv)
    asked, out, train = args.patch, Path(args.out), open_training(args)  # before the run directory is made
    with Group() as group, exclusive(out) if group.first else nullcontext():
        if asked not in (None, args.patch):
            log(f"--patch {' '.join(map(str, asked))}: larger than every volume; {' '.join(map(str, args.patch))} is taken")
        run = Run(args, train, group)
        finished = run.is_finished()
        group.wait()  # the first process writes from here on
        if finished:
            log(f"{out}: finished, {run.epoch} epochs, best DSC {run.best['val_dice']:.3f} at epoch {run.best['epoch']}")
            return 0
        log(f"{out}: {run.where_it_begins()}, {run.describe()}")
        if run.epoch < args.epochs and group.first:
            note_session(out, run.settings, run.epoch, args.epochs, run.device, run.amp, group.world)
        with run.progress_bar() as bar, signals(run.stop.append):
            while run.epoch < args.epochs:
                run.one_epoch(bar)
            if group.first:
                run.finish()
        group.wait()
    return 0


class Run(Trainer):
    """The state of a training run: network, optimiser, rows of metrics.csv, best epoch.

    Of several processes that train together each has one, and all know the same; the first alone writes.

    Args:
        args: main.py's options, as `open_training` completed them.
        train: what `open_training` gave.
        group: the parallel.Group of processes that train together; None: this one alone.
    """

    def __init__(self, args, train, group=None):
        self.args, self.out = args, Path(args.out)
        if args.deterministic:
            be_deterministic()
        group = group or Group(alone=True)
        device = group.device(choose_device(args.device))
        if args.threads:
            torch.set_num_threads(args.threads)
        keep_freed_memory()
        self.train, self.val = train, Slices(args.data, "val")
        self.classes = len(self.train.settings.classes)
        self.settings = checked_settings(args, self.train, self.out)
        term = f"train_{term_name(parts_of(args.loss)[0])}"
        self.columns = [term if name == "train_gdl" else name for name in COLUMNS]
        self.columns += [name for columns in class_columns(self.train.settings.classes).values() for name in columns]
        if args.dims == 2:
            make_resident([self.train, self.val], device)
        self.labels = self.val.labels()                                            # (N, H, W) uint8
        seed_everything(args.seed)
        network = build(args.network, len(self.train.settings.modalities), self.classes, args.width)
        betas = (0.9, 0.99) if args.protocol == "code2018" else (0.9, 0.999)
        loss = build_loss(args.loss, self.classes, args.gdl_max_weight, args.loss_options, args.boundary_classes)
        super().__init__(network, loss, device, choose_amp(args.amp, device), args.lr, betas, args.compile, group)
        self.rows, self.best, self.best_network, self.live = [], None, None, monitor.Live(self.out, args.epochs)
        self.part = None  # what an epoch under way has so far, see train_epoch
        self.stop = []    # numbers of the signals that came
        group.in_turn(self.load_checkpoint)

    @property
    def epoch(self):
        return len(self.rows)

    def where_it_begins(self):
        if self.part:
            return f"continues in epoch {self.epoch} after step {self.part['step']}"
        return f"continues at epoch {self.epoch}" if self.epoch else "starts"

    def describe(self):
        count = sum(parameter.numel() for parameter in self.network.parameters())
        shape = self.args.patch or [self.train.settings.size] * 2
        cost = flops(self.network, (len(self.train.settings.modalities), *shape)) / 1e9
        one, data = "slice", f"{len(self.train)} training and {len(self.val)} validation slices"
        if self.args.patch:
            one = "x".join(map(str, shape))
            data = f"{len(self.train)} training patches an epoch, {len(self.val.scans)} validation scans"
        return (f"{self.args.network} of width {self.args.width} ({count:,} parameters, {cost:.3g} GFLOP a {one} forward), "
                f"{data}, {self.device}, {self.amp or torch.float32}")

    # One epoch ------------------------------------------------------------------------------------------------------

    def one_epoch(self, bar):
        self.began = time.perf_counter() - (self.part or {"seconds": 0})["seconds"]
        row = {"epoch": self.epoch, "alpha": scheduler.alpha(self.args.schedule, self.epoch), "lr": self.learning_rate()}
        for group in self.optimizer.param_groups:
            group["lr"] = row["lr"]
        row |= self.train_epoch(bar)
        scores, masks = self.validate()
        self.stop_if_asked()
        row |= scores
        row["seconds"] = round(time.perf_counter() - self.began, 3)
        self.save_checkpoint(row)
        self.report(row, bar, masks)

    def train_epoch(self, bar):
        """One pass over the training slices. Returns the mean loss and terms over slices, as metrics.csv columns."""
        self.network.train()
        weights = scheduler.weights(self.args.schedule, self.epoch)
        order, size = self.train.order(self.args.seed, self.epoch), self.args.batch_size
        steps = -(-len(self.train) // size)
        part = self.part = self.part or {"step": 0, "sums": {}, "bad": torch.zeros(steps, dtype=torch.bool)}
        part["bad"] = part["bad"].to(self.device)
        sums = part["sums"] = {name: value.to(self.device) for name, value in part["sums"].items()}
        for batch in batches(self.train, order[part["step"] * size:], size, self.device, self.group.rank, self.group.world):
            bad, values = self.step(batch, weights, min(size, len(order) - part["step"] * size))
            part["bad"][part["step"]] = bad
            for name, value in values.items():                                     # summed on the device: no waiting
                sums[name] = sums.get(name, 0) + (value.double() * len(batch.images)).masked_fill(bad, 0)
            part["step"] += 1
            bar.update()
            self.stop_if_asked()
        return self.training_row(order, part)

    def training_row(self, order, part):
        """The means of an epoch over the slices of its finite steps; UserError if too many steps were not finite."""
        count, slices, words = nonfinite.left_out(part["bad"], order, self.args.batch_size, self.train.scans_of)
        nonfinite.refuse_many(count, part["step"], self.out, self.epoch, words)
        if count:
            log(f"{self.out}: epoch {self.epoch}, {count} steps left out, loss or gradient not finite; the first is {words}")
        means = {f"train_{name}": float(self.group.sum(value)) / (len(self.train) - slices)
                 for name, value in part["sums"].items()}
        return {**means, "skipped_steps": count}

    def validate(self):
        """(Scores as metrics.csv columns, classes (N, H, W)) of the validation slices, each process some scans of them.

        Threads score scans while the next are predicted.
        """
        masks = np.zeros_like(self.labels)
        scores = np.zeros((len(self.val), self.classes - 1, len(PER_SLICE + PER_SCAN)))
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            jobs = []
            for scan, found in self.predict(self.group.share(self.val.scans)):
                masks[scan.rows] = found
                jobs.append((scan, pool.submit(score_scan, found, self.labels[scan.rows], scan.spacing, self.classes)))
            for scan, job in jobs:
                scores[scan.rows] = to_array(job.result())
        for array in (masks, scores):  # zeros where another process has a number
            self.group.sum(torch.from_numpy(array))
        scans = [from_array(scores[scan.rows]) for scan in self.val.scans]
        return epoch_scores(scans, self.train.settings.classes), masks

    @torch.inference_mode()
    def predict(self, scans):
        """Yield (Scan, class of every pixel, uint8 (S, H, W)) for neighbouring validation scans, each when it is complete."""
        self.network.eval()
        size, by = (self.args.patch, scans_by_patches) if self.args.patch else (self.args.batch_size, scans_by_slices)

        def between():
            if self.group.world == 1:  # others have other scans, and stop after them
                self.stop_if_asked()

        for scan, masks in by(lambda images: logits_of(self.segment, images, self.amp), self.val, scans, size, self.device,
                              between):
            nonfinite.refuse_undefined(masks, self.out, self.epoch)
            yield scan, masks

    def learning_rate(self):
        rule = scheduler.code2018_lr if self.args.protocol == "code2018" else scheduler.plateau_lr
        return rule([row["val_dice"] for row in self.rows], self.args.lr)

    # What is kept ---------------------------------------------------------------------------------------------------

    def is_finished(self):
        """True if summary.json covers the epochs asked for. A finished run whose last.pt is gone is not begun anew."""
        path = self.out / "summary.json"
        do = "Remove it and repeat the command."
        summary = read_description(path, Summary, do, ("epochs", "best")) if path.exists() else Summary(epochs=0)
        if summary.epochs and not self.rows:
            if summary.epochs < self.args.epochs:
                raise UserError(self.out, "last.pt, to continue a finished run", "no such file",
                                "Choose another --out, or remove that run to repeat it.")
            self.rows, self.best = [summary.best] * summary.epochs, summary.best
            return True
        written = all((self.out / name).exists() for name in ("predictions.npz", "predictions", "config.json"))
        return written and summary.epochs == self.epoch >= self.args.epochs

    def save_checkpoint(self, row):
        """last.pt before best.pt: after a kill between the two, best.pt is written again from last.pt."""
        better = self.best is None or row["val_dice"] > self.best["val_dice"]
        if better:
            self.best = row
            self.best_network = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        self.rows.append(row)
        self.part = None
        self.save_last()
        if better and self.group.first:
            self.save_best()
        self.write_rows()

    def write_rows(self):
        if self.group.first:
            write_csv(self.out / "metrics.csv", self.rows, self.columns)

    def save_last(self):
        if not checkpoint.all_finite(self.network.state_dict()):
            raise UserError(self.out, "finite weights", f"others in epoch {self.epoch - (not self.part)}", nonfinite.ADVICE)
        if not self.group.first:
            return
        checkpoint.save_last(self.out, {
            "settings": defining(self.settings, self.train), "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(), **checkpoint.random_state(self.device), "rows": self.rows,
            "best": self.best, "best_network": self.best_network, "part": self.part})

    def save_best(self):
        channels = len(self.train.settings.modalities)
        checkpoint.write_state(self.out / "best.pt", {
            "network": self.best_network, "epoch": self.best["epoch"],
            "build": [self.args.network, channels, self.classes, self.args.width], "data": self.train.settings.as_dict(),
            "patch": self.args.patch, "normalisation": NORMALISATION, "amp": amp_name(self.amp)})  # see predict.py

    def stop_if_asked(self):
        """End the program if a signal asked for it; what an epoch under way has so far is kept in last.pt."""
        if not self.group.any(bool(self.stop)):
            return
        if self.part:
            self.part["seconds"] = time.perf_counter() - self.began
            self.part["sums"] = {name: self.group.sum(value) for name, value in self.part["sums"].items()}
            self.save_last()
        number = (self.stop or [signal.SIGTERM])[0]  # another process may have been the one that was asked
        raise KeyboardInterrupt(number, f"{self.out}: stopped in epoch {self.epoch}, every step so far is kept; the same "
                                        "command continues there")

    def load_checkpoint(self):
        if not checkpoint.load_last(self.out, self.restore) or not self.rows:
            return
        if self.group.first and not checkpoint.is_of_epoch(self.out / "best.pt", self.best["epoch"]):
            self.save_best()
        self.write_rows()

    def restore(self, path, state):
        """Take over a checkpoint; UserError if it is none of this run."""
        checkpoint.check_state(path, state, defining(self.settings, self.train), self.network.state_dict(), self.columns)
        self.network.load_state_dict(state["network"])
        groups = [dict(group) for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state["optimizer"])
        if not checkpoint.optimizer_is_sound(self.optimizer, groups):
            raise UserError(path, "a checkpoint of this run", "another optimizer", checkpoint.OWN)
        checkpoint.set_random_state(state, self.device)
        self.rows, self.best, self.best_network, self.part = (
            state[key] for key in ("rows", "best", "best_network", "part"))
        if self.part and not self.group.first:  # the first process has the sums of all
            self.part["sums"] = {name: torch.zeros_like(value) for name, value in self.part["sums"].items()}

    def finish(self):
        """Predict once more with best.pt, write the masks and summary.json, which marks the run as finished."""
        self.network.load_state_dict(self.best_network)
        masks = {scan.name: masks for scan, masks in self.predict(self.val.scans)}               # (S, H, W) uint8 each
        with atomic_path(self.out / "predictions.npz") as partial, open(partial, "wb") as file:
            np.savez_compressed(file, **masks)
        export_predictions(masks, Path(self.args.data), self.out / "predictions")
        self.live.close()
        seconds = sum(row["seconds"] for row in self.rows)
        write_json(self.out / "summary.json", {"finished": True, "epochs": self.epoch, "best_epoch": self.best["epoch"],
                                               "best": self.best, "seconds": round(seconds, 1)})
        checkpoint.forget_previous(self.out)
        log(f"{self.out}: done in {seconds / 60:.1f} min, best DSC {self.best['val_dice']:.3f} at epoch "
            f"{self.best['epoch']}")

    # What is shown --------------------------------------------------------------------------------------------------

    def progress_bar(self):
        steps, part = -(-len(self.train) // self.args.batch_size), self.part or {"step": 0}
        return progress(total=steps * self.args.epochs, initial=steps * self.epoch + part["step"], desc=monitor.title(self.out),
                        unit="step", disable=self.args.quiet or not self.group.first or not sys.stderr.isatty())

    def report(self, row, bar, masks):
        if self.group.first:
            self.live.report(row, self.rows, bar, self.best is row, lambda: self.overlays(masks))

    def overlays(self, masks):
        """Validation slices with the contours of truth and prediction, for TensorBoard; masks (N, H, W)."""
        chosen = monitor.shown_rows(self.labels, self.val.scans)
        images = self.val.read([at for _, at in chosen]).images[:, 0].numpy()                  # (N, H, W)
        return [(f"validation/{name}", monitor.overlay(image, self.labels[at] > 0, masks[at] > 0))
                for (name, at), image in zip(chosen, images)]


def parse_arguments(argv):
    return options.parse(argv, __doc__)


if __name__ == "__main__":
    run_program(main)
