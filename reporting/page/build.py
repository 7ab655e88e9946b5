"""report.html: what each part of the page shows, and the page itself."""

import base64
import hashlib
import shlex
import statistics
from pathlib import Path

import jinja2

from reporting import class_table
from reporting.formats import caption
from reporting.page.curves import curves
from reporting.page.run_times import in_words, stages
from reporting.page.scores import by_volume, paired_differences, scan_scores, scatter
from reporting.page.slices import BUDGET, browser
from reporting.table1 import cell, columns, heading
from scoring.rows import IN_WORDS, PAIR, label
from scoring.run_files import Claims
from scoring.runs import number
from utils import UserError, git_commit, read_csv, read_description, read_json

IN_PAGE = ("figure3", "figure3_mm")  # drawn by the page itself


def headlines(one):
    """What the boundary term changed, measure by measure; nothing while one of the two losses has no finished run."""
    parts = []
    if not all(one.finished(loss) for loss in ("gdl", "gdl+boundary")):
        return parts
    for metric, statistic in columns(one):
        if statistic == "reported" or metric[0] in ("hd_mm", "dsc_lesion"):
            continue
        pair = [cell(one, loss, metric, statistic, {}).mean for loss in ("gdl", "gdl+boundary")]
        if None not in pair:
            parts.append({"name": heading(one, metric, statistic), "gdl": f"{pair[0]:.{metric[3]}f}",
                          "both": f"{pair[1]:.{metric[3]}f}", "change": f"{pair[1] - pair[0]:+.{metric[3]}f}",
                          "better": (pair[1] < pair[0]) if metric[4] else (pair[1] > pair[0]),
                          "same": pair[0] == pair[1]})
    return parts


def describe(one, index, reported, budget):
    """What the page says about a set besides the table: claims, curves, scans, slices, settings, run time, data."""
    settings, environment, varying = settings_of(one)
    scans, claims = scan_scores(one), claims_of(one)
    has_masks = any((run.folder / "predictions.npz").exists() for loss in PAIR for run in one.losses.get(loss, []))
    return {"set": one, "index": index, "headlines": headlines(one), "claims": claims, "stale": claims_are_stale(one),
            "supported": sum(claim.verdict == "supported" for claim in claims.values()),
            "classes": class_table.class_table(one),
            "curves": curves(one, reported), "scans": scans, "paired": paired_differences(one),
            "scatters": [plot for metric in ("dsc_3d", "hd95") if (plot := scatter(scans, metric))],
            "sizes": by_volume(one), "browser": browser(one, scans, budget) if has_masks else None,
            "settings": settings, "environment": environment, "varying": varying, "stages": stages(one),
            "commands": [train_command(run) for run in one.runs], "ablation": ablation_of(one),
            "evaluations": [(run.name, evaluation(run)) for run in one.runs if (run.folder / "evaluation.csv").exists()]}


def settings_of(one):
    """(settings, environment) that all runs share, as {name: value}, and the names of settings that differ."""
    configs = [run.config.as_dict() for run in one.runs]
    shared = {key: value for key, value in configs[0].items() if all(config.get(key) == value for config in configs)}
    shared.pop("sessions", None)  # those of a resumed run; each has the other entries below anew

    about = ("device", "amp", "threads", "compile", "commit", "versions")
    environment = {key: value for key, value in shared.items() if key in about and key != "versions"}
    environment |= {f"version of {name}": value for name, value in shared.get("versions", {}).items()}

    varying = {key for config in configs for key in config} - set(shared) - {"loss", "seed", "sessions", "out", "command"}
    return {key: value for key, value in shared.items() if key not in about}, environment, sorted(varying)


def claims_of(one):
    """{"C1": Claim, ...} that studies.claims measured on this set, {} before."""
    path = one.folder / "claims.json"
    return read_description(path, Claims, "Remove it, or repeat make claims.").claims if path.exists() else {}


def claims_are_stale(one):
    """Were the claims measured on other runs, or on runs of other lengths, than this report shows?"""
    path = one.folder / "claims.json"
    return path.exists() and read_json(path).get("runs") != {run.name: len(run.rows) for run in one.runs}


def ablation_of(one):
    """ablation.csv as rows for the page: {"loss", "map", "seeds", "change", and a number for each of its columns}."""
    path = one.folder / "ablation.csv"
    if not path.exists():
        return []
    table = read_csv(path, ("loss", "map", "seeds", "metric", "statistic", "mean", "difference", "low", "high"),
                     "Remove it, or repeat make ablation.")
    rows = {}
    for line, cells in enumerate(table, 2):
        mean, *change = (number(cells[key], path, line) for key in ("mean", "difference", "low", "high"))
        row = rows.setdefault((cells["loss"], cells["map"]), {key: cells[key] for key in ("loss", "map", "seeds")})
        row[f"{cells['metric']}_{cells['statistic']}"] = mean
        row["change"] = None if None in change else "{:+.3f} [{:+.3f}, {:+.3f}]".format(*change)
    return list(rows.values())


def evaluation(run):
    """Mean over scans of each numeric column of evaluation.csv (native-grid scores by evaluate.py, over all classes)."""
    means = {}
    for line, row in enumerate(rows := read_csv(run.folder / "evaluation.csv"), 2):
        for key, text in row.items():
            if key in ("subject", "label"):  # names, also where they are numbers
                continue
            try:
                value = number(text, run.folder, line)
            except UserError:  # a column of words, such as the subject
                continue
            if value is not None:
                means.setdefault(key, []).append(value)
    return {key: f"{statistics.fmean(values):.3f} ({len(values)} of {len(rows)})" for key, values in means.items()}


def train_command(run):
    """The command as main.py noted it, or the one that the settings amount to."""
    if run.config.command:
        return run.config.command
    flags = ("network", "width", "epochs", "batch_size", "lr", "schedule", "protocol")
    words = ["python", "main.py", "--data", run.config.get("data", "data"), "--loss", run.config.loss,
             "--seed", run.config.seed, "--out", run.folder]
    for flag in flags:
        value = run.config.get(flag)
        words += [] if value is None else ["--" + flag.replace("_", "-"), value]
    return shlex.join(map(str, words))


def html(sets, table, remarks, elsewhere, drawn, words, reported, elapsed):
    """The page as text. `elapsed` gives the seconds since the program began."""
    folder = Path(__file__).parent / "templates"
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(folder), autoescape=True, trim_blocks=True,
                                     lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.globals |= {"label": label, "class_texts": class_table.texts, "in_words": in_words, "names": IN_WORDS}
    script = environment.get_template("page.js").render()
    pictures = [{**figure, "data": base64.b64encode(figure["png"]).decode()} for figure in drawn
                if figure["name"] not in IN_PAGE]
    parts = [describe(one, index, reported, BUDGET // len(sets)) for index, one in enumerate(sets)]
    return environment.get_template("report.html").render(
        caption=caption(sets), titles=" and ".join(one.title for one in sets), table=table, notes=remarks,
        elsewhere=elsewhere, figures=pictures, parts=parts, commit=git_commit(), seconds=elapsed(),
        command=shlex.join(["python", "report.py", *map(str, words)]), phantom=any(one.is_phantom for one in sets),
        script_hash=f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}")
