"""Execute: the workload's container, started once, watched until it exits or must stop."""

from __future__ import annotations

import logging
import threading
from datetime import datetime
from typing import Final

from agent.container_plan import Exited as Gone
from agent.container_plan import Running
from agent.contract import Phase, RunState, StopReason
from agent.errors import AgentError
from agent.journal import Exited, Started, Stop
from agent.metrics import Metrics
from agent.one_run import OneRun
from agent.preparing import Prepared
from agent.stopping import StopLatch, plan_stop
from agent.watching import DISK_S, Watch, look_at_disk, watches
from agent.workloads.nextflow_launch import NEXTFLOW_ENDED

log = logging.getLogger(__name__)

METRICS_S: Final = 5.0
CARRY_S: Final = 10.0
HANG_S: Final = 30.0
_KILL_S: Final = 15.0
"""How long Docker may take to report the exit of a container that it was told to kill."""


def start(run: OneRun, prepared: Prepared) -> Started | None:
    """Start the workload, or take it up where it was started before; None where it is over, or must not start.

    A failure is a stop reason like any other: what there is of the run is collected all the same.
    """
    if run.journal.read(Exited) is not None:
        return None
    try:
        started = _start_or_take_up(run, prepared)
    except AgentError as error:
        run.latch.offer(error.reason, str(error))
        return None
    if started is not None:
        try:
            run.claimed.reporter.change(
                state=RunState.RUNNING, phase=Phase.EXECUTE, message="", started_at=started.started_at
            )
        except AgentError as error:
            log.warning("the workload runs, which could not be reported yet: %s", error)
    return started


def watch(run: OneRun, prepared: Prepared, started: Started | None) -> tuple[Stop, Exited | None]:
    """Come back when the workload is over; the exit is None where none is known."""
    if started is None:
        return over(run)
    waiter = _Waiter(run, prepared, started)
    with watches(*_watches(run, prepared)):
        stop = run.latch.wait()
        return stop, _end(run, prepared, started, waiter, stop)


def over(run: OneRun) -> tuple[Stop, Exited | None]:
    """Why and how a workload ended that is not watched: its exit was journalled, or there is a stop reason."""
    before, exited = run.journal.read(Started), run.journal.read(Exited)
    if before is not None:
        # The agent may have been killed before it could report this, and only what ran can succeed.
        run.claimed.reporter.note(state=RunState.RUNNING, started_at=before.started_at)
    if exited is not None:
        _offer_exit(run.latch, exited)
    return run.latch.wait(), exited


def _start_or_take_up(run: OneRun, prepared: Prepared) -> Started | None:
    found = prepared.containers.find(run.spec.run_id)
    known = run.journal.read(Started)
    if found is not None:
        log.info("taking up container %s", found.id[:12])
        return known or run.journal.write(Started(container_id=found.id, started_at=_started_at(run, found)))
    if known is not None:
        raise AgentError(
            f"The workload's container {known.container_id[:12]} has vanished: somebody removed it, or the "
            "machine restarted. It is not started twice; `launcher runs relaunch` starts the run again."
        )
    if run.latch.stop is not None:
        return None
    container_id = prepared.containers.start(prepared.plan.container, run.folder.spool)
    log.info("started container %s", container_id[:12])
    return run.journal.write(Started(container_id=container_id, started_at=run.world.clock.now()))


def _started_at(run: OneRun, found: Running | Gone) -> datetime:
    """When a container that is taken up was started, as Docker says; now, where it does not."""
    return datetime.fromisoformat(found.started_at) if isinstance(found, Running) else run.world.clock.now()


def _watches(run: OneRun, prepared: Prepared) -> list[Watch]:
    latch, progress = run.latch, run.progress
    metrics = Metrics(run.folder, prepared.containers, run.spec.run_id, run.world.clock)

    def look_for_hang() -> None:
        if (run.folder.config / NEXTFLOW_ENDED).exists():
            return  # what runs on is the user's post-run script
        ended = progress.ended_but_hanging(run.world.clock)
        if ended is not None:
            latch.offer(ended.reason, ended.message)

    started = [
        Watch("disk watch", DISK_S, lambda: look_at_disk(run.folder.root, prepared.ballast, latch), latch),
        Watch("metrics", METRICS_S, metrics.sample, latch),
        Watch("hang watch", HANG_S, look_for_hang, latch, at_once=False),
    ]
    carrier = prepared.carrier
    if carrier is not None:
        started.append(Watch("carrier", CARRY_S, carrier.carry, latch, at_once=False))
    return started


class _Waiter:
    """Waits for the container's exit in a thread of its own; the exit is journalled before it is offered."""

    def __init__(self, run: OneRun, prepared: Prepared, started: Started) -> None:
        self._run = run
        self._prepared = prepared
        self._started = started
        self._over = threading.Event()
        self._exited: Exited | None = None
        threading.Thread(target=self._wait, name="waiter", daemon=True).start()

    def _wait(self) -> None:
        try:
            result = self._prepared.containers.wait(self._started.container_id)
            self._exited = Exited(
                code=result.code,
                oom_killed=result.oom_killed,
                error=result.error,
                at=self._run.world.clock.now(),
            )
            try:
                self._run.journal.write(self._exited)
            except OSError as error:
                log.warning("the exit could not be saved on disk: %s", error)
            log.info("the workload exited with code %d", self._exited.code)
            _offer_exit(self._run.latch, self._exited)
        except Exception as error:
            log.exception("waiting for the container failed")
            self._run.latch.offer(
                StopReason.AGENT_FAILED, f"The agent lost sight of the workload's container: {error}"
            )
        finally:
            self._over.set()

    def exited(self, timeout: float = 0.0) -> Exited | None:
        """The exit, if it is known within `timeout` seconds."""
        self._over.wait(timeout)
        return self._exited


def _offer_exit(latch: StopLatch, exited: Exited) -> None:
    if exited.code == 0:
        latch.offer(StopReason.COMPLETED, "The workload ended well.")
    elif exited.oom_killed:
        latch.offer(
            StopReason.OUT_OF_MEMORY,
            "The kernel ended the workload's own container for want of memory. "
            "Relaunch on a machine type with more memory.",
        )
    else:
        latch.offer(StopReason.WORKLOAD_FAILED, f"The workload exited with code {exited.code}.")


def _end(run: OneRun, prepared: Prepared, started: Started, waiter: _Waiter, stop: Stop) -> Exited | None:
    """Make sure that the container has exited: grace, then the kill."""
    exited = waiter.exited()
    if exited is not None:
        return exited
    plan = plan_stop(stop, run.world.clock, run.latch.machine_ends)
    log.info("the workload has %.0f s to end", plan.workload_by.remaining())
    try:
        prepared.containers.stop(started.container_id, plan.workload_by.remaining())
    except AgentError as error:
        log.warning("the container could not be stopped: %s", error)
    return waiter.exited(min(_KILL_S, plan.all_by.remaining()))
