"""Runs and sets made up in memory, with the scores of every scan and epoch, for tests of claims."""

from pathlib import Path

import numpy as np

from scans.folder import Dataset
from scoring.run_files import Config, Summary
from scoring.runs import ResultSet, Run

SCANS = ("a", "b", "c", "d", "e", "f")
EPOCHS = 12  # the window of last epochs is 3


def scan_row(epoch, subject, dsc, **changes):
    """A row of scores.csv in which all DSC are the same, and distances fall as they rise.

    Four of ten slices bear no lesion; of eight lesions two are small, of six predicted two false.
    """
    return {"epoch": epoch, "subject": subject, "class_name": "lesion", "slices": 10,
            "slices_empty": 4, "slices_clean": 2, "dsc": dsc, "dsc_lesion": dsc, "dsc_3d": dsc,
            "hd": 30 * (1 - dsc), "hd95": 20 * (1 - dsc), "hd_legacy": 5 * (1 - dsc),
            "foreground": 0.1, "lesions": 8, "lesions_found": 4, "lesions_predicted": 6,
            "lesions_false": 2, "false_distance": 20.0, "small_lesions": 2, "small_found": 1,
            "medium_lesions": 2, "medium_found": 1, "large_lesions": 4, "large_found": 2, **changes}


def empty_row(epoch, subject):
    """The same of an empty prediction: slice DSC is the share of empty slices."""
    none = dict.fromkeys(("lesions_found", "lesions_predicted", "lesions_false", "small_found",
                          "medium_found", "large_found"), 0)
    return {**scan_row(epoch, subject, 0.0), "dsc": 0.4, "slices_clean": 4, "foreground": 0.0,
            "hd": 99.0, "hd95": 99.0, "hd_legacy": 1.0, "false_distance": None, **none}


def made_run(loss="gdl", dsc=0.5, *, seed=0, scans=SCANS, epochs=EPOCHS, finished=True, curve=None,
             empty_from=None, changes=None, **settings):
    """A run with scores.csv.

    Args:
        dsc: of every scan, or of each; the same in all epochs.
        curve: val_dice of each epoch; legacy HD is ten times it.
        empty_from: the epoch from which on it predicts nothing.
        changes: entries of each row of scores.csv, or a function of the scan's place that gives
            them.
        settings: entries of config.json.
    """
    dsc = np.broadcast_to(np.asarray(dsc, float), len(scans))
    curve = [float(dsc.mean())] * epochs if curve is None else list(curve)
    empty_from = len(curve) if empty_from is None else empty_from
    changes = changes if callable(changes) else lambda place, given=changes: given or {}

    rows = [{"epoch": epoch, "val_dice": value, "val_hd_legacy": 10 * value,
             "val_foreground": 0.1 if epoch < empty_from else 0}
            for epoch, value in enumerate(curve)]
    config = {"loss": loss, "seed": seed, "epochs": len(curve), "schedule": "rebalance",
              "score": "val_dice", "network": "unet", "width": 8, "size": 24, **settings}
    summary = Summary(finished=True, epochs=len(curve)) if finished else Summary()
    run = Run(Path("results/x") / loss / f"seed{seed}", Config.model_construct(**config), rows,
              summary)
    run.scans = [
        scan_row(epoch, name, float(score), **changes(place)) if epoch < empty_from else
        empty_row(epoch, name)
        for epoch in range(len(curve))
        for place, (name, score) in enumerate(zip(scans, dsc, strict=True))]
    return run


def made_set(folder, scans=SCANS, source="own", **rows):
    """A ResultSet of these runs; "gdl_boundary" stands for the row gdl+boundary.

    Args:
        folder: where its data folder is made, of which only split.csv is there.
        rows: row -> its runs, or the DSC of each seed, a number or one for each scan.
    """
    data = folder / "data"
    data.mkdir(exist_ok=True)
    (data / "split.csv").write_text(
        "subject,subset\n" + "".join(f"{name},val\n" for name in scans))

    losses = {}
    for name, runs in rows.items():
        loss = name.replace("_", "+").split("-")[0]
        losses[name.replace("_", "+")] = [
            run if isinstance(run, Run) else made_run(loss, run, seed=seed, scans=scans)
            for seed, run in enumerate(runs)]
        for part in (part for run in losses[name.replace("_", "+")] for part in run.parts):
            part.folder = Path("results/x") / name.replace("_", "+") / part.folder.name
    losses = losses or {"gdl": [made_run(finished=False)]}
    dataset = Dataset.model_construct(source=source, layout="wmh")
    return ResultSet(Path("results/x"), data, dataset, None, losses, "x")
