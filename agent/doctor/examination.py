"""The story: ask everything at once, then what follows from it, then judge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from agent.clock import Clock
from agent.contract import RunPointer
from agent.doctor.asking import Asked
from agent.doctor.checks import SCHEMA_VERSION, Report, verdict_of
from agent.doctor.facts import (
    Disk,
    Docker,
    DockerSettings,
    Host,
    Instance,
    Reached,
    RunInS3,
    Silence,
    Systemd,
)
from agent.doctor.judging.agent import judge_agent, judge_armed
from agent.doctor.judging.cloud import judge_cloud
from agent.doctor.judging.docker import judge_boot, judge_docker, judge_image, judge_settings
from agent.doctor.judging.host import judge_disks, judge_hardware, judge_shutdown, judge_system
from agent.doctor.judging.instance import judge_instance
from agent.doctor.looking.docker import DATA_ROOT

T = TypeVar("T")

SYSTEMD_S: Final = 6.0
MACHINE_S: Final = 9.0
CLOUD_S: Final = 10.0
LONGEST_S: Final = SYSTEMD_S + MACHINE_S + CLOUD_S
"""However much hangs, the report is there by then."""


@dataclass(frozen=True)
class Eyes:
    """How the machine and the cloud are looked at. Each look may hang or raise."""

    host: Callable[[], Host]
    docker: Callable[[], Docker]
    docker_settings: Callable[[], DockerSettings]
    instance: Callable[[], Instance]
    disk: Callable[[Path], Disk]
    s3: Callable[[str], Reached]
    """Takes the region."""
    logs: Callable[[str], Reached]
    """Takes the region."""
    run: Callable[[RunPointer], RunInS3]


def examine(
    eyes: Eyes, systemd: Systemd | Silence, *, scratch: Path, agent_version: str, user_id: int, clock: Clock
) -> Report:
    """Look at the machine and say what is met. Takes LONGEST_S at most; `systemd` was asked before."""

    def ask(look: Callable[[], T], within_s: float) -> Asked[T]:
        return Asked(look, within_s, clock)

    asked_docker = None if _is_down(systemd) else ask(eyes.docker, MACHINE_S)
    asked_host = ask(eyes.host, MACHINE_S)
    asked_settings = ask(eyes.docker_settings, MACHINE_S)
    asked_instance = ask(eyes.instance, MACHINE_S)
    asked_scratch = ask(lambda: eyes.disk(scratch), MACHINE_S)
    settings = asked_settings.answer()
    data_root = DATA_ROOT if isinstance(settings, Silence) else settings.data_root
    asked_data = ask(lambda: eyes.disk(Path(data_root)), MACHINE_S)
    instance = asked_instance.answer()

    s3: Reached | Silence | None = None
    logs: Reached | Silence | None = None
    run: RunInS3 | Silence | None = None
    if isinstance(instance, Instance):
        pointer, region = instance.pointer, instance.region
        asked_s3 = ask(lambda: eyes.s3(region), CLOUD_S)
        asked_logs = ask(lambda: eyes.logs(pointer.region if pointer else region), CLOUD_S)
        asked_run = ask(lambda: eyes.run(pointer), CLOUD_S) if pointer else None
        s3, logs = asked_s3.answer(), asked_logs.answer()
        run = asked_run.answer() if asked_run else None

    docker = asked_docker.answer() if asked_docker else Silence("docker.service does not run")
    host = asked_host.answer()
    findings = (
        *judge_system(host),
        *judge_agent(systemd),
        judge_shutdown(host, systemd),
        judge_boot(systemd),
        judge_docker(docker, systemd),
        judge_image(docker, run, systemd),
        *judge_settings(docker, settings),
        *judge_instance(instance),
        judge_armed(systemd, instance),
        *judge_hardware(host),
        *judge_disks(asked_data.answer(), asked_scratch.answer(), settings),
        *judge_cloud(instance, s3, run, logs),
    )
    return Report(
        schema_version=SCHEMA_VERSION,
        agent_version=agent_version,
        user_id=user_id,
        instance_id=instance.instance_id if isinstance(instance, Instance) else None,
        verdict=verdict_of(findings),
        findings=findings,
    )


def _is_down(systemd: Systemd | Silence) -> bool:
    """A daemon that systemd would start when its socket is touched: the doctor starts nothing."""
    if isinstance(systemd, Silence):
        return False
    unit = systemd.unit("docker.service")
    return unit.is_there and not unit.is_active
