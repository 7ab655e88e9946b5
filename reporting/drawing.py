"""What all figures share: colours, panels, pictures of slices, and contours over them."""

import textwrap
from itertools import cycle

import matplotlib.patheffects as effects
import numpy as np
from matplotlib.figure import Figure  # not pyplot: no state to set up, and no figure to close
from matplotlib.lines import Line2D
from scipy import ndimage

from scoring.rows import style

# Blue and red are the paper's
BLUE, RED, GREY = "#1f5fbf", "#d62828", "#7a7a7a"

# Of rows of the table, by scoring.rows.style: GDL, GDL + boundary, boundary alone. Lines stand on
# white; contours stand on slices, dark for the most part, and so are brighter, and pink rather than
# red, which some cannot tell from the yellow of the truth.
LINES, CONTOURS = (BLUE, RED, GREY), ("#4da3ff", "#ff6fc4", "#bbbbbb")

# Of the further rows, in turn: Okabe and Ito's palette, safe for the colour-blind, and brown
OTHER_LINES = ("#009e73", "#e69f00", "#56b4e9", "#cc79a7", "#000000", "#8c510a")

TRUTH = "#ffd92f"
CLASSES = ("#56b4e9", "#e69f00", "#f0f0f0", "#cc79a7", "#00c896", "#f0e442")  # of several, in turn

# Dashes of the contours of each colour; the truth is solid
CONTOUR_DASHES = {CONTOURS[0]: (0, (2.5, 1)), CONTOURS[1]: (0, (6, 1.2)), CONTOURS[2]: (0, (1, 1)),
                  **dict(zip(CLASSES, ("-", (0, (4, 1)), (0, (1, 0.8)), (0, (6, 1, 1, 1)),
                                       (0, (2.5, 1)), (0, (8, 1.5)))))}
FAINT = "#dddddd"  # the lines of a grid


# Lines differ in dashes and markers too, in turn, for print in grey and for the colour-blind
DASHES = ((0, (5, 1.5)), "-", (0, (6, 1.5, 1.5, 1.5)), (0, (2, 1)), (0, (9, 2)),
          (0, (6, 1.5, 1.5, 1.5, 1.5, 1.5)), (0, (3, 1, 1, 1)), (0, (12, 2, 3, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def line_style(row, rows):
    """(colour, dashes, marker) of a row's curve among these rows of the table."""
    number = style(row, rows)
    return (line_colour(row, rows), DASHES[number % len(DASHES)], MARKERS[number % len(MARKERS)])


def line_colour(row, rows):
    """The colour of a row's curve among these rows of the table."""
    number = style(row, rows)
    if number < len(LINES):
        return LINES[number]
    return OTHER_LINES[(number - len(LINES)) % len(OTHER_LINES)]


def contour_colour(row):
    """The colour of the contour that one of the paper's rows predicts."""
    return CONTOURS[style(row, ())]


def title_in_words(results):
    """The title of a set's panels: "LGG, validation"."""
    return f"{results.title[:1].upper()}{results.title[1:]}, validation"


# Figures and their panels -------------------------------------------------------------------------

def new_figure(rows, columns, size, **options):
    """(figure, axes (rows, columns)) of a size in inches; further options are those of subplots."""
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def panels(rows, columns, width, height):
    """(figure, axes) for pictures that stand close together; `height` is that of a row, inches."""
    figure, axes = new_figure(rows, columns, (width, height * rows + 0.2))
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    return figure, axes


def legend_entries(axes):
    """(handles, labels) of all these axes, each label once."""
    entries = {label: handle for axis in axes
               for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    return entries.values(), entries.keys()


def corner(axis, text, colour="white"):
    """Words in the upper left corner of a picture."""
    words = axis.text(0.03, 0.97, text, transform=axis.transAxes, va="top", ha="left",
                      color=colour, fontsize=7,
                      path_effects=[effects.withStroke(linewidth=2, foreground="black")])
    words.set_in_layout(False)  # a long name does not shrink the panels


def say(axis, text, frame=False):
    """Words on a panel that has nothing to show."""
    if not frame:
        axis.set_axis_off()
    words = axis.text(0.5, 0.5, textwrap.fill(text, 24), transform=axis.transAxes, ha="center",
                      va="center", color="#555555")
    words.set_in_layout(False)  # long words do not shrink the panels


# Pictures of slices -------------------------------------------------------------------------------

def upright(array):
    """A slice as it is shown: anterior up, the patient's left on the left.

    Arrays are stored as [x, y], from left to right and from back to front.
    """
    return np.rot90(array)


def show(axis, image, window, step):
    """A grey image, cropped; `step` is the pixel size (row, column) in mm."""
    axis.imshow(upright(image[window]), cmap="gray", vmin=0,
                vmax=max(np.quantile(image, 0.998), 1e-6), aspect=step[1] / step[0],
                interpolation="nearest")
    axis.set_axis_off()


def head_box(image, masks, step, margin=0.04):
    """Rows and columns around the head (largest bright region) and all masks, as two slices."""
    bright = image > 0.15 * np.quantile(image, 0.99)
    parts, count = ndimage.label(ndimage.binary_opening(bright, iterations=2))
    if count:
        bright = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    return box(bright | np.any(masks, axis=0), int(margin * max(image.shape)), step, (6, 7))


def box(mask, margin, step=(1, 1), shape=(1, 1)):
    """Rows and columns that hold a mask, as two slices.

    Args:
        mask: (H, W) bool, not empty.
        margin: around the mask, px.
        step: size of a pixel along rows and columns, mm.
        shape: proportions that the window is grown to, in mm rather than pixels.
    """
    shape = [part / size for part, size in zip(shape, step, strict=False)]
    ends = [np.flatnonzero(mask.any(axis=axis))[[0, -1]] for axis in (1, 0)]
    lengths = [last - first + 1 + 2 * margin for first, last in ends]
    unit = max(length / part for length, part in zip(lengths, shape, strict=True))

    spans = []
    for (first, last), part, limit in zip(ends, shape, mask.shape, strict=True):
        length = min(limit, int(np.ceil(unit * part)))
        centred = (first + last + 1 - length) // 2
        start = min(max(0, centred), limit - length)  # shifted where the image ends
        spans.append(slice(start, start + length))
    return tuple(spans)


# Contours over pictures ---------------------------------------------------------------------------

def outline(axis, mask, window, colour, width=1.0):
    """The contour of a mask with a thin dark edge, so that it shows on bright and dark ground.

    A colour has its dashes wherever it is drawn: CONTOUR_DASHES.
    """
    part = upright(mask[window]).astype(float)
    if not part.any():
        return

    # padded, so that contours close at the edge; that must not widen the panel
    limits = axis.get_xlim(), axis.get_ylim()
    lines = axis.contour(np.pad(part, 1), [0.5], colors=[colour], linewidths=width,
                         linestyles=[CONTOUR_DASHES.get(colour, "-")],
                         extent=(-1.5, part.shape[1] + 0.5, -1.5, part.shape[0] + 0.5))
    axis.set(xlim=limits[0], ylim=limits[1])
    lines.set_path_effects(
        [effects.withStroke(linewidth=width + 0.7, foreground="black", alpha=0.6)])


def contours(axis, labels, names, window, colour, width=1.1):
    """The contour of every foreground class of labels (H, W).

    A single class is drawn in `colour`, several in a colour of CLASSES each, whatever the row.
    """
    for k, (_, of_class) in enumerate(zip(names, cycle(CLASSES)), 1):
        outline(axis, labels == k, window, of_class if len(names) > 1 else colour, width)


def class_legend(figure, names, place="outside upper center"):
    """Which colour is which class, beside the panels, if there are several."""
    if len(names) > 1:
        lines = [Line2D([], [], color=colour, label=name, linestyle=CONTOUR_DASHES[colour])
                 for name, colour in zip(names, cycle(CLASSES))]
        figure.legend(handles=lines, loc=place, ncols=min(4, len(lines)))


def legend_and_sentence(figure, sets):
    """Draw the legend of the sets with several classes; return what a caption says about them."""
    names = max((results.classes[1:] for results in sets), key=len)
    class_legend(figure, names)
    return (" DSC is the mean over the classes." if len(names) > 1 else
            " Thin, solid, yellow: ground truth; dashed: predictions.")
