"""Why the boundary loss does what it does: its decision rule, and its size beside the GDL's.

Examples:
  python -m studies.decision_rule --out results/why
  python -m studies.decision_rule --data data/lgg data/ms --out results/why

The rule. Eq. 5 is linear in the probabilities s, so for images that may have one ground truth or
another its expected value is the mean of E[phi] s: at its minimum a pixel is predicted if and only
if E[phi | image] < 0. A disc of this many px is the lesion with probability P; else it is an equal
disc 20 px away, edge to edge, or there is none. Deep inside the disc phi is as low as minus its
radius, elsewhere it grows with the distance, so

- against a lesion elsewhere, a pixel is predicted from P = phi' / (phi' - phi) on, phi being its
  distance if the disc is the lesion and phi' if the other one is; boundary pixels, where phi is 0,
  never. The disc as a whole lowers the loss from the P on at which its sum of E[phi] is negative.
- against none, phi' is 0 by convention (Section 3.2), so every pixel inside is predicted from P = 0
  on: on images without a lesion false positives cost nothing.

Both are computed from the maps, and found again by minimising `losses.BoundaryLoss`: over one logit
per pixel, and over one for the disc.

The size. For each data folder, the gradients of alpha GDL and (1 - alpha) L_B with respect to the
foreground's probability (the background's is 1 less it), on slices with a lesion, added up in
absolute value over the lesions' pixels; the ratio of the sums. It depends on what is predicted. The
state that is meant where none is named is REFERENCE, a lesion half found and hardly a false
positive: 0.5 inside, 0.001 outside. Below 1 the boundary loss decides inside lesions, above it the
GDL does. Of several classes it is the first, as in Figure 2.

Written to --out: decision_rule.csv, a row for each number, and decision_rule.png and .pdf.

Exit status: 0, or 2 with one line that says what is wrong and what to do.
"""

if __name__ == "__main__":  # imports this file as a module; see start
    from utils import start
    start("studies.decision_rule")

from pathlib import Path

import matplotlib
import numpy as np

from distance import signed_distance
from reporting.drawing import BLUE, DASHES, FAINT, GREY, MARKERS, OTHER_LINES, RED, new_figure
from reporting.figures import save
from scans import folder
from scans.inputs import begins_with, refuse_inputs
from scoring.runs import apart
from utils import COLUMN, PLOT_STYLE, UserError, argument_parser, log, progress, write_csv

RADII = (2, 5, 15)   # px
GAP = 20             # px between the edges of the two discs
PROBABILITIES = np.linspace(0.01, 0.999, 990)
ELSEWHERE, NOTHING = "an equal disc 20 px away", "no lesion"

# Predictions at which gradients are compared: (inside, outside) the lesion
STATES = {"half found": (0.5, 0.001), "undecided": (0.5, 0.5), "nothing found": (0.01, 0.01),
          "nearly perfect": (0.99, 0.001)}
REFERENCE = "half found"
COLOURS = (*OTHER_LINES, BLUE, RED, GREY)  # of discs, and of data folders, in turn


# The rule, by arithmetic --------------------------------------------------------------------------

def two_maps(radius, alternative=ELSEWHERE):
    """phi if a disc is the lesion, and phi if it is not: float64 (H, W) each.

    Args:
        radius: of the disc, px: the pixels whose centres are no farther from its own.
        alternative: ELSEWHERE or NOTHING.
    """
    apart, margin = 2 * radius + GAP, 3
    height, width = 2 * (radius + margin) + 1, 2 * (radius + margin) + 1 + apart
    y, x = np.mgrid[:height, :width] - radius - margin
    here, there = (np.hypot(y, x - shift) <= radius for shift in (0, apart))
    if alternative == NOTHING:
        there &= False  # a slice without a lesion, whose map is 0
    return [signed_distance(mask).astype(float) for mask in (here, there)]


def pixel_thresholds(phi, other):
    """P from which E[phi] = P phi + (1 - P) phi' is negative, for each pixel; inf where never."""
    inside = phi < 0
    return np.where(inside, other / np.where(inside, other - phi, 1), np.inf)


def whole_threshold(phi, other):
    """P from which a lesion predicted as a whole, its boundary included, lowers the loss."""
    lesion = phi <= 0
    return float(other[lesion].sum() / (other[lesion].sum() - phi[lesion].sum()))


# The rule, by optimisation ------------------------------------------------------------------------

def optimise(phi, other, probabilities, shape, steps=10):
    """The predictions at the minimum of the expected boundary loss, for each P.

    Args:
        phi, other: (H, W) maps, see `two_maps`.
        probabilities: (N,), each P.
        shape: of the parameters, (N, H, W) for a logit per pixel, or (N, 1, 1) for one logit that
            all pixels of the disc share, where nothing else can be predicted.
        steps: of Adam, from logits of 0.

    Returns:
        bool (N, H, W): foreground probability above one half.
    """
    import torch

    from losses import BoundaryLoss

    criterion, disc = BoundaryLoss(), torch.from_numpy(phi <= 0)
    weights = torch.from_numpy(np.asarray(probabilities))[:, None, None, None]
    maps = [(weight * torch.from_numpy(values)).float()              # (N, 1, H, W)
            for weight, values in ((weights, phi), (1 - weights, other))]

    logits = torch.zeros(shape, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.5)
    for _ in range(steps):
        probs = predicted(logits, disc)
        loss = sum(criterion(torch.stack([1 - probs, probs], 1), values) for values in maps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (predicted(logits.detach(), disc) > 0.5).numpy()


def predicted(logits, disc):
    """Foreground probabilities (N, H, W); logits (N, 1, 1) are those of the disc's pixels alone."""
    if logits.shape[1:] == disc.shape:
        return logits.sigmoid()
    return logits.sigmoid() * disc


def first_where(probabilities, holds):
    """The least P at which something holds, NaN if it never does."""
    return float(probabilities[np.argmax(holds)]) if holds.any() else float("nan")


def rule_of(radius, alternative, probabilities):
    """What the boundary loss predicts of a disc, by arithmetic and by optimisation.

    Returns:
        {"probabilities", "pixel", "whole": (P by arithmetic, P by optimisation) from which the
        first pixel, and the whole disc, is predicted; "shares": the share of the disc's pixels that
        is predicted at each P, by arithmetic and by optimisation}.
    """
    phi, other = two_maps(radius, alternative)
    disc, thresholds = phi <= 0, pixel_thresholds(phi, other)
    by_pixel = optimise(phi, other, probabilities, (len(probabilities), *phi.shape))
    by_disc = optimise(phi, other, probabilities, (len(probabilities), 1, 1))

    found = by_pixel[:, disc]                                        # (N, pixels)
    shares = (thresholds[disc] < probabilities[:, None]).mean(1)
    return {"probabilities": probabilities,
            "pixel": (float(thresholds.min()), first_where(probabilities, found.any(1))),
            "whole": (whole_threshold(phi, other),
                      first_where(probabilities, by_disc.any(axis=(1, 2)))),
            "shares": (shares, found.mean(1))}


# The size beside the GDL's ------------------------------------------------------------------------

def gradients(mask, phi, state, alpha):
    """|d alpha GDL / ds| and |d (1 - alpha) L_B / ds| of each pixel of the lesion of one slice.

    Args:
        mask: (H, W) bool, not empty.
        phi: (H, W) its map.
        state: foreground probabilities inside and outside the lesion.
        alpha: weight of the GDL.
    """
    import torch

    from losses import BoundaryLoss, GeneralizedDiceLoss

    truth = torch.from_numpy(mask)
    inside, outside = state
    s = torch.where(truth, inside, outside).requires_grad_()                     # (H, W)
    probs = torch.stack([1 - s, s])[None]                                        # (1, 2, H, W)
    target = torch.stack([~truth, truth])[None]

    losses = (alpha * GeneralizedDiceLoss()(probs, target),
              (1 - alpha) * BoundaryLoss()(probs, torch.from_numpy(phi)[None, None]))
    found = [torch.autograd.grad(loss, s, retain_graph=True)[0] for loss in losses]
    return [gradient[truth].abs().double().numpy() for gradient in found]


def slices_of(data):
    """(share of its pixels that is lesion, mask, map) of each slice with a lesion of a folder."""
    for name in progress(folder.read_split(data), desc=data.name, unit="scan"):
        masks = np.asarray(folder.open_array(data, name, "labels")) == 1         # (S, H, W)
        maps = folder.open_array(data, name, "distance")                         # (S, K - 1, H, W)
        for index in np.flatnonzero(masks.any(axis=(1, 2))):
            yield masks[index].mean(), masks[index], np.array(maps[index, 0], np.float32)


def ratios_of(data, alpha):
    """The GDL's gradient over the boundary loss's inside the lesions of a data folder.

    Returns:
        {"shares": (slices,), of the lesion, "slices": (slices,) the ratio of each in the REFERENCE
        state, "ratios": {state: ratio of the sums over all}, infinite where phi is 0 throughout,
        "flat": the share of lesion pixels at which phi is 0}.

    Raises:
        UserError: there is no lesion.
    """
    shares, sums, flat = [], {name: [] for name in STATES}, []
    for share, mask, phi in slices_of(data):
        shares.append(share)
        flat.append((np.count_nonzero(phi[mask] == 0), np.count_nonzero(mask)))
        for name, state in STATES.items():
            sums[name].append([part.sum() for part in gradients(mask, phi, state, alpha)])

    if not shares:
        raise UserError(data, "slices with a lesion of class 1", "none",
                        "Name a data folder that has some.")
    sums = {name: np.array(found) for name, found in sums.items()}                # (slices, 2)
    total = np.sum(flat, axis=0)
    with np.errstate(divide="ignore"):
        return {"shares": np.array(shares), "slices": np.divide(*sums[REFERENCE].T),
                "flat": float(total[0] / total[1]),
                "ratios": {name: float(np.divide(*found.sum(0))) for name, found in sums.items()}}


# What is written ----------------------------------------------------------------------------------

WORDS = {"pixel": "P from which the first pixel is predicted",
         "whole": "P from which the whole disc lowers the loss"}


def tidy_rows(rules, sizes, alpha):
    """decision_rule.csv: a row for each number.

    Args:
        rules: {(radius, alternative): `rule_of`}.
        sizes: {name of a data folder: `ratios_of`}.
        alpha: weight of the GDL.
    """
    rows = [{"experiment": "decision rule", "case": f"disc of radius {radius} px or {alternative}",
             "quantity": words, "value": rule[key][0], "optimised": rule[key][1]}
            for (radius, alternative), rule in rules.items() for key, words in WORDS.items()]
    for name, found in sizes.items():
        words = f"gradient of GDL over that of L_B inside lesions, alpha {alpha:g}"
        rows += [{"experiment": "gradients", "case": f"{name}, {state} (probability {inside:g} "
                  f"inside, {outside:g} outside)", "quantity": words,
                  "value": found["ratios"][state], "optimised": None}
                 for state, (inside, outside) in STATES.items()]
        rows.append({"experiment": "gradients", "case": name, "quantity":
                     "share of lesion pixels at which phi is 0", "value": found["flat"],
                     "optimised": None})
    return rows


def draw(rules, sizes, alpha):
    """(figure, title, caption, alternative text) of both experiments."""
    figure, axes = new_figure(1, 1 + bool(sizes), (COLUMN, 2.9))
    draw_rules(axes[0, 0], rules)
    if sizes:
        draw_sizes(axes[0, 1], sizes, alpha)

    caption = ("Left: lines by arithmetic, markers by minimising Eq. 5; a tick below marks the P "
               "from which the disc as a whole lowers the loss. Boundary pixels (phi = 0) are "
               "never predicted. Dots: where the alternative is a slice without a lesion, all that "
               "lies inside is predicted, however small P.")
    if sizes:
        inside, outside = STATES[REFERENCE]
        caption += (f" Right: one point per slice with a lesion, predictions {inside:g} inside and "
                    f"{outside:g} outside it; above 1 the GDL decides inside the lesion, below it "
                    "the boundary loss.")
    told = [f"disc of radius {radius} px or {alternative}: whole from P {rule['whole'][0]:.3f}"
            for (radius, alternative), rule in rules.items()]
    told += [f"{name}: ratio {found['ratios'][REFERENCE]:.3g}" for name, found in sizes.items()]
    return figure, "What the boundary loss predicts, and how strong it is", caption, "; ".join(told)


def draw_rules(axis, rules):
    """The share of a disc's pixels that is predicted, against P."""
    radii = [radius for radius, alternative in rules if alternative == ELSEWHERE]
    for at, radius in enumerate(radii):
        rule, colour = rules[radius, ELSEWHERE], COLOURS[at]
        axis.plot(rule["probabilities"], rule["shares"][0], color=colour, linestyle=DASHES[at],
                  linewidth=1.6, label=f"radius {radius} px")
        axis.plot(rule["probabilities"], rule["shares"][1], MARKERS[at], color=colour, markersize=4,
                  markevery=(7 * at, 21), markeredgecolor="white", markeredgewidth=0.4)
        axis.plot([rule["whole"][0]] * 2, [-0.06, -0.01], color=colour, linewidth=2.4)

    rule = rules[radii[-1], NOTHING]
    axis.plot(rule["probabilities"], rule["shares"][0], color=GREY, linewidth=1.2,
              linestyle=(0, (1, 1.2)), label=f"radius {radii[-1]} px, else no lesion")
    axis.set(xlim=(0.6, 1.005), ylim=(-0.07, 1.03))
    axis.set_xlabel("probability P that the disc is the lesion")
    axis.set_ylabel("share of its pixels predicted")
    axis.grid(axis="y", color=FAINT, linewidth=0.5)
    axis.legend(loc="center left", title=f"else {ELSEWHERE}", alignment="left")


def draw_sizes(axis, sizes, alpha):
    """The ratio of each slice against the share of its pixels that is lesion."""
    for at, (name, found) in enumerate(sizes.items()):
        seen = np.isfinite(found["slices"]) & (found["slices"] > 0)
        axis.loglog(100 * found["shares"][seen], found["slices"][seen],
                    MARKERS[at % len(MARKERS)], color=COLOURS[at % len(COLOURS)],
                    markersize=3, alpha=0.55, markeredgewidth=0,
                    label=f"{name}: {found['ratios'][REFERENCE]:.2g} in all")
    axis.axhline(1, color="#000000", linewidth=0.9)
    axis.set_xlabel("lesion, % of the slice's pixels")
    axis.set_ylabel(f"gradient of GDL / of L_B, alpha {alpha:g}")
    axis.grid(color=FAINT, linewidth=0.5)
    axis.legend(loc="best", markerscale=1.6)


def parse_arguments(argv):
    parser = argument_parser(__doc__, "python -m studies.decision_rule")
    add = parser.add_argument
    add("--data", nargs="*", type=Path, default=[], metavar="FOLDER",
        help="data folders of preprocess.py on which gradients are compared")
    add("--out", required=True, type=Path, metavar="FOLDER",
        help="where the table and the figure go")
    add("--alpha", type=float, default=0.01, help="weight of the GDL (default 0.01)")
    args = parser.parse_args(argv)
    if not 0 < args.alpha < 1:
        parser.error(f"--alpha: above 0 and below 1, found {args.alpha:g}")
    return args


def main(argv=None):
    args = parse_arguments(argv)
    for data in args.data:
        folder.refuse_unfinished(data)
    table = args.out / "decision_rule.csv"
    refuse_inputs([table], [], begins_with("experiment,"))

    rules = {(radius, alternative): rule_of(radius, alternative, PROBABILITIES)
             for alternative in (ELSEWHERE, NOTHING) for radius in RADII}
    folders = [data.resolve() for data in args.data]
    sizes = {apart(data, folders): ratios_of(data, args.alpha) for data in folders}

    args.out.mkdir(parents=True, exist_ok=True)
    rows = tidy_rows(rules, sizes, args.alpha)
    write_csv(table, rows)
    with matplotlib.rc_context(PLOT_STYLE):
        save("decision_rule", args.out, *draw(rules, sizes, args.alpha))

    for row in rows:
        optimised = "" if row["optimised"] is None else f" (optimised: {row['optimised']:.3f})"
        log(f"{row['case']}: {row['quantity']} {row['value']:.3f}{optimised}")
    log(str(table))
    return 0
