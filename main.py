"""One training run: train, validate every epoch, checkpoint, resume.

    python main.py --data data/wmh --loss gdl+boundary --seed 0 --out results/wmh/gdl+boundary/seed0

The defaults are the paper's: UNet of width 64, Adam 1e-3, batch 8, learning rate halved after 20 epochs without a
better validation score, alpha 1 falling by 0.01 an epoch, 200 epochs. The same command continues an unfinished run.
"""

import utils  # noqa: F401  isort: skip (first: Ctrl-C during the imports below is one line)

import argparse
import platform
import sys
import time
from pathlib import Path

import numpy as np
import torch

import live
import scheduler
from dataloader import AGAIN, NORMALISATION, Slices, batches, make_resident, one_hot, shuffled
from losses import build_loss
from metrics import dice, hausdorff_pair, legacy_hausdorff
from networks import NETWORKS, build
from utils import (
    UserError,
    atomic_path,
    choose_amp,
    choose_device,
    exclusive,
    git_commit,
    log,
    progress,
    read_object,
    remove,
    run_program,
    seed_everything,
    write_csv,
    write_json,
)

COLUMNS = ["epoch", "alpha", "lr", "train_loss", "train_gdl", "train_boundary", "val_dice", "val_dice_3d", "val_hd",
           "val_hd95", "val_hd_legacy", "val_dice_lesion", "val_foreground", "seconds"]
# What defines a run: a directory that holds one of other values is refused. Everything else may change on resuming.
DEFINES = ("loss", "seed", "network", "width", "batch_size", "lr", "schedule", "protocol", "gdl_max_weight", "layout",
           "source", "size", "data_fingerprint")


def main(argv=None):
    args = parse_arguments(argv)
    out = Path(args.out)
    Slices(args.data, "train")  # refuses what is no data folder before the run directory is made
    with exclusive(out):
        run = Run(args)
        if run.is_finished():
            log(f"{out}: finished, {run.epoch} epochs, best DSC {run.best['val_dice']:.3f} at epoch {run.best['epoch']}")
            return 0
        log(f"{out}: {f'continues at epoch {run.epoch}' if run.epoch else 'starts'}, {run.describe()}")
        if run.epoch < args.epochs:
            run.start()
        with run.progress_bar() as bar:
            while run.epoch < args.epochs:
                run.one_epoch(bar)
        run.finish()
    return 0


class Run:
    """The state of a training run: network, optimiser, rows of metrics.csv, best epoch."""

    def __init__(self, args):
        self.args, self.out = args, Path(args.out)
        self.device = choose_device(args.device)
        self.amp = choose_amp(args.amp, self.device)
        if args.threads:
            torch.set_num_threads(args.threads)
        self.train, self.val = Slices(args.data, "train"), Slices(args.data, "val")
        if args.batch_size is None:
            isles = self.train.settings["layout"] == "isles"
            args.batch_size = 4 if args.protocol == "code2018" and isles else 8
        self.classes = len(self.train.settings["classes"])
        self.settings = self.checked_settings()
        make_resident([self.train, self.val], self.device)
        self.labels = self.val.labels()                                            # (N, H, W) uint8
        seed_everything(args.seed)
        channels = len(self.train.settings["modalities"])
        self.network = build(args.network, channels, self.classes, args.width)
        self.network.to(self.device, memory_format=torch.channels_last)
        self.forward = torch.compile(self.network, dynamic=False) if args.compile else self.network
        self.loss = build_loss(args.loss, self.classes, args.gdl_max_weight)
        betas = (0.9, 0.99) if args.protocol == "code2018" else (0.9, 0.999)
        self.optimizer = torch.optim.Adam(self.network.parameters(), args.lr, betas, fused=self.device.type == "cuda")
        self.rows, self.best, self.live = [], None, live.Live(self.out, args.epochs)
        self.load_checkpoint()

    @property
    def epoch(self):
        return len(self.rows)

    def describe(self):
        count = sum(parameter.numel() for parameter in self.network.parameters())
        return (f"{self.args.network} of width {self.args.width} ({count:,} parameters), {len(self.train)} training and "
                f"{len(self.val)} validation slices, {self.device}, {self.amp or torch.float32}")

    # One epoch ------------------------------------------------------------------------------------------------------

    def one_epoch(self, bar):
        start = time.perf_counter()
        row = {"epoch": self.epoch, "alpha": scheduler.alpha(self.args.schedule, self.epoch), "lr": self.learning_rate()}
        for group in self.optimizer.param_groups:
            group["lr"] = row["lr"]
        row |= self.train_epoch(bar)
        masks = self.predict()
        row |= score(masks, self.labels, self.val.scans, self.classes)
        row["seconds"] = round(time.perf_counter() - start, 3)
        self.save_checkpoint(row)
        self.report(row, bar, masks)

    def train_epoch(self, bar):
        """One pass over the training slices. Returns the mean loss and terms over slices, as metrics.csv columns."""
        self.network.train()
        weights = scheduler.weights(self.args.schedule, self.epoch)
        sums, order = {}, shuffled(len(self.train), self.args.seed, self.epoch)
        for batch in batches(self.train, order, self.args.batch_size, self.device):
            images = batch.images.contiguous(memory_format=torch.channels_last)
            with torch.autocast(self.device.type, self.amp, enabled=self.amp is not None):
                logits = self.forward(images)                                      # (B, K, H, W)
            probs = logits.float().softmax(1)
            loss, terms = self.loss(probs, one_hot(batch.labels, self.classes), batch.distance, weights)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            for name, value in {"loss": loss.detach(), **terms}.items():           # summed on the device: no waiting
                sums[name] = sums.get(name, 0) + value.double() * len(images)
            bar.update()
        means = {f"train_{name}": float(value) / len(self.train) for name, value in sums.items()}
        if not np.isfinite(list(means.values())).all():
            raise UserError(self.out, "a finite training loss", f"{means['train_loss']} in epoch {self.epoch}",
                            "Lower --lr, or use --amp off; what was saved before is intact.")
        return means

    @torch.inference_mode()
    def predict(self):
        """Class of every pixel of the validation slices, uint8 (N, H, W)."""
        self.network.eval()
        masks = []
        for batch in batches(self.val, range(len(self.val)), self.args.batch_size, self.device):
            images = batch.images.contiguous(memory_format=torch.channels_last)
            with torch.autocast(self.device.type, self.amp, enabled=self.amp is not None):
                masks.append(self.forward(images).argmax(1).to(torch.uint8))
        return torch.cat(masks).cpu().numpy()

    def learning_rate(self):
        rule = scheduler.code2018_lr if self.args.protocol == "code2018" else scheduler.plateau_lr
        return rule([row["val_dice"] for row in self.rows], self.args.lr)

    # What is kept ---------------------------------------------------------------------------------------------------

    def checked_settings(self):
        """The settings of this run, for config.json; UserError if the directory holds a run of others."""
        path = self.out / "config.json"
        data = {"layout": self.train.settings["layout"], "source": self.train.settings["source"],
                "size": self.train.settings["size"], "data_fingerprint": self.train.fingerprint}
        settings = {**vars(self.args), **data, "sessions": []}
        begun = (self.out / "last.pt").exists() or (self.out / "summary.json").exists()
        if path.exists() and begun:  # a run that never ended an epoch binds nobody
            old = read_object(path, {"epochs": int, "sessions": list}, "Remove the run directory and start again.")
            for key in DEFINES:
                if old.get(key) != settings[key]:
                    raise UserError(self.out, f"a run with {key} {settings[key]}", f"one with {key} {old.get(key)}",
                                    "Choose another --out, or remove that run.")
            settings = {**old, "data": self.args.data, "epochs": max(self.args.epochs, old["epochs"])}
        return settings

    def start(self):
        """Note in config.json what trains from here on; without summary.json the run counts as unfinished again."""
        session = {"from_epoch": self.epoch, "device": self.device_name(),
                   "amp": str(self.amp or torch.float32).removeprefix("torch."), "commit": git_commit(),
                   "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
                   "command": " ".join(["python", "main.py", *sys.argv[1:]])}
        sessions = [*self.settings["sessions"], session]
        self.settings |= {**{key: sessions[0][key] for key in session if key != "from_epoch"}, "sessions": sessions,
                          "epochs": max(self.args.epochs, self.epoch)}
        remove(self.out / "summary.json")
        write_json(self.out / "config.json", self.settings)

    def is_finished(self):
        """True if summary.json covers the epochs asked for. A finished run whose last.pt is gone is not begun anew."""
        path = self.out / "summary.json"
        kinds = {"epochs": int, "best": dict}
        summary = read_object(path, kinds, "Remove it and repeat the command.") if path.exists() else {"epochs": 0}
        if summary["epochs"] and not self.rows:
            if summary["epochs"] < self.args.epochs:
                raise UserError(self.out, "last.pt, to continue a finished run", "no such file",
                                "Choose another --out, or remove that run to repeat it.")
            self.rows, self.best = [summary["best"]] * summary["epochs"], summary["best"]
            return True
        written = all((self.out / name).exists() for name in ("predictions.npz", "predictions", "config.json"))
        return written and summary["epochs"] == self.epoch >= self.args.epochs

    def device_name(self):
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return f"cpu, {torch.get_num_threads()} threads, {platform.processor() or platform.machine()}"

    def save_checkpoint(self, row):
        """last.pt before best.pt: after a kill between the two, best.pt is written again from last.pt."""
        better = self.best is None or row["val_dice"] > self.best["val_dice"]
        self.best = row if better else self.best
        self.rows.append(row)
        self.save("last.pt", {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict(),
                              "rows": self.rows, "best": self.best, "rng": torch.get_rng_state()})
        if better:
            self.save_best()
        write_csv(self.out / "metrics.csv", self.rows, COLUMNS)

    def save_best(self):
        channels = len(self.train.settings["modalities"])
        self.save("best.pt", {"network": self.network.state_dict(), "epoch": self.best["epoch"],
                              "build": [self.args.network, channels, self.classes, self.args.width],
                              "data": self.train.settings, "normalisation": NORMALISATION,
                              "amp": str(self.amp or torch.float32).removeprefix("torch.")})  # see predict.py

    def save(self, name, state):
        with atomic_path(self.out / name) as partial:
            try:
                torch.save(state, partial)
            except RuntimeError as error:  # torch's word for a full disk
                raise UserError(self.out / name, "room for a checkpoint", " ".join(str(error).split())[:120],
                                "Free some space and repeat the command; the epoch before is kept.") from None

    def load(self, name):
        try:
            return torch.load(self.out / name, map_location=self.device, weights_only=True)
        except Exception as error:  # torch raises half a dozen types for a damaged file
            raise UserError(self.out / name, "a checkpoint of this run", f"a damaged file ({type(error).__name__})",
                            "Remove the run directory and start again.") from None

    def load_checkpoint(self):
        if not (self.out / "last.pt").exists():
            return
        state = self.load("last.pt")
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"].cpu())
        self.rows, self.best = state["rows"], state["best"]
        if self.best == self.rows[-1]:
            self.save_best()
        write_csv(self.out / "metrics.csv", self.rows, COLUMNS)

    def finish(self):
        """Predict once more with best.pt, write the masks and summary.json, which marks the run as finished."""
        self.network.load_state_dict(self.load("best.pt")["network"])
        masks = self.predict()
        with atomic_path(self.out / "predictions.npz") as partial, open(partial, "wb") as file:
            np.savez_compressed(file, **{scan.name: masks[scan.rows] for scan in self.val.scans})
        export_predictions(masks, self.val.scans, Path(self.args.data), self.out / "predictions")
        self.live.close()
        seconds = sum(row["seconds"] for row in self.rows)
        write_json(self.out / "summary.json", {"finished": True, "epochs": self.epoch, "best_epoch": self.best["epoch"],
                                               "best": self.best, "seconds": round(seconds, 1)})
        log(f"{self.out}: done in {seconds / 60:.1f} min, best DSC {self.best['val_dice']:.3f} at epoch "
            f"{self.best['epoch']}")

    # What is shown --------------------------------------------------------------------------------------------------

    def progress_bar(self):
        steps = -(-len(self.train) // self.args.batch_size)
        return progress(total=steps * self.args.epochs, initial=steps * self.epoch, desc=live.title(self.out), unit="step",
                        disable=self.args.quiet or not sys.stderr.isatty())

    def report(self, row, bar, masks):
        self.live.report(row, self.rows, bar, self.best is row, lambda: self.overlays(masks))

    def overlays(self, masks):
        """Validation slices with the contours of truth and prediction, for TensorBoard."""
        chosen = live.shown_rows(self.labels, self.val.scans)
        images = self.val.read([at for _, at in chosen]).images[:, 0].numpy()                  # (N, H, W)
        return [(f"validation/{name}", live.overlay(image, self.labels[at] > 0, masks[at] > 0))
                for (name, at), image in zip(chosen, images)]


def score(masks, labels, scans, classes):
    """Validation metrics of one epoch, each the mean over the foreground classes.

    Args:
        masks, labels: (N, H, W) uint8 classes, predicted and true.
        scans: the Scans the N slices belong to, with the spacing of this grid in mm.
        classes: K.

    Returns:
        dict of val_dice (mean over slices), val_dice_3d, val_hd, val_hd95 (mean over scans; mm), val_hd_legacy (mean
        over slices), val_dice_lesion (mean over slices that bear a lesion), val_foreground (share of pixels).
    """
    found = []
    for k in range(1, classes):
        pred, true = masks == k, labels == k
        per_slice = np.array([dice(p, t) for p, t in zip(pred, true)])
        bearing = true.any(axis=(1, 2))
        distances = [hausdorff_pair(pred[scan.rows], true[scan.rows], scan.spacing) for scan in scans]
        found.append({
            "val_dice": per_slice.mean(),
            "val_dice_3d": np.mean([dice(pred[scan.rows], true[scan.rows]) for scan in scans]),
            "val_hd": np.mean([hd for hd, _ in distances]), "val_hd95": np.mean([hd95 for _, hd95 in distances]),
            "val_hd_legacy": np.mean([legacy_hausdorff(p, t) for p, t in zip(pred, true)]),
            "val_dice_lesion": per_slice[bearing].mean() if bearing.any() else np.nan, "val_foreground": pred.mean()})
    means = {name: float(np.mean([one[name] for one in found])) for name in found[0]}
    return {name: value if np.isfinite(value) else None for name, value in means.items()}


def export_predictions(masks, scans, data, folder):
    """Write each scan's mask as NIfTI in the scan's own grid; say so where nibabel is missing (training needs none)."""
    try:
        import nibabel

        from preprocess import restore_mask
    except ImportError:
        log(f"{folder}: not written, nibabel is not installed here; predictions.npz holds the masks")
        return
    with atomic_path(folder) as partial:
        partial.mkdir()
        for scan in scans:
            path = data / "subjects" / scan.name / "meta.json"
            image = restore_mask(masks[scan.rows], read_object(path, {"affine": list, "original_shape": list}, AGAIN))
            nibabel.save(image, partial / f"{scan.name}.nii.gz")


def parse_arguments(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", required=True, help="data folder written by preprocess.py")
    add("--out", required=True, help="run directory, e.g. results/wmh/gdl/seed0")
    add("--loss", default="gdl+boundary", help="gdl, boundary or gdl+boundary (default gdl+boundary)")
    add("--seed", type=int, default=0, help="fixes the initial weights and the order of the slices (default 0)")
    add("--network", default="unet", choices=NETWORKS, help="default unet")
    add("--width", type=int, default=64, help="channels at full resolution (default 64)")
    add("--epochs", type=int, default=200, help="default 200; a finished run goes on when this is raised")
    add("--batch-size", type=int, help="slices (default 8; 4 for isles with --protocol code2018)")
    add("--lr", type=float, default=1e-3, help="Adam's learning rate (default 1e-3)")
    add("--schedule", help="rebalance[:STEP], increase[:STEP], constant:ALPHA or code2018 (default: the protocol's)")
    add("--protocol", choices=("paper", "code2018"), default="paper", help="the paper's text or the authors' code: "
        "loss weights, learning-rate rule, Adam betas, ISLES batch size (default paper)")
    add("--gdl-max-weight", type=float, help="cap of the GDL's class weight, e.g. 1 (default: none, as in the paper)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default auto)")
    add("--amp", default="auto", choices=("auto", "bf16", "off"), help="autocast (default: bf16 where native)")
    add("--compile", action="store_true", help="torch.compile the network: pays after some minutes of training")
    add("--threads", type=int, help="CPU threads (default: all cores)")
    add("--quiet", action="store_true", help="a line per epoch instead of a progress bar")
    args = parser.parse_args(argv)
    try:
        args.schedule = args.schedule or ("code2018" if args.protocol == "code2018" else "rebalance")
        scheduler.alpha(args.schedule, 0)
        build_loss(args.loss)
    except ValueError as error:
        parser.error(str(error))
    limits = {"width": (1, 4096), "epochs": (1, 10**6), "batch_size": (1, 10**5), "threads": (1, 1024),
              "seed": (0, 2**63 - 1), "lr": (1e-12, 1e3), "gdl_max_weight": (1e-30, 1e30)}
    for name, (least, most) in limits.items():
        value = getattr(args, name)
        if value is not None and not least <= value <= most:
            parser.error(f"--{name.replace('_', '-')}: from {least:g} to {most:g}, found {value}")
    return args


if __name__ == "__main__":
    run_program(main)
