"""Entries of claims.json, and the verdict on GDL + boundary against GDL, paired over scans."""

from scoring.intervals import FEWEST_SCANS, change_in_words, difference
from scoring.row_scores import row_scores
from scoring.rows import BOTH, PAIR, REGIONAL


def claim(verdict, statistic, **values):
    """One entry of claims.json."""
    return {"verdict": verdict, "statistic": statistic, **values}


def not_measured(what):
    return claim("not measured", f"run: {what}")


def settings_as(results):
    return f"with the other settings as in {results.runs[0].folder}"


def collapsed_in_words(counts):
    """"; 2 runs of gdl collapsed" for every row of {row: number} of which some did."""
    return "".join(f"; {count} run{'s' if count > 1 else ''} of {row} collapsed"
                   for row, count in counts.items() if count)


def judge_difference(results, metrics, sign):
    """BOTH against REGIONAL, paired over scans.

    Args:
        results: a ResultSet.
        metrics: of row_scores; the first one decides.
        sign: 1 if more is better, -1 if less is.
    """
    if not (results.finished(REGIONAL) and results.finished(BOTH)):
        return not_measured(f"make custom NAME={results.folder.name} LOSSES='{REGIONAL} {BOTH}', "
                            + settings_as(results))

    without, with_term = (row_scores(results, row) for row in PAIR)
    missing = judge_missing_scores(results, without, with_term)
    if missing:
        return missing

    values = {name: difference(with_term, without, name) for name in metrics}
    first = values[metrics[0]]
    collapsed = count_collapsed(results)
    supported = min(sign * first["low"], sign * first["high"]) > 0 and not collapsed[BOTH]

    seeds, scans = [len(row["dsc"]) for row in (without, with_term)], without["dsc"].shape[1]
    statistic = ", ".join(f"{name} {change_in_words(value)}" for name, value in values.items())
    statistic += f"; {scans} scans, {seeds[0]} and {seeds[1]} seeds"
    statistic += "" if min(seeds) > 1 else ", so over scans only"
    statistic += collapsed_in_words({row: collapsed[row] for row in (BOTH, REGIONAL)})
    return claim("supported" if supported else "not supported", statistic, differences=values,
                 scans=scans, seeds=min(seeds), decided_by=metrics[0])


def judge_missing_scores(results, without, with_term):
    """The verdict where scores of REGIONAL or BOTH are missing, or too few; else None."""
    collapsed = count_collapsed(results)
    runs = {row: len(results.finished(row)) for row in PAIR}

    scans = next((row["dsc"].shape[1] for row in (without, with_term) if row), None)
    if scans and scans < FEWEST_SCANS:
        return claim("not measured",
                     f"needs at least {FEWEST_SCANS} validation scans, found {scans}")
    if without and collapsed[BOTH] == runs[BOTH]:
        return claim("not supported", f"every run of {BOTH} ({runs[BOTH]} of {runs[BOTH]}) "
                     "collapsed to empty foreground")

    if not (with_term and without):
        gone = [row for row in PAIR if collapsed[row] == runs[row]]
        if gone:
            return claim("not measured", f"every run of {' and of '.join(gone)} predicts no "
                         "foreground: train for longer, or a wider network")
        return not_measured(
            f"main.py again where predictions.npz is missing in {results.folder}")
    return None


def count_collapsed(results):
    """{row: number of finished runs whose best model predicts no foreground} of PAIR."""
    return {row: sum(run.collapsed for run in results.finished(row)) for row in PAIR}
