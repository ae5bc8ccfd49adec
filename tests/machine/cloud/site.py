"""Where machines are booted ones: the third place where a run can live, beside the local cloud's processes and EC2."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

from launcher.localcloud.fleet import End, Instance
from launcher.localcloud.ground import Ground
from launcher.localcloud.machine import Machine, MachineState
from launcher.localcloud.metadata_values import Credentials
from tests.machine import build
from tests.machine.fabric import Fabric, fabric
from tests.machine.machine import Image, booted

log = logging.getLogger(__name__)

_LOOK_S: Final = 0.1


@dataclass(frozen=True)
class BootedSite:
    """Boots a machine for every instance, from the image that the roles made."""

    ground: Ground
    image: Image
    network: Fabric

    def machine(self, instance: Instance, before: Machine | None, others: Sequence[Machine]) -> BootedMachine:
        """A machine for an instance, at once: it has disks of its own. See launcher.localcloud.machine.Site.

        An instance that was stopped and is started again has new disks.
        """
        del others
        credentials = before.credentials if before else self.ground.keys.make_temporary()
        return BootedMachine(self, instance, credentials)


class BootedMachine(Machine):
    """A machine of tests/machine; what its metadata service says is the instance's own record."""

    def __init__(self, site: BootedSite, instance: Instance, credentials: Credentials) -> None:
        folder = site.ground.folder.machine(instance.id)
        folder.create()
        super().__init__(site.ground.fleet, site.ground.clock, instance, credentials, folder.console)
        self._site = site
        self._power = ExitStack()

    def _until_end(self) -> End:
        site = self._site
        machine = self._power.enter_context(
            booted(site.image, site.network, build.FOLDER, tell=self.metadata, console=self.console)
        )
        self.state = MachineState.RUNNING
        log.info("%s boots as %s", self.instance.id, machine.name)
        while (end := self._must_end()) is None:
            if machine.is_off:
                return End.POWERED_OFF
            self._wait(_LOOK_S)
        return end

    def _turn_off(self, *, stays: bool) -> None:
        del stays
        self._power.close()


@contextmanager
def booted_site(image: Image, ground: Ground) -> Iterator[BootedSite]:
    """The site, with a network in which the machines reach the cloud's moto and their metadata service."""

    @contextmanager
    def serve(listening: socket.socket) -> Iterator[None]:
        ground.server.serve_also(listening)
        yield

    with fabric(serve) as network:
        yield BootedSite(ground, image, network)
