"""Files to and from S3, where boto3 wraps what went wrong."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from botocore.response import StreamingBody
from botocore.stub import Stubber

from launcher.aws import Aws, Endpoint
from launcher.compute_envs import ComputeEnv
from launcher.errors import AccessDenied, Unreachable
from launcher.store import Store


@pytest.fixture
def store() -> Store:
    """A store with boto3's own client; a Stubber answers it."""
    ce = ComputeEnv(name="a", region="eu-central-1", work_dir="s3://bucket/work")
    return Store(Aws(ce, Endpoint("http://127.0.0.1:9", "a", "b")), "bucket")


def test_a_refused_upload_is_said_like_any_refusal(store: Store, tmp_path: Path) -> None:
    """A file that may not be written names the right that is missing, and the key."""
    path = tmp_path / "agent.tar.gz"
    path.write_bytes(b"x")
    with Stubber(store.aws.s3) as stubber:
        stubber.add_client_error("put_object", "AccessDenied", http_status_code=403)
        with pytest.raises(AccessDenied, match=r"s3:PutObject on s3://bucket/programs/a"):
            store.upload(path, "programs/a", content_type="application/gzip", progress=lambda _count: None)


def test_a_download_that_breaks_off_again_and_again_is_no_answer(store: Store, tmp_path: Path) -> None:
    """What is cut off at every attempt ends as a network's fault, and leaves no half a file."""

    class Cut(io.BytesIO):
        def read(self, *_: Any) -> bytes:
            raise ConnectionResetError("reset")

    with Stubber(store.aws.s3) as stubber:
        stubber.add_response("head_object", {"ContentLength": 5})
        for _ in range(5):
            stubber.add_response("get_object", {"Body": StreamingBody(Cut(), 5)})
        with pytest.raises(Unreachable, match=r"No answer.*reset"):
            store.download("results/a", tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
