"""Metrics: HD and HD95 beside medpy's, and what an epoch's validation metrics cost."""

from functools import partial

import numpy as np
from scipy.ndimage import gaussian_filter

from benchmarks import baseline
from benchmarks.common import alternate, duration, seconds, show, significant
from metrics import hausdorff_pair
from scoring.scores import epoch_scores, score_scan

SHAPE, SPACING = (256, 256, 48), (0.96, 0.95, 3.0)  # mm
LESIONS_TARGET, ANY_TARGET = 40, 2.5


def masks(kind, shape=SHAPE, seed=0):
    """A (prediction, target) pair of bool volumes.

    lesions: both are blobs deep in the brain, 0.3 % of the volume, that overlap in part. noise: the
    prediction is half of all voxels, as of an untrained network. brain: it is a whole ellipsoid, as
    in the first epochs.
    """
    rng = np.random.default_rng(seed)
    grid = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")

    def ellipsoid(scale):
        radii = (0.8, 0.65, 0.9)
        return sum((axis / (scale * radius)) ** 2 for axis, radius in zip(grid, radii)) < 1

    def rough():
        field = gaussian_filter(rng.normal(size=shape), (3, 3, 1))
        return field / field.std()

    def largest(field):
        field = np.where(ellipsoid(0.7), field, -np.inf)
        return field > np.quantile(field, 0.997)

    field = rough()
    target = largest(field)
    if kind == "lesions":
        return largest(field + 0.5 * rough()), target
    return rng.random(shape) < 0.5 if kind == "noise" else ellipsoid(1), target


def run(args, folder):
    results = {}
    for kind, target in (("lesions", LESIONS_TARGET), ("brain", ANY_TARGET), ("noise", ANY_TARGET)):
        pair = masks(kind)
        theirs = partial(baseline.surface_metrics, *pair, SPACING)
        ours = partial(hausdorff_pair, *pair, SPACING)
        np.testing.assert_allclose(ours(), theirs(), rtol=1e-9)
        result = alternate(theirs, ours, args.rounds)
        results[f"hd_hd95_{kind}"] = show(f"HD + HD95, {kind}, 256x256x48", result, target)

    for kind in ("lesions", "brain", "noise"):
        spent = seconds(partial(validate, [masks(kind, seed=seed) for seed in range(10)]))
        print(f"{f'all validation metrics of 10 scans, {kind}':<44} {'':>9} "
              f"{duration(spent):>9}", flush=True)
        results[f"epoch_{kind}_s"] = significant(spent)
    return results


def validate(pairs):
    """All that metrics.csv needs of scans given as (prediction, target), one after the other."""
    pairs = [[np.moveaxis(mask, 2, 0).astype(np.uint8) for mask in pair] for pair in pairs]
    return epoch_scores([score_scan(*pair, SPACING[::-1], 2) for pair in pairs])
