"""What machines of any kind stand on: moto's fleet, its address, the cloud's folder and Docker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

from launcher.clock import Clock
from launcher.localcloud.docker_host import DockerHost
from launcher.localcloud.fleet import MotoFleet
from launcher.localcloud.folders import CloudFolder
from launcher.localcloud.keys import KeyRing
from launcher.localcloud.machine import Site
from launcher.localcloud.moto_server import MotoServer
from launcher.localcloud.runs import Runs


@dataclass(frozen=True)
class Ground:
    """What the server gives to the site of its machines."""

    folder: CloudFolder
    environ: Mapping[str, str]
    """The server's own environment."""
    docker: DockerHost
    server: MotoServer
    """Answers on this computer; a site may have it answer elsewhere too, before it is up."""
    keys: KeyRing
    """Lets machines in."""
    fleet: MotoFleet
    runs: Runs
    clock: Clock


MakeSite = Callable[[Ground], AbstractContextManager[Site]]
"""Makes the site for as long as the server is up."""
