"""A machine that is a process on this computer: an agent, restarted like systemd does, and a switch that is a file.

RUNNING ──▶ the agent crashed ──▶ waits ──▶ RUNNING
   └─▶ power-off · terminated · Spot · hard cap · too many crashes ──▶ ENDING
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Final, Protocol

from launcher.clock import Clock
from launcher.localcloud.agent_environment import Place, agent_environment
from launcher.localcloud.docker_host import DockerTrouble
from launcher.localcloud.fleet import End, Fleet, Instance
from launcher.localcloud.machine import Machine, MachineState
from launcher.localcloud.metadata_values import Credentials, InstanceMetadata
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


class Containers(Protocol):
    """What a machine needs of Docker."""

    def sweep(self, instance_id: str) -> int:
        """Kill and remove an instance's containers; DockerTrouble where that fails."""


@dataclass(frozen=True)
class Shared:
    """What all machines of a local cloud share."""

    place: Place
    agent_command: Sequence[str]
    fleet: Fleet
    containers: Containers
    runs: Runs
    clock: Clock


class ProcessMachine(Machine):
    """An agent's process, and all that it starts."""

    def __init__(self, shared: Shared, instance: Instance, secret: str, credentials: Credentials) -> None:
        self.folder = shared.place.folder.machine(instance.id)
        super().__init__(shared.fleet, shared.clock, instance, credentials, self.folder.console)
        self.secret = secret
        """Names its metadata service."""
        self._shared = shared
        self._starts = 0
        self._process: subprocess.Popen[bytes] | None = None

    # --- from other threads

    @property
    def agent_pid(self) -> int | None:
        """The process id of the agent that runs now."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    @property
    def agent_starts(self) -> int:
        """How often its agent was started."""
        return self._starts

    def run_folder(self) -> Path | None:
        """The folder of the run that this machine claimed; None where it claimed none, though another may have."""
        metadata = self.metadata()
        pointer = pointer_of(metadata.user_data) if metadata else None
        if pointer is None or self._shared.runs.claimed_by(pointer) != self.instance.id:
            return None
        facts = self._shared.runs.facts(pointer)
        return self._shared.place.folder.scratch / facts.session_id if facts else None

    # --- its own thread

    def _boot(self) -> None:
        self.folder.create()
        self.folder.power_off.unlink(missing_ok=True)
        self._start_agent()
        self.state = MachineState.RUNNING

    def _start_agent(self) -> None:
        self._starts += 1
        with self.folder.console.open("ab") as console:
            _note(console, f"agent start {self._starts}")
            self._process = subprocess.Popen(
                list(self._shared.agent_command),
                cwd=self.folder.root,
                env=agent_environment(self._shared.place, self.instance, self.secret),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        log.info("%s: agent started, pid %d", self.instance.id, self._process.pid)

    def _until_end(self) -> End:
        """Watch the agent, the switch, the notice and the hard cap until one of them ends the machine."""
        self._boot()
        cap: _HardCap | None = None
        crashes: list[float] = []
        restart_at: float | None = None
        overdue_at: float | None = None
        while True:
            now = self._clock.monotonic()
            if (end := self._must_end()) is not None:
                return end
            if self.folder.power_off.exists():
                return End.POWERED_OFF
            cap = cap or _HardCap(self._shared, self.metadata())
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
            self._wait(_LOOK_S)

    def _give_up(self, why: str) -> End:
        log.warning("%s is powered off: %s", self.instance.id, why)
        with self.folder.console.open("ab") as console:
            _note(console, f"powered off: {why}")
        return End.POWERED_OFF

    def _kill_leftovers(self) -> None:
        """What the agent had started goes with it, like a unit's processes do under systemd."""
        kill_all(MACHINE, self.instance.id)

    def _turn_off(self, *, stays: bool) -> None:
        instance_id = self.instance.id
        self._end_agent(AFTER_POWER_OFF_S if self.folder.power_off.exists() else 0.0)
        kill_all(MACHINE, instance_id)
        try:
            self._shared.containers.sweep(instance_id)
        except DockerTrouble as trouble:
            log.error("%s: %s; `launcher local down` tries again", instance_id, trouble)
            return
        if not stays:
            self._clear_disk()

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
        target = self._shared.place.folder.trash / f"{folder.name}-{self.instance.id}"
        try:
            folder.rename(target)
        except OSError as error:
            log.error("%s: %s stays: %s", self.instance.id, folder, error)


class _HardCap:
    """The last resort: a machine whose run should have ended long ago is powered off."""

    def __init__(self, shared: Shared, metadata: InstanceMetadata | None) -> None:
        self._clock = shared.clock
        pointer = pointer_of(metadata.user_data) if metadata else None
        facts: RunFacts | None = shared.runs.facts(pointer) if pointer else None
        seconds = facts.time_limit_s + CAP_GRACE_S if facts else CAP_WITHOUT_SPEC_S
        # A machine without a run is left alone, as it would be in EC2.
        self.at: datetime | None = shared.clock.now() + timedelta(seconds=seconds) if pointer else None

    def reached(self) -> str | None:
        """Why the machine must go; None while it need not."""
        if self.at is None or self._clock.now() < self.at:
            return None
        return f"its run should have ended before {self.at:%Y-%m-%d %H:%M:%S} UTC"


def _note(console: IO[bytes], text: str) -> None:
    console.write(f"--- {text}\n".encode())
    console.flush()
