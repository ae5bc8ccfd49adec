"""A few threads that work at the same time, started only when there is work for them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")


class Senders(Generic[T]):
    """Up to `count` daemon threads that call `work` for what is submitted; `work` must not raise."""

    def __init__(self, count: int, work: Callable[[T], None], name: str) -> None:
        self._count = count
        self._work = work
        self._name = name
        self._changed = threading.Condition()
        self._queue: SimpleQueue[T] = SimpleQueue()
        self._busy = 0
        self._threads = 0

    @property
    def busy(self) -> int:
        """How many are at work."""
        with self._changed:
            return self._busy

    def wait_free(self) -> None:
        """Wait while all are at work."""
        with self._changed:
            self._changed.wait_for(lambda: self._busy < self._count)

    def submit(self, item: T) -> None:
        """Hand over work; waits while all are busy."""
        with self._changed:
            self._changed.wait_for(lambda: self._busy < self._count)
            self._busy += 1
            if self._threads < self._busy:
                self._threads += 1
                threading.Thread(
                    target=self._serve, name=f"{self._name} {self._threads}", daemon=True
                ).start()
        self._queue.put(item)

    def join(self) -> None:
        """Wait until none is at work."""
        with self._changed:
            self._changed.wait_for(lambda: self._busy == 0)

    def _serve(self) -> None:
        while True:
            self._work(self._queue.get())
            with self._changed:
                self._busy -= 1
                self._changed.notify_all()
