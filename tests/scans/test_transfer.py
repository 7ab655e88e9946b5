"""Requests to servers as they are, and files from them: waiting, redirects, resuming, reasons."""

import hashlib
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

import web
from scans import server as requests_to_servers
from scans.server import ask, get, is_page, open_session, words_in
from scans.transfer import Checksum, fetch_file
from utils import UserError
from web import answer, answer_range, cut, leads_to, says

CONTENT = bytes(range(256)) * 12_000  # 3 MB: three times what counts as getting on
SHA1 = hashlib.sha1(CONTENT).hexdigest()


class Files(web.Server):
    """A server of one file, whatever the path."""

    body = CONTENT

    def find(self, path, query):
        return path.lstrip("/"), self.body


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with web.running(Files()) as server:
        yield server


@pytest.fixture
def storage(monkeypatch):
    """A second host, to which the first one leads."""
    with web.running(Files()) as server:
        yield server


@pytest.fixture
def waited(monkeypatch):
    """The seconds of every pause; none is made."""
    seconds = []
    monkeypatch.setattr("time.sleep", seconds.append)
    return seconds


@pytest.fixture
def session():
    with open_session() as session:
        yield session


def fetch(session, server, folder, checksum=None):
    folder.mkdir(exist_ok=True)
    fetch_file(session, f"{server.url}/file", folder / "file", len(CONTENT),
               checksum or Checksum("sha1", SHA1), "a scan")
    return (folder / "file").read_bytes()


def near_the_half(text):
    """Does a Range header begin where half of CONTENT has come, but for one piece?"""
    return -2**16 < int(text.removeprefix("bytes=").rstrip("-")) - len(CONTENT) // 2 <= 0


def error_of(call, *words):
    with pytest.raises(UserError) as caught:
        call()
    text = str(caught.value)
    assert all(word in text for word in words) and "\n" not in text, text
    return text


# Checksums ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind, name", [("MD5", "md5"), ("SHA-1", "sha1"), ("SHA-256", "sha256"),
                                        ("SHA-512", "sha512"), ("sha1", "sha1"),
                                        ("SHA256", "sha256")])
def test_a_checksum_of_any_kind_that_the_server_gives_is_compared(tmp_path, kind, name):
    (tmp_path / "scan").write_bytes(b"abc")
    right = Checksum.of(kind, hashlib.new(name, b"abc").hexdigest().upper())
    assert right.matches(tmp_path / "scan")
    assert not Checksum.of(kind, hashlib.new(name, b"abd").hexdigest()).matches(tmp_path / "scan")


@pytest.mark.parametrize("kind, value", [
    ("SHA-1", "0" * 32), ("MD5", "0" * 40), ("SHA-384", "0" * 96), ("SHA-1", ""), ("", ""),
    ("CRC-32", "0" * 8), ("MD5", "g" * 32), (None, None), ("MD5", 0)])
def test_what_is_no_checksum_is_refused(kind, value):
    with pytest.raises(ValueError, match="no checksum"):
        Checksum.of(kind, value)


# Waiting ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again_after_the_seconds_it_names(session, server, waited, status):
    server.faults["file"] = [says(b"", status, Retry_After="7")]
    get(session, f"{server.url}/file").close()
    assert sum(waited) == 7 and len(server.requested) == 2


def test_the_wait_may_be_a_date(session, server, waited):
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    server.faults["file"] = [says(b"", 429, Retry_After=date)]
    get(session, f"{server.url}/file").close()
    assert 28 <= sum(waited) <= 30


@pytest.mark.parametrize("text", ["soon", "-5", "1e9", "9" * 5000, "Fri, 99 Foo 2026", "٣",
                                  "Wed, 01 Jan 2020 00:00:00 GMT", ""])
def test_a_wait_that_says_nothing_is_a_short_pause(session, server, waited, text):
    server.faults["file"] = [says(b"", 429, Retry_After=text.encode().decode("latin-1"))]
    get(session, f"{server.url}/file").close()
    assert sum(waited) <= 1 and len(server.requested) == 2


def test_a_wait_of_hours_is_an_error_that_names_it(session, server, waited):
    server.faults["file"] = [says(b'{"message": "Rate limit exceeded"}', 429, Retry_After="7200")]
    error_of(lambda: get(session, f"{server.url}/file"), "429 Too Many Requests",
             '"Rate limit exceeded"', "Wait 7200 s")
    assert not waited


def test_the_pauses_grow_where_the_server_names_none(session, server, waited):
    server.faults["file"] = [web.busy] * 3
    get(session, f"{server.url}/file").close()
    assert sum(waited) == 1 + 2 + 4


def test_a_server_that_stays_busy_is_an_error(session, server, waited):
    server.faults["file"] = [says(b"", 429, Retry_After="1")] * 99
    error_of(lambda: get(session, f"{server.url}/file"), "429 Too Many Requests")
    assert len(server.requested) == 1 + requests_to_servers.RETRIES


def test_a_failure_elsewhere_ends_the_wait(waited):
    stop = threading.Event()
    stop.set()
    with pytest.raises(InterruptedError):
        requests_to_servers.pause(300, stop)
    assert not waited


# Redirects ----------------------------------------------------------------------------------------

def test_a_redirect_to_a_storage_host_is_followed(session, server, storage, tmp_path):
    server.faults["file"] = [leads_to(f"{storage.url}/stored")]
    assert fetch(session, server, tmp_path) == CONTENT
    assert server.requested == ["file"] and storage.requested == ["stored"]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_a_link_that_has_expired_is_asked_for_again(session, server, storage, tmp_path, waited,
                                                    status):
    storage.faults["signature0"] = [says(
        b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>", status)]
    server.faults["file"] = [leads_to(f"{storage.url}/signature0"),
                             leads_to(f"{storage.url}/signature1")]
    assert fetch(session, server, tmp_path) == CONTENT
    assert storage.requested == ["signature0", "signature1"]


def test_a_link_that_stays_expired_is_an_error_without_the_signature(session, server, storage,
                                                                     waited):
    server.faults["file"] = [leads_to(f"{storage.url}/x?X-Amz-Signature=secret")] * 99
    storage.faults["x"] = [says(b"<Error><Message>Request has expired</Message></Error>", 403)] * 99
    text = error_of(lambda: get(session, f"{server.url}/file"), "403 Forbidden",
                    storage.url.removeprefix("http://"), '"Request has expired"')
    assert "secret" not in text


def test_a_transfer_that_broke_off_after_its_link_expired_goes_on(session, server, storage,
                                                                  tmp_path, waited):
    server.faults["file"] = [leads_to(f"{storage.url}/a"), leads_to(f"{storage.url}/a"),
                             leads_to(f"{storage.url}/b")]
    storage.faults |= {"a": [cut, says(b"expired", 410)], "b": [answer_range]}
    assert fetch(session, server, tmp_path) == CONTENT
    assert storage.ranges[0] is None and storage.ranges[1] == storage.ranges[2]
    assert near_the_half(storage.ranges[1])


def test_a_chain_of_redirects_without_end_is_an_error(session, server):
    server.faults["file"] = [leads_to("/file")] * 99
    error_of(lambda: get(session, f"{server.url}/file"), "an endless chain of redirects")


# Resuming -----------------------------------------------------------------------------------------

def test_a_transfer_that_breaks_off_goes_on_where_it_was(session, server, tmp_path, waited):
    server.faults["file"] = [cut, answer_range]
    assert fetch(session, server, tmp_path) == CONTENT
    assert server.ranges[0] is None and near_the_half(server.ranges[1])


def test_what_an_earlier_program_left_is_not_fetched_again(session, server, tmp_path):
    (tmp_path / f"file.{SHA1[:12]}.part").write_bytes(CONTENT[:1000])
    server.faults["file"] = [answer_range]
    assert fetch(session, server, tmp_path) == CONTENT
    assert server.ranges == ["bytes=1000-"] and [path.name for path in tmp_path.iterdir()] == [
        "file"]


def test_a_server_that_knows_no_ranges_sends_the_file_again(session, server, tmp_path):
    (tmp_path / f"file.{SHA1[:12]}.part").write_bytes(CONTENT[:1000])
    server.faults["file"] = [answer]
    assert fetch(session, server, tmp_path) == CONTENT


@pytest.mark.parametrize("left", [b"?" * 1000, CONTENT[:-1] + b"?", CONTENT + b"more"])
def test_leftovers_of_another_content_are_thrown_away(session, server, tmp_path, waited, left):
    (tmp_path / f"file.{SHA1[:12]}.part").write_bytes(left)
    server.faults["file"] = [answer_range] * 2
    assert fetch(session, server, tmp_path) == CONTENT
    assert server.ranges[-1] is None


@pytest.mark.parametrize("place", ["bytes 0-9/10", f"bytes 999-{len(CONTENT) - 1}/{len(CONTENT)}",
                                   "", f"bytes 1000-{len(CONTENT) - 1}/99"])
def test_bytes_of_another_place_are_not_appended(session, server, tmp_path, waited, place):
    (tmp_path / f"file.{SHA1[:12]}.part").write_bytes(CONTENT[:1000])
    server.faults["file"] = [lambda handler, body: answer(
        handler, body[1000:], status=206, Content_Range=place)]
    assert fetch(session, server, tmp_path) == CONTENT
    assert len(server.requested) == 2


def test_a_range_that_the_server_cannot_satisfy_is_begun_again(session, server, tmp_path, waited):
    (tmp_path / f"file.{SHA1[:12]}.part").write_bytes(CONTENT[:1000])
    server.faults["file"] = [says(b"", 416)]
    assert fetch(session, server, tmp_path) == CONTENT


def test_a_file_that_has_come_survives_ctrl_c_while_it_is_compared(session, server, tmp_path,
                                                                  monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("pooch.core.hash_matches", interrupt)
        fetch(session, server, tmp_path)
    assert fetch(session, server, tmp_path) == CONTENT and len(server.requested) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_of_another_content_leaves_nothing(session, server, tmp_path, waited):
    other = Checksum("sha1", "0" * 40)
    error_of(lambda: fetch(session, server, tmp_path, other), f"sha1 {'0' * 40}")
    assert not list(tmp_path.iterdir())


def test_a_disk_without_links_will_do(session, server, tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError("Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    assert fetch(session, server, tmp_path) == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("proxy", ["socks5h://127.0.0.1:9", "http://"])
def test_a_proxy_that_cannot_be_asked_is_named_as_such(session, monkeypatch, proxy):
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    error_of(lambda: get(session, "https://dataverse.invalid/x"), "expected a proxy",
             "Correct HTTPS_PROXY or ALL_PROXY")


def test_a_transfer_that_breaks_off_often_but_gets_on_is_carried_through(session, server, tmp_path,
                                                                         monkeypatch, waited):
    """Ten times, though after four without progress it would give up."""
    monkeypatch.setattr("scans.transfer.PROGRESS", 1000)
    tenth = len(CONTENT) // 10

    def a_tenth(handler, body):
        start = int((handler.headers.get("Range") or "bytes=0-")[6:-1])
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        handler.send_header("Content-Length", len(body) - start)
        handler.end_headers()
        handler.wfile.write(body[start:start + tenth])

    server.faults["file"] = [a_tenth] * 12
    assert fetch(session, server, tmp_path) == CONTENT


# Pages and reasons --------------------------------------------------------------------------------

PAGE = b"<!DOCTYPE html><html><head><title>Hotel\n Wi-Fi: log in</title></head></html>"


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/gzip"])
def test_a_page_in_place_of_a_file_is_tried_again(session, server, tmp_path, waited, kind):
    server.faults["file"] = [says(PAGE, Content_Type=kind)]
    assert fetch(session, server, tmp_path) == CONTENT


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/gzip"])
def test_a_page_that_stays_in_place_of_a_file_is_named_by_its_title(session, server, tmp_path,
                                                                    waited, kind):
    server.faults["file"] = [says(PAGE, Content_Type=kind)] * 99
    error_of(lambda: fetch(session, server, tmp_path), "a scan", "Hotel Wi-Fi: log in")
    assert not list(tmp_path.iterdir())


def test_a_page_of_unknown_length_is_no_file(session, server, tmp_path, waited):
    def unannounced(handler, body):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(PAGE)

    server.faults["file"] = [unannounced] * 99
    error_of(lambda: fetch(session, server, tmp_path), 'a web page, "Hotel Wi-Fi: log in"')
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [
    says(PAGE, Content_Type="text/html"), says(b'{"message": "Storage is offline"}')])
def test_what_has_come_stays_when_something_else_is_answered(session, server, tmp_path, waited,
                                                             words):
    part = tmp_path / f"file.{SHA1[:12]}.part"
    part.write_bytes(CONTENT[:1000])
    server.faults["file"] = [words] * 5
    error_of(lambda: fetch(session, server, tmp_path), "Repeat the command")
    assert part.read_bytes() == CONTENT[:1000]
    server.faults["file"] = [answer_range]
    assert fetch(session, server, tmp_path) == CONTENT and server.ranges[-1] == "bytes=1000-"


def test_a_message_of_status_200_in_place_of_a_file_is_shown(session, server, tmp_path, waited):
    server.faults["file"] = [says(b'{"status": "ERROR", "message": "Storage is offline"}')] * 99
    error_of(lambda: fetch(session, server, tmp_path), "Storage is offline")


@pytest.mark.parametrize("status", [400, 403])
def test_a_guestbook_is_explained(session, server, status):
    body = (b'{"status":"ERROR","message":"You may not download this file without the required '
            b'Guestbook response for guestbook ID 3."}')
    server.faults["file"] = [says(body, status)] * 99
    error_of(lambda: get(session, f"{server.url}/file"), str(status), "guestbook ID 3",
             "fill in its guestbook")
    assert len(server.requested) == 1


def test_a_refusal_is_given_in_the_servers_words(session, server):
    server.faults["file"] = [says(b'{"status":"ERROR","message":"Not authorized"}', 403)] * 99
    error_of(lambda: get(session, f"{server.url}/file"), '403 Forbidden: "Not authorized"',
             "with a browser")


@pytest.mark.parametrize("body, words", [
    (b'{"status": 404, "message": "PID does not exist."}', "PID does not exist."),
    (b'{"error": "quota"}', "quota"), (b"{}", ""), (b"[1]", ""), (b"", ""),
    (b"<title>Bad &amp; worse</title>", "Bad & worse"),
    (b"<html><TITLE lang='en'>\n Down \n for work</TITLE>", "Down for work"),
    (b"<?xml version='1.0'?><Error><Message>Expired</Message></Error>", "Expired"),
    (b"<html><body><h1>Sorry</h1></body>", "Sorry"), (b"slow down\n", "slow down"),
    (b"\x1f\x8b\x08\xff\xfe", ""), (b"a\0b", ""), ("zu viele Anfragen für heute".encode(),
                                                     "zu viele Anfragen für heute"),
    (b"\x1b[31mred", "[31mred"), (b"x" * 500, "x" * 197 + "..."), (b"[" * 100_000, "")])
def test_the_words_of_a_server_are_found_in_what_it_sends(body, words):
    assert words_in(body) == words


@pytest.mark.parametrize("body, page", [
    (b"<html>", True), (b"\n <!DOCTYPE HTML PUBLIC", True), (b"\xef\xbb\xbf<html", True),
    (b"\x1f\x8b", False), (b"PK\x03\x04", False), (b'{"a": "<html>"}', False)])
def test_a_page_is_told_from_a_file(body, page):
    assert is_page(body) is page


# JSON ---------------------------------------------------------------------------------------------

def test_a_list_that_breaks_off_is_asked_for_again(session, server, waited):
    server.body = b'{"a": [1, 2, 3]}'
    server.faults["list"] = [cut]
    assert ask(session, f"{server.url}/list", "a list", lambda value: value["a"]) == [1, 2, 3]


def test_a_page_in_place_of_a_list_is_named_by_its_title(session, server):
    server.faults["list"] = [says(PAGE)]
    error_of(lambda: ask(session, f"{server.url}/list", "the list of files", len),
             "expected the list of files", 'a web page, "Hotel Wi-Fi: log in"', "login page")


def test_a_message_in_place_of_a_list_is_shown(session, server):
    server.faults["list"] = [says(b'{"message": "down for maintenance"}')]
    error_of(lambda: ask(session, f"{server.url}/list", "a list", lambda value: value["data"]),
             '"down for maintenance"')
