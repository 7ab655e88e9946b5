"""Axes, ticks and paths of the report's inline SVG: numbers in, coordinates and text out. The templates hold the markup."""

import math
from dataclasses import dataclass

from matplotlib.ticker import MaxNLocator


@dataclass
class Axes:
    """A rectangle in SVG units and the data that it spans; y grows upwards in data and downwards in SVG."""
    left: float
    top: float
    width: float
    height: float
    x: tuple
    y: tuple

    def at(self, x, y):
        """Data -> SVG coordinates, to a tenth of a unit."""
        (x0, x1), (y0, y1) = self.x, self.y
        return (round(self.left + self.width * (x - x0) / ((x1 - x0) or 1), 1),
                round(self.top + self.height * (1 - (y - y0) / ((y1 - y0) or 1)), 1))

    def ticks(self, columns=4, rows=4, whole=False):
        """{"x": [(position, text)], "y": [...]} at round numbers; `whole`: x counts something."""
        return {"x": [(self.at(value, 0)[0], text) for value, text in labelled(*self.x, columns, whole)],
                "y": [(self.at(0, value)[1], text) for value, text in labelled(*self.y, rows)]}


def labelled(low, high, count, whole=False):
    """[(value, text)] at round numbers from low to high, all with the decimals that the step between them needs."""
    values = [float(value) for value in MaxNLocator(count, integer=whole, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
              if low - 1e-9 * abs(low) <= value <= high + 1e-9 * abs(high)]
    if len(values) > 1 and values[-1] < 0.001:
        return [(value, f"{value:g}") for value in values]
    decimals = next((digits for digits in range(5) if all(abs(value - round(value, digits)) < 1e-9 for value in values)), 5)
    return [(value, f"{value:.{decimals}f}") for value in values]


def pieces(values):
    """Index ranges (start, stop) over which there are values, so that lines have gaps where there are none."""
    known, start, found = [math.isfinite(value) for value in values], None, []
    for index, here in enumerate([*known, False]):
        if here and start is None:
            start = index
        elif not here and start is not None:
            found.append((start, index))
            start = None
    return found


def line(axes, xs, ys):
    """The path of a polyline through finite points; a lone point becomes a short dash, which round caps make a dot."""
    parts = []
    for start, stop in pieces(ys):
        points = [axes.at(x, y) for x, y in zip(xs[start:stop], ys[start:stop], strict=True)]
        parts.append("M" + "L".join(f"{x:g} {y:g}" for x, y in points) + ("h.1" if len(points) == 1 else ""))
    return "".join(parts)


def band(axes, xs, low, high):
    """The closed path between two lines."""
    parts = []
    for start, stop in pieces(low):
        there = [axes.at(x, y) for x, y in zip(xs[start:stop], high[start:stop], strict=True)]
        back = [axes.at(x, y) for x, y in zip(xs[start:stop], low[start:stop], strict=True)][::-1]
        parts.append("M" + "L".join(f"{x:g} {y:g}" for x, y in there + back) + "Z")
    return "".join(parts)
