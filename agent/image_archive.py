"""A container image that no registry has: an archive in the work dir's bucket, kept there by checksum."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from typing import Protocol

from agent.container_errors import fetch_failed, load_failed
from agent.contract import program_key, split_s3_uri
from agent.errors import ImageUnavailable, KeyMissing, StoreError

log = logging.getLogger(__name__)


class Loader(Protocol):
    """The part of the Docker daemon that is needed here."""

    def load_image(self, image: str, archive: Iterator[bytes]) -> None:
        """Have the image from an archive; what the iterator raises ends it."""


class ArchiveStore(Protocol):
    """The part of the object store that is needed here."""

    def stream(self, key: str) -> Iterator[bytes]:
        """One object, piece by piece."""


def bucket_of(work_dir: str) -> str:
    """The S3 URI of the bucket, where keys of archives begin."""
    return f"s3://{split_s3_uri(work_dir)[0]}"


def load_archive(bucket: ArchiveStore, loader: Loader, work_dir: str, image: str, sha256: str) -> None:
    """Have `image` from its archive in the bucket of `work_dir`; not a byte of it touches the disk but Docker's.

    Raises:
        ImageUnavailable: the archive is not there, is not what the run spec names, cannot be read, or cannot be
            loaded.
        DockerError: the daemon does not answer.
    """
    key = program_key(work_dir, sha256)
    log.info("loading image %s from %s/%s", image, bucket_of(work_dir), key)
    try:
        loader.load_image(image, _verified(bucket.stream(key), image, sha256))
    except KeyMissing as error:
        raise ImageUnavailable(load_failed(image, str(error))) from error
    except StoreError as error:
        raise ImageUnavailable(fetch_failed(image, str(error))) from error


def _verified(chunks: Iterator[bytes], image: str, sha256: str) -> Iterator[bytes]:
    """The chunks; the last one is held back until the checksum of all is right, so Docker never sees a whole archive
    that is not the one named.

    Raises:
        ImageUnavailable: the checksum is another one.
    """
    digest = hashlib.sha256()
    held: bytes | None = None
    for chunk in chunks:
        if held is not None:
            yield held
        digest.update(chunk)
        held = chunk
    if digest.hexdigest() != sha256:
        raise ImageUnavailable(
            load_failed(
                image, f"its archive has the checksum {digest.hexdigest()}, the run spec names {sha256}"
            )
        )
    if held is not None:
        yield held
