"""Following a run: its log lines and its statuses as they come, and waiting for a state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from agent.contract import RunState, RunStatus
from launcher.clock import Clock
from launcher.errors import AccessDenied, CloudError, ExitCode, NotThere
from launcher.logs import LogLine, LogStream, stored_lines
from launcher.machines import Machines
from launcher.observing import status_now
from launcher.run_book import RunBook, is_live

FIRST_LOOK_S: Final = 0.5
LOG_POLL_MAX_S: Final = 2.0
WAIT_POLL_MAX_S: Final = 15.0
_QUIET_LOOKS: Final = 2
"""Empty looks after the end before the log counts as whole: CloudWatch shows a line with some delay."""
_OUTAGE_LOOKS: Final = 30
"""Looks in a row that AWS may fail to answer before following is given up: a minute or so."""


@dataclass(frozen=True)
class Remark:
    """Something the follower should be told, which is neither log nor status."""

    text: str


@dataclass(frozen=True)
class Watch:
    """What it takes to look at a run again and again."""

    book: RunBook
    machines: Machines
    run_id: str
    clock: Clock

    def status(self) -> RunStatus:
        """The status now."""
        return status_now(self.book, self.run_id, self.machines, self.clock)


def follow(watch: Watch, stream: LogStream, *, agent: bool = False) -> Iterator[LogLine | RunStatus | Remark]:
    """Log lines and statuses until the run is over and its log is drained. The last status is the final one.

    Where CloudWatch Logs cannot be read, the log comes from S3 at the end of the run.

    Raises:
        NotThere: the run was deleted meanwhile.
        CloudError: AWS did not answer for a minute or so.
    """
    shown, quiet, readable = 0, 0, True
    delay, outage = FIRST_LOOK_S, 0
    last: RunStatus | None = None
    while True:
        fresh = 0
        try:
            status = watch.status()
            if status != last:
                last = status
                yield status
            try:
                for line in stream.new_lines() if readable else ():
                    fresh += 1
                    yield line
            except NotThere:
                # not yet: the machine makes the stream when it has something to say
                pass
            except AccessDenied as error:
                readable = False
                yield Remark(f"{error.message}: the log will come from S3 when the run has ended")
            outage = 0
        except CloudError as error:
            outage += 1
            if outage == _OUTAGE_LOOKS:
                raise
            if outage == 1:
                yield Remark(f"{error.message}; trying again")
        shown += fresh
        over = last is not None and not is_live(last.state) and not outage
        quiet = quiet + 1 if over and not fresh else 0
        if quiet >= _QUIET_LOOKS or (over and not readable):
            break
        delay = FIRST_LOOK_S if fresh or over else min(delay * 1.3, LOG_POLL_MAX_S)
        watch.clock.sleep(delay)
    if shown == 0:
        try:
            yield from stored_lines(watch.book, watch.run_id, agent=agent)
        except NotThere:
            yield Remark("There is no log")


def wait_for(watch: Watch, wanted: RunState, on_status: Callable[[RunStatus], None]) -> RunStatus:
    """Look until the state was reached or can be reached no more; returns the last status."""
    delay, last = FIRST_LOOK_S, None
    outage = 0
    while True:
        try:
            status = watch.status()
            outage = 0
        except CloudError:
            outage += 1
            if outage == _OUTAGE_LOOKS:
                raise
        else:
            if status != last:
                last = status
                on_status(status)
            if reached(status, wanted) or not is_live(status.state):
                return status
        watch.clock.sleep(delay)
        delay = min(delay * 1.3, WAIT_POLL_MAX_S)


def reached(status: RunStatus, wanted: RunState) -> bool:
    """Whether the run is in the state, or went through it."""
    if wanted is RunState.SUBMITTED:
        return True
    if wanted is RunState.RUNNING:
        return status.started_at is not None or status.state is RunState.RUNNING
    return status.state is wanted


def exit_code_of(status: RunStatus, wanted: RunState | None = None) -> ExitCode:
    """The exit code for a run that was followed, or waited for until `wanted`."""
    if wanted is not None and reached(status, wanted):
        return ExitCode.OK
    codes = {
        RunState.FAILED: ExitCode.RUN_FAILED,
        RunState.CANCELLED: ExitCode.RUN_CANCELLED,
        RunState.UNKNOWN: ExitCode.RUN_UNKNOWN,
    }
    return codes.get(status.state, ExitCode.OK if wanted is None else ExitCode.STATE_NOT_REACHED)
