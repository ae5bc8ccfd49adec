"""What the policies of docs/aws.md allow, held to what the launcher does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse

from launcher.aws import Aws, Endpoint
from launcher.compute_envs import ComputeEnv
from launcher.errors import AccessDenied
from launcher.store import Store
from tests.fakes.s3_server import KEYS, REGION, S3Server

AWS_MD = (Path(__file__).parents[2] / "docs" / "aws.md").read_text()
PARTS = dict.fromkeys(("CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"), "s3:PutObject")
"""IAM's names of the calls that have no right of their own."""


def statements(section: str) -> list[dict[str, Any]]:
    """The policy in a section of docs/aws.md."""
    block = re.search(rf"^## {section}\n.*?^```json\n(.*?)^```", AWS_MD, re.MULTILINE | re.DOTALL)
    assert block is not None
    found: list[dict[str, Any]] = json.loads(block[1])["Statement"]
    return found


def listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


class Refusal:
    """S3 that refuses a part of a file, and writes down every call."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def record(self, model: Any, **_: Any) -> None:
        self.calls.append(model.name)

    def refuse(self, **_: Any) -> AWSResponse:
        body = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
        headers: Any = {"content-type": "application/xml"}
        raw: Any = SimpleNamespace(stream=lambda *_, **__: iter([body]))
        return AWSResponse("http://moto", 403, headers, raw)


def test_the_parts_of_a_file_that_was_not_sent_may_be_taken_back(aws: S3Server, tmp_path: Path) -> None:
    """Where sending a large file is broken off, nothing of it stays in S3, with no right but those of the docs."""
    ce = ComputeEnv(name="own", region=REGION, work_dir=f"s3://{aws.bucket}/work")
    clients = Aws(ce, Endpoint(aws.url, KEYS.access_key_id, KEYS.secret_access_key))
    refusal = Refusal()
    events: Any = clients.s3.meta.events
    events.register("before-call.s3", refusal.record)
    events.register("before-send.s3.UploadPart", refusal.refuse)
    (tmp_path / "large").write_bytes(bytes(9 << 20))
    with pytest.raises(AccessDenied, match=f"s3:PutObject on s3://{aws.bucket}/work/.solorun/large"):
        Store(clients, aws.bucket).upload(
            tmp_path / "large",
            "work/.solorun/large",
            content_type="application/gzip",
            progress=lambda _: None,
        )
    assert refusal.calls[-1] == "AbortMultipartUpload"
    assert aws.client.list_multipart_uploads(Bucket=aws.bucket).get("Uploads", []) == []
    (runs,) = [item for item in statements("The launching identity") if item.get("Sid") == "Runs"]
    assert {PARTS.get(name, f"s3:{name}") for name in refusal.calls} <= set(listed(runs["Action"]))


@pytest.mark.parametrize("section", ["The instance role", "The launching identity"])
def test_parameters_are_those_of_an_account(section: str) -> None:
    """Only AWS itself has parameters without an account; the policies name none, as they would match nothing."""
    resources = [name for item in statements(section) for name in listed(item["Resource"])]
    ours = [name for name in resources if ":ssm:" in name]
    assert ours
    assert all(name.split(":")[4] for name in ours), ours
