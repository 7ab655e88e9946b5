"""The settings of a run: whether they fit the data, which of them define it, and config.json."""

import json
import platform
import sys
from pathlib import Path

import numpy as np
import torch
from pydantic import Field

import scheduler
from dataloader import Patches, Slices
from losses_regional import build_loss, inverse_frequency, median_sizes, parts_of
from scans.folder import count_folds, read_split
from scoring.rows import loss_of
from scoring.run_files import RUN_NAME, SAME_IN_ROW, SAME_IN_SET, Config
from training import checkpoint
from training.devices import amp_name
from training.options import ALL, LEAST, MEDIAN
from utils import (
    Description,
    UserError,
    describe_object,
    git_commit,
    read_description,
    read_json,
    remove,
    write_json,
)

# What defines a run: a folder that holds a run of other values is refused. Everything else may
# change when a run continues.
DEFINES = ("loss", "loss_options", "boundary_classes", "seed", "network", "width", "batch_size",
           "lr", "lr_schedule", "schedule", "protocol", "gdl_max_weight", "patch", "layout",
           "source", "size", "data_fingerprint", "score", "fold", "lesion_slices", "augment")


class Session(Description):
    """One of the sessions in config.json: a call of main.py that trained.

    config.json holds all of main.py's options, `layout`, `source`, `size` and `data_fingerprint`
    of the data, what the first session says of itself, and `sessions`; scoring.run_files.Config
    describes what others read of it.
    """

    from_epoch: int = Field(description="the epoch that it began with")
    device: str = Field(description="name of the GPU, or cpu with its threads")
    amp: str = Field(description="bfloat16, float16 or float32")
    processes: int = Field(description="how many trained together")
    deterministic: bool = Field(description="only operations that repeat bit for bit")
    commit: str = Field(description="of this code")
    versions: dict[str, str] = Field(description="of Python and of the packages that compute")
    command: str = Field(description="as it was typed")


# What the options and the data say together -------------------------------------------------------

def open_training(args):
    """What main.py trains on, a Slices or a Patches; options that depend on it are filled in.

    Args:
        args: main.py's options.

    Raises:
        UserError: the options do not fit the data.
    """
    if args.dims == 2:
        train = Slices(args.data, "train", args.fold, args.lesion_slices)
    else:
        train = Patches(args.data, "train", args.patch, args.fold)
    check_fold(args)
    refuse_slice_maps(args, train)

    if args.batch_size is None:
        small = args.protocol == "code2018" and train.settings.layout == "isles"
        args.batch_size = 2 if args.dims == 3 else 4 if small else 8
    asked, args.patch = args.patch, train.patch if args.dims == 3 else None
    if args.patch and max(args.patch) <= LEAST:  # cut to the volumes
        raise UserError("--patch", f"more than {LEAST} voxels along an axis in which the volumes "
                        "have them too", f"{asked}, of which the volumes leave {args.patch}",
                        "Give a larger patch, or leave it out.")
    args.loss_options = with_sizes_of_classes(args, train)
    if args.boundary_classes == [ALL]:
        args.boundary_classes = list(range(len(train.settings.classes)))

    check_loss(args, len(train.settings.classes))
    return train


def check_fold(args):
    """UserError unless --fold is one of the data folder's folds, and given only if it has some."""
    folds = count_folds(read_split(Path(args.data)))
    if folds and args.fold not in range(folds):
        raise UserError("--fold", f"0 to {folds - 1}, one of the folds of {args.data}",
                        "none" if args.fold is None else args.fold,
                        f"Give one (with make, FOLDS={folds}).")
    if not folds and args.fold is not None:
        raise UserError("--fold", f"a data folder split into folds, not {args.data}", args.fold,
                        "Leave it out, or repeat preprocess.py with --split folds:N.")


def refuse_slice_maps(args, train):
    """UserError if a loss of distance maps is to train in 3-D on those of slices."""
    regional, has_boundary = parts_of(args.loss)
    needs_maps = has_boundary or regional == "gsl"
    if args.dims == 3 and needs_maps and train.settings.distance.dims != 3:
        raise UserError(
            args.data, "distance maps of the volumes, for --dims 3", "maps of their slices",
            "Repeat preprocess.py into another folder with --map-dims 3 --unit mm.")


def refuse_missing_score(score, val):
    """UserError if the validation scans have no such score: DSC on lesion slices without any."""
    if score != "val_dice_lesion":
        return
    sizes = val.class_sizes().sum(0)[1:]
    if not sizes.all():
        raise UserError("--score", "validation scans with each class, on whose slices "
                        f"{score} is a mean",
                        f"none with {val.settings.classes[1:][int(np.argmin(sizes))]}",
                        "Choose another score, or split the scans in another way.")


def with_sizes_of_classes(args, train):
    """The loss's options, with what depends on how many training pixels each class has.

    wce and gsl without weights get inverse frequencies, absent_size=median gets sizes.
    """
    options = dict(args.loss_options or {})
    if parts_of(args.loss)[0] in ("wce", "gsl") and "weights" not in options:
        options["weights"] = inverse_frequency(train.class_sizes().sum(0))
    if options.get("absent_size") == MEDIAN:
        options["absent_size"] = median_sizes(train.class_sizes())
    return options or None


def check_loss(args, classes):
    """UserError unless the loss can be built for this many classes."""
    try:
        build_loss(args.loss, classes, args.gdl_max_weight, args.loss_options,
                   args.boundary_classes)
    except ValueError as error:
        name, _, rest = str(error).partition(": expected ")
        expected, _, found = rest.partition(", found ")
        option = f"--{name}" if name == "boundary-classes" else f"--loss-options {name}"
        raise UserError(option, expected, found, "Correct it.") from None


# config.json --------------------------------------------------------------------------------------

def checked_settings(args, train, out):
    """The settings of a run, for config.json.

    Args:
        args: main.py's options, as `open_training` completed them; without a STEP of their own they
            take over that of the run, see `settle_schedule`.
        train: the Slices it trains on.
        out: the run folder.

    Raises:
        UserError: `out` holds a run of other settings; each difference is named.
    """
    data = {"layout": train.settings.layout, "source": train.settings.source,
            "size": train.settings.size, "data_fingerprint": train.fingerprint,
            "folds": count_folds(read_split(Path(args.data))) or None,
            "steps_per_epoch": train.steps(args.batch_size)}
    settle_schedule(args, out)
    settings = {**vars(args), **data, "sessions": []}
    del settings["step_is_default"]

    if not binds(out):
        refuse_other_set(settings, out)
        return settings

    path, do = out / "config.json", "Remove the run directory and start again."
    old = read_json(path, do)
    describe_object(path, old, Config, do, needed=("sessions",))
    defining_ones = {name: settings[name] for name in DEFINES}
    asked, found = checkpoint.differences(defining_ones, old)
    if asked:
        raise UserError(out, f"a run with {asked}", f"one with {found}",
                        "Choose another --out (with make, another NAME), or remove that run.")

    if args.lr_schedule == "poly" and args.epochs != old["epochs"]:
        raise UserError(out, f"a run of {args.epochs} epochs, over which poly lets the rate fall",
                        f"one of {old['epochs']}",
                        "Ask for as many, or choose another --out (with make, another NAME).")

    # Settings younger than the file are not in it: they come first, and what it has goes over them.
    return {**defining_ones, "steps_per_epoch": settings["steps_per_epoch"], **old,
            "data": args.data, "epochs": max(args.epochs, old["epochs"])}


def refuse_other_set(settings, out):
    """UserError if a new run could not be compared with those beside it, before it trains.

    Args:
        settings: what its config.json would hold.
        out: the run folder. Only one named <row>/seed<k> is of a set.
    """
    if not (RUN_NAME.fullmatch(out.name) and loss_of(out.parent.name)):
        return
    new = describe_object(out, json.loads(json.dumps(settings)), Config, "")
    for folder in sorted(out.parent.parent.glob("*/seed*")):
        row = folder.parent.name
        if not (RUN_NAME.fullmatch(folder.name) and loss_of(row) and binds(folder)):
            continue
        other = read_description(folder / "config.json", Config)
        for name in (*SAME_IN_SET, *(SAME_IN_ROW if row == out.parent.name else ())):
            if name != "epochs" and new.get(name) != other.get(name):  # a set can be made longer
                raise UserError(out, f"the same {name} as in {folder} ({other.get(name)})",
                                new.get(name), "Runs that differ are not averaged or compared: "
                                "give the same, or choose another --out (with make, another NAME).")


def settle_schedule(args, out):
    """Let a run keep the STEP of alpha that it began with, where its command says none.

    A new run takes that of the other seeds of its row, since these are averaged.

    Args:
        args: main.py's options; `schedule` is changed in place.
        out: the run folder.
    """
    if not args.step_is_default:
        return
    beside = []
    if RUN_NAME.fullmatch(out.name):
        beside = sorted(path for path in out.parent.glob("seed*") if path.name != out.name
                        and RUN_NAME.fullmatch(path.name))

    for folder in (out, *beside):
        found = schedule_of(folder)
        if found and scheduler.differ_in_step(found, args.schedule):
            args.schedule = found
            return


def schedule_of(folder):
    """The schedule that a run's config.json names; None without a run that binds, or a sound one.
    """
    if not binds(folder):
        return None
    try:
        text = read_json(folder / "config.json")["schedule"]
        scheduler.parse(text)
        return text
    except (UserError, AttributeError, KeyError, TypeError, ValueError):
        return None  # refused where that run is opened


def binds(out):
    """Does a folder hold a run whose settings bind? One that never ended an epoch binds nobody."""
    kept = (checkpoint.LAST, checkpoint.PREVIOUS, "summary.json")
    return (out / "config.json").exists() and any((out / name).exists() for name in kept)


def defining(settings, dataset):
    """The settings that a checkpoint shares with its run; `dataset` is a scans.folder.Dataset."""
    return {**{name: settings[name] for name in DEFINES},
            "classes": len(dataset.classes), "channels": len(dataset.modalities)}


def note_session(out, settings, epoch, epochs, trainer):
    """Note in config.json what trains from here on; the run no longer counts as finished.

    Args:
        out: the run folder.
        settings: as `checked_settings` gave them; changed in place.
        epoch, epochs: the one that this session begins with, and how many there shall be.
        trainer: the Trainer.
    """
    session = Session(
        from_epoch=epoch,
        device=device_name(trainer.device),
        amp=amp_name(trainer.amp),
        processes=trainer.group.world,
        deterministic=torch.are_deterministic_algorithms_enabled(),
        commit=git_commit(),
        versions={"python": platform.python_version(), "torch": torch.__version__,
                  "numpy": np.__version__},
        command=" ".join(["python", "main.py", *sys.argv[1:]]),
    )
    sessions = [*settings["sessions"], session.as_dict()]

    first = {name: value for name, value in sessions[0].items() if name != "from_epoch"}
    settings |= {**first, "sessions": sessions, "epochs": max(epochs, epoch)}
    remove(out / "summary.json")
    write_json(out / "config.json", settings)


def device_name(device):
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    processor = platform.processor() or platform.machine()
    return f"cpu, {torch.get_num_threads()} threads, {processor}"
