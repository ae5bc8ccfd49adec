"""Ending a run: before any machine has claimed it, politely through its agent, or by force."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final

from agent.contract import RunState, RunStatus, StopReason
from launcher.errors import AccessDenied
from launcher.following import FIRST_LOOK_S, Watch
from launcher.machines import Machine
from launcher.run_book import is_live

_GONE_PATIENCE_S: Final = 90.0
"""How long a machine may take to go after TerminateInstances."""


@unique
class How(StrEnum):
    """What cancelling came to."""

    OVER_ALREADY = "over_already"
    """The run was over before."""
    BEFORE_CLAIM = "before_claim"
    """No machine had claimed the run; it is cancelled."""
    REQUESTED = "requested"
    """The agent was asked to stop the run."""
    FORCED = "forced"
    """The machine was terminated."""


@dataclass(frozen=True)
class Cancellation:
    """What cancelling came to, and the run's status after it."""

    how: How
    status: RunStatus
    warning: str = ""


def cancel(watch: Watch, requested_by: str, *, force: bool = False) -> Cancellation:
    """End a run. A final state is never changed."""
    status = watch.status()
    if status.state.final:
        return Cancellation(How.OVER_ALREADY, status)
    # a run that seems lost may have a machine that EC2 does not list yet: the claim decides
    if watch.book.claim_for_launcher(watch.run_id, watch.clock):
        message = f"Cancelled by {requested_by} before a machine had claimed the run."
        final = watch.book.finish(status, StopReason.CANCELLED, message, watch.clock)
        return Cancellation(How.BEFORE_CLAIM, final, _terminate(watch))
    if status.state is RunState.UNKNOWN and not force:
        return Cancellation(How.OVER_ALREADY, status)
    watch.book.request_stop(watch.run_id, requested_by, watch.clock)
    if not force:
        return Cancellation(How.REQUESTED, status)
    return _force(watch, requested_by)


def wait_until_over(watch: Watch, seconds: float) -> RunStatus:
    """Look until the run is over, at most for `seconds`; returns the last status."""
    end = watch.clock.monotonic() + seconds
    delay = FIRST_LOOK_S
    while True:
        status = watch.status()
        if not is_live(status.state) or watch.clock.monotonic() >= end:
            return status
        watch.clock.sleep(delay)
        delay = min(delay * 1.3, 5.0)


def _force(watch: Watch, requested_by: str) -> Cancellation:
    # an AccessDenied is raised on purpose: without the right to terminate there is no force
    machines = _machines(watch)
    watch.machines.terminate(machine.instance_id for machine in machines if not machine.gone)
    end = watch.clock.monotonic() + _GONE_PATIENCE_S
    while watch.clock.monotonic() < end:
        # the agent may still write a last status of its own while the machine shuts down; that one stands
        if watch.book.status(watch.run_id).state.final or all(
            machine.state == "terminated" for machine in _machines(watch)
        ):
            break
        watch.clock.sleep(FIRST_LOOK_S)
    status = watch.book.status(watch.run_id)
    if not status.state.final:
        message = f"Cancelled by force by {requested_by}: the machine was terminated."
        status = watch.book.finish(status, StopReason.CANCELLED, message, watch.clock)
    return Cancellation(How.FORCED, status)


def _terminate(watch: Watch) -> str:
    """End the machines of a run that the launcher has claimed; a warning where that is not allowed."""
    try:
        watch.machines.terminate(machine.instance_id for machine in _machines(watch) if not machine.gone)
    except AccessDenied as error:
        return f"{error.message}; the machine will find the run claimed, and shut itself down"
    return ""


def _machines(watch: Watch) -> list[Machine]:
    return watch.machines.of_runs([watch.run_id]).get(watch.run_id, [])
