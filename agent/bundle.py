"""A pipeline that was sent along with the run: fetched, checked, unpacked."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import zlib
from pathlib import Path
from typing import Protocol

from agent.contract import BUNDLE
from agent.errors import SpecInvalid
from agent.tar import tarfile


class BundleStore(Protocol):
    """The part of the object store that is needed here."""

    def download(self, key: str, path: Path) -> None:
        """Bring one object to a file."""


def unpack_bundle(store: BundleStore, sha256: str, target: Path) -> None:
    """Fetch the run's pipeline and unpack it into `target`, which then holds nothing else.

    Times of files are kept: Nextflow's cache knows a file by path, size and time.

    Raises:
        SpecInvalid: the bundle is not the one that the run spec names, or not a safe archive.
        StoreError: it cannot be fetched.
    """
    archive = target.with_name(BUNDLE)
    store.download(BUNDLE, archive)
    try:
        with archive.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            raise SpecInvalid(
                f"{BUNDLE} under the run's prefix has the checksum {found}, the run spec names {sha256}: "
                "one of the two was changed after the run was submitted. Submit it again.",
                problems=(f"workload.source.bundle_sha256: does not match {BUNDLE}",),
            )
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        try:
            with tarfile.open(archive, "r:gz") as tar:
                tar.extractall(target, filter="data")
        except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise SpecInvalid(
                f"{BUNDLE} under the run's prefix cannot be unpacked: {error}. Submit the run again.",
                problems=(f"workload.source.bundle_sha256: {error}",),
            ) from error
    finally:
        archive.unlink(missing_ok=True)
