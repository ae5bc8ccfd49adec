"""Looks that may hang: each in a thread of its own, with a deadline."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from agent.clock import Clock, Deadline
from agent.doctor.facts import Silence

T = TypeVar("T")


class Asked(Generic[T]):
    """A look that has begun. Its thread never keeps the process, which must not wait for it at its end.

    Args:
        look: asks the machine; may hang, may raise.
        within_s: seconds until nobody waits for it any more.
        clock: measures them.
    """

    def __init__(self, look: Callable[[], T], within_s: float, clock: Clock) -> None:
        self._look = look
        self._within_s = within_s
        self._by = Deadline.after(within_s, clock)
        self._answer: T | Silence | None = None
        self._done = threading.Event()
        threading.Thread(target=self._ask, name="look", daemon=True).start()

    def answer(self) -> T | Silence:
        """What the look brought; Silence where it failed, or not within its time."""
        if not self._done.wait(self._by.remaining()) or self._answer is None:
            return Silence(f"no answer within {self._within_s:.0f} s")
        return self._answer

    def _ask(self) -> None:
        try:
            self._answer = self._look()
        except PermissionError as error:
            self._answer = Silence(str(error), forbidden=True)
        except Exception as error:  # noqa: BLE001  # the top of a thread: whatever it is, the others go on
            self._answer = Silence(str(error) or type(error).__name__)
        finally:
            self._done.set()
