"""Figure 3: validation scores against the epoch."""

import numpy as np

from reporting.drawing import FAINT, legend_entries, line_colour, new_figure, say
from scoring.rows import ALONE, PAIR, in_words, is_variant

DISTANCES = ("val_hd", "val_hd95", "val_hd_legacy")
SHORT = {"val_dice": "DSC", "val_dice_3d": "3-D DSC", "val_hd95": "HD95",
         "val_hd_legacy": "legacy HD"}


def figure3(sets, measures, reported):
    """A column per set, a row per measure.

    Args:
        sets: the ResultSets.
        measures: (column of metrics.csv, label of the axis) of each row.
        reported: results/reported.json, whose curves are marked beside challenge scans; or None.

    Returns:
        (figure, title, caption, alternative text).
    """
    figure, axes = new_figure(len(measures), len(sets), (max(4.8, 3.4 * len(sets)), 5.2),
                              sharex="col")
    for column, results in enumerate(sets):
        axes[0, column].set_title(results.title)
        axes[-1, column].set_xlabel("epoch")
        for axis, (key, name) in zip(axes[:, column], measures, strict=True):
            draw_panel(axis, results, key, reported)
            axis.set_ylabel(name if column == 0 else "")

    handles, labels = legend_entries(axes.flat)
    if labels:
        figure.legend(handles, labels, loc="outside lower center", ncols=min(5, 1 + len(sets)))
    return figure, *figure3_texts(sets, measures, reported)


def draw_panel(axis, results, key, reported):
    """One measure of one set, or the words that there is nothing of it to draw."""
    draw_curves(axis, results, key)
    if reported and results.challenge:
        measure = "dsc" if key == "val_dice" else "hd"
        draw_paper_marks(axis, reported["figure3"][results.challenge], measure)
    axis.grid(axis="y", color=FAINT, linewidth=0.5)

    if not axis.lines:
        computed = any(row.get(key) is not None for run in results.runs for row in run.rows)
        say(axis, "no epoch with foreground" if computed else "not computed in these runs",
            frame=True)


def plain_rows(results):
    """The rows without those of a sweep or a capped weight, which would hide the paper's curves."""
    plain = {name: runs for name, runs in results.losses.items() if not is_variant(name)}
    return plain or results.losses


def draw_curves(axis, results, key):
    """Mean over the finished seeds as a line, their range as a band, each seed thin.

    Unfinished seeds are dotted.
    """
    rows = plain_rows(results)
    for name, runs in rows.items():
        colour, dashes = line_colour(name, rows), "--" if name == ALONE else "-"
        series = [(run, *points(run, key)) for run in runs]
        series = [entry for entry in series if np.isfinite(entry[2]).any()]

        for run, epochs, values in series:
            if run.finished:
                axis.plot(epochs, values, dashes, color=colour, linewidth=0.5, alpha=0.45)
            else:
                axis.plot(epochs, values, ":", color=colour, linewidth=1.1,
                          label=f"{in_words(name)}, unfinished")

        finished = [(epochs, values) for run, epochs, values in series if run.finished]
        if finished:
            stack = np.stack([values for _, values in finished])  # (seeds, epochs)
            draw_mean(axis, finished[0][0], stack, colour, dashes, in_words(name))
    if key in DISTANCES:
        frame_main_curves(axis, results, key)


def draw_mean(axis, epochs, stack, colour, dashes, label):
    """The mean of a stack (seeds, epochs) as a line, from its lowest to its highest as a band."""
    seen = np.isfinite(stack).all(axis=0)  # a mean over other seeds than its neighbours' would jump
    low, mean, high = (np.where(seen, values, np.nan)
                       for values in (stack.min(axis=0), stack.mean(axis=0), stack.max(axis=0)))
    axis.fill_between(epochs, low, high, color=colour, alpha=0.18, linewidth=0)
    axis.plot(epochs, mean, dashes, color=colour, linewidth=1.5,
              marker="o" if len(epochs) == 1 else None, label=label)


def points(run, key):
    """(epochs, values) of one column as float arrays.

    Values are NaN where they were not computed, and for a distance also where nothing was
    segmented.
    """
    epochs = np.array([row["epoch"] for row in run.rows], float)
    values = [None if key in DISTANCES and row.get("val_foreground") == 0 else row.get(key)
              for row in run.rows]
    return epochs, np.array([np.nan if value is None else value for value in values], float)


def frame_main_curves(axis, results, key):
    """Let the paper's two curves set the y axis.

    Before it collapses, boundary alone lies far above them.
    """
    values = [points(run, key)[1] for name in PAIR for run in results.losses.get(name, [])]
    values = np.concatenate([[np.nan], *values])
    if np.isfinite(values).any():
        low, high = np.nanmin(values), np.nanmax(values)
        margin = 0.06 * (high - low) or 0.1
        axis.set_ylim(max(0, low - margin), high + margin)


def draw_paper_marks(axis, paper, measure):
    """The paper's own values as ticks outside the right edge.

    A thick one is the paper's best epoch, a thin one the mean of its last 50.
    """
    beside = axis.get_yaxis_transform()  # x in parts of the axis, y in data
    for name, curve in paper.items():
        options = {"color": line_colour(name, ()), "transform": beside, "clip_on": False,
                   "solid_capstyle": "butt"}
        axis.plot([1.0, 1.045], [curve[measure]["best"]] * 2, linewidth=2.4,
                  label=f"paper's {in_words(name)}", **options)
        axis.plot([1.0, 1.045], [curve[measure]["last_50"]] * 2, linewidth=0.9, **options)

    known = [curve[measure][key] for curve in paper.values() for key in ("best", "last_50")]
    low, high = axis.get_ylim()
    axis.set_ylim(min(low, min(known) * 0.97), max(high, max(known) * 1.03))


def figure3_texts(sets, measures, reported):
    """(title, caption, alternative text); arguments as of `figure3`."""
    number = "Figure 3" if reported is not None else "Figure 3 in mm"
    names = " and ".join(name for _, name in measures)
    where = ", ".join(results.title for results in sets)

    caption = (
        "Line: mean over the finished seeds; band: lowest to highest seed; thin lines: each seed; "
        "dotted: unfinished runs. Distances are not drawn at epochs at which the model segments "
        "nothing; GDL and GDL + boundary set the distance axis.")
    if reported and any(results.challenge for results in sets):
        caption += (
            " Ticks at the right edge: the paper's Figure 3, digitised (thick: its best epoch, "
            "thin: the mean of its last 50 epochs).")

    ends = "; ".join(
        f"{results.title}, {in_words(name)} "
        + ", ".join(last_values(runs, key) for key, _ in measures)
        for results in sets for name, runs in plain_rows(results).items())
    return f"{number}: {names} against epoch", caption, \
        f"{names} against training epoch for {where}: {ends}"


def last_values(runs, key):
    """The mean of a row's last values, in words."""
    values = [points(run, key)[1] for run in runs]
    ends = [series[-1] for series in values if series.size and np.isfinite(series[-1])]
    name = SHORT[key]
    return f"{name} ends at {np.mean(ends):.2f}" if ends else f"{name} undefined at the end"
