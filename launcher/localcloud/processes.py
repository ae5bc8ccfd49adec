"""Finding and ending processes of a local cloud, and never anybody else's.

Every process of ours carries a variable in its environment that nobody else's does. Children inherit it, so
that what an agent started is found too, though the agent is gone and its process id belongs to another.
"""

from __future__ import annotations

import os
from typing import Final

import psutil

CLOUD_FOLDER: Final = "SOLORUN_LOCALCLOUD_FOLDER"
"""Carried by the server and by everything it starts: the cloud's folder."""
CLOUD_ID: Final = "SOLORUN_LOCALCLOUD_ID"
"""Carried by the server and by everything it starts: the id of this start."""
MACHINE: Final = "SOLORUN_LOCALCLOUD_MACHINE"
"""Carried by everything that runs on a simulated machine: the instance id."""

_ROUNDS: Final = 200


def environment_of(pid: int) -> dict[str, str]:
    """The environment a process was started with; empty where there is none, or it is not ours to read."""
    try:
        return psutil.Process(pid).environ()
    except (psutil.Error, OSError):
        return {}


def carrying(variable: str, value: str) -> list[psutil.Process]:
    """The processes whose environment has `variable` set to `value`; never this one."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(variable) == value:
                found.append(process)
        except (psutil.Error, OSError):
            continue  # gone, or another person's
    return found


def kill_all(variable: str, value: str) -> int:
    """Kill every process that carries `variable=value`, also those it starts meanwhile.

    Returns:
        How many were killed.
    """
    killed: set[int] = set()
    for _ in range(_ROUNDS):
        found = carrying(variable, value)
        if not found:
            break
        for process in found:
            killed.add(process.pid)
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        # Zombies count as alive there, and not every init takes them away: look again soon.
        psutil.wait_procs(found, timeout=0.05)
    return len(killed)
