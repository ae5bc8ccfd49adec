"""Objects in memory, with the methods of agent.store.Store; the same contract tests run against both."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from agent.clock import Clock, Deadline, SystemClock
from agent.errors import KeyMissing, StoreError
from agent.store import Body, OutOfTime, Store, StoredObject

_PART = 1 + 4 * 1024**2
"""Of a stream."""


class FakeBucket:
    """What several stores share: the objects by their full key, and the errors that are to come."""

    def __init__(self, name: str = "bucket") -> None:
        self.name = name
        self.objects: dict[str, bytes] = {}
        self.content_types: dict[str, str | None] = {}
        self.failures: list[StoreError] = []
        """Raised by the next calls, one each."""
        self.writes: list[str] = []
        """Full keys, in the order they were written."""
        self.lock = threading.RLock()


class FakeStore(Store):
    """The objects below one prefix of a bucket in memory; nothing of the real one is left but its type."""

    def __init__(
        self, bucket: FakeBucket | None = None, root: str = "runs/1", clock: Clock | None = None
    ) -> None:
        self.state = bucket or FakeBucket()
        self.bucket = self.state.name
        self.clock = clock or SystemClock()
        self._root = f"{root}/" if root else ""

    @property
    def objects(self) -> dict[str, bytes]:
        """A copy of the objects below this prefix, by their key there."""
        with self.state.lock:
            return {
                key[len(self._root) :]: body
                for key, body in self.state.objects.items()
                if key.startswith(self._root)
            }

    def uri(self, key: str = "") -> str:
        """`s3://bucket/prefix/key`."""
        return f"s3://{self.bucket}/{self._root}{key}".rstrip("/")

    def get(self, key: str, *, deadline: Deadline | None = None) -> bytes:
        """The object's whole body."""
        self._maybe_fail(deadline)
        with self.state.lock:
            try:
                return self.state.objects[self._root + key]
            except KeyError:
                raise KeyMissing(f"cannot read {self.uri(key)}: there is no such object") from None

    def put(
        self, key: str, body: bytes, content_type: str | None = None, *, deadline: Deadline | None = None
    ) -> None:
        """Write or replace the object."""
        self._maybe_fail(deadline)
        self._write(key, body, content_type)

    def put_once(
        self, key: str, body: bytes, content_type: str | None = None, *, deadline: Deadline | None = None
    ) -> bool:
        """Write the object unless there is one."""
        self._maybe_fail(deadline)
        with self.state.lock:
            if self._root + key in self.state.objects:
                return False
            self._write(key, body, content_type)
            return True

    def list(self, prefix: str = "", *, deadline: Deadline | None = None) -> tuple[StoredObject, ...]:
        """Every object in the folder `prefix`."""
        self._maybe_fail(deadline)
        folder = f"{prefix.rstrip('/')}/" if prefix else ""
        return tuple(
            StoredObject(key, len(body))
            for key, body in sorted(self.objects.items())
            if key.startswith(folder)
        )

    def upload(
        self, path: Path, key: str, content_type: str | None = None, *, deadline: Deadline | None = None
    ) -> None:
        """Write a file as an object."""
        self._maybe_fail(deadline)
        self._write(key, path.read_bytes(), content_type)

    def stream(self, key: str) -> Iterator[bytes]:
        """An object in parts, in order."""
        body = self.get(key)
        yield from (body[start : start + _PART] for start in range(0, len(body), _PART))

    def download(self, key: str, path: Path, *, deadline: Deadline | None = None) -> None:
        """Write an object as a file."""
        body = self.get(key, deadline=deadline)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)

    async def send(
        self,
        key: str,
        body: Callable[[], Body],
        *,
        size: int,  # noqa: ARG002 - part of the store's interface
        content_type: str | None = None,
        deadline: Deadline | None = None,
    ) -> None:
        """Write one object in bulk."""
        self._maybe_fail(deadline)
        source = body()
        if isinstance(source, bytes | bytearray):
            content = bytes(source)
        else:
            content = b"".join([chunk async for chunk in source])
        await asyncio.sleep(0)
        self._write(key, content, content_type)

    async def fetch(self, key: str, path: Path, *, deadline: Deadline | None = None) -> int:
        """Write one object as a file."""
        self.download(key, path, deadline=deadline)
        return path.stat().st_size

    async def copy(self, source: Store, key: str, to: str, *, deadline: Deadline | None = None) -> None:
        """Copy an object of a store in the same bucket."""
        if source.bucket != self.bucket:
            raise ValueError(f"S3 objects are copied within one bucket: {source.uri()} to {self.uri()}")
        self._write(to, source.get(key, deadline=deadline), None)

    def _write(self, key: str, body: bytes, content_type: str | None) -> None:
        with self.state.lock:
            self.state.objects[self._root + key] = body
            self.state.content_types[self._root + key] = content_type
            self.state.writes.append(self._root + key)

    def _maybe_fail(self, deadline: Deadline | None) -> None:
        with self.state.lock:
            if self.state.failures:
                raise self.state.failures.pop(0)
        if deadline is not None and deadline.passed:
            raise OutOfTime("the time was over")
