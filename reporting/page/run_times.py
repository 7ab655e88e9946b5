"""How long the stages of a reproduction took: noted by each when it ends, read for the page."""

from scoring.run_times import noted_seconds, preprocessing_time


def stages(results):
    """[{"stage", "what", "seconds" or None}] of a set's outputs, in the order they are made in."""
    prepared = preprocessing_time(results)
    scans = prepared.scans if prepared else results.fingerprint.get("subjects", "all")

    trained = [run.seconds for run in results.parts if run.rows]
    epochs = sum(len(run.rows) for run in results.parts)

    scored = [noted_seconds(run.folder / "evaluation.json") for run in results.parts]
    known = [value for value in scored if value is not None]
    share = f"{len(known)} of {len(scored)}" if 0 < len(known) < len(scored) else f"{len(scored)}"

    return [
        {"stage": "preprocessing",
         "what": f"{scans} scans, checked, resampled, with distance maps",
         "seconds": prepared.seconds if prepared else None},
        {"stage": "training",
         "what": f"{len(trained)} runs, {epochs} epochs, validation included; summed over the runs",
         "seconds": sum(trained) if trained else None},
        {"stage": "evaluation",
         "what": f"{share} runs on the scans' own grid; summed over the runs",
         "seconds": sum(known) if known else None},
        {"stage": "claims",
         "what": "C1 to C11",
         "seconds": noted_seconds(results.folder / "claims.json")}]
