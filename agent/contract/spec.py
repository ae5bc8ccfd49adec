"""The run spec: what a run is asked to do. Written once by the launcher, never changed."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum, unique
from typing import Annotated, Literal

from pydantic import Field, JsonValue, StringConstraints

from agent.contract.base import EnvName, Model, RunId, RunName, S3Uri, Sha256


@unique
class EnvTarget(StrEnum):
    """Which containers an environment variable reaches."""

    HEAD = "head"
    """Nextflow's own container."""
    COMPUTE = "compute"
    """The containers of the tasks."""
    BOTH = "both"
    """Both of them."""


class EnvVar(Model):
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


class SecretRef(Model):
    """A secret by reference: the value is read on the machine, and reaches one container's environment."""

    env: EnvName
    """The environment variable that carries the value."""
    store: SecretStore
    id: Annotated[str, StringConstraints(min_length=1, max_length=2048)]
    """The parameter's name, or the secret's name or ARN."""


class PipelineSource(Model):
    """Where the pipeline's files come from: a git repository, or a folder sent along with the run."""

    repository: str | None = None
    """A git URL, or owner/name as Nextflow takes it."""
    revision: str | None = None
    """Branch, tag or commit of the repository; for a folder, the commit it was at (for the record)."""
    bundle_sha256: Sha256 | None = None
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


class PipelineWorkload(Model):
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


class MachineRequest(Model):
    """The machine that a run was given; the agent measures for itself what it is on."""

    instance_type: str
    boot_disk_gb: int
    spot: bool = False


class RunSpec(Model):
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
    container_archive_sha256: Sha256 | None = Field(default=None, exclude_if=lambda value: value is None)
    """Set where the machine may be without the container image, and no registry has it: the checksum of an archive of
    it, as `docker image save` writes it, in the work dir's bucket (`program_key`). Not written where it is not set:
    an agent from before this field takes such a spec as well."""
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
