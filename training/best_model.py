"""best.pt: the best epoch's network with all that predict.py needs to use it."""

import os

import torch

from networks import NETWORKS, build
from scans.folder import NORMALISATION
from scoring.run_files import check_patch
from training.checkpoint import check_records, check_storages, shapes_of
from utils import UserError

NEEDED = ("network", "build", "data")
AMP = {"bfloat16": "bf16", "float32": "off"}  # how checkpoints call it -> --amp


def load_model(path, device):
    """The network of a best.pt, ready to predict on `device`, and the checkpoint's other entries as a dict.

    Raises:
        UserError: no checkpoint of main.py, one that is not a best.pt, or scans normalised in a way unknown here.
    """
    do = "Give the best.pt of a run."
    try:
        check_records(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        check_storages(state, os.path.getsize(path))
    except FileNotFoundError:
        raise
    except Exception as error:  # torch raises half a dozen types for a file that is none of its own
        raise UserError(path, "a checkpoint", f"a file that is not one ({type(error).__name__})", do) from None
    missing = [key for key in NEEDED if not isinstance(state, dict) or key not in state]
    if missing:
        raise UserError(path, f"a checkpoint with {', '.join(NEEDED)}", f"no {', '.join(missing)}", do)
    if state.get("normalisation", NORMALISATION) != NORMALISATION:
        raise UserError(path, f"scans normalised as {NORMALISATION}", state["normalisation"], "Use the code it was made by.")
    try:
        check_model(state["build"], state["data"], state.get("patch"))
        with torch.device("meta"):  # takes no memory, whatever the width
            expected = shapes_of(build(*state["build"]).state_dict())
        if shapes_of(state["network"]) != expected:
            raise ValueError("weights of other shapes")
        network = build(*state["build"])
        network.load_state_dict(state["network"])
    except (ValueError, TypeError, AttributeError, KeyError, RuntimeError) as error:
        raise UserError(path, "a network of this code", " ".join(str(error).split())[:100], do) from None
    return network.to(device).eval(), state


def check_model(architecture, data, patch):
    """ValueError, TypeError or KeyError unless the network's arguments fit the data that it was trained on, and its patch."""
    name, channels, classes, width = architecture
    words = [name, data["layout"], data["source"], *data["modalities"], *data["classes"]]
    if not all(isinstance(word, str) for word in words) or not all(type(one) is int for one in (width, data["size"])):
        raise ValueError("settings of other types")
    if [channels, classes] != [len(data["modalities"]), len(data["classes"])] or not (0 < channels < 100 and 1 < classes < 256):
        raise ValueError(f"{channels} channels and {classes} classes for other data")
    if not 1 <= width <= 4096 or not 1 <= data["size"] <= 4096:
        raise ValueError(f"width {width} and size {data['size']}")
    dims = NETWORKS[name].dims if name in NETWORKS else 2
    if (dims == 3) != bool(patch):
        raise ValueError(f"patch {patch!r:.40} for {name}")
    if patch:
        check_patch(patch)
