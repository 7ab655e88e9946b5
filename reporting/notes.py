"""What a reader must know to read Table 1, in sentences."""

import math
from statistics import median, median_low

from reporting.table1 import averaged, empty_fraction, seeds_text
from scoring import scan_scores
from scoring.emptying import (
    HASTE,
    LATELY,
    NOTHING_SCORES,
    empty_share,
    floor_in_words,
    floor_reached,
    found_nothing,
    is_hasty,
    rate_in_words,
)
from scoring.rows import RATER, label
from scoring.run_files import SCORES

GENERAL = (
    "Measured: mean (sample standard deviation, n - 1) over the seeds that finished. Best epoch = "
    "highest {score}, the first one on ties, chosen on the scans that are reported, as in the "
    "paper, which has no test set.",
    "Last epochs: mean over the last epochs of each run, then over seeds; the window is 50 epochs, "
    "at most a quarter of the run ({windows}).",
    "DSC: mean over 2-D slices, 1 where both masks are empty. 3-D DSC, HD and HD95: mean over "
    "whole scans. DSC, lesion slices: only slices that contain a lesion. These four at the best "
    "epoch. A scan in which only one of the two masks is empty counts with the length of the "
    "image's diagonal in HD and HD95.",
    "Legacy HD: the quantity that the paper calls HD (mm). It takes each image row of the 2-D "
    "background masks as one point, so it is not a distance in mm; only it may be compared with "
    "the reported HD.",
)


def table_notes(sets, reported):
    """What a reader must know to read the table: the general sentences, then those of each set."""
    windows = "; ".join(f"{results.title}: {results.window}" for results in sets)
    scores = {}
    for results in sets:
        scores.setdefault(score_in_words(results.runs[0].config.score), []).append(results.title)
    told = " or ".join(words if len(scores) == 1 else f"{words} ({', '.join(titles)})"
                       for words, titles in scores.items())
    general = [sentence.replace("{windows}", windows).replace("{score}", told)
               for sentence in GENERAL]
    return general + [note for results in sets for note in set_notes(results, reported)]


def score_in_words(score):
    """What chooses the best epoch, a column of metrics.csv."""
    return ("mean DSC over the 2-D validation slices" if score == "val_dice" else
            f"{SCORES[score]} of the validation scans")


def set_notes(results, reported):
    """The sentences about one set and its rows."""
    found = []
    if results.is_phantom:
        found.append(f"{results.title}: synthetic images. These numbers show that the programs "
                     "work; they say nothing about the paper's.")
    if results.challenge:
        found += [comparable(results, reported["empty_fraction"][results.challenge]),
                  digitised(results, reported)]
    if note := patients_note(results):
        found.append(note)
    if results.raters:
        names = ", ".join(label(RATER + name) for name in results.raters)
        found.append(f"{results.title}, {names}: the masks of another human rater against the "
                     "reference, on the network's grid, by the same metrics: about as much as can "
                     "be expected of a model.")

    for name, runs in results.losses.items():
        about = f"{results.title}, {label(name)}: "
        found += [about + note for note in row_notes(results, runs)]
        found += [note for run in runs for note in contradictions(results, run)]
    return found + left_out(results) + uneven_rates(results) + nominal_sizes(results)


def nominal_sizes(results):
    """Do the headers give every scan slices 1 mm apart, as where nobody recorded the voxel size?"""
    spacing = results.fingerprint.spacing_mm
    if results.is_phantom or not isinstance(spacing, dict):
        return []
    if [sizes[2:] for sizes in spacing.values()] != [[1], [1]]:
        return []
    return [f"{results.title}: in every header slices are exactly 1 mm apart. If that is only what "
            "stands where nobody recorded a size, all mm and ml here are nominal: multiples of a "
            "voxel."]


def left_out(results):
    """The seeds that have no run of some fold; the runs without scores of single scans."""
    notes = []
    if results.lacking:
        told = "; ".join(f"{name} (fold{'s' * (len(folds) > 1)} {', '.join(map(str, folds))})"
                         for name, folds in results.lacking.items())
        notes.append(f"{results.title}: left out, since not every scan has been validated: the "
                     f"seeds that have no run of some fold, {told}.")
    finished = [run for row in results.losses for run in results.finished(row)]
    without = [run.name for run in finished if not run.scans]
    if 0 < len(without) < len(finished):
        notes.append(f"{results.title}: left out of differences between last epochs, and of recall "
                     f"by volume and false lesions: runs without {scan_scores.FILE}, "
                     f"{', '.join(without)}.")
    return notes


def uneven_rates(results):
    """Did one loss keep its learning rate twice as long as another, for want of a better score?"""
    first, config = {}, results.runs[0].config
    if (config.lr_schedule, config.get("protocol")) != ("plateau", "paper"):
        return []
    for name in results.losses:
        parts = [part for run in results.finished(name) for part in run.parts]
        if parts:
            kept = [first_halving(part) for part in parts]
            middle = median(kept)
            first[name] = median_low(kept) if math.isinf(middle) else middle

    if not first or 2 * min(first.values()) >= min(max(first.values()), config.epochs):
        return []
    told = ", ".join(f"{label(name)} {'never' if math.isinf(epoch) else f'{epoch:.0f}'}"
                     for name, epoch in first.items())
    return [f"{results.title}: the learning rate is halved after 20 epochs without a better score, "
            f"for the first time after so many epochs (median of the runs): {told}. A difference "
            "between these losses is also one between rates; LR_SCHEDULE=poly trains all alike."]


def first_halving(run):
    """How many epochs a run trained at its first learning rate; infinity if it kept it."""
    rates = [row.get("lr") for row in run.rows]
    return next((epoch for epoch, rate in enumerate(rates) if rate != rates[0]), math.inf)


def patients_note(results):
    """Does a patient have scans in both subsets? "" where nobody can tell and need not."""
    patients, both = results.fingerprint.patients, results.fingerprint.patients_in_both
    if patients is None or both is None:
        return "" if results.challenge != "isles" else (
            f"{results.title}: whether a patient has scans in both subsets is not known: the .json "
            "files beside the scans, which name the patients, were missing.")
    if not both:
        return (f"{results.title}: no patient has scans in both the training and the validation "
                f"subset ({patients:g} patients).")
    return (f"{results.title}: {both:g} of {patients:g} patients have scans in both the training "
            "and the validation subset, so these scores are not those of unseen patients alone. "
            "PATIENTS=auto (preprocess.py --patients auto) draws whole patients.")


def row_notes(results, runs):
    """What is unusual about the runs of a row, as the ends of sentences that name set and row."""
    found, shown = [], averaged(runs)
    collapsed = [run.folder.name for run in shown if run.collapsed]
    if collapsed:
        found.append(
            f"the best model predicts no foreground at all in {', '.join(collapsed)} "
            f"({len(collapsed)} of {len(shown)} seeds). Its DSC is the fraction of empty "
            f"validation slices, {empty_fraction(results)} here, and its HD and HD95 are the "
            "image's diagonal; where all seeds collapse, distances are NA, as in the paper.")

    found += best_is_empty(results, shown)

    parts = [part for run in shown for part in run.parts]
    ended = [part.folder.name for part in parts if part.ends_empty]
    if ended:
        found.append(
            f"{', '.join(ended)} ({len(ended)} of {len(parts)} runs) ends with a model that "
            "predicts no foreground at all; its best epoch came before.")

    found += floor_of_alpha(shown)

    skipped = {part.folder.name: sum(row.get("skipped_steps") or 0 for row in part.rows)
               for run in runs for part in run.parts}
    if any(skipped.values()):
        counts = ", ".join(f"{count:g} in {name}" for name, count in skipped.items() if count)
        found.append(f"training steps left out, loss or gradient not finite: {counts}.")

    if any(not run.finished for run in runs):
        partial = "Only finished runs are averaged." if any(run.finished for run in runs) else \
            "No run has finished: the numbers marked * are those so far."
        found.append(f"unfinished, {seeds_text(runs)}. {partial}")
    return found


def best_is_empty(results, runs):
    """Of each run, or fold, whose best epoch predicts nothing: what that scores, and the rate."""
    empty = [part for run in runs for part in run.parts if part.collapsed]
    if not empty:
        return []
    return ["an empty prediction is the best epoch of "
            + "; ".join(empty_in_words(results, run) for run in empty) + "."]


def empty_in_words(results, run):
    """seed0 (epoch 18: DSC 0.600, which is the share of slices without a lesion; the rate ...)."""
    score, epoch = run.config.score, run.best["epoch"]
    value, share = run.best[score], empty_share(run.best_scans)
    if math.isnan(share) and run.config.fold is None and len(results.classes) == 2:
        share = results.fingerprint.val.empty_fraction or math.nan

    about = f"{SCORES[score]} {value:.3f}, which is {NOTHING_SCORES[score]}"
    if score == "val_dice" and abs(value - share) > 0.0005:
        about += f", but that is {share:.3f}"
    rate = rate_in_words(run.rows, epoch)
    return f"{run.folder.name} (epoch {epoch:g}: {about}" + (f"; {rate})" if rate else ")")


def floor_of_alpha(runs):
    """Did alpha reach its floor after few training steps, or before a lesion had been found?"""
    parts = [part for run in runs for part in run.parts if floor_reached(part) is not None]
    schedule = parts[0].config.schedule or "rebalance" if parts else None

    found = []
    steps = [part.config.steps_per_epoch for part in parts]
    hasty = [count for count in steps if is_hasty(schedule, count)]
    if hasty:
        found.append(f"alpha is {floor_in_words(schedule, *hasty)}; networks were emptied where "
                     f"that took fewer than some {HASTE:,}.")

    early = [part.folder.name for part in parts if found_nothing(part.scans, floor_reached(part))]
    if early:
        count = min(LATELY, floor_reached(parts[0]))
        found.append(f"no lesion of a validation scan was found in the {count} epochs before alpha "
                     f"reached its floor, in {', '.join(early)} ({len(early)} of {len(parts)} "
                     "runs).")
    return found


def contradictions(results, run):
    """A sentence if summary.json and metrics.csv name different best epochs, else none."""
    best, named = run.best.get("epoch"), run.summary.best_epoch
    if not run.finished or None in (best, named) or best == named:
        return []
    return [f"{results.title}, {run.name}: summary.json names epoch {named:g} as the best, "
            f"metrics.csv {best:g}."]


def comparable(results, paper):
    """Is the user's validation subset like the paper's?

    The paper's L_B row gives away the fraction of empty slices there.
    """
    here = results.fingerprint.val.empty_fraction
    start = (f"{results.title}: the fraction of empty validation slices is "
             f"{empty_fraction(results)} here and was {paper:.3f} in the paper (the DSC of its "
             "collapsed L_B model). ")

    if here is None:
        return start
    if abs(here - paper) < 0.0006:
        return start + "The two agree, as they would on the paper's own split."
    if abs(here - paper) < 0.03:
        return start + ("The two are close: DSC values may be compared, with that difference in "
                        "mind.")
    return start + ("They differ, so this is another split: compare the gain from loss to loss, "
                    "not the DSC values.")


def digitised(results, reported):
    """The paper's last 50 epochs, as read off its Figure 3."""
    curves = reported["figure3"][results.challenge]
    parts = [f"{label(loss)} DSC {curve['dsc']['last_50']:.3f}, "
             f"legacy HD {curve['hd']['last_50']:.2f}" for loss, curve in curves.items()]
    return (f"{results.title}: over the last 50 epochs the paper's Figure 3, digitised, gives "
            f"{'; '.join(parts)} (one run each).")
