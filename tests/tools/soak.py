"""Kill the programs at random moments, repeat their commands, and compare all results.

They must be those of an uninterrupted run.

    python tests/tools/soak.py --kills 100 --minutes 15        (make soak)

Each program runs in a process forked from this one, which has its imports behind it: the moments of
the kills then fall into the work and not into the start.
"""

import argparse
import csv
import importlib
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from utils import run_program  # noqa: E402

RUN = "results/gdl+boundary/seed0"
STEPS = (  # program, its arguments, kills of it in a round
    ("preprocess", ["--layout", "wmh", "--raw", "raw", "--out", "data", "--size", "48",
                    "--val", "2"], 3),
    ("main", ["--data", "data", "--out", RUN, "--width", "2", "--epochs", "5", "--threads", "1",
              "--quiet"], 6),
    ("evaluate", ["--predictions", f"{RUN}/predictions", "--data", "data",
                  "--csv", f"{RUN}/evaluation.csv"], 2),
    ("report", ["--runs", "results", "--data", "data"], 3))
SAME = ("data/subjects/*/*.npy", "data/*.csv", "data/*.json", "data/references/*",
        f"{RUN}/predictions/*", f"{RUN}/evaluation.csv", "results/table1.*")


def start(folder, program, arguments):
    """Fork a process that runs a program in `folder`; returns its number."""
    if child := os.fork():
        return child
    os.chdir(folder)
    with open("output.txt", "a") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    try:
        run_program(lambda: importlib.import_module(program).main(arguments))
    except SystemExit as stop:
        os._exit(stop.code or 0)
    finally:
        os._exit(99)


def run_whole(folder, program, arguments):
    """Run it to its end; returns the seconds it took."""
    began = time.monotonic()
    _, status = os.waitpid(start(folder, program, arguments), 0)
    if status:
        output = (folder / "output.txt").read_text()[-2000:]
        sys.exit(f"{program}: status {os.waitstatus_to_exitcode(status)}\n{output}")
    return time.monotonic() - began


def killed(folder, program, arguments, seconds):
    """Start it and SIGKILL it after some seconds; False if it had ended before."""
    child = start(folder, program, arguments)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def outcome(folder):
    """{name: bytes} of everything that must come out the same."""
    found = {}
    for path in (path for pattern in SAME for path in folder.glob(pattern)):
        if path.name != "run_time.json":
            found[str(path.relative_to(folder))] = path.read_bytes()

    with open(folder / RUN / "metrics.csv") as file:
        rows = [{**row, "seconds": None} for row in csv.DictReader(file)]
        found["metrics.csv"] = repr(rows).encode()

    for name in ("best.pt", "last.pt"):
        network = torch.load(folder / RUN / name, weights_only=True)["network"]
        found |= {f"{name} {key}": value.numpy().tobytes() for key, value in network.items()}
    with np.load(folder / RUN / "predictions.npz") as masks:
        found |= {f"predictions.npz {key}": masks[key].tobytes() for key in masks}
    return found


def one_round(raw, folder, durations, rng, kills):
    """Run every program in `folder`, killed up to its number of times, then once more.

    Returns (kills that hit, leftovers).
    """
    (folder / "raw").symlink_to(raw)
    hit = 0
    for program, arguments, most in STEPS:
        for _ in range(min(most if kills > 20 else 2, kills - hit)):
            hit += killed(folder, program, arguments, rng.uniform(0, durations[program]))
        run_whole(folder, program, arguments)
    leftovers = [str(path) for path in folder.rglob("*.partial-*")]
    return hit, leftovers


def uninterrupted(raw, folder):
    """Run every program in `folder` to its end; returns the seconds of each."""
    folder.mkdir()
    (folder / "raw").symlink_to(raw)
    return {program: run_whole(folder, program, arguments) for program, arguments, _ in STEPS}


def soak(kills, minutes, seed=0):
    """Returns (kills that hit, rounds, what differs: [] if all is well)."""
    rng, began, hit, rounds = random.Random(seed), time.monotonic(), 0, 0
    for program, _, _ in STEPS:
        importlib.import_module(program)
    torch.set_num_threads(1)

    with tempfile.TemporaryDirectory() as place:
        place = Path(place).resolve()
        run_whole(place, "scans.phantom.__main__", [
            "--layout", "wmh", "--subjects", "6", "--size", "48", "--jobs", "1", "--out", "raw"])
        durations = uninterrupted(place / "raw", place / "whole")
        expected = outcome(place / "whole")

        while hit < kills and time.monotonic() - began < 60 * minutes:
            folder = place / f"round{rounds}"
            folder.mkdir()
            more, leftovers = one_round(place / "raw", folder, durations, rng, kills - hit)
            hit, rounds, found = hit + more, rounds + 1, outcome(folder)
            differ = sorted(key for key in expected.keys() | found.keys()
                            if expected.get(key) != found.get(key))
            if differ or leftovers:
                return hit, rounds, differ + leftovers
    return hit, rounds, []


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=15,
                        help="no new round after this time (default 15)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default 0)")
    options = parser.parse_args()

    count, done, problems = soak(options.kills, options.minutes, options.seed)
    verdict = f"DIFFERENT: {', '.join(problems[:10])}" if problems else "all results identical"
    print(f"{count} kills in {done} rounds: {verdict}")
    sys.exit(1 if problems or count < options.kills else 0)
