"""What a container uses, read from the kernel's own files: no daemon is asked, so a look costs microseconds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

CGROUP_ROOT: Final = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Usage:
    """What a container has used since its start, and the memory that it has now."""

    cpu_s: float
    """Seconds of one cpu."""
    memory_bytes: int
    """Without page cache that the kernel can drop."""
    read_bytes: int
    written_bytes: int


def read_usage(container_id: str, root: Path = CGROUP_ROOT) -> Usage | None:
    """A running container's use; None where its control group is gone or cannot be found.

    Knows version 1 and 2 of control groups, with Docker's two drivers: systemd's scopes and plain folders.
    """
    if (root / "cgroup.controllers").exists():
        return _version_2(container_id, root)
    return _version_1(container_id, root)


def _version_2(container_id: str, root: Path) -> Usage | None:
    folder = _folder(container_id, root)
    if folder is None:
        return None
    cpu = _table(folder / "cpu.stat")
    io = [word.partition("=") for word in _text(folder / "io.stat").split() if "=" in word]
    return Usage(
        cpu_s=cpu.get("usage_usec", 0) / 1e6,
        memory_bytes=_memory(folder, "memory.current", "inactive_file"),
        read_bytes=sum(int(value) for name, _, value in io if name == "rbytes"),
        written_bytes=sum(int(value) for name, _, value in io if name == "wbytes"),
    )


def _version_1(container_id: str, root: Path) -> Usage | None:
    memory = _folder(container_id, root / "memory")
    if memory is None:
        return None
    cpu = _folder(container_id, root / "cpuacct") or _folder(container_id, root / "cpu,cpuacct")
    blkio = _folder(container_id, root / "blkio")
    io = (
        [line.split() for line in _text(blkio / "blkio.throttle.io_service_bytes").splitlines()]
        if blkio
        else []
    )
    return Usage(
        cpu_s=_number(cpu / "cpuacct.usage") / 1e9 if cpu else 0.0,
        memory_bytes=_memory(memory, "memory.usage_in_bytes", "total_inactive_file"),
        read_bytes=sum(int(words[2]) for words in io if len(words) == 3 and words[1] == "Read"),
        written_bytes=sum(int(words[2]) for words in io if len(words) == 3 and words[1] == "Write"),
    )


def _folder(container_id: str, controller: Path) -> Path | None:
    for name in (f"system.slice/docker-{container_id}.scope", f"docker/{container_id}"):
        folder = controller / name
        if folder.is_dir():
            return folder
    return None


def _memory(folder: Path, current: str, droppable: str) -> int:
    used = _number(folder / current)
    return max(0, used - _table(folder / "memory.stat").get(droppable, 0))


def _table(path: Path) -> dict[str, int]:
    rows = (line.split() for line in _text(path).splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}


def _number(path: Path) -> int:
    text = _text(path).strip()
    return int(text) if text.isdigit() else 0


def _text(path: Path) -> str:
    """A file of the kernel's; empty where it is gone, as the container ended this moment."""
    try:
        return path.read_text()
    except OSError:
        return ""
