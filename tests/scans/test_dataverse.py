"""Fetching the WMH scans, from a server in this process that speaks Dataverse's API."""

import dataclasses
import errno
import gc
import hashlib
import io
import json
import os
import shutil
import socket
import threading
from types import SimpleNamespace

import pytest

import web
from conftest import refuses, run, write_wmh_subject
from scans import datasets, dataverse
from scans import server as requests_to_servers
from web import (
    absent,
    busy,
    cut,
    cut_unannounced,
    damaged,
    leads_to,
    says,
    silent,
    stalled,
    too_long,
    too_long_unannounced,
)

SUBJECTS = ("training/Utrecht/0", "training/Amsterdam/GE3T/100")
IMAGES = ("pre/FLAIR.nii.gz", "pre/T1.nii.gz", "wmh.nii.gz")
SCANS = {f"wmh/{subject}/{image}" for subject in SUBJECTS for image in IMAGES}
RATERS = {f"wmh/additional_annotations/observer_{rater}/{subject}/result.nii.gz"
          for rater in ("o3", "o4") for subject in SUBJECTS}
TESTS = ("test/Utrecht/1", "test/Amsterdam/Philips_VU .PETMR_01./160")
TEST_SCANS = {f"wmh/{subject}/{image}" for subject in TESTS for image in IMAGES}
FIRST = "training/Utrecht/0/pre/FLAIR.nii.gz"


class Dataverse(web.Server):
    """The two requests of Dataverse's native API.

    Attributes:
        files: path in the data set -> content; its number is its place, from 1.
        kind: of the checksums, in the server's words.
        change: of the list's entries.
    """

    kind = "SHA-1"
    change = staticmethod(lambda entries: entries)

    def find(self, path, query):
        if path == "/api/datasets/:persistentId/":
            assert query == {"persistentId": ["doi:10.34894/AECRSD"]}
            return "list", self.list_of_files()
        name = list(self.files)[int(path.removeprefix("/api/access/datafile/")) - 1]
        return name, self.files[name]

    def list_of_files(self):
        entries = []
        for number, (path, content) in enumerate(self.files.items(), 1):
            folder, name = os.path.split(path)
            value = hashlib.new(self.kind.replace("-", ""), content).hexdigest()
            entries.append({
                "label": name, "restricted": False, "directoryLabel": folder,
                "version": 1, "datasetVersionId": 4, "dataFile": {
                    "id": number, "persistentId": "", "filename": name,
                    "contentType": "application/gzip", "filesize": len(content),
                    "storageIdentifier": f"s3://10.34894-aecrsd:{number}", "rootDataFileId": -1,
                    "checksum": {"type": self.kind, "value": value}}})
        data = {"latestVersion": {"files": self.change(entries)}}
        return json.dumps({"status": "OK", "data": data}).encode()


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The data set with two training scans, raters' labels and what is not needed.

    Pauses between retries are left out.
    """
    with web.running(Dataverse()) as server:
        server.files = {}
        for number, subject in enumerate(SUBJECTS):
            folder = tmp_path / "made" / subject
            write_wmh_subject(folder, seed=number)
            server.files |= {f"{subject}/{image}": (folder / image).read_bytes()
                             for image in IMAGES}
            server.files[f"{subject}/orig/3DT1.nii.gz"] = b"not needed"
            for rater in ("o3", "o4"):
                path = f"additional_annotations/observer_{rater}/{subject}/result.nii.gz"
                server.files[path] = rater.encode() * 50
        server.files |= {"test/Utrecht/1/wmh.nii.gz": b"not needed", "readme.pdf": b"not needed",
                         "test/Amsterdam/Philips_VU .PETMR_01./160/wmh.nii.gz": b"not needed"}
        shutil.rmtree(tmp_path / "made")
        monkeypatch.setattr("time.sleep", lambda seconds: None)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield server


@pytest.fixture
def two_scans(monkeypatch):
    """The challenge as if it had only the server's two scans."""
    spec = dataclasses.replace(datasets.DATASETS["wmh"], n_subjects=len(SUBJECTS))
    monkeypatch.setitem(datasets.DATASETS, "wmh", spec)


@pytest.fixture
def two_tests(server, tmp_path, two_scans, monkeypatch):
    """The challenge as if its test set had two scans, too; returns the folder they were made in."""
    for number, subject in enumerate(TESTS):
        folder = tmp_path / "made" / subject
        write_wmh_subject(folder, seed=10 + number)
        server.files |= {f"{subject}/{image}": (folder / image).read_bytes() for image in IMAGES}
    spec = dataclasses.replace(datasets.DATASETS["wmh"], test_sites={"Utrecht": 1, "Philips": 1})
    monkeypatch.setitem(datasets.DATASETS, "wmh", spec)
    return tmp_path / "made"


def fetch(server, raw, *options):
    return run("scans.download", "--layout", "wmh", "--raw", raw, "--fetch", "--server", server.url,
               *options)


def images_below(raw):
    return {str(path.relative_to(raw)) for path in raw.rglob("*.nii.gz")}


def assert_only_whole_files(server, raw):
    """Assert that all files are those of the server, but for the terms and the lock."""
    for path in raw.rglob("*"):
        if path.is_file() and path.name not in ("TERMS.txt", ".lock"):
            assert path.read_bytes() == server.files[str(path.relative_to(raw / "wmh"))]


def test_only_what_training_needs_is_fetched(server, tmp_path):
    result = fetch(server, tmp_path)
    assert result.returncode == 0, result.stderr
    assert images_below(tmp_path) == SCANS and len(server.requested) == 1 + len(SCANS)
    assert_only_whole_files(server, tmp_path)


def test_observers_brings_the_further_raters_labels(server, tmp_path):
    assert fetch(server, tmp_path, "--observers").returncode == 0
    assert images_below(tmp_path) == SCANS | RATERS
    assert_only_whole_files(server, tmp_path)


def test_observers_are_fetched_beside_a_complete_training_set(server, tmp_path, two_scans):
    fetch(server, tmp_path)
    assert fetch(server, tmp_path, "--observers").returncode == 0
    assert images_below(tmp_path) == SCANS | RATERS


def test_the_folder_of_the_scans_may_lie_on_another_disk(server, tmp_path, monkeypatch):
    replace = os.replace

    def on_two_disks(source, target):
        if len({"transfer.partial" in str(path) for path in (source, target)}) == 2:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        replace(source, target)

    monkeypatch.setattr("os.replace", on_two_disks)
    monkeypatch.setattr("os.rename", on_two_disks)
    assert fetch(server, tmp_path).returncode == 0
    assert images_below(tmp_path) == SCANS
    assert_only_whole_files(server, tmp_path)


def test_fetched_files_are_readable_by_others(server, tmp_path):
    fetch(server, tmp_path)
    assert all((tmp_path / name).stat().st_mode & 0o044 for name in SCANS)


def test_the_terms_of_use_are_shown_once(server, tmp_path):
    first = fetch(server, tmp_path)
    (tmp_path / "wmh" / FIRST).unlink()
    second = fetch(server, tmp_path)
    assert "CC BY-NC 4.0" in first.stdout and "Kuijf" in first.stdout
    assert "CC BY-NC" not in second.stdout
    assert "CC BY-NC 4.0" in (tmp_path / "wmh" / "TERMS.txt").read_text()


def test_files_of_the_right_checksum_are_not_fetched_again(server, tmp_path):
    fetch(server, tmp_path)
    (tmp_path / "wmh" / FIRST).unlink()
    server.requested.clear()
    assert fetch(server, tmp_path).returncode == 0
    assert server.requested == ["list", FIRST]


def test_a_file_of_another_checksum_is_fetched_again(server, tmp_path):
    fetch(server, tmp_path)
    (tmp_path / "wmh" / FIRST).write_bytes(b"cut")
    assert fetch(server, tmp_path).returncode == 0
    assert_only_whole_files(server, tmp_path)


def test_a_complete_set_needs_no_server(server, tmp_path, two_scans):
    fetch(server, tmp_path)
    server.requested.clear()
    assert fetch(server, tmp_path).returncode == 0
    assert server.requested == []


def test_a_set_of_all_scans_that_lacks_a_file_is_completed(server, tmp_path, two_scans):
    fetch(server, tmp_path)
    (tmp_path / "wmh" / FIRST).unlink()
    assert fetch(server, tmp_path).returncode == 0
    assert images_below(tmp_path) == SCANS


def test_scans_that_lie_elsewhere_are_not_fetched(server, tmp_path):
    write_wmh_subject(tmp_path / "Utrecht" / "0")
    assert fetch(server, tmp_path).returncode == 0
    fetched = {name for name in images_below(tmp_path) if name.startswith("wmh/")}
    assert fetched == {name for name in SCANS if "/100/" in name}


def test_observers_that_lie_in_the_raw_folder_itself_are_not_fetched(server, tmp_path):
    for name in RATERS:
        path = tmp_path / name.removeprefix("wmh/")
        path.parent.mkdir(parents=True)
        path.touch()
    assert fetch(server, tmp_path, "--observers").returncode == 0
    assert len(server.requested) == 1 + len(SCANS)


def test_a_file_that_was_unpacked_from_gzip_is_not_fetched_again(server, tmp_path):
    fetch(server, tmp_path)
    path = tmp_path / "wmh" / FIRST
    path.rename(path.with_suffix(""))
    assert fetch(server, tmp_path).returncode == 0
    assert not path.exists()


def test_the_scans_of_a_missing_zip_are_fetched(server, tmp_path, two_scans):
    write_wmh_subject(tmp_path / "made" / "Utrecht" / "0")
    shutil.make_archive(tmp_path / "raw" / "Utrecht", "zip", tmp_path / "made")
    assert fetch(server, tmp_path / "raw", "--any-md5").returncode == 0
    assert len(server.requested) == 1 + len(IMAGES)
    assert all("/100/" in name for name in server.requested[1:])


def test_nothing_is_fetched_beside_scans_of_another_data_set(server, raw):
    before = sorted(raw.rglob("*"))
    result = fetch(server, raw)
    assert result.returncode == 0 and "nothing is fetched beside them" in result.stdout
    assert sorted(raw.rglob("*")) == before


# The test scans -----------------------------------------------------------------------------------

def test_the_test_scans_come_too_in_the_servers_own_folders(server, tmp_path, two_tests):
    raw = tmp_path / "raw"
    result = fetch(server, raw, "--test")
    assert result.returncode == 0 and "warning" not in result.stderr, result.stderr
    assert images_below(raw) == SCANS | TEST_SCANS
    assert_only_whole_files(server, raw)
    server.requested.clear()
    assert fetch(server, raw, "--test").returncode == 0 and server.requested == []


def test_test_scans_are_fetched_beside_a_complete_training_set(server, tmp_path, two_tests):
    raw = tmp_path / "raw"
    fetch(server, raw)
    assert images_below(raw) == SCANS
    assert fetch(server, raw, "--test").returncode == 0
    assert images_below(raw) == SCANS | TEST_SCANS


def test_a_test_scan_that_lacks_a_file_is_completed(server, tmp_path, two_tests):
    raw = tmp_path / "raw"
    fetch(server, raw, "--test")
    (raw / "wmh" / TESTS[1] / "wmh.nii.gz").unlink()
    assert fetch(server, raw, "--test").returncode == 0
    assert images_below(raw) == SCANS | TEST_SCANS


def test_test_scans_put_there_by_hand_are_completed_where_they_lie(server, tmp_path, two_tests):
    raw = tmp_path / "raw"
    shutil.copytree(two_tests / TESTS[0], raw / "mine" / TESTS[0])
    mine = raw / "mine" / TESTS[0] / "pre" / "T1.nii.gz"
    mine.write_bytes(mine.read_bytes() + b"\0")  # another checksum, as of files packed again
    before = mine.read_bytes()
    assert fetch(server, raw, "--test").returncode == 0
    assert images_below(raw) == SCANS | {name.replace("wmh/test", "mine/test")
                                         for name in TEST_SCANS}
    assert mine.read_bytes() == before


def test_a_server_without_test_scans_is_refused(server, tmp_path, two_tests):
    server.files = {path: content for path, content in server.files.items()
                    if not path.startswith("test/")}
    refuses(fetch(server, tmp_path / "raw", "--test"), "every test scan", "found no scan")


def test_without_a_connection_and_test_scans_it_says_so(server, tmp_path, two_tests):
    fetch(server, tmp_path / "raw")
    refuses(fetch(closed_port(), tmp_path / "raw", "--test"), "expected an answer")


def test_nothing_is_fetched_beside_a_phantom(server, tmp_path):
    words = ("--layout", "wmh", "--subjects", 2, "--size", 32, "--slices", 2, "--jobs", 1)
    assert run("scans.phantom", *words, "--test", 1, "--out", tmp_path / "raw").returncode == 0
    result = fetch(server, tmp_path / "raw", "--test")
    assert result.returncode == 0 and "nothing is fetched beside them" in result.stdout
    assert "1 test scans, the challenge has 110" in result.stderr and server.requested == []


# Checksums and redirects --------------------------------------------------------------------------

@pytest.mark.parametrize("kind", ["MD5", "SHA-1", "SHA-256", "SHA-512"])
def test_every_kind_of_checksum_is_compared(server, tmp_path, kind):
    server.kind = kind
    server.faults[FIRST] = [damaged]
    assert fetch(server, tmp_path).returncode == 0
    assert server.requested.count(FIRST) == 2
    assert_only_whole_files(server, tmp_path)


def test_a_server_of_an_old_version_that_knows_md5_alone_will_do(server, tmp_path):
    def change(entries):
        for item in (entry["dataFile"] for entry in entries):
            item["md5"] = item.pop("checksum")["value"]
        return entries
    server.kind, server.change = "MD5", change
    assert fetch(server, tmp_path).returncode == 0
    assert_only_whole_files(server, tmp_path)


def test_files_come_from_a_storage_host_by_links_that_expire(server, tmp_path):
    class Storage(web.Server):
        def find(self, path, query):
            return path[1:], server.files[path[1:]]

    with web.running(Storage()) as storage:
        expired = says(b"<Error><Message>Request has expired</Message></Error>", 403)
        for name in server.files:
            server.faults[name] = [leads_to(f"{storage.url}/{name}?X-Amz-Expires=1")] * 9
            storage.faults[name] = [expired]
        result = fetch(server, tmp_path)
    assert result.returncode == 0, result.stderr
    assert images_below(tmp_path) == SCANS
    assert_only_whole_files(server, tmp_path)
    assert storage.requested.count(FIRST) == server.requested.count(FIRST) == 2


# A server with troubles ---------------------------------------------------------------------------

@pytest.mark.parametrize("status", [400, 403])
def test_a_guestbook_is_explained_and_nothing_is_left(server, tmp_path, status):
    server.faults |= {name: [says(
        b'{"status":"ERROR","message":"You may not download this file without the required '
        b'Guestbook response for guestbook ID 3."}', status)] * 9 for name in server.files}
    refuses(fetch(server, tmp_path), str(status), "without the required Guestbook response",
            "fill in its guestbook")
    assert images_below(tmp_path) == set()


def test_a_login_page_in_place_of_a_file_is_named(server, tmp_path):
    page = b"<!doctype html><title>Campus network: sign in</title>"
    server.faults[FIRST] = [says(page, Content_Type="text/html")] * 9
    refuses(fetch(server, tmp_path), FIRST, 'a web page, "Campus network: sign in"')
    assert_only_whole_files(server, tmp_path)


def test_a_server_that_asks_to_wait_is_obeyed(server, tmp_path, monkeypatch):
    waited = []
    monkeypatch.setattr("time.sleep", waited.append)
    server.faults[FIRST] = [says(b"", 429, Retry_After="25")]
    assert fetch(server, tmp_path).returncode == 0
    assert sum(waited) == 25 and images_below(tmp_path) == SCANS


@pytest.mark.parametrize("name", ["list", FIRST])
def test_a_busy_server_is_asked_again(server, tmp_path, name):
    server.faults[name] = [busy]
    assert fetch(server, tmp_path).returncode == 0
    assert server.requested.count(name) == 2 and images_below(tmp_path) == SCANS


@pytest.mark.parametrize("fault", [cut, cut_unannounced, damaged, too_long, too_long_unannounced])
def test_a_bad_transfer_is_repeated(server, tmp_path, fault):
    server.faults[FIRST] = [fault]
    assert fetch(server, tmp_path).returncode == 0
    assert server.requested.count(FIRST) == 2
    assert_only_whole_files(server, tmp_path)


@pytest.mark.parametrize("fault", [silent, stalled])
def test_a_stalled_transfer_is_repeated(server, tmp_path, monkeypatch, fault):
    monkeypatch.setattr(requests_to_servers, "TIMEOUT_S", (10, 0.5))
    server.faults[FIRST] = [fault]
    assert fetch(server, tmp_path).returncode == 0
    assert images_below(tmp_path) == SCANS


@pytest.mark.parametrize("fault, found", [
    (cut, "IncompleteRead"), (cut_unannounced, "of "), (damaged, "does not match"),
    (too_long, "bytes announced"), (too_long_unannounced, "more than")])
def test_a_transfer_that_stays_bad_leaves_only_whole_files(server, tmp_path, fault, found):
    server.faults[FIRST] = [fault] * 99
    sha1 = hashlib.sha1(server.files[FIRST]).hexdigest()
    refuses(fetch(server, tmp_path), f"{server.url}/api/access/datafile/1 ({FIRST})",
            f"{len(server.files[FIRST])} bytes of sha1 {sha1}", found)
    assert not (tmp_path / "wmh" / FIRST).exists() and not list(tmp_path.rglob("*partial*"))
    assert_only_whole_files(server, tmp_path)


def test_after_an_error_the_same_command_fetches_the_rest(server, tmp_path):
    server.faults[FIRST] = [damaged] * 99
    assert fetch(server, tmp_path).returncode == 2
    there = images_below(tmp_path)
    server.faults.clear()
    server.requested.clear()
    assert fetch(server, tmp_path).returncode == 0
    assert len(server.requested) == 1 + len(SCANS - there) and images_below(tmp_path) == SCANS


def test_leftovers_of_a_killed_transfer_are_removed(server, tmp_path):
    (tmp_path / "wmh" / "transfer.partial-77").mkdir(parents=True)
    (tmp_path / "wmh" / "transfer.partial-77" / "tmpabc").write_bytes(b"half")
    assert fetch(server, tmp_path).returncode == 0
    assert not list(tmp_path.rglob("*partial*"))


def test_a_transfer_stops_at_its_next_piece_when_another_has_failed():
    stop, sink = threading.Event(), io.BytesIO()
    stop.set()
    with pytest.raises(InterruptedError):
        requests_to_servers.copy_body(SimpleNamespace(iter_content=lambda size: [b"piece"]), sink,
                                      100, stop)
    assert sink.getvalue() == b""


def test_two_fetches_into_one_folder_do_not_meet(server, tmp_path):
    with dataverse.exclusive(tmp_path / "wmh"):
        refuses(fetch(server, tmp_path), tmp_path / "wmh", "no other process uses")


@pytest.mark.parametrize("name", ["list", FIRST])
@pytest.mark.parametrize("fault, status", [(absent, "404"), (busy, "500")])
def test_an_answer_of_another_status_is_an_error(server, tmp_path, name, fault, status):
    server.faults[name] = [fault] * 99
    refuses(fetch(server, tmp_path), f"{server.url}/api/", "status 200", status)
    assert_only_whole_files(server, tmp_path)


def list_with(entry):
    return b'{"data": {"latestVersion": {"files": [%s]}}}' % entry


@pytest.fixture
def nothing_collected():
    """No garbage of other tests ends, and complains, where the nested list has filled the stack."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("nothing_collected")
@pytest.mark.parametrize("body", [
    b"<html>log in</html>", b"", b"\xff\xfe", b"[" * 100_000, b"{}", b"[]", b"null",
    b'{"data": {"latestVersion": {"files": 3}}}', list_with(b"3"),
    list_with(b'{"dataFile": {"filename": 3}}'),
    list_with(b'{"dataFile": "x", "directoryLabel": "y"}')])
def test_a_list_of_another_form_is_refused(server, tmp_path, body):
    server.faults["list"] = [says(body)]
    refuses(fetch(server, tmp_path), f"{server.url}/api/datasets/", "Dataverse's list of the files")
    assert not list(tmp_path.iterdir())


def test_a_list_without_end_is_refused(server, tmp_path, monkeypatch):
    monkeypatch.setattr(requests_to_servers, "MAX_LIST", 1000)
    refuses(fetch(server, tmp_path), "more than 1000 bytes")


@pytest.mark.parametrize("label, name", [
    ("../../etc", "wmh.nii.gz"), ("training/Utrecht/0/pre/../../../..", "T1.nii.gz"),
    ("/etc", "passwd"), ("", "/etc/passwd"), ("training\\Utrecht\\0", "wmh.nii.gz"),
    ("training/Utrecht/0", "..\\wmh.nii.gz"), ("training/Utrecht/0", "wmh.nii.gz\0"),
    ("training/Utrecht/0", "../wmh.nii.gz")])
def test_a_name_that_leads_outside_is_refused(server, tmp_path, label, name):
    file = {"id": 1, "filename": name, "filesize": 9,
            "checksum": {"type": "SHA-1", "value": "0" * 40}}
    hostile = {"directoryLabel": label, "dataFile": file}
    server.change = lambda entries: [*entries, hostile]
    refuses(fetch(server, tmp_path / "raw"), "inside their folder", "Do not trust")
    assert not list(tmp_path.iterdir()) and server.requested == ["list"]


@pytest.mark.parametrize("field, value",
                         [("filesize", 2**40), ("filesize", 0), ("filesize", -1), ("filesize", "9"),
                          ("filesize", True), ("id", "../../x"), ("id", None),
                          ("checksum", {"type": "SHA-1", "value": "no digits"}),
                          ("checksum", {"type": "SHA-1", "value": ""}),
                          ("checksum", {"type": "MD5", "value": "0" * 40}),
                          ("checksum", {"type": "CRC-32", "value": "0" * 8}),
                          ("checksum", None)])
def test_an_implausible_entry_is_refused(server, tmp_path, field, value):
    def change(entries):
        entries[0]["dataFile"][field] = value
        return entries
    server.change = change
    found = value["value"] if field == "checksum" and value else value
    refuses(fetch(server, tmp_path), FIRST, repr(found), "a number, a size of 1 to")
    assert not list(tmp_path.iterdir())


def test_a_list_without_a_file_that_is_needed_is_refused(server, tmp_path):
    del server.files["training/Utrecht/0/wmh.nii.gz"]
    refuses(fetch(server, tmp_path), "FLAIR, T1 and label", "1 missing",
            "training/Utrecht/0/wmh.nii.gz")
    assert not list(tmp_path.iterdir())


def test_a_list_without_training_scans_is_refused(server, tmp_path):
    server.files = {"readme.pdf": b"of another data set"}
    refuses(fetch(server, tmp_path), "found no scan")


def test_observers_of_a_server_that_has_none_are_refused(server, tmp_path):
    server.files = {path: content
                    for path, content in server.files.items() if "observer" not in path}
    refuses(fetch(server, tmp_path, "--observers"), "observers o3 and o4", "found none")


def test_too_little_space_is_found_before_anything_is_fetched(server, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
    refuses(fetch(server, tmp_path), "GB of free space", "Free some space")
    assert server.requested == ["list"] and not list(tmp_path.iterdir())


def closed_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return SimpleNamespace(url=f"http://127.0.0.1:{taken.getsockname()[1]}")


@pytest.mark.parametrize("options", [(), ("--observers",)])
def test_without_a_connection_it_says_what_to_get_by_hand(server, tmp_path, options):
    result = fetch(closed_port(), tmp_path / "raw", *options)
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert "put:  the folders or zips into" in result.stderr
    assert "found none (NewConnectionError)" in result.stderr
    assert not (tmp_path / "raw").exists()


def test_a_server_that_does_not_answer_counts_as_no_connection(server, tmp_path, monkeypatch):
    monkeypatch.setattr(requests_to_servers, "TIMEOUT_S", (10, 0.2))
    server.faults["list"] = [silent] * 99
    result = fetch(server, tmp_path)
    assert result.returncode == 2 and "put:" in result.stderr
    assert "found none (ReadTimeoutError)" in result.stderr


def test_without_a_connection_folders_are_used_as_they_are(server, raw):
    result = fetch(closed_port(), raw)
    assert result.returncode == 0 and "6 scans, the challenge has 60" in result.stderr


def test_without_a_connection_a_set_that_is_half_fetched_is_an_error(server, tmp_path):
    fetch(server, tmp_path)
    refuses(fetch(closed_port(), tmp_path), "expected an answer", "Check the internet connection")


def test_without_a_connection_a_set_that_is_complete_with_its_raters_is_used(server, tmp_path,
                                                                             two_scans):
    fetch(server, tmp_path, "--observers")
    assert fetch(closed_port(), tmp_path, "--observers").returncode == 0
    (tmp_path / max(RATERS)).unlink()
    refuses(fetch(closed_port(), tmp_path, "--observers"), "expected an answer")


def test_without_a_connection_observers_are_an_error(server, raw):
    refuses(fetch(closed_port(), raw, "--observers"), "expected an answer")


@pytest.mark.parametrize("address",
                         ["dataverse.nl", "ftp://dataverse.nl", "http://", "http://[",
                          "file:///etc"])
def test_a_server_that_is_no_web_address_is_refused(tmp_path, address):
    refuses(fetch(SimpleNamespace(url=address), tmp_path),
            "an address such as https://dataverse.nl", "Correct --server")
