"""The system, its tools, and the hardware."""

from __future__ import annotations

from typing import Final

from agent.doctor.checks import Check, Finding, Level, Part
from agent.doctor.facts import Disk, DockerSettings, Host, Silence, Systemd
from agent.doctor.looking.host import CLOUDWATCH_AGENT
from agent.doctor.looking.systemd import AGENT_UNIT

_GIB: Final = 1024**3
_SYSTEMS: Final = {"amzn": "2023", "debian": "12"}
_PROCESSORS: Final = ("x86_64", "aarch64")
OLDEST_LIBC: Final = (2, 31)
"""Debian 11's and Ubuntu 20.04's; Amazon Linux 2023 has 2.34. The agent bundle is held to it."""
_PYTHON: Final = (3, 11)
_CONTROLLERS: Final = frozenset({"cpu", "memory", "pids"})
MIN_FREE: Final = _GIB
"""With less, Docker and the agent come to a halt before they can say why."""
_MIN_CPUS: Final = 2
_MIN_MEMORY: Final = 3.5 * _GIB
"""A machine of 4 GB; 1 GiB of it is for Nextflow and the system."""

SYSTEM: Final = Check("system", "Operating system", Part.IMAGE, Level.RECOMMENDED)
PROCESSOR: Final = Check("processor", "Processor", Part.IMAGE, Level.REQUIRED)
LIBC: Final = Check("libc", "C library", Part.IMAGE, Level.REQUIRED)
CGROUPS: Final = Check("cgroups", "Control groups", Part.IMAGE, Level.RECOMMENDED)
SHUTDOWN: Final = Check("shutdown", "Can turn itself off", Part.IMAGE, Level.REQUIRED)
CLOUDWATCH: Final = Check("cloudwatch-agent", "CloudWatch agent", Part.IMAGE, Level.RECOMMENDED)
PYTHON: Final = Check("agent-python", "The agent's Python", Part.IMAGE, Level.REQUIRED)
SIZE: Final = Check("size", "Cpus and memory", Part.INSTANCE, Level.RECOMMENDED)
INSTANCE_STORE: Final = Check("instance-store", "Instance-store disks", Part.INSTANCE, Level.RECOMMENDED)
DOCKER_DISK: Final = Check("disk-docker", "Room for Docker", Part.INSTANCE, Level.REQUIRED)
SCRATCH_DISK: Final = Check("disk-scratch", "Room for runs", Part.INSTANCE, Level.REQUIRED)

_ASK_AGAIN: Final = (
    "Run the doctor again; when the answer stays away, look at the machine's load and its disks."
)


def judge_system(host: Host | Silence) -> tuple[Finding, ...]:
    """What the machine image brings beside Docker and the agent's units."""
    if isinstance(host, Silence):
        checks = (SYSTEM, PROCESSOR, LIBC, CGROUPS, CLOUDWATCH, PYTHON)
        return tuple(check.unknown(host.why, _ASK_AGAIN) for check in checks)
    return (
        _system(host),
        _processor(host),
        _libc(host),
        _cgroups(host),
        _cloudwatch(host),
        _python(host),
    )


def judge_shutdown(host: Host | Silence, systemd: Systemd | Silence) -> Finding:
    """Whether the agent can end the machine: nothing else ends what costs money."""
    if isinstance(host, Silence):
        return SHUTDOWN.unknown(host.why, _ASK_AGAIN)
    if isinstance(systemd, Silence):
        return SHUTDOWN.unknown("systemd does not tell")
    if host.shutdown is None:
        return SHUTDOWN.not_met(
            "there is no `shutdown`", "Install it: it comes with systemd, on Debian in systemd-sysv."
        )
    if not systemd.is_there:
        return SHUTDOWN.unknown(f"{host.shutdown}, but systemd does not run")
    for name in ("poweroff.target", "systemd-poweroff.service"):
        if not systemd.unit(name).is_there:
            return SHUTDOWN.not_met(
                f"{name} is {systemd.unit(name).load}", f"Allow it: `systemctl unmask {name}`."
            )
    agent = systemd.unit(AGENT_UNIT)
    if agent.is_there and "RUN_AGENT_SHUTDOWN_COMMAND" not in agent.environment:
        return SHUTDOWN.not_met(
            f"{AGENT_UNIT} sets no RUN_AGENT_SHUTDOWN_COMMAND, so the agent turns nothing off",
            f"""Add Environment='RUN_AGENT_SHUTDOWN_COMMAND=["systemctl", "poweroff"]' to {AGENT_UNIT}.""",
        )
    return SHUTDOWN.met(f"{host.shutdown}, and systemd's way is open")


def judge_hardware(host: Host | Silence) -> tuple[Finding, ...]:
    """What the instance type gives."""
    if isinstance(host, Silence):
        return tuple(check.unknown(host.why, _ASK_AGAIN) for check in (SIZE, INSTANCE_STORE))
    return _size(host), _instance_store(host)


def judge_disks(
    docker: Disk | Silence, scratch: Disk | Silence, settings: DockerSettings | Silence
) -> tuple[Finding, ...]:
    """Room for container images, and for the files of runs."""
    note = "" if not isinstance(settings, Silence) else " (Docker's usual folder)"
    return (
        _disk(DOCKER_DISK, docker, note),
        _disk(SCRATCH_DISK, scratch, ""),
    )


def _system(host: Host) -> Finding:
    if _SYSTEMS.get(host.system_id) == host.system_version:
        return SYSTEM.met(host.system_name)
    return SYSTEM.not_met(
        host.system_name,
        "Others than Amazon Linux 2023 and Debian 12 may work, and are not tested: try a short run first.",
    )


def _processor(host: Host) -> Finding:
    if host.processor in _PROCESSORS:
        return PROCESSOR.met(host.processor)
    return PROCESSOR.not_met(host.processor, "Use an instance type with an Intel, AMD or Graviton processor.")


def _libc(host: Host) -> Finding:
    found = f"{host.libc} {'.'.join(str(part) for part in host.libc_version)}".strip() or "not glibc"
    if host.libc == "glibc" and host.libc_version >= OLDEST_LIBC:
        return LIBC.met(found)
    oldest = ".".join(map(str, OLDEST_LIBC))
    return LIBC.not_met(found, f"Use a system with glibc {oldest} or newer, as Amazon Linux 2023.")


def _cgroups(host: Host) -> Finding:
    missing = sorted(_CONTROLLERS - host.cgroup_controllers)
    if host.cgroup_version and not missing:
        return CGROUPS.met(f"version {host.cgroup_version}, with {', '.join(sorted(_CONTROLLERS))}")
    found = f"version {host.cgroup_version}, without {', '.join(missing)}" if host.cgroup_version else "none"
    return CGROUPS.not_met(
        found, "Enable them on the kernel's command line; without them a task can take all of the machine."
    )


def _cloudwatch(host: Host) -> Finding:
    if host.cloudwatch_agent:
        return CLOUDWATCH.met("installed")
    return CLOUDWATCH.not_met(
        f"{CLOUDWATCH_AGENT} is not there",
        "Install the package amazon-cloudwatch-agent. Runs and their logs do without; the machine's own journal "
        "and its memory and disk are then not in CloudWatch.",
    )


def _python(host: Host) -> Finding:
    version = ".".join(str(part) for part in host.python_version)
    if host.python_version < _PYTHON:
        return PYTHON.not_met(version, "Install the agent with Python 3.11 or newer.")
    if not host.python_is_own:
        return PYTHON.not_met(
            f"{version}, the system's ({host.python_folder})",
            "Install the agent into a virtual environment: the system's Python changes with its packages.",
        )
    return PYTHON.met(f"{version} in {host.python_folder}")


def _size(host: Host) -> Finding:
    machine = host.machine
    found = f"{machine.cpus} cpu{'s' if machine.cpus > 1 else ''}, {machine.memory_bytes / _GIB:.1f} GiB"
    if machine.cpus >= _MIN_CPUS and machine.memory_bytes >= _MIN_MEMORY:
        return SIZE.met(found)
    return SIZE.not_met(found, "Choose an instance type with 2 vCPUs and 4 GB of memory or more.")


def _instance_store(host: Host) -> Finding:
    disks, device = host.instance_store.disks, host.instance_store.scratch_device
    if not disks:
        return INSTANCE_STORE.not_applicable("this instance type has none: the root disk is used")
    if device is not None and (device in disks or device.startswith("/dev/md")):
        return INSTANCE_STORE.met(f"{', '.join(disks)} at /scratch")
    return INSTANCE_STORE.not_met(
        f"{', '.join(disks)}; /scratch is {f'on {device}' if device else 'not mounted'}",
        "Mount them at /scratch: enable scratch.service (ansible/roles/scratch), and see `journalctl -u scratch`.",
    )


def _disk(check: Check, disk: Disk | Silence, note: str) -> Finding:
    if isinstance(disk, Silence):
        return check.unknown(disk.why, "Run the doctor as root.")
    found = f"{disk.folder}{note}: {disk.free_bytes / _GIB:.1f} of {disk.total_bytes / _GIB:.1f} GiB free"
    if disk.free_bytes >= MIN_FREE:
        return check.met(found)
    return check.not_met(found, "Start the instance with a larger boot disk, or remove what is not needed.")
