"""Which files have arrived already: an agent that was killed in the middle goes on with the rest."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from agent.artifacts.scan import FoundFile


@dataclass(frozen=True)
class _Arrived:
    size: int
    mtime_ns: int
    sha256: str


class UploadJournal:
    """A line of JSON per file that arrived at one destination. Without a path it lasts as long as the process.

    A file counts as arrived while its size and mtime are those that were uploaded. Lines are appended unbuffered: they
    outlive a SIGKILL; after a power loss the machine is gone, and its disk with it.
    """

    def __init__(self, path: Path | None, destination: str) -> None:
        self._path = path
        self._destination = destination
        self._arrived: dict[str, _Arrived] = {}
        self._fd: int | None = None

    def __enter__(self) -> Self:
        if self._path is None:
            return self
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        text = self._path.read_bytes()
        for line in text.splitlines():
            try:
                destination, name, size, mtime_ns, sha256 = json.loads(line)
            except ValueError:
                continue  # the line that was being written when the agent was killed
            if destination == self._destination:
                self._arrived[name] = _Arrived(size, mtime_ns, sha256)
        if text and not text.endswith(b"\n"):
            os.write(self._fd, b"\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def arrived(self, file: FoundFile) -> str | None:
        """The SHA-256 of the file as it arrived, or None where it has not, or has changed since."""
        known = self._arrived.get(file.name)
        same = known is not None and (known.size, known.mtime_ns) == (file.size, file.mtime_ns)
        return known.sha256 if known is not None and same else None

    def add(self, file: FoundFile, sha256: str) -> None:
        """Note that `file`, as it was found, has arrived.

        Raises:
            OSError: the disk is full.
        """
        self._arrived[file.name] = _Arrived(file.size, file.mtime_ns, sha256)
        if self._fd is not None:
            line = json.dumps([self._destination, file.name, file.size, file.mtime_ns, sha256])
            os.write(self._fd, line.encode() + b"\n")
