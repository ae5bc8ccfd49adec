"""The workload's output on disk: a file that its own process appends to, and that is only read here."""

from __future__ import annotations

import os
import threading
from pathlib import Path


class Spool:
    """Reads the spool at any offset, from any thread. The file may come into being later."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._fd: int | None = None

    def size(self) -> int:
        """Bytes so far; 0 where there is no file yet.

        Raises:
            OSError: the file cannot be read.
        """
        fd = self._open()
        return 0 if fd is None else os.fstat(fd).st_size

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`, or fewer where the file ends.

        Raises:
            OSError: the file cannot be read.
        """
        fd = self._open()
        return b"" if fd is None else os.pread(fd, length, offset)

    def mid_line(self, offset: int) -> bool:
        """True when the byte before `offset` does not end a line."""
        return offset > 0 and self.read(offset - 1, 1) != b"\n"

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None

    def _open(self) -> int | None:
        if self._fd is None:
            with self._lock:
                if self._fd is None:
                    try:
                        self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
                    except FileNotFoundError:
                        return None
        return self._fd
