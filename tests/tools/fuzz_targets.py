"""What `make fuzz` and test_hostile.py feed to the programs: every file from outside.

A target is a list of Cases in a folder of valid files. An input becomes one of these files (see
fuzz_inputs.py); the programs' own readers then take the whole folder. UserError is the only error
that they may raise.
"""

import contextlib
import functools
import gzip
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import jinja2

import main
import predict
import report
from conftest import run, train, write_wmh_subject
from dataloader import Slices
from fuzz_inputs import (
    CALL,
    VALUES,
    Case,
    Target,
    cases_of,
    csv_cases,
    json_cases,
    pack_record,
    pack_state,
    pack_zip,
)
from reporting import figures
from reporting.page import build
from scans import (
    checks,
    convert,
    datasets,
    dataverse,
    download,
    resampling,
    server,
    splits,
    unlabelled,
    zenodo,
)
from scans.folder import read_dataset
from scans.geometry import BY_PREDICT
from scoring import masks, status
from studies import claims
from training import config, ensemble, monitor
from training.parallel import Group
from training.stopping import StopRequest
from utils import UserError, remove, write_json

RUNS = {loss: f"results/{loss}/seed0" for loss in ("gdl", "gdl+boundary")}
ENVIRONMENT = jinja2.Environment
RAW, SUBJECT, WMH = "raw", "s0", datasets.DATASETS["wmh"]


def make_valid(folder):
    """Write the valid files: scans, a data folder, two runs with evaluation, claims and table.

    The folder becomes the working directory.
    """
    os.chdir(folder)
    for number in range(3):
        write_wmh_subject(Path(RAW) / f"s{number}", shape=(16, 13, 3), seed=number)
    steps = [run("preprocess.py", "--layout", "wmh", "--raw", RAW, "--out", "data", "--size", 32,
                 "--val", 1)]

    for loss, place in RUNS.items():
        steps += [train("data", place, "--width", 1, loss=loss, epochs=2),
                  run("evaluate.py", "--predictions", f"{place}/predictions", "--data", "data",
                      "--csv", f"{place}/evaluation.csv", "--summary", f"{place}/evaluation.json")]
        for events in Path(place).glob("events*"):
            events.unlink()

    steps.append(run("report.py", "--runs", "results", "--data", "data", "--only", "table"))
    curves = {"disc": {"sizes": [1, 2], "errors": [0.1, 0.01], "order": 1}}
    write_json("results/claims.json", {"runs": {}, "claims": {
        "C1": {"claim": "better DSC", **claims.claim("supported", "0.1")},
        "C9": {"claim": "Eq. 3 and 4", **claims.claim("supported", "orders"), "curves": curves}}})

    failed = [step.stderr for step in steps if step.returncode]
    assert not failed, failed


# NIfTI --------------------------------------------------------------------------------------------

def fuzzed_scan():
    return next(subject for subject in datasets.find_subjects(RAW, WMH) if subject.name == SUBJECT)


def verify_scan():
    datasets.is_phantom(fuzzed_scan())
    problems, _, _ = checks.inspect_subject(fuzzed_scan(), WMH)
    if problems:
        raise UserError("the scan", "no problem", problems[0], "")


def predict_scan():
    unlabelled.read_scan(fuzzed_scan().files, list(WMH.modalities))


def score_scan():
    label = fuzzed_scan().files["label"][0]
    rules = masks.Rules(ignored=(2,), lesions=True)
    masks.score_pair(label, Path(RAW) / "s1" / label.name, rules)


def convert_scan():
    """What preprocess.py makes of a scan that passed its checks."""
    verify_scan()
    subject = fuzzed_scan()
    volumes = checks.inspect_subject(subject, WMH)[2]
    settings = read_dataset(Path("data"))
    convert.convert_subject(subject, volumes, WMH, Path("scratch"), settings)


def nifti(folder):
    """Headers and voxels, packed with a right checksum whatever they say; and .nii.gz as bytes."""
    def pack(data):
        return gzip.compress(data, 1, mtime=0)

    scan, cases = folder / RAW / SUBJECT, []
    (folder / "scratch").mkdir(exist_ok=True)
    for path, readers in ((scan / "wmh.nii.gz", (verify_scan, score_scan, convert_scan)),
                          (scan / "pre/FLAIR.nii.gz", (verify_scan, predict_scan, convert_scan))):
        whole = path.read_bytes()
        cases += [Case(path, read, pack, (gzip.decompress(whole),)) for read in readers]
        cases.append(Case(path, readers[1], seeds=(whole,)))
    return Target(cases)


# Archives and the server's list -------------------------------------------------------------------

MEMBER = "training/Utrecht/0/pre/FLAIR.nii.gz"
MEMBERS = (
    f"{MEMBER}|33188|0|abc|1", f"{MEMBER}|33188|8|abc|50", f"../{MEMBER}|33188|8|x|1",
    f"/{MEMBER}|33188|0|x|1", f"{MEMBER}|41471|0|/etc/passwd|1", f"{MEMBER}/x|33188|0|x|1",
    "a/wmh.nii/|16877|0||1", f"c:\\{MEMBER}|33188|0|x|1", f"{MEMBER}|33188|12|abc|1",
    f"{MEMBER}|33188|14|abc|1", f"__MACOSX/{MEMBER}|33188|0|x|1", "wmh.nii.gz|33188|8|y|1000")
ON_SERVER = (("training/a/0/pre", "FLAIR.nii.gz"), ("training/a/0/pre", "T1.nii.gz"),
             ("training/a/0", "wmh.nii.gz"),
             ("additional_annotations/observer_o3/training/a/0", "result.nii.gz"))


def unpack():
    try:
        download.unpack_archives([Path("zips/Utrecht.zip")], Path("zips/wmh"), WMH, {})
        download.scans_below(Path("zips"), WMH)
    finally:
        remove("zips/wmh")


@contextlib.contextmanager
def answering(name):
    """Every server answers with the content of this file."""
    body = Path(name).read_bytes()
    answer = contextlib.nullcontext(SimpleNamespace(iter_content=lambda size: iter([body])))
    with mock.patch.object(server, "get", lambda *_, **__: answer):
        yield


def server_list():
    """dataverse.list_files on an answer of any content."""
    with answering("answer.json"):
        dataverse.list_files(None, "https://example.org", True)


def server_record():
    """What zenodo.py takes from a record of any content."""
    with answering("record.json"):
        record = zenodo.newest_record(None, "https://example.org")
        zenodo.file_entry(record, zenodo.training_archive(record, None, "raw"))


def archives(folder):
    """Zips by their members and as bytes, and what a server says about its files."""
    (folder / "zips").mkdir(exist_ok=True)
    path, lines = folder / "zips" / "Utrecht.zip", [line.encode() for line in MEMBERS]

    files = [{"directoryLabel": place,
              "dataFile": {"filename": name, "id": 1, "filesize": 5,
                           "checksum": {"type": "SHA-1", "value": "0" * 40}}}
             for place, name in ON_SERVER]
    answer = folder / "answer.json"
    write_json(answer, {"data": {"latestVersion": {"files": files}}})

    entry = {"key": "ISLES2018_Training.zip", "size": 5, "checksum": "md5:" + "0" * 32,
             "links": {"self": "https://example.org/a"}}
    record = folder / "record.json"
    write_json(record, {"doi": "d", "metadata": {"title": "t", "license": {"id": "l"}},
                        "links": {"latest": "https://example.org/b"}, "files": [entry]})

    return Target([Case(path, unpack, pack_zip, (*lines, b"\n".join(lines[:2] + lines[-1:]))),
                   Case(path, unpack, seeds=tuple(map(pack_zip, lines))),
                   *json_cases(answer, server_list), *json_cases(record, server_record)])


# Tables -------------------------------------------------------------------------------------------

NAMES = ("s0", "s1", "s2")


def tables(folder):
    """split.csv and patients.csv as somebody may write them, alone and together."""
    path, other = folder / "split.csv", folder / "patients.csv"
    other.write_text("subject,patient\ns0,a\ns1,a\ns2,b\n")

    def read_split():
        splits.choose_split(NAMES, "split.csv", 1, 0)

    def read_patients():
        patients = splits.read_patients("patients.csv", NAMES)
        splits.choose_split(NAMES, "random", 1, 0, patients)

    def read_both():
        patients = splits.read_patients("patients.csv", NAMES)
        split = splits.choose_split(NAMES, "split.csv", 1, 0, patients)
        splits.split_settings("split.csv", 1, 0, split, patients)
        splits.check_written(path, split)

    split = b"subject,subset\ns0,train\ns1,train\ns2,val\n"
    path.write_bytes(split)
    other_signs = b'\xef\xbb\xbf"subject";"subset"\r\n'
    return Target([Case(path, read_split, seeds=(split, other_signs)),
                   *csv_cases(other, read_patients), *csv_cases(path, read_both)])


# Checkpoints --------------------------------------------------------------------------------------

def checkpoints(folder):
    """last.pt of a run that goes on, best.pt of one that predicts.

    Each as it is, with one of its values replaced, and with any pickle in a sound zip.
    """
    place = Path(RUNS["gdl"])
    options = main.parse_arguments([
        "--data", "data", "--out", str(place), "--loss", "gdl", "--width", "1", "--epochs", "3",
        "--threads", "1", "--quiet"])
    train = config.open_training(options)
    trainer, val, run_folder = main.prepare(options, train, Group(alone=True))
    bar, stop = SimpleNamespace(update=lambda: None), StopRequest(run_folder, trainer.group)
    silent = SimpleNamespace(report=lambda *_: None, close=lambda: None)
    last, best = (folder / place / name for name in ("last.pt", "best.pt"))
    table, keep = (folder / place / "metrics.csv").read_bytes(), best.read_bytes()

    def go_on():
        try:
            run_folder.resume()
            options.epochs = run_folder.epoch + 1
            with mock.patch.object(monitor, "Monitor", lambda *_, **__: silent):
                main.run_epochs(options, trainer, train, val, run_folder, stop, bar)
        finally:
            for name in ("previous.pt", "last.damaged.pt", "last.best.pt", "previous.best.pt"):
                remove(place / name)
            (place / "metrics.csv").write_bytes(table)
            (place / "best.pt").write_bytes(keep)

    def segment():
        members = ensemble.load_members([best], trainer.device)
        model = members[0].trained
        predict.describe(model, best)
        subject = datasets.find_subjects(RAW, WMH)[0]
        if model.data.source != "phantom":
            unlabelled.find_scans([RAW], model.data)
        files = {name: subject.files[name] for name in WMH.modalities}
        loaded = predict.Model(members, trainer.device, BY_PREDICT)
        predict.predict_scan(subject.name, files, loaded, SimpleNamespace(
            batch_size=8, probabilities=False, preview=False, out=Path("masks"), mirror=False,
            restore="nearest"))

    cases = []
    for path, read in ((last, go_on), (best, segment)):
        whole = path.read_bytes()
        pack, pickled = pack_record(whole, "data.pkl")
        cases += [Case(path, read, pack_state(whole), VALUES),
                  Case(path, read, pack, (pickled, CALL)),
                  Case(path, read, seeds=(whole,))]
    return Target(cases)


# Run and data folders -----------------------------------------------------------------------------

def read_runs():
    """What status.py, main.py and report.py read of a set of runs, without the pictures."""
    status.main(["results"])
    with contextlib.suppress(UserError):
        args = main.parse_arguments(["--data", "data", "--out", RUNS["gdl"], "--loss", "gdl",
                                     "--width", "1", "--epochs", "2"])
        args.batch_size = 8
        config.checked_settings(args, Slices("data", "train"), Path(RUNS["gdl"]))
    with (mock.patch.object(figures, "draw_all", lambda *_: []),
          mock.patch.object(jinja2, "Environment", environment)):
        draw_page()


def draw_page():
    """report.py, figures and page."""
    with mock.patch.object(build, "git_commit", lambda: "unknown"):  # which starts a process
        report.main(["--runs", "results", "--data", "data"])


@functools.cache
def template(loader):
    return ENVIRONMENT(loader=jinja2.FileSystemLoader(loader), autoescape=True, trim_blocks=True,
                       lstrip_blocks=True, undefined=jinja2.StrictUndefined)


def environment(loader, **_):
    """report.html's Environment, kept: it compiles the template once and not for every input."""
    return template(loader.searchpath[0])


def run_files(folder):
    """What is read of a set of runs, without arrays."""
    place, results, data = folder / RUNS["gdl+boundary"], folder / "results", folder / "data"
    ablation = results / "ablation.csv"
    ablation.write_text("loss,map,seeds,metric,statistic,mean,difference,low,high\n"
                        "gdl,paper,2,val_dice,best,0.5,0.1,0,0.2\n")
    names = ("metrics.csv", "config.json", "summary.json", "evaluation.csv")
    return [*(place / name for name in names), ablation, results / "claims.json",
            data / "dataset.json", data / "fingerprint.json"]


def runs(folder):
    """Run folders, by all that reads them but the figures."""
    return Target([case for path in run_files(folder) for case in cases_of(path, read_runs)])


def page(folder):
    """As runs, with every figure."""
    arrays = folder / RUNS["gdl+boundary"] / "predictions.npz"
    paths = [*run_files(folder), arrays, *list(folder.glob("data/subjects/*/meta.json"))[:1]]
    return Target([case for path in paths for case in cases_of(path, draw_page)], slow=True)


def read_data():
    """What main.py reads of a data folder, and the masks that it writes."""
    for subset in ("train", "val"):
        slices = Slices("data", subset)
        slices.read(range(min(len(slices), 100)))
        masks = {scan.name: slices.labels()[scan.rows] for scan in slices.scans}
    resampling.export_predictions(masks, Path("data"), Path("masks"))


def data(folder):
    """A data folder: its tables, and the files of its first validation scan."""
    place = folder / "data"
    rows = (place / "split.csv").read_text().split()
    subject = place / "subjects" / min(row.split(",")[0] for row in rows if row.endswith("val"))
    arrays = ("meta.json", "images.npy", "labels.npy", "distance.npy")
    paths = [*(place / name for name in ("dataset.json", "fingerprint.json", "split.csv")),
             *(subject / name for name in arrays)]
    return Target([case for path in paths for case in cases_of(path, read_data)])


TARGETS = {target.__name__: target
           for target in (nifti, archives, tables, checkpoints, runs, data, page)}


def prepare(name, valid, folder):
    """The target in a fresh copy of the valid files, which becomes the working directory."""
    shutil.copytree(valid, folder)
    os.chdir(folder)
    return TARGETS[name](Path(folder))
