"""A real S3 interface on this machine: moto's server on a free port, with a bucket of its own."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3

from agent.s3_clients import AccessKeys
from agent.store import Store, open_store
from launcher.localcloud.moto_server import MotoServer, moto_application

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

REGION = "eu-west-1"
KEYS = AccessKeys("AKIDEXAMPLE", "made-up-secret")


@dataclass(frozen=True)
class S3Server:
    """Where it listens, and an empty bucket in it."""

    url: str
    bucket: str
    client: S3Client
    """boto3's view of it: what another program would see."""

    def store(self, prefix: str = "runs/1", *, url: str | None = None) -> Store:
        """The store under test; `url` leads through a proxy."""
        return open_store(f"s3://{self.bucket}/{prefix}", REGION, endpoint_url=url or self.url, keys=KEYS)

    def body(self, key: str) -> bytes:
        """The object at the full key, as boto3 reads it."""
        return self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def keys(self, prefix: str = "") -> list[str]:
        """Full keys of all objects below `prefix`."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]


@contextlib.contextmanager
def s3_server() -> Iterator[S3Server]:
    """Run moto for the duration. Its objects are the process's: every server gets a bucket with a new name."""
    with MotoServer() as server:
        server.serve(moto_application())
        url = server.endpoint_url
        client = boto3.client(
            "s3",
            region_name=REGION,
            endpoint_url=url,
            aws_access_key_id=KEYS.access_key_id,
            aws_secret_access_key=KEYS.secret_access_key,
        )
        bucket = f"store-{uuid.uuid4().hex[:12]}"
        where: Any = {"LocationConstraint": REGION}
        client.create_bucket(Bucket=bucket, CreateBucketConfiguration=where)
        yield S3Server(url, bucket, client)
