"""Nothing of a machine stays behind, however it ended."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

from launcher.catalog import NEXTFLOW_IMAGE
from tests.integration.lone_machine import eventually
from tests.machine import build, cgroups, leftovers
from tests.machine.conftest import Boot
from tests.machine.fabric import Fabric
from tests.machine.machine import Image, Machine, booted


def assert_nothing_of(machine: Machine) -> None:
    """No process, mount, network interface, cgroup, folder or note."""
    assert cgroups.folders(machine.name) == []
    for mounts in Path("/proc").glob("[0-9]*/mountinfo"):
        with contextlib.suppress(OSError):  # the process has ended meanwhile
            assert machine.name not in mounts.read_text(), mounts
    # The kernel removes the interface a little after the last process.
    eventually("its interface is gone", lambda: machine.port not in machine.fabric.ports(), within=30)
    assert not machine.folder.exists()
    assert not (leftovers.STATE / machine.name).exists()


def test_power_loss_leaves_nothing(image: Image, network: Fabric) -> None:
    """The power goes while a paused and a running container are there: everything of the machine is gone."""
    with booted(image, network, build.FOLDER) as machine:
        machine.wait_up()
        for name in ("runs", "paused"):
            options = ("--detach", "--network=none", f"--name={name}")
            machine.exec("docker", "run", *options, NEXTFLOW_IMAGE, "sleep", "1000")
        machine.exec("docker", "pause", "paused")
        assert machine.port in network.ports()
        machine.power_loss()
        assert machine.is_off
        assert not (machine.folder / "off").exists()
    assert_nothing_of(machine)


def test_an_orderly_end_leaves_nothing(image: Image, network: Fabric) -> None:
    """systemctl poweroff in the machine ends it, and only it."""
    with booted(image, network, build.FOLDER) as machine:
        machine.wait_up()
        machine.exec("systemctl", "poweroff", "--no-block")
        machine.wait_off(within=60)
        assert (machine.folder / "off").read_text() == "0"
    assert_nothing_of(machine)


def test_a_killed_maker_takes_its_machine_along(image: Image) -> None:
    """SIGKILL to the process that looks after a machine: the machine dies at once, and the next start clears up."""
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tests.machine import build\n"
        "from tests.machine.fabric import fabric\n"
        "from tests.machine.machine import Image, booted\n"
        f"image = Image(Path({str(image.root)!r}), Path({str(image.docker)!r}))\n"
        "with fabric() as network, booted(image, network, build.FOLDER) as machine:\n"
        "    machine.wait_up()\n"
        "    print(machine.name, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    maker = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=build.REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(build.REPOSITORY)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert maker.stdout is not None
        name = maker.stdout.readline().strip()
        assert name, "no machine was booted"
        assert cgroups.processes(name)
        assert (leftovers.STATE / name).exists()
    finally:
        maker.kill()
        maker.communicate()
    eventually("the machine is gone", lambda: not cgroups.processes(name), within=60)
    leftovers.clear()  # or another test run has: all of them clear up when they start
    assert cgroups.folders(name) == []
    assert not (build.FOLDER / name).exists()
    assert not (leftovers.STATE / name).exists()


def test_the_computer_underneath_is_not_touched(boot: Boot) -> None:
    """No process of a machine with Docker and its bridge can change this computer's network, mounts or processes."""
    machine = boot()
    machine.wait_up()
    machine.exec("docker", "run", "--detach", NEXTFLOW_IMAGE, "sleep", "1000")
    ours = {kind: Path(f"/proc/self/ns/{kind}").readlink() for kind in ("net", "mnt", "pid")}
    seen = 0
    for pid in cgroups.processes(machine.name) - {machine.keeper.pid}:
        with contextlib.suppress(OSError):  # it has ended meanwhile
            theirs = {kind: Path(f"/proc/{pid}/ns/{kind}").readlink() for kind in ours}
            assert not set(theirs.values()) & set(ours.values()), Path(f"/proc/{pid}/cmdline").read_text()
            seen += 1
    assert seen > 5
    assert "docker0" in machine.exec("ip", "-brief", "link")
