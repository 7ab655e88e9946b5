"""Figure 3 as the page shows it: scores, alpha and learning rate against the epoch, as inline SVG.

Everything is drawn here; the page's script only hides seeds, redraws the means and reads values off
at an epoch.
"""

from typing import NamedTuple

import numpy as np

from reporting import measures
from reporting.curves import DISTANCES, PAPERS, figure3_texts, has_values, plain_rows, points
from reporting.page.svg import Axes, band, line
from scoring import rows as row_names
from scoring.epochs import EMPTY
from scoring.nothing import scores_of_nothing
from scoring.rows import PAIR


class Measure(NamedTuple):
    """What a panel shows."""

    key: str              # column of metrics.csv
    title: str
    digits: int           # decimals of values that are read off
    paper: str | None = None  # the paper's measure, where it is one


MEASURES = (
    *(Measure(shown.column, shown.title, shown.digits, PAPERS.get(shown.column))
      for shown in measures.MEASURES),
    Measure("alpha", "alpha", 2),
    Measure("lr", "learning rate", 6),
)
SETTINGS = ("alpha", "lr")  # set by a rule, not measured: the axis begins at 0
BOX = {"left": 46, "top": 12, "width": 320, "height": 178}  # of the 380 x 222 units of a panel
STYLES = 9                  # .k0 to .k8 in page.css
PAPER_VALUES = {"best": "best epoch", "last_50": "mean of the last 50 epochs"}


def line_style(results, row):
    """Number of the line style of a row of the table.

    0 for GDL, 1 for GDL + boundary, 2 for boundary alone, 3 to 8 for others in turn.
    """
    number = row_names.style(row, list(plain_rows(results)))
    return number if number < 3 else 3 + (number - 3) % (STYLES - 3)


# One panel ----------------------------------------------------------------------------------------

def aligned(run, key, epochs):
    """A column of metrics.csv at each of `epochs`, NaN without a value: (len(epochs),)."""
    values = dict(zip(*points(run, key), strict=True))
    return np.array([values.get(float(epoch), np.nan) for epoch in epochs])


def limits(key, values):
    """The y axis of a panel, None without a value.

    It spans all values, but of a distance only those of GDL and GDL + boundary where these exist:
    before it collapses, boundary alone lies far above them. Of the number of false lesions, which
    may begin in the thousands, it spans the second half of the epochs.

    Args:
        key: column of metrics.csv.
        values: {row: (seeds, epochs)}.
    """
    if key == EMPTY:
        return 0.0, 1.02
    pair = [values[name] for name in PAIR if name in values]
    shown = pair if key in DISTANCES and pair else values.values()
    if key == "val_false_lesions":
        shown = [stack[:, stack.shape[1] // 2:] for stack in shown]
    chosen = np.concatenate([np.ravel(stack) for stack in shown])
    chosen = chosen[np.isfinite(chosen)]
    if not chosen.size:
        return None

    low, high = float(chosen.min()), float(chosen.max())
    if key in SETTINGS:
        low = 0.0
    else:
        high = max(high, 0.01)  # a DSC of 1e-8 is none
    margin = 0.05 * (high - low) or 0.1 * abs(high) or 0.1
    return max(0.0, low - margin), high + margin


def seed_range(values, finished):
    """(lowest, mean, highest) of the finished seeds; NaN where one of them has no value.

    A mean over other seeds than its neighbours' would jump.

    Args:
        values: (seeds, epochs).
        finished: bool per seed.
    """
    whole = values[finished]
    return whole.min(0), whole.mean(0), whole.max(0)


def panel(results, measure, rows, epochs, paper):
    """What the template draws of one measure.

    Args:
        rows: {row of the table: its runs}.
        paper: the paper's curves of this set, None beside other data than its own.

    Returns:
        a dict; `lines` are the runs in the order of `rows`, `means` one per row.
    """
    values = {name: np.stack([aligned(run, measure.key, epochs) for run in runs])
              for name, runs in rows.items()}                            # {row: (seeds, epochs)}
    span, marks = limits(measure.key, values), paper_marks(paper, measure.paper)
    found = {"key": measure.key, "title": measure.title, "digits": measure.digits,
             "empty": span is None, "setting": measure.key in SETTINGS,
             "values": [rounded(series) for stack in values.values() for series in stack]}

    if marks and span:
        known = [mark["value"] for mark in marks]
        span = min(span[0], min(known) * 0.97), max(span[1], max(known) * 1.03)
    nothing = scores_of_nothing(results).get(measure.key) if measure.paper and span else None
    if nothing is not None:
        span = min(span[0], nothing), max(span[1], 1.02 * nothing)
    axes = Axes(**BOX, x=(epochs[0], epochs[-1]), y=span or (0, 1))
    found |= {"span": axes.y, "ticks": axes.ticks(columns=5, whole=True),
              "nothing": None if nothing is None else axes.at(0, nothing)[1],
              "marks": [{**mark, "y": axes.at(0, mark["value"])[1]} for mark in marks],
              "lines": [], "means": [], "bests": []}

    for name, runs in rows.items():
        style = line_style(results, name)
        found["lines"] += [
            {"style": style, "path": line(axes, epochs, series), "finished": run.finished}
            for run, series in zip(runs, values[name], strict=True)]
        found["means"].append({"style": style, **mean_paths(axes, epochs, values[name], runs)})
        if measure.key == "val_dice":
            found["bests"] += [
                axes.at(run.best["epoch"], run.best["val_dice"]) if run.best else None
                for run in runs]
    return found


def rounded(series):
    """A curve for the script: five digits, None where it has no value."""
    return [None if np.isnan(value) else float(f"{value:.5g}") for value in series]


def mean_paths(axes, epochs, values, runs):
    """The paths of the mean of the finished seeds and of the band from lowest to highest."""
    finished = np.array([run.finished for run in runs])
    low, mean, high = [np.full(len(epochs), np.nan)] * 3
    if finished.any():
        low, mean, high = seed_range(values, finished)
    return {"path": line(axes, epochs, mean), "band": band(axes, epochs, low, high)}


def paper_marks(paper, measure):
    """The paper's Figure 3, digitised: [{"style", "value", "best", "title"}].

    [] beside other data than its own, and for measures that it does not show.
    """
    if not paper or not measure:
        return []
    return [{"style": PAIR.index(name), "value": curve[measure][key], "best": key == "best",
             "title": f"The paper's {row_names.in_words(name)}, {words}: {curve[measure][key]:g}"}
            for name, curve in paper.items() for key, words in PAPER_VALUES.items()]


# All panels of a set ------------------------------------------------------------------------------

def curves_view(results, reported):
    """Figure 3 of one set for the template, None without an epoch.

    Returns:
        {"panels": see `panel`, "losses": the runs by row, "data": for the script, "epochs",
        "paper": is the paper's curve beside them?, "alt"}.
    """
    rows = {name: runs for name, runs in plain_rows(results).items()
            if any(run.rows for run in runs)}
    numbers = [int(row["epoch"]) for runs in rows.values() for run in runs for row in run.rows]
    if not numbers:
        return None

    epochs = list(range(min(numbers), max(numbers) + 1))
    paper = reported["figure3"][results.challenge] if results.challenge else None
    panels = [panel(results, measure, rows, epochs, paper) for measure in MEASURES
              if measure.paper or measure.key in SETTINGS or has_values([results], measure.key)]
    losses = numbered_runs(results, rows)
    measured = [(measure.key, measure.title) for measure in MEASURES if measure.key not in SETTINGS]
    return {"panels": panels, "losses": losses, "data": script_data(epochs, panels, losses),
            "epochs": epochs, "paper": bool(paper),
            "alt": figure3_texts([results], measured, None)[2]}


def numbered_runs(results, rows):
    """The rows with their runs, which are numbered from 0 through all of them."""
    losses, count = [], 0
    for name, runs in rows.items():
        losses.append({
            "name": name, "text": row_names.in_words(name), "style": line_style(results, name),
            "runs": [{"number": number, "seed": run.folder.name, "finished": run.finished,
                      "epoch": len(run.rows)} for number, run in enumerate(runs, count)]})
        count += len(runs)
    return losses


def script_data(epochs, panels, losses):
    """What page.js reads: values and axes, but no paths."""
    return {
        "epochs": epochs, "box": BOX,
        "losses": [{"text": loss["text"], "style": loss["style"],
                    "runs": [{"number": run["number"], "finished": run["finished"]}
                             for run in loss["runs"]]} for loss in losses],
        "panels": [{key: drawn[key] for key in ("span", "digits", "values")} for drawn in panels]}
