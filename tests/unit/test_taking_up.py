"""A run that was started before the agent was killed: taken up, or saved, and never started a second time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest

from agent import stopping, taking_up
from agent.clock import SystemClock
from agent.contract import (
    AGENT_LOG,
    NEXTFLOW_LOG,
    STATUS,
    STOP,
    WORKLOAD_LOG,
    RunState,
    SecretRef,
    SecretStore,
    StopReason,
    StopRequest,
)
from agent.errors import DockerError
from agent.folder import RunFolder
from agent.journal import Exited, Started, Stop
from agent.metadata import SpotNotice
from tests.fakes.containers import FakeContainers
from tests.fakes.stage import INSTANCE, NOW, Stage, assert_over

SECRET = "the-secret-value"
KNOWN = (SecretRef(env="A_KEY", store=SecretStore.SSM, id="/known"),)
UNKNOWN = (SecretRef(env="A_KEY", store=SecretStore.SSM, id="/unknown"),)
SOON = pytest.mark.timeout(60)
"""Far below TAKE_UP_S."""


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker may be away for a moment only."""
    monkeypatch.setattr(taking_up, "TAKE_UP_S", 2)


@pytest.fixture
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is to end does so within a moment."""
    monkeypatch.setattr(stopping, "MAX_GRACE_S", 1)
    monkeypatch.setattr(taking_up, "_ONE_TRY_S", 1)


@pytest.fixture
def hanging() -> Iterator[threading.Event]:
    """Set when the test is over: what hangs comes back."""
    over = threading.Event()
    yield over
    over.set()


def no_docker() -> FakeContainers:
    raise DockerError("the daemon does not answer")


def interrupted(stage: Stage, *, exited: int | None = None, secrets: tuple[SecretRef, ...] = ()) -> RunFolder:
    """The run of an agent that was killed, with its workload's log and a result on the disk."""
    spec = stage.submit(secrets=secrets)
    stage.claim(INSTANCE)
    stage.journal.write(Started(container_id="c" * 64, started_at=NOW))
    if exited is not None:
        stage.journal.write(Exited(code=exited, at=NOW))
    stage.containers.on_start = lambda _plan: pytest.fail("started twice")
    folder = RunFolder(stage.scratch / spec.workload.session_id)
    folder.spool.write_text(f"one {SECRET}\n")
    folder.nextflow_log.write_text(f"two {SECRET}\n")
    (folder.results / "result.txt").write_text("42")
    return folder


def assert_saved(stage: Stage, *, secret: bool) -> None:
    """Result and logs are in S3; the secret is not where it is one."""
    shown = b"[redacted]" if secret else SECRET.encode()
    assert stage.store.get("artifacts/result.txt") == b"42"
    assert stage.store.get(WORKLOAD_LOG) == b"one " + shown + b"\n"
    assert stage.store.get(NEXTFLOW_LOG) == b"two " + shown + b"\n"
    assert stage.sink.events == ["one " + shown.decode()]
    assert any("could not be taken up" in warning for warning in stage.status.warnings)


@SOON
@pytest.mark.usefixtures("short_grace")
def test_a_cancel_is_heeded_while_docker_is_away(stage: Stage) -> None:
    """A stop request is not kept waiting for a daemon: what there is is saved, and the run is CANCELLED."""
    interrupted(stage)
    stage.open_containers = no_docker
    request = StopRequest(requested_by="ada", requested_at=NOW).model_dump_json().encode()
    stage.store.put(STOP, request)
    stage.live()
    assert_over(stage, StopReason.CANCELLED)
    assert_saved(stage, secret=False)


@SOON
def test_a_spot_notice_is_heeded_while_docker_is_away(stage: Stage) -> None:
    """The uploads' share of the notice is left to them."""
    interrupted(stage)
    stage.open_containers = no_docker
    stage.metadata.notice = SpotNotice("terminate", SystemClock().now() + timedelta(seconds=24))
    stage.live()
    assert_over(stage, StopReason.SPOT_INTERRUPTED)
    assert_saved(stage, secret=False)


@SOON
@pytest.mark.usefixtures("short_grace")
def test_a_cancel_is_heeded_while_docker_hangs(stage: Stage, hanging: threading.Event) -> None:
    """A daemon that takes the question and never answers holds nothing up."""

    def hang() -> FakeContainers:
        hanging.wait()
        return no_docker()

    interrupted(stage)
    stage.open_containers = hang
    request = StopRequest(requested_by="ada", requested_at=NOW).model_dump_json().encode()
    stage.store.put(STOP, request)
    stage.live()
    assert_over(stage, StopReason.CANCELLED)
    assert_saved(stage, secret=False)


def test_a_stop_reason_from_before_leaves_docker_one_try(stage: Stage) -> None:
    """A run that was being cancelled when the agent was killed still ends in order where Docker answers."""
    interrupted(stage)
    stage.journal.write(
        Stop(reason=StopReason.CANCELLED, message="Cancelled by ada.", at=NOW - timedelta(seconds=100))
    )
    stage.live()
    assert_over(stage, StopReason.CANCELLED)
    assert stage.store.get("artifacts/result.txt") == b"42"
    assert not any("could not be taken up" in warning for warning in stage.status.warnings)


@pytest.mark.usefixtures("no_patience")
@pytest.mark.parametrize(("code", "reason"), [(0, StopReason.COMPLETED), (3, StopReason.WORKLOAD_FAILED)])
def test_a_workload_that_has_ended_is_saved_without_docker(
    stage: Stage, code: int, reason: StopReason
) -> None:
    """Where only the uploads were left, Docker is not needed: the run ends with the workload's own exit."""
    interrupted(stage, exited=code, secrets=KNOWN)
    stage.open_containers = no_docker
    stage.live()
    assert_over(stage, reason)
    assert stage.status.exit_code == code
    assert stage.status.started_at == NOW
    assert_saved(stage, secret=True)


@pytest.mark.usefixtures("no_patience")
def test_a_workload_out_of_reach_is_saved_as_it_is(stage: Stage) -> None:
    """When Docker stays away the run fails with Docker's words, and results and logs are in S3."""
    interrupted(stage, secrets=KNOWN)
    stage.open_containers = no_docker
    stage.live()
    assert_over(stage, StopReason.AGENT_FAILED)
    assert "the daemon does not answer" in stage.status.message
    assert_saved(stage, secret=True)
    assert stage.status.artifacts is not None
    assert stage.status.artifacts.files == 1


@pytest.mark.usefixtures("no_patience")
@pytest.mark.parametrize(
    ("exited", "reason"), [(None, StopReason.SECRET_UNAVAILABLE), (1, StopReason.WORKLOAD_FAILED)]
)
def test_without_its_secrets_nothing_a_workload_said_is_saved(
    stage: Stage, exited: int | None, reason: StopReason
) -> None:
    """What cannot be redacted stays on the machine, and the status says so; results are saved."""
    folder = interrupted(stage, exited=exited, secrets=UNKNOWN)
    folder.nextflow_log.write_text(f"ERROR nextflow.Session - Session aborted -- Cause: {SECRET}\n")
    stage.live()
    assert_over(stage, reason)
    assert stage.store.get("artifacts/result.txt") == b"42"
    everything = b"".join(stage.bucket.objects.values()) + "".join(stage.sink.events).encode()
    assert SECRET.encode() not in everything
    assert {WORKLOAD_LOG, NEXTFLOW_LOG} & stage.store.objects.keys() == set()
    assert AGENT_LOG in stage.store.objects
    assert any("Nothing that the workload said was saved" in warning for warning in stage.status.warnings)


def lost(stage: Stage) -> None:
    """The workload ran on this machine, which was started again with an empty disk."""
    stage.submit()
    stage.claim(INSTANCE)
    running = stage.status.model_copy(update={"state": RunState.RUNNING, "started_at": NOW})
    stage.store.put(STATUS, running.model_dump_json().encode())


def test_a_workload_whose_disk_was_lost_is_not_started_twice(stage: Stage) -> None:
    """Without a journal the status in S3 tells that it ran: the run ends as machine_lost, with what to do."""
    lost(stage)
    stage.store.put("artifacts.sha256", b"of before")
    stage.containers.on_start = lambda _plan: pytest.fail("started twice")
    stage.live()
    assert_over(stage, StopReason.MACHINE_LOST)
    assert "launcher runs relaunch" in stage.status.message
    assert stage.status.started_at == NOW
    assert stage.store.get("artifacts.sha256") == b"of before"


@pytest.mark.usefixtures("no_patience")
def test_a_lost_disk_is_said_also_where_docker_is_away(stage: Stage) -> None:
    """Docker's silence does not hide what happened."""
    lost(stage)
    stage.open_containers = no_docker
    stage.live()
    assert_over(stage, StopReason.MACHINE_LOST)
