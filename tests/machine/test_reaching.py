"""`make test-image HOST=…` as a maintainer calls it, against a machine that is reached by ssh."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.machine.build import REPOSITORY
from tests.machine.fabric import Fabric
from tests.machine.machine import Image, Machine
from tests.machine.reachable import USER, key_pair, reachable, with_ssh


@dataclass(frozen=True)
class Maintainer:
    """Somebody with a key, in the machine's network."""

    machine: Machine
    key: Path
    known_hosts: Path

    def looks(self, host: str, *options: str, trusts: str = "accept-new") -> subprocess.CompletedProcess[str]:
        """Run the suite against `host`, with the key and nothing else of this computer's ssh."""
        ssh = (
            f"-F none -o IdentityAgent=none -o IdentitiesOnly=yes -o StrictHostKeyChecking={trusts}"
            f" -o UserKnownHostsFile={self.known_hosts} -o GlobalKnownHostsFile=/dev/null -o ControlMaster=no"
        )
        command = [
            *("nsenter", "--target", str(self.machine.fabric.pid), "--net", sys.executable, "-m", "pytest"),
            *("-p", "no:cacheprovider", "--quiet", "tests/machine/image", f"--hosts={host}", "--sudo"),
            *(f"--ssh-identity-file={self.key}", f"--ssh-extra-args={ssh}", *options),
        ]
        return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def maintainer(
    image: Image, network: Fabric, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Maintainer]:
    folder = tmp_path_factory.mktemp("maintainer")
    key = key_pair(folder)
    with with_ssh(reachable(image), network, key) as machine:
        yield Maintainer(machine, key, folder / "known_hosts")


@pytest.mark.xdist_group("reaching")
def test_looks_at_a_machine_by_ssh(maintainer: Maintainer) -> None:
    """The suite that a booted machine passes, it passes by ssh as well, as a user with sudo."""
    done = maintainer.looks(f"ssh://{USER}@{maintainer.machine.address}")
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout


@pytest.mark.xdist_group("reaching")
@pytest.mark.parametrize(
    ("host", "says"),
    [
        (f"ssh://{USER}@10.77.99.99", ("10.77.99.99 cannot be reached", "security group")),
        ("ssh://admin@MACHINE", ("does not let admin in", "--ssh-identity-file")),
        ("ssh://plain@MACHINE", ("plain may not become root", USER)),
        (f"ssh://{USER}@MACHINE:2200", ("cannot be reached", "2200")),
        ("local://", ("names no machine", "HOST=ssh://USER@ADDRESS")),
    ],
    ids=["unreachable", "wrong-user", "no-sudo", "wrong-port", "no-host"],
)
def test_says_why_it_cannot(maintainer: Maintainer, host: str, says: tuple[str, ...]) -> None:
    """What stands in the way is said once, with what to do, and no test is run."""
    machine = maintainer.machine
    if "plain@" in host:
        machine.exec("useradd", "--create-home", "plain")
        machine.exec("cp", "-a", f"/home/{USER}/.ssh", "/home/plain/")
        machine.exec("chown", "-R", "plain:", "/home/plain/.ssh")
    done = maintainer.looks(host.replace("MACHINE", machine.address))
    assert done.returncode == 2, done.stdout
    assert not [part for part in says if part not in done.stdout], done.stdout
    assert "no tests ran" in done.stdout


@pytest.mark.xdist_group("reaching")
def test_a_machine_that_nobody_knows_is_not_trusted(maintainer: Maintainer, tmp_path: Path) -> None:
    """An unknown host key is not accepted by itself, and the way to accept it is said."""
    stranger = Maintainer(maintainer.machine, maintainer.key, tmp_path / "known_hosts")
    done = stranger.looks(f"ssh://{USER}@{maintainer.machine.address}", trusts="yes")
    assert done.returncode == 2, done.stdout
    assert f"`ssh {USER}@{maintainer.machine.address}`" in done.stdout
