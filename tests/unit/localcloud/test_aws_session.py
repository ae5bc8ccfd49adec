"""Clients for the local cloud on a computer whose AWS set-up is broken, behind a proxy that is away."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import cast

import pytest

from launcher.aws import Aws, Endpoint
from launcher.compute_envs import ComputeEnv
from launcher.localcloud.metadata_values import Credentials
from launcher.localcloud.provision import Clients

LIST = (
    b"<ListAllMyBucketsResult><Buckets><Bucket><Name>mine</Name></Bucket></Buckets></ListAllMyBucketsResult>"
)


class OneBucket(BaseHTTPRequestHandler):
    """An S3 with one bucket."""

    def do_GET(self) -> None:
        """Answer ListBuckets, and note who asked."""
        cast(Server, self.server).asked.append(self.headers["Authorization"])
        self.send_response(200)
        self.send_header("Content-Length", str(len(LIST)))
        self.end_headers()
        self.wfile.write(LIST)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on the console."""


class Server(ThreadingHTTPServer):
    """Such an S3 on a port of its own."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), OneBucket)
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def server() -> Iterator[Server]:
    """The server, for one test."""
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture(
    params=[
        {"AWS_PROFILE": "gone"},
        {"AWS_DEFAULT_PROFILE": "gone"},
        {"AWS_CONFIG_FILE": "broken"},
        {"AWS_SHARED_CREDENTIALS_FILE": "broken"},
        {"AWS_USE_FIPS_ENDPOINT": "true"},
        {"AWS_USE_DUALSTACK_ENDPOINT": "true"},
        {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"},
        {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"},
        {"ALL_PROXY": "http://127.0.0.1:9", "all_proxy": "http://127.0.0.1:9"},
    ],
    ids=lambda variables: next(iter(variables)),
)
def troubled(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment with one thing in it that would mislead the AWS SDK."""
    broken = tmp_path / "broken"
    broken.write_text("no section, no key\n[profile")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, value in request.param.items():
        monkeypatch.setenv(name, str(broken) if value == "broken" else value)


@pytest.mark.usefixtures("troubled")
def test_the_launchers_clients(server: Server) -> None:
    """A local compute environment goes straight to the local cloud, with its key, whatever is set up for AWS."""
    ce = ComputeEnv(name="local", local=True, region="us-east-1", work_dir="s3://bucket/work")
    aws = Aws(ce, Endpoint(server.url, "AKIALOCAL", "secret"))
    assert [bucket["Name"] for bucket in aws.s3.list_buckets()["Buckets"]] == ["mine"]
    assert "Credential=AKIALOCAL/" in server.asked[0]


@pytest.mark.usefixtures("troubled")
def test_the_servers_own_clients(server: Server) -> None:
    """So do the clients of the local cloud's server."""
    clients = Clients(server.url, Credentials("AKIALOCAL", "secret", ""))
    assert clients.client("s3").list_buckets()["Buckets"][0]["Name"] == "mine"
    assert "Credential=AKIALOCAL/" in server.asked[0]
