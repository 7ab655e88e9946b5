"""How long the stages of a reproduction took: noted by each when it ends, read for the page."""

from reporting.page.scores import evaluation_files
from scoring.run_times import noted_seconds, preprocessing_time


def stages(results):
    """[{"stage", "what", "seconds" or None}] of a set's outputs, in the order they are made in."""
    prepared = preprocessing_time(results)
    scans = prepared.scans if prepared else results.fingerprint.get("subjects", "all")

    trained = [run.seconds for run in results.parts if run.rows]
    epochs = sum(len(run.rows) for run in results.parts)

    timed = [noted_seconds(run.folder / "evaluation.json") for run in results.parts]
    timed = [value for value in timed if value is not None]
    scored = sum(path.exists() for run in results.runs for path in evaluation_files(run))
    share = f"{scored}" if scored == len(results.parts) else f"{scored} of {len(results.parts)}"
    untimed = f" ({len(timed)} of them)" if 0 < len(timed) < scored else ""

    return [
        {"stage": "preprocessing",
         "what": f"{scans} scans, checked, resampled, with distance maps",
         "seconds": prepared.seconds if prepared else None},
        {"stage": "training",
         "what": f"{len(trained)} runs, {epochs} epochs, validation included; summed over the runs",
         "seconds": sum(trained) if trained else None},
        {"stage": "evaluation",
         "what": f"{share} runs on the scans' own grid; summed over the runs{untimed}",
         "seconds": sum(timed) if timed else None},
        {"stage": "claims",
         "what": "C1 to C11",
         "seconds": noted_seconds(results.folder / "claims.json")}]
