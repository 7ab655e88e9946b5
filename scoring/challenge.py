"""The WMH 2017 challenge's five scores, by the rules of its own program (Kuijf et al. 2019).

They differ from scoring label 1 with label 2 left out in what a prediction may hold: every value of
it from 0.5 to 1000 is lesion (1 or more, in whole numbers), whichever label it was meant to be, and
so a probability of 0.5 is. Label 2 of the reference (other pathology) is left out of both masks;
label 2 of the prediction is lesion.
"""

import numpy as np

from metrics import absolute_volume_difference, challenge_hausdorff95, dice, lesion_detection

LESION, OTHER = (0.5, 1.5), (1.5, 2.5)  # of the reference
PREDICTED = (0.5, 1000)                 # of the prediction; all ends belong to their range


def wmh_masks(prediction, reference):
    """(pred, target, left_out) bool masks of label images or probabilities.

    Args:
        prediction, reference: arrays of numbers, of one shape.

    Returns:
        what counts as lesion in each, and the voxels left out of the prediction.
    """
    prediction, reference = np.asarray(prediction), np.asarray(reference)
    if prediction.shape != reference.shape:
        raise ValueError(f"reference: expected the shape of prediction, {prediction.shape}, "
                         f"got {reference.shape}")
    left_out = _within(reference, OTHER)
    return _within(prediction, PREDICTED) & ~left_out, _within(reference, LESION), left_out


def _within(values, ends):
    return (values >= ends[0]) & (values <= ends[1])


def wmh_scores(prediction, reference, spacing, slice_axis=-1):
    """The challenge's scores of one scan, in its order and under evaluate.py's names.

    Where nothing is predicted there is no distance: NaN, which stays out of a mean. A reference
    without lesions does not occur in the challenge, and its program has no score for it; here it
    has those of `metrics`, and NaN for the distance.

    Args:
        prediction, reference: label images (or probabilities, of the prediction) in 3-D.
        spacing: voxel size in mm along each axis.
        slice_axis: the axis across slices.

    Returns:
        {"dice", "hd95_challenge" (mm), "volume_difference" (% of the reference), "lesion_recall",
        "lesion_f1"}.
    """
    return wmh_scores_of_masks(*wmh_masks(prediction, reference)[:2], spacing, slice_axis)


def wmh_scores_of_masks(pred, target, spacing, slice_axis=-1):
    """`wmh_scores` of two masks that `wmh_masks` gave."""
    recall, _, f1 = lesion_detection(pred, target)
    distance = float("nan")
    if pred.any() and target.any():
        distance = challenge_hausdorff95(pred, target, spacing, slice_axis, empty="nan")

    return {
        "dice": dice(pred, target),
        "hd95_challenge": distance,
        "volume_difference": absolute_volume_difference(pred, target),
        "lesion_recall": recall,
        "lesion_f1": f1,
    }
