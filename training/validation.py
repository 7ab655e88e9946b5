"""The validation scans of an epoch: predicted, and scored while the next ones are predicted."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch

from scoring import scan_scores
from scoring.scores import (
    OVERLAP,
    PER_SCAN,
    PER_SLICE,
    epoch_scores,
    from_array,
    overlap_scores,
    score_overlap,
    score_scan,
    to_array,
)
from training import nonfinite
from training.inference import nothing, scans_by_patches, scans_by_slices


def validate(trainer, val, args, epoch, between=nothing):
    """Predict and score the validation scans; each process takes some of them.

    Args:
        trainer: a Trainer.
        val: the Slices of the validation scans.
        args: main.py's options.
        epoch: its number, for errors.
        between: called after each batch.

    Returns:
        (scores, columns of metrics.csv with --score among them; a function without arguments that
        gives all of these columns and the epoch's rows of scores.csv; predicted classes, uint8
        (N, H, W)).
    """
    labels, classes = val.labels(), len(val.settings.classes)
    masks = np.zeros_like(labels)                                               # (N, H, W)
    later = is_scored_later(trainer, args)
    jobs = []

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for scan, found in predict(trainer, val, trainer.group.share(val.scans), args, epoch,
                                   between):
            masks[scan.rows] = found
            pair = found, labels[scan.rows]
            jobs.append((scan, pool.submit(score_overlap, *pair, classes) if later else
                         pool.submit(score_scan, *pair, scan.spacing, classes)))
        scored = [(scan, job.result()) for scan, job in jobs]

    if later:
        return (overlap_scores([scores for _, scores in scored]),
                partial(score_all, val, masks, labels, epoch), masks)

    whole = columns_of(epoch, val, exchange(trainer.group, val, masks, scored))
    return whole[0], lambda: whole, masks


def is_scored_later(trainer, args):
    """Are HD, HD95 and the lesions of an epoch computed while the next one trains?

    On a GPU, which trains meanwhile; a CPU would only do the same work in another order. What
    chooses the best epoch and the learning rate must be known before.
    """
    return (trainer.device.type == "cuda" and trainer.group.world == 1
            and args.score in OVERLAP)


def score_all(val, masks, labels, epoch):
    """Every score of an epoch, from its masks (N, H, W): see `columns_of`."""
    classes = len(val.settings.classes)

    def score(scan):
        return score_scan(masks[scan.rows], labels[scan.rows], scan.spacing, classes)

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return columns_of(epoch, val, list(pool.map(score, val.scans)))


def exchange(group, val, masks, scored):
    """The scores of all scans in each process; `masks` (N, H, W) then has all of them too.

    Args:
        scored: (Scan, what `score_scan` gave) of those of this process.
    """
    kinds = len(PER_SLICE + PER_SCAN)
    scores = np.zeros((len(val), len(val.settings.classes) - 1, kinds))
    for scan, found in scored:
        scores[scan.rows] = to_array(found)

    # Each process has zeros where another one has a number.
    for array in (masks, scores):
        group.sum(torch.from_numpy(array))
    return [from_array(scores[scan.rows]) for scan in val.scans]


def columns_of(epoch, val, scans):
    """(columns of metrics.csv, rows of scores.csv) from the scores of all scans, in val's order."""
    names = val.settings.classes
    named = [(scan.name, scores) for scan, scores in zip(val.scans, scans, strict=True)]
    return epoch_scores(scans, names), scan_scores.rows_of(epoch, named, names)


@torch.inference_mode()
def predict(trainer, val, scans, args, epoch, between=nothing):
    """Yield (Scan, its classes, uint8 (S, H, W)) for neighbouring scans, each when it is complete.

    Args:
        scans: neighbours among `val.scans`.
        trainer, val, args, epoch, between: see `validate`.

    Raises:
        UserError: an output of the network is not finite.
    """
    trainer.network.eval()
    by, size = scans_by_slices, args.batch_size
    if args.patch:
        by, size = scans_by_patches, args.patch
    if trainer.group.world > 1:  # the processes have different scans, and stop together after them
        between = nothing

    for scan, masks in by(trainer.segment, val, scans, size, trainer.device, between):
        nonfinite.refuse_undefined(masks, args.out, f"the validation slices in epoch {epoch}")
        yield scan, masks
