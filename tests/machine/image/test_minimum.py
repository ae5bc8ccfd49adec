"""What any machine image needs on which a run is to live: also one of a person's own."""

from __future__ import annotations

import json

from testinfra.host import Host


def test_docker_starts_at_boot(host: Host) -> None:
    """The Docker engine is enabled, runs, and answers."""
    docker = host.service("docker")
    assert docker.is_enabled
    assert docker.is_running
    assert host.run("docker version --format '{{.Server.Version}}'").rc == 0


def test_the_cloudwatch_agent_is_there(host: Host) -> None:
    """Where the system's repositories carry it, it is installed; a test machine's do not."""
    if host.system_info.distribution == "amzn":
        assert host.package("amazon-cloudwatch-agent").is_installed
        assert host.file("/opt/aws/amazon-cloudwatch-agent/bin/amazon-cloudwatch-agent-ctl").is_executable
    assert host.file("/etc/systemd/system/run-cloudwatch.service").exists


def test_the_machine_can_turn_itself_off(host: Host) -> None:
    """There is a `shutdown`, a `systemctl`, and nothing has masked the way."""
    assert host.exists("shutdown")
    assert host.exists("systemctl")
    assert host.run("systemctl is-enabled poweroff.target").stdout.strip() in (
        "static",
        "enabled",
        "disabled",
    )


def test_docker_is_set_up_for_many_large_containers(host: Host) -> None:
    """overlay2, logs that are begun anew, containers that outlive the daemon, networks away from those of VPCs."""
    info = json.loads(host.check_output("docker info --format '{{json .}}'"))
    assert info["Driver"] == "overlay2"
    assert info["LiveRestoreEnabled"] is True
    assert info["LoggingDriver"] == "json-file"
    settings = json.loads(host.file("/etc/docker/daemon.json").content_string)
    assert settings["log-opts"]["max-size"]
    assert settings["default-ulimits"]["nofile"]["Hard"] >= 1024
    assert "172." not in host.check_output(
        "docker network inspect bridge --format '{{(index .IPAM.Config 0).Subnet}}'"
    )
