"""What tests of the local cloud share: a cloud whose machines run a scripted agent, and its user."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil

from agent.contract import PipelineSource, PipelineWorkload, RunPointer, RunSpec
from launcher.clock import SystemClock
from launcher.localcloud import lifecycle
from launcher.localcloud.client import ControlClient
from launcher.localcloud.folders import CloudFolder
from launcher.localcloud.metadata_values import Credentials
from launcher.localcloud.processes import CLOUD_FOLDER, carrying
from launcher.localcloud.provision import BUCKET, INSTANCE_PROFILE, REGION, Clients
from launcher.localcloud.state import LocalCloudState

_AGENT = [sys.executable, str(Path(__file__).parents[1] / "fakes" / "agent_program.py")]
SERVER = (*lifecycle.SERVER_COMMAND, "--agent-command", json.dumps(_AGENT))
"""The server, with a scripted agent on its machines."""
T = TypeVar("T")


def eventually(look: Callable[[], T | None], what: str, seconds: float = 90.0) -> T:
    """The first result of `look` that is neither None nor False."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = look()
        if found is not None and found is not False:
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {what}")


@dataclass
class CloudUser:
    """Somebody who uses a local cloud that is up."""

    state: LocalCloudState

    def __post_init__(self) -> None:
        self.folder = CloudFolder(self.state.folder)
        self.clients = Clients(
            self.state.endpoint_url, Credentials(self.state.access_key, self.state.secret_key, "")
        )
        self.ec2 = self.clients.client("ec2")
        self.s3 = self.clients.client("s3")
        self.control = ControlClient(self.state)

    def start(
        self,
        act: str,
        *,
        run: str = "",
        shutdown: str = "terminate",
        user_data: str | None = None,
        token: str | None = None,
    ) -> str:
        """RunInstances as the launcher does it; returns the instance id."""
        more: dict[str, Any] = {} if user_data is None else {"UserData": user_data}
        tags = [("act", act), ("solorun:run", run or "none"), ("solorun:name", f"name-of-{run}")]
        answer = self.ec2.run_instances(
            ImageId="ami-12345678",
            InstanceType="m5d.large",
            MinCount=1,
            MaxCount=1,
            ClientToken=token or secrets.token_hex(8),
            IamInstanceProfile={"Name": INSTANCE_PROFILE},
            InstanceInitiatedShutdownBehavior=shutdown,
            MetadataOptions={"HttpTokens": "required", "InstanceMetadataTags": "enabled"},
            TagSpecifications=[
                {"ResourceType": "instance", "Tags": [{"Key": key, "Value": value} for key, value in tags]}
            ],
            **more,
        )
        return str(answer["Instances"][0]["InstanceId"])

    def start_run(self, act: str, run_id: str, session_id: str) -> str:
        """Write a run spec and start an instance that points to it."""
        spec = RunSpec.model_validate(
            {
                "run_id": run_id,
                "name": "test",
                "owner": "somebody",
                "compute_env": "local",
                "region": REGION,
                "work_dir": f"s3://{BUCKET}/work",
                "log_group": "/solorun",
                "container_image": "none",
                "time_limit_s": 3600,
                "submitted_at": "2026-01-01T00:00:00Z",
                "workload": PipelineWorkload(source=PipelineSource(repository="a/b"), session_id=session_id),
            }
        )
        key = f"work/.solorun/runs/{run_id}"
        self.s3.put_object(Bucket=BUCKET, Key=f"{key}/spec.json", Body=spec.model_dump_json())
        pointer = RunPointer(
            run_id=run_id, prefix=f"s3://{BUCKET}/{key}", region=REGION, log_group="/solorun"
        )
        return self.start(act, run=run_id, user_data=pointer.model_dump_json())

    def instance(self, instance_id: str) -> dict[str, Any]:
        """What DescribeInstances says."""
        answer = self.ec2.describe_instances(InstanceIds=[instance_id])
        found: dict[str, Any] = answer["Reservations"][0]["Instances"][0]
        return found

    def is_in_state(self, instance_id: str, *states: str) -> bool:
        """Whether EC2 says so."""
        return self.instance(instance_id)["State"]["Name"] in states

    def until(self, instance_id: str, state: str, seconds: float = 90.0) -> dict[str, Any]:
        """Wait for a state of EC2's; returns the instance."""
        eventually(lambda: self.is_in_state(instance_id, state), f"{instance_id} is {state}", seconds)
        return self.instance(instance_id)

    def facts(self, instance_id: str, starts: int = 1) -> dict[str, Any]:
        """What the fake agent met, once it was started `starts` times."""

        def look() -> dict[str, Any] | None:
            try:
                found: dict[str, Any] = json.loads((self.home(instance_id) / "facts.json").read_text())
            except FileNotFoundError:
                return None
            return found if found["starts"] >= starts else None

        return eventually(look, f"facts of {instance_id}")

    def home(self, instance_id: str) -> Path:
        """The machine's folder."""
        return self.folder.machine(instance_id).root


@contextmanager
def cloud(folder: Path) -> Iterator[CloudUser]:
    """A local cloud in `folder`; nothing of it is left afterwards, which is checked."""
    state = lifecycle.up(folder, os.environ, SystemClock(), lambda _text: None, server_command=SERVER)
    try:
        yield CloudUser(state)
    finally:
        lifecycle.down(folder, os.environ, lambda _text: None)
    assert not folder.exists()
    assert carrying(CLOUD_FOLDER, str(folder)) == []


def containers_of(instance_id: str) -> list[str]:
    """The names of an instance's containers, running or not."""
    command = ["docker", "ps", "-aq", "--filter", f"label=solorun.instance={instance_id}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def gone(pid: int) -> bool:
    """Whether a process is no more."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
