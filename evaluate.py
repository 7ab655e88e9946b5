"""Score segmentation masks against references: NIfTI files, each scan in 3-D and in mm.

Examples:
  python evaluate.py --predictions results/wmh/gdl/seed0/predictions --data data/wmh
  python evaluate.py --predictions masks/ --references raw/wmh/training/ --ignore 2 --csv out.csv
  python evaluate.py --predictions masks/ --references raw/wmh/training/ --protocol wmh
  python evaluate.py --predictions mask.nii.gz --references true.nii.gz --lesions lesions.csv
  python evaluate.py --compare masks-gdl/ masks-boundary/ --references raw/wmh/training/ --check

Give two folders of masks, or two masks. Scans in folders are matched by subject. In a flat folder
the subject is the name of the file without .nii or .nii.gz; otherwise it is the name of the folder
in the WMH layout (<subject>/wmh.nii.gz, or a submission's <subject>/result.nii.gz), the ISLES
layout (case_<n>/SMIR.*.OT.*/SMIR.*.OT.*.nii) or that of BraTS (<subject>/<subject>-seg.nii.gz or
_seg.nii.gz; the modalities beside it are not masks). If names in two folders differ only by an
ending _0000, -seg or _seg, they are of one subject. Hidden files are ignored. Prediction and
reference must share one grid. If one of them is stored in another orientation it is turned; nothing
is resampled.

Scores, one row per scan and label:
  dice                 Dice similarity coefficient, 0 to 1; 1 if both masks are empty
  precision, recall    of voxels: true / predicted ones, found / true ones; 1 if there are none
  hd                   Hausdorff distance, mm
  hd95                 95th percentile of the surface distances of both directions pooled, mm
                       (as medpy)
  hd95_directed        larger of the two directed 95th percentiles, mm (as MONAI)
  hd95_challenge       the same with surfaces found per slice, mm (as the WMH 2017 challenge)
  assd                 average symmetric surface distance: mean over both surfaces, mm
  surface_dice         share of both surfaces within --tolerance of the other (NSD), 0 to 1;
                       voxels' centres count, as in MONAI; 1 if both masks are empty, 0 if one is
  lesion_recall        found lesions / lesions of the reference; 1 if it has none (26-connected,
                       as the challenge)
  lesion_precision     true lesions / predicted lesions; 1 if none is predicted
  lesion_f1            harmonic mean of the two
  panoptic_quality     sum of the IoU of lesions that match / (TP + FP / 2 + FN / 2); a match has
                       an IoU above --overlap; 1 if there are no lesions at all
  lesion_count_difference
                       predicted lesions - lesions of the reference
  volume_difference    absolute volume difference, % of the reference; inf if only the reference
                       is empty
  volume_difference_ml predicted volume - volume of the reference, ml
  prediction_ml, reference_ml, prediction_empty, reference_empty, prediction_lesions,
  reference_lesions; and nnU-Net's Dice, IoU, TP, FP, FN, TN, n_pred, n_ref
If one mask is empty, distances are the image's diagonal in mm (--empty diagonal) or missing
(--empty nan, as in the challenge).

Printed and written per score: the number n of finite values, their mean, sample standard deviation
(if n is at least 2), median, and a 95 % bootstrap interval of the mean over scans (percentiles of
10,000 resamples, seed 0, widened as Student's t is for few scans; if n is at least 5). Where --data
knows the scans' patients, a patient's scans are drawn together, and five patients count. --summary
writes nnU-Net's summary.json; its Dice and IoU follow nnU-Net (null where both masks are empty, and
not part of the mean; foreground_mean is null if a class occurs in no mask), and the scores above
are added to them.

--protocol wmh scores as the WMH 2017 challenge's own program does, and prints its five scores in
its order. Unlike with --labels 1 --ignore 2, every value of a prediction from 0.5 upwards is
lesion: a 2 (except within the reference's 2, which is left out of both masks), and a probability of
0.5. Without a predicted lesion there is no distance.

--lesions writes a row per lesion of both masks: subject, label, mask (reference or prediction),
lesion (a number), voxels, volume_ml, found (it shares a voxel with the other mask; a false positive
does not), overlap (share of its voxels that the other mask holds), distance_mm (to the nearest
lesion of the other mask, between voxels' centres; 0 if found, nan if there is none), and the
centroid in the scan's coordinates.

--compare A B scores both and prints B - A over the scans: mean and median difference, 95 %
bootstrap interval of the mean difference, scans in which B is better and worse (for a difference:
nearer to 0), and the p-value of a two-sided Wilcoxon signed-rank test (of the means of patients,
where they are known), if there are five scans.

--check reads every file again with SimpleITK, which must find the same voxels and voxel size, and
computes dice, hd and hd95 again with medpy, which must agree to 1e-6 and 1e-3 mm. It prints the
largest differences. Pairs with an empty mask are left out of medpy's comparison and counted.

Exit status: 0, or 2 with one line that says which file is wrong and what to do. Nothing is written
in that case.
"""

if __name__ == "__main__":  # imports this file as a module; see start
    from utils import start
    start("evaluate")

import math
from pathlib import Path

from scans.folder import (
    IGNORED,
    count_folds,
    number_patients,
    read_dataset,
    read_split,
    references_path,
    refuse_unfinished,
)
from scans.inputs import begins_with, note_sizes, refuse_inputs
from scoring import lesions
from scoring.columns import METRICS, WMH, limits_of
from scoring.crosscheck import check_folder
from scoring.intervals import RESAMPLES, summarise, summarise_pairs
from scoring.masks import Rules, find_all, listed, match, name_of, score_folder
from scoring.summary import jsonable, nnunet_summary
from utils import argument_parser, clock, log, write_csv, write_json

# How the tables and summaries begin; nnU-Net's own summary.json has "Dice" in the place of "dice"
OWN = ("subject,label,dice,", "subject,label,dice_a,", "subject,label,mask,lesion,",
       '{ "foreground_mean": { "dice":', '{ "a": "')


def evaluate(args):
    """Score one folder or file; print the table and write what was asked for."""
    elapsed, labels = clock(), args.rules.labels
    predictions, references = find_all([args.predictions, args.references])
    references = to_be_predicted(args, references, predictions)
    subjects = match(predictions, references, (args.predictions, args.references), args.partial)
    check_files(args, predictions, references)

    # One {label: {score: value}} per subject, and the statistics over them
    scans = score_subjects(args.predictions, subjects, predictions, references, args)
    scores = [scan.scores for scan in scans]
    patients = patients_of(args, subjects, references)
    statistics = {label: {metric: summarise([scan[label][metric] for scan in scores],
                                            limits_of(metric), patients)
                          for metric in args.metrics} for label in labels}

    if args.csv:
        write_csv(args.csv, [{"subject": name, "label": label, **scan[label]}
                             for name, scan in zip(subjects, scores) for label in labels])
    if args.lesions:
        write_csv(args.lesions, [{"subject": name, "label": label, **row}
                                 for name, scan in zip(subjects, scans) for label in labels
                                 for row in scan.lesions[label]],
                  ["subject", "label", *lesions.COLUMNS])
    if args.summary:
        files = [(predictions[name], references[name]) for name in subjects]
        write_json(args.summary, jsonable(nnunet_summary(scores, files, labels) | {
            "statistics": statistics, "seconds": round(elapsed(), 2),
            "settings": settings(args.rules)}))

    for label in labels:
        empty = [sum(scan[label][key] for scan in scores)
                 for key in ("prediction_empty", "reference_empty")]
        print(f"\nlabel {label}: {in_scans(subjects, patients)}, {empty[0]} empty predictions, "
              f"{empty[1]} empty references")
        print(statistics_table(statistics[label]))
    return 0


def evaluate_pair(args):
    """Score two folders or files; print paired differences and write what was asked for."""
    labels = args.rules.labels
    *masks, references = find_all([*args.compare, args.references])
    references = to_be_predicted(args, references, *masks)
    common = {name: masks[0][name] for name in match(*masks, args.compare, args.partial)}
    subjects = match(common, references, (args.compare[0], args.references), args.partial)
    check_files(args, *masks, references)

    a, b = ([scan.scores for scan in score_subjects(folder, subjects, found, references, args)]
            for folder, found in zip(args.compare, masks))
    patients = patients_of(args, subjects, references)
    statistics = {label: {metric: summarise_pairs([scan[label][metric] for scan in a],
                                                  [scan[label][metric] for scan in b],
                                                  METRICS[metric][1], patients)
                          for metric in args.metrics} for label in labels}

    if args.csv:
        write_csv(args.csv, [
            {"subject": name, "label": label,
             **side_by_side(scan_a[label], scan_b[label], args.metrics)}
            for name, scan_a, scan_b in zip(subjects, a, b) for label in labels])
    if args.summary:
        write_json(args.summary, jsonable({"a": args.compare[0], "b": args.compare[1],
                                           "subjects": subjects, "differences": statistics}))

    print(f"\na: {args.compare[0]}\nb: {args.compare[1]}")
    for label in labels:
        print(f"\nlabel {label}: b - a over {in_scans(subjects, patients)}")
        print(differences_table(statistics[label]))
    return 0


def to_be_predicted(args, references, *masks):
    """The references to which there must be a prediction: with --data, of the validation scans.

    Of a set in folds, all scans of each fold that has a prediction. A prediction of a training scan
    is scored too, and a line says how many there are.

    Args:
        references, masks: {subject: path}.
    """
    if not args.data:
        return references
    split, predicted = read_split(Path(args.data)), set().union(*masks)
    subsets = {name: split.get(name_of(path)) for name, path in references.items()}
    wanted = {subsets.get(name) for name in predicted} if count_folds(split) else {"val"}

    if trained := sorted(name for name in predicted if subsets.get(name) == "train"):
        log(f"{len(trained)} of {len(predicted)} predicted scans are training scans of "
            f"{args.data}: {listed(trained)}")
    return {name: path for name, path in references.items()
            if name in predicted or subsets[name] in wanted}


def patients_of(args, subjects, references):
    """Whose scans the subjects are, int (scans,); None where nothing says it: see --data."""
    names = [name_of(references[name]) for name in subjects]
    return number_patients(Path(args.data), names) if args.data else None


def check_files(args, *masks):
    """Refuse outputs in the place of other files; say so if headers hold no voxel size."""
    inputs = [path for found in masks for path in found.values()]
    refuse_inputs([args.csv, args.summary, args.lesions], inputs, begins_with(*OWN))
    note_sizes(inputs)


def score_subjects(folder, subjects, predictions, references, args):
    """[ScoredScan], one per subject, in order; with --check, checked."""
    files = [predictions[name] for name in subjects], [references[name] for name in subjects]
    scans = score_folder((folder, args.references), *files, args.rules, args.jobs)
    if args.check:
        which = f" of {folder}" if args.compare else ""
        log(f"check{which}: {check_folder(*files, scans, args.rules, args.jobs)}")
    return scans


# What is written and printed ---------------------------------------------------------------------

def settings(rules):
    """What summary.json says about how it was scored."""
    return {"labels": rules.labels, "ignore": rules.ignored, "empty": rules.empty,
            "tolerance_mm": rules.tolerance, "overlap": rules.overlap, "protocol": rules.protocol,
            "resamples": RESAMPLES}


def in_scans(subjects, patients):
    """"50 scans", "50 scans of 25 patients"."""
    count = len(subjects if patients is None else set(patients))
    return f"{len(subjects)} scans" + (f" of {count} patients" if count < len(subjects) else "")


def side_by_side(a, b, metrics):
    """The columns <score>_a, <score>_b and <score>_difference (b - a) of one scan."""
    columns = {}
    for metric in metrics:
        columns[f"{metric}_a"] = a[metric]
        columns[f"{metric}_b"] = b[metric]
        columns[f"{metric}_difference"] = b[metric] - a[metric]
    return columns


def statistics_table(statistics):
    """{metric: `summarise`} as text."""
    columns = ["score", "n", "mean", "std", "median", "95 % interval"]
    return table(columns, [
        [with_unit(metric), str(s["n"]), in_words(s["mean"]), in_words(s["std"]),
         in_words(s["median"]), interval_in_words(s)]
        for metric, s in statistics.items()])


def differences_table(statistics):
    """{metric: `summarise_pairs`} as text."""
    columns = ["score", "n", "mean a", "mean b", "mean b-a", "95 % interval", "median b-a",
               "better/worse", "p"]
    return table(columns, [
        [with_unit(metric), str(s["n"]), in_words(s["mean_a"]), in_words(s["mean_b"]),
         in_words(s["mean"], "+.3f"), interval_in_words(s, "+.3f"), in_words(s["median"], "+.3f"),
         f"{s['b_better']}/{s['b_worse']}", in_words(s["wilcoxon_p"], ".3g")]
        for metric, s in statistics.items()])


def in_words(value, digits=".3f"):
    """A number, or "–" where there is none."""
    return "–" if math.isnan(value) else format(value, digits)


def interval_in_words(statistics, digits=".3f"):
    low, high = statistics["ci95_low"], statistics["ci95_high"]
    return "–" if math.isnan(low) else f"[{low:{digits}}, {high:{digits}}]"


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
    what.add_argument("--predictions", metavar="MASKS", help="masks to score, a folder or one file")
    what.add_argument("--compare", nargs=2, metavar=("A", "B"),
                      help="two folders of masks (or two masks) to compare, scan by scan")
    truth = parser.add_mutually_exclusive_group(required=True)
    truth.add_argument("--references", metavar="MASKS",
                       help="masks taken as true, a folder or one file")
    truth.add_argument("--data", metavar="FOLDER",
                       help="a data folder of preprocess.py: its references, classes and left-out "
                            "voxels; every validation scan (of the folds that are predicted) must "
                            "have a prediction")

    add("--csv", metavar="FILE", help="write the scores (or paired differences) of every scan")
    add("--summary", metavar="FILE",
        help="write summary.json in nnU-Net's shape (or the comparison's statistics)")
    add("--lesions", metavar="FILE", help="write a row for every lesion of both masks")
    add("--protocol", choices=("wmh",),
        help="score by the WMH 2017 challenge's rules in full, and print its five scores")
    add("--labels", type=int, nargs="+", metavar="L",
        help="label values to score, each alone (default 1)")
    add("--ignore", type=int, nargs="+", metavar="L",
        help="labels of the reference whose voxels are left out of both masks; 2 in the WMH "
             "challenge (default none)")
    add("--empty", choices=("diagonal", "nan"),
        help="distance if only one mask is empty (default diagonal)")
    add("--tolerance", type=float, default=Rules.tolerance, metavar="MM",
        help="distance up to which a surface counts as found by surface_dice (default 1)")
    add("--overlap", type=float, default=Rules.overlap, metavar="IOU",
        help="IoU above which two lesions match in panoptic_quality (default 0.5)")
    add("--partial", action="store_true",
        help="score the subjects found in both folders, leave out the others")
    add("--check", action="store_true",
        help="check every scan with SimpleITK and medpy; takes a few times as long")
    add("--jobs", type=int, default=2, metavar="N",
        help="scans at a time, each in memory once (default 2)")
    return parser


def parse_arguments(argv):
    """The arguments, and from them `rules` (the Rules) and `metrics` (the scores to print)."""
    parser = build_parser()
    args = parser.parse_args(argv)
    refuse_contradictions(parser, args)

    labels, ignored, known = args.labels or [1], args.ignore or [], None
    if args.data:
        dataset = read_dataset(Path(args.data), "Give a data folder of preprocess.py.")
        refuse_unfinished(Path(args.data))
        args.references = str(references_path(Path(args.data)))
        labels, ignored = range(1, len(dataset.classes)), [IGNORED]
        known = (0, *labels)
    if args.protocol:
        labels, ignored, args.empty = [1], [2], "nan"
    if 0 in labels or set(labels) & set(ignored) or len(set(labels)) < len(labels):
        parser.error("--labels: different labels, none of them 0 (background) or in --ignore")

    args.metrics = WMH if args.protocol else tuple(METRICS)
    args.rules = Rules(tuple(labels), tuple(ignored), args.empty or Rules.empty, args.tolerance,
                       args.overlap, args.protocol, bool(args.lesions), known)
    return args


def refuse_contradictions(parser, args):
    """End with a usage error where options contradict each other or make no sense."""
    if args.data and (args.labels or args.ignore or args.protocol):
        parser.error("--labels, --ignore, --protocol: not with --data, which settles them; give "
                     "--references FOLDER instead")
    if args.protocol:
        for option, fixed in (("labels", [1]), ("ignore", [2]), ("empty", "nan")):
            if getattr(args, option) not in (None, fixed):
                words = fixed if option == "empty" else fixed[0]
                parser.error(f"--{option}: --protocol {args.protocol} settles it ({words}); leave "
                             "out one of the two")
    if args.lesions and args.compare:
        parser.error("--lesions: with --predictions, not with --compare")
    if args.jobs < 1:
        parser.error(f"--jobs: at least 1, not {args.jobs}")
    if not 0 <= args.tolerance < math.inf:
        parser.error(f"--tolerance: a distance in mm, 0 or more, not {args.tolerance}")
    if not 0 <= args.overlap < 1:
        parser.error(f"--overlap: an IoU from 0 to below 1, not {args.overlap}")


def main(argv=None):
    args = parse_arguments(argv)
    return evaluate_pair(args) if args.compare else evaluate(args)
