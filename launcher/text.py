"""Small words: durations, sizes, times, and the nearest name to a mistyped one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

_UNITS: Final = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_DURATION: Final = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
MAX_TIME_LIMIT_S: Final = 30 * 86400


def parse_duration(text: str) -> int:
    """`4h`, `90m`, `1d12h` or `3600s` as seconds.

    Raises:
        ValueError: not a duration, zero, or more than 30 days; the message says what is expected.
    """
    match = _DURATION.fullmatch(text.strip().lower())
    groups = match.groups() if match else ()
    seconds = sum(int(value) * _UNITS[unit] for value, unit in zip(groups, "dhms", strict=False) if value)
    if not any(groups):
        raise ValueError(f"{text!r} is not a duration; write it like 4h, 90m, 1d12h or 45s")
    if not 0 < seconds <= MAX_TIME_LIMIT_S:
        raise ValueError(f"{text!r} is out of range: from 1s to 30d")
    return seconds


def duration(seconds: float) -> str:
    """Seconds as a person says them: `45s`, `3m 20s`, `4h 05m`, `2d 03h`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02}m"
    return f"{whole // 86400}d {whole % 86400 // 3600:02}h"


def between(start: datetime | None, end: datetime | None) -> str:
    """The time from `start` to `end`; empty where either is missing."""
    if start is None or end is None:
        return ""
    return duration((end - start) / timedelta(seconds=1))


def size(count: int) -> str:
    """A number of bytes, with a unit of 1024 and at most one digit after the point."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def when(moment: datetime | None) -> str:
    """A moment in the operator's own time zone, to the second; empty for None."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S") if moment else ""


def nearest(word: str, known: Iterable[str], *, most: int = 3) -> tuple[str, ...]:
    """The known names that look most like `word`, best first."""
    return tuple(difflib.get_close_matches(word, list(known), n=most, cutoff=0.5))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`Did you mean a or b?`, or an empty string when nothing is near."""
    near = nearest(word, known)
    return f"Did you mean {' or '.join(near)}?" if near else ""


def plural(count: int, noun: str) -> str:
    """`1 file`, `3 files`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
