"""What any machine image needs on which a run is to live: `run-agent doctor` knows it, and is asked."""

from __future__ import annotations

import json
from typing import Any

import pytest
from testinfra.host import Host

Findings = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def findings(host: Host) -> Findings:
    """What the doctor finds on the machine, by name. How the instance was started does not count here."""
    for _ in range(3):  # on a busy machine an answer may come too late for the doctor once
        said = host.run("/opt/solorun/venv/bin/run-agent doctor --json").stdout
        found = {finding["name"]: finding for finding in json.loads(said)["findings"]}
        if not not_met(found, "required"):
            break
    return found


def not_met(findings: Findings, level: str) -> list[dict[str, Any]]:
    """The findings about the image that are not met, or not known."""
    return [
        finding
        for finding in findings.values()
        if finding["part"] == "image" and finding["level"] == level and finding["state"] != "met"
    ]


def test_all_that_is_required_of_an_image_is_met(findings: Findings) -> None:
    """Docker at boot, the agent, its Python, Nextflow's container image, a way to turn the machine off."""
    assert not_met(findings, "required") == []


def test_all_that_is_recommended_is_met(host: Host, findings: Findings) -> None:
    """Docker's settings, the watchdog, the dead-man's switch, the CloudWatch agent."""
    # Debian does not carry that agent, and a test machine has the limits of the computer underneath.
    spared = () if host.system_info.distribution == "amzn" else ("cloudwatch-agent", "docker-open-files")
    assert [found for found in not_met(findings, "recommended") if found["name"] not in spared] == []


def test_there_is_room(findings: Findings) -> None:
    """For container images, and for the files of runs."""
    for name in ("disk-docker", "disk-scratch"):
        assert findings[name]["state"] == "met", findings[name]


def test_the_cloudwatch_agent_is_started_for_a_run(host: Host) -> None:
    """Its unit is there; it sends nothing before a run is claimed."""
    assert host.file("/etc/systemd/system/run-cloudwatch.service").exists


def test_dockers_networks_are_away_from_those_of_vpcs(host: Host) -> None:
    """An address of a VPC is never taken for a container's."""
    assert "172." not in host.check_output(
        "docker network inspect bridge --format '{{(index .IPAM.Config 0).Subnet}}'"
    )
