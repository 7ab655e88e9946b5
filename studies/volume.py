"""Claim C8 without whole runs: does the joint loss train a small 3-D network on one lesion?"""

import numpy as np
import torch
from torch import nn

from distance import signed_distance
from losses_regional import build_loss
from metrics import dice
from scans.folder import intensities
from scheduler import weights
from scoring.cases import validation_cases
from scoring.rows import BOTH, REGIONAL


def network_3d(channels, width=8):
    """Two 3x3x3 convolutions with batch normalisation and ReLU, then 1x1x1 to two classes."""
    layers = []
    for count in (channels, width):
        layers += [nn.Conv3d(count, width, 3, padding=1, bias=False), nn.BatchNorm3d(width),
                   nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv3d(width, 2, 1))


def lesion_volume(case, half=(8, 32, 32)):
    """The surroundings of a case's lesions.

    Args:
        case: a scoring.cases.Case.
        half: voxels on either side of their centre along slices, rows and columns.

    Returns:
        (image (1, C, s, h, w), truth bool (s, h, w), phi (s, h, w), of the 3-D map in mm).
    """
    truth = case.lesion
    phi = signed_distance(truth, case.spacing)  # (S, H, W) mm

    centre = np.argwhere(truth).mean(0).astype(int)
    box = tuple(slice(max(0, c - h), c + h) for c, h in zip(centre, half, strict=True))
    image = intensities(case.images[box[0], :, box[1], box[2]])
    return torch.from_numpy(image).movedim(1, 0)[None], truth[box], phi[box]


def train_3d(name, image, truth, phi, steps, seed=0):
    """Train with a loss on one volume while alpha falls from 1 by 1 / steps.

    Returns:
        (loss of every step, DSC of the last).
    """
    torch.manual_seed(seed)
    network = network_3d(image.shape[1])
    target = torch.from_numpy(np.stack([~truth, truth]))[None]  # (1, 2, s, h, w)
    distance = torch.from_numpy(phi.copy())[None, None]         # (1, 1, s, h, w)
    loss, optimizer = build_loss(name), torch.optim.Adam(network.parameters(), 1e-2)

    values = []
    for step in range(steps):
        probs = network(image).softmax(1)
        value, _ = loss(probs, target, distance, weights(f"rebalance:{1 / steps}", step))

        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))
    return values, dice(probs[0].argmax(0).numpy() == 1, truth)


def train_on_largest_lesion(results, steps=60):
    """Train a small 3-D network with the joint loss around the largest lesion, the map in mm.

    Returns:
        {"shape", "steps", "first", "last" (loss), "dsc", "trained": the loss falls and DSC passes
        0.5}; where it does not, also "dsc_alone", the DSC with GDL alone. None if no validation
        scan bears a lesion.
    """
    case = max(validation_cases(results), key=lambda case: int(case.lesion.sum()))
    if not case.lesion.any():
        return None
    image, truth, phi = lesion_volume(case)
    values, score = train_3d(BOTH, image, truth, phi, steps)

    falls = bool(np.isfinite(values).all()) and values[-1] < values[0]
    found = {"shape": truth.shape, "steps": steps, "first": values[0], "last": values[-1],
             "dsc": float(score), "trained": falls and score > 0.5}
    if not found["trained"]:
        found["dsc_alone"] = float(train_3d(REGIONAL, image, truth, phi, steps)[1])
    return found
