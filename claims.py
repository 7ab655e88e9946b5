"""The paper's claims C1 to C9, each measured on the runs that exist, with its statistic, uncertainty and verdict.

    python claims.py --runs results/wmh
    python claims.py --runs results/lgg --network-runs results/lgg-unet2018

Verdicts are "supported", "not supported" (the interval includes no difference, or lies on the other side) and "not
measured" (with what to run). Intervals are 95 %, from a bootstrap over validation scans: the same scans are drawn for
both losses, so that what is hard for one is hard for the other.
"""

import utils  # noqa: F401  isort: skip (first: Ctrl-C during the imports below is one line)

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from distance import signed_distance
from figures_cases import lesions, load_array, prediction, spacing, validation_subjects
from losses import build_loss
from metrics import dice, hausdorff_pair, legacy_hausdorff
from networks import build
from runs import load_set
from utils import choose_amp, choose_device, log, run_program, write_json

RESAMPLES = 10_000
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

def score_scan(mask, truth, mm):
    """Scores of one scan; mask and truth bool (S, H, W), mm = (row, column, slice). Sums are over slices."""
    x, y, z = mm
    hd, hd95 = hausdorff_pair(mask, truth, (z, x, y))
    return {"slices": len(truth), "dsc": sum(map(dice, mask, truth)), "dsc_3d": dice(mask, truth), "hd": hd, "hd95": hd95,
            "hd_legacy": sum(map(legacy_hausdorff, mask, truth))}


def scan_scores(one, loss):
    """{metric: array over validation scans}, each the mean over the finished seeds; None without such a run."""
    per_scan = []
    for subject in validation_subjects(one):
        truth = lesions(one, subject)
        found = [prediction(run, subject, truth.shape) for run in one.losses.get(loss, []) if run.finished]
        scores = [score_scan(mask, truth, spacing(one, subject)) for mask in found if mask is not None]
        if not scores:
            return None
        per_scan.append({name: np.mean([score[name] for score in scores]) for name in scores[0]})
    return {name: np.array([scan[name] for scan in per_scan]) for name in per_scan[0]}


def paired_interval(differences, weights=None, seed=0):
    """Mean of paired differences over scans and its 95 % bootstrap interval.

    Args:
        differences: one value a scan, a sum over its slices where `weights` are given.
        weights: slices of each scan, so that the result is a mean over slices; None: over scans.
    """
    differences = np.asarray(differences, float)
    weights = np.ones(len(differences)) if weights is None else np.asarray(weights, float)
    drawn = np.random.default_rng(seed).integers(len(differences), size=(RESAMPLES, len(differences)))
    means = differences[drawn].sum(1) / weights[drawn].sum(1)
    return float(differences.sum() / weights.sum()), *map(float, np.percentile(means, (2.5, 97.5)))


def compare(one, metrics, sign):
    """Paired comparison of BOTH against REGIONAL; `sign` is 1 where more is better. The first metric decides."""
    with_term, without = scan_scores(one, BOTH), scan_scores(one, REGIONAL)
    if with_term is None or without is None:
        return not_measured(f"make custom NAME={one.folder.name} LOSSES='{REGIONAL} {BOTH}'")
    if len(without["dsc"]) < FEWEST_SCANS:
        return not_measured(f"on at least {FEWEST_SCANS} validation scans, here are {len(without['dsc'])}")
    values = {}
    for name in metrics:
        weights = without["slices"] if name in ("dsc", "hd_legacy") else None
        mean, low, high = paired_interval(with_term[name] - without[name], weights)
        values[name] = {"difference": mean, "low": low, "high": high}
    first = values[metrics[0]]
    supported = min(sign * first["low"], sign * first["high"]) > 0
    statistic = ", ".join(f"{name} {v['difference']:+.3f} [{v['low']:+.3f}, {v['high']:+.3f}]" for name, v in values.items())
    seeds = [len([run for run in one.losses[loss] if run.finished]) for loss in (REGIONAL, BOTH)]
    return claim("supported" if supported else "not supported", statistic, differences=values, scans=len(without["dsc"]),
                 seeds=min(seeds), decided_by=metrics[0])


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


def c9(sizes=(64, 128, 256, 512)):
    """Concentric discs of radius 0.2 and 0.3 of the image: half of Eq. 3 is pi (R d^2 + 2/3 d^3)."""
    radius, step = 0.2, 0.1
    exact, errors = np.pi * (radius * step ** 2 + 2 / 3 * step ** 3), []
    for size in sizes:
        x = (np.arange(size) + 0.5) / size - 0.5
        away = np.hypot(*np.meshgrid(x, x))
        inner, outer = away < radius, away < radius + step
        phi = signed_distance(inner, (1 / size, 1 / size)).astype(float)
        half = (phi[outer].sum() - phi[inner].sum()) / size ** 2  # Eq. 4
        errors.append(abs(half - exact) / exact)
    order = float(-np.polyfit(np.log(sizes), np.log(errors), 1)[0])
    return claim("supported" if order > 0.8 and errors[-1] < 0.02 else "not supported",
                 f"relative error {errors[0]:.3f} at {sizes[0]} px, {errors[-1]:.4f} at {sizes[-1]} px, order {order:.2f}",
                 sizes=list(sizes), errors=errors, order=order)


# C6, C7: other runs -----------------------------------------------------------------------------------------------------

def c6(one):
    """Rows of one set whose schedule is constant, against the schedule's own row."""
    means = {}
    for runs in one.losses.values():
        for run in runs:
            if run.finished and run.config["loss"] == BOTH:
                means.setdefault(run.config["schedule"], []).append(run.best["val_dice"])
    means = {schedule: float(np.mean(values)) for schedule, values in means.items()}
    constant = {name: value for name, value in means.items() if name.startswith("constant")}
    moving = {name: value for name, value in means.items() if name.startswith("rebalance")}
    if len(constant) < 2 or not moving:
        return not_measured("main.py --schedule constant:ALPHA into results/NAME/gdl+boundary-ALPHA/seedK, two alphas or more")
    best, spread = max(constant.values()), max(constant.values()) - min(constant.values())
    return claim("supported" if max(moving.values()) > best - 0.01 else "not supported",
                 f"best DSC of the schedule {max(moving.values()):.3f}, of the best constant {best:.3f}, spread of the "
                 f"constants {spread:.3f}; similar = within 0.01", schedule=moving, constants=constant)


def c7(folder):
    if folder is None:
        return not_measured("make custom NAME=NAME-unet2018 NETWORK=unet2018, then --network-runs results/NAME-unet2018")
    other = load_set(folder)
    result = c1(other)
    return {**result, "statistic": f"{other.runs[0].config['network']}: {result['statistic']}"}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", required=True, help="folder of one data set's runs, e.g. results/wmh")
    parser.add_argument("--data", help="its data folder (default: what the runs name)")
    parser.add_argument("--network-runs", help="runs of another architecture on the same data, for C7")
    parser.add_argument("--device", default="auto", help="for the step times of C5 (default auto)")
    args = parser.parse_args(argv)
    one = load_set(args.runs, args.data)
    config = one.runs[0].config
    found = {"C1": c1(one), "C2": c2(one), "C3": c3(one), "C4": c4(one),
             "C5": c5(config["width"], config.get("size", 256), choose_device(args.device)),
             "C6": c6(one), "C7": c7(args.network_runs), "C8": c8(one), "C9": c9()}
    found = {name: {"claim": TEXTS[name], **result} for name, result in found.items()}
    path = Path(args.runs) / "claims.json"
    write_json(path, {"set": one.title, "claims": found})
    for name, result in found.items():
        log(f"{name} {result['verdict']:>13}  {result['claim']}\n{'':18}{result['statistic']}")
    log(str(path))
    return 0


if __name__ == "__main__":
    run_program(main)
