"""A service that fails: a loopback proxy in front of a real one, which loses a known share of the requests."""

from __future__ import annotations

import contextlib
import http.client
import io
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import Enum, unique
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@unique
class Fault(Enum):
    """How a request fails."""

    REFUSED = "503 without asking the service"
    RESET = "the connection is reset before the service is asked"
    LOST_503 = "the service does it, and the answer is a 503"
    LOST_RESET = "the service does it, and the connection is reset before the answer"


ALL = tuple(Fault)


@dataclass(frozen=True)
class Request:
    """One request as it came in, and what became of it."""

    method: str
    path: str
    headers: dict[str, str]
    size: int
    fault: Fault | None


@dataclass
class FlakyProxy:
    """Where the proxy listens, what it has seen, and what it does to the requests to come."""

    url: str
    fraction: float
    faults: tuple[Fault, ...]
    requests: list[Request] = field(default_factory=list)
    script: list[Fault | None] = field(default_factory=list)
    """What happens to the next requests, one each; when it is used up, chance (of a fixed seed) decides."""
    matching: Callable[[Request], bool] = lambda _request: True
    """Which requests may fail."""
    delay_s: float = 0.0
    """How long every request takes at the least."""
    _random: random.Random = field(default_factory=random.Random)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def decide(self, request: Request) -> Fault | None:
        """The fate of the next request."""
        with self._lock:
            if not self.matching(request):
                return None
            if self.script:
                return self.script.pop(0)
            return self._random.choice(self.faults) if self._random.random() < self.fraction else None

    @property
    def failed(self) -> int:
        """How many requests were made to fail."""
        return sum(request.fault is not None for request in self.requests)


@contextlib.contextmanager
def flaky_proxy(
    target: str,
    *,
    fraction: float = 0.0,
    seed: int = 1,
    faults: tuple[Fault, ...] = ALL,
    matching: Callable[[Request], bool] = lambda _request: True,
    delay_s: float = 0.0,
) -> Iterator[FlakyProxy]:
    """Serve `target` (http://host:port) on a free loopback port, failing `fraction` of all requests."""
    upstream = urlsplit(target)
    server = _Server(("127.0.0.1", 0), _Handler)
    chance = random.Random(seed)  # noqa: S311 - the same failures every time is what is wanted
    proxy = FlakyProxy(
        f"http://127.0.0.1:{server.server_port}",
        fraction,
        faults,
        _random=chance,
        matching=matching,
        delay_s=delay_s,
    )
    server.proxy = proxy
    server.upstream = f"{upstream.hostname}:{upstream.port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    """Else the kernel makes one of many connections that come at once wait for a second or three."""
    proxy: FlakyProxy
    upstream: str


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: tests read `requests`."""

    def _serve(self) -> None:
        proxy = self.server.proxy
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size)
        headers = dict(self.headers.items())
        request = Request(self.command, self.path, headers, size, None)
        fault = proxy.decide(request)
        proxy.requests.append(replace(request, fault=fault))
        threading.Event().wait(proxy.delay_s)
        if fault is Fault.REFUSED:
            self._unavailable()
        elif fault is Fault.RESET:
            self._reset()
        else:
            self._forward(body, headers, fault)

    def _forward(self, body: bytes, headers: dict[str, str], fault: Fault | None) -> None:
        connection = http.client.HTTPConnection(self.server.upstream, timeout=60)
        try:
            connection.request(self.command, self.path, body=body, headers=headers)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if fault is Fault.LOST_503:
            self._unavailable()
        elif fault is Fault.LOST_RESET:
            self._reset()
        else:
            self.send_response_only(answer.status, answer.reason)
            for name, value in answer.getheaders():
                if name.lower() not in {"connection", "content-length", "transfer-encoding"}:
                    self.send_header(name, value)
            length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
            self.send_header("Content-Length", length or "0")
            self.end_headers()
            self.wfile.write(content)

    def _unavailable(self) -> None:
        content = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
        self.send_response_only(503, "Slow Down")
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _reset(self) -> None:
        # Lingering for zero seconds makes close() send RST instead of FIN.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()
        # http.server closes the streams of a connection that is gone already once more.
        self.rfile = io.BytesIO()
        self.wfile = io.BytesIO()

    # http.server finds a method's handler by this name.
    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815 - see above
