"""Folders to a real S3 interface: through failures, through a SIGKILL, within memory."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.artifacts import upload_tree
from agent.clock import Deadline, SystemClock
from agent.store import open_store
from tests.fakes.flaky_proxy import Fault, flaky_proxy
from tests.fakes.s3_server import KEYS, REGION, S3Server

MIB = 1024**2


@pytest.fixture
def s3(aws: S3Server) -> S3Server:
    return aws


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    folder.mkdir()
    return folder


def soon() -> Deadline:
    return Deadline.after(60, SystemClock())


def test_a_third_of_the_calls_fail_and_every_file_arrives(s3: S3Server, results: Path) -> None:
    """Small files and a large one, a third of all calls failing in every way: all bytes arrive, none is torn."""
    for i in range(80):
        (results / f"{i:02d}.tsv").write_bytes(os.urandom(1000 + i))
    (results / "large.bam").write_bytes(os.urandom(33 * MIB))
    with flaky_proxy(s3.url, fraction=1 / 3, seed=3) as proxy:
        report = upload_tree(s3.store("runs/flaky", url=proxy.url), results, "artifacts/", deadline=soon())
        assert proxy.failed > 20
    assert (report.files, report.not_uploaded) == (81, ())
    for path in results.iterdir():
        assert s3.body(f"runs/flaky/artifacts/{path.name}") == path.read_bytes()
    table = s3.client.head_object(Bucket=s3.bucket, Key="runs/flaky/artifacts/00.tsv")
    assert table["ContentType"] == "text/tab-separated-values; charset=utf-8"


def test_manifest_is_accepted_by_sha256sum(s3: S3Server, results: Path) -> None:
    """A person who downloads artifacts and manifest can check them with sha256sum."""
    for name in ("a b", "back\\slash", "sub/ünï"):
        (results / name).parent.mkdir(exist_ok=True)
        (results / name).write_bytes(name.encode())
    upload_tree(s3.store("runs/sums"), results, "artifacts/", deadline=soon(), manifest="sums")
    manifest = s3.body("runs/sums/sums")
    subprocess.run(["sha256sum", "--check", "--strict", "-"], cwd=results, input=manifest, check=True)


_UPLOAD = """
import sys
from pathlib import Path
from agent.artifacts import upload_tree
from agent.clock import Deadline, SystemClock
from agent.s3_clients import AccessKeys
from agent.store import open_store

prefix, region, url, key, secret, folder, journal = sys.argv[1:]
store = open_store(prefix, region, endpoint_url=url, keys=AccessKeys(key, secret))
deadline = Deadline.after(60, SystemClock())
tell = lambda progress: print(progress.files, flush=True)
upload_tree(store, Path(folder), "artifacts/", deadline=deadline, journal=Path(journal), on_progress=tell)
"""


def test_sigkill_in_the_middle_then_the_rest(s3: S3Server, results: Path, tmp_path: Path) -> None:
    """An agent killed while it uploads goes on with the rest: no finished file is sent again, none is missing."""
    count, killed_after = 400, 60
    for i in range(count):
        (results / f"{i:03d}").write_bytes(str(i).encode())
    journal = tmp_path / "state" / "uploads.jsonl"
    with flaky_proxy(s3.url, delay_s=0.05) as proxy:
        arguments = [f"s3://{s3.bucket}/runs/killed", REGION, proxy.url, KEYS.access_key_id]
        arguments += [KEYS.secret_access_key, str(results), str(journal)]
        with subprocess.Popen(
            [sys.executable, "-c", _UPLOAD, *arguments], stdout=subprocess.PIPE, text=True
        ) as agent:
            assert agent.stdout is not None
            for line in agent.stdout:
                if int(line) >= killed_after:
                    agent.kill()
                    break
        assert agent.returncode == -9
        finished = journal.read_bytes().count(b"\n")
        assert killed_after <= finished < count
    # Another one: what the killed agent had sent may still be on its way to the first.
    with flaky_proxy(s3.url) as proxy:
        store = s3.store("runs/killed", url=proxy.url)
        report = upload_tree(store, results, "artifacts/", deadline=soon(), journal=journal)
        sent = [request.path for request in proxy.requests if request.method == "PUT"]
    assert (report.files, report.not_uploaded) == (count, ())
    assert len(sent) == count - finished
    assert len(s3.keys("runs/killed/artifacts/")) == count


@pytest.mark.timeout(60, func_only=True)  # without the deadline it takes the store's patience
def test_s3_that_hangs_up_for_good_ends_at_the_deadline(s3: S3Server, results: Path) -> None:
    """With S3 unreachable the upload ends at the deadline and lists every file."""
    for i in range(50):
        (results / f"{i:02d}").write_bytes(b"x")
    with flaky_proxy(s3.url, fraction=1.0, faults=(Fault.RESET,)) as proxy:
        store = s3.store("runs/gone", url=proxy.url)
        report = upload_tree(store, results, "artifacts/", deadline=Deadline.after(2, SystemClock()))
    assert (report.files, len(report.not_uploaded)) == (0, 50)


def test_a_missing_bucket_is_asked_once(s3: S3Server, results: Path) -> None:
    """A bucket that is not there costs one request's time, and every file is listed with the cause."""
    for i in range(200):
        (results / f"{i:03d}").write_bytes(b"x")
    store = open_store("s3://no-such-bucket/x", REGION, endpoint_url=s3.url, keys=KEYS)
    report = upload_tree(store, results, "artifacts/", deadline=soon())
    assert len(report.not_uploaded) == 200
    assert all("the bucket does not exist" in line for line in report.not_uploaded)


# Not getrusage: a child's ru_maxrss starts with what its parent had.
_MEASURED = (
    _UPLOAD
    + """
import os, re
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024, flush=True)
os._exit(0)
"""
)


def test_memory_stays_bounded(s3: S3Server, results: Path, tmp_path: Path) -> None:
    """Many files of 7 MB and some large ones at once stay within 200 MB of memory."""
    body = os.urandom(7 * MIB)
    for i in range(30):
        (results / f"mid-{i}").write_bytes(body)
    for i in range(2):
        (results / f"large-{i}").write_bytes(body * 10)
    arguments = [f"s3://{s3.bucket}/runs/memory", REGION, s3.url, KEYS.access_key_id]
    arguments += [KEYS.secret_access_key, str(results), str(tmp_path / "journal")]
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, *arguments], check=True, capture_output=True, text=True
    )
    assert int(done.stdout.split()[-1]) <= 200
    assert hashlib.sha256(s3.body("runs/memory/artifacts/large-1")).digest() == (
        hashlib.sha256(body * 10).digest()
    )
    for key in s3.keys("runs/memory/"):
        s3.client.delete_object(Bucket=s3.bucket, Key=key)
