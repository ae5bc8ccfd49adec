"""One simulated machine, whatever it is made of: on for as long as EC2 says, and off in the end, whatever happens.

BOOTING ──▶ RUNNING ──▶ ENDING ──▶ OFF
               │           ▲
               └─▶ ALONE ──┘       no run pointer: nobody's business until it is terminated

What it is made of, a subclass says; where such machines stand, a Site. The local cloud's are processes on this
computer (process_machine.py); tests/machine has machines that boot.
"""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum, unique
from pathlib import Path
from typing import Protocol

from launcher.clock import Clock
from launcher.localcloud.fleet import End, Fleet, Instance
from launcher.localcloud.metadata_values import Credentials, InstanceMetadata, Interruption

log = logging.getLogger(__name__)


@unique
class MachineState(StrEnum):
    """Where a machine is."""

    BOOTING = "booting"
    """Its agent is about to be started."""
    RUNNING = "running"
    """Its agent runs, or is about to be started again."""
    ALONE = "left alone"
    """Its agent found no run and left; the machine runs until somebody terminates it."""
    ENDING = "ending"
    """Its processes and containers are being ended."""
    OFF = "off"
    """Nothing of it runs any more."""


class Machine(ABC):
    """An instance's machine. Made off; lives from `switch_on` in a thread of its own.

    Args:
        fleet: is told of its end.
        clock: tells when a Spot notice has run out.
        instance: whose machine it is.
        credentials: of its instance profile's role.
        console: the file that holds what it wrote to its console.
    """

    def __init__(
        self, fleet: Fleet, clock: Clock, instance: Instance, credentials: Credentials, console: Path
    ) -> None:
        self.instance = instance
        self.credentials = credentials
        self.console = console
        self.state = MachineState.BOOTING
        self.interruption: Interruption | None = None
        self._fleet = fleet
        self._clock = clock
        self._cut: End | None = None
        self._changed = threading.Event()
        self._thread = threading.Thread(target=self._live, name=f"machine {instance.id}", daemon=True)

    # --- from other threads

    @property
    def agent_pid(self) -> int | None:
        """The process id of the agent that runs now, where it is a process of this computer's own."""
        return None

    @property
    def agent_starts(self) -> int | None:
        """How often its agent was started; None where that cannot be seen from outside."""
        return None

    def metadata(self) -> InstanceMetadata | None:
        """What its metadata service says now; None where EC2 has forgotten the instance."""
        known = self._fleet.metadata(self.instance.id)
        return known and replace(known, credentials=self.credentials, interruption=self.interruption)

    def switch_on(self) -> None:
        """Boot; once."""
        self._thread.start()

    def cut(self, end: End) -> None:
        """Power loss: nothing on the machine gets a word in."""
        self._cut = self._cut or end
        self._changed.set()

    def interrupt(self, notice: Interruption) -> None:
        """Give the Spot notice; the machine is terminated when its time has come."""
        self.interruption = notice
        self._changed.set()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until it is off; False when `timeout` seconds were not enough."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    # --- what it is made of, in its own thread

    @abstractmethod
    def _until_end(self) -> End:
        """Boot, set `state`, and watch until the machine ends or must end."""

    @abstractmethod
    def _turn_off(self, *, stays: bool) -> None:
        """Leave nothing of it running, nor on disk unless it `stays`, to be started again."""

    def _must_end(self) -> End | None:
        """Why EC2 ends the machine now; None while it does not."""
        if self._cut is not None:
            return self._cut
        if self.interruption is not None and self._clock.now() >= self.interruption.ends_at:
            return End.SPOT
        return None

    def _wait(self, seconds: float) -> None:
        """Wait for a word from other threads, so long at most."""
        self._changed.wait(seconds)
        self._changed.clear()

    # --- its own thread

    def _live(self) -> None:
        end = End.TERMINATED
        try:
            end = self._until_end()
        except Exception:
            log.exception("%s: the supervisor failed, so the machine is powered off", self.instance.id)
        finally:
            self._end(end)

    def _end(self, end: End) -> None:
        self.state = MachineState.ENDING
        stays = self.instance.stays_on_shutdown if end is End.POWERED_OFF else end is End.STOPPED
        try:
            self._fleet.ending(self.instance.id, stays=stays)
            self._turn_off(stays=stays)
        except Exception:
            log.exception("%s: not all of it could be ended", self.instance.id)
        finally:
            self._fleet.ended(self.instance.id, end, stays=stays)
            self.state = MachineState.OFF
        log.info("%s is off: %s", self.instance.id, end)


class Site(Protocol):
    """Where machines stand."""

    def machine(
        self, instance: Instance, before: Machine | None, others: Sequence[Machine]
    ) -> Machine | None:
        """A machine for an instance, not yet switched on.

        Args:
            instance: wants a machine.
            before: its machine before it was stopped, off by now; None for a new instance.
            others: every machine that there is or was.

        Returns:
            None where it cannot be had yet: the supervisor asks again at its next look.
        """
