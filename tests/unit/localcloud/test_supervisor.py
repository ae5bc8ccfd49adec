"""When the supervisor boots machines, with a fleet, runs and containers that the tests hold in their hands."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.contract import RunPointer
from launcher.localcloud.agent_environment import Place
from launcher.localcloud.docker_host import DockerSize
from launcher.localcloud.fleet import End, Instance
from launcher.localcloud.folders import CloudFolder
from launcher.localcloud.keys import KeyRing
from launcher.localcloud.machine import MachineState
from launcher.localcloud.metadata_values import InstanceMetadata
from launcher.localcloud.process_machine import Shared
from launcher.localcloud.process_site import ProcessSite
from launcher.localcloud.runs import RunFacts
from launcher.localcloud.supervisor import Supervisor
from tests.unit.localcloud.test_machine import INSTANCE, POINTER, FakeFleet, TurnedClock, soon

FIRST, SECOND = "i-0000000000000000a", "i-0000000000000000b"
FIRST_RUN, SECOND_RUN = "20260101t080000-aaaaaa", "20260101t080000-bbbbbb"


class Room:
    """A fleet to which instances are added, all of whose runs are of one session."""

    def __init__(self, folder: CloudFolder) -> None:
        self.folder = folder
        self.fleet: dict[str, Instance] = {}
        self.run_of: dict[str, str] = {}
        self.claims: dict[str, str] = {}
        self.may_sweep = threading.Event()
        folder.create()
        place = Place(
            folder=folder,
            endpoint_url="http://127.0.0.1:1",
            metadata_url="http://127.0.0.1:1",
            environ={"PATH": os.environ["PATH"]},
            docker_host=None,
            size=DockerSize(2, 1024**3),
        )
        clock = TurnedClock()
        shared = Shared(place, ("sleep", "60"), self, self, self, clock)
        self.supervisor = Supervisor(self, ProcessSite(shared, KeyRing()), clock)

    def launch(self, instance_id: str, run_id: str) -> None:
        """RunInstances, and the supervisor's look after it."""
        self.run_of[instance_id] = run_id
        self.fleet[instance_id] = replace(INSTANCE, id=instance_id)
        self.supervisor.reconcile()

    def terminate(self, instance_id: str) -> None:
        """TerminateInstances, and the supervisor's look after it."""
        self.fleet[instance_id] = replace(self.fleet[instance_id], state="terminated")
        self.supervisor.reconcile()

    def states(self) -> dict[str, str]:
        """The machines that were booted."""
        return {report.instance_id: report.state for report in self.supervisor.machines()}

    # --- the fleet

    def instances(self) -> list[Instance]:
        return list(self.fleet.values())

    def metadata(self, instance_id: str) -> InstanceMetadata | None:
        user_data = json.loads(POINTER) | {"run_id": self.run_of[instance_id]}
        user_data["prefix"] = f"s3://bucket/work/.solorun/runs/{self.run_of[instance_id]}"
        return FakeFleet(json.dumps(user_data).encode()).metadata(instance_id)

    def tags(self, instance_id: str) -> dict[str, str]:
        assert instance_id in self.fleet
        return {}

    def ending(self, instance_id: str, *, stays: bool) -> None:
        """Nobody asks."""

    def ended(self, instance_id: str, end: End, *, stays: bool) -> None:
        """Nobody asks."""

    # --- the runs

    def facts(self, pointer: RunPointer) -> RunFacts | None:
        assert pointer.run_id in self.run_of.values()
        return RunFacts("session", 60)

    def claimed_by(self, pointer: RunPointer) -> str | None:
        return self.claims.get(pointer.run_id)

    # --- Docker

    def sweep(self, instance_id: str) -> int:
        assert self.may_sweep.wait(60), instance_id
        return 0


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    made = Room(CloudFolder(tmp_path / "localcloud"))
    yield made
    made.may_sweep.set()
    for instance_id in made.fleet:
        made.terminate(instance_id)
    soon(lambda: set(made.states().values()) <= {MachineState.OFF})


def test_a_relaunch_waits_for_its_predecessors_disk(room: Room) -> None:
    """A run of the same session boots when the machine before has cleared the session's folder, and not earlier."""
    room.launch(FIRST, FIRST_RUN)
    room.claims[FIRST_RUN] = FIRST
    old = room.folder.scratch / "session" / "of-the-first"
    old.mkdir(parents=True)
    room.terminate(FIRST)
    soon(lambda: room.states()[FIRST] == MachineState.ENDING)
    room.launch(SECOND, SECOND_RUN)
    assert list(room.states()) == [FIRST]

    room.may_sweep.set()
    soon(lambda: room.states()[FIRST] == MachineState.OFF)
    assert not old.exists()
    room.supervisor.reconcile()
    assert list(room.states()) == [FIRST, SECOND]


def test_a_second_machine_of_a_run_boots_at_once(room: Room) -> None:
    """Whose run it is, its agent finds out by the claim: the supervisor does not keep it waiting."""
    room.launch(FIRST, FIRST_RUN)
    room.claims[FIRST_RUN] = FIRST
    room.launch(SECOND, FIRST_RUN)
    assert list(room.states()) == [FIRST, SECOND]
