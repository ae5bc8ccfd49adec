"""The launcher against moto: commands called as a person would, and what the agent would write."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from agent import contract
from agent.contract import RunSpec, RunState, RunStatus, StopReason
from launcher import catalog
from launcher.catalog import Arch
from launcher.cli import run as run_launcher
from launcher.clock import SystemClock
from launcher.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_s3 import S3Client

REGION = "eu-west-1"


@cache
def _client(url: str, service: str, region: str) -> Any:
    """Made once: a client takes longer to make than to use."""
    return boto3.client(  # type: ignore[call-overload]  # any service
        service,
        region_name=region,
        endpoint_url=url,
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="made-up",
    )


class MovableClock(SystemClock):
    """Real time, shifted; sleeping calls what the test wants to happen meanwhile, and takes no time."""

    def __init__(self) -> None:
        self.shift = timedelta()
        self.slept: list[float] = []
        self.while_asleep: list[Any] = []

    def now(self) -> datetime:
        return datetime.now(UTC) + self.shift

    def monotonic(self) -> float:
        return super().monotonic() + self.shift.total_seconds()

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.shift += timedelta(seconds=seconds)
        if self.while_asleep:
            self.while_asleep.pop(0)()
        elif len(self.slept) > 500:
            raise AssertionError("the launcher waits for ever")


@dataclass(frozen=True)
class Result:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Kit:
    """An operator with an empty config folder, a bucket of their own, and moto for AWS."""

    url: str
    folder: Path
    bucket: str
    clock: MovableClock = field(default_factory=MovableClock)
    environ: dict[str, str] = field(default_factory=dict)
    image: str = ""
    """The published machine image."""
    images: list[str] = field(default_factory=list)
    """All machine images of this operator."""

    @property
    def work_dir(self) -> str:
        return f"s3://{self.bucket}/work"

    @property
    def bundles(self) -> Path:
        """Where `make bundle` would put the agent; nothing is there at first."""
        return self.folder / "bundle"

    def client(self, service: str, region: str = REGION) -> Any:
        return _client(self.url, service, region)

    @property
    def s3(self) -> S3Client:
        client: S3Client = self.client("s3")
        return client

    @property
    def ec2(self) -> EC2Client:
        client: EC2Client = self.client("ec2")
        return client

    @property
    def logs(self) -> CloudWatchLogsClient:
        client: CloudWatchLogsClient = self.client("logs")
        return client

    def __call__(self, *arguments: str) -> Result:
        out, err = io.StringIO(), io.StringIO()
        settings = Settings(
            self.folder / "config", "ada@example", self.environ, self.clock, bundle_dir=self.bundles
        )
        with redirect_stdout(out), redirect_stderr(err):
            code = run_launcher(arguments, settings)
        return Result(int(code), out.getvalue(), err.getvalue())

    def ok(self, *arguments: str) -> Result:
        result = self(*arguments)
        assert result.code == 0, result.err
        return result

    def register_image(self, name: str, **attributes: Any) -> str:
        """A machine image of this operator's; gives its id."""
        image_id: str = self.ec2.register_image(Name=name, **attributes)["ImageId"]
        self.images.append(image_id)
        return image_id

    def add_compute_env(self, name: str = "main", *arguments: str) -> None:
        self.ok(
            *("compute-envs", "add", name, "--region", REGION, "--work-dir", self.work_dir),
            *("--instance-profile", "solorun-agent", *arguments),
        )

    def pipeline(self, name: str = "hello", script: str = "println 'hello'\n") -> Path:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        (folder / "main.nf").write_text(script)
        return folder

    def submit(self, *arguments: str) -> dict[str, Any]:
        result: dict[str, Any] = self.ok("run", str(self.pipeline()), "--json", *arguments).json()
        return result

    def keys(self, prefix: str = "") -> list[str]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def body(self, key: str) -> bytes:
        return self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def put(self, run_id: str, name: str, body: bytes | str) -> None:
        key = contract.run_key(self.work_dir, run_id) + name
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=body)

    def status(self, run_id: str) -> RunStatus:
        return contract.parse(RunStatus, self.body(contract.run_key(self.work_dir, run_id) + contract.STATUS))

    def report(self, run_id: str, state: RunState, **changes: Any) -> RunStatus:
        """Write a status as the agent would; a claim goes before it."""
        claim = contract.Claim(run_id=run_id, claimed_by="i-0123456789abcdef0", claimed_at=datetime.now(UTC))
        self.put(run_id, contract.CLAIM, claim.model_dump_json())
        now = self.clock.now()
        times = {"finished_at": now} if state.final else {}
        status = self.status(run_id).model_copy(
            update={"state": state, "heartbeat_at": now, "started_at": now, **times, **changes}
        )
        self.put(run_id, contract.STATUS, status.model_dump_json())
        return status

    def ended(self, name: str, state: RunState = RunState.SUCCEEDED, *arguments: str, **changes: Any) -> str:
        """A run that the agent has brought to its end; returns its id."""
        run_id: str = self.submit("-n", name, *arguments)["run_id"]
        reasons = {RunState.SUCCEEDED: StopReason.COMPLETED, RunState.FAILED: StopReason.WORKLOAD_FAILED}
        self.report(run_id, state, **{"stop_reason": reasons.get(state, StopReason.CANCELLED), **changes})
        return run_id

    def spec(self, run_id: str) -> RunSpec:
        return contract.parse(RunSpec, self.body(contract.run_key(self.work_dir, run_id) + contract.SPEC))

    def instances(self, run_id: str) -> list[Any]:
        tag: Any = {"Name": f"tag:{catalog.TAG_RUN}", "Values": [run_id]}
        answer = self.ec2.describe_instances(Filters=[tag])
        return [item for reservation in answer["Reservations"] for item in reservation["Instances"]]

    def started(self) -> int:
        """How many machines were started for this operator, whatever became of them."""
        image: Any = {"Name": "image-id", "Values": [self.image]}
        answer = self.ec2.describe_instances(Filters=[image])
        return sum(len(reservation["Instances"]) for reservation in answer["Reservations"])

    def write_log(self, run_id: str, *lines: str, agent: bool = False) -> None:
        group, stream = catalog.LOG_GROUP, contract.log_stream(run_id, agent=agent)
        logs = self.logs
        there = logs.exceptions.ResourceAlreadyExistsException
        with suppress(there):
            logs.create_log_group(logGroupName=group)
        with suppress(there):
            logs.create_log_stream(logGroupName=group, logStreamName=stream)
        at = int(datetime.now(UTC).timestamp() * 1000)
        events = [{"timestamp": at, "message": line or " "} for line in lines]
        logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)  # type: ignore[arg-type]


@contextmanager
def operator(url: str, folder: Path, patch: pytest.MonkeyPatch) -> Iterator[Kit]:
    """An operator whose AWS SDK goes to moto, and to nothing of the person who runs the tests."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION", "AWS_REGION"):
        patch.delenv(name, raising=False)
    patch.setenv("AWS_ENDPOINT_URL", url)
    patch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    patch.setenv("AWS_CONFIG_FILE", str(folder / "no-aws-config"))
    patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "no-aws-credentials"))
    patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    kit = Kit(url, folder, f"launcher-{uuid.uuid4().hex[:12]}")
    where: Any = {"LocationConstraint": REGION}
    kit.s3.create_bucket(Bucket=kit.bucket, CreateBucketConfiguration=where)
    iam = kit.client("iam")
    with suppress(iam.exceptions.EntityAlreadyExistsException):
        iam.create_instance_profile(InstanceProfileName="solorun-agent")
    kit.image = kit.register_image(kit.bucket, Architecture="x86_64", RootDeviceName=catalog.BOOT_DEVICE)
    parameter = catalog.image_parameter(Arch.X86_64)
    kit.client("ssm").put_parameter(Name=parameter, Value=kit.image, Type="String", Overwrite=True)
    try:
        yield kit
    finally:
        # Moto is one account for all tests of a session: others publish images there.
        with suppress(kit.client("ssm").exceptions.ParameterNotFound):
            kit.client("ssm").delete_parameter(Name=parameter)
        for image_id in kit.images:
            kit.ec2.deregister_image(ImageId=image_id)
