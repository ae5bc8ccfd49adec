"""Where a local cloud keeps what it keeps: one folder, gone after `launcher local down`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class CloudFolder:
    """`<state folder>/localcloud`: a name for each place in it."""

    root: Path

    @property
    def state(self) -> Path:
        """Where the server is and how to talk to it; there while it is up."""
        return self.root / "state.json"

    @property
    def lock(self) -> Path:
        """Held by the `up` or `down` under way."""
        return self.root / "lock"

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.root / "server.log"

    @property
    def objects(self) -> Path:
        """Large S3 objects and other temporary files of the server."""
        return self.root / "objects"

    @property
    def machines(self) -> Path:
        """A folder for every instance, named by its id."""
        return self.root / "machines"

    @property
    def scratch(self) -> Path:
        """The disk of the machines: a folder for every Nextflow session, at the same path for all of them."""
        return self.root / "scratch"

    @property
    def trash(self) -> Path:
        """What is being removed from the scratch folder."""
        return self.root / "trash"

    def machine(self, instance_id: str) -> MachineFolder:
        """The folder of one instance."""
        return MachineFolder(self.machines / instance_id)

    def create(self) -> None:
        """Make every folder, readable for nobody else; existing ones stay as they are."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in (self.objects, self.machines, self.scratch, self.trash):
            path.mkdir(exist_ok=True)


@dataclass(frozen=True)
class MachineFolder:
    """What belongs to one instance alone."""

    root: Path

    @property
    def console(self) -> Path:
        """What the agent writes to stdout and stderr: the machine's console."""
        return self.root / "console.log"

    @property
    def agent_log(self) -> Path:
        """The agent's own log."""
        return self.root / "run-agent.log"

    @property
    def power_off(self) -> Path:
        """Made by the agent's shutdown command: the switch of this machine, and of no other."""
        return self.root / "power-off"

    @property
    def temporary(self) -> Path:
        """The agent's TMPDIR."""
        return self.root / "tmp"

    def create(self) -> None:
        """Make the folders; existing ones stay as they are."""
        self.temporary.mkdir(parents=True, exist_ok=True)
