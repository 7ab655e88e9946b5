"""Would main.py train these rows? make asks before it starts on the scans, since training is late.

    python -m training.check_rows ROW ... [--schedule TEXT] [--protocol NAME]

with main.py's options of these names. A row is a loss, or one with what is changed about it:
gdl+boundary-alpha0.5. scoring/rows.py has them all.

Exit status: 0, or 2 with one line about the first row that main.py would refuse.
"""

import sys
from types import SimpleNamespace

from losses_regional import checked_boundary_classes
from training import options
from utils import argument_parser


def main(argv=None):
    parser = argument_parser(__doc__, "python -m training.check_rows")
    parser.add_argument("rows", nargs="*", metavar="ROW")
    parser.add_argument("--schedule", help="of alpha, for rows that say none of their own")
    parser.add_argument("--protocol", choices=("paper", "code2018"), default="paper")
    args = parser.parse_args(argv)
    for name in args.rows:
        try:
            check(name, args.schedule, args.protocol)
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    return 0


def check(name, schedule=None, protocol="paper"):
    """ValueError if main.py would refuse this row, whatever the data."""
    args = SimpleNamespace(row=name, loss=None, schedule=schedule, protocol=protocol, epochs=200,
                           gdl_max_weight=None, loss_options=None, boundary_classes=None)
    options.take_row(args)
    options.take_schedule(args)
    options.loss_options(args)
    checked_boundary_classes(args.boundary_classes and [0, 1], 2, args.loss)


if __name__ == "__main__":
    sys.exit(main())
