"""Figure 3: validation scores against the epoch."""

import matplotlib.pyplot as plt
import numpy as np

from reporting import drawing
from scoring.rows import in_words, is_variant

# blue and red are the paper's; the rest is Okabe and Ito's palette, safe for the colour-blind
COLOURS = {"gdl": "#1f5fbf", "gdl+boundary": "#d62828", "boundary": "#7a7a7a"}
OTHERS = ("#009e73", "#e69f00", "#56b4e9", "#cc79a7", "#000000")
DISTANCES = ("val_hd", "val_hd95", "val_hd_legacy")


def curves(sets, measures, reported):
    """Figure 3: a column per set, a row per measure. Returns (figure, title, caption, alternative text)."""
    figure, axes = plt.subplots(len(measures), len(sets), figsize=(max(4.8, 3.4 * len(sets)), 5.2), squeeze=False,
                                sharex="col", layout="constrained")
    for column, one in enumerate(sets):
        axes[0, column].set_title(one.title)
        axes[-1, column].set_xlabel("epoch")
        for axis, (key, name) in zip(axes[:, column], measures, strict=True):
            draw_curves(axis, one, key)
            if reported and one.challenge:
                paper_marks(axis, reported["figure3"][one.challenge], "dsc" if key == "val_dice" else "hd")
            axis.set_ylabel(name if column == 0 else "")
            axis.grid(axis="y", color="#dddddd", linewidth=0.5)
            if not axis.lines:
                computed = any(row.get(key) is not None for run in one.runs for row in run.rows)
                drawing.say(axis, "no epoch with foreground" if computed else "not computed in these runs", frame=True)
    handles = {text: handle for axis in axes.flat
               for handle, text in zip(*axis.get_legend_handles_labels(), strict=True)}
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(5, 1 + len(sets)))
    return figure, *describe_curves(sets, measures, reported)


def plain_rows(one):
    """The rows without those of a sweep or a capped weight, which would hide the paper's curves."""
    return {name: runs for name, runs in one.losses.items() if not is_variant(name)} or one.losses


def draw_curves(axis, one, key):
    """Mean over the finished seeds as a line, their range as a band, each seed thin; unfinished seeds dotted."""
    others = iter(OTHERS * len(one.losses))
    for name, runs in plain_rows(one).items():
        colour = COLOURS.get(name) or next(others)
        dashes = "--" if name == "boundary" else "-"
        series = [(run, *points(run, key)) for run in runs]
        whole = [(epochs, values) for run, epochs, values in series if run.finished and np.isfinite(values).any()]
        for run, epochs, values in series:
            if not run.finished and np.isfinite(values).any():
                axis.plot(epochs, values, ":", color=colour, linewidth=1.1,
                          label=f"{in_words(name)}, unfinished")
            elif np.isfinite(values).any():
                axis.plot(epochs, values, dashes, color=colour, linewidth=0.5, alpha=0.45)
        if whole:
            epochs, stack = whole[0][0], np.stack([values for _, values in whole])  # (seeds, epochs)
            seen = np.isfinite(stack).all(axis=0)  # a mean over other seeds than its neighbours' would jump
            low, mean, high = (np.where(seen, values, np.nan)
                               for values in (stack.min(axis=0), stack.mean(axis=0), stack.max(axis=0)))
            axis.fill_between(epochs, low, high, color=colour, alpha=0.18, linewidth=0)
            axis.plot(epochs, mean, dashes, color=colour, linewidth=1.5, marker="o" if len(epochs) == 1 else None,
                      label=in_words(name))
    if key in DISTANCES:
        frame_main_curves(axis, one, key)


def points(run, key):
    """Epochs and values of one column, NaN where not computed, and for a distance where nothing was segmented."""
    epochs = np.array([row["epoch"] for row in run.rows], float)
    values = [None if key in DISTANCES and row.get("val_foreground") == 0 else row.get(key) for row in run.rows]
    return epochs, np.array([np.nan if value is None else value for value in values], float)


def frame_main_curves(axis, one, key):
    """Let the paper's two curves set the y axis: boundary alone before its collapse lies far above them."""
    values = [points(run, key)[1] for name in ("gdl", "gdl+boundary") for run in one.losses.get(name, [])]
    values = np.concatenate([[np.nan], *values])
    if np.isfinite(values).any():
        low, high = np.nanmin(values), np.nanmax(values)
        margin = 0.06 * (high - low) or 0.1
        axis.set_ylim(max(0, low - margin), high + margin)


def paper_marks(axis, paper, measure):
    """The paper's own values as ticks outside the right edge: thick its best epoch, thin its mean of the last 50."""
    beside = axis.get_yaxis_transform()  # x in parts of the axis, y in data
    for name, curve in paper.items():
        style = {"color": COLOURS[name], "transform": beside, "clip_on": False, "solid_capstyle": "butt"}
        axis.plot([1.0, 1.045], [curve[measure]["best"]] * 2, linewidth=2.4,
                  label=f"paper's {in_words(name)}", **style)
        axis.plot([1.0, 1.045], [curve[measure]["last_50"]] * 2, linewidth=0.9, **style)
    known = [curve[measure][key] for curve in paper.values() for key in ("best", "last_50")]
    low, high = axis.get_ylim()
    axis.set_ylim(min(low, min(known) * 0.97), max(high, max(known) * 1.03))


def describe_curves(sets, measures, reported):
    number = "Figure 3" if reported is not None else "Figure 3 in mm"
    names = " and ".join(name for _, name in measures)
    where = ", ".join(one.title for one in sets)
    title = f"{number}: {names} against epoch"
    caption = ("Line: mean over the finished seeds; band: lowest to highest seed; thin lines: each seed; dotted: "
               "unfinished runs. Distances are not drawn at epochs at which the model segments nothing; "
               "GDL and GDL + boundary set the distance axis.")
    if reported and any(one.challenge for one in sets):
        caption += (" Ticks at the right edge: the paper's Figure 3, digitised (thick: its best epoch, thin: the "
                    "mean of its last 50 epochs).")
    alt = f"{names} against training epoch for {where}: " + "; ".join(
        f"{one.title}, {in_words(name)} " + ", ".join(last_values(runs, key) for key, _ in measures)
        for one in sets for name, runs in plain_rows(one).items())
    return title, caption, alt


def last_values(runs, key):
    values = [points(run, key)[1] for run in runs]
    ends = [series[-1] for series in values if series.size and np.isfinite(series[-1])]
    name = {"val_dice": "DSC", "val_dice_3d": "3-D DSC", "val_hd95": "HD95", "val_hd_legacy": "legacy HD"}[key]
    return f"{name} ends at {np.mean(ends):.2f}" if ends else f"{name} undefined at the end"
