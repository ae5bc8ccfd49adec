"""The run-agent, its unit, and the dead-man's switch."""

from __future__ import annotations

import pytest
from testinfra.host import Host

UNITS = (
    "run-agent.service",
    "run-agent-gave-up.service",
    "machine-cap.service",
    "machine-cap.timer",
    "machine-cap-force.service",
    "machine-cap-force.timer",
    "machine-limit.service",
    "machine-limit-force.service",
    "scratch.service",
    "run-cloudwatch.service",
    "run-journal.service",
)


def unit(host: Host, name: str, key: str) -> str:
    """One property of a unit, as systemd understands it."""
    return str(host.check_output("systemctl show --value --property=%s %s", key, name))


def test_the_agent_has_a_python_of_its_own(host: Host) -> None:
    """A virtual environment in which every dependency is satisfied."""
    assert host.run("/opt/solorun/venv/bin/python -m pip check").rc == 0
    assert host.check_output("/opt/solorun/venv/bin/run-agent --version").startswith("run-agent ")


@pytest.mark.parametrize("name", UNITS)
def test_systemd_takes_the_unit_as_it_is(host: Host, name: str) -> None:
    """systemd finds no fault with it: no unknown directive, no program that is not there."""
    checked = host.run(f"systemd-analyze verify --man=no /etc/systemd/system/{name}")
    ours = [line for line in checked.stderr.splitlines() if name in line]
    assert ours == []


def test_it_starts_at_boot_as_soon_as_it_can(host: Host) -> None:
    """After the network and Docker's socket, not after Docker itself, and watched from then on."""
    assert host.service("run-agent").is_enabled
    after = unit(host, "run-agent.service", "After").split()
    assert {"network-online.target", "docker.socket", "scratch.service"} <= set(after)
    assert "docker.service" not in after
    assert unit(host, "run-agent.service", "Type") == "notify"
    assert unit(host, "run-agent.service", "WatchdogUSec") not in ("0", "infinity")
    assert unit(host, "run-agent.service", "Restart") == "on-failure"


def test_giving_up_ends_the_machine(host: Host) -> None:
    """When systemd gives the agent up, another unit decides about the machine; when that fails, the machine is off."""
    assert unit(host, "run-agent.service", "OnFailure") == "run-agent-gave-up.service"
    assert unit(host, "run-agent-gave-up.service", "FailureAction") == "poweroff"


def test_the_caps_are_armed_at_boot(host: Host) -> None:
    """Both timers are enabled, and the second is later and outside of any shutdown."""
    for timer in ("machine-cap.timer", "machine-cap-force.timer"):
        assert host.service(timer).is_enabled, timer
    assert unit(host, "machine-cap-force.timer", "DefaultDependencies") == "no"
    assert unit(host, "machine-cap.service", "SuccessAction") == "poweroff"
    for force in ("machine-cap-force.service", "machine-limit-force.service"):
        assert unit(host, force, "SuccessAction") == "poweroff-immediate"
        assert unit(host, force, "FailureAction") == "poweroff-immediate"


def test_every_shutdown_has_a_limit(host: Host) -> None:
    """Whatever hangs, a shutdown that has begun ends."""
    assert unit(host, "poweroff.target", "JobTimeoutAction") == "poweroff-immediate"
    assert unit(host, "poweroff.target", "JobTimeoutUSec") not in ("0", "infinity")


def test_the_fast_disk_comes_before_docker_and_the_agent(host: Host) -> None:
    """/scratch is there, and its unit is done before anybody uses it."""
    assert host.service("scratch").is_enabled
    assert {"docker.service", "run-agent.service"} <= set(unit(host, "scratch.service", "Before").split())
    assert host.file("/scratch").is_directory


def test_the_agent_is_fenced_off(host: Host) -> None:
    """Of what systemd rates, most is closed: less than 6 of 10 is exposed."""
    last = host.check_output("systemd-analyze security --no-pager run-agent.service").splitlines()[-1]
    rated = float(last.split(":")[1].split()[0])
    assert rated < 6.0, last
