"""One scan to the arrays of the data folder."""

import hashlib

import nibabel as nib
import numpy as np

from distance import signed_distance, signed_distance_slices
from scans.datasets import source_hashes
from scans.folder import IGNORED, array_order, reference_of
from scans.nifti import label_values
from scans.resampling import from_ras, gzipped, label_lookup, network_input, resample_label
from utils import atomic_path, write_json

BLOCK = 4096             # bytes that a file system gives to a file at least


def convert_subject(subject, volumes, spec, out, settings):
    """Write one subject's folder: images, labels, distance maps and geometry.

    images.npy (S, C, H, W) uint16; labels.npy (S, H, W) uint8 classes; distance.npy (S, K - 1, H, W) float32 phi_G;
    blocks of zeros take no space on disk; meta.json. Beside it references/<name>.nii.gz: the classes on
    the scan's own grid, with 255 where the challenge's evaluation leaves voxels out.

    Args:
        volumes: {modality or "label": (voxels, image)} of a scan that passed its checks, in RAS+.
    """
    size = settings.size
    scans = [volumes[name][0] for name in spec.modalities]
    raw_label, label_image = label_values(volumes["label"][0]), volumes["label"][1]
    images = network_input(scans, size)
    labels = resample_label(raw_label, spec.label_map, size, settings.label_interpolation)
    scale = np.array(raw_label.shape[:2]) / size
    spacing = nib.affines.voxel_sizes(label_image.affine) * [*scale, 1]
    stored = nib.load(subject.files["label"][0])  # its header: how the scan's own grid lies
    with atomic_path(reference_of(out, subject.name)) as temporary:
        classes = label_lookup({**spec.label_map, **dict.fromkeys(spec.ignore, IGNORED)})[raw_label]
        temporary.write_bytes(gzipped(nib.Nifti1Image(from_ras(classes, stored.affine), stored.affine)))
    with atomic_path(out / "subjects" / subject.name) as folder:
        folder.mkdir()
        save_sparse(folder / "images.npy", images)
        save_sparse(folder / "labels.npy", labels)
        maps = distance_maps(labels, len(spec.classes), spacing, settings.distance)
        save_sparse(folder / "distance.npy", maps)
        digest = hashlib.sha256(images)
        digest.update(labels)
        digest.update(maps[maps.any(axis=(1, 2, 3))])  # where they are empty, the labels say
        write_json(folder / "meta.json", {
            "subject": subject.name, "spacing_mm": [float(value) for value in spacing],
            "original_shape": list(map(int, stored.shape[:3])), "affine": stored.affine.tolist(),
            "intensity_range": [[float(v.min()), float(v.max())] for v in scans], "sha256": digest.hexdigest(),
            "sources": source_hashes(subject)})


def distance_maps(labels, classes, spacing, how):
    """phi_G of every foreground class: (S, H, W) classes -> (S, K - 1, H, W) float32.

    Args:
        labels: (S, H, W) classes.
        classes: K.
        spacing: mm along x (rows), y (columns), z (slices).
        how: the folder.Distance of dataset.json. With dims 2 every slice has a map of its own, zero on slices without the class;
            with dims 3 they are the slices of the volume's map. In px, a voxel of such a volume counts as a cube.
    """
    volume = array_order(spacing)
    measure, unit = (signed_distance, volume) if how.dims == 3 else (signed_distance_slices, volume[1:])
    maps = np.stack([measure(labels == k, unit if how.unit == "mm" else None, how.convention)
                     for k in range(1, classes)], axis=1)
    return np.trunc(maps) if how.truncate else maps


def save_sparse(path, array):
    """np.save, but blocks of zeros are skipped over: the file has holes there, which take no space on disk."""
    content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        start = file.tell()
        head, count = -start % BLOCK, max(0, len(content) - (-start % BLOCK)) // BLOCK  # blocks as they lie in the file
        blocks = content[head:head + count * BLOCK].reshape(count, BLOCK)
        filled = np.zeros(count + 2, np.int8)
        filled[1:-1] = blocks.view(np.uint64).any(axis=1)
        file.write(content[:head])
        for first, end in np.flatnonzero(np.diff(filled)).reshape(-1, 2):  # runs of blocks that hold something
            file.seek(start + head + int(first) * BLOCK)
            file.write(blocks[first:end])
        file.seek(start + head + count * BLOCK)
        file.write(content[head + count * BLOCK:])
        file.truncate(start + len(content))
