"""systemd, the agent's unit, and the switch that ends a machine when the agent does not."""

from __future__ import annotations

from typing import Final

from agent.doctor.checks import Check, Finding, Level, Part
from agent.doctor.facts import Instance, Silence, Systemd
from agent.doctor.looking.systemd import AGENT_UNIT, CAPS, LIMITS

SYSTEMD: Final = Check("systemd", "systemd", Part.IMAGE, Level.REQUIRED)
UNIT: Final = Check("agent-unit", "Agent starts at boot", Part.IMAGE, Level.REQUIRED)
WATCHDOG: Final = Check("agent-watchdog", "Agent is watched", Part.IMAGE, Level.RECOMMENDED)
SWITCH: Final = Check("dead-man", "Dead-man's switch", Part.IMAGE, Level.RECOMMENDED)
ARMED: Final = Check("dead-man-armed", "Switch is armed", Part.INSTANCE, Level.RECOMMENDED)

BROUGHT: Final = "not on this image: the launcher brings it with the run"
_ROLE: Final = "Apply ansible/roles/run_agent to the image"


def judge_agent(systemd: Systemd | Silence) -> tuple[Finding, ...]:
    """What the machine image has of ours, as systemd sees it."""
    if isinstance(systemd, Silence):
        return (
            SYSTEMD.unknown(systemd.why, "Run the doctor as root.")
            if systemd.forbidden
            else SYSTEMD.not_met(systemd.why, "Reboot the machine; when it stays so, look at its console."),
            *(check.unknown("systemd does not tell") for check in (UNIT, WATCHDOG, SWITCH)),
        )
    if not systemd.is_there:
        return (
            SYSTEMD.not_met(
                f"the first process is {systemd.first_process}",
                "Boot with systemd: it starts the agent, and turns the machine off when the agent cannot.",
            ),
            *(check.unknown("systemd does not run") for check in (UNIT, WATCHDOG, SWITCH)),
        )
    if is_foreign(systemd):
        return (
            SYSTEMD.met("the first process"),
            *(check.not_applicable(BROUGHT) for check in (UNIT, WATCHDOG, SWITCH)),
        )
    return SYSTEMD.met("the first process"), _unit(systemd), _watchdog(systemd), _switch(systemd)


def is_foreign(systemd: Systemd | Silence) -> bool:
    """Whether the machine image has nothing of ours: then the launcher brings it with the run."""
    if isinstance(systemd, Silence) or not systemd.is_there:
        return False
    return systemd.unit(AGENT_UNIT).load == "not-found" and not _has_switch(systemd)


def judge_armed(systemd: Systemd | Silence, instance: Instance | Silence) -> Finding:
    """Whether this machine ends in time, or is left alone because it was started by hand."""
    if isinstance(systemd, Silence):
        return ARMED.unknown("systemd does not tell")
    if not _has_switch(systemd):
        return ARMED.not_applicable("there is no dead-man's switch")
    if _all_active(systemd, LIMITS):
        return ARMED.met("with the limit of the run")
    capped = _all_active(systemd, CAPS)
    by_hand = systemd.left_alone or (
        isinstance(instance, Instance) and instance.pointer is None and instance.pointer_problem is None
    )
    if by_hand and any(systemd.unit(name).is_active for name in (*CAPS, *LIMITS)):
        return ARMED.not_met(
            "started by hand, but its switch is armed: it is turned off all the same",
            f"Keep it: `systemctl stop {' '.join(CAPS)}`. Usually {AGENT_UNIT} lets go of such a machine: "
            f"see `systemctl status {AGENT_UNIT}`.",
        )
    if by_hand:
        return ARMED.met("left alone: this machine was started by hand")
    if capped:
        return ARMED.met("with the cap from boot: no run is claimed yet")
    if isinstance(instance, Silence):
        return ARMED.unknown("not armed; whether this machine was started by hand is not known")
    return ARMED.not_met(
        "not armed, though the machine has a run",
        f"Arm it: `systemctl start {' '.join(CAPS)}`. They are there from boot when they are enabled.",
    )


def _unit(systemd: Systemd) -> Finding:
    unit = systemd.unit(AGENT_UNIT)
    if not unit.is_there:
        return UNIT.not_met(f"{AGENT_UNIT} is {unit.load}", f"{_ROLE}.")
    if not unit.is_enabled:
        return UNIT.not_met(
            f"{AGENT_UNIT} is {unit.enabled or 'not enabled'}", f"Enable it: `systemctl enable {AGENT_UNIT}`."
        )
    return UNIT.met(f"{AGENT_UNIT} is {unit.enabled}")


def _watchdog(systemd: Systemd) -> Finding:
    unit = systemd.unit(AGENT_UNIT)
    if not unit.is_there:
        return WATCHDOG.not_met(f"{AGENT_UNIT} is {unit.load}", f"{_ROLE}.")
    lacking = [
        setting
        for setting, there in (
            ("WatchdogSec=", unit.watchdog not in ("", "0", "infinity")),
            ("Restart=on-failure", unit.restart in ("on-failure", "always")),
            ("OnFailure=", bool(unit.on_failure)),
        )
        if not there
    ]
    if lacking:
        return WATCHDOG.not_met(
            f"{AGENT_UNIT} lacks {', '.join(lacking)}", f"{_ROLE}, or set them in a drop-in."
        )
    return WATCHDOG.met(f"started again after {unit.watchdog} of silence; then {unit.on_failure}")


def _switch(systemd: Systemd) -> Finding:
    missing = [name for name in CAPS if not systemd.unit(name).is_there]
    if missing:
        return SWITCH.not_met(
            f"{', '.join(missing)} not found", f"{_ROLE}: else a machine whose agent never starts stays on."
        )
    off = [name for name in CAPS if not systemd.unit(name).is_enabled]
    if off:
        return SWITCH.not_met(f"{', '.join(off)} not enabled", f"Enable: `systemctl enable {' '.join(off)}`.")
    return SWITCH.met(f"{' and '.join(CAPS)} enabled")


def _has_switch(systemd: Systemd) -> bool:
    return any(systemd.unit(name).is_there for name in (*CAPS, *LIMITS))


def _all_active(systemd: Systemd, names: tuple[str, ...]) -> bool:
    return all(systemd.unit(name).is_active for name in names)
