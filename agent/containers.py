"""The Docker daemon as the agent uses it: the workload's container, and the sweep at the end.

The Docker SDK is imported when a daemon is opened, as it takes longer to import than the rest of the agent.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agent.clock import Clock, Deadline, SystemClock
from agent.container_errors import pull_failed, start_failed
from agent.container_plan import (
    ROLE_LABEL,
    RUN_LABEL,
    WORK_DIR_LABEL,
    ContainerExit,
    ContainerPlan,
    Exited,
    Listed,
    Mount,
    Role,
    Running,
)
from agent.docker_daemon import REQUEST_S, DaemonAway, daemon, words
from agent.errors import DockerError, ImageUnavailable
from agent.images import Images

if TYPE_CHECKING:
    from docker import DockerClient

log = logging.getLogger(__name__)

_DAEMON_AWAY_S: Final = 120.0
"""How long the daemon may be down (an upgrade, a restart with live-restore) before a wait gives up."""
_RETRY_S: Final = 1.0
_KILLERS: Final = 8
"""Containers that are removed at the same time; the daemon takes 50 to 300 ms for each."""


class Containers(Images):
    """The containers of this machine, and its container images. Safe to use from several threads."""

    def __init__(
        self,
        client: DockerClient,
        clock: Clock | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(client.api, clock or SystemClock())
        self._pause = pause

    # --- the workload's container ---

    def start(self, plan: ContainerPlan, spool: Path) -> str:
        """Start a container whose own stdout and stderr are the file `spool`; returns its id.

        The shell inside opens the file and becomes the command: no byte goes through Docker or the agent,
        so output is never lost with either, and costs what writing a file costs. The container is kept when
        it ends, so that an agent that was restarted can still read its exit code. A command that is missing
        in the image gives exit code 127 and a line in the spool.

        Raises:
            DockerError: it cannot be started: no /bin/sh in the image, a mount that is not there, …
            ImageUnavailable: the image is not on the machine.
        """
        from docker.errors import APIError, ImageNotFound
        from docker.types import LogConfig
        from docker.types import Mount as Bind

        mounts = list(plan.mounts)
        folder = str(spool.parent)
        if not any(m.source == m.target and spool.is_relative_to(m.target) for m in mounts):
            mounts.append(Mount(folder, folder))
        with daemon(f"start container {plan.name}"):
            self._remove_never_started(plan.name)
            try:
                created = self._api.create_container(
                    plan.image,
                    name=plan.name,
                    entrypoint=["/bin/sh", "-c", 'exec "$@" >>"$0" 2>&1', str(spool)],
                    command=list(plan.command),
                    environment=dict(plan.environment),
                    labels=dict(plan.labels),
                    working_dir=plan.working_dir,
                    user=plan.user,
                    host_config=self._api.create_host_config(
                        network_mode=plan.network_mode,
                        log_config=LogConfig(type="none"),
                        mounts=[
                            Bind(mount.target, mount.source, type="bind", read_only=mount.read_only)
                            for mount in mounts
                        ],
                    ),
                )
                container_id: str = created["Id"]
            except ImageNotFound as error:
                raise ImageUnavailable(pull_failed(plan.image, words(error))) from error
            except APIError as error:
                raise DockerError(start_failed(plan.image, words(error))) from error
            try:
                self._api.start(container_id)
            except APIError as error:
                self._api.remove_container(container_id, force=True)
                raise DockerError(start_failed(plan.image, words(error))) from error
        return container_id

    def _remove_never_started(self, name: str) -> None:
        """What an agent left that was killed between making the container and starting it."""
        for found in self._api.containers(all=True, filters={"name": f"^/{name}$", "status": ["created"]}):
            self._api.remove_container(found["Id"], force=True)

    def find(self, run_id: str, role: Role = Role.WORKLOAD) -> Running | Exited | None:
        """The run's container of this role, running or ended; None where it was never started.

        Raises:
            DockerError: the daemon does not answer.
        """
        with daemon(f"look for the containers of run {run_id}"):
            for found in self._list(run_id, all=True, role=role):
                state = self._state(found["Id"])
                if state is None or state["Status"] == "created":
                    continue
                if state["Status"] in ("exited", "dead"):
                    return Exited(found["Id"], _exit(state))
                return Running(found["Id"], state["StartedAt"])
        return None

    def wait(self, container_id: str) -> ContainerExit:
        """Wait until the container has ended. A daemon that goes away and comes back is waited for.

        Raises:
            DockerError: the container is not there any more, or the daemon stayed away for two minutes.
        """
        from docker.errors import APIError, NotFound

        away_until: Deadline | None = None
        while True:
            try:
                with daemon(f"wait for container {container_id[:12]}"):
                    state = self._state(container_id)
                    if state is None:
                        raise _vanished(container_id)
                    if state["Status"] in ("exited", "dead"):
                        return _exit(state)
                    away_until = None
                    try:
                        self._api.wait(container_id, timeout=None)
                    except NotFound:
                        raise _vanished(container_id) from None
                    except APIError as error:
                        log.warning("waiting for container %s: %s", container_id[:12], words(error))
                        self._pause(_RETRY_S)
            except DaemonAway as error:
                away_until = away_until or Deadline.after(_DAEMON_AWAY_S, self._clock)
                if away_until.passed:
                    raise
                log.warning("%s; trying again", error)
                self._pause(_RETRY_S)

    def stop(self, container_id: str, grace_s: float) -> None:
        """Ask the container to end (TERM), and kill it after `grace_s` seconds. One that is gone is fine.

        Raises:
            DockerError: the daemon does not answer.
        """
        from docker.errors import NotFound

        with daemon(f"stop container {container_id[:12]}"):
            try:
                self._api.stop(container_id, timeout=max(0, int(grace_s)))
            except NotFound:
                return

    def remove(self, container_id: str) -> None:
        """Kill the container if it runs, and remove it with its anonymous volumes. One that is gone is fine.

        Raises:
            DockerError: the daemon does not answer.
        """
        from docker.errors import APIError

        with daemon(f"remove container {container_id[:12]}"):
            try:
                self._api.remove_container(container_id, force=True, v=True)
            except APIError as error:
                # 404: it is gone. 409: somebody (`docker run --rm`) is removing it this moment.
                if error.status_code not in (404, 409):
                    raise

    # --- all containers of a run ---

    def running(self, run_id: str) -> tuple[Listed, ...]:
        """The run's containers that run now, the workload's and its tasks'.

        Raises:
            DockerError: the daemon does not answer.
        """
        with daemon(f"list the containers of run {run_id}"):
            return tuple(
                Listed(
                    id=found["Id"],
                    name=(found["Names"] or ["/"])[0].lstrip("/"),
                    role=found["Labels"].get(ROLE_LABEL, ""),
                    work_dir=found["Labels"].get(WORK_DIR_LABEL, ""),
                )
                for found in self._list(run_id, all=False)
            )

    def out_of_memory(self, run_id: str, since: datetime) -> tuple[str, ...]:
        """Work dirs of the run's tasks in which the kernel killed a process for want of memory.

        Their containers may be gone. Docker remembers its last 256 events: ask soon after the end.

        Raises:
            DockerError: the daemon does not answer.
        """
        with daemon(f"look for containers of run {run_id} that ran out of memory"):
            events = self._api.events(
                since=int(since.timestamp()),
                until=int(self._clock.now().timestamp()) + 1,
                filters={"event": "oom", "label": f"{RUN_LABEL}={run_id}"},
                decode=True,
            )
            found = [str(event["Actor"]["Attributes"].get(WORK_DIR_LABEL, "")) for event in events]
        return tuple(dict.fromkeys(work_dir for work_dir in found if work_dir))

    def sweep(self, run_id: str, deadline: Deadline) -> tuple[str, ...]:
        """Kill and remove every container of the run; returns the names of those that were there.

        Raises:
            DockerError: some were left when the deadline passed; the message names them.
        """
        from concurrent.futures import ThreadPoolExecutor, wait

        removed: dict[str, str] = {}
        pool = ThreadPoolExecutor(_KILLERS, thread_name_prefix="sweep")
        try:
            while True:
                with daemon(f"list the containers of run {run_id}"):
                    left = {
                        found["Id"]: (found["Names"] or [found["Id"][:12]])[0].lstrip("/")
                        for found in self._list(run_id, all=True)
                    }
                if not left:
                    return tuple(removed.values())
                if deadline.passed:
                    raise DockerError(
                        f"{len(left)} containers of the run could not be removed in time: "
                        f"{', '.join(sorted(left.values()))}. They end with the machine."
                    )
                removed |= left
                wait([pool.submit(self.remove, found) for found in left], timeout=deadline.remaining())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _list(self, run_id: str, *, all: bool, role: Role | None = None) -> list[dict[str, Any]]:
        labels = [f"{RUN_LABEL}={run_id}"]
        if role is not None:
            labels.append(f"{ROLE_LABEL}={role}")
        found: list[dict[str, Any]] = self._api.containers(all=all, filters={"label": labels})
        return found

    def _state(self, container_id: str) -> dict[str, Any] | None:
        from docker.errors import NotFound

        try:
            state: dict[str, Any] = self._api.inspect_container(container_id)["State"]
        except NotFound:
            return None
        return state


@contextmanager
def open_containers(
    base_url: str | None = None,
    clock: Clock | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> Iterator[Containers]:
    """The machine's Docker daemon; `base_url` is the default socket where None.

    Raises:
        DockerError: no daemon answers there.
    """
    with daemon("talk to Docker"):
        from docker import DockerClient

        client = DockerClient(base_url=base_url, version="auto", timeout=REQUEST_S)
    try:
        yield Containers(client, clock, pause)
    finally:
        client.close()


def _vanished(container_id: str) -> DockerError:
    return DockerError(
        f"Container {container_id[:12]} is not there any more: somebody removed it while the run went on, so "
        "its exit code is unknown. `launcher runs relaunch` starts the run again."
    )


def _exit(state: Mapping[str, Any]) -> ContainerExit:
    return ContainerExit(
        code=int(state["ExitCode"]),
        oom_killed=bool(state.get("OOMKilled")),
        error=str(state.get("Error") or ""),
    )
