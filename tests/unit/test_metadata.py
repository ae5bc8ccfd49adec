"""The agent's client of the instance metadata service, against scripted answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from agent.metadata import MetadataService, MetadataUnavailable, SpotNotice, read_pointer

DROP = object()
"""An answer: the connection is closed without one."""


@dataclass
class Script:
    """A metadata service of a few fixed values; `trouble` is answered first, in its order."""

    values: dict[str, bytes] = field(default_factory=dict)
    trouble: list[object] = field(default_factory=list)
    refuse_tokens: bool = False
    requests: list[str] = field(default_factory=list)
    connections: set[object] = field(default_factory=set)
    token: str = "token-1"
    url: str = ""


@pytest.fixture
def script() -> Iterator[Script]:
    told = Script()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def do_PUT(self) -> None:
            if told.refuse_tokens:
                return self.say(403)
            assert self.headers["X-aws-ec2-metadata-token-ttl-seconds"] == "21600"
            return self.say(200, told.token.encode())

        def do_GET(self) -> None:
            if told.trouble:
                trouble = told.trouble.pop(0)
                if trouble is DROP:
                    self.close_connection = True
                    return None
                assert isinstance(trouble, int)
                return self.say(trouble)
            if self.headers["X-aws-ec2-metadata-token"] != told.token:
                return self.say(401)
            value = told.values.get(self.path)
            return self.say(404) if value is None else self.say(200, value)

        def say(self, status: int, body: bytes = b"") -> None:
            told.requests.append(f"{self.command} {self.path}")
            told.connections.add(self.client_address)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    told.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield told
    server.shutdown()
    server.server_close()
    thread.join()


class FakeClock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def metadata(script: Script, clock: FakeClock) -> Iterator[MetadataService]:
    with MetadataService(script.url, clock=clock, pause=lambda _seconds: None) as service:
        yield service


TOKEN = "PUT /latest/api/token"


def test_the_simple_values_are_read(script: Script, metadata: MetadataService) -> None:
    """Instance id, type and region come from where EC2 has them."""
    script.values = {
        "/latest/meta-data/instance-id": b"i-0123",
        "/latest/meta-data/instance-type": b"m5d.large",
        "/latest/meta-data/placement/region": b"eu-central-1",
    }
    said = (metadata.instance_id(), metadata.instance_type(), metadata.region())
    assert said == ("i-0123", "m5d.large", "eu-central-1")


def test_one_token_and_one_connection_serve_many_requests(script: Script, metadata: MetadataService) -> None:
    """Polling costs one request each time: token and connection are kept."""
    for _ in range(5):
        assert metadata.spot_action() is None
    assert script.requests == [TOKEN] + ["GET /latest/meta-data/spot/instance-action"] * 5
    assert len(script.connections) == 1


def test_the_token_is_renewed_before_it_runs_out(
    script: Script, metadata: MetadataService, clock: FakeClock
) -> None:
    """Six hours after the first request another token is asked for, and no request is refused."""
    metadata.user_data()
    clock.seconds += 21_600 - 299
    metadata.user_data()
    assert script.requests == [TOKEN, "GET /latest/user-data"] * 2


def test_a_token_that_is_refused_is_replaced(script: Script, metadata: MetadataService) -> None:
    """A 401 leads to a new token and the answer, not to an error."""
    script.values["/latest/user-data"] = b"x"
    metadata.user_data()
    script.token = "token-2"
    assert metadata.user_data() == b"x"


@pytest.mark.parametrize("trouble", [[DROP], [500, 503], [DROP, 503]])
def test_passing_trouble_is_not_seen(
    script: Script, metadata: MetadataService, trouble: list[object]
) -> None:
    """Dropped connections and 5xx answers are tried again."""
    script.values["/latest/user-data"] = b"x"
    script.trouble = list(trouble)
    assert metadata.user_data() == b"x"


def test_lasting_trouble_is_an_error_that_says_what_and_why(
    script: Script, metadata: MetadataService
) -> None:
    """After three attempts the error names the endpoint, the path and the cause."""
    script.trouble = [503] * 3
    with pytest.raises(MetadataUnavailable, match=r"127\.0\.0\.1.*/latest/user-data: HTTP 503"):
        metadata.user_data()


def test_no_service_is_an_error_in_bounded_time(clock: FakeClock) -> None:
    """Where nothing listens, the attempts are counted and the waits between them are short."""
    waits: list[float] = []
    service = MetadataService("http://127.0.0.1:1", clock=clock, pause=waits.append)
    with pytest.raises(MetadataUnavailable, match="refused"):
        service.instance_id()
    assert sum(waits) < 1.0


def test_a_refused_token_is_never_taken_for_a_missing_value(
    script: Script, metadata: MetadataService
) -> None:
    """Without a token the service is unavailable; user data are not said to be absent."""
    script.refuse_tokens = True
    with pytest.raises(MetadataUnavailable, match="403"):
        metadata.user_data()


def test_an_endpoint_that_is_no_url_is_refused() -> None:
    """A malformed endpoint is named, with the variable that sets it."""
    with pytest.raises(MetadataUnavailable, match="AWS_EC2_METADATA_SERVICE_ENDPOINT"):
        MetadataService("169.254.169.254")


def test_an_endpoint_may_have_a_path(script: Script, clock: FakeClock) -> None:
    """Everything is asked below the endpoint's path."""
    service = MetadataService(script.url + "/secret/", clock=clock)
    with pytest.raises(MetadataUnavailable):
        service.instance_id()
    service.close()
    assert script.requests[0] == "PUT /secret/latest/api/token"


def test_tags_are_read_by_name(script: Script, metadata: MetadataService) -> None:
    """Every tag is read; keys with a colon are quoted on the way."""
    script.values = {
        "/latest/meta-data/tags/instance": b"Name\nsolorun:run",
        "/latest/meta-data/tags/instance/Name": b"happy run",
        "/latest/meta-data/tags/instance/solorun%3Arun": "grün".encode(),
    }
    assert metadata.tags() == {"Name": "happy run", "solorun:run": "grün"}


def test_tags_that_are_off_are_none(metadata: MetadataService) -> None:
    """A machine without tags in its metadata has no tags, which is no error."""
    assert metadata.tags() == {}


def test_a_spot_notice_has_action_and_time(script: Script, metadata: MetadataService) -> None:
    """EC2's notice becomes a value with a moment in UTC."""
    script.values["/latest/meta-data/spot/instance-action"] = json.dumps(
        {"action": "terminate", "time": "2026-01-01T08:22:00Z"}
    ).encode()
    assert metadata.spot_action() == SpotNotice("terminate", datetime(2026, 1, 1, 8, 22, tzinfo=UTC))


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"action":"stop","time":"soon"}', b"\xff"])
def test_a_spot_notice_that_makes_no_sense_is_an_error(
    script: Script, metadata: MetadataService, body: bytes
) -> None:
    """A malformed notice is said to be one; it is never taken for silence."""
    script.values["/latest/meta-data/spot/instance-action"] = body
    with pytest.raises(MetadataUnavailable, match="cannot be understood"):
        metadata.spot_action()


def test_pending_time_comes_from_the_identity_document(script: Script, metadata: MetadataService) -> None:
    """The moment of the start is the document's pendingTime."""
    script.values["/latest/dynamic/instance-identity/document"] = b'{"pendingTime":"2026-01-01T08:00:00Z"}'
    assert metadata.pending_time() == datetime(2026, 1, 1, 8, 0, tzinfo=UTC)


@dataclass
class UserData:
    data: bytes | None

    def user_data(self) -> bytes | None:
        return self.data


POINTER = {
    "solorun": 1,
    "run_id": "20260101t080000-abc123",
    "prefix": "s3://bucket/work/.solorun/runs/20260101t080000-abc123",
    "region": "us-east-1",
    "log_group": "/solorun/runs",
}


def test_a_run_pointer_is_read() -> None:
    """User data of ours become a pointer; what all they may be is the contract's."""
    pointer = read_pointer(UserData(json.dumps(POINTER).encode()))
    assert pointer is not None
    assert pointer.model_dump() == POINTER
    assert read_pointer(UserData(None)) is None
