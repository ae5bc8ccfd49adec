"""One machine without a launcher: moto as AWS, a metadata service, and a real agent process on a real Docker.

For what the launcher never does: two machines on one run, an altered spec, a service that fails.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import secrets
import signal
import subprocess
import sys
import tarfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import boto3

from agent.carry import NEXTFLOW_CACHE, TASKS
from agent.contract import (
    BUNDLE,
    CACHE,
    SPEC,
    STATUS,
    PipelineSource,
    PipelineWorkload,
    RunPointer,
    RunSpec,
    RunState,
    RunStatus,
    StopReason,
    log_stream,
    parse,
    run_key,
    run_prefix,
)
from launcher.catalog import NEXTFLOW_IMAGE
from launcher.localcloud.metadata_service import MetadataServer, by_secret_path
from launcher.localcloud.metadata_values import Credentials, InstanceMetadata, Interruption
from tests.fakes.s3_server import KEYS, REGION, S3Server

PIPELINES = Path(__file__).parents[1] / "pipelines"
LOG_GROUP = "/solorun-tests"


class TimedOut(AssertionError):
    """Something that was promised did not come."""


def eventually(what: str, look: Callable[[], Any], *, within: float = 120.0, every: float = 0.1) -> Any:
    """What `look` gives as soon as it is true; TimedOut with `what` when the deadline has passed."""
    pause = threading.Event()
    end = time.monotonic() + within
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise TimedOut(f"{what}: not within {within} s")
        pause.wait(every)


def resumable(s3: Any, bucket: str, prefix: str) -> bool:
    """Whether a run's prefix has a finished task, and a cache of Nextflow's sent after it, which so knows of it."""
    sent = {
        item["Key"].removeprefix(prefix): item["LastModified"]
        for item in s3.list_objects_v2(Bucket=bucket, Prefix=prefix + CACHE).get("Contents", [])
    }
    tasks = [time for name, time in sent.items() if name.startswith(TASKS)]
    return bool(tasks) and NEXTFLOW_CACHE in sent and min(tasks) <= sent[NEXTFLOW_CACHE]


@dataclass
class LoneRun:
    """A run that was submitted by hand: its files in S3, and what became of them."""

    aws: S3Server
    spec: RunSpec

    @property
    def prefix(self) -> str:
        """The run's prefix as a URI."""
        return run_prefix(self.spec.work_dir, self.spec.run_id)

    def key(self, name: str) -> str:
        """The full key of one of the run's objects."""
        return run_key(self.spec.work_dir, self.spec.run_id) + name

    def put(self, name: str, body: bytes) -> None:
        """Write one of the run's objects."""
        self.aws.client.put_object(Bucket=self.aws.bucket, Key=self.key(name), Body=body)

    def body(self, name: str) -> bytes:
        """Read one of the run's objects."""
        return self.aws.body(self.key(name))

    def names(self) -> set[str]:
        """The names of all of the run's objects."""
        start = self.key("")
        return {key.removeprefix(start) for key in self.aws.keys(start)}

    def can_be_resumed(self) -> bool:
        """Whether S3 has what another machine needs to take a finished task as done."""
        return resumable(self.aws.client, self.aws.bucket, self.key(""))

    def status(self) -> RunStatus:
        """The run status as it is now."""
        return parse(RunStatus, self.body(STATUS))

    def until(self, state: RunState, *, within: float = 90.0) -> RunStatus:
        """Wait for a state."""
        eventually(f"{self.spec.name} becomes {state}", lambda: self.status().state is state, within=within)
        return self.status()

    def log_lines(self) -> list[str]:
        """Every event of the workload's log stream, in order."""
        logs = boto3.client(
            "logs",
            region_name=REGION,
            endpoint_url=self.aws.url,
            aws_access_key_id=KEYS.access_key_id,
            aws_secret_access_key=KEYS.secret_access_key,
        )
        lines: list[str] = []
        token: dict[str, Any] = {}
        while True:
            try:
                page = logs.get_log_events(
                    logGroupName=LOG_GROUP,
                    logStreamName=log_stream(self.spec.run_id),
                    startFromHead=True,
                    **token,
                )
            except logs.exceptions.ResourceNotFoundException:
                return lines
            lines += [event["message"] for event in page["events"]]
            if token.get("nextToken") == page["nextForwardToken"]:
                return lines
            token = {"nextToken": page["nextForwardToken"]}


def new_run_id() -> str:
    """As the launcher makes them."""
    return datetime.now(UTC).strftime("%Y%m%dt%H%M%S-") + secrets.token_hex(3)


def submit(
    aws: S3Server, pipeline: str | Path, *, params: dict[str, Any] | None = None, **fields: Any
) -> LoneRun:
    """Write what the launcher would write for a pipeline of tests/pipelines; `fields` are the run spec's own."""
    folder = PIPELINES / pipeline
    body = pack(folder)
    workload = {
        "source": PipelineSource(bundle_sha256=sha256(body).hexdigest(), folder=folder.name),
        "session_id": str(uuid.uuid4()),
        "params": params or {},
        **fields.pop("workload", {}),
    }
    run_id = new_run_id()
    now = datetime.now(UTC)
    spec = RunSpec(
        **{
            "run_id": run_id,
            "name": f"test_{run_id[-6:]}",
            "owner": "tests",
            "compute_env": "tests",
            "region": REGION,
            "work_dir": f"s3://{aws.bucket}/work",
            "log_group": LOG_GROUP,
            "container_image": NEXTFLOW_IMAGE,
            "time_limit_s": 300,
            "submitted_at": now,
            "workload": PipelineWorkload(**workload),
            **fields,
        }
    )
    run = LoneRun(aws, spec)
    status = RunStatus(
        run_id=run_id,
        name=spec.name,
        state=RunState.SUBMITTED,
        pipeline=folder.name,
        submitted_at=now,
        heartbeat_at=now,
    )
    run.put(BUNDLE, body)
    run.put(SPEC, spec.model_dump_json().encode())
    run.put(STATUS, status.model_dump_json().encode())
    return run


def pack(folder: Path) -> bytes:
    """A pipeline's folder as a bundle."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for path in sorted(folder.rglob("*")):
            tar.add(path, path.relative_to(folder), recursive=False)
    return buffer.getvalue()


@dataclass
class LoneMachine:
    """A machine: its metadata, its switch, and the agent on it."""

    instance_id: str
    folder: Path
    environment: dict[str, str]
    metadata: InstanceMetadata
    agents: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def power_off(self) -> Path:
        """There once the agent has called its shutdown command."""
        return self.folder / "power-off"

    @property
    def console(self) -> str:
        """What the agents said."""
        path = self.folder / "console.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def boot(self) -> subprocess.Popen[bytes]:
        """Start the agent, for the first time or again."""
        with (self.folder / "console.log").open("ab") as console:
            agent = subprocess.Popen(
                [sys.executable, "-m", "agent"],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        self.agents.append(agent)
        return agent

    def kill_agent(self) -> None:
        """SIGKILL, as if the kernel had chosen it."""
        self.agents[-1].send_signal(signal.SIGKILL)
        self.agents[-1].wait()

    def interrupt(self, seconds: float) -> None:
        """EC2 takes the machine back in so many seconds."""
        now = datetime.now(UTC)
        self.metadata = replace(
            self.metadata, interruption=Interruption(noticed_at=now, ends_at=now + timedelta(seconds=seconds))
        )

    def ends(self, *, within: float = 120.0) -> int:
        """The agent's exit code, when it has come to its end."""
        try:
            return self.agents[-1].wait(within)
        except subprocess.TimeoutExpired:
            raise TimedOut(f"the agent has not ended within {within} s:\n{self.console[-3000:]}") from None


@contextlib.contextmanager
def lone_machine(
    folder: Path,
    run: LoneRun | None,
    *,
    scratch: Path | None = None,
    endpoint_url: str | None = None,
    user_data: bytes | None = None,
    environment: dict[str, str] | None = None,
) -> Iterator[LoneMachine]:
    """A machine that was started for `run`; at the end nothing of it is left."""
    instance_id = f"i-{secrets.token_hex(8)}"
    home = folder / instance_id
    home.mkdir(parents=True)
    if run is not None and user_data is None:
        pointer = RunPointer(run_id=run.spec.run_id, prefix=run.prefix, region=REGION, log_group=LOG_GROUP)
        user_data = pointer.model_dump_json().encode()
    metadata = InstanceMetadata(
        instance_id=instance_id,
        instance_type="m5d.large",
        image_id="ami-0",
        architecture="x86_64",
        account_id="123456789012",
        region=REGION,
        availability_zone=f"{REGION}a",
        private_ip="127.0.0.1",
        pending_time=datetime.now(UTC),
        user_data=user_data,
        role="tests",
        credentials=Credentials(KEYS.access_key_id, KEYS.secret_access_key, "token"),
    )
    machine = LoneMachine(instance_id, home, {}, metadata)
    with MetadataServer(("127.0.0.1", 0), by_secret_path(lambda _secret: machine.metadata)) as server:
        machine.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "PYTHONUNBUFFERED": "1",
            "AWS_ENDPOINT_URL": endpoint_url or (run.aws.url if run else "http://127.0.0.1:9"),
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"{server.endpoint_url}/machine",
            "RUN_AGENT_SCRATCH": str(scratch or home / "scratch"),
            "RUN_AGENT_LOG_FILE": str(home / "run-agent.log"),
            "RUN_AGENT_SHUTDOWN_COMMAND": json.dumps(["touch", str(machine.power_off)]),
            "RUN_AGENT_CPUS": "2",
            "RUN_AGENT_MEMORY_BYTES": str(4 * 1024**3),
            **(environment or {}),
        }
        try:
            yield machine
        finally:
            for agent in machine.agents:
                if agent.poll() is None:
                    agent.kill()
                    agent.wait()
            if run is not None:
                remove_containers(f"solorun.run={run.spec.run_id}")


def execute(aws: S3Server, folder: Path, pipeline: str, *, within: float = 120.0, **fields: Any) -> LoneRun:
    """A pipeline of tests/pipelines from its submission to a machine that is off, with nothing left of it."""
    run = submit(aws, pipeline, **fields)
    with lone_machine(folder, run) as machine:
        machine.boot()
        machine.ends(within=within)
        assert_gone(run, machine)
    return run


def containers(*labels: str) -> list[str]:
    """The ids of all containers with these labels, in whatever state."""
    filters = [word for label in labels for word in ("--filter", f"label={label}")]
    words = ["docker", "ps", "--all", "--quiet", *filters]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()


def remove_containers(label: str) -> None:
    """Remove what a failed test left."""
    for container in containers(label):
        subprocess.run(["docker", "rm", "--force", container], check=False, capture_output=True)


def assert_gone(run: LoneRun, machine: LoneMachine) -> None:
    """The run is over: the machine was switched off, and no container of it is left."""
    assert machine.power_off.exists(), machine.console[-3000:]
    assert containers(f"solorun.run={run.spec.run_id}") == []


def reason_of(run: LoneRun) -> StopReason | None:
    """The stop reason in the run status."""
    return run.status().stop_reason
