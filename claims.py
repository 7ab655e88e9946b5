"""The paper's claims C1 to C9, each measured on the runs that exist, with its statistic, uncertainty and verdict.

    python claims.py --runs results/wmh
    python claims.py --runs results/wmh --network-runs results/wmh-unet2018

Verdicts are "supported", "not supported" (the interval includes no difference, or lies on the other side) and "not
measured" (with what to run). Intervals are 95 %, from a bootstrap over validation scans, the same ones for both losses,
and over the seeds of each (see bootstrap.py).
"""

import utils  # noqa: F401  isort: skip (first: Ctrl-C during the imports below is one line)

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from bootstrap import RESAMPLES, difference, scan_scores
from distance import signed_distance
from figures_cases import lesions, load_array, spacing, validation_subjects
from identity import order, relative_errors, sizes_of
from losses import build_loss
from networks import build
from runs import load_set
from utils import choose_amp, choose_device, log, read_object, run_program, write_json

FEWEST_SCANS = 5  # below this many validation scans a bootstrap says nothing
BOTH, REGIONAL = "gdl+boundary", "gdl"
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
    return {"verdict": verdict, "statistic": statistic, **values}


def not_measured(command):
    return claim("not measured", f"run: {command}")


# C1, C2: paired over scans ----------------------------------------------------------------------------------------------

def compare(one, metrics, sign):
    """Paired comparison of BOTH against REGIONAL; `sign` is 1 where more is better. The first metric decides."""
    with_term, without = scan_scores(one, BOTH), scan_scores(one, REGIONAL)
    if with_term is None or without is None:
        return not_measured(f"make custom NAME={one.folder.name} LOSSES='{REGIONAL} {BOTH}'")
    seeds, scans = without["dsc"].shape
    if scans < FEWEST_SCANS:
        return not_measured(f"on at least {FEWEST_SCANS} validation scans, here are {scans}")
    values = {name: difference(with_term, without, name) for name in metrics}
    first = values[metrics[0]]
    supported = min(sign * first["low"], sign * first["high"]) > 0
    statistic = ", ".join(f"{name} {in_words(value)}" for name, value in values.items())
    return claim("supported" if supported else "not supported", statistic, differences=values, scans=scans,
                 seeds=min(seeds, len(with_term["dsc"])), decided_by=metrics[0])


def in_words(value):
    return f"{value['difference']:+.3f} [{value['low']:+.3f}, {value['high']:+.3f}]"


def c1(one):
    return compare(one, ("dsc", "dsc_3d"), 1)


def c2(one):
    return compare(one, ("hd", "hd95", "hd_legacy"), -1)


# C3, C4: from the curves ------------------------------------------------------------------------------------------------

def jitter(run, window):
    """Standard deviation of the epoch-to-epoch change of val_dice over the last `window` epochs."""
    scores = [row["val_dice"] for row in run.rows[-window:]]
    return float(np.std(np.diff(scores)))


def c3(one):
    pair = [[run for run in one.losses.get(loss, []) if run.finished] for loss in (REGIONAL, BOTH)]
    epochs = min((len(run.rows) for runs in pair for run in runs), default=0)
    window = min(50, epochs // 2)
    if not all(pair) or window < 3:
        return not_measured("both losses for at least 6 epochs")
    regional, both = ([jitter(run, window) for run in runs] for runs in pair)
    return claim("supported" if max(both) < min(regional) else "not supported",
                 f"std of the epoch-to-epoch change of DSC over the last {window} epochs: GDL "
                 f"{np.mean(regional):.4f}, GDL + boundary {np.mean(both):.4f}; supported if every seed is smoother",
                 gdl=regional, gdl_boundary=both, window=window)


def c4(one):
    runs = [run for run in one.losses.get("boundary", []) if run.finished]
    if not runs:
        return not_measured(f"make custom NAME={one.folder.name} LOSSES=boundary")
    final = [run.rows[-1]["val_foreground"] for run in runs]
    empty = sum(run.collapsed for run in runs)
    return claim("supported" if empty == len(runs) else "not supported",
                 f"{empty} of {len(runs)} best models predict no foreground at all; foreground in the last epoch "
                 + ", ".join(f"{value:.4%}" for value in final), collapsed=empty, runs=len(runs), final_foreground=final)


# C5, C8, C9: measured on the spot ----------------------------------------------------------------------------------------

def seconds(work, device):
    """Wall time of one call, the device's queue emptied before and after."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda device: None
    wait(device)
    start = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - start


def step_and_loss_times(width, size, batch, device, amp, repeats):
    """Seconds of whole training steps, and of loss and gradient alone without and with the term, measured alternately.

    The difference of two whole steps would drown in their spread: the term is a thousandth of a step.
    """
    torch.manual_seed(0)
    network = build("unet", 2, 2, width).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    images = torch.rand(batch, 2, size, size, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.rand(batch, 1, size, size, device=device) < 0.01
    target = torch.cat([~labels, labels], 1)
    phi = torch.randn(batch, 1, size, size, device=device)
    logits = torch.randn(batch, 2, size, size, device=device, requires_grad=True)
    losses = {name: build_loss(name) for name in (REGIONAL, BOTH)}

    def step():
        with torch.autocast(device.type, amp, enabled=amp is not None):
            output = network(images)
        losses[REGIONAL](output.float().softmax(1), target)[0].backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def loss_alone(name):
        losses[name](logits.softmax(1), target, phi, (0.5, 0.5))[0].backward()

    steps = [seconds(step, device) for _ in range(7)][2:]  # the first two warm up
    pairs = [[seconds(lambda name=name: loss_alone(name), device) for name in (REGIONAL, BOTH)] for _ in range(repeats + 2)]
    without, with_term = np.array(pairs[2:]).T
    return np.array(steps), without, with_term


def c5(width, size, device, repeats=100):
    steps, without, with_term = step_and_loss_times(width, size, 8, device, choose_amp("auto", device), repeats)
    step = np.median(steps)
    drawn = np.random.default_rng(0).integers(repeats, size=(RESAMPLES, repeats))
    low, high = map(float, np.percentile(np.median((with_term - without)[drawn], 1) / step, (2.5, 97.5)))
    share = float(np.median(with_term - without) / step)
    verdict = "supported" if high < 0.01 else "not supported" if low > 0.01 else "not measured"
    statistic = (f"{share:+.2%} [{low:+.2%}, {high:+.2%}] of a step of {step * 1e3:.0f} ms (width {width}, "
                 f"{size}x{size}, batch 8, {device.type}); negligible = under 1 %")
    if verdict == "not measured":
        statistic += "; too noisy to say, run: make claims on an idle machine"
    return claim(verdict, statistic, share=share, low=low, high=high, step_seconds=float(step))


def c8(one, steps=30):
    """Train a small 3-D network on the lesion's surroundings in one volume, with the 3-D map in mm."""
    torch.manual_seed(0)
    subject = max(validation_subjects(one), key=lambda name: int(lesions(one, name).sum()))
    truth, mm = lesions(one, subject), spacing(one, subject)
    if not truth.any():
        return not_measured("a data set whose validation scans bear lesions")
    phi = signed_distance(truth, (mm[2], mm[0], mm[1]))                                    # (S, H, W) mm
    centre = np.argwhere(truth).mean(0).astype(int)
    box = tuple(slice(max(0, c - half), c + half) for c, half in zip(centre, (8, 32, 32), strict=True))
    image = np.asarray(load_array(one, subject, "images")[box[0], :, box[1], box[2]], np.float32) / 65535
    image = torch.from_numpy(image).movedim(1, 0)[None]                                    # (1, C, s, h, w)
    target = torch.from_numpy(np.stack([~truth[box], truth[box]]))[None]
    distance = torch.from_numpy(phi[box].copy())[None, None]
    network = torch.nn.Sequential(torch.nn.Conv3d(image.shape[1], 8, 3, padding=1), torch.nn.ReLU(),
                                  torch.nn.Conv3d(8, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv3d(8, 2, 1))
    loss, optimizer, values = build_loss(BOTH), torch.optim.Adam(network.parameters(), 1e-2), []
    for _ in range(steps):
        value, _ = loss(network(image).softmax(1), target, distance, (0.5, 0.5))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))
    falls = np.isfinite(values).all() and values[-1] < values[0]
    return claim("supported" if falls else "not supported",
                 f"the joint loss on a volume of {' x '.join(map(str, image.shape[2:]))} voxels with its 3-D map in mm falls "
                 f"from {values[0]:.3f} to {values[-1]:.3f} in {steps} steps of a small 3-D network", first=values[0],
                 last=values[-1])


def c9():
    """Half of Eq. 3 on discs, squares and random smooth shapes against the continuum's value."""
    errors = {name: np.abs(values).tolist() for name, values in relative_errors().items()}
    curves = {name: {"sizes": list(sizes_of(name)), "errors": values, "order": order(sizes_of(name), values)}
              for name, values in errors.items()}
    holds = all(curve["order"] > 0.7 and curve["errors"] == sorted(curve["errors"], reverse=True) for curve in curves.values())
    return claim("supported" if holds else "not supported", "relative error at the finest grid, and its order: " + ", ".join(
        f"{name} {curve['errors'][-1]:.3f} (order {curve['order']:.2f})" for name, curve in curves.items()), curves=curves)


# C6, C7: other runs -----------------------------------------------------------------------------------------------------

def c6(one, margin=0.01):
    """The row of the schedule against the rows whose alpha is constant, by slice-mean DSC at the best epoch."""
    rows = {name: [run for run in runs if run.finished and run.config["loss"] == BOTH and not run.config.get("gdl_max_weight")]
            for name, runs in one.losses.items()}
    schedules = {name: runs[0].config["schedule"] for name, runs in rows.items() if runs}
    constant = {name: schedule for name, schedule in schedules.items() if schedule.startswith("constant")}
    moving = [name for name, schedule in schedules.items() if schedule.startswith("rebalance")]
    if len(constant) < 2 or not moving:
        return not_measured(f"make sweep NAME={one.folder.name}")
    means = {name: float(np.mean([run.best["val_dice"] for run in rows[name]])) for name in (*constant, *moving)}
    last = {name: float(np.mean([run.last("val_dice", one.window) for run in rows[name]])) for name in (*constant, *moving)}
    row, best = max(moving, key=means.get), max(constant, key=means.get)
    spread = max(means[name] for name in constant) - min(means[name] for name in constant)
    statistic = (f"DSC at the best epoch {means[row]:.3f} with the schedule; " + ", ".join(
        f"{means[name]:.3f} with alpha {constant[name].partition(':')[2]}" for name in constant)
        + f"; spread of the constants {spread:.3f}")
    scores = [scan_scores(one, name) for name in (row, best)]
    against = difference(*scores, "dsc") if None not in scores else None
    if against:
        statistic += f"; schedule against the best constant {in_words(against)}"
    return claim("supported" if means[row] >= means[best] - margin else "not supported",
                 f"{statistic}; similar = within {margin}", schedule=row, best=means, last=last, spread=spread,
                 against_best=against)


def c7(one, folder=None):
    """C1 on runs of another network: `folder`, or the folders beside this one, NAME-*, on the same data."""
    folders = [folder] if folder else [path for path in sorted(one.folder.absolute().parent.glob(f"{one.folder.name}-*"))
                                       if is_other_network(one, path)]
    if not folders:
        return not_measured(f"make custom NAME={one.folder.name}-unet2018 NETWORK=unet2018, with the other settings as here")
    other = load_set(folders[0])
    result = c1(other)
    ended = sum(run.ends_empty or run.collapsed for run in other.losses.get(BOTH, []) if run.finished)
    statistic = f"{other.runs[0].config['network']}: {result['statistic']}" + (
        f"; {ended} of its runs of GDL + boundary end with empty foreground" if ended else "")
    return {**result, "statistic": statistic}


def is_other_network(one, folder):
    """True if the runs in `folder` are of the same data and another network."""
    path = next(iter(sorted(folder.glob("*/seed*/config.json"))), None)
    if path is None:
        return False
    config, own = read_object(path, ("network", "data_fingerprint"), "Move this run folder away."), one.runs[0].config
    return config["data_fingerprint"] == own["data_fingerprint"] and config["network"] != own["network"]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", required=True, help="folder of one data set's runs, e.g. results/wmh")
    parser.add_argument("--data", help="its data folder (default: what the runs name)")
    parser.add_argument("--network-runs", help="runs of another architecture, for C7 (default: "
                        "a folder beside --runs whose name begins alike, if it is of the same data)")
    parser.add_argument("--device", default="auto", help="for the step times of C5 (default auto)")
    args = parser.parse_args(argv)
    one = load_set(args.runs, args.data)
    config = one.runs[0].config
    found = {"C1": c1(one), "C2": c2(one), "C3": c3(one), "C4": c4(one),
             "C5": c5(config["width"], config.get("size", 256), choose_device(args.device)),
             "C6": c6(one), "C7": c7(one, args.network_runs), "C8": c8(one), "C9": c9()}
    found = {name: {"claim": TEXTS[name], **result} for name, result in found.items()}
    path = Path(args.runs) / "claims.json"
    write_json(path, {"set": one.title, "claims": found})
    for name, result in found.items():
        log(f"{name} {result['verdict']:>13}  {result['claim']}\n{'':18}{result['statistic']}")
    log(str(path))
    return 0


if __name__ == "__main__":
    run_program(main)
