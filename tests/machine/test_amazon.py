"""What the roles do on Amazon Linux 2023 only: dnf for real, Amazon's variables, Amazon's packages by their names."""

from __future__ import annotations

import os

import pytest

from tests.machine import build
from tests.machine.amazon import PACKAGES, RELEASEVER, amazon
from tests.machine.fabric import Fabric
from tests.machine.image import test_system
from tests.machine.machine import booted
from tests.machine.nsenter import inside


@pytest.mark.timeout(600)  # the longest play of all, on a machine that is busy with other tests
def test_the_roles_run_on_amazon_linux(network: Fabric) -> None:
    """Packages come from the pinned release by dnf, services are as they should be, and what woke up by itself does no
    more, without a boot in between; nothing is left to do."""
    wheels = build.wheels()
    variables = {
        "base_releasever": RELEASEVER,
        "base_kernel": ".".join(os.uname().release.split(".")[:2]),
        "run_agent_wheelhouse": str(wheels),
    }
    with booted(amazon(), network, build.FOLDER) as machine:
        machine.wait_up()
        assert machine.is_active("update-motd.timer")
        build.play(machine.leader, variables=variables)
        assert machine.exec("cat", "/etc/dnf/vars/releasever") == f"{RELEASEVER}\n"
        installed = machine.exec("rpm", "--query", "--all", "--queryformat", "%{NAME}\\n").split()
        assert sorted(installed) == sorted(package.name for package in PACKAGES)
        # dockerd does not start where the command line and daemon.json both set the limit.
        assert "nofile" not in machine.exec("cat", "/etc/sysconfig/docker")
        enabled = {
            unit: machine.exec("systemctl", "is-enabled", unit, check=False).strip()
            for unit in ("chronyd", "docker", "docker.socket", "amazon-cloudwatch-agent", "run-agent")
        }
        assert enabled == {
            "chronyd": "enabled",
            "docker": "enabled",
            "docker.socket": "enabled",
            "amazon-cloudwatch-agent": "disabled",
            "run-agent": "enabled",
        }
        test_system.test_nothing_wakes_up_by_itself(inside(machine))
        test_system.test_no_unit_has_failed(inside(machine))
        assert machine.is_active("refresh-policy-routes@ens5.timer")
        assert machine.exec("/opt/solorun/venv/bin/run-agent", "--version").startswith("run-agent ")
        again = ("--check", "--tags=base,docker,studio")
        assert build.play(machine.leader, variables=variables, options=again) == []
        units = ("scratch.service", "run-cloudwatch.service", "run-journal.service")
        for unit in units:
            machine.exec("sh", "-c", f"echo '# older' >> /etc/systemd/system/{unit}")
        build.play(machine.leader, variables=variables, options=("--tags=scratch,cloudwatch_agent",))
        assert [machine.unit(unit, "NeedDaemonReload") for unit in units] == ["no"] * len(units)
