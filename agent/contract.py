"""What the launcher and the agent agree on: the run spec, the run status, and the keys of a run in S3.

Both sides import this file; it imports nothing of ours. A run spec is written once by the launcher and
never changed. A run status is written by the agent (by the launcher only while no machine has claimed the
run). Saved files of every schema version are test data: tests/unit/contract/saved/.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from enum import StrEnum, unique
from pathlib import PurePosixPath
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, ValidationError

SCHEMA_VERSION: Final = 1
"""Raised by one whenever an older reader would misunderstand a newer file."""


# --- states -----------------------------------------------------------------------------------------------
#
#     SUBMITTED ──▶ RUNNING ──▶ SUCCEEDED
#         │            ├──────▶ FAILED
#         │            └──────▶ CANCELLED
#         └───────────────────▶ FAILED | CANCELLED      (before the workload started)


@unique
class RunState(StrEnum):
    """Where a run is. A final state never changes."""

    SUBMITTED = "SUBMITTED"
    """The run spec is written; a machine is being started or prepares the run."""
    RUNNING = "RUNNING"
    """The workload's container runs."""
    SUCCEEDED = "SUCCEEDED"
    """The workload ended well and its artifacts were collected."""
    FAILED = "FAILED"
    """The run ended without doing what was asked; the stop reason says why."""
    CANCELLED = "CANCELLED"
    """A person asked for the end."""
    UNKNOWN = "UNKNOWN"
    """The machine is gone and no final status was written. Said by the launcher, never stored."""

    @property
    def final(self) -> bool:
        """True when the state never changes again."""
        return self in _FINAL


_FINAL: Final = frozenset({RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED})
_NEXT: Final[dict[RunState, frozenset[RunState]]] = {
    RunState.SUBMITTED: frozenset({RunState.RUNNING, RunState.FAILED, RunState.CANCELLED}),
    RunState.RUNNING: _FINAL,
}


def can_become(old: RunState, new: RunState) -> bool:
    """Whether a stored status may go from `old` to `new`; a state may always be written again."""
    return old is new or new in _NEXT.get(old, frozenset())


@unique
class StopReason(StrEnum):
    """Why a run ended. The first reason that comes up wins and is the only one kept.

    Every member carries the state it leads to, its meaning, and what a person can do about it.
    """

    state: RunState
    meaning: str
    advice: str

    def __new__(cls, value: str, state: RunState, meaning: str, advice: str) -> Self:
        """Keep the three properties beside the string that is stored."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.state = state
        member.meaning = meaning
        member.advice = advice
        return member

    COMPLETED = (
        "completed",
        RunState.SUCCEEDED,
        "the workload ended by itself, without an error",
        "Nothing to do: `launcher runs download` brings the results.",
    )
    WORKLOAD_FAILED = (
        "workload_failed",
        RunState.FAILED,
        "the workload ended by itself, with an error",
        "Read the message and `launcher runs logs`; mend it, then `launcher runs relaunch`.",
    )
    CANCELLED = (
        "cancelled",
        RunState.CANCELLED,
        "a person cancelled the run",
        "Nothing to do; `launcher runs relaunch` starts it again.",
    )
    TIME_LIMIT = (
        "time_limit",
        RunState.FAILED,
        "the run reached its time limit",
        "Relaunch with a longer --time-limit or on a larger machine.",
    )
    BUDGET_REACHED = (
        "budget_reached",
        RunState.FAILED,
        "the run reached its budget",
        "Relaunch with a larger budget or on a cheaper machine.",
    )
    IDLE = (
        "idle",
        RunState.SUCCEEDED,
        "the Studio was idle for longer than allowed",
        "Start the Studio again; its checkpoint holds the work.",
    )
    LIFESPAN_REACHED = (
        "lifespan_reached",
        RunState.SUCCEEDED,
        "the Studio reached the end of its lifespan",
        "Start the Studio again, with a longer lifespan if needed.",
    )
    SPOT_INTERRUPTED = (
        "spot_interrupted",
        RunState.FAILED,
        "EC2 took the Spot machine back",
        "`launcher runs relaunch` goes on from the finished tasks on another machine.",
    )
    SPEC_INVALID = (
        "spec_invalid",
        RunState.FAILED,
        "the run spec in S3 cannot be understood",
        "The message lists every problem; submit the run again with the launcher.",
    )
    IMAGE_UNAVAILABLE = (
        "image_unavailable",
        RunState.FAILED,
        "a container image could not be had",
        "Check the image's name and that the machine may pull it.",
    )
    SECRET_UNAVAILABLE = (
        "secret_unavailable",
        RunState.FAILED,
        "a secret that the run refers to could not be read",
        "Check the secret's name and that the instance role may read it.",
    )
    OUT_OF_MEMORY = (
        "out_of_memory",
        RunState.FAILED,
        "the kernel ended the workload for want of memory",
        "Relaunch on a machine type with more memory, or ask for less in the pipeline.",
    )
    DISK_FULL = (
        "disk_full",
        RunState.FAILED,
        "the machine's disk was about to be full",
        "Relaunch with a larger boot disk or on a machine type with local disks.",
    )
    TERMINATED = (
        "terminated",
        RunState.FAILED,
        "the machine was told to shut down from outside",
        "Somebody or something ended the machine; `launcher runs relaunch` starts the run again.",
    )
    AGENT_FAILED = (
        "agent_failed",
        RunState.FAILED,
        "the run-agent could not go on",
        "Read `launcher runs logs --agent`; this may be an error of solorun.",
    )
    MACHINE_LOST = (
        "machine_lost",
        RunState.FAILED,
        "the machine went away without a word",
        "`launcher runs relaunch` starts the run again.",
    )
    CAPACITY_UNAVAILABLE = (
        "capacity_unavailable",
        RunState.FAILED,
        "EC2 had no machine of this type to give",
        "Try again later, in another zone, or with another instance type.",
    )


# --- the run spec -----------------------------------------------------------------------------------------


class _Model(BaseModel):
    """Frozen, and strict about fields that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


RUN_ID_PATTERN: Final = r"^[0-9]{8}t[0-9]{6}-[0-9a-z]{6}$"
RUN_NAME_PATTERN: Final = r"^[a-z](?:[-_]?[a-z0-9])*$"
"""What Nextflow takes as a run name; at most 80 characters."""

RunId = Annotated[str, StringConstraints(pattern=RUN_ID_PATTERN)]
"""Sorts by time: `YYYYMMDD` `t` `HHMMSS` (UTC) `-` six random characters."""
RunName = Annotated[str, StringConstraints(pattern=RUN_NAME_PATTERN, max_length=80)]
S3Uri = Annotated[str, StringConstraints(pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?$")]
EnvName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


@unique
class EnvTarget(StrEnum):
    """Which containers an environment variable reaches."""

    HEAD = "head"
    """Nextflow's own container."""
    COMPUTE = "compute"
    """The containers of the tasks."""
    BOTH = "both"
    """Both of them."""


class EnvVar(_Model):
    """One environment variable of the workload."""

    name: EnvName
    value: str
    target: EnvTarget = EnvTarget.BOTH


@unique
class SecretStore(StrEnum):
    """Where a secret is kept."""

    SSM = "ssm"
    """A parameter of Systems Manager Parameter Store."""
    SECRETS_MANAGER = "secretsmanager"
    """A secret of Secrets Manager."""


class SecretRef(_Model):
    """A secret by reference: the value is read on the machine, and reaches one container's environment."""

    env: EnvName
    """The environment variable that carries the value."""
    store: SecretStore
    id: Annotated[str, StringConstraints(min_length=1, max_length=2048)]
    """The parameter's name, or the secret's name or ARN."""


class PipelineSource(_Model):
    """Where the pipeline's files come from: a git repository, or a folder sent along with the run."""

    repository: str | None = None
    """A git URL, or owner/name as Nextflow takes it."""
    revision: str | None = None
    """Branch, tag or commit of the repository; for a folder, the commit it was at (for the record)."""
    bundle_sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None
    """Set when the pipeline is a folder: the checksum of `pipeline.tar.gz` under the run's prefix."""
    folder: str | None = None
    """The folder's name on the operator's machine, for the record."""
    dirty: bool = False
    """True when the folder had changes that no commit holds."""

    def model_post_init(self, _context: object) -> None:
        """Exactly one kind of source.

        Raises:
            ValueError: both, or neither, of repository and bundle_sha256 are set.
        """
        if (self.repository is None) == (self.bundle_sha256 is None):
            raise ValueError("exactly one of `repository` and `bundle_sha256` must be set")


class PipelineWorkload(_Model):
    """A Nextflow pipeline."""

    kind: Literal["pipeline"] = "pipeline"
    source: PipelineSource
    main_script: str | None = None
    """Path of the script in the pipeline's folder; `main.nf` or what the manifest says where None."""
    profiles: tuple[str, ...] = ()
    params: dict[str, JsonValue] = Field(default_factory=dict)
    config: str | None = None
    """The user's own Nextflow configuration: wins over the compute environment's and ours."""
    compute_env_config: str | None = None
    """The compute environment's Nextflow configuration: wins over ours."""
    stub_run: bool = False
    session_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
    """Nextflow's session (a UUID): shared by a run and those that resume it."""
    resume_from: RunId | None = None
    """The run whose finished tasks are taken up."""
    platform_token: SecretRef | None = None
    """Seqera Platform token. Where set, Wave and Fusion are on and the work dir is in S3."""


class MachineRequest(_Model):
    """The machine that a run was given; the agent measures for itself what it is on."""

    instance_type: str
    boot_disk_gb: int
    spot: bool = False


class RunSpec(_Model):
    """What a run is asked to do. Written once, as `spec.json`; frozen."""

    schema_version: Literal[1] = 1
    run_id: RunId
    name: RunName
    owner: str
    """Who submitted it, as AWS knows them (ARN) or as the operator's machine does."""
    compute_env: str
    region: str
    work_dir: S3Uri
    """Where Nextflow's work dir goes when it is in S3, and what the run's prefix is under."""
    log_group: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_./#-]+$", max_length=512)]
    container_image: Annotated[str, StringConstraints(min_length=1)]
    """The workload's own container image: Nextflow's head, or the Studio."""
    environment: tuple[EnvVar, ...] = ()
    secrets: tuple[SecretRef, ...] = ()
    pre_run_script: Annotated[str, StringConstraints(max_length=1024)] | None = None
    post_run_script: Annotated[str, StringConstraints(max_length=1024)] | None = None
    time_limit_s: Annotated[int, Field(ge=1, le=30 * 24 * 3600)]
    """Seconds from the claim to the stop request. Every run has one."""
    resumable: bool = False
    """Keep Nextflow's cache and the folders of finished tasks in S3 while the run goes."""
    submitted_at: datetime
    machine: MachineRequest | None = None
    """For the record, and so that a relaunch asks for the same."""
    workload: PipelineWorkload


# --- the run status ---------------------------------------------------------------------------------------


class TaskCounts(_Model):
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


class Artifacts(_Model):
    """What was brought to S3."""

    location: S3Uri
    """The prefix that holds the artifacts."""
    files: int
    bytes: int
    not_uploaded: tuple[str, ...] = ()
    """Paths that stayed on the machine, each with the cause, `path: cause`."""


class RunStatus(_Model):
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


class Claim(_Model):
    """Which machine runs a run; `claim.json`, written once. To cancel early, the launcher claims."""

    schema_version: Literal[1] = 1
    run_id: RunId
    claimed_by: str
    """The instance id, or `launcher` where the run was cancelled before any machine claimed it."""
    claimed_at: datetime


class StopRequest(_Model):
    """A person's request to end a run; `stop.json`."""

    schema_version: Literal[1] = 1
    reason: Literal[StopReason.CANCELLED] = StopReason.CANCELLED
    requested_by: str
    requested_at: datetime


class RunPointer(_Model):
    """The whole of an instance's user data: where its run is. Never a secret."""

    solorun: Literal[1] = 1
    """Schema version; its presence is what makes user data a run pointer."""
    run_id: RunId
    prefix: S3Uri
    """The run's prefix, `s3://bucket/…/runs/<run id>`."""
    region: str
    log_group: str


# --- keys in S3 -------------------------------------------------------------------------------------------


SPEC: Final = "spec.json"
STATUS: Final = "status.json"
CLAIM: Final = "claim.json"
STOP: Final = "stop.json"
BUNDLE: Final = "pipeline.tar.gz"
WORKLOAD_LOG: Final = "logs/workload.log"
AGENT_LOG: Final = "logs/agent.log"
NEXTFLOW_LOG: Final = "logs/nextflow.log"
TRACE: Final = "logs/trace.txt"
METRICS: Final = "logs/metrics.jsonl"
ARTIFACTS: Final = "artifacts/"
MANIFEST: Final = "artifacts.sha256"
"""SHA-256 of every artifact, for `sha256sum --check` in a copy of `artifacts/`."""
LOGS: Final = "logs/"
CACHE: Final = "cache/"

_ROOT: Final = ".solorun"


def split_s3_uri(uri: str) -> tuple[str, str]:
    """`s3://bucket/a/b` as ("bucket", "a/b"); the key has no slash at either end.

    Raises:
        ValueError: `uri` is not an S3 URI.
    """
    match = re.fullmatch(r"s3://([^/]+)/*(.*?)/*", uri)
    if match is None:
        raise ValueError(f"not an S3 URI: {uri!r}")
    return match[1], match[2]


def _under(work_dir: str, *parts: str) -> str:
    _, key = split_s3_uri(work_dir)
    return str(PurePosixPath(key, _ROOT, *parts))


def runs_key(work_dir: str) -> str:
    """The key prefix that holds all runs of a work dir, with a slash at its end."""
    return _under(work_dir, "runs") + "/"


def run_key(work_dir: str, run_id: str) -> str:
    """The key prefix of one run, with a slash at its end."""
    return _under(work_dir, "runs", run_id) + "/"


def run_prefix(work_dir: str, run_id: str) -> str:
    """The S3 URI of a run's prefix, without a slash at its end."""
    bucket, _ = split_s3_uri(work_dir)
    return f"s3://{bucket}/{run_key(work_dir, run_id)[:-1]}"


def name_key(work_dir: str, name: str) -> str:
    """The key of the marker that reserves a run name; its body is the run id."""
    return _under(work_dir, "names", name)


def index_prefix(work_dir: str) -> str:
    """The key prefix of the index of runs, newest first."""
    return _under(work_dir, "index") + "/"


_TIME_DIGITS: Final = 14


def index_key(work_dir: str, run_id: str) -> str:
    """A run's key in the index: S3 lists in ascending order only, so each digit of the time is inverted."""
    stamp = run_id[:8] + run_id[9:15]
    inverted = "".join(str(9 - int(digit)) for digit in stamp)
    return f"{index_prefix(work_dir)}{inverted}-{run_id}"


def run_id_of_index_key(key: str) -> str:
    """The run id that an index key stands for."""
    return key.rsplit("/", 1)[-1][_TIME_DIGITS + 1 :]


def log_stream(run_id: str, *, agent: bool = False) -> str:
    """The CloudWatch log stream of a run: the workload's, or the agent's own."""
    return f"{run_id}/{'agent' if agent else 'workload'}"


# --- reading ----------------------------------------------------------------------------------------------


class ContractError(ValueError):
    """A file that is not what the contract says. `problems` has every one, `field.path: what is wrong`."""

    def __init__(self, what: str, problems: tuple[str, ...]) -> None:
        super().__init__(f"{what}: " + "; ".join(problems))
        self.what = what
        self.problems = problems


M = TypeVar("M", bound=_Model)


def parse(model: type[M], data: bytes | str) -> M:
    """Read a file of the contract.

    Raises:
        ContractError: not JSON, of a newer schema version, or with any wrong field; all problems at once.
    """
    what = _FILE_NAMES.get(model, model.__name__)
    try:
        raw: Any = json.loads(data)
    except ValueError as error:
        raise ContractError(what, (f"(whole file): not JSON: {error}",)) from None
    if not isinstance(raw, dict):
        raise ContractError(what, (f"(whole file): a JSON object is expected, not {type(raw).__name__}",))
    version = raw.get("schema_version", SCHEMA_VERSION)
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise ContractError(
            what,
            (
                f"schema_version: written by a newer solorun (schema {version}; this one reads up to "
                f"{SCHEMA_VERSION}): update solorun here, or the machine image it runs on",
            ),
        )
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        raise ContractError(what, problems_of(error)) from None


def problems_of(error: ValidationError) -> tuple[str, ...]:
    """Every problem of a validation, `field.path: what is wrong`; never the value, which may be secret."""
    return tuple(
        f"{'.'.join(str(part) for part in item['loc']) or '(whole file)'}: {item['msg']}"
        for item in error.errors(include_input=False, include_url=False)
    )


_FILE_NAMES: Final[dict[type[BaseModel], str]] = {
    RunSpec: SPEC,
    RunStatus: STATUS,
    Claim: CLAIM,
    StopRequest: STOP,
    RunPointer: "user data",
}


def json_schema() -> dict[str, Any]:
    """The JSON Schema of every file of the contract, under the file's name."""
    return {name: model.model_json_schema() for model, name in _FILE_NAMES.items()}
