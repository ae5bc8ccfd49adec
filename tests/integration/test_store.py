"""The store against a real S3 interface, a failing one, and the metadata service; its fake keeps the same promises."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from agent.clock import Deadline, SystemClock
from agent.errors import KeyMissing, StoreError
from agent.s3_clients import AccessKeys
from agent.store import PART_BYTES, OutOfTime, Store, open_store
from tests.fakes.flaky_proxy import Fault, FlakyProxy, Request, flaky_proxy
from tests.fakes.s3_server import REGION, S3Server
from tests.fakes.store import FakeBucket, FakeStore

MIB = 1024**2


@pytest.fixture
def s3(aws: S3Server) -> S3Server:
    return aws


@pytest.fixture
def flaky(s3: S3Server) -> Iterator[FlakyProxy]:
    with flaky_proxy(s3.url, fraction=0.0, seed=7) as proxy:
        yield proxy


@pytest.fixture(params=["s3", "fake"])
def store(request: pytest.FixtureRequest, s3: S3Server, tmp_path: Path) -> Store | FakeStore:
    root = f"runs/{tmp_path.name}"
    return s3.store(root) if request.param == "s3" else FakeStore(FakeBucket(), root)


# --- the contract, held by the fake as well -----------------------------------------------------------------


def test_put_then_get(store: Store) -> None:
    """What was put is what get returns, also after it was replaced and when it is empty."""
    store.put("status.json", b"one", "application/json")
    store.put("status.json", b"two")
    store.put("empty", b"")
    assert (store.get("status.json"), store.get("empty")) == (b"two", b"")


def test_missing_key(store: Store, tmp_path: Path) -> None:
    """Reading what is not there raises KeyMissing with the object's URI, and leaves no file behind."""
    with pytest.raises(KeyMissing, match=store.uri("stop.json")):
        store.get("stop.json")
    with pytest.raises(KeyMissing):
        store.download("stop.json", tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_put_once_is_won_once(store: Store) -> None:
    """The first put_once writes; later ones say False and change nothing, even with the same body."""
    assert store.put_once("claim.json", b"mine")
    assert not store.put_once("claim.json", b"theirs")
    assert not store.put_once("claim.json", b"mine")
    assert store.get("claim.json") == b"mine"


def test_put_once_among_threads(store: Store) -> None:
    """Of many writers at once exactly one wins, and the object is the winner's."""
    won: list[bytes] = []
    barrier = threading.Barrier(8)

    def claim(body: bytes) -> None:
        barrier.wait()
        if store.put_once("claim.json", body):
            won.append(body)

    threads = [threading.Thread(target=claim, args=(f"machine-{i}".encode(),)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [store.get("claim.json")]


def test_list_is_sorted_and_relative(store: Store) -> None:
    """A listing has the keys below the root in order, with sizes, and only those of the folder."""
    for key in ("cache/b", "cache/a/x", "cachet", "other"):
        store.put(key, key.encode())
    assert [(o.key, o.size) for o in store.list("cache/")] == [("cache/a/x", 9), ("cache/b", 7)]
    assert [o.key for o in store.list()] == ["cache/a/x", "cache/b", "cachet", "other"]
    assert store.list("nothing") == ()


def test_files_travel_both_ways(store: Store, tmp_path: Path) -> None:
    """Upload then download gives the same bytes: empty, small, and large enough for parts and ranges."""
    for size in (0, 1, 20 * MIB + 17):
        source, target = tmp_path / f"source-{size}", tmp_path / "deep" / f"target-{size}"
        source.write_bytes(os.urandom(size))
        store.upload(source, f"files/{size}", "application/octet-stream")
        store.download(f"files/{size}", target)
        assert target.read_bytes() == source.read_bytes()


def test_a_large_object_streams_in_order(store: Store) -> None:
    """The parts joined are the object, also where the last part is not full; a missing one is said so at once."""
    body = os.urandom(1000) * (2 * PART_BYTES // 1000 + 5)
    store.put("large", body)
    parts = list(store.stream("large"))
    assert len(parts) > 2
    assert b"".join(parts) == body
    store.put("empty", b"")
    assert b"".join(store.stream("empty")) == b""
    with pytest.raises(KeyMissing):
        next(store.stream("missing"))


def test_uploading_a_file_that_is_not_there(store: Store, tmp_path: Path) -> None:
    """A missing file is the caller's FileNotFoundError, not a missing object."""
    with pytest.raises(FileNotFoundError):
        store.upload(tmp_path / "nothing", "key")


# --- the real one --------------------------------------------------------------------------------------------


def test_content_type_and_checksum_reach_s3(s3: S3Server, flaky: FlakyProxy, tmp_path: Path) -> None:
    """Uploads say what they are, and carry a checksum that S3 verifies, in one piece and in parts."""
    store = s3.store("runs/types", url=flaky.url)
    (tmp_path / "small.html").write_bytes(b"<p>")
    (tmp_path / "large.bam").write_bytes(os.urandom(9 * MIB))
    store.upload(tmp_path / "small.html", "small.html", "text/html")
    store.upload(tmp_path / "large.bam", "large.bam", "application/vnd.bam")
    assert s3.client.head_object(Bucket=s3.bucket, Key="runs/types/small.html")["ContentType"] == "text/html"
    large = s3.client.head_object(Bucket=s3.bucket, Key="runs/types/large.bam")
    assert large["ContentType"] == "application/vnd.bam"
    sent = [{name.lower() for name in r.headers} for r in flaky.requests if r.method == "PUT"]
    assert len(sent) == 3
    assert all("x-amz-checksum-crc64nvme" in names for names in sent)


def test_a_third_of_the_calls_fail_and_nothing_is_lost(s3: S3Server, tmp_path: Path) -> None:
    """Refused, reset and lost answers, a third of them all: every object arrives whole, every read is right."""
    with flaky_proxy(s3.url, fraction=1 / 3, seed=42) as proxy:
        store = s3.store("runs/flaky", url=proxy.url)
        big = tmp_path / "big"
        big.write_bytes(os.urandom(40 * MIB))
        store.upload(big, "big")
        for i in range(30):
            store.put(f"small/{i:02d}", str(i).encode())
            assert store.put_once(f"once/{i:02d}", f"machine-{i}".encode())
        assert [store.get(f"small/{i:02d}") for i in range(30)] == [str(i).encode() for i in range(30)]
        assert len(store.list("once")) == 30
        store.download("big", tmp_path / "back")
        assert proxy.failed > 30
    assert (
        hashlib.sha256((tmp_path / "back").read_bytes()).digest() == hashlib.sha256(big.read_bytes()).digest()
    )


@pytest.mark.parametrize("fault", [Fault.LOST_RESET, Fault.LOST_503])
def test_put_once_whose_answer_was_lost_is_ours(s3: S3Server, flaky: FlakyProxy, fault: Fault) -> None:
    """A write that succeeded without telling is recognised by its body: it is won, not lost."""
    store = s3.store(f"runs/lost-{fault.name}", url=flaky.url)
    flaky.script = [fault]
    assert store.put_once("claim.json", b"ours")


def test_put_once_lost_to_another_after_a_failure(s3: S3Server, flaky: FlakyProxy) -> None:
    """An attempt that failed before another machine wrote does not make its object ours."""
    store = s3.store("runs/lost-race", url=flaky.url)
    s3.store("runs/lost-race").put("claim.json", b"theirs")
    flaky.script = [Fault.RESET, Fault.REFUSED]
    assert not store.put_once("claim.json", b"ours")


def test_completed_upload_whose_answer_was_lost(s3: S3Server, flaky: FlakyProxy, tmp_path: Path) -> None:
    """A multipart upload whose completion is not answered is made again rather than given up."""
    path = tmp_path / "big"
    path.write_bytes(os.urandom(9 * MIB))
    store = s3.store("runs/completion", url=flaky.url)
    flaky.script = [None, None, None, Fault.LOST_RESET]
    store.upload(path, "big")
    assert s3.body("runs/completion/big") == path.read_bytes()


@pytest.mark.timeout(50, func_only=True)  # without the deadlines it takes the store's patience
def test_s3_that_is_down_is_given_up_at_the_deadline(s3: S3Server, tmp_path: Path) -> None:
    """With S3 gone for good, both ways end at the deadline with an error that says so."""
    with flaky_proxy(s3.url, fraction=1.0, faults=(Fault.REFUSED,)) as proxy:
        store = s3.store("runs/down", url=proxy.url)
        clock = SystemClock()
        with pytest.raises(StoreError, match="503 SlowDown"):
            store.put("status.json", b"x", deadline=Deadline.after(0.5, clock))
        (tmp_path / "file").write_bytes(b"x")
        with pytest.raises(OutOfTime, match="the time was over"):
            store.upload(tmp_path / "file", "file", deadline=Deadline.after(0.5, clock))


def test_missing_bucket_and_refused_connection(s3: S3Server) -> None:
    """A missing bucket and a host that nobody listens on are told apart, each with a next step."""
    store = open_store("s3://no-such-bucket/x", REGION, endpoint_url=s3.url, keys=AccessKeys("a", "b"))
    with pytest.raises(StoreError, match="the bucket does not exist"):
        store.put("key", b"")
    with pytest.raises(StoreError, match="the bucket does not exist"):
        store.put_once("key", b"")
    nobody = open_store("s3://bucket/x", REGION, endpoint_url="http://127.0.0.1:9", keys=AccessKeys("a", "b"))
    with pytest.raises(StoreError, match="could not be reached"):
        nobody.get("key", deadline=Deadline.after(0.3, SystemClock()))


def test_copy_within_the_bucket(s3: S3Server) -> None:
    """An object is copied between the prefixes of two runs, without being read here."""
    first, second = s3.store("runs/first"), s3.store("runs/second")
    first.put("cache/a", b"body")
    asyncio.run(second.copy(first, "cache/a", "cache/b"))
    assert second.get("cache/b") == b"body"


def test_environment_does_not_leak_in(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Endpoint and keys are those that were given, whatever AWS_… variables are set."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "foreign")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "foreign")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "foreign")
    with flaky_proxy(s3.url) as proxy:
        s3.store("runs/env", url=proxy.url).put("key", b"x")
        (request,) = proxy.requests
    assert "Credential=AKIDEXAMPLE/" in request.headers["authorization"]
    assert "x-amz-security-token" not in request.headers


def test_half_a_credential_is_refused(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """An access key without its secret is a clear error at once."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "alone")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY", raising=False)
    with pytest.raises(StoreError, match="go together"):
        open_store("s3://bucket/x", REGION, endpoint_url=s3.url)


class _MetadataServer(ThreadingHTTPServer):
    issued = 0
    lifetime_s = 3600


class _Metadata(BaseHTTPRequestHandler):
    """IMDSv2 for one role; every set of credentials is new and is about to expire."""

    server: _MetadataServer

    def log_message(self, format: str, *args: object) -> None: ...

    def _answer(self, body: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def do_PUT(self) -> None:
        has_ttl = self.path == "/latest/api/token" and self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
        self._answer("the-token" if has_ttl else "", 200 if has_ttl else 400)

    def do_GET(self) -> None:
        if self.headers["X-aws-ec2-metadata-token"] != "the-token":
            self._answer("", 401)
        elif self.path == "/latest/meta-data/iam/security-credentials/":
            self._answer("the-role")
        else:
            self.server.issued += 1
            ends = datetime.now(UTC) + timedelta(seconds=self.server.lifetime_s)
            self._answer(
                json.dumps(
                    {
                        "Code": "Success",
                        "Type": "AWS-HMAC",
                        "AccessKeyId": f"ASIA{self.server.issued}",
                        "SecretAccessKey": "secret",
                        "Token": f"session-{self.server.issued}",
                        "Expiration": f"{ends:%Y-%m-%dT%H:%M:%SZ}",
                        "LastUpdated": f"{ends:%Y-%m-%dT%H:%M:%SZ}",
                    }
                )
            )


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> Iterator[_MetadataServer]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    server = _MetadataServer(("127.0.0.1", 0), _Metadata)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def _metadata_store(s3: S3Server, proxy: FlakyProxy, metadata: _MetadataServer) -> Store:
    return open_store(
        f"s3://{s3.bucket}/runs/imds",
        REGION,
        endpoint_url=proxy.url,
        metadata_endpoint=f"http://127.0.0.1:{metadata.server_port}",
    )


def test_credentials_come_from_the_metadata_service(s3: S3Server, metadata: _MetadataServer) -> None:
    """IMDSv2 at any address gives keys and session token, which are kept while they last."""
    with flaky_proxy(s3.url) as proxy:
        store = _metadata_store(s3, proxy, metadata)
        for i in range(3):
            store.put(f"key-{i}", b"x")
        seen = {(r.headers["x-amz-security-token"], _access_key(r)) for r in proxy.requests}
    assert seen == {("session-1", "ASIA1")}


def test_credentials_are_renewed_before_they_expire(s3: S3Server, metadata: _MetadataServer) -> None:
    """Credentials with less than five minutes left are replaced by new ones, again and again."""
    metadata.lifetime_s = 60
    deadline = Deadline.after(20, SystemClock())
    with flaky_proxy(s3.url) as proxy:
        store = _metadata_store(s3, proxy, metadata)
        tokens: list[str] = []
        while "session-3" not in tokens:
            assert not deadline.passed, tokens
            store.put("key", b"x")
            tokens.append(proxy.requests[-1].headers["x-amz-security-token"])
            assert _access_key(proxy.requests[-1]) == tokens[-1].replace("session-", "ASIA")


def _access_key(request: Request) -> str:
    return request.headers["authorization"].split("Credential=")[1].split("/")[0]


def test_metadata_service_is_plain_http_even_where_s3_is_not(metadata: _MetadataServer) -> None:
    """With an HTTPS endpoint the metadata service is still asked over HTTP, as on EC2."""
    store = open_store(
        "s3://bucket/x",
        REGION,
        endpoint_url="https://127.0.0.1:9",
        metadata_endpoint=f"http://127.0.0.1:{metadata.server_port}",
    )
    with pytest.raises(StoreError, match="could not be reached"):
        store.get("key", deadline=Deadline.after(0.3, SystemClock()))
    assert metadata.issued >= 1
