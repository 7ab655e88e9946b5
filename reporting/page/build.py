"""report.html: what each part of the page shows, and the page itself."""

import base64
import hashlib
import shlex
import statistics
from pathlib import Path

import jinja2

from reporting import class_table, measures
from reporting.formats import caption
from reporting.measures import MEASURES, STATISTICS, measures_tables, statistic_in_words
from reporting.page.commands import commands_of
from reporting.page.curves import curves_view
from reporting.page.front import claim_list, finding, table_of_set, what_ran
from reporting.page.run_times import stages
from reporting.page.scores import (
    PER_SCAN,
    by_volume,
    evaluated_runs,
    evaluation_files,
    means_of,
    measure_changes,
    paired_differences,
    scan_scores,
    scatter,
)
from reporting.page.slices import BUDGET, browser
from reporting.page.words import (
    EVALUATED,
    duration,
    maps_in_words,
    rounded,
    setting_name,
    setting_value,
)
from scoring import test_table
from scoring.cases import validation_cases
from scoring.intervals import CHANGE, change_in_words
from scoring.rows import IN_WORDS, PAIR, PAPER, label
from scoring.run_files import Claims, number
from scoring.runs import without_foreground
from scoring.test_set import load_rows
from utils import git_commit, read_csv, read_description, read_json

# Entries of config.json: those about machine and code, and those in which runs differ by nature
ABOUT_MACHINE = ("device", "amp", "threads", "compile", "commit", "versions")
OF_EACH_RUN = ("loss", "seed", "fold", "steps_per_epoch", "sessions", "out", "command")

VERDICTS = ("supported", "refuted", "undecided", "not measured")
ABLATION_COLUMNS = ("loss", "map", "seeds", "metric", "statistic", "mean", "difference", "low",
                    "high")


# What is said about a set -------------------------------------------------------------------------

def set_view(results, index, table, reported, budget):
    """What the page says about a set besides the table, for the template.

    Args:
        index: number of the set on the page.
        table: of `table1.build_table`.
        reported: results/reported.json.
        budget: bytes for the slices of its scans.
    """
    settings, environment, varying = settings_of(results)
    scans, claims = scan_scores(results), claims_of(results)
    scatters = [scatter(scans, metric) for metric in PER_SCAN]
    has_masks = budget > 0 and bool(validation_cases(results)) and any(
        (part.folder / "predictions.npz").exists()
        for loss in PAIR for run in results.losses.get(loss, []) for part in run.parts)

    return {
        "set": results, "index": index, "finding": finding(results, claims),
        "table": table_of_set(results, table, index), "claim_list": claim_list(claims),
        "maps": maps_in_words(results.dataset.distance),
        "headlines": headlines(results),
        "last": statistic_in_words(results, "last").capitalize(),
        "claims": claims, "stale": claims_are_stale(results),
        "verdicts": count_verdicts(claims), "ran": what_ran(results), "empty": empty_runs(results),
        "measures": measures_tables(results), "empty_note": measures.empty_runs(results),
        "classes": class_table.class_table(results), "curves": curves_view(results, reported),
        "scans": scans, "paired": paired_differences(results),
        "scatters": [plot for plot in scatters if plot], "sizes": by_volume(results),
        "browser": browser(results, scans, budget) if has_masks else None,
        "settings": settings, "environment": environment, "varying": varying,
        "stages": stages(results), "commands": commands_of(results),
        "ablation": ablation_of(results), "test": test_set_of(results, reported),
        **evaluations_view(results)}


def headlines(results):
    """What the boundary term changed, measure by measure, over the last epochs and at the best one.

    [] until both losses have a finished run.

    Returns:
        [{"name", "last", "best": {"texts": (GDL, GDL + boundary, change with interval), "verdict":
        see `measure_changes`}}].
    """
    if not all(results.finished(loss) for loss in PAIR):
        return []

    changes = {statistic: measure_changes(results, statistic) for statistic in STATISTICS}
    found = []
    for measure in MEASURES:
        means = {statistic: means_of(results, measure, statistic) for statistic in STATISTICS}
        if any(None not in pair for pair in means.values()):
            found.append({"name": measure.title, **{
                statistic: pair_in_words(*means[statistic], changes[statistic].get(measure.key),
                                         measure.digits) for statistic in STATISTICS}})
    return found


def pair_in_words(gdl, both, change, digits):
    """{"texts", "verdict"} of a measure of GDL and GDL + boundary, either of them perhaps None.

    Args:
        change: of `measure_changes`; None where it has none of this measure.
    """
    if gdl is None or both is None:
        return {"texts": ["–" if value is None else f"{value:.{digits}f}"
                          for value in (gdl, both)] + ["–"], "verdict": ""}
    text = f"{both - gdl:+.{digits}f}"
    if change and change["low"] is not None:
        text += f" [{change['low']:+.{digits}f}, {change['high']:+.{digits}f}]"
    return {"texts": [f"{gdl:.{digits}f}", f"{both:.{digits}f}", text],
            "verdict": change["verdict"] if change else ""}


def settings_of(results):
    """(settings, environment, varying) of a set's runs.

    The first two are {name: value} that all runs share, the third {name: {run: its value in words}}
    of the settings that differ.
    """
    configs = [part.config for part in results.parts]
    names = dict.fromkeys(name for config in configs for name in config.as_dict())
    shared = {key: value for key in names for value in [configs[0].get(key)]
              if all(config.get(key) == value for config in configs)}
    shared.pop("sessions", None)  # those of a resumed run; each repeats the entries below

    settings = {key: value for key, value in shared.items() if key not in ABOUT_MACHINE}
    environment = {key: value for key, value in shared.items()
                   if key in ABOUT_MACHINE and key != "versions"}
    environment |= {f"version of {name}": value
                    for name, value in shared.get("versions", {}).items()}

    varying = {name: {run.name: ", ".join(dict.fromkeys(setting_value(part.config.get(name))
                                                        for part in run.parts))
                      for run in results.runs}
               for name in sorted(set(names) - set(shared) - set(OF_EACH_RUN))}
    return settings, environment, varying


def claims_of(results):
    """{"C1": Claim, ...} that studies.claims measured on this set, {} before."""
    path = results.folder / "claims.json"
    if not path.exists():
        return {}
    return read_description(path, Claims, "Remove it, or repeat make claims.").claims


def count_verdicts(claims):
    """"2 supported, 1 refuted, 5 undecided, 3 not measured"; those there are."""
    found = [claim.verdict for claim in claims.values()]
    order = (*VERDICTS, *sorted({verdict for verdict in found if verdict} - set(VERDICTS)))
    return ", ".join(f"{found.count(verdict)} {verdict}" for verdict in order if verdict in found)


def empty_runs(results):
    """", of which these predict nothing at the best epoch or the last: gdl/seed1", or ""."""
    names = without_foreground([run for loss in PAPER for run in results.finished(loss)])
    return (f", of which these predict nothing at the best epoch or the last: {', '.join(names)}"
            if names else "")


def claims_are_stale(results):
    """Were the claims measured on other runs, or on runs of other lengths, than this page shows?"""
    path = results.folder / "claims.json"
    shown = {run.name: len(run.rows) for run in results.runs}
    return path.exists() and read_json(path).get("runs") != shown


def ablation_of(results):
    """ablation.csv as rows for the page.

    Returns:
        [{"loss", "map", "seeds", "empty": runs that predict nothing, "change", and a number for
        each metric and statistic}].
    """
    path = results.folder / "ablation.csv"
    if not path.exists():
        return []

    rows = {}
    table = read_csv(path, ABLATION_COLUMNS, "Remove it, or repeat make ablation.")
    for line, cells in enumerate(table, 2):
        mean, *change = (number(cells[key], path, line)
                         for key in ("mean", "difference", "low", "high"))
        row = rows.setdefault((cells["loss"], cells["map"]),
                              {key: cells[key] for key in ("loss", "map", "seeds")})
        row["empty"] = cells.get("runs_without_foreground", "0")
        row[f"{cells['metric']}_{cells['statistic']}"] = mean
        row["change"] = change_in_words(dict(zip(CHANGE, change, strict=True)))
    return list(rows.values())


def test_set_of(results, reported):
    """The challenge's test set, as `make wmh TEST=yes` has scored it.

    Returns:
        {"blocks", "notes", "stale"} for the template, blocks and notes of `test_table`; {"command"}
        where the challenge's own scans were trained on and its test set was not scored; else None.
    """
    rows = load_rows(results)
    if not rows:
        return {"command": test_table.COMMAND} if results.challenge == "wmh" else None
    beside = reported["wmh_test"] if test_table.is_official(results, rows) else None
    return {"blocks": test_table.build_blocks(rows, beside),
            "notes": test_table.notes_of(results, rows, beside),
            "stale": test_table.is_stale(results, rows)}


def evaluations_view(results):
    """What the page says about evaluation.csv.

    Returns:
        {"evaluations": [(run, `evaluation` of it)] of the runs that have it in all folds,
        "evaluated": the columns that any of them has, "unscored": names of the other runs}.
    """
    scored = evaluated_runs(results)
    found = [(run, evaluation(run)) for run in scored]
    return {"evaluations": found,
            "evaluated": [key for key in EVALUATED if any(key in means for _, means in found)],
            "unscored": [run.name for run in results.runs if run not in scored]}


def evaluation(run):
    """{column: text} of the numbers of evaluation.csv, each the mean over scans and classes.

    They are evaluate.py's scores on the scans' own grid.
    """
    count, values = 0, {}
    for path in evaluation_files(run):
        for line, row in enumerate(read_csv(path), 2):
            count += 1
            for key in EVALUATED:
                value = number(row.get(key, ""), path, line)
                if value is not None:
                    values.setdefault(key, []).append(value)

    return {key: f"{statistics.fmean(values[key]):.{digits}f} ({len(values[key])} of {count})"
            for key, (_, digits) in EVALUATED.items() if key in values}


# The page -----------------------------------------------------------------------------------------

def refuse_damaged(sets):
    """UserError if a file that the page alone shows cannot be read: before anything is written."""
    for results in sets:
        claims_of(results)
        ablation_of(results)
        load_rows(results)
        evaluations_view(results)


def html(sets, table, notes, elsewhere, drawn, words, reported, elapsed, budget=BUDGET):
    """The page as text.

    Args:
        sets: the ResultSets.
        table, elsewhere: of `table1.build_table` and `table1.reported_only`.
        notes: sentences below the table.
        drawn: of `figures.draw_all`.
        words: the arguments of report.py.
        reported: results/reported.json.
        elapsed: a function that gives the seconds since the program began.
        budget: bytes for the slices of the scans; 0: without them.
    """
    folder = Path(__file__).parent / "templates"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder), autoescape=True, trim_blocks=True,
        lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.globals |= {"label": label, "class_texts": class_table.texts,
                            "duration": duration, "names": IN_WORDS,
                            "evaluated": EVALUATED, "setting_name": setting_name,
                            "setting_value": setting_value,
                            "test_headings": test_table.headings()}

    environment.filters["rounded"] = rounded

    pictures = [{**figure, "data": base64.b64encode(figure["png"]).decode()} for figure in drawn
                if figure["png"]]
    parts = [set_view(results, index, table, reported, budget // len(sets))
             for index, results in enumerate(sets)]

    # the page forbids every script but this one
    script = environment.get_template("page.js").render()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("report.html").render(
        caption=caption(sets), titles=" and ".join(results.title for results in sets),
        table=table, notes=notes, elsewhere=elsewhere, figures=pictures, parts=parts,
        commit=git_commit(), seconds=elapsed(), phantom=any(results.is_phantom for results in sets),
        command=shlex.join(["python", "report.py", *map(str, words)]),
        script_hash=f"sha256-{digest}")
