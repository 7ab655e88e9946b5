"""Figures of what the paper claims beside Table 1: constant alphas (C6) and the convergence of Eq. 3 and 4 (C9)."""

from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np

from scoring.rows import schedule_in_words

SCHEDULE, CONSTANT = "#d62828", "#1f5fbf"
STRATEGIES = ("#2a9d3f", "#8e44ad", "#e08214")  # other schedules beside it


def has_sweep(one):
    constant, moving = one.sweep
    return len(constant) >= 2 and bool(moving)


def sweep(sets):
    """DSC of GDL + boundary against a constant alpha, beside the schedules'; a column a set, best epoch over last epochs."""
    figure, axes = plt.subplots(2, len(sets), figsize=(max(4.8, 3.4 * len(sets)), 5.2), squeeze=False, sharex="col",
                                layout="constrained")
    words = []
    for column, one in enumerate(sets):
        constant, moving = one.sweep
        statistics = (("best epoch", lambda run: run.best["val_dice"]),
                      (f"last {one.window} epochs", lambda run, window=one.window: run.last("val_dice", window)))
        axes[0, column].set_title(one.title)
        axes[1, column].set_xlabel("alpha, held constant")
        for axis, (name, value) in zip(axes[:, column], statistics, strict=True):
            means = draw_sweep(axis, {alpha: [value(run) for run in one.finished(row)]
                                      for row, alpha in sorted(constant.items(), key=lambda pair: pair[1])},
                               {schedule_in_words(row): [value(run) for run in one.finished(row)] for row in moving})
            axis.set_ylabel(f"validation DSC, {name}" if column == 0 else "")
            words.append(f"{one.title}, {name}: " + ", ".join(f"{label} {mean:.3f}" for label, mean in means.items()))
    entries = {label: handle for axis in axes[0] for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=2)
    caption = ("GDL + boundary with alpha held constant (points: seeds; line: their mean), and with alpha falling by the "
               "schedule or going another way: increase keeps the regional weight at 1 while the boundary's grows, switch "
               "begins with the regional loss alone for so many epochs (lines: mean over seeds; bands: lowest to highest "
               "seed). DSC is the mean over slices: a model that "
               "predicts nothing scores the share of empty slices.")
    return figure, "The alpha study: constant alpha against the schedule", caption, "; ".join(words)


def draw_sweep(axis, constant, moving):
    """Points and mean of each constant {alpha: values}, line and band of each schedule {name: values}; {label: mean}."""
    means = {alpha: float(np.mean(values)) for alpha, values in constant.items()}
    others = cycle(STRATEGIES)
    for name, values in moving.items():
        own = name == "the schedule"
        colour = SCHEDULE if own else next(others)
        axis.axhspan(min(values), max(values), color=colour, alpha=0.15 if own else 0.08, linewidth=0)
        axis.axhline(np.mean(values), color=colour, linewidth=1.5, linestyle="-" if own else "--", label=name)
    axis.plot(list(means), list(means.values()), color=CONSTANT, linewidth=1.2, label="constant alpha")
    for alpha, values in constant.items():
        axis.plot([alpha] * len(values), values, "o", color=CONSTANT, markersize=3.5, alpha=0.7)
    axis.set_xlim(0, 1)
    axis.grid(axis="y", color="#dddddd", linewidth=0.5)
    return {**{name.removeprefix("the "): float(np.mean(values)) for name, values in moving.items()},
            **{f"alpha {alpha:g}": mean for alpha, mean in means.items()}}


def convergence(curves):
    """Relative error of Eq. 4 on the pixel grid against the resolution, for every shape of studies/identity.py."""
    figure, axis = plt.subplots(figsize=(5.4, 3.8), layout="constrained")
    colours = {"disc": "#d62828", "square": "#1f5fbf", "smooth": "#7a7a7a"}
    for name, curve in curves.items():
        outward = name.endswith(("grown", "outside"))
        axis.loglog(curve["sizes"], curve["errors"], "o-" if outward else "s--", color=colours[name.split(" ")[0].strip(",")],
                    markersize=3.5, linewidth=1.2, label=f"{name}: order {curve['order']:.2f}")
    sizes = np.array([32, 512])
    axis.loglog(sizes, 0.9 * 32 / sizes, color="#000000", linewidth=0.8, linestyle=":", label="order 1")
    axis.set_xlabel("pixels along the image")
    axis.set_ylabel("relative error of half the distance")
    axis.set_xticks([32, 64, 128, 256, 512], [32, 64, 128, 256, 512])
    axis.minorticks_off()
    axis.grid(color="#dddddd", linewidth=0.5)
    figure.legend(loc="outside right upper")
    caption = ("Half of Dist(dG, dS) as the difference of two integrals of phi on the pixel grid (Eq. 4), against its value in "
               "the continuum (Eq. 3: closed forms for discs and squares, quadrature for six random smooth shapes, whose mean "
               "error is shown). It shrinks about in proportion to the pixel; studies/identity.py says why not all orders are 1.")
    alt = "Relative error against resolution, both on logarithmic axes: " + "; ".join(
        f"{name} from {curve['errors'][0]:.3f} at {curve['sizes'][0]} pixels to {curve['errors'][-1]:.3f} at "
        f"{curve['sizes'][-1]}, order {curve['order']:.2f}" for name, curve in curves.items())
    return figure, "Eq. 3 and 4 on shapes with known answers", caption, alt
