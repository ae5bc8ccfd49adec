"""What was seen of a machine, before anybody judges it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.contract import RunPointer
from agent.machine import Machine


@dataclass(frozen=True)
class Silence:
    """A look that brought no answer."""

    why: str
    forbidden: bool = False
    """This user may not look; another may."""


@dataclass(frozen=True)
class Unit:
    """A unit, in systemd's own words (`systemctl show`)."""

    name: str
    load: str = "not-found"
    active: str = "inactive"
    enabled: str = ""
    watchdog: str = "0"
    restart: str = "no"
    on_failure: str = ""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """May hold secrets: never shown."""
    environment_files: tuple[str, ...] = ()

    @property
    def is_there(self) -> bool:
        """Whether systemd has it and may start it."""
        return self.load == "loaded"

    @property
    def is_active(self) -> bool:
        """Whether it runs, or waits, as a timer does."""
        return self.active in ("active", "activating", "reloading")

    @property
    def is_enabled(self) -> bool:
        """Whether it is started at boot."""
        return self.enabled in ("enabled", "enabled-runtime")


@dataclass(frozen=True)
class Systemd:
    """The first process, and the units that matter here."""

    first_process: str
    """The name of PID 1."""
    units: tuple[Unit, ...] = ()
    left_alone: bool = False
    """The dead-man's switch has let go of the machine, which was started by hand."""

    @property
    def is_there(self) -> bool:
        """Whether systemd runs this machine."""
        return self.first_process == "systemd"

    def unit(self, name: str) -> Unit:
        """A unit by its name; one that is not there where nothing is known of it."""
        return next((unit for unit in self.units if unit.name == name), Unit(name))


@dataclass(frozen=True)
class Disk:
    """The file system that a folder is on."""

    folder: str
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class InstanceStore:
    """Disks that belong to the machine itself, and what /scratch is."""

    disks: tuple[str, ...]
    scratch_device: str | None
    """What is mounted at /scratch; None where that is a folder of the root disk, or nothing."""


@dataclass(frozen=True)
class Host:
    """The system and the hardware."""

    system_id: str
    """As in os-release: `amzn`, `debian`."""
    system_version: str
    system_name: str
    """For people."""
    processor: str
    libc: str
    """`glibc`, or an empty string where it is another."""
    libc_version: tuple[int, ...]
    python_version: tuple[int, int, int]
    python_folder: str
    python_is_own: bool
    """A virtual environment or a bundle, not the system's Python."""
    shutdown: str | None
    """Where the program is."""
    cloudwatch_agent: bool
    cgroup_version: int
    cgroup_controllers: frozenset[str]
    machine: Machine
    instance_store: InstanceStore


@dataclass(frozen=True)
class DockerSettings:
    """What dockerd was told, in its file and on its command line; None where nothing was said."""

    data_root: str
    log_max_size: str | None
    nofile: int | None
    """Open files that a container may have at first (the soft limit)."""


@dataclass(frozen=True)
class Docker:
    """What the daemon says of itself."""

    version: str
    storage_driver: str
    logging_driver: str
    live_restore: bool
    images: tuple[str, ...]
    """By name and tag."""


@dataclass(frozen=True)
class Instance:
    """What the metadata service says."""

    instance_id: str
    instance_type: str
    region: str
    role: str | None
    """Of the instance profile; None where the instance has none."""
    two_hops: bool
    """Whether its tokens reach a container."""
    pointer: RunPointer | None
    pointer_problem: str | None
    """Why user data that are meant for us cannot be understood."""


@dataclass(frozen=True)
class Reached:
    """An endpoint that answered."""

    url: str
    skew_s: float | None
    """How far the machine's clock is ahead of the answer's Date; None where the answer had none."""


@dataclass(frozen=True)
class RunInS3:
    """What is readable under the run's prefix."""

    prefix: str
    container_image: str | None
    """That the run spec asks for; None where the spec is not to be read."""
    problem: str | None
    """Why the run spec or the claim is not to be read."""
    has_archive: bool
    """Whether the run brings that image along."""
    claimed_by: str | None
    """An instance's id; None while nobody has claimed the run."""
