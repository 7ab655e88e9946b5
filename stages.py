"""How long the stages of a reproduction took: noted when each ends, read by report.py; "not recorded" for older outputs."""

import time
from pathlib import Path

from utils import UserError, read_object, write_json

FILE = "run_time.json"  # in a data folder; nothing depends on it


def note_preprocessing(out, seconds, scans, total):
    """Add a call of preprocess.py to the data folder's run time.

    Args:
        out: the data folder.
        seconds: wall time of this call.
        scans, total: converted by this call, and in the set. A call that converted all of them begins a new record; one
            that found nothing to do leaves no trace.
    """
    if not scans:
        return
    path = Path(out) / FILE
    before = {} if scans == total or not path.exists() else read_times(path)
    write_json(path, {"seconds": round(before.get("seconds", 0) + seconds, 1), "scans": before.get("scans", 0) + scans})


def read_times(path):
    """{"seconds", "scans"} of a data folder, {} if its file was lost or changed: a run time is not worth a refusal."""
    try:
        found = read_object(path, ("seconds", "scans"))
    except (UserError, OSError):
        return {}
    return found if is_time(found["seconds"]) and is_time(found["scans"]) else {}


def is_time(value):
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def seconds_in(path):
    """"seconds" of a JSON file that a stage wrote; None where it has none."""
    try:
        value = read_object(path, ("seconds",))["seconds"]
    except (UserError, OSError):
        return None
    return value if is_time(value) else None


def stages(one):
    """[{"stage", "what", "seconds" or None}] of a set's outputs, in the order in which they are made."""
    prepared = read_times(one.data / FILE)
    total = one.fingerprint.get("subjects", "all")
    scored = [seconds_in(run.folder / "evaluation.json") for run in one.runs]
    known = [value for value in scored if value is not None]
    count = f"{len(known)} of {len(scored)} runs" if 0 < len(known) < len(scored) else f"{len(scored)} runs"
    trained, epochs = [run.seconds for run in one.runs if run.rows], sum(len(run.rows) for run in one.runs)
    return [
        {"stage": "preprocessing", "what": f"{prepared.get('scans', total)} scans, checked, resampled, with distance maps",
         "seconds": prepared.get("seconds")},
        {"stage": "training", "what": f"{len(trained)} runs, {epochs} epochs, validation included; summed over the runs",
         "seconds": sum(trained) if trained else None},
        {"stage": "evaluation", "what": f"{count} on the scans' own grid; summed over the runs",
         "seconds": sum(known) if known else None},
        {"stage": "claims", "what": "C1 to C9", "seconds": seconds_in(one.folder / "claims.json")}]


def in_words(seconds):
    """0.4 s, 12 s, 3 min 05 s, 2 h 07 min; "not recorded" for None."""
    if seconds is None:
        return "not recorded"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60:02d} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def clock():
    """A function that gives the seconds since this call."""
    began = time.perf_counter()
    return lambda: time.perf_counter() - began
