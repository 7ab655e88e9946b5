"""config.json: the settings of a run, which of them define it, and the sessions that trained it."""

import platform
import sys

import numpy as np
import torch

import checkpoint
from utils import UserError, amp_name, git_commit, read_object, remove, write_json

# What defines a run: a directory that holds one of other values is refused. Everything else may change on resuming.
DEFINES = ("loss", "seed", "network", "width", "batch_size", "lr", "schedule", "protocol", "gdl_max_weight", "layout",
           "source", "size", "data_fingerprint")


def checked_settings(args, train, out):
    """The settings of a run, for config.json; UserError, naming each difference, if `out` holds a run of others.

    Args:
        args: main.py's options.
        train: the Slices it trains on.
        out: the run directory.
    """
    path = out / "config.json"
    data = {"layout": train.settings["layout"], "source": train.settings["source"], "size": train.settings["size"],
            "data_fingerprint": train.fingerprint}
    settings = {**vars(args), **data, "sessions": []}
    begun = any((out / name).exists() for name in (checkpoint.LAST, checkpoint.PREVIOUS, "summary.json"))
    if path.exists() and begun:  # a run that never ended an epoch binds nobody
        old = read_object(path, {"epochs": int, "sessions": list}, "Remove the run directory and start again.")
        asked, found = checkpoint.differences({key: settings[key] for key in DEFINES}, old)
        if asked:
            raise UserError(out, f"a run with {asked}", f"one with {found}", "Choose another --out, or remove that run.")
        settings = {**old, "data": args.data, "epochs": max(args.epochs, old["epochs"])}
    return settings


def defining(settings, train):
    """The settings that a checkpoint shares with its run."""
    return {**{key: settings[key] for key in DEFINES}, "classes": len(train.settings["classes"]),
            "channels": len(train.settings["modalities"])}


def note_session(out, settings, epoch, epochs, device, amp):
    """Note in config.json what trains from here on; without summary.json the run counts as unfinished again.

    Args:
        out: the run directory.
        settings: as checked_settings gave them; changed in place.
        epoch, epochs: the one that this session begins with, and how many there shall be.
        device, amp: a torch.device and the autocast dtype, or None.
    """
    session = {"from_epoch": epoch, "device": device_name(device), "amp": amp_name(amp),
               "deterministic": torch.are_deterministic_algorithms_enabled(), "commit": git_commit(),
               "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
               "command": " ".join(["python", "main.py", *sys.argv[1:]])}
    sessions = [*settings["sessions"], session]
    settings |= {**{key: value for key, value in sessions[0].items() if key != "from_epoch"}, "sessions": sessions,
                 "epochs": max(epochs, epoch)}
    remove(out / "summary.json")
    write_json(out / "config.json", settings)


def device_name(device):
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu, {torch.get_num_threads()} threads, {platform.processor() or platform.machine()}"
