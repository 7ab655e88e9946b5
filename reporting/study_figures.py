"""Figures beside Table 1: constant alphas (C6) and the convergence of Eq. 3 and 4 (C9)."""

from itertools import cycle

import numpy as np

from reporting.drawing import BLUE, FAINT, GREY, RED, legend_entries, new_figure
from scoring.rows import schedule_in_words

STRATEGIES = ("#2a9d3f", "#8e44ad", "#e08214")  # schedules beside the paper's, in turn
SHAPES = {"disc": RED, "square": BLUE, "smooth": GREY}

SWEEP_CAPTION = (
    "GDL + boundary with alpha held constant (points: seeds; line: their mean), and with alpha "
    "falling by the schedule or going another way: increase keeps the regional weight at 1 while "
    "the boundary's grows, switch begins with the regional loss alone for so many epochs (lines: "
    "mean over seeds; bands: lowest to highest seed). DSC is the mean over slices: a model that "
    "predicts nothing scores the share of empty slices.")
CONVERGENCE_CAPTION = (
    "Half of Dist(dG, dS) as the difference of two integrals of phi on the pixel grid (Eq. 4), "
    "against its value in the continuum (Eq. 3: closed forms for discs and squares, quadrature for "
    "six random smooth shapes, whose mean error is shown). It shrinks about in proportion to the "
    "pixel; studies/identity.py says why not all orders are 1.")


def has_sweep(results):
    """Are there two constant alphas or more, and a schedule to see them beside?"""
    constant, moving = results.sweep
    return len(constant) >= 2 and bool(moving)


def sweep(sets):
    """DSC of GDL + boundary against a constant alpha, beside the schedules'.

    A column a set, best epoch over last epochs. Returns (figure, title, caption, alternative text).
    """
    figure, axes = new_figure(2, len(sets), (max(4.8, 3.4 * len(sets)), 5.2), sharex="col")
    words = []
    for column, results in enumerate(sets):
        axes[0, column].set_title(results.title)
        axes[1, column].set_xlabel("alpha, held constant")
        for axis, (name, value) in zip(axes[:, column], sweep_statistics(results), strict=True):
            means = draw_sweep(axis, *sweep_values(results, value))
            axis.set_ylabel(f"validation DSC, {name}" if column == 0 else "")
            words.append(f"{results.title}, {name}: " + ", ".join(
                f"{label} {mean:.3f}" for label, mean in means.items()))

    figure.legend(*legend_entries(axes[0]), loc="outside lower center", ncols=2)
    return figure, "The alpha study: constant alpha against the schedule", SWEEP_CAPTION, \
        "; ".join(words)


def sweep_statistics(results):
    """(name, function of a run) of each row of the figure."""
    window = results.window
    return (("best epoch", lambda run: run.best["val_dice"]),
            (f"last {window} epochs", lambda run: run.last("val_dice", window)))


def sweep_values(results, value):
    """({constant alpha: values over seeds}, {schedule in words: the same}), alphas rising."""
    constant, moving = results.sweep
    rising = sorted(constant.items(), key=lambda pair: pair[1])
    return ({alpha: [value(run) for run in results.finished(row)] for row, alpha in rising},
            {schedule_in_words(row): [value(run) for run in results.finished(row)]
             for row in moving})


def draw_sweep(axis, constant, moving):
    """Points and mean of each constant alpha, line and band of each schedule.

    Arguments are those that `sweep_values` returns. Returns {label: mean}.
    """
    means = {alpha: float(np.mean(values)) for alpha, values in constant.items()}

    others = cycle(STRATEGIES)
    for name, values in moving.items():
        papers = name == "the schedule"
        colour = RED if papers else next(others)
        axis.axhspan(min(values), max(values), color=colour, alpha=0.15 if papers else 0.08,
                     linewidth=0)
        axis.axhline(np.mean(values), color=colour, linewidth=1.5,
                     linestyle="-" if papers else "--", label=name)

    axis.plot(list(means), list(means.values()), color=BLUE, linewidth=1.2, label="constant alpha")
    for alpha, values in constant.items():
        axis.plot([alpha] * len(values), values, "o", color=BLUE, markersize=3.5, alpha=0.7)
    axis.set_xlim(0, 1)
    axis.grid(axis="y", color=FAINT, linewidth=0.5)

    schedules = {name.removeprefix("the "): float(np.mean(values))
                 for name, values in moving.items()}
    return {**schedules, **{f"alpha {alpha:g}": mean for alpha, mean in means.items()}}


def convergence(errors):
    """Relative error of Eq. 4 on the pixel grid against the resolution.

    Args:
        errors: {shape of studies/identity.py: {"sizes", "errors", "order"}}.

    Returns:
        (figure, title, caption, alternative text).
    """
    figure, [[axis]] = new_figure(1, 1, (5.4, 3.8))
    for name, curve in errors.items():
        outward = name.endswith(("grown", "outside"))
        axis.loglog(curve["sizes"], curve["errors"], "o-" if outward else "s--",
                    color=SHAPES[name.split(" ")[0].strip(",")], markersize=3.5, linewidth=1.2,
                    label=f"{name}: order {curve['order']:.2f}")
    sizes = np.array([32, 512])
    axis.loglog(sizes, 0.9 * 32 / sizes, color="#000000", linewidth=0.8, linestyle=":",
                label="order 1")

    axis.set_xlabel("pixels along the image")
    axis.set_ylabel("relative error of half the distance")
    axis.set_xticks([32, 64, 128, 256, 512], [32, 64, 128, 256, 512])
    axis.minorticks_off()
    axis.grid(color=FAINT, linewidth=0.5)
    figure.legend(loc="outside right upper")

    alt = "Relative error against resolution, both on logarithmic axes: " + "; ".join(
        f"{name} from {curve['errors'][0]:.3f} at {curve['sizes'][0]} pixels "
        f"to {curve['errors'][-1]:.3f} at {curve['sizes'][-1]}, order {curve['order']:.2f}"
        for name, curve in errors.items())
    return figure, "Eq. 3 and 4 on shapes with known answers", CONVERGENCE_CAPTION, alt
