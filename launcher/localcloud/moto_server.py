"""moto as an HTTP server on this computer, for nobody outside of it."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any, Self

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import BaseWSGIServer, make_server

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]


def moto_application() -> Application:
    """All of moto's AWS, as a WSGI application.

    A conditional write is one step here, as in S3: moto looks whether the object is there, and then writes.
    """
    moto: Application = DomainDispatcherApplication(create_backend_app)
    one_at_a_time = threading.Lock()

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] != "PUT" or "HTTP_IF_NONE_MATCH" not in environ:
            return moto(environ, start_response)
        if environ.get("CONTENT_LENGTH"):
            body_of(environ)  # before the lock: nobody waits for a client that sends slowly
        with one_at_a_time:
            return moto(environ, start_response)

    return application


def body_of(environ: Environ) -> bytes:
    """A request's body of a length that is told; it stays readable for who comes after."""
    body: bytes = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    environ["wsgi.input"] = BytesIO(body)
    return body


class _Handler(MotoRequestHandler):
    disable_nagle_algorithm = True  # else an answer's head and body are 40 ms apart


class MotoServer:
    """Has its address from the moment it is made; answers from `serve` until it is closed."""

    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # no line for every request
        self._sockets = [socket.create_server(("127.0.0.1", 0), backlog=128)]
        self._serving: list[tuple[BaseWSGIServer, threading.Thread]] = []

    @property
    def endpoint_url(self) -> str:
        """`http://127.0.0.1:port`."""
        return f"http://127.0.0.1:{self._sockets[0].getsockname()[1]}"

    def serve_also(self, listening: socket.socket) -> None:
        """Answer on another socket too; before `serve`. The socket is closed with the server."""
        self._sockets.append(listening)

    def serve(self, application: Application) -> None:
        """Answer with `application`, in threads of its own."""
        for listening in self._sockets:
            host, port = listening.getsockname()
            server = make_server(
                host,
                port,
                application,
                threaded=True,
                request_handler=_Handler,
                fd=listening.fileno(),
            )
            thread = threading.Thread(target=server.serve_forever, name="moto", daemon=True)
            thread.start()
            self._serving.append((server, thread))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop answering."""
        for server, thread in self._serving:
            server.shutdown()
            thread.join()
            server.server_close()
        for listening in self._sockets:
            listening.close()
