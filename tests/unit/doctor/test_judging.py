"""The doctor's judgements, on machines that lack one thing each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.doctor.checks import Level, State, Verdict
from agent.doctor.facts import Disk, DockerSettings, InstanceStore, RunInS3, Silence, Systemd
from agent.doctor.looking.systemd import AGENT_UNIT, CAPS, LIMITS
from agent.errors import DockerError
from agent.machine import Machine
from agent.metadata import MetadataUnavailable
from tests.unit.doctor.machines import (
    DOCKER,
    GIB,
    HOST,
    INSTANCE,
    PREFIX,
    RUN,
    S3,
    SETTINGS,
    SYSTEMD,
    Patient,
    without,
)

UNSET_CAPS = without(*CAPS, enabled="disabled")
BY_HAND = replace(INSTANCE, pointer=None)
NOT_ARMED = without(*LIMITS, active="inactive")
CAPPED = replace(
    NOT_ARMED,
    units=tuple(replace(u, active="active") if u.name in CAPS else u for u in NOT_ARMED.units),
)


def test_a_healthy_machine_is_ready() -> None:
    """Every check is met, none twice, and there is nothing to do."""
    report = Patient().examined()
    assert report.verdict is Verdict.READY
    assert {finding.state for finding in report.findings} == {State.MET}
    assert {finding.advice for finding in report.findings} == {""}
    names = [finding.name for finding in report.findings]
    assert len(names) == len(set(names))
    assert report.instance_id == "i-0abc"


LACKING: dict[str, tuple[str, dict[str, Any], str]] = {
    "another system": ("system", {"host": replace(HOST, system_id="rhel")}, "not tested"),
    "an old release": ("system", {"host": replace(HOST, system_version="2")}, "not tested"),
    "another processor": ("processor", {"host": replace(HOST, processor="riscv64")}, "Graviton"),
    "an old glibc": ("libc", {"host": replace(HOST, libc_version=(2, 26))}, "2.31"),
    "another libc": ("libc", {"host": replace(HOST, libc="", libc_version=())}, "2.31"),
    "no memory controller": (
        "cgroups",
        {"host": replace(HOST, cgroup_controllers=frozenset({"cpu", "pids"}))},
        "command line",
    ),
    "no cgroups": ("cgroups", {"host": replace(HOST, cgroup_version=0)}, "command line"),
    "no CloudWatch agent": (
        "cloudwatch-agent",
        {"host": replace(HOST, cloudwatch_agent=False)},
        "amazon-cloud",
    ),
    "an old Python": ("agent-python", {"host": replace(HOST, python_version=(3, 9, 2))}, "3.11"),
    "the system's Python": (
        "agent-python",
        {"host": replace(HOST, python_is_own=False)},
        "virtual environment",
    ),
    "another first process": ("systemd", {"systemd": Systemd("init")}, "Boot with systemd"),
    "a silent systemd": ("systemd", {"systemd": Silence("no answer within 6 s")}, "Reboot"),
    "no agent": ("agent-unit", {"systemd": without(AGENT_UNIT)}, "run_agent"),
    "a disabled agent": (
        "agent-unit",
        {"systemd": without(AGENT_UNIT, enabled="disabled")},
        "systemctl enable",
    ),
    "a masked agent": ("agent-unit", {"systemd": without(AGENT_UNIT, load="masked")}, "run_agent"),
    "no watchdog": ("agent-watchdog", {"systemd": without(AGENT_UNIT, watchdog="0")}, "drop-in"),
    "no second layer": ("agent-watchdog", {"systemd": without(AGENT_UNIT, on_failure="")}, "drop-in"),
    "an agent that is not started again": (
        "agent-watchdog",
        {"systemd": without(AGENT_UNIT, restart="no")},
        "drop-in",
    ),
    "no dead-man's switch": ("dead-man", {"systemd": without(*CAPS)}, "stays on"),
    "a switch that is off": ("dead-man", {"systemd": UNSET_CAPS}, "systemctl enable machine-cap.timer"),
    "no shutdown": ("shutdown", {"host": replace(HOST, shutdown=None)}, "systemd-sysv"),
    "a masked poweroff": (
        "shutdown",
        {"systemd": without("poweroff.target", load="masked")},
        "systemctl unmask poweroff.target",
    ),
    "an agent that turns nothing off": (
        "shutdown",
        {"systemd": without(AGENT_UNIT, environment={})},
        "RUN_AGENT_SHUTDOWN_COMMAND=",
    ),
    "Docker that is not enabled": (
        "docker-at-boot",
        {"systemd": without("docker.service", "docker.socket", enabled="disabled")},
        "systemctl enable docker",
    ),
    "no Docker": (
        "docker-at-boot",
        {"systemd": without("docker.service", "docker.socket")},
        "Install Docker",
    ),
    "Docker that does not run": (
        "docker",
        {"systemd": without("docker.service", "docker.socket", active="inactive")},
        "systemctl start docker",
    ),
    "Docker that does not answer": (
        "docker",
        {"docker": DockerError("silent for 4 s")},
        "systemctl restart docker",
    ),
    "an old Docker": ("docker", {"docker": replace(DOCKER, version="19.03.15")}, "20.10"),
    "another storage driver": (
        "docker-storage",
        {"docker": replace(DOCKER, storage_driver="vfs")},
        "overlay2",
    ),
    "no live-restore": (
        "docker-live-restore",
        {"docker": replace(DOCKER, live_restore=False)},
        '"live-restore": true',
    ),
    "endless logs": ("docker-logs", {"docker_settings": replace(SETTINGS, log_max_size=None)}, "max-size"),
    "few open files": (
        "docker-open-files",
        {"docker_settings": replace(SETTINGS, nofile=32768)},
        "sysconfig",
    ),
    "no Nextflow": ("nextflow-image", {"docker": replace(DOCKER, images=())}, "docker load"),
    "no metadata service": (
        "metadata",
        {"instance": MetadataUnavailable("silent")},
        "modify-instance-metadata",
    ),
    "one hop": ("hop-limit", {"instance": replace(INSTANCE, two_hops=False)}, "hop-limit 2"),
    "user data that are damaged": (
        "user-data",
        {"instance": replace(INSTANCE, pointer=None, pointer_problem="user data: prefix: missing")},
        "same version",
    ),
    "no instance profile": ("instance-profile", {"instance": replace(INSTANCE, role=None)}, "associate-iam"),
    "a run without a limit": ("dead-man-armed", {"systemd": NOT_ARMED}, "systemctl start machine-cap.timer"),
    "a machine of a person's that will be off": (
        "dead-man-armed",
        {"systemd": CAPPED, "instance": BY_HAND},
        "systemctl stop machine-cap.timer",
    ),
    "one cpu": ("size", {"host": replace(HOST, machine=Machine(1, 8 * GIB))}, "2 vCPUs"),
    "little memory": ("size", {"host": replace(HOST, machine=Machine(2, GIB))}, "4 GB"),
    "a disk that is not used": (
        "instance-store",
        {"host": replace(HOST, instance_store=InstanceStore(("/dev/nvme1n1",), None))},
        "scratch.service",
    ),
    "a full disk": ("disk-scratch", {"disk": Disk("/", 8 * GIB, GIB - 1)}, "larger boot disk"),
    "S3 that is cut off": ("s3", {"s3": ConnectionError("no answer")}, "gateway"),
    "logs that are cut off": ("logs", {"logs": ConnectionError("no answer")}, "interface endpoint"),
    "objects that are refused": ("run-in-s3", {"run": replace(RUN, problem="access denied")}, "docs/aws.md"),
    "a store that cannot be opened": ("run-in-s3", {"run": ValueError("no client")}, "docs/aws.md"),
    "a slow clock": ("clock", {"s3": replace(S3, skew_s=-301.0)}, "chronyd"),
    "a fast clock": ("clock", {"s3": replace(S3, skew_s=3600.0)}, "chronyd"),
}


@pytest.mark.parametrize("lack", LACKING)
def test_what_is_lacking_is_found_with_what_to_do(lack: str) -> None:
    """The check is not met, says what to do, and decides the verdict where it is required."""
    name, changes, advice = LACKING[lack]
    patient = Patient(**changes)
    finding = patient.finding(name)
    assert finding.state is State.NOT_MET, finding
    assert advice in finding.advice
    assert finding.found
    if finding.level is Level.REQUIRED:
        assert patient.examined().verdict is Verdict.NOT_READY


ENOUGH: dict[str, tuple[str, dict[str, Any], State]] = {
    "Debian 12": ("system", {"host": replace(HOST, system_id="debian", system_version="12")}, State.MET),
    "Graviton": ("processor", {"host": replace(HOST, processor="aarch64")}, State.MET),
    "Docker by its socket": (
        "docker-at-boot",
        {"systemd": without("docker.service", enabled="disabled")},
        State.MET,
    ),
    "containerd's image store": (
        "docker-storage",
        {"docker": replace(DOCKER, storage_driver="overlayfs")},
        State.MET,
    ),
    "logs that begin anew": (
        "docker-logs",
        {
            "docker": replace(DOCKER, logging_driver="local"),
            "docker_settings": replace(SETTINGS, log_max_size=None),
        },
        State.MET,
    ),
    "an image to be pulled": (
        "nextflow-image",
        {"docker": replace(DOCKER, images=()), "run": replace(RUN, container_image="quay.io/lab/head:1")},
        State.MET,
    ),
    "an image without a tag": (
        "nextflow-image",
        {"docker": replace(DOCKER, images=("head:latest",)), "run": replace(RUN, container_image="head")},
        State.MET,
    ),
    "an image that the run brings": (
        "nextflow-image",
        {"docker": replace(DOCKER, images=()), "run": replace(RUN, has_archive=True)},
        State.MET,
    ),
    "files without a limit": (
        "docker-open-files",
        {"docker_settings": replace(SETTINGS, nofile=-1)},
        State.MET,
    ),
    "a systemd that does not answer everybody": (
        "systemd",
        {"systemd": Silence("access denied", forbidden=True)},
        State.UNKNOWN,
    ),
    "a cap from boot": ("dead-man-armed", {"systemd": CAPPED}, State.MET),
    "a machine left alone": ("dead-man-armed", {"systemd": NOT_ARMED, "instance": BY_HAND}, State.MET),
    "no run": ("run-in-s3", {"instance": BY_HAND}, State.NOT_APPLICABLE),
    "no pointer": ("user-data", {"instance": BY_HAND}, State.NOT_APPLICABLE),
    "no own disks": (
        "instance-store",
        {"host": replace(HOST, instance_store=InstanceStore((), None))},
        State.NOT_APPLICABLE,
    ),
    "several disks": (
        "instance-store",
        {"host": replace(HOST, instance_store=InstanceStore(("/dev/nvme1n1", "/dev/nvme2n1"), "/dev/md127"))},
        State.MET,
    ),
    "no switch to be armed": ("dead-man-armed", {"systemd": without(*CAPS, *LIMITS)}, State.NOT_APPLICABLE),
    "the time of logs alone": ("clock", {"s3": replace(S3, skew_s=None)}, State.MET),
    "an unclaimed run": ("run-in-s3", {"run": RunInS3(PREFIX, "a:1", None, False, None)}, State.MET),
}


@pytest.mark.parametrize("case", ENOUGH)
def test_what_is_as_good_is_good_enough(case: str) -> None:
    """Another way to the same end is met; a question that does not arise is not asked."""
    name, changes, state = ENOUGH[case]
    assert Patient(**changes).finding(name).state is state


def test_an_image_of_a_persons_own_needs_nothing_of_ours() -> None:
    """Docker at boot and a shutdown are enough: the launcher brings the agent, its switch, and Nextflow."""
    patient = Patient(
        systemd=without(AGENT_UNIT, *CAPS, *LIMITS),
        docker=replace(DOCKER, images=(), live_restore=False),
        instance=BY_HAND,
    )
    report = patient.examined()
    assert report.verdict is Verdict.READY
    absent = {finding.name for finding in report.findings if finding.state is State.NOT_APPLICABLE}
    assert {"agent-unit", "agent-watchdog", "dead-man", "nextflow-image"} <= absent


def test_a_normal_user_is_told_what_only_root_sees() -> None:
    """What is forbidden is unknown, not missing: the verdict is unsure, and the advice is to ask as root."""
    denied = PermissionError("this user may not talk to Docker")
    patient = Patient(docker=denied, docker_settings=denied, disk=denied, user_id=1000)
    report = patient.examined()
    assert report.verdict is Verdict.UNSURE
    assert "root" in patient.finding("docker").advice
    unknown = {finding.name for finding in report.findings if finding.state is State.UNKNOWN}
    assert unknown == {
        "docker",
        "docker-storage",
        "docker-live-restore",
        "docker-logs",
        "docker-open-files",
        "nextflow-image",
        "disk-docker",
        "disk-scratch",
    }


def test_one_cause_gives_one_advice() -> None:
    """What cannot be known for want of something else points nowhere: the other finding does."""
    report = Patient(instance=MetadataUnavailable("silent"), docker=DockerError("silent")).examined()
    assert [finding.name for finding in report.findings if finding.advice] == ["docker", "metadata"]


def test_a_stopped_docker_is_not_started_by_the_question() -> None:
    """Where systemd says that it does not run, its socket, which would start it, is not touched."""
    patient = Patient(systemd=without("docker.service", active="inactive"))
    patient.examined()
    assert "docker" not in patient.looked


def test_a_docker_that_waits_for_its_first_use_is_not_missing() -> None:
    """With its socket listening runs work: not known until it was started, and what to do for that."""
    by_socket = without("docker.service", active="inactive", enabled="disabled")
    patient = Patient(systemd=by_socket)
    finding = patient.finding("docker")
    assert finding.state is State.UNKNOWN
    assert "first used" in finding.found
    assert "systemctl start docker" in finding.advice
    assert patient.finding("docker-at-boot").state is State.MET
    assert patient.examined().verdict is Verdict.UNSURE
    assert "docker" not in patient.looked
    failed = without("docker.service", active="failed", enabled="disabled")
    assert Patient(systemd=failed).finding("docker").state is State.NOT_MET


def test_a_running_daemon_without_a_file_is_judged_by_its_own_limit() -> None:
    """Nothing is known of open files: unknown, with what to do."""
    finding = Patient(docker_settings=DockerSettings("/var/lib/docker", "20m", None)).finding(
        "docker-open-files"
    )
    assert finding.state is State.UNKNOWN
    assert finding.advice


def test_every_level_and_part_is_used() -> None:
    """The list has required and recommended checks, of all parts."""
    findings = Patient().examined().findings
    assert {finding.level for finding in findings} == set(Level)
    assert {finding.part.value for finding in findings} == {"image", "instance", "aws"}


def test_no_secret_of_the_units_environment_is_told() -> None:
    """The agent's environment is used, and never shown, whatever is wrong."""
    patients = [Patient(), *(Patient(**changes) for _, changes, _ in LACKING.values())]
    assert not any("verysecret" in repr(patient.examined()) for patient in patients)
    assert "verysecret" not in repr(SYSTEMD)
