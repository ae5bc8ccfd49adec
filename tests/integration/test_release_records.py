"""The records of releases in S3: there for the next attempt, whatever became of this one."""

from __future__ import annotations

import os
import time
from pathlib import Path

import boto3
import pytest

from launcher.errors import NotThere, UserError
from packer.follow.records import Records
from packer.release.aws import Aws
from tests.fakes.s3_server import KEYS, REGION, S3Server

RELEASE = "2023.13.20261015-1"


@pytest.fixture(scope="module")
def clients(aws: S3Server) -> Aws:
    session = boto3.Session(
        aws_access_key_id=KEYS.access_key_id, aws_secret_access_key=KEYS.secret_access_key
    )
    return Aws(session, endpoint_url=aws.url)


@pytest.fixture
def uri(aws: S3Server, tmp_path: Path) -> str:
    """A place of its own in the bucket."""
    return f"s3://{aws.bucket}/{tmp_path.name}"


def records(clients: Aws, uri: str, period_s: float = 3600) -> Records:
    return Records(clients, REGION, uri, period_s=period_s)


def silent(text: str) -> None:
    raise AssertionError(text)


def leave(clients: Aws, uri: str, folder: Path, **files: str) -> None:
    """An attempt that writes these files."""
    with records(clients, uri).kept(RELEASE, folder, silent):
        for name, text in files.items():
            (folder / name).write_text(text)


def age(path: Path, seconds: float) -> None:
    """Make a file older, or newer than anything where it is negative."""
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_what_was_written_is_there_elsewhere(clients: Aws, uri: str, tmp_path: Path, aws: S3Server) -> None:
    """A release's files come back in another folder; what is half written, or made anew each time, is not sent."""
    first, second = tmp_path / "first", tmp_path / "second"
    (first / "wheel").mkdir(parents=True)
    (first / "wheel" / "solorun.whl").write_text("x")
    (first / ".release-1").write_text("x")
    leave(clients, uri, first, record="1", packages="bash")
    with records(clients, uri).kept(RELEASE, second, silent):
        assert {path.name: path.read_text() for path in second.iterdir()} == {
            "record": "1",
            "packages": "bash",
        }
    assert len(aws.keys(f"{tmp_path.name}/")) == 2


def wait_for(aws: S3Server, key: str, text: str) -> None:
    """Until an object has this text."""
    deadline = time.monotonic() + 30
    while not (aws.keys(key) and aws.body(key).decode() == text):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_file_is_sent_while_it_is_worked_on(clients: Aws, uri: str, tmp_path: Path, aws: S3Server) -> None:
    """What is written is in S3 soon, also what is written over; nobody must come to an end for it."""
    key, path = f"{tmp_path.name}/{RELEASE}/record", tmp_path / "record"
    with records(clients, uri, 0.02).kept(RELEASE, tmp_path, silent):
        for text in ("1", "2"):
            path.write_text(text)
            wait_for(aws, key, text)


def test_a_file_is_sent_when_it_is_whole(
    clients: Aws, uri: str, tmp_path: Path, aws: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written while it is read, in the same tick of the disk's clock, is sent all the same."""
    key, path = f"{tmp_path.name}/{RELEASE}/record", tmp_path / "record"
    read = Path.read_bytes

    def read_too_early(self: Path) -> bytes:
        body = read(self)
        if self == path and body == b"":
            time_of = path.stat().st_mtime_ns
            path.write_text("whole")
            os.utime(path, ns=(time_of, time_of))
        return body

    monkeypatch.setattr(Path, "read_bytes", read_too_early)
    with records(clients, uri, 0.02).kept(RELEASE, tmp_path, silent):
        path.write_text("")
        wait_for(aws, key, "whole")


def test_the_newer_file_stays(clients: Aws, uri: str, tmp_path: Path) -> None:
    """A file that is newer here is not written over, one that is newer in S3 is fetched."""
    leave(clients, uri, tmp_path / "there", older="there", newer="there")
    here = tmp_path / "here"
    here.mkdir()
    for name, seconds in (("older", 60), ("newer", -60)):
        (here / name).write_text("here")
        age(here / name, seconds)
    with records(clients, uri).kept(RELEASE, here, silent):
        assert [(here / name).read_text() for name in ("older", "newer")] == ["there", "here"]


def test_what_was_fetched_is_not_sent_again(clients: Aws, uri: str, tmp_path: Path, aws: S3Server) -> None:
    """An attempt that does nothing changes nothing in S3, which would keep a version of it."""
    leave(clients, uri, tmp_path / "first", record="1")
    key = f"{tmp_path.name}/{RELEASE}/record"
    aws.client.put_object(Bucket=aws.bucket, Key=key, Body=b"1", Metadata={"sent": "once"})
    leave(clients, uri, tmp_path / "second")
    assert aws.client.head_object(Bucket=aws.bucket, Key=key)["Metadata"] == {"sent": "once"}


def fail(folder: Path, clients: Aws, bucket: str) -> None:
    """What fails after S3 did."""
    (folder / "record").write_text("1")
    clients.client("s3", REGION).delete_bucket(Bucket=bucket)
    raise RuntimeError


def test_the_release_tells_its_own_failure(clients: Aws, tmp_path: Path) -> None:
    """What failed is raised, that its records could not be sent is said beside it; alone it is raised."""
    bucket = clients.client("s3", REGION)
    name = f"records-{time.time_ns()}"
    bucket.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    said: list[str] = []
    with pytest.raises(RuntimeError), records(clients, f"s3://{name}").kept(RELEASE, tmp_path, said.append):
        fail(tmp_path, clients, name)
    assert [text.startswith("Not in S3 yet") for text in said] == [True]
    bucket.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    with pytest.raises(NotThere), records(clients, f"s3://{name}").kept(RELEASE, tmp_path, said.append):
        bucket.delete_bucket(Bucket=name)


@pytest.mark.parametrize("uri", ["", "bucket", "s3://", "s3://UPPER/x", "https://bucket/x"])
def test_another_place_is_refused(clients: Aws, uri: str) -> None:
    """Records are kept in S3 only."""
    with pytest.raises(UserError, match="s3://BUCKET/PREFIX"):
        Records(clients, REGION, uri)
