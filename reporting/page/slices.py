"""Figure 4 as the page shows it: slices of the validation scans under contours as SVG paths."""

import base64
import io

import numpy as np
from contourpy import contour_generator  # comes with matplotlib, whose contours it draws
from matplotlib.image import imsave

from metrics import dice
from reporting.drawing import head_box, upright
from scoring.cases import shown_modality, shown_runs, validation_cases
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
    """At most this many of these slices, those with the largest lesion area, in their order."""
    by_area = sorted(shown, key=lambda index: (-truth[index].sum(), index))
    return sorted(by_area[:most])


def scan_view(case, seeds, most=None):
    """The informative slices of a scan for the template, and its frame.

    Args:
        case: a Case.
        seeds: [{loss: Run}] whose predictions can be shown.
        most: show at most this many slices, those with the largest lesion area.

    Returns:
        {"width", "height" (mm), "pixel": (width, height of one in mm), "count" (slices of the
        scan), "slices": see `slice_view`, "left_out" (slices), "window" (rows, columns)}.
    """
    truth, step = case.lesion, case.pixel  # (S, H, W)
    masks = [{loss: mask for loss, run in runs.items()
              if (mask := case.predicted_lesion(run)) is not None} for runs in seeds]
    predicted = [mask for of_seed in masks for mask in of_seed.values()]

    together = np.any([truth, *predicted], axis=(0, 1))
    window = head_box(np.asarray(case.images[:, case.channel], np.float32).max(0), [together], step)
    shades = shades_of(case, case.channel, window)

    shown = informative(truth, predicted)
    chosen = largest(shown, truth, most) if most else shown
    found = [slice_view(index, shades, truth, masks, window, step) for index in chosen]
    rows, columns = found[0]["shape"]
    return {"width": round(columns * step[0], 2), "height": round(rows * step[1], 2),
            "pixel": list(step), "count": len(truth), "slices": found,
            "left_out": len(shown) - len(chosen), "window": window}


def shades_of(case, channel, window):
    """A modality as (S, H, W) uint8, cropped; one range of intensities for the whole scan."""
    images = np.asarray(case.images[:, channel], np.float32)[:, *window]
    top = max(float(np.quantile(images, 0.995)), 1e-6)
    return (255 * np.clip(images / top, 0, 1)).astype(np.uint8)


def slice_view(index, shades, truth, masks, window, step):
    """One slice: its picture, its contours and its scores.

    Args:
        index: its number.
        shades: (S, H, W) uint8, cropped.
        truth: (S, H, W) bool.
        masks: [{loss: (S, H, W) bool}], one of each seed.
        window, step: rows and columns shown, and the size of a pixel along them, mm.

    Returns:
        {"index", "images" (one; other modalities may follow), "shape", "truth" (path), "seeds":
        [{"paths": {loss: path}, "dice": {loss: value}}], "area" (pixels of the truth),
        "close_up"}.
    """
    shade = upright(shades[index])
    seeds = [{"paths": {loss: contour_path(upright(mask[index][window]))
                        for loss, mask in of_seed.items()},
              "dice": {loss: dice(mask[index], truth[index]) for loss, mask in of_seed.items()}}
             for of_seed in masks]
    return {"index": index, "images": [picture(shade)], "shape": shade.shape,
            "truth": contour_path(upright(truth[index][window])), "seeds": seeds,
            "area": int(truth[index].sum()),
            "close_up": close_up(upright(truth[index][window]), step)}


def add_modalities(scan, case, channels, room):
    """Give every slice of a scan the pictures of further modalities, if they fit into `room` bytes.

    Returns:
        the bytes that they take, 0 where they do not fit.
    """
    volumes = [shades_of(case, channel, scan["window"]) for channel in channels]
    pictures = [[picture(upright(shades[shown["index"]])) for shades in volumes]
                for shown in scan["slices"]]
    size = sum(len(text) for of_slice in pictures for text in of_slice)
    if size > room:
        return 0
    for shown, of_slice in zip(scan["slices"], pictures, strict=True):
        shown["images"] += of_slice
    return size


def size_of(scan):
    """Bytes that a scan takes on the page."""
    paths = [path for shown in scan["slices"] for seed in shown["seeds"]
             for path in seed["paths"].values()]
    return sum(map(len, paths)) + sum(len(shown["truth"]) + sum(map(len, shown["images"]))
                                      for shown in scan["slices"])


# All scans of a set -------------------------------------------------------------------------------

def browser(results, scans, budget=BUDGET):
    """The slice browser of one set.

    Args:
        results: a ResultSet.
        scans: rows of `scores.scan_scores`, in the order in which they are shown.
        budget: bytes; once they are used up, a scan has one slice, that with the largest lesion,
            and no further modality.

    Returns:
        {"seeds": see `seeds_of`, "losses": those that some seed has, "modalities": names, that of
        the figures first, "scans": [`scan_view` with the scan's row as "scores" and "open", the
        place of the slice shown first, that with the largest lesion], "reduced": number of scans
        with one slice for lack of room}.
    """
    seeds = seeds_of(results)
    cases = {case.name: case for case in validation_cases(results)}
    found, used = [], 0
    for row in scans:
        scan = scan_view(cases[row["subject"]], [seed["runs"] for seed in seeds],
                         None if used < budget else 1)
        used += size_of(scan)
        areas = [shown["area"] for shown in scan["slices"]]
        found.append({**scan, "scores": row, "open": areas.index(max(areas))})

    channel, modality = shown_modality(results)
    names = results.dataset.modalities or [modality]
    others = [other for other in range(len(names)) if other != channel]
    for scan in found if others else ():
        size = add_modalities(scan, cases[scan["scores"]["subject"]], others, budget - used)
        if not size:
            break
        used += size

    shown = others if found and len(found[0]["slices"][0]["images"]) > 1 else []
    return {"seeds": seeds, "losses": {loss for seed in seeds for loss in seed["runs"]},
            "modalities": [modality, *(names[other] for other in shown)], "scans": found,
            "reduced": sum(scan["left_out"] > 0 for scan in found)}


def seeds_of(results):
    """The seeds whose predictions can be shown, those that most losses have first.

    Returns:
        [{"name": "seed0", "runs": {loss: Run}, "unfinished": names of the runs that are}].
    """
    by_name = {}
    for loss in PAIR:
        for run in shown_runs(results, loss):
            by_name.setdefault(run.folder.name, {})[loss] = run
    seeds = [{"name": name, "runs": runs,
              "unfinished": [run.name for run in runs.values() if not run.finished]}
             for name, runs in by_name.items()]
    return sorted(seeds, key=lambda seed: (-len(seed["runs"]), len(seed["unfinished"])))
