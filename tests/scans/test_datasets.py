"""Which scans a folder holds, and whose they are."""

import os

import pytest

from conftest import preprocess, refuses, write_wmh_subject
from scans.datasets import DATASETS, find_subjects, recognise
from utils import UserError

WMH = DATASETS["wmh"]


def test_subjects_are_found_at_any_depth_and_the_test_set_is_left_out(tmp_path):
    for place in ("training/Utrecht/0", "training/Amsterdam/GE3T/100", "test/Utrecht/1",
                  "__MACOSX/Utrecht/0"):
        write_wmh_subject(tmp_path / place)
    assert [subject.name for subject in find_subjects(tmp_path, WMH)] == ["0", "100"]


def test_the_challenge_is_recognised_by_sites_and_counts(tmp_path):
    places = [f"{site}/{start + n}"
              for start, site in ((0, "Utrecht"), (50, "Singapore"), (100, "Amsterdam/GE3T"))
              for n in range(20)]
    for place in places:
        (tmp_path / place / "pre").mkdir(parents=True)
        (tmp_path / place / "pre" / "FLAIR.nii.gz").touch()
    subjects = find_subjects(tmp_path, WMH)
    assert recognise(subjects, WMH) and not recognise(subjects[1:], WMH)


def test_a_name_that_is_no_utf_8_is_refused_before_anything_is_written(raw, tmp_path):
    os.rename(raw / "s1", os.fsencode(raw) + b"/M\xfcller")
    for more in (["--verify"], []):
        refuses(preprocess(raw, tmp_path / "data", *more), "/M\\xfcller/", "a name in UTF-8",
                "Rename it")
    assert not (tmp_path / "data").exists()


def test_an_argument_that_is_no_utf_8_is_refused(raw, tmp_path):
    result = preprocess(raw, os.fsdecode(os.fsencode(tmp_path) + b"/d\xfc"))
    assert result.returncode == 2 and "/d\\xfc. Rename the file or folder" in result.stderr
    assert os.listdir(tmp_path) == [raw.name]


def test_a_link_to_itself_is_passed_by(raw):
    (raw / "loop").symlink_to("loop")
    (raw / "a").symlink_to("b")
    (raw / "b").symlink_to("a")
    assert len(find_subjects(raw, WMH)) == 6


def test_a_raw_path_that_is_a_loop_of_links_is_refused(tmp_path):
    (tmp_path / "raw").symlink_to("raw")
    refuses(preprocess(tmp_path / "raw", tmp_path / "data"), tmp_path / "raw",
            "expected a folder of scans")


def test_a_link_that_leads_back_is_followed_once(tmp_path):
    write_wmh_subject(tmp_path / "raw" / "a")
    (tmp_path / "raw" / "loop").symlink_to(tmp_path / "raw")
    assert len(find_subjects(tmp_path / "raw", WMH)) == 1


def test_hidden_files_beside_a_scans_are_none_of_it(tmp_path):
    for name in ("p1/p1_frame01.nii", "p1/._p1_frame01.nii", "p2/._p2_frame01.nii"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    subject, = find_subjects(tmp_path, DATASETS["acdc"])
    assert subject.files["MR"] == [tmp_path / "p1/p1_frame01.nii"]


def test_one_name_at_two_places_is_refused(raw):
    write_wmh_subject(raw / "site2" / "s1")
    with pytest.raises(UserError, match="s1 also at"):
        find_subjects(raw, WMH)
