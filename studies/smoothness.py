"""How much validation curves jump from epoch to epoch (claim C3)."""

import numpy as np

RESAMPLES = 2000


def dice_changes(run, window):
    """Epoch-to-epoch changes of val_dice over the last `window` epochs."""
    return np.diff([row["val_dice"] for row in run.rows[-window:] if row["val_dice"] is not None])


def draw_jitter(series, rng, resamples=RESAMPLES):
    """Bootstrap of the mean over seeds of the standard deviation of changes.

    Seeds are drawn, and blocks of a fifth of the epochs, since neighbouring changes hang together.

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

    spread = np.stack([changes[rows].std(1)
                       for changes, rows in zip(series, drawn, strict=True)])  # (seeds, resamples)
    seeds = rng.integers(len(series), size=(len(series), resamples))
    return np.take_along_axis(spread, seeds, 0).mean(0)


def jitter_ratio(without, with_term):
    """Ratio of two losses' jitter, below 1 where the curves of `with_term` are smoother.

    Args:
        without, with_term: changes of each seed, arrays of one length.

    Returns:
        {"gdl", "gdl_boundary" (standard deviation of each seed), "ratio", "low", "high" (95 %)}.
    """
    rng = np.random.default_rng(0)
    drawn_without, drawn_with = draw_jitter(without, rng), draw_jitter(with_term, rng)
    ratios = drawn_with / np.maximum(drawn_without, 1e-12)
    low, high = np.percentile(ratios, (2.5, 97.5))

    spreads = [[float(changes.std()) for changes in series] for series in (without, with_term)]
    ratio = np.mean(spreads[1]) / max(np.mean(spreads[0]), 1e-12)
    return {"gdl": spreads[0], "gdl_boundary": spreads[1], "ratio": float(ratio),
            "low": float(low), "high": float(high)}
