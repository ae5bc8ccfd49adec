"""What a log sink promises, kept by the fake one and by CloudWatch Logs (moto, and our strict service)."""

import json
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from botocore.credentials import Credentials
from moto.server import ThreadedMotoServer

from agent.logs.cloudwatch import CloudWatchSink
from agent.logs.sink import Denied, LogSink, Receipt, Refused, SinkError, Unacceptable, Unsure
from tests.fakes.log_sink import FakeSink
from tests.fakes.logs_service import Faults, LogsService, logs_service

NOW = 1_790_000_000_000
REGION = "eu-west-1"


def credentials() -> Credentials:
    """Made up."""
    return Credentials("AKIDEXAMPLE", "not-a-secret", "token")


def sink_at(url: str, stream: str = "run/workload", group: str = "/solorun/test") -> CloudWatchSink:
    """A sink at a service of ours."""
    return CloudWatchSink(REGION, group, stream, endpoint_url=url, credentials=credentials)


@pytest.fixture(scope="module")
def moto_url() -> Iterator[str]:
    """A moto server of our own."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture(scope="module")
def service() -> Iterator[LogsService]:
    """Our own service, strict and unreliable."""
    with logs_service() as running:
        yield running


@pytest.fixture
def calm(service: LogsService) -> Iterator[LogsService]:
    """The same, reliable again afterwards."""
    yield service
    service.set(Faults())


@pytest.fixture(params=["fake", "moto", "strict"])
def sink(request: pytest.FixtureRequest) -> Iterator[LogSink]:
    """Each implementation, its stream not made yet."""
    if request.param == "fake":
        yield FakeSink()
        return
    url = (
        request.getfixturevalue("moto_url")
        if request.param == "moto"
        else request.getfixturevalue("service").url
    )
    real = sink_at(url, stream=f"run/{request.node.name.partition('[')[0]}")
    yield real
    real.close()


def now_ms() -> int:
    """Within the two weeks that the service accepts."""
    return int(time.time() * 1000)


def test_create_twice(moto_url: str) -> None:
    """A stream that is there already is as good as a new one."""
    sink = sink_at(moto_url, stream="run/twice")
    sink.create()
    sink.create()

    assert not sink.contains(now_ms())


def test_put_makes_the_stream(sink: LogSink) -> None:
    """A stream that is missing, or was deleted, is made by putting into it."""
    assert sink.put(now_ms(), ["one", "two"]) == Receipt()


def test_contains(sink: LogSink) -> None:
    """A batch is found by its own timestamp, and by none beside it."""
    now = now_ms()
    assert not sink.contains(now)
    sink.put(now, ["one", "two"])
    sink.put(now + 10, ["three"])

    assert sink.contains(now)
    assert sink.contains(now + 10)
    assert not any(sink.contains(now + step) for step in (-1, 1, 9, 11))


@pytest.mark.parametrize(
    "message", [" ", "\0\x1b[31m", "ä€😀\u2028", "\\xff", "x" * 262_118, '{"a": "\\n"}\r']
)
def test_odd_messages(service: LogsService, message: str) -> None:
    """Every message arrives as it was put, whatever characters it has."""
    sink = sink_at(service.url, stream="run/odd")
    sink.put(NOW, [message])

    assert message in service.look("events")
    assert service.look("problems") == []


def test_a_full_batch_is_taken(service: LogsService) -> None:
    """A batch that fills all limits to the byte is taken."""
    sink = sink_at(service.url, stream="run/full")

    assert sink.put(NOW, ["x" * 262_118] * 4) == Receipt()
    assert sink.put(NOW + 1, ["x"] * 10_000) == Receipt()


@pytest.mark.parametrize("events", [["x"] * 10_001, ["x" * 262_118] * 4 + ["x"], [""]])
def test_beyond_the_limits(events: list[str]) -> None:
    """The service that we test against refuses what AWS refuses; such a batch is said to be unacceptable."""
    with logs_service() as own:
        with pytest.raises(Unacceptable):
            sink_at(own.url).put(NOW, events)
        assert len(own.look("problems")) == 1


def test_signed_and_permitted(moto_url: str) -> None:
    """Where signatures and policies are checked, a permitted call passes and a forbidden one says what it lacks."""
    iam = boto3.client(
        "iam",
        region_name=REGION,
        endpoint_url=moto_url,
        aws_access_key_id="a",
        aws_secret_access_key="b",
    )
    iam.create_user(UserName="machine")
    allowed = [f"logs:{name}" for name in ("CreateLogGroup", "CreateLogStream", "PutLogEvents")]
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": allowed, "Resource": "*"}]}
    iam.put_user_policy(UserName="machine", PolicyName="logs", PolicyDocument=json.dumps(policy))
    key = iam.create_access_key(UserName="machine")["AccessKey"]

    def sink_with(secret: str) -> CloudWatchSink:
        keys = Credentials(key["AccessKeyId"], secret)
        return CloudWatchSink(
            REGION, "/solorun/iam", "run/iam", endpoint_url=moto_url, credentials=lambda: keys
        )

    _check_policies_after(moto_url, "0")
    try:
        assert sink_with(key["SecretAccessKey"]).put(now_ms(), ["ä"]) == Receipt()
        with pytest.raises(Denied, match="logs:GetLogEvents"):
            sink_with(key["SecretAccessKey"]).contains(now_ms())
        with pytest.raises(SinkError, match="SignatureDoesNotMatch"):
            sink_with("wrong").put(now_ms(), ["x"])
    finally:
        _check_policies_after(moto_url, "inf")


def _check_policies_after(moto_url: str, calls: str) -> None:
    request = urllib.request.Request(  # noqa: S310 - our own loopback server
        f"{moto_url}/moto-api/reset-auth", calls.encode(), {"Content-Type": "text/plain"}, method="POST"
    )
    urllib.request.urlopen(request).close()  # noqa: S310 - our own loopback server


def test_too_old(moto_url: str) -> None:
    """What the service rejects event by event is counted, with the cause."""
    sink = sink_at(moto_url, stream="run/old")
    sink.create()

    receipt = sink.put(now_ms() - 15 * 24 * 3600 * 1000, ["one", "two"])
    assert receipt.rejected == 2
    assert "older than 14 days" in receipt.why

    receipt = sink.put(now_ms() + 3 * 3600 * 1000, ["one"])
    assert receipt.rejected == 1
    assert "in the future" in receipt.why


@pytest.mark.parametrize(
    ("faults", "error"),
    [
        (Faults(throttle=1), Refused),
        (Faults(error=1), Unsure),
        (Faults(error_but_taken=1), Unsure),
        (Faults(hang_up=1), Unsure),
        (Faults(deny_writing=True), Denied),
    ],
)
def test_what_an_error_means(calm: LogsService, faults: Faults, error: type[Exception]) -> None:
    """Each failure says whether the batch may have been taken."""
    sink = sink_at(calm.url, stream="run/errors")
    sink.create()
    calm.set(faults)

    with pytest.raises(error):
        sink.put(NOW, ["one"])


def test_nobody_there() -> None:
    """Without a server the batch was certainly not taken."""
    with logs_service() as gone:
        url = gone.url

    with pytest.raises(Refused, match="no connection"):
        sink_at(url).put(NOW, ["one"])


def test_reading_denied(calm: LogsService) -> None:
    """Where the stream may not be read, that is said, with the permission that is missing."""
    sink = sink_at(calm.url)
    calm.set(Faults(deny_reading=True))

    with pytest.raises(Denied, match="logs:GetLogEvents"):
        sink.contains(NOW)


def test_a_kept_connection_that_went_away() -> None:
    """A server that was started anew is found again by the next try."""
    with logs_service() as first:
        sink = sink_at(first.url)
        sink.put(NOW, ["one"])
    with pytest.raises((Refused, Unsure)):
        sink.put(NOW, ["one"])


@dataclass
class _Keys:
    """Credentials that run out once."""

    asked: int = 0

    def __call__(self) -> Credentials:
        self.asked += 1
        return credentials()


def test_expired_credentials_are_renewed(service: LogsService) -> None:
    """Credentials that ran out are asked for again with the next try."""
    keys = _Keys()
    sink = CloudWatchSink(REGION, "/solorun/test", "run/keys", endpoint_url=service.url, credentials=keys)
    sink.put(NOW, ["one"])
    sink.put(NOW + 1, ["two"])
    assert keys.asked == 1

    error: Any = sink._error("PutLogEvents", 400, b'{"__type":"com.amazon.coral#ExpiredTokenException"}')
    assert isinstance(error, Refused)
    sink.put(NOW + 2, ["three"])
    assert keys.asked == 2


def test_no_credentials(service: LogsService) -> None:
    """Before the machine has credentials, the batch waits."""
    sink = CloudWatchSink(
        REGION, "/solorun/test", "run/none", endpoint_url=service.url, credentials=lambda: None
    )

    with pytest.raises(Refused, match="credentials"):
        sink.put(NOW, ["one"])


@pytest.mark.parametrize(
    ("region", "host"),
    [("eu-west-1", "logs.eu-west-1.amazonaws.com"), ("cn-north-1", "logs.cn-north-1.amazonaws.com.cn")],
)
def test_endpoints(region: str, host: str) -> None:
    """Without an endpoint of one's own it is the region's, as botocore knows it."""
    import botocore.session

    client = botocore.session.Session().create_client(
        "logs", region_name=region, aws_access_key_id="a", aws_secret_access_key="b"
    )
    sink = CloudWatchSink(region, "g", "s")

    assert sink._url == f"https://{host}/"
    assert client.meta.endpoint_url == f"https://{host}"
