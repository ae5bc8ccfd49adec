"""What looks out while a run goes: each watch is a supervised thread that may offer a stop reason."""

from __future__ import annotations

import logging
import queue
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Protocol

from agent.clock import Clock
from agent.contract import STOP, ContractError, StopReason, StopRequest, parse
from agent.errors import AgentError, KeyMissing
from agent.metadata import SpotNotice
from agent.stopping import StopLatch

log = logging.getLogger(__name__)

STOP_REQUEST_S: Final = 2.0
SPOT_S: Final = 5.0
DISK_S: Final = 1.0
SIGNAL_S: Final = 110.0
"""What a machine that shuts down leaves to the agent: TimeoutStopSec of run-agent.service is 120 s."""
_GIB: Final = 1024**3


class Watch:
    """Calls `look` every `interval` seconds in a thread of its own, until it is closed.

    An AgentError is logged and the next look comes as planned: S3 or Docker may be back by then. Anything
    else is a defect of ours: it is logged and stops the run, for a run that nobody watches is an orphan.
    """

    def __init__(
        self,
        name: str,
        interval: float,
        look: Callable[[], object],
        latch: StopLatch,
        *,
        at_once: bool = True,
    ) -> None:
        self._interval = interval
        self._look = look
        self._latch = latch
        self._at_once = at_once
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=name, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        if not self._at_once and self._closing.wait(self._interval):
            return
        while True:
            try:
                self._look()
            except AgentError as error:
                log.warning("%s: %s", self._thread.name, error)
            except Exception as error:
                log.exception("%s ended", self._thread.name)
                self._latch.offer(
                    StopReason.AGENT_FAILED, f"The agent's {self._thread.name} failed: {error!r}"
                )
                return
            if self._closing.wait(self._interval):
                return

    def close(self) -> None:
        """No further look begins; one under way may still end by itself."""
        self._closing.set()

    def join(self, timeout: float) -> None:
        """Wait for a look that is under way, for at most `timeout` seconds."""
        self._thread.join(timeout)


@contextmanager
def watches(*started: Watch) -> Iterator[None]:
    """Close every watch at the end."""
    try:
        yield
    finally:
        for watch in started:
            watch.close()


class SpotNotices(Protocol):
    """The part of the metadata service that is needed here."""

    def spot_action(self) -> SpotNotice | None:
        """EC2's notice, if there is one."""


class StopStore(Protocol):
    """The part of the object store that is needed here."""

    def get(self, key: str) -> bytes:
        """Read one object, or raise KeyMissing."""


def look_for_stop_request(store: StopStore, latch: StopLatch) -> None:
    """A person's stop request under the run's prefix."""
    try:
        body = store.get(STOP)
    except KeyMissing:
        return
    try:
        request = parse(StopRequest, body)
    except ContractError as error:
        # Somebody wrote it to end the run: a form we cannot read is no reason to go on and cost money.
        latch.offer(StopReason.CANCELLED, f"A stop request was found that cannot be read ({error}).")
        return
    latch.offer(request.reason, f"Cancelled by {request.requested_by}.")


def look_at_time_limit(claimed_at: datetime, limit_s: int, clock: Clock, latch: StopLatch) -> None:
    """The run's time limit, counted from the claim on the wall clock: a restarted agent counts on."""
    if clock.now() - claimed_at >= timedelta(seconds=limit_s):
        limit = timedelta(seconds=limit_s)
        latch.offer(
            StopReason.TIME_LIMIT,
            f"The run reached its time limit of {limit}; it was stopped. "
            "Relaunch with a longer --time-limit.",
        )


def look_for_spot_notice(metadata: SpotNotices, latch: StopLatch) -> None:
    """EC2's notice that it takes a Spot machine back, two minutes ahead."""
    notice = metadata.spot_action()
    if notice is not None:
        latch.offer(
            StopReason.SPOT_INTERRUPTED,
            f"EC2 takes the Spot machine back ({notice.action} at {notice.time:%H:%M:%S} UTC). "
            "`launcher runs relaunch` goes on from the finished tasks.",
            machine_ends_at=notice.time,
        )


def look_at_disk(folder: Path, ballast: Ballast, latch: StopLatch) -> None:
    """Free space where the run works: stop while there is still enough to finish in order."""
    if disk_is_full(folder):
        usage = shutil.disk_usage(folder)
        ballast.release()
        latch.offer(
            StopReason.DISK_FULL,
            f"The disk was about to be full: {usage.free / _GIB:.2f} GiB of {usage.total / _GIB:.1f} GiB "
            "were left. Relaunch with a larger boot disk or a machine type with local disks.",
        )


def disk_is_full(folder: Path) -> bool:
    """Whether less than 1 GiB is left, or less than a tenth of a small disk."""
    usage = shutil.disk_usage(folder)
    return usage.free < min(_GIB, usage.total // 10)


class Ballast:
    """A file that takes room while the run goes, so that there is room for its end on a full disk."""

    _BYTES: Final = 16 * 1024 * 1024

    def __init__(self, path: Path) -> None:
        self._path = path

    def take(self) -> None:
        """Take the room: real blocks, for sparse ones would not help. A twentieth of what is free at most."""
        size = min(self._BYTES, shutil.disk_usage(self._path.parent).free // 20)
        with self._path.open("wb") as file:
            file.write(b"\0" * size)

    def release(self) -> None:
        """Give the room back."""
        self._path.unlink(missing_ok=True)


class Signals:
    """SIGTERM and SIGINT, held from the agent's first moment to its last: none of them ends it in mid-step.

    The handler only puts the number into a queue, for anything that takes a lock could deadlock in it. What came
    before there was a run to stop is offered as soon as there is one.
    """

    def __init__(self) -> None:
        self._caught: queue.SimpleQueue[int | None] = queue.SimpleQueue()

    @classmethod
    @contextmanager
    def held(cls) -> Iterator[Signals]:
        """Hold them while inside; the former handlers come back afterwards."""
        signals = cls()
        former = {
            number: signal.signal(number, lambda received, _frame: signals._caught.put(received))
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            yield signals
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    @contextmanager
    def stopping(self, latch: StopLatch, clock: Clock) -> Iterator[None]:
        """While inside, a signal is a stop reason, and the machine's end is near."""

        def forward() -> None:
            while (number := self._caught.get()) is not None:
                name = signal.Signals(number).name
                ends = clock.now() + timedelta(seconds=SIGNAL_S)
                message = f"The machine was told to shut down ({name})."
                latch.offer(StopReason.TERMINATED, message, machine_ends_at=ends)

        thread = threading.Thread(target=forward, name="signals", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._caught.put(None)
            thread.join()
