"""One training run: train, validate every epoch, checkpoint, resume.

Examples:
  python main.py --data data/wmh --loss gdl+boundary --seed 0 --out results/wmh/gdl+boundary/seed0
  python main.py --data data/wmh --loss dice+ce+boundary --schedule increase \\
      --out results/wmh/dice+ce+boundary/seed0
  python main.py --data data/mine --network resunet --width 32 --epochs 100 --device cuda:1 \\
      --loss gdl --out results/mine/gdl/seed0
  python main.py --data data/wmh-dims3 --dims 3 --patch 32 128 128 --width 32 \\
      --out results/wmh-dims3/gdl+boundary/seed0

The defaults are the paper's: UNet of width 64, Adam 1e-3, batch 8, learning rate halved after 20
epochs without a better validation score, alpha falling from 1 by 0.01 per epoch, 200 epochs. With
another number of epochs alpha falls by 2 / epochs, so that it too stops half way (--schedule). To
compare losses take --lr-schedule poly, which trains all at the same rates. The loss is
alpha L_regional + (1 - alpha) L_boundary (Eq. 6), or just one of the two parts. The best epoch is
the one with the highest mean DSC over the 2-D validation slices (--score).

With --dims 3 it trains on random patches of the volumes and predicts in overlapping patches; the
boundary loss then needs 3-D distance maps (preprocess.py --map-dims 3 --unit mm). An epoch draws as
many patches as would fill the volumes.

The same command continues an unfinished run, bit for bit on a CPU, and does nothing on a finished
one; with more --epochs a finished run continues (not with --lr-schedule poly). Ctrl-C stops the run
after the current step, which is kept. Precision, device, threads and epochs may change when a run
continues; settings that define the run may not, and the error names the difference. Without
--schedule a run keeps its own STEP of alpha.

Written to --out:
  config.json, metrics.csv       all settings and versions; a row per epoch
  scores.csv                     every measure of every validation scan, epoch by epoch
  last.pt, last.best.pt          everything to continue
  best.pt                        the best epoch's network, for predict.py
  predictions/, predictions.npz  the best epoch's validation masks, on each scan's own grid and on
                                 the network's
  progress.png, TensorBoard events, summary.json once it is finished

Exit status: 0, 2 with one line that says what is wrong, 130 after Ctrl-C, 143 after SIGTERM.
"""

if __name__ == "__main__":  # imports this file as a module; see start
    from utils import start
    start("main")

from contextlib import nullcontext
from pathlib import Path

import scheduler
from dataloader import Slices, batches, make_resident, one_hot
from losses_regional import build_loss, parts_of
from networks import build
from scans.folder import is_data_folder
from scans.resampling import export_predictions
from training import monitor, options, schedules
from training.augmentation import Augmentation, in_words
from training.best_model import describe_model
from training.config import checked_settings, open_training, refuse_missing_score
from training.devices import choose_amp, is_native, seed_everything, set_up_device
from training.epoch import training_columns
from training.maps import add_maps
from training.parallel import Group
from training.progress import announce
from training.run_folder import RunFolder, columns_of, file_of_others, score_of
from training.step_graph import can_record
from training.stopping import StopRequest
from training.trainer import Trainer
from training.validation import predict, validate
from training.volumes_in_bfloat16 import amp_of_volumes
from utils import UserError, exclusive, log


def main(argv=None):
    args = parse_arguments(argv)
    asked_patch, out = args.patch, Path(args.out)
    refuse_other_folders(args.data, out)
    train = open_training(args)  # before the run folder is made

    with Group() as group, exclusive(out) if group.first else nullcontext():
        if asked_patch not in (None, args.patch):
            log(f"--patch {' '.join(map(str, asked_patch))}: larger than every volume; "
                f"{' '.join(map(str, args.patch))} is taken")
        trainer, val, run_folder = prepare(args, train, group)

        finished = run_folder.is_finished(args.epochs)
        group.wait()  # the first process writes from here on
        if finished:
            log(f"{out}: finished, {run_folder.epoch} epochs, {run_folder.best_in_words()}")
            return 0

        log(f"{out}: {run_folder.where_it_begins()}, "
            f"{monitor.describe_run(args, trainer, train, val)}")
        for line in schedules.lines(args, train.steps(args.batch_size)):
            log(f"{out}: {line}")
        if args.augment:
            log(f"{out}: {in_words(train)}")
        if group.first and run_folder.epoch < args.epochs:
            run_folder.note_session(args.epochs)
        elif group.first:
            run_folder.note_end()

        stop = StopRequest(run_folder, group)
        about = announce(args, train, val, trainer.device)
        with (monitor.progress_bar(args, train, run_folder, about) as bar, stop.listening(),
              run_folder.background):
            run_epochs(args, trainer, train, val, run_folder, stop, bar)
            if group.first:
                finish(args, trainer, val, run_folder, stop)
        group.wait()
    return 0


# The training loop --------------------------------------------------------------------------------

def run_epochs(args, trainer, train, val, run_folder, stop, bar):
    """Train and validate, from the epoch under way or the next one to the last."""
    shown = monitor.Monitor(run_folder.path, args.epochs, schedules.floor_of(args),
                            hidden=not trainer.group.first)

    for epoch in range(run_folder.epoch, args.epochs):
        alpha, beta = weights_of_parts(args, epoch)
        lr = learning_rate(args, run_folder.rows)
        trainer.set_learning_rate(lr)

        trained = train_one_epoch(args, trainer, train, alpha, beta, run_folder, stop, bar)
        scores, all_scores, masks = validate(trainer, val, args, epoch, stop.obey)
        stop.obey()

        row = {"epoch": epoch, "alpha": scheduler.alpha(args.schedule, epoch), "lr": lr,
               **trained, **scores, "seconds": round(run_folder.epoch_under_way.elapsed(), 3)}

        # A thread writes it while the next epoch trains; once it is written it is shown.
        run_folder.save_epoch(row, all_scores, lambda row, is_best, masks=masks: shown.report(
            row, run_folder.rows, bar, is_best, lambda: monitor.validation_overlays(val, masks)))

    run_folder.background.finish()
    shown.close()


def train_one_epoch(args, trainer, train, alpha, beta, run_folder, stop, bar):
    """One pass over the training slices; returns the columns of metrics.csv about it."""
    trainer.network.train()
    weights = trainer.set_weights(alpha, beta)  # on the device
    group, epoch, size = trainer.group, run_folder.epoch, args.batch_size
    order = train.order(args.seed, epoch)
    under_way = run_folder.begin_epoch(train.steps(size))

    augment = Augmentation(train, trainer.loss, args.seed, epoch) if args.augment else None

    # An epoch that was stopped continues after its last step. The rest is in batches of all
    # processes, of which each takes its share.
    rest = order[under_way.step * size:]
    for share in batches(train, rest, size, trainer.device, group.rank, group.world):
        rows = order[under_way.step * size:][:size]
        if augment:
            share = augment(share, rows, under_way.step, group.rank, group.world)

        # Forward pass and loss, backward pass, Adam's step.
        bad, losses = trainer.step(weighted_losses, share, len(rows), *weights)

        under_way.add(bad, losses, len(share.images))
        bar.update()
        stop.obey()

    return training_columns(under_way, train, order, size, group, run_folder.path, epoch)


def weighted_losses(trainer, batch, alpha, beta):
    """Eq. 6 of a batch, and its terms {name: scalar}; one graph with --compile."""
    # Forward pass: softmax s and one-hot ground truth g.
    logits = trainer.forward(batch.images)                                  # (B, K, *spatial)
    s, g = logits.softmax(1), one_hot(batch.labels, logits.shape[1])        # (B, K, *spatial)

    # Eq. 6, with Eq. 1 (or what --loss puts in its place) and Eq. 5.
    terms = trainer.loss.parts(s, g, batch.distance, logits, batch.maps)
    regional, boundary = terms.get(trainer.loss.name, 0), terms.get("boundary", 0)
    loss = alpha * regional + beta * boundary

    return loss, terms


def weights_of_parts(args, epoch):
    """(alpha, beta) of Eq. 6; a loss that has only one of the parts weighs 1."""
    if not all(parts_of(args.loss)):
        return 1.0, 1.0
    return scheduler.weights(args.schedule, epoch)


def learning_rate(args, rows):
    """Adam's learning rate after these epochs."""
    if args.lr_schedule == "constant":
        return args.lr
    if args.lr_schedule == "poly":
        return scheduler.poly_lr(len(rows), args.epochs, args.lr)
    rule = scheduler.code2018_lr if args.protocol == "code2018" else scheduler.plateau_lr
    return rule([score_of(row, args.score) for row in rows], args.lr)


# Before and after it ------------------------------------------------------------------------------

def refuse_other_folders(data, out):
    """UserError if the run folder would be a data folder, lie in one, or hold files of others."""
    inside = [folder for folder in (out, *out.resolve().parents)
              if is_data_folder(folder) or folder.resolve() == Path(data).resolve()]
    other = file_of_others(out)
    if inside or other:
        raise UserError(out, "a new folder or one of this run",
                        "a data folder" if inside else f"{other} of something else in it",
                        "Choose another --out.")


def prepare(args, train, group):
    """Everything up to the first step: (Trainer, validation Slices, RunFolder).

    The run folder has read what an earlier session left, and the trainer is in that state.
    """
    device = set_up_device(args, group)
    val, data = Slices(args.data, "val", args.fold), train.settings
    refuse_missing_score(args.score, val)
    settings = checked_settings(args, train, Path(args.out))
    group.note_own_sums(args.loss, args.loss_options)

    loss = build_loss(args.loss, len(data.classes), args.gdl_max_weight, args.loss_options,
                      args.boundary_classes)
    add_maps(train, loss, args.dims)
    if args.dims == 2:
        make_resident([train, val], device)

    seed_everything(args.seed)
    architecture = [args.network, len(data.modalities), len(data.classes), args.width]
    network = build(*architecture)
    betas = (0.9, 0.99) if args.protocol == "code2018" else (0.9, 0.999)
    amp = (amp_of_volumes(args.amp, device, architecture, args.patch, args.batch_size)
           if args.dims == 3 else choose_amp(args.amp, device))
    trainer = Trainer(network, loss, device, amp, args.lr, betas, args.compile, group,
                      can_record(args.cuda_graph, device, group, amp))

    model = describe_model(architecture, data, args.patch, trainer.amp)
    run_folder = RunFolder(args.out, trainer, settings, model, columns_of(args.loss, data.classes))
    group.in_turn(run_folder.resume)
    return trainer, val, run_folder


def finish(args, trainer, val, run_folder, stop):
    """Write the masks of the best epoch's network, and mark the run as finished."""
    trainer.network.load_state_dict(run_folder.read_best())
    amp = run_folder.amp_of_best()
    if args.dims == 2 and is_native(amp, trainer.device):
        trainer.amp = amp  # in which it was validated
    scans = predict(trainer, val, val.scans, args, run_folder.epoch, stop.obey)
    masks = {scan.name: found for scan, found in scans}                     # (S, H, W) uint8 each

    run_folder.write_masks(masks)
    export_predictions(masks, Path(args.data), run_folder.path / "predictions")
    run_folder.write_summary()
    minutes = run_folder.seconds / 60
    log(f"{run_folder.path}: done in {minutes:.1f} min, {run_folder.best_in_words()}")


def parse_arguments(argv):
    return options.parse(argv, __doc__)
