"""Score segmentation masks against references: any two folders of NIfTI files, each scan in 3-D and in mm.

Examples:
  python evaluate.py --predictions results/wmh/gdl/seed0/predictions --data data/wmh
  python evaluate.py --predictions masks/ --references raw/wmh/training/ --ignore 2 --csv out.csv --summary summary.json
  python evaluate.py --compare masks-gdl/ masks-boundary/ --references raw/wmh/training/ --csv differences.csv

Scans are matched by subject. In a flat folder the subject is the file's name without .nii or .nii.gz; otherwise it is
the folder's name in the WMH layout (<subject>/wmh.nii.gz, or a submission's <subject>/result.nii.gz) or the ISLES
layout (case_<n>/SMIR.*.OT.*/SMIR.*.OT.*.nii). Prediction and reference must share one grid; the same grid stored in
another orientation is turned, nothing is resampled.

Scores, one row per scan and label:
  dice                 Dice similarity coefficient, 0 to 1; 1 if both masks are empty
  hd                   Hausdorff distance, mm
  hd95                 95th percentile of the surface distances of both directions pooled, mm (as medpy)
  hd95_challenge       larger of the two directed 95th percentiles, mm (as the WMH 2017 challenge: surfaces per slice)
  lesion_recall        found lesions / lesions of the reference; 1 if it has none (26-connected, as the challenge)
  lesion_precision     true lesions / predicted lesions; 1 if there are none
  lesion_f1            harmonic mean of the two
  volume_difference    absolute volume difference, % of the reference; inf if only the reference is empty
  prediction_ml, reference_ml, prediction_empty, reference_empty
If one mask is empty, distances are the image's diagonal in mm (--empty diagonal) or missing (--empty nan, as in the
challenge).

Printed and written per score: n finite values, their mean, sample standard deviation, median, and a 95 % bootstrap
interval of the mean over scans (percentiles of 10,000 resamples, seed 0). --summary writes nnU-Net's summary.json; its
Dice and IoU follow nnU-Net (null where both masks are empty, left out of the mean), the scores above stand beside them.

--compare A B scores both folders and prints B - A over the scans: mean and median difference, 95 % bootstrap interval
of the mean difference, scans in which B is better and worse, and the p-value of a two-sided Wilcoxon signed-rank test.

Exit status: 0, or 2 with one line that says which file is wrong and what to do. Nothing is written in that case.
"""

import utils  # noqa: F401  isort: skip (first: Ctrl-C during the imports below is one line)

import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from scans.folder import IGNORED, read_dataset, references_path
from scoring.intervals import RESAMPLES, compare, describe
from scoring.masks import find_masks, match, score_pair
from utils import UserError, argument_parser, clock, log, progress, run_program, write_csv, write_json

# column: (unit, +1 if more is better, -1 if less is)
METRICS = {"dice": ("", 1), "hd": ("mm", -1), "hd95": ("mm", -1), "hd95_challenge": ("mm", -1),
           "lesion_recall": ("", 1), "lesion_precision": ("", 1), "lesion_f1": ("", 1), "volume_difference": ("%", -1)}


def score_folder(predictions, subjects, references, args, folder):
    """[{label: {score: value}}], one per subject, in order; UserError if no mask holds any of the labels."""
    files = [predictions[name] for name in subjects], [references[name] for name in subjects]
    work = partial(score_pair, labels=args.labels, ignored=args.ignore, empty=args.empty)
    with ThreadPoolExecutor(args.jobs) as pool:
        try:
            results = pool.map(work, *files)
            scores = list(progress(results, total=len(subjects), desc=f"scoring {folder}", unit="scan"))
        except BaseException:  # one bad file: do not read the other scans first
            pool.shutdown(cancel_futures=True)
            raise
    for where, values in ((folder, set().union(*(s[1] for s in scores))),
                          (args.references, set().union(*(s[2] for s in scores)))):
        if values - {0, *args.ignore} and not values & set(args.labels):
            raise UserError(where, f"label {' or '.join(map(str, args.labels))} in some mask",
                            f"only the values {', '.join(map(str, sorted(values)[:10]))}", "Give --labels.")
    nowhere = set(args.labels) - set().union(*(s[1] | s[2] for s in scores))
    if nowhere and len(args.labels) > 1:
        log(f"warning: no mask of {folder} or {args.references} holds label {' or '.join(map(str, sorted(nowhere)))}: "
            "nothing against nothing scores as equal")
    return [rows for rows, _, _ in scores]


def side_by_side(a, b):
    """The columns <score>_a, <score>_b and <score>_difference (b - a) of one scan."""
    return {f"{metric}_{which}": value for metric in METRICS
            for which, value in (("a", a[metric]), ("b", b[metric]), ("difference", b[metric] - a[metric]))}


def table(rows, columns):
    """Lines of a table of strings, the first column to the left, the others to the right."""
    rows = [columns, *rows]
    widths = [max(len(row[k]) for row in rows) for k in range(len(columns))]
    return "\n".join("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows)


def named(metric):
    unit = METRICS[metric][0]
    return f"{metric} ({unit})" if unit else metric


def jsonable(value):
    """The same value with NaN and infinities as None, which JSON can hold."""
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [jsonable(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def mean_scores(rows):
    """The mean of each numeric score over rows (dicts), over its finite values, as nnU-Net's nanmean."""
    return {key: describe_mean([row[key] for row in rows]) for key in rows[0] if not key.endswith("_empty")}


def describe_mean(values):
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")


def evaluate(args):
    """Score one folder; print the table and write what was asked for."""
    elapsed = clock()
    predictions, references = find_masks(args.predictions), find_masks(args.references)
    subjects = match(predictions, references, (args.predictions, args.references), args.partial)
    scores = score_folder(predictions, subjects, references, args, args.predictions)
    statistics = {label: {metric: describe([rows[label][metric] for rows in scores]) for metric in METRICS}
                  for label in args.labels}
    if args.csv:
        write_csv(args.csv, [{"subject": name, "label": label, **rows[label]}
                             for name, rows in zip(subjects, scores) for label in args.labels])
    if args.summary:
        means = {label: mean_scores([rows[label] for rows in scores]) for label in args.labels}
        write_json(args.summary, jsonable({
            "foreground_mean": mean_scores(list(means.values())), "mean": means,
            "metric_per_case": [{"metrics": rows, "prediction_file": str(predictions[name]),
                                 "reference_file": str(references[name])} for name, rows in zip(subjects, scores)],
            "statistics": statistics, "seconds": round(elapsed(), 2),
            "settings": {"labels": args.labels, "ignore": args.ignore, "empty": args.empty, "resamples": RESAMPLES}}))
    for label in args.labels:
        empty = [sum(rows[label][key] for rows in scores) for key in ("prediction_empty", "reference_empty")]
        print(f"\nlabel {label}: {len(subjects)} scans, {empty[0]} empty predictions, {empty[1]} empty references")
        print(table([[named(metric), str(s["n"]), *(f"{s[key]:.3f}" for key in ("mean", "std", "median")),
                      f"[{s['ci95_low']:.3f}, {s['ci95_high']:.3f}]"] for metric, s in statistics[label].items()],
                    ["score", "n", "mean", "std", "median", "95 % interval"]))
    return 0


def evaluate_pair(args):
    """Score two folders; print the paired differences and write what was asked for."""
    masks, references = [find_masks(folder) for folder in args.compare], find_masks(args.references)
    common = {name: masks[0][name] for name in match(*masks, args.compare, args.partial)}
    subjects = match(common, references, (args.compare[0], args.references), args.partial)
    a, b = (score_folder(mask, subjects, references, args, folder) for mask, folder in zip(masks, args.compare))
    statistics = {label: {metric: compare(*([rows[label][metric] for rows in scores] for scores in (a, b)), better)
                          for metric, (_, better) in METRICS.items()} for label in args.labels}
    if args.csv:
        write_csv(args.csv, [{"subject": name, "label": label, **side_by_side(x[label], y[label])}
                             for name, x, y in zip(subjects, a, b) for label in args.labels])
    if args.summary:
        write_json(args.summary, jsonable({"a": args.compare[0], "b": args.compare[1], "subjects": subjects,
                                           "differences": statistics}))
    print(f"\na: {args.compare[0]}\nb: {args.compare[1]}")
    for label in args.labels:
        print(f"\nlabel {label}: b - a over {len(subjects)} scans")
        print(table([[named(metric), str(s["n"]), f"{s['mean_a']:.3f}", f"{s['mean_b']:.3f}", f"{s['mean']:+.3f}",
                      f"[{s['ci95_low']:+.3f}, {s['ci95_high']:+.3f}]", f"{s['median']:+.3f}",
                      f"{s['b_better']}/{s['b_worse']}", f"{s['wilcoxon_p']:.3g}"]
                     for metric, s in statistics[label].items()],
                    ["score", "n", "mean a", "mean b", "mean b-a", "95 % interval", "median b-a", "better/worse", "p"]))
    return 0


def parse_arguments(argv):
    parser = argument_parser(__doc__)
    add = parser.add_argument
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--predictions", metavar="FOLDER", help="masks to score")
    what.add_argument("--compare", nargs=2, metavar=("A", "B"), help="two folders of masks to compare, scan by scan")
    truth = parser.add_mutually_exclusive_group(required=True)
    truth.add_argument("--references", metavar="FOLDER", help="masks taken as true")
    truth.add_argument("--data", metavar="FOLDER", help="a data folder of preprocess.py: its references, classes and "
                       "left-out voxels; scans without a prediction are training scans")
    add("--csv", metavar="FILE", help="write the scores (or paired differences) of every scan")
    add("--summary", metavar="FILE", help="write summary.json in nnU-Net's shape (or the comparison's statistics)")
    add("--labels", type=int, nargs="+", metavar="L", help="label values to score, each alone (default 1)")
    add("--ignore", type=int, nargs="+", metavar="L",
        help="labels of the reference whose voxels are left out of both masks; 2 in the WMH challenge (default none)")
    add("--empty", choices=("diagonal", "nan"), default="diagonal",
        help="distance if only one mask is empty (default diagonal)")
    add("--partial", action="store_true", help="score the subjects found in both folders, leave out the others")
    add("--jobs", type=int, default=2, metavar="N", help="scans at a time, each in memory once (default 2)")
    args = parser.parse_args(argv)
    if args.data:
        if args.labels or args.ignore:
            parser.error("--labels, --ignore: not with --data, which says them itself; with --references FOLDER instead")
        dataset = read_dataset(Path(args.data), "Give a data folder of preprocess.py.")
        args.references, args.partial = str(references_path(Path(args.data))), True
        args.labels, args.ignore = list(range(1, len(dataset.classes))), [IGNORED]
    args.labels, args.ignore = args.labels or [1], args.ignore or []
    if args.jobs < 1:
        parser.error(f"--jobs: at least 1, not {args.jobs}")
    if 0 in args.labels or set(args.labels) & set(args.ignore) or len(set(args.labels)) < len(args.labels):
        parser.error("--labels: different labels, none of them 0 (background) or in --ignore")
    return args


def main(argv=None):
    args = parse_arguments(argv)
    return evaluate_pair(args) if args.compare else evaluate(args)


if __name__ == "__main__":
    run_program(partial(main, sys.argv[1:]))
