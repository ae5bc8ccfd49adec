"""A pipeline's run spec becomes a container plan and the files that it needs. Pure: nothing is done here."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from agent.container_plan import (
    INSTANCE_LABEL,
    ROLE_LABEL,
    RUN_LABEL,
    ContainerPlan,
    Mount,
    Role,
)
from agent.contract import ARTIFACTS, S3_URI_PATTERN, EnvTarget, PipelineWorkload, RunSpec, run_prefix
from agent.errors import SpecInvalid
from agent.folder import RunFolder
from agent.machine import Machine
from agent.workloads import nextflow_launch as launch
from agent.workloads.nextflow_config import S3WorkDir, base_config, budget

DOCKER_SOCKET: Final = "/var/run/docker.sock"
PLATFORM_TOKEN: Final = "TOWER_ACCESS_TOKEN"  # noqa: S105  # the variable's name, no token

_NETWORK: Final = "host"
"""The head uses the machine's own network. It starts 150 ms sooner than with a bridge, reaches the metadata
service in one hop, and in the local cloud that machine's own one. It listens on no port. Tasks have the bridge."""

OPEN_FILES: Final = 1_048_576
"""That Fusion recommends for a container."""
_FUSION_OPTIONS: Final = ("--ulimit", f"nofile={OPEN_FILES}:{OPEN_FILES}")
"""Fusion keeps many files open."""


@dataclass(frozen=True)
class PipelinePlan:
    """What is to be started, and the files that must be there before: path to text, all below `folder.config`."""

    container: ContainerPlan
    files: Mapping[Path, str]
    results_destination: str | None
    """Where the agent brings the results when the user asked for an S3 URI that Nextflow cannot write to."""
    results_location: str | None = None
    """The S3 URI that the user asked for, whoever writes there; None for the run's own artifacts."""
    warnings: tuple[str, ...] = ()
    """What is done otherwise than asked."""


@dataclass(frozen=True)
class Outdir:
    """Where results go: what Nextflow is told, and what the agent does; see PipelinePlan."""

    param: str | None
    """`outdir` for the params file; None where the user gave none."""
    default: str
    """`params.outdir` of our own configuration."""
    destination: str | None = None
    location: str | None = None
    warnings: tuple[str, ...] = ()


def plan_pipeline(
    spec: RunSpec,
    machine: Machine,
    folder: RunFolder,
    *,
    secrets: Mapping[str, str],
    has_plugins: bool,
    instance_id: str,
) -> PipelinePlan:
    """Plan the head container of a pipeline.

    `secrets` are values by environment variable, for the head only. With `has_plugins` Nextflow itself reads
    and writes S3; without it results for S3 go to `folder.results` first. Wave and Fusion are on where the
    spec names a Platform token.

    Raises:
        SpecInvalid: `workload.params.outdir` leads out of the results folder.
    """
    workload = spec.workload
    fusion = workload.platform_token is not None
    outdir = outdir_of(spec, folder, nextflow_writes_s3=has_plugins or fusion)
    params = dict(workload.params)
    params.pop("outdir", None)
    if outdir.param is not None:
        params["outdir"] = outdir.param
    work_dir = f"{spec.work_dir.rstrip('/')}/work" if fusion else str(folder.work)
    command = _command(spec, folder, work_dir, with_params=bool(params))
    return PipelinePlan(
        container=ContainerPlan(
            image=spec.container_image,
            command=("/bin/bash", str(folder.config / launch.LAUNCH)),
            name=f"solorun-{spec.run_id}",
            labels=_labels(spec, instance_id, Role.WORKLOAD),
            environment=_head_environment(spec, machine, folder, secrets),
            mounts=(Mount(DOCKER_SOCKET, DOCKER_SOCKET), Mount(str(folder.root), str(folder.root))),
            # What a pipeline writes to a path of no folder lands in the results, and so is kept.
            working_dir=str(folder.results),
            network_mode=_NETWORK,
        ),
        files=_files(spec, machine, folder, outdir, params, command, work_dir, instance_id),
        results_destination=outdir.destination,
        results_location=outdir.location,
        warnings=outdir.warnings,
    )


def _command(spec: RunSpec, folder: RunFolder, work_dir: str, *, with_params: bool) -> tuple[str, ...]:
    workload, config = spec.workload, folder.config
    source = workload.source
    command = ["nextflow", "-log", str(folder.nextflow_log), "-config", str(config / launch.BASE_CONFIG)]
    if workload.compute_env_config:
        command += ["-config", str(config / launch.COMPUTE_ENV_CONFIG)]
    if workload.config:
        command += ["-config", str(config / launch.USER_CONFIG)]
    command += ["run", source.repository or str(folder.pipeline), "-name", spec.name, "-ansi-log", "false"]
    if source.repository is not None and source.revision is not None:
        command += ["-r", source.revision]
    if workload.main_script is not None:
        command += ["-main-script", workload.main_script]
    if workload.profiles:
        command += ["-profile", ",".join(workload.profiles)]
    if with_params:
        command += ["-params-file", str(config / launch.PARAMS)]
    command += ["-work-dir", work_dir]
    command += ["-with-trace", str(folder.trace)]
    command += ["-with-report", str(folder.logs / "report.html")]
    command += ["-with-timeline", str(_timeline(folder))]
    if workload.stub_run:
        command.append("-stub-run")
    if workload.resume_from is not None:
        command += ["-resume", workload.session_id]
    return tuple(command)


def _files(
    spec: RunSpec,
    machine: Machine,
    folder: RunFolder,
    outdir: Outdir,
    params: Mapping[str, object],
    command: tuple[str, ...],
    work_dir: str,
    instance_id: str,
) -> dict[Path, str]:
    workload = spec.workload
    fusion = S3WorkDir(spec.region, str(folder.root / "tmp")) if workload.platform_token is not None else None
    post_run = launch.PostRunFacts(
        workload.session_id, folder.spool, folder.nextflow_log, _timeline(folder), work_dir
    )
    env = launch.task_env(_variables(spec, EnvTarget.COMPUTE))
    files: dict[str, str | None] = {
        launch.BASE_CONFIG: base_config(spec.run_id, budget(machine), outdir.default, fusion),
        launch.COMPUTE_ENV_CONFIG: workload.compute_env_config,
        launch.USER_CONFIG: workload.config,
        launch.PARAMS: json.dumps(params, indent=2) + "\n" if params else None,
        launch.TASK_ENV: env.file,
        launch.DOCKER_WRAPPER: launch.docker_wrapper(
            folder.config, _labels(spec, instance_id, Role.TASK), _FUSION_OPTIONS if fusion else (), env
        ),
        launch.PRE_RUN: spec.pre_run_script,
        launch.POST_RUN: spec.post_run_script,
        launch.LAUNCH: launch.launch_script(
            folder.config,
            command,
            pre_run=bool(spec.pre_run_script),
            post_run=post_run if spec.post_run_script else None,
        ),
    }
    return {folder.config / name: text for name, text in files.items() if text}


def _head_environment(
    spec: RunSpec, machine: Machine, folder: RunFolder, secrets: Mapping[str, str]
) -> dict[str, str]:
    """Defaults, then the user's, then the secrets, then what the run depends on; the later wins."""
    workload = spec.workload
    defaults = {
        "AWS_REGION": spec.region,
        "AWS_DEFAULT_REGION": spec.region,
        "NXF_JVM_ARGS": f"-Xmx{budget(machine).heap_mib}m",
    }
    needed = {
        "NXF_ANSI_LOG": "false",
        "NXF_ASSETS": str(folder.root / "assets"),
        "NXF_CACHE_DIR": str(folder.launch / ".nextflow"),
        "NXF_DISABLE_CHECK_LATEST": "true",
        "NXF_IGNORE_RESUME_HISTORY": "true",
        "NXF_UUID": workload.session_id,
    }
    if workload.platform_token is not None:
        # Shared by all runs of the work dir: Nextflow keeps each session in a folder of its own below it.
        needed["NXF_CLOUDCACHE_PATH"] = f"{spec.work_dir.rstrip('/')}/.solorun/cache"
    return defaults | _variables(spec, EnvTarget.HEAD) | _secret_values(spec, secrets) | needed


def _secret_values(spec: RunSpec, secrets: Mapping[str, str]) -> dict[str, str]:
    """The values by the head's variables; the Platform token under the name that Nextflow reads."""
    token = spec.workload.platform_token
    values = {ref.env: secrets[ref.env] for ref in spec.secrets}
    if token is not None:
        values[PLATFORM_TOKEN] = secrets[token.env]
    return values


def _variables(spec: RunSpec, target: EnvTarget) -> dict[str, str]:
    return {
        variable.name: variable.value
        for variable in spec.environment
        if variable.target in (target, EnvTarget.BOTH)
    }


def outdir_of(spec: RunSpec, folder: RunFolder, *, nextflow_writes_s3: bool) -> Outdir:
    """Where results go: into the results folder, or to S3 where Nextflow can write there itself."""
    default = str(folder.results)
    if spec.workload.platform_token is not None:
        # Published from S3 to S3: nothing comes by this machine's disk.
        default = f"{run_prefix(spec.work_dir, spec.run_id)}/{ARTIFACTS.rstrip('/')}"
    asked = _asked_outdir(spec.workload)
    if asked is None:
        return Outdir(None, default)
    scheme, separator, _ = asked.partition("://")
    if separator and scheme != "file":
        if scheme != "s3":
            return Outdir(asked, default)
        where = asked.rstrip("/")
        if not re.fullmatch(S3_URI_PATTERN, where):
            raise SpecInvalid(
                f"outdir {asked!r} is no S3 URI. Write it like s3://BUCKET/PATH.",
                problems=(f"workload.params.outdir: {asked!r} is no S3 URI",),
            )
        if nextflow_writes_s3:
            return Outdir(asked, default, location=where)
        return Outdir(str(folder.results), default, destination=where, location=where)
    path = PurePosixPath(asked.removeprefix("file://"))
    if path.is_absolute():
        if path.is_relative_to(folder.results):
            return Outdir(str(path), default)
        return Outdir(
            default,
            default,
            warnings=(
                f"outdir {asked} would be a folder of the machine, which is gone after the run: "
                "the results are in the run's artifacts instead.",
            ),
        )
    if ".." in path.parts:
        raise SpecInvalid(
            f"outdir {asked!r} leads out of the results folder. Give a path without `..`, or an S3 URI.",
            problems=(f"workload.params.outdir: {asked!r} leads out of the results folder",),
        )
    return Outdir(f"{default}/{path}".removesuffix("/."), default)


def _asked_outdir(workload: PipelineWorkload) -> str | None:
    value = workload.params.get("outdir")
    return str(value) if value not in (None, "", False) else None


def _labels(spec: RunSpec, instance_id: str, role: Role) -> dict[str, str]:
    return {RUN_LABEL: spec.run_id, ROLE_LABEL: role.value, INSTANCE_LABEL: instance_id}


def _timeline(folder: RunFolder) -> Path:
    return folder.logs / "timeline.html"
