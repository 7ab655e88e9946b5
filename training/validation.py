"""The validation scans of an epoch: predicted, and scored while the next ones are predicted."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from scoring import scan_scores
from scoring.scores import PER_SCAN, PER_SLICE, epoch_scores, from_array, score_scan, to_array
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
        (scores, as columns of metrics.csv; the epoch's rows of scores.csv; predicted classes,
        uint8 (N, H, W)).
    """
    group, labels, names = trainer.group, val.labels(), val.settings.classes
    masks = np.zeros_like(labels)                                               # (N, H, W)
    scores = np.zeros((len(val), len(names) - 1, len(PER_SLICE + PER_SCAN)))

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        jobs = []
        for scan, found in predict(trainer, val, group.share(val.scans), args, epoch, between):
            masks[scan.rows] = found
            job = pool.submit(score_scan, found, labels[scan.rows], scan.spacing, len(names))
            jobs.append((scan, job))
        for scan, job in jobs:
            scores[scan.rows] = to_array(job.result())

    # Each process has zeros where another one has a number.
    for array in (masks, scores):
        group.sum(torch.from_numpy(array))

    scans = [from_array(scores[scan.rows]) for scan in val.scans]
    named = [(scan.name, of_scan) for scan, of_scan in zip(val.scans, scans, strict=True)]
    return epoch_scores(scans, names), scan_scores.rows_of(epoch, named, names), masks


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
        nonfinite.refuse_undefined(masks, args.out, epoch)
        yield scan, masks
