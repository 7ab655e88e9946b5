"""A picture of a predicted mask: the slices with the largest predicted area, and its contours."""

import matplotlib
import numpy as np

from reporting.drawing import (
    CLASSES,
    class_legend,
    contours,
    corner,
    head_box,
    new_figure,
    say,
    show,
)
from utils import PLOT_STYLE, atomic_path

SHOWN = 6


@matplotlib.rc_context(PLOT_STYLE)
def draw_preview(path, name, image, mask, step, classes=("lesion",),
                 software=None):
    """Write a PNG of up to six slices.

    Args:
        path: the PNG to write.
        name: of the scan, for the title.
        image: (S, H, W) intensities of one modality, any range from 0.
        mask: (S, H, W) predicted classes; every class above 0 is foreground.
        step: size of a pixel along rows and columns, mm.
        classes: names of the foreground classes.
        software: who writes it, kept in the file.
    """
    foreground = mask > 0
    area = foreground.sum(axis=(1, 2))
    count = min(SHOWN, max(1, np.count_nonzero(area)))
    largest = np.sort(np.argsort(-area, kind="stable")[:count])
    if not area.any():  # nothing found: the middle of the scan, for a look at the input
        largest = [len(image) // 2]

    width = max(5.0, 2.4 * len(largest))  # room for the title
    figure, axes = new_figure(1, len(largest), (width, 3.0))
    for axis, index in zip(axes[0], largest):
        part = image[index].astype(float)
        window = head_box(part, [foreground[index]], step)
        show(axis, part, window, step)
        contours(axis, mask[index], classes, window, CLASSES[0], 1.0)
        corner(axis, f"slice {index}" + ("\nall foreground" if foreground[index].all() else ""))
        if not area.any():
            say(axis, "no foreground predicted")

    class_legend(figure, classes, "outside lower center")
    figure.suptitle(f"{name}: {np.count_nonzero(area)} of {len(image)} slices with predicted "
                    "foreground")
    with atomic_path(path) as partial:
        figure.savefig(partial, format="png", dpi=150, metadata={"Software": software})
