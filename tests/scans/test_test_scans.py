"""The challenge's test scans: found below a raw folder, each of its scanner, never trained on."""

import shutil
from dataclasses import replace

import pytest

from conftest import preprocess, refuses, run, write_wmh_subject
from scans import test_scans
from scans.datasets import DATASETS, find_subjects
from scans.splits import choose_split

WMH = DATASETS["wmh"]
SCANNERS = {"1": "Utrecht", "70": "Singapore", "111": "GE3T", "150": "GE1T5", "160": "Philips"}
TESTS = ("test/Utrecht/1", "test/Singapore/70", "test/Amsterdam/GE3T/111",
         "test/Amsterdam/GE1T5/150", "test/Amsterdam/Philips_VU .PETMR_01./160")


def write_tests(root, paths=TESTS):
    for number, path in enumerate(paths):
        write_wmh_subject(root / path, seed=50 + number)
    return root


def place_of(raw):
    """What the program prints."""
    result = run("scans.test_scans", "--raw", raw)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.parametrize("above", ["", "wmh", "data/wmh", "a b/c/d"])
def test_the_folder_is_found_up_to_three_folders_below(tmp_path, above):
    write_tests(tmp_path / above)
    if above.count("/") < 2:
        assert place_of(tmp_path) == str(tmp_path / above / "test")
    else:
        refuses(run("scans.test_scans", "--raw", tmp_path), "a folder test/ with scans", "TEST=yes")


def test_the_folder_itself_may_be_given(tmp_path, monkeypatch):
    monkeypatch.chdir(write_tests(tmp_path) / "test")
    assert place_of(".") == "."
    assert place_of(tmp_path / "test") == str(tmp_path / "test")


def test_each_scan_is_of_the_scanner_on_its_path(tmp_path):
    folder, scans = test_scans.find_test_scans(write_tests(tmp_path), WMH)
    assert {scan.name: test_scans.scanner_of(scan, folder, WMH) for scan in scans} == SCANNERS


@pytest.mark.parametrize("path, scanner", [
    ("test/7", "unknown"), ("test/Oslo/7", "Oslo"), ("test/Oslo/3T/7", "Oslo/3T"),
    ("test/Amsterdam_GE3T/7", "GE3T")])
def test_other_scanners_go_by_their_folders(tmp_path, path, scanner):
    folder, (scan,) = test_scans.find_test_scans(write_tests(tmp_path, [path]), WMH)
    assert test_scans.scanner_of(scan, folder, WMH) == scanner


def test_test_scans_neither_train_nor_validate_nor_fall_into_a_fold(tmp_path):
    raw = write_tests(tmp_path / "raw" / "wmh")
    for number in range(4):
        write_wmh_subject(raw / "training" / "Utrecht" / str(number), seed=number)
    names = [scan.name for scan in find_subjects(tmp_path / "raw", WMH)]
    assert names == ["0", "1", "2", "3"]  # the training set's own 1: its names are no test's
    assert set(choose_split(names, "folds:2", 1, 0, None)) == set(names)

    result = preprocess(tmp_path / "raw", tmp_path / "data")
    assert result.returncode == 0, result.stderr
    lines = (tmp_path / "data" / "split.csv").read_text().splitlines()[1:]
    assert {line.split(",")[0] for line in lines} == set(names)


@pytest.mark.parametrize("name", ["test", "Test", "TESTING"])
def test_every_spelling_that_training_skips_is_a_test_folder(tmp_path, name):
    write_wmh_subject(tmp_path / name / "Utrecht" / "1")
    write_wmh_subject(tmp_path / "training" / "0")
    assert place_of(tmp_path) == str(tmp_path / name)
    assert [scan.name for scan in find_subjects(tmp_path, WMH)] == ["0"]


def test_two_folders_of_test_scans_are_refused(tmp_path):
    write_tests(tmp_path)
    write_tests(tmp_path / "wmh")
    refuses(run("scans.test_scans", "--raw", tmp_path), "one folder of test scans",
            f"also {tmp_path / 'test'}")


def test_a_link_to_the_same_folder_is_no_second_one(tmp_path):
    write_tests(tmp_path / "wmh")
    (tmp_path / "zz").mkdir()
    (tmp_path / "zz" / "test").symlink_to(tmp_path / "wmh" / "test")
    assert place_of(tmp_path) == str(tmp_path / "wmh" / "test")


def test_hidden_folders_and_folders_without_scans_are_passed_over(tmp_path):
    (tmp_path / "test").mkdir()
    write_tests(tmp_path / ".trash")
    write_tests(tmp_path / "wmh")
    assert place_of(tmp_path) == str(tmp_path / "wmh" / "test")


@pytest.mark.parametrize("name, found", [("wmh.nii.gz", "wmh.nii*"), ("pre/T1.nii.gz", "pre/T1")])
def test_a_scan_that_lacks_a_file_is_named(tmp_path, name, found):
    (write_tests(tmp_path) / TESTS[2] / name).unlink()
    refuses(run("scans.test_scans", "--raw", tmp_path), tmp_path / TESTS[2], found, "found none")


def test_a_layout_without_public_test_scans_is_refused(tmp_path):
    write_tests(tmp_path)
    refuses(run("scans.test_scans", "--raw", tmp_path, "--layout", "isles"), "--layout", "wmh")


def test_another_number_than_the_challenges_is_a_warning(tmp_path):
    result = run("scans.test_scans", "--raw", write_tests(tmp_path))
    assert "5 test scans, the challenge has 110" in result.stderr


def test_only_the_complete_test_set_is_the_challenges(tmp_path):
    spec = replace(WMH, test_sites=dict.fromkeys(WMH.test_sites, 1))
    _, scans = test_scans.find_test_scans(write_tests(tmp_path), spec)
    assert test_scans.source_of(scans, spec) == "challenge"
    assert test_scans.source_of(scans, WMH) == test_scans.source_of(scans[1:], spec) == "own"


def test_phantom_test_scans_are_called_so(tmp_path):
    words = ("--layout", "wmh", "--subjects", 1, "--size", 32, "--slices", 2, "--jobs", 1)
    assert run("scans.phantom", *words, "--test", 5, "--out", tmp_path / "raw").returncode == 0
    spec = replace(WMH, test_sites=dict.fromkeys(WMH.test_sites, 1))
    folder, scans = test_scans.find_test_scans(tmp_path / "raw", spec)
    assert {test_scans.scanner_of(scan, folder, spec) for scan in scans} == set(WMH.test_sites)
    assert test_scans.source_of(scans, spec) == "phantom"


def test_without_test_scans_the_download_says_what_to_get(tmp_path):
    write_wmh_subject(tmp_path / "training" / "0")
    words = ("--layout", "wmh", "--raw", tmp_path)
    assert run("scans.download", *words).returncode == 0
    result = run("scans.download", *words, "--test")
    assert result.returncode == 2 and "test set, 110 scans" in result.stderr
    write_tests(tmp_path)
    assert run("scans.download", *words, "--test").returncode == 0
    shutil.rmtree(tmp_path / TESTS[0] / "pre")
    refuses(run("scans.download", *words, "--test"), TESTS[0], "pre/FLAIR")
    refuses(run("scans.download", "--layout", "isles", "--raw", tmp_path, "--test"), "--test")
