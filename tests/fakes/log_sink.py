"""A log stream in memory, as unreliable as a test wants it."""

import threading
from collections.abc import Callable, Sequence

from agent.logs.sink import Receipt, SinkError


class FakeSink:
    """Keeps batches by timestamp; `faults` are met one by one, before or after a batch is taken."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.closed = 0
        self.puts = 0
        self.batches: dict[int, list[str]] = {}
        self.arrived: list[int] = []
        self.before: list[SinkError | None] = []
        """What the next puts raise without taking the batch."""
        self.after: list[SinkError | None] = []
        """What the next puts raise although they took the batch."""
        self.unseen: list[SinkError | bool] = []
        """What the next looks answer instead of the truth."""
        self.receipts: list[Receipt] = []
        """What the next puts answer."""
        self.on_put: Callable[[int], None] = lambda _timestamp: None

    @property
    def events(self) -> list[str]:
        """All messages, in the stream's order."""
        with self.lock:
            return [message for timestamp in sorted(self.batches) for message in self.batches[timestamp]]

    def put(self, timestamp: int, events: Sequence[str]) -> Receipt:
        """Take the batch, unless told otherwise; a timestamp that comes twice is shown by doubled events."""
        self.on_put(timestamp)
        with self.lock:
            self.puts += 1
            if self.before and (error := self.before.pop(0)):
                raise error
            receipt = self.receipts.pop(0) if self.receipts else Receipt()
            if not receipt.rejected:
                self.batches.setdefault(timestamp, []).extend(events)
                self.arrived.append(timestamp)
            if self.after and (error := self.after.pop(0)):
                raise error
            return receipt

    def contains(self, timestamp: int) -> bool:
        """Look."""
        with self.lock:
            if self.unseen:
                answer = self.unseen.pop(0)
                if isinstance(answer, SinkError):
                    raise answer
                return answer
            return timestamp in self.batches

    def close(self) -> None:
        """Count it."""
        self.closed += 1
