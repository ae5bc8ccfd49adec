"""The story of a run, told with fakes: whatever happens, one truthful final status and one shutdown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest

from agent import collecting
from agent.clock import SystemClock
from agent.container_plan import ContainerPlan
from agent.containers import Containers
from agent.contract import (
    AGENT_LOG,
    CLAIM,
    SPEC,
    STATUS,
    STOP,
    WORKLOAD_LOG,
    Claim,
    PipelineSource,
    PipelineWorkload,
    RunPointer,
    RunSpec,
    RunState,
    RunStatus,
    SecretRef,
    SecretStore,
    StopReason,
    StopRequest,
    parse,
)
from agent.errors import DockerError, SecretUnavailable, StoreError
from agent.folder import RunFolder
from agent.journal import Exited, Journal, Started
from agent.logs.agentlog import AgentLog
from agent.logs.sink import Denied, Receipt
from agent.machine import Machine
from agent.metadata import MetadataService, SpotNotice
from agent.pulse import Notifier, Pulse
from agent.run import AgentExit, live
from agent.secret_values import SecretReader
from agent.store import Store
from agent.world import World
from tests.fakes.containers import FakeContainers, Program
from tests.fakes.log_sink import FakeSink
from tests.fakes.store import FakeBucket, FakeStore

NOW = SystemClock().now()
RUN_ID = "20260101t120000-abcdef"
PREFIX = f"s3://bucket/.solorun/runs/{RUN_ID}"
IMAGE = "head:1"
INSTANCE = "i-mine"


class Metadata:
    """The metadata service of one machine."""

    def __init__(self) -> None:
        self.pointer: bytes | None = (
            RunPointer(run_id=RUN_ID, prefix=PREFIX, region="eu-west-1", log_group="/solorun")
            .model_dump_json()
            .encode()
        )
        self.notice: SpotNotice | None = None

    def user_data(self) -> bytes | None:
        return self.pointer

    def instance_id(self) -> str:
        return INSTANCE

    def region(self) -> str:
        return "eu-west-1"

    def spot_action(self) -> SpotNotice | None:
        return self.notice


class Vault:
    """A secret store that knows one secret."""

    def read(self, ref: SecretRef) -> str:
        if ref.id != "/known":
            raise SecretUnavailable(f"{ref.id} is not there.")
        return "the-secret-value"


@dataclass
class Stage:
    """A machine with a run, its outside under the test's control."""

    scratch: Path
    agent_log: AgentLog
    bucket: FakeBucket = field(default_factory=FakeBucket)
    containers: FakeContainers = field(
        default_factory=lambda: FakeContainers(programs={(): Program()}, images={IMAGE})
    )
    metadata: Metadata = field(default_factory=Metadata)
    sink: FakeSink = field(default_factory=FakeSink)
    shutdowns: int = 0
    open_containers: Callable[[], FakeContainers] | None = None

    @property
    def store(self) -> FakeStore:
        return FakeStore(self.bucket, f".solorun/runs/{RUN_ID}")

    def submit(self, **fields: object) -> RunSpec:
        """Write what the launcher writes."""
        spec = RunSpec.model_validate(
            {
                "run_id": RUN_ID,
                "name": "a_run",
                "owner": "ada",
                "compute_env": "lab",
                "region": "eu-west-1",
                "work_dir": "s3://bucket",
                "log_group": "/solorun",
                "container_image": IMAGE,
                "time_limit_s": 3600,
                "submitted_at": NOW,
                "workload": PipelineWorkload(
                    source=PipelineSource(repository="lab/pipeline"),
                    session_id="0b7c5e2e-3f0c-4c11-9a39-5d4d3c1d2f10",
                ),
                **fields,
            }
        )
        status = RunStatus(
            run_id=RUN_ID, name="a_run", state=RunState.SUBMITTED, submitted_at=NOW, heartbeat_at=NOW
        )
        self.store.put(SPEC, spec.model_dump_json().encode())
        self.store.put(STATUS, status.model_dump_json().encode())
        return spec

    @property
    def journal(self) -> Journal:
        """The journal of the run, as an agent before this one left it."""
        folder = RunFolder(self.scratch / "0b7c5e2e-3f0c-4c11-9a39-5d4d3c1d2f10")
        folder.create()
        return Journal(folder.state)

    def claim(self, instance_id: str) -> None:
        """Somebody has claimed the run."""
        claim = Claim(run_id=RUN_ID, claimed_by=instance_id, claimed_at=NOW)
        self.store.put(CLAIM, claim.model_dump_json().encode())

    def live(self) -> AgentExit:
        """The agent's whole life on this machine."""

        def power_off() -> None:
            self.shutdowns += 1

        opened = self.open_containers or (lambda: self.containers)
        return live(
            World(
                metadata=cast(MetadataService, self.metadata),
                open_store=lambda uri: cast(Store, FakeStore(self.bucket, uri.removeprefix("s3://bucket/"))),
                open_containers=lambda: cast(Containers, opened()),
                open_sink=lambda _pointer: self.sink,
                open_secret_reader=lambda _region: cast(SecretReader, Vault()),
                agent_log=self.agent_log,
                ship_agent_log=lambda _pointer: None,
                machine=Machine(cpus=2, memory_bytes=8 << 30),
                scratch=self.scratch,
                clock=SystemClock(),
                pulse=Pulse(Notifier(None), None, SystemClock()),
                tell_machine=lambda _spec, _left: None,
                power_off=power_off,
            )
        )

    @property
    def status(self) -> RunStatus:
        return parse(RunStatus, self.store.get(STATUS))


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with AgentLog(tmp_path / "agent.log") as agent_log:
        yield Stage(tmp_path / "scratch", agent_log)


def assert_over(stage: Stage, reason: StopReason) -> None:
    """The status is final with this reason, the machine was shut down once, and no container is left."""
    assert stage.status.state is reason.state
    assert stage.status.stop_reason is reason
    assert stage.status.finished_at is not None
    assert stage.shutdowns == 1
    assert stage.containers.containers == {}


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


def test_an_artifact_that_cannot_be_brought_is_named(stage: Stage) -> None:
    """What cannot be brought to S3 is named in the status, and the rest is there."""
    stage.submit()

    def publish(plan: ContainerPlan) -> None:
        (Path(plan.working_dir) / "result.txt").write_text("42")
        (Path(plan.working_dir) / "locked.txt").symlink_to("/etc/hostname")

    stage.containers.on_start = publish
    stage.live()
    assert_over(stage, StopReason.COMPLETED)
    artifacts = stage.status.artifacts
    assert artifacts is not None
    assert artifacts.files == 1
    assert stage.store.get("artifacts/result.txt") == b"42"
    assert [line.split(":")[0] for line in artifacts.not_uploaded] == ["locked.txt"]


def test_logs_service_away_does_not_keep_the_machine(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """With everything in S3, a stream that cannot be completed costs a moment and a warning, not hours."""
    monkeypatch.setattr(collecting, "STREAM_S", 0.5)
    stage.submit()
    stage.containers.programs[()] = Program(prints=b"one\n")
    stage.sink.put = lambda _timestamp, _events: _deny()  # type: ignore[method-assign]  # a sink that denies all
    stage.live()
    assert_over(stage, StopReason.COMPLETED)
    assert any("CloudWatch Logs took 0 of 4 bytes" in warning for warning in stage.status.warnings)
    assert stage.store.get(WORKLOAD_LOG) == b"one\n"


def _deny() -> Receipt:
    raise Denied("logs:PutLogEvents is not allowed")


def test_a_defect_in_one_step_of_collecting_costs_only_that_step(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the diagnosis breaks, artifacts and logs are saved all the same, and the reason is what it was."""

    def broken(*_arguments: object, **_more: object) -> None:
        raise IndexError("nobody thought of this")

    monkeypatch.setattr(collecting, "diagnose", broken)
    stage.submit()
    stage.containers.programs[()] = Program(prints=b"one\n", code=1)
    stage.live()
    assert_over(stage, StopReason.WORKLOAD_FAILED)
    assert any("nobody thought of this" in warning for warning in stage.status.warnings)
    assert stage.store.get(WORKLOAD_LOG) == b"one\n"


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


def test_published_links_are_collected_whatever_ended_the_run(stage: Stage) -> None:
    """Results that are links into the work dir, Nextflow's default, are saved as the files that they point to."""
    stage.submit()

    def publish(plan: ContainerPlan) -> None:
        results = Path(plan.working_dir)
        task = results.parent / "work" / "ab" / "cdef"
        task.mkdir(parents=True)
        (task / "table.tsv").write_text("a\n")
        (results / "table.tsv").symlink_to(task / "table.tsv")
        request = StopRequest(requested_by="ada", requested_at=NOW).model_dump_json().encode()
        stage.store.put(STOP, request)

    stage.containers.programs[()] = Program(code=None)
    stage.containers.on_start = publish
    stage.live()
    assert stage.store.get("artifacts/table.tsv") == b"a\n"
