"""The story of a run on the machine: claim → prepare → execute → collect → finish → shutdown."""

from __future__ import annotations

import errno
import logging
from contextlib import nullcontext
from dataclasses import dataclass
from enum import IntEnum, unique
from typing import Final

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from agent.claiming import Claimed, claim, read_spec
from agent.clock import Deadline
from agent.collecting import Collected, Saving, collect
from agent.contract import AGENT_LOG, Artifacts, ContractError, Phase, RunPointer, StopReason
from agent.errors import AgentError, StoreError
from agent.executing import over, start, watch
from agent.folder import RunFolder
from agent.journal import Exited, Journal, Started
from agent.logs.redact import Redactor
from agent.logs.shipper import LogShipper
from agent.metadata import MetadataUnavailable, read_pointer
from agent.one_run import OneRun
from agent.preparing import Prepared, Stopped, prepare, read_secrets
from agent.progress import Progress
from agent.reporting import HEARTBEAT_S
from agent.stopping import StopLatch
from agent.taking_up import NotTakenUp, saving_without, take_up
from agent.telling import TELL_S, Telling
from agent.watching import (
    SPOT_S,
    STOP_REQUEST_S,
    Signals,
    Watch,
    look_at_time_limit,
    look_for_spot_notice,
    look_for_stop_request,
    watches,
)
from agent.world import World

log = logging.getLogger(__name__)

_CLAIM_S: Final = 900.0
"""How long the agent may be busy until its run is watched: S3 that is away is waited for, but not for ever."""

_WATCHED_S: Final = 60.0
"""While a run is watched, the time limit's watch is heard of every second."""

_LAST_LOGS_S: Final = 5.0
"""How long the agent's own log may take to reach CloudWatch at the end; it is in S3 as well."""

_LAST_UPLOAD_S: Final = 15.0
"""How long the agent's own log may keep the final status waiting."""
_FINAL_STATUS_S: Final = 600.0
"""How long S3 may be away at the very end: a run without a final status is a riddle to its owner."""

_FINISH_S: Final = _FINAL_STATUS_S + 300.0
"""The agent's log, the final status, and the shutdown command, all with their retries."""


@unique
class AgentExit(IntEnum):
    """The agent's exit codes; a crash has another one, and the agent is then started again."""

    DONE = 0
    """The run is over, or another machine's; the machine shuts down."""
    SETTINGS = 2
    """The environment of the agent's unit is wrong."""
    NO_POINTER = 3
    """A machine without a run pointer: started by hand, and left alone."""
    METADATA = 4
    """The metadata service does not answer."""
    STILL_ON = 5
    """The run is over, but the shutdown command failed, or there is none."""
    NOT_READY = 6
    """`run-agent doctor`: something that is required is not met."""
    UNSURE = 7
    """`run-agent doctor`: something that is required could not be found out; nothing is known to be missing."""


@dataclass(frozen=True)
class RunOutcome:
    """What happened, as the final status will tell it."""

    reason: StopReason
    message: str
    problems: tuple[str, ...] = ()
    exit_code: int | None = None
    artifacts: Artifacts | None = None


def live(world: World) -> AgentExit:
    """One whole life. Whatever happens to a run, the machine is shut down at the end.

    Raises:
        MetadataUnavailable: the metadata service does not answer, so nobody knows whether there is a run.
    """
    with Signals.held() as signals:
        return _live(world, signals)


def _live(world: World, signals: Signals) -> AgentExit:
    world.pulse.expect(_CLAIM_S)
    try:
        pointer = read_pointer(world.metadata)
    except ContractError as error:
        log.error("this machine's run pointer cannot be understood, so it is shut down: %s", error)
        world.power_off()
        return AgentExit.DONE
    if pointer is None:
        log.warning("no run pointer in this machine's user data: it was started by hand and is left alone")
        return AgentExit.NO_POINTER
    try:
        claimed = claim(pointer, world)
        if claimed is not None:
            _finish(claimed, world, _outcome(claimed, pointer, world, signals))
    except MetadataUnavailable:
        raise
    except AgentError as error:
        log.error("run %s: %s", pointer.run_id, error)
    except Exception:
        log.exception("run %s: the agent failed", pointer.run_id)
    world.power_off()
    return AgentExit.DONE


def _outcome(claimed: Claimed, pointer: RunPointer, world: World, signals: Signals) -> RunOutcome:
    """Execute the run; every failure becomes an outcome."""
    try:
        spec = read_spec(claimed)
        telling = Telling(claimed, spec, world)
        telling.tell()
        folder = RunFolder(world.scratch / spec.workload.session_id)
        folder.create()
        journal = Journal(folder.state)
        latch = StopLatch(journal, world.clock)
        run = OneRun(world, claimed, spec, folder, journal, latch, Progress(folder))
        with signals.stopping(latch, world.clock), watches(*_watches(run, telling)):
            return _execute_and_collect(run, pointer)
    except AgentError as error:
        return RunOutcome(error.reason, str(error), problems=error.problems)
    except Exception as error:
        log.exception("the agent failed")
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            return RunOutcome(
                StopReason.DISK_FULL,
                f"The machine's disk was full while the run was prepared: {error}. "
                "Relaunch with a larger boot disk or on an instance type with local disks.",
            )
        return RunOutcome(
            StopReason.AGENT_FAILED,
            f"The run-agent failed: {error!r}. `launcher runs logs --agent` has the details.",
        )


def _execute_and_collect(run: OneRun, pointer: RunPointer) -> RunOutcome:
    try:
        prepared = _prepare(run)
    except Stopped:
        stop = run.latch.wait()
        return RunOutcome(stop.reason, f"{stop.message} The workload had not started.")
    except NotTakenUp as lost:
        return _salvage(run, pointer, lost)
    started = start(run, prepared)
    # Only now: what ships logs takes longer to import than everything that the start needs.
    run.world.ship_agent_log(pointer)
    with _shipper(run, pointer, prepared.redactor) as shipper:
        stop, exited = watch(run, prepared, started)
        collected = collect(run, Saving.of(prepared), shipper, stop, exited)
    return _told(collected, exited)


def _salvage(run: OneRun, pointer: RunPointer, lost: NotTakenUp) -> RunOutcome:
    """A run that cannot be taken up: everything on the disk is saved that may be."""
    if run.journal.read(Exited) is None:
        run.latch.offer(lost.error.reason, str(lost.error))
    run.world.ship_agent_log(pointer)
    stop, exited = over(run)
    saving = saving_without(run, lost)
    with _shipper(run, pointer, saving.redactor) if saving.redactor else nullcontext() as shipper:
        return _told(collect(run, saving, shipper, stop, exited), exited)


def _shipper(run: OneRun, pointer: RunPointer, redactor: Redactor) -> LogShipper:
    sink = run.world.open_sink(pointer)
    return LogShipper(run.folder.spool, run.folder.state, sink, redactor, run.world.clock)


def _told(collected: Collected, exited: Exited | None) -> RunOutcome:
    return RunOutcome(
        collected.diagnosis.reason,
        collected.diagnosis.message,
        exit_code=exited.code if exited else None,
        artifacts=collected.artifacts,
    )


def _prepare(run: OneRun) -> Prepared:
    """Prepare; where the workload runs already, or has run, its results are worth some patience."""
    if run.journal.read(Started) is not None or run.claimed.was_running:
        return take_up(run)
    return prepare(run, read_secrets(run))


def _watches(run: OneRun, telling: Telling) -> list[Watch]:
    """What may end a run at any time; the heartbeat goes on until the last upload."""
    claimed, world, latch = run.claimed, run.world, run.latch
    limit = run.spec.time_limit_s

    def watch_time() -> None:
        world.pulse.expect(_WATCHED_S)
        look_at_time_limit(claimed.claimed_at, limit, world.clock, latch)

    watching = [
        Watch("stop watch", STOP_REQUEST_S, lambda: look_for_stop_request(claimed.store, latch), latch),
        Watch("spot watch", SPOT_S, lambda: look_for_spot_notice(world.metadata, latch), latch),
        Watch("time limit", 1.0, watch_time, latch),
        Watch(
            "heartbeat",
            HEARTBEAT_S,
            lambda: run.progress.report(claimed.reporter, claimed.store),
            latch,
            at_once=False,
        ),
    ]
    if not telling.heard:
        watching.append(Watch("teller", TELL_S, telling.tell, latch, at_once=False))
    return watching


def _finish(claimed: Claimed, world: World, outcome: RunOutcome) -> None:
    """The agent's log, then the final status: who reads it finds everything else in place."""
    world.pulse.expect(_FINISH_S)
    log.info("run %s: %s: %s", claimed.pointer.run_id, outcome.reason, outcome.message)
    try:
        world.agent_log.close(Deadline.after(_LAST_LOGS_S, world.clock))
        deadline = Deadline.after(_LAST_UPLOAD_S, world.clock)
        claimed.store.upload(world.agent_log.path, AGENT_LOG, deadline=deadline)
    except (AgentError, OSError) as error:
        claimed.reporter.warn(f"the agent's log could not be uploaded: {error}")
    final = Retrying(
        retry=retry_if_exception_type(StoreError),
        stop=stop_after_delay(_FINAL_STATUS_S),
        wait=wait_random_exponential(1, 30),
        reraise=True,
    )
    final(
        claimed.reporter.change,
        state=outcome.reason.state,
        phase=Phase.DONE,
        stop_reason=outcome.reason,
        message=outcome.message,
        problems=outcome.problems,
        exit_code=outcome.exit_code,
        artifacts=outcome.artifacts,
        finished_at=world.clock.now(),
    )
