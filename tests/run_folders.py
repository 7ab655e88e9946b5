"""Small run folders and data folders for tests of what reads them.

Every number in them can be worked out by hand.
"""

import csv
import json
import subprocess

import numpy as np

import forked_python
from checkout import ROOT
from distance import signed_distance
from reporting import formats, table1
from reporting.notes import table_notes
from reporting.page import build
from scoring import runs, scan_scores
from scoring.rows import plain
from training.run_folder import COLUMNS
from utils import read_json

REPORTED = read_json(ROOT / "results" / "reported.json")

# Validation DSC of two seeds, eight epochs: the window of last epochs is two
DSC = {"boundary": [[0.5] * 8, [0.5] * 8],
       "gdl": [[0.1, 0.3, 0.6, 0.5, 0.5, 0.5, 0.2, 0.4],
               [0.1, 0.3, 0.4, 0.5, 0.5, 0.3, 0.4, 0.4]],
       "gdl+boundary": [[0.2, 0.4, 0.5, 0.6, 0.7, 0.7, 0.6, 0.6],
                        [0.2, 0.4, 0.5, 0.6, 0.9, 0.7, 0.8, 0.8]]}


def square(row, column, side, size=24):
    """(size, size) bool: a square from this row and column on."""
    mask = np.zeros((size, size), bool)
    mask[row:row + side, column:column + side] = True
    return mask


# Data folders -------------------------------------------------------------------------------------

def write_data(folder, source="phantom", layout="wmh", name="small", empty=0.5, scans=None):
    """A data folder with two validation scans, "a" and "b"; pixels are 1x1 mm, slices 3 mm apart.

    Args:
        folder: where it is written.
        source, layout, name: entries of dataset.json.
        empty: the share of slices without a lesion that fingerprint.json tells.
        scans: {"a": [mask (24, 24) of each slice], "b": [...]}. Without it both have two slices:
            a 4x4 lesion in the first of "a", an 8x8 and a 2x2 one in the second of "b".
    """
    none = np.zeros((24, 24), bool)
    scans = scans or {"a": [square(4, 4, 4), none],
                      "b": [none, square(8, 8, 8) | square(2, 18, 2)]}
    write_about(folder, source, layout, name, empty)
    for subject, slices in scans.items():
        write_subject(folder / "subjects" / subject, np.stack(slices))
    return folder


def write_about(folder, source, layout, name, empty):
    """dataset.json, fingerprint.json and split.csv."""
    info = {"name": name, "layout": layout, "source": source, "modalities": ["FLAIR", "T1"],
            "size": 24, "classes": ["background", "lesion"],
            "distance": {"convention": "paper", "unit": "px", "dims": 2}}
    subset = {"subjects": 2, "slices": 4, "empty_fraction": empty, "foreground_ratio": 0.04}
    fingerprint = {**subset, "train": subset, "val": subset, "spacing_mm": [1, 1, 3],
                   "intensity_range": {"FLAIR": [0, 1]}, "sha256": "f" * 64}

    folder.mkdir(parents=True)
    (folder / "dataset.json").write_text(json.dumps(info))
    (folder / "fingerprint.json").write_text(json.dumps(fingerprint))
    (folder / "split.csv").write_text("subject,subset\na,val\nb,val\nt,train\n")


def write_subject(place, masks):
    """The arrays of a scan with lesions masks (S, 24, 24), which are bright on its FLAIR image."""
    head = (20000 + 9000 * np.hypot(*np.mgrid[-1:1:24j, -1:1:24j])).astype(np.uint16)
    images = [np.stack([head + 20000 * mask, head]) for mask in masks]      # (C, H, W) each
    distance = np.stack([signed_distance(mask) for mask in masks])[:, None]  # (S, 1, H, W)

    place.mkdir(parents=True)
    np.save(place / "images.npy", np.stack(images).astype("u2"))
    np.save(place / "labels.npy", masks.astype(np.uint8))
    np.save(place / "distance.npy", distance)
    (place / "meta.json").write_text(json.dumps({"spacing_mm": [1, 1, 3]}))


# Run folders --------------------------------------------------------------------------------------

def write_run(folder, data, loss, seed, dsc, finished=True, epochs=8, **settings):
    """A run with a validation DSC of each epoch.

    The other scores follow: 3-D DSC = DSC / 2, HD = 10, HD95 = 5, legacy HD = 2. A finished run
    predicts the truth moved down by two rows (GDL) or by one (GDL + boundary), others nothing.

    Args:
        folder: where it is written.
        data: of `write_data`.
        loss, seed, epochs, settings: entries of config.json.
        dsc: a value for each epoch that was trained.
        finished: is there a summary.json, and are there predictions?
    """
    config = {"loss": plain(loss), "seed": seed, "network": "unet", "width": 8, "epochs": epochs,
              "batch_size": 8, "lr": 0.001, "schedule": "rebalance", "protocol": "paper",
              "size": 24, "data": str(data), "device": "cpu", "data_fingerprint": "f" * 64,
              "versions": {"numpy": "2"}, **settings}
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))

    with open(folder / "metrics.csv", "w", newline="") as file:
        rows = csv.DictWriter(file, COLUMNS)
        rows.writeheader()
        for epoch, value in enumerate(dsc, 1):
            rows.writerow({"epoch": epoch, "val_dice": value, "val_dice_3d": value / 2,
                           "val_hd": 10, "val_hd95": 5, "val_hd_legacy": 2,
                           "val_dice_lesion": value / 4, "seconds": 1.5,
                           "val_foreground": 0 if loss == "boundary" else 0.01})

    if finished:
        summary = {"finished": True, "epochs": len(dsc), "seconds": 12.0}
        (folder / "summary.json").write_text(json.dumps(summary))
        np.savez_compressed(folder / "predictions.npz", **predictions(data, loss))
    return folder


SCAN = {"class_name": "lesion", "slices": 2, "slices_empty": 1, "slices_clean": 1, "dsc": 0.5,
        "dsc_lesion": 0.4, "dsc_3d": 0.3, "hd": 10.0, "hd95": 5.0, "hd_legacy": 2.0,
        "foreground": 0.01, "lesions": 4, "lesions_found": 2, "lesions_predicted": 5,
        "lesions_false": 2, "false_distance": 8.0, "small_lesions": 1, "small_found": 0,
        "medium_lesions": 3, "medium_found": 2, "large_lesions": 0, "large_found": 0}


def write_scores(folder, change=lambda epoch: {}, epochs=8):
    """scores.csv of a run: SCAN for both scans at every epoch, but for what `change` returns."""
    scan_scores.append(folder, [{**SCAN, "epoch": epoch, "subject": subject, **change(epoch)}
                                for epoch in range(1, epochs + 1) for subject in ("a", "b")])


def predictions(data, loss):
    """{scan: classes (S, H, W)} as a finished run predicts them."""
    rows = {"gdl": 2, "gdl+boundary": 1}.get(loss)
    truth = {subject: np.load(data / "subjects" / subject / "labels.npy")
             for subject in ("a", "b")}
    return {subject: labels * 0 if rows is None else np.roll(labels, rows, axis=1)
            for subject, labels in truth.items()}


def write_set(root, folder="wmh", losses=DSC, **about):
    """Data and finished runs of losses {row: DSC of each seed}; returns the folder of the runs.

    `about` goes to `write_data`.
    """
    data = write_data(root / "data" / folder, **about)
    for loss, seeds in losses.items():
        for seed, dsc in enumerate(seeds):
            write_run(root / "results" / folder / loss / f"seed{seed}", data, loss, seed, dsc)
    return root / "results" / folder


def write_long(root, dsc):
    """A set of one run of the GDL that asks for 200 epochs."""
    data = write_data(root / "data")
    write_run(root / "results" / "gdl" / "seed0", data, "gdl", 0, dsc, epochs=200)
    return root / "results"


def write_sweep(tmp_path):
    """A set with the schedule's row and two constant alphas."""
    losses = {"gdl": [[0.6] * 8], "gdl+boundary": [[0.7] * 8, [0.75] * 8]}
    folder, data = write_set(tmp_path, losses=losses), tmp_path / "data" / "wmh"
    for alpha, score in ((0.25, 0.5), (0.5, 0.65)):
        write_run(folder / f"gdl+boundary-alpha{alpha}" / "seed0", data, "gdl+boundary", 0,
                  [score] * 8, schedule=f"constant:{alpha}")
    return folder


# What is read of them -----------------------------------------------------------------------------

def read_table(folder):
    """({(loss, heading): text} of the only set, the notes as text, the Markdown)."""
    sets = runs.load_sets([folder], None)
    table = table1.build_table(sets, REPORTED)
    heads = table["sets"][0]["headings"]
    cells = {(row["loss"], head): shown.text for row in table["rows"]
             for head, shown in zip(heads, row["groups"][0], strict=True)}
    notes, elsewhere = table_notes(sets, REPORTED), table1.reported_only(sets, REPORTED)
    return cells, "\n".join(notes), formats.markdown(sets, table, notes, elsewhere)


def page_of(*folders, drawn=()):
    """report.html of these folders of runs as text; `drawn`: its pictures."""
    sets = runs.load_sets(folders, None)
    table, elsewhere = table1.build_table(sets, REPORTED), table1.reported_only(sets, REPORTED)
    return build.html(sets, table, table_notes(sets, REPORTED), elsewhere, drawn, ["--runs"],
                      REPORTED, elapsed=lambda: 1.5)


def run_report(*words, cwd):
    """report.py in a process of its own."""
    return subprocess.run([forked_python.path(), ROOT / "report.py", *words], cwd=cwd,
                          capture_output=True, text=True)
