"""The last role through the SSM agent, as Packer runs it where Session Manager is its way in."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.lone_machine import eventually
from tests.machine.build import REPOSITORY
from tests.machine.fabric import Fabric
from tests.machine.machine import Image, Machine
from tests.machine.packer_machine import clean_environ, close_connections
from tests.machine.reachable import USER, key_pair, reachable, with_ssh

# As Session Manager does it: a connection to the agent becomes one to the machine's own sshd. It never stops writing.
_AGENT = """#!/usr/bin/python3
import asyncio, pathlib

STATE, LOG = pathlib.Path("/var/lib/amazon/ssm"), pathlib.Path("/var/log/amazon/ssm")

async def copy(source, target):
    while data := await source.read(65536):
        target.write(data)
        await target.drain()
    target.close()

async def carry(reader, writer):
    to_reader, to_writer = await asyncio.open_connection("127.0.0.1", 22)
    await asyncio.gather(copy(reader, to_writer), copy(to_reader, writer), return_exceptions=True)

async def main():
    await asyncio.start_server(carry, "0.0.0.0", 2222)
    while True:
        for folder in (STATE, LOG):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "i-0123").write_text("of this machine")
        await asyncio.sleep(0.1)

asyncio.run(main())
"""
_UNIT = """[Unit]
Description=Stands for the SSM agent
[Service]
ExecStart=/usr/local/bin/amazon-ssm-agent
"""
_AGENTS_PORT = 2222


@contextmanager
def with_an_agent(image: Image, network: Fabric, key: Path) -> Iterator[Machine]:
    """A machine with sshd and a program that stands for the SSM agent."""
    with with_ssh(reachable(image), network, key) as machine:
        program = "/usr/local/bin/amazon-ssm-agent"
        machine.exec("sh", "-c", f"cat > {program} && chmod 755 {program}", stdin=_AGENT)
        machine.exec("sh", "-c", "cat > /etc/systemd/system/amazon-ssm-agent.service", stdin=_UNIT)
        machine.exec("systemctl", "daemon-reload")
        machine.exec("systemctl", "start", "amazon-ssm-agent.service")
        eventually(
            "the agent has written", lambda: machine.run("ls", "/var/log/amazon/ssm/i-0123").returncode == 0
        )
        yield machine


def seal(machine: Machine, key: Path) -> None:
    """Run packer/seal.yml on it, through the agent."""
    with tempfile.TemporaryDirectory(prefix="solorun-") as home:
        known = f"-o StrictHostKeyChecking=accept-new -o UserKnownHostsFile={home}/known_hosts"
        environ = {
            **clean_environ(Path(home), ""),
            "ANSIBLE_CONFIG": str(REPOSITORY / "ansible" / "ansible.cfg"),
            "ANSIBLE_SSH_ARGS": f"-F none -o IdentityAgent=none -o ControlMaster=auto -o ControlPersist=60s {known}",
        }
        done = subprocess.run(
            [
                *("nsenter", "--target", str(machine.fabric.pid), "--net"),
                *(str(Path(sys.executable).with_name("ansible-playbook")), "--user", USER),
                *("--inventory", f"{machine.address},", "--private-key", str(key)),
                *("--extra-vars", json.dumps({"ansible_port": _AGENTS_PORT, "sysprep_through_ssm": True})),
                str(REPOSITORY / "packer" / "seal.yml"),
            ],
            env=environ, capture_output=True, text=True, check=False,
        )  # fmt: skip
        close_connections(Path(home))
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_nothing_of_the_ssm_agent_stays(image: Image, network: Fabric, tmp_path: Path) -> None:
    """The agent that carries the connection is not cut off; what it wrote is gone when the machine is off."""
    key = key_pair(tmp_path)
    with with_an_agent(image, network, key) as machine:
        seal(machine, key)
        assert machine.is_active("amazon-ssm-agent.service")
        machine.exec("systemctl", "poweroff", "--no-block")
        machine.wait_off(within=60)
        disk = machine.folder / "upper"
        assert list((disk / "var/lib/amazon/ssm").iterdir()) == []
        assert not (disk / "var/log/amazon").exists()
        assert not list((disk / "etc/systemd").rglob("solorun-forget*"))
