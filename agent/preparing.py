"""Prepare: all that must be there before the workload can start, and what may go wrong before it does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from agent.bundle import unpack_bundle
from agent.containers import Containers
from agent.contract import run_prefix
from agent.errors import DiskLost
from agent.journal import Started
from agent.logs.redact import MIN_LENGTH, Redactor
from agent.one_run import OneRun
from agent.secret_values import read_all, references, values_to_redact
from agent.stopping import StopLatch
from agent.watching import Ballast
from agent.workloads.nextflow import PipelinePlan, plan_pipeline

if TYPE_CHECKING:
    from agent.carry import Carrier

_Result = TypeVar("_Result")
_STOP_LOOK_S: Final = 0.25


class Stopped(Exception):
    """What was done is not waited for: a stop reason came up, or the time for it is over."""


@dataclass(frozen=True)
class Secrets:
    """The secrets of a run, and what takes them out of logs."""

    values: Mapping[str, str] = field(repr=False)
    """By environment variable."""
    redactor: Redactor


@dataclass(frozen=True)
class Prepared:
    """Everything is there: the workload can be started, or taken up where it runs already."""

    containers: Containers
    plan: PipelinePlan
    redactor: Redactor
    ballast: Ballast
    carrier: Carrier | None
    """Set when finished tasks are kept in S3 for another machine."""


def read_secrets(run: OneRun) -> Secrets:
    """The secrets that the run refers to; from now on they are in none of the agent's words.

    Raises:
        SecretUnavailable: one or more cannot be read.
    """
    refs = references(run.spec)
    values = read_all(refs, run.world.open_secret_reader(run.spec.region)) if refs else {}
    redactor = Redactor(values_to_redact(run.spec, values))
    run.world.agent_log.redact_with(redactor)
    run.progress.redact_with(redactor)
    if redactor.too_short:
        run.claimed.reporter.warn(
            f"{redactor.too_short} secret value(s) are shorter than {MIN_LENGTH} characters: they are not masked in "
            "logs, for ordinary words would be taken out with them."
        )
    return Secrets(values, redactor)


def prepare(run: OneRun, secrets: Secrets) -> Prepared:
    """Container image, pipeline, finished tasks of an earlier run, configuration.

    Raises:
        Stopped: a stop reason came up meanwhile.
        DiskLost: the workload was started before, and the machine has nothing of it.
        AgentError: something cannot be had; its reason says what.
    """
    spec, folder, world = run.spec, run.folder, run.world
    containers = world.open_containers()
    carrier = carrier_of(run)
    ballast = ballast_of(run)

    # A workload that was started before the agent was killed has all of this, and may be using it.
    first_time = run.journal.read(Started) is None and containers.find(spec.run_id) is None
    if first_time and run.claimed.was_running:
        raise disk_lost()
    if first_time:
        _unless_stopped(run.latch, lambda: _have_image(run, containers))
        _unless_stopped(run.latch, lambda: _fetch(run, carrier))
    plan = plan_pipeline(
        spec,
        world.machine,
        folder,
        secrets=secrets.values,
        has_plugins=containers.has_plugins(spec.container_image),
        instance_id=run.claimed.instance_id,
    )
    for warning in plan.warnings:
        run.claimed.reporter.warn(warning)
    if first_time:
        for path, text in plan.files.items():
            path.write_text(text)
        ballast.take()
    return Prepared(containers, plan, secrets.redactor, ballast, carrier)


def disk_lost() -> DiskLost:
    """What a run ends with whose workload must not be started a second time."""
    return DiskLost(
        "The machine restarted while the workload ran, and its disk was lost. The workload is not started twice; "
        "`launcher runs relaunch` starts the run again, from its finished tasks where it was resumable."
    )


def ballast_of(run: OneRun) -> Ballast:
    """The room that is kept for the run's end."""
    return Ballast(run.folder.state / "ballast")


def carrier_of(run: OneRun) -> Carrier | None:
    """What keeps finished tasks in S3, where the run asks for it."""
    if not run.spec.resumable:
        return None
    # Imported here: most runs do without, and the start counts.
    from agent.carry import Carrier

    return Carrier(run.claimed.store, run.folder, run.spec.workload.session_id)


def _have_image(run: OneRun, containers: Containers) -> None:
    """The machine's own, else from the archive that the spec names, else from a registry."""
    spec = run.spec
    sha256 = spec.container_archive_sha256
    if sha256 is None or containers.has_image(spec.container_image):
        containers.ensure_image(spec.container_image)
        return
    # Imported here: on an image of ours all container images are there, and the start counts.
    from agent.image_archive import bucket_of, load_archive

    bucket = run.world.open_store(bucket_of(spec.work_dir))
    load_archive(bucket, containers, spec.work_dir, spec.container_image, sha256)


def _fetch(run: OneRun, carrier: Carrier | None) -> None:
    workload = run.spec.workload
    if workload.source.bundle_sha256 is not None:
        unpack_bundle(run.claimed.store, workload.source.bundle_sha256, run.folder.pipeline)
    if workload.resume_from is not None and carrier is not None:
        restored = carrier.restore(run.world.open_store(run_prefix(run.spec.work_dir, workload.resume_from)))
        if not restored.has_cache:
            run.claimed.reporter.warn(
                f"Run {workload.resume_from} left no cache of Nextflow's in S3, so all tasks run again."
            )
        elif restored.not_restored:
            run.claimed.reporter.warn(
                f"{len(restored.not_restored)} finished tasks of run {workload.resume_from} could not be brought "
                f"back and run again; the first: {restored.not_restored[0]}"
            )


def _unless_stopped(latch: StopLatch, work: Callable[[], _Result]) -> _Result:
    """Do `work`; a stop reason that comes up meanwhile counts more than what became of it."""
    try:
        result = unless(lambda: latch.stop is not None, work)
    except Exception:
        if latch.stop is not None:
            raise Stopped from None
        raise
    if latch.stop is not None:
        raise Stopped
    return result


def unless(over: Callable[[], bool], work: Callable[[], _Result]) -> _Result:
    """Do `work` in a thread and wait for its end, or until `over` says so, whichever is first.

    A pull that hangs must not hold up a cancelled run: its thread is left behind and dies with the machine.

    Raises:
        Stopped: it was over first.
    """
    results: list[_Result] = []
    errors: list[Exception] = []
    done = threading.Event()

    def do() -> None:
        try:
            results.append(work())
        except Exception as error:  # noqa: BLE001 - handed over to the caller's thread
            errors.append(error)
        done.set()

    threading.Thread(target=do, name="prepare", daemon=True).start()
    while not done.wait(_STOP_LOOK_S):
        if over():
            raise Stopped
    if errors:
        raise errors[0]
    return results[0]
