"""The least that could stand in the run-agent's place: a unit that does `docker run`, then turns the machine off."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Final

AGENT_UNIT: Final = "etc/systemd/system/run-agent.service"
_PROGRAM: Final = "/usr/local/lib/bare-unit"
_ORDER: Final = ("Wants=", "Requires=", "After=", "Before=")


@dataclass(frozen=True)
class BareUnit:
    """The run-agent's unit without the agent."""

    image: str
    """The container image."""
    command: tuple[str, ...]
    """What the container does."""
    folder: Path
    """On the machine; `output` and `ended` appear there."""

    @property
    def output(self) -> Path:
        """What the command says. The container's first process makes the file, as with the agent."""
        return self.folder / "output"

    @property
    def ended(self) -> Path:
        """Made when the container is gone, right before the machine is turned off."""
        return self.folder / "ended"

    def files(self, root: Path) -> dict[str, str]:
        """The machine's files, path to text; the unit is ordered as the run-agent's in `root` is.

        Raises:
            ValueError: that unit has no order.
        """
        order = unit_order((root / AGENT_UNIT).read_text())
        if not order:
            raise ValueError(f"{root / AGENT_UNIT} says nothing of what it starts after")
        unit = ["[Unit]", *order, "[Service]", f"ExecStart=/bin/sh {_PROGRAM}"]
        return {f"/{AGENT_UNIT}": "\n".join(unit) + "\n", _PROGRAM: self._program()}

    def _program(self) -> str:
        folder = str(self.folder)
        # The container, option for option, that the agent would start.
        docker_run = [
            *("docker", "run", "--network=host", "--log-driver=none"),
            *("--volume=/var/run/docker.sock:/var/run/docker.sock", f"--volume={folder}:{folder}"),
            *("--workdir", folder, "--entrypoint=/bin/sh", self.image),
            *("-c", 'exec "$@" >>"$0" 2>&1', str(self.output), *self.command),
        ]
        steps = (
            ["mkdir", "-p", folder],
            docker_run,
            ["touch", str(self.ended)],
            ["systemctl", "poweroff"],
        )
        return "".join(f"{shlex.join(step)}\n" for step in steps)


def unit_order(unit: str) -> list[str]:
    """The lines of a unit that say what it starts after and with, in their order."""
    return [line for line in unit.splitlines() if line.startswith(_ORDER)]
