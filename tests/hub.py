"""A server on this machine that answers like the Hugging Face Hub's resolve addresses.

The Hub states a file's size and digest in a redirect to another server, which sends the bytes.
"""

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REDIRECTED = "/bytes"


@dataclass
class Hub:
    """What the server has, how it misbehaves, and what it was asked."""

    data: bytes
    address: str = ""
    etag: str = '"one"'
    states: bool = True
    """Whether it states size and digest, and the length of what it sends."""
    refuses: list[int] = field(default_factory=list)
    """Statuses of the next answers, instead of the file."""
    breaks_after: list[int] = field(default_factory=list)
    """Of the next answers, after so many bytes of each the connection ends."""
    ranges: bool = True
    """Whether it can send parts."""
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """Paths and headers of the requests for files, without those that were redirected."""
    sends_on_to: str = ""
    """An address that it redirects to, in place of its own."""
    goes_on: int = 0
    """Bytes that it sends after the file's, without a length."""
    pause: float = 0.0
    """Seconds after each KiB."""
    sent: int = 0
    """Bytes of files."""
    first_seen: dict[str, str] = field(default_factory=dict)
    """The headers of the first request of all."""


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: pytest shows what matters."""

    def do_GET(self) -> None:
        hub = self.hub
        hub.first_seen = hub.first_seen or dict(self.headers)
        if not self.path.startswith(REDIRECTED):
            self._redirect()
            return
        hub.asked.append((self.path, dict(self.headers)))
        if hub.refuses:
            self.send_error(hub.refuses.pop(0))
            return
        start = self._start()
        body = hub.data[start:]
        self.send_response(206 if start else 200)
        self.send_header("ETag", hub.etag)
        if start:
            total = len(hub.data)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if hub.states and not hub.goes_on:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if hub.breaks_after:
            body = body[: hub.breaks_after.pop(0)]
        hub.sent += len(body)  # before the client can know that it has everything
        with suppress(ConnectionError):  # the client went away
            step = 1 << 10 if hub.pause else len(body) or 1
            for first in range(0, len(body), step):
                self.wfile.write(body[first : first + step])
                time.sleep(hub.pause)
            self.wfile.write(bytes(hub.goes_on))

    def _redirect(self) -> None:
        self.send_response(302)
        if self.hub.states:
            self.send_header("X-Linked-Size", str(len(self.hub.data)))
            digest = hashlib.sha256(self.hub.data).hexdigest()
            self.send_header("X-Linked-ETag", f'"{digest}"')
        self.send_header("Location", self.hub.sends_on_to or REDIRECTED + self.path)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _start(self) -> int:
        wanted = self.headers.get("Range")
        if wanted is None or not self.hub.ranges or self.headers["If-Range"] != self.hub.etag:
            return 0
        return int(wanted.removeprefix("bytes=").removesuffix("-"))


@contextmanager
def serving(data: bytes) -> Iterator[Hub]:
    """A running server that has one file, under every name."""
    hub = Hub(data)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
