"""A Docker daemon that comes and goes, as one that is restarted does: the real one, behind a socket of the test's."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path
from typing import Final

_SOCKET: Final = "/var/run/docker.sock"


class Relay:
    """Stands between a client and the daemon's socket; `cut` hangs up on everybody, as a restart does."""

    def __init__(self, path: Path) -> None:
        self.url = f"unix://{path}"
        self.accepted = threading.Semaphore(0)
        self.refuse = False
        self._open: set[socket.socket] = set()
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen()
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            if self.refuse:
                client.close()
                continue
            daemon = socket.socket(socket.AF_UNIX)
            daemon.connect(_SOCKET)
            self._open |= {client, daemon}
            threading.Thread(target=_connect, args=(client, daemon), daemon=True).start()
            self.accepted.release()

    def cut(self) -> None:
        """Hang up on all connections."""
        ends = list(self._open)
        self._open.difference_update(ends)
        for end in ends:
            _hang_up(end)

    def close(self) -> None:
        """No more connections."""
        self._server.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._server.close()
        self.cut()  # what was accepted meanwhile


def _connect(client: socket.socket, daemon: socket.socket) -> None:
    """Carry bytes both ways until one end hangs up, and then let go of both."""
    back = threading.Thread(target=_pump, args=(daemon, client), daemon=True)
    back.start()
    _pump(client, daemon)
    back.join()
    # Not before: the file of a socket that a thread still reads outlives its close, and the other side hears nothing.
    client.close()
    daemon.close()


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass
    _hang_up(source)
    _hang_up(target)


def _hang_up(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
