"""Network namespaces without names: each is held by a process, and goes with it."""

from __future__ import annotations

import ctypes
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

T = TypeVar("T")
_CLONE_NEWNET: Final = 0x40000000


@contextmanager
def network() -> Iterator[int]:
    """An empty network namespace; yields the process that holds it. It ends with its maker at the latest."""
    holder = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "ip link set lo up && echo ready && exec cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert holder.stdout is not None
        if holder.stdout.readline() != b"ready\n":
            raise RuntimeError("no network namespace can be made here: root's rights are needed")
        yield holder.pid
    finally:
        assert holder.stdin is not None
        holder.stdin.close()
        holder.wait()


def ip(pid: int, *words: str) -> None:
    """`ip` in the network namespace of a process."""
    within(pid, "ip", *words)


def within(pid: int, *words: str, stdin: str | None = None) -> str:
    """What a program of this computer says in the network namespace of a process."""
    command = ["nsenter", "--target", str(pid), "--net", *words]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def inside(pid: int, work: Callable[[], T]) -> T:
    """The result of `work`, done in the network namespace of a process; sockets it makes stay there."""
    results: list[T] = []
    errors: list[OSError] = []

    def do() -> None:
        try:
            _enter(pid)
            results.append(work())
        except OSError as error:
            errors.append(error)

    # A namespace is a thread's own: this one is thrown away.
    thread = threading.Thread(target=do)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _enter(pid: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with Path(f"/proc/{pid}/ns/net").open("rb") as namespace:
        if libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")


def listen(address: str, port: int) -> socket.socket:
    """A listening socket."""
    return socket.create_server((address, port), backlog=128)
