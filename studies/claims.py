"""The paper's claims C1 to C9, each measured on the runs that exist, with its statistic, uncertainty and verdict.

Examples:
  python -m studies.claims --runs results/wmh
  python -m studies.claims --runs results/wmh --network-runs results/wmh-unet2018 --device cpu

C1 to C3: GDL + boundary against GDL in DSC, Hausdorff distance and smoothness of the validation curve. C4: the boundary
loss alone collapses. C5: what the boundary term adds to the time of a step. C6: constant alphas against the
schedule. C7: another network. C8: 3-D. C9: Eq. 3 and 4 hold on shapes with known answers.

Verdicts: "supported"; "not supported", which includes what these runs are too few or too uneven to show; "not measured",
with what to run. Intervals are 95 %, from a bootstrap over validation scans, the same ones for both losses, and over the
seeds of each (see scoring/intervals.py). Runs that collapsed to empty foreground enter no mean: their DSC is the share
of empty slices. A claim about GDL + boundary is not supported if any of its runs collapsed.

Written: claims.json in --runs, which report.py shows; each claim is printed too.

Exit status: 0 whatever the verdicts, or 2 with one line that says which file is wrong and what to do.
"""

if __name__ == "__main__":  # imports this file as a module; see start
    from utils import start
    start("studies.claims")

from pathlib import Path

import numpy as np
import torch

from scoring.cases import validation_names
from scoring.intervals import FEWEST_SCANS, RESAMPLES, difference
from scoring.rows import BOTH, REGIONAL, is_variant, schedule_in_words
from scoring.run_files import Config
from scoring.runs import load_set
from scoring.scores import row_scores
from studies.identity import error_curves
from studies.step_time import input_shape, share_of_step
from studies.volume import train_on_largest_lesion
from training.devices import choose_device
from utils import UserError, argument_parser, clock, log, read_description, run_program, write_json

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


def claim(verdict, statistic, **values):
    """One entry of claims.json."""
    return {"verdict": verdict, "statistic": statistic, **values}


def not_measured(what):
    return claim("not measured", f"run: {what}")


def settings_as(one):
    return f"with the other settings as in {one.runs[0].folder}"


def in_words(value):
    return f"{value['difference']:+.3f} [{value['low']:+.3f}, {value['high']:+.3f}]"


# C1, C2: paired over scans ----------------------------------------------------------------------------------------------

def compare(one, metrics, sign):
    """Paired comparison of BOTH against REGIONAL; `sign` is 1 where more is better. The first metric decides."""
    if not (one.finished(REGIONAL) and one.finished(BOTH)):
        return not_measured(f"make custom NAME={one.folder.name} LOSSES='{REGIONAL} {BOTH}', {settings_as(one)}")
    with_term, without = row_scores(one, BOTH), row_scores(one, REGIONAL)
    collapsed = {row: [run for run in one.finished(row) if run.collapsed] for row in (BOTH, REGIONAL)}
    scans = next((row["dsc"].shape[1] for row in (without, with_term) if row), None)
    if scans and scans < FEWEST_SCANS:
        return claim("not measured", f"needs at least {FEWEST_SCANS} validation scans, here are {scans}")
    if without and len(collapsed[BOTH]) == len(one.finished(BOTH)):
        return claim("not supported", f"every one of {len(collapsed[BOTH])} runs of {BOTH} collapsed to empty foreground")
    if not (with_term and without):
        gone = [row for row in (REGIONAL, BOTH) if len(collapsed[row]) == len(one.finished(row))]
        if gone:
            return claim("not measured", f"every run of {' and of '.join(gone)} predicts no foreground: train longer, or wider")
        return not_measured(f"main.py again where predictions.npz is missing in {one.folder}")
    seeds = [len(row["dsc"]) for row in (without, with_term)]
    values = {name: difference(with_term, without, name) for name in metrics}
    first = values[metrics[0]]
    supported = min(sign * first["low"], sign * first["high"]) > 0 and not collapsed[BOTH]
    statistic = ", ".join(f"{name} {in_words(value)}" for name, value in values.items())
    statistic += f"; {scans} scans, {seeds[0]} and {seeds[1]} seeds" + ("" if min(seeds) > 1 else ", so over scans only")
    statistic += "".join(f"; {len(runs)} runs of {row} collapsed" for row, runs in collapsed.items() if runs)
    return claim("supported" if supported else "not supported", statistic, differences=values, scans=scans,
                 seeds=min(seeds), decided_by=metrics[0])


def c1(one):
    return compare(one, ("dsc", "dsc_3d"), 1)


def c2(one):
    return compare(one, ("hd", "hd95", "hd_legacy"), -1)


# C3, C4: from the curves ------------------------------------------------------------------------------------------------

def changes(run, window):
    """Epoch-to-epoch changes of val_dice over the last `window` epochs."""
    return np.diff([row["val_dice"] for row in run.rows[-window:] if row["val_dice"] is not None])


def draw_jitter(series, rng, resamples=2000):
    """Bootstrap of the mean over seeds of the standard deviation of changes: seeds, and blocks of a fifth of the epochs.

    Args:
        series: changes of each seed, arrays of one length.

    Returns:
        (resamples,) values.
    """
    length = len(series[0])
    block = max(2, length // 5)
    starts = rng.integers(length, size=(len(series), resamples, -(-length // block)))
    rows = (starts[..., None] + np.arange(block)) % length                                     # blocks wrap around
    rows = rows.reshape(len(series), resamples, -1)[..., :length]
    spread = np.stack([values[drawn].std(1) for values, drawn in zip(series, rows, strict=True)])  # (seeds, resamples)
    seeds = rng.integers(len(series), size=(len(series), resamples))
    return np.take_along_axis(spread, seeds, 0).mean(0)


def c3(one):
    """Ratio of the two losses' jitter: GDL + boundary over GDL, below 1 where it is smoother."""
    pair = [[run for run in one.finished(row) if not (run.collapsed or run.ends_empty)] for row in (REGIONAL, BOTH)]
    epochs = min((len(run.rows) for runs in pair for run in runs), default=0)
    window = min(50, epochs // 2)
    if min(map(len, pair)) < 2 or window < 6:
        return not_measured("both losses with two seeds or more that do not collapse, for at least 12 epochs, "
                            + settings_as(one))
    series = [[changes(run, window) for run in runs] for runs in pair]
    if len({len(values) for runs in series for values in runs}) > 1:
        return not_measured("the runs again whose metrics.csv lacks val_dice in some epochs")
    regional, both = ([float(values.std()) for values in runs] for runs in series)
    rng = np.random.default_rng(0)
    drawn = [draw_jitter(runs, rng) for runs in series]
    low, high = map(float, np.percentile(drawn[1] / np.maximum(drawn[0], 1e-12), (2.5, 97.5)))
    ratio = float(np.mean(both) / max(np.mean(regional), 1e-12))
    return claim("supported" if high < 1 else "not supported",
                 f"std of the epoch-to-epoch change of DSC over the last {window} epochs: GDL {np.mean(regional):.4f}, GDL + "
                 f"boundary {np.mean(both):.4f}, ratio {ratio:.2f} [{low:.2f}, {high:.2f}] over seeds and blocks of epochs",
                 gdl=regional, gdl_boundary=both, window=window, ratio=ratio, low=low, high=high)


def c4(one):
    runs = one.finished("boundary")
    if not runs:
        return not_measured(f"make custom NAME={one.folder.name} LOSSES=boundary, {settings_as(one)}")
    final = [run.rows[-1].get("val_foreground") for run in runs]
    if None in final:
        return not_measured("the boundary runs again: their metrics.csv lacks val_foreground")
    empty = sum(run.collapsed for run in runs)
    return claim("supported" if empty == len(runs) else "not supported",
                 f"{empty} of {len(runs)} best models predict no foreground at all; foreground in the last epoch "
                 + ", ".join(f"{value:.4%}" for value in final), collapsed=empty, runs=len(runs), final_foreground=final)


# C5, C8, C9: measured on the spot --------------------------------------------------------------------------------------

def c5(config, channels, classes, device, repeats=100):
    """The verdict on `share_of_step`; config: a run's settings."""
    measured = share_of_step(config, channels, classes, device, repeats)
    low, high = measured["low"], measured["high"]
    verdict = "supported" if high < NEGLIGIBLE else "not supported" if low > NEGLIGIBLE else "not measured"

    size = "x".join(map(str, input_shape(config)))
    where = device.type + (f", {classes} classes" if classes > 2 else "")
    statistic = (f"{measured['share']:+.2%} [{low:+.2%}, {high:+.2%}] of a step: {measured['extra_seconds'] * 1e3:.2f} ms "
                 f"more in loss and gradient beside a step of {measured['step_seconds'] * 1e3:.0f} ms ({config.network}, "
                 f"width {config.width}, {size}, batch {config.batch_size}, {where}); negligible = under 1 %")
    if verdict == "not measured":
        statistic += "; too noisy to say, run: make claims on an idle machine"
    return claim(verdict, statistic, **measured)


def c8(one, steps=60):
    """The verdict on `train_on_largest_lesion`."""
    measured = train_on_largest_lesion(one, steps)
    if measured is None:
        return not_measured("a data set whose validation scans bear lesions")
    shape, trained = measured.pop("shape"), measured.pop("trained")
    statistic = (f"on a volume of {' x '.join(map(str, shape))} voxels with its 3-D map in mm the joint loss goes from "
                 f"{measured['first']:.3f} to {measured['last']:.3f} in {steps} steps of a small 3-D network, its DSC to "
                 f"{measured['dsc']:.3f}; supported if the loss falls and DSC passes 0.5")
    if trained:
        return claim("supported", statistic, **measured)

    verdict = "not supported" if measured["dsc_alone"] > 0.5 else "not measured"
    statistic += f" (GDL alone: {measured['dsc_alone']:.3f})"
    if verdict == "not measured":
        statistic += f", too hard; run: make custom NAME={one.folder.name}-dims3 DIMS=3, with these runs' other settings"
    return claim(verdict, statistic, **measured)


def c9():
    """Half of Eq. 3 on discs, squares and random smooth shapes against the continuum's value."""
    curves = error_curves()
    holds = all(curve["order"] > 0.7 and curve["errors"] == sorted(curve["errors"], reverse=True) for curve in curves.values())
    return claim("supported" if holds else "not supported", "relative error at the finest grid, and its order: " + ", ".join(
        f"{name} {curve['errors'][-1]:.3f} (order {curve['order']:.2f})" for name, curve in curves.items()), curves=curves)


# C6, C7: other runs -----------------------------------------------------------------------------------------------------

def c6(one):
    """The row of the schedule against the rows whose alpha is constant, by slice-mean DSC at the best epoch.

    Other schedules (make sweep's STRATEGIES) are named beside it and do not decide: the best of several is no fair match.
    """
    constant, moving = one.sweep
    hint = f"make sweep NAME={one.folder.name}, {settings_as(one)}"
    if len(constant) < 2 or not moving:
        return not_measured(hint)
    scores = {row: row_scores(one, row) for row in (*constant, *moving)}
    scores = {row: score for row, score in scores.items() if score}
    held = [row for row in constant if row in scores]
    row = next((row for row in moving if row in scores), None)
    if row and is_variant(row) and not is_variant(moving[0]):
        row = None  # the schedule's own row has collapsed
    scans = next((score["dsc"].shape[1] for score in scores.values()), 0)
    if len(held) < 2 or not row or scans < FEWEST_SCANS:
        return not_measured(hint)
    means = {row: float(score["dsc"].mean(0).sum() / score["slices"][0].sum()) for row, score in scores.items()}
    best, others = max(held, key=means.get), [name for name in moving if name in means and name != row]
    against = difference(scores[row], scores[best], "dsc")
    spread = max(means[name] for name in held) - min(means[name] for name in held)
    collapsed = {name: sum(run.collapsed for run in one.finished(name)) for name in (*moving, *constant)}
    statistic = (f"DSC at the best epoch {means[row]:.3f} with {schedule_in_words(row)}; "
                 + "".join(f"{means[other]:.3f} with {schedule_in_words(other)}; " for other in others)
                 + ", ".join(f"{means[name]:.3f} with alpha {constant[name]:g}" for name in sorted(held, key=constant.get))
                 + f"; they spread by {spread:.3f}; schedule against the best constant {in_words(against)}, similar = not "
                 f"worse by {MARGIN}"
                 + "".join(f"; {count} runs of {name} collapsed" for name, count in collapsed.items() if count))
    supported = against["low"] > -MARGIN and not collapsed[row]
    return claim("supported" if supported else "not supported", statistic, schedule=row, best=best, means=means, spread=spread,
                 against_best=against)


def c7(one, folder=None):
    """C1 on finished runs of another network on the same data: `folder`, or those beside this one, NAME-*."""
    hint = f"make custom NAME={one.folder.name}-unet2018 NETWORK=unet2018, {settings_as(one)}"
    if folder and not is_other_network(one, Path(folder)):
        raise UserError(folder, f"runs of another network than {one.runs[0].config.network} on the same data",
                        "none", "Name another folder with --network-runs.")
    if one.runs[0].config.get("patch") and not folder:
        return claim("not measured", "there is one network of volumes; other networks are compared on slices")
    folders = [Path(folder)] if folder else sorted(one.folder.absolute().parent.glob(f"{one.folder.name}-*"))
    for path in folders:
        try:
            other = load_set(path) if is_other_network(one, path) else None
        except UserError as error:
            log(f"warning: {error}")
            continue
        result = c1(other) if other else not_measured(hint)
        if result["verdict"] != "not measured":
            runs = other.finished(BOTH)
            ended = sum(run.ends_empty for run in runs)
            statistic = f"{other.runs[0].config.network} of width {other.runs[0].config.width}: {result['statistic']}"
            statistic += f"; {ended} of its {len(runs)} runs of {BOTH} end with empty foreground" if ended else ""
            return {**result, "statistic": statistic}
    return not_measured(hint)


def is_other_network(one, folder):
    """True if the runs in `folder` are of the same data and another network."""
    path = next(iter(sorted(folder.glob("*/seed*/config.json"))), None)
    if path is None:
        return False
    config, own = read_description(path, Config, "Move this run folder away."), one.runs[0].config
    return config.data_fingerprint == own.data_fingerprint and config.network != own.network


# C8: whole runs in 3-D --------------------------------------------------------------------------------------------------

def c8_of(one):
    """C8 on whole runs in 3-D, if these are such or there are some in NAME-dims3; without them, what `c8` measures.

    Supported if no run of GDL + boundary collapses or ends empty, and 3-D DSC is similar to that of GDL or better, as in C6.
    """
    folder = one.folder if one.runs[0].config.get("patch") else one.folder.absolute().parent / f"{one.folder.name}-dims3"
    try:
        other = load_set(folder) if next(folder.glob("*/seed*/config.json"), None) else None
    except UserError as error:
        log(f"warning: {error}")
        other = None
    found = compare(other, ("dsc_3d", "dsc"), 1) if other else {}
    if "differences" not in found:
        result = c8(one)
        beside = f"; runs of volumes ({folder.name}): {found['statistic']}" if other else ""
        return {**result, "statistic": result["statistic"] + beside}
    runs = other.finished(BOTH)
    empty = sum(run.collapsed or run.ends_empty for run in runs)
    holds = found["differences"]["dsc_3d"]["low"] > -MARGIN and not empty
    config = other.runs[0].config
    return {**found, "verdict": "supported" if holds else "not supported", "statistic": (
        f"{config.network} of width {config.width} on volumes: {found['statistic']}; similar = not worse by {MARGIN}; "
        f"{empty} of {len(runs)} runs of {BOTH} are or end empty")}


def parse_arguments(argv):
    parser = argument_parser(__doc__, "python -m studies.claims")
    parser.add_argument("--runs", required=True, metavar="FOLDER", help="folder of one data set's runs, e.g. results/wmh")
    parser.add_argument("--data", metavar="FOLDER", help="its data folder (default: what the runs name)")
    parser.add_argument("--network-runs", metavar="FOLDER", help="runs of another architecture, for C7 (default: "
                        "a folder beside --runs whose name begins alike, if it is of the same data)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1: where C5 times a step (default auto)")
    parser.add_argument("--threads", type=int, help="CPU threads, as for main.py (default: all cores)")
    return parser.parse_args(argv)


def main(argv=None):
    args, elapsed = parse_arguments(argv), clock()
    if args.threads:
        torch.set_num_threads(max(1, args.threads))
    one = load_set(args.runs, args.data)
    channels, classes = len(one.dataset.modalities), len(one.classes)
    found = {"C1": c1(one), "C2": c2(one), "C3": c3(one), "C4": c4(one),
             "C5": c5(one.runs[0].config, channels, classes, choose_device(args.device)),
             "C6": c6(one), "C7": c7(one, args.network_runs), "C8": c8_of(one), "C9": c9()}
    found = {name: {"claim": TEXTS[name], **result} for name, result in found.items()}
    path = Path(args.runs) / "claims.json"
    write_json(path, {"set": one.title, "validation_scans": len(validation_names(one)), "resamples": RESAMPLES,
                      "runs": {run.name: len(run.rows) for run in one.runs}, "seconds": round(elapsed(), 1), "claims": found})
    for name, result in found.items():
        log(f"{name} {result['verdict']:>13}  {result['claim']}\n{'':18}{result['statistic']}")
    log(str(path))
    return 0



if __name__ == "__main__":
    run_program(main)
