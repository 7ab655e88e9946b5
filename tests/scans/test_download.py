"""Finding the challenges' scans, unpacking their zips, and what to say when they are missing."""

import shutil
import struct
import zipfile
from types import SimpleNamespace

import pytest

from conftest import refuses, run, write_wmh_subject
from scans import archives, download
from scans.transfer import file_checksum


@pytest.fixture
def zips(tmp_path):
    """A folder with the WMH challenge's three zips, of a few subjects each, and some clutter."""
    folder = tmp_path / "raw"
    folder.mkdir()
    for site, numbers in (("Utrecht", (0, 2)), ("Amsterdam_GE3T", (100, 101)),
                          ("Singapore", (50,))):
        with zipfile.ZipFile(folder / f"{site}.zip", "w") as archive:
            for number in numbers:
                subject = tmp_path / "made" / str(number)
                write_wmh_subject(subject)
                for path in subject.rglob("*.nii.gz"):
                    top = site.removeprefix("Amsterdam_")
                    inside = f"{top}/{number}/{path.relative_to(subject)}"
                    archive.write(path, inside)
                    archive.writestr(f"__MACOSX/{inside}", b"clutter")
                archive.writestr(f"{site}/{number}/orig/3DT1.nii.gz", b"not needed")
    return folder


def write_isles_zip(raw, top="TRAINING/", ending=".nii"):
    """data/raw with an ISLES archive of one case, its members' contents made up."""
    raw.mkdir()
    with zipfile.ZipFile(raw / "ISLES2018_Training.zip", "w") as archive:
        for number, name in enumerate(("CT", "CT_CBF", "CT_CBV", "CT_MTT", "CT_Tmax", "CT_4DPWI",
                                       "OT")):
            image = f"SMIR.Brain.XX.O.{name}.{number}"
            archive.writestr(f"{top}case_1/{image}/{image}{ending}", name)
            archive.writestr(f"__MACOSX/{top}case_1/{image}/._{image}{ending}", b"clutter")
    return raw


def unpack(raw, layout="wmh"):
    """Run download.py on zips that tests made themselves, whose md5 is of course another."""
    return run("scans.download", "--layout", layout, "--raw", raw, "--any-md5")


@pytest.mark.parametrize("layout, words",
                         [("wmh", ["DataverseNL", "Utrecht.zip"]),
                          ("isles", ["ISLES2018_Training.zip", "Zenodo"])])
def test_without_scans_it_says_what_to_get_and_where_to_put_it(tmp_path, layout, words):
    result = run("scans.download", "--layout", layout, "--raw", tmp_path / "raw")
    assert result.returncode == 2 and "Traceback" not in result.stderr
    for word in ("get:", "from:", "put:", str(tmp_path / "raw"), *words):
        assert word in result.stderr
    assert not (tmp_path / "raw").exists()


def test_folders_are_accepted_as_they_are(raw):
    before = sorted(raw.rglob("*"))
    assert run("scans.download", "--layout", "wmh", "--raw", raw).returncode == 0
    assert sorted(raw.rglob("*")) == before


@pytest.mark.parametrize("place", ["training/Amsterdam/GE3T/100", "wmh/training/Utrecht/0"])
def test_a_dataverse_tree_is_accepted_as_it_is(tmp_path, place):
    write_wmh_subject(tmp_path / "raw" / place)
    before = sorted(tmp_path.rglob("*"))
    result = run("scans.download", "--layout", "wmh", "--raw", tmp_path / "raw")
    assert result.returncode == 0 and ": 1 scans" in result.stderr
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_an_extracted_isles_folder_is_accepted_as_it_is(tmp_path, ending):
    raw = write_isles_zip(tmp_path / "raw", ending=ending)
    shutil.unpack_archive(raw / "ISLES2018_Training.zip", raw)
    (raw / "ISLES2018_Training.zip").unlink()
    before = sorted(raw.rglob("*"))
    assert run("scans.download", "--layout", "isles", "--raw", raw).returncode == 0
    assert sorted(raw.rglob("*")) == before


def test_zips_are_unpacked_without_what_is_not_needed(zips):
    result = unpack(zips)
    assert result.returncode == 0 and "6 files unpacked" in result.stdout, result.stderr
    files = {str(path.relative_to(zips)) for path in zips.rglob("*.nii.gz")}
    assert "wmh/Utrecht/Utrecht/0/pre/FLAIR.nii.gz" in files
    assert "wmh/Amsterdam_GE3T/GE3T/100/wmh.nii.gz" in files
    assert len(files) == 5 * 3 and not list(zips.rglob("*MACOSX*"))


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("top", ["TRAINING/", "renamed/by someone/", ""])
def test_the_isles_archive_is_unpacked_without_the_4d_series(tmp_path, top, ending):
    raw = write_isles_zip(tmp_path / "raw", top, ending)
    assert unpack(raw, "isles").returncode == 0
    files = sorted(path for path in (raw / "isles").rglob("*") if path.is_file()
                   and path.name != ".lock")
    assert [path.read_text() for path in files] == ["CT", "CT_CBF", "CT_CBV", "CT_MTT", "CT_Tmax",
                                                    "OT"]
    assert all(path.name.endswith(ending) for path in files)


@pytest.mark.parametrize("layout, name",
                         [("wmh", "Utrecht.zip"), ("isles", "ISLES2018_Training.zip")])
def test_an_archive_whose_md5_is_not_the_published_one_is_refused(tmp_path, layout, name):
    raw = write_isles_zip(tmp_path / "raw")
    (raw / "ISLES2018_Training.zip").rename(raw / name)
    refuses(run("scans.download", "--layout", layout, "--raw", raw), raw / name,
            f"md5 {download.ARCHIVES[layout][name]}", f"found {file_checksum(raw / name)}",
            "--any-md5")
    assert sorted(raw.rglob("*")) == [raw / name]


def test_an_archive_of_the_published_md5_is_unpacked(tmp_path, monkeypatch):
    raw = write_isles_zip(tmp_path / "raw")
    name = "ISLES2018_Training.zip"
    monkeypatch.setitem(download.ARCHIVES["isles"], name, file_checksum(raw / name))
    result = run("scans.download", "--layout", "isles", "--raw", raw)
    assert result.returncode == 0 and f"{name}: 6 files unpacked" in result.stdout


def test_a_second_call_unpacks_nothing_again(zips):
    unpack(zips)
    result = run("scans.download", "--layout", "wmh", "--raw", zips)
    assert result.returncode == 0 and "unpacked" not in result.stdout


def test_a_missing_zip_is_an_error_that_names_it(zips):
    (zips / "Singapore.zip").unlink()
    refuses(unpack(zips), "the 60 scans", "Singapore.zip is missing")


def test_two_calls_at_once_do_not_unpack_into_each_other(tmp_path, monkeypatch):
    raw = write_isles_zip(tmp_path / "raw")
    extract, others = archives.extract, []

    def call_again(*member):
        if not others:
            others.append(unpack(raw, "isles"))
        extract(*member)

    monkeypatch.setattr(archives, "extract", call_again)
    assert unpack(raw, "isles").returncode == 0
    refuses(others[0], "a folder that no other process uses", "Wait for it to end")
    assert len(list((raw / "isles").rglob("*.nii"))) == 6


def test_leftovers_of_a_killed_unpacking_are_no_scans(zips):
    write_wmh_subject(zips / "wmh" / "Utrecht.partial-77" / "Utrecht" / "0")
    result = unpack(zips)
    assert result.returncode == 0 and "Utrecht.zip: 6 files unpacked" in result.stdout
    assert not list(zips.rglob("*partial*"))


def test_fewer_scans_than_the_challenge_has_are_a_warning(raw):
    result = run("scans.download", "--layout", "wmh", "--raw", raw)
    assert result.returncode == 0 and "6 scans, the challenge has 60" in result.stderr


def test_a_zip_that_comes_later_is_unpacked_later(zips):
    (zips / "Utrecht.zip").rename(zips / "later")
    assert unpack(zips).returncode == 2
    (zips / "later").rename(zips / "Utrecht.zip")
    result = unpack(zips)
    assert result.returncode == 0 and "Utrecht.zip: 6 files unpacked" in result.stdout


@pytest.mark.parametrize("name",
                         ["../evil.nii.gz", "/etc/evil.nii.gz", "Utrecht/../../evil/pre/T1.nii.gz",
                          "..\\evil\\pre\\T1.nii.gz"])
def test_a_member_that_would_leave_the_folder_is_refused(tmp_path, name):
    raw = tmp_path / "raw"
    raw.mkdir()
    with zipfile.ZipFile(raw / "Utrecht.zip", "w") as archive:
        archive.writestr(name, b"x")
    refuses(unpack(raw), "Utrecht.zip", "inside their folder")
    assert sorted(tmp_path.rglob("*")) == [raw, raw / "Utrecht.zip"]


def test_a_folder_of_a_scans_name_is_no_scan(tmp_path):
    (tmp_path / "raw").mkdir()
    with zipfile.ZipFile(tmp_path / "raw" / "Utrecht.zip", "w") as archive:
        archive.writestr("0/wmh.nii/", b"")
    refuses(unpack(tmp_path / "raw"), "none among 1")


def test_an_archive_without_scans_is_refused(tmp_path):
    raw = write_isles_zip(tmp_path / "raw")
    (raw / "ISLES2018_Training.zip").rename(raw / "Utrecht.zip")
    refuses(unpack(raw), "Utrecht.zip", "files such as wmh.nii", "none among 14")
    assert sorted(raw.rglob("*")) == [raw / "Utrecht.zip"]


@pytest.mark.parametrize("damage", ["crc", "text", "cut"])
def test_a_damaged_archive_is_refused_and_leaves_nothing(zips, damage):
    path = zips / "Utrecht.zip"
    content = bytearray(path.read_bytes())
    if damage == "crc":
        start = content.index(b"\x1f\x8b")  # the first member's own bytes, stored as they are
        content[start + 40] ^= 0xFF
    path.write_bytes({"crc": content, "text": b"<html>not found</html>",
                      "cut": content[:len(content) // 2]}[damage])
    refuses(unpack(zips), "Utrecht.zip", "an intact zip archive")
    assert not (zips / "wmh" / "Utrecht").exists() and not list(zips.rglob("*partial*"))


def test_a_damaged_compressed_member_is_refused(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    with zipfile.ZipFile(raw / "Utrecht.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0/wmh.nii", b"scan" * 1000)
    content = bytearray((raw / "Utrecht.zip").read_bytes())
    start = 30 + len("0/wmh.nii")  # after the member's header
    content[start:start + 4] = b"\xff" * 4
    (raw / "Utrecht.zip").write_bytes(content)
    refuses(unpack(raw), "Utrecht.zip", "an intact zip archive")


def write_zip_that_lies(raw, stated):
    """An archive with one member of 4000 bytes whose directory states another size."""
    raw.mkdir()
    with zipfile.ZipFile(raw / "Utrecht.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0/wmh.nii", b"scan" * 1000)
    content = bytearray((raw / "Utrecht.zip").read_bytes())
    struct.pack_into("<L", content, content.index(b"PK\x01\x02") + 24, stated)
    (raw / "Utrecht.zip").write_bytes(content)


@pytest.mark.parametrize("stated", [100, 5000])
def test_a_member_of_another_size_than_stated_is_refused(tmp_path, stated):
    write_zip_that_lies(tmp_path / "raw", stated)
    refuses(unpack(tmp_path / "raw"), "Utrecht.zip", "an intact zip archive")
    assert not list((tmp_path / "raw").rglob("wmh.nii"))


def test_a_member_of_absurd_size_is_refused(tmp_path):
    write_zip_that_lies(tmp_path / "raw", 2**31)
    refuses(unpack(tmp_path / "raw"), "0/wmh.nii", f"at most {2**30} bytes", f"{2**31} bytes")


def test_an_archive_that_would_fill_the_disk_is_refused(zips, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
    refuses(unpack(zips), "GB of free space", "Free some space")
    assert not list(zips.rglob("*.nii.gz"))


@pytest.mark.parametrize("options, words", [
    (("--layout", "isles", "--fetch", "--observers"), ("--observers", "--layout wmh")),
    (("--layout", "wmh", "--file", "a.zip"), ("--file", "--layout isles")),
    (("--layout", "wmh", "--observers"), ("--observers", "Add --fetch"))])
def test_options_that_do_not_go_together_are_refused(tmp_path, options, words):
    refuses(run("scans.download", *options, "--raw", tmp_path), *words)
