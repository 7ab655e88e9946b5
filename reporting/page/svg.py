"""Axes, ticks and paths of the report's inline SVG: numbers in, coordinates and text out.

The templates hold the markup.
"""

import math
from dataclasses import dataclass

from matplotlib.ticker import MaxNLocator

ROUND = [1, 2, 2.5, 5, 10]  # steps between ticks, times a power of ten


@dataclass
class Axes:
    """A rectangle in SVG units and the data that it spans.

    y grows upwards in data and downwards in SVG.
    """

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
        along, up = labelled(*self.x, columns, whole), labelled(*self.y, rows)
        return {"x": [(self.at(value, 0)[0], text) for value, text in along],
                "y": [(self.at(0, value)[1], text) for value, text in up]}


def labelled(low, high, count, whole=False):
    """[(value, text)] at round numbers from low to high.

    All have the decimals that the step between them needs.
    """
    locator = MaxNLocator(count, integer=whole, steps=ROUND)
    values = [float(value) for value in locator.tick_values(low, high)
              if low - 1e-9 * abs(low) <= value <= high + 1e-9 * abs(high)]
    if len(values) > 1 and values[-1] < 0.001:
        return [(value, f"{value:g}") for value in values]

    decimals = next((digits for digits in range(5)
                     if all(abs(value - round(value, digits)) < 1e-9 for value in values)), 5)
    return [(value, f"{value:.{decimals}f}") for value in values]


def pieces(values):
    """Index ranges (start, stop) over which there are values; between them lines have gaps."""
    found, start = [], None
    for index, value in enumerate([*values, math.nan]):
        if math.isfinite(value) and start is None:
            start = index
        elif not math.isfinite(value) and start is not None:
            found.append((start, index))
            start = None
    return found


def line(axes, xs, ys):
    """The path of a polyline through finite points.

    A lone point becomes a short dash, which round caps make a dot.
    """
    parts = []
    for start, stop in pieces(ys):
        points = corners(axes, xs[start:stop], ys[start:stop])
        parts.append(path(points) + ("h.1" if len(points) == 1 else ""))
    return "".join(parts)


def band(axes, xs, low, high):
    """The closed path between two lines."""
    parts = []
    for start, stop in pieces(low):
        there = corners(axes, xs[start:stop], high[start:stop])
        back = corners(axes, xs[start:stop], low[start:stop])[::-1]
        parts.append(path(there + back) + "Z")
    return "".join(parts)


def corners(axes, xs, ys):
    """SVG coordinates of data points."""
    return [axes.at(x, y) for x, y in zip(xs, ys, strict=True)]


def path(points):
    """The path from point to point."""
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points)
