"""Finding the challenges' scans, unpacking their zips, and what to say when they are missing."""

import zipfile

import pytest

import download
from conftest import refuses, run, write_wmh_subject


@pytest.fixture
def zips(tmp_path):
    """data/raw with the WMH challenge's three zips, of a few subjects each, with clutter as people's zips have it."""
    folder = tmp_path / "raw"
    folder.mkdir()
    for site, numbers in (("Utrecht", (0, 2)), ("Amsterdam_GE3T", (100, 101)), ("Singapore", (50,))):
        with zipfile.ZipFile(folder / f"{site}.zip", "w") as archive:
            for number in numbers:
                subject = tmp_path / "made" / str(number)
                write_wmh_subject(subject)
                for path in subject.rglob("*.nii.gz"):
                    inside = f"{site.removeprefix('Amsterdam_')}/{number}/{path.relative_to(subject)}"
                    archive.write(path, inside)
                    archive.writestr(f"__MACOSX/{inside}", b"clutter")
                archive.writestr(f"{site}/{number}/orig/3DT1.nii.gz", b"not needed")
    return folder


@pytest.mark.parametrize("layout, words", [("wmh", ["DataverseNL", "Utrecht.zip"]), ("isles", ["ISLES2018_Training.zip"])])
def test_without_scans_it_says_what_to_get_from_where_and_where_to_put_it(tmp_path, layout, words):
    result = run("download.py", "--layout", layout, "--raw", tmp_path / "raw")
    assert result.returncode == 2 and "Traceback" not in result.stderr
    for word in ("get:", "from:", "put:", str(tmp_path / "raw"), *words):
        assert word in result.stderr
    assert not (tmp_path / "raw").exists()


def test_folders_are_accepted_as_they_are(raw):
    before = sorted(raw.rglob("*"))
    assert run("download.py", "--layout", "wmh", "--raw", raw).returncode == 0
    assert sorted(raw.rglob("*")) == before


def test_zips_are_unpacked_without_what_is_not_needed(zips):
    result = run("download.py", "--layout", "wmh", "--raw", zips)
    assert result.returncode == 0 and "6 files unpacked" in result.stdout, result.stderr
    files = {str(path.relative_to(zips)) for path in zips.rglob("*.nii.gz")}
    assert "wmh/Utrecht/Utrecht/0/pre/FLAIR.nii.gz" in files and "wmh/Amsterdam_GE3T/GE3T/100/wmh.nii.gz" in files
    assert len(files) == 5 * 3 and not list(zips.rglob("*MACOSX*"))


def test_an_archive_whose_md5_is_not_the_published_one_is_warned_about(zips):
    result = run("download.py", "--layout", "wmh", "--raw", zips)
    assert "Utrecht.zip: its md5 is not the published 7768dda529a00cdcf49d9f574bb146cd" in result.stderr


def test_a_second_call_unpacks_nothing_again(zips):
    run("download.py", "--layout", "wmh", "--raw", zips)
    result = run("download.py", "--layout", "wmh", "--raw", zips)
    assert result.returncode == 0 and "unpacked" not in result.stdout


def test_a_missing_zip_is_an_error_that_names_it(zips):
    (zips / "Singapore.zip").unlink()
    refuses(run("download.py", "--layout", "wmh", "--raw", zips), "the 60 scans", "Singapore.zip is missing")


def test_leftovers_of_a_killed_unpacking_are_no_scans(zips):
    write_wmh_subject(zips / "wmh" / "Utrecht.partial-77" / "Utrecht" / "0")
    result = run("download.py", "--layout", "wmh", "--raw", zips)
    assert result.returncode == 0 and "Utrecht.zip: 6 files unpacked" in result.stdout
    assert not list(zips.rglob("*partial*"))


def test_fewer_scans_than_the_challenge_has_are_a_warning(raw):
    result = run("download.py", "--layout", "wmh", "--raw", raw)
    assert result.returncode == 0 and "6 scans, the challenge has 60" in result.stderr


def test_a_zip_that_was_not_yet_unpacked_when_the_program_was_killed_is_unpacked_later(zips):
    (zips / "Utrecht.zip").rename(zips / "later")
    assert run("download.py", "--layout", "wmh", "--raw", zips).returncode == 2
    (zips / "later").rename(zips / "Utrecht.zip")
    result = run("download.py", "--layout", "wmh", "--raw", zips)
    assert result.returncode == 0 and "Utrecht.zip: 6 files unpacked" in result.stdout


@pytest.mark.parametrize("name", ["../evil.nii.gz", "/etc/evil.nii.gz", "Utrecht/../../evil/pre/T1.nii.gz"])
def test_a_member_that_would_leave_the_folder_is_refused(tmp_path, name):
    raw = tmp_path / "raw"
    raw.mkdir()
    with zipfile.ZipFile(raw / "Utrecht.zip", "w") as archive:
        archive.writestr(name, b"x")
    refuses(run("download.py", "--layout", "wmh", "--raw", raw), "Utrecht.zip", "members inside")
    assert sorted(tmp_path.rglob("*")) == [raw, raw / "Utrecht.zip"]


@pytest.mark.parametrize("damage", ["crc", "text"])
def test_a_damaged_archive_is_refused_and_leaves_nothing(zips, damage):
    path = zips / "Utrecht.zip"
    content = bytearray(path.read_bytes())
    if damage == "crc":
        start = content.index(b"\x1f\x8b")  # the first member's own bytes, stored as they are
        content[start + 40] ^= 0xFF
    path.write_bytes(content if damage == "crc" else b"<html>not found</html>")
    refuses(run("download.py", "--layout", "wmh", "--raw", zips), "Utrecht.zip", "an intact zip archive")
    assert not (zips / "wmh" / "Utrecht").exists() and not list(zips.rglob("*partial*"))


def test_the_isles_archive_leaves_the_4d_series_inside():
    patterns = [f"*/{p}" for p in (*download.get_spec("isles").modalities.values(), download.get_spec("isles").label)]
    names = {mod: f"TRAINING/case_1/SMIR.Brain.XX.O.{mod}.9/SMIR.Brain.XX.O.{mod}.9.nii"
             for mod in ("CT", "CT_CBF", "CT_CBV", "CT_MTT", "CT_Tmax", "CT_4DPWI", "OT")}
    taken = [mod for mod, name in names.items() if download.is_wanted("a.zip", name, patterns)]
    assert taken == ["CT", "CT_CBF", "CT_CBV", "CT_MTT", "CT_Tmax", "OT"]
    assert download.is_wanted("a.zip", f"other top/{names['CT']}", patterns)
