"""The system and the hardware, from the kernel's and the system's own files."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Final

from agent.cgroups import CGROUP_ROOT
from agent.doctor.facts import Disk, Host, InstanceStore
from agent.machine import Machine

CLOUDWATCH_AGENT: Final = "/opt/aws/amazon-cloudwatch-agent/bin/amazon-cloudwatch-agent-ctl"
_INSTANCE_STORE: Final = "Instance Storage"
"""In the model's name of every such disk."""
_SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""`shutdown` is in sbin, which a person's PATH may lack and the agent's has."""


def look_at_host(machine: Machine, root: Path = Path("/")) -> Host:
    """Everything of the host that needs nobody's answer.

    Raises:
        OSError: a file of the kernel's cannot be read.
    """
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    libc, libc_version = _libc()
    version, controllers = look_at_cgroups()
    return Host(
        system_id=release.get("ID", ""),
        system_version=release.get("VERSION_ID", ""),
        system_name=release.get("PRETTY_NAME", platform.system()),
        processor=platform.machine(),
        libc=libc,
        libc_version=libc_version,
        python_version=sys.version_info[:3],
        python_folder=sys.prefix,
        # A bundle's Python has no base beside it, but is not below /usr either.
        python_is_own=sys.prefix != sys.base_prefix or not sys.prefix.startswith("/usr"),
        shutdown=shutil.which("shutdown", path=_SYSTEM_PATH),
        cloudwatch_agent=(root / CLOUDWATCH_AGENT.lstrip("/")).exists(),
        cgroup_version=version,
        cgroup_controllers=controllers,
        machine=machine,
        instance_store=look_for_instance_store(root),
    )


def _libc() -> tuple[str, tuple[int, ...]]:
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (ValueError, OSError):
        return "", ()
    return name, tuple(int(part) for part in version.split(".") if part.isdigit())


def look_at_cgroups(root: Path = CGROUP_ROOT) -> tuple[int, frozenset[str]]:
    """The version of control groups, 0 where there are none, and their controllers."""
    listed = root / "cgroup.controllers"
    if listed.exists():
        return 2, frozenset(listed.read_text().split())
    if not root.is_dir():
        return 0, frozenset()
    found = {name for folder in root.iterdir() for name in folder.name.split(",") if folder.is_dir()}
    return (1 if found else 0), frozenset(found)


def look_for_instance_store(root: Path = Path("/")) -> InstanceStore:
    """The machine's own disks, and what is mounted at /scratch.

    Raises:
        OSError: the kernel does not tell.
    """
    disks = []
    for disk in sorted((root / "sys/block").glob("nvme*n1")):
        try:
            model = (disk / "device/model").read_text()
        except OSError:
            continue
        if _INSTANCE_STORE in model:
            disks.append(f"/dev/{disk.name}")
    mounts = [line.split() for line in (root / "proc/self/mounts").read_text().splitlines()]
    devices = [words[0] for words in mounts if len(words) > 1 and words[1] == "/scratch"]
    return InstanceStore(tuple(disks), devices[-1] if devices else None)


def look_at_disk(folder: Path) -> Disk:
    """The file system of a folder; of the nearest one above it that is there.

    Raises:
        OSError: this user may not look.
    """
    there = next(path for path in (folder, *folder.parents) if path.exists())
    usage = shutil.disk_usage(there)
    return Disk(str(folder), usage.total, usage.free)
