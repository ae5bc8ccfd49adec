"""What of a log was sent and what was accepted: a small file that a killed agent finds again.

A batch is written down before it is sent (intent) and again when it was accepted. Every batch has a timestamp
of its own, so an intent without its acceptance can be looked up in the stream. The file guards against the
end of the process, not of the machine: the spool goes with the machine too, so nothing is synced.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

_COMPACT_AT: Final = 256 * 1024
"""Bytes of journal at which it is written anew."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Intent:
    """A batch that may have been sent: `length` bytes of the log from `offset`, under one timestamp (ms)."""

    offset: int
    length: int
    timestamp: int


@dataclass(frozen=True, slots=True)
class Totals:
    """What became of the log so far."""

    committed: int = 0
    """Bytes from the log's start that are all accepted."""
    last_timestamp: int = 0
    """The latest timestamp in use (ms)."""
    events: int = 0
    """Events that were accepted."""
    rejected: int = 0
    """Events that the service refused for good."""


class ShippingJournal:
    """The journal of one log. All methods may be called from any thread.

    A disk that takes nothing more stops no shipping: the journal goes on in memory, says so once in
    `trouble`, and tries the file again with every record.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._fd: int | None = None
        self._size = 0
        self._closed = False
        self._intents: dict[int, Intent] = {}
        self._accepted: dict[int, tuple[int, int]] = {}
        self._totals = Totals()
        self._planned = 0
        self.trouble: str | None = None
        self._load()
        self._rewrite()  # also rids the file of a last line that a kill left half written

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    @property
    def totals(self) -> Totals:
        """The state now."""
        with self._lock:
            return self._totals

    @property
    def planned(self) -> int:
        """The offset at which the next batch begins."""
        with self._lock:
            return self._planned

    @property
    def open_intents(self) -> tuple[Intent, ...]:
        """Intents without acceptance, in the log's order."""
        with self._lock:
            return tuple(
                self._intents[offset] for offset in sorted(self._intents) if offset not in self._accepted
            )

    def intend(self, length: int, now_ms: int) -> Intent:
        """Write down the next batch; its timestamp is `now_ms`, or later where that one is taken."""
        with self._lock:
            timestamp = max(now_ms, self._totals.last_timestamp + 1)
            intent = Intent(self._planned, length, timestamp)
            self._add(intent)
            self._write({"intent": [intent.offset, intent.length, intent.timestamp]})
            return intent

    def accept(self, intent: Intent, events: int, rejected: int) -> None:
        """The service has answered for this batch: so many events are in the stream, so many refused."""
        with self._lock:
            self._settle(intent.offset, events, rejected)
            self._write({"accepted": [intent.offset, events, rejected]})

    def close(self) -> None:
        """Let go of the file; what comes later is not written down."""
        with self._lock:
            self._closed = True
            self._close()

    # --- state; the lock is held ---

    def _add(self, intent: Intent) -> None:
        self._intents[intent.offset] = intent
        self._planned = intent.offset + intent.length
        totals = self._totals
        self._totals = Totals(totals.committed, intent.timestamp, totals.events, totals.rejected)

    def _settle(self, offset: int, events: int, rejected: int) -> None:
        self._accepted[offset] = events, rejected
        while (done := self._accepted.pop(self._totals.committed, None)) is not None:
            intent = self._intents.pop(self._totals.committed)
            totals = self._totals
            self._totals = Totals(
                totals.committed + intent.length,
                totals.last_timestamp,
                totals.events + done[0],
                totals.rejected + done[1],
            )

    # --- the file; the lock is held ---

    def _load(self) -> None:
        try:
            lines = self._path.read_bytes().split(b"\n")[:-1]  # what follows the last \n is half a record
        except (FileNotFoundError, NotADirectoryError):
            return
        for line in lines:
            record = json.loads(line)
            if "base" in record:
                self._totals = Totals(*record["base"])
                self._planned = self._totals.committed
            elif "intent" in record:
                self._add(Intent(*record["intent"]))
            else:
                self._settle(*record["accepted"])

    def _records(self) -> list[dict[str, list[int]]]:
        totals = self._totals
        records = [{"base": [totals.committed, totals.last_timestamp, totals.events, totals.rejected]}]
        for offset, intent in sorted(self._intents.items()):
            records.append({"intent": [intent.offset, intent.length, intent.timestamp]})
            if offset in self._accepted:
                records.append({"accepted": [offset, *self._accepted[offset]]})
        return records

    def _write(self, record: dict[str, list[int]]) -> None:
        if self._closed:
            return
        if self._fd is None or self._size > _COMPACT_AT:
            self._rewrite()
            return
        line = json.dumps(record).encode() + b"\n"
        try:
            if os.write(self._fd, line) < len(line):
                raise OSError("the disk is full")  # noqa: TRY301 - handled as the same trouble, just below
        except OSError as error:
            self._lost(error)
        else:
            self._size += len(line)

    def _rewrite(self) -> None:
        """Replace the file by the state alone, at once or not at all."""
        self._close()
        new = self._path.with_suffix(".new")
        data = b"".join(json.dumps(record).encode() + b"\n" for record in self._records())
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            new.write_bytes(data)
            new.replace(self._path)
            self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        except OSError as error:
            self._lost(error)
        else:
            self._size = len(data)

    def _lost(self, error: OSError) -> None:
        self._close()
        if self.trouble is None:
            self.trouble = (
                f"the journal of the log shipping cannot be written ({error}): the log goes on to CloudWatch, "
                f"but lines may come twice should the agent be killed now"
            )
            log.warning(self.trouble)

    def _close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
