"""What a set of scans is like in a few numbers and a checksum: raw scans, or a data folder."""

import hashlib
from collections import Counter

import nibabel as nib
import numpy as np

from scans import folder
from scans.datasets import source_hashes
from scans.nifti import label_values
from scans.patients import on_both_sides, patient_of
from utils import UserError, log, read_json

REDO = "Remove this subject's folder and repeat the command."


# Raw scans ----------------------------------------------------------------------------------------

def raw_facts(subject, volumes, spec):
    """What `raw_fingerprint` needs to know about one scan without a problem, as plain numbers."""
    label, image = volumes["label"]
    lesion_values = [value for value, number in spec.label_map.items() if number]
    foreground = np.isin(label_values(label), lesion_values)
    per_slice = foreground.sum(axis=(0, 1))

    return {
        "subject": subject.name, "slices": len(per_slice),
        "empty_slices": int((per_slice == 0).sum()), "foreground": int(per_slice.sum()),
        "voxels": foreground.size,
        "spacing_mm": [float(size) for size in nib.affines.voxel_sizes(image.affine)],
        "intensities": {name: (float(volumes[name][0].min()), float(volumes[name][0].max()))
                        for name in spec.modalities},
        "sources": source_hashes(subject), **patient_facts(subject, spec)}


def patient_facts(subject, spec):
    """{"patient": name or None, "why": what is wrong with what says it, or ""}."""
    try:
        return {"patient": patient_of(subject, spec), "why": ""}
    except UserError as error:
        return {"patient": None, "why": str(error)}


def raw_fingerprint(facts):
    """What a raw folder holds, from the `raw_facts` of its scans, with a sha256 over all files.

    Slices, empty slices and the foreground's share of voxels count on the scans' own grids.
    """
    modalities = facts[0]["intensities"]
    spacings = [fact["spacing_mm"] for fact in facts]
    sources = [(fact["subject"], fact["sources"]) for fact in facts]

    def total(key):
        return sum(fact[key] for fact in facts)

    return {
        "subjects": len(facts), "slices": total("slices"), "empty_slices": total("empty_slices"),
        "foreground_ratio": total("foreground") / total("voxels"),
        "intensity_range": {name: (min(fact["intensities"][name][0] for fact in facts),
                                   max(fact["intensities"][name][1] for fact in facts))
                            for name in modalities},
        "spacing_mm": {"min": list(map(min, zip(*spacings))),
                       "max": list(map(max, zip(*spacings)))},
        "sha256": hashlib.sha256(repr(sources).encode()).hexdigest()}


def print_patients(facts, spec):
    """How many patients the scans are of, if the layout's files say so."""
    if not spec.sidecars and not spec.names_patients:
        return
    unknown = [fact for fact in facts if fact["patient"] is None]
    if unknown:
        what = "no .json file" if spec.sidecars else "no name of a file"
        why = unknown[0]["why"] or f"{what} of {unknown[0]['subject']} says it"
        log(f"patients: not known of {len(unknown)} of {len(facts)} scans ({why})")
        return

    scans = Counter(fact["patient"] for fact in facts)
    several = sum(count > 1 for count in scans.values())
    expected = spec.n_patients if len(facts) == spec.n_subjects else 0
    log(f"patients: {len(scans)}, {several} of them with more than one of the {len(facts)} scans"
        + (f"; the challenge has {expected}" if expected not in (0, len(scans)) else ""))


def warn_of_copies(sources, split=None, patients=None):
    """Say which scans hold the very same image, and whether some train while others validate.

    Args:
        sources: {subject: its `source_hashes`}.
        split: {subject: subset}, if there is one.
        patients: {subject: patient}, if they are known; scans of one patient are passed by.
    """
    holders = {}  # sha256 -> {subject: modality}
    for name in sorted(sources):
        for modality, digest in sources[name].items():
            if name in holders.get(digest, ()):
                log(f"warning: {name}: {holders[digest][name]} and {modality} are the same image")
            if modality != "label":  # those of two scans without a lesion may well be equal
                holders.setdefault(digest, {})[name] = modality
    groups = {}  # their names -> the first modality that they share
    for holder in holders.values():
        if len(holder) > 1:
            groups.setdefault(tuple(holder), min(holder.values()))

    for names, modality in sorted(groups.items()):
        if patients and len({patients[name] for name in names}) == 1:
            continue
        apart = split and len({split[name] for name in names}) > 1
        log(f"warning: {', '.join(names)} hold the same {modality} image"
            + (", and not all of them are in one subset" if apart else "")
            + ". Remove the copies, or give their one patient (--patients).")


def print_raw_fingerprint(fingerprint):
    """The last lines of `preprocess.py --verify`."""
    low, high = (" x ".join(f"{size:.3g}" for size in fingerprint["spacing_mm"][end])
                 for end in ("min", "max"))
    empty = fingerprint["empty_slices"] / fingerprint["slices"]

    log(f"{fingerprint['slices']} slices, {empty:.1%} empty, foreground "
        f"{fingerprint['foreground_ratio']:.3%} of the voxels; spacing {low} to {high} mm")
    log(f"intensities: {ranges_in_words(fingerprint['intensity_range'])}")
    log(f"OK: {fingerprint['subjects']} subjects without a problem; "
        f"fingerprint {fingerprint['sha256'][:12]}")


# A data folder ------------------------------------------------------------------------------------

def summarise(out, split, modalities, patients=None):
    """The rows of index.csv and the fingerprint of a data folder, read back from what was written.

    Args:
        out: the data folder, with all its subjects and dataset.json.
        split: {subject: "train" or "val"}.
        modalities: their names, in the order of the channels.
        patients: {subject: patient}, or None where it is not known.
    """
    rows, metas = [], []
    names = sorted(split)
    for name in names:
        foreground = (folder.open_array(out, name, "labels") > 0).sum(axis=(1, 2))
        rows += [{"subject": name, "slice": index, "subset": split[name],
                  "foreground_pixels": int(count)} for index, count in enumerate(foreground)]
        needed = ("intensity_range", "sha256", "sources")
        metas.append(folder.read_meta(out, name, needed, REDO))

    warn_of_copies({name: meta.sources for name, meta in zip(names, metas)}, split, patients)

    # The checksum covers dataset.json as it was written, so that equal data have equal checksums
    # whatever a later version adds to its description. A folder may be renamed: without the name.
    settings = read_json(folder.dataset_path(out))
    made = {key: value for key, value in settings.items() if key != "name"}
    digest = hashlib.sha256(repr((made, split, [meta.sha256 for meta in metas])).encode())

    ranges = np.array([meta.intensity_range for meta in metas])                 # (subjects, C, 2)
    spacing = np.array([meta.spacing_mm for meta in metas])                     # (subjects, 3)
    subsets = {subset: [row for row in rows if row["subject"] in names]
               for subset in ("train", "val")
               for names in [set(folder.subjects_in(split, subset))]}
    shared = {"patients": len({patients[name] for name in split}),
              "patients_in_both": len(on_both_sides(split, patients))} if patients else {}
    return rows, {
        **summarise_rows(rows, settings["size"]), **shared,
        "train": summarise_rows(subsets["train"], settings["size"]),
        "val": summarise_rows(subsets["val"], settings["size"]),
        "intensity_range": {name: [float(ranges[:, c, 0].min()), float(ranges[:, c, 1].max())]
                            for c, name in enumerate(modalities)},
        "spacing_mm": {"min": spacing.min(0).tolist(), "max": spacing.max(0).tolist()},
        "sha256": digest.hexdigest()}


def summarise_rows(rows, size):
    """A folder.Part of the fingerprint, from rows of index.csv; `size`: of a slice, px."""
    counts = np.array([row["foreground_pixels"] for row in rows])
    return {"subjects": len({row["subject"] for row in rows}), "slices": len(counts),
            "empty_fraction": float((counts == 0).mean()),
            "foreground_ratio": float(counts.mean() / size ** 2)}


def print_fingerprint(fingerprint):
    """The last lines of preprocess.py."""
    for subset in ("train", "val"):
        part = fingerprint[subset]
        log(f"{subset:>5}: {part['subjects']} subjects, {part['slices']} slices, "
            f"{part['empty_fraction']:.1%} empty, "
            f"foreground {part['foreground_ratio']:.3%} of the pixels")
    if "patients" in fingerprint:
        log(f"patients: {fingerprint['patients']}, {fingerprint['patients_in_both']} of them with "
            "scans in both train and val")
    log(f"intensities: {ranges_in_words(fingerprint['intensity_range'])}; "
        f"fingerprint {fingerprint['sha256'][:12]}")


def warn_of_positive_maps(distance, spacing):
    """Say so if the official map, less 1 inside, may be positive there: in mm on smaller voxels.

    Args:
        distance: how the maps were made, as dataset.json says it.
        spacing: the least along x, y, z after resampling, mm.
    """
    least = min(spacing[:distance["dims"]])
    if (distance["convention"], distance["unit"]) == ("official", "mm") and least < 1:
        log(f"warning: official maps in mm are 1 mm less the distance inside a lesion, positive "
            f"nearer than that to its edge, and voxels are {least:.2g} mm wide: the boundary loss "
            "punishes true lesion there. Take --convention paper, or --unit px.")


def ranges_in_words(ranges):
    """"FLAIR 0 to 812, T1 3 to 640"."""
    return ", ".join(f"{name} {low:g} to {high:g}" for name, (low, high) in ranges.items())
