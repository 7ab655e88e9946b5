"""Would main.py train these rows? make asks before it starts on the scans, since training is late.

    python -m training.check_rows ROW ... [--seeds K ...] [--with OPTION ...]

with any of main.py's options after --with, but for --data and --out. A row is a loss, or one with
what is changed about it: gdl+boundary-alpha0.5. scoring/rows.py has them all.

Exit status: 0, or 2 with one line about the first row, seed or option that main.py would refuse.
"""

import contextlib
import io
import sys
from argparse import REMAINDER

from losses_regional import checked_boundary_classes
from training import options
from utils import argument_parser


def main(argv=None):
    parser = argument_parser(__doc__, "python -m training.check_rows")
    parser.add_argument("rows", nargs="*", metavar="ROW")
    parser.add_argument("--seeds", nargs="+", default=["0"], metavar="K")
    parser.add_argument("--with", nargs=REMAINDER, default=[], dest="options", metavar="OPTION",
                        help="main.py's, the same for all rows")
    args = parser.parse_args(argv)
    try:
        for name in args.rows:
            check(name, f"--seed={args.seeds[0]}", *args.options)
        for seed in args.seeds[1:]:
            check(args.rows[0], f"--seed={seed}", *args.options)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def check(name, *words):
    """ValueError if main.py would refuse this row, beside these options, whatever the data."""
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            args = options.parse(["--data=data", "--out=run", f"--row={name}", *words], "")
    except SystemExit:  # argparse's last line is "main.py: error: ..."
        raise ValueError(told.getvalue().splitlines()[-1].partition("error: ")[2]) from None
    checked_boundary_classes(args.boundary_classes and [0, 1], 2, args.loss)


if __name__ == "__main__":
    sys.exit(main())
