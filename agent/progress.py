"""How a pipeline gets on: counts of tasks and the trace in S3, and whether Nextflow forgot to exit."""

from __future__ import annotations

import logging
from typing import Final

from agent.clock import Clock, Deadline
from agent.contract import TRACE, Phase, StopReason, TaskCounts
from agent.errors import StoreError
from agent.folder import RunFolder
from agent.logs.redact import Redactor
from agent.reporting import HEARTBEAT_S, Reporter
from agent.store import Store
from agent.workloads.nextflow_diagnosis import Diagnosis, finished_but_hanging, session_failed
from agent.workloads.nextflow_trace import TraceReader

log = logging.getLogger(__name__)

HANG_GRACE_S: Final = 120.0
"""Nextflow says that it is done, and its process lives on: it gets this long to go."""


class Progress:
    """Reads what Nextflow writes, each time from where it read last."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._reader = TraceReader(folder.trace, folder.nextflow_log)
        self._redactor = Redactor()
        self._trace_uploaded: tuple[int, int] | None = None
        self._hanging_since: float | None = None

    def redact_with(self, redactor: Redactor) -> None:
        """From now on."""
        self._redactor = redactor

    def tasks(self) -> TaskCounts:
        """The tasks so far."""
        return self._reader.counts()

    def report(self, reporter: Reporter, store: Store) -> None:
        """The heartbeat, with the counts; the trace goes along when it has grown."""
        reporter.heartbeat(self.tasks())
        try:
            info = self._folder.trace.stat()
        except FileNotFoundError:
            return
        mark = (info.st_size, info.st_mtime_ns)
        if mark == self._trace_uploaded or reporter.status.phase is not Phase.EXECUTE:
            return  # from then on it is one of the logs that are collected
        body = self._redactor.redact(self._folder.trace.read_bytes())
        try:
            store.put(TRACE, body, "text/plain", deadline=Deadline.after(HEARTBEAT_S, store.clock))
        except StoreError as error:
            log.warning("trace not uploaded: %s", error)
        else:
            self._trace_uploaded = mark

    def ended_but_hanging(self, clock: Clock) -> Diagnosis | None:
        """What to stop with when Nextflow has said for HANG_GRACE_S seconds that it is done."""
        if not finished_but_hanging(self._folder.nextflow_log):
            return None
        if self._hanging_since is None:
            self._hanging_since = clock.monotonic()
        if clock.monotonic() - self._hanging_since < HANG_GRACE_S:
            return None
        return Diagnosis(
            StopReason.WORKLOAD_FAILED if session_failed(self._folder.nextflow_log) else StopReason.COMPLETED,
            "Nextflow had finished and did not exit; it was ended.",
        )
