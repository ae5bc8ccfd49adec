"""A machine with a run, in fakes, its outside under the test's control."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from agent.clock import SystemClock
from agent.containers import Containers
from agent.contract import (
    CLAIM,
    SPEC,
    STATUS,
    Claim,
    PipelineSource,
    PipelineWorkload,
    RunPointer,
    RunSpec,
    RunState,
    RunStatus,
    SecretRef,
    StopReason,
    parse,
)
from agent.errors import SecretUnavailable
from agent.folder import RunFolder
from agent.journal import Journal
from agent.logs.agentlog import AgentLog
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
    tell_machine: Callable[[RunSpec, float], bool] = lambda _spec, _left_s: True

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
                open_store=lambda uri: cast(
                    Store, FakeStore(self.bucket, uri.removeprefix("s3://bucket").strip("/"))
                ),
                open_containers=lambda: cast(Containers, opened()),
                open_sink=lambda _pointer: self.sink,
                open_secret_reader=lambda _region: cast(SecretReader, Vault()),
                agent_log=self.agent_log,
                ship_agent_log=lambda _pointer: None,
                machine=Machine(cpus=2, memory_bytes=8 << 30),
                scratch=self.scratch,
                clock=SystemClock(),
                pulse=Pulse(Notifier(None), None, SystemClock()),
                tell_machine=self.tell_machine,
                power_off=power_off,
            )
        )

    @property
    def status(self) -> RunStatus:
        return parse(RunStatus, self.store.get(STATUS))


def assert_over(stage: Stage, reason: StopReason) -> None:
    """The status is final with this reason, the machine was shut down once, and no container is left."""
    assert stage.status.state is reason.state
    assert stage.status.stop_reason is reason
    assert stage.status.finished_at is not None
    assert stage.shutdowns == 1
    assert stage.containers.containers == {}
