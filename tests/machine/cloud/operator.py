"""Somebody whose local cloud has booted machines: the real command line, and a real boot for every `launcher run`."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from agent.contract import run_key
from launcher.catalog import Arch, image_parameter
from launcher.clock import SystemClock
from launcher.localcloud import lifecycle
from launcher.localcloud.metadata_values import Credentials
from launcher.localcloud.provision import BUCKET, WORK_DIR, Clients
from launcher.localcloud.state import default_folder, saved
from tests.integration.lone_machine import eventually, resumable
from tests.integration.spine import Person, somebody_in
from tests.machine import cgroups
from tests.machine.machine import ALL_NAMESPACES, Image


@dataclass(frozen=True)
class Operator(Person):
    """Who types launcher commands, and can look behind them."""

    @cached_property
    def _clients(self) -> Clients:
        state = saved(default_folder(self.environment))
        assert state is not None
        return Clients(state.endpoint_url, Credentials(state.access_key, state.secret_key, ""))

    @cached_property
    def ec2(self) -> Any:
        """EC2, past the launcher."""
        return self._clients.client("ec2")

    def can_be_resumed(self, run: str) -> bool:
        """Whether S3 has what another machine needs to take a finished task of a run as done."""
        return resumable(self._clients.client("s3"), BUCKET, run_key(WORK_DIR, run))

    def machine_image(self) -> str:
        """The id of the published machine image."""
        name = image_parameter(Arch.X86_64)
        return str(self._clients.client("ssm").get_parameter(Name=name)["Parameter"]["Value"])

    def instance(self, instance_id: str | None) -> dict[str, Any]:
        """What EC2 says of an instance."""
        answer = self.ec2.describe_instances(InstanceIds=[instance_id])
        found: dict[str, Any] = answer["Reservations"][0]["Instances"][0]
        return found

    def console_of(self, instance_id: str) -> str:
        """GetConsoleOutput."""
        output = self.ec2.get_console_output(InstanceId=instance_id).get("Output", "")
        return str(output)

    def cut_power(self, instance_id: str | None) -> None:
        """The machine is gone at once, and nothing on it gets a word in: what EC2's terminate is here."""
        self.ec2.terminate_instances(InstanceIds=[instance_id])

    def assert_terminated(self, *instance_ids: str | None) -> None:
        """EC2 says so, and nothing of the machines runs on this computer."""
        for instance_id in instance_ids:
            assert instance_id is not None

            def over(one: str = instance_id) -> bool:
                terminated = self.instance(one)["State"]["Name"] == "terminated"
                return terminated and not cgroups.processes(self._name(one))

            eventually(f"{instance_id} is terminated", over)

    def within(self, instance_id: str, script: str) -> str:
        """What a shell script says that is run on a machine."""
        leader = cgroups.leader(self._name(instance_id))
        assert leader, f"{instance_id} is not there"
        words = ["nsenter", "--target", str(leader), *ALL_NAMESPACES, "--", "/bin/sh", "-c", script]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout

    def _name(self, instance_id: str) -> str:
        """A machine's name on this computer: the first word on its console has it."""
        found = re.search(r"container (solorun-\S+)", self.console_of(instance_id))
        assert found, self.console_of(instance_id)
        return found[1]


def _quiet(_text: str) -> None:
    """Say nothing."""


@contextmanager
def operator(image: Image, folder: Path, say: Callable[[str], None] = _quiet) -> Iterator[Operator]:
    """A local cloud of machines booted from `image`, in `folder` for the duration; afterwards nothing of it is left."""
    somebody = Operator(folder, somebody_in(folder).environment)
    place = default_folder(somebody.environment)
    server = (sys.executable, "-m", "tests.machine.cloud", str(image.root), str(image.docker))
    lifecycle.up(place, somebody.environment, SystemClock(), say, server_command=server)
    try:
        # It is up: this makes the compute environment.
        said = somebody.launcher("local", "up")
        assert said.code == 0, said
        yield somebody
    finally:
        lifecycle.down(place, somebody.environment, say)
    assert not place.exists(), "files of the local cloud are left"
