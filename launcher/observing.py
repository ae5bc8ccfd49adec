"""What is true of a run now: its stored status, and whether its machine still exists."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from agent.contract import RunState, RunStatus, StopReason
from launcher.clock import Clock
from launcher.errors import AccessDenied
from launcher.machines import PROFILE_PATIENCE_S, Machine, Machines
from launcher.run_book import RunBook

SILENCE: Final = timedelta(seconds=60)
"""Heartbeats come every ten seconds or so. For this long after one, nothing is concluded: EC2 may not list a
new machine yet, and an ending machine may be writing its last status."""


def observe(statuses: Sequence[RunStatus], machines: Machines, clock: Clock) -> list[RunStatus]:
    """The statuses, those of runs whose machine is gone without a final one as UNKNOWN.

    EC2 is asked in one call, and only when a run has been silent. Where it may not be asked, the stored
    status is all there is.
    """
    silent = [status.run_id for status in statuses if _silent(status, clock)]
    if not silent:
        return list(statuses)
    try:
        found = machines.of_runs(silent)
    except AccessDenied:
        return list(statuses)
    now = clock.now()
    return [_seen(status, found.get(status.run_id), now) for status in statuses]


def status_now(book: RunBook, run_id: str, machines: Machines, clock: Clock) -> RunStatus:
    """The status of one run, UNKNOWN when its machine is gone. Why it never got its agent is told where it was told.

    A machine may write its last status between the two looks, so a loss is believed at the second reading.
    """
    seen = observe([book.status(run_id)], machines, clock)[0]
    if seen.state is not RunState.UNKNOWN:
        return seen
    stored = book.status(run_id)
    if stored.state.final:
        return stored
    report = book.boot_report(run_id) if stored.state is RunState.SUBMITTED else ""
    return seen.model_copy(update={"message": f"{seen.message} {report}"}) if report else seen


def _silent(status: RunStatus, clock: Clock) -> bool:
    return not status.state.final and clock.now() - status.heartbeat_at > SILENCE


def _may_still_start(status: RunStatus, now: datetime) -> bool:
    """No machine was seen yet, and the launcher may still be asking EC2 for one."""
    patience = timedelta(seconds=PROFILE_PATIENCE_S) + SILENCE
    waits = status.state is RunState.SUBMITTED and status.instance_id is None
    return waits and now - status.heartbeat_at <= patience


def _seen(status: RunStatus, machines: list[Machine] | None, now: datetime) -> RunStatus:
    # None: this run was not asked about
    if machines is None or any(not machine.gone for machine in machines):
        return status
    if not machines and _may_still_start(status, now):
        return status
    last = status.instance_id or (machines[-1].instance_id if machines else None)
    which = f"The machine {last}" if last else "The machine"
    return status.model_copy(
        update={
            "state": RunState.UNKNOWN,
            "stop_reason": StopReason.MACHINE_LOST,
            "instance_id": last,
            "message": f"{which} is gone, and the run had no final status when it went "
            f"(last heartbeat {status.heartbeat_at:%Y-%m-%d %H:%M:%S} UTC).",
        }
    )
