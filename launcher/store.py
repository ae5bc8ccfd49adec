"""One S3 bucket, as far as the launcher needs it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import tenacity

from launcher.aws import Aws
from launcher.aws_errors import translated
from launcher.errors import AccessDenied, NotThere, UserError

if TYPE_CHECKING:
    from collections.abc import Callable

_DELETE_BATCH: Final = 1000
"""What one DeleteObjects takes."""


@dataclass(frozen=True)
class StoredObject:
    """An object in a listing."""

    key: str
    size: int
    """Bytes."""
    etag: str
    """Without quotes; the MD5 of the content where it was uploaded in one part."""
    modified: datetime


class Store:
    """Reads and writes objects of one bucket. Raises the launcher's errors only."""

    def __init__(self, aws: Aws, bucket: str) -> None:
        self.aws = aws
        self.bucket = bucket

    def check_bucket(self) -> None:
        """Ask whether the bucket exists, may be used, and is in the compute environment's region.

        Raises:
            UserError: it is not so; which of the three is said.
        """
        region = self.aws.ce.region
        found = self._bucket_region()
        if found is not None and found != region:
            raise UserError(
                f"The bucket {self.bucket} is in {found}, but the compute environment {self.aws.ce.name} "
                f"is in {region}",
                hint=f"Use a work dir in a bucket of {region}, or a compute environment of {found}",
            )

    def put(self, key: str, body: bytes, *, content_type: str, once: bool = False) -> None:
        """Write an object.

        Raises:
            AlreadyThere: `once`, and the key exists.
        """
        condition: dict[str, Any] = {"IfNoneMatch": "*"} if once else {}
        with self._translated(key):
            _retry_conflicts(
                lambda: self.aws.s3.put_object(
                    Bucket=self.bucket, Key=key, Body=body, ContentType=content_type, **condition
                )
            )

    def copy(self, source: str, key: str) -> None:
        """Copy an object within the bucket, without fetching it.

        Raises:
            NotThere: the source does not exist.
        """
        with self._translated(source):
            self.aws.s3.copy_object(
                Bucket=self.bucket, Key=key, CopySource={"Bucket": self.bucket, "Key": source}
            )

    def get(self, key: str) -> bytes:
        """Read an object whole.

        Raises:
            NotThere: it does not exist.
        """
        with self._translated(key):
            return self.aws.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def find(self, key: str) -> bytes | None:
        """Read an object whole; None where it does not exist."""
        try:
            return self.get(key)
        except NotThere:
            return None

    def chunks(self, key: str, size: int = 1 << 20) -> Iterator[bytes]:
        """Read an object piece by piece.

        Raises:
            NotThere: it does not exist.
        """
        with self._translated(key):
            yield from self.aws.s3.get_object(Bucket=self.bucket, Key=key)["Body"].iter_chunks(size)

    def objects(self, prefix: str, *, page_size: int = 1000) -> Iterator[StoredObject]:
        """Objects under a key prefix in the order of their keys; one call a page, made when it is needed."""
        token: dict[str, Any] = {}
        while True:
            with self._translated(prefix):
                page = self.aws.s3.list_objects_v2(
                    Bucket=self.bucket, Prefix=prefix, MaxKeys=page_size, **token
                )
            for item in page.get("Contents", []):
                yield StoredObject(item["Key"], item["Size"], item["ETag"].strip('"'), item["LastModified"])
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def folders(self, prefix: str, *, most: int) -> list[str]:
        """The folder names right under the keys that start with `prefix`; at most `most`, in one call."""
        with self._translated(prefix):
            page = self.aws.s3.list_objects_v2(Bucket=self.bucket, Prefix=prefix, Delimiter="/", MaxKeys=most)
        return [item["Prefix"].rstrip("/").rsplit("/", 1)[-1] for item in page.get("CommonPrefixes", [])]

    def delete(self, keys: Iterable[str]) -> int:
        """Remove objects; those that are gone already count as removed. Returns how many were named."""
        count = 0
        batch: list[str] = []
        for key in keys:
            batch.append(key)
            if len(batch) == _DELETE_BATCH:
                count += self._delete_batch(batch)
                batch = []
        return count + self._delete_batch(batch)

    def download(self, key: str, path: Path) -> None:
        """Fetch an object to a file, in concurrent ranges where it is large.

        Raises:
            NotThere: it does not exist.
        """
        from boto3.s3.transfer import TransferConfig

        with self._translated(key), _as_botocore_says():
            self.aws.s3.download_file(
                self.bucket, key, str(path), Config=TransferConfig(max_concurrency=4, use_threads=True)
            )

    def size(self, key: str) -> int | None:
        """The size of an object in bytes; None where it does not exist."""
        try:
            with self._translated(key):
                return self.aws.s3.head_object(Bucket=self.bucket, Key=key)["ContentLength"]
        except NotThere:
            return None

    def upload(self, path: Path, key: str, *, content_type: str, progress: Callable[[int], None]) -> None:
        """Send a file, large ones in concurrent parts; S3 holds each to a checksum. All of it is there, or nothing."""
        from boto3.s3.transfer import TransferConfig

        with self._translated(key), _as_botocore_says():
            self.aws.s3.upload_file(
                str(path),
                self.bucket,
                key,
                ExtraArgs={"ContentType": content_type},
                Callback=progress,
                Config=TransferConfig(max_concurrency=4, use_threads=True),
            )

    def link(self, key: str, *, seconds: int, write: bool = False) -> str:
        """A URL by which anybody may read an object, or write it, for a time; not longer than the credentials last."""
        with self._translated(key):
            return self.aws.s3_links.generate_presigned_url(
                "put_object" if write else "get_object",
                Params={"Bucket": self.bucket, "Key": key},
                ExpiresIn=seconds,
            )

    def uri(self, key: str) -> str:
        """The S3 URI of a key."""
        return f"s3://{self.bucket}/{key}"

    def _delete_batch(self, keys: list[str]) -> int:
        if not keys:
            return 0
        with self._translated(keys[0]):
            answer = self.aws.s3.delete_objects(
                Bucket=self.bucket, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True}
            )
        errors = answer.get("Errors", [])
        if errors:
            raise AccessDenied(
                f"{len(errors)} of {len(keys)} objects under s3://{self.bucket} were not deleted",
                hint="The policy of the identity that you use must allow s3:DeleteObject on them",
                problems=tuple(f"{item.get('Key')}: {item.get('Message')}" for item in errors[:10]),
            )
        return len(keys)

    def _bucket_region(self) -> str | None:
        """None where S3 does not say."""
        from botocore.exceptions import ClientError

        with self._translated(""):
            try:
                answer = self.aws.s3.head_bucket(Bucket=self.bucket)
            except ClientError as error:
                headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
                # also told to those who may not enter; the other region is then the likelier mistake
                region = headers.get("x-amz-bucket-region")
                if region and region != self.aws.ce.region:
                    return str(region)
                raise
            region = answer.get("BucketRegion")
            if region:
                return region
            try:
                # an empty constraint is S3's name for us-east-1, EU for eu-west-1
                where = self.aws.s3.get_bucket_location(Bucket=self.bucket).get("LocationConstraint")
            except ClientError:
                # an optional permission
                return None
            return {None: "us-east-1", "EU": "eu-west-1"}.get(where, where)

    def _translated(self, key: str) -> Any:
        return translated("s3", self.uri(key), endpoint=self.aws.endpoint)


@contextmanager
def _as_botocore_says() -> Iterator[None]:
    """boto3's transfers wrap what went wrong in errors that are not botocore's; this unwraps them."""
    from boto3.exceptions import RetriesExceededError, S3UploadFailedError
    from botocore.exceptions import ClientError, HTTPClientError

    try:
        yield
    except S3UploadFailedError as error:
        if isinstance(error.__context__, ClientError):
            raise error.__context__ from None
        raise
    except RetriesExceededError as error:
        raise HTTPClientError(error=error.last_exception) from error  # type: ignore[attr-defined] # not in the stubs


def _retry_conflicts(call: Callable[[], object]) -> None:
    """Two conditional writes at the same moment: S3 answers 409 to one, which may then try again."""
    from botocore.exceptions import ClientError

    def conflict(error: BaseException) -> bool:
        return (
            isinstance(error, ClientError)
            and error.response.get("Error", {}).get("Code") == "ConditionalRequestConflict"
        )

    tenacity.Retrying(
        retry=tenacity.retry_if_exception(conflict),
        stop=tenacity.stop_after_attempt(4),
        wait=tenacity.wait_random(0.05, 0.3),
        reraise=True,
    )(call)
