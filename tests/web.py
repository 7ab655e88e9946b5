"""Local HTTP servers that answer as a test wants it: the API's form, or one of many faults."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class Handler(BaseHTTPRequestHandler):
    """Asks its server's `find` for the name and body of what is asked for.

    The first of the server's `faults` under that name answers in its place, once.
    """

    def do_GET(self):
        url = urlsplit(self.path)
        name, body = self.server.find(url.path, parse_qs(url.query))
        self.server.requested.append(name)
        self.server.ranges.append(self.headers.get("Range"))
        faults = self.server.faults.get(name, [])
        (faults.pop(0) if faults else answer)(self, body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    """`requested` and `ranges`: names, and Range headers, in the order of the requests."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.faults, self.requested, self.ranges = {}, [], []
        self.closing = threading.Event()

    def handle_error(self, *_):
        """A client that has seen enough closes the connection."""

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def running(server):
    """The server, answering in a thread of its own."""
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01},
                                  daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()


# What a server may do -----------------------------------------------------------------------------

def answer(handler, body, length=None, status=200, **headers):
    handler.send_response(status)
    handler.send_header("Content-Length", len(body) if length is None else length)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def answer_range(handler, body):
    """As a server that sends the rest of a file on request."""
    text = handler.headers.get("Range")
    if text is None:
        return answer(handler, body)
    start = int(text.removeprefix("bytes=").rstrip("-"))
    return answer(handler, body[start:], status=206,
                  Content_Range=f"bytes {start}-{len(body) - 1}/{len(body)}")


def cut(handler, body):
    answer(handler, body[:len(body) // 2], len(body))


def cut_unannounced(handler, body):
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(body[:len(body) // 2])


def damaged(handler, body):
    answer(handler, body[:-1] + b"?")


def too_long(handler, body):
    answer(handler, body + b"more")


def too_long_unannounced(handler, body):
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(body * 3)


def silent(handler, body):
    handler.server.closing.wait(30)


def stalled(handler, body):
    cut(handler, body)
    handler.server.closing.wait(30)


def busy(handler, body):
    handler.send_error(500)


def absent(handler, body):
    handler.send_error(404)


def says(text, status=200, **headers):
    return lambda handler, body: answer(handler, text, status=status, **headers)


def leads_to(url):
    """A redirect to an address."""
    return lambda handler, body: answer(handler, b"", status=303, Location=url)
