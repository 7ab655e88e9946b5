"""The WMH challenge's own test set: finished models on its 110 public test scans, by its rules.

Examples:
  python -m scoring.test_set --runs results/wmh --raw data/raw
  python -m scoring.test_set --runs results/wmh --raw data/raw --only gdl/seed0

`make wmh TEST=yes` fetches the scans, predicts them with each run and calls this. The masks of a
run are <row>/seed<k>/test/<scan>.nii.gz, as written by
python predict.py --resume --checkpoint best.pt --out test FOLDER, each by that same best.pt; a run
that has not finished, or has no test/, is named and left out. The scans are in a folder test/ at
most three folders below --raw. None of them may be among the scans that the models were trained or
validated on: the files are compared.

The scores are Dice, HD95, absolute volume difference, recall and F1 of lesions, as in the
challenge's program (python evaluate.py --protocol wmh). Reported numbers, from the leaderboard and
further human raters, are shown beside them only for the challenge's complete test set and models of
its own training scans.

Written to each run: test.csv, a row per scan; a scan whose mask and reference are the same as
before is not scored again. Written to --runs, without --only: test_set.csv, a row per run and scan,
and test_set.md, the table, overall and per scanner, which is printed too. Intervals are over scans
and seeds (see scoring/intervals.py); in cross-validation each fold's model is a run of its own.

Exit status: 0, or 2 with one line that says which file is wrong and what to do.
"""

if __name__ == "__main__":  # imports this file as a module; see start
    from utils import start
    start("scoring.test_set")

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scans import folder
from scans.checks import check_label
from scans.datasets import DATASETS
from scans.inputs import PRECISIONS, begins_with, by_models, is_described_as, refuse_inputs
from scans.test_scans import find_test_scans, scanner_of, source_of
from scans.transfer import file_checksum
from scoring.challenge import wmh_masks, wmh_scores_of_masks
from scoring.masks import for_each_scan, read_pair, slice_axis_of, spacing_of
from scoring.run_files import ChallengeScore, read_numbers, read_reported
from scoring.runs import load_run, load_set
from scoring.test_table import best_epoch, is_official, markdown
from utils import UserError, argument_parser, log, write_csv, write_text

SPEC = DATASETS["wmh"]
MASKS, FILE = "test", "test.csv"                  # of a run
TABLE, TEXT = "test_set.csv", "test_set.md"       # of a set
COLUMNS = list(ChallengeScore.model_fields)
ALWAYS = ("reference_ml", "dice", "lesion_recall", "lesion_f1")  # never empty
WORDS = ("set", "source", "loss", "run", "scanner", "subject", "mask", "reference")
OF_THE_RUN = ("set", "source", "loss", "seed", "run", "best_epoch")
PREDICT = "Predict them with make wmh TEST=yes, or predict.py --resume."
REPEAT = "Remove it, or repeat make wmh TEST=yes."


class TestScans(NamedTuple):
    """The test scans: their folder, [Subject], and whose they are (see `source_of`)."""

    folder: Path
    scans: list
    source: str


# One run ------------------------------------------------------------------------------------------

def score_run(place, tests, jobs):
    """Score a run's masks of the test scans and write its test.csv.

    Args:
        place: the run folder.
        tests: the TestScans.
        jobs: scans at a time.

    Returns:
        its rows, dicts of COLUMNS, in the order of the scans.

    Raises:
        UserError: a mask is missing, of another model, or does not fit its scan.
    """
    masks = masks_of(place, tests)
    rows = [{"subject": scan.name, "scanner": scanner_of(scan, tests.folder, SPEC),
             "mask": file_checksum(mask, "sha256"),
             "reference": file_checksum(scan.files["label"][0], "sha256")}
            for scan, mask in zip(tests.scans, masks, strict=True)]

    known = {(row["mask"], row["reference"]): row for row in read_rows(place / FILE)}
    missing = [at for at, row in enumerate(rows) if (row["mask"], row["reference"]) not in known]
    scores = for_each_scan(score_mask, [masks[at] for at in missing],
                           [tests.scans[at].files["label"][0] for at in missing], jobs=jobs,
                           desc=f"scoring {place / MASKS}") if missing else []
    known |= {(rows[at]["mask"], rows[at]["reference"]): scored
              for at, scored in zip(missing, scores, strict=True)}

    rows = [{**known[row["mask"], row["reference"]], **row} for row in rows]
    write_csv(place / FILE, [{name: row[name] for name in COLUMNS} for row in rows])
    return rows


def masks_of(place, tests):
    """The paths of a run's masks, in the order of the scans.

    Raises:
        UserError: one is missing, or was not made by this run's best.pt.
    """
    masks = [place / MASKS / f"{scan.name}.nii.gz" for scan in tests.scans]
    missing = [path.name for path in masks if not path.is_file()]
    if missing:
        raise UserError(place / MASKS, f"masks of {len(masks)} test scans",
                        f"{len(masks) - len(missing)}; {missing[0]} is missing", PREDICT)

    checkpoint = place / "best.pt"
    if checkpoint.exists():  # published results come without
        model = by_models([checkpoint])
        # In a precision of its own where predict.py's device lacks that of the training
        ways = [model, *(f"{model}, {precision}" for precision in PRECISIONS.values())]
        others = [path for path in masks if not any(is_described_as(path, way) for way in ways)]
        if others:
            raise UserError(others[0], f"a mask by {checkpoint}",
                            "one by another model, or made in another way", PREDICT)
    return masks


def score_mask(mask, reference_path):
    """{column: value} of one mask: the challenge's scores, None where there is none."""
    predicted, truth, reference = read_pair(mask, reference_path)
    check_label(reference_path, truth, SPEC)
    pred, target, _ = wmh_masks(predicted, truth)

    spacing = spacing_of(reference)
    scores = wmh_scores_of_masks(pred, target, spacing, slice_axis_of(reference))
    volume = float(np.count_nonzero(target) * np.prod(spacing) / 1000)
    return {"reference_ml": volume} | {name: float(value) if math.isfinite(value) else None
                                       for name, value in scores.items()}


def read_rows(path, before=()):
    """The rows of a table of this program, with the columns `before` COLUMNS; [] without it."""
    return read_numbers(path, (*before, *COLUMNS), WORDS, ALWAYS, REPEAT)


# All runs of a set --------------------------------------------------------------------------------

def score_set(results, tests, jobs):
    """The rows of test_set.csv, of every finished run with masks.

    Raises:
        UserError: no run has them.
    """
    rows = []
    for loss in results.losses:
        for run in results.models(loss):
            if (run.folder / MASKS).is_dir():
                about = (results.title, tests.source, loss, run.config.seed, run.folder.name,
                         best_epoch(run))
                rows += [{**dict(zip(OF_THE_RUN, about, strict=True)), **row}
                         for row in score_run(run.folder, tests, jobs)]
    if not rows:
        raise UserError(results.folder, f"finished runs with {MASKS}/, their masks of the test "
                        "scans", "none", PREDICT)
    return rows


def load_rows(results):
    """The rows of test_set.csv in a set's folder, [] if it has none."""
    return read_rows(results.folder / TABLE, OF_THE_RUN)


def refuse_trained(results, tests):
    """UserError if a test scan is one of those that the set's models were trained or validated on.

    Told by the sha256 of each modality's file, which no two scans share.
    """
    known = {}
    for name in folder.read_split(results.data):
        if folder.meta_path(folder.subject_path(results.data, name)).exists():
            sources = folder.read_meta(results.data, name).sources or {}
            known |= {sources.get(modality): name for modality in SPEC.modalities}

    for scan in tests.scans:
        for modality in SPEC.modalities:
            path = scan.files[modality][0]
            if name := known.get(file_checksum(path, "sha256")):
                raise UserError(path, f"a scan that is not among those of {results.data}",
                                f"the file of its scan {name}",
                                "Train without it: a folder test/ of --raw is never entered.")


def parse_arguments(argv):
    parser = argument_parser(__doc__, "python -m scoring.test_set")
    add = parser.add_argument
    add("--runs", required=True, type=Path, metavar="FOLDER",
        help="folder of one data set's runs, e.g. results/wmh")
    add("--raw", required=True, type=Path, metavar="FOLDER",
        help="where the raw scans are; the test scans in a folder test/ in or below it")
    add("--data", type=Path, metavar="FOLDER",
        help="the data folder (default: what the runs name)")
    add("--only", metavar="RUN", help="score this one run, e.g. gdl/seed0, and make no table")
    add("--jobs", type=int, default=2, metavar="N", help="scans at a time (default 2)")
    args = parser.parse_args(argv)
    if not 1 <= args.jobs <= 256:
        parser.error(f"--jobs: from 1 to 256, found {args.jobs}")
    return args


def main(argv=None):
    args = parse_arguments(argv)
    tests = load_tests(args.raw)
    if args.only:
        run = load_run(args.runs / args.only)
        if not run.finished:
            raise UserError(run.folder, "a finished run", "one that is not finished",
                            "Finish its training first.")
        score_run(run.folder, tests, args.jobs)
        return 0

    results = load_set(args.runs, args.data)
    outputs = [args.runs / TABLE, args.runs / TEXT]
    refuse_inputs(outputs, [], begins_with(",".join(OF_THE_RUN), "# Test set"))
    refuse_trained(results, tests)

    rows = score_set(results, tests, args.jobs)
    reported = read_reported()
    text = markdown(results, rows, reported["wmh_test"] if is_official(results, rows) else None)
    write_csv(outputs[0], rows, [*OF_THE_RUN, *COLUMNS])
    write_text(outputs[1], text)
    log(text)
    log(str(outputs[1]))
    return 0


def load_tests(raw):
    """The TestScans below `raw`; UserError: see `find_test_scans`."""
    place, scans = find_test_scans(raw, SPEC)
    return TestScans(place, scans, source_of(scans, SPEC))
