"""The folders of releases in S3: what one attempt leaves is there for the next, on whatever computer that runs."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from launcher.aws_errors import translated
from launcher.errors import LauncherError, UserError
from packer.release.aws import Aws

PERIOD_S: Final = 10.0
"""Sealing a machine and making its image take longer: its package list is in S3 before the image is there."""
_URI: Final = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*?))?/*")


class Records:
    """Folders of files in S3, one a release. Raises the launcher's errors."""

    def __init__(self, aws: Aws, region: str, uri: str, *, period_s: float = PERIOD_S) -> None:
        """Nothing is asked of S3 yet.

        Raises:
            UserError: `uri` is not s3://BUCKET or s3://BUCKET/PREFIX.
        """
        found = _URI.fullmatch(uri)
        if found is None:
            raise UserError(f"--records takes s3://BUCKET/PREFIX, not {uri!r}")
        self._s3: Any = aws.client("s3", region)
        self._bucket: str = found[1]
        self._prefix = f"{found[2]}/" if found[2] else ""
        self._period_s = period_s

    @contextmanager
    def kept(self, release: str, folder: Path, say: Callable[[str], None]) -> Iterator[None]:
        """Begin with what S3 has of a release; send what is written into its folder, in here and once more at the end.

        Raises:
            LauncherError: S3 cannot be read; or all went well in here, and the last of it could not be sent.
        """
        sent = self._restore(release, folder)
        over = threading.Event()

        def watch() -> None:
            while not over.wait(self._period_s):
                self._try_to_send(release, folder, sent, say)

        watcher = threading.Thread(target=watch, name="records", daemon=True)
        watcher.start()
        try:
            yield
        except BaseException:
            _end(watcher, over)
            # What failed in here is what is told.
            self._try_to_send(release, folder, sent, say)
            raise
        _end(watcher, over)
        self._send(release, folder, sent)

    def _restore(self, release: str, folder: Path) -> dict[str, float]:
        """Fetch what is newer in S3; by name, when each file there was written."""
        folder.mkdir(parents=True, exist_ok=True)
        there: dict[str, float] = {}
        for item in self._there(release):
            path = folder / item["Key"].rpartition("/")[2]
            written = there[path.name] = item["LastModified"].timestamp()
            if path.exists() and path.stat().st_mtime >= written:
                continue
            with translated("s3", self._uri(item["Key"])):
                body = self._s3.get_object(Bucket=self._bucket, Key=item["Key"])["Body"].read()
            path.write_bytes(body)
            # So that it is not sent back.
            os.utime(path, (written, written))
        return there

    def _try_to_send(
        self, release: str, folder: Path, sent: dict[str, float], say: Callable[[str], None]
    ) -> None:
        try:
            self._send(release, folder, sent)
        except (LauncherError, OSError) as error:
            say(f"Not in S3 yet: what is new in {folder}: {error}")

    def _send(self, release: str, folder: Path, sent: dict[str, float]) -> None:
        """Send the files that are newer than what was sent; `sent` has the times of these, by name."""
        for path in sorted(folder.glob("[!.]*")):
            if not path.is_file() or (changed := path.stat().st_mtime) <= sent.get(path.name, 0.0):
                continue
            body, after = path.read_bytes(), path.stat()
            if (after.st_mtime, after.st_size) != (changed, len(body)):
                continue  # it is being written: the next look sends it
            key = f"{self._prefix}{release}/{path.name}"
            with translated("s3", self._uri(key)):
                self._s3.put_object(Bucket=self._bucket, Key=key, Body=body)
            sent[path.name] = changed

    def _there(self, release: str) -> list[dict[str, Any]]:
        """The objects of a release: its files, as it has no folders."""
        prefix = f"{self._prefix}{release}/"
        with translated("s3", self._uri(prefix)):
            answer = self._s3.list_objects_v2(Bucket=self._bucket, Prefix=prefix, Delimiter="/")
        return [item for item in answer.get("Contents", []) if item["Key"] != prefix]

    def _uri(self, key: str) -> str:
        return f"s3://{self._bucket}/{key}"


def _end(watcher: threading.Thread, over: threading.Event) -> None:
    over.set()
    watcher.join()
