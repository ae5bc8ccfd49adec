"""boto3 clients in memory, as far as the launcher uses them. An unscripted call raises."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from launcher.compute_envs import ComputeEnv


def client_error(code: str, operation: str, message: str = "", status: int = 400) -> ClientError:
    """The error that boto3 raises for an answer of AWS."""
    answer: Any = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(answer, operation)


class FakeS3:
    """Objects of one bucket."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.calls: list[str] = []
        self.before_put: Callable[[str], None] = lambda _key: None
        self.failures: list[Exception] = []
        """Raised by the next reads, one each."""
        self.delete_failure: Exception | None = None
        """Raised by every deletion."""

    def put_object(self, *, Key: str, Body: bytes, IfNoneMatch: str | None = None, **_: Any) -> None:  # noqa: N803 - boto3's names
        self.calls.append(f"put {Key}")
        self.before_put(Key)
        if IfNoneMatch == "*" and Key in self.objects:
            raise client_error("PreconditionFailed", "PutObject", status=412)
        self.objects[Key] = Body

    def get_object(self, *, Key: str, **_: Any) -> dict[str, Any]:  # noqa: N803 - boto3's names
        self.calls.append(f"get {Key}")
        if self.failures:
            raise self.failures.pop(0)
        if Key not in self.objects:
            raise client_error("NoSuchKey", "GetObject", status=404)
        return {"Body": io.BytesIO(self.objects[Key])}

    def copy_object(self, *, Key: str, CopySource: dict[str, str], **_: Any) -> None:  # noqa: N803 - boto3's names
        self.objects[Key] = self.objects[CopySource["Key"]]

    def delete_objects(self, *, Delete: dict[str, Any], **_: Any) -> dict[str, Any]:  # noqa: N803 - boto3's names
        if self.delete_failure is not None:
            raise self.delete_failure
        for item in Delete["Objects"]:
            self.objects.pop(item["Key"], None)
        return {}

    def list_objects_v2(self, *, Prefix: str, **_: Any) -> dict[str, Any]:  # noqa: N803 - boto3's names
        now = datetime.now(UTC)
        found = sorted(key for key in self.objects if key.startswith(Prefix))
        return {
            "Contents": [
                {"Key": key, "Size": len(self.objects[key]), "ETag": '""', "LastModified": now}
                for key in found
            ]
        }


class FakeEc2:
    """Answers of RunInstances in the order in which they were scripted: an instance id, or an error."""

    def __init__(self, *answers: str | BaseException, default_subnets: tuple[str, ...] = ()) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []
        self.default_subnets = default_subnets

    def run_instances(self, **parameters: Any) -> dict[str, Any]:
        self.asked.append(parameters)
        if not self.answers:
            raise AssertionError("RunInstances was not scripted this often")
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return {"Instances": [{"InstanceId": answer}]}

    def describe_subnets(self, **_: Any) -> dict[str, Any]:
        return {"Subnets": [{"SubnetId": name} for name in self.default_subnets]}


class FakeLogs:
    """GetLogEvents, page by page: (events, next token); the last page repeats its token."""

    def __init__(
        self, *pages: tuple[list[str], str] | ClientError, always: ClientError | None = None
    ) -> None:
        self.pages = list(pages)
        self.always = always
        self.tokens: list[str | None] = []

    def get_log_events(self, *, nextToken: str | None = None, **_: Any) -> dict[str, Any]:  # noqa: N803 - boto3's names
        self.tokens.append(nextToken)
        if self.always is not None:
            raise self.always
        page = self.pages.pop(0)
        if isinstance(page, ClientError):
            raise page
        lines, token = page
        return {"events": [{"message": line, "timestamp": 1} for line in lines], "nextForwardToken": token}


class FakeAws:
    """In the place of launcher.aws.Aws."""

    endpoint = None
    local = None

    def __init__(
        self,
        ce: ComputeEnv,
        *,
        s3: FakeS3 | None = None,
        ec2: FakeEc2 | None = None,
        logs: FakeLogs | None = None,
    ) -> None:
        self.ce = ce
        self.s3 = s3 or FakeS3()
        self.ec2 = ec2 or FakeEc2()
        self.logs = logs or FakeLogs()


class SleepyClock:
    """Time that passes only by sleeping; what is to happen meanwhile can be scripted."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.start = datetime(2026, 1, 1, 12, tzinfo=UTC)
        self.while_asleep: list[Callable[[], None]] = []

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.start.timestamp() + self.seconds, UTC)

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        if self.while_asleep:
            self.while_asleep.pop(0)()
        elif self.seconds > 3600:
            raise AssertionError("waits for ever")
