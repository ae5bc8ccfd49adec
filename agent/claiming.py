"""Claim: of all machines that know a run, one executes it, and it is the same one after a restart."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime

from agent.contract import (
    CLAIM,
    SPEC,
    STATUS,
    Claim,
    ContractError,
    Phase,
    RunPointer,
    RunSpec,
    RunState,
    RunStatus,
    parse,
)
from agent.errors import AgentError, KeyMissing, SpecInvalid
from agent.reporting import Reporter
from agent.store import Store
from agent.world import World

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Claimed:
    """A run that is this machine's to execute."""

    pointer: RunPointer
    store: Store
    reporter: Reporter
    instance_id: str
    claimed_at: datetime
    was_running: bool
    """The workload was started by an agent before this one."""


def claim(pointer: RunPointer, world: World) -> Claimed | None:
    """Take the run; None when it is another machine's, or over already.

    Raises:
        StoreError: S3 cannot be reached or refuses.
        AgentError: the claim in S3 cannot be read.
    """
    store = world.open_store(pointer.prefix)
    instance_id = world.metadata.instance_id()
    now = world.clock.now()
    mine = Claim(run_id=pointer.run_id, claimed_by=instance_id, claimed_at=now)
    won = store.put_once(CLAIM, mine.model_dump_json().encode())
    if won:
        held = mine
    else:
        try:
            held = parse(Claim, store.get(CLAIM))
        except ContractError as error:
            raise AgentError(
                f"The claim of the run cannot be read, so nobody may execute it: {error}"
            ) from error
    if held.claimed_by != instance_id:
        log.warning("run %s is claimed by %s since %s", held.run_id, held.claimed_by, held.claimed_at)
        return None
    status = _status(store, pointer, now)
    if status.state.final:
        log.warning("run %s is over: %s", status.run_id, status.state)
        return None
    log.info("%s run %s on %s", "claimed" if won else "taking up", pointer.run_id, instance_id)
    reporter = Reporter(
        store,
        status.model_copy(update={"instance_id": instance_id, "phase": Phase.PREPARE}),
        world.clock,
    )
    return Claimed(
        pointer=pointer,
        store=store,
        reporter=reporter,
        instance_id=instance_id,
        claimed_at=held.claimed_at,
        was_running=status.state is RunState.RUNNING,
    )


def read_spec(claimed: Claimed) -> RunSpec:
    """The run spec.

    Raises:
        SpecInvalid: it is missing, altered to nonsense, or another run's; every problem is listed.
    """
    try:
        spec = parse(RunSpec, claimed.store.get(SPEC))
    except KeyMissing as error:
        raise SpecInvalid(
            "There is no run spec under the run's prefix: it was deleted after the run was submitted. "
            "Submit the run again.",
            problems=(f"{SPEC}: missing",),
        ) from error
    except ContractError as error:
        raise SpecInvalid(
            f"The run spec cannot be understood, so nothing was started. {error}", problems=error.problems
        ) from error
    if spec.run_id != claimed.pointer.run_id:
        raise SpecInvalid(
            f"The run spec is that of run {spec.run_id}; this machine was started for "
            f"{claimed.pointer.run_id}. Submit the run again.",
            problems=(f"run_id: {spec.run_id} is not the run under whose prefix it was found",),
        )
    return spec


def _status(store: Store, pointer: RunPointer, now: datetime) -> RunStatus:
    """What the launcher (or this agent, before it was killed) wrote; a fresh one where that is unreadable."""
    try:
        return parse(RunStatus, store.get(STATUS))
    except (KeyMissing, ContractError) as error:
        log.warning("no readable status, a new one is made: %s", error)
        return RunStatus(
            run_id=pointer.run_id,
            name="unknown",
            state=RunState.SUBMITTED,
            submitted_at=now,
            heartbeat_at=now,
        )
