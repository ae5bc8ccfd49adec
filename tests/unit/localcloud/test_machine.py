"""A machine's last resorts, on a clock that tests turn: hard cap, overdue shutdown, unreachable Docker."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.contract import RunPointer
from launcher.localcloud.agent_environment import Place
from launcher.localcloud.docker_host import DockerSize, DockerTrouble
from launcher.localcloud.fleet import End, Instance
from launcher.localcloud.folders import CloudFolder
from launcher.localcloud.machine import MachineState
from launcher.localcloud.metadata_values import Credentials, InstanceMetadata
from launcher.localcloud.process_machine import (
    CAP_GRACE_S,
    CAP_WITHOUT_SPEC_S,
    CRASHES,
    ProcessMachine,
    Shared,
)
from launcher.localcloud.runs import RunFacts

POINTER = json.dumps(
    {
        "solorun": 1,
        "run_id": "20260101t080000-abc123",
        "prefix": "s3://bucket/work/.solorun/runs/20260101t080000-abc123",
        "region": "us-east-1",
        "log_group": "/solorun",
    }
).encode()
START = datetime(2026, 1, 1, tzinfo=UTC)
INSTANCE = Instance(
    id="i-0123456789abcdef0",
    type="m5d.large",
    region="us-east-1",
    state="running",
    stays_on_shutdown=False,
    cpus=2,
    memory_bytes=1024**3,
    launched_at=START,
)


class TurnedClock:
    def __init__(self) -> None:
        self.seconds = 0.0
        self.looks = 0

    def monotonic(self) -> float:
        self.looks += 1
        return self.seconds

    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds)

    def sleep(self, seconds: float) -> None:
        raise AssertionError(f"nobody sleeps here, {seconds} s")


@dataclass
class FakeFleet:
    user_data: bytes | None = None
    ends: list[tuple[End, bool]] = field(default_factory=list)

    def instances(self) -> list[Instance]:
        return [INSTANCE]

    def metadata(self, instance_id: str) -> InstanceMetadata | None:
        return InstanceMetadata(
            instance_id=instance_id,
            instance_type="m5d.large",
            image_id="ami-1",
            architecture="x86_64",
            account_id="1",
            region="us-east-1",
            availability_zone="us-east-1a",
            private_ip="10.0.0.1",
            pending_time=START,
            user_data=self.user_data,
        )

    def tags(self, instance_id: str) -> dict[str, str]:
        raise AssertionError(f"nobody asks for the tags of {instance_id}")

    def ending(self, instance_id: str, *, stays: bool) -> None:
        """Noted at the end."""

    def ended(self, instance_id: str, end: End, *, stays: bool) -> None:
        assert instance_id == INSTANCE.id
        self.ends.append((end, stays))


@dataclass
class FakeContainers:
    trouble: bool = False
    swept: list[str] = field(default_factory=list)

    def sweep(self, instance_id: str) -> int:
        self.swept.append(instance_id)
        if self.trouble:
            raise DockerTrouble("the daemon is away")
        return 0


@dataclass
class FakeRuns:
    known: RunFacts | None = None
    owner: str | None = None

    def facts(self, pointer: RunPointer) -> RunFacts | None:
        assert pointer.run_id == "20260101t080000-abc123"
        return self.known

    def claimed_by(self, pointer: RunPointer) -> str | None:
        assert pointer.run_id == "20260101t080000-abc123"
        return self.owner


@dataclass
class Room:
    """A place for one machine, and everything it meets."""

    folder: CloudFolder
    clock: TurnedClock = field(default_factory=TurnedClock)
    fleet: FakeFleet = field(default_factory=FakeFleet)
    containers: FakeContainers = field(default_factory=FakeContainers)
    runs: FakeRuns = field(default_factory=FakeRuns)
    machines: list[ProcessMachine] = field(default_factory=list)

    def boot(self, *agent_command: str) -> ProcessMachine:
        self.folder.create()
        place = Place(
            folder=self.folder,
            endpoint_url="http://127.0.0.1:1",
            metadata_url="http://127.0.0.1:1",
            environ={"PATH": os.environ["PATH"]},
            docker_host=None,
            size=DockerSize(2, 1024**3),
        )
        shared = Shared(place, agent_command, self.fleet, self.containers, self.runs, self.clock)
        self.machines.append(ProcessMachine(shared, INSTANCE, "secret", Credentials("a", "b", "c")))
        self.machines[-1].switch_on()
        return self.machines[-1]

    def console(self) -> str:
        return self.folder.machine(INSTANCE.id).console.read_text()


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    made = Room(CloudFolder(tmp_path / "localcloud"))
    yield made
    for machine in made.machines:
        machine.cut(End.TERMINATED)
        assert machine.join(60)


def soon(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("facts", "cap"), [(RunFacts("s", 60), 60 + CAP_GRACE_S), (None, CAP_WITHOUT_SPEC_S)]
)
def test_a_run_that_goes_on_for_ever_ends_with_its_machine(
    room: Room, facts: RunFacts | None, cap: float
) -> None:
    """When limit and grace have passed the machine is powered off, though its agent hangs; also without a spec."""
    room.fleet.user_data, room.runs.known = POINTER, facts
    machine = room.boot("sleep", "60")
    soon(lambda: room.clock.looks > 1)  # it has looked around once, and knows its cap
    room.clock.seconds = cap - 1
    assert not machine.join(0.25)
    room.clock.seconds = cap + 1
    assert machine.join(60)
    assert room.fleet.ends == [(End.POWERED_OFF, False)]
    assert room.containers.swept == [INSTANCE.id]
    assert "its run should have ended" in room.console()


def test_a_machine_without_a_run_has_no_cap(room: Room) -> None:
    """A machine that was started by hand is nobody's business, however long it runs."""
    machine = room.boot("sh", "-c", "exit 3")
    soon(lambda: machine.state is MachineState.ALONE)
    room.clock.seconds = 365 * 86400
    assert not machine.join(0.25)
    assert machine.agent_starts == 1


def test_an_agent_that_forgets_the_shutdown_is_helped(room: Room) -> None:
    """An agent that ended well without shutting down does not leave an orphan."""
    machine = room.boot("true")
    assert not machine.join(0.25)

    def a_little_later() -> bool:
        room.clock.seconds += 11
        return machine.join(0.01)

    soon(a_little_later)
    assert room.fleet.ends == [(End.POWERED_OFF, False)]


def test_crashes_far_apart_are_forgiven(room: Room) -> None:
    """Only crashes within a minute count against a machine."""
    machine = room.boot("false")

    def a_minute_later() -> bool:
        room.clock.seconds += 61
        return machine.agent_starts > CRASHES + 1

    soon(a_minute_later)


def test_a_machine_ends_though_docker_is_away(room: Room) -> None:
    """Containers that cannot be swept keep no instance alive; `down` sweeps again."""
    room.containers.trouble = True
    machine = room.boot("sleep", "60")
    machine.cut(End.SPOT)
    assert machine.join(60)
    assert room.fleet.ends == [(End.SPOT, False)]
    assert machine.state is MachineState.OFF


def test_an_agent_that_cannot_be_started_ends_the_machine(room: Room) -> None:
    """Where the agent's program is missing the instance does not live on without one."""
    machine = room.boot("/no/such/program")
    assert machine.join(60)
    assert room.fleet.ends == [(End.TERMINATED, False)]


@pytest.mark.parametrize(("owner", "stays"), [(INSTANCE.id, False), ("i-another", True), (None, True)])
def test_only_the_claimed_runs_folder_is_cleared(room: Room, owner: str | None, stays: bool) -> None:
    """The folder of a run goes with the machine that claimed the run, and with no other."""
    room.fleet.user_data = POINTER
    room.runs.known, room.runs.owner = RunFacts("session", 60), owner
    room.folder.create()
    (room.folder.scratch / "session").mkdir()
    machine = room.boot("sleep", "60")
    machine.cut(End.TERMINATED)
    assert machine.join(60)
    assert (room.folder.scratch / "session").exists() is stays
