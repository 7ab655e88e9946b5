"""The paper's claims C1 to C11, each measured on the runs there are: statistic, interval, verdict.

Examples:
  python -m studies.claims --runs results/wmh
  python -m studies.claims --runs results/wmh --network-runs results/wmh-unet2018 --device cpu

C1, C2: GDL + boundary against GDL in DSC and Hausdorff distance. C3: smoothness of the validation
curves. C4: the boundary loss alone collapses (decided by six runs or more that all do, or of which
none does). C5: what the boundary term adds to the time of a step. C6: constant alphas against the
schedule. C7: another network. C8: 3-D. C9: Eq. 3 and 4 hold on shapes with known answers. C10:
small lesions are recovered. C11: false positives far from any lesion are removed.

Verdicts: "supported"; "refuted", if an interval lies entirely on the other side, or beyond the
margin of what C6 and C8 call similar; "undecided", if it does not; "not measured", with one seed,
fewer than 5 scans or patients, or other data missing. Where several measures decide, all must hold:
for C1 slice DSC, the paper's, which an empty mask can win, and 3-D DSC, which it cannot. On a
phantom no claim is judged: only the statistics are written.

Intervals are 95 %, from a bootstrap over validation scans, the same ones for both losses, and over
the seeds of each, widened because there are few (see scoring/intervals.py). Means over the last
epochs decide; those at the best epoch are given beside them. They come from scores.csv. A run that
ends with empty foreground counts in every mean and is named.

Written: claims.json in --runs, which report.py shows; each claim is printed too.

Exit status: 0 whatever the verdicts, or 2 with one line that says which file is wrong and what to
do.
"""

if __name__ == "__main__":  # imports this file as a module; see start
    from utils import start
    start("studies.claims")

from pathlib import Path

import torch

from reporting.notes import left_out
from scoring.cases import validation_names
from scoring.intervals import RESAMPLES
from scoring.runs import load_set
from studies.identity import error_curves
from studies.stability import c3, c4, undecided_where_emptied
from studies.step_time import input_shape, share_of_step
from studies.variants import c6, c7, c8
from studies.verdicts import (
    REFUTED,
    SUPPORTED,
    UNDECIDED,
    claim,
    decide,
    excludes_0,
    judge_difference,
    judge_dsc,
)
from training.devices import choose_device
from utils import argument_parser, clock, log, write_json

NEGLIGIBLE = 0.01  # of a step's time, for C5
OF_A_VERDICT = ("verdict", "excludes_0")  # entries that a phantom has none of
TEXTS = {
    "C1": "GDL + boundary beats GDL in DSC",
    "C2": "GDL + boundary beats GDL in Hausdorff distance",
    "C3": "its validation curves are smoother near convergence",
    "C4": "the boundary loss alone collapses to empty foreground",
    "C5": "the boundary term adds negligible time to a step",
    "C6": "the alpha schedule is similar to or better than a constant alpha",
    "C7": "it plugs into another architecture",
    "C8": "it extends to 3-D",
    "C9": "Eq. 3 and 4 hold numerically on shapes with known answers",
    "C10": "it helps to recover small lesions that GDL misses",
    "C11": "it reduces false positives far from any lesion",
}


# C1, C2, C10, C11: paired over scans --------------------------------------------------------------

def c1(results):
    return judge_dsc(results)


def c2(results):
    return judge_difference(results, ("hd", "hd_legacy"), ("hd95",), sign=-1)


def c10(results):
    """Recall of small lesions, over the scans that contain one."""
    return judge_difference(results, ("recall_small",), ("recall_medium", "recall_large"))


def c11(results):
    """Fewer false lesions, and not those near lesions alone: their distances add up to less.

    Whoever predicts nothing has none, so the claim is not decided in favour of the row of which
    more runs end empty.
    """
    return undecided_where_emptied(results, judge_difference(
        results, ("lesions_false", "false_mm"), ("false_distance", "lesion_recall"), sign=-1))


# C5, C9: measured on the spot ---------------------------------------------------------------------

def c5(config, channels, classes, device, repeats=100):
    """The verdict on `share_of_step`; config: a run's settings."""
    measured = share_of_step(config, channels, classes, device, repeats)
    low, high = measured["low"], measured["high"]
    verdict = decide({"low": low - NEGLIGIBLE, "high": high - NEGLIGIBLE}, -1)

    size = "x".join(map(str, input_shape(config)))
    where = device.type + (f", {classes} classes" if classes > 2 else "")
    statistic = (f"{measured['share']:+.2%} [{low:+.2%}, {high:+.2%}] of a step: "
                 f"{measured['extra_seconds'] * 1e3:.2f} ms more in loss and gradient beside a "
                 f"step of {measured['step_seconds'] * 1e3:.0f} ms ({config.network}, width "
                 f"{config.width}, {size}, batch {config.batch_size}, {where}); negligible = "
                 "under 1 %")
    if verdict == UNDECIDED:
        statistic += "; too noisy to say, run: make claims on an idle machine"
    return claim(verdict, statistic, excludes_0=verdict != UNDECIDED and excludes_0(measured),
                 **measured)


def c9():
    """Half of Eq. 3 on discs, squares and random smooth shapes against the continuum's value."""
    curves = error_curves()
    holds = all(curve["order"] > 0.7 and curve["errors"] == sorted(curve["errors"], reverse=True)
                for curve in curves.values())
    listed = ", ".join(f"{name} {curve['errors'][-1]:.3f} (order {curve['order']:.2f})"
                       for name, curve in curves.items())
    return claim(SUPPORTED if holds else REFUTED,
                 f"relative error at the finest grid, and its order: {listed}", curves=curves)


# Command line -------------------------------------------------------------------------------------

def measure(results, args):
    """{"C1": entry of claims.json, ...}."""
    channels, classes = len(results.dataset.modalities), len(results.classes)
    found = {
        "C1": c1(results),
        "C2": c2(results),
        "C3": c3(results),
        "C4": c4(results),
        "C5": c5(results.runs[0].config, channels, classes, choose_device(args.device)),
        "C6": c6(results),
        "C7": c7(results, args.network_runs),
        "C8": c8(results),
        "C9": c9(),
        "C10": c10(results),
        "C11": c11(results),
    }
    found = {name: {"claim": TEXTS[name], **entry} for name, entry in found.items()}
    if results.is_phantom:
        found = {name: {key: value for key, value in entry.items() if key not in OF_A_VERDICT}
                 for name, entry in found.items()}
    return found


def parse_arguments(argv):
    parser = argument_parser(__doc__, "python -m studies.claims")
    add = parser.add_argument

    add("--runs", required=True, metavar="FOLDER",
        help="folder of one data set's runs, e.g. results/wmh")
    add("--data", metavar="FOLDER", help="its data folder (default: the one that the runs name)")
    add("--network-runs", metavar="FOLDER",
        help="runs of another architecture, for C7 (default: every folder beside --runs that holds "
             "some of the same data)")
    add("--device", default="auto",
        help="auto, cpu, cuda, cuda:1: where C5 times a step (default auto)")
    add("--threads", type=int, help="CPU threads, as for main.py (default: all cores)")
    return parser.parse_args(argv)


def main(argv=None):
    args, elapsed = parse_arguments(argv), clock()
    if args.threads:
        torch.set_num_threads(max(1, args.threads))
    results = load_set(args.runs, args.data)
    for note in left_out(results):
        log(note)
    found = measure(results, args)

    path = Path(args.runs) / "claims.json"
    write_json(path, {
        "set": results.title,
        "validation_scans": len(validation_names(results)),
        "resamples": RESAMPLES,
        "runs": {run.name: len(run.rows) for run in results.runs},
        "seconds": round(elapsed(), 1),
        "claims": found,
    })
    if results.is_phantom:
        log(f"{results.title}: statistics alone, no claim is judged on a phantom")
    for name, entry in found.items():
        log(f"{name:>3} {entry.get('verdict', ''):>12}  {entry['claim']}\n"
            f"{'':18}{entry['statistic']}")
    log(str(path))
    return 0
