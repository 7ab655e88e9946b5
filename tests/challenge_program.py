"""The WMH challenge's five scores, computed with SimpleITK from their description."""

import math

import numpy as np
import SimpleITK as sitk
from scipy.spatial.distance import cdist


def challenge_by_simpleitk(prediction, reference, spacing):
    """The five scores of arrays (X, Y, Z); spacing in mm."""
    def to_image(array):
        image = sitk.GetImageFromArray(np.ascontiguousarray(array.T).astype(np.float64))
        image.SetSpacing([float(mm) for mm in spacing])
        return image

    return scores_of_images(to_image(prediction), to_image(reference))


def scores_of_files(prediction, reference):
    """The five scores of two NIfTI files."""
    return scores_of_images(*(sitk.ReadImage(str(path), sitk.sitkFloat64)
                              for path in (prediction, reference)))


def scores_of_images(predicted, true):
    """The five scores of images of floating-point numbers, in the challenge's order."""
    other = sitk.And(true >= 1.5, true <= 2.5)
    lesion = sitk.And(true >= 0.5, true <= 1.5)
    found = sitk.And(sitk.And(predicted >= 0.5, predicted <= 1000), sitk.Not(other) > 0)

    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(lesion, found)
    volumes = [int(sitk.GetArrayViewFromImage(image).sum()) for image in (lesion, found)]

    edges = []
    for image in (lesion, found):
        edge = sitk.Subtract(image, sitk.BinaryErode(image, (1, 1, 0)))
        places = np.argwhere(sitk.GetArrayFromImage(edge))[:, ::-1].tolist()
        edges.append([edge.TransformIndexToPhysicalPoint(place) for place in places])
    hd95 = math.nan
    if volumes[1]:
        pairs = cdist(*edges)
        hd95 = max(np.percentile(pairs.min(axis=axis), 95) for axis in (0, 1))

    shares = []
    for image, by in ((lesion, found), (found, lesion)):
        labels = sitk.GetArrayFromImage(sitk.ConnectedComponent(image, True))
        hit = np.unique(labels[sitk.GetArrayFromImage(by) > 0])
        shares.append(np.count_nonzero(hit) / labels.max() if labels.any() else 1.0)
    return (overlap.GetDiceCoefficient(), hd95, 100 * abs(volumes[1] - volumes[0]) / volumes[0],
            shares[0], 2 * shares[0] * shares[1] / (sum(shares) or 1))
