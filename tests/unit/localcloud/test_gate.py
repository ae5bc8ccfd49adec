"""What the gate makes of moto's answers, with a supervisor that has one machine."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from io import BytesIO
from typing import Any, cast
from urllib.parse import urlencode
from wsgiref.util import setup_testing_defaults

import boto3
import pytest
from moto import mock_aws

from launcher.localcloud.gate import Gate
from launcher.localcloud.keys import KeyRing
from launcher.localcloud.moto_server import moto_application
from launcher.localcloud.supervisor import Supervisor

REGION = "us-east-1"


class OneMachine:
    """A supervisor with one machine, and what that wrote."""

    def __init__(self) -> None:
        self.known: dict[str, bytes] = {}

    def console(self, instance_id: str) -> bytes | None:
        """What it wrote."""
        return self.known.get(instance_id)

    def wake(self) -> None:
        """Nobody sleeps."""


@pytest.fixture
def instance() -> Iterator[str]:
    """An instance in moto."""
    with mock_aws():
        ec2 = boto3.client("ec2", region_name=REGION)
        image = ec2.register_image(Name="image", RootDeviceName="/dev/xvda")["ImageId"]
        started = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1)
        yield started["Instances"][0]["InstanceId"]


def console_output(supervisor: OneMachine, instance_id: str) -> tuple[str, str]:
    """The status and the body of GetConsoleOutput."""
    keys = KeyRing()
    key = keys.make_permanent().access_key
    form = urlencode({"Action": "GetConsoleOutput", "Version": "2016-11-15", "InstanceId": instance_id})
    scope = f"{key}/20260101/{REGION}/ec2/aws4_request"
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "POST",
        "CONTENT_TYPE": "application/x-www-form-urlencoded",
        "CONTENT_LENGTH": str(len(form)),
        "HTTP_HOST": f"ec2.{REGION}.amazonaws.com",
        "HTTP_AUTHORIZATION": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0",
        "wsgi.input": BytesIO(form.encode()),
    }
    setup_testing_defaults(environ)
    told: dict[str, Any] = {}

    def start_response(status: str, headers: list[tuple[str, str]], _error: Any = None) -> None:
        told.update(status=status, length={name.lower(): value for name, value in headers}["content-length"])

    gate = Gate(moto_application(), keys, cast(Supervisor, supervisor), "token", "cloud")
    answer: Iterable[bytes] = gate(environ, start_response)
    body = b"".join(answer)
    assert told["length"] == str(len(body))
    return told["status"], body.decode()


def test_console_of_a_machine(instance: str) -> None:
    """GetConsoleOutput tells what the machine itself wrote, in Base64, and nothing of moto's sample."""
    supervisor = OneMachine()
    supervisor.known[instance] = b"--- agent start 1\n"
    status, body = console_output(supervisor, instance)
    assert status.startswith("200")
    assert f"<output>{base64.b64encode(b'--- agent start 1' + bytes([10])).decode()}</output>" in body


def test_console_of_an_instance_without_a_machine(instance: str) -> None:
    """An instance that has not booted yet has no output."""
    status, body = console_output(OneMachine(), instance)
    assert status.startswith("200")
    assert instance in body
    assert "output>" not in body


@pytest.mark.usefixtures("instance")
def test_console_of_nobody() -> None:
    """An instance that does not exist is still EC2's error."""
    status, body = console_output(OneMachine(), "i-00000000000000000")
    assert status.startswith("400")
    assert "InvalidInstanceID.NotFound" in body
