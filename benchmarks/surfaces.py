"""Scores of surfaces beside medpy, MONAI and surface-distance, on 256x256x48 masks with lesions.

All of them measure HD, HD95, ASSD and surface Dice of the same pair; here that is one call,
`surface_scores`. Values are compared where the definitions coincide: medpy (HD, HD95 pooled, ASSD)
and MONAI (HD, HD95 directed, ASSD, surface Dice). DeepMind's surface-distance measures a mesh
between the voxels; it is timed where it is installed, and its values are shown beside ours.
"""

import warnings
from functools import partial

import monai
import numpy as np
import torch
from medpy.metric import binary

from benchmarks.common import alternate, show
from benchmarks.metrics import SPACING, masks
from metrics import surface_scores

TOLERANCE, TARGET = 1.5, 1  # mm; ahead of each


def run(args, folder):
    pair = masks("lesions")
    ours = partial(surface_scores, *pair, SPACING, TOLERANCE)
    results = {"values": {"here": ours()}}

    for name, scores in (("medpy", of_medpy), ("monai", of_monai), ("surface-distance", of_mesh)):
        theirs = partial(scores, *pair)
        try:
            values = theirs()
        except ImportError:
            print(f"{name}: not installed (pip install {name}), left out")
            continue

        if name != "surface-distance":
            for score, value in values.items():
                np.testing.assert_allclose(value, ours()[score], rtol=1e-5, err_msg=score)
        results["values"][name] = values
        result = alternate(theirs, ours, args.rounds)
        results[name] = show(f"{', '.join(values)}, {name}", result, TARGET)

    for name, values in results["values"].items():
        print(f"{name:<20}", *(f"{score} {value:.4f}" for score, value in values.items()))
    return results


def of_medpy(pred, target):
    """medpy has no surface Dice."""
    return {"hd": binary.hd(pred, target, SPACING), "hd95": binary.hd95(pred, target, SPACING),
            "assd": binary.assd(pred, target, SPACING)}


def of_monai(pred, target):
    pred, target = (torch.from_numpy(mask)[None, None] for mask in (pred, target))
    metrics, options = monai.metrics, {"spacing": SPACING, "include_background": True}
    distance = metrics.compute_hausdorff_distance
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that these functions take batches
        found = {
            "hd": distance(pred, target, **options),
            "hd95_directed": distance(pred, target, percentile=95, **options),
            "assd": metrics.compute_average_surface_distance(
                pred, target, symmetric=True, **options),
            "surface_dice": metrics.compute_surface_dice(
                pred, target, class_thresholds=[TOLERANCE], **options),
        }
    return {name: value.item() for name, value in found.items()}


def of_mesh(pred, target):
    """Its average distance is one of each direction; their mean stands for the ASSD."""
    import surface_distance

    distances = surface_distance.compute_surface_distances(target, pred, SPACING)
    return {
        "hd": surface_distance.compute_robust_hausdorff(distances, 100),
        "hd95_directed": surface_distance.compute_robust_hausdorff(distances, 95),
        "assd": float(np.mean(surface_distance.compute_average_surface_distance(distances))),
        "surface_dice": surface_distance.compute_surface_dice_at_tolerance(distances, TOLERANCE),
    }
