"""The run's objects in S3, through obstore: it imports in 35 ms, and ten times faster than boto3 on small files.

There are two ways through it. Small objects that decide something (claim, status, stop request) go one by one,
each attempt visible here, because a conditional write must know whether an earlier attempt may have
succeeded. Files and folders go in bulk: many at once, large ones in parts, each part retried by itself.

Every upload in bulk carries a CRC-64/NVME that S3 verifies and keeps (`x-amz-checksum-crc64nvme`). The
payload itself is not signed there: TLS protects it already, and a second hash of every byte costs a
quarter of the time.

obstore hands results to asyncio from threads of its own. A process that ends right after a bulk transfer should
leave by `os._exit` (after flushing): such a thread that comes back into an interpreter which is being torn
down aborts the process.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from tenacity import AsyncRetrying, RetryCallState, Retrying, retry_if_exception, wait_random_exponential

from agent.clock import Clock, Deadline, SystemClock
from agent.contract import split_s3_uri
from agent.errors import KeyMissing, StoreError
from agent.s3_clients import AccessKeys, Clients, open_clients
from agent.store_errors import Action, OutOfTime, Place, is_transient, translate

PATIENCE_S: Final = 60.0
"""How long one small request is tried again where the caller sets no deadline."""
BULK_PATIENCE_S: Final = 900.0
"""How long an object in bulk is tried again where the caller sets no deadline."""
PART_BYTES: Final = 8 * 1024**2
"""Objects above this size travel in parts of it."""
PARTS_IN_FLIGHT: Final = 4
"""Of one object; four parts of 8 MiB keep a fast link busy and memory low."""
CHUNK_BYTES: Final = 1024**2
"""What is read, hashed and handed on at once: it stays in the processor's cache, which larger chunks do not."""
_MAX_PARTS: Final = 9_000
_FAILURES: Final = (BaseError, FileNotFoundError, ValueError)
"""What obstore raises; OSError of the caller's own file is not among them."""

Body = bytes | bytearray | AsyncIterator[bytes]
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class StoredObject:
    """One object of a listing: its key below the store's root, and its size in bytes."""

    key: str
    size: int


def open_store(
    prefix_uri: str,
    region: str,
    *,
    endpoint_url: str | None = None,
    metadata_endpoint: str | None = None,
    keys: AccessKeys | None = None,
    clock: Clock | None = None,
) -> Store:
    """The objects under `prefix_uri` (`s3://bucket/prefix`).

    Credentials are `keys`; where None, obstore's own chain: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, web
    identity, container credentials, and last the metadata service (IMDSv2 only), renewed five minutes before they
    expire.

    Raises:
        StoreError: obstore cannot make a client of these settings.
        ValueError: `prefix_uri` is not an S3 URI.
    """
    bucket, root = split_s3_uri(prefix_uri)
    try:
        clients = open_clients(bucket, region, endpoint_url, metadata_endpoint, keys)
    except _FAILURES as error:
        raise StoreError(
            f"no S3 client for {prefix_uri} in {region}: {str(error).splitlines()[0]}. Check the AWS_… variables "
            "of the environment: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY go together"
        ) from error
    return Store(bucket, root, region, clients, clock or SystemClock())


class Store:
    """The objects below one prefix. Made by `open_store`; keys are relative to the prefix. Thread-safe.

    Every method raises KeyMissing where the object is not there and StoreError for everything else that S3
    refuses, after all retries. A deadline bounds the retries; one request may overrun it by ten seconds. Methods
    that are not async must not be called inside a running event loop.
    """

    def __init__(self, bucket: str, root: str, region: str, clients: Clients, clock: Clock) -> None:
        self.bucket = bucket
        self._root = f"{root}/" if root else ""
        self._region = region
        self._careful = clients.careful
        self._bulk = clients.bulk
        self.clock = clock

    def uri(self, key: str = "") -> str:
        """`s3://bucket/prefix/key`, without a slash at its end."""
        return f"s3://{self.bucket}/{self._root}{key}".rstrip("/")

    # --- small objects, one by one ------------------------------------------------------------------------

    def get(self, key: str, *, deadline: Deadline | None = None) -> bytes:
        """The object's whole body."""

        def read() -> bytes:
            return bytes(obstore.get(self._careful, self._root + key).bytes())

        return self._carefully(Action.READ, key, deadline, read)

    def stream(self, key: str) -> Iterator[bytes]:
        """A large object in parts, in order; each is tried again by itself, and the next is on its way meanwhile."""
        path = self._root + key
        size: int = self._carefully(Action.READ, key, None, lambda: obstore.head(self._careful, path)["size"])

        def read(start: int) -> bytes:
            end = min(start + PART_BYTES, size)
            by = Deadline.after(BULK_PATIENCE_S, self.clock)
            return self._carefully(
                Action.READ, key, by, lambda: bytes(obstore.get_range(self._bulk, path, start=start, end=end))
            )

        with ThreadPoolExecutor(1, thread_name_prefix="stream") as ahead:
            coming: Future[bytes] | None = None
            for start in range(0, size, PART_BYTES):
                following = ahead.submit(read, start)
                if coming is not None:
                    yield coming.result()
                coming = following
            if coming is not None:
                yield coming.result()

    def put(
        self, key: str, body: bytes, content_type: str | None = None, *, deadline: Deadline | None = None
    ) -> None:
        """Write the object, or replace it as a whole."""

        def write() -> None:
            obstore.put(
                self._careful,
                self._root + key,
                body,
                attributes=_attributes(content_type),
                use_multipart=False,
            )

        self._carefully(Action.WRITE, key, deadline, write)

    def put_once(
        self, key: str, body: bytes, content_type: str | None = None, *, deadline: Deadline | None = None
    ) -> bool:
        """Write the object unless there is one: True if this call wrote it, False if it was there already.

        An attempt whose answer was lost may have succeeded. When a later attempt then finds the object, its body
        tells whose it is: so bodies of different writers must differ.
        """
        unsure = False

        def write() -> bool:
            nonlocal unsure
            try:
                obstore.put(
                    self._careful,
                    self._root + key,
                    body,
                    mode="create",
                    attributes=_attributes(content_type),
                    use_multipart=False,
                )
            except AlreadyExistsError:
                # Also S3's 409, when two writers met: whoever won is seen by reading, and where nobody did
                # (KeyMissing) the write is tried again.
                stored = bytes(obstore.get(self._careful, self._root + key).bytes())
                return unsure and stored == body
            except BaseError:
                unsure = True
                raise
            return True

        return self._carefully(Action.WRITE, key, deadline, write, also=FileNotFoundError)

    def list(self, prefix: str = "", *, deadline: Deadline | None = None) -> tuple[StoredObject, ...]:
        """Every object in the folder `prefix`, in ascending order of the keys."""

        def read() -> tuple[StoredObject, ...]:
            where = (self._root + prefix).rstrip("/")
            found = [meta for page in obstore.list(self._careful, prefix=where or None) for meta in page]
            skip = len(self._root)
            return tuple(
                sorted(
                    (StoredObject(meta["path"][skip:], meta["size"]) for meta in found), key=lambda o: o.key
                )
            )

        return self._carefully(Action.LIST, prefix, deadline, read)

    def _carefully(
        self,
        action: Action,
        key: str,
        deadline: Deadline | None,
        attempt: Callable[[], _Result],
        also: type[Exception] | None = None,
    ) -> _Result:
        by = deadline or Deadline.after(PATIENCE_S, self.clock)
        try:
            return Retrying(
                stop=_stop_by(by),
                wait=wait_random_exponential(multiplier=0.1, max=3),
                retry=retry_if_exception(lambda e: is_transient(e) or _is_lost_race(e, also)),
                reraise=True,
            )(attempt)
        except _FAILURES as error:
            raise translate(error, action, self._place(key)) from error

    # --- files and folders ----------------------------------------------------------------------------------

    def upload(
        self, path: Path, key: str, content_type: str | None = None, *, deadline: Deadline | None = None
    ) -> None:
        """Write a file as an object; what is appended meanwhile is left out.

        Raises:
            OSError: the file cannot be read.
        """
        size = path.stat().st_size

        def body() -> Body:
            return _read(path, size) if size > PART_BYTES else path.read_bytes()

        asyncio.run(self.send(key, body, size=size, content_type=content_type, deadline=deadline))

    def download(self, key: str, path: Path, *, deadline: Deadline | None = None) -> None:
        """Write an object as a file; `path` is there only when it is complete.

        Raises:
            OSError: the file cannot be written.
        """
        asyncio.run(self.fetch(key, path, deadline=deadline))

    async def send(
        self,
        key: str,
        body: Callable[[], Body],
        *,
        size: int,
        content_type: str | None = None,
        deadline: Deadline | None = None,
    ) -> None:
        """Write one object in bulk. `body` is called for every attempt; a long one yields its chunks.

        `size` is the expected number of bytes, from which the size of the parts follows.

        Raises:
            OutOfTime: the deadline passed first; nothing was written.
            OSError: whatever reading the body raises.
        """
        part = part_bytes(size)

        async def attempt() -> None:
            source = body()
            await obstore.put_async(
                self._bulk,
                self._root + key,
                source,
                attributes=_attributes(content_type),
                use_multipart=not isinstance(source, bytes | bytearray),
                chunk_size=part,
                max_concurrency=PARTS_IN_FLIGHT,
            )

        await self._in_bulk(Action.WRITE, key, deadline, attempt)

    async def fetch(self, key: str, path: Path, *, deadline: Deadline | None = None) -> int:
        """Write one object as a file, large ones by several ranges at once; its size in bytes.

        Raises:
            OutOfTime: the deadline passed first; nothing is at `path`.
            OSError: the file cannot be written.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name[:200]}.part")
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:

            async def attempt() -> int:
                return await self._fetch_to(fd, key)

            size = await self._in_bulk(Action.READ, key, deadline, attempt)
            draft.replace(path)
        finally:
            os.close(fd)
            draft.unlink(missing_ok=True)
        return size

    async def _fetch_to(self, fd: int, key: str) -> int:
        answer = await obstore.get_async(self._bulk, self._root + key)
        size: int = answer.meta["size"]
        os.ftruncate(fd, 0)
        if size <= PART_BYTES:
            os.pwrite(fd, bytes(await answer.bytes_async()), 0)
            return size
        del answer  # its body is read by ranges, each of which can be retried by itself
        starts = iter(range(0, size, PART_BYTES))

        async def worker() -> None:
            for start in starts:
                end = min(start + PART_BYTES, size)
                chunk = await obstore.get_range_async(self._bulk, self._root + key, start=start, end=end)
                await asyncio.to_thread(os.pwrite, fd, memoryview(chunk), start)

        await asyncio.gather(*(worker() for _ in range(PARTS_IN_FLIGHT)))
        return size

    async def copy(self, source: Store, key: str, to: str, *, deadline: Deadline | None = None) -> None:
        """Copy an object of a store in the same bucket inside S3: no byte travels. S3 does this up to 5 GB.

        Raises:
            ValueError: `source` is in another bucket.
        """
        if source.bucket != self.bucket:
            raise ValueError(f"S3 objects are copied within one bucket: {source.uri()} to {self.uri()}")

        async def attempt() -> None:
            await obstore.copy_async(self._bulk, source._root + key, self._root + to)

        await self._in_bulk(Action.COPY, to, deadline, attempt)

    async def _in_bulk(
        self,
        action: Action,
        key: str,
        deadline: Deadline | None,
        attempt: Callable[[], Coroutine[None, None, _Result]],
    ) -> _Result:
        retrying = AsyncRetrying(
            stop=_stop_by(deadline or Deadline.after(BULK_PATIENCE_S, self.clock)),
            wait=wait_random_exponential(multiplier=0.2, max=5),
            retry=retry_if_exception(is_transient),
            reraise=True,
        )
        try:
            async with asyncio.timeout(deadline.remaining() if deadline else None):
                return await retrying(attempt)
        except TimeoutError:
            raise OutOfTime(f"cannot {action.verb} {self.uri(key)}: the time was over") from None
        except _FAILURES as error:
            if isinstance(error, FileNotFoundError) and error.errno is not None:
                raise  # the caller's own file, not an object
            raise translate(error, action, self._place(key)) from error

    def _place(self, key: str) -> Place:
        return Place(self.bucket, self._root + key, self._region)


def part_bytes(size: int) -> int:
    """The size of an upload's parts: S3 takes 10,000 of them, so very large objects need larger ones."""
    mib = 1024**2
    return max(PART_BYTES, -(-size // _MAX_PARTS // mib) * mib)


def _attributes(content_type: str | None) -> dict[str, str] | None:
    return {"Content-Type": content_type} if content_type else None


def _is_lost_race(error: BaseException, also: type[Exception] | None) -> bool:
    return also is not None and isinstance(error, also) and "NoSuchBucket" not in str(error)


def _stop_by(deadline: Deadline) -> Callable[[RetryCallState], bool]:
    return lambda state: deadline.remaining() <= state.upcoming_sleep


async def _read(path: Path, size: int) -> AsyncIterator[bytes]:
    """The first `size` bytes of a file, read beside the event loop."""
    left = size
    with path.open("rb", buffering=0) as file:
        while left and (chunk := await asyncio.to_thread(file.read, min(left, CHUNK_BYTES))):
            left -= len(chunk)
            yield chunk


__all__ = ["AccessKeys", "KeyMissing", "OutOfTime", "Store", "StoreError", "StoredObject", "open_store"]
