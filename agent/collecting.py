"""Collect: logs, reports and artifacts go to S3, each step bounded by what is left of the deadline."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from agent.artifacts import UploadProgress, UploadReport, upload_tree
from agent.clock import Deadline
from agent.containers import Containers
from agent.contract import ARTIFACTS, LOGS, MANIFEST, WORKLOAD_LOG, Artifacts, Phase, StopReason
from agent.errors import AgentError
from agent.journal import Exited, Started, Stop
from agent.logs.redact import Redactor, redacted_chunks, redacted_copy
from agent.logs.shipper import LogShipper
from agent.one_run import OneRun
from agent.preparing import Prepared
from agent.stopping import plan_stop
from agent.watching import Ballast, disk_is_full
from agent.workloads.nextflow_diagnosis import Diagnosis, diagnose, warnings_of

if TYPE_CHECKING:
    from agent.carry import Carrier

log = logging.getLogger(__name__)

SWEEP_S: Final = 30.0
STREAM_S: Final = 120.0
"""How long CloudWatch Logs may keep a machine whose results and logs are in S3."""
MOST_NAMED: Final = 200
"""So many files that were not uploaded are named in the status; all of them in the agent's log."""

# Shares of the time that is left when collecting begins, kept for what comes later. They count after a Spot
# notice, where finished tasks are worth the most, and a log that nobody has must not wait for the last artifact.
_AFTER_CARRYING: Final = 0.4
_AFTER_UPLOADS: Final = 0.1


@dataclass(frozen=True)
class Collected:
    """What came of the run, as far as it could be saved."""

    diagnosis: Diagnosis
    artifacts: Artifacts | None


@dataclass(frozen=True)
class Saving:
    """What it takes to save a run; less of it where the run could not be taken up."""

    ballast: Ballast
    carrier: Carrier | None
    containers: Containers | None
    """None: Docker does not answer; what is on the disk is saved without it."""
    redactor: Redactor | None
    """None: nobody knows what is secret, so nothing leaves the machine of what the workload said."""
    results_destination: str | None
    results_location: str | None

    @classmethod
    def of(cls, prepared: Prepared) -> Saving:
        """All that there is."""
        return cls(
            ballast=prepared.ballast,
            carrier=prepared.carrier,
            containers=prepared.containers,
            redactor=prepared.redactor,
            results_destination=prepared.plan.results_destination,
            results_location=prepared.plan.results_location,
        )


def collect(
    run: OneRun, saving: Saving, shipper: LogShipper | None, stop: Stop, exited: Exited | None
) -> Collected:
    """Sweep the run's containers, then save everything; what fails is a warning, and the next step follows.

    `shipper` is None where the log stream gets nothing more, as where nobody knows what is secret.
    """
    reporter = run.claimed.reporter
    deadline = plan_stop(stop, run.world.clock, run.latch.machine_ends).all_by
    left = deadline.remaining()
    carry_by, uploads_by = deadline.less(left * _AFTER_CARRYING), deadline.less(left * _AFTER_UPLOADS)
    with _goes_on(run, "The phase could not be reported"):
        reporter.change(phase=Phase.COLLECT)
    diagnosis = Diagnosis(stop.reason, stop.message)
    with _goes_on(run, "What Nextflow wrote could not be read"):
        diagnosis = _diagnose(run, saving, stop, exited)
    if saving.containers is not None:
        with _goes_on(run, "Leftover containers could not be swept"):
            sweep_by = Deadline.after(min(SWEEP_S, deadline.remaining()), run.world.clock)
            saving.containers.sweep(run.spec.run_id, sweep_by)
    with _goes_on(run, "The room kept for the end could not be given back"):
        saving.ballast.release()
    with _goes_on(run, "The tasks could not be counted"):
        reporter.note(tasks=run.progress.tasks())
    for warning in diagnosis.warnings:
        reporter.warn(warning)
    if saving.carrier is not None:
        with _goes_on(run, "Finished tasks could not all be kept for a resumed run"):
            saving.carrier.finish(carry_by)

    # Small things that explain first, then what the run was for, then the one file that may be huge.
    missing: list[str] = []
    if saving.redactor is not None:
        with _goes_on(run, "Reports and logs could not be uploaded"):
            missing += _upload_logs(run, saving.redactor, uploads_by).not_uploaded
    artifacts = None
    with _goes_on(run, "The artifacts could not be uploaded"):
        report = _upload_results(run, saving, uploads_by)
        artifacts = _artifacts(run, saving, report, missing)
    if saving.redactor is not None:
        with _goes_on(run, "The workload's log could not be uploaded"):
            _upload_spool(run, saving.redactor, deadline)
    if shipper is not None:
        with _goes_on(run, "The log stream could not be completed"):
            _complete_stream(run, shipper, deadline)
    return Collected(diagnosis, artifacts)


@contextmanager
def _goes_on(run: OneRun, what: str) -> Iterator[None]:
    """Nothing in here may keep the rest from being saved."""
    try:
        yield
    except (AgentError, OSError) as error:
        run.claimed.reporter.warn(f"{what}: {error}")
    except Exception as error:
        log.exception("%s", what)
        run.claimed.reporter.warn(f"{what}, for an error of solorun: {error!r}")


def _complete_stream(run: OneRun, shipper: LogShipper, deadline: Deadline) -> None:
    """The rest of the log to CloudWatch; everything is in S3 already, so a service that is away is not waited for."""
    shipped = shipper.finish(Deadline(deadline.at, deadline.clock, _no_later_than(deadline, STREAM_S)))
    for warning in shipped.warnings:
        run.claimed.reporter.warn(warning)
    if not shipped.complete:
        run.claimed.reporter.warn(
            f"CloudWatch Logs took {shipped.bytes_shipped:,} of {shipped.bytes_total:,} bytes of the "
            f"workload's log; what came of it in S3 is {run.claimed.pointer.prefix}/{WORKLOAD_LOG}."
        )


def _no_later_than(deadline: Deadline, seconds: float) -> Callable[[], float]:
    at = deadline.clock.monotonic() + seconds
    return lambda: min(at, deadline.clock.monotonic() + deadline.remaining())


def _diagnose(run: OneRun, saving: Saving, stop: Stop, exited: Exited | None) -> Diagnosis:
    """Nextflow exits with 1 for everything, so what it wrote must tell what happened."""
    if saving.redactor is None:
        return Diagnosis(stop.reason, f"{stop.message} {_counted(run)}.")
    return _redacted(_quoted(run, saving, stop, exited), saving.redactor)


def _quoted(run: OneRun, saving: Saving, stop: Stop, exited: Exited | None) -> Diagnosis:
    """A diagnosis with the workload's own words."""
    if exited is not None and stop.reason is StopReason.WORKLOAD_FAILED:
        out_of_memory: tuple[str, ...] = ()
        started = run.journal.read(Started)
        with _goes_on(run, "Docker could not be asked about memory"):
            if started is not None and saving.containers is not None:
                out_of_memory = saving.containers.out_of_memory(run.spec.run_id, started.started_at)
        return diagnose(
            exited.code,
            run.folder,
            out_of_memory=out_of_memory,
            disk_full=disk_is_full(run.folder.root),
        )
    return Diagnosis(stop.reason, f"{stop.message} {_counted(run)}.", warnings_of(run.folder))


def _counted(run: OneRun) -> str:
    tasks = run.progress.tasks()
    done = tasks.succeeded + tasks.cached
    counts = f"{done} task{'' if done == 1 else 's'} done"
    if tasks.cached:
        counts += f" ({tasks.cached} of them cached)"
    if tasks.failed:
        counts += f", {tasks.failed} failed"
    return counts


def _redacted(diagnosis: Diagnosis, redactor: Redactor) -> Diagnosis:
    """A diagnosis quotes what the workload printed, and that may be a secret."""
    return replace(
        diagnosis,
        message=redactor.redact_text(diagnosis.message),
        warnings=tuple(map(redactor.redact_text, diagnosis.warnings)),
    )


def _upload_logs(run: OneRun, redactor: Redactor, deadline: Deadline) -> UploadReport:
    """Trace, reports, metrics and Nextflow's log."""
    logs = run.folder.logs
    if redactor.active:
        logs = run.folder.state / "redacted"
        shutil.rmtree(logs, ignore_errors=True)
        logs.mkdir()
        for path in run.folder.logs.iterdir():
            if path.is_file():
                redacted_copy(path, logs / path.name, redactor)
    return upload_tree(run.claimed.store, logs, LOGS, deadline=deadline)


def _upload_spool(run: OneRun, redactor: Redactor, deadline: Deadline) -> None:
    """The workload's log whole; secrets are taken out on the way, for a copy may have no room on the disk."""
    spool, store = run.folder.spool, run.claimed.store
    if not spool.exists():
        return
    if not redactor.active:
        store.upload(spool, WORKLOAD_LOG, deadline=deadline)
        return
    asyncio.run(
        store.send(
            WORKLOAD_LOG,
            lambda: redacted_chunks(spool, redactor),
            size=spool.stat().st_size,
            content_type="text/plain",
            deadline=deadline,
        )
    )


def _upload_results(run: OneRun, saving: Saving, deadline: Deadline) -> UploadReport:
    folder, destination = run.folder, saving.results_destination
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
        on_progress=lambda progress: _tell(run, progress),
    )


def _tell(run: OneRun, progress: UploadProgress) -> None:
    """Results may take hours to arrive: the next heartbeat says how far they are."""
    run.claimed.reporter.note(message=f"Uploading the results: {progress}.")


def _artifacts(run: OneRun, saving: Saving, report: UploadReport, missing: list[str]) -> Artifacts:
    """Artifacts are what the pipeline made: logs do not count, but a log that is missing is named."""
    not_uploaded = (*report.not_uploaded, *missing)
    if len(not_uploaded) > MOST_NAMED:
        rest = len(not_uploaded) - MOST_NAMED
        not_uploaded = (*not_uploaded[:MOST_NAMED], f"{rest} more: see `launcher runs logs --agent`")
        for line in (*report.not_uploaded, *missing)[MOST_NAMED:]:
            log.warning("not uploaded: %s", line)
    return Artifacts(
        location=saving.results_location or f"{run.claimed.pointer.prefix}/{ARTIFACTS}",
        files=report.files,
        bytes=report.bytes,
        not_uploaded=not_uploaded,
    )
