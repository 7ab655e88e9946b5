"""Would main.py train these rows? make asks before it starts on the scans, since training is late.

    python -m training.check_rows ROW ...

Exit status: 0, or 2 with one line about the first row that main.py would refuse.
"""

import sys
from types import SimpleNamespace

from losses_regional import checked_boundary_classes
from scoring import rows
from training import options


def main(names):
    if {"-h", "--help"} & set(names):
        print("usage: python -m training.check_rows ROW ...\n\nChecks names of rows.",
              rows.__doc__)
        return 0
    for name in names:
        try:
            check(name)
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    return 0


def check(name):
    """ValueError if main.py would refuse this row, whatever the data."""
    args = SimpleNamespace(row=name, loss=None, schedule=None, protocol="paper", epochs=200,
                           gdl_max_weight=None, loss_options=None, boundary_classes=None)
    options.take_row(args)
    options.take_schedule(args)
    options.loss_options(args)
    checked_boundary_classes(args.boundary_classes and [0, 1], 2, args.loss)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
