"""Waits that the end of the run cuts short."""

from __future__ import annotations

import threading
from typing import Final

_LAST_WAIT_S: Final = 1.0
"""The longest wait once there is hurry."""


class Waiting:
    """Waits of threads that try again: short once there is hurry, over when the deadline has passed."""

    def __init__(self) -> None:
        self._hurry = threading.Event()
        self._over = threading.Event()

    @property
    def hurried(self) -> bool:
        """The run is ending: waits are short."""
        return self._hurry.is_set()

    @property
    def over(self) -> bool:
        """Nothing is tried any more."""
        return self._over.is_set()

    def hurry(self) -> None:
        """End the present wait, and shorten the next ones."""
        self._hurry.set()

    def give_up(self) -> None:
        """End all waits."""
        self._over.set()
        self._hurry.set()

    def sleep(self, seconds: float) -> None:
        """Wait, if there is any point in it."""
        if self._hurry.is_set():
            self._over.wait(min(seconds, _LAST_WAIT_S))
        else:
            self._hurry.wait(seconds)
