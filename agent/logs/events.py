"""Bytes of a log to the messages of log events, by rules that need nothing but the bytes.

- A line is an event. Only `\\n` ends a line: a `\\r` stays inside, as a progress bar printed it.
- A blank line is one space, as CloudWatch Logs takes no empty message.
- A byte that is not UTF-8 becomes a visible escape (`\\xff`): nothing is lost, and one can tell what it was.
- A line longer than EVENT_BYTES becomes several events, cut between characters and never inside of a secret.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from agent.logs.redact import Redactor

EVENT_OVERHEAD: Final = 26
"""Bytes that CloudWatch Logs counts for each event beside its message."""
EVENT_BYTES: Final = 256 * 1024 - EVENT_OVERHEAD
"""The longest message, in bytes of UTF-8. AWS takes 1 MB today; 256 KiB are safe with older endpoints too,
and four such events fill a batch to the byte."""

_BLANK: Final = " "


class Piece(NamedTuple):
    """A slice of the log that becomes one event."""

    length: int
    """Bytes of the log."""
    message: str
    size: int
    """Bytes of the message in UTF-8."""


def messages_of(lines: bytes) -> tuple[list[str], list[int]]:
    """The messages of whole lines, redacted already and joined by `\\n`, with their sizes in bytes of UTF-8.

    A blank line's message is still empty here, of size 0: `as_event` is for the end.
    """
    try:
        text = lines.decode()
    except UnicodeDecodeError:
        messages = [line.decode("utf-8", "backslashreplace") for line in lines.split(b"\n")]
        return messages, [len(message.encode()) for message in messages]
    messages = text.split("\n")
    return messages, list(map(len, messages if text.isascii() else lines.split(b"\n")))


def as_event(message: str) -> str:
    """The message as it is sent."""
    return message or _BLANK


def pieces(line: bytes, end: int, redactor: Redactor) -> Iterator[Piece]:
    """Cut `line[:end]`, which holds no `\\n`, into events; what is beyond `end` is looked at, not taken.

    The last piece may end a little beyond or before `end`, where a secret lies across.
    """
    start = 0
    while start < end:
        piece = _piece(line, start, end, redactor)
        yield piece
        start += piece.length


def character_start(data: bytes, cut: int, start: int = 0) -> int:
    """`cut`, or up to three bytes before it where it would divide a character of UTF-8; never `start`."""
    if cut < len(data):
        for back in range(min(4, cut - start)):
            if data[cut - back] & 0xC0 != 0x80:
                return cut - back
    return cut


def unfinished_character(data: bytes) -> int:
    """How many bytes at the end of `data` begin a character of UTF-8 that is not whole yet; 0 where none."""
    for back in range(1, min(4, len(data) + 1)):
        byte = data[-back]
        if byte & 0xC0 != 0x80:
            needs = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= 0xC0 else 1
            return back if needs > back else 0
    return 0


def _piece(line: bytes, start: int, end: int, redactor: Redactor) -> Piece:
    # An escape makes four bytes of one, a mask ten of six: a quarter fits whatever the bytes are. The sizes
    # that are tried do not depend on `end`, so that a batch that is made again comes out no larger.
    for share in (1, 2, 4):
        cut = min(start + EVENT_BYTES // share, end)
        cut = redactor.safe_cut(line, start, character_start(line, cut, start))
        message = redactor.redact(line[start:cut]).decode("utf-8", "backslashreplace")
        size = len(message) if message.isascii() else len(message.encode())
        if size <= EVENT_BYTES:
            break
    return Piece(cut - start, message, size)
