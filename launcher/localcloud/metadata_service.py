"""A metadata service for simulated instances: IMDSv2 as EC2 answers it, for any number of instances.

One server, any address; who asks is for the caller to say. In the local cloud every instance has a path of
its own that nobody can guess; where machines have addresses of their own, the address tells.
"""

from __future__ import annotations

import re
import secrets
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, Self
from urllib.parse import unquote, urlsplit

from launcher.localcloud.metadata_values import InstanceMetadata, leaves, look_up

MAX_TTL_S: Final = 21_600
_SESSION: Final = "/latest/api/token"
_VERSION: Final = re.compile(r"/(?:latest|20\d\d-\d\d-\d\d)((?:/.*)?)")
"""What every path begins with. All versions say the same here; cloud-init asks for those with a date."""
_TTL: Final = "X-aws-ec2-metadata-token-ttl-seconds"
_TOKEN_HEADER: Final = "X-aws-ec2-metadata-token"  # noqa: S105 - a header, no secret


@dataclass(frozen=True)
class Question:
    """A request whose asker is known."""

    asker: InstanceMetadata
    path: str
    """As an instance on EC2 would ask it: `/latest/…`."""


Identify = Callable[[str, str], Question | None]
"""From the client's address and the path to the question; None for a stranger, who gets a 404."""


class MetadataServer:
    """Answers on `listen`, in threads of its own, from the moment it is made until it is closed.

    Args:
        listen: host and port (0: any free one), or a socket that listens already.
        identify: says who asks.
        now: the wall clock, in UTC.
    """

    def __init__(
        self,
        listen: tuple[str, int] | socket.socket,
        identify: Identify,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        tokens = _Tokens(now)

        class Handler(_Handler):
            pass

        Handler.identify, Handler.tokens, Handler.now = staticmethod(identify), tokens, staticmethod(now)
        if isinstance(listen, socket.socket):
            self._server = _Server(listen.getsockname()[:2], Handler, bind_and_activate=False)
            self._server.socket.close()
            self._server.socket = listen
        else:
            self._server = _Server(listen, Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="metadata service", daemon=True
        )
        self._thread.start()

    @property
    def endpoint_url(self) -> str:
        """`http://host:port`, without a slash at its end."""
        host, port = self._server.socket.getsockname()[:2]
        return f"http://{host}:{port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


class _Tokens:
    """Session tokens: each is good for the instance that asked for it, and for a time."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._known: dict[str, tuple[str, datetime]] = {}

    def give(self, instance_id: str, ttl_s: int) -> str:
        token = secrets.token_urlsafe(40)
        now = self._now()
        with self._lock:
            self._known = {key: entry for key, entry in self._known.items() if entry[1] > now}
            self._known[token] = (instance_id, now + timedelta(seconds=ttl_s))
        return token

    def good(self, token: str, instance_id: str) -> bool:
        with self._lock:
            owner, until = self._known.get(token, ("", datetime.min.replace(tzinfo=UTC)))
        return owner == instance_id and until > self._now()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: else Nagle's algorithm costs 40 ms an answer
    disable_nagle_algorithm = True
    identify: Identify
    tokens: _Tokens
    now: Callable[[], datetime]

    def do_PUT(self) -> None:
        question = self._question()
        if question is None or question.path != _SESSION:
            return self._answer(HTTPStatus.NOT_FOUND)
        if self.headers.get("X-Forwarded-For"):
            return self._answer(HTTPStatus.FORBIDDEN)
        ttl = self.headers.get(_TTL, "")
        if not (ttl.isdecimal() and 1 <= int(ttl) <= MAX_TTL_S):
            return self._answer(HTTPStatus.BAD_REQUEST)
        token = self.tokens.give(question.asker.instance_id, int(ttl))
        # As on EC2, only this answer carries the hop limit as its IP time to live.
        if question.asker.hop_limit is not None:
            self.connection.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, question.asker.hop_limit)
            self.close_connection = True
        return self._answer(HTTPStatus.OK, token.encode(), {_TTL: ttl})

    def do_GET(self) -> None:
        question = self._question()
        if question is None:
            return self._answer(HTTPStatus.NOT_FOUND)
        if not self.tokens.good(self.headers.get(_TOKEN_HEADER, ""), question.asker.instance_id):
            return self._answer(HTTPStatus.UNAUTHORIZED)
        versioned = _VERSION.fullmatch(question.path)
        if versioned is None:
            return self._answer(HTTPStatus.NOT_FOUND)
        found = look_up(leaves(question.asker, self.now()), unquote(versioned[1]))
        if found is None:
            return self._answer(HTTPStatus.NOT_FOUND)
        return self._answer(HTTPStatus.OK, found)

    def _question(self) -> Question | None:
        return self.identify(self.client_address[0], urlsplit(self.path).path)

    def _answer(
        self, status: HTTPStatus, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> None:
        # A body that was sent along is not read: it would be taken for the next request.
        self.close_connection |= int(self.headers.get("Content-Length") or 0) > 0
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *_arguments: object) -> None:
        """Nothing: an agent polls every few seconds."""


def by_secret_path(instances: Callable[[str], InstanceMetadata | None]) -> Identify:
    """Who asks is told by the first part of the path: `/<secret>/latest/…`."""

    def identify(_address: str, path: str) -> Question | None:
        _, secret, rest = (*path.split("/", 2), "", "")[:3]
        asker = instances(secret)
        return Question(asker, "/" + rest) if asker else None

    return identify
