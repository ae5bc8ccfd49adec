"""The workload's log from the spool to the log stream: every line, once, in order.

One thread follows the spool and cuts batches; a few others put them into the sink, several at once only while
there is a backlog. Each batch has one timestamp, later than that of the batch before, so the stream is in
order whichever arrives first. `agent.logs.journal` tells how a killed agent goes on; what is in the stream
already is not sent again (`agent.logs.delivery`).
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from agent.clock import Clock, Deadline
from agent.logs.batches import WINDOW_BYTES, Cut, Tail, cut
from agent.logs.delivery import Delivery, GivenUp
from agent.logs.journal import Intent, ShippingJournal
from agent.logs.redact import Redactor
from agent.logs.senders import Senders
from agent.logs.sink import LogSink
from agent.logs.spool import Spool
from agent.logs.waiting import Waiting

JOURNAL: Final = "log-shipping.jsonl"
"""The journal's name in the state folder."""
_AFTER_FAILURE_S: Final = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Timing:
    """How fast it goes. Seconds; the defaults are for a real run."""

    poll_s: float = 0.2
    """Between two looks at the spool's size."""
    linger_s: float = 1.0
    """Between two batches that are not full, so that a chatty workload costs one request a second."""
    patience_s: float = 1.0
    """How long a line without an end waits for more bytes …"""
    patience_max_s: float = 5.0
    """… and how long while more come."""
    settle_s: float = 3.0
    """How long an event may be in the stream and not to be seen there yet."""
    retry_s: float = 0.25
    """The first retry's longest wait; it doubles …"""
    retry_max_s: float = 20.0
    """… up to this."""
    connections: int = 4
    """Batches on their way at once; each takes a few MiB of memory."""


@dataclass(frozen=True)
class ShipReport:
    """What became of the log."""

    bytes_total: int
    """The spool's size."""
    bytes_shipped: int
    """Bytes from the spool's start that the service has answered for."""
    events: int
    """Events in the stream."""
    rejected: int
    """Events that the service refused for good."""
    complete: bool
    """Everything is in the stream."""
    warnings: tuple[str, ...]
    """What a person should know; each kind of trouble once."""


@dataclass(frozen=True, slots=True)
class _Batch:
    intent: Intent
    events: list[str] | None
    """None: from an agent before this one; to be made again, if it is not in the stream."""


class LogShipper:
    """Ships one spool. A context manager: started on entry; leaving it without `finish` just lets go."""

    def __init__(
        self,
        spool: Path,
        state_dir: Path,
        sink: LogSink,
        redactor: Redactor,
        clock: Clock,
        timing: Timing | None = None,
    ) -> None:
        timing = timing or Timing()
        self._timing: Final = timing
        self._clock = clock
        self._redactor = redactor
        self._sink = sink
        self._spool = Spool(spool)
        self._journal = ShippingJournal(state_dir / JOURNAL)
        self._waiting = Waiting()
        self._warnings: dict[str, str] = {}
        self._delivery = Delivery(
            sink,
            clock,
            self._waiting,
            self._warn,
            settle_s=timing.settle_s,
            retry_s=timing.retry_s,
            retry_max_s=timing.retry_max_s,
        )
        self._senders: Senders[_Batch] = Senders(timing.connections, self._send, "log sender")
        self._tail = _LastLine(timing)
        self._lingers_until = 0.0
        self._thread = threading.Thread(target=self._supervise, name="log shipper", daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._waiting.give_up()
        self._thread.join(_AFTER_FAILURE_S)
        self._journal.close()
        self._spool.close()
        self._sink.close()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know so far."""
        trouble = self._journal.trouble
        return (*self._warnings.values(), *((trouble,) if trouble else ()))

    def start(self) -> None:
        """Begin, or go on where the agent before this one was stopped."""
        self._thread.start()

    def finish(self, deadline: Deadline) -> ShipReport:
        """The workload has ended: ship the rest, its last line too. Comes back at the deadline at the latest."""
        self._waiting.hurry()
        self._thread.join(deadline.remaining())
        if self._thread.is_alive():
            self._warn(
                "late",
                "The deadline came before the workload's log was in CloudWatch Logs whole"
                + (
                    f"; the last trouble was: {self._delivery.last_error}"
                    if self._delivery.last_error
                    else "."
                ),
            )
        self._waiting.give_up()
        totals, size = self._journal.totals, self._spool.size()
        return ShipReport(
            bytes_total=size,
            bytes_shipped=min(totals.committed, size),
            events=totals.events,
            rejected=totals.rejected,
            complete=totals.committed == size and not totals.rejected,
            warnings=self.warnings,
        )

    def _warn(self, kind: str, text: str) -> None:
        if kind not in self._warnings:
            self._warnings[kind] = text
            log.warning(text)

    # --- the thread that follows the spool ---

    def _supervise(self) -> None:
        for intent in self._journal.open_intents:
            self._senders.submit(_Batch(intent, None))
        while not self._waiting.over:
            try:
                self._follow()
            except Exception as error:
                log.exception("log shipping failed, and is started again")
                self._warn("failed", f"Log shipping failed and was started again: {error!r}")
                self._waiting.sleep(_AFTER_FAILURE_S)
            else:
                self._senders.join()
                return

    def _follow(self) -> None:
        """Cut and hand over batches until the log has ended, or the deadline passed."""
        while not self._waiting.over:
            self._senders.wait_free()
            ending = self._waiting.hurried  # asked before the size: what is there now is all there will be
            batch = self._next(ending)
            if batch.length:
                intent = self._journal.intend(batch.length, int(self._clock.now().timestamp() * 1000))
                self._senders.submit(_Batch(intent, batch.events))
            elif ending:
                return
            else:
                self._waiting.sleep(self._timing.poll_s)

    def _next(self, ending: bool) -> Cut:
        """The next batch; of length 0 where it is better to wait."""
        offset, size, now = self._journal.planned, self._spool.size(), self._clock.monotonic()
        if size <= offset:
            if size < offset:
                self._warn(
                    "shrunk",
                    f"The workload's log on disk has {size:,} bytes, but {offset:,} were shipped: something cut "
                    f"it. What it is appended beyond that will be shipped.",
                )
            return Cut(0, [])
        full = size - offset >= WINDOW_BYTES
        if not full and not ending and (self._senders.busy or now < self._lingers_until):
            return Cut(0, [])
        waited_enough = self._tail.waited_enough(offset, size, now)
        batch = cut(
            self._spool.read(offset, WINDOW_BYTES + self._redactor.longest),
            self._redactor,
            mid_line=self._spool.mid_line(offset),
            tail=Tail.END if ending else Tail.TAKE if waited_enough else Tail.WAIT,
        )
        if batch.length and not full:
            self._lingers_until = now + self._timing.linger_s
        return batch

    # --- the threads that send ---

    def _send(self, batch: _Batch) -> None:
        perhaps_there = batch.events is None
        while not self._waiting.over:
            try:
                self._send_once(batch, perhaps_there)
            except GivenUp:
                return
            except Exception as error:
                log.exception("sending a log batch failed, and is tried again")
                self._warn("failed", f"Log shipping failed and was started again: {error!r}")
                perhaps_there = True
                self._waiting.sleep(_AFTER_FAILURE_S)
            else:
                return

    def _send_once(self, batch: _Batch, perhaps_there: bool) -> None:
        intent = batch.intent
        parts = [batch.events] if batch.events is not None else self._made_again(intent)
        events = rejected = 0
        for part in parts:
            # Were the secrets others than last time, a batch may not fit and comes in parts, under the one
            # timestamp: only the first can be looked up.
            if part:
                receipt = self._delivery.deliver(intent.timestamp, part, perhaps_there=perhaps_there)
                perhaps_there = False
                events += len(part) - receipt.rejected
                rejected += receipt.rejected
        self._journal.accept(intent, events, rejected)

    def _made_again(self, intent: Intent) -> list[list[str]]:
        """The events of a batch that an agent before this one wrote down."""
        data = self._spool.read(intent.offset, intent.length)
        mid_line = self._spool.mid_line(intent.offset)
        parts = []
        while data:
            part = cut(data, self._redactor, mid_line=mid_line, tail=Tail.END)
            parts.append(part.events)
            mid_line = data[part.length - 1 : part.length] != b"\n"
            data = data[part.length :]
        return parts


class _LastLine:
    """How long the last line has been waiting for its end."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._offset = -1
        self._size = 0
        self._since = 0.0
        self._grown = 0.0

    def waited_enough(self, offset: int, size: int, now: float) -> bool:
        """Whether a line that begins at `offset` and has no end is to be shipped as it is."""
        if offset != self._offset:
            self._offset, self._since = offset, now
            self._size = -1
        if size != self._size:
            self._size, self._grown = size, now
        return (
            now - self._grown >= self._timing.patience_s or now - self._since >= self._timing.patience_max_s
        )
