"""Time as an argument: what waits or stamps takes a Clock, so that tests script it."""

from __future__ import annotations

import time
from collections.abc import Callable
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
    nearer: Callable[[], float] | None = None
    """A moment that may come to be before `at` while somebody works towards it, as after a Spot notice."""

    @classmethod
    def after(cls, seconds: float, clock: Clock) -> Deadline:
        """The moment `seconds` from now."""
        return cls(clock.monotonic() + seconds, clock)

    def remaining(self) -> float:
        """Seconds left; 0.0 when it has passed."""
        at = self.at if self.nearer is None else min(self.at, self.nearer())
        return max(0.0, at - self.clock.monotonic())

    def less(self, reserve: float) -> Deadline:
        """An earlier deadline that leaves `reserve` seconds for what comes after."""
        nearer = self.nearer
        return Deadline(self.at - reserve, self.clock, nearer and (lambda: nearer() - reserve))

    @property
    def passed(self) -> bool:
        """True once there is no time left."""
        return self.remaining() == 0.0
