"""One simulated machine: an agent's process, restarted like systemd does, and a power switch that is a file.

BOOTING ──▶ RUNNING ──▶ ENDING ──▶ OFF
              │  ▲         ▲
      crashed ▼  │ restart │ power-off · terminated · Spot · hard cap · too many crashes
             (waits) ──────┤
              │            │
              └─▶ ALONE ───┘       no run pointer: nobody's business until it is terminated
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum, unique
from pathlib import Path
from typing import IO, Final, Protocol

from launcher.clock import Clock
from launcher.localcloud.agent_environment import Place, agent_environment
from launcher.localcloud.docker_host import DockerTrouble
from launcher.localcloud.fleet import End, Fleet, Instance
from launcher.localcloud.metadata_values import Credentials, InstanceMetadata, Interruption
from launcher.localcloud.processes import MACHINE, kill_all
from launcher.localcloud.runs import RunFacts, Runs, pointer_of

log = logging.getLogger(__name__)

EXIT_DONE: Final = 0
EXIT_LEFT_ALONE: Final = 3
"""The agent found no run pointer."""
RESTART_AFTER_S: Final = 0.5
CRASHES: Final = 5
CRASH_WINDOW_S: Final = 60.0
"""More crashes than CRASHES within this time, and the machine is powered off."""
SHUTDOWN_OVERDUE_S: Final = 10.0
"""An agent that ended well and did not shut its machine down: the machine is powered off after this time."""
AFTER_POWER_OFF_S: Final = 2.0
"""What the agent may take to exit after it asked for the shutdown."""
CAP_GRACE_S: Final = 900.0
"""What a run may take beyond its time limit for uploads, before the hard cap."""
CAP_WITHOUT_SPEC_S: Final = 3600.0
_LOOK_S: Final = 0.1


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


class Containers(Protocol):
    """What a machine needs of Docker."""

    def sweep(self, instance_id: str) -> int:
        """Kill and remove an instance's containers; DockerTrouble where that fails."""


@dataclass(frozen=True)
class Site:
    """What all machines of a local cloud share."""

    place: Place
    agent_command: Sequence[str]
    fleet: Fleet
    containers: Containers
    runs: Runs
    clock: Clock


class Machine:
    """Boots when it is made, in a thread of its own, and is off in the end, whatever happens."""

    def __init__(self, site: Site, instance: Instance, secret: str, credentials: Credentials) -> None:
        self.instance = instance
        self.credentials = credentials
        self.secret = secret
        self.state = MachineState.BOOTING
        self.starts = 0
        self.interruption: Interruption | None = None
        self.folder = site.place.folder.machine(instance.id)
        self._site = site
        self._process: subprocess.Popen[bytes] | None = None
        self._cut: End | None = None
        self._changed = threading.Event()
        self._thread = threading.Thread(target=self._live, name=f"machine {instance.id}", daemon=True)
        self._thread.start()

    # --- from other threads

    @property
    def agent_pid(self) -> int | None:
        """The process id of the agent that runs now."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    def metadata(self) -> InstanceMetadata | None:
        """What its metadata service says, but for credentials and notices."""
        return self._site.fleet.metadata(self.instance.id)

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

    def run_folder(self) -> Path | None:
        """The folder of the run that this machine claimed; None where it claimed none, though another may have."""
        metadata = self.metadata()
        pointer = pointer_of(metadata.user_data) if metadata else None
        if pointer is None or self._site.runs.claimed_by(pointer) != self.instance.id:
            return None
        facts = self._site.runs.facts(pointer)
        return self._site.place.folder.scratch / facts.session_id if facts else None

    # --- its own thread

    def _live(self) -> None:
        end = End.TERMINATED
        try:
            self._boot()
            end = self._until_end()
        except Exception:
            log.exception("%s: the supervisor failed, so the machine is powered off", self.instance.id)
        finally:
            self._end(end)

    def _boot(self) -> None:
        self.folder.create()
        self.folder.power_off.unlink(missing_ok=True)
        self._start_agent()
        self.state = MachineState.RUNNING

    def _start_agent(self) -> None:
        self.starts += 1
        with self.folder.console.open("ab") as console:
            _note(console, f"agent start {self.starts}")
            self._process = subprocess.Popen(
                list(self._site.agent_command),
                cwd=self.folder.root,
                env=agent_environment(self._site.place, self.instance, self.secret),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        log.info("%s: agent started, pid %d", self.instance.id, self._process.pid)

    def _until_end(self) -> End:
        """Watch the agent, the switch, the notice and the hard cap until one of them ends the machine."""
        clock = self._site.clock
        cap: _HardCap | None = None
        crashes: list[float] = []
        restart_at: float | None = None
        overdue_at: float | None = None
        while True:
            now = clock.monotonic()
            if self._cut is not None:
                return self._cut
            if self.folder.power_off.exists():
                return End.POWERED_OFF
            if self.interruption is not None and clock.now() >= self.interruption.ends_at:
                return End.SPOT
            cap = cap or _HardCap(self._site, self.metadata())
            if (why := cap.reached()) is not None:
                return self._give_up(why)
            if overdue_at is not None and now >= overdue_at:
                return self._give_up("its agent ended without shutting it down")
            if restart_at is not None and now >= restart_at:
                restart_at = None
                self._start_agent()
            if self._process is not None and (code := self._process.poll()) is not None:
                self._process = None
                self._kill_leftovers()
                log.info("%s: agent ended with %d", self.instance.id, code)
                if code == EXIT_DONE:
                    overdue_at = now + SHUTDOWN_OVERDUE_S
                elif code == EXIT_LEFT_ALONE:
                    self.state = MachineState.ALONE
                else:
                    crashes = [moment for moment in crashes if moment > now - CRASH_WINDOW_S] + [now]
                    if len(crashes) > CRASHES:
                        return self._give_up(f"its agent crashed {len(crashes)} times within a minute")
                    restart_at = now + RESTART_AFTER_S
            self._changed.wait(_LOOK_S)
            self._changed.clear()

    def _give_up(self, why: str) -> End:
        log.warning("%s is powered off: %s", self.instance.id, why)
        with self.folder.console.open("ab") as console:
            _note(console, f"powered off: {why}")
        return End.POWERED_OFF

    def _kill_leftovers(self) -> None:
        """What the agent had started goes with it, like a unit's processes do under systemd."""
        kill_all(MACHINE, self.instance.id)

    def _end(self, end: End) -> None:
        self.state = MachineState.ENDING
        stays = self._stays(end)
        site, instance_id = self._site, self.instance.id
        try:
            site.fleet.ending(instance_id, stays=stays)
            self._end_agent(AFTER_POWER_OFF_S if self.folder.power_off.exists() else 0.0)
            kill_all(MACHINE, instance_id)
            site.containers.sweep(instance_id)
            if not stays:
                self._clear_disk()
        except DockerTrouble as trouble:
            log.error("%s: %s; `launcher local down` tries again", instance_id, trouble)
        finally:
            site.fleet.ended(instance_id, end, stays=stays)
            self.state = MachineState.OFF
        log.info("%s is off: %s", instance_id, end)

    def _stays(self, end: End) -> bool:
        """Whether the machine is stopped, to be started again, rather than terminated."""
        if end is End.POWERED_OFF:
            return self.instance.stays_on_shutdown
        return end is End.STOPPED

    def _end_agent(self, patience: float) -> None:
        process = self._process
        if process is None:
            return
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            # Not yet waited for, so its process id, and its group's, cannot be another's.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            log.info("%s: agent killed", self.instance.id)
        self._process = None

    def _clear_disk(self) -> None:
        """Take the run's folder off the disk, at once; the supervisor removes what is in the trash."""
        shutil.rmtree(self.folder.temporary, ignore_errors=True)
        folder = self.run_folder()
        if folder is None or not folder.exists():
            return
        target = self._site.place.folder.trash / f"{folder.name}-{self.instance.id}"
        try:
            folder.rename(target)
        except OSError as error:
            log.error("%s: %s stays: %s", self.instance.id, folder, error)


class _HardCap:
    """The last resort: a machine whose run should have ended long ago is powered off."""

    def __init__(self, site: Site, metadata: InstanceMetadata | None) -> None:
        self._clock = site.clock
        pointer = pointer_of(metadata.user_data) if metadata else None
        facts: RunFacts | None = site.runs.facts(pointer) if pointer else None
        seconds = facts.time_limit_s + CAP_GRACE_S if facts else CAP_WITHOUT_SPEC_S
        # A machine without a run is left alone, as it would be in EC2.
        self.at: datetime | None = site.clock.now() + timedelta(seconds=seconds) if pointer else None

    def reached(self) -> str | None:
        """Why the machine must go; None while it need not."""
        if self.at is None or self._clock.now() < self.at:
            return None
        return f"its run should have ended before {self.at:%Y-%m-%d %H:%M:%S} UTC"


def _note(console: IO[bytes], text: str) -> None:
    console.write(f"--- {text}\n".encode())
    console.flush()
