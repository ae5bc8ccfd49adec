"""Gives every instance that the launcher starts a machine, and takes away those that are terminated."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta
from typing import Final

from launcher.catalog import TAG_NAME, TAG_RUN
from launcher.clock import Clock
from launcher.localcloud.control import MachineReport
from launcher.localcloud.fleet import End, Fleet, Instance
from launcher.localcloud.machine import Machine, MachineState, Site
from launcher.localcloud.metadata_values import Interruption

log = logging.getLogger(__name__)

_LOOK_S: Final = 1.0
"""Instances are looked at after every EC2 request; this often even when there was none."""
_CONSOLE_BYTES: Final = 64 * 1024
_LIVE: Final = ("pending", "running")


class Supervisor:
    """Follows the fleet from `start` to `close`, in a thread of its own.

    Args:
        fleet: the instances.
        site: makes their machines.
        clock: times notices and the end.
    """

    def __init__(self, fleet: Fleet, site: Site, clock: Clock) -> None:
        self._fleet = fleet
        self._site = site
        self._clock = clock
        self._lock = threading.Lock()
        self._machines: dict[str, Machine] = {}
        self._awake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="supervisor", daemon=True)

    def start(self) -> None:
        """Begin to follow the fleet."""
        self._thread.start()

    def wake(self) -> None:
        """Something happened in EC2: look now."""
        self._awake.set()

    def close(self, timeout: float) -> None:
        """Power loss for every machine; returns when all are off, or after `timeout` seconds."""
        self._closing.set()
        self._awake.set()
        deadline = self._clock.monotonic() + timeout
        self._thread.join(timeout)
        with self._lock:
            machines = list(self._machines.values())
        for machine in machines:
            machine.cut(End.TERMINATED)
        for machine in machines:
            if not machine.join(max(0.0, deadline - self._clock.monotonic())):
                log.error("%s is not off after %.0f s", machine.instance.id, timeout)

    # --- what others ask

    def machines(self) -> list[MachineReport]:
        """Every machine since the start of the local cloud, in the order of their starts."""
        with self._lock:
            machines = list(self._machines.values())
        return [self._report(machine) for machine in machines]

    def console(self, instance_id: str) -> bytes | None:
        """The end of what a machine wrote to its console, 64 KiB as in EC2; None where there is no such machine."""
        with self._lock:
            machine = self._machines.get(instance_id)
        try:
            return machine.console.read_bytes()[-_CONSOLE_BYTES:] if machine else None
        except FileNotFoundError:
            return None

    def interrupt(self, instance_id: str, seconds: float) -> Interruption | None:
        """Give a machine the Spot notice; a second one changes nothing.

        Returns:
            The notice that counts; None where no such machine runs.
        """
        with self._lock:
            machine = self._machines.get(instance_id)
        if machine is None or machine.state in (MachineState.ENDING, MachineState.OFF):
            return None
        if machine.interruption is None:
            now = self._clock.now()
            machine.interrupt(Interruption(now, now + timedelta(seconds=seconds)))
            log.info("%s has a Spot notice for %.0f s from now", instance_id, seconds)
        return machine.interruption

    # --- its own threads

    def _follow(self) -> None:
        while not self._closing.is_set():
            try:
                self.reconcile()
            except Exception:
                log.exception("the supervisor's look at the instances failed; it looks again")
            self._awake.wait(_LOOK_S)
            self._awake.clear()

    def reconcile(self) -> None:
        """Make the machines be what the fleet says: boot, stop, terminate."""
        for instance in self._fleet.instances():
            with self._lock:
                machine = self._machines.get(instance.id)
            if instance.state in _LIVE:
                if machine is None or machine.state is MachineState.OFF:
                    self._boot(instance, machine)
            elif machine is not None and machine.state is not MachineState.OFF:
                if instance.state == "terminated":
                    machine.cut(End.TERMINATED)
                elif instance.state == "stopped":
                    machine.cut(End.STOPPED)

    def _boot(self, instance: Instance, before: Machine | None) -> None:
        if before is not None and not before.join(0):
            return  # still on its way down; the next look finds it off
        with self._lock:
            others = list(self._machines.values())
        machine = self._site.machine(instance, before, others)
        if machine is None:
            return  # not yet
        with self._lock:
            self._machines[instance.id] = machine
        machine.switch_on()

    def _report(self, machine: Machine) -> MachineReport:
        tags = self._fleet.tags(machine.instance.id)
        notice = machine.interruption
        return MachineReport(
            instance_id=machine.instance.id,
            instance_type=machine.instance.type,
            region=machine.instance.region,
            state=machine.state,
            run_id=tags.get(TAG_RUN),
            run_name=tags.get(TAG_NAME),
            agent_pid=machine.agent_pid,
            agent_starts=machine.agent_starts,
            launched_at=machine.instance.launched_at,
            interruption_at=notice.ends_at if notice else None,
            console=machine.console,
            spot=machine.instance.spot,
        )
