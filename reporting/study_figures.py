"""Figures beside Table 1: constant alphas (C6), the convergence of Eq. 3 and 4 (C9), two rows
compared set by set."""

from itertools import cycle

import numpy as np

from reporting.drawing import (
    BLUE,
    DASHES,
    GREY,
    OTHER_LINES,
    RED,
    legend_entries,
    new_figure,
    title_in_words,
)
from scoring.intervals import change_in_words
from scoring.nothing import scores_of_nothing
from scoring.rows import ALONE, REGIONAL, label, schedule_in_words
from utils import COLUMN

SHAPES = {"disc": (RED, "o"), "square": (BLUE, "s"), "smooth": (GREY, "^")}

SWEEP_CAPTION = (
    "GDL + boundary with alpha held constant (points: seeds; line: their mean; alpha 1 is GDL "
    "alone, alpha 0 the boundary loss alone), and with alpha falling by the schedule or following "
    "another one: increase keeps the regional weight at 1 while the boundary's grows, switch "
    "begins with that many epochs of the regional loss alone (lines: mean over seeds; bands: "
    "lowest to highest seed). DSC is the mean over slices: a model that predicts nothing scores "
    "the share of empty slices.")
CONVERGENCE_CAPTION = (
    "Half of Dist(dG, dS) as the difference of two integrals of phi on the pixel grid (Eq. 4), "
    "against its value in the continuum (Eq. 3: closed forms for discs and squares, quadrature for "
    "six random smooth shapes, whose mean error is shown). It shrinks about in proportion to the "
    "pixel; studies/identity.py says why not all orders are 1.")
DIFFERENCES = ("clean", "dsc_lesion", "dsc_3d", "lesion_f1")


def has_sweep(results):
    """Are there two constant alphas or more, and a schedule to see them beside?"""
    constant, moving = results.sweep
    return len(constant) >= 2 and bool(moving)


def sweep(sets):
    """DSC of GDL + boundary against a constant alpha, beside the schedules'.

    A row a set, best epoch beside last epochs, all on one scale. Returns (figure, title, caption,
    alternative text).
    """
    figure, axes = new_figure(len(sets), 2, (COLUMN, 2.2 * len(sets) + 0.7), sharex=True,
                              sharey=True)
    words = []
    for row, results in zip(axes, sets, strict=True):
        row[0].set_ylabel("validation DSC")
        for axis, (name, value) in zip(row, sweep_statistics(results), strict=True):
            means = draw_sweep(axis, *sweep_values(results, value))
            draw_nothing(axis, results)
            axis.set_title(f"{title_in_words(results)}, {name}")
            words.append(f"{results.title}, {name}: " + ", ".join(
                f"{label} {mean:.3f}" for label, mean in means.items()))

    for axis in axes[-1]:
        axis.set_xlabel("alpha, held constant")
    figure.legend(*legend_entries(axes.flat), loc="outside lower center", ncols=3)
    return figure, "The alpha study: constant alpha against the schedule", SWEEP_CAPTION, \
        "; ".join(words)


def sweep_statistics(results):
    """(name, function of a run) of each panel of a set."""
    window = results.window
    last = f"last {window} epochs" if window > 1 else "last epoch"
    return (("best epoch", lambda run: run.best["val_dice"]),
            (last, lambda run: run.last("val_dice", window)))


def sweep_values(results, value):
    """({constant alpha: values over seeds}, {schedule in words: the same}), alphas rising.

    Alpha 0 is the boundary loss alone and alpha 1 the regional loss alone, where they have run.
    """
    constant, moving = results.sweep
    ends = {row: alpha for row, alpha in ((ALONE, 0.0), (REGIONAL, 1.0))
            if results.finished(row) and alpha not in constant.values()}
    rising = sorted({**constant, **ends}.items(), key=lambda pair: pair[1])
    return ({alpha: [value(run) for run in results.finished(row)] for row, alpha in rising},
            {schedule_in_words(row): [value(run) for run in results.finished(row)]
             for row in moving})


def draw_sweep(axis, constant, moving):
    """Points and mean of each constant alpha, line and band of each schedule.

    Arguments are those that `sweep_values` returns. Returns {label: mean}.
    """
    means = {alpha: float(np.mean(values)) for alpha, values in constant.items()}

    others = cycle(zip(OTHER_LINES, DASHES[2:]))
    for name, values in moving.items():
        papers = name == "the schedule"
        colour, dashes = (RED, "-") if papers else next(others)
        axis.axhspan(min(values), max(values), color=colour, alpha=0.15 if papers else 0.08,
                     linewidth=0, label=f"{name}, range over seeds")
        axis.axhline(np.mean(values), color=colour, linewidth=1.7, linestyle=dashes, label=name)

    axis.plot(list(means), list(means.values()), color=BLUE, linestyle=DASHES[0], linewidth=1.7,
              label="constant alpha")
    alphas = [alpha for alpha, values in constant.items() for _ in values]
    axis.scatter(alphas, sum(constant.values(), []), s=14, marker="o", color=BLUE, alpha=0.7,
                 linewidths=0, label="constant alpha, a seed", zorder=3)
    axis.set_xlim(-0.04, 1.04)
    axis.grid(axis="y")

    schedules = {name.removeprefix("the "): float(np.mean(values))
                 for name, values in moving.items()}
    return {**schedules, **{f"alpha {alpha:g}": mean for alpha, mean in means.items()}}


def draw_nothing(axis, results):
    """A line at what an empty prediction scores."""
    value = scores_of_nothing(results).get("val_dice")
    if value is not None:
        axis.hlines(value, -0.04, 1.04, color=GREY, linewidth=1.1, linestyle=(0, (1, 1.2)),
                    label="predicts nothing", zorder=1)


def differences(lines, rows):
    """What measures gain from one row to another, from set to set.

    Args:
        lines: those of studies.difference, of the sets in turn; of them, DIFFERENCES are drawn.
        rows: the two rows.

    Returns:
        (figure, title, caption, alternative text).
    """
    count = len({line["set"] for line in lines})
    figure, axes = new_figure(1, len(DIFFERENCES), (COLUMN, 1.1 + 0.3 * count), sharex=True,
                              sharey=True)
    words = []
    for axis, name in zip(axes[0], DIFFERENCES, strict=True):
        shown = [line for line in lines if line["measure"] == name]
        title = shown[0]["words"]
        for place, line in enumerate(shown):
            if line["difference"] is None:
                continue
            decided = line["verdict"] in ("better", "worse")
            if line["low"] is not None:
                axis.plot([line["low"], line["high"]], [place] * 2, color=BLUE, linewidth=1.5)
            axis.plot(line["difference"], place, "o", color=BLUE, markersize=5,
                      markerfacecolor=BLUE if decided else "white")
        axis.axvline(0, color="#000000", linewidth=0.8, zorder=1)
        axis.set_yticks(range(len(shown)), [line["set"] for line in shown])
        axis.set_ylim(len(shown) - 0.5, -0.5)
        axis.set_title(title)
        axis.grid(axis="x")
        words.append(f"{title}: " + ", ".join(
            f"{line['set']} {change_in_words(line)}" for line in shown))

    names = " to ".join(map(label, rows))
    figure.supxlabel("difference", fontsize="medium")
    caption = (f"What each measure gains from {names}, with its 95 % interval over scans and "
               "seeds. Filled: the interval leaves out 0, and there are enough seeds and scans "
               "to say so.")
    return figure, f"From {names}", caption, "; ".join(words)


def convergence(errors):
    """Relative error of Eq. 4 on the pixel grid against the resolution.

    Args:
        errors: {shape of studies/identity.py: {"sizes", "errors", "order"}}.

    Returns:
        (figure, title, caption, alternative text).
    """
    figure, [[axis]] = new_figure(1, 1, (COLUMN, 3.0))
    for name, curve in errors.items():
        outward = name.endswith(("grown", "outside"))
        colour, marker = SHAPES[name.split(" ")[0].strip(",")]
        axis.loglog(curve["sizes"], curve["errors"], color=colour, marker=marker,
                    linestyle="-" if outward else DASHES[0], linewidth=1.3,
                    markerfacecolor=colour if outward else "white",
                    label=f"{name}: order {curve['order']:.2f}")
    sizes = np.array([32, 512])
    axis.loglog(sizes, 0.9 * 32 / sizes, color="#000000", linewidth=0.8, linestyle=":",
                label="order 1")

    axis.set_xlabel("pixels along the image")
    axis.set_ylabel("relative error of half the distance")
    axis.set_xticks([32, 64, 128, 256, 512], [32, 64, 128, 256, 512])
    axis.minorticks_off()
    axis.grid()
    figure.legend(loc="outside right upper")

    alt = "Relative error against resolution, both on logarithmic axes: " + "; ".join(
        f"{name} from {curve['errors'][0]:.3f} at {curve['sizes'][0]} pixels "
        f"to {curve['errors'][-1]:.3f} at {curve['sizes'][-1]}, order {curve['order']:.2f}"
        for name, curve in errors.items())
    return figure, "Eq. 3 and 4 on shapes with known answers", CONVERGENCE_CAPTION, alt
