"""Fetching ISLES 2018, from a server in this process that speaks Zenodo's API."""

import dataclasses
import hashlib
import io
import json
import zipfile
from urllib.parse import unquote

import pytest

import web
from conftest import refuses, run
from scans import datasets, download
from scans.transfer import file_checksum
from scans.zenodo import fitting
from web import answer_range, cut, damaged, leads_to, says

MAPS = ("CT", "CT_CBF", "CT_CBV", "CT_MTT", "CT_Tmax")
NAME = "ISLES2018_Training.zip"


def isles_zip(top="TRAINING/", label="OT", extra=()):
    """The bytes of an archive of one case, as the challenge packed it."""
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        for number, name in enumerate((*MAPS, "CT_4DPWI", label)):
            stem = f"SMIR.Brain.XX.O.{name}.{345562 + number}"
            archive.writestr(f"{top}case_1/{stem}/{stem}.nii", name)
            archive.writestr(f"{top}case_1/{stem}/{stem}.json", json.dumps(
                {"description": f"ISLES 2018 - TRAIN - Train_01_A - {name}"}))
        for name in extra:
            archive.writestr(name, b"x")
    return body.getvalue()


class Zenodo(web.Server):
    """A record in two versions.

    Attributes:
        files: name -> content, in the newest version; the first one holds another archive.
        change: of the newest record's JSON.
    """

    change = staticmethod(lambda record: record)

    def __init__(self):
        super().__init__()
        self.files = {NAME: isles_zip(), "ISLES2018_Testing.zip": b"not needed",
                      "ISLES2017_Training.zip": b"not needed", "README.md": b"about"}

    def find(self, path, query):
        if path == "/api/records/17736412":
            return "first", json.dumps(self.record(17736412, {NAME: b"outdated"})).encode()
        if path == "/api/records/17736412/versions/latest":
            self.faults.setdefault("latest", []).append(
                leads_to(f"{self.url}/api/records/18000000"))
            return "latest", b""
        if path == "/api/records/18000000":
            return "newest", json.dumps(self.change(self.record(18000000, self.files))).encode()
        name = unquote(path).removeprefix("/api/records/18000000/files/").removesuffix("/content")
        return name, self.files[name]

    def record(self, number, files):
        return {
            "id": number, "doi": f"10.5281/zenodo.{number}",
            "metadata": {"title": "ISLES 2015-2018", "version": "v2", "doi": "",
                         "license": {"id": "cc-by-4.0"}},
            "links": {"self": f"{self.url}/api/records/{number}",
                      "latest": f"{self.url}/api/records/17736412/versions/latest"},
            "files": [{"id": "f", "key": name, "size": len(content),
                       "checksum": f"md5:{hashlib.md5(content).hexdigest()}",
                       "links": {"self": f"{self.url}/api/records/{number}/files/{name}/content"}}
                      for name, content in files.items()]}


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    spec = dataclasses.replace(datasets.DATASETS["isles"], n_subjects=1)
    monkeypatch.setitem(datasets.DATASETS, "isles", spec)
    with web.running(Zenodo()) as server:
        yield server


def fetch(server, raw, *options):
    return run("scans.download", "--layout", "isles", "--raw", raw, "--fetch", "--server",
               server.url, *options)


def maps_below(raw):
    return sorted(path.read_text() for path in raw.rglob("*.nii"))


def test_the_newest_training_archive_is_fetched_and_unpacked(server, tmp_path):
    result = fetch(server, tmp_path / "raw")
    assert result.returncode == 0 and result.stderr.count("warning") == 0, result.stderr
    assert maps_below(tmp_path / "raw") == [*MAPS, "OT"]
    assert server.requested == ["first", "latest", "newest", NAME]


def test_the_json_files_beside_the_scans_are_unpacked_too(server, tmp_path):
    fetch(server, tmp_path)
    assert len(list(tmp_path.rglob("*.json"))) == 6  # not that of the 4-D series


def test_source_and_licence_are_shown_and_kept(server, tmp_path):
    shown, kept = fetch(server, tmp_path).stdout, (tmp_path / "isles" / "TERMS.txt").read_text()
    for word in ("ISLES 2015-2018", "v2", "10.5281/zenodo.18000000", "cc-by-4.0"):
        assert word in shown and word in kept


def test_a_second_call_needs_no_server(server, tmp_path):
    fetch(server, tmp_path)
    server.requested.clear()
    assert fetch(server, tmp_path).returncode == 0
    assert server.requested == []


def test_an_archive_that_was_fetched_but_not_unpacked_is_used(server, tmp_path):
    """Its md5 is Zenodo's, not the one that was published with the old zip of that name."""
    (tmp_path / "isles").mkdir()
    (tmp_path / "isles" / NAME).write_bytes(server.files[NAME])
    assert fetch(server, tmp_path).returncode == 0
    assert server.requested == [] and maps_below(tmp_path) == [*MAPS, "OT"]


def test_a_record_without_newer_versions_is_the_newest(server, tmp_path):
    server.faults["first"] = [lambda handler, body: web.answer(handler, json.dumps({
        **server.record(18000000, server.files), "links": {}}).encode())]
    assert fetch(server, tmp_path).returncode == 0
    assert server.requested == ["first", NAME]


def test_the_archive_is_unpacked_from_folders_of_any_depth(server, tmp_path):
    server.files[NAME] = isles_zip("ISLES 2018/ISLES2018_Training/TRAINING/",
                                   extra=["ISLES 2018/TESTING/case_9/"])
    assert fetch(server, tmp_path).returncode == 0
    assert maps_below(tmp_path) == [*MAPS, "OT"]


def test_of_an_archive_of_all_parts_and_years_only_the_training_set_is_taken(server, tmp_path):
    body = io.BytesIO(isles_zip("ISLES2018/TRAINING/"))
    with zipfile.ZipFile(body, "a") as archive:
        for top in ("ISLES2018/TESTING", "ISLES2018_Testing", "ISLES2017/training"):
            archive.writestr(f"{top}/case_5/SMIR.Brain.XX.O.OT.9/SMIR.Brain.XX.O.OT.9.nii", "no")
    server.files = {"ISLES2015-2018.zip": body.getvalue()}
    assert fetch(server, tmp_path).returncode == 0
    assert maps_below(tmp_path) == [*MAPS, "OT"]


# Which file ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("names, found", [
    (["ISLES2018_Training.zip", "ISLES2018_Testing.zip"], ["ISLES2018_Training.zip"]),
    (["ISLES2017_Training.zip", "isles-2018-train.ZIP"], ["isles-2018-train.ZIP"]),
    (["TRAINING_2018.zip", "TRAINING_2017.zip"], ["TRAINING_2018.zip"]),
    (["ISLES18_train.zip", "ISLES17_train.zip"], ["ISLES18_train.zip"]),
    (["ISLES2016.zip", "ISLES2018.zip", "ISLES2018_test.zip"], ["ISLES2018.zip"]),
    (["ISLES_2015-2018.zip", "notes_2018.zip"], ["ISLES_2015-2018.zip"]),
    (["ISLES2018_Training.zip", "ISLES2018_Training.zip.md5", "ISLES2018_Training.pdf"],
     ["ISLES2018_Training.zip"]),
    (["ISLES2018_Training_1.zip", "ISLES2018_Training_2.zip"],
     ["ISLES2018_Training_1.zip", "ISLES2018_Training_2.zip"]),
    (["ISLES2018_Training.7z"], ["ISLES2018_Training.7z"]),
    (["ISLES20181_Training.zip", "data.zip"], []), ([], [])])
def test_the_training_archive_is_told_by_its_name(names, found):
    assert fitting(names) == found


def test_several_archives_that_fit_are_listed(server, tmp_path):
    server.files |= {"ISLES2018_Training_v2.zip": b"x" * 3_000_000}
    refuses(fetch(server, tmp_path), "2 that may be it",
            "ISLES2018_Training.zip (0.00 GB), ISLES2018_Training_v2.zip (0.00 GB)",
            "make isles FILE=NAME")
    assert not list(tmp_path.iterdir())


def test_where_no_archive_fits_all_files_are_listed(server, tmp_path):
    server.files = {"a.zip": b"1", "b.zip": b"2"}
    refuses(fetch(server, tmp_path), "none with such a name", "a.zip (0.00 GB), b.zip")
    assert not list(tmp_path.iterdir())


def test_a_record_without_files_says_so(server, tmp_path):
    server.files = {}
    refuses(fetch(server, tmp_path), "no file at all")


def test_file_chooses(server, tmp_path):
    server.files = {"a.zip": b"1", "the data.zip": isles_zip(), NAME: b"no"}
    assert fetch(server, tmp_path, "--file", "the data.zip").returncode == 0
    assert maps_below(tmp_path) == [*MAPS, "OT"] and NAME not in server.requested


def test_a_name_that_is_not_there_is_refused_with_those_that_are(server, tmp_path):
    refuses(fetch(server, tmp_path, "--file", "isles.zip"), "--file", "'isles.zip'",
            "ISLES2018_Training.zip", "README.md")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["ISLES2018_Training.7z", "ISLES2018_Training.tar.gz"])
def test_an_archive_of_another_kind_is_explained_before_it_is_fetched(server, tmp_path, name):
    server.files = {name: b"7z"}
    refuses(fetch(server, tmp_path), name, "a zip archive", "put its folder TRAINING into")
    assert name not in server.requested


def test_an_archive_in_an_archive_is_explained(server, tmp_path):
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        archive.writestr("ISLES/ISLES2018_Training.zip", isles_zip())
    server.files[NAME] = body.getvalue()
    refuses(fetch(server, tmp_path), NAME, "such as ISLES/ISLES2018_Training.zip",
            "Unpack it by hand")


# Troubles -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("fault", [cut, damaged, web.busy, says(b"<html><title>x", 200)])
def test_a_bad_transfer_is_repeated(server, tmp_path, fault):
    server.faults[NAME] = [fault]
    assert fetch(server, tmp_path).returncode == 0
    assert maps_below(tmp_path) == [*MAPS, "OT"]


def test_a_transfer_that_was_stopped_goes_on(server, tmp_path):
    md5 = hashlib.md5(server.files[NAME]).hexdigest()
    (tmp_path / "isles").mkdir()
    (tmp_path / "isles" / f"{NAME}.{md5[:12]}.part").write_bytes(server.files[NAME][:100])
    server.faults[NAME] = [answer_range]
    assert fetch(server, tmp_path).returncode == 0
    assert server.ranges[-1] == "bytes=100-" and not list(tmp_path.rglob("*.part"))


def test_an_archive_that_stays_damaged_is_never_unpacked(server, tmp_path):
    server.faults[NAME] = [damaged] * 9
    refuses(fetch(server, tmp_path), NAME, "bytes of md5", "does not match")
    assert not list(tmp_path.rglob("*.nii")) and not list(tmp_path.rglob("*.zip"))


@pytest.mark.parametrize("name", ["first", "newest"])
def test_a_refusal_is_given_in_zenodos_words(server, tmp_path, name):
    server.faults[name] = [says(b'{"status": 403, "message": "Permission denied."}', 403)] * 9
    refuses(fetch(server, tmp_path), "403 Forbidden", '"Permission denied."')


def test_a_page_in_place_of_the_record_is_named(server, tmp_path):
    server.faults["first"] = [says(b"<html><title>Zenodo is down</title>")]
    refuses(fetch(server, tmp_path), "Zenodo's record of ISLES", 'a web page, "Zenodo is down"')


@pytest.mark.parametrize("record", [
    {}, [], None, 3, {"files": 3}, {"files": [3]}, {"files": [{}]}, {"files": [{"key": 3}]},
    {"files": {"entries": {}}}, {"files": [], "metadata": 3}, {"files": [], "links": 3}])
def test_a_record_of_another_form_is_refused(server, tmp_path, record):
    server.faults["newest"] = [says(json.dumps(record).encode())]
    refuses(fetch(server, tmp_path), "Zenodo's record of ISLES")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("field, value", [
    ("size", 0), ("size", "9"), ("size", 2**60), ("checksum", "md5:0"), ("checksum", "0" * 32),
    ("checksum", None), ("links", {}), ("links", None)])
def test_an_implausible_entry_is_refused(server, tmp_path, field, value):
    def change(record):
        record["files"][0][field] = value
        return record
    server.change = change
    refuses(fetch(server, tmp_path), NAME, "a size of 1 to")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["../ISLES2018_Training.zip", "/tmp/ISLES2018_Training.zip",
                                  "a/ISLES2018_Training.zip", "a\\ISLES2018_Training.zip"])
def test_a_name_that_leads_outside_is_refused(server, tmp_path, name):
    server.files = {name: isles_zip()}
    assert fetch(server, tmp_path / "raw").returncode == 2
    assert not list(tmp_path.iterdir())


def test_too_little_space_is_found_before_anything_is_fetched(server, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("", (), {"free": 100}))
    refuses(fetch(server, tmp_path), "GB of free space")
    assert NAME not in server.requested and not list(tmp_path.iterdir())


def test_without_a_connection_it_says_what_to_get_by_hand(server, tmp_path):
    result = run("scans.download", "--layout", "isles", "--raw", tmp_path / "raw", "--fetch",
                 "--server", "http://127.0.0.1:1")
    assert result.returncode == 2 and "put:" in result.stderr and "Zenodo" in result.stderr
    assert "found none (NewConnectionError)" in result.stderr
    assert not (tmp_path / "raw").exists()


# Zips and folders that are there already ----------------------------------------------------------

@pytest.mark.parametrize("name", ["isles2018-training-v3.zip", "ISLES2018.zip"])
def test_an_archive_fetched_with_a_browser_is_unpacked(server, tmp_path, name):
    (tmp_path / name).write_bytes(isles_zip())
    assert fetch(server, tmp_path).returncode == 0
    assert server.requested == [] and maps_below(tmp_path) == [*MAPS, "OT"]


def test_the_published_md5_holds_for_the_old_zip_alone(server, tmp_path):
    (tmp_path / NAME).write_bytes(isles_zip())
    refuses(fetch(server, tmp_path), "md5 b6d16c456e173743e30a3fbdb3bd29a5",
            file_checksum(tmp_path / NAME), "ANY_MD5=yes")
    assert fetch(server, tmp_path, "--any-md5").returncode == 0
    assert server.requested == []


def test_the_old_zip_goes_before_others(server, tmp_path, monkeypatch):
    for name in (NAME, "ISLES2018_Training_v2.zip"):
        (tmp_path / name).write_bytes(isles_zip())
    monkeypatch.setitem(download.ARCHIVES["isles"], NAME, file_checksum(tmp_path / NAME))
    assert fetch(server, tmp_path).returncode == 0
    assert (tmp_path / "isles" / "ISLES2018_Training" / "TRAINING" / "case_1").is_dir()
    assert maps_below(tmp_path) == [*MAPS, "OT"]


def test_of_several_archives_that_are_there_file_chooses(server, tmp_path):
    for name in ("ISLES2018_Train_a.zip", "ISLES2018_Train_b.zip"):
        (tmp_path / name).write_bytes(isles_zip())
    refuses(fetch(server, tmp_path), "ISLES2018_Train_a.zip, ISLES2018_Train_b.zip", "FILE=NAME")
    assert fetch(server, tmp_path, "--file", "ISLES2018_Train_b.zip").returncode == 0
    assert server.requested == [] and maps_below(tmp_path) == [*MAPS, "OT"]


def test_a_file_that_is_not_there_and_not_to_be_fetched_is_refused(tmp_path):
    refuses(run("scans.download", "--layout", "isles", "--raw", tmp_path, "--file", "x.zip"),
            tmp_path / "x.zip", "no such file")


def test_nothing_is_fetched_beside_scans_that_are_there(server, tmp_path, monkeypatch):
    spec = dataclasses.replace(datasets.DATASETS["isles"], n_subjects=94)
    monkeypatch.setitem(datasets.DATASETS, "isles", spec)
    with zipfile.ZipFile(io.BytesIO(isles_zip())) as archive:
        archive.extractall(tmp_path)
    result = fetch(server, tmp_path)
    assert result.returncode == 0 and ": 1 scans, the challenge has 94" in result.stderr
    assert server.requested == []
