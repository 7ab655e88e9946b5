"""What `make fuzz` and test_hostile.py feed to the programs: every file that may come from somebody else, and who reads it.

A target is a list of Cases in a folder of valid files. An input's first byte picks the case, the rest becomes its file; the
programs' own readers then take the whole folder. UserError is the only error that they may raise.
"""

import contextlib
import functools
import gzip
import io
import json
import os
import shutil
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import jinja2
import torch

import main
import predict
import report
from conftest import run, train, write_wmh_subject
from dataloader import Slices
from reporting import figures
from reporting.page import build
from scans import checks, convert, datasets, dataverse, download, resampling, splits
from scans.folder import read_dataset
from scoring import masks, status
from studies import claims
from training import best_model, config
from utils import UserError, remove, write_json

RUNS = {loss: f"results/{loss}/seed0" for loss in ("gdl", "gdl+boundary")}
ENVIRONMENT = jinja2.Environment
RAW, SUBJECT, WMH = "raw", "s0", datasets.DATASETS["wmh"]


@dataclass
class Case:
    """One file that an input becomes, and what then reads it."""
    path: Path                       # below the folder of valid files
    read: callable                   # without arguments; UserError is fine
    pack: callable = bytes           # input -> content of the file
    seeds: tuple = ()                # inputs to begin with

    def __post_init__(self):
        self.valid = self.path.read_bytes() if self.path.exists() else self.pack(self.seeds[0])


class Target:
    """A list of Cases; called with an input, raises what the programs raise, except UserError."""

    def __init__(self, cases):
        self.cases, self.last = cases, cases[0]
        self.seeds = [bytes([number]) + seed for number, case in enumerate(cases) for seed in case.seeds]

    def __call__(self, data):
        """Returns True if the programs took the input, False if they refused it with a UserError."""
        case = self.cases[(data[0] if data else 0) % len(self.cases)]
        self.last.path.write_bytes(self.last.valid)
        self.last = case
        case.path.write_bytes(case.pack(data[1:]))
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                case.read()
            return True
        except UserError as error:
            assert "\n" not in " ".join(str(error).split())
            return False


VALUES = tuple(bytes([0, number]) + value for number, value in enumerate((
    b"null", b"-1", b"[]", b"{}", b"NaN", b"1e999", b"true", b'"x"', b"[[1, 2], [3]]", b"99999999999999999999", b"0", b"0.5")))


def nodes(value):
    """(container, key) of everything inside nested dicts and lists."""
    for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(inner, dict | list):
            yield from nodes(inner)


def edit(value, data):
    """Replace one node of a nested value in place: two bytes say which, the others are JSON, or else a text."""
    places, text = list(nodes(value)), data[2:].decode("utf-8", "replace")
    container, key = places[int.from_bytes(data[:2], "big") % len(places)]
    try:
        container[key] = json.loads(text)
    except (ValueError, RecursionError):
        container[key] = text
    return value


def as_json(path, read):
    """Two cases: any bytes, and the valid file with one value replaced."""
    whole = path.read_bytes()
    return [Case(path, read, seeds=(whole,)), Case(path, read, lambda data: json.dumps(edit(json.loads(whole), data)).encode(),
                                                   VALUES)]


def as_csv(path, read):
    """Two cases: any bytes, and the valid file with one cell replaced."""
    whole = path.read_bytes()

    def pack(data):
        table = [line.split(",") for line in whole.decode().splitlines()]
        return "\n".join(",".join(map(str, row)) for row in edit(dict(enumerate(table)), data).values() if isinstance(row, list)
                         ).encode("utf-8", "replace")
    return [Case(path, read, seeds=(whole,)), Case(path, read, pack, (*VALUES, b"\0\1", b"\0\1inf", b'\0\1"'))]


def readable(path, read):
    if path.suffix in (".json", ".csv"):
        return {".json": as_json, ".csv": as_csv}[path.suffix](path, read)
    return [Case(path, read, seeds=(path.read_bytes(),))]


def make_valid(folder):
    """Write the valid files: scans, a data folder, two runs with evaluation, claims and table. Needs the working directory."""
    os.chdir(folder)
    for number in range(3):
        write_wmh_subject(Path(RAW) / f"s{number}", shape=(16, 13, 3), seed=number)
    steps = [run("preprocess.py", "--layout", "wmh", "--raw", RAW, "--out", "data", "--size", 32, "--val", 1)]
    for loss, place in RUNS.items():
        steps += [train("data", place, "--width", 1, loss=loss, epochs=2),
                  run("evaluate.py", "--predictions", f"{place}/predictions", "--data", "data", "--csv",
                      f"{place}/evaluation.csv", "--summary", f"{place}/evaluation.json")]
        for events in Path(place).glob("events*"):
            events.unlink()
    steps.append(run("report.py", "--runs", "results", "--data", "data", "--only", "table"))
    write_json("results/claims.json", {"runs": {}, "claims": {
        "C1": {"claim": "better DSC", **claims.claim("supported", "0.1")},
        "C9": {"claim": "Eq. 3 and 4", **claims.claim("supported", "orders"), "curves": {
            "disc": {"sizes": [1, 2], "errors": [0.1, 0.01], "order": 1}}}}})
    failed = [step.stderr for step in steps if step.returncode]
    assert not failed, failed


# NIfTI ------------------------------------------------------------------------------------------------------------------

def fuzzed_scan():
    return next(one for one in datasets.find_subjects(RAW, WMH) if one.name == SUBJECT)


def verify_scan():
    datasets.is_phantom(fuzzed_scan())
    problems, _, _ = checks.inspect_subject(fuzzed_scan(), WMH)
    if problems:
        raise UserError("the scan", "no problem", problems[0], "")


def predict_scan():
    predict.read_scan(fuzzed_scan().files, list(WMH.modalities))


def score_scan():
    label = fuzzed_scan().files["label"][0]
    masks.score_pair(label, Path(RAW) / "s1" / label.name, [1], [2], "diagonal")


def convert_scan():
    """What preprocess.py makes of a scan that passed its checks."""
    verify_scan()
    subject = fuzzed_scan()
    volumes = checks.inspect_subject(subject, WMH)[2]
    convert.convert_subject(subject, volumes, WMH, Path("scratch"), read_dataset(Path("data")))


def nifti(folder):
    """Headers and voxels, packed so that the checksum is right whatever they say; and whole .nii.gz as bytes."""
    flair, label = (folder / RAW / SUBJECT / name for name in ("pre/FLAIR.nii.gz", "wmh.nii.gz"))
    (folder / "scratch").mkdir(exist_ok=True)
    cases = []
    for path, readers in ((label, (verify_scan, score_scan, convert_scan)), (flair, (verify_scan, predict_scan, convert_scan))):
        whole = path.read_bytes()
        cases += [Case(path, read, lambda data: gzip.compress(data, 1, mtime=0), (gzip.decompress(whole),)) for read in readers]
        cases.append(Case(path, readers[1], seeds=(whole,)))
    return Target(cases)


# Archives and the server's list -----------------------------------------------------------------------------------------

MEMBER = "training/Utrecht/0/pre/FLAIR.nii.gz"
MEMBERS = (f"{MEMBER}|33188|0|abc|1", f"{MEMBER}|33188|8|abc|50", f"../{MEMBER}|33188|8|x|1", f"/{MEMBER}|33188|0|x|1",
           f"{MEMBER}|41471|0|/etc/passwd|1", f"{MEMBER}/x|33188|0|x|1", "a/wmh.nii/|16877|0||1", f"c:\\{MEMBER}|33188|0|x|1",
           f"{MEMBER}|33188|12|abc|1", f"{MEMBER}|33188|14|abc|1", f"__MACOSX/{MEMBER}|33188|0|x|1",
           "wmh.nii.gz|33188|8|y|1000")


def pack_zip(data):
    """A zip whose members stand one in a line: name, mode, compression, content and how often, with | between them."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive, warnings.catch_warnings(action="ignore"):  # names that occur twice
        for line in data.split(b"\n")[:50]:
            name, mode, method, content, count = [*line.split(b"|"), *[b""] * 5][:5]
            item = zipfile.ZipInfo(name.decode("utf-8", "replace") or "x")
            item.external_attr = number(mode, 2 ** 16) << 16
            item.compress_type = number(method, 15) if number(method, 15) in (0, 8, 12, 14) else 0
            with contextlib.suppress(UnicodeEncodeError):
                archive.writestr(item, content * number(count, 2000))
    return file.getvalue()


def number(text, limit):
    return int(text) % limit if text.isdigit() and len(text) < 10 else 1


def unpack():
    try:
        download.unpack_archives([Path("zips/Utrecht.zip")], Path("zips/wmh"), WMH, {})
        download.scans_below(Path("zips"), WMH)
    finally:
        remove("zips/wmh")


def server_list():
    """dataverse.list_files on an answer of any content."""
    body = Path("answer.json").read_bytes()
    answer = contextlib.nullcontext(SimpleNamespace(iter_content=lambda size: iter([body])))
    with mock.patch.object(dataverse, "get", lambda *_, **__: answer):
        dataverse.list_files(None, "https://example.org", True)


def archives(folder):
    (folder / "zips").mkdir(exist_ok=True)
    path, lines = folder / "zips" / "Utrecht.zip", [line.encode() for line in MEMBERS]
    files = [{"directoryLabel": place, "dataFile": {"filename": name, "id": 1, "filesize": 5, "md5": "0" * 32}}
             for place, name in (("training/a/0/pre", "FLAIR.nii.gz"), ("training/a/0/pre", "T1.nii.gz"),
                                 ("training/a/0", "wmh.nii.gz"), ("additional_annotations/observer_o3/training/a/0",
                                                                  "result.nii.gz"))]
    answer = folder / "answer.json"
    write_json(answer, {"data": {"latestVersion": {"files": files}}})
    return Target([Case(path, unpack, pack_zip, (*lines, b"\n".join(lines[:2] + lines[-1:]))),
                   Case(path, unpack, seeds=tuple(map(pack_zip, lines))), *as_json(answer, server_list)])


# Tables -----------------------------------------------------------------------------------------------------------------

NAMES = ("s0", "s1", "s2")


def tables(folder):
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
    return Target([Case(path, read_split, seeds=(split, b'\xef\xbb\xbf"subject";"subset"\r\n')), *as_csv(other, read_patients),
                   *as_csv(path, read_both)])


# Checkpoints ------------------------------------------------------------------------------------------------------------

CALL = b"\x80\x02cposix\nsystem\nX\x0b\x00\x00\x00touch owned\x85R."  # a pickle that runs a command where it is trusted


def pack_record(whole, record):
    """A function of bytes: the checkpoint `whole` with that record replaced, and right checksums."""
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        records = {item.filename: archive.read(item) for item in archive.infolist()}
    name = next(key for key in records if key.endswith(record))

    def pack(data):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for key, content in {**records, name: data}.items():
                archive.writestr(key, content)
        return file.getvalue()
    return pack, records[name]


def pack_state(whole):
    """A function of bytes: the checkpoint `whole` with one of its values replaced."""
    def pack(data):
        file = io.BytesIO()
        torch.save(edit(torch.load(io.BytesIO(whole), weights_only=True), data), file)
        return file.getvalue()
    return pack


def checkpoints(folder):
    """last.pt of a run that goes on, best.pt of one that predicts: as they are, and with any pickle in a sound zip."""
    place = Path(RUNS["gdl"])
    options = main.parse_arguments(["--data", "data", "--out", str(place), "--loss", "gdl", "--width", "1", "--epochs", "3",
                                    "--threads", "1", "--quiet"])
    one = main.Run(options, config.open_training(options))
    one.live = SimpleNamespace(report=lambda *_: None)
    bar = SimpleNamespace(update=lambda: None)
    last, best = (folder / place / name for name in ("last.pt", "best.pt"))
    table, keep = (folder / place / "metrics.csv").read_bytes(), best.read_bytes()

    def go_on():
        try:
            one.load_checkpoint()
            one.one_epoch(bar)
        finally:
            for name in ("previous.pt", "last.damaged.pt"):
                remove(place / name)
            (place / "metrics.csv").write_bytes(table)
            (place / "best.pt").write_bytes(keep)

    def segment():
        network, state = best_model.load_model(best, one.device)
        predict.describe(state, best)
        subject = datasets.find_subjects(RAW, WMH)[0]
        if state["data"]["source"] != "phantom":
            predict.find_scans([RAW], state["data"])
        files = {name: subject.files[name] for name in WMH.modalities}
        predict.predict_scan(subject.name, files, (network, state, one.device, None), SimpleNamespace(
            batch_size=8, probabilities=False, preview=False, out=Path("masks")))
    cases = []
    for path, read in ((last, go_on), (best, segment)):
        whole = path.read_bytes()
        pack, pickled = pack_record(whole, "data.pkl")
        cases += [Case(path, read, pack_state(whole), VALUES), Case(path, read, pack, (pickled, CALL)),
                  Case(path, read, seeds=(whole,))]
    return Target(cases)


# Run and data folders ---------------------------------------------------------------------------------------------------

def read_runs():
    """What status.py, main.py and report.py read of a set of runs, without the pictures."""
    status.main(["results"])
    with contextlib.suppress(UserError):
        args = main.parse_arguments(["--data", "data", "--out", RUNS["gdl"], "--loss", "gdl", "--width", "1", "--epochs", "2"])
        args.batch_size = 8
        config.checked_settings(args, Slices("data", "train"), Path(RUNS["gdl"]))
    with mock.patch.object(figures, "draw_all", lambda *_: []), mock.patch.object(jinja2, "Environment", environment):
        draw_page()


def draw_page():
    """report.py, figures and page."""
    with mock.patch.object(build, "git_commit", lambda: "unknown"):  # which starts a process
        report.main(["--runs", "results", "--data", "data"])


@functools.cache
def template(loader):
    return ENVIRONMENT(loader=jinja2.FileSystemLoader(loader), autoescape=True, trim_blocks=True, lstrip_blocks=True,
                       undefined=jinja2.StrictUndefined)


def environment(loader, **_):
    """report.html's Environment, kept, so that it compiles the template once and not for every input."""
    return template(loader.searchpath[0])


def run_files(folder):
    place = folder / RUNS["gdl+boundary"]
    ablation = folder / "results" / "ablation.csv"
    ablation.write_text("loss,map,seeds,metric,statistic,mean,difference,low,high\ngdl,paper,2,val_dice,best,0.5,0.1,0,0.2\n")
    return [*(place / name for name in ("metrics.csv", "config.json", "summary.json", "evaluation.csv")), ablation,
            folder / "results" / "claims.json", *(folder / "data" / name for name in ("dataset.json", "fingerprint.json"))]


def runs(folder):
    return Target([case for path in run_files(folder) for case in readable(path, read_runs)])


def page(folder):
    """As runs, with every figure: a second an input."""
    more = [folder / RUNS["gdl+boundary"] / "predictions.npz", *folder.glob("data/subjects/*/meta.json")][:2]
    return Target([case for path in [*run_files(folder), *more] for case in readable(path, draw_page)])


def read_data():
    for subset in ("train", "val"):
        slices = Slices("data", subset)
        slices.read(range(min(len(slices), 100)))
        masks = {scan.name: slices.labels()[scan.rows] for scan in slices.scans}
    resampling.export_predictions(masks, Path("data"), Path("masks"))


def data(folder):
    subject = next(path.parent for path in sorted(folder.glob("data/subjects/*/meta.json")) if path.parent.name in
                   [row.split(",")[0] for row in (folder / "data/split.csv").read_text().split() if row.endswith("val")])
    paths = [*(folder / "data" / name for name in ("dataset.json", "fingerprint.json", "split.csv")),
             *(subject / name for name in ("meta.json", "images.npy", "labels.npy", "distance.npy"))]
    return Target([case for path in paths for case in readable(path, read_data)])


TARGETS = {one.__name__: one for one in (nifti, archives, tables, checkpoints, runs, data, page)}


def prepare(name, valid, folder):
    """The target in a fresh copy of the valid files, which becomes the working directory."""
    shutil.copytree(valid, folder)
    os.chdir(folder)
    return TARGETS[name](Path(folder))
