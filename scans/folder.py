"""The data folder: what its files hold, how they are written, read and checked.

This is the only code that knows the format, and the only place where spacing is reordered: the
scans' own axes are x, y, z, while the arrays here are stored by slice, row and column, which are z,
x and y.

    dataset.json                  Dataset: what the set is and how it was made
    fingerprint.json              Fingerprint: what it is like, and a checksum over all of it
    split.csv                     SplitRow: which subjects train and which validate
    index.csv                     IndexRow: a row for each slice; written last, when all is there
    run_time.json                 RunTime of preprocess.py; nothing depends on it
    subjects/<scan>/images.npy    (S, C, H, W) uint16, 0 to 65535 for the volume's least to greatest
                                  intensity, or those that --normalise percentiles cuts to
    subjects/<scan>/labels.npy    (S, H, W) uint8 classes
    subjects/<scan>/distance.npy  (S, K - 1, H, W) float32 phi_G, px or mm: negative inside
    subjects/<scan>/meta.json     Meta: spacing, geometry, checksums
    references/<scan>.nii.gz      classes on the scan's own grid, 255 where evaluation leaves out
"""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, Field, field_validator

from utils import (
    Description,
    Number,
    UserError,
    describe_object,
    in_words,
    read_csv,
    read_description,
    remove,
    write_csv,
    write_json,
)

IGNORED = 255          # in references/: voxels that evaluation leaves out of both masks
INTENSITY_MAX = 65535  # images.npy holds uint16, for intensities from 0 to 1
PERCENTILES = (0.5, 99.5)
NORMALISATIONS = {  # preprocess.py --normalise: what the network sees, as best.pt says it
    "minmax": "each volume min-max to [0, 1], 16 bits",
    "percentiles": "each volume from percentile {} to {} to [0, 1], 16 bits".format(*PERCENTILES),
    "zscore": "each volume to mean 0 and standard deviation 1, 16 bits of its range",
}
MAX_SIDE = 2 ** 14     # voxels along an axis of a scan
PENDING = ".pending"   # subjects that were converted while others still wait for their checks

AGAIN = "Remove this subject's folder and index.csv, and run preprocess.py again."
REPEAT = "Repeat preprocess.py."
ARRAYS = ("images", "labels", "distance")


def array_order(spacing):
    """Spacing along a scan's x, y, z -> along the arrays' slices (z), rows (x), columns (y)."""
    x, y, z = spacing
    return z, x, y


def is_data_folder(folder):
    """Has preprocess.py written this folder, or begun to? Not if it may not be entered."""
    try:
        return dataset_path(folder).is_file() and subject_path(folder, "").is_dir()
    except PermissionError:
        return False


# Where the files lie ------------------------------------------------------------------------------

def dataset_path(folder):
    return folder / "dataset.json"


def fingerprint_path(folder):
    return folder / "fingerprint.json"


def split_path(folder):
    return folder / "split.csv"


def index_path(folder):
    return folder / "index.csv"


def run_time_path(folder):
    return folder / "run_time.json"


def subject_path(folder, name):
    """Folder of one subject's arrays and meta.json."""
    return folder / "subjects" / name


def meta_path(subject):
    """meta.json in a subject's folder."""
    return subject / "meta.json"


def array_path(subject, kind):
    """The file of "images", "labels" or "distance" in a subject's folder."""
    return subject / f"{kind}.npy"


def references_path(folder):
    """Folder of the scans' classes, each on its own grid."""
    return folder / "references"


def reference_path(folder, name):
    return references_path(folder) / f"{name}.nii.gz"


# What the files hold ------------------------------------------------------------------------------

Code = Annotated[int, Field(ge=-2**15, lt=2**15)]
Three = Annotated[list[float], Field(min_length=3, max_length=3)]


class Distance(Description):
    """How the distance maps were made."""

    convention: str = Field("paper", description="paper: to the boundary's points, or official")
    unit: str = Field("px", description="px or mm")
    dims: int = Field(2, description="2: a map for each slice, 3: one of the volume")
    truncate: bool = Field(False, description="cut to whole numbers, as the 2018 code did")


class Dataset(Description):
    """dataset.json."""

    layout: str = Field(description="name of the layout the scans were found by; of one from a "
                        "file, with a checksum")
    source: str = Field(description="challenge, phantom or own")
    size: int = Field(description="rows and columns of a slice, px")
    classes: list[str] = Field(
        description="names of the classes, background first", **in_words("a list of names"))
    modalities: list[str] = Field(
        description="names of the modalities, in the order of the network's channels",
        **in_words("a list of names"))
    fill: int | None = Field(
        None, description="pixels of a slice's rows and columns that the scan takes up, in their "
        "middle; null: all")
    normalise: Literal[*NORMALISATIONS] = Field(
        "minmax", description="how the network sees intensities, each volume by its own")
    name: str = Field("", description="name of the folder when it was made")
    spec: dict = Field({}, description="the layout itself, if it is not in scans/datasets.py")
    ignore: list[int] = Field([], description="label values that evaluation leaves out")
    protocol: str = Field("paper", description="paper or code2018")
    distance: Distance = Field(Distance(), description="how the distance maps were made")
    label_interpolation: str = Field("nearest", description="nearest or linear2018")
    split: dict = Field({}, description="how the split was made")
    subjects: list[str] = Field([], description="names of the scans, sorted")

    @field_validator("fill")
    @classmethod
    def check_fill(cls, fill, info):
        size = info.data.get("size", fill)
        if fill is not None and not 0 < fill <= size:
            raise ValueError(f"a whole number from 1 to {size}, the size")
        return fill


class Part(Description):
    """What one subset of a data folder is like."""

    subjects: Number | None = Field(None, description="scans")
    slices: Number | None = Field(None, description="2-D slices")
    empty_fraction: Number | None = Field(None, description="share of slices without a lesion")
    foreground_ratio: Number | None = Field(None, description="share of pixels that are lesion")


class Fingerprint(Part):
    """fingerprint.json."""

    sha256: str = Field(description="checksum over settings, split and arrays")
    train: Part = Field(description="the training subset")
    val: Part = Field(description="the validation subset")
    patients: Number | None = Field(
        None, description="patients, where a table or the scans' files say whose they are")
    patients_in_both: Number | None = Field(
        None, description="patients with scans in train and in val")
    intensity_range: dict[str, list[Number]] = Field(
        {}, description="least and greatest intensity of each modality")
    spacing_mm: list[Number] | dict[str, list[Number]] = Field(
        [], description="least and greatest voxel size along x, y, z after resampling, mm")


def _affine(value):
    matrix = np.array(value, np.float64)
    determinant = abs(np.linalg.det(matrix[:3, :3])) if matrix.shape == (4, 4) else 0
    if not (np.isfinite(matrix).all() and 1e-12 < determinant < np.inf):
        raise ValueError("too few directions")
    return value


class Geometry(Description):
    """The place of a label image as its NIfTI header says it; masks are written with the same."""

    pixdim: Annotated[list[float], Field(min_length=4, max_length=4)] = Field(
        description="qfac, and the voxel size along the axes as stored, in the header's units")
    units: Annotated[int, Field(ge=0, le=7)] = Field(
        description="of length: 0 not said, 1 m, 2 mm, 3 um")
    qform_code: Code = Field(description="what qform stands for; 0: nothing")
    sform_code: Code = Field(description="what sform stands for; 0: nothing")
    quaternion: Three = Field(description="qform's rotation: b, c, d")
    offset: Three = Field(description="qform's origin")
    rows: Annotated[list[Annotated[list[float], Field(min_length=4, max_length=4)]],
                    Field(min_length=3, max_length=3)] = Field(description="sform's rows")


def _moments(value):
    if not all(np.isfinite(value)) or value[1] <= 0:
        raise ValueError("a deviation of 0")
    return value


Moments = Annotated[list[float], Field(min_length=2, max_length=2), AfterValidator(_moments)]


class Meta(Description):
    """meta.json of a subject."""

    spacing_mm: list[Annotated[float, Field(gt=0, lt=1e6)]] = Field(
        min_length=3, max_length=3, description="voxel size along x, y, z after resampling, mm",
        **in_words("three positive numbers"))
    subject: str = Field("", description="name of the scan")
    original_shape: list[Annotated[int, Field(gt=0, le=MAX_SIDE)]] | None = Field(
        None, min_length=3, max_length=3, description="shape of the label image as stored",
        **in_words(f"three sizes of 1 to {MAX_SIDE} voxels"))
    affine: Annotated[list[list[float]], AfterValidator(_affine)] | None = Field(
        None, description="affine of the label image as stored, mm",
        **in_words("a 4x4 matrix with three directions"))
    geometry: Geometry | None = Field(
        None, description="the place of the label image in its header's own words")
    intensity_range: list[list[Number]] | None = Field(
        None, description="least and greatest intensity of each modality")
    moments: list[Moments] | None = Field(
        None, description="mean and standard deviation of each modality, where 0 and 1 are its "
        "least and greatest intensity; with normalise zscore",
        **in_words("a mean and a positive deviation of each modality"))
    sha256: str | None = Field(None, description="checksum of the arrays")
    sources: dict[str, str] | None = Field(None, description="sha256 of each file of the scan")

    @property
    def spacing(self):
        """Size of a voxel along the axes of the arrays, mm: slices (z), rows (x), columns (y)."""
        return array_order(self.spacing_mm)


Subset = Annotated[str, Field(pattern=r"^(train|val|fold\d+)$")]


class SplitRow(Description):
    """A row of split.csv.

    For cross-validation the subsets are folds: each validates once, while the others train.
    """

    subject: str = Field(description="name of the scan")
    subset: Subset = Field(description="train or val, or fold0, fold1, ...")
    patient: int | None = Field(
        None, description="a number for whose scan it is, where a table or the scans' files say it")


class IndexRow(Description):
    """A row of index.csv."""

    subject: str = Field(description="name of the scan")
    slice: int = Field(description="number of the slice, from 0")
    subset: Subset = Field(description="as in split.csv")
    foreground_pixels: int = Field(description="pixels that are lesion")


class RunTime(Description):
    """run_time.json."""

    seconds: Annotated[Number, Field(ge=0)] = Field(description="wall time of preprocess.py, s")
    scans: Annotated[Number, Field(ge=0)] = Field(description="scans converted in that time")
    command: str | None = Field(None, description="of the last call that converted some")


# Reading ------------------------------------------------------------------------------------------

def refuse_unfinished(folder):
    """UserError unless preprocess.py has finished this data folder."""
    if not index_path(folder).exists():
        found = "no index.csv in it" if folder.exists() else "nothing there"
        raise UserError(folder, "a data folder written by preprocess.py", found,
                        "Run preprocess.py first.")


def refuse_other_settings(folder, settings):
    """UserError unless `folder` is new, empty, or was begun with the same settings."""
    if dataset_path(folder).exists():
        # nnU-Net's raw folders hold a dataset.json too
        remove_it = ", or remove that folder" if is_data_folder(folder) else ""
        old = read_dataset(folder, f"Choose another --out{remove_it}.").model_dump()
        new = describe_object(dataset_path(folder), settings, Dataset, REPEAT).model_dump()
        different = [key for key in {**new, **old}  # a folder may be renamed
                     if key != "name" and old.get(key) != new.get(key)]
        if different:
            key = different[0]
            other = "other" if isinstance(new.get(key), list) else "another"
            raise UserError(folder, "a new folder or one of the same settings",
                            f"a data set with {other} {key} "
                            f"({_old_and_new(old.get(key), new.get(key))})",
                            f"Choose another --out (with make, another NAME){remove_it}.")

    elif folder.exists():
        begun = f"{dataset_path(folder).name}.partial-"  # by a process that was killed
        names = [entry.name for entry in folder.iterdir()
                 if entry.name not in (".lock", PENDING) and not entry.name.startswith(begun)]
        if names:
            raise UserError(folder, "a new or empty folder", f"{names[0]} in it",
                            "Choose another --out.")


def _old_and_new(old, new):
    """"32, asked for 64"; of two dicts, the entries that differ; of two lists, what one lacks."""
    if isinstance(old, dict) and isinstance(new, dict):
        return "; ".join(f"{key} {_old_and_new(old.get(key), new.get(key))}"
                         for key in {**new, **old} if old.get(key) != new.get(key))
    if isinstance(old, list) and isinstance(new, list) and set(old) != set(new):
        changes = (("with", [each for each in new if each not in old]),
                   ("without", [each for each in old if each not in new]))
        return "asked for one " + " and ".join(
            f"{word} {_cut(each[0])}{f' and {len(each) - 1} more' * (len(each) > 1)}"
            for word, each in changes if each)
    return f"{_cut(old)}, asked for {_cut(new)}"


def _cut(value):
    text = "none" if value is None else str(value)
    return text if len(text) < 60 else f"{text[:57]}..."


def read_dataset(folder, do=REPEAT):
    return read_description(dataset_path(folder), Dataset, do)


def read_fingerprint(folder, do=REPEAT):
    return read_description(fingerprint_path(folder), Fingerprint, do)


def read_meta(folder, name, needed=(), do=AGAIN):
    """Meta of one subject; UserError if one of the entries `needed` is absent."""
    return read_description(meta_path(subject_path(folder, name)), Meta, do, needed)


def read_geometry(folder, name):
    """Meta of one subject, with the grid of its label image."""
    return read_meta(folder, name, ("affine", "original_shape"))


def read_moments(folder, name, dataset):
    """The `moments` of a subject, (C, 2), where the Dataset says zscore; else None."""
    if dataset.normalise != "zscore":
        return None
    moments, count = read_meta(folder, name, ("moments",)).moments, len(dataset.modalities)
    if len(moments) != count:
        raise UserError(meta_path(subject_path(folder, name)), f"moments of {count} modalities",
                        f"of {len(moments)}", AGAIN)
    return np.array(moments)


def read_split(folder):
    """{subject: subset} of split.csv, in its order."""
    return {row["subject"]: row["subset"]
            for row in read_csv(split_path(folder), ("subject", "subset"))}


def read_patients(folder):
    """{subject: number of its patient, a text} of split.csv; {} where it does not say."""
    return {row["subject"]: row["patient"]
            for row in read_csv(split_path(folder), ("subject", "subset")) if row.get("patient")}


def number_patients(folder, names):
    """Whose scans these are, int (scans,) from 0 on; None where split.csv does not say of all."""
    patients = read_patients(folder)
    if not set(names) <= set(patients):
        return None
    return np.unique([patients[name] for name in names], return_inverse=True)[1]


def subjects_of(folder, subset, fold=None):
    """Names of the subjects of "train" or "val", in the order of split.csv.

    Args:
        folder: the data folder.
        subset: "train" or "val".
        fold: of a set that is split into folds, the number of the one that validates; None: any,
            so that all subjects train and all validate.
    """
    return subjects_in(read_split(folder), subset, fold)


def subjects_in(split, subset, fold=None):
    """The same of a split, {subject: subset}."""
    if not count_folds(split):
        return [name for name, its in split.items() if its == subset]
    if fold is None:
        return list(split)
    return [name for name, its in split.items() if (its == f"fold{fold}") == (subset == "val")]


def count_folds(split):
    """The number of folds of a split, {subject: subset}; 0 if it has train and val."""
    folds = {name for name in split.values() if name.startswith("fold")}
    return len(folds)


def open_array(folder, name, kind):
    """images, labels or distance of one subject, memory-mapped; the first axis counts slices."""
    path = array_path(subject_path(folder, name), kind)
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(path, "a NumPy array", f"{type(error).__name__}: {error}", AGAIN) from None


def open_arrays(folder, name, dataset):
    """(images, labels, distance) of one subject, memory-mapped, of the shapes that go together."""
    arrays = [open_array(folder, name, kind) for kind in ARRAYS]
    count, plane = len(arrays[1]), (dataset.size, dataset.size)
    channels = ([len(dataset.modalities)], [], [len(dataset.classes) - 1])
    for kind, between, array in zip(ARRAYS, channels, arrays, strict=True):
        shape = (count, *between, *plane)
        if array.shape != shape:
            raise UserError(array_path(subject_path(folder, name), kind), f"shape {shape}",
                            f"{array.shape}", AGAIN)
    return arrays


def intensities(stored, moments=None):
    """uint16 as images.npy holds them -> float32 as the network sees them.

    Args:
        stored: (B, C, ...).
        moments: (B or 1, C, 2), the `moments` of meta.json: by them to mean 0 and standard
            deviation 1. None: in [0, 1].
    """
    found = np.multiply(stored, np.float32(1 / INTENSITY_MAX), dtype=np.float32)
    if moments is None:
        return found

    parts = np.moveaxis(np.asarray(moments, np.float32), -1, 0)                 # (B, C) each
    mean, deviation = (np.expand_dims(part, tuple(range(2, stored.ndim))) for part in parts)
    return (found - mean) / deviation


def read_run_time(folder):
    """RunTime of a data folder, None if its file was lost or changed: not worth a refusal."""
    try:
        return read_description(run_time_path(folder), RunTime)
    except (UserError, OSError):
        return None


# Writing ------------------------------------------------------------------------------------------

def write_dataset(folder, settings):
    """Write dataset.json: the plain dict, so that its entries keep their order."""
    write_json(dataset_path(folder), settings)


def write_fingerprint(folder, fingerprint):
    write_json(fingerprint_path(folder), fingerprint)


def write_split(folder, split, patients=None):
    """Write split.csv.

    Args:
        folder: the data folder.
        split: {subject: subset}.
        patients: {subject: patient}; None where it is not known. They are numbered from 1, since
            split.csv is published with results, and their names are not to be.
    """
    rows, numbers = [{"subject": name, "subset": split[name]} for name in sorted(split)], {}
    for row in rows if patients else ():
        row["patient"] = numbers.setdefault(patients[row["subject"]], len(numbers) + 1)
    write_csv(split_path(folder), rows)


def write_index(folder, rows):
    write_csv(index_path(folder), rows, list(IndexRow.model_fields))


def mark_unfinished(folder):
    """Remove index.csv, whose presence says that the folder is complete."""
    remove(index_path(folder))


def note_run_time(folder, seconds, scans, total, command=None):
    """Add a call of preprocess.py to the data folder's run time.

    Args:
        folder: the data folder.
        seconds: wall time of this call.
        scans, total: converted by this call, and in the set. A call that converted all of them
            begins a new record; one that found nothing to do leaves no trace.
        command: as it was typed.
    """
    if not scans:
        return
    before = None if scans == total else read_run_time(Path(folder))
    write_json(run_time_path(Path(folder)), {
        "seconds": round((before.seconds if before else 0) + seconds, 1),
        "scans": (before.scans if before else 0) + scans,
        **({"command": command} if command else {})})
