"""All figures of a report: drawn, and saved as PNG and PDF."""

import io

import matplotlib

from reporting import drawing, pictures, study_figures
from reporting.curves import PAPERS, figure3, has_values
from reporting.measures import MEASURES
from utils import atomic_path

STYLE = {
    "font.size": 8, "font.family": "DejaVu Sans",
    "axes.titlesize": 9, "axes.labelsize": 8, "axes.linewidth": 0.8,
    "axes.spines.top": False, "axes.spines.right": False,
    "xtick.labelsize": 8, "ytick.labelsize": 8,
    "legend.fontsize": 8, "legend.frameon": False,
    "pdf.fonttype": 42, "savefig.dpi": 300, "figure.dpi": 100}

# Two measures of Figure 3 larger: column, label of the axis
IN_MM = (("val_dice_3d", "validation DSC (per scan)"), ("val_hd95", "validation HD95 (mm)"))


def draw_all(sets, reported, out, identity=None):
    """Write figure1..4 and figure3_mm, and sweep and identity where there is something to show.

    Args:
        sets: the ResultSets.
        reported: results/reported.json.
        out: the folder for the PNG and the PDF of each.
        identity: the curves of claim C9, if it was measured: see `study_figures.convergence`.

    Returns:
        what a page needs to show them: see `save`.
    """
    with matplotlib.rc_context(STYLE):
        drawn = [save("figure1", out, *pictures.figure1(sets)),
                 save("figure2", out, *pictures.figure2(sets)),
                 save("figure3", out, *figure3(sets, shown_measures(sets), reported)),
                 save("figure3_mm", out, *figure3(sets, IN_MM, None)),
                 save("figure4", out, *pictures.figure4(sets))]

        if swept := [results for results in sets if study_figures.has_sweep(results)]:
            drawn.append(save("sweep", out, *study_figures.sweep(swept)))
        if identity:
            drawn.append(save("identity", out, *study_figures.convergence(identity)))
        return drawn


def shown_measures(sets):
    """(column, title) of each measure that some run has, and of the paper's own two."""
    return [(measure.column, measure.title) for measure in MEASURES
            if measure.column in PAPERS or has_values(sets, measure.column)]


def save(name, out, figure, title, caption, alt):
    """PNG at 300 dpi and PDF with Type 42 fonts; no dates, so that equal runs give equal bytes.

    Returns:
        {"name", "png" (bytes, at 160 dpi and without the caption), "title", "caption", "alt"}.
    """
    small = io.BytesIO()  # for the page, which has the caption as text
    figure.savefig(small, format="png", dpi=160, bbox_inches="tight", pad_inches=0.05,
                   metadata={"Software": None})

    # pictures carry the rule that chose them; curves have their legend there
    if name in ("figure1", "figure4") or not figure.legends:
        drawing.below(figure, caption)

    for kind, metadata in (("pdf", {"CreationDate": None}), ("png", {"Software": None})):
        with atomic_path(out / f"{name}.{kind}") as partial:
            figure.savefig(partial, format=kind, bbox_inches="tight", pad_inches=0.05,
                           metadata=metadata)
    return {"name": name, "png": small.getvalue(), "title": title, "caption": caption, "alt": alt}
