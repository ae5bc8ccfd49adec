"""Machines for the doctor: a healthy one, from which each test takes away what it is about."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agent.clock import SystemClock
from agent.contract import RunPointer
from agent.doctor.checks import Finding, Report
from agent.doctor.examination import Eyes, examine
from agent.doctor.facts import (
    Disk,
    Docker,
    DockerSettings,
    Host,
    Instance,
    InstanceStore,
    Reached,
    RunInS3,
    Silence,
    Systemd,
    Unit,
)
from agent.doctor.looking.systemd import AGENT_UNIT, CAPS, LIMITS
from agent.machine import Machine

GIB = 1024**3
RUN_ID = "20261122t120000-abcdef"
PREFIX = f"s3://bucket/work/.solorun/runs/{RUN_ID}"
POINTER = RunPointer(run_id=RUN_ID, prefix=PREFIX, region="eu-west-1", log_group="/solorun")
HOST = Host(
    system_id="amzn",
    system_version="2023",
    system_name="Amazon Linux 2023.12.20260724",
    processor="x86_64",
    libc="glibc",
    libc_version=(2, 34),
    python_version=(3, 12, 11),
    python_folder="/opt/solorun/venv",
    python_is_own=True,
    shutdown="/usr/sbin/shutdown",
    cloudwatch_agent=True,
    cgroup_version=2,
    cgroup_controllers=frozenset({"cpu", "cpuset", "io", "memory", "pids"}),
    machine=Machine(cpus=2, memory_bytes=int(7.6 * GIB)),
    instance_store=InstanceStore(("/dev/nvme1n1",), "/dev/nvme1n1"),
)
DOCKER = Docker("25.0.13", "overlay2", "json-file", live_restore=True, images=("solorun/nextflow:24.10.0",))
SETTINGS = DockerSettings("/var/lib/docker", log_max_size="20m", nofile=1_048_576)
INSTANCE = Instance("i-0abc", "m5d.large", "eu-west-1", "solorun-run", True, POINTER, None)
RUN = RunInS3(PREFIX, "solorun/nextflow:24.10.0", None, False, "i-0abc")
DISK = Disk("/scratch/solorun", 70 * GIB, 60 * GIB)
S3 = Reached("https://s3.eu-west-1.amazonaws.com", 0.2)
LOGS = Reached("https://logs.eu-west-1.amazonaws.com", 0.3)


def unit(name: str, **changes: Any) -> Unit:
    """A unit that is there, enabled and active."""
    return Unit(name, **{"load": "loaded", "active": "active", "enabled": "enabled", **changes})


AGENT = unit(
    AGENT_UNIT,
    watchdog="1min",
    restart="on-failure",
    on_failure="run-agent-gave-up.service",
    environment={"RUN_AGENT_SHUTDOWN_COMMAND": '["systemctl", "poweroff"]', "TOKEN": "verysecret"},
)
SYSTEMD = Systemd(
    "systemd",
    (
        AGENT,
        *(unit(name, active="inactive") for name in CAPS),
        *(unit(name, enabled="transient") for name in LIMITS),
        unit("docker.service"),
        unit("docker.socket"),
        unit("poweroff.target", active="inactive", enabled="static"),
        unit("systemd-poweroff.service", active="inactive", enabled="static"),
    ),
)


def without(*names: str, **changes: Any) -> Systemd:
    """SYSTEMD with these units changed; gone where no change is given."""
    units = [found for found in SYSTEMD.units if found.name not in names or changes]
    return replace(
        SYSTEMD,
        units=tuple(replace(found, **changes) if found.name in names else found for found in units),
    )


@dataclass
class Patient:
    """What the doctor sees, look by look; an exception is raised, and a function called."""

    host: Any = HOST
    docker: Any = DOCKER
    docker_settings: Any = SETTINGS
    instance: Any = INSTANCE
    disk: Any = DISK
    s3: Any = S3
    logs: Any = LOGS
    run: Any = RUN
    systemd: Systemd | Silence = SYSTEMD
    user_id: int = 0
    looked: list[str] = field(default_factory=list)

    def eyes(self) -> Eyes:
        """Looks at this patient."""

        def look(name: str) -> Any:
            def answer(*arguments: Any) -> Any:
                self.looked.append(name)
                value = getattr(self, name)
                if isinstance(value, Exception):
                    raise value
                return value(*arguments) if callable(value) else value

            return answer

        return Eyes(**{name: look(name) for name in Eyes.__dataclass_fields__})

    def examined(self) -> Report:
        """The doctor's report."""
        return examine(
            self.eyes(),
            self.systemd,
            scratch=Path("/scratch/solorun"),
            agent_version="1.2.3",
            user_id=self.user_id,
            clock=SystemClock(),
        )

    def finding(self, name: str) -> Finding:
        """One finding of the report."""
        (found,) = (finding for finding in self.examined().findings if finding.name == name)
        return found
