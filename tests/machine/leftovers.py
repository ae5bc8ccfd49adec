"""What a test run that was killed left behind: cgroups and folders. Everything else went with its processes."""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tests.machine import cgroups

STATE: Final = Path("/run/solorun-machines")
"""One file a machine, named after it: its owner and its folder."""
_numbers = itertools.count(1)


def new_name() -> str:
    """A name that no other machine on this computer has."""
    return f"solorun-{os.getpid()}-{next(_numbers)}"


@contextmanager
def owned(name: str, folder: Path) -> Iterator[None]:
    """Note down that this process looks after a machine; where something of it stays, so does the note."""
    note = STATE / name
    with _alone():
        note.write_text(f"{os.getpid()} {_started(os.getpid())}\n{folder}\n")
    try:
        yield
    finally:
        if not folder.exists() and not cgroups.folders(name):
            with _alone():
                note.unlink()


def clear() -> list[str]:
    """Remove what is left of machines whose owners are gone; returns their names."""
    gone = []
    with _alone():
        for note in STATE.iterdir():
            noted = note.read_text().splitlines()
            if len(noted) != 2:  # its owner was killed while it wrote, before it made anything
                note.unlink()
                continue
            owner, folder = noted
            pid, started = owner.split()
            if _started(int(pid)) == started:
                continue
            cgroups.thaw(note.name)
            for process in cgroups.processes(note.name):
                with suppress(ProcessLookupError):
                    os.kill(process, 9)
            cgroups.remove(note.name)
            shutil.rmtree(folder, ignore_errors=True)
            note.unlink()
            gone.append(note.name)
    return gone


@contextmanager
def _alone() -> Iterator[None]:
    """One process at a time has to do with the notes."""
    STATE.mkdir(exist_ok=True)
    descriptor = os.open(STATE, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _started(pid: int) -> str:
    """When a process began, in ticks since boot: with the pid it names one process for ever."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except OSError:
        return ""
