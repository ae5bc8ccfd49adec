"""Ending a run: the first stop reason wins, and one deadline is divided between grace and uploads."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from agent.clock import Clock, Deadline
from agent.contract import StopReason
from agent.journal import Journal, Stop

log = logging.getLogger(__name__)


class StopLatch:
    """Takes the first stop reason and keeps it, also over a restart of the agent. Thread-safe."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        self._lock = threading.Lock()
        self._event = threading.Event()
        self._stop = journal.read(Stop)
        self._ends_at = self._stop.machine_ends_at if self._stop else None
        if self._stop is not None:
            self._event.set()

    @property
    def stop(self) -> Stop | None:
        """The reason that won, or None while the run goes on."""
        return self._stop

    def offer(self, reason: StopReason, message: str, *, machine_ends_at: datetime | None = None) -> bool:
        """Propose a stop; True when it is the first one.

        A later one changes nothing of the reason, but where it says when the machine ends, the end comes nearer.
        """
        with self._lock:
            if machine_ends_at is not None and (self._ends_at is None or machine_ends_at < self._ends_at):
                self._ends_at = machine_ends_at
            if self._stop is not None:
                level = logging.DEBUG if reason is self._stop.reason else logging.INFO
                log.log(level, "stop reason %s comes after %s", reason, self._stop.reason)
                return False
            stop = Stop(reason=reason, message=message, at=self._clock.now(), machine_ends_at=machine_ends_at)
            self._stop = stop
            try:
                self._journal.write(stop)
            except OSError as error:
                # A full disk must not keep the run from stopping; a restarted agent would find a reason anew.
                log.warning("the stop reason could not be saved on disk: %s", error)
            self._event.set()
        log.info("stopping: %s: %s", reason, message)
        return True

    def machine_ends(self) -> float:
        """The monotonic moment by which everything must be saved, as far as somebody else ends the machine."""
        if self._ends_at is None:
            return math.inf
        left = (self._ends_at - self._clock.now()).total_seconds() - FINISH_S
        return self._clock.monotonic() + left

    def wait(self) -> Stop:
        """Block until there is a reason."""
        self._event.wait()
        assert self._stop is not None  # noqa: S101 - set before the event is
        return self._stop


@dataclass(frozen=True)
class _Budget:
    total_s: float
    """From the stop reason to the shutdown."""
    uploads_s: float
    """Of these, kept for logs and artifacts; the workload's grace gets what is left, at most MAX_GRACE_S."""


MAX_GRACE_S: Final = 60.0
"""Nextflow needs a second to end and its tasks about ten; more than a minute helps nobody."""

FINISH_S: Final = 12.0
"""Kept before the machine's end for the agent's own log and the final status."""
_HOURS: Final = 3600.0

_BUDGETS: Final[dict[StopReason, _Budget]] = {
    # EC2 gives two minutes: half a minute to end, the rest to save what was done.
    StopReason.SPOT_INTERRUPTED: _Budget(total_s=108.0, uploads_s=80.0),
    # systemd's TimeoutStopSec of run-agent.service is 120 s.
    StopReason.TERMINATED: _Budget(total_s=100.0, uploads_s=70.0),
}
_DEFAULT_BUDGET: Final = _Budget(total_s=2 * _HOURS, uploads_s=2 * _HOURS - MAX_GRACE_S)
"""Results are worth waiting for; the machine's hard cap is the limit behind this one."""


@dataclass(frozen=True)
class StopPlan:
    """One deadline, divided."""

    workload_by: Deadline
    """The workload is killed at this moment."""
    all_by: Deadline
    """Uploads end and the machine shuts down at this moment."""


def plan_stop(stop: Stop, clock: Clock, machine_ends: Callable[[], float] | None = None) -> StopPlan:
    """Divide the time from when the reason came up to the end of the machine.

    `machine_ends` is asked again and again: a Spot notice may come while results are being uploaded.
    """
    budget = _BUDGETS.get(stop.reason, _DEFAULT_BUDGET)
    total = budget.total_s
    if stop.machine_ends_at is not None:
        total = min(total, (stop.machine_ends_at - stop.at).total_seconds() - FINISH_S)
    total = max(total, 1.0)
    uploads = min(budget.uploads_s, total * 0.75)
    now = clock.monotonic() - (clock.now() - stop.at).total_seconds()
    grace = min(MAX_GRACE_S, total - uploads)
    return StopPlan(
        workload_by=Deadline(now + grace, clock, machine_ends),
        all_by=Deadline(now + total, clock, machine_ends),
    )
