"""The agent's sign of life to systemd: given for as long as the agent does what it said it would do.

sd_notify's protocol, a datagram to the socket that systemd names. systemd kills and restarts an agent whose sign of
life stays away (`WatchdogSec=` of run-agent.service), and the restarted one takes the run up again.
"""

from __future__ import annotations

import logging
import socket
import threading
from typing import Final, Self

from agent.clock import Clock, Deadline

log = logging.getLogger(__name__)

_PINGS_PER_TIMEOUT: Final = 3
_MIN_INTERVAL_S: Final = 0.1


class Notifier:
    """Speaks to systemd, where systemd listens.

    Args:
        address: NOTIFY_SOCKET as systemd set it: a path, or `@` and an abstract name. None: nobody listens.
    """

    def __init__(self, address: str | None) -> None:
        self._address = None if address is None else "\0" + address[1:] if address[:1] == "@" else address

    def tell(self, message: str) -> None:
        """Send one message, as in `READY=1`. One that is not taken is logged: a run does not end for it."""
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
                # Never wait for systemd: what cannot be told now is told again soon.
                channel.setblocking(False)
                channel.sendto(message.encode(), self._address)
        except OSError as error:
            log.warning("systemd could not be told %s: %s", message, error)


class Pulse:
    """Signs of life from a thread of its own, until a promise is broken.

    The thread alone proves only that the process is not frozen. So whoever does the agent's work promises with
    `expect` when it will be heard of again; when that moment passes in silence the pulse stops, and systemd acts.

    Args:
        notifier: who is told.
        timeout_s: how long systemd waits for a sign of life; None: it does not watch, and no thread is started.
        clock: measures the promises.
    """

    def __init__(self, notifier: Notifier, timeout_s: float | None, clock: Clock) -> None:
        self._notifier = notifier
        self._timeout_s = timeout_s
        self._clock = clock
        self._by = Deadline.after(0.0, clock)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="pulse", daemon=True)

    def __enter__(self) -> Self:
        """Tell systemd that the agent is up, and begin."""
        self._notifier.tell("READY=1")
        if self._timeout_s is not None:
            self.expect(self._timeout_s)
            self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        """No further sign of life."""
        self._closing.set()

    def expect(self, seconds: float) -> None:
        """Promise to call this again within `seconds`; takes the place of the promise before."""
        self._by = Deadline.after(seconds, self._clock)

    @property
    def alive(self) -> bool:
        """Whether the last promise still holds."""
        return not self._by.passed

    def _beat(self) -> None:
        interval = max(_MIN_INTERVAL_S, (self._timeout_s or 0.0) / _PINGS_PER_TIMEOUT)
        told = False
        while True:
            if self.alive:
                self._notifier.tell("WATCHDOG=1")
                told = False
            elif not told:
                log.error("the agent hangs: it gives systemd no further sign of life")
                told = True
            if self._closing.wait(interval):
                return
