"""What systemd knows about the start of its machine, as figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PROPERTIES: Final = ("UserspaceTimestampMonotonic", "FinishTimestampMonotonic")
"""Of the manager itself; `systemd-analyze time` counts with the same."""


@dataclass(frozen=True)
class BootTimes:
    """Seconds of CLOCK_MONOTONIC."""

    userspace: float
    """systemd began."""
    finished: float | None
    """Everything that the default target wants has started; None where that is not so yet."""

    @property
    def userspace_s(self) -> float | None:
        """How long userspace took, as `systemd-analyze` says it; None while it is not over."""
        return None if self.finished is None else self.finished - self.userspace


def parse_boot_times(shown: str) -> BootTimes:
    """Read the output of `systemctl show --property=…` for PROPERTIES: microseconds, 0 for what has not happened.

    Raises:
        ValueError: a property is missing, or no number.
    """
    found = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    missing = [name for name in PROPERTIES if not found.get(name, "").isdecimal()]
    if missing:
        raise ValueError(f"systemctl did not show {', '.join(missing)} as a number: {shown!r}")
    userspace, finished = (int(found[name]) / 1e6 for name in PROPERTIES)
    return BootTimes(userspace, finished or None)
