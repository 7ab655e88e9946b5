"""What a reader must know to read Table 1, in sentences."""

from reporting.table1 import averaged, empty_fraction, seeds_text
from scoring.rows import RATER, label


def notes(sets, reported):
    """What a reader must know to read the table, as plain sentences; the general ones first, then those of each set."""
    windows = [f"{one.title}: {one.window}" for one in sets]
    general = [
        "Measured: mean (sample standard deviation, n - 1) over the seeds that finished. Best epoch = highest mean DSC "
        "over the 2-D validation slices, the first one on ties, chosen on the same validation subset as in the paper; "
        "there is no test set.",
        "Last epochs: mean over the last epochs of each run, then over seeds; the window is 50 epochs, at most a "
        f"quarter of the run ({'; '.join(windows)}).",
        "DSC: mean over 2-D slices, 1 where both masks are empty. 3-D DSC, HD and HD95: mean over whole scans. "
        "DSC, lesion slices: only slices that bear a lesion. These four at the best epoch. A scan in which only one of "
        "the two masks is empty counts with the length of the image's diagonal in HD and HD95.",
        "Legacy HD: the quantity that the paper calls HD (mm). It takes each image row of the 2-D background masks as "
        "one point, so it is no distance in mm; only it may be compared with the reported HD.",
    ]
    return general + [note for one in sets for note in set_notes(one, reported)]


def set_notes(one, reported):
    found = []
    if one.is_phantom:
        found.append(f"{one.title}: synthetic images. These numbers show that the programs work, "
                     "they say nothing about the paper's.")
    if one.challenge:
        found += [comparable(one, reported["empty_fraction"][one.challenge]), digitised(one, reported)]
    if one.raters:
        found.append(f"{one.title}, {', '.join(label(RATER + name) for name in one.raters)}: the masks of another human rater "
                     "against the reference, on the network's grid, by the same metrics: about what a model can be asked for.")
    for name, runs in one.losses.items():
        collapsed = [run.folder.name for run in averaged(runs) if run.collapsed]
        if collapsed:
            found.append(f"{one.title}, {label(name)}: the best model predicts no foreground at all in "
                         f"{', '.join(collapsed)} ({len(collapsed)} of {len(averaged(runs))} runs). Such a run has no "
                         "Hausdorff distance (NA, or left out of the mean), and its DSC is the fraction of empty "
                         f"validation slices, {empty_fraction(one)} here.")
        ended = [run.folder.name for run in averaged(runs) if run.ends_empty]
        if ended:
            found.append(f"{one.title}, {label(name)}: {', '.join(ended)} ({len(ended)} of {len(averaged(runs))} runs) ends "
                         "with a model that predicts no foreground at all; its best epoch came before.")
        skipped = {run.folder.name: sum(row.get("skipped_steps") or 0 for row in run.rows) for run in runs}
        if any(skipped.values()):
            counts = ", ".join(f"{count:g} in {seed}" for seed, count in skipped.items() if count)
            found.append(f"{one.title}, {label(name)}: training steps left out, loss or gradient not finite: {counts}.")
        if any(not run.finished for run in runs):
            partial = " Only finished runs are averaged." if any(run.finished for run in runs) else \
                " No run has finished: the numbers marked * are those so far."
            found.append(f"{one.title}, {label(name)}: unfinished, {seeds_text(runs)}.{partial}")
        found += [f"{one.title}, {run.name}: summary.json names epoch {run.summary.best_epoch:g} as the best, "
                  f"metrics.csv {run.best['epoch']:g}." for run in runs
                  if run.finished and run.summary.get("best_epoch", run.best.get("epoch")) != run.best.get("epoch")]
    return found


def comparable(one, paper):
    """Is the user's validation subset like the paper's? Its L_B row gives away the fraction of empty slices there."""
    mine = one.fingerprint.val.empty_fraction
    start = (f"{one.title}: the fraction of empty validation slices is {empty_fraction(one)} here and was {paper:.3f} "
             "in the paper (the DSC of its collapsed L_B model). ")
    if mine is None:
        return start
    if abs(mine - paper) < 0.0006:
        return start + "The two agree, as they would on the paper's own split."
    if abs(mine - paper) < 0.03:
        return start + "The two are close: DSC values may be compared, with that difference in mind."
    return start + "They differ, so this is another split: compare the gain from loss to loss, not the DSC values."


def digitised(one, reported):
    parts = [f"{label(loss)} DSC {curve['dsc']['last_50']:.3f}, legacy HD {curve['hd']['last_50']:.2f}"
             for loss, curve in reported["figure3"][one.challenge].items()]
    return (f"{one.title}: over the last 50 epochs the paper's Figure 3, digitised, gives {'; '.join(parts)} "
            "(one run each).")
