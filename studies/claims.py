"""The paper's claims C1 to C9, each measured on the runs there are: statistic, interval, verdict.

Examples:
  python -m studies.claims --runs results/wmh
  python -m studies.claims --runs results/wmh --network-runs results/wmh-unet2018 --device cpu

C1 to C3: GDL + boundary against GDL in DSC, Hausdorff distance and smoothness of the validation
curve. C4: the boundary loss alone collapses. C5: what the boundary term adds to the time of a step.
C6: constant alphas against the schedule. C7: another network. C8: 3-D. C9: Eq. 3 and 4 hold on
shapes with known answers.

Verdicts: "supported"; "not supported", which includes what these runs are too few or too uneven to
show; "not measured", with what to run. Intervals are 95 %, from a bootstrap over validation scans,
the same ones for both losses, and over the seeds of each (see scoring/intervals.py). Runs that
collapsed to empty foreground are left out of means: their DSC is the share of empty slices. A claim
about GDL + boundary is not supported if any of its runs collapsed.

Written: claims.json in --runs, which report.py shows; each claim is printed too.

Exit status: 0 whatever the verdicts, or 2 with one line that says which file is wrong and what to
do.
"""

if __name__ == "__main__":  # imports this file as a module; see start
    from utils import start
    start("studies.claims")

from pathlib import Path

import torch

from scoring.cases import validation_names
from scoring.intervals import FEWEST_SCANS, RESAMPLES, change_in_words, difference
from scoring.row_scores import row_scores
from scoring.rows import BOTH, PAIR, is_variant, schedule_in_words
from scoring.run_files import Config
from scoring.runs import load_set
from studies.identity import error_curves
from studies.smoothness import dice_changes, jitter_ratio
from studies.step_time import input_shape, share_of_step
from studies.verdicts import (
    claim,
    collapsed_in_words,
    judge_difference,
    not_measured,
    settings_as,
)
from studies.volume import train_on_largest_lesion
from training.devices import choose_device
from utils import (
    UserError,
    argument_parser,
    clock,
    log,
    read_description,
    write_json,
)

MARGIN = 0.01      # of DSC, within which C6 and C8 call two rows similar
NEGLIGIBLE = 0.01  # of a step's time, for C5
TEXTS = {
    "C1": "GDL + boundary beats GDL in DSC",
    "C2": "GDL + boundary beats GDL in Hausdorff distance",
    "C3": "its validation curve is smoother near convergence",
    "C4": "the boundary loss alone collapses to empty foreground",
    "C5": "the boundary term adds negligible time to a step",
    "C6": "the alpha schedule is similar to or better than a constant alpha",
    "C7": "it plugs into another architecture",
    "C8": "it extends to 3-D",
    "C9": "Eq. 3 and 4 hold numerically on shapes with known answers",
}


# C1, C2: paired over scans ------------------------------------------------------------------------

def c1(results):
    return judge_difference(results, ("dsc", "dsc_3d"), 1)


def c2(results):
    return judge_difference(results, ("hd", "hd95", "hd_legacy"), -1)


# C3, C4: from the curves --------------------------------------------------------------------------

def c3(results):
    """Ratio of the two losses' jitter: GDL + boundary over GDL, below 1 where it is smoother."""
    pair = [[run for run in results.finished(row) if not (run.collapsed or run.ends_empty)]
            for row in PAIR]
    epochs = min((len(run.rows) for runs in pair for run in runs), default=0)
    window = min(50, epochs // 2)
    if min(map(len, pair)) < 2 or window < 6:
        return not_measured("both losses with two seeds or more that do not collapse, for at least "
                            f"12 epochs, {settings_as(results)}")

    without, with_term = [[dice_changes(run, window) for run in runs] for runs in pair]
    if len({len(changes) for changes in without + with_term}) > 1:
        return not_measured("the runs again whose metrics.csv lacks val_dice in some epochs")

    measured = jitter_ratio(without, with_term)
    gdl, gdl_boundary = (sum(measured[key]) / len(measured[key]) for key in ("gdl", "gdl_boundary"))
    return claim(
        "supported" if measured["high"] < 1 else "not supported",
        f"std of the epoch-to-epoch change of DSC over the last {window} epochs: GDL {gdl:.4f}, "
        f"GDL + boundary {gdl_boundary:.4f}, ratio {measured['ratio']:.2f} "
        f"[{measured['low']:.2f}, {measured['high']:.2f}] over seeds and blocks of epochs",
        window=window, **measured)


def c4(results):
    runs = results.finished("boundary")
    if not runs:
        return not_measured(f"make custom NAME={results.folder.name} LOSSES=boundary, "
                            + settings_as(results))
    final = [run.rows[-1].get("val_foreground") for run in runs]
    if None in final:
        return not_measured("the boundary runs again: their metrics.csv lacks val_foreground")

    empty = sum(run.collapsed for run in runs)
    return claim("supported" if empty == len(runs) else "not supported",
                 f"{empty} of {len(runs)} best models predict no foreground at all; foreground in "
                 f"the last epoch {', '.join(f'{value:.4%}' for value in final)}",
                 collapsed=empty, runs=len(runs), final_foreground=final)


# C5, C8, C9: measured on the spot -----------------------------------------------------------------

def c5(config, channels, classes, device, repeats=100):
    """The verdict on `share_of_step`; config: a run's settings."""
    measured = share_of_step(config, channels, classes, device, repeats)
    low, high = measured["low"], measured["high"]
    verdict = ("supported" if high < NEGLIGIBLE else
               "not supported" if low > NEGLIGIBLE else "not measured")

    size = "x".join(map(str, input_shape(config)))
    where = device.type + (f", {classes} classes" if classes > 2 else "")
    statistic = (f"{measured['share']:+.2%} [{low:+.2%}, {high:+.2%}] of a step: "
                 f"{measured['extra_seconds'] * 1e3:.2f} ms more in loss and gradient beside a "
                 f"step of {measured['step_seconds'] * 1e3:.0f} ms ({config.network}, width "
                 f"{config.width}, {size}, batch {config.batch_size}, {where}); negligible = "
                 "under 1 %")
    if verdict == "not measured":
        statistic += "; too noisy to say, run: make claims on an idle machine"
    return claim(verdict, statistic, **measured)


def c8(results, steps=60):
    """The verdict on `train_on_largest_lesion`."""
    measured = train_on_largest_lesion(results, steps)
    if measured is None:
        return not_measured("a data set whose validation scans bear lesions")

    shape, trained = measured.pop("shape"), measured.pop("trained")
    statistic = (f"on a volume of {' x '.join(map(str, shape))} voxels with its 3-D map in mm the "
                 f"joint loss goes from {measured['first']:.3f} to {measured['last']:.3f} in "
                 f"{steps} steps of a small 3-D network, its DSC to {measured['dsc']:.3f}; "
                 "supported if the loss falls and DSC passes 0.5")
    if trained:
        return claim("supported", statistic, **measured)

    # Where GDL alone learns nothing either, the volume says nothing about the term.
    verdict = "not supported" if measured["dsc_alone"] > 0.5 else "not measured"
    statistic += f" (GDL alone: {measured['dsc_alone']:.3f})"
    if verdict == "not measured":
        statistic += (f", too hard; run: make custom NAME={results.folder.name}-dims3 DIMS=3, with "
                      "these runs' other settings")
    return claim(verdict, statistic, **measured)


def c9():
    """Half of Eq. 3 on discs, squares and random smooth shapes against the continuum's value."""
    curves = error_curves()
    holds = all(curve["order"] > 0.7 and curve["errors"] == sorted(curve["errors"], reverse=True)
                for curve in curves.values())
    listed = ", ".join(f"{name} {curve['errors'][-1]:.3f} (order {curve['order']:.2f})"
                       for name, curve in curves.items())
    return claim("supported" if holds else "not supported",
                 f"relative error at the finest grid, and its order: {listed}", curves=curves)


# C6, C7: other runs -------------------------------------------------------------------------------

def c6(results):
    """The row of the schedule against those of a constant alpha, by slice-mean DSC (best epoch).

    Other schedules (make sweep's STRATEGIES) are named beside it and do not decide: to take the
    best of several would be unfair.
    """
    hint = f"make sweep NAME={results.folder.name}, {settings_as(results)}"
    constant, moving = results.sweep
    if len(constant) < 2 or not moving:
        return not_measured(hint)

    scores = {row: row_scores(results, row) for row in (*constant, *moving)}
    scores = {row: score for row, score in scores.items() if score}
    row, held = choose_schedule(moving, scores), [name for name in constant if name in scores]
    scans = next((score["dsc"].shape[1] for score in scores.values()), 0)
    if len(held) < 2 or not row or scans < FEWEST_SCANS:
        return not_measured(hint)

    means = {name: float(score["dsc"].mean(0).sum() / score["slices"][0].sum())
             for name, score in scores.items()}
    best = max(held, key=means.get)
    against = difference(scores[row], scores[best], "dsc")
    spread = max(means[name] for name in held) - min(means[name] for name in held)
    collapsed = {name: sum(run.collapsed for run in results.finished(name))
                 for name in (*moving, *constant)}
    supported = against["low"] > -MARGIN and not collapsed[row]

    schedules = [row, *(name for name in moving if name in means and name != row)]
    told = [f"{means[name]:.3f} with {schedule_in_words(name)}; " for name in schedules]
    statistic = (f"DSC at the best epoch {''.join(told)}"
                 + ", ".join(f"{means[name]:.3f} with alpha {constant[name]:g}"
                             for name in sorted(held, key=constant.get))
                 + f"; they spread by {spread:.3f}; schedule against the best constant "
                 f"{change_in_words(against)}, similar = not worse by {MARGIN}"
                 + collapsed_in_words(collapsed))
    return claim("supported" if supported else "not supported", statistic, schedule=row, best=best,
                 means=means, spread=spread, against_best=against)


def choose_schedule(moving, scores):
    """The row that decides C6: the runs' own schedule, or another one if only others were run."""
    row = next((row for row in moving if row in scores), None)
    own_collapsed = row and is_variant(row) and not is_variant(moving[0])
    return None if own_collapsed else row


def c7(results, folder=None):
    """C1 on finished runs of another network on the same data.

    They are in `folder`, or, if it is None, in a folder NAME-* beside these runs.
    """
    if folder and not is_other_network(results, Path(folder)):
        network = results.runs[0].config.network
        raise UserError(folder, f"runs of another network than {network} on the same data", "none",
                        "Name another folder with --network-runs.")
    if results.runs[0].config.get("patch") and not folder:
        return claim("not measured",
                     "there is only one 3-D network; other networks are compared on slices")

    name, beside = results.folder.name, results.folder.absolute().parent
    for path in [Path(folder)] if folder else sorted(beside.glob(f"{name}-*")):
        result = judge_other_network(results, path)
        if result:
            return result
    return not_measured(
        f"make custom NAME={name}-unet2018 NETWORK=unet2018, {settings_as(results)}")


def judge_other_network(results, folder):
    """C1 on the runs in `folder`; None if they are of no other network, or do not tell."""
    try:
        other = load_set(folder) if is_other_network(results, folder) else None
    except UserError as error:
        log(f"warning: {error}")
        return None
    result = c1(other) if other else not_measured("")
    if result["verdict"] == "not measured":
        return None

    config, runs = other.runs[0].config, other.finished(BOTH)
    statistic = f"{config.network} of width {config.width}: {result['statistic']}"
    ended = sum(run.ends_empty for run in runs)
    if ended:
        statistic += f"; {ended} of its {len(runs)} runs of {BOTH} end with empty foreground"
    return {**result, "statistic": statistic}


def is_other_network(results, folder):
    """Are the runs in `folder` of the same data and another network?"""
    path = next(iter(sorted(folder.glob("*/seed*/config.json"))), None)
    if path is None:
        return False
    config = read_description(path, Config, "Move this run folder away.")
    own = results.runs[0].config
    return config.data_fingerprint == own.data_fingerprint and config.network != own.network


# C8: whole runs in 3-D ----------------------------------------------------------------------------

def c8_of(results):
    """C8 on whole runs in 3-D: these, or those in NAME-dims3; else what `c8` measures.

    Supported if no run of GDL + boundary collapses or ends empty, and its 3-D DSC is similar to
    that of GDL or better, as in C6.
    """
    folder = results.folder
    if not results.runs[0].config.get("patch"):
        folder = folder.absolute().parent / f"{folder.name}-dims3"
    try:
        other = load_set(folder) if next(folder.glob("*/seed*/config.json"), None) else None
    except UserError as error:
        log(f"warning: {error}")
        other = None

    found = judge_difference(other, ("dsc_3d", "dsc"), 1) if other else {}
    if "differences" not in found:
        result = c8(results)
        if other:
            result["statistic"] += f"; 3-D runs ({folder.name}): {found['statistic']}"
        return result

    config, runs = other.runs[0].config, other.finished(BOTH)
    empty = sum(run.collapsed or run.ends_empty for run in runs)
    holds = found["differences"]["dsc_3d"]["low"] > -MARGIN and not empty
    return {**found, "verdict": "supported" if holds else "not supported", "statistic": (
        f"{config.network} of width {config.width} in 3-D: {found['statistic']}; similar = not "
        f"worse by {MARGIN}; {empty} of {len(runs)} runs of {BOTH} predict no foreground at the "
        "best epoch or the last")}


def parse_arguments(argv):
    parser = argument_parser(__doc__, "python -m studies.claims")
    add = parser.add_argument

    add("--runs", required=True, metavar="FOLDER",
        help="folder of one data set's runs, e.g. results/wmh")
    add("--data", metavar="FOLDER", help="its data folder (default: the one that the runs name)")
    add("--network-runs", metavar="FOLDER",
        help="runs of another architecture, for C7 (default: a folder beside --runs whose name "
             "begins with the same word, if it is of the same data)")
    add("--device", default="auto",
        help="auto, cpu, cuda, cuda:1: where C5 times a step (default auto)")
    add("--threads", type=int, help="CPU threads, as for main.py (default: all cores)")
    return parser.parse_args(argv)


def main(argv=None):
    args, elapsed = parse_arguments(argv), clock()
    if args.threads:
        torch.set_num_threads(max(1, args.threads))
    results = load_set(args.runs, args.data)
    channels, classes = len(results.dataset.modalities), len(results.classes)

    found = {
        "C1": c1(results),
        "C2": c2(results),
        "C3": c3(results),
        "C4": c4(results),
        "C5": c5(results.runs[0].config, channels, classes, choose_device(args.device)),
        "C6": c6(results),
        "C7": c7(results, args.network_runs),
        "C8": c8_of(results),
        "C9": c9(),
    }
    found = {name: {"claim": TEXTS[name], **result} for name, result in found.items()}

    path = Path(args.runs) / "claims.json"
    write_json(path, {
        "set": results.title,
        "validation_scans": len(validation_names(results)),
        "resamples": RESAMPLES,
        "runs": {run.name: len(run.rows) for run in results.runs},
        "seconds": round(elapsed(), 1),
        "claims": found,
    })
    for name, result in found.items():
        log(f"{name} {result['verdict']:>13}  {result['claim']}\n{'':18}{result['statistic']}")
    log(str(path))
    return 0
