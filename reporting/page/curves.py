"""Figure 3 as the page shows it: validation scores, alpha and learning rate against the epoch, as inline SVG.

Everything is drawn here; the page's script only hides seeds, draws means anew and reads values off at an epoch.
"""

import numpy as np

from reporting.curves import DISTANCES, describe_curves, plain_rows, points
from reporting.page.svg import Axes, band, line
from scoring import rows as row_names

# column of metrics.csv, title, decimals, the paper's measure where it is one
MEASURES = (("val_dice", "DSC, slice mean", 3, "dsc"), ("val_hd_legacy", "legacy HD", 3, "hd"),
            ("val_dice_3d", "DSC per scan (3-D)", 3, None), ("val_hd95", "HD95 (mm)", 1, None),
            ("alpha", "alpha", 2, None), ("lr", "learning rate", 6, None))
SETTINGS = ("alpha", "lr")  # set by a rule, not measured: steps from 0
BOX = {"left": 46, "top": 12, "width": 320, "height": 178}  # of the 380 x 222 units of a panel
STYLES = 8  # .k0 to .k7 in page.css


def style(one, row):
    """Number of the line style of a row of the table: 0 GDL, 1 GDL + boundary, 2 boundary alone, 3 and on for others."""
    number = row_names.style(row, list(one.losses))
    return number if number < 3 else 3 + (number - 3) % (STYLES - 3)


def aligned(run, key, epochs):
    """A column of metrics.csv at each of `epochs`, NaN where the run has no value: float array (len(epochs),)."""
    values = dict(zip(*points(run, key), strict=True))
    return np.array([values.get(float(epoch), np.nan) for epoch in epochs])


def limits(one, key, values):
    """The y axis of a panel: all values, but GDL and GDL + boundary alone where they exist and the column is a distance.

    Boundary alone before its collapse lies far above them.
    """
    pair = [values[name] for name in ("gdl", "gdl+boundary") if name in values]
    chosen = np.concatenate([np.ravel(stack) for stack in (pair if key in DISTANCES and pair else values.values())])
    chosen = chosen[np.isfinite(chosen)]
    if not chosen.size:
        return None
    low, high = (0.0 if key in SETTINGS else float(chosen.min())), float(chosen.max())
    high = high if key in SETTINGS else max(high, 0.01)  # a DSC of 1e-8 is none
    margin = 0.05 * (high - low) or 0.1 * abs(high) or 0.1
    return max(0.0, low - margin), high + margin


def spread(values, finished):
    """(lowest, mean, highest) of the finished seeds, values (seeds, epochs); NaN where one of them has no value.

    A mean over other seeds than its neighbours' would jump.
    """
    whole = values[finished]
    return whole.min(0), whole.mean(0), whole.max(0)


def panel(one, measure, rows, epochs, paper):
    """What the template draws of one measure; `lines` are the runs in the order of `rows`, `means` one per loss."""
    key, title, digits, paper_key = measure
    values = {name: np.stack([aligned(run, key, epochs) for run in runs]) for name, runs in rows.items()}
    span = limits(one, key, values)
    found = {"key": key, "title": title, "digits": digits, "lines": [], "means": [], "bests": [], "marks": [],
             "empty": span is None, "span": span or (0, 1), "setting": key in SETTINGS,
             "values": [[None if np.isnan(value) else float(f"{value:.5g}") for value in series]
                        for stack in values.values() for series in stack]}
    marks = paper_marks(paper, paper_key)
    if marks and span:
        known = [mark["value"] for mark in marks]
        found["span"] = span = min(span[0], min(known) * 0.97), max(span[1], max(known) * 1.03)
    axes = Axes(**BOX, x=(epochs[0], epochs[-1]), y=found["span"])
    found["ticks"] = axes.ticks(columns=5, whole=True)
    found["marks"] = [{**mark, "y": axes.at(0, mark["value"])[1]} for mark in marks]
    for name, runs in rows.items():
        finished = np.array([run.finished for run in runs])
        found["lines"] += [{"style": style(one, name), "path": line(axes, epochs, series), "finished": run.finished}
                           for run, series in zip(runs, values[name], strict=True)]
        low, mean, high = spread(values[name], finished) if finished.any() else [np.full(len(epochs), np.nan)] * 3
        found["means"].append({"style": style(one, name), "path": line(axes, epochs, mean),
                               "band": band(axes, epochs, low, high)})
        if key == "val_dice":
            found["bests"] += [axes.at(run.best["epoch"], run.best[key]) if run.best else None for run in runs]
    return found


def paper_marks(paper, measure):
    """The paper's Figure 3, digitised: [{"style", "value", "best", "title"}]; [] beside other data than its own."""
    if not paper or not measure:
        return []
    words = {"best": "best epoch", "last_50": "mean of the last 50 epochs"}
    return [{"style": ("gdl", "gdl+boundary").index(name), "value": curve[measure][key], "best": key == "best",
             "title": f"The paper's {row_names.in_words(name)}, {words[key]}: {curve[measure][key]:g}"}
            for name, curve in paper.items() for key in words]


def curves(one, reported):
    """Figure 3 of one set for the template: panels, the runs by loss, and `data` for the script; None without an epoch."""
    rows = {name: runs for name, runs in plain_rows(one).items() if any(run.rows for run in runs)}
    numbers = [int(row["epoch"]) for runs in rows.values() for run in runs for row in run.rows]
    if not numbers:
        return None
    epochs = list(range(min(numbers), max(numbers) + 1))
    paper = reported["figure3"][one.challenge] if one.challenge else None
    panels = [panel(one, measure, rows, epochs, paper) for measure in MEASURES]
    losses, count = [], 0
    for name, runs in rows.items():
        losses.append({"name": name, "text": row_names.in_words(name), "style": style(one, name), "runs": [
            {"number": count + at, "seed": run.folder.name, "finished": run.finished, "epoch": len(run.rows)}
            for at, run in enumerate(runs)]})
        count += len(runs)
    data = {"epochs": epochs, "box": BOX,
            "losses": [{"text": loss["text"], "style": loss["style"], "runs": [
                {"number": run["number"], "finished": run["finished"]} for run in loss["runs"]]} for loss in losses],
            "panels": [{key: drawn[key] for key in ("span", "digits", "values")} for drawn in panels]}
    shown = [(key, title) for key, title, *_ in MEASURES if key not in SETTINGS]
    return {"panels": panels, "losses": losses, "data": data, "epochs": epochs, "paper": bool(paper),
            "alt": describe_curves([one], shown, None)[2]}
