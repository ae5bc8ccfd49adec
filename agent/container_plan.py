"""What a container is to be, and what became of it: the vocabulary of agent/containers.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum, unique
from typing import Final

RUN_LABEL: Final = "solorun.run"
ROLE_LABEL: Final = "solorun.role"
INSTANCE_LABEL: Final = "solorun.instance"
WORK_DIR_LABEL: Final = "solorun.work_dir"
"""On tasks: the work dir that they run in."""
PLUGINS_LABEL: Final = "solorun.nextflow.plugins"
"""On our Nextflow images: the plugins that are baked in, comma-separated; empty where there are none."""


@unique
class Role(StrEnum):
    """What a container is in its run; the value of ROLE_LABEL."""

    WORKLOAD = "workload"
    """Nextflow's head, or the Studio."""
    TASK = "task"
    """A task that the head started beside itself."""


@dataclass(frozen=True)
class Mount:
    """A folder or file of the machine, seen inside a container. Both paths are absolute."""

    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True)
class ContainerPlan:
    """A container that is to be started. Values of `environment` may be secret and are not shown."""

    image: str
    command: tuple[str, ...]
    name: str
    labels: Mapping[str, str]
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    mounts: tuple[Mount, ...] = ()
    working_dir: str = "/"
    user: str | None = None
    """As Docker takes it, `uid[:gid]` or a name; the image's own where None."""
    network_mode: str = "host"


@dataclass(frozen=True)
class ContainerExit:
    """How a container ended: its exit code, and what Docker says of it."""

    code: int
    oom_killed: bool
    """The kernel killed a process of it for want of memory."""
    error: str
    """The daemon's words where the container could not be run; mostly empty."""


@dataclass(frozen=True)
class Running:
    """A container that runs."""

    id: str
    started_at: str
    """As Docker says it, RFC 3339."""


@dataclass(frozen=True)
class Exited:
    """A container that has ended and is still there."""

    id: str
    exit: ContainerExit


@dataclass(frozen=True)
class Listed:
    """A running container of the run."""

    id: str
    name: str
    role: str
    work_dir: str = ""
    """Of a task, where it is known."""


def split_image(image: str) -> tuple[str, str | None]:
    """`name` and tag or digest; without either it is `latest`, as for `docker pull` (the API pulls all)."""
    if "@" in image:
        return image, None
    name, colon, tag = image.rpartition(":")
    if not colon or "/" in tag:
        return image, "latest"
    return name, tag
