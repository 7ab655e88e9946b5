"""Start-up: how long the programs take before they begin to work."""

import subprocess
import sys
from functools import partial
from statistics import median

from benchmarks.common import ROOT, duration, seconds, significant

TARGET_S = 3
PROGRAMS = ("main", "preprocess", "evaluate", "report", "studies.claims")


def run(args, folder):
    results = {"target_s": TARGET_S}
    for name in PROGRAMS:
        words = [sys.executable, "-c", f"import {name}"]
        start = partial(subprocess.run, words, cwd=ROOT, check=True)
        spent = median(seconds(start) for _ in range(max(3, args.rounds)))

        aim = f", aim under {TARGET_S} s" if name == "main" else ""
        print(f"{f'import of {name}, with the start of Python':<44} {'':>9} "
              f"{duration(spent):>9}{aim}", flush=True)
        results[f"import_{name.rpartition('.')[2]}_s"] = significant(spent)
    return results
