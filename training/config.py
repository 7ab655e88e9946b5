"""The settings of a run: whether they fit the data, which of them define it, and config.json with its sessions."""

import platform
import sys

import numpy as np
import torch

from dataloader import Patches, Slices
from losses_regional import build_loss, checked_options, inverse_frequency, parts_of
from scoring.run_files import Config
from training import checkpoint
from training.devices import amp_name
from utils import UserError, describe_object, git_commit, read_json, remove, write_json

# What defines a run: a directory that holds one of other values is refused. Everything else may change on resuming.
DEFINES = ("loss", "loss_options", "boundary_classes", "seed", "network", "width", "batch_size", "lr", "schedule", "protocol",
           "gdl_max_weight", "patch", "layout", "source", "size", "data_fingerprint")


def checked_settings(args, train, out):
    """The settings of a run, for config.json; UserError, naming each difference, if `out` holds a run of others.

    Args:
        args: main.py's options.
        train: the Slices it trains on.
        out: the run directory.
    """
    path = out / "config.json"
    data = {"layout": train.settings.layout, "source": train.settings.source, "size": train.settings.size,
            "data_fingerprint": train.fingerprint}
    settings = {**vars(args), **data, "sessions": []}
    begun = any((out / name).exists() for name in (checkpoint.LAST, checkpoint.PREVIOUS, "summary.json"))
    if path.exists() and begun:  # a run that never ended an epoch binds nobody
        do = "Remove the run directory and start again."
        old = read_json(path, do)
        describe_object(path, old, Config, do, needed=("sessions",))
        asked, found = checkpoint.differences({key: settings[key] for key in DEFINES}, old)
        if asked:
            raise UserError(out, f"a run with {asked}", f"one with {found}",
                            "Choose another --out (with make, another NAME), or remove that run.")
        missing = {key: settings[key] for key in DEFINES}  # in a config.json that was written before there was such a setting
        settings = {**missing, **old, "data": args.data, "epochs": max(args.epochs, old["epochs"])}
    return settings


def loss_options(args):
    """--loss-options as a dict: ["gamma=1", "weights=1,20"] -> {"gamma": 1.0, "weights": [1.0, 20.0]}; None if there are none.

    Raises:
        ValueError: a word is not NAME=NUMBER or NAME=NUMBER,NUMBER,..., or this loss has no such option.
    """
    options = {}
    for word in args.loss_options or ():
        name, _, text = word.partition("=")
        try:
            numbers = [float(number) for number in text.split(",")]
        except ValueError:
            raise ValueError(f"loss-options: expected NAME=NUMBER, or NAME=NUMBER,NUMBER, found {word!r}") from None
        options[name] = numbers if len(numbers) > 1 or name == "weights" else numbers[0]
    checked_options(args.loss, options)
    if args.gdl_max_weight is not None and parts_of(args.loss)[0] not in ("gdl", None):
        raise ValueError(f"gdl-max-weight: expected a loss with gdl, found {args.loss}")
    return options or None


def with_class_weights(args, train):
    """The options of the loss; those of wce without weights get them from the frequencies of the training pixels."""
    options = args.loss_options
    if parts_of(args.loss)[0] == "wce" and "weights" not in (options or {}):
        options = {**(options or {}), "weights": inverse_frequency(train.class_counts())}
    return options


def open_training(args):
    """What main.py trains on, a Slices or a Patches; options that depend on it are filled in.

    Args:
        args: main.py's options.

    Raises:
        UserError: the options do not fit the data.
    """
    train = Slices(args.data, "train") if args.dims == 2 else Patches(args.data, "train", args.patch)
    refuse_slice_maps(args, train)
    if args.batch_size is None:
        small = args.protocol == "code2018" and train.settings.layout == "isles"
        args.batch_size = 2 if args.dims == 3 else 4 if small else 8
    args.patch = train.patch if args.dims == 3 else None
    args.loss_options = with_class_weights(args, train)
    try:
        build_loss(args.loss, len(train.settings.classes), args.gdl_max_weight, args.loss_options, args.boundary_classes)
    except ValueError as error:
        name, _, rest = str(error).partition(": expected ")
        expected, _, found = rest.partition(", found ")
        option = f"--{name}" if name == "boundary-classes" else f"--loss-options {name}"
        raise UserError(option, expected, found, "Correct it.") from None
    return train


def refuse_slice_maps(args, train):
    """UserError if the boundary loss is to train in 3-D on the distance maps of slices."""
    if args.dims == 3 and parts_of(args.loss)[1] and train.settings.distance.dims != 3:
        raise UserError(args.data, "distance maps of the volumes, for --dims 3", "maps of their slices",
                        "Repeat preprocess.py into another folder with --map-dims 3 --unit mm.")


def defining(settings, train):
    """The settings that a checkpoint shares with its run."""
    return {**{key: settings[key] for key in DEFINES}, "classes": len(train.settings.classes),
            "channels": len(train.settings.modalities)}


def note_session(out, settings, epoch, epochs, device, amp, processes=1):
    """Note in config.json what trains from here on; without summary.json the run counts as unfinished again.

    Args:
        out: the run directory.
        settings: as checked_settings gave them; changed in place.
        epoch, epochs: the one that this session begins with, and how many there shall be.
        device, amp: a torch.device and the autocast dtype, or None.
        processes: how many train together.
    """
    session = {"from_epoch": epoch, "device": device_name(device), "amp": amp_name(amp), "processes": processes,
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
