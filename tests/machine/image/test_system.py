"""The system below: pinned and quiet."""

from __future__ import annotations

from testinfra.host import Host

QUIET = (
    "apt-daily.timer",
    "dnf-makecache.timer",
    "fstrim.timer",
    "logrotate.timer",
    "raid-check.timer",
    "update-motd.timer",
)


def test_nothing_wakes_up_by_itself(host: Host) -> None:
    """No timer but those that are the machine's own end, systemd's for temporary files, and the network's."""
    for unit in QUIET:
        assert host.run(f"systemctl is-enabled {unit}").stdout.strip() == "masked", unit
    listed = host.check_output("systemctl list-timers --no-legend --plain").split()
    timers = {word for word in listed if word.endswith(".timer")}
    # One for each interface on Amazon Linux: an address that is added later gets its routes. It belongs to the network,
    # and the rule of udev's that starts it starts the routes themselves too.
    timers = {timer for timer in timers if not timer.startswith("refresh-policy-routes@")}
    assert timers <= {
        "machine-cap.timer",
        "machine-cap-force.timer",
        "machine-limit.timer",
        "machine-limit-force.timer",
        "building-cap.timer",  # where an image is being made: a building machine's end, from its user data
        "systemd-tmpfiles-clean.timer",
    }


def test_no_unit_has_failed(host: Host) -> None:
    """The machine booted without a fault."""
    assert host.check_output("systemctl list-units --failed --no-legend --plain") == ""


def test_it_boots_without_a_screen(host: Host) -> None:
    """The default target is multi-user."""
    assert host.check_output("systemctl get-default") == "multi-user.target"


def test_the_release_is_locked(host: Host) -> None:
    """On Amazon Linux packages come from one release; Debian has none to lock."""
    if host.system_info.distribution == "amzn":
        release = host.file("/etc/dnf/vars/releasever").content_string.strip()
        assert release.startswith("2023.")
        assert release in host.check_output("rpm -q system-release")


def test_the_systems_python_is_the_systems(host: Host) -> None:
    """The package manager's own Python is what it was, and still finds its bindings."""
    module = "dnf" if host.system_info.distribution == "amzn" else "apt"
    assert host.run(f"/usr/bin/python3 -c 'import {module}'").rc == 0


def test_the_journal_is_kept_small(host: Host) -> None:
    """The journal has a limit that is ours."""
    assert host.file("/etc/systemd/journald.conf.d/50-solorun.conf").contains("SystemMaxUse=")


def test_nobody_elses_secrets_are_in_it(host: Host) -> None:
    """No credentials, no history, of root or of anybody."""
    assert (
        host.run(
            "ls -d /root/.aws /home/*/.aws /root/.docker /root/.bash_history /home/*/.bash_history"
        ).stdout
        == ""
    )
