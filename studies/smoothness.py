"""How much validation curves jump from epoch to epoch (claim C3)."""

import numpy as np

from scoring.intervals import widening

RESAMPLES = 2000
TINY = 1e-12  # in place of the spread of a flat line, whose ratio would be 0 / 0


def changes(run, column, window):
    """Epoch-to-epoch changes of a column of metrics.csv over the last `window` epochs."""
    return np.diff([row[column] for row in run.rows[-window:] if row.get(column) is not None])


def is_flat(line):
    """Does a curve with these changes not move, as that of a run that predicts nothing?"""
    return bool(line.std() < TINY)


def draw_jitter(series, rng, resamples=RESAMPLES):
    """Bootstrap of the mean over seeds of the standard deviation of changes.

    Seeds are drawn, and blocks of a fifth of the epochs, since neighbouring changes hang together.
    What the seeds differ by is enlarged as in scoring/intervals.py, in proportion.

    Args:
        series: changes of each seed, arrays of one length.
        rng: a NumPy generator.
        resamples: number of draws.

    Returns:
        (resamples,) values.
    """
    length = len(series[0])
    block = max(2, length // 5)
    starts = rng.integers(length, size=(len(series), resamples, -(-length // block)))
    drawn = (starts[..., None] + np.arange(block)) % length  # blocks wrap around
    drawn = drawn.reshape(len(series), resamples, -1)[..., :length]

    spread = np.stack([of_seed[rows].std(1)
                       for of_seed, rows in zip(series, drawn, strict=True)])  # (seeds, resamples)
    seeds = rng.integers(len(series), size=(len(series), resamples))
    mean = np.maximum(spread.mean(0), TINY)
    of_seeds = np.maximum(np.take_along_axis(spread, seeds, 0).mean(0), TINY)
    return mean * (of_seeds / mean) ** widening(len(series))


def jitter_ratio(without, with_term):
    """Ratio of two losses' jitter, below 1 where the curves of `with_term` are smoother.

    Args:
        without, with_term: changes of each seed, arrays of one length.

    Returns:
        {"gdl", "gdl_boundary" (standard deviation of each seed), "ratio", "low", "high" (95 %)}.
    """
    rng = np.random.default_rng(0)
    drawn_without, drawn_with = draw_jitter(without, rng), draw_jitter(with_term, rng)
    low, high = np.percentile(drawn_with / drawn_without, (2.5, 97.5))

    spreads = [[float(of_seed.std()) for of_seed in series] for series in (without, with_term)]
    ratio = max(np.mean(spreads[1]), TINY) / max(np.mean(spreads[0]), TINY)
    return {"gdl": spreads[0], "gdl_boundary": spreads[1], "ratio": float(ratio),
            "low": float(low), "high": float(high)}


if __name__ == "__main__":
    from utils import explain_part
    explain_part("studies.smoothness", __doc__, "studies.claims")
