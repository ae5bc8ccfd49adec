"""A folder as a tar archive and back, exactly: names of any bytes, links as links, mtimes to the nanosecond.

The standard library writes mtimes as floats, which lose the last digits, and Nextflow's cache compares them. So each
member carries its mtime as text in a PAX header, and unpacking takes it from there.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from agent.tar import tarfile

CHUNK: Final = 1024**2
_RECORD: Final = tarfile.RECORDSIZE
_BLOCK: Final = tarfile.BLOCKSIZE


def members(folder: Path) -> list[str]:
    """Every folder, file and link below `folder`, as relative paths in the order to pack them; `.` comes first.

    Raises:
        OSError: a folder cannot be read.
    """
    found = ["."]
    for path, folders, files in os.walk(folder, onerror=_raise):
        below = os.path.relpath(path, folder)
        found += [os.path.normpath(os.path.join(below, name)) for name in sorted(folders + files)]  # noqa: PTH118 - strings, as os.walk has them
    return found


def _raise(error: OSError) -> None:
    raise error


def packed_size(folder: Path, names: Iterable[str]) -> int:
    """About how many bytes the archive has: enough to choose how to send it."""
    size = _RECORD
    for name in names:
        info = (folder / name).lstat()
        size += 3 * _BLOCK + (info.st_size + _BLOCK if stat.S_ISREG(info.st_mode) else 0)
    return size


def pack(folder: Path, names: Iterable[str]) -> Iterator[bytes]:
    """The archive of `names` below `folder`, in chunks of about 1 MiB. Pipes and sockets are left out.

    Raises:
        OSError: a file is gone, cannot be read, or became shorter while it was read.
    """
    pending: list[bytes] = []
    size = total = 0
    for piece in _pieces(folder, names):
        pending.append(piece)
        size += len(piece)
        total += len(piece)
        if size >= CHUNK:
            yield b"".join(pending)
            pending, size = [], 0
    end = 2 * _BLOCK
    end += -(total + end) % _RECORD
    yield b"".join([*pending, bytes(end)])


def _pieces(folder: Path, names: Iterable[str]) -> Iterator[bytes]:
    for name in names:
        path = folder / name
        info = path.lstat()
        if stat.S_ISREG(info.st_mode):
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                yield from _file(fd, name)
            finally:
                os.close(fd)
        elif stat.S_ISDIR(info.st_mode):
            yield _header(name, info, tarfile.DIRTYPE)
        elif stat.S_ISLNK(info.st_mode):
            yield _header(name, info, tarfile.SYMTYPE, target=os.readlink(path))  # noqa: PTH115 - Path would normalise the target


def _file(fd: int, name: str) -> Iterator[bytes]:
    info = os.fstat(fd)
    yield _header(name, info, tarfile.REGTYPE, size=info.st_size)
    left = info.st_size
    while left:
        chunk = os.read(fd, min(left, CHUNK))
        if not chunk:
            raise OSError(f"{name} became shorter while it was read")
        left -= len(chunk)
        yield chunk
    yield bytes(-info.st_size % _BLOCK)


def _header(name: str, info: os.stat_result, kind: bytes, *, size: int = 0, target: str = "") -> bytes:
    member = tarfile.TarInfo(name)
    member.type = kind
    member.size = size
    member.linkname = target
    member.mode = stat.S_IMODE(info.st_mode)
    member.uid, member.gid = info.st_uid, info.st_gid
    member.mtime = info.st_mtime_ns // 10**9
    member.pax_headers = {"mtime": f"{info.st_mtime_ns // 10**9}.{info.st_mtime_ns % 10**9:09d}"}
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def unpack(archive: Path, folder: Path) -> None:
    """Unpack into `folder`, with modes, mtimes and (as root) owners as they were packed.

    Links may point anywhere, as a task's inputs do; nothing is written outside of `folder`, through a link neither.
    Set-user-id and the like are dropped.

    Raises:
        tarfile.TarError: the archive is damaged, or has a member that would leave the folder or is no file.
        OSError: the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folders: list[tarfile.TarInfo] = []
    with tarfile.open(archive, errorlevel=2) as tar:
        for member in tar:
            tar.extract(member, folder, set_attrs=False, filter=_checked)
            if member.isdir():
                folders.append(member)
            else:
                _restore(folder / member.name, member)
    # Last and deepest first: every file that is made in a folder changes its mtime.
    for member in reversed(folders):
        _restore(folder / member.name, member)


def _checked(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo:
    if not (member.isreg() or member.isdir() or member.issym()):
        raise tarfile.SpecialFileError(member)
    tarfile.tar_filter(member, folder)  # raises for what would be written outside
    if member.name.startswith("/"):
        raise tarfile.AbsolutePathError(member)
    return member


def _restore(path: Path, member: tarfile.TarInfo) -> None:
    if os.geteuid() == 0:
        os.chown(path, member.uid, member.gid, follow_symlinks=False)
    if not member.issym():
        path.chmod(member.mode & 0o777)
    seconds, _, fraction = member.pax_headers.get("mtime", str(int(member.mtime))).partition(".")
    mtime_ns = int(seconds) * 10**9 + int(fraction.ljust(9, "0")[:9])
    os.utime(path, ns=(mtime_ns, mtime_ns), follow_symlinks=False)
