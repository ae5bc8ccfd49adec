"""The run status, and the small files around it: claim, stop request, and the pointer in the user data."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum, unique
from typing import Literal

from agent.contract.base import Model, RunId, RunName, S3Uri
from agent.contract.states import RunState, StopReason


class TaskCounts(Model):
    """Tasks of the pipeline, by what became of them."""

    submitted: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    cached: int = 0


@unique
class Phase(StrEnum):
    """What the agent is doing; the chapters of agent/run.py."""

    WAITING = "waiting"
    """No machine has claimed the run yet."""
    PREPARE = "prepare"
    """Container image, configuration, secrets."""
    EXECUTE = "execute"
    """The workload runs."""
    COLLECT = "collect"
    """Logs and artifacts are uploaded."""
    DONE = "done"
    """Nothing follows but the shutdown."""


class Artifacts(Model):
    """What was brought to S3."""

    location: S3Uri
    """The prefix that holds the artifacts."""
    files: int
    bytes: int
    not_uploaded: tuple[str, ...] = ()
    """Paths that stayed on the machine, each with the cause, `path: cause`."""


class RunStatus(Model):
    """How a run is doing. `status.json`, replaced as a whole."""

    schema_version: Literal[1] = 1
    run_id: RunId
    name: RunName
    state: RunState
    phase: Phase = Phase.WAITING
    stop_reason: StopReason | None = None
    """Set in every final status, and in no other."""
    message: str = ""
    """A sentence or two a person can act on."""
    problems: tuple[str, ...] = ()
    """All problems of the run spec, each `field.path: what is wrong`."""
    exit_code: int | None = None
    """The workload's exit code, where it exited."""
    instance_id: str | None = None
    pipeline: str = ""
    """What runs, as the operator named it."""
    compute_env: str = ""
    submitted_at: datetime
    started_at: datetime | None = None
    """When the workload's container ran."""
    finished_at: datetime | None = None
    heartbeat_at: datetime
    tasks: TaskCounts = TaskCounts()
    artifacts: Artifacts | None = None
    warnings: tuple[str, ...] = ()
    """What went wrong without ending the run."""


class Claim(Model):
    """Which machine runs a run; `claim.json`, written once. To cancel early, the launcher claims."""

    schema_version: Literal[1] = 1
    run_id: RunId
    claimed_by: str
    """The instance id, or `launcher` where the run was cancelled before any machine claimed it."""
    claimed_at: datetime


class StopRequest(Model):
    """A person's request to end a run; `stop.json`."""

    schema_version: Literal[1] = 1
    reason: Literal[StopReason.CANCELLED] = StopReason.CANCELLED
    requested_by: str
    requested_at: datetime


class RunPointer(Model):
    """Where a machine's run is: the whole of its user data, or a line of them (user_data.py). Never a secret."""

    solorun: Literal[1] = 1
    """Schema version; its presence is what makes user data a run pointer."""
    run_id: RunId
    prefix: S3Uri
    """The run's prefix, `s3://bucket/…/runs/<run id>`."""
    region: str
    log_group: str
