"""Where batches of log events go, and what can become of one there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Receipt:
    """The service's answer to a batch that it took."""

    rejected: int = 0
    """Events of the batch that it refused for good."""
    why: str = ""
    """The cause, where there are any."""


class LogSink(Protocol):
    """A log stream, made with the first batch. `put` and `contains` are called by several threads at once.

    All events of a batch carry the batch's timestamp (ms since 1970), which no other batch has; the stream
    keeps its events in the order of their timestamps, and those of one batch in the batch's order.
    """

    def put(self, timestamp: int, events: Sequence[str]) -> Receipt:
        """Put a batch into the stream. One try; the caller tries again.

        Raises:
            Refused, Unsure, Denied, Unacceptable: see there.
        """

    def contains(self, timestamp: int) -> bool:
        """Whether the stream has an event of this timestamp.

        Raises:
            SinkError: it cannot be told.
        """

    def close(self) -> None:
        """Let go of connections."""


class SinkError(Exception):
    """The batch was not put into the stream, or perhaps not."""


class Refused(SinkError):
    """Certainly not taken; trying again may help (throttling, no connection, credentials that ran out)."""


class Unsure(SinkError):
    """Perhaps taken: the answer was an error of the service's own, or none came."""


class Denied(SinkError):
    """Certainly not taken, and a person has to mend something: a permission, a log group."""


class Unacceptable(SinkError):
    """Certainly not taken, and it never will be: the service finds fault with the batch itself."""
