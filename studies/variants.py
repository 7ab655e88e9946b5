"""Claims C6 to C8: the same comparison with constant alphas, other networks, and in 3-D."""

from reporting.measures import statistic_in_words
from scoring.intervals import change_in_words, difference, mean_score, patients_behind
from scoring.row_scores import row_scores
from scoring.rows import is_variant, schedule_in_words
from scoring.runs import load_set
from studies.beside import sets_beside
from studies.step_time import input_shape
from studies.verdicts import (
    NOT_MEASURED,
    UNDECIDED,
    Pair,
    claim,
    decide,
    empty_in_words,
    excludes_0,
    join,
    judge_difference,
    judge_dsc,
    lacking,
    needed_for,
    not_measured,
    pairs_of,
    seeds_of,
    settings_as,
)
from utils import UserError

MARGIN = 0.01  # of 3-D DSC, what C6 and C8 call similar: half the paper's smallest gain


# C6: constant alphas ------------------------------------------------------------------------------

def c6(results):
    """The row of the schedule against those of a constant alpha, by 3-D DSC.

    Other schedules (make sweep's STRATEGIES) are named beside it and do not decide: to take the
    best of several would be unfair.
    """
    hint = f"make sweep NAME={results.folder.name}, {settings_as(results)}"
    constant, moving = results.sweep
    if len(constant) < 2 or not moving or is_variant(moving[0]):
        return not_measured(hint)

    row, statistic = moving[0], common_statistic(results, [*constant, *moving])
    if not statistic:
        return not_measured(f"main.py again where scores.csv and predictions.npz are missing in "
                            f"{results.folder}")
    scores = {name: row_scores(results, name, statistic) for name in (*moving, *constant)}
    means = {name: mean_score(found, "dsc_3d") for name, found in scores.items()}
    best = max(constant, key=means.get)
    pair = Pair(statistic, scores[row], scores[best])
    lack = lacking(seeds_of(pair, (best, row)), patients_behind(*pair[1:], "dsc_3d"))
    against = difference(pair.with_term, pair.without, "dsc_3d", not lack)
    needed = needed_for(MARGIN, pair, "dsc_3d")

    values = {"schedule": row, "best": best, "means": means, "against_best": against,
              "epochs": statistic_in_words(results, statistic), "margin": MARGIN,
              "spread": max(map(means.get, constant)) - min(map(means.get, constant)),
              **{key: needed[key] for key in ("seeds_needed", "scans_needed")}}
    told = sweep_in_words(results, values, constant, moving) + similar_in_words(needed)
    told += empty_in_words([run for name in scores for run in results.finished(name)])
    if lack:
        return claim(NOT_MEASURED, f"{lack}; {told}", **values)
    verdict = decide(against, margin=MARGIN)
    return claim(verdict, told, excludes_0=verdict != UNDECIDED and excludes_0(against), **values)


def common_statistic(results, rows):
    """"last" if every finished run of these rows has the scores of its last epochs, else "best".

    None if a row lacks even those.
    """
    for statistic in ("last", "best"):
        found = [row_scores(results, row, statistic) for row in rows]
        if all(found) and (statistic == "best" or all(
                len(scores["dsc_3d"]) == len(results.finished(row))
                for row, scores in zip(rows, found, strict=True))):
            return statistic
    return None


def sweep_in_words(results, values, constant, moving):
    """The statistic of C6."""
    means = values["means"]
    told = [f"{means[name]:.3f} with {schedule_in_words(name)}" for name in moving]
    held = [f"{means[name]:.3f} with alpha {constant[name]:g}"
            for name in sorted(constant, key=constant.get)]
    return (f"3-D DSC, {values['epochs']}: {'; '.join(told)}; {', '.join(held)}; they spread by "
            f"{values['spread']:.3f}; schedule against the best constant "
            f"{change_in_words(values['against_best'])}")


def similar_in_words(needed):
    """What C6 and C8 call similar, and how many seeds or scans it takes to show it."""
    return f"; similar = not worse by {MARGIN}" + (f", {needed['words']}" * bool(needed["words"]))


# C7, C8: other runs of the same scans -------------------------------------------------------------

def c7(results, folder=None):
    """C1 on finished runs of other networks on the same data.

    They are in `folder`, or, if it is None, in any folder beside these runs.
    """
    own = results.runs[0].config

    def fits(config):
        return (config.data_fingerprint == own.data_fingerprint and config.network != own.network
                and (folder or config.epochs == own.epochs))

    if folder:
        others = [load_set(folder)]
        if not fits(others[0].runs[0].config):
            raise UserError(folder, f"runs of another network than {own.network} on the same data",
                            "none", "Name another folder with --network-runs.")
    elif own.get("patch"):
        return claim(NOT_MEASURED,
                     "there is only one 3-D network; other networks are compared on slices")
    else:
        others = sets_beside(results, fits)
    return judge_others(others, judge_dsc) or not_measured(
        f"make custom NAME={results.folder.name}-unet2018 NETWORK=unet2018, {settings_as(results)}")


def c8(results):
    """Is GDL + boundary similar to GDL or better on whole runs in 3-D, these or others?"""
    is_3d = bool(results.runs[0].config.get("patch"))
    others = [results] if is_3d else sets_beside(results, lambda config: config.get("patch"))
    return judge_others(others, judge_3d) or not_measured(
        f"make custom NAME={results.folder.name}-dims3 DIMS=3, {settings_as(results)}")


def judge_3d(results):
    """GDL + boundary against GDL by 3-D DSC, which may be worse by MARGIN."""
    found = judge_difference(results, ("dsc_3d",), ("dsc", "dsc_lesion"), margin=MARGIN)
    if "differences" not in found:
        return found
    needed = needed_for(MARGIN, pairs_of(results)[0], "dsc_3d")
    return {**found, "statistic": found["statistic"] + similar_in_words(needed), "margin": MARGIN,
            **{key: needed[key] for key in ("seeds_needed", "scans_needed")}}


def judge_others(others, judge):
    """One entry from that of each set; it holds if it holds on all. None without a set.

    Sets that cannot be judged are told, and do not decide where another one can.
    """
    entries = [{**judge(other), "folder": other.folder.name} for other in others]
    if not entries:
        return None
    for entry, other in zip(entries, others, strict=True):
        config = other.runs[0].config
        size = "x".join(map(str, input_shape(config)))
        entry["statistic"] = (f"{config.network} of width {config.width}, {size} "
                              f"({entry['folder']}): {entry['statistic']}")

    measured = [entry for entry in entries if entry["verdict"] != NOT_MEASURED] or entries
    verdict = join([entry["verdict"] for entry in measured])
    of_it = [entry for entry in measured if entry["verdict"] == verdict]
    statistic = ". ".join(entry["statistic"] for entry in measured)
    if len(entries) == 1:
        return {**entries[0], "statistic": statistic}
    return claim(verdict, statistic, excludes_0=all(entry.get("excludes_0") for entry in of_it),
                 sets=measured)


if __name__ == "__main__":
    from utils import explain_part
    explain_part("studies.variants", __doc__, "studies.claims")
