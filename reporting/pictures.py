"""Figures of single slices (1, 2 and 4), and the rules that choose them."""


import numpy as np

from reporting.drawing import (
    COLOURS,
    TRUTH,
    box,
    contours,
    corner,
    head_box,
    outline,
    panels,
    say,
    several_classes,
    show,
    upright,
)
from scoring.cases import (
    RULE1,
    RULE4,
    most_parts,
    ranked_cases,
    shown_modality,
    shown_run,
    validation_cases,
)
from scoring.rows import IN_WORDS, PAIR


def draw_prediction(axis, one, loss, case, index, window):
    """One panel: the image with the ground truth (thin, of one class) and a loss's prediction, slice DSC in the corner."""
    run = shown_run(one, loss)
    labels = case.predicted(run) if run else None
    if labels is None:
        say(axis, f"{IN_WORDS[loss]}: no predictions yet (run unfinished)" if one.losses.get(loss)
            else f"{IN_WORDS[loss]}: not run")
        return None

    show(axis, case.slice_image(index), window, case.pixel)
    if len(one.classes) == 2:
        outline(axis, case.truth[index] == 1, window, TRUTH, 0.6)
    contours(axis, labels[index], one.classes[1:], window, COLOURS[loss])

    score = case.slice_dice(labels, index)
    corner(axis, f"DSC {score:.2f}" + ("" if run.finished else " (unfinished)"))
    return score


def case_masks(one, case, index):
    """Ground truth and whatever predictions there are of one slice, for the crop."""
    runs = [run for run in (shown_run(one, loss) for loss in PAIR) if run]
    found = [case.predicted_lesion(run) for run in runs]
    return [case.lesion[index], *(mask[index] for mask in found if mask is not None)]


def seeds_shown(sets):
    """The runs that the pictures show, for a caption."""
    told = []
    for one in sets:
        names = [run.name for run in (shown_run(one, loss) for loss in PAIR) if run]
        told.append((f"{one.title}: " if len(sets) > 1 else "") + (" and ".join(names) or "no predictions yet"))
    return f"Predictions shown: {'; '.join(told)}."


def figure1(sets):
    """Ground truth, GDL and GDL + boundary on one slice per set, cropped to the lesions."""
    figure, axes = panels(len(sets), 3, 6.9, 2.3)
    told = []
    for row, one in zip(axes, sets, strict=True):
        found = most_parts(one)
        if found is None:
            for axis in row:
                say(axis, f"{one.title}: no validation slice bears a lesion")
            continue
        case, index, parts = found
        image, masks = case.slice_image(index), case_masks(one, case, index)
        window = box(np.any(masks, axis=0), max(8, image.shape[0] // 16), case.pixel)
        show(row[0], image, window, case.pixel)
        contours(row[0], case.truth[index], one.classes[1:], window, TRUTH)
        corner(row[0], f"{one.title}\n{case.name}, slice {index}")
        scores = [draw_prediction(axis, one, loss, case, index, window)
                  for axis, loss in zip(row[1:], PAIR, strict=True)]
        told.append(f"{one.title}: {case.name}, slice {index}, {parts} part{'s' * (parts != 1)}" + differences(one, scores))
    for axis, name in zip(axes[0], ("ground truth", *(IN_WORDS[loss] for loss in PAIR)), strict=True):
        axis.set_title(name)
    caption = f"Case chosen by rule: {RULE1}. {'. '.join(told)}.{several_classes(figure, sets)} {seeds_shown(sets)}"
    return figure, "Figure 1: the validation slice with the most lesions", caption, \
        f"Contours of the ground truth, GDL and GDL + boundary over a slice. {'. '.join(told)}."


def differences(one, scores):
    """Where the case stands among all: its change of slice DSC beside the median change over the lesion slices."""
    runs = [shown_run(one, loss) for loss in PAIR]
    if None in scores or None in runs:
        return ""
    gains = []
    for case in validation_cases(one):
        pair = [case.predicted(run) for run in runs]
        if all(labels is not None for labels in pair):
            gains += [case.slice_dice(pair[1], at) - case.slice_dice(pair[0], at)
                      for at in np.flatnonzero(case.lesion.any(axis=(1, 2)))]
    return (f"; DSC changes by {scores[1] - scores[0]:+.2f} from GDL to GDL + boundary here, "
            f"by {np.median(gains):+.2f} in the median over the {len(gains)} validation slices with a lesion")


def figure2(sets):
    """phi_G of a lesion, and the region between its contour and a prediction's, coloured by the distance."""
    figure, axes = panels(len(sets), 2, 6.3, 2.75)
    told = []
    for row, one in zip(axes, sets, strict=True):
        cases = ranked_cases(one)
        if not cases:
            for axis in row:
                say(axis, f"{one.title}: no validation slice bears a lesion")
            continue
        _, _, case, index = cases[-1]
        told.append(draw_boundary_distance(figure, row, one, case, index))
    axes[0, 0].set_title(r"$\phi_G$, contour $\partial G$ where it is 0")
    axes[0, 1].set_title(r"$\Delta S$ between $\partial G$ and $\partial S$, coloured by $D_G$")
    caption = ("The slice with the largest lesion area of the validation scan with the largest lesion volume. Half the "
               "boundary distance (Eq. 4) is the sum of phi over S minus its sum over G: the sum of the distance D_G "
               f"over the region between the two contours. {'. '.join(told)}.")
    return figure, "Figure 2: the level set of a lesion and the boundary distance", caption, \
        f"Left: signed distance map of a lesion. Right: where prediction and truth differ. {'. '.join(told)}."


def draw_boundary_distance(figure, row, one, case, index):
    """The two panels of Figure 2 for one slice; returns the sentence with the value of Eq. 4."""
    phi = np.asarray(case.phi[index, 0], float)  # (H, W)
    truth = case.truth[index] == 1               # phi belongs to the first foreground class
    run = shown_run(one, PAIR[1]) or shown_run(one, PAIR[0])
    mask = case.predicted_lesion(run) if run else None
    step, unit = case.pixel, one.dataset.distance.unit

    window = box(truth | (False if mask is None else mask[index]), 14, step)
    limit = np.abs(phi[window]).max() or 1
    drawn = row[0].imshow(upright(phi[window]), cmap="RdBu_r", vmin=-limit, vmax=limit, aspect=step[1] / step[0])
    outline(row[0], truth, window, TRUTH, 1.2)
    figure.colorbar(drawn, ax=row[0], shrink=0.85).set_label(f"signed distance ({unit})")
    row[0].set_axis_off()
    name = f"{one.title}: {case.name}, slice {index}"
    if mask is None:
        say(row[1], "no predictions yet (runs unfinished)")
        return name

    predicted = mask[index]
    value = phi[predicted].sum() - phi[truth].sum()
    show(row[1], case.slice_image(index), window, step)
    inside = np.where(predicted ^ truth, np.abs(phi), np.nan)
    top = max(np.nanmax(inside, initial=0), 1)
    region = row[1].imshow(upright(inside[window]), cmap="viridis", vmin=0, vmax=top, aspect=step[1] / step[0],
                           alpha=0.9)
    outline(row[1], truth, window, TRUTH, 1.2)
    outline(row[1], predicted, window, COLOURS[run.folder.parent.name], 1.2)
    figure.colorbar(region, ax=row[1], shrink=0.85).set_label(f"$D_G$ ({unit})")
    corner(row[1], f"Eq. 4: {value:.0f} {unit}")
    return f"{name}, prediction of {run.name}: half the boundary distance is {value:.1f} {unit} summed over pixels"


def figure4(sets):
    """Image, ground truth, GDL, GDL + boundary; up to three scans of each set, chosen by RULE4."""
    cases = [(one, *ranked) for one in sets for ranked in ranked_cases(one)]
    figure, axes = panels(max(1, len(cases)), 4, 6.9, 1.98)
    told = []
    for row, (one, rank, volume, case, index) in zip(axes, cases, strict=False):
        image, step = case.slice_image(index), case.pixel
        window = head_box(image, case_masks(one, case, index), step)
        show(row[0], image, window, step)
        corner(row[0], f"{one.title}\n{rank}, {volume:.1f} ml")
        show(row[1], image, window, step)
        contours(row[1], case.truth[index], one.classes[1:], window, TRUTH)
        scores = [draw_prediction(axis, one, loss, case, index, window)
                  for axis, loss in zip(row[2:], PAIR, strict=True)]
        told.append(f"{one.title}, {rank} ({case.name}, slice {index}): " + ", ".join(
            f"{IN_WORDS[loss]} DSC {score:.2f}" for loss, score in zip(PAIR, scores, strict=True) if score is not None))
    if not cases:
        for axis in axes[0]:
            say(axis, "no validation scan bears a lesion")
    modality = " / ".join(dict.fromkeys(shown_modality(one)[1] for one in sets))
    for axis, name in zip(axes[0], (modality, "ground truth", *(IN_WORDS[loss] for loss in PAIR)), strict=True):
        axis.set_title(name)
    caption = (f"Cases chosen by rule: {RULE4}. DSC of the slice in the corner.{several_classes(figure, sets)} "
               f"The patient's left is on the left. {seeds_shown(sets)}")
    return figure, "Figure 4: predictions on validation scans", caption, "Contours over slices. " + "; ".join(told)
