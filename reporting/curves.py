"""Figure 3: validation scores against the epoch, a panel each."""

import math
import textwrap

import numpy as np
from matplotlib.ticker import MaxNLocator

from reporting.drawing import (
    GREY,
    legend_entries,
    line_colour,
    line_style,
    new_figure,
    say,
    title_in_words,
)
from scoring import scan_scores
from scoring.epochs import EMPTY, series
from scoring.nothing import scores_of_nothing
from scoring.rows import ALONE, in_words, is_of_a_study
from utils import COLUMN

DISTANCES = ("val_hd", "val_hd95", "val_hd_legacy", "val_false_distance")
PAPERS = {"val_dice": "dsc", "val_hd_legacy": "hd"}  # the measures of the paper's Figure 3
ACROSS = 3     # panels of a grid side by side
MOST_ROWS = 5  # of which every one is drawn


# The figure ---------------------------------------------------------------------------------------

def figure3(sets, measures, reported):
    """The measures of each set against the epoch.

    One or two measures are rows, with a column per set. More are a grid for each set, one below
    the other, the legend in its last place.

    Args:
        sets: the ResultSets.
        measures: (column for `scoring.epochs`, label) of each.
        reported: results/reported.json, whose curves are marked beside challenge scans; or None.

    Returns:
        (figure, title, caption, alternative text).
    """
    draw = draw_grids if len(measures) > 2 else draw_columns
    return draw(sets, measures, reported), *figure3_texts(sets, measures, reported)


def draw_columns(sets, measures, reported):
    """A column per set, a row per measure, the legend below."""
    figure, axes = new_figure(len(measures), len(sets), (COLUMN, 4.2),
                              sharex="col")
    for column, results in enumerate(sets):
        axes[0, column].set_title(title_in_words(results))
        axes[-1, column].set_xlabel("epoch")
        for axis, (key, name) in zip(axes[:, column], measures, strict=True):
            draw_panel(axis, results, key, reported)
            axis.set_ylabel(name if column == 0 else "")

    handles, labels = legend_entries(axes.flat)
    if labels:
        figure.legend(handles, labels, loc="outside lower center", ncols=min(5, 1 + len(sets)))
    return figure


def draw_grids(sets, measures, reported):
    """A grid of panels per set, the legend in its free place; of one set without, below it."""
    below = len(sets) == 1 and len(measures) % ACROSS == 0
    down = math.ceil((len(measures) + (not below)) / ACROSS)
    height = 1.5 * down * len(sets) + (0.6 if below else 0.2)
    figure, axes = new_figure(down * len(sets), ACROSS, (COLUMN, height))
    for number, results in enumerate(sets):
        block = axes[number * down:(number + 1) * down]
        for axis, (key, name) in zip(block.flat, measures):
            draw_panel(axis, results, key, reported)
            axis.set_title(name)
        for axis in block.flat[len(measures):]:
            axis.set_axis_off()
        for axis in block.flat[max(0, len(measures) - ACROSS):len(measures)]:  # the lowest ones
            axis.set_xlabel("epoch")

        handles, labels = legend_entries(block.flat)
        options = {"title": textwrap.fill(title_in_words(results), 30), "handlelength": 3.2,
                   "title_fontproperties": {"weight": "bold"}}
        if labels and below:
            figure.legend(handles, labels, loc="outside lower center", ncols=4, **options)
        elif labels:
            block.flat[len(measures)].legend(handles, labels, loc="upper left", alignment="left",
                                             borderaxespad=0, **options)
    return figure


def has_values(sets, key):
    """Was a measure computed at some epoch of some run?"""
    return any(value is not None for results in sets for run in results.runs
               for value in series(run, key))


# A panel ------------------------------------------------------------------------------------------

def draw_panel(axis, results, key, reported):
    """One measure of one set, or the words that there is nothing of it to draw."""
    draw_curves(axis, results, key)
    if not axis.lines:
        if has_values([results], key):
            words = "no epoch with foreground"
        elif key in scan_scores.FURTHER and any(part.scans for part in results.parts):
            words = "no such lesions in these scans"
        else:
            words = "not computed in these runs"
        say(axis, words, frame=True)
        return

    if key in PAPERS:
        draw_nothing(axis, scores_of_nothing(results).get(key))
    if reported and results.challenge and key in PAPERS:
        draw_paper_marks(axis, reported["figure3"][results.challenge], PAPERS[key])
    axis.grid(axis="y")


def draw_nothing(axis, value):
    """A line at what an empty prediction scores, which the axis is made to hold."""
    if value is None:
        return
    axis.axhline(value, color=GREY, linewidth=1.1, linestyle=(0, (1, 1.2)), zorder=1,
                 label="predicts nothing")
    low, high = axis.get_ylim()
    margin = 0.04 * (high - low)
    axis.set_ylim(min(low, value - margin), max(high, value + margin))


def plain_rows(results):
    """The rows that are drawn: without those of a sweep, which has a figure of its own.

    Of more than `MOST_ROWS` others that change alpha or a cap are left out too, since they would
    hide the paper's curves.
    """
    if len(results.losses) <= MOST_ROWS and not results.sweep[0]:
        return results.losses
    plain = {name: runs for name, runs in results.losses.items() if not is_of_a_study(name)}
    return plain or results.losses


def draw_curves(axis, results, key):
    """Mean over the finished seeds as a thick line, each seed thin; unfinished seeds are dotted."""
    rows = plain_rows(results)
    for place, (name, runs) in enumerate(rows.items()):
        colour, dashes, marker = line_style(name, rows)
        curves = [(run, *points(run, key)) for run in runs]
        curves = [entry for entry in curves if np.isfinite(entry[2]).any()]

        for run, epochs, values in curves:
            if not run.finished:
                axis.plot(epochs, values, ":", color=colour, linewidth=1.1,
                          label=f"{in_words(name)}, unfinished")
            elif key != EMPTY:
                axis.plot(epochs, values, "-", color=colour, linewidth=0.5, alpha=0.4)

        finished = [(epochs, values) for run, epochs, values in curves if run.finished]
        if finished:
            stack = np.stack([values for _, values in finished])  # (seeds, epochs)
            mean = np.where(np.isfinite(stack).all(axis=0), stack.mean(axis=0), np.nan)
            axis.plot(finished[0][0], mean, color=colour, linestyle=dashes, linewidth=1.7,
                      marker=marker, markersize=4, markevery=marks(mean, place, len(rows)),
                      markeredgecolor="white", markeredgewidth=0.5, label=in_words(name))
    frame(axis, results, key)


def marks(values, place, rows):
    """The epochs at which a curve has its marker: some five, shifted from row to row.

    Args:
        values: of the curve, NaN where it has none.
        place, rows: number of the row, and of how many.
    """
    step = max(1, len(values) // 5)
    chosen = [at for at in range(int(step * place / rows), len(values), step)
              if np.isfinite(values[at])]
    return chosen or [int(at) for at in np.flatnonzero(np.isfinite(values))[:1]]


def points(run, key):
    """(epochs, values) of one column as float arrays.

    Values are NaN where they were not computed, and for a distance also where nothing was
    segmented.
    """
    epochs = np.array([row["epoch"] for row in run.rows], float)
    values = [None if key in DISTANCES and row.get("val_foreground") == 0 else value
              for row, value in zip(run.rows, series(run, key), strict=True)]
    return epochs, np.array([np.nan if value is None else value for value in values], float)


def frame(axis, results, key):
    """Whole epochs on the x axis, and what a measure asks of the y axis.

    Numbers of lesions begin in the thousands and may end at none.
    """
    axis.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    if key == "val_false_lesions":
        axis.set_yscale("symlog", linthresh=1)
        axis.set_ylim(bottom=0)
    elif key == EMPTY:
        axis.set_ylim(-0.04, 1.04)
    elif key in DISTANCES:
        frame_regional_curves(axis, results, key)


def frame_regional_curves(axis, results, key):
    """Let the curves of rows with a regional loss set the y axis.

    Before it collapses, boundary alone lies far above them.
    """
    values = [points(run, key)[1] for name, runs in plain_rows(results).items() if name != ALONE
              for run in runs]
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
    if len(measures) > 2:
        names = "validation measures"
    where = ", ".join(results.title for results in sets)

    caption = (
        "Thick, with markers: mean over the finished seeds; thin: each seed; dotted: unfinished "
        "runs. Distances are not drawn at epochs at which the model segments nothing (with "
        "folds: only where all of them do; otherwise an empty fold counts with the image's "
        "diagonal); boundary alone does not set the distance axis.")
    if any(key in PAPERS for key, _ in measures):
        caption += " Grey dots: what a model that predicts nothing scores."
    if reported and any(results.challenge for results in sets):
        caption += (
            " Ticks at the right edge: the paper's Figure 3, digitised (thick: its best epoch, "
            "thin: the mean of its last 50 epochs).")

    ends = "; ".join(
        f"{results.title}, {in_words(name)} "
        + ", ".join(last_values(runs, *measure) for measure in measures)
        for results in sets for name, runs in plain_rows(results).items())
    return f"{number}: {names} against epoch", caption, \
        f"{names} against training epoch for {where}: {ends}"


def last_values(runs, key, name):
    """The mean of a row's last values, in words."""
    values = [points(run, key)[1] for run in runs]
    ends = [curve[-1] for curve in values if curve.size and np.isfinite(curve[-1])]
    return f"{name} ends at {np.mean(ends):.2f}" if ends else f"{name} undefined at the end"
