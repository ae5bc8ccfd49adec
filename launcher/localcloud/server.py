"""The local cloud's server: moto, the supervisor and the metadata service in one process."""

from __future__ import annotations

import logging
import secrets
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from launcher.catalog import NEXTFLOW_IMAGE
from launcher.clock import Clock
from launcher.localcloud.agent_environment import Place
from launcher.localcloud.docker_host import DockerHost
from launcher.localcloud.folders import CloudFolder
from launcher.localcloud.keys import KeyRing
from launcher.localcloud.metadata_service import MetadataServer, by_secret_path
from launcher.localcloud.provision import REGION, Clients, provision
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
    agent_command: Sequence[str]
    pid: int


def serve(options: ServerOptions, environ: Mapping[str, str], clock: Clock) -> None:
    """Be the local cloud until SIGTERM or SIGINT; leave no machine behind.

    Raises:
        UserError: Docker cannot be used.
    """
    folder = CloudFolder(options.folder)
    folder.create()
    # moto puts large objects into temporary files.
    tempfile.tempdir = str(folder.objects)
    with _signals() as told_to_stop, DockerHost.connect(environ) as docker:
        _serve(options, folder, environ, clock, docker, told_to_stop)


def _serve(
    options: ServerOptions,
    folder: CloudFolder,
    environ: Mapping[str, str],
    clock: Clock,
    docker: DockerHost,
    told_to_stop: threading.Event,
) -> None:
    # imported here: half a second that only this process spends
    from launcher.localcloud.fleet import MotoFleet
    from launcher.localcloud.gate import Gate
    from launcher.localcloud.machine import Site
    from launcher.localcloud.moto_server import MotoServer, moto_application
    from launcher.localcloud.runs import RunsInS3

    keys = KeyRing()
    own = keys.make_permanent()
    control_token = secrets.token_urlsafe(30)
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening, MotoServer() as server:
        metadata_url = "http://{}:{}".format(*listening.getsockname())
        clients = Clients(server.endpoint_url, own)
        place = Place(folder, server.endpoint_url, metadata_url, environ, docker.host, docker.size())
        fleet = MotoFleet()
        runs = RunsInS3(clients.client("s3"))
        site = Site(place, options.agent_command, fleet, docker, runs, clock)
        supervisor = Supervisor(site, keys, docker, (NEXTFLOW_IMAGE,))
        gate = Gate(moto_application(), keys, supervisor, control_token, options.cloud_id)
        server.serve(gate)
        for arch, image_id in provision(clients).items():
            fleet.set_architecture(image_id, arch)
        state = LocalCloudState(
            cloud_id=options.cloud_id,
            pid=options.pid,
            endpoint_url=server.endpoint_url,
            region=REGION,
            started_at=clock.now(),
            folder=folder.root,
            access_key=own.access_key,
            secret_key=own.secret_key,
            control_token=control_token,
        )
        with MetadataServer(listening, by_secret_path(supervisor.metadata), now=clock.now):
            _until_told(supervisor, folder, state, told_to_stop)
    shutil.rmtree(folder.objects, ignore_errors=True)
    log.info("down")


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
