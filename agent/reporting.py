"""The run status in S3: at once when the state changes, otherwise at most every HEARTBEAT_S seconds."""

from __future__ import annotations

import logging
import threading
from typing import Any, Final, Protocol

from agent.clock import Clock, Deadline
from agent.contract import STATUS, RunStatus, TaskCounts, can_become
from agent.errors import StoreError

log = logging.getLogger(__name__)

HEARTBEAT_S: Final = 10.0
CHANGE_S: Final = 20.0
"""How long a change of state may take to reach S3 before the run goes on without; the heartbeat brings it then."""


class StatusStore(Protocol):
    """The part of the object store that the reporter needs."""

    def put(
        self, key: str, body: bytes, content_type: str | None = None, *, deadline: Deadline | None = None
    ) -> None:
        """Write one object."""


class Reporter:
    """Holds the run status and brings it to S3. Thread-safe; a final status is never changed again."""

    def __init__(self, store: StatusStore, status: RunStatus, clock: Clock) -> None:
        self._store = store
        self._status = status
        self._clock = clock
        self._lock = threading.Lock()
        self._writing = threading.Lock()

    @property
    def status(self) -> RunStatus:
        """The status as it is now."""
        return self._status

    def change(self, **fields: Any) -> RunStatus:
        """Set fields of the status and write it now.

        Raises:
            StoreError: S3 did not take it; the change is kept and goes with the next write.
        """
        self.note(**fields)
        self._write(CHANGE_S)
        return self._status

    def note(self, **fields: Any) -> None:
        """Set fields of the status; they travel with the next write."""
        with self._lock:
            self._set(fields)

    def warn(self, warning: str) -> None:
        """Add a warning, once."""
        with self._lock:
            if warning not in self._status.warnings:
                log.warning("%s", warning)
                self._set({"warnings": (*self._status.warnings, warning)})

    def withdraw(self, warning: str) -> None:
        """Take a warning back that holds no more, also one of an agent before this one."""
        with self._lock:
            if warning in self._status.warnings:
                log.info("no more: %s", warning)
                self._set({"warnings": tuple(kept for kept in self._status.warnings if kept != warning)})

    def heartbeat(self, tasks: TaskCounts | None = None) -> None:
        """Write the status with a fresh time; S3's refusal is logged, for the next heartbeat comes soon."""
        with self._lock:
            if self._status.state.final:
                return
            if tasks is not None:
                self._set({"tasks": tasks})
        try:
            self._write(HEARTBEAT_S)
        except StoreError as error:
            log.warning("heartbeat not written: %s", error)

    def _set(self, fields: dict[str, Any]) -> None:
        old, new = self._status.state, fields.get("state", self._status.state)
        if old.final or not can_become(old, new):
            if new is not old:
                log.warning("status is %s already; not changed to %s", old, new)
            return
        self._status = self._status.model_copy(update=fields)

    def _write(self, patience_s: float) -> None:
        # Two locks: whoever notes something must not wait for S3, and writes must arrive in their order.
        with self._writing:
            with self._lock:
                self._status = self._status.model_copy(update={"heartbeat_at": self._clock.now()})
                body = self._status.model_dump_json(indent=1).encode()
            deadline = Deadline.after(patience_s, self._clock)
            self._store.put(STATUS, body, "application/json", deadline=deadline)
