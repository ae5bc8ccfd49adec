"""`up` and `down`: starting the local cloud's server, and leaving nothing of it behind."""

from __future__ import annotations

import fcntl
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

import psutil

from launcher.catalog import NEXTFLOW_IMAGE
from launcher.clock import Clock
from launcher.errors import LauncherError, UserError
from launcher.localcloud.agent_environment import FROM_THE_COMPUTER
from launcher.localcloud.docker_host import DockerHost, DockerTrouble
from launcher.localcloud.folders import CloudFolder
from launcher.localcloud.processes import CLOUD_FOLDER, CLOUD_ID, environment_of, kill_all
from launcher.localcloud.state import STATE_DIR_VARIABLE, LocalCloudState, current, saved

Say = Callable[[str], None]


class Sweeper(Protocol):
    """What removing a local cloud needs of Docker."""

    def sweep(self, instance_id: str) -> int:
        """Kill and remove an instance's containers, how many; DockerTrouble where that fails."""

    def remove_folder(self, folder: Path, images: tuple[str, ...]) -> None:
        """Remove a folder, also files of root in it; DockerTrouble where that fails."""


SERVER_COMMAND: Final = (sys.executable, "-m", "launcher.localcloud")
START_S: Final = 60.0
"""What the server may take to be up: 3 s on an idle computer."""
STOP_S: Final = 60.0
"""What the server may take to end all machines after SIGTERM, before SIGKILL."""
_LOOK_S: Final = 0.05
_OF_THE_PERSON: Final = ("HOME", "USER", "LOGNAME", "DOCKER_CONTEXT", "SYSTEMROOT")


def up(
    folder: Path,
    environ: Mapping[str, str],
    clock: Clock,
    say: Say,
    *,
    server_command: Sequence[str] = SERVER_COMMAND,
) -> LocalCloudState:
    """Start the local cloud, unless it is up.

    What a local cloud that crashed has left is removed first.

    Args:
        folder: the local cloud's own.
        environ: the person's environment.
        clock: times the waiting.
        say: takes what is being done.
        server_command: starts the server.

    Raises:
        UserError: Docker or Nextflow's container image is not there, or the server does not come up.
    """
    with _alone(folder):
        state = current(folder)
        if state is not None:
            return state
        say("looking for Docker")
        with DockerHost.connect(environ) as docker:
            if not docker.has_image(NEXTFLOW_IMAGE):
                raise UserError(
                    f"The container image {NEXTFLOW_IMAGE} is not here", hint="Make it: make images"
                )
            if remove_leftovers(folder, docker, say):
                say("removed what an earlier local cloud had left")
        CloudFolder(folder).create()
        say("starting the server")
        return _start(folder, environ, clock, server_command)


def down(folder: Path, environ: Mapping[str, str], say: Say) -> bool:
    """End the local cloud: machines, containers, server, files. Everything in it is lost.

    Returns:
        False when there was nothing to end.

    Raises:
        UserError: Docker cannot be used, so that nobody knows what containers are left; or something
            could not be removed. All processes are ended even so.
    """
    if not folder.exists():
        return False
    with _alone(folder):
        state = saved(folder)
        was_there = state is not None or any(CloudFolder(folder).machines.glob("*"))
        if state is not None and current(folder) is not None:
            say("ending the machines and the server")
            _stop(state)
        try:
            docker = DockerHost.connect(environ)
        except LauncherError:
            kill_all(CLOUD_FOLDER, str(folder))
            raise
        with docker:
            was_there = remove_leftovers(folder, docker, say) or was_there
        CloudFolder(folder).log.unlink(missing_ok=True)
        CloudFolder(folder).lock.unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()
    return was_there


def _start(
    folder: Path, environ: Mapping[str, str], clock: Clock, server_command: Sequence[str]
) -> LocalCloudState:
    cloud_id = secrets.token_hex(16)
    kept = {name: environ[name] for name in (*FROM_THE_COMPUTER, *_OF_THE_PERSON) if name in environ}
    with CloudFolder(folder).log.open("ab") as output:
        server = subprocess.Popen(
            list(server_command),
            env=kept | {CLOUD_FOLDER: str(folder), CLOUD_ID: cloud_id, "PYTHONUNBUFFERED": "1"},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        return _wait_until_up(server, cloud_id, folder, clock)
    except BaseException:
        # Ctrl-C too: what is not known to be up must not be up.
        server.kill()
        server.wait()
        raise


def _wait_until_up(
    server: subprocess.Popen[bytes], cloud_id: str, folder: Path, clock: Clock
) -> LocalCloudState:
    deadline = clock.monotonic() + START_S
    while clock.monotonic() < deadline:
        state = saved(folder)
        if state is not None and state.cloud_id == cloud_id:
            return state
        if (code := server.poll()) is not None:
            raise UserError(f"The local cloud's server ended with {code}", hint=_tail(folder))
        clock.sleep(_LOOK_S)
    raise UserError(f"The local cloud is not up after {START_S:.0f} s", hint=_tail(folder))


def _stop(state: LocalCloudState) -> None:
    """SIGTERM, and SIGKILL when that does not help in time."""
    try:
        server = psutil.Process(state.pid)
        if environment_of(server.pid).get(CLOUD_ID) != state.cloud_id:
            return
        server.terminate()
        server.wait(STOP_S)
    except psutil.NoSuchProcess:
        return
    except psutil.TimeoutExpired:
        server.kill()
        server.wait(STOP_S)


def remove_leftovers(folder: Path, docker: Sweeper, say: Say) -> bool:
    """Remove processes, containers and files of a local cloud whose server is gone.

    Returns:
        True when there was anything.

    Raises:
        UserError: something could not be removed. What tells a later call about it stays.
    """
    place = CloudFolder(folder)
    kinds = [path for path in (place.machines, place.scratch, place.trash, place.objects) if path.exists()]
    found = any(any(path.iterdir()) for path in kinds) or place.state.exists()
    found = kill_all(CLOUD_FOLDER, str(folder)) > 0 or found
    problems = []
    swept, unswept = [], []
    for machine in place.machines.iterdir() if place.machines.exists() else ():
        try:
            if docker.sweep(machine.name):
                say(f"removed the containers of {machine.name}")
            swept.append(machine)
        except DockerTrouble as trouble:
            problems.append(str(trouble))
            unswept.append(machine)
    if unswept:
        # A machine's containers are known by its folder's name only: without it nobody would find them again.
        kinds = [path for path in kinds if path != place.machines] + swept
    for path in kinds:
        try:
            docker.remove_folder(path, (NEXTFLOW_IMAGE,))
        except DockerTrouble as trouble:
            problems.append(str(trouble))
    if problems:
        raise UserError(
            "Not everything of the local cloud could be removed",
            problems=tuple(problems),
            hint="`launcher local down` tries again",
        )
    place.state.unlink(missing_ok=True)
    return found


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One `up` or `down` at a time; the next one waits."""
    lock = CloudFolder(folder).lock
    while True:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise UserError(
                f"The local cloud's folder cannot be used: {error}",
                hint=f"Choose another one: {STATE_DIR_VARIABLE}=FOLDER",
            ) from error
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # A `down` that was waited for has removed the file: then this is nobody's lock.
        if lock.exists() and os.path.samestat(os.fstat(descriptor), lock.stat()):
            break
        os.close(descriptor)
    try:
        yield
    finally:
        os.close(descriptor)


def _tail(folder: Path) -> str:
    log = CloudFolder(folder).log
    try:
        lines = log.read_text(errors="replace").splitlines()[-15:]
    except OSError:
        lines = []
    return "\n".join([f"Its log is {log}:", *lines])
