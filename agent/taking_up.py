"""Take up a run whose workload was started before the agent was killed; where that fails, save what there is of it."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from typing import Final

from tenacity import RetryCallState, Retrying, retry_if_exception, sleep_using_event, wait_random_exponential

from agent.collecting import Saving
from agent.errors import AgentError, DiskLost
from agent.journal import Exited, Started
from agent.one_run import OneRun
from agent.preparing import (
    Prepared,
    Secrets,
    Stopped,
    ballast_of,
    carrier_of,
    disk_lost,
    prepare,
    read_secrets,
    unless,
)
from agent.stopping import plan_stop
from agent.workloads.nextflow import outdir_of

log = logging.getLogger(__name__)

TAKE_UP_S: Final = 900.0
"""How long a run whose workload was started before is tried to be taken up: Docker, S3 or a secret may be away."""
_ONE_TRY_S: Final = 10.0
"""What the first attempt gets also where a stop reason came up before it: Docker usually answers at once."""


class NotTakenUp(Exception):
    """Docker or a secret stayed away for too long, or until the run had to end.

    Attributes:
        error: what was in the way at last.
        secrets: None where they could not be read.
    """

    def __init__(self, error: AgentError, secrets: Secrets | None) -> None:
        super().__init__(str(error))
        self.error = error
        self.secrets = secrets


def take_up(run: OneRun) -> Prepared:
    """Prepare a run that was started before.

    Raises:
        NotTakenUp: it stays out of reach.
        DiskLost: nothing of it is on this machine any more.
    """
    known: list[Secrets] = []
    last = AgentError("Docker and the secrets had not answered when the run had to end.")
    over = _patience(run)
    given_up = threading.Event()

    def attempt() -> Prepared:
        if given_up.is_set():
            raise last  # nobody waits for this thread any more
        if not known:
            known.append(read_secrets(run))
        return prepare(run, known[0])

    def note(state: RetryCallState) -> None:
        nonlocal last
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, AgentError):
            last = error
        log.warning("the run is not taken up yet: %s", error)

    retrying = Retrying(
        retry=retry_if_exception(
            lambda error: isinstance(error, AgentError) and not isinstance(error, DiskLost)
        ),
        stop=lambda _state: given_up.is_set() or over(),
        sleep=sleep_using_event(given_up),
        wait=wait_random_exponential(1, 30),
        before_sleep=note,
        reraise=True,
    )
    try:
        return unless(over, lambda: retrying(attempt))
    except DiskLost:
        raise
    except AgentError as error:
        last = error
    except Stopped:
        given_up.set()
    if run.journal.read(Started) is None:
        raise disk_lost() from last
    raise NotTakenUp(last, known[0] if known else None) from last


def saving_without(run: OneRun, lost: NotTakenUp) -> Saving:
    """What it takes to save a run as it is on the disk; its owner is told what that means."""
    warn = run.claimed.reporter.warn
    meanwhile = "" if run.journal.read(Exited) else ", while the workload may have gone on"
    warn(
        "The run could not be taken up after its agent was restarted: what was on the disk was saved as it was"
        f"{meanwhile}. {lost.error}"
    )
    if lost.secrets is None:
        warn(
            "Nothing that the workload said was saved, as what is secret in it is not known without the run's "
            "secrets: no workload.log, no nextflow.log, no reports, and no more lines in the log stream."
        )
    # Whether Nextflow itself wrote to S3, Docker does not say: then there is next to nothing in the results folder.
    outdir = outdir_of(run.spec, run.folder, nextflow_writes_s3=run.spec.workload.platform_token is not None)
    return Saving(
        ballast=ballast_of(run),
        carrier=carrier_of(run),
        containers=None,
        redactor=lost.secrets.redactor if lost.secrets else None,
        results_destination=outdir.destination,
        results_location=outdir.location,
    )


def _patience(run: OneRun) -> Callable[[], bool]:
    """Whether nobody waits any longer: a run that ends gets the workload's share of the time, and no more.

    Where the workload has exited, and nobody ends the machine, there is nothing to hurry for.
    """
    clock, latch = run.world.clock, run.latch
    began = clock.monotonic()

    def over() -> bool:
        past = clock.monotonic() - began
        stop = latch.stop
        if past >= TAKE_UP_S or stop is None:
            return past >= TAKE_UP_S
        plan = plan_stop(stop, clock, latch.machine_ends)
        if past < _ONE_TRY_S and not plan.all_by.less(_ONE_TRY_S).passed:
            return False
        in_a_hurry = run.journal.read(Exited) is None or latch.machine_ends() < math.inf
        return in_a_hurry and plan.workload_by.passed

    return over
