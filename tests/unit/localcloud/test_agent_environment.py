"""What an agent on a simulated machine is told: never how to turn the computer off."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import launcher.localcloud
from launcher.localcloud.agent_environment import Place, agent_environment
from launcher.localcloud.docker_host import DockerSize
from launcher.localcloud.fleet import Instance
from launcher.localcloud.folders import CloudFolder

INSTANCE = Instance(
    id="i-1",
    type="m5.4xlarge",
    region="eu-central-1",
    state="running",
    stays_on_shutdown=False,
    cpus=16,
    memory_bytes=64 * 1024**3,
    launched_at=datetime(2026, 1, 1, tzinfo=UTC),
)
PERSON = {
    "PATH": "/usr/bin",
    "HOME": "/home/somebody",
    "AWS_PROFILE": "production",
    "AWS_ACCESS_KEY_ID": "AKIAREAL",
    "AWS_SECRET_ACCESS_KEY": "real",
    "GITHUB_TOKEN": "real",
    "HTTP_PROXY": "http://proxy.example:3128",
    "https_proxy": "http://proxy.example:3128",
    "ALL_PROXY": "http://proxy.example:3128",
}


def place(environ: dict[str, str], docker_host: str | None = None) -> Place:
    return Place(
        folder=CloudFolder(Path("/state/localcloud")),
        endpoint_url="http://127.0.0.1:1",
        metadata_url="http://127.0.0.1:2",
        environ=environ,
        docker_host=docker_host,
        size=DockerSize(cpus=4, memory_bytes=8 * 1024**3),
    )


def test_shutdown_makes_a_file_and_nothing_else() -> None:
    """The command by which an agent ends its machine only touches a file in the machine's own folder."""
    told = agent_environment(place(PERSON), INSTANCE, "secret")
    assert json.loads(told["RUN_AGENT_SHUTDOWN_COMMAND"]) == [
        "touch",
        "/state/localcloud/machines/i-1/power-off",
    ]


def test_no_file_of_the_local_cloud_names_a_real_shutdown() -> None:
    """No program that turns a computer off is ever mentioned in its source."""
    words = re.compile(r"[\"'](systemctl|shutdown|/sbin/\w+|poweroff|halt|reboot|init)[\"' ]")
    for source in Path(launcher.localcloud.__path__[0]).glob("*.py"):
        assert words.findall(source.read_text()) == [], source.name


def test_nothing_of_the_persons_own_set_up_reaches_the_agent() -> None:
    """Credentials, profiles, tokens, proxies and the home of the person stay theirs."""
    told = agent_environment(place(PERSON), INSTANCE, "secret")
    assert "real" not in told.values()
    assert "AWS_PROFILE" not in told
    assert not any("proxy" in name.lower() for name in told)
    assert told["HOME"] == "/state/localcloud/machines/i-1"
    assert told["PATH"] == "/usr/bin"


def test_docker_is_found_where_the_person_has_it() -> None:
    """A daemon of a docker context, and the person's registry log-ins, work for the agent too."""
    told = agent_environment(place(PERSON, "unix:///home/somebody/docker.sock"), INSTANCE, "secret")
    assert told["DOCKER_HOST"] == "unix:///home/somebody/docker.sock"
    assert told["DOCKER_CONFIG"] == "/home/somebody/.docker"
    assert "DOCKER_HOST" not in agent_environment(place(PERSON), INSTANCE, "secret")


def test_a_machine_is_no_larger_than_its_type_nor_than_the_computer() -> None:
    """Cores and memory are the smaller of the instance type's and of what Docker has."""
    told = agent_environment(place(PERSON), INSTANCE, "secret")
    assert (told["RUN_AGENT_CPUS"], told["RUN_AGENT_MEMORY_BYTES"]) == ("4", str(8 * 1024**3))


def test_every_machine_has_its_own_metadata_service() -> None:
    """The service is at a path that nobody else knows; region and scratch folder are said."""
    told = agent_environment(place(PERSON), INSTANCE, "secret")
    assert told["AWS_EC2_METADATA_SERVICE_ENDPOINT"] == "http://127.0.0.1:2/secret"
    assert told["AWS_REGION"] == "eu-central-1"
    assert told["RUN_AGENT_SCRATCH"] == "/state/localcloud/scratch"
