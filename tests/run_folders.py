"""Small run folders and data folders for tests of what reads them: every number in them can be worked out by hand."""

import csv
import json
import subprocess
import sys

import numpy as np

from checkout import ROOT
from distance import signed_distance
from reporting import formats, notes, table1
from scoring import runs
from training.run_folder import COLUMNS
from utils import read_json

REPORTED = read_json(ROOT / "results" / "reported.json")
DSC = {"boundary": [[0.5] * 8, [0.5] * 8],  # two seeds, eight epochs: the window of last epochs is two
       "gdl": [[0.1, 0.3, 0.6, 0.5, 0.5, 0.5, 0.2, 0.4], [0.1, 0.3, 0.4, 0.5, 0.5, 0.3, 0.4, 0.4]],
       "gdl+boundary": [[0.2, 0.4, 0.5, 0.6, 0.7, 0.7, 0.6, 0.6], [0.2, 0.4, 0.5, 0.6, 0.9, 0.7, 0.8, 0.8]]}


def square(row, column, side, size=24):
    mask = np.zeros((size, size), bool)
    mask[row:row + side, column:column + side] = True
    return mask


def write_data(folder, source="phantom", layout="wmh", name="small", empty=0.5, scans=None):
    """Two validation scans of two slices: one 4x4 lesion in "a"; an 8x8 and a 2x2 one in the second slice of "b".

    `scans` gives others: {"a": [mask (24, 24) of each slice], "b": [...]}.
    """
    info = {"name": name, "layout": layout, "source": source, "modalities": ["FLAIR", "T1"], "size": 24,
            "classes": ["background", "lesion"], "distance": {"convention": "paper", "unit": "px", "dims": 2}}
    subset = {"subjects": 2, "slices": 4, "empty_fraction": empty, "foreground_ratio": 0.04}
    print_ = {**subset, "train": subset, "val": subset, "intensity_range": {"FLAIR": [0, 1]}, "spacing_mm": [1, 1, 3],
              "sha256": "f" * 64}
    none = np.zeros((24, 24), bool)
    scans = scans or {"a": [square(4, 4, 4), none], "b": [none, square(8, 8, 8) | square(2, 18, 2)]}
    folder.mkdir(parents=True)
    (folder / "dataset.json").write_text(json.dumps(info))
    (folder / "fingerprint.json").write_text(json.dumps(print_))
    (folder / "split.csv").write_text("subject,subset\na,val\nb,val\nt,train\n")
    for subject, slices in scans.items():
        place = folder / "subjects" / subject
        place.mkdir(parents=True)
        labels = np.stack(slices)
        head = (20000 + 9000 * np.hypot(*np.mgrid[-1:1:24j, -1:1:24j])).astype(np.uint16)
        np.save(place / "images.npy", np.stack([np.stack([head + 20000 * mask, head]) for mask in labels]).astype("u2"))
        np.save(place / "labels.npy", labels.astype(np.uint8))
        np.save(place / "distance.npy", np.stack([signed_distance(mask) for mask in labels])[:, None])
        (place / "meta.json").write_text(json.dumps({"spacing_mm": [1, 1, 3]}))
    return folder


def write_run(folder, data, loss, seed, dsc, finished=True, epochs=8, **settings):
    """A run with these validation DSC; the other scores follow: 3-D DSC = DSC / 2, HD = 10, HD95 = 5, legacy HD = 2."""
    config = {"loss": loss, "seed": seed, "network": "unet", "width": 8, "epochs": epochs, "batch_size": 8, "lr": 0.001,
              "schedule": "rebalance", "protocol": "paper", "size": 24, "data": str(data), "device": "cpu",
              "data_fingerprint": "f" * 64, "versions": {"numpy": "2"}, **settings}
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    with open(folder / "metrics.csv", "w", newline="") as file:
        rows = csv.DictWriter(file, COLUMNS)
        rows.writeheader()
        for epoch, value in enumerate(dsc, 1):
            rows.writerow({"epoch": epoch, "val_dice": value, "val_dice_3d": value / 2, "val_hd": 10, "val_hd95": 5,
                           "val_hd_legacy": 2, "val_dice_lesion": value / 4, "seconds": 1.5,
                           "val_foreground": 0 if loss == "boundary" else 0.01})
    if finished:
        (folder / "summary.json").write_text(json.dumps({"finished": True, "epochs": len(dsc), "seconds": 12.0}))
        shift = {"gdl": 2, "gdl+boundary": 1}.get(loss)
        masks = {subject: np.load(data / "subjects" / subject / "labels.npy") for subject in ("a", "b")}
        masks = {key: mask * 0 if shift is None else np.roll(mask, shift, axis=1) for key, mask in masks.items()}
        np.savez_compressed(folder / "predictions.npz", **masks)
    return folder


def write_set(root, folder="wmh", losses=DSC, **about):
    data = write_data(root / "data" / folder, **about)
    for loss, seeds in losses.items():
        for seed, dsc in enumerate(seeds):
            write_run(root / "results" / folder / loss / f"seed{seed}", data, loss, seed, dsc)
    return root / "results" / folder


def read_table(folder):
    """Everything in words: {(loss, heading): text} of the only set, the notes and the Markdown."""
    sets = runs.load_sets([folder], None)
    table = table1.build_table(sets, REPORTED)
    heads = table["sets"][0]["headings"]
    cells = {(row["loss"], head): shown.text for row in table["rows"]
             for head, shown in zip(heads, row["groups"][0], strict=True)}
    remarks = notes.notes(sets, REPORTED)
    return cells, "\n".join(remarks), formats.markdown(sets, table, remarks, table1.reported_only(sets, REPORTED))


def run_report(*words, cwd):
    return subprocess.run([sys.executable, ROOT / "report.py", *words], cwd=cwd, capture_output=True, text=True)


def write_long(root, dsc):
    data = write_data(root / "data")
    write_run(root / "results" / "gdl" / "seed0", data, "gdl", 0, dsc, epochs=200)
    return root / "results"


def write_sweep(tmp_path):
    """A set with the schedule's row and two constant alphas."""
    folder = write_set(tmp_path, losses={"gdl": [[0.6] * 8], "gdl+boundary": [[0.7] * 8, [0.75] * 8]})
    for alpha, score in ((0.25, 0.5), (0.5, 0.65)):
        write_run(folder / f"gdl+boundary-alpha{alpha}" / "seed0", tmp_path / "data" / "wmh", "gdl+boundary", 0, [score] * 8,
                  schedule=f"constant:{alpha}")
    return folder
