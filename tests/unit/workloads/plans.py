"""Run specs and plans for the tests of pipelines."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.contract import PipelineSource, PipelineWorkload, RunSpec
from agent.folder import RunFolder
from agent.machine import Machine
from agent.workloads.nextflow import PipelinePlan, plan_pipeline

RUN_ID = "20260102t030405-abc123"
SESSION = "0f9a4a5e-1111-4222-8333-123456789abc"
MACHINE = Machine(cpus=2, memory_bytes=8 * 1024**3)
BUNDLE = PipelineSource(bundle_sha256="0" * 64, folder="variants")


def run_spec(*, workload: dict[str, Any] | None = None, **changes: Any) -> RunSpec:
    """A run spec of a bundle, with changes to it and to its workload."""
    fields: dict[str, Any] = {"source": BUNDLE, "session_id": SESSION} | (workload or {})
    return RunSpec.model_validate(
        {
            "run_id": RUN_ID,
            "name": "brave_run",
            "owner": "somebody",
            "compute_env": "small",
            "region": "eu-west-1",
            "work_dir": "s3://bucket/team",
            "log_group": "solorun",
            "container_image": "solorun/nextflow:24.10.0",
            "time_limit_s": 3600,
            "submitted_at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
            "workload": PipelineWorkload(**fields),
        }
        | changes
    )


def plan(
    spec: RunSpec,
    *,
    root: Path = Path("/scratch/run"),
    machine: Machine = MACHINE,
    secrets: dict[str, str] | None = None,
    has_plugins: bool = False,
) -> PipelinePlan:
    """The plan of a run on a machine of 2 cpus and 8 GiB."""
    return plan_pipeline(
        spec,
        machine,
        RunFolder(root),
        secrets=secrets or {},
        has_plugins=has_plugins,
        instance_id="i-0123",
    )
