"""How far a pipeline is, from what Nextflow writes: its trace (ended tasks) and its log (submitted tasks).

Both files only grow; each look reads the new bytes and nothing else.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.contract import TaskCounts

_CHUNK: Final = 4 * 1024**2
"""At most this much is read at once: a log that grew by a gigabyte is read in pieces."""
_LONGEST_LINE: Final = 1024**2
"""What has no end of line after so many bytes is given up: no line of interest is as long."""


@dataclass(frozen=True, slots=True)
class TaskRow:
    """One ended task, as the trace has it. Times are milliseconds since 1970, durations milliseconds,
    sizes bytes; None where Nextflow gave none (tasks of under a second often have no peak_rss).
    """

    task_id: int
    hash: str
    """The work dir's last two parts, shortened: `ab/12cd34`."""
    process: str
    tag: str | None
    name: str
    status: str
    """COMPLETED, CACHED, FAILED or ABORTED."""
    exit: int | None
    submit: int | None
    start: int | None
    complete: int | None
    duration: int | None
    realtime: int | None
    cpu_percent: float | None
    peak_rss: int | None
    peak_vmem: int | None
    rchar: int | None
    wchar: int | None
    workdir: str
    container: str | None
    cpus: int | None
    memory: int | None
    attempt: int


def read_rows(trace: Path) -> Iterator[TaskRow]:
    """All tasks that have ended, in that order; none where there is no trace yet."""
    return _rows(_Lines(trace), [])


class TraceReader:
    """Counts the tasks of a run. Missing files are a run that has not begun. Safe to use from several threads.

    It keeps counts, not rows: a run of a hundred thousand tasks costs no more memory than one of ten.
    """

    def __init__(self, trace: Path, nextflow_log: Path) -> None:
        self._lock = threading.Lock()
        self._trace = _Lines(trace)
        self._columns: list[str] = []
        self._status: Counter[str] = Counter()
        self._ended = 0
        self._failed: set[str] = set()
        self._log = _Lines(nextflow_log)
        self._submitted = 0
        self._retried: set[str] = set()

    def counts(self) -> TaskCounts:
        """The tasks so far.

        `submitted` are all that were started by this run, each attempt for itself, `running` those of them that
        have not ended. A failed attempt that was tried again is no failed task; one whose error the pipeline
        ignores is.
        """
        with self._lock:
            # The log first: a task that ends in between counts as running once more, never as less than none.
            self._read_log()
            self._read_trace()
            return TaskCounts(
                submitted=self._submitted,
                running=max(0, self._submitted - self._ended),
                succeeded=self._status["COMPLETED"],
                failed=len(self._failed - self._retried),
                cached=self._status["CACHED"],
            )

    def _read_trace(self) -> None:
        if self._trace.restarted():
            self._columns.clear()
            self._status.clear()
            self._failed.clear()
            self._ended = 0
        for row in _rows(self._trace, self._columns):
            self._status[row.status] += 1
            # A task that was never submitted, as it asks for too much, has a row as well.
            self._ended += row.status != "CACHED" and bool(row.submit)
            if row.status == "FAILED":
                self._failed.add(row.hash)

    def _read_log(self) -> None:
        if self._log.restarted():
            self._submitted = 0
            self._retried.clear()
        for line in self._log.read():
            if _SUBMITTED.search(line):
                self._submitted += 1
                continue
            retried = _RETRIED.search(line)
            if retried:
                self._retried.add(retried[1])


_HASH: Final = r"\[([0-9a-f]{2}/[0-9a-f]{6})\]"
_SUBMITTED: Final = re.compile(rf" - {_HASH} (?:Re-s|S)ubmitted process > ")
_RETRIED: Final = re.compile(rf" - {_HASH} NOTE: .* -- Execution is retried")


class _Lines:
    """The complete new lines of a file, each time from where it was read to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._inode: int | None = None
        self._rest = b""

    def restarted(self) -> bool:
        """Whether another file has taken the place of the one that was read: reading begins anew."""
        try:
            info = self._path.stat()
        except FileNotFoundError:
            return False
        fresh = info.st_size < self._offset or self._inode not in (None, info.st_ino)
        self._inode = info.st_ino
        if fresh:
            self._offset, self._rest = 0, b""
        return fresh

    def read(self) -> Iterator[str]:
        """Lines without their ends; an unfinished one comes when it is complete."""
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return
        with file:
            file.seek(self._offset)
            while chunk := file.read(_CHUNK):
                self._offset += len(chunk)
                *lines, self._rest = (self._rest + chunk).split(b"\n")
                if len(self._rest) > _LONGEST_LINE:
                    self._rest = b""
                for line in lines:
                    yield line.decode("utf-8", "replace")


def _rows(lines: _Lines, columns: list[str]) -> Iterator[TaskRow]:
    """The new rows; `columns` is filled from the first line of the file, and kept by the caller."""
    for line in lines.read():
        cells = line.split("\t")
        if not columns:
            columns.extend(cells)
            continue
        row = _row(columns, cells)
        if row is not None:
            yield row


def _row(columns: list[str], cells: list[str]) -> TaskRow | None:
    """A row by its column names; None for a line that is no row. A tab in a tag cannot be told from a new
    column, so such a row has more cells than columns and is left out.
    """
    if len(cells) != len(columns):
        return None
    row = dict(zip(columns, cells, strict=True))
    if not row.get("status"):
        return None
    return TaskRow(
        task_id=_int(row, "task_id") or 0,
        hash=row.get("hash", ""),
        process=row.get("process") or row.get("name", "").split(" ", 1)[0],
        tag=_text(row, "tag"),
        name=row.get("name", ""),
        status=row["status"],
        exit=_int(row, "exit"),
        submit=_int(row, "submit"),
        start=_int(row, "start"),
        complete=_int(row, "complete"),
        duration=_int(row, "duration"),
        realtime=_int(row, "realtime"),
        cpu_percent=_float(row, "%cpu"),
        peak_rss=_int(row, "peak_rss"),
        peak_vmem=_int(row, "peak_vmem"),
        rchar=_int(row, "rchar"),
        wchar=_int(row, "wchar"),
        workdir=row.get("workdir", ""),
        container=_text(row, "container"),
        cpus=_int(row, "cpus"),
        memory=_int(row, "memory"),
        attempt=_int(row, "attempt") or 1,
    )


def _text(row: Mapping[str, str], name: str) -> str | None:
    value = row.get(name, "-")
    return value if value not in ("-", "") else None


def _float(row: Mapping[str, str], name: str) -> float | None:
    try:
        return float(row.get(name, "").removesuffix("%"))
    except ValueError:
        return None


def _int(row: Mapping[str, str], name: str) -> int | None:
    value = _float(row, name)
    return int(value) if value is not None else None
