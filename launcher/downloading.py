"""A run's artifacts and logs, brought to a folder. Nothing that differs is replaced unasked, nothing is written
outside the folder, and every file is whole or absent."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Final

from agent.contract import ARTIFACTS, LOGS, MANIFEST, RunStatus
from launcher.errors import CloudError, NotThere, UserError
from launcher.run_book import RunBook
from launcher.store import Store, StoredObject
from launcher.text import did_you_mean

THREADS: Final = 8


@dataclass(frozen=True)
class RemoteFile:
    """A file of a run."""

    path: str
    """`artifacts/…` or `logs/…`: where it goes in the folder."""
    stored: StoredObject
    store: Store
    """The bucket that it is in."""


@dataclass(frozen=True)
class Downloaded:
    """What became of a download."""

    folder: Path
    files: int
    """Fetched now."""
    bytes: int
    unchanged: int
    """There already, with the same content."""


def remote_files(book: RunBook, status: RunStatus) -> list[RemoteFile]:
    """Everything that can be downloaded of a run."""
    store, artifacts = book.artifacts_place(status)
    files = _below(store, artifacts, ARTIFACTS)
    files += _below(book.store, book.key(status.run_id, MANIFEST), MANIFEST)
    files += _below(book.store, book.key(status.run_id, LOGS), LOGS)
    return [file for file in files if not file.path.endswith("/")]


def select(files: Sequence[RemoteFile], patterns: Sequence[str]) -> list[RemoteFile]:
    """Those that a pattern names: a file, a folder, or a glob, below artifacts/ or written out in full.

    Raises:
        NotThere: a pattern names nothing; near paths are offered.
    """
    if not patterns:
        return list(files)
    chosen: dict[str, RemoteFile] = {}
    problems = []
    for pattern in patterns:
        matching = [file for file in files if _matches(file.path, pattern)]
        chosen.update((file.path, file) for file in matching)
        if not matching:
            near = did_you_mean(pattern, [file.path.removeprefix(ARTIFACTS) for file in files])
            problems.append(f"{pattern}: the run has no such file. {near}".rstrip())
    if problems:
        raise NotThere(
            "Nothing was downloaded",
            problems=tuple(problems),
            hint="launcher runs download RUN --list shows what there is",
        )
    return list(chosen.values())


def download(
    files: Sequence[RemoteFile],
    folder: Path,
    *,
    overwrite: bool = False,
    on_bytes: Callable[[int], None] = lambda _count: None,
) -> Downloaded:
    """Fetch files into a folder, several at once.

    Raises:
        UserError: a path would leave the folder, or a file there differs and `overwrite` is False; nothing was
            fetched.
        CloudError: a file did not arrive whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    root = folder.resolve()
    targets = _targets(root, files)
    fetch = [(file, path) for file, path in targets if not _same(file.stored, path)]
    _refuse_changed((path for _, path in fetch), root, overwrite)
    with ThreadPoolExecutor(THREADS, thread_name_prefix="download") as pool:
        futures = [pool.submit(_fetch, file, path) for file, path in fetch]
        try:
            for future in as_completed(futures):
                on_bytes(future.result())
        except BaseException:
            # an error, or Ctrl-C: those that have not begun never will
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    total = sum(file.stored.size for file, _ in fetch)
    return Downloaded(folder, len(fetch), total, len(files) - len(fetch))


def _below(store: Store, prefix: str, folder: str) -> list[RemoteFile]:
    return [RemoteFile(folder + item.key.removeprefix(prefix), item, store) for item in store.objects(prefix)]


def _matches(path: str, pattern: str) -> bool:
    pattern = pattern.removeprefix("./").rstrip("/")
    for name in (path, path.removeprefix(ARTIFACTS)):
        if name == pattern or name.startswith(pattern + "/") or fnmatchcase(name, pattern):
            return True
    return False


def _targets(root: Path, files: Sequence[RemoteFile]) -> list[tuple[RemoteFile, Path]]:
    targets = []
    problems = []
    for file in files:
        parts = file.path.split("/")
        path = root.joinpath(*parts)
        # S3 keys may hold anything, also `..`; and the folder may hold links that lead elsewhere
        unsafe = any(part in ("", ".", "..") or "\0" in part for part in parts)
        if unsafe or not path.parent.resolve().is_relative_to(root) or path.is_symlink():
            problems.append(f"{file.path}: would leave {root}")
        elif path.is_dir() or _is_under_file(path, root):
            problems.append(f"{file.path}: a folder and a file of the same name meet")
        else:
            targets.append((file, path))
    if problems:
        raise UserError(
            "Nothing was downloaded", problems=tuple(problems), hint="Choose another folder with --to"
        )
    return targets


def _is_under_file(path: Path, root: Path) -> bool:
    return any(parent.is_file() for parent in path.parents if parent.is_relative_to(root))


def _same(stored: StoredObject, path: Path) -> bool:
    """Whether the file is there with the same content, as far as S3 tells without fetching it."""
    try:
        found = path.stat()
    except OSError:
        return False
    if found.st_size != stored.size:
        return False
    # uploaded in parts, or encrypted with a KMS key: the ETag is no MD5 of the content, but our downloads carry
    # the object's time
    if int(found.st_mtime) == int(stored.modified.timestamp()):
        return True
    if "-" in stored.etag:
        return False
    with path.open("rb") as file:
        return (
            hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() == stored.etag
        )


def _refuse_changed(paths: Iterable[Path], root: Path, overwrite: bool) -> None:
    changed = [str(path.relative_to(root)) for path in paths if path.exists()]
    if changed and not overwrite:
        raise UserError(
            f"{root} holds files that differ from the run's; nothing was downloaded",
            problems=tuple(sorted(changed)[:20]),
            hint="Choose another folder with --to, or replace them with --overwrite",
        )


def _fetch(file: RemoteFile, path: Path) -> int:
    """One file, whole or not at all. Returns its size."""
    stored = file.stored
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.parent / f".download-{secrets.token_hex(8)}"
    try:
        file.store.download(stored.key, part)
        size = part.stat().st_size
        if size != stored.size:
            raise CloudError(
                f"{PurePosixPath(stored.key).name} arrived with {size} bytes instead of {stored.size}",
                hint="Download it again",
            )
        moment = stored.modified.timestamp()
        os.utime(part, (moment, moment))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return stored.size
