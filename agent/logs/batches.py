"""A window of the log to the next batch, within what PutLogEvents takes. Pure."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from enum import Enum, auto, unique
from itertools import accumulate
from typing import Final

from agent.logs.events import (
    EVENT_BYTES,
    EVENT_OVERHEAD,
    as_event,
    messages_of,
    pieces,
    unfinished_character,
)
from agent.logs.redact import Redactor

BATCH_BYTES: Final = 1_048_576
"""The largest batch: the messages' bytes in UTF-8, and EVENT_OVERHEAD for each."""
BATCH_EVENTS: Final = 10_000
"""The most events of a batch."""
WINDOW_BYTES: Final = BATCH_BYTES
"""So much of the log is looked at for a batch; a line without an end in it is cut."""


@unique
class Tail(Enum):
    """What to do with a last line that has no end yet."""

    WAIT = auto()
    """Leave it: its end may come."""
    TAKE = auto()
    """Take it, but for a character or a secret that may only have begun."""
    END = auto()
    """Take it whole: the log ends here."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The next batch: so many bytes of the log, and the events they make."""

    length: int
    events: list[str]


def cut(window: bytes, redactor: Redactor, *, mid_line: bool = False, tail: Tail = Tail.WAIT) -> Cut:
    """The next batch from `window`, which begins where the batch before ended.

    A window of WINDOW_BYTES and more is full: it always gives something. It should hold `redactor.longest`
    bytes more than WINDOW_BYTES, where the log has them, so that no secret is cut in two. `mid_line` says that
    the byte before the window is no `\\n`: then a `\\n` at its start ends a line and makes no blank one.

    The events of a batch can be made again from its own bytes: `cut` with them as window and Tail.END.
    """
    end = window.rfind(b"\n", 0, WINDOW_BYTES)
    if end >= 0:
        return _whole_lines(window, end, redactor, mid_line)
    if len(window) >= WINDOW_BYTES:
        return _long_line(window, WINDOW_BYTES, redactor)
    match tail:
        case Tail.WAIT:
            return Cut(0, [])
        case Tail.TAKE:
            held_back = max(redactor.held_back(window), unfinished_character(window))
            return _long_line(window, len(window) - held_back, redactor)
        case Tail.END:
            return _long_line(window, len(window), redactor)


def _whole_lines(window: bytes, end: int, redactor: Redactor, mid_line: bool) -> Cut:
    """As many of the lines of `window[: end + 1]` as a batch takes."""
    while window.count(b"\n", 0, end) > 2 * BATCH_EVENTS:  # short lines: most would be looked at in vain
        half = window.rfind(b"\n", 0, end // 2)
        if half < 0:
            break
        end = half
    raw = window[:end]
    redacted = redactor.redact(raw)
    messages, sizes = messages_of(redacted)
    continued = mid_line and not messages[0]  # the end of a line whose text was taken before
    costs = [(size or 1) + EVENT_OVERHEAD for size in sizes]
    if continued:
        costs[0] = 0
    count = min(bisect_right(list(accumulate(costs)), BATCH_BYTES), BATCH_EVENTS)
    if max(sizes) > EVENT_BYTES:
        long = next(index for index, size in enumerate(sizes) if size > EVENT_BYTES)
        if long == 0:
            return _long_line(window, window.index(b"\n"), redactor)
        count = min(count, long)
    lines = raw.split(b"\n") if count < len(messages) or redacted is not raw else None
    length = end + 1 if count == len(messages) or lines is None else sum(map(len, lines[:count])) + count
    events = messages[1 if continued else 0 : count]
    if "" in events:
        events = list(map(as_event, events))
    return Cut(length, events)


def _long_line(window: bytes, end: int, redactor: Redactor) -> Cut:
    """As much of the line `window[:end]` as a batch takes, with the line's `\\n` where it comes next."""
    events: list[str] = []
    taken, free = 0, BATCH_BYTES
    for piece in pieces(window, end, redactor):
        free -= piece.size + EVENT_OVERHEAD
        if free < 0 or len(events) == BATCH_EVENTS:
            return Cut(taken, events)
        events.append(piece.message)
        taken += piece.length
    return Cut(taken + (window[taken : taken + 1] == b"\n"), events)
