"""Figure 4 as the page shows it: slices of the validation scans, with the contours of truth and predictions as SVG paths."""

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


def picture(grey):
    """(H, W) uint8 -> data URI: WebP, which takes a fifth of PNG; PNG where Pillow was built without it."""
    colours = np.repeat(grey[..., None], 3, axis=2)
    for kind, options in (("webp", {"quality": QUALITY, "method": 6}), ("png", {"optimize": True})):
        buffer = io.BytesIO()
        try:
            imsave(buffer, colours, format=kind, pil_kwargs=options)
        except (KeyError, ValueError, OSError):
            continue
        return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
    raise RuntimeError("Pillow writes neither WebP nor PNG")


def outline(mask):
    """The contours of a mask (H, W) as an SVG path in half pixels, by marching squares at 0.5; "" for an empty mask.

    Half pixels, because the contour passes between pixel centres: every coordinate is a whole number. Steps in one direction
    are joined.
    """
    if not mask.any():
        return ""
    parts = []
    for points in contour_generator(z=np.pad(mask.astype(float), 1)).lines(0.5):
        corners = np.rint(2 * points - 1).astype(int)  # the margin is one pixel, and centres lie half a pixel in
        steps = np.diff(corners, axis=0)
        joined = [steps[0]]
        for before, step in zip(steps, steps[1:]):
            if (step == before).all():
                joined[-1] = joined[-1] + step
            else:
                joined.append(step)
        # the last step leads back to the start, which is what z does
        parts.append("M{} {}l".format(*corners[0]) + " ".join(f"{x} {y}" for x, y in joined[:-1]) + "z")
    return "".join(parts)


def close_up(mask, pixel, margin=12, least=48):
    """(x, y, width, height) in mm of a square around a mask (H, W), for an SVG viewBox; None for an empty mask.

    Args:
        pixel: (width, height) of a pixel in mm.
        margin, least: mm around the mask, and the shortest side.
    """
    if not mask.any():
        return None
    ends = [np.flatnonzero(mask.any(axis=axis))[[0, -1]] + [0, 1] for axis in (0, 1)]        # columns, rows
    (left, right), (top, bottom) = (np.array(pair) * size for pair, size in zip(ends, pixel))
    side = max(right - left + 2 * margin, bottom - top + 2 * margin, least)
    return [round(float(value), 1) for value in ((left + right - side) / 2, (top + bottom - side) / 2, side, side)]


def informative(truth, masks):
    """Numbers of the slices with a lesion in the truth or in a prediction; the middle slice if there is none."""
    shown = np.flatnonzero(np.any([truth, *masks], axis=(0, 2, 3)))
    return [int(index) for index in shown] or [len(truth) // 2]


def slices_of(case, runs, most=None):
    """The informative slices of a scan for the template, and its frame.

    Args:
        case: a Case.
        runs: {loss: Run} whose predictions are shown.
        most: show at most this many, those with the largest lesion area.

    Returns:
        {"width", "height" (mm), "pixel": (width, height of one in mm), "count" (slices of the scan), "slices": [{"index",
        "image", "paths": {"truth" or loss: path}, "dice": {loss: value}, "area" (pixels), "close_up"}], "left_out"}.
    """
    truth, step = case.lesion, case.pixel                                                    # (S, H, W)
    masks = {loss: mask for loss, run in runs.items() if (mask := case.predicted_lesion(run)) is not None}
    images = np.asarray(case.images[:, case.channel], np.float32)
    together = np.any([truth, *masks.values()], axis=(0, 1))
    window = head_box(images.max(0), [together], step)
    top = max(float(np.quantile(images[:, *window], 0.995)), 1e-6)                           # one window for the whole scan
    shown = informative(truth, masks.values())
    chosen = sorted(sorted(shown, key=lambda index: (-truth[index].sum(), index))[:most]) if most else shown
    found = []
    for index in chosen:
        part = upright(images[index][window])
        paths = {name: outline(upright(mask[index][window])) for name, mask in (("truth", truth), *masks.items())}
        found.append({"index": index, "image": picture((255 * np.clip(part / top, 0, 1)).astype(np.uint8)), "paths": paths,
                      "dice": {loss: dice(mask[index], truth[index]) for loss, mask in masks.items()},
                      "area": int(truth[index].sum()), "shape": part.shape,
                      "close_up": close_up(upright(truth[index][window]), step)})
    rows, columns = found[0]["shape"]
    return {"width": round(columns * step[0], 2), "height": round(rows * step[1], 2), "pixel": list(step), "count": len(truth),
            "slices": found, "left_out": len(shown) - len(chosen)}


def size_of(scan):
    """Bytes that a scan takes on the page."""
    return sum(len(one["image"]) + sum(map(len, one["paths"].values())) for one in scan["slices"])


def browser(one, scans, budget=BUDGET):
    """The slice browser of one set.

    Args:
        one: a ResultSet.
        scans: rows of `page_scores.scan_scores`, in the order in which they are shown.
        budget: bytes; once they are used up, a scan has one slice, that with the largest lesion.

    Returns:
        {"runs": {loss: Run}, "modality", "scans": [`slices_of` with the scan's row as "scores"], "reduced": scans with one
        slice for lack of room, "open": number of the slice shown first, that with the largest lesion}.
    """
    runs = {loss: run for loss in PAIR if (run := shown_run(one, loss))}
    found, used, reduced = [], 0, 0
    cases = {case.name: case for case in validation_cases(one)}
    for row in scans:
        scan = slices_of(cases[row["subject"]], runs, None if used < budget else 1)
        reduced += bool(scan["left_out"])
        used += size_of(scan)
        first = max(range(len(scan["slices"])), key=lambda at: scan["slices"][at]["area"])
        found.append({**scan, "scores": row, "open": first})
    return {"runs": runs, "modality": shown_modality(one)[1], "scans": found, "reduced": reduced}
