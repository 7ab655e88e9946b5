"""All figures of a report: drawn, and saved as PNG and PDF."""

import io

import matplotlib

from reporting import drawing, pictures, study_figures
from reporting.curves import curves

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

from utils import atomic_path  # noqa: E402

STYLE = {"font.size": 8, "axes.titlesize": 9, "axes.labelsize": 8, "legend.fontsize": 8, "xtick.labelsize": 8,
         "ytick.labelsize": 8, "font.family": "DejaVu Sans", "axes.spines.top": False, "axes.spines.right": False,
         "axes.linewidth": 0.8, "pdf.fonttype": 42, "savefig.dpi": 300, "figure.dpi": 100, "legend.frameon": False}


def draw_all(sets, reported, out, identity=None):
    """Write figure1..4 and figure3_mm, and sweep and identity where there is something to show, as PNG and PDF.

    Args:
        identity: the curves of claim C9, if it was measured.

    Returns:
        what a page needs to show them.
    """
    with plt.rc_context(STYLE):
        legacy = (("val_dice", "validation DSC (slice mean)"), ("val_hd_legacy", "validation HD (legacy)"))
        in_mm = (("val_dice_3d", "validation DSC (per scan)"), ("val_hd95", "validation HD95 (mm)"))
        drawn = [save("figure1", out, *pictures.figure1(sets)),
                 save("figure2", out, *pictures.figure2(sets)),
                 save("figure3", out, *curves(sets, legacy, reported)),
                 save("figure3_mm", out, *curves(sets, in_mm, None)),
                 save("figure4", out, *pictures.figure4(sets))]
        if swept := [one for one in sets if study_figures.has_sweep(one)]:
            drawn.append(save("sweep", out, *study_figures.sweep(swept)))
        if identity:
            drawn.append(save("identity", out, *study_figures.convergence(identity)))
        return drawn


def save(name, out, figure, title, caption, alt):
    """PNG at 300 dpi and PDF with Type 42 fonts; without dates, so that equal runs give equal bytes."""
    small = io.BytesIO()  # for the page, which has the caption as text
    figure.savefig(small, format="png", dpi=160, bbox_inches="tight", pad_inches=0.05, metadata={"Software": None})
    if name in ("figure1", "figure4") or not figure.legends:  # pictures carry the rule that chose them; curves a legend there
        drawing.below(figure, caption)
    for kind, metadata in (("pdf", {"CreationDate": None}), ("png", {"Software": None})):
        with atomic_path(out / f"{name}.{kind}") as partial:
            figure.savefig(partial, format=kind, bbox_inches="tight", pad_inches=0.05, metadata=metadata)
    plt.close(figure)
    return {"name": name, "png": small.getvalue(), "title": title, "caption": caption, "alt": alt}

