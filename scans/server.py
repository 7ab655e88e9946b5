"""Requests to servers as they are.

They are busy and say for how long, send the reader on to a storage host with a link that expires,
break off, or answer with a web page. A request is repeated where that helps; otherwise the error
holds the server's own words.
"""

import html
import io
import json
import math
import re
import time
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from utils import UserError, log

EXAMPLE = "https://dataverse.nl"
PARALLEL = 4           # transfers at a time: one rarely fills the line, many strain the server
RETRIES = 4            # after a busy server or a bad transfer; the waits between them grow
CONNECTIONS = 3        # attempts to get any answer at all
TIMEOUT_S = (10, 30)   # to connect, and between two pieces of an answer
PATIENCE_S = 600       # the longest wait that a server may ask for
MAX_LIST = 2 ** 26     # bytes; the longest list of files has about 2 MB
MAX_WORDS = 2 ** 14    # bytes that are read of an answer that is only to be explained
BUSY = (408, 425, 429, 500, 502, 503, 504)
BROWSER = "Fetch the files with a browser, and put them where the scans are looked for."


class Unreachable(UserError):
    """The server does not answer: no internet, a wrong address, or a server that is down."""


# Requests -----------------------------------------------------------------------------------------

def open_session():
    """An HTTP session for some transfers at a time; it takes every file as it is stored."""
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=PARALLEL))
    session.headers["Accept-Encoding"] = "identity"  # a .nii.gz as it is, not unpacked on the way
    return session


def get(session, url, stop=None, headers=None, accept=(200,), **query):
    """The server's answer to a GET request, its body still to be read.

    It is asked for again, after growing pauses or the one that the server asks for, where the
    server is busy or does not answer, and where a storage host refuses the link that `url` led to,
    since such links expire.

    Args:
        stop: an Event that ends the waiting.
        accept: statuses that are returned; any other is an error.

    Raises:
        Unreachable: no answer.
        UserError: another status, with the server's own words, or no web address.
    """
    for attempt in range(RETRIES + 1):
        try:
            response = session.get(url, params=query, headers=headers, stream=True,
                                   timeout=TIMEOUT_S)
        except (requests.ConnectionError, requests.Timeout) as error:
            if attempt + 1 >= CONNECTIONS:
                reason = error.args[0] if error.args else error
                reason = getattr(reason, "reason", reason)
                raise Unreachable(url, "an answer", f"none ({type(reason).__name__})",
                                  "Check the internet connection and the address, "
                                  "then repeat the command.") from None
            pause(2 ** attempt, stop)
            continue
        except requests.RequestException as error:
            raise wrong_address(url, error) from None

        if response.status_code in accept:
            return response
        wait = seconds_to_wait(response, attempt)
        if wait is None or wait > PATIENCE_S or attempt == RETRIES:
            raise refusal(url, response)
        response.close()
        pause(wait, stop)


def wrong_address(url, error):
    """The UserError about an address that cannot be asked, or that leads nowhere."""
    if isinstance(error, requests.TooManyRedirects):
        return UserError(url, "an answer", "an endless chain of redirects", BROWSER)
    if isinstance(error, requests.exceptions.InvalidProxyURL) or "SOCKS" in str(error):
        return UserError(url, "a proxy that can be asked", one_line(error), "Correct HTTPS_PROXY "
                         "or ALL_PROXY, or unset it (SOCKS needs: pip install requests[socks]).")
    return UserError(url, f"an address such as {EXAMPLE}", one_line(error), "Correct --server.")


def seconds_to_wait(response, attempt):
    """How long to wait before the request is repeated, or None if that would not help."""
    asked = retry_after(response)
    if response.status_code in BUSY or asked is not None:
        return 2 ** attempt if asked is None else asked
    if response.history and 400 <= response.status_code < 500:  # a link that has expired
        return 2 ** attempt
    return None


def retry_after(response):
    """The seconds of a Retry-After header, whether a number or a date; None without a valid one."""
    text = response.headers.get("Retry-After", "").strip()
    if re.fullmatch("[0-9]{1,9}", text):
        return int(text)
    try:
        date = parsedate_to_datetime(text)
        seconds = (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0, math.ceil(seconds))


def pause(seconds, stop=None):
    """Sleep a second at a time, since another transfer that fails ends the wait.

    Raises:
        InterruptedError: `stop` was set meanwhile.
    """
    if seconds > 10:
        log(f"the server asks to wait {seconds} s")
    for waited in range(math.ceil(seconds)):
        if stop is not None and stop.is_set():
            raise InterruptedError("stopped")
        time.sleep(min(1, seconds - waited))


def refusal(url, response):
    """The UserError about an answer of another status, which is closed."""
    status, words, asked = response.status_code, said_by(response), retry_after(response)
    response.close()
    host = f" from {urlsplit(response.url).netloc}" if response.history else ""
    found = f"{status} {one_line(response.reason)}{host}" + (f': "{words}"' if words else "")

    if "guestbook" in words.lower():
        do = ("Open the data set's page in a browser, fill in its guestbook, fetch the files "
              "there, and put them where the scans are looked for.")
    elif asked:
        do = f"Wait {asked} s, then repeat the command: it fetches what is missing."
    elif status in (404, 410):
        do = "Check the address of the server (--server, or make ... SERVER=)."
    elif status in BUSY:
        do = "Try again later, or fetch the files with a browser."
    else:
        do = f"{BROWSER} If a proxy refused it, try another network."
    return UserError(url, "status 200", found, do)


def ask(session, url, expected, parse, **query):
    """`parse` of the JSON that a server answers with.

    Args:
        expected: what the answer is to be, in words.
        parse: called with the JSON value; a KeyError, TypeError, ValueError or AttributeError
            says that it has another form.

    Raises:
        Unreachable: no answer.
        UserError: another answer; where it is a web page, its title.
    """
    body = read_answer(session, url, expected, query)
    try:
        return parse(json.loads(body))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        words = words_in(body)
        found = f"another answer ({one_line(f'{type(error).__name__}: {error}')})"
        if words:
            found = f'{"a web page" if is_page(body) else "another answer"}, "{words}"'
        raise UserError(url, expected, found,
                        "Check the address, and that no login page is in the way.") from None


def read_answer(session, url, expected, query):
    """The body of an answer, which is asked for again if it breaks off."""
    for attempt in range(RETRIES + 1):
        body = io.BytesIO()
        try:
            with get(session, url, **query) as response:
                copy_body(response, body, MAX_LIST)
            return body.getvalue()
        except ValueError as error:
            raise UserError(url, expected, str(error), "Check the address.") from None
        except requests.RequestException as error:
            if attempt == RETRIES:
                raise UserError(url, expected, one_line(error), "Try again later.") from None
            pause(2 ** attempt)


def copy_body(response, sink, limit, stop=None, tell=lambda position: None):
    """Write the body of an answer to the file `sink`.

    Raises:
        ValueError: more than `limit` bytes.
        requests.RequestException: a transfer that broke off.
        InterruptedError: `stop` was set meanwhile.
    """
    received = 0
    for chunk in response.iter_content(1 << 16):
        received += len(chunk)
        if received > limit:
            raise ValueError(f"more than {limit} bytes")
        if stop is not None and stop.is_set():
            raise InterruptedError("stopped")
        sink.write(chunk)
        tell(sink.tell())


# What a server says -------------------------------------------------------------------------------

def said_by(response):
    """What the body of an answer says, as `words_in` finds it; "" if it cannot be read."""
    body = io.BytesIO()
    with suppress(requests.RequestException, ValueError):  # what came is enough
        copy_body(response, body, MAX_WORDS)
    return words_in(body.getvalue())


def words_in(body):
    """The message of a JSON or XML answer, the title of a web page, or plain text, in one line."""
    text = body[:MAX_WORDS].decode("utf-8", "replace")
    if "\ufffd" in text[:500] or "\0" in text:  # no text
        return ""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        found = [value[key] for key in ("message", "error", "detail") if value.get(key)]
        return one_line(found[0]) if found else ""

    if match := re.search(r"<(title|message)\b[^<>]*>(.*?)</\1", text, re.IGNORECASE | re.DOTALL):
        return one_line(html.unescape(match[2]))
    return "" if text.startswith(("{", "[")) else one_line(re.sub("<[^<>]*>", " ", text))


def one_line(value):
    """Text of somebody else in one line of printable characters, cut where it is long."""
    text = " ".join(str(value)[:2000].split())
    text = "".join(letter for letter in text if letter.isprintable())
    return text if len(text) <= 200 else f"{text[:197]}..."


def is_page(body):
    """Is this the beginning of a web page?"""
    return bool(re.match(rb"(?i)(\xef\xbb\xbf)?\s*<(!doctype\s+html|html|head|body)\b", body[:500]))
