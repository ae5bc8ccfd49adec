"""Docker: that it is there, and that it is set up for many large containers."""

from __future__ import annotations

import re
from typing import Final

from agent.doctor.checks import Check, Finding, Level, Part
from agent.doctor.facts import Docker, DockerSettings, RunInS3, Silence, Systemd
from agent.doctor.judging.agent import BROUGHT, is_foreign
from agent.doctor.looking.docker import UNLIMITED
from agent.workloads.nextflow import OPEN_FILES

_OLDEST: Final = (20, 10)
"""The first that knows version 2 of control groups."""
_STORAGE_DRIVERS: Final = ("overlay2", "overlayfs")
_ENDLESS_LOGS: Final = "json-file"
"""Of Docker's own log drivers, the one that does not begin anew by itself."""
_OUR_IMAGE: Final = "solorun/nextflow"

DOCKER: Final = Check("docker", "Docker answers", Part.IMAGE, Level.REQUIRED)
AT_BOOT: Final = Check("docker-at-boot", "Docker starts at boot", Part.IMAGE, Level.REQUIRED)
IMAGE: Final = Check("nextflow-image", "Nextflow's image", Part.IMAGE, Level.REQUIRED)
STORAGE: Final = Check("docker-storage", "Docker's storage", Part.IMAGE, Level.RECOMMENDED)
LIVE_RESTORE: Final = Check("docker-live-restore", "Docker's live-restore", Part.IMAGE, Level.RECOMMENDED)
LOGS: Final = Check("docker-logs", "Docker's log rotation", Part.IMAGE, Level.RECOMMENDED)
FILES: Final = Check("docker-open-files", "Docker's open files", Part.IMAGE, Level.RECOMMENDED)

_RESTART: Final = "in /etc/docker/daemon.json, then `systemctl restart docker`"
_AS_ROOT: Final = "Run the doctor as root, or as a member of the group docker."


def judge_docker(docker: Docker | Silence, systemd: Systemd | Silence) -> Finding:
    """Whether the daemon answers, and is new enough."""
    if isinstance(docker, Silence):
        if docker.forbidden:
            return DOCKER.unknown(docker.why, _AS_ROOT)
        if _starts_when_used(systemd):
            return DOCKER.unknown(
                f"{docker.why}: docker.socket starts it when it is first used",
                "Start it with `systemctl start docker`, then run the doctor again.",
            )
        return DOCKER.not_met(
            docker.why,
            "Install Docker if it is not there; else start it with `systemctl start docker` and see "
            "`journalctl -u docker`. One that hangs is ended by `systemctl restart docker`.",
        )
    numbers = tuple(int(part) for part in re.findall(r"\d+", docker.version)[:2])
    if numbers < _OLDEST:
        return DOCKER.not_met(f"version {docker.version}", "Install Docker 20.10 or newer.")
    return DOCKER.met(f"version {docker.version}")


def _starts_when_used(systemd: Systemd | Silence) -> bool:
    """Its socket listens and it has not run yet; one that failed would fail again."""
    if isinstance(systemd, Silence):
        return False
    return systemd.unit("docker.service").active == "inactive" and systemd.unit("docker.socket").is_active


def judge_boot(systemd: Systemd | Silence) -> Finding:
    """Whether the daemon is there without anybody's doing."""
    if isinstance(systemd, Silence):
        return AT_BOOT.unknown("systemd does not tell")
    if not systemd.is_there:
        return AT_BOOT.unknown("systemd does not run")
    enabled = [name for name in ("docker.service", "docker.socket") if systemd.unit(name).is_enabled]
    if enabled:
        return AT_BOOT.met(f"{' and '.join(enabled)} enabled")
    unit = systemd.unit("docker.service")
    if not unit.is_there:
        return AT_BOOT.not_met(f"docker.service is {unit.load}", "Install Docker from the system's packages.")
    return AT_BOOT.not_met(
        f"docker.service is {unit.enabled}", "Enable it: `systemctl enable docker.service`."
    )


def judge_image(
    docker: Docker | Silence, run: RunInS3 | Silence | None, systemd: Systemd | Silence
) -> Finding:
    """Whether a run's first container can start: its image is here, or can be pulled."""
    if isinstance(docker, Silence):
        return IMAGE.unknown("Docker does not tell")
    if isinstance(run, RunInS3) and run.container_image is not None:
        wanted = run.container_image
        name = wanted if ":" in wanted.rpartition("/")[2] or "@" in wanted else f"{wanted}:latest"
        if name in docker.images:
            return IMAGE.met(f"{wanted} is on the machine")
        if run.has_archive:
            return IMAGE.met(f"{wanted} is brought from the work dir's bucket when the run starts")
        if not wanted.startswith(f"{_OUR_IMAGE}:"):
            return IMAGE.met(f"{wanted} is pulled when the run starts")
        return IMAGE.not_met(f"the run asks for {wanted}, which is not on the machine", _HAVE_IMAGE)
    ours = [image for image in docker.images if image.startswith(f"{_OUR_IMAGE}:")]
    if ours:
        return IMAGE.met(f"{', '.join(ours)} on the machine")
    if is_foreign(systemd):
        return IMAGE.not_applicable(BROUGHT)
    return IMAGE.not_met(f"no {_OUR_IMAGE} on the machine, and no registry has it", _HAVE_IMAGE)


_HAVE_IMAGE: Final = (
    "Build it with `make images` and bring it here with `docker save` and `docker load`; or push it to your "
    "registry and name it as `container_image` of the compute environment."
)


def judge_settings(docker: Docker | Silence, settings: DockerSettings | Silence) -> tuple[Finding, ...]:
    """What a daemon as it comes out of its package lacks."""
    if isinstance(docker, Silence):
        by_daemon = tuple(check.unknown("Docker does not tell") for check in (STORAGE, LIVE_RESTORE, LOGS))
    else:
        by_daemon = (_storage(docker), _live_restore(docker), _logs(docker, settings))
    return *by_daemon, _files(settings)


def _storage(docker: Docker) -> Finding:
    if docker.storage_driver in _STORAGE_DRIVERS:
        return STORAGE.met(docker.storage_driver)
    return STORAGE.not_met(
        docker.storage_driver or "none",
        f"""Set "storage-driver": "overlay2" {_RESTART}. Images must then be loaded again.""",
    )


def _live_restore(docker: Docker) -> Finding:
    if docker.live_restore:
        return LIVE_RESTORE.met("live-restore is on")
    return LIVE_RESTORE.not_met("live-restore is off", f"""Set "live-restore": true {_RESTART}.""")


def _logs(docker: Docker, settings: DockerSettings | Silence) -> Finding:
    if docker.logging_driver != _ENDLESS_LOGS:
        return LOGS.met(f"the log driver is {docker.logging_driver}")
    if isinstance(settings, Silence):
        return LOGS.unknown(settings.why, "Run the doctor as root.")
    if settings.log_max_size:
        return LOGS.met(f"begun anew at {settings.log_max_size}")
    return LOGS.not_met(
        "the log driver is json-file, without max-size: a chatty task can fill the disk",
        f"""Set "log-opts": {{"max-size": "20m", "max-file": "2"}} {_RESTART}.""",
    )


def _files(settings: DockerSettings | Silence) -> Finding:
    limit = f"""{{"nofile": {{"Name": "nofile", "Soft": {OPEN_FILES}, "Hard": {OPEN_FILES}}}}}"""
    advice = (
        f"""Set "default-ulimits": {limit} {_RESTART}. Amazon Linux sets a lower one in OPTIONS of """
        "/etc/sysconfig/docker: remove it there, as Docker refuses to start with both."
    )
    if isinstance(settings, Silence):
        return FILES.unknown(settings.why, "Run the doctor as root.")
    if settings.nofile is None:
        return FILES.unknown("no limit is set, and dockerd's own could not be read", advice)
    if settings.nofile == UNLIMITED:
        return FILES.met("unlimited")
    if settings.nofile >= OPEN_FILES:
        return FILES.met(f"{settings.nofile}")
    return FILES.not_met(f"{settings.nofile}; Fusion recommends {OPEN_FILES}", advice)
