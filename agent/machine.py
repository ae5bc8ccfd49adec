"""How large the machine is, as the workload may use it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CGROUP_ROOT: Final = Path("/sys/fs/cgroup")
_MIN_MEMORY: Final = 64 * 1024**2
"""A limit below this is no machine's size; such a value is taken for damaged and ignored."""


@dataclass(frozen=True)
class Machine:
    """Cpus and bytes of memory of the machine, before anything is reserved."""

    cpus: int
    memory_bytes: int


def read_machine(
    *,
    max_cpus: int | None = None,
    max_memory_bytes: int | None = None,
    cgroup_root: Path = CGROUP_ROOT,
) -> Machine:
    """The machine's size: the hardware, less where the agent is itself in a container that is limited.

    `max_cpus` and `max_memory_bytes` make it no larger than that: so an instance type can be presented on
    another machine. Only the root of the cgroup tree counts: there a container sees its own limits, while
    the limits of a systemd unit, which are the agent's and not the workload's, are further down.
    """
    cpus = [len(os.sched_getaffinity(0)), _quota_cpus(cgroup_root), max_cpus]
    memory = [_physical_memory(), _memory_limit(cgroup_root), max_memory_bytes]
    return Machine(
        cpus=max(1, min(value for value in cpus if value is not None)),
        memory_bytes=min(value for value in memory if value is not None),
    )


def _physical_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _quota_cpus(root: Path) -> int | None:
    """Whole cpus that the quota allows; None where there is none."""
    words = _words(root / "cpu.max")
    if len(words) != 2:
        words = [*_words(root / "cpu/cpu.cfs_quota_us"), *_words(root / "cpu/cpu.cfs_period_us")]
    if len(words) != 2 or not all(word.isdigit() for word in words) or int(words[1]) == 0:
        return None  # no quota is `max` in version 2 of cgroups and -1 in version 1
    return max(1, int(words[0]) // int(words[1]))


def _memory_limit(root: Path) -> int | None:
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        words = _words(root / name)
        if len(words) == 1 and words[0].isdigit() and int(words[0]) >= _MIN_MEMORY:
            return int(words[0])
    return None


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
