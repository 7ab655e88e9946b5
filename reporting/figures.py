"""All figures of a report: drawn, and saved as PNG and PDF."""

import io

import matplotlib

from reporting import pictures, study_figures
from reporting.curves import PAPERS, figure3, has_values
from reporting.measures import MEASURES
from scoring.cases import validation_cases
from utils import PLOT_STYLE, atomic_path, remove, write_text

CAPTIONS = "captions.md"
DRAWN_BY_THE_PAGE = ("figure3", "figure3_mm")
NEED_SCANS = ("figure1", "figure2", "figure4")

# Two measures of Figure 3 larger: column, label of the axis
IN_MM = (("val_dice_3d", "validation DSC (per scan)"), ("val_hd95", "validation HD95 (mm)"))


def draw_all(sets, reported, out, identity=None, scans=True):
    """Write figure1..4 and figure3_mm, and sweep and identity where there is something to show.

    Without the scans of any set Figures 1, 2 and 4 are left out; those drawn earlier, with the
    scans, stay in `out` as they are.

    The captions of all are in captions.md.

    Args:
        sets: the ResultSets.
        reported: results/reported.json.
        out: the folder for the PNG and the PDF of each, and captions.md.
        identity: the curves of claim C9, if it was measured: see `study_figures.convergence`.
        scans: may they be shown?

    Returns:
        what a page needs to show them: see `save`.
    """
    with matplotlib.rc_context(PLOT_STYLE):
        drawn = [save("figure3", out, *figure3(sets, shown_measures(sets), reported)),
                 save("figure3_mm", out, *figure3(sets, IN_MM, None))]

        # the others show scans, which a pack of results lacks
        if scans and any(map(validation_cases, sets)):
            drawn[:0] = [save("figure1", out, *pictures.figure1(sets)),
                         save("figure2", out, *pictures.figure2(sets))]
            drawn.append(save("figure4", out, *pictures.figure4(sets)))

        for name in ("sweep", "identity"):  # an earlier report's, of other runs
            for kind in ("pdf", "png"):
                remove(out / f"{name}.{kind}")
        if swept := [results for results in sets if study_figures.has_sweep(results)]:
            drawn.append(save("sweep", out, *study_figures.sweep(swept)))
        if identity:
            drawn.append(save("identity", out, *study_figures.convergence(identity)))

    captions = [f"**{figure['title']}.** {figure['caption']} {ending(figure['name'])}"
                for figure in drawn]
    captions += captions_of_others(out, [figure["name"] for figure in drawn])
    write_text(out / CAPTIONS, "\n\n".join(captions) + "\n")
    return drawn


def ending(name):
    """What the caption of a figure ends with: its files."""
    return f"({name}.pdf, .png)"


def captions_of_others(out, drawn):
    """The captions in captions.md of figures that are in `out` and not among those just drawn."""
    others = [name for name in NEED_SCANS if name not in drawn and (out / f"{name}.png").exists()]
    if not others or not (out / CAPTIONS).exists():
        return []
    earlier = (out / CAPTIONS).read_text(encoding="utf-8", errors="replace").strip().split("\n\n")
    return [caption for name in others for caption in earlier if caption.endswith(ending(name))]


def shown_measures(sets):
    """(column, title) of each measure that some run has, and of the paper's own two."""
    return [(measure.column, measure.title) for measure in MEASURES
            if measure.column in PAPERS or has_values(sets, measure.column)]


def save(name, out, figure, title, caption, alt):
    """PNG at 300 dpi and PDF with Type 42 fonts; no dates, so that equal runs give equal bytes.

    Both are as wide as a paper's text. The caption is text, on the page and in captions.md.

    Returns:
        {"name", "png" (bytes, at 160 dpi; empty where the page draws it), "title", "caption",
        "alt"}.
    """
    small = io.BytesIO()
    if name not in DRAWN_BY_THE_PAGE:
        figure.savefig(small, format="png", dpi=160, metadata={"Software": None})
        figure.set_layout_engine("none")  # all three are laid out alike, once

    for kind, metadata in (("pdf", {"CreationDate": None}), ("png", {"Software": None})):
        with atomic_path(out / f"{name}.{kind}") as partial:
            figure.savefig(partial, format=kind, metadata=metadata)
        figure.set_layout_engine("none")
    return {"name": name, "png": small.getvalue(), "title": title, "caption": caption, "alt": alt}
