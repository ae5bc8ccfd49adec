"""The story of a run, told with fakes: whatever happens, one truthful final status and one shutdown."""

from __future__ import annotations

import errno
import hashlib
from datetime import timedelta

import pytest

from agent.clock import Deadline, SystemClock
from agent.container_plan import ContainerPlan
from agent.contract import (
    AGENT_LOG,
    SPEC,
    STATUS,
    STOP,
    WORKLOAD_LOG,
    SecretRef,
    SecretStore,
    StopReason,
    StopRequest,
    program_key,
)
from agent.errors import DockerError, StoreError
from agent.journal import Exited, Started
from agent.metadata import SpotNotice
from agent.run import AgentExit
from tests.fakes.containers import FakeContainers, Program
from tests.fakes.stage import INSTANCE, NOW, RUN_ID, Stage, assert_over


def test_a_run_that_ends_well(stage: Stage) -> None:
    """The workload's exit 0 becomes SUCCEEDED, with both logs in S3 and every line in the stream."""
    stage.submit()
    stage.containers.programs[()] = Program(prints=b"one\ntwo\n")
    assert stage.live() is AgentExit.DONE
    assert_over(stage, StopReason.COMPLETED)
    assert stage.store.get(WORKLOAD_LOG) == b"one\ntwo\n"
    assert stage.store.get(AGENT_LOG)
    assert stage.sink.events == ["one", "two"]


def test_the_final_status_comes_last(stage: Stage) -> None:
    """Who sees a final status finds logs and artifacts in place: nothing is written after it."""
    stage.submit()
    stage.live()
    assert stage.bucket.writes[-1].endswith(STATUS)
    assert stage.bucket.writes[-2].endswith(AGENT_LOG)


@pytest.mark.parametrize("lost", ["its file", "its disk"])
def test_an_agents_log_that_cannot_be_read_does_not_cost_the_final_status(stage: Stage, lost: str) -> None:
    """Without the agent's log the run is told all the same, with a warning in place of the log."""
    stage.submit()

    def lose(_plan: ContainerPlan) -> None:
        if lost == "its file":
            stage.agent_log.path.unlink()
        else:
            stage.agent_log.close = full  # type: ignore[method-assign, assignment]  # the last line cannot be written

    def full(_deadline: Deadline) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    stage.containers.on_start = lose
    stage.live()
    assert_over(stage, StopReason.COMPLETED)
    assert any("agent's log could not be uploaded" in warning for warning in stage.status.warnings)


@pytest.mark.parametrize(
    ("oom_killed", "reason"), [(False, StopReason.WORKLOAD_FAILED), (True, StopReason.OUT_OF_MEMORY)]
)
def test_a_workload_that_fails(stage: Stage, oom_killed: bool, reason: StopReason) -> None:
    """An exit code that is not 0 fails the run, and the kernel's hand in it is told."""
    stage.submit()
    stage.containers.programs[()] = Program(code=None)

    def die(_plan: ContainerPlan) -> None:
        stage.containers.end(next(iter(stage.containers.containers)), 1, oom_killed=oom_killed)

    stage.containers.on_start = die
    stage.live()
    assert_over(stage, reason)
    assert stage.status.exit_code == 1


def test_a_stop_request_ends_a_workload_that_would_go_on(stage: Stage) -> None:
    """A request that comes while the workload runs ends it with a grace, and the run is CANCELLED."""
    stage.submit()
    stage.containers.programs[()] = Program(code=None, ignores_term=True)
    request = StopRequest(requested_by="ada", requested_at=NOW).model_dump_json().encode()
    stage.containers.on_start = lambda _plan: stage.store.put(STOP, request)
    stage.live()
    assert_over(stage, StopReason.CANCELLED)
    assert len(stage.containers.stops) == 1
    assert 0 < stage.containers.stops[0][1] <= 60


def test_a_spot_notice_ends_the_run_within_it(stage: Stage) -> None:
    """The grace and everything after it fit into the notice."""
    stage.submit()
    stage.containers.programs[()] = Program(code=None)
    stage.metadata.notice = SpotNotice("terminate", SystemClock().now() + timedelta(seconds=60))
    stage.live()
    assert stage.status.stop_reason is StopReason.SPOT_INTERRUPTED
    assert stage.shutdowns == 1


def test_an_image_that_cannot_be_had(stage: Stage) -> None:
    """The run is FAILED before anything is started, and its message names the image."""
    stage.submit(container_image="nowhere:0")
    stage.live()
    assert_over(stage, StopReason.IMAGE_UNAVAILABLE)
    assert "nowhere:0" in stage.status.message
    assert stage.status.started_at is None


def test_an_image_comes_from_its_archive_where_the_machine_is_without_it(stage: Stage) -> None:
    """On a machine image of a person's own Nextflow's container image is loaded from the bucket, by its checksum."""
    image = "solorun/elsewhere:1"
    sha256 = hashlib.sha256(image.encode()).hexdigest()
    stage.submit(container_image=image, container_archive_sha256=sha256)
    stage.bucket.objects[program_key("s3://bucket", sha256)] = image.encode()
    stage.live()
    assert_over(stage, StopReason.COMPLETED)
    assert image in stage.containers.images
    assert stage.containers.pulled == []


def test_an_image_that_is_there_is_not_loaded(stage: Stage) -> None:
    """Where the machine has the container image the archive is not even looked at."""
    stage.submit(container_archive_sha256="0" * 64)
    stage.live()
    assert_over(stage, StopReason.COMPLETED)


def test_an_archive_that_is_gone_is_said(stage: Stage) -> None:
    """No registry is asked instead: what it had under that name would be somebody else's."""
    stage.submit(container_image="nowhere:0", container_archive_sha256="0" * 64)
    stage.live()
    assert_over(stage, StopReason.IMAGE_UNAVAILABLE)
    assert "could not be loaded from the work bucket" in stage.status.message


def test_a_secret_that_cannot_be_read(stage: Stage) -> None:
    """Without its secret the workload is not started."""
    stage.submit(secrets=(SecretRef(env="A_KEY", store=SecretStore.SSM, id="/unknown"),))
    stage.live()
    assert_over(stage, StopReason.SECRET_UNAVAILABLE)
    assert stage.status.problems == ("/unknown is not there.",)


def test_a_secret_reaches_the_container_and_no_log(stage: Stage) -> None:
    """The value is in the head's environment, and masked in stream, S3, agent's log and status."""
    stage.submit(secrets=(SecretRef(env="A_KEY", store=SecretStore.SSM, id="/known"),))
    plans: list[ContainerPlan] = []
    stage.containers.on_start = plans.append
    stage.containers.programs[()] = Program(prints=b"ERROR the-secret-value is wrong\n", code=1)
    stage.live()
    assert plans[0].environment["A_KEY"] == "the-secret-value"
    assert "the-secret-value" not in " ".join(plans[0].command)
    everything = b"".join(stage.bucket.objects.values()) + "".join(stage.sink.events).encode()
    assert b"the-secret-value" not in everything
    assert b"[redacted] is wrong" in stage.store.get(WORKLOAD_LOG)


def test_a_spec_that_is_gone(stage: Stage) -> None:
    """A run whose spec was deleted fails as spec_invalid."""
    stage.submit()
    del stage.bucket.objects[f".solorun/runs/{RUN_ID}/{SPEC}"]
    stage.live()
    assert_over(stage, StopReason.SPEC_INVALID)


def test_a_spec_of_another_run(stage: Stage) -> None:
    """A spec that was copied from another run is not executed."""
    spec = stage.submit()
    other = spec.model_copy(update={"run_id": "20260101t120000-zzzzzz"})
    stage.store.put(SPEC, other.model_dump_json().encode())
    stage.live()
    assert_over(stage, StopReason.SPEC_INVALID)


@pytest.mark.parametrize("claimed_by", ["i-other", "launcher"])
def test_a_run_of_somebody_else(stage: Stage, claimed_by: str) -> None:
    """A run that another machine, or a cancel, has claimed is left as it is; this machine shuts down."""
    stage.submit()
    stage.claim(claimed_by)
    before = dict(stage.bucket.objects)
    assert stage.live() is AgentExit.DONE
    assert stage.bucket.objects == before
    assert stage.shutdowns == 1


def test_s3_that_cannot_be_reached(stage: Stage) -> None:
    """A machine that cannot claim its run shuts down all the same."""
    stage.submit()
    stage.bucket.failures.append(StoreError("no route to S3"))
    assert stage.live() is AgentExit.DONE
    assert stage.shutdowns == 1


def test_docker_that_does_not_answer(stage: Stage) -> None:
    """Without Docker the run fails with Docker's words."""
    stage.submit()

    def no_docker() -> FakeContainers:
        raise DockerError("the daemon does not answer")

    stage.open_containers = no_docker
    stage.live()
    assert_over(stage, StopReason.AGENT_FAILED)
    assert "the daemon does not answer" in stage.status.message


def test_a_defect_of_ours(stage: Stage) -> None:
    """An error that nobody thought of is a final status and a shutdown, too."""
    stage.submit()

    def broken() -> FakeContainers:
        raise ZeroDivisionError("nobody thought of this")

    stage.open_containers = broken
    stage.live()
    assert_over(stage, StopReason.AGENT_FAILED)
    assert "nobody thought of this" in stage.status.message
    assert b"Traceback" in stage.store.get(AGENT_LOG)


def test_a_restarted_agent_reads_the_exit_that_was_journalled(stage: Stage) -> None:
    """An agent that was killed while it collected goes on there; the workload is not started again."""
    stage.submit()
    stage.claim(INSTANCE)
    stage.journal.write(Started(container_id="c" * 64, started_at=NOW))
    stage.journal.write(Exited(code=0, at=NOW))
    stage.containers.on_start = lambda _plan: pytest.fail("started twice")
    stage.live()
    assert_over(stage, StopReason.COMPLETED)


def test_a_container_that_vanished_is_not_started_twice(stage: Stage) -> None:
    """A workload that was started and is not there any more fails the run: its work is not done over in secret."""
    stage.submit()
    stage.claim(INSTANCE)
    stage.journal.write(Started(container_id="c" * 64, started_at=NOW))
    stage.containers.on_start = lambda _plan: pytest.fail("started twice")
    stage.live()
    assert_over(stage, StopReason.AGENT_FAILED)
    assert "vanished" in stage.status.message


@pytest.mark.parametrize("outdir", ["s3://my_bucket/x", "s3:///x", "s3://"])
def test_an_outdir_that_is_no_s3_uri_is_refused_before_the_start(stage: Stage, outdir: str) -> None:
    """Results must have somewhere to go before anything is computed."""
    spec = stage.submit()
    workload = spec.workload.model_copy(update={"params": {"outdir": outdir}})
    stage.store.put(SPEC, spec.model_copy(update={"workload": workload}).model_dump_json().encode())
    stage.containers.on_start = lambda _plan: pytest.fail("started")
    stage.live()
    assert_over(stage, StopReason.SPEC_INVALID)
    assert outdir in stage.status.problems[0]


def test_a_run_that_ran_is_taken_up_with_patience(stage: Stage) -> None:
    """Docker that is away for a moment after the agent's restart does not throw a finished run away."""
    stage.submit()
    stage.claim(INSTANCE)
    stage.journal.write(Started(container_id="c" * 64, started_at=NOW))
    stage.journal.write(Exited(code=0, at=NOW))
    away = [DockerError("the daemon does not answer")]

    def opened() -> FakeContainers:
        if away:
            raise away.pop()
        return stage.containers

    stage.open_containers = opened
    stage.live()
    assert_over(stage, StopReason.COMPLETED)
