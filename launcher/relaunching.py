"""A run again: the same spec under a new id, going on from the finished tasks where that is possible."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agent.contract import BUNDLE, RunSpec, RunStatus
from launcher.clock import Clock
from launcher.compute_envs import ComputeEnv
from launcher.errors import Unreadable, UserError
from launcher.machines import Machines
from launcher.observing import status_now
from launcher.request import RunRequest
from launcher.run_book import RunBook, is_live

_LOOK_BACK: Final = 20
"""How many of the newest runs are looked at for one that still works on the same session."""


@dataclass(frozen=True)
class Resume:
    """Whether a relaunch goes on from finished tasks."""

    run_id: str | None
    """The run whose finished tasks are taken up; None starts from scratch."""
    remark: str
    """What the person should know about it."""


@dataclass(frozen=True)
class Changes:
    """What a relaunch does differently; None keeps it."""

    name: str | None = None
    time_limit_s: int | None = None
    instance_type: str | None = None
    boot_disk_gb: int | None = None
    spot: bool | None = None
    resumable: bool = False


def check_over(status: RunStatus) -> None:
    """A run that still goes is not started a second time.

    Raises:
        UserError: it is not over.
    """
    if is_live(status.state):
        raise UserError(
            f"The run {status.name} is {status.state}; only a run that is over can be relaunched",
            hint=f"Wait for its end, or end it: launcher runs cancel {status.name}",
        )


def choose_resume(book: RunBook, spec: RunSpec, *, wanted: bool) -> Resume:
    """Which run's finished tasks are taken up, if any."""
    work = spec.workload
    if not wanted:
        return Resume(None, "It starts from scratch, as asked.")
    if work.platform_token is not None:
        return Resume(spec.run_id, "It resumes: with Fusion the work dir is in S3 already.")
    if not spec.resumable:
        return Resume(
            None,
            f"The run {spec.name} was not started with --resumable or --spot, so none of its work is kept: it "
            "starts from scratch.",
        )
    for run_id in (spec.run_id, work.resume_from):
        if run_id is not None and book.has_cache(run_id):
            return Resume(run_id, f"It resumes from the finished tasks of {run_id}.")
    return Resume(None, f"The run {spec.name} left no finished tasks: it starts from scratch.")


def check_session_free(book: RunBook, spec: RunSpec, machines: Machines, clock: Clock) -> None:
    """Two runs of one Nextflow session at once would destroy each other's cache.

    A run whose machine is gone is over, whatever its stored status says.

    Raises:
        UserError: another run of the session still goes.
    """
    for position, run_id in enumerate(book.newest()):
        if position == _LOOK_BACK:
            return
        if run_id == spec.run_id:
            continue
        try:
            status = book.find_status(run_id)
        except Unreadable:
            # a run that this launcher cannot read is no relaunch that it made
            continue
        if status is None or not is_live(status.state):
            continue
        if book.spec(run_id).workload.session_id != spec.workload.session_id:
            continue
        status = status_now(book, run_id, machines, clock)
        if is_live(status.state):
            raise UserError(
                f"The run {status.name} ({run_id}) already goes on from {spec.name}, and is {status.state}",
                hint=f"Follow it: launcher runs logs {status.name} --follow; or start afresh: --no-resume",
            )


def request_again(spec: RunSpec, status: RunStatus, resume: Resume, changes: Changes) -> RunRequest:
    """The request for the new run."""
    work, machine = spec.workload, spec.machine
    spot = changes.spot if changes.spot is not None else bool(machine and machine.spot)
    return RunRequest(
        source=work.source,
        pipeline=status.pipeline or work.source.repository or work.source.folder or "",
        name=changes.name,
        main_script=work.main_script,
        profiles=work.profiles,
        params=work.params,
        config=work.config,
        stub_run=work.stub_run,
        work_dir=spec.work_dir,
        time_limit_s=changes.time_limit_s or spec.time_limit_s,
        spot=spot,
        resumable=spec.resumable or changes.resumable or spot,
        instance_type=changes.instance_type or (machine.instance_type if machine else None),
        boot_disk_gb=changes.boot_disk_gb or (machine.boot_disk_gb if machine else None),
        platform_token=work.platform_token,
        secrets=spec.secrets,
        session_id=work.session_id if resume.run_id else None,
        resume_from=resume.run_id,
    )


def compute_env_again(ce: ComputeEnv, spec: RunSpec) -> ComputeEnv:
    """The compute environment with what the earlier run's spec took from it then."""
    return ce.model_copy(
        update={
            "environment": spec.environment,
            "nextflow_config": spec.workload.compute_env_config,
            "pre_run_script": spec.pre_run_script,
            "post_run_script": spec.post_run_script,
            "container_image": spec.container_image,
            "log_group": spec.log_group,
        }
    )


def bundle_key(book: RunBook, spec: RunSpec) -> str | None:
    """The key of the pipeline's files that the earlier run sent; None where it is a repository."""
    return book.key(spec.run_id, BUNDLE) if spec.workload.source.bundle_sha256 is not None else None
