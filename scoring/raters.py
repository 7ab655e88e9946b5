"""The human ceiling: how well further raters agree with the reference.

Examples:
  python -m scoring.raters --data data/wmh --raw data/raw --out results/wmh/raters.csv
  python -m scoring.raters --data data/mine --raw scans/

The WMH challenge provides label images by two further raters for its training scans; make wmh
OBSERVERS=yes fetches them. They are looked for in additional_annotations/<rater>/, at most three
folders below --raw, named by subject as evaluate.py finds masks. Each rater's masks of the
validation scans are brought to the network's grid as the reference was, and scored against it as a
model's masks are after every epoch, so that both can share one table.

Printed, and written to --out: one row per rater with the validation columns of metrics.csv (DSC 0
to 1, distances in mm) and the number of scans. report.py shows the rows of
results/<set>/raters.csv below the models'.

Exit status: 0, or 2 with one line that says what is wrong and what to do.
"""

if __name__ == "__main__":  # imports this file as a module; see start
    from utils import start
    start("scoring.raters")

from pathlib import Path

import numpy as np

from scans import folder
from scans.checks import check_grid, check_label
from scans.datasets import get_spec
from scans.inputs import begins_with, refuse_inputs
from scans.resampling import resample_label
from scans.spec_file import spec_of
from scoring.masks import RESAMPLE, find_masks, read_labels
from scoring.scores import epoch_scores, score_scan
from utils import UserError, argument_parser, is_hidden, log, progress, write_csv

FOLDER = "additional_annotations"


def find_raters(raw):
    """{rater: folder} of every further rater at most three folders below `raw`.

    Raises:
        UserError: there is none, or two have the same name.
    """
    raw = Path(raw)
    places = sorted(place for depth in range(4) for place in raw.glob("*/" * depth + FOLDER)
                    if not is_hidden(place, raw))
    raters = [entry for place in places for entry in sorted(place.iterdir())
              if entry.is_dir() and not is_hidden(entry, entry.parent)]

    found = {}
    for rater in raters:
        if rater.name in found:
            raise UserError(rater, "one folder per rater", f"also {found[rater.name]}",
                            "Rename one of the two.")
        found[rater.name] = rater

    if not found:
        raise UserError(raw, f"{FOLDER}/<rater>/ in it or at most three folders below", "none",
                        "Fetch them with make wmh OBSERVERS=yes, or check the path.")
    return found


def score_rater(masks, data, dataset, names):
    """The validation columns of one rater, over the scans that the rater has labelled.

    Args:
        masks: {subject: path} of the rater's label images.
        data: the data folder.
        dataset: what its dataset.json says.
        names: the validation scans.

    Returns:
        {"scans": their number, column: value}; None if the rater has labelled none of them.
    """
    spec, scores = spec_of(dataset, data) or get_spec(dataset.layout), []
    for name in names:
        if name not in masks:
            continue
        path, reference = masks[name], folder.reference_path(data, name)
        values, image = read_labels(path)
        check_label(path, values, spec)
        check_grid(path, image, read_labels(reference)[1], reference, RESAMPLE)

        classes = resample_label(values, spec.label_map, dataset.size, dataset.label_interpolation,
                                 dataset.fill)
        truth = np.asarray(folder.open_array(data, name, "labels"))
        spacing = folder.read_meta(data, name).spacing
        scores.append(score_scan(classes, truth, spacing, len(spec.classes)))

    return {"scans": len(scores), **epoch_scores(scores)} if scores else None


def parse_arguments(argv):
    parser = argument_parser(__doc__, "python -m scoring.raters")
    add = parser.add_argument
    add("--data", required=True, type=Path, metavar="FOLDER",
        help="data folder of preprocess.py: the reference and the validation scans")
    add("--raw", required=True, type=Path, metavar="FOLDER",
        help="where the raw scans and the raters' label images are")
    add("--out", metavar="FILE", help="CSV to write, e.g. results/wmh/raters.csv")
    add("--optional", action="store_true",
        help="raters of other scans than the validation's are left out, not an error")
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_arguments(argv)
    folder.refuse_unfinished(args.data)
    dataset = folder.read_dataset(args.data)
    fingerprint = folder.read_fingerprint(args.data).sha256
    names, raters = folder.subjects_of(args.data, "val"), find_raters(args.raw)
    refuse_inputs([args.out], [], begins_with("rater,"))

    rows = []
    for rater in progress(raters, desc="raters", unit="rater"):
        masks = find_masks(raters[rater])
        scores = score_rater(masks, args.data, dataset, names)
        if scores is None:
            error = UserError(raters[rater], f"masks of validation scans such as {names[0]}",
                              f"others: {min(masks)}", "Name the masks after the subjects.")
            if not args.optional:
                raise error
            log(f"left out: {error}")
            continue

        rows.append({"rater": rater, "val_scans": len(names), "data_fingerprint": fingerprint,
                     **scores})
        log(f"{rater}: {scores['scans']} of {len(names)} validation scans, "
            f"DSC {scores['val_dice']:.3f}, 3-D DSC {scores['val_dice_3d']:.3f}, "
            f"HD95 {scores['val_hd95']:.2f} mm")

    if args.out and rows:
        write_csv(args.out, rows)
    return 0
