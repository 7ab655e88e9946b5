"""The table of the challenge's test set: overall and per scanner, beside what others report."""

from typing import NamedTuple

import numpy as np

from scans.datasets import DATASETS
from scoring.challenge import wmh_scores_of_masks
from scoring.columns import limits_of
from scoring.intervals import FEWEST_SCANS, FEWEST_SEEDS, mean_interval, paired_interval
from scoring.rows import label, order, without_boundary
from utils import markdown_table

MEASURES = {  # of the challenge, in its order: (heading, decimals)
    "dice": ("Dice", 3), "hd95_challenge": ("HD95 (mm)", 2), "volume_difference": ("AVD (%)", 1),
    "lesion_recall": ("lesion recall", 3), "lesion_f1": ("lesion F1", 3)}
SPEC = DATASETS["wmh"]
COMMAND = "make wmh TEST=yes"


class Line(NamedTuple):
    """A line: its name, what its numbers are made of, a text per measure, and its kind."""

    name: str
    size: str
    cells: list
    kind: str  # "measured", "difference", "empty" or "reported"


class Block(NamedTuple):
    """The lines of all test scans, or of those of one scanner."""

    title: str
    lines: list


# Whose numbers these are --------------------------------------------------------------------------

def best_epoch(run):
    """The epoch of a run's best.pt."""
    epoch = run.summary.best_epoch
    return run.best.get("epoch") if epoch is None else epoch


def is_official(results, rows):
    """May reported numbers be shown beside these?

    Only where the challenge's complete test set was scored with models of its own training scans.
    """
    return results.challenge == "wmh" and all(row["source"] == "challenge" for row in rows)


def is_stale(results, rows):
    """Were other models scored than those of the finished runs?"""
    scored = {(row["loss"], row["run"]): row["best_epoch"] for row in rows}
    finished = {(loss, run.folder.name): best_epoch(run) for loss in results.losses
                for run in results.models(loss)}
    return any(finished.get(run) != epoch for run, epoch in scored.items())


# The numbers --------------------------------------------------------------------------------------

def arrays_of(rows, loss):
    """{measure: (runs, scans)} of a row of the table, NaN where there is no score."""
    rows = [row for row in rows if row["loss"] == loss]
    runs = list(dict.fromkeys(row["run"] for row in rows))
    scans = list(dict.fromkeys(row["subject"] for row in rows))
    place = {(row["run"], row["subject"]): row for row in rows}

    def value(run, scan, measure):
        found = place.get((run, scan), {}).get(measure)
        return np.nan if found is None else found

    return {measure: np.array([[value(run, scan, measure) for scan in scans] for run in runs])
            for measure in MEASURES}


def measured(rows, loss):
    """The Line of a row: means over seeds and scans, with intervals."""
    arrays = arrays_of(rows, loss)
    cells = []
    for measure, (_, digits) in MEASURES.items():
        scores, (mean, *interval) = arrays[measure], mean_interval(arrays[measure])
        low, high = np.clip(interval, *limits_of(measure))
        text = "–" if np.isnan(mean) else f"{mean:.{digits}f}"
        if not np.isnan(low) and len(scores) >= FEWEST_SEEDS:
            text += f" [{low:.{digits}f}, {high:.{digits}f}]"
        if 0 < (count := np.isfinite(scores).sum()) < scores.size:
            text += f" ({count} of {scores.size})"
        cells.append(text)
    return Line(label(loss), runs_in_words(rows, loss), cells, "measured")


def runs_in_words(rows, loss):
    """"2 seeds"; of cross-validation "10 models", one for each seed and fold."""
    runs = {row["run"] for row in rows if row["loss"] == loss}
    word = "model" if any("-fold" in run for run in runs) else "seed"
    return f"{len(runs)} {word}" + "s" * (len(runs) != 1)


def compared(rows, loss, other):
    """The Line of what the boundary loss changes, over the scans that have all the scores."""
    with_term, without = arrays_of(rows, loss), arrays_of(rows, other)
    cells = []
    for measure, (_, digits) in MEASURES.items():
        both = np.isfinite(with_term[measure]).all(0) & np.isfinite(without[measure]).all(0)
        if both.sum() < FEWEST_SCANS:
            cells.append("–")
            continue
        pair = [array[measure][:, both] for array in (with_term, without)]
        mean, *interval = paired_interval(*pair)
        least, most = limits_of(measure)
        low, high = np.clip(interval, least - most, most - least)
        text = f"{mean:+.{digits}f}"
        if min(map(len, pair)) >= FEWEST_SEEDS:
            text += f" [{low:+.{digits}f}, {high:+.{digits}f}]"
        cells.append(text if both.all() else f"{text} ({both.sum()} of {len(both)})")
    return Line(f"{label(loss)} against {label(other)}", "paired", cells, "difference")


def of_nothing(rows):
    """The Line of a model that predicts nothing."""
    volumes = {row["subject"]: row["reference_ml"] for row in rows}.values()
    none, some = np.zeros((1, 1, 1), bool), np.ones((1, 1, 1), bool)
    scores = {bears: wmh_scores_of_masks(none, some if bears else none, (1, 1, 1))
              for bears in (True, False)}

    cells = []
    for measure, (_, digits) in MEASURES.items():
        mean, _, _ = mean_interval([scores[volume > 0][measure] for volume in volumes])
        cells.append("–" if np.isnan(mean) else f"{mean:.{digits}f}")
    return Line("nothing predicted", "–", cells, "empty")


def reported_lines(reported):
    """The Lines of what others report; reported: "wmh_test" of results/reported.json."""
    about = {"leaderboard": "leaderboard", "published": "published", "raters": "60 training scans"}
    return [Line(name, about[kind], [as_published(value) for value in values], "reported")
            for kind in about for name, values in reported[kind]["rows"].items()]


def as_published(value):
    """A reported number, with two decimals at least where it is a share."""
    if value is None:
        return "–"
    return f"{value:.2f}" if value < 1 and round(value, 2) == value else f"{value:g}"


# The table ----------------------------------------------------------------------------------------

def build_blocks(rows, reported=None):
    """The Blocks: all scans, then each scanner's in the challenge's order.

    Args:
        rows: of test_set.csv.
        reported: "wmh_test" of results/reported.json, to stand beside all scans; None: nothing.
    """
    scanners = sorted({row["scanner"] for row in rows}, key=scanner_order)
    blocks = [Block(f"All {scans_in_words(rows)}",
                    lines_of(rows) + (reported_lines(reported) if reported else []))]
    for scanner in scanners:
        own = [row for row in rows if row["scanner"] == scanner]
        unseen = scanner in SPEC.test_sites and scanner not in SPEC.sites
        title = f"{scanner}, {scans_in_words(own)}" + ", not in the training set" * unseen
        blocks.append(Block(title, lines_of(own)))
    return blocks


def scanner_order(name):
    known = list(SPEC.test_sites)
    return (known.index(name) if name in known else len(known), name)


def scans_in_words(rows):
    count = len({row["subject"] for row in rows})
    return f"{count} test scan" + "s" * (count != 1)


def lines_of(rows):
    """The measured Lines, in the order of Table 1, each followed by what the term changes."""
    losses, lines = sorted({row["loss"] for row in rows}, key=order), []
    for loss in losses:
        lines.append(measured(rows, loss))
        if (other := without_boundary(loss)) in losses:
            lines.append(compared(rows, loss, other))
    return [*lines, of_nothing(rows)]


def notes_of(results, rows, reported=None):
    """What a reader must know, in sentences.

    Args:
        results: the ResultSet.
        rows, reported: as of `build_blocks`.
    """
    notes = [
        "By the rules of the WMH challenge's own program: whole scans, label 2 of the reference "
        "left out of both masks, HD95 of surfaces within slices, lesions 26-connected. AVD: "
        "absolute volume difference.",
        f"Mean over seeds and scans [95 % interval over both, from {FEWEST_SEEDS} seeds and "
        f"{FEWEST_SCANS} scans on]. A "
        "prediction without a lesion has no HD95; the number of scans with one is then given. "
        "Differences are paired over scans.",
        "The model of each run's best epoch, chosen on the validation scans. No test scan was used "
        "for training or validation."]

    if results.is_phantom or any(row["source"] == "phantom" for row in rows):
        notes.append("Synthetic images: these numbers show that the programs work. The "
                     f"challenge's own test set: not run here (`{COMMAND}`).")
    elif not is_official(results, rows):
        total = sum(SPEC.test_sites.values())
        notes.append(f"Not the challenge's complete test set ({total} scans) with models of its "
                     "own training scans, so no reported numbers are shown beside these. The "
                     f"complete set: not run here (`{COMMAND}`).")
    if reported:
        notes += [f"{name.capitalize()}: {reported[name]['source']}."
                  for name in ("leaderboard", "published", "raters")]

    left = [f"{label(loss)}, {run.folder.name}" for loss in results.losses
            for pooled in results.losses[loss] for run in pooled.parts
            if (loss, run.folder.name) not in {(row["loss"], row["run"]) for row in rows}]
    if left:
        notes.append(f"Not scored, because not finished or not predicted: {'; '.join(left)}.")
    return notes


def headings():
    return ["loss", "of", *(heading for heading, _ in MEASURES.values())]


def markdown(results, rows, reported=None):
    """test_set.md."""
    parts = [f"# Test set: {results.title}"]
    for block in build_blocks(rows, reported):
        lines = [headings(), *([line.name, line.size, *line.cells] for line in block.lines)]
        parts += [f"## {block.title}", markdown_table(lines)]
    parts.append("\n".join(f"- {note}" for note in notes_of(results, rows, reported)))
    return "\n\n".join(parts) + "\n"
