"""Which files count as fetched already."""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest

from launcher.downloading import RemoteFile, download
from launcher.errors import UserError
from launcher.store import Store, StoredObject

BODY = b"results"
MODIFIED = datetime(2026, 4, 1, 12, tzinfo=UTC)
MD5 = hashlib.md5(BODY, usedforsecurity=False).hexdigest()
KMS = "0" * 32
"""The ETag of an object that S3 encrypts with a KMS key looks like an MD5, and is another one."""


class OneObject:
    """In the place of Store: every key holds BODY."""

    def download(self, _key: str, path: Path) -> None:
        path.write_bytes(BODY)


def remote(etag: str) -> RemoteFile:
    """A file of a run in S3."""
    stored = StoredObject("work/a.txt", len(BODY), etag, MODIFIED)
    return RemoteFile("a.txt", stored, cast(Store, OneObject()))


@pytest.mark.parametrize("etag", [MD5, KMS, f"{KMS}-2"])
def test_a_file_is_fetched_once(etag: str, tmp_path: Path) -> None:
    """Whatever the ETag is: of the content, of a KMS key, or of an upload in parts."""
    assert download([remote(etag)], tmp_path).files == 1
    again = download([remote(etag)], tmp_path)
    assert (again.files, again.unchanged) == (0, 1)


def test_the_same_content_with_another_time_is_not_fetched_again(tmp_path: Path) -> None:
    """The MD5 tells where it is one; a file that only has the same size counts as another."""
    (tmp_path / "a.txt").write_bytes(BODY)
    os.utime(tmp_path / "a.txt", (1, 1))
    assert download([remote(MD5)], tmp_path).unchanged == 1
    with pytest.raises(UserError, match="differ"):
        download([remote(KMS)], tmp_path)
