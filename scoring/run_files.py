"""The files of a run folder and of a set's results: what each holds."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field, model_validator

from scheduler import alpha
from utils import Description, Number, in_words

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
    patch: Patch | None = Field(
        None, description="slices, rows, columns; null for a network of slices",
        **in_words(f"three sizes from 1 up, together at most {MAX_PATCH:,} voxels"))
    gdl_max_weight: Number | None = Field(
        None, description="cap of the GDL's class weight; null: none")
    boundary_classes: list[int] | None = Field(
        None, description="that L_B covers; null: all foreground")
    loss_options: dict | None = Field(None, description="options of the regional loss")
    data: str | None = Field(None, description="the data folder")
    command: str | None = Field(None, description="of the first session")
    sessions: list[dict] = Field([], description="from_epoch, device, amp, versions, ... of each")


class MetricsRow(Description):
    """A row of metrics.csv; of several foreground classes each has two more columns."""

    epoch: int = Field(description="from 0")
    alpha: Number | None = Field(None, description="weight of the regional loss in Eq. 6")
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


class Summary(Description):
    """summary.json: there once a run is finished."""

    finished: bool | None = Field(None, description="true")
    epochs: int | None = Field(None, description="epochs trained")
    best_epoch: Number | None = Field(None, description="of the highest slice-mean DSC")
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
    verdict: str = Field(description="the verdict")
    statistic: str = Field(description="what was measured, in words")
    curves: dict[str, Curve] = Field({}, description="of C9")


class Claims(Description):
    """claims.json of a result set."""

    claims: dict[str, Claim] = Field(description="C1, C2, ...")
    runs: dict[str, int] = Field({}, description="epochs of each run that was measured")
    set: str = Field("", description="title of the set")
    validation_scans: int | None = Field(None, description="their number")
    resamples: int | None = Field(None, description="of the bootstrap")
    seconds: Number | None = Field(None, description="it took, s")
