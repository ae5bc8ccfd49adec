"""systemd: the first process, and what it knows of the units that matter."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

from agent.doctor.environment import parse_assignments, parse_environment_file
from agent.doctor.facts import Systemd, Unit

AGENT_UNIT: Final = "run-agent.service"
CAPS: Final = ("machine-cap.timer", "machine-cap-force.timer")
"""Armed at boot: they end a machine that has claimed no run in time."""
LIMITS: Final = ("machine-limit.timer", "machine-limit-force.timer")
"""Armed at the claim: they end a machine whose run is over its limit."""
UNITS: Final = (
    AGENT_UNIT,
    *CAPS,
    *LIMITS,
    "docker.service",
    "docker.socket",
    "poweroff.target",
    "systemd-poweroff.service",
)
_LEFT_ALONE: Final = "run/solorun/left-alone"
_PROPERTIES: Final = (
    "LoadState",
    "ActiveState",
    "UnitFileState",
    "WatchdogUSec",
    "Restart",
    "OnFailure",
    "Environment",
    "EnvironmentFiles",
)
_ANSWER_S: Final = 5.0


def look_at_systemd(root: Path = Path("/")) -> Systemd:
    """What systemd says; only the first process where that is not systemd.

    Raises:
        ConnectionError: systemd does not answer.
        PermissionError: it does not answer this user, as where there is no D-Bus.
        OSError: the kernel or systemctl cannot be asked.
    """
    first = (root / "proc/1/comm").read_text().strip()
    if first != "systemd":
        return Systemd(first)
    shown = _ask(("systemctl", "show", "--no-pager", "--property", ",".join(_PROPERTIES), *UNITS))
    return Systemd(first, parse_units(UNITS, shown), left_alone=(root / _LEFT_ALONE).exists())


def _ask(words: tuple[str, ...]) -> str:
    try:
        asked = subprocess.run(
            words,
            check=False,
            timeout=_ANSWER_S,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
    except subprocess.TimeoutExpired:
        raise ConnectionError(f"systemd is silent for {_ANSWER_S:.0f} s") from None
    if asked.returncode == 0:
        return asked.stdout
    said = asked.stderr.strip() or f"systemctl ended with exit code {asked.returncode}"
    raise PermissionError(said) if os.geteuid() != 0 else ConnectionError(said)


def parse_units(names: tuple[str, ...], shown: str) -> tuple[Unit, ...]:
    """The units of `names`, in whose order `systemctl show` prints one block each."""
    return tuple(_unit(name, block) for name, block in zip(names, shown.split("\n\n"), strict=False))


def _unit(name: str, block: str) -> Unit:
    said: dict[str, str] = {}
    files: list[str] = []
    for line in block.splitlines():
        key, _, value = line.partition("=")
        if key == "EnvironmentFiles":  # one line for each
            files.append(value.partition(" (")[0])
        else:
            said[key] = value
    return Unit(
        name=name,
        load=said.get("LoadState", "not-found"),
        active=said.get("ActiveState", "inactive"),
        enabled=said.get("UnitFileState", ""),
        watchdog=said.get("WatchdogUSec", "0"),
        restart=said.get("Restart", "no"),
        on_failure=said.get("OnFailure", ""),
        environment=parse_assignments(said.get("Environment", "")),
        environment_files=tuple(files),
    )


def environment_of(unit: Unit) -> dict[str, str] | None:
    """What systemd gives the unit's program; None where there is no such unit. Unreadable files are left out."""
    if not unit.is_there:
        return None
    found = dict(unit.environment)
    for file in unit.environment_files:
        try:
            found.update(parse_environment_file(Path(file).read_text()))
        except (OSError, UnicodeDecodeError):
            continue
    return found
