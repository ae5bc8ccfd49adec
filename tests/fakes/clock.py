"""A clock that moves only when it is told to."""

from datetime import UTC, datetime, timedelta

START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


class ScriptedClock:
    """Both clocks of a machine, moved together by `advance`."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def monotonic(self) -> float:
        """Seconds since the start of the test's time."""
        return self._seconds

    def now(self) -> datetime:
        """The wall clock."""
        return START + timedelta(seconds=self._seconds)

    def advance(self, seconds: float) -> None:
        """Let `seconds` go by."""
        self._seconds += seconds
