"""testinfra's way into a test machine: no ssh, no network."""

from __future__ import annotations

from typing import Any

from testinfra.backend import base
from testinfra.host import Host

from tests.machine.machine import Machine


class NsenterBackend(base.BaseBackend):  # type: ignore[misc]  # testinfra has no types
    """Runs every command in the machine's namespaces."""

    NAME = "nsenter"

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine.name)
        self._machine = machine

    def run(self, command: str, *args: str, **_options: Any) -> base.CommandResult:
        """One command, by a shell."""
        words = self.get_command(command, *args)
        done = self._machine.run("/bin/sh", "-c", words)
        return self.result(done.returncode, self.encode(words), done.stdout, done.stderr)


def inside(machine: Machine) -> Host:
    """A test machine as testinfra knows hosts."""
    return Host(NsenterBackend(machine))
