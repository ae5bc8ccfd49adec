"""Gives every instance that the launcher starts a machine, and takes away those that are terminated."""

from __future__ import annotations

import logging
import secrets
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final, Protocol

from launcher.catalog import TAG_NAME, TAG_RUN
from launcher.localcloud.control import MachineReport
from launcher.localcloud.docker_host import DockerTrouble
from launcher.localcloud.fleet import End, Instance
from launcher.localcloud.keys import KeyRing
from launcher.localcloud.machine import Machine, MachineState, Site
from launcher.localcloud.metadata_values import InstanceMetadata, Interruption
from launcher.localcloud.runs import pointer_of

log = logging.getLogger(__name__)

_LOOK_S: Final = 1.0
"""Instances are looked at after every EC2 request; this often even when there was none."""
_CONSOLE_BYTES: Final = 64 * 1024
_LIVE: Final = ("pending", "running")


class Disk(Protocol):
    """What the supervisor needs to empty the machines' trash."""

    def remove_folder(self, folder: Path, images: tuple[str, ...]) -> None:
        """Remove a folder, also files of root in it; DockerTrouble where that fails."""


class Supervisor:
    """Follows the fleet from `start` to `close`, in a thread of its own.

    Args:
        site: what the machines share.
        keys: takes the credentials of every machine.
        disk: removes folders.
        images: container images with an `rm` to borrow.
    """

    def __init__(self, site: Site, keys: KeyRing, disk: Disk, images: tuple[str, ...]) -> None:
        self._site = site
        self._keys = keys
        self._disk = disk
        self._images = images
        self._lock = threading.Lock()
        self._machines: dict[str, Machine] = {}
        self._by_secret: dict[str, Machine] = {}
        self._awake = threading.Event()
        self._closing = threading.Event()
        self._threads = [
            threading.Thread(target=self._follow, name="supervisor", daemon=True),
            threading.Thread(target=self._empty_trash, name="janitor", daemon=True),
        ]

    def start(self) -> None:
        """Begin to follow the fleet."""
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Something happened in EC2: look now."""
        self._awake.set()

    def close(self, timeout: float) -> None:
        """Power loss for every machine; returns when all are off, or after `timeout` seconds."""
        self._closing.set()
        self._awake.set()
        deadline = self._site.clock.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - self._site.clock.monotonic()))
        with self._lock:
            machines = list(self._machines.values())
        for machine in machines:
            machine.cut(End.TERMINATED)
        for machine in machines:
            if not machine.join(max(0.0, deadline - self._site.clock.monotonic())):
                log.error("%s is not off after %.0f s", machine.instance.id, timeout)

    # --- what others ask

    def metadata(self, secret: str) -> InstanceMetadata | None:
        """What the metadata service says to the machine with this secret; None to strangers."""
        with self._lock:
            machine = self._by_secret.get(secret)
        known = machine.metadata() if machine else None
        if machine is None or known is None:
            return None
        return replace(known, credentials=machine.credentials, interruption=machine.interruption)

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
            return machine.folder.console.read_bytes()[-_CONSOLE_BYTES:] if machine else None
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
            now = self._site.clock.now()
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
        for instance in self._site.fleet.instances():
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
        if self._waits_for_disk(instance):
            return
        secret = before.secret if before else secrets.token_urlsafe(16)
        credentials = before.credentials if before else self._keys.make_temporary()
        machine = Machine(self._site, instance, secret, credentials)
        with self._lock:
            self._machines[instance.id] = self._by_secret[secret] = machine

    def _waits_for_disk(self, instance: Instance) -> bool:
        """Whether the session's folder is still that of another machine, which will clear it as it goes off.

        A relaunched run has its predecessor's session. In EC2 it has a disk of its own; here the next look boots it.
        """
        metadata = self._site.fleet.metadata(instance.id)
        pointer = pointer_of(metadata.user_data) if metadata else None
        # The agent itself leaves a run alone that somebody else has claimed.
        if pointer is None or self._site.runs.claimed_by(pointer) is not None:
            return False
        facts = self._site.runs.facts(pointer)
        if facts is None:
            return False
        folder = self._site.place.folder.scratch / facts.session_id
        with self._lock:
            machines = list(self._machines.values())
        return any(
            other.state is not MachineState.OFF and other.run_folder() == folder
            for other in machines
            if other.instance.id != instance.id
        )

    def _empty_trash(self) -> None:
        """Remove what machines left on their disk. It may need a container, so nobody waits for it."""
        trash = self._site.place.folder.trash
        refused: set[Path] = set()
        while not self._closing.wait(_LOOK_S):
            for folder in set(trash.iterdir()) - refused:
                try:
                    self._disk.remove_folder(folder, self._images)
                except DockerTrouble as trouble:
                    log.error("%s; `launcher local down` tries again", trouble)
                    refused.add(folder)

    def _report(self, machine: Machine) -> MachineReport:
        tags = self._site.fleet.tags(machine.instance.id)
        notice = machine.interruption
        return MachineReport(
            instance_id=machine.instance.id,
            instance_type=machine.instance.type,
            region=machine.instance.region,
            state=machine.state,
            run_id=tags.get(TAG_RUN),
            run_name=tags.get(TAG_NAME),
            agent_pid=machine.agent_pid,
            agent_starts=machine.starts,
            launched_at=machine.instance.launched_at,
            interruption_at=notice.ends_at if notice else None,
            console=machine.folder.console,
            spot=machine.instance.spot,
        )
