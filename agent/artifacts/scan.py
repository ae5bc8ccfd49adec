"""What is in a folder: files to upload, and what is left out with its cause. Follows links, within limits."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agent.artifacts.names import escaped, why_no_key

MAX_FILES: Final = 1_000_000
"""A folder whose links multiply each other must not keep the machine running."""


@dataclass(frozen=True)
class FoundFile:
    """A regular file that may be uploaded."""

    name: str
    """Its path below the folder, with slashes."""
    path: str
    """Where its bytes are: the end of all links."""
    size: int
    mtime_ns: int


@dataclass
class Scan:
    """Everything in a folder."""

    files: list[FoundFile] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    """`path: cause`."""


def scan(folder: Path, roots: tuple[Path, ...]) -> Scan:
    """Every file below `folder`. A link counts as what it points to if that is inside `folder` or one of `roots`.

    The agent runs as root and the folder was filled by a pipeline: a link to /etc/shadow must not become an
    artifact. Links in a circle end where they meet a folder they came through.
    """
    found = Scan()
    if not folder.is_dir():
        return found
    allowed = real_roots(folder, roots)
    waiting: list[tuple[str, str, frozenset[tuple[int, int]]]] = [(str(folder), "", frozenset())]
    while waiting:
        path, name, above = waiting.pop()
        try:
            info = os.stat(path)  # noqa: PTH116 - strings with surrogate escapes, a million of them
            entries = sorted(os.scandir(path), key=lambda entry: entry.name)
        except OSError as error:
            found.skipped.append(_line(name, cause_of(error)))
            continue
        here = above | {(info.st_dev, info.st_ino)}
        for entry in entries:
            if len(found.files) >= MAX_FILES:
                found.skipped.append(_line(name, f"only the first {MAX_FILES:,} files are uploaded"))
                return found
            below = f"{name}/{entry.name}" if name else entry.name
            try:
                inside = _visit(entry, below, allowed, here, found)
            except OSError as error:
                found.skipped.append(_line(below, cause_of(error)))
                continue
            if inside is not None:
                waiting.append((inside, below, here))
    return found


def _visit(
    entry: os.DirEntry[str],
    name: str,
    allowed: tuple[str, ...],
    above: frozenset[tuple[int, int]],
    found: Scan,
) -> str | None:
    """Note one entry; the folder's path where it is one to go into."""
    path = entry.path
    if entry.is_symlink():
        path = os.path.realpath(entry.path, strict=True)
        if not is_within(path, allowed):
            found.skipped.append(
                _line(name, f"links to {escaped(path)}, which is outside of the run's folder")
            )
            return None
    info = entry.stat()
    if stat.S_ISDIR(info.st_mode):
        if (info.st_dev, info.st_ino) in above:
            found.skipped.append(_line(name, "links to a folder that it is in itself"))
            return None
        return path
    if not stat.S_ISREG(info.st_mode):
        found.skipped.append(_line(name, f"is a {_kind(info.st_mode)}, not a file"))
        return None
    problem = why_no_key(name)
    if problem is not None:
        found.skipped.append(_line(name, problem))
        return None
    found.files.append(FoundFile(name, path, info.st_size, info.st_mtime_ns))
    return None


def open_within(path: str, allowed: tuple[str, ...]) -> int:
    """A descriptor of the regular file at `path`, which is checked again: it may have been replaced since.

    Raises:
        OSError: it is gone, cannot be read, is no regular file any more, or lies outside of `allowed`.
    """
    # O_NONBLOCK: opening a pipe that nobody writes to would wait for ever.
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    problem = None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        problem = OSError(errno.EINVAL, "is not a file any more")
    elif not is_within(os.readlink(f"/proc/self/fd/{fd}"), allowed):  # noqa: PTH115 - no Path in between
        problem = OSError(errno.EPERM, "was moved outside of the run's folder")
    if problem is not None:
        os.close(fd)
        raise problem
    return fd


def real_roots(folder: Path, roots: tuple[Path, ...]) -> tuple[str, ...]:
    """The folders that a file's real path may lie in."""
    return tuple(dict.fromkeys(os.path.realpath(root) for root in (folder, *roots)))


def is_within(real_path: str, allowed: tuple[str, ...]) -> bool:
    """Whether a path without links is one of `allowed` or below it."""
    return any(real_path == root or real_path.startswith(f"{root.rstrip('/')}/") for root in allowed)


_CAUSES: Final = {
    errno.ENOENT: "is gone, or a link to nothing",
    errno.ELOOP: "is a link that leads back to itself",
    errno.EACCES: "may not be read",
    errno.EPERM: "may not be read",
    errno.ENAMETOOLONG: "its path is too long",
    errno.EIO: "the disk could not read it",
}


def cause_of(error: OSError) -> str:
    """Why a file could not be read, in words."""
    if error.filename is None and error.strerror:
        return error.strerror
    return _CAUSES.get(error.errno or 0, error.strerror or str(error))


def _line(name: str, cause: str) -> str:
    return f"{escaped(name) or '.'}: {cause}"


def _kind(mode: int) -> str:
    kinds: Iterator[str] = (
        name
        for test, name in (
            (stat.S_ISFIFO, "named pipe"),
            (stat.S_ISSOCK, "socket"),
            (stat.S_ISCHR, "device"),
            (stat.S_ISBLK, "device"),
        )
        if test(mode)
    )
    return next(kinds, "special file")
