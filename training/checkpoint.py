"""Checkpoints: files that are read back before they count, with the one before kept.

Checksums are verified, and no object is ever unpickled.
"""

import os
import zipfile

import torch

from scoring.run_files import Config
from utils import UserError, atomic_path, log, remove

LAST, PREVIOUS, ASIDE = "last.pt", "previous.pt", "last.damaged.pt"
# Settings that runs of earlier versions do not have, with what these did.
YOUNGER = {name: Config.model_fields[name].default
           for name in ("score", "lr_schedule", "lesion_slices", "augment")}
OWN = "Put the run's own checkpoint back, or choose another --out."


# Files --------------------------------------------------------------------------------------------

def write_state(path, state, previous=None):
    """torch.save to `path`: written beside it, read back, and only then renamed.

    Args:
        path: the file to write.
        state: tensors, numbers and text in dicts and lists.
        previous: where the file at `path` is moved, once the new one has been read back whole.

    Raises:
        UserError: there is no room, or the file does not read back as it was written. `path` is as
            it was before.
    """
    with atomic_path(path) as partial:
        try:
            torch.save(state, partial)
        except RuntimeError as error:  # torch's word for a full disk
            raise UserError(
                path, "room for a checkpoint", " ".join(str(error).split())[:120],
                "Free some space and repeat the command; the previous checkpoint is kept."
            ) from None

        try:
            check_records(partial)
        except Exception as error:
            raise UserError(
                path, "a disk that keeps what is written to it", f"{type(error).__name__}: {error}",
                "Check the disk and repeat the command; the previous checkpoint is kept.") from None

        if previous is not None and path.exists():
            os.replace(path, previous)


def read_state(path):
    """The state that write_state wrote, its tensors on the CPU.

    Raises:
        UserError: the file is damaged, or holds anything but tensors, numbers and text.
    """
    try:
        check_records(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        check_storages(state, path.stat().st_size)
        return state
    except Exception as error:  # zipfile and torch raise a dozen types for a damaged file
        raise UserError(
            path, "a checkpoint of this run", f"a damaged file ({type(error).__name__})",
            "Remove it: a finished run stays finished without it, an unfinished one begins again."
        ) from None


def check_records(path):
    """ValueError unless the zip that torch.save wrote is whole.

    torch.load ignores the CRC-32 of its records.
    """
    with zipfile.ZipFile(path) as archive:
        # torch writes no compressed records; they could grow beyond the memory.
        if any(record.compress_type != zipfile.ZIP_STORED for record in archive.infolist()):
            raise ValueError("compressed records")
        if (damaged := archive.testzip()) is not None:
            raise ValueError(f"checksum of {damaged}")


def check_storages(state, size):
    """ValueError if a tensor claims more bytes than its file has, `size`.

    torch.load would let it read beyond them.
    """
    for tensor in tensors(state):
        if tensor.untyped_storage().nbytes() > size:
            raise ValueError("a tensor larger than its file")


# Whose state is it? -------------------------------------------------------------------------------

def check_state(path, state, settings, network, columns):
    """UserError unless a state belongs to this run; each setting that differs is named.

    Args:
        path: where it was read.
        state: what read_state gave.
        settings: what the run and its checkpoints share.
        network: state_dict of the network, for its names and shapes.
        columns: of the rows.
    """
    try:
        asked, found = differences(settings, state["settings"])
        if asked:
            raise UserError(path, f"a checkpoint with {asked}", f"one with {found}", OWN)
        problem = (
            "other weights" if shapes_of(state["network"]) != shapes_of(network) else
            "other rows" if not rows_are_sound(state["rows"], columns) else
            "another best epoch" if not best_is_sound(state, network) else
            "another part of an epoch" if not epoch_under_way_is_sound(state["part"]) else
            "another scale of float16" if not scaler_is_sound(state.get("scaler")) else
            "no optimizer" if "param_groups" not in state["optimizer"] else None)
    except (KeyError, TypeError, AttributeError) as error:
        problem = f"other contents ({type(error).__name__}: {error})"
    if problem:
        raise UserError(path, "a checkpoint of this run", problem, OWN)


def rows_are_sound(rows, columns):
    """Are these epochs 0, 1, ... of metrics.csv, with a score and a time each?"""
    return [row["epoch"] for row in rows] == list(range(len(rows))) and all(
        set(row) <= set(columns)
        and isinstance(row["val_dice"] + row["seconds"], float)
        and all(value is None or isinstance(value, int | float) for value in row.values())
        for row in rows)


def best_is_sound(state, network):
    if not state["rows"]:
        return state["best"] is None
    return state["best"] in state["rows"] and (  # of earlier versions it held that network too
        "best_network" not in state or shapes_of(state["best_network"]) == shapes_of(network))


def epoch_under_way_is_sound(entry):
    """Is it None, or what epoch.EpochUnderWay writes?"""
    return entry is None or (
        type(entry["step"]) is int and 0 < entry["step"] <= len(entry["bad"])
        and isinstance(entry["seconds"], float)
        and entry["bad"].dtype == torch.bool and entry["bad"].ndim == 1
        and all(value.shape == () and value.is_floating_point()
                for value in entry["sums"].values()))


def scaler_is_sound(entry):
    """Is it what a GradScaler's state_dict gives, {} of one that scales nothing, or not there?"""
    return not entry or (
        set(entry) == set(torch.amp.GradScaler("cpu").state_dict())
        and all(type(value) in (int, float) and 0 <= value < float("inf")
                for value in entry.values())
        and entry["scale"] > 0)


def optimizer_is_sound(optimizer, settings):
    """Is this Adam one of the network's?

    It must hold two moments of the shape of each parameter, and the settings of each group of
    parameters, but for the learning rate and what belongs to the machine.
    """
    for parameter, values in optimizer.state.items():
        if set(values) != {"step", "exp_avg", "exp_avg_sq"} or values["step"].shape != ():
            return False
        moments = values["exp_avg"], values["exp_avg_sq"]
        if any(moment.shape != parameter.shape or moment.dtype != parameter.dtype
               for moment in moments):
            return False

    return all(group.get(name) == value
               for group, own in zip(optimizer.param_groups, settings, strict=True)
               for name, value in own.items() if name not in ("lr", "params", "capturable"))


def lay_out_moments(optimizer):
    """Give Adam's moments the memory layout of their parameters.

    A checkpoint keeps the layout that it was written in, which differs with device and precision;
    load_state_dict keeps it too. The fused Adam reads weights and moments in the order in which
    they lie in memory: on a CPU it would pair a weight with another one's moments, on a GPU it
    refuses.
    """
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if value.shape == parameter.shape:
                values[name] = torch.empty_like(parameter).copy_(value)


def shapes_of(network):
    return {name: tuple(tensor.shape) for name, tensor in network.items()}


# Contents -----------------------------------------------------------------------------------------

def tensors(state):
    """Every tensor in nested dicts and lists."""
    if isinstance(state, torch.Tensor):
        yield state
    elif isinstance(state, dict | list | tuple):
        for value in state.values() if isinstance(state, dict) else state:
            yield from tensors(value)


def all_finite(state):
    """Is every number in these tensors finite? Waits for the device once."""
    flags = [tensor.isfinite().all() for tensor in tensors(state)]
    return bool(torch.stack(flags).all()) if flags else True


def random_state(device):
    """Entries of a checkpoint: what the next random numbers depend on.

    Those of a CUDA device are for dropout.
    """
    state = {"rng": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda_rng"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state, device):
    """Take over what `random_state` gave; a run that moves to a GPU has nothing for that one."""
    torch.set_rng_state(state["rng"])
    if device.type == "cuda" and "cuda_rng" in state:
        torch.cuda.set_rng_state(state["cuda_rng"], device)


# last.pt and the one before -----------------------------------------------------------------------

def save_last(folder, state):
    """Write last.pt; the one before becomes previous.pt."""
    write_state(folder / LAST, state, folder / PREVIOUS)


def load_last(folder, restore):
    """Restore last.pt, or previous.pt where last.pt is missing, damaged or another run's.

    Which one and why is printed.

    Args:
        folder: the run folder.
        restore: called with the path and the state; raises UserError if it belongs to another run.

    Returns:
        True if a state was restored, False if there is none.

    Raises:
        UserError: there are checkpoints and none of them can be used; it is about last.pt.
    """
    problem = None
    for path in (folder / LAST, folder / PREVIOUS):
        if not path.exists():
            continue
        try:
            restore(path, read_state(path))
        except UserError as error:
            problem = problem or error
            continue
        except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
            problem = problem or UserError(
                path, "a checkpoint of this run", f"other contents ({type(error).__name__})", OWN)
            continue

        if path.name == PREVIOUS:
            why = "it is not there"
            if problem:
                why = f"expected {problem.expected}, found {problem.found}; kept as {ASIDE}"
            log(f"{folder / LAST}: {why}. Continuing from {PREVIOUS}, the checkpoint before it.")
            if problem:  # or the next save would put it in place of the good one
                os.replace(folder / LAST, folder / ASIDE)
        return True

    if problem:
        raise problem
    return False


def forget_previous(folder):
    """A finished run needs no second checkpoint."""
    for name in (PREVIOUS, ASIDE):
        remove(folder / name)


def differences(expected, found):
    """The settings in which two dicts differ, as two texts; both are "" if there are none.

    For example ("width 8, lr 0.1", "width 4, lr 0.001"). Runs older than a setting had its default.
    """
    found = {**YOUNGER, **found}
    names = [name for name in expected if found.get(name) != expected[name]]
    return tuple(", ".join(f"{name} {values.get(name)}" for name in names)
                 for values in (expected, found))
