"""Score segmentation masks against references: folders of NIfTI files, each scan in 3-D and in mm.

Examples:
  python evaluate.py --predictions results/wmh/gdl/seed0/predictions --data data/wmh
  python evaluate.py --predictions masks/ --references raw/wmh/training/ --ignore 2 --csv out.csv
  python evaluate.py --predictions masks/ --references raw/wmh/training/ --ignore 2 --check
  python evaluate.py --compare masks-gdl/ masks-boundary/ --references raw/wmh/training/

Scans are matched by subject. In a flat folder the subject is the name of the file without .nii or
.nii.gz; otherwise it is the name of the folder in the WMH layout (<subject>/wmh.nii.gz, or a
submission's <subject>/result.nii.gz) or the ISLES layout (case_<n>/SMIR.*.OT.*/SMIR.*.OT.*.nii).
Prediction and reference must share one grid. If one of them is stored in another orientation it
is turned; nothing is resampled.

Scores, one row per scan and label:
  dice                 Dice similarity coefficient, 0 to 1; 1 if both masks are empty
  hd                   Hausdorff distance, mm
  hd95                 95th percentile of the surface distances of both directions pooled, mm
                       (as medpy)
  hd95_challenge       larger of the two directed 95th percentiles, mm (as the WMH 2017 challenge:
                       surfaces per slice)
  lesion_recall        found lesions / lesions of the reference; 1 if it has none (26-connected,
                       as the challenge)
  lesion_precision     true lesions / predicted lesions; 1 if none is predicted
  lesion_f1            harmonic mean of the two
  volume_difference    absolute volume difference, % of the reference; inf if only the reference
                       is empty
  prediction_ml, reference_ml, prediction_empty, reference_empty
If one mask is empty, distances are the image's diagonal in mm (--empty diagonal) or missing
(--empty nan, as in the challenge).

Printed and written per score: n finite values, their mean, sample standard deviation, median, and
a 95 % bootstrap interval of the mean over scans (percentiles of 10,000 resamples, seed 0).
--summary writes nnU-Net's summary.json; its Dice and IoU follow nnU-Net (null where both masks are
empty, and not part of the mean), and the scores above stand beside them.

--compare A B scores both folders and prints B - A over the scans: mean and median difference, 95 %
bootstrap interval of the mean difference, scans in which B is better and worse, and the p-value of
a two-sided Wilcoxon signed-rank test.

--check reads every file again with SimpleITK, which must find the same voxels and voxel size, and
computes dice, hd and hd95 again with medpy, which must agree to 1e-6 and 1e-3 mm. It prints the
largest differences. Pairs with an empty mask are left out of medpy's comparison and counted.

Exit status: 0, or 2 with one line that says which file is wrong and what to do. Nothing is written
in that case.
"""

if __name__ == "__main__":  # imports this file as a module; see start
    from utils import start
    start("evaluate")

from pathlib import Path

import numpy as np

from scans.folder import IGNORED, read_dataset, references_path
from scans.inputs import begins_with, note_sizes, refuse_inputs
from scoring.crosscheck import check_folder
from scoring.intervals import RESAMPLES, summarise, summarise_pairs
from scoring.masks import find_masks, match, score_folder
from utils import argument_parser, clock, log, write_csv, write_json

OWN = ("subject,label", '{ "foreground_mean"', '{ "a"')  # how the tables and summaries begin

# column: (unit, +1 if more is better, -1 if less is)
METRICS = {
    "dice": ("", 1),
    "hd": ("mm", -1),
    "hd95": ("mm", -1),
    "hd95_challenge": ("mm", -1),
    "lesion_recall": ("", 1),
    "lesion_precision": ("", 1),
    "lesion_f1": ("", 1),
    "volume_difference": ("%", -1),
}


def evaluate(args):
    """Score one folder; print the table and write what was asked for."""
    elapsed = clock()
    predictions, references = find_masks(args.predictions), find_masks(args.references)
    subjects = match(predictions, references, (args.predictions, args.references), args.partial)
    check_files(args, predictions, references)

    # One {label: {score: value}} per subject, and the statistics over them
    scores = score_subjects(args.predictions, subjects, predictions, references, args)
    statistics = {label: {metric: summarise([scan[label][metric] for scan in scores])
                          for metric in METRICS} for label in args.labels}

    if args.csv:
        write_csv(args.csv, [{"subject": name, "label": label, **scan[label]}
                             for name, scan in zip(subjects, scores) for label in args.labels])
    if args.summary:
        files = [(predictions[name], references[name]) for name in subjects]
        write_json(args.summary, jsonable(nnunet_summary(scores, files, args.labels) | {
            "statistics": statistics,
            "seconds": round(elapsed(), 2),
            "settings": {"labels": args.labels, "ignore": args.ignore, "empty": args.empty,
                         "resamples": RESAMPLES},
        }))

    for label in args.labels:
        empty = [sum(scan[label][key] for scan in scores)
                 for key in ("prediction_empty", "reference_empty")]
        print(f"\nlabel {label}: {len(subjects)} scans, {empty[0]} empty predictions, "
              f"{empty[1]} empty references")
        print(statistics_table(statistics[label]))
    return 0


def evaluate_pair(args):
    """Score two folders; print the paired differences and write what was asked for."""
    masks = [find_masks(folder) for folder in args.compare]
    references = find_masks(args.references)
    common = {name: masks[0][name] for name in match(*masks, args.compare, args.partial)}
    subjects = match(common, references, (args.compare[0], args.references), args.partial)
    check_files(args, *masks, references)

    a, b = (score_subjects(folder, subjects, found, references, args)
            for folder, found in zip(args.compare, masks))
    statistics = {label: {metric: summarise_pairs([scan[label][metric] for scan in a],
                                                  [scan[label][metric] for scan in b], better)
                          for metric, (_, better) in METRICS.items()} for label in args.labels}

    if args.csv:
        write_csv(args.csv, [
            {"subject": name, "label": label, **side_by_side(scan_a[label], scan_b[label])}
            for name, scan_a, scan_b in zip(subjects, a, b) for label in args.labels])
    if args.summary:
        write_json(args.summary, jsonable({"a": args.compare[0], "b": args.compare[1],
                                           "subjects": subjects, "differences": statistics}))

    print(f"\na: {args.compare[0]}\nb: {args.compare[1]}")
    for label in args.labels:
        print(f"\nlabel {label}: b - a over {len(subjects)} scans")
        print(differences_table(statistics[label]))
    return 0


def check_files(args, *masks):
    """Refuse outputs in the place of other files; say so if headers hold no voxel size."""
    inputs = [path for found in masks for path in found.values()]
    refuse_inputs([args.csv, args.summary], inputs, begins_with(*OWN))
    note_sizes(inputs)


def score_subjects(folder, subjects, predictions, references, args):
    """[{label: {score: value}}], one per subject, in order; with --check, checked."""
    files = [predictions[name] for name in subjects], [references[name] for name in subjects]
    scores = score_folder((folder, args.references), *files, args.labels, args.ignore, args.empty,
                          args.jobs)
    if args.check:
        which = f" of {folder}" if args.compare else ""
        log(f"check{which}: {check_folder(*files, scores, args.ignore, args.jobs)}")
    return scores


# What is written and printed ---------------------------------------------------------------------

def nnunet_summary(scores, files, labels):
    """The part of summary.json that nnU-Net writes too."""
    means = {label: mean_scores([scan[label] for scan in scores]) for label in labels}
    return {
        "foreground_mean": mean_scores(list(means.values())),
        "mean": means,
        "metric_per_case": [
            {"metrics": scan, "prediction_file": str(prediction), "reference_file": str(reference)}
            for scan, (prediction, reference) in zip(scores, files)],
    }


def mean_scores(rows):
    """The mean of each numeric score over rows (dicts), over its finite values as in nnU-Net."""
    return {key: finite_mean([row[key] for row in rows])
            for key in rows[0] if not key.endswith("_empty")}


def finite_mean(values):
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")


def jsonable(value):
    """The same value with NaN and infinities as None, which JSON can hold."""
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [jsonable(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def side_by_side(a, b):
    """The columns <score>_a, <score>_b and <score>_difference (b - a) of one scan."""
    columns = {}
    for metric in METRICS:
        columns[f"{metric}_a"] = a[metric]
        columns[f"{metric}_b"] = b[metric]
        columns[f"{metric}_difference"] = b[metric] - a[metric]
    return columns


def statistics_table(statistics):
    """{metric: `summarise`} as text."""
    columns = ["score", "n", "mean", "std", "median", "95 % interval"]
    return table(columns, [
        [with_unit(metric), str(s["n"]), f"{s['mean']:.3f}", f"{s['std']:.3f}",
         f"{s['median']:.3f}", f"[{s['ci95_low']:.3f}, {s['ci95_high']:.3f}]"]
        for metric, s in statistics.items()])


def differences_table(statistics):
    """{metric: `summarise_pairs`} as text."""
    columns = ["score", "n", "mean a", "mean b", "mean b-a", "95 % interval", "median b-a",
               "better/worse", "p"]
    return table(columns, [
        [with_unit(metric), str(s["n"]), f"{s['mean_a']:.3f}", f"{s['mean_b']:.3f}",
         f"{s['mean']:+.3f}", f"[{s['ci95_low']:+.3f}, {s['ci95_high']:+.3f}]",
         f"{s['median']:+.3f}", f"{s['b_better']}/{s['b_worse']}", f"{s['wilcoxon_p']:.3g}"]
        for metric, s in statistics.items()])


def with_unit(metric):
    unit = METRICS[metric][0]
    return f"{metric} ({unit})" if unit else metric


def table(columns, rows):
    """Lines of a table of strings, the first column to the left, the others to the right."""
    rows = [columns, *rows]
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows)


# The command line ---------------------------------------------------------------------------------

def build_parser():
    parser = argument_parser(__doc__)
    add = parser.add_argument

    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--predictions", metavar="FOLDER", help="masks to score")
    what.add_argument("--compare", nargs=2, metavar=("A", "B"),
                      help="two folders of masks to compare, scan by scan")
    truth = parser.add_mutually_exclusive_group(required=True)
    truth.add_argument("--references", metavar="FOLDER", help="masks taken as true")
    truth.add_argument("--data", metavar="FOLDER",
                       help="a data folder of preprocess.py: its references, classes and left-out "
                            "voxels; scans without a prediction are training scans")

    add("--csv", metavar="FILE", help="write the scores (or paired differences) of every scan")
    add("--summary", metavar="FILE",
        help="write summary.json in nnU-Net's shape (or the comparison's statistics)")
    add("--labels", type=int, nargs="+", metavar="L",
        help="label values to score, each alone (default 1)")
    add("--ignore", type=int, nargs="+", metavar="L",
        help="labels of the reference whose voxels are left out of both masks; 2 in the WMH "
             "challenge (default none)")
    add("--empty", choices=("diagonal", "nan"), default="diagonal",
        help="distance if only one mask is empty (default diagonal)")
    add("--partial", action="store_true",
        help="score the subjects found in both folders, leave out the others")
    add("--check", action="store_true",
        help="check every scan with SimpleITK and medpy; takes a few times as long")
    add("--jobs", type=int, default=2, metavar="N",
        help="scans at a time, each in memory once (default 2)")
    return parser


def parse_arguments(argv):
    parser = build_parser()
    args = parser.parse_args(argv)

    if args.data:
        if args.labels or args.ignore:
            parser.error("--labels, --ignore: not with --data, which settles them; give "
                         "--references FOLDER instead")
        dataset = read_dataset(Path(args.data), "Give a data folder of preprocess.py.")
        args.references, args.partial = str(references_path(Path(args.data))), True
        args.labels, args.ignore = list(range(1, len(dataset.classes))), [IGNORED]
    args.labels, args.ignore = args.labels or [1], args.ignore or []

    if args.jobs < 1:
        parser.error(f"--jobs: at least 1, not {args.jobs}")
    if (0 in args.labels or set(args.labels) & set(args.ignore)
            or len(set(args.labels)) < len(args.labels)):
        parser.error("--labels: different labels, none of them 0 (background) or in --ignore")
    return args


def main(argv=None):
    args = parse_arguments(argv)
    return evaluate_pair(args) if args.compare else evaluate(args)
