"""The cgroups of a machine: one folder of its own in each hierarchy, version 1 or 2, with or without systemd."""

from __future__ import annotations

import contextlib
import os
import re
import time
from pathlib import Path
from typing import Final

ROOT: Final = Path("/sys/fs/cgroup")
SYSTEMD: Final = Path("/run/systemd/system")
_RMDIR_S: Final = 60.0
_JOIN: Final = 'while [ "$1" != -- ]; do echo $$ > "$1" || exit 1; shift; done; shift; exec "$@"'


def version_2() -> bool:
    """Whether this computer has only version 2."""
    return (ROOT / "cgroup.controllers").exists()


def launcher(name: str) -> list[str]:
    """What stands before a command that is to live, with all its children, in a machine's cgroups and not in ours."""
    if version_2() and SYSTEMD.is_dir():
        return [
            *("systemd-run", "--scope", "--quiet", "--collect", f"--unit={name}"),
            *("--property=Delegate=yes", "--"),
        ]
    # Before the command, and not in a hook of Popen's: those are not for a process with threads.
    files = [str(hierarchy / name / "cgroup.procs") for hierarchy in _hierarchies()]
    return ["/bin/sh", "-c", _JOIN, "sh", *files, "--"]


def _hierarchies() -> list[Path]:
    if version_2():
        return [] if SYSTEMD.is_dir() else [ROOT]
    return [path for path in ROOT.iterdir() if (path / "cgroup.procs").exists() and not path.is_symlink()]


def make(name: str) -> None:
    """A machine's folders."""
    for hierarchy in _hierarchies():
        folder = hierarchy / name
        folder.mkdir(exist_ok=True)
        for file in ("cpuset.cpus", "cpuset.mems"):  # version 1 begins without any
            if (folder / file).exists() and not version_2():
                (folder / file).write_text((hierarchy / file).read_text())
        if (folder / "cgroup.clone_children").exists() and (folder / "cpuset.cpus").exists():
            (folder / "cgroup.clone_children").write_text("1")


def processes(name: str) -> set[int]:
    """All processes of a machine that are left."""
    found: set[int] = set()
    for folder in folders(name):
        with contextlib.suppress(OSError):
            found |= {int(word) for word in (folder / "cgroup.procs").read_text().split()}
    return found


def leader(name: str) -> int:
    """A machine's first process, as this computer numbers it; 0 where there is none."""
    for pid in processes(name):
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{pid}/status").read_text()
            # Third in a line of PID namespaces: this computer's, its keeper's, its own. A container's is a fourth.
            if re.search(r"^NSpid:\t\d+\t\d+\t1$", status, re.MULTILINE):
                return pid
    return 0


def thaw(name: str) -> None:
    """A paused container is not killed before it is thawed, in version 1."""
    for folder in folders(name):
        with contextlib.suppress(OSError):
            if (folder / "freezer.state").exists():
                (folder / "freezer.state").write_text("THAWED")


def remove(name: str) -> None:
    """Remove a machine's folders, once their processes are gone.

    Raises:
        OSError: something lives on in them.
    """
    deadline = time.monotonic() + _RMDIR_S
    for folder in folders(name):
        while folder.exists():
            try:
                folder.rmdir()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)


def folders(name: str) -> list[Path]:
    """A machine's folders that are there; those inside come before those around them.

    Raises:
        ValueError: this names no machine: nobody is to be given every process of this computer.
    """
    if not name or "/" in name or name.startswith("."):
        raise ValueError(f"{name!r} is no machine's name")
    if version_2() and SYSTEMD.is_dir():
        own = [ROOT / "system.slice" / f"{name}.scope"]
    else:
        own = [hierarchy / name for hierarchy in _hierarchies()]
    return [Path(folder) for top in own for folder, _, _ in os.walk(top, topdown=False)]
