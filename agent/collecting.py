"""Collect: logs, reports and artifacts go to S3, each step bounded by what is left of the deadline."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from agent.artifacts import UploadReport, upload_tree
from agent.clock import Deadline
from agent.contract import ARTIFACTS, LOGS, MANIFEST, WORKLOAD_LOG, Artifacts, Phase, StopReason
from agent.errors import AgentError
from agent.journal import Exited, Started, Stop
from agent.logs.redact import Redactor, redacted_copy
from agent.logs.shipper import LogShipper
from agent.one_run import OneRun
from agent.preparing import Prepared
from agent.stopping import plan_stop
from agent.watching import disk_is_full
from agent.workloads.nextflow_diagnosis import Diagnosis, diagnose, warnings_of

log = logging.getLogger(__name__)

SWEEP_S: Final = 30.0

# Shares of the time that is left when collecting begins, kept for what comes later. They count after a Spot
# notice, where finished tasks are worth the most, and a log that nobody has must not wait for the last artifact.
_AFTER_CARRYING: Final = 0.4
_AFTER_UPLOADS: Final = 0.1


@dataclass(frozen=True)
class Collected:
    """What came of the run, as far as it could be saved."""

    diagnosis: Diagnosis
    artifacts: Artifacts | None


def collect(
    run: OneRun, prepared: Prepared, shipper: LogShipper, stop: Stop, exited: Exited | None
) -> Collected:
    """Sweep the run's containers, then save everything; what fails is a warning, and the next step follows."""
    reporter = run.claimed.reporter
    deadline = plan_stop(stop, run.world.clock).all_by
    left = deadline.remaining()
    carry_by, uploads_by = deadline.less(left * _AFTER_CARRYING), deadline.less(left * _AFTER_UPLOADS)
    with _goes_on(run, "The phase could not be reported"):
        reporter.change(phase=Phase.COLLECT)
    diagnosis = _redacted(_diagnose(run, prepared, stop, exited), prepared.redactor)
    with _goes_on(run, "Leftover containers could not be swept"):
        sweep_by = Deadline.after(min(SWEEP_S, deadline.remaining()), run.world.clock)
        prepared.containers.sweep(run.spec.run_id, sweep_by)
    prepared.ballast.release()

    reporter.note(tasks=run.progress.tasks())
    for warning in diagnosis.warnings:
        reporter.warn(warning)
    if prepared.carrier is not None:
        with _goes_on(run, "Finished tasks could not all be kept for a resumed run"):
            prepared.carrier.finish(carry_by)
    if diagnosis.reason is StopReason.DISK_FULL:
        # Nobody can look at the work dir any more, and redacted copies of the logs need room.
        shutil.rmtree(run.folder.work, ignore_errors=True)

    artifacts = Artifacts(location=_location(run, prepared), files=0, bytes=0)
    with _goes_on(run, "The logs could not be uploaded"):
        artifacts = _add(artifacts, _upload_logs(run, prepared, uploads_by), count=False)
    with _goes_on(run, "The artifacts could not be uploaded"):
        artifacts = _add(artifacts, _upload_results(run, prepared, uploads_by), count=True)
    with _goes_on(run, "The log stream could not be completed"):
        shipped = shipper.finish(deadline)
        for warning in shipped.warnings:
            reporter.warn(warning)
        if not shipped.complete:
            reporter.warn(
                f"CloudWatch Logs took {shipped.bytes_shipped:,} of {shipped.bytes_total:,} bytes of the "
                f"workload's log; the whole of it is in S3: {run.claimed.pointer.prefix}/{WORKLOAD_LOG}."
            )
    return Collected(diagnosis, artifacts)


@contextmanager
def _goes_on(run: OneRun, what: str) -> Iterator[None]:
    """Nothing in here may keep the rest from being saved."""
    try:
        yield
    except (AgentError, OSError) as error:
        run.claimed.reporter.warn(f"{what}: {error}")


def _diagnose(run: OneRun, prepared: Prepared, stop: Stop, exited: Exited | None) -> Diagnosis:
    """Nextflow exits with 1 for everything, so what it wrote must tell what happened."""
    if exited is not None and stop.reason is StopReason.WORKLOAD_FAILED:
        out_of_memory: tuple[str, ...] = ()
        started = run.journal.read(Started)
        with _goes_on(run, "Docker could not be asked about memory"):
            if started is not None:
                out_of_memory = prepared.containers.out_of_memory(run.spec.run_id, started.started_at)
        return diagnose(
            exited.code,
            run.folder,
            out_of_memory=out_of_memory,
            disk_full=disk_is_full(run.folder.root),
        )
    tasks = run.progress.tasks()
    done = tasks.succeeded + tasks.cached
    counts = f"{done} task{'' if done == 1 else 's'} done"
    if tasks.cached:
        counts += f" ({tasks.cached} of them cached)"
    if tasks.failed:
        counts += f", {tasks.failed} failed"
    return Diagnosis(stop.reason, f"{stop.message} {counts}.", warnings_of(run.folder))


def _redacted(diagnosis: Diagnosis, redactor: Redactor) -> Diagnosis:
    """A diagnosis quotes what the workload printed, and that may be a secret."""
    return replace(
        diagnosis,
        message=redactor.redact_text(diagnosis.message),
        warnings=tuple(map(redactor.redact_text, diagnosis.warnings)),
    )


def _upload_logs(run: OneRun, prepared: Prepared, deadline: Deadline) -> UploadReport:
    folder, redactor = run.folder, prepared.redactor
    logs, spool = folder.logs, folder.spool
    if redactor.active:
        logs, spool = folder.state / "redacted", folder.state / "redacted-workload.log"
        shutil.rmtree(logs, ignore_errors=True)
        logs.mkdir()
        for path in folder.logs.iterdir():
            if path.is_file():
                redacted_copy(path, logs / path.name, redactor)
        redacted_copy(folder.spool, spool, redactor)
    if spool.exists():
        run.claimed.store.upload(spool, WORKLOAD_LOG, deadline=deadline)
    return upload_tree(run.claimed.store, logs, LOGS, deadline=deadline)


def _location(run: OneRun, prepared: Prepared) -> str:
    return prepared.plan.results_destination or f"{run.claimed.pointer.prefix}/{ARTIFACTS}"


def _upload_results(run: OneRun, prepared: Prepared, deadline: Deadline) -> UploadReport:
    folder, destination = run.folder, prepared.plan.results_destination
    store, prefix = run.claimed.store, ARTIFACTS
    if destination is not None:
        store, prefix = run.world.open_store(destination), ""
    return upload_tree(
        store,
        folder.results,
        prefix,
        deadline=deadline,
        # Pipelines publish links into the work dir by default, and may publish files of their own.
        roots=(folder.work, folder.pipeline),
        journal=folder.state / "uploaded",
        manifest=MANIFEST,
    )


def _add(artifacts: Artifacts, report: UploadReport, *, count: bool) -> Artifacts:
    """Artifacts are what the pipeline made: logs do not count, but a log that is missing is named."""
    return artifacts.model_copy(
        update={
            "files": artifacts.files + (report.files if count else 0),
            "bytes": artifacts.bytes + (report.bytes if count else 0),
            "not_uploaded": (*artifacts.not_uploaded, *report.not_uploaded),
        }
    )
