"""moto as an HTTP server on this computer, for nobody outside of it."""

from __future__ import annotations

import logging
import socket
import threading
from typing import Any, Self

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import BaseWSGIServer, make_server


def moto_application() -> Any:
    """All of moto's AWS, as a WSGI application."""
    return DomainDispatcherApplication(create_backend_app)


class _Handler(MotoRequestHandler):
    disable_nagle_algorithm = True  # else an answer's head and body are 40 ms apart


class MotoServer:
    """Has its address from the moment it is made; answers from `serve` until it is closed."""

    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # no line for every request
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._server: BaseWSGIServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def endpoint_url(self) -> str:
        """`http://127.0.0.1:port`."""
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def serve(self, application: Any) -> None:
        """Answer with `application`, in threads of its own."""
        host, port = self._socket.getsockname()
        self._server = make_server(
            host,
            port,
            application,
            threaded=True,
            request_handler=_Handler,
            fd=self._socket.fileno(),
        )
        self._thread = threading.Thread(target=self._server.serve_forever, name="moto", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop answering."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
        self._socket.close()
