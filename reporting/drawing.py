"""Contours of masks over pictures: of one foreground class, or of several in a colour each."""

import textwrap
from itertools import cycle

import matplotlib.patheffects as effects
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.lines import Line2D
from scipy import ndimage

TRUTH, COLOURS = "#ffd92f", {"gdl": "#4da3ff", "gdl+boundary": "#ff5a4f", "boundary": "#bbbbbb"}

CLASSES = ("#ff5a4f", "#4fc3ff", "#ffd54f", "#7ee07e", "#d49bff", "#ffa64f")  # of several foreground classes, in turn


def upright(array):
    """Stored as [x, y] (left to right, back to front); shown with anterior up and the patient's left on the left."""
    return np.rot90(array)


def outline(axis, mask, window, colour, width=1.0):
    """The contour of a mask with a thin dark edge, so that it shows on bright and dark ground."""
    part = upright(mask[window]).astype(float)
    if part.any():
        limits = axis.get_xlim(), axis.get_ylim()  # the closing of contours at the edge must not widen the panel
        lines = axis.contour(np.pad(part, 1), [0.5], colors=[colour], linewidths=width,
                             extent=(-1.5, part.shape[1] + 0.5, -1.5, part.shape[0] + 0.5))
        axis.set(xlim=limits[0], ylim=limits[1])
        lines.set_path_effects([effects.withStroke(linewidth=width + 0.7, foreground="black", alpha=0.6)])


def contours(axis, labels, names, window, colour, width=1.1):
    """The contour of the foreground of labels (H, W); of several classes, these names, one each in the colours of CLASSES."""
    for k, (_, own) in enumerate(zip(names, cycle(CLASSES)), 1):
        outline(axis, labels == k, window, own if len(names) > 1 else colour, width)


def class_legend(figure, names, place="outside upper center"):
    """Which colour is which class, beside the panels, if there are several."""
    if len(names) > 1:
        lines = [Line2D([], [], color=colour, label=name) for name, colour in zip(names, cycle(CLASSES))]
        figure.legend(handles=lines, loc=place, ncols=min(4, len(lines)), fontsize=8, frameon=False)


def several_classes(figure, sets):
    """The legend of the sets with several classes, and what a caption says about them."""
    names = max((one.classes[1:] for one in sets), key=len)
    class_legend(figure, names)
    return " DSC is the mean over the classes." if len(names) > 1 else " Thin yellow: ground truth."


def head_box(image, masks, step, margin=0.04):
    """Rows and columns around the head (largest bright region) and all masks, as two slices."""
    bright = image > 0.15 * np.quantile(image, 0.99)
    parts, count = ndimage.label(ndimage.binary_opening(bright, iterations=2))
    if count:
        bright = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    return box(bright | np.any(masks, axis=0), int(margin * max(image.shape)), step, (6, 7))


def box(mask, margin, step=(1, 1), shape=(1, 1)):
    """Rows and columns that hold the mask with a margin in pixels, grown to a shape (proportions in mm, not pixels)."""
    shape = [part / size for part, size in zip(shape, step, strict=False)]
    ends = [np.flatnonzero(mask.any(axis=axis))[[0, -1]] for axis in (1, 0)]
    lengths = [last - first + 1 + 2 * margin for first, last in ends]
    unit = max(length / part for length, part in zip(lengths, shape, strict=True))
    spans = []
    for (first, last), part, limit in zip(ends, shape, mask.shape, strict=True):
        length = min(limit, int(np.ceil(unit * part)))
        start = min(max(0, (first + last + 1 - length) // 2), limit - length)  # shifted where the image ends
        spans.append(slice(start, start + length))
    return tuple(spans)


def show(axis, image, window, step):
    """A grey image, cropped; `step` is the pixel size (row, column) in mm."""
    axis.imshow(upright(image[window]), cmap="gray", vmin=0, vmax=max(np.quantile(image, 0.998), 1e-6),
                aspect=step[1] / step[0], interpolation="nearest")
    axis.set_axis_off()


def corner(axis, text, colour="white"):
    axis.text(0.03, 0.97, text, transform=axis.transAxes, va="top", ha="left", color=colour, fontsize=8,
              path_effects=[effects.withStroke(linewidth=2, foreground="black")])


def say(axis, text, frame=False):
    """Words on a panel that has nothing to show."""
    if not frame:
        axis.set_axis_off()
    axis.text(0.5, 0.5, textwrap.fill(text, 26), transform=axis.transAxes, ha="center", va="center", color="#555555")


def panels(rows, columns, width, height):
    figure, axes = plt.subplots(rows, columns, figsize=(width, height * rows + 0.2), squeeze=False,
                                layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    return figure, axes


def below(figure, text):
    """Print the caption under the panels, wrapped to the figure's width, and make room for it."""
    width, height = figure.get_size_inches()
    text = textwrap.fill(text, int(width * 17))
    figure.set_figheight(height + 0.14 * (1 + text.count("\n")))
    figure.supxlabel(text, fontsize=7.5, x=0.01, ha="left", color="#333333")
