"""The files of a run folder and of a set's results: what each holds."""

import math
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field, model_validator

from scheduler import LR_SCHEDULES, alpha
from utils import LARGEST, Description, Number, UserError, in_words, read_csv, read_json

# Of metrics.csv, what may choose the best epoch (main.py --score); more is better
SCORES = {"val_dice": "DSC", "val_dice_3d": "3-D DSC", "val_dice_lesion": "DSC on lesion slices",
          "val_lesion_f1": "lesion F1"}
REPORTED = Path(__file__).parents[1] / "results" / "reported.json"  # the numbers of others
RUN_NAME = re.compile(r"seed\d+(-fold\d+)?")  # of a run folder; seed0.bak is a copy
SMALL, LARGE = 0.05, 0.5  # ml: between small, medium and large lesions
MAX_PATCH = 2 ** 24  # voxels of a patch


def check_patch(patch):
    """A patch's size; ValueError unless it is three whole numbers, at most MAX_PATCH voxels."""
    product = 1
    for size in patch:
        product *= size if type(size) is int and size > 0 else 0
    if len(patch) != 3 or not 0 < product <= MAX_PATCH:
        raise ValueError(f"three sizes from 1 up, together at most {MAX_PATCH:,} voxels")
    return patch


def _schedule(text):
    alpha(text, 0)  # ValueError if it is none
    return text


Patch = Annotated[list[int], AfterValidator(check_patch)]


def read_reported():
    """results/reported.json: what the paper, and others, report."""
    return read_json(REPORTED, "Restore it with git checkout results/reported.json.")


# Settings of a Config in which runs of a set, and those of a row in it, must be the same
SAME_IN_SET = ("data_fingerprint", "protocol", "network", "width", "size", "patch", "epochs",
               "batch_size", "lr", "lr_schedule", "score", "folds", "augment")
SAME_IN_ROW = ("loss", "loss_options", "boundary_classes", "schedule", "gdl_max_weight",
               "lesion_slices")


class Config(Description):
    """config.json of a run: its settings, and the sessions that trained it."""

    loss: str = Field(description="the training loss (main.py --loss)")
    seed: int = Field(description="fixes initial weights and the order of slices")
    data_fingerprint: str = Field(description="sha256 of the data folder's fingerprint.json")
    protocol: str = Field(description="paper or code2018")
    network: str = Field(description="name of the network")
    width: int = Field(description="channels at full resolution")
    size: int = Field(description="rows and columns of a slice, px")
    epochs: int = Field(ge=1, description="epochs asked for")
    batch_size: int = Field(description="slices or patches of a step")
    lr: Number = Field(description="Adam's learning rate at epoch 0")
    schedule: Annotated[str, AfterValidator(_schedule)] | None = Field(None, description="of alpha")
    steps_per_epoch: Annotated[int, Field(ge=1)] | None = Field(
        None, description="training steps of an epoch")
    lr_schedule: Literal[*LR_SCHEDULES] = Field("plateau", description="what moves that rate")
    score: Literal[*SCORES] = Field("val_dice", description="what chooses the best epoch, and "
                                    "halves the learning rate on a plateau")
    fold: Annotated[int, Field(ge=0, lt=10_000)] | None = Field(
        None, description="the fold that validates; null: no folds")
    folds: Annotated[int, Field(ge=2, lt=10_000)] | None = Field(
        None, description="how many the data folder has")
    patch: Patch | None = Field(
        None, description="slices, rows, columns; null for a network of slices",
        **in_words(f"three sizes from 1 up, together at most {MAX_PATCH:,} voxels"))
    gdl_max_weight: Number | None = Field(
        None, description="cap of the GDL's class weight; null: none")
    boundary_classes: list[int] | None = Field(
        None, description="that L_B covers, 0 the background; null: all foreground")
    loss_options: dict | None = Field(None, description="options of the regional loss")
    lesion_slices: bool = Field(False, description="trained on slices with foreground alone")
    augment: bool = Field(False, description="trained with augmentation")
    data: str | None = Field(None, description="the data folder")
    command: str | None = Field(None, description="of the first session")
    sessions: list[dict] = Field([], description="from_epoch, device, amp, versions, ... of each")


class MetricsRow(Description):
    """A row of metrics.csv; of several foreground classes each has two more columns."""

    epoch: int = Field(description="from 0")
    alpha: Number | None = Field(
        None, description="of the schedule: the regional loss's weight in Eq. 6 (1 with increase, "
        "where 1 - alpha is the boundary loss's; a loss of one part does not use it)")
    lr: Number | None = Field(None, description="Adam's learning rate")
    train_loss: Number | None = Field(None, description="mean over the training slices")
    train_gdl: Number | None = Field(None, description="its regional part; the name is the loss's")
    train_boundary: Number | None = Field(None, description="its boundary part")
    val_dice: Number | None = Field(None, description="DSC, mean over slices; both empty: 1")
    val_dice_3d: Number | None = Field(None, description="DSC, mean over scans")
    val_hd: Number | None = Field(None, description="Hausdorff distance, mean over scans, mm")
    val_hd95: Number | None = Field(None, description="its 95th percentile, mean over scans, mm")
    val_hd_legacy: Number | None = Field(
        None, description="what the paper calls HD, mean over slices")
    val_dice_lesion: Number | None = Field(None, description="DSC, mean over slices with a lesion")
    val_foreground: Number | None = Field(None, description="share of pixels predicted as lesion")
    seconds: Number | None = Field(None, description="wall time of the epoch, s")
    skipped_steps: Number | None = Field(None, description="left out, loss or gradient not finite")
    val_clean: Number | None = Field(
        None, description="share of the slices without a lesion that are left empty")
    val_lesion_recall: Number | None = Field(
        None, description="share of the lesions that is found, mean over scans")
    val_lesion_precision: Number | None = Field(
        None, description="share of the predicted lesions that touch a true one, mean over scans")
    val_lesion_f1: Number | None = Field(
        None, description="harmonic mean of the two in each scan, mean over scans")


class ScanScores(Description):
    """A row of scores.csv: one class of one validation scan at one epoch.

    A lesion is a 26-connected part. Without spacing in the scans' headers, mm and ml are nominal.
    """

    epoch: int = Field(description="from 0")
    subject: str = Field(description="name of the scan")
    class_name: str = Field(description="name of the class")
    slices: int = Field(description="slices of the scan")
    slices_empty: int = Field(description="slices without this class")
    slices_clean: int = Field(description="empty slices that are left empty")
    dsc: Number = Field(description="DSC, mean over slices; both empty: 1")
    dsc_lesion: Number | None = Field(None, description="DSC, mean over slices with a lesion")
    dsc_3d: Number = Field(description="DSC of the scan")
    hd: Number = Field(description="Hausdorff distance, mm; an empty mask: the image's diagonal")
    hd95: Number = Field(description="its 95th percentile, mm")
    hd_legacy: Number = Field(description="what the paper calls HD, mean over slices")
    foreground: Number = Field(description="share of pixels predicted")
    lesions: int = Field(description="lesions of the ground truth")
    lesions_found: int = Field(description="lesions touched by the prediction")
    lesions_predicted: int = Field(description="lesions of the prediction")
    lesions_false: int = Field(description="predicted lesions that touch no true one")
    false_distance: Number | None = Field(
        None, description="mean distance of false lesions from the nearest true one, mm")
    small_lesions: int = Field(description=f"true lesions below {SMALL} ml")
    small_found: int = Field(description="small lesions touched by the prediction")
    medium_lesions: int = Field(description=f"true lesions from {SMALL} to {LARGE} ml")
    medium_found: int = Field(description="medium lesions touched by the prediction")
    large_lesions: int = Field(description=f"true lesions from {LARGE} ml")
    large_found: int = Field(description="large lesions touched by the prediction")
    foreground_empty: Number | None = Field(
        None, description="share of the pixels of empty slices that is predicted; runs before "
        "2026-11-28 lack it")


class ChallengeScore(Description):
    """A row of test.csv: one of the challenge's test scans, scored by its own rules.

    Empty where there is none: no distance without a prediction, no percentage of nothing.
    """

    subject: str = Field(description="name of the scan")
    scanner: str = Field(description="by the scan's folders")
    reference_ml: Number = Field(description="volume of its lesions, ml")
    dice: Number = Field(description="Dice similarity coefficient of the scan")
    hd95_challenge: Number | None = Field(
        None, description="larger directed 95th percentile of the distances between surfaces, mm")
    volume_difference: Number | None = Field(
        None, description="absolute volume difference, % of the reference")
    lesion_recall: Number = Field(description="share of its lesions that are found")
    lesion_f1: Number = Field(description="F1 of lesions")
    mask: str = Field(description="sha256 of the mask in test/")
    reference: str = Field(description="sha256 of the reference")


class Summary(Description):
    """summary.json: there once a run is finished."""

    finished: bool | None = Field(None, description="true")
    epochs: int | None = Field(None, description="epochs trained")
    best_epoch: Number | None = Field(None, description="of the highest score")
    best: dict | None = Field(None, description="its row of metrics.csv")
    seconds: Number | None = Field(None, description="sum over the epochs, s")


class Curve(BaseModel):
    """An error curve of claim C9: sizes in px, relative errors, and the order of convergence."""

    sizes: list[Annotated[int, Field(gt=0)]] = Field(min_length=1)
    errors: list[Annotated[float, Field(gt=0)]] = Field(min_length=1)
    order: Annotated[float, Field(gt=0)]

    @model_validator(mode="after")
    def check_lengths(self):
        if len(self.sizes) != len(self.errors):
            raise ValueError("as many sizes as errors")
        return self


class Claim(Description):
    """One claim: what it says, the verdict, and the statistic in words."""

    claim: str = Field(description="the paper's claim")
    verdict: str | None = Field(None, description="supported, refuted, undecided or not measured; "
                                "absent on a phantom")
    excludes_0: bool = Field(False, description="does the interval behind the verdict leave out 0 "
                             "(of a ratio 1)? The page colours such a verdict")
    statistic: str = Field(description="what was measured, in words")
    curves: dict[str, Curve] = Field({}, description="of C9")


class Claims(Description):
    """claims.json of a result set."""

    claims: dict[str, Claim] = Field(description="C1, C2, ...")
    runs: dict[str, int] = Field({}, description="epochs of each run that was measured")
    set: str = Field("", description="title of the set")
    validation_scans: int | None = Field(None, description="number of validation scans")
    resamples: int | None = Field(None, description="resamples of the bootstrap")
    seconds: Number | None = Field(None, description="time it took, s")


def read_numbers(path, columns, words, always, do):
    """The rows of a table, numbers as floats and empty cells None; [] if there is no such file.

    Args:
        path: the file.
        columns: that it must have.
        words: columns that hold text.
        always: columns whose cells are never empty.
        do: what to do about a damaged file.

    Raises:
        UserError: it is damaged.
    """
    table = read_csv(path, columns, do) if path.exists() else []
    rows = [{name: value if name in words else number(value, path, line)
             for name, value in row.items()} for line, row in enumerate(table, 2)]
    for line, row in enumerate(rows, 2):
        if missing := [name for name in always if row[name] is None]:
            raise UserError(path, f"a number for {missing[0]}", f"none in line {line}", do)
    return rows


def number(text, path, line):
    """A cell of a table as float; None if it is empty, infinite or not a number by IEEE 754."""
    if text == "":
        return None
    found, do = f"{text[:40]!r} in line {line}", "Repeat the run that wrote it."
    try:
        value = float(text)
    except ValueError:
        raise UserError(path, "numbers", found, do) from None

    if LARGEST < abs(value) < math.inf:
        raise UserError(path, f"numbers up to {LARGEST:g}", found, do)
    return value if math.isfinite(value) else None
