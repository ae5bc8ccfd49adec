"""The environment of an agent on a simulated machine: explicit, and nothing of the person's own AWS set-up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from launcher.localcloud.docker_host import DockerSize
from launcher.localcloud.fleet import Instance
from launcher.localcloud.folders import CloudFolder, MachineFolder
from launcher.localcloud.processes import MACHINE

FROM_THE_COMPUTER: Final = (
    "DOCKER_CERT_PATH",
    "DOCKER_CONFIG",
    "DOCKER_HOST",
    "DOCKER_TLS_VERIFY",
    "LANG",
    "LC_ALL",
    "PATH",
    "PYTHONPATH",
    "XDG_RUNTIME_DIR",
    "SOLORUN_LOCALCLOUD_FOLDER",
    "SOLORUN_LOCALCLOUD_ID",
)
"""What an agent may know of the computer: how to find programs and Docker, and whose cloud it is of."""


@dataclass(frozen=True)
class Place:
    """Where all machines of a local cloud are."""

    folder: CloudFolder
    endpoint_url: str
    """AWS, as far as the machines know."""
    metadata_url: str
    """The metadata services; each machine's is below it, at a path of its own."""
    environ: Mapping[str, str]
    """The server's own environment."""
    docker_host: str | None
    size: DockerSize
    """What Docker has for all containers together."""


def shutdown_command(folder: MachineFolder) -> list[str]:
    """The command by which an agent ends its machine here. It makes a file, and that is all it does."""
    return ["touch", str(folder.power_off)]


def agent_environment(place: Place, instance: Instance, secret: str) -> dict[str, str]:
    """The whole environment of the agent of one instance.

    Args:
        place: where the machine is.
        instance: which machine.
        secret: the path of its metadata service.
    """
    folder = place.folder.machine(instance.id)
    kept = {name: place.environ[name] for name in FROM_THE_COMPUTER if name in place.environ}
    if place.docker_host:
        kept["DOCKER_HOST"] = place.docker_host
    if "DOCKER_CONFIG" not in kept and "HOME" in place.environ:
        # HOME is another one: without this, `docker login` would be forgotten.
        kept["DOCKER_CONFIG"] = f"{place.environ['HOME']}/.docker"
    return kept | {
        "AWS_ENDPOINT_URL": place.endpoint_url,
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"{place.metadata_url}/{secret}",
        "AWS_REGION": instance.region,
        "AWS_DEFAULT_REGION": instance.region,
        "HOME": str(folder.root),
        "TMPDIR": str(folder.temporary),
        "PYTHONUNBUFFERED": "1",
        "RUN_AGENT_LOG_FILE": str(folder.agent_log),
        "RUN_AGENT_SCRATCH": str(place.folder.scratch),
        "RUN_AGENT_SHUTDOWN_COMMAND": json.dumps(shutdown_command(folder)),
        "RUN_AGENT_CPUS": str(min(instance.cpus, place.size.cpus)),
        "RUN_AGENT_MEMORY_BYTES": str(min(instance.memory_bytes, place.size.memory_bytes)),
        MACHINE: instance.id,
    }
