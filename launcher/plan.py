"""The launch, planned: request + compute environment + catalog become a LaunchPlan. Pure: nothing is asked,
written or started here."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from agent.contract import (
    BUNDLE,
    SPEC,
    STATUS,
    MachineRequest,
    PipelineWorkload,
    RunPointer,
    RunSpec,
    RunState,
    RunStatus,
    index_key,
    name_key,
    run_key,
    run_prefix,
    split_s3_uri,
)
from launcher import catalog
from launcher.compute_envs import ComputeEnv
from launcher.errors import UserError
from launcher.request import RunRequest
from launcher.text import duration, size
from launcher.user_data import Links, script

JSON_TYPE: Final = "application/json"
_TAG_VALUE_MAX: Final = 256


@dataclass(frozen=True)
class Identity:
    """What makes this run this run: made up or found out before planning."""

    run_id: str
    name: str
    owner: str
    session_id: str
    submitted_at: datetime


@dataclass(frozen=True)
class MachinePlan:
    """The machine that will be started."""

    region: str
    instance_type: str
    image_id: str
    subnets: tuple[str, ...]
    """Tried in this order; empty means the default VPC's."""
    security_groups: tuple[str, ...]
    key_pair: str | None
    instance_profile: str | None
    boot_device: str
    boot_disk_gb: int
    boot_disk_encrypted: bool
    boot_disk_kms_key: str | None
    spot: bool
    client_token: str
    user_data: str
    """The run pointer, or a script with it that brings the agent; no secrets."""
    tags: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Write:
    """An object that will be written in the work dir's bucket."""

    key: str
    what: str
    content_type: str
    once: bool = False
    """Refuse to replace what is there."""
    body: bytes | None = None
    copy_from: str | None = None
    """The key that is copied, where there is no body."""


@dataclass(frozen=True)
class Brought:
    """What a machine is given whose image has no agent: archives in the work bucket, by checksum."""

    agent_sha256: str
    links: Links
    container_archive_sha256: str | None
    sends: tuple[tuple[str, int], ...]
    """The archives, for people: what each is, and its bytes."""


@dataclass(frozen=True)
class LaunchPlan:
    """Everything that submitting will do, in its order."""

    spec: RunSpec
    status: RunStatus
    pointer: RunPointer
    machine: MachinePlan
    reserve: Write
    """The marker that holds the run's name."""
    writes: tuple[Write, ...]
    """What follows once the name is reserved."""
    brought: Brought | None = None
    """Set where the machine image has no agent."""

    def as_json(self) -> dict[str, Any]:
        """The plan for programs."""
        machine = {**asdict(self.machine), "tags": dict(self.machine.tags)}
        if self.brought is None:
            machine["user_data"] = json.loads(self.machine.user_data)
        bucket, _ = split_s3_uri(self.pointer.prefix)
        return {
            "run_id": self.spec.run_id,
            "name": self.spec.name,
            "machine": machine,
            "brought": [{"what": what, "bytes": count} for what, count in self.brought.sends]
            if self.brought
            else [],
            "writes": [
                {
                    "uri": f"s3://{bucket}/{write.key}",
                    "what": write.what,
                    "bytes": None if write.body is None else len(write.body),
                    "copied_from": write.copy_from,
                }
                for write in (self.reserve, *self.writes)
            ],
            "spec": self.spec.model_dump(mode="json"),
        }

    def as_fields(self) -> list[tuple[str, str]]:
        """The plan for people: names and values."""
        spec, machine, work = self.spec, self.machine, self.spec.workload
        disk = f"{machine.boot_disk_gb} GB gp3{', encrypted' if machine.boot_disk_encrypted else ''}"
        bucket, _ = split_s3_uri(self.pointer.prefix)
        return [
            ("run", f"{spec.name} ({spec.run_id})"),
            ("owner", spec.owner),
            ("pipeline", source_text(spec)),
            ("main script", work.main_script or ""),
            ("profiles", ", ".join(work.profiles)),
            ("params", json.dumps(work.params, ensure_ascii=False) if work.params else ""),
            ("stub run", "yes" if work.stub_run else ""),
            ("resumes", work.resume_from or ""),
            ("resumable", "yes" if spec.resumable else ""),
            ("time limit", duration(spec.time_limit_s)),
            ("secrets", ", ".join(f"{ref.env} from {ref.store}:{ref.id}" for ref in _secrets(spec))),
            ("compute env", spec.compute_env),
            ("region", machine.region),
            ("machine", f"{machine.instance_type}{', Spot' if machine.spot else ''}, boot disk {disk}"),
            ("machine image", machine.image_id),
            ("brought to it", self._brought_text()),
            ("container image", spec.container_image),
            ("subnets", ", ".join(machine.subnets) or "of the default VPC"),
            ("security groups", ", ".join(machine.security_groups) or "the default one"),
            ("instance profile", machine.instance_profile or "none"),
            ("key pair", machine.key_pair or ""),
            ("tags", "\n".join(f"{key} = {value}" for key, value in machine.tags)),
            ("log group", spec.log_group),
            ("writes", "\n".join(_write_text(bucket, write) for write in (self.reserve, *self.writes))),
            ("user data", machine.user_data if self.brought else ""),
        ]

    def _brought_text(self) -> str:
        sends = self.brought.sends if self.brought else ()
        return "\n".join(
            f"{what} ({size(count)}), sent to the bucket unless it is there" for what, count in sends
        )


def plan_launch(
    request: RunRequest,
    ce: ComputeEnv,
    identity: Identity,
    *,
    image_id: str,
    boot_device: str = catalog.BOOT_DEVICE,
    bundle: bytes | None = None,
    bundle_from: str | None = None,
    brought: Brought | None = None,
) -> LaunchPlan:
    """Plan a run. `bundle` is the packed folder, `bundle_from` the key of one that an earlier run sent; `brought` is
    what the machine is given where its image has no agent.

    Raises:
        UserError: the instance type asked for does not fit the compute environment's architecture, or the user data
            are too large.
    """
    kind = request.instance_type
    if kind is not None and (arch := catalog.arch_of(kind)) is not ce.arch:
        raise UserError(
            f"--instance-type {kind} is {arch}; the compute environment {ce.name} is {ce.arch}",
            hint="Choose a type of that architecture, or a compute environment of the other one",
        )
    spec = _spec(request, ce, identity, brought)
    work_dir, run_id = spec.work_dir, spec.run_id
    pointer = RunPointer(
        run_id=run_id,
        prefix=run_prefix(work_dir, run_id),
        region=ce.region,
        log_group=ce.log_group,
    )
    status = RunStatus(
        run_id=run_id,
        name=spec.name,
        state=RunState.SUBMITTED,
        message="A machine is being started.",
        pipeline=request.pipeline,
        compute_env=ce.name,
        submitted_at=identity.submitted_at,
        heartbeat_at=identity.submitted_at,
    )
    return LaunchPlan(
        spec=spec,
        status=status,
        pointer=pointer,
        machine=_machine(ce, spec, pointer, image_id, boot_device, brought),
        reserve=Write(
            name_key(work_dir, spec.name), "reserves the name", "text/plain", once=True, body=run_id.encode()
        ),
        writes=_writes(spec, status, bundle, bundle_from),
        brought=brought,
    )


def source_text(spec: RunSpec) -> str:
    """Where the pipeline comes from, in a line."""
    source = spec.workload.source
    if source.repository is not None:
        return f"{source.repository}{f' at {source.revision}' if source.revision else ''}"
    commit = f" at {source.revision[:12]}" if source.revision else ""
    return f"folder {source.folder}{commit}{' with changes' if source.dirty else ''}"


def _spec(request: RunRequest, ce: ComputeEnv, identity: Identity, brought: Brought | None) -> RunSpec:
    return RunSpec(
        run_id=identity.run_id,
        name=identity.name,
        owner=identity.owner,
        compute_env=ce.name,
        region=ce.region,
        work_dir=request.work_dir or ce.work_dir,
        log_group=ce.log_group,
        container_image=ce.container_image,
        container_archive_sha256=brought.container_archive_sha256 if brought else None,
        environment=ce.environment,
        secrets=request.secrets,
        pre_run_script=ce.pre_run_script,
        post_run_script=ce.post_run_script,
        time_limit_s=request.time_limit_s or ce.time_limit_s,
        resumable=request.resumable,
        submitted_at=identity.submitted_at,
        machine=MachineRequest(
            instance_type=request.instance_type or ce.machine_type,
            boot_disk_gb=request.boot_disk_gb or ce.boot_disk_gb,
            spot=request.spot,
        ),
        workload=PipelineWorkload(
            source=request.source,
            main_script=request.main_script,
            profiles=request.profiles,
            params=request.params,
            config=request.config,
            compute_env_config=ce.nextflow_config,
            stub_run=request.stub_run,
            session_id=identity.session_id,
            resume_from=request.resume_from,
            platform_token=request.platform_token,
        ),
    )


def _machine(
    ce: ComputeEnv,
    spec: RunSpec,
    pointer: RunPointer,
    image_id: str,
    boot_device: str,
    brought: Brought | None,
) -> MachinePlan:
    asked = spec.machine
    if asked is None:
        raise ValueError("a planned run spec names its machine")
    tags = {
        "Name": f"solorun {spec.name}",
        catalog.TAG_RUN: spec.run_id,
        catalog.TAG_NAME: spec.name,
        catalog.TAG_OWNER: spec.owner,
        catalog.TAG_COMPUTE_ENV: ce.name,
    }
    return MachinePlan(
        region=ce.region,
        instance_type=asked.instance_type,
        image_id=image_id,
        subnets=ce.subnets,
        security_groups=ce.security_groups,
        key_pair=ce.key_pair,
        instance_profile=ce.instance_profile,
        boot_device=boot_device,
        boot_disk_gb=asked.boot_disk_gb,
        boot_disk_encrypted=ce.boot_disk_encrypted,
        boot_disk_kms_key=ce.boot_disk_kms_key,
        spot=asked.spot,
        client_token=spec.run_id,
        user_data=script(pointer, ce.arch, brought.agent_sha256, brought.links)
        if brought
        else pointer.model_dump_json(),
        tags=tuple((key, value[:_TAG_VALUE_MAX]) for key, value in tags.items()),
    )


def _writes(
    spec: RunSpec, status: RunStatus, bundle: bytes | None, bundle_from: str | None
) -> tuple[Write, ...]:
    under = run_key(spec.work_dir, spec.run_id)
    files: list[Write] = []
    if bundle is not None or bundle_from is not None:
        files.append(
            Write(
                under + BUNDLE,
                "the pipeline's files",
                "application/gzip",
                body=bundle,
                copy_from=bundle_from if bundle is None else None,
            )
        )
    files += [
        Write(
            under + SPEC, "the run spec", JSON_TYPE, once=True, body=spec.model_dump_json(indent=2).encode()
        ),
        Write(under + STATUS, "the first status", JSON_TYPE, body=status.model_dump_json(indent=2).encode()),
        Write(index_key(spec.work_dir, spec.run_id), "the index of runs", "text/plain", body=b""),
    ]
    return tuple(files)


def _secrets(spec: RunSpec) -> list[Any]:
    token = spec.workload.platform_token
    return [*spec.secrets, *([token] if token else [])]


def _write_text(bucket: str, write: Write) -> str:
    copied = f"copied from s3://{bucket}/{write.copy_from}"
    amount = copied if write.body is None else size(len(write.body))
    return f"s3://{bucket}/{write.key} ({write.what}, {amount})"
