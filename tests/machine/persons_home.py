"""The home of who runs the tests, as a program sees it that must leave it alone: what it writes there is caught, and
settings of ssh that it must not read are such that ssh refuses them."""

from __future__ import annotations

import os
import pwd
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

# ssh finds the home in the user database, whatever HOME says. Everything is in memory: the disk may itself be a layer.
_CATCH: Final = """set -e
home=$1 own=$2 written=$3 kept=$4
shift 4
mount -t tmpfs tmpfs "$own"
mkdir -p "$own/traps/.ssh" "$own/upper" "$own/work" "$own/kept"
chmod 700 "$own/traps/.ssh"
echo 'ThisIsNoOption yes' > "$own/traps/.ssh/config"
mount --bind "$kept" "$own/kept"
mount -t overlay overlay -o "lowerdir=$own/traps:$home,upperdir=$own/upper,workdir=$own/work" "$home"
case $kept in "$home"/*) mount --bind "$own/kept" "$kept" ;; esac
code=0
"$@" || code=$?
(cd "$own/upper" && find . -mindepth 1) > "$written"
exit $code
"""


@dataclass
class PersonsHome:
    """What stands before a command, and what the command did to the home."""

    prefix: tuple[str, ...]
    agent: Path
    """For SSH_AUTH_SOCK: an ssh agent that nobody may ask."""
    _written: Path
    asked: list[str] = field(default_factory=list)
    """One entry for each time that the agent was asked."""

    @property
    def written(self) -> list[str]:
        """What was written there, from the home on; the command must have ended."""
        return self._written.read_text().splitlines()


@contextmanager
def guarded(folder: Path, keep: Path) -> Iterator[PersonsHome]:
    """A guard on the home.

    Args:
        folder: for the guard's own files; not below the home.
        keep: the folder that may be written to, wherever it is.
    """
    own, written, agent = folder / "guard", folder / "written", folder / "agent"
    own.mkdir()
    home = pwd.getpwuid(os.geteuid()).pw_dir
    prefix = ("unshare", "--mount", "sh", "-c", _CATCH, "sh", home, str(own), str(written), str(keep))
    made = PersonsHome(prefix, agent, written)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(agent))
        listening.listen()

        def refuse() -> None:
            with suppress(OSError):  # closed: the guard is over
                while True:
                    listening.accept()[0].close()
                    made.asked.append("asked")

        watcher = threading.Thread(target=refuse, daemon=True)
        watcher.start()
        try:
            yield made
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            watcher.join()
