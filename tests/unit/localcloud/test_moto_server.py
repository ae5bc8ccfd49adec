"""AWS as the local cloud has it: where moto alone is not what S3 is."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import pytest
from moto import mock_aws
from moto.s3.models import S3Backend
from werkzeug.test import Client

from launcher.localcloud.moto_server import moto_application

AT_S3 = "http://s3.amazonaws.com/bucket"
SIGNED = {"Authorization": "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260101/us-east-1/s3/aws4_request"}


def test_of_two_conditional_writes_one_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both come at the same moment, and each has seen that nothing is there: with moto alone both would have won."""
    write, both = S3Backend.put_object, threading.Barrier(2)

    def wait_and_write(*given: Any, **named: Any) -> Any:
        with suppress(threading.BrokenBarrierError):
            both.wait(0.5)
        return write(*given, **named)

    with mock_aws():
        client = Client(moto_application())
        client.put(AT_S3, headers=SIGNED)
        monkeypatch.setattr(S3Backend, "put_object", wait_and_write)

        headers = {**SIGNED, "If-None-Match": "*"}

        def claim(name: bytes) -> int:
            return client.put(f"{AT_S3}/claim", data=name, headers=headers).status_code

        with ThreadPoolExecutor(2) as pool:
            answers = sorted(pool.map(claim, (b"one", b"other")))
        assert answers == [HTTPStatus.OK, HTTPStatus.PRECONDITION_FAILED]
        assert client.get(f"{AT_S3}/claim", headers=SIGNED).data in (b"one", b"other")
