"""The Makefile: help, what it would run, and one whole chain on a few small scans."""

import csv
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import forked_python
from checkout import ROOT, copy_programs
from conftest import run_apart, write_wmh_subject
from raw_folders import TOML, write_image, write_toml

OF_A_MAKE_ABOVE = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "PY")


def make(*words, folder=ROOT, python="forked", **more):
    """Run make as from a shell: `make test` hands its own flags and level down to what it runs.

    Args:
        python: for PY; "forked": one that starts at once, None: make's own environment.
        more: variables of the shell.
    """
    environment = {name: value for name, value in os.environ.items() if name not in OF_A_MAKE_ABOVE}
    python = forked_python.path() if python == "forked" else python
    given = [] if python is None else [f"PY={python}"]
    return subprocess.run(
        ["make", *given, *map(str, words)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        env={**environment, **more},
    )


@pytest.fixture
def clone(tmp_path):
    """The programs alone, so that data/ and results/ of the checkout stay as they are."""
    return copy_programs(
        tmp_path / "clone",
        "Makefile",
        "results/reported.json",
        *(path.name for path in ROOT.glob("*.txt")),
    )


def test_make_alone_lists_the_targets():
    result = make()
    assert result.returncode == 0
    for target in (
        "demo",
        "wmh",
        "isles",
        "custom",
        "verify",
        "status",
        "table",
        "figures",
        "test",
        "clean",
    ):
        assert f"make {target} " in result.stdout


def test_status_asks_for_the_runs_of_the_matrix(clone):
    assert "-m scoring.status results/mine --losses gdl --seeds 3 4" in " ".join(
        make("-n", "status", "NAME=mine", "LOSSES=gdl", "SEEDS=3 4", folder=clone)
        .stdout.replace("\\\n", " ")
        .split()
    )
    assert make("status", folder=clone).returncode == 2  # no runs


def test_status_names_no_seeds_that_nobody_asked_for(clone):
    """Its defaults would hide a third seed, and all runs of folds."""
    plan = make("-n", "status", "NAME=mine", "LOSSES=gdl", folder=clone).stdout
    assert "--losses gdl" in plan and "--seeds" not in plan


@pytest.mark.parametrize(
    "target, variable, option",
    [
        ("wmh", "OBSERVERS", "--observers"),
        ("isles", "ANY_MD5", "--any-md5"),
        ("publish", "WEIGHTS", "--weights"),
        ("publish", "SCANS", "--scans"),
    ],
)
def test_no_means_no(clone, target, variable, option):
    for word, passed in (("yes", True), ("no", False)):
        words = [target, f"{variable}={word}", *(["NAME=x"] if target == "publish" else [])]
        assert (option in make("-n", *words, folder=clone).stdout) == passed, (target, word)


def test_a_table_of_folds_says_how_many_it_must_have(clone):
    plan = make("-n", "chain", "NAME=x", "RAW=r", "SPLIT=t.csv", "FOLDS=3", folder=clone).stdout
    assert "--split='t.csv' --folds 3" in plan


def test_wmh_follows_the_papers_protocol(clone):
    write_wmh_subject(clone / "data" / "raw" / "a")
    write_wmh_subject(clone / "data" / "raw" / "b")
    plan = make("-n", "chain", "NAME=wmh", "LAYOUT=wmh", folder=clone).stdout
    lines = plan.replace("\\\n", " ").splitlines()
    trainings = [line for line in lines if "main.py" in line]
    assert len(trainings) == 6  # three losses, two seeds
    assert all(
        "--epochs 200 --network unet --width 64 --protocol paper" in line for line in trainings
    )
    assert sum("preprocess.py" in line and "--size 256" in line for line in lines) == 1


def test_volumes_are_a_set_of_their_own_with_3d_maps_in_mm(clone):
    plan = make("-n", "wmh", "DIMS=3", "PATCH=16 64 64", "FETCH=", folder=clone).stdout.replace(
        "\\\n", " "
    )
    plan = [" ".join(line.split()) for line in plan.splitlines()]
    assert (
        sum(
            "preprocess.py" in line
            and "--unit mm --map-dims 3 --raw='data/raw' --out data/wmh-dims3" in line
            for line in plan
        )
        == 1
    )
    trainings = [line for line in plan if "main.py" in line]
    assert len(trainings) == 6
    assert all(
        "--data data/wmh-dims3" in line
        and "--network unet3d" in line
        and "--dims 3 --patch 16 64 64" in line
        for line in trainings
    )


@pytest.mark.parametrize(
    "words, option",
    [
        (["ablation", "NAME=x", "DIMS=3"], "DIMS"),
        (["ablation", "NAME=x", "PROTOCOL=code2018"], "PROTOCOL"),
        (["wmh", "DIMS=3", "PROTOCOL=code2018"], "DIMS"),
        (["wmh", "LAYOUT=bids"], "LAYOUT"),
        (["custom", "NAME=x", "FOLDS=2", "VAL=1"], "FOLDS"),
        (["custom", "NAME=x", "FOLDS=2", "SPLIT=code2018"], "FOLDS"),
        (["demo", "NAME=x"], "NAME"),
        (["compare", "NAME=x", "LOSSES=gdl"], "LOSSES"),
        (["compare", "NAME=x", "TEST=yes"], "TEST"),
        (["sweep", "NAME=x", "LOSSES=gdl"], "LOSSES"),
        (["ablation", "NAME=x", "UNIT=mm"], "UNIT"),
    ],
)
def test_settings_that_exclude_each_other_are_refused_before_anything_is_trained(
    clone, words, option
):
    result = make(*words, folder=clone)
    assert (
        result.returncode == 2
        and f"{option}: expected " in result.stderr
        and not (clone / "data").exists()
    )


def test_the_challenges_sets_may_have_a_name_of_their_own(clone):
    for target in ("wmh", "isles"):
        plan = make("-n", target, "NAME=narrow", "DIMS=3", "FETCH=no", folder=clone).stdout
        assert f"--layout {target} " in plan and "--out data/narrow\n" in plan
        assert "results/narrow/gdl/seed0" in plan and f"results/{target}" not in plan


def test_a_name_chooses_the_set_of_tables_and_claims(clone):
    for name in ("a", "b"):
        (clone / "results" / name / "gdl" / "seed0").mkdir(parents=True)
        (clone / "results" / name / "gdl" / "seed0" / "metrics.csv").touch()
    for target in ("table", "figures", "claims"):
        assert "for set in a b;" in make("-n", target, folder=clone).stdout
        assert "for set in b;" in make("-n", target, "NAME=b", folder=clone).stdout
    plan = make("-n", "claims", "DEVICE=cuda:1 cpu", "THREADS=1", folder=clone).stdout
    assert "--device cuda:1 --threads 1" in plan.replace("\\\n", "")


@pytest.mark.parametrize("words, message", [
    (["SEEDS="], "SEEDS: expected at least one, found none"),
    (["LOSSES= "], "LOSSES: expected at least one"), (["DEVICE="], "DEVICE: expected at least one"),
    (["JOBS=0"], "JOBS: expected at least 1, found 0"),
    (["JOBS=-1"], "JOBS: expected at least 1, found -1"),
    (["GPUS=two"], "GPUS: expected at least 1, found two")])
def test_a_list_of_nothing_is_refused(clone, words, message):
    result = make("-n", "custom", "NAME=x", *words, folder=clone)
    assert result.returncode == 2 and f"*** {message}" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_folds_are_drawn_or_those_of_a_table_with_a_run_for_each(clone, tmp_path):
    table = tmp_path / "folds.csv"
    table.write_text("subject,subset\ns0,fold0\ns1,fold1\ns2,fold1\n")
    for words, split in (([], "--split folds:2 "), ([f"SPLIT={table}"], f"--split='{table}' ")):
        plan = make("-n", "custom", "NAME=x", "FOLDS=2", "LOSSES=gdl", "SEEDS=3", *words,
                    folder=clone).stdout.replace("\\\n", " ")
        data, = (line for line in plan.splitlines() if "preprocess.py" in line)
        assert split in data and data.count("--split") == 1
        runs = [" ".join(line.split()) for line in plan.splitlines() if "main.py" in line]
        assert ["--seed 3 --fold 0 --out results/x/gdl/seed3-fold0" in runs[0],
                "--seed 3 --fold 1 --out results/x/gdl/seed3-fold1" in runs[1]] == [True, True]


def test_seeds_and_rows_that_are_named_twice_are_trained_once(clone):
    twice, once = (make("-n", "custom", "NAME=x", *words, folder=clone).stdout for words in (
        ["SEEDS=1 0 1", "LOSSES=gdl boundary gdl"], ["SEEDS=1 0", "LOSSES=gdl boundary"]))
    trained = [line for line in once.splitlines() if " main.py " in line]
    assert len(trained) == 4 and trained == [
        line for line in twice.splitlines() if " main.py " in line]


def test_compare_sets_other_folders_beside_its_own_and_claims_take_the_threads(clone):
    plan = make(
        "-n", "compare", "NAME=x", "BESIDE=x-enet x-dims3", "COMPARE=ce", folder=clone
    ).stdout.replace("\\\n", " ")
    assert plan.splitlines()[-1].endswith(
        "-m studies.comparison --runs results/x results/x-enet results/x-dims3"
    )
    assert sum(f"--row {row} " in plan for row in ("ce", "ce+boundary", "gdl")) == 2
    plan = make("-n", "custom", "NAME=x", "THREADS=3", folder=clone).stdout.replace("\\\n", " ")
    assert (
        sum("--threads 3" in line for line in plan.splitlines() if "-m studies.claims" in line) == 1
    )


@pytest.mark.parametrize(
    "target, word", [("wmh", "DataverseNL"), ("isles", "ISLES2018_Training.zip")]
)
def test_without_scans_make_says_what_to_get_and_ends_with_status_2(clone, target, word):
    result = make(target, "FETCH=", folder=clone)
    assert result.returncode == 2 and word in result.stderr and "Traceback" not in result.stderr
    assert not (clone / "data").exists()


@pytest.mark.parametrize("target", ["wmh", "isles"])
def test_without_internet_make_says_what_to_get_and_ends_with_status_2(clone, target):
    with socket.socket() as taken:  # a port where nothing listens
        taken.bind(("127.0.0.1", 0))
        result = make(target, f"SERVER=http://127.0.0.1:{taken.getsockname()[1]}", folder=clone)
    assert (
        result.returncode == 2
        and "put:" in result.stderr
        and "could not be fetched" in result.stderr
    )


@pytest.mark.parametrize(
    "words, options",
    [
        (["wmh"], "--fetch"),
        (["wmh", "FETCH="], ""),
        (["wmh", "FETCH=no"], ""),
        (["wmh", "FETCH=no", "TEST=yes"], "--test"),
        (["wmh", "TEST=no"], "--fetch"),
        (["isles"], "--fetch"),
        (["isles", "FETCH=no"], ""),
        (
            ["wmh", "OBSERVERS=yes", "SERVER=http://a.b", "ANY_MD5=yes"],
            "--fetch --server=http://a.b --any-md5 --observers",
        ),
        (
            ["isles", "SERVER=http://a.b", "ANY_MD5=yes", "FILE=a$b.zip"],
            "--fetch --server=http://a.b --any-md5 --file=a$b.zip",
        ),
    ],
)
def test_make_passes_the_options_of_the_download(clone, words, options):
    plan = make("-n", *words, folder=clone).stdout.replace("\\\n", " ")
    line = next(line for line in plan.splitlines() if "scans.download" in line)
    assert shlex.split(line)[5:] == ["--raw=data/raw", *options.split()]


def test_the_scans_of_the_demo_are_written_by_several_processes(tmp_path):
    words = ("--layout", "wmh", "--subjects", 2, "--slices", 4, "--size", 32, "--jobs", 2)
    result = run_apart("scans.phantom", *words, "--test", 0, "--out", tmp_path / "phantom")
    assert result.returncode == 0, result.stderr
    assert len(list(tmp_path.glob("phantom/training/*/*/wmh.nii.gz"))) == 2


def make_test_set(clone, target="wmh"):
    """make wmh TEST=yes, or a file of its chain, on the phantom in data/raw: one small run."""
    words = ("SIZE=32", "WIDTH=2", "EPOCHS=1", "SEEDS=0", "LOSSES=gdl", "THREADS=1", "FETCH=no",
             *["NAME=wmh"] * (target != "wmh"))
    return make(target, "TEST=yes", *words, folder=clone)


def test_test_scans_are_predicted_and_scored_after_training_and_once(clone):
    words = ("--layout", "wmh", "--subjects", 2, "--slices", 4, "--size", 32, "--jobs", 2)
    run_apart("scans.phantom", *words, "--test", 5, "--out", clone / "data" / "raw")
    result = make_test_set(clone)
    assert result.returncode == 0, result.stderr
    folder = clone / "results" / "wmh"
    masks = folder / "gdl" / "seed0" / "test"
    assert sorted(path.name for path in masks.iterdir()) == [
        f"{name}.nii.gz" for name in ("1", "111", "150", "160", "70")]
    text = (folder / "test_set.md").read_text()
    assert "All 5 test scans" in text and "Synthetic images" in text and "pgs" not in text
    assert 'id="test"' in (folder / "report.html").read_text()
    split = (clone / "data" / "wmh" / "split.csv").read_text().splitlines()[1:]
    assert sorted(line.split(",")[0] for line in split) == ["0", "50"]

    again = make_test_set(clone)
    assert again.returncode == 0 and "Nothing to be done" in again.stdout
    (folder / "gdl" / "seed0" / "test.csv").unlink()  # as after a kill: the masks are kept
    (masks / "70.nii.gz").unlink()
    before = {path: path.stat().st_mtime_ns for path in masks.iterdir()}
    assert make_test_set(clone, target="results/wmh/test_set.csv").returncode == 0
    assert (masks / "70.nii.gz").exists()
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_without_test_scans_nothing_is_trained(clone):
    write_wmh_subject(clone / "data" / "raw" / "a")
    for words in (["wmh", "FETCH=no"], ["custom", "NAME=x"], ["sweep", "NAME=x"]):
        result = make(*words, "TEST=yes", folder=clone)
        assert result.returncode == 2 and "test" in result.stderr and "main.py" not in result.stdout
    assert not (clone / "results" / "x").exists() and not (clone / "data" / "wmh").exists()


@pytest.mark.parametrize("words", [["isles"], ["custom", "NAME=x", "LAYOUT=isles"]])
def test_a_layout_without_public_test_scans_refuses_test(clone, words):
    result = make(*words, "TEST=yes", "FETCH=no", folder=clone)
    assert result.returncode == 2 and "wmh, whose test scans are public" in result.stderr


def test_volumes_and_the_2018_protocol_have_their_own_test_scores(clone):
    for more, name in ((["DIMS=3"], "wmh-dims3"), (["PROTOCOL=code2018"], "wmh-code2018")):
        plan = make("-n", "wmh", "TEST=yes", "FETCH=no", "SEEDS=0", "LOSSES=gdl", *more,
                    folder=clone).stdout.replace("\\\n", " ")
        predicted = [" ".join(line.split()) for line in plan.splitlines() if "predict.py" in line]
        assert len(predicted) == 1
        assert f"--checkpoint results/{name}/gdl/seed0/best.pt" in predicted[0]
        assert f"-m scoring.test_set --runs results/{name} --data data/{name}" in " ".join(
            plan.split())


def test_the_demo_may_score_the_phantoms_test_scans_and_passes_isles_over(clone):
    plan = make("-n", "demo", "TEST=yes", folder=clone).stdout.replace("\\\n", " ")
    predicted = [line for line in plan.splitlines() if "predict.py" in line]
    assert len(predicted) == 6 and all("results/phantom-wmh/" in line for line in predicted)


def test_the_demo_takes_the_cpu_and_says_so(clone):
    for words, device in (((), "cpu"), (("DEVICE=cuda",), "cuda")):
        plan = make("-n", "demo", *words, folder=clone).stdout.replace("\\\n", " ")
        steps = [" ".join(line.split()) for line in plan.splitlines()
                 if "main.py" in line or "studies.claims" in line]
        assert len(steps) == 14 and all(f"--device {device} " in line for line in steps)
        assert f"the demo trains on: {device}" in plan


def test_custom_without_a_name_says_what_is_missing(clone):
    result = make("custom", folder=clone)
    assert result.returncode == 2 and "NAME: expected a name" in result.stderr


def test_the_chain_ends_in_a_report_and_a_second_make_runs_nothing_again(clone, tmp_path):
    raw = tmp_path / "my scans"
    for number in range(4):
        write_wmh_subject(raw / f"s{number}", seed=number)
    words = (
        "custom",
        "NAME=mine",
        f"RAW={raw}",
        "SIZE=32",
        "WIDTH=2",
        "EPOCHS=1",
        "SEEDS=0",
        "VAL=1",
        "LOSSES=gdl gdl+boundary",
        "THREADS=1",
    )
    result = make(*words, folder=clone)
    assert result.returncode == 0, result.stderr
    assert result.stdout.rstrip().endswith("results/mine/report.html")
    folder = clone / "results" / "mine"
    for name in (
        "table1.md",
        "table1.csv",
        "table1.tex",
        "figure1.png",
        "figure2.pdf",
        "figure3.png",
        "figure4.pdf",
    ):
        assert (folder / name).stat().st_size > 0
    assert (folder / "gdl+boundary" / "seed0" / "evaluation.csv").exists()
    before = {
        path: path.stat().st_mtime_ns
        for path in Path(clone / "results").rglob("*")
        if path.is_file()
    }
    again = make(*words, folder=clone)
    assert again.returncode == 0 and "main.py" not in again.stdout
    assert before == {path: path.stat().st_mtime_ns for path in before}
    # More epochs continue a run; one that was removed is trained again, and a further seed as well
    shutil.rmtree(folder / "gdl")
    more = make(*words, "EPOCHS=3", "SEEDS=0 1", "JOBS=2", folder=clone)
    assert more.returncode == 0, more.stderr
    summaries = list(folder.glob("*/seed*/summary.json"))
    assert [json.loads(path.read_text())["epochs"] for path in summaries] == [3] * 4
    continued = json.loads((folder / "gdl+boundary" / "seed0" / "config.json").read_text())
    assert [session["from_epoch"] for session in continued["sessions"]] == [0, 1]
    changed = make(*words, "SIZE=64", folder=clone)
    assert changed.returncode == 2 and "another size (32, asked for 64)" in changed.stderr


@pytest.mark.parametrize("name", ["raw", "phantom", "demo", "published"])
def test_custom_refuses_a_name_that_is_taken(clone, name):
    result = make("custom", f"NAME={name}", folder=clone)
    assert result.returncode == 2 and "a name that is not taken" in result.stderr


@pytest.mark.parametrize(
    "name", ["../esc", "*", "my set", "a'b", "a;b", "a%b", "a:b", "a/b", ".", "..", "-a", "a$$b"]
)
def test_custom_refuses_a_name_that_is_no_folder_name(clone, name):
    def files():
        return sorted(path for path in clone.parent.rglob("*") if "__pycache__" not in path.parts)

    before = files()
    result = make("custom", f"NAME={name}", folder=clone)
    assert result.returncode == 2 and "NAME: expected a name" in result.stderr, result.stderr
    assert files() == before


def test_one_bad_set_does_not_keep_the_table_of_the_others(clone):
    for name in ("a", "b"):
        folder = clone / "results" / name / "gdl" / "seed0"
        folder.mkdir(parents=True)
        (folder / "metrics.csv").touch()
    result = make("table", folder=clone)
    assert result.returncode == 2 and "results/a" in result.stderr and "results/b" in result.stderr


def test_published_results_are_no_set_of_ones_own(clone):
    (clone / "results" / "published" / "lgg" / "gdl").mkdir(parents=True)
    (clone / "results" / "published" / "lgg" / "gdl" / "metrics.csv").touch()
    result = make("table", folder=clone)
    assert result.returncode == 2 and "expected runs, found none" in result.stderr


@pytest.mark.parametrize("target", ["table", "figures", "claims"])
def test_tables_without_runs_say_so(clone, target):
    result = make(target, folder=clone)
    assert result.returncode == 2 and "expected runs, found none" in result.stderr


def test_clean_keeps_raw_scans_and_real_runs(clone):
    kept = [
        clone / "data" / "raw" / "wmh.zip",
        clone / "data" / "Dataset001_Lesions" / "dataset.json",  # nnU-Net's, beside its scans
        clone / "data" / "Dataset001_Lesions" / "imagesTr" / "c_0000.nii.gz",
        clone / "results" / "mine" / "gdl" / "best.pt",
    ]
    gone = [
        clone / "data" / "mine" / "dataset.json",
        clone / "data" / "mine" / "subjects" / "s0" / "images.npy",
        clone / "data" / "begun" / ".pending" / "dataset.json",
        clone / "data" / "phantom" / "x",
        clone / "results" / "demo" / "t.md",
    ]
    for path in kept + gone:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert make("clean", folder=clone).returncode == 0
    assert all(path.exists() for path in kept) and not any(path.exists() for path in gone)


def write_scans(folder, count=3):
    for number in range(count):
        write_wmh_subject(folder / f"s{number}", seed=number)
    return folder


def write_split(path, val=("s0",)):
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        "subject,subset\n"
        + "".join(f"s{n},{'val' if f's{n}' in val else 'train'}\n" for n in range(3))
    )
    return path


@pytest.mark.parametrize("name", ["my scans", "cost$a$(b)", "it's", "a,b#c", "Zoë"])
def test_the_scans_may_lie_in_a_folder_of_any_name(clone, tmp_path, name):
    raw = write_scans(tmp_path / name)
    result = make("verify", f"RAW={raw}", folder=clone)
    assert result.returncode == 0 and "OK: 3 subjects" in result.stdout, result.stderr


def test_verify_checks_the_tables_too(clone, tmp_path):
    plan = make("-n", "verify", "RAW=r", "SPLIT=s.csv", "PATIENTS=p.csv", "VAL=3", folder=clone)
    assert "--val 3 --split='s.csv' --patients='p.csv' --raw='r'" in plan.stdout, plan.stdout
    result = make("verify", "RAW=", folder=clone)
    assert result.returncode == 2 and "expected a value, found none" in result.stderr


@pytest.mark.parametrize("folder", ["my tables", "a$b", "it's"])
def test_a_split_table_may_lie_in_a_folder_of_any_name_and_reaches_the_chain(
    clone, tmp_path, folder
):
    raw, table = (
        write_scans(tmp_path / folder / "raw"),
        write_split(tmp_path / folder / "split.csv"),
    )
    patients = tmp_path / folder / "patients.csv"
    patients.write_text("subject,patient\ns0,a\ns1,b\ns2,b\n")
    words = (
        "custom",
        "NAME=mine",
        f"RAW={raw}",
        f"SPLIT={table}",
        f"PATIENTS={patients}",
        "SIZE=32",
        "LOSSES=gdl",
        "SEEDS=0",
        "DEVICE=cuda:99",
    )  # training refuses, after the preprocessing
    result = make(*words, folder=clone)
    lines = (clone / "data" / "mine" / "split.csv").read_text().splitlines()
    assert [line.rpartition(",")[0] for line in lines] == table.read_text().splitlines(), result
    assert [line.rpartition(",")[2] for line in lines] == ["patient", "1", "2", "2"]


def test_patients_auto_is_passed_on_and_taken_for_no_table(clone, tmp_path):
    words = ("data/mine/index.csv", "NAME=mine", f"RAW={tmp_path}", "PATIENTS=auto")
    plan = make("-n", *words, folder=clone)
    assert "--patients='auto'" in plan.stdout and not plan.stderr


def test_a_split_table_that_is_not_there_is_our_error_not_makes(clone, tmp_path):
    raw = write_scans(tmp_path / "raw")
    result = make(
        "custom", "NAME=mine", f"RAW={raw}", f"SPLIT={tmp_path / 'no such.csv'}", folder=clone
    )
    assert (
        result.returncode == 2
        and "no such.csv: expected a CSV table with the columns subject, subset" in result.stderr
    )
    assert "No rule to make target" not in result.stderr


def test_an_edited_split_table_is_noticed_and_refused(clone, tmp_path):
    raw, table = write_scans(tmp_path / "raw"), write_split(tmp_path / "split.csv")
    words = ("data/mine/index.csv", "NAME=mine", f"RAW={raw}", f"SPLIT={table}", "SIZE=32")
    assert make(*words, folder=clone).returncode == 0
    write_split(table, val=("s1",))
    result = make(*words, folder=clone)
    assert result.returncode == 2 and "a data set with another split" in result.stderr


def results_of(folder):
    """{name: content} of what the runs of a set come to, without what differs from run to run."""
    found = {
        str(path.relative_to(folder)): path.read_bytes()
        for pattern in ("*/*/evaluation.csv", "*/*/predictions/*", "table1.*")
        for path in sorted(folder.glob(pattern))
    }
    for path in sorted(folder.glob("*/*/metrics.csv")):
        table = list(csv.DictReader(path.read_text().splitlines()))
        found[str(path.relative_to(folder))] = [{**row, "seconds": None} for row in table]
    return found


@pytest.mark.slow
def test_two_makes_with_four_jobs_at_once_give_what_a_serial_one_gives(clone, tmp_path):
    raw = write_scans(tmp_path / "raw")
    words = [
        "compare",
        "NAME=mine",
        f"RAW={raw}",
        "SIZE=32",
        "COMPARE=gdl",
        "SEEDS=0",
        "EPOCHS=1",
        "WIDTH=1",
        "THREADS=1",
    ]
    shutil.copytree(clone, tmp_path / "serial")
    assert make(*words, folder=tmp_path / "serial").returncode == 0
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: make(*words, "JOBS=4", folder=clone), range(2)))
    assert [result.returncode for result in both] == [0, 0], both
    waited = sorted(both, key=lambda result: "waiting for it to end" in result.stdout)
    assert (
        "results/mine: another make is working on it" in waited[1].stdout
        and "waiting" not in waited[0].stdout
    )
    assert (
        "main.py" in waited[0].stdout and "main.py" not in waited[1].stdout
    )  # nothing is done twice
    tables = [
        subprocess.run(
            [forked_python.path(), "report.py", "--runs", "results/mine", "--only", "table"],
            cwd=folder,
            capture_output=True,
            text=True,
        )
        for folder in (clone, tmp_path / "serial")
    ]
    assert tables[0].returncode == 0 and tables[0].stdout == tables[1].stdout, tables[0].stderr
    one, other = (
        results_of(clone / "results" / "mine"),
        results_of(tmp_path / "serial" / "results" / "mine"),
    )
    assert one == other and len(one) == 2 * 3 + 3
    assert not list(clone.rglob("*.partial-*")) and not list(clone.rglob("*.new-*"))


ENDS_ON_SIGTERM = """#!/bin/sh
case "$*" in
    "-m training.alone"*) exec {python} "$@" ;;
    preprocess.py*) mkdir -p data/mine; touch data/mine/index.csv ;;
    main.py*) trap "touch told; exit 143" TERM; touch started; while :; do sleep 0.05; done ;;
esac
"""


@pytest.mark.parametrize(
    "goal", ["custom", "results/mine/gdl/seed0/summary.json"], ids=["a chain", "one run"]
)
def test_sigterm_to_make_reaches_the_training(clone, goal):
    python = clone / "python"
    python.write_text(ENDS_ON_SIGTERM.format(python=sys.executable))
    python.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name not in OF_A_MAKE_ABOVE}
    words = [f"PY={python}", goal, "NAME=mine", "LOSSES=gdl", "SEEDS=0", "SCHEDULE=rebalance"]
    with subprocess.Popen(
        ["make", *words], cwd=clone, env=environment, stderr=subprocess.PIPE, text=True
    ) as running:
        wait_for(clone / "started")
        running.terminate()
        assert running.wait(60) != 0
        wait_for(clone / "told")  # make may end before it


def wait_for(path):
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.05)


# Variables ------------------------------------------------------------------


@pytest.mark.parametrize(
    "word, hint",
    [
        ("EPOCH=3", "unknown variable EPOCH; did you mean EPOCHS?"),
        ("name=mine", "unknown variable name; did you mean NAME?"),
        ("THREAD=1", "did you mean THREADS?"),
        ("OMP_NUM_THREADS=1", "unknown variable OMP_NUM_THREADS"),
        ("XYZZY=1", "unknown variable XYZZY; see make help"),
        ("it's=1", "unknown variable it's"),
    ],
)
def test_an_unknown_variable_is_an_error_of_one_line(clone, word, hint):
    result = make("custom", "NAME=mine", word, folder=clone)
    assert result.returncode == 2 and hint in result.stderr and not result.stdout
    assert len(result.stderr.splitlines()) == 1
    assert not (clone / "results" / "mine").exists()


def test_variables_of_the_shell_are_not_taken(clone):
    shell = {"NAME": "laptop", "SIZE": "7", "DEVICE": "tpu", "LOSSES": "x-y", "FETCH": ""}
    assert "NAME: expected a name" in make("custom", folder=clone, **shell).stderr
    plan = make("-n", "wmh", folder=clone, **shell).stdout
    assert plan == make("-n", "wmh", folder=clone).stdout and "main.py" in plan


def test_py_may_come_from_the_shell(clone):
    plan = make("-n", "verify", folder=clone, python=None, PY="my-python").stdout
    assert plan.startswith("my-python preprocess.py --verify")


def test_help_says_what_each_variable_means_and_its_default():
    lines = make("help").stdout.splitlines()
    assert ("  EPOCHS        of each run; a higher number continues finished runs, but not with "
            "LR_SCHEDULE=poly (200)") in lines
    named = {
        line.split()[0] for line in lines if line.startswith("  ") and line.split()[0].isupper()
    }
    assert {"NAME", "RAW", "LOSSES", "PATIENTS", "BESIDE", "ANY_MD5", "PY", "BENCH"} <= named
    assert len(named) >= 40


# A make that fails ------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["custom", "LOSSES=gdl gdl+boundary-alph0.5"],
        ["sweep", "ALPHAS=high"],
        ["wmh", "LOSSES=gdl-cap"],
        ["compare", "COMPARE=gdl-x1"],
        ["demo", "LOSSES=gdl-switch"],
    ],
)
def test_a_name_that_is_no_row_is_refused_before_anything_is_read(clone, words):
    result = make(*words, "NAME=mine", folder=clone)
    assert result.returncode == 2 and "row: expected a loss, or one with " in result.stderr
    assert len(result.stderr.splitlines()) == 2  # ours and make's
    assert not (clone / "data").exists() and not (clone / "results" / "mine").exists()


@pytest.mark.parametrize("target", ["custom", "data/mine/index.csv"])
@pytest.mark.parametrize("word", ["RAW=missing", "SPLIT=missing.csv", "SIZE=-1"])
def test_where_preprocessing_fails_nothing_is_left(clone, target, word):
    write_scans(clone / "scans here")
    result = make(target, "NAME=mine", "RAW=scans here", word, folder=clone)
    assert result.returncode == 2 and result.stderr.count("***") <= 2, result.stderr
    assert not (clone / "results" / "mine").exists()
    assert not (clone / "data").exists() or not list((clone / "data").iterdir())


@pytest.mark.parametrize("word, error", [
    ("EPOCHS=0", "--epochs: from 1 to"), ("SEEDS=x", "--seed: invalid int value: 'x'"),
    ("THREADS=none", "--threads: invalid int value")])
def test_settings_of_runs_are_refused_before_the_scans_are_read(clone, word, error):
    result = make("custom", "NAME=mine", "RAW=missing", word, folder=clone)
    assert result.returncode == 2 and error in result.stderr, result.stderr
    assert len(result.stderr.splitlines()) == 2 and not (clone / "data").exists()


def test_where_training_refuses_its_settings_no_results_are_left(clone):
    write_scans(clone / "scans")
    words = ("custom", "NAME=mine", "RAW=scans", "SIZE=32", "LOSSES=gdl", "SEEDS=0")
    result = make(*words, "DEVICE=cuda:99", folder=clone)
    assert result.returncode == 2 and "cuda:99" in result.stderr
    assert not (clone / "results" / "mine").exists()
    again = make(*words, "DEVICE=cuda:99", folder=clone)
    assert "preprocess.py" not in again.stdout and "main.py" in again.stdout


def test_a_make_that_fails_leaves_what_was_there(clone):
    kept = clone / "results" / "mine" / "gdl" / "seed0" / "config.json"
    kept.parent.mkdir(parents=True)
    kept.touch()
    assert make("custom", "NAME=mine", "RAW=missing", folder=clone).returncode == 2
    assert kept.exists()


# The environment ------------------------------------------------------------------


@pytest.fixture
def python(tmp_path):
    """A python3 whose venv holds a python that notes what it is asked and installs nothing."""
    fake = tmp_path / "python"
    fake.write_text(f"""#!/bin/sh
if [ "$1" != -m ]; then exec {sys.executable} "$@"; fi
echo "$@" >> {tmp_path}/calls
if [ "$2" = venv ]; then mkdir -p "$3/bin" && cp "$0" "$3/bin/python"; fi
""")
    fake.chmod(0o755)
    return fake


def calls(python, *words, folder):
    """What make asks of this python, a line each."""
    log = python.with_name("calls")
    log.unlink(missing_ok=True)
    result = make(
        *words, f"PYTHON={python}", f"ENVS={python.parent}/envs", folder=folder, python=None
    )
    assert result.returncode == 0, result.stderr
    return log.read_text().splitlines() if log.exists() else []


def test_setup_installs_what_the_programs_import_and_no_more(clone, python):
    created, installed = calls(python, "setup", folder=clone)
    assert created.startswith("-m venv ") and (clone / ".venv").is_symlink()
    assert installed.endswith("-r requirements.txt -c constraints.txt")
    assert calls(python, "setup", folder=clone) == []


def test_the_tools_of_the_tests_are_added_once_to_the_same_environment(clone, python, tmp_path):
    calls(python, "setup", folder=clone)
    installed, run = calls(python, "lint", folder=clone)
    assert (
        installed.endswith("-r requirements-dev.txt -c constraints.txt")
        and run == "-m ruff check ."
    )
    assert calls(python, "bench", folder=clone) == ["-m benchmarks"]
    shutil.copytree(clone, tmp_path / "other", symlinks=True)
    assert calls(python, "lint", folder=tmp_path / "other") == ["-m ruff check ."]
    (clone / "requirements-dev.txt").write_text("pytest\n")
    assert len(calls(python, "lint", folder=clone)) == 2
    assert len(list((tmp_path / "envs").glob("env-*"))) == 1


def test_changed_requirements_make_another_environment(clone, python, tmp_path):
    calls(python, "setup", folder=clone)
    (clone / "requirements.txt").write_text("torch\n")
    assert len(calls(python, "setup", folder=clone)) == 2
    assert len(list((tmp_path / "envs").glob("env-*"))) == 2


def test_a_venv_of_ones_own_is_used_as_it_is(clone, python):
    (clone / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(python, clone / ".venv" / "bin" / "python")  # it finds the packages of these tests
    assert calls(python, "lint", folder=clone) == ["-m ruff check ."]
    assert not (clone / ".venv").is_symlink()


def test_a_venv_without_the_packages_is_refused(clone):
    (clone / ".venv" / "bin").mkdir(parents=True)
    result = make("table", folder=clone, python=None)
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1
    assert ".venv: expected the packages" in result.stderr and "pip install -r" in result.stderr


# Several devices and machines ------------------------------------------------------------------


def test_devices_are_dealt_to_the_runs_and_each_is_trained_by_as_many_processes_as_there_are_gpus():
    result = make(
        "-n",
        "results/mine/gdl/seed1/summary.json",
        "NAME=mine",
        "DEVICE=cuda:0 cuda:1 cuda:2",
        "GPUS=4",
    )
    command = next(line for line in result.stdout.splitlines() if "main.py" in line)
    rest = result.stdout[result.stdout.index(command) :]
    assert (
        command.startswith("env RUN_OF=4/6 ")
        and "-m torch.distributed.run --standalone --nproc-per-node 4 main.py" in command
    )
    assert "--device cuda:0 " in rest  # the fourth run, of three devices
    alone = make("-n", "results/mine/gdl/seed0/summary.json", "NAME=mine").stdout
    assert "torch.distributed" not in alone and "--device auto" in alone


@pytest.mark.parametrize(
    "variable, option",
    [
        ("AUGMENT", "augment"),
        ("COMPILE", "compile"),
        ("DETERMINISTIC", "deterministic"),
        ("GRAPH", "cuda-graph"),
    ],
)
def test_switches_reach_the_training_unless_they_are_off(variable, option):
    def plan(*words):
        return make("-n", "results/mine/gdl/seed0/summary.json", "NAME=mine", *words).stdout

    assert f" --{option}" in plan(f"{variable}=yes")
    for off in ("", f"{variable}=", f"{variable}=no", f"{variable}=0"):
        assert f"--{option}" not in plan(*filter(None, [off]))


def test_a_task_of_a_job_array_makes_its_run(tmp_path):
    real = shutil.which("make")
    (tmp_path / "make").write_text(
        f'#!/bin/sh\nif [ "$2" = runs ]; then exec {real} PY=python "$@"; fi\necho "$@"\n'
    )
    (tmp_path / "make").chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name not in OF_A_MAKE_ABOVE}
    environment["PATH"] = f"{tmp_path}:{os.environ['PATH']}"

    def task(number, *words):
        return subprocess.run(
            ["bash", ROOT / "slurm.sh", *words],
            cwd=ROOT,
            capture_output=True,
            text=True,
            env={**environment, "SLURM_ARRAY_TASK_ID": number},
        )

    words = ["NAME=mine", "LOSSES=gdl gdl+boundary", "SEEDS=0 1 2"]
    assert (
        task("5", *words).stdout.split(maxsplit=1)[0]
        == "results/mine/gdl+boundary/seed1/evaluation.csv"
    )
    assert (
        task("7", *words).returncode == 2 and "expected 1 to 6, found 7" in task("7", *words).stderr
    )
    assert task("", *words).returncode == 2 and "found no task" in task("", *words).stderr


# A layout as a file -------------------------------------------------------------------------------

def test_a_layout_may_be_a_file_with_any_name(clone, tmp_path):
    folder = tmp_path / "it's $mine"
    folder.mkdir()
    path = write_toml(folder)
    for name in ("a", "b"):
        write_image(tmp_path / "raw" / name / "flair.nii.gz")
        write_image(tmp_path / "raw" / name / "seg.nii.gz", (1,))
    result = make("verify", f"LAYOUT={path}", f"RAW={tmp_path / 'raw'}",
                  folder=clone)
    assert "OK: 2 subjects" in result.stdout, result.stderr


def test_another_content_of_a_layouts_file_makes_the_data_anew(clone):
    path = write_toml(clone)
    for name in ("a", "b"):
        write_image(clone / "raw" / name / "flair.nii.gz")
        write_image(clone / "raw" / name / "seg.nii.gz", (1,))

    def build():
        return make("data/mine/index.csv", "NAME=mine", "LAYOUT=my.toml", "RAW=raw", "SIZE=32",
                    folder=clone)

    assert build().returncode == 0 and "up to date" in build().stdout
    path.write_text(TOML.replace("seg.nii*", "seg.nii.gz"))
    assert "a data set with another layout" in build().stderr


def test_the_settings_of_data_made_before_read_the_same(clone):
    plan = make("-n", "chain", "NAME=wmh", "LAYOUT=wmh", folder=clone).stdout
    other = make("-n", "chain", "NAME=wmh", "NORMALISE=zscore", "FILL=64", folder=clone).stdout
    assert "--size 256 --fill 64 --normalise zscore --protocol paper" in other
    assert "--normalise" not in plan and "--augment" not in plan and "--lr-s" not in plan
    plan_of_poly = make("-n", "chain", "NAME=wmh", "LR_SCHEDULE=poly", folder=clone).stdout
    assert "--lr-schedule poly" in plan_of_poly
    assert "preprocess.py --layout wmh --size 256" in plan
