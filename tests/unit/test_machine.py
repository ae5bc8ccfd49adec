"""The machine's size: hardware, limits of a container around the agent, and caps."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.machine import read_machine

GIB = 1024**3


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_hardware(tmp_path: Path) -> None:
    """Without limits the machine is as large as its hardware."""
    machine = read_machine(cgroup_root=tmp_path)
    assert machine.cpus == len(os.sched_getaffinity(0))
    assert machine.memory_bytes == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    "files",
    [
        {"cpu.max": "150000 100000\n", "memory.max": f"{GIB}\n"},
        {
            "cpu/cpu.cfs_quota_us": "100000\n",
            "cpu/cpu.cfs_period_us": "100000\n",
            "memory/memory.limit_in_bytes": f"{GIB}\n",
        },
    ],
)
def test_limits_of_a_container(tmp_path: Path, files: dict[str, str]) -> None:
    """A container's own limits count, in both versions of control groups; parts of a cpu do not."""
    write(tmp_path, files)
    machine = read_machine(cgroup_root=tmp_path)
    assert (machine.cpus, machine.memory_bytes) == (1, GIB)


@pytest.mark.parametrize(
    "files",
    [
        {"cpu.max": "max 100000\n", "memory.max": "max\n"},
        {
            "cpu/cpu.cfs_quota_us": "-1\n",
            "cpu/cpu.cfs_period_us": "100000\n",
            "memory/memory.limit_in_bytes": "9223372036854771712\n",
        },
        {"cpu.max": "rubbish\n", "memory.max": "0\n"},
    ],
)
def test_no_limits(tmp_path: Path, files: dict[str, str]) -> None:
    """What means no limit, or nothing, limits nothing."""
    write(tmp_path, files)
    assert read_machine(cgroup_root=tmp_path) == read_machine(cgroup_root=tmp_path / "none")


def test_caps(tmp_path: Path) -> None:
    """Caps present a smaller machine, and never a larger one."""
    machine = read_machine(max_cpus=1, max_memory_bytes=GIB, cgroup_root=tmp_path)
    assert (machine.cpus, machine.memory_bytes) == (1, GIB)
    hardware = read_machine(cgroup_root=tmp_path)
    assert read_machine(max_cpus=10**6, max_memory_bytes=10**18, cgroup_root=tmp_path) == hardware
