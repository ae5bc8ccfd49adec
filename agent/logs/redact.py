"""Secrets out of logs: their values, as they are and in the encodings that programs print them in.

No needle holds a line break, so lines can be redacted one by one; only a cut inside of a line needs care
(`Redactor.safe_cut`, `Redactor.held_back`).
"""

from __future__ import annotations

import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import AsyncIterator, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final
from urllib.parse import quote, quote_plus

MASK: Final = b"[redacted]"
"""What stands where a secret stood."""
MIN_LENGTH: Final = 6
"""Bytes. Shorter values stay: they would take ordinary words out of the log."""

_CHUNK: Final = 1 << 20


class Redactor:
    """Replaces secrets in bytes. The same secrets always give the same result, in whatever order they come."""

    def __init__(self, secrets: Iterable[str | bytes] = ()) -> None:
        needles: set[bytes] = set()
        self.too_short = 0
        """Lines of secrets that are shorter than MIN_LENGTH and therefore not looked for."""
        for secret in secrets:
            raw = secret.encode() if isinstance(secret, str) else secret
            # A secret of several lines (a private key) is printed line by line, indented, or with other line
            # ends: each line is looked for by itself.
            for line in filter(None, map(bytes.strip, raw.splitlines())):
                if len(line) < MIN_LENGTH:
                    self.too_short += 1
                else:
                    needles.update(form for form in _forms(line) if len(form) >= MIN_LENGTH)
        # Longest first: where one secret begins with another, the alternation must try the longer one.
        self._needles: Final = sorted(needles, key=lambda needle: (-len(needle), needle))
        self.longest: Final = len(self._needles[0]) if needles else 0
        """Bytes of the longest needle; 0 where there is nothing to look for."""

    @property
    def active(self) -> bool:
        """True when there is anything to look for."""
        return bool(self._needles)

    def redact(self, data: bytes) -> bytes:
        """`data` with every secret masked; the same object where there is none in it."""
        pattern = self._pattern_for(data)
        return pattern.sub(MASK, data) if pattern else data

    def redact_text(self, text: str) -> str:
        """The same for text; a lone surrogate, which UTF-8 has no bytes for, becomes a visible escape."""
        if not self._needles:
            return text
        return self.redact(text.encode("utf-8", "backslashreplace")).decode("utf-8", "replace")

    def safe_cut(self, data: bytes, start: int, cut: int) -> int:
        """Where to cut `data`, at `cut` or near it, so that no secret lies across; never at `start`.

        `data` should go on for `longest` bytes beyond `cut`, where there are that many.
        """
        near = data[start : cut + self.longest]
        pattern = self._pattern_for(near) if cut < len(data) else None
        for match in pattern.finditer(near) if pattern else ():
            first, end = start + match.start(), start + match.end()
            if first >= cut:
                break
            if end > cut:
                return first if first > start else end
        return cut

    def held_back(self, data: bytes) -> int:
        """How many bytes at the end of `data` may be the beginning of a secret; 0 where none."""
        for length in range(min(self.longest - 1, len(data)), 0, -1):
            tail = data[-length:]
            if any(len(needle) > length and needle.startswith(tail) for needle in self._needles):
                return length
        return 0

    def stream(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Redact a stream, in memory of a chunk and the longest needle, however long its lines are."""
        if not self._needles:
            yield from chunks
            return
        rest = b""
        for chunk in chunks:
            rest += chunk
            if len(rest) > self.longest:
                cut = self.safe_cut(rest, 0, len(rest) - self.longest + 1)
                yield self.redact(rest[:cut])
                rest = rest[cut:]
        yield self.redact(rest)

    def _pattern_for(self, data: bytes) -> re.Pattern[bytes] | None:
        """A pattern of the needles that are in `data`: a plain search is faster by far than any pattern."""
        found = tuple(needle for needle in self._needles if needle in data)
        return _pattern(found) if found else None


async def redacted_chunks(source: Path, redactor: Redactor) -> AsyncIterator[bytes]:
    """A log without its secrets, chunk by chunk, in memory of a few MiB.

    Raises:
        OSError: the file cannot be read.
    """
    with source.open("rb") as log:
        for chunk in redactor.stream(iter(lambda: log.read(_CHUNK), b"")):
            yield chunk


def redacted_copy(source: Path, target: Path, redactor: Redactor) -> int:
    """Copy a log without its secrets; returns the bytes written. Memory is bounded by a few MiB.

    Raises:
        OSError: a file cannot be read or written.
    """
    with source.open("rb") as log, target.open("wb") as copy:
        return sum(map(copy.write, redactor.stream(iter(lambda: log.read(_CHUNK), b""))))


@lru_cache(maxsize=64)
def _pattern(needles: tuple[bytes, ...]) -> re.Pattern[bytes]:
    return re.compile(b"|".join(map(re.escape, needles)))


def _forms(secret: bytes) -> Iterator[bytes]:
    """A secret as programs print it: plain, in a URL, in JSON, in base64 at any place of a longer text."""
    yield secret
    yield quote(secret, safe="").encode()
    yield quote(secret).encode()
    yield quote_plus(secret).encode()
    text = secret.decode("utf-8", "replace")
    yield json.dumps(text)[1:-1].encode()
    yield json.dumps(text, ensure_ascii=False)[1:-1].encode()
    for before in range(3):
        # Base64 makes 4 characters of 3 bytes: the same bytes look different at each of three places. What
        # a neighbour has a part in is left out on both sides.
        first = (0, 2, 3)[before]
        whole = (before + len(secret)) * 8 // 6
        for encode in (b64encode, urlsafe_b64encode):
            yield encode(b"\0" * before + secret)[first:whole]
