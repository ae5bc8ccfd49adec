"""Machines beside each other, and what their containers reach."""

from __future__ import annotations

import json
import socket
import subprocess

import psutil
import pytest

from agent.contract import RunState
from launcher.catalog import NEXTFLOW_IMAGE
from tests.fakes.s3_server import S3Server
from tests.integration.lone_machine import eventually, submit
from tests.machine.conftest import Boot
from tests.machine.fabric import METADATA, Fabric
from tests.machine.machine import Machine
from tests.machine.namespaces import within
from tests.machine.test_doctor import content

_TOKEN = f"curl --silent --max-time 10 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://{METADATA}/latest/api/token"


def in_a_container(machine: Machine, script: str, *options: str) -> str:
    """What a shell in a container on Docker's bridge says; empty where it fails."""
    return machine.exec(
        "docker", "run", "--rm", *options, NEXTFLOW_IMAGE, "sh", "-c", script, check=False
    ).strip()


def test_containers_reach_the_metadata_service_over_two_hops(boot: Boot) -> None:
    """With the hop limit that the launcher asks for, a container on the bridge gets a token, and so credentials."""
    machine = boot()
    machine.wait_up()
    credentials = f'curl -s -H "X-aws-ec2-metadata-token: $({_TOKEN})" http://{METADATA}/latest/meta-data/iam/security-credentials/'
    assert in_a_container(machine, credentials) == "tests"


def test_one_hop_is_too_few_for_containers(boot: Boot) -> None:
    """The counter-proof: with EC2's default of one hop the same request is never answered; the doctor knows it."""
    machine = boot(hop_limit=1)
    machine.wait_up()
    assert machine.exec("sh", "-c", _TOKEN) != ""
    assert in_a_container(machine, _TOKEN) == ""
    findings = content(machine)
    assert findings["hop-limit"]["state"] == "not met"
    assert "left alone" in findings["dead-man-armed"]["found"]


def test_three_machines_do_not_disturb_each_other(aws: S3Server, boot: Boot) -> None:
    """Three runs at the same time on three machines: each succeeds with its own results, and each is off."""
    runs = [submit(aws, "hello") for _ in range(3)]
    machines = [boot(run) for run in runs]
    eventually("all three are off", lambda: all(machine.is_off for machine in machines), within=300)
    assert [run.status().state for run in runs] == [RunState.SUCCEEDED] * 3
    assert len({run.status().instance_id for run in runs}) == 3


def test_a_machine_reaches_nothing_else(network: Fabric, boot: Boot) -> None:
    """The machine's network has no way out, not even to the services of this computer."""
    machine = boot()
    machine.wait_up()
    for family in ("-4", "-6"):
        assert within(network.pid, "ip", family, "route", "show", "default") == ""
    # That of a machine that ended before may go at any time: none that is there now may be of another kind.
    ports = network.ports()
    links = {link["ifname"] for link in json.loads(within(network.pid, "ip", "-json", "link"))}
    assert {"lo", "br0", machine.port} <= links <= {"lo", "br0", *ports}

    # Its own docker0 may have the address of this computer's.
    machine.exec("systemctl", "stop", "docker.socket", "docker.service")
    machine.exec("ip", "link", "delete", "docker0")
    addresses = {
        address.address
        for found in psutil.net_if_addrs().values()
        for address in found
        if address.family is socket.AF_INET and not address.address.startswith("127.")
    }
    assert addresses, "this computer has no address but its loopback's: nothing can be tried"
    for address in addresses:
        with socket.create_server((address, 0)) as service:
            port = service.getsockname()[1]
            knock = f"exec 3<>/dev/tcp/{address}/{port}"
            subprocess.run(["bash", "-c", knock], check=True, timeout=30)
            service.settimeout(30)
            service.accept()[0].close()
            assert machine.run("timeout", "5", "bash", "-c", knock).returncode != 0
            service.setblocking(False)
            with pytest.raises(BlockingIOError):
                service.accept()
