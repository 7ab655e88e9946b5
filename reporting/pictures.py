"""Figures of single slices (1, 2 and 4); the rules of scoring.cases choose them."""

import numpy as np
from scipy import ndimage

from reporting.drawing import (
    TRUTH,
    box,
    contour_colour,
    contours,
    corner,
    head_box,
    legend_and_sentence,
    outline,
    panels,
    say,
    show,
    upright,
)
from scoring.cases import (
    RULE1,
    RULE4,
    RULE_EMPTY,
    largest_of_class,
    most_parts,
    ranked_cases,
    shown_modality,
    shown_run,
    validation_cases,
    worst_empty_slice,
)
from scoring.rows import BOTH, IN_WORDS, PAIR, REGIONAL
from utils import COLUMN


def draw_prediction(axis, results, loss, case, index, window):
    """One panel: a slice with the contours of a loss's prediction, and its DSC in the corner.

    Of a single class the ground truth is drawn too, thin. On a slice without a lesion the corner
    says what is predicted there.

    Returns:
        the DSC, None without predictions.
    """
    run = shown_run(results, loss)
    labels = case.predicted(run) if run else None
    if labels is None:
        started = results.losses.get(loss)
        say(axis, f"{IN_WORDS[loss]}: "
            + ("no predictions yet (run unfinished)" if started else "not run"))
        return None

    show(axis, case.slice_image(index), window, case.pixel)
    if len(results.classes) == 2:
        outline(axis, case.truth[index] == 1, window, TRUTH, 0.6)
    contours(axis, labels[index], results.classes[1:], window, contour_colour(loss))

    score = case.slice_dice(labels, index)
    said = f"DSC {score:.2f}" if case.lesion[index].any() else false_area(labels[index])
    corner(axis, said + ("" if run.finished else " (unfinished)"))
    return score


def false_area(labels):
    """What is predicted on a slice (H, W) without a lesion, in words."""
    area = int(np.count_nonzero(labels))
    if not area:
        return "clean"
    parts = ndimage.label(labels, np.ones((3, 3)))[1]  # corners touch
    return f"false: {area} px\nin {parts} part{'s' * (parts != 1)}"


def draw_pair(axes, results, case, index, window):
    """The predictions of GDL and GDL + boundary, a panel each; returns their scores."""
    return [draw_prediction(axis, results, loss, case, index, window)
            for axis, loss in zip(axes, PAIR, strict=True)]


def case_masks(results, case, index):
    """Ground truth and whatever predictions there are of one slice, for the crop."""
    runs = [run for run in (shown_run(results, loss) for loss in PAIR) if run]
    found = [case.predicted_lesion(run) for run in runs]
    return [case.lesion[index], *(mask[index] for mask in found if mask is not None)]


def seeds_shown(sets):
    """The runs that the pictures show, for a caption."""
    told = []
    for results in sets:
        names = [run.name for run in (shown_run(results, loss) for loss in PAIR) if run]
        told.append((f"{results.title}: " if len(sets) > 1 else "")
                    + (" and ".join(names) or "no predictions yet"))
    return f"Predictions shown: {'; '.join(told)}."


def set_titles(axes, *before):
    """Name the columns; the last two show predictions."""
    for axis, name in zip(axes, (*before, *(IN_WORDS[loss] for loss in PAIR)), strict=True):
        axis.set_title(name)


# Figure 1 -----------------------------------------------------------------------------------------

def figure1(sets):
    """Ground truth, GDL and GDL + boundary on one slice per set, cropped to the lesions.

    Returns:
        (figure, title, caption, alternative text), as the other figures do.
    """
    figure, axes = panels(len(sets), 3, COLUMN, 2.0)
    told = []
    for row, results in zip(axes, sets, strict=True):
        found = most_parts(results)
        if found is None:
            for axis in row:
                say(axis, f"{results.title}: no validation slice contains a lesion")
            continue

        case, index, parts = found
        image, masks = case.slice_image(index), case_masks(results, case, index)
        window = box(np.any(masks, axis=0), max(8, image.shape[0] // 16), case.pixel)
        show(row[0], image, window, case.pixel)
        contours(row[0], case.truth[index], results.classes[1:], window, TRUTH)
        corner(row[0], f"{results.title}\n{case.name}, slice {index}")
        scores = draw_pair(row[1:], results, case, index, window)
        told.append(f"{results.title}: {case.name}, slice {index}, "
                    f"{parts} part{'s' * (parts != 1)}" + differences(results, scores))
    set_titles(axes[0], "ground truth")

    cases = ". ".join(told)
    caption = (f"Case chosen by rule: {RULE1}. {cases}.{legend_and_sentence(figure, sets)} "
               f"{seeds_shown(sets)}")
    return figure, "Figure 1: the validation slice with the most lesions", caption, \
        f"Contours of the ground truth, GDL and GDL + boundary over a slice. {cases}."


def differences(results, scores):
    """Where the case stands among all, in words.

    That is its change of slice DSC beside the median change over all slices with a lesion.
    """
    runs = [shown_run(results, loss) for loss in PAIR]
    if None in scores or None in runs:
        return ""

    gains = []
    for case in validation_cases(results):
        without, with_term = (case.predicted(run) for run in runs)
        if without is not None and with_term is not None:
            gains += [case.slice_dice(with_term, at) - case.slice_dice(without, at)
                      for at in np.flatnonzero(case.lesion.any(axis=(1, 2)))]
    return (f"; DSC changes by {scores[1] - scores[0]:+.2f} from GDL to GDL + boundary here, "
            f"by {np.median(gains):+.2f} in the median over the {len(gains)} validation slices "
            "with a lesion")


# Figure 2 -----------------------------------------------------------------------------------------

def figure2(sets):
    """phi_G of a lesion, and the region between its contour and a prediction's, by its distance."""
    figure, axes = panels(len(sets), 2, COLUMN, 2.6)
    told = []
    for row, results in zip(axes, sets, strict=True):
        found = largest_of_class(results, 1)
        if not found:
            for axis in row:
                say(axis, f"{results.title}: no validation slice contains "
                    f"{first_class(results) or 'a lesion'}")
            continue
        told.append(draw_boundary_distance(figure, row, results, *found))

    axes[0, 0].set_title(r"$\phi_G$, contour $\partial G$ where it is 0")
    axes[0, 1].set_title(r"$\Delta S$ between $\partial G$ and $\partial S$, coloured by $D_G$")
    caption = (
        "The slice with the largest lesion area of the validation scan with the largest lesion "
        "volume. Half the boundary distance (Eq. 4) is the integral of phi over S minus that over "
        "G: the integral of the distance D_G over the region between the two contours. "
        f"{'. '.join(told)}.")
    return figure, "Figure 2: the level set of a lesion and the boundary distance", caption, \
        ("Left: signed distance map of a lesion. Right: where prediction and truth differ. "
         f"{'. '.join(told)}.")


def draw_boundary_distance(figure, row, results, case, index):
    """The two panels of Figure 2 for one slice; returns the sentence with the value of Eq. 4."""
    phi = np.asarray(case.phi[index, 0], float)  # (H, W)
    truth = case.truth[index] == 1               # phi belongs to the first foreground class
    run = shown_run(results, BOTH) or shown_run(results, REGIONAL)
    labels = case.predicted(run) if run else None
    predicted = None if labels is None else labels[index] == 1
    unit = results.dataset.distance.unit
    area = np.prod(case.pixel) if unit == "mm" else 1
    window = box(truth | (False if predicted is None else predicted), 14, case.pixel)

    draw_level_set(figure, row[0], phi, truth, window, case.pixel, unit)
    of_class = f", {first_class(results)}" if first_class(results) else ""
    name = f"{results.title}: {case.name}, slice {index}{of_class}"
    if predicted is None:
        say(row[1], "no predictions yet (runs unfinished)")
        return name

    show(row[1], case.slice_image(index), window, case.pixel)
    draw_region(figure, row[1], phi, predicted ^ truth, window, case.pixel, unit)
    outline(row[1], truth, window, TRUTH, 1.2)
    outline(row[1], predicted, window, contour_colour(run.folder.parent.name), 1.2)

    value = area * (phi[predicted].sum() - phi[truth].sum())
    corner(row[1], f"Eq. 4: {value:.0f} {unit}$^3$")
    return (f"{name}, prediction of {run.name}{'' if predicted.any() else ' (empty)'}: "
            f"half the boundary distance is {value:.1f} {unit}³")


def first_class(results):
    """The name of the class that Figure 2 shows; "" of the only one."""
    return results.classes[1] if len(results.classes) > 2 else ""


def draw_level_set(figure, axis, phi, truth, window, step, unit):
    """phi_G with the contour of the truth, where it is 0."""
    limit = np.abs(phi[window]).max() or 1
    drawn = axis.imshow(upright(phi[window]), cmap="RdBu_r", vmin=-limit, vmax=limit,
                        aspect=step[1] / step[0])
    outline(axis, truth, window, TRUTH, 1.2)
    figure.colorbar(drawn, ax=axis, shrink=0.85).set_label(f"signed distance ({unit})")
    axis.set_axis_off()


def draw_region(figure, axis, phi, region, window, step, unit):
    """A region (H, W) bool coloured by the distance to the truth's boundary."""
    inside = np.where(region, np.abs(phi), np.nan)
    top = max(np.nanmax(inside, initial=0), 1)
    drawn = axis.imshow(upright(inside[window]), cmap="viridis", vmin=0, vmax=top,
                        aspect=step[1] / step[0], alpha=0.9)
    figure.colorbar(drawn, ax=axis, shrink=0.85).set_label(f"$D_G$ ({unit})")


# Figure 4 -----------------------------------------------------------------------------------------

def figure4(sets):
    """Image, ground truth, GDL, GDL + boundary of each set, a slice a row.

    They are up to three scans with a lesion, chosen by RULE4, and a slice without one, by
    RULE_EMPTY.
    """
    of_sets = [(results, ranked_cases(results)) for results in sets]
    figure, axes = panels(sum(max(1, len(cases)) + 1 for _, cases in of_sets), 4, COLUMN, 1.72)
    rows, told = iter(axes), []
    for results, cases in of_sets:
        told += [draw_case(next(rows), results, *case) for case in cases]
        if not cases:
            for axis in next(rows):
                say(axis, f"{results.title}: no validation scan contains a lesion")
        told.append(draw_empty(next(rows), results))

    modality = " / ".join(dict.fromkeys(shown_modality(results)[1] for results in sets))
    set_titles(axes[0], modality, "ground truth")
    caption = (f"Cases chosen by rule: {RULE4}; last, {RULE_EMPTY}. DSC of the slice in the corner."
               f"{legend_and_sentence(figure, sets)} The patient's left is on the left. "
               f"{seeds_shown(sets)}")
    return figure, "Figure 4: predictions on validation scans", caption, \
        "Contours over slices. " + "; ".join(told)


def draw_case(row, results, rank, volume, case, index):
    """The four panels of one scan; returns what the alternative text says about it."""
    image, step = case.slice_image(index), case.pixel
    window = head_box(image, case_masks(results, case, index), step)
    show(row[0], image, window, step)
    corner(row[0], f"{results.title}\n{rank}, {volume:.1f} ml")
    show(row[1], image, window, step)
    contours(row[1], case.truth[index], results.classes[1:], window, TRUTH)

    scores = draw_pair(row[2:], results, case, index, window)
    return f"{results.title}, {rank} ({case.name}, slice {index}): " + ", ".join(
        f"{IN_WORDS[loss]} DSC {score:.2f}"
        for loss, score in zip(PAIR, scores, strict=True) if score is not None)


def draw_empty(row, results):
    """The four panels of the slice without a lesion; returns what the alternative text says."""
    found = worst_empty_slice(results)
    if found is None:
        said = f"{results.title}: no predictions yet"
        if any(shown_run(results, loss) for loss in PAIR):
            said = (f"{results.title}: no validation slice without a lesion in which GDL or GDL + "
                    "boundary predicts anything")
        for axis in row:
            say(axis, said)
        return said

    case, index = found
    image, step = case.slice_image(index), case.pixel
    window = head_box(case.projection(), case_masks(results, case, index), step)
    for axis in row[:2]:
        show(axis, image, window, step)
    corner(row[0], f"{results.title}\nempty slice\n{case.name}")
    corner(row[1], "no lesion")
    draw_pair(row[2:], results, case, index, window)

    areas = [(loss, case.predicted(run)) for loss in PAIR if (run := shown_run(results, loss))]
    return f"{results.title}, a slice without a lesion ({case.name}, slice {index}): " + ", ".join(
        f"{IN_WORDS[loss]} {' '.join(false_area(labels[index]).split())}"
        for loss, labels in areas if labels is not None)
