"""A container image from the work dir's bucket: whole and as named, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256

import pytest

from agent.contract import StopReason, program_key
from agent.errors import ImageUnavailable, StoreError
from agent.image_archive import bucket_of, load_archive
from tests.fakes.containers import FakeContainers
from tests.fakes.store import FakeBucket, FakeStore

WORK_DIR = "s3://bucket/some/work"
IMAGE = "solorun/nextflow:24.10.0"
BODY = IMAGE.encode()


def bucket_with(body: bytes | None, name: str) -> FakeStore:
    """The bucket with an archive under a checksum's name."""
    store = FakeStore(FakeBucket(), "")
    if body is not None:
        store.put(program_key(WORK_DIR, name), body)
    return store


def test_an_archive_as_named_is_loaded() -> None:
    """Found below the work dir by its checksum, and given to Docker whole."""
    name = sha256(BODY).hexdigest()
    containers = FakeContainers()
    load_archive(bucket_with(BODY, name), containers, WORK_DIR, IMAGE, name)
    assert containers.images == {IMAGE}
    assert bucket_of(WORK_DIR) == "s3://bucket"


@pytest.mark.parametrize(
    ("body", "said"),
    [(BODY + b"!", "has the checksum"), (b"", "has the checksum"), (None, "no such object")],
)
def test_what_is_not_as_named_never_becomes_an_image(body: bytes | None, said: str) -> None:
    """An altered archive, or none: the run ends as image_unavailable, with the cause and what to do."""
    containers = FakeContainers()
    name = sha256(BODY).hexdigest()
    with pytest.raises(ImageUnavailable, match=said) as caught:
        load_archive(bucket_with(body, name), containers, WORK_DIR, IMAGE, name)
    assert containers.images == set()
    assert caught.value.reason is StopReason.IMAGE_UNAVAILABLE
    assert "make bundle" in str(caught.value)


@pytest.mark.parametrize(
    "words",
    [
        "cannot read s3://bucket/x: access denied. The instance role, or whose credentials are used, needs "
        "s3:GetObject on arn:aws:s3:::bucket/x (or the object is missing and s3:ListBucket on arn:aws:s3:::bucket, "
        "which would tell so, too); look for a Deny in the bucket policy as well",
        "cannot read s3://bucket/x: the time was over",
    ],
)
def test_an_archive_that_cannot_be_read_is_not_to_be_built_anew(words: str) -> None:
    """S3's own words and next step are told whole: a new archive would be refused like the old one."""
    name = sha256(BODY).hexdigest()
    bucket = bucket_with(BODY, name)
    bucket.state.failures.append(StoreError(words))
    with pytest.raises(ImageUnavailable) as caught:
        load_archive(bucket, FakeContainers(), WORK_DIR, IMAGE, name)
    assert words in str(caught.value)
    assert "make bundle" not in str(caught.value)


def test_docker_sees_no_whole_archive_before_the_checksum_is_right() -> None:
    """The last part is held back: of an altered archive Docker gets a beginning only."""
    seen: list[bytes] = []

    class Bucket:
        def stream(self, key: str) -> Iterator[bytes]:
            assert key == program_key(WORK_DIR, name)
            yield from (b"one ", b"two ", b"three")

    class Docker:
        def load_image(self, image: str, archive: Iterator[bytes]) -> None:
            assert image == IMAGE
            seen.extend(archive)

    name = sha256(b"one two other").hexdigest()
    with pytest.raises(ImageUnavailable):
        load_archive(Bucket(), Docker(), WORK_DIR, IMAGE, name)
    assert seen == [b"one ", b"two "]
    name = sha256(b"one two three").hexdigest()
    load_archive(Bucket(), Docker(), WORK_DIR, IMAGE, name)
    assert seen[2:] == [b"one ", b"two ", b"three"]
