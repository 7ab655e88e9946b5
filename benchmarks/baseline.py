"""What people use today: the code path of 2018, to measure against.

It was written here from its published description. One .npy file per slice and array; labels made
one-hot and turned into distance maps by SciPy in the data set, for every item and epoch; losses
that check their arguments on every call; float32 in torch's default memory layout; unfused Adam;
metrics by medpy on full volumes; a PNG of the prediction per slice and epoch. Good enough to train
with, and slow.
"""

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from PIL import Image
from scipy.ndimage import distance_transform_edt
from torch.utils.data import DataLoader, Dataset

CLASSES = 2


# Preprocessing ------------------------------------------------------------------------------------

def preprocess(raw, out, size=256, jobs=2):
    """Every WMH scan below `raw` as a file per slice and array; a process pool over the scans."""
    scans = sorted(path.parent for path in Path(raw).rglob("wmh.nii.gz"))
    for name in ("flair", "t1", "label", "maps", "png"):
        (out / name).mkdir(parents=True)
    with ProcessPoolExecutor(jobs) as pool:
        list(pool.map(partial(slice_scan, out=out, size=size), scans))


def slice_scan(scan, out, size):
    """One scan: its volume resized, a distance map per class, both in 3-D, then slice by slice."""
    volumes = {name: nib.load(scan / "pre" / f"{name.upper()}.nii.gz") for name in ("flair", "t1")}
    volumes = {name: np.asarray(image.dataobj, np.float32) for name, image in volumes.items()}
    label = np.asarray(nib.load(scan / "wmh.nii.gz").dataobj)

    shape = (size, size, label.shape[2])
    volumes = {name: resized((volume - volume.min()) / (volume.max() - volume.min()), shape)
               for name, volume in volumes.items()}
    label = resized(label, shape).astype(np.uint8)
    label[label == 2] = 0
    one_hot = np.stack([label == k for k in range(CLASSES)])               # (K, H, W, S)
    maps = distance_maps(one_hot).astype(np.int16)

    for index in range(shape[2]):
        stem = f"{scan.name}_{index}"
        for name, volume in volumes.items():
            np.save(out / name / f"{stem}.npy", volume[..., index].astype(np.float32))
            picture = Image.fromarray((255 * volume[..., index]).astype(np.uint8))
            picture.save(out / "png" / f"{stem}_{name}.png")
        np.save(out / "label" / f"{stem}.npy", label[..., index])
        np.save(out / "maps" / f"{stem}.npy", maps[..., index])


def resized(volume, shape):
    """A volume by scikit-image."""
    from skimage.transform import resize
    return resize(volume, shape, mode="constant", preserve_range=True, anti_aliasing=False)


def distance_maps(one_hot_label):
    """(K, *spatial) bool -> (K, *spatial): EDT outside a class, -(EDT - 1) inside; 0 if absent."""
    maps = np.zeros(one_hot_label.shape, np.float32)
    for k, inside in enumerate(one_hot_label):
        if inside.any():
            outside = ~inside
            maps[k] = (distance_transform_edt(outside) * outside
                       - (distance_transform_edt(inside) - 1) * inside)
    return maps


# Loading ------------------------------------------------------------------------------------------

class SliceFiles(Dataset):
    """The slices of `preprocess`; the distance map is computed for every item."""

    def __init__(self, folder):
        self.folder = folder
        self.stems = sorted(path.stem for path in (folder / "label").glob("*.npy"))

    def __len__(self):
        return len(self.stems)

    def __getitem__(self, index):
        stem = self.stems[index]
        image = np.stack([np.load(self.folder / name / f"{stem}.npy")
                          for name in ("flair", "t1")])                    # (C, H, W)
        label = np.load(self.folder / "label" / f"{stem}.npy").astype(np.int64)
        target = class2one_hot(torch.from_numpy(label)[None], CLASSES)[0]  # (K, H, W)
        maps = torch.from_numpy(distance_maps(target.numpy().astype(bool)))
        return torch.from_numpy(image), target, maps


def loader(folder, batch_size=8, workers=0):
    return DataLoader(SliceFiles(folder), batch_size, shuffle=True, num_workers=workers)


# Losses with their checks -------------------------------------------------------------------------

def only_holds(tensor, values):
    return set(torch.unique(tensor.cpu()).tolist()) <= set(values)


def is_simplex(tensor):
    total = tensor.sum(1).float()
    return torch.allclose(total, torch.ones_like(total))


def is_one_hot(tensor):
    return is_simplex(tensor) and only_holds(tensor, (0, 1))


def class2one_hot(labels, classes):
    assert only_holds(labels, range(classes))
    target = torch.stack([labels == k for k in range(classes)], dim=1).type(torch.int32)
    assert is_one_hot(target)
    return target


def generalized_dice(probs, target):
    """Eq. 1 for every image, both classes."""
    assert is_simplex(probs) and is_simplex(target) and is_one_hot(target)
    target = target.float()
    weight = 1 / (torch.einsum("bkhw->bk", target) + 1e-10) ** 2
    overlap = weight * torch.einsum("bkhw,bkhw->bk", probs, target)
    total = weight * (torch.einsum("bkhw->bk", probs) + torch.einsum("bkhw->bk", target))
    return (1 - 2 * (overlap.sum(1) + 1e-10) / (total.sum(1) + 1e-10)).mean()


def boundary(probs, maps):
    """Eq. 5 for the foreground."""
    assert is_simplex(probs) and not is_one_hot(maps)
    return torch.einsum("bkhw,bkhw->bkhw", probs[:, 1:], maps[:, 1:].float()).mean()


def objective(probs, target, maps, alpha=0.5):
    """Eq. 6."""
    return alpha * generalized_dice(probs, target) + (1 - alpha) * boundary(probs, maps)


# Training and validation --------------------------------------------------------------------------

def train_step(network, optimizer, image, target, maps):
    """Forward, checked losses, backward, Adam; then the batch's DSC, as the 2018 code logged it.

    Returns the loss.
    """
    optimizer.zero_grad()
    probs = torch.softmax(network(image), dim=1)
    loss = objective(probs, target, maps)
    loss.backward()
    optimizer.step()
    predicted = class2one_hot(probs.argmax(1), CLASSES)
    batch_dice(predicted, target)
    return loss.item()


def batch_dice(predicted, target):
    """Slice-wise DSC (B, K); checked like the losses."""
    assert is_one_hot(predicted) and is_one_hot(target)
    overlap = torch.einsum("bkhw->bk", predicted & target).float()
    return (2 * overlap + 1e-8) / (torch.einsum("bkhw->bk", predicted + target).float() + 1e-8)


def surface_metrics(pred, target, spacing):
    """(hd, hd95) by medpy on the full volume."""
    from medpy.metric.binary import hd, hd95
    return hd(pred, target, voxelspacing=spacing), hd95(pred, target, voxelspacing=spacing)


def save_pngs(masks, folder):
    """A PNG per predicted slice."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, mask in enumerate(masks):
        Image.fromarray(mask * 255).save(folder / f"{index}.png")
