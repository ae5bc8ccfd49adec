"""Resume on another machine, without Fusion: finished tasks and Nextflow's cache go to S3 while the run goes.

What Nextflow needs to find a task cached, and what is therefore kept:

- its cache and history (agent/nextflow_cache.py), then `nextflow run -resume <session>`; with
  NXF_IGNORE_RESUME_HISTORY=true the history may be missing;
- the task's folder at the same absolute path: `<work>/ab/cdef…`, with `.command.*` and `.exitcode`. Run folders are
  named by the session, so that the path is the same on every machine;
- inputs that look the same: path, size and mtime (in milliseconds) of every input file go into a task's hash, and
  the outputs of one task are the inputs of the next. So mtimes are kept to the nanosecond. A *folder* as input
  is hashed with its own size, which some file systems choose anew: such a task may run again, which costs
  time and nothing else.

In S3, below the run's prefix: `cache/nextflow.tar.gz`, and `cache/tasks/ab/cdef….tar` for each task. A task's folder is
carried as a whole, with intermediate files: only Nextflow knows which of them count.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent.clock import Deadline
from agent.contract import CACHE
from agent.errors import KeyMissing, StoreError
from agent.finished_tasks import CarriedTasks, FinishedTasks
from agent.folder import RunFolder
from agent.nextflow_cache import NextflowCache, State
from agent.store import PART_BYTES
from agent.tar import tarfile
from agent.tarball import members, pack, packed_size, unpack

if TYPE_CHECKING:
    from agent.store import Body, Store, StoredObject

log = logging.getLogger(__name__)

NEXTFLOW_CACHE: Final = f"{CACHE}nextflow.tar.gz"
TASKS: Final = f"{CACHE}tasks/"
TASKS_IN_FLIGHT: Final = 4
_TAR: Final = "application/x-tar"
_HASH_PARTS: Final = 2
_BACKGROUND_S: Final = 3600.0
"""One look of `carry` takes no longer than this; the rest is for the next look."""


@dataclass(frozen=True)
class RestoreReport:
    """What was brought back from S3."""

    tasks: int
    has_cache: bool
    """Whether Nextflow's cache is there: without it nothing is resumed."""
    not_restored: tuple[str, ...]
    """`ab/cdef…: cause`. These tasks run again."""


class Carrier:
    """Keeps one run resumable. `carry` while it goes, `finish` at its end, `restore` before the next one starts."""

    def __init__(self, store: Store, folder: RunFolder, session_id: str) -> None:
        self._store = store
        self._folder = folder
        self._finished = FinishedTasks(folder.trace, folder.work)
        self._waiting: dict[str, Path] = {}
        self._carried = CarriedTasks(folder.state / "carried.txt")
        self._cache = NextflowCache(folder.launch, session_id)
        self._cache_sent: State = frozenset()
        self._lock = threading.Lock()
        self._cache_lock = threading.Lock()
        self._finishing = threading.Event()

    def carry(self) -> None:
        """Copy the tasks that have ended since the last call, then Nextflow's cache, to S3.

        Raises:
            StoreError: S3 did not take everything; the next call tries it again.
        """
        with self._lock:
            if self._finishing.is_set():
                return
            deadline = Deadline.after(_BACKGROUND_S, self._store.clock)
            with _disk_errors():
                problems = self._carry_finished(deadline, until=self._finishing)
                if not self._finishing.is_set():
                    self._carry_cache(deadline)
        _complain(problems)

    def finish(self, deadline: Deadline) -> None:
        """Copy what is left, by `deadline`, after Nextflow has ended: first its cache, without which no task counts.

        Raises:
            StoreError: some tasks, or the cache, did not arrive.
        """
        self._finishing.set()
        with _disk_errors():
            self._carry_cache(deadline)
            if not self._lock.acquire(timeout=deadline.remaining()):
                raise StoreError("finished tasks were still being copied to S3 when the time was over")
            try:
                problems = self._carry_finished(deadline)
            finally:
                self._lock.release()
        _complain(problems)

    def restore(self, origin: Store, deadline: Deadline | None = None) -> RestoreReport:
        """Bring back what the run at `origin` kept: task folders to the same paths, Nextflow's cache to `launch`.

        Objects are copied on to this run's own prefix inside S3, so that a third run can resume from it as well, even
        if `origin` is deleted. Can be called again after it was cut off: finished folders stay.

        Raises:
            StoreError: S3 cannot be read at all.
            OSError: the disk is full.
        """
        staging = self._folder.state / "restoring"
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        with self._lock:
            kept = [stored for stored in origin.list(TASKS, deadline=deadline) if _hash_of(stored.key)]
            problems: list[str] = []
            try:
                asyncio.run(self._restore_tasks(origin, kept, staging, problems, deadline))
                has_cache = self._restore_cache(origin, staging, deadline)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
        log.info("restored %d of %d tasks", len(kept) - len(problems), len(kept))
        return RestoreReport(len(kept) - len(problems), has_cache, tuple(sorted(problems)))

    # --- to S3 ----------------------------------------------------------------------------------------------

    def _carry_finished(self, deadline: Deadline, until: threading.Event | None = None) -> list[str]:
        for path in self._finished.new():
            if _name(path) not in self._carried:
                self._waiting[_name(path)] = path
        if not self._waiting:
            return []
        problems: list[str] = []
        done: list[str] = []

        async def carry_all() -> None:
            waiting = iter(self._waiting.items())
            await asyncio.gather(
                *(self._work(waiting, done, problems, deadline, until) for _ in range(TASKS_IN_FLIGHT))
            )

        asyncio.run(carry_all())
        for name in done:
            del self._waiting[name]
        return sorted(problems)

    async def _work(
        self,
        waiting: Iterator[tuple[str, Path]],
        done: list[str],
        problems: list[str],
        deadline: Deadline,
        until: threading.Event | None,
    ) -> None:
        for name, path in waiting:
            if until is not None and until.is_set():
                return
            try:
                await self._send_task(path, deadline)
                self._carried.add(name)
            except (StoreError, OSError) as error:
                if path.exists():
                    problems.append(f"{name}: {error}")
                    continue
            done.append(name)

    async def _send_task(self, path: Path, deadline: Deadline) -> None:
        names = await asyncio.to_thread(members, path)
        size = await asyncio.to_thread(packed_size, path, names)

        def in_chunks() -> Body:
            return _chunks(pack(path, names))

        if size <= PART_BYTES:
            body = await asyncio.to_thread(lambda: b"".join(pack(path, names)))
            await self._store.send(
                _key(path), lambda: body, size=len(body), content_type=_TAR, deadline=deadline
            )
        else:
            await self._store.send(_key(path), in_chunks, size=size, content_type=_TAR, deadline=deadline)

    def _carry_cache(self, deadline: Deadline) -> None:
        if not self._cache_lock.acquire(timeout=deadline.remaining()):
            raise StoreError("the time was over while Nextflow's cache was still being copied")
        try:
            if self._cache.state() == self._cache_sent:
                return
            archive = self._folder.state / "nextflow-cache.tar.gz"
            packed = self._cache.pack(archive)
            if packed is not None:
                self._store.upload(archive, NEXTFLOW_CACHE, "application/gzip", deadline=deadline)
                self._cache_sent = packed
            archive.unlink(missing_ok=True)
        finally:
            self._cache_lock.release()

    # --- from S3 --------------------------------------------------------------------------------------------

    async def _restore_tasks(
        self,
        origin: Store,
        kept: list[StoredObject],
        staging: Path,
        problems: list[str],
        deadline: Deadline | None,
    ) -> None:
        waiting = iter(kept)

        async def worker() -> None:
            for stored in waiting:
                name = _hash_of(stored.key)
                try:
                    await self._restore_task(origin, stored.key, name, staging, deadline)
                except (StoreError, tarfile.TarError) as error:
                    problems.append(f"{name}: {error}")
                    continue
                if name not in self._carried and await self._copy_on(origin, stored.key, deadline):
                    self._carried.add(name)

        await asyncio.gather(*(worker() for _ in range(TASKS_IN_FLIGHT)))

    async def _restore_task(
        self, origin: Store, key: str, name: str, staging: Path, deadline: Deadline | None
    ) -> None:
        target = self._folder.work / name
        if target.exists():
            return
        flat = name.replace("/", "")
        archive, draft = staging / f"{flat}.tar", staging / flat
        await origin.fetch(key, archive, deadline=deadline)

        def place() -> None:
            # Nextflow takes a folder that is there for a finished task: it appears whole or not at all.
            unpack(archive, draft)
            archive.unlink()
            target.parent.mkdir(parents=True, exist_ok=True)
            draft.rename(target)

        await asyncio.to_thread(place)

    def _restore_cache(self, origin: Store, staging: Path, deadline: Deadline | None) -> bool:
        archive = staging / "nextflow-cache.tar.gz"
        try:
            origin.download(NEXTFLOW_CACHE, archive, deadline=deadline)
        except KeyMissing:
            return False
        try:
            unpack(archive, self._folder.launch)
        except (tarfile.TarError, EOFError) as error:
            log.warning("Nextflow's cache in %s is damaged, nothing is resumed: %s", origin.uri(), error)
            return False
        asyncio.run(self._copy_on(origin, NEXTFLOW_CACHE, deadline))
        return True

    async def _copy_on(self, origin: Store, key: str, deadline: Deadline | None) -> bool:
        """Copy one object to this run's own prefix; False where that did not work, and it is sent again later."""
        if origin.bucket != self._store.bucket:
            return False
        try:
            await self._store.copy(origin, key, key, deadline=deadline)
        except StoreError as error:
            log.info("not copied inside S3, it is uploaded again when the run has used it: %s", error)
            return False
        return True


def _name(path: Path) -> str:
    """`ab/cdef…` of a task's work folder."""
    return f"{path.parent.name}/{path.name}"


def _key(path: Path) -> str:
    return f"{TASKS}{_name(path)}.tar"


def _hash_of(key: str) -> str:
    """The task that an object holds, or an empty string where the key is nothing of ours."""
    name = key.removeprefix(TASKS).removesuffix(".tar")
    parts = name.split("/")
    ours = key.startswith(TASKS) and key.endswith(".tar") and len(parts) == _HASH_PARTS
    return name if ours and all(part.isascii() and part.isalnum() for part in parts) else ""


async def _chunks(archive: Iterator[bytes]) -> AsyncIterator[bytes]:
    """The archive's chunks, each made beside the event loop."""
    while (chunk := await asyncio.to_thread(next, archive, None)) is not None:
        yield chunk


@contextmanager
def _disk_errors() -> Iterator[None]:
    """A disk that is full or gone is told as what it costs here: the run itself goes on."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"finished tasks could not be prepared for S3: {error}. Is the disk full?"
        ) from error


def _complain(problems: list[str]) -> None:
    if problems:
        shown = "; ".join(problems[:3])
        raise StoreError(
            f"{len(problems)} finished tasks are not in S3 and would run again in a resumed run: {shown}",
            problems=tuple(problems),
        )
