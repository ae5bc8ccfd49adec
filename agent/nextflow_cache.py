"""Nextflow's own cache on disk, packed while Nextflow writes to it.

It is a LevelDB in `.nextflow/cache/<session>/`, and the session's line in `.nextflow/history`. LevelDB appends to its
log and makes new tables, which it then names in its manifest; old ones are deleted. So a copy is good if no file came
or went while it was made. A torn end of the log is a record that LevelDB leaves out by itself. Its LOCK stays behind.
"""

from __future__ import annotations

import errno
import gzip
import logging
from pathlib import Path
from typing import Final

from agent.tarball import members, pack

log = logging.getLogger(__name__)

State = frozenset[tuple[str, int, int]]
"""Name, size and mtime (ns) of every file."""
_ATTEMPTS: Final = 3
_HISTORY: Final = ".nextflow/history"
_COMES_AND_GOES: Final = ("LOG", "LOG.old")
"""LevelDB's diary, of which its data are independent."""


class NextflowCache:
    """The cache of one session below the folder that Nextflow is started in."""

    def __init__(self, launch: Path, session_id: str) -> None:
        self._launch = launch
        self._below = f".nextflow/cache/{session_id}"

    def state(self) -> State:
        """What is there now; empty while there is no cache."""
        found: set[tuple[str, int, int]] = set()
        for name in self._names():
            path = self._launch / name
            try:
                info = path.stat()
            except FileNotFoundError:
                continue
            if path.is_file():
                found.add((name, info.st_size, info.st_mtime_ns))
        return frozenset(found)

    def pack(self, archive: Path) -> State | None:
        """Write the cache as a tar.gz, to be unpacked in a launch folder; what it was then, or None.

        None where there is no cache, or it was rearranged each time while it was copied.

        Raises:
            OSError: the disk is full or gone.
        """
        for _ in range(_ATTEMPTS):
            before = self.state()
            if not before:
                return None
            try:
                self._write(archive)
            except OSError as error:
                if error.errno not in {None, errno.ENOENT}:
                    raise
                log.info("Nextflow's cache changed while it was copied: %s", error)
                continue
            if _files(before) == _files(self.state()):
                return before
        log.info("Nextflow's cache kept changing while it was copied")
        return None

    def _write(self, archive: Path) -> None:
        # mtime 0: the same cache gives the same bytes.
        with (
            archive.open("wb") as raw,
            gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=1, mtime=0) as file,
        ):
            for chunk in pack(self._launch, self._names()):
                file.write(chunk)

    def _names(self) -> list[str]:
        folder = self._launch / self._below
        if not folder.is_dir():
            return []
        try:
            inside = [name for name in members(folder) if name != "." and not name.endswith("LOCK")]
        except FileNotFoundError:
            return []
        history = [_HISTORY] if (self._launch / _HISTORY).is_file() else []
        return [
            ".nextflow",
            ".nextflow/cache",
            self._below,
            *(f"{self._below}/{name}" for name in inside),
            *history,
        ]


def _files(state: State) -> frozenset[str]:
    return frozenset(name for name, _, _ in state if not name.endswith(_COMES_AND_GOES))
