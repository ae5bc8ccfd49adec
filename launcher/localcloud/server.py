"""The local cloud's server: moto, the supervisor and the metadata service in one process."""

from __future__ import annotations

import logging
import secrets
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from launcher.clock import Clock
from launcher.localcloud.docker_host import DockerHost
from launcher.localcloud.fleet import MotoFleet
from launcher.localcloud.folders import CloudFolder
from launcher.localcloud.gate import Gate
from launcher.localcloud.ground import Ground, MakeSite
from launcher.localcloud.keys import KeyRing
from launcher.localcloud.machine import Site
from launcher.localcloud.metadata_values import Credentials
from launcher.localcloud.moto_server import MotoServer, moto_application
from launcher.localcloud.provision import REGION, Clients, provision
from launcher.localcloud.runs import RunsInS3
from launcher.localcloud.state import LocalCloudState, save
from launcher.localcloud.supervisor import Supervisor

log = logging.getLogger(__name__)

CLOSE_S: Final = 25.0
"""What all machines together may take to go off when the server ends."""


@dataclass(frozen=True)
class ServerOptions:
    """How the server is to be."""

    folder: Path
    cloud_id: str
    pid: int


def serve(options: ServerOptions, environ: Mapping[str, str], clock: Clock, make_site: MakeSite) -> None:
    """Be the local cloud until SIGTERM or SIGINT; leave no machine behind.

    Args:
        options: how the server is to be.
        environ: its own environment.
        clock: times everything.
        make_site: makes the place where machines stand.

    Raises:
        UserError: Docker cannot be used.
    """
    folder = CloudFolder(options.folder)
    folder.create()
    # moto puts large objects into temporary files.
    tempfile.tempdir = str(folder.objects)
    with _signals() as told_to_stop, DockerHost.connect(environ) as docker:
        keys = KeyRing()
        with MotoServer() as server:
            own = keys.make_permanent()
            runs = RunsInS3(Clients(server.endpoint_url, own).client("s3"))
            ground = Ground(folder, environ, docker, server, keys, MotoFleet(), runs, clock)
            with make_site(ground) as site:
                _serve(options, ground, site, own, told_to_stop)
    shutil.rmtree(folder.objects, ignore_errors=True)
    log.info("down")


def _serve(
    options: ServerOptions, ground: Ground, site: Site, own: Credentials, told_to_stop: threading.Event
) -> None:
    control_token = secrets.token_urlsafe(30)
    supervisor = Supervisor(ground.fleet, site, ground.clock)
    ground.server.serve(Gate(moto_application(), ground.keys, supervisor, control_token, options.cloud_id))
    for arch, image_id in provision(Clients(ground.server.endpoint_url, own)).items():
        ground.fleet.set_architecture(image_id, arch)
    state = LocalCloudState(
        cloud_id=options.cloud_id,
        pid=options.pid,
        endpoint_url=ground.server.endpoint_url,
        region=REGION,
        started_at=ground.clock.now(),
        folder=ground.folder.root,
        access_key=own.access_key,
        secret_key=own.secret_key,
        control_token=control_token,
    )
    _until_told(supervisor, ground.folder, state, told_to_stop)


def _until_told(
    supervisor: Supervisor, folder: CloudFolder, state: LocalCloudState, told_to_stop: threading.Event
) -> None:
    supervisor.start()
    save(state)
    log.info("up at %s", state.endpoint_url)
    try:
        told_to_stop.wait()
        log.info("going down")
    finally:
        supervisor.close(CLOSE_S)
        folder.state.unlink(missing_ok=True)


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """SIGTERM and SIGINT set an event; the handlers before are put back afterwards."""
    told = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: told.set()) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
