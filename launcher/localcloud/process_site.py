"""Where machines are processes on this computer: they share its Docker, and one scratch folder."""

from __future__ import annotations

import logging
import secrets
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, cast

from launcher.catalog import NEXTFLOW_IMAGE
from launcher.localcloud.agent_environment import Place
from launcher.localcloud.docker_host import DockerTrouble
from launcher.localcloud.fleet import Instance
from launcher.localcloud.ground import Ground
from launcher.localcloud.keys import KeyRing
from launcher.localcloud.machine import Machine, MachineState
from launcher.localcloud.metadata_service import MetadataServer, by_secret_path
from launcher.localcloud.metadata_values import InstanceMetadata
from launcher.localcloud.process_machine import ProcessMachine, Shared
from launcher.localcloud.runs import pointer_of

log = logging.getLogger(__name__)

_LOOK_S: Final = 1.0


class Disk(Protocol):
    """What is needed to empty the machines' trash."""

    def remove_folder(self, folder: Path, images: tuple[str, ...]) -> None:
        """Remove a folder, also files of root in it; DockerTrouble where that fails."""


@dataclass
class ProcessSite:
    """Makes the machines, and says to their metadata service who they are."""

    shared: Shared
    keys: KeyRing
    """Takes the credentials of every machine."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _by_secret: dict[str, ProcessMachine] = field(default_factory=dict)

    def metadata(self, secret: str) -> InstanceMetadata | None:
        """What the metadata service says to the machine with this secret; None to strangers."""
        with self._lock:
            machine = self._by_secret.get(secret)
        return machine.metadata() if machine else None

    def machine(
        self, instance: Instance, before: Machine | None, others: Sequence[Machine]
    ) -> Machine | None:
        """A machine for an instance; None while the disk that it needs is another's. See Site."""
        mine = cast("Sequence[ProcessMachine]", others)
        if self._waits_for_disk(instance, mine):
            return None
        old = next((machine for machine in mine if machine is before), None)
        secret = old.secret if old else secrets.token_urlsafe(16)
        credentials = old.credentials if old else self.keys.make_temporary()
        made = ProcessMachine(self.shared, instance, secret, credentials)
        with self._lock:
            self._by_secret[secret] = made
        return made

    def _waits_for_disk(self, instance: Instance, others: Sequence[ProcessMachine]) -> bool:
        """Whether the session's folder is still that of another machine, which will clear it as it goes off.

        A relaunched run has its predecessor's session. In EC2 it has a disk of its own; here it boots later.
        """
        metadata = self.shared.fleet.metadata(instance.id)
        pointer = pointer_of(metadata.user_data) if metadata else None
        # The agent itself leaves a run alone that somebody else has claimed.
        if pointer is None or self.shared.runs.claimed_by(pointer) is not None:
            return False
        facts = self.shared.runs.facts(pointer)
        if facts is None:
            return False
        folder = self.shared.place.folder.scratch / facts.session_id
        return any(
            other.state is not MachineState.OFF and other.run_folder() == folder
            for other in others
            if other.instance.id != instance.id
        )


@contextmanager
def process_site(ground: Ground, *, agent_command: Sequence[str]) -> Iterator[ProcessSite]:
    """The site of a local cloud, with its metadata service.

    Args:
        ground: what every site stands on.
        agent_command: starts the agent on a machine.
    """
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        metadata_url = "http://{}:{}".format(*listening.getsockname())
        docker = ground.docker
        endpoint = ground.server.endpoint_url
        place = Place(ground.folder, endpoint, metadata_url, ground.environ, docker.host, docker.size())
        shared = Shared(place, agent_command, ground.fleet, docker, ground.runs, ground.clock)
        site = ProcessSite(shared, ground.keys)
        with (
            MetadataServer(listening, by_secret_path(site.metadata), now=ground.clock.now),
            _emptied(ground.folder.trash, docker),
        ):
            yield site


@contextmanager
def _emptied(trash: Path, disk: Disk) -> Iterator[None]:
    """Remove what machines left on their disk, for the duration. It may need a container, so nobody waits for it."""
    closing = threading.Event()

    def empty() -> None:
        refused: set[Path] = set()
        while not closing.wait(_LOOK_S):
            for folder in set(trash.iterdir()) - refused:
                try:
                    disk.remove_folder(folder, (NEXTFLOW_IMAGE,))
                except DockerTrouble as trouble:
                    log.error("%s; `launcher local down` tries again", trouble)
                    refused.add(folder)

    janitor = threading.Thread(target=empty, name="janitor", daemon=True)
    janitor.start()
    try:
        yield
    finally:
        closing.set()
        janitor.join()
