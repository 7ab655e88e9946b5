"""Every command behind a page, from the raw scans to the page itself."""

import shlex
from pathlib import Path

from scoring.run_times import preprocessing_time
from scoring.runs import about_data


def commands_of(results):
    """The commands of a set, in the order they are run in: [{"title", "lines"}].

    A stage is left out where its outputs are not there.
    """
    scored = [run for run in results.parts if (run.folder / "evaluation.csv").exists()]
    folder, data = places_of(results)
    stages = [("Preprocessing", [preprocess_command(results, data)]),
              ("Training", [train_command(run) for run in results.parts]),
              ("Scores on the scans' own grid", [evaluate_command(folder / run.name, data)
                                                 for run in scored])]
    if (results.folder / "claims.json").exists():
        stages.append(("Claims", [command("-m", "studies.claims", "--runs", folder, "--data",
                                          data)]))
    return [{"title": title, "lines": lines} for title, lines in stages if lines]


def places_of(results):
    """(folder of the runs, data folder); of a pack of results those that its runs name."""
    if results.data != results.folder / "data":
        return results.folder, results.data
    name = results.folder.name
    return Path("results", name), Path(results.runs[0].config.get("data") or Path("data", name))


def command(*words):
    """A line for a shell."""
    return shlex.join(["python", *map(str, words)])


def preprocess_command(results, folder):
    """The command as preprocess.py noted it, or the one that the data's settings amount to."""
    noted = preprocessing_time(results)
    if noted and noted.command:
        return noted.command

    data = results.dataset
    words = ["preprocess.py", "--layout", data.layout.partition(" ")[0], "--raw", "data/raw",
             "--out", folder, "--size", data.size]
    if data.fill:
        words += ["--fill", data.fill]
    if data.protocol != "paper":
        words += ["--protocol", data.protocol]
    for flag, key in (("--convention", "convention"), ("--unit", "unit"), ("--map-dims", "dims")):
        value = data.distance.get(key)
        if value != type(data.distance).model_fields[key].default:
            words += [flag, value]

    how, (*_, table) = data.split.get("how", "random"), about_data(results.data)
    if how != "random":
        words += ["--split", table if how == "table" else how]
    for key in ("val", "seed"):
        if data.split.get(key):
            words += [f"--{key}", data.split[key]]
    return command(*words)


def train_command(run):
    """The command as main.py noted it, or the one that the settings amount to."""
    if run.config.command:
        return run.config.command

    words = ["main.py", "--data", run.config.get("data", "data"), "--loss", run.config.loss,
             "--seed", run.config.seed, "--out", run.folder]
    for flag in ("network", "width", "epochs", "batch_size", "lr", "schedule", "protocol"):
        value = run.config.get(flag)
        words += [] if value is None else ["--" + flag.replace("_", "-"), value]
    return command(*words)


def evaluate_command(run, data):
    return command("evaluate.py", "--predictions", run / "predictions", "--data", data, "--csv",
                   run / "evaluation.csv", "--summary", run / "evaluation.json")
