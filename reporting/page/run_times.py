"""How long the stages of a reproduction took: noted when each ends, read by report.py; "not recorded" for older outputs."""


from scans.folder import RunTime, read_run_time
from utils import UserError, read_json


def seconds_in(path):
    """"seconds" of a JSON file that a stage wrote; None where it has none."""
    try:
        return RunTime(seconds=read_json(path)["seconds"], scans=0).seconds
    except (UserError, OSError, ValueError, KeyError, TypeError):
        return None


def stages(one):
    """[{"stage", "what", "seconds" or None}] of a set's outputs, in the order in which they are made."""
    prepared = read_run_time(one.data)
    total = prepared.scans if prepared else one.fingerprint.get("subjects", "all")
    scored = [seconds_in(run.folder / "evaluation.json") for run in one.runs]
    known = [value for value in scored if value is not None]
    count = f"{len(known)} of {len(scored)} runs" if 0 < len(known) < len(scored) else f"{len(scored)} runs"
    trained, epochs = [run.seconds for run in one.runs if run.rows], sum(len(run.rows) for run in one.runs)
    return [
        {"stage": "preprocessing", "what": f"{total} scans, checked, resampled, with distance maps",
         "seconds": prepared.seconds if prepared else None},
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

