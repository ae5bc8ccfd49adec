"""Time as an argument: what waits or stamps takes a Clock, so that tests script it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Where code gets the time from."""

    def monotonic(self) -> float:
        """Seconds that never go back."""

    def now(self) -> datetime:
        """The wall clock, in UTC."""


class SystemClock:
    """The machine's own clock."""

    def monotonic(self) -> float:
        """Seconds since some fixed moment."""
        return time.monotonic()

    def now(self) -> datetime:
        """The wall clock, in UTC."""
        return datetime.now(UTC)


@dataclass(frozen=True)
class Deadline:
    """A moment by which something must be done, on the monotonic clock. Divided, never stretched."""

    at: float
    clock: Clock

    @classmethod
    def after(cls, seconds: float, clock: Clock) -> Deadline:
        """The moment `seconds` from now."""
        return cls(clock.monotonic() + seconds, clock)

    def remaining(self) -> float:
        """Seconds left; 0.0 when it has passed."""
        return max(0.0, self.at - self.clock.monotonic())

    def less(self, reserve: float) -> Deadline:
        """An earlier deadline that leaves `reserve` seconds for what comes after."""
        return Deadline(self.at - reserve, self.clock)

    @property
    def passed(self) -> bool:
        """True once there is no time left."""
        return self.remaining() == 0.0
