"""A machine image of a person's own: what it is given through the work bucket, kept there by checksum."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.contract import BOOT_REPORT, program_key, run_key
from launcher import console
from launcher.compute_envs import ComputeEnv
from launcher.machines import MachineImage
from launcher.plan import Brought
from launcher.programs import Program, agent_for, container_image_for
from launcher.store import Store
from launcher.text import size
from launcher.user_data import Links

LINK_S: Final = 3600
"""How long a machine's links are good for; it uses them within minutes of RunInstances."""
SHOWN_LINKS: Final = Links("(made when the machine is started)", "(made when the machine is started)")
"""In a plan that is only shown."""


@dataclass(frozen=True)
class Bringing:
    """What is brought to the machine."""

    agent: Program
    container_image: Program | None
    """None where the machine pulls it from a registry."""

    @property
    def programs(self) -> tuple[Program, ...]:
        """All of it."""
        return (self.agent, *([self.container_image] if self.container_image else []))

    def send(self, store: Store, work_dir: str) -> None:
        """Have all of it in the work bucket. What is there already is not sent again.

        Raises:
            UserError: an archive was changed after it was built, or S3 refuses.
            CloudError: S3 does not answer.
        """
        for program in self.programs:
            key = program_key(work_dir, program.sha256)
            if store.size(key) == program.bytes:
                continue
            program.check()
            console.say(
                f"Sending {program.what} ({size(program.bytes)}) to {store.uri(key)}; this is done once."
            )
            with console.byte_progress(program.what, program.bytes) as progress:
                store.upload(program.path, key, content_type="application/gzip", progress=progress)

    def brought(self, links: Links) -> Brought:
        """The part of it that a launch plan has."""
        return Brought(
            agent_sha256=self.agent.sha256,
            links=links,
            container_archive_sha256=self.container_image.sha256 if self.container_image else None,
            sends=tuple((program.what, program.bytes) for program in self.programs),
        )

    def links(self, store: Store, work_dir: str, run_id: str) -> Links:
        """Links for the machine of a run.

        Raises:
            UserError: there are no credentials to sign them with.
        """
        return Links(
            agent=store.link(program_key(work_dir, self.agent.sha256), seconds=LINK_S),
            report=store.link(run_key(work_dir, run_id) + BOOT_REPORT, seconds=LINK_S, write=True),
        )


def what_to_bring(folder: Path, ce: ComputeEnv, image: MachineImage) -> Bringing | None:
    """What machines from `image` must be given; None where it has the agent. `folder` is where `make bundle` puts it.

    Raises:
        UserError: it was not built.
    """
    if image.has_agent:
        return None
    return Bringing(agent_for(folder, ce.arch), container_image_for(folder, ce.arch, ce.container_image))
