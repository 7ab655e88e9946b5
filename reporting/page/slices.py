"""Figure 4 as the page shows it: slices of the validation scans under contours as SVG paths."""

import base64
import io

import numpy as np
from contourpy import contour_generator  # comes with matplotlib, whose contours it draws
from matplotlib.image import imsave

from metrics import dice
from reporting.drawing import head_box, upright
from scoring.cases import shown_modality, shown_run, validation_cases
from scoring.rows import PAIR

BUDGET = 8_000_000  # bytes of pictures and paths on one page, as base64
QUALITY = 80        # of WebP: no difference to be seen in an 8-bit slice


# One slice ----------------------------------------------------------------------------------------

def picture(grey):
    """(H, W) uint8 -> data URI: WebP, which takes a fifth of PNG; PNG if Pillow cannot write it."""
    colours = np.repeat(grey[..., None], 3, axis=2)
    for kind, options in (("webp", {"quality": QUALITY, "method": 6}), ("png", {"optimize": True})):
        buffer = io.BytesIO()
        try:
            imsave(buffer, colours, format=kind, pil_kwargs=options)
        except (KeyError, ValueError, OSError):
            continue
        return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
    raise RuntimeError("Pillow writes neither WebP nor PNG")


def contour_path(mask):
    """The contours of a mask (H, W) as an SVG path, by marching squares at 0.5.

    The path of an empty mask is "". Coordinates are in half pixels: a contour passes
    between pixel centres, so that all are whole numbers. Steps in one direction are joined.
    """
    if not mask.any():
        return ""

    parts = []
    for points in contour_generator(z=np.pad(mask.astype(float), 1)).lines(0.5):
        # the margin is one pixel, and centres lie half a pixel in
        corners = np.rint(2 * points - 1).astype(int)
        steps = np.diff(corners, axis=0)

        joined = [steps[0]]
        for before, step in zip(steps, steps[1:]):
            if (step == before).all():
                joined[-1] = joined[-1] + step
            else:
                joined.append(step)

        # the last step leads back to the start, which is what z does
        sides = " ".join(f"{x} {y}" for x, y in joined[:-1])
        parts.append("M{} {}l".format(*corners[0]) + sides + "z")
    return "".join(parts)


def close_up(mask, pixel, margin=12, least=48):
    """(x, y, width, height) in mm of a square around a mask, for an SVG viewBox.

    Args:
        mask: (H, W) bool; None is returned if it is empty.
        pixel: (width, height) of a pixel in mm.
        margin, least: mm around the mask, and the shortest side.
    """
    if not mask.any():
        return None
    ends = [np.flatnonzero(mask.any(axis=axis))[[0, -1]] + [0, 1]
            for axis in (0, 1)]  # columns, rows
    (left, right), (top, bottom) = (np.array(pair) * size for pair, size in zip(ends, pixel))
    side = max(right - left + 2 * margin, bottom - top + 2 * margin, least)
    corner = (left + right - side) / 2, (top + bottom - side) / 2
    return [round(float(value), 1) for value in (*corner, side, side)]


# One scan -----------------------------------------------------------------------------------------

def informative(truth, masks):
    """Numbers of the slices with a lesion in truth or prediction; without any, the middle slice."""
    shown = np.flatnonzero(np.any([truth, *masks], axis=(0, 2, 3)))
    return [int(index) for index in shown] or [len(truth) // 2]


def largest(shown, truth, most):
    """At most so many of these slices, those with the largest lesion area, in their order."""
    by_area = sorted(shown, key=lambda index: (-truth[index].sum(), index))
    return sorted(by_area[:most])


def scan_view(case, runs, most=None):
    """The informative slices of a scan for the template, and its frame.

    Args:
        case: a Case.
        runs: {loss: Run} whose predictions are shown.
        most: show at most this many, those with the largest lesion area.

    Returns:
        {"width", "height" (mm), "pixel": (width, height of one in mm), "count" (slices of the
        scan), "slices": see `slice_view`, "left_out" (slices)}.
    """
    truth, step = case.lesion, case.pixel  # (S, H, W)
    masks = {loss: mask for loss, run in runs.items()
             if (mask := case.predicted_lesion(run)) is not None}
    images = np.asarray(case.images[:, case.channel], np.float32)

    together = np.any([truth, *masks.values()], axis=(0, 1))
    window = head_box(images.max(0), [together], step)
    # one range of intensities for the whole scan
    top = max(float(np.quantile(images[:, *window], 0.995)), 1e-6)
    shades = (255 * np.clip(images[:, *window] / top, 0, 1)).astype(np.uint8)

    shown = informative(truth, masks.values())
    chosen = largest(shown, truth, most) if most else shown
    found = [slice_view(index, shades, truth, masks, window, step) for index in chosen]
    rows, columns = found[0]["shape"]
    return {"width": round(columns * step[0], 2), "height": round(rows * step[1], 2),
            "pixel": list(step), "count": len(truth), "slices": found,
            "left_out": len(shown) - len(chosen)}


def slice_view(index, shades, truth, masks, window, step):
    """One slice: its picture, its contours and its scores.

    Args:
        index: its number.
        shades: (S, H, W) uint8, cropped.
        truth: (S, H, W) bool.
        masks: {loss: (S, H, W) bool}.
        window, step: rows and columns shown, and the size of a pixel along them, mm.

    Returns:
        {"index", "image", "shape", "paths": {"truth" or loss: path}, "dice": {loss: value},
        "area" (pixels of the truth), "close_up"}.
    """
    shade = upright(shades[index])
    paths = {name: contour_path(upright(mask[index][window]))
             for name, mask in (("truth", truth), *masks.items())}
    return {"index": index, "image": picture(shade), "shape": shade.shape, "paths": paths,
            "dice": {loss: dice(mask[index], truth[index]) for loss, mask in masks.items()},
            "area": int(truth[index].sum()),
            "close_up": close_up(upright(truth[index][window]), step)}


def size_of(scan):
    """Bytes that a scan takes on the page."""
    return sum(len(shown["image"]) + sum(map(len, shown["paths"].values()))
               for shown in scan["slices"])


# All scans of a set -------------------------------------------------------------------------------

def browser(results, scans, budget=BUDGET):
    """The slice browser of one set.

    Args:
        results: a ResultSet.
        scans: rows of `scores.scan_scores`, in the order in which they are shown.
        budget: bytes; once they are used up, a scan has one slice, that with the largest lesion.

    Returns:
        {"runs": {loss: Run}, "modality", "scans": [`scan_view` with the scan's row as "scores" and
        "open", the place of the slice shown first, that with the largest lesion], "reduced": number
        of scans with one slice for lack of room}.
    """
    runs = {loss: run for loss in PAIR if (run := shown_run(results, loss))}
    cases = {case.name: case for case in validation_cases(results)}
    found, used = [], 0
    for row in scans:
        scan = scan_view(cases[row["subject"]], runs, None if used < budget else 1)
        used += size_of(scan)
        areas = [shown["area"] for shown in scan["slices"]]
        found.append({**scan, "scores": row, "open": areas.index(max(areas))})
    reduced = sum(scan["left_out"] > 0 for scan in found)
    return {"runs": runs, "modality": shown_modality(results)[1], "scans": found,
            "reduced": reduced}
