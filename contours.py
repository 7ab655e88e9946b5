"""Contours of masks over pictures: of one foreground class, or of several in a colour each."""

from itertools import cycle

import matplotlib.patheffects as effects
import numpy as np
from matplotlib.lines import Line2D

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
