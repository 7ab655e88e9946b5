"""Measure this repository beside what people use today.

    python -m benchmarks                        # all, about half an hour on two cores
    python -m benchmarks metrics losses         # only these
    python -m benchmarks gpu                    # needs a CUDA device; some ten minutes
    python -m benchmarks gpu --parts steps      # only this part of it, beside what is recorded
    python -m benchmarks arithmetic             # measures nothing: the tables of docs/speed.md

Each comparison times two things in turn in one process and prints the median of the rounds' ratios,
with their range. What is measured, with versions, processor and command, goes to
results/published/bench/NAME.json, and of a GPU to gpu.md too. Keep the machine idle meanwhile.
"""

if __name__ == "__main__":  # imports this file as a module; see utils.start
    from utils import start
    start("benchmarks.__main__")

import importlib
import tempfile
from pathlib import Path

from benchmarks.common import ROOT, save
from benchmarks.gpu import PARTS
from benchmarks.gpu_steps import NETWORKS
from utils import argument_parser

ALL = ("metrics", "surfaces", "losses", "boundary", "loading", "training", "preprocessing",
       "growth", "startup")
MORE = ("gpu", "arithmetic")


def main():
    args = parse_arguments()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        if not set(args.names) & set(MORE):
            print(f"{'':<44} {'baseline':>9} {'here':>9} {'ratio':>8}")
        for name in args.names or ALL:
            benchmark = importlib.import_module(f"benchmarks.{name}")
            results = benchmark.run(args, folder)
            if results:
                save(name, results, args.out)


def parse_arguments():
    parser = argument_parser(__doc__, "python -m benchmarks")
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help=f"{', '.join(ALL)} (default: these), "
        f"{', '.join(MORE)}")
    add("--rounds", type=int, default=9, help="of alternate measurements (default 9)")
    add("--subjects", type=int, default=12, help="full-size phantom scans (default 12)")
    add("--parts", nargs="+", choices=PARTS, default=PARTS, help="of gpu (default: all)")
    add("--networks", nargs="+", choices=NETWORKS, help="whose steps gpu measures (default: all)")
    add("--device", default="cuda",
        help="of gpu: cuda, cuda:1, or cpu to try it out (default cuda)")
    add("--width", type=int, default=64, help="of gpu's networks (default 64)")
    add("--size", type=int, default=256, help="of gpu's slices, in pixels (default 256)")
    add("--counts", type=int, nargs="+", default=[10, 20, 40, 60],
        help="scans for growth (default 10 20 40 60)")
    add("--folder", type=Path,
        help="keep phantoms and data here for the next time (default: nowhere)")
    add("--out", type=Path, default=ROOT / "results" / "published" / "bench",
        help="default results/published/bench")

    args = parser.parse_args()
    for name in args.names:
        if name not in (*ALL, *MORE):
            parser.error(f"NAME: one of {', '.join((*ALL, *MORE))}, found {name}")
    return args
