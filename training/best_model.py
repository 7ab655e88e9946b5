"""best.pt: the best epoch's network, with all that predict.py needs to use it."""

import os
from typing import Annotated

import torch
from pydantic import AfterValidator, BeforeValidator, Field, ValidationError

from networks import NETWORKS, build
from scans.folder import NORMALISATIONS, Dataset
from scoring.run_files import Patch
from training.checkpoint import all_finite, check_records, check_storages, shapes_of, write_state
from training.devices import amp_name
from utils import Description, UserError

NEEDED = ("network", "build", "data")
# How best.pt names a precision -> --amp
AMP = {"bfloat16": "bf16", "float16": "fp16", "float32": "off"}

DO = "Give the best.pt of a run."


def _architecture(values):
    if [type(value) for value in values] != [str, int, int, int]:
        raise ValueError("a name, channels, classes and width")
    return values


def _without_nulls(values):
    if isinstance(values, dict):
        return {name: value for name, value in values.items() if value is not None}
    return values


class BestModel(Description):
    """The entries of best.pt beside `network`, the state_dict of its weights.

    Files written before an entry existed lack it, and get its default.
    """

    epoch: int | None = Field(None, description="the best epoch, from 0")
    build: Annotated[list[str | int], Field(min_length=4, max_length=4),
                     AfterValidator(_architecture)] = Field(
        description="arguments of networks.build: name, channels, classes, width")
    data: Annotated[Dataset, BeforeValidator(_without_nulls)] = Field(
        description="dataset.json of the data folder it was trained on")
    patch: Patch | None = Field(None, description="slices, rows, columns; null: trained on slices")
    normalisation: str | None = Field(None, description="of the intensities; scans.folder's")
    amp: str | None = Field(None, description="of the training: bfloat16, float16 or float32")

    def check(self):
        """ValueError unless the network fits the data that it was trained on, and its patch."""
        name, channels, classes, width = self.build
        if (not 0 < channels < 100 or not 1 < classes < 256
                or [channels, classes] != [len(self.data.modalities), len(self.data.classes)]):
            raise ValueError(f"{channels} channels and {classes} classes for other data")
        if not 1 <= width <= 4096 or not 1 <= self.data.size <= 4096:
            raise ValueError(f"width {width} and size {self.data.size}")

        dims = NETWORKS[name].dims if name in NETWORKS else 2
        if (dims == 3) != bool(self.patch):
            raise ValueError(f"patch {self.patch} for {name}")
        if self.normalisation not in (None, NORMALISATIONS[self.data.normalise]):
            raise ValueError(f"normalisation {self.normalisation} for {self.data.normalise}")


def describe_model(architecture, dataset, patch, amp):
    """The BestModel of a network that is about to be trained.

    Args:
        architecture: arguments of networks.build.
        dataset: the scans.folder.Dataset it is trained on.
        patch: slices, rows, columns, or None.
        amp: the autocast dtype, or None.
    """
    return BestModel(build=architecture, data=dataset, patch=patch, amp=amp_name(amp),
                     normalisation=NORMALISATIONS[dataset.normalise])


def save_model(path, network, model, epoch):
    """Write best.pt.

    Args:
        path: the file.
        network: state_dict of the network.
        model: a BestModel.
        epoch: the best epoch.
    """
    write_state(path, {"network": network, **model.model_copy(update={"epoch": epoch}).as_dict()})


def load_model(path, device):
    """The network of a best.pt, ready to predict on `device`, and its other entries, a BestModel.

    Raises:
        UserError: the file is no checkpoint of main.py or no best.pt, its weights are not finite,
            or the scans were normalised in a way unknown here.
    """
    state = read_model(path)
    known = list(NORMALISATIONS.values())
    if (found := state.get("normalisation")) not in (None, *known):
        raise UserError(path, f"scans normalised as one of: {'; '.join(known)}", found,
                        "Use the code it was made by.")

    weights = state.pop("network")
    try:
        model = BestModel.model_validate(state)
        model.check()

        # On this device a network takes no memory, however wide the file says that it is.
        with torch.device("meta"):
            expected = shapes_of(build(*model.build).state_dict())
        if shapes_of(weights) != expected:
            raise ValueError("weights of other shapes")

        network = build(*model.build)
        network.load_state_dict(weights)
    except (ValueError, TypeError, AttributeError, KeyError, RuntimeError) as error:
        raise UserError(path, "a network of this code", in_a_line(error), DO) from None
    if not all_finite(network.state_dict()):
        raise UserError(path, "finite weights", "infinite or NaN ones", DO)
    return network.to(device).eval(), model


def read_model(path):
    """The entries of a best.pt as a dict, none of them looked at; UserError if one is missing."""
    try:
        check_records(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        check_storages(state, os.path.getsize(path))
    except FileNotFoundError:
        raise
    except Exception as error:  # torch raises half a dozen types for a file it did not write
        raise UserError(path, "a checkpoint", f"a file that is not one ({type(error).__name__})",
                        DO) from None

    missing = [name for name in NEEDED if not isinstance(state, dict) or name not in state]
    if missing:
        raise UserError(path, f"a checkpoint with {', '.join(NEEDED)}",
                        f"no {', '.join(missing)}", DO)
    return state


def in_a_line(error):
    """What an error says, in at most 100 characters."""
    text = str(error)
    if isinstance(error, ValidationError):  # pydantic's takes a paragraph for each entry
        first = error.errors()[0]
        text = f"{'.'.join(map(str, first['loc']))} {first['input']!r:.60}"
    return " ".join(text.split())[:100]
