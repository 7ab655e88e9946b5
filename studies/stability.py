"""Claims C3 and C4: are validation curves smooth, and what is left in the end?"""

from scipy.special import betaincinv

from scoring.cases import validation_names
from scoring.emptying import misses_all
from scoring.rows import ALONE, PAIR, REGIONAL
from scoring.runs import without_foreground
from studies.smoothness import changes, is_flat, jitter_ratio
from studies.verdicts import (
    NOT_MEASURED,
    REFUTED,
    SUPPORTED,
    UNDECIDED,
    claim,
    decide,
    empty_in_words,
    join,
    lacking,
    not_measured,
    settings_as,
)

FEWEST_EPOCHS = 12
CURVES = {"val_dice": "DSC", "val_hd_legacy": "legacy HD"}  # those of the paper's Figure 3


def c3(results):
    """Ratio of the two losses' jitter, GDL + boundary over GDL: below 1 where it is smoother.

    Runs that end empty count with their curves, whose flat end is smooth; but the claim is not
    decided in favour of the row of which more end empty, nor on a flat curve of GDL alone, beside
    which any other jumps without bounds.
    """
    pair = [results.finished(row) for row in PAIR]
    if not all(pair):
        return hint(results, PAIR)
    window = min(50, min(len(run.rows) for runs in pair for run in runs) // 2)
    series = {column: [[changes(run, column, window) for run in runs] for runs in pair]
              for column in CURVES}
    if any(len(line) < window - 1 for both in series.values() for runs in both for line in runs):
        return not_measured("the runs again whose metrics.csv lacks val_dice or val_hd_legacy in "
                            "some epochs")

    lack = lack_in_words(results, PAIR)
    if window < 3:
        return claim(NOT_MEASURED, lack)
    ratios = {column: jitter_ratio(*both) for column, both in series.items()}
    statistic = jitter_in_words(ratios, window) + empty_in_words(pair[0] + pair[1])
    values = {"window": window, "ratios": ratios}
    if not lack and max(map(empty_part, pair)) == 1:
        lack = "no run of a row keeps its foreground"
    if not lack and any(is_flat(line) for both in series.values() for line in both[0]):
        lack = f"a curve of {REGIONAL} is flat"
    if lack:
        return claim(NOT_MEASURED, f"{lack}; {statistic}", **values)

    verdict = join([decide({key: ratio[key] - 1 for key in ("low", "high")}, -1)
                    for ratio in ratios.values()])
    return undecided_where_emptied(results, claim(
        verdict, statistic, excludes_0=verdict != UNDECIDED, **values))


def undecided_where_emptied(results, found):
    """The claim, but undecided if it is decided in favour of the row that ends empty more often."""
    without, with_term = (empty_part(results.finished(row)) for row in PAIR)
    if (found["verdict"] == SUPPORTED and with_term > without
            or found["verdict"] == REFUTED and without > with_term):
        return {**found, "verdict": UNDECIDED, "excludes_0": False}
    return found


def empty_part(runs):
    """The share of these runs, folds counted one by one, that predict nothing; 0.0 of none."""
    return len(without_foreground(runs)) / max(1, sum(len(run.parts) for run in runs))


def jitter_in_words(ratios, window):
    """The statistic of C3."""
    parts = []
    for column, found in ratios.items():
        gdl, both = (sum(found[key]) / len(found[key]) for key in ("gdl", "gdl_boundary"))
        parts.append(f"{CURVES[column]} GDL {gdl:.4f}, GDL + boundary {both:.4f}, ratio "
                     f"{found['ratio']:.2f} [{found['low']:.2f}, {found['high']:.2f}]")
    return (f"std of the epoch-to-epoch change over the last {window} epochs: {'; '.join(parts)}, "
            "over seeds and blocks of epochs")


def c4(results):
    """How many runs of the boundary loss alone predict nothing in the end, or hit no lesion.

    Supported where all do and refuted where none does, if there are enough of them to tell their
    share from a half by its exact interval (Clopper and Pearson): six.
    """
    parts = [part for run in results.finished(ALONE) for part in run.parts]
    if not parts:
        return hint(results, [ALONE])
    final = [part.rows[-1].get("val_foreground") for part in parts]
    if None in final:
        return not_measured("the boundary runs again: their metrics.csv lacks val_foreground")

    empty, lack = final.count(0), lack_in_words(results, [ALONE])
    missing = sum(value > 0 and misses_all(part.last_scans(results.window))
                  for part, value in zip(parts, final, strict=True))
    statistic = (f"{empty} of {len(parts)} runs end without any foreground, "
                 + (f"{missing} without any on a lesion, " if missing else "")
                 + f"{sum(part.collapsed for part in parts)} best models predict none; "
                 f"foreground in the last epoch {', '.join(f'{value:.4%}' for value in final)}")
    collapsed = empty + missing
    low, high = exact_interval(collapsed, len(parts))
    statistic += (f"; share of runs that collapse {collapsed / len(parts):.2f} "
                  f"[{low:.2f}, {high:.2f}]")
    values = {"collapsed": collapsed, "runs": len(parts), "final_foreground": final,
              "low": low, "high": high}
    if lack:
        return claim(NOT_MEASURED, f"{lack}; {statistic}", **values)
    all_alike = collapsed in (0, len(parts))
    verdict = decide({"low": low - 0.5, "high": high - 0.5}) if all_alike else UNDECIDED
    return claim(verdict, statistic, **values)


def exact_interval(count, total):
    """95 % interval of a share, count of total runs (Clopper and Pearson 1934): (low, high)."""
    low = betaincinv(count, total - count + 1, 0.025) if count else 0.0
    high = betaincinv(count + 1, total - count, 0.975) if count < total else 1.0
    return float(low), float(high)


def hint(results, rows):
    return not_measured(f"make custom NAME={results.folder.name} LOSSES='{' '.join(rows)}', "
                        + settings_as(results))


def lack_in_words(results, rows):
    """Which seeds, scans or epochs are missing for a verdict on these rows; "" for none."""
    runs = {row: results.finished(row) for row in rows}
    epochs = min(len(run.rows) for of_row in runs.values() for run in of_row)
    lack = lacking({row: len(of_row) for row, of_row in runs.items()},
                   len(validation_names(results)))
    if not lack and epochs < FEWEST_EPOCHS:
        lack = f"needs at least {FEWEST_EPOCHS} epochs, found {epochs}"
    return lack


if __name__ == "__main__":
    from utils import explain_part
    explain_part("studies.stability", __doc__, "studies.claims")
