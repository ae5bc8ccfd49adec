"""The person's Docker: whether it can be used, how large it is, and sweeping what machines leave behind."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import docker
import requests
from docker.context import ContextAPI
from docker.errors import APIError, DockerException, NotFound

from launcher.clock import Clock, SystemClock
from launcher.errors import UserError

log = logging.getLogger(__name__)

INSTANCE_LABEL: Final = "solorun.instance"
"""On every container that an agent starts, and on those that the workload starts: the instance id."""
_DEFAULT_SOCKET: Final = "unix:///var/run/docker.sock"
_SWEEP_S: Final = 60.0
_INSTALL: Final = (
    "On Debian or Ubuntu: sudo apt-get install docker.io; elsewhere: https://docs.docker.com/engine/install/"
)


@dataclass(frozen=True)
class DockerSize:
    """What containers may use here."""

    cpus: int
    memory_bytes: int


class DockerHost:
    """A Docker daemon that answers. Safe to share between threads.

    Args:
        client: connected.
        host: its address as DOCKER_HOST takes it; None for the default one.
        clock: times the sweeping.
    """

    def __init__(self, client: docker.DockerClient, host: str | None, clock: Clock | None = None) -> None:
        self._client = client
        self.host = host
        self._clock = clock or SystemClock()

    @classmethod
    def connect(cls, environ: Mapping[str, str]) -> Self:
        """Reach the daemon that the person's own `docker` would.

        Raises:
            UserError: Docker is not installed, not running, or not for this user; says what to do.
        """
        host = environ.get("DOCKER_HOST") or _context_host()
        settings = {**environ, **({"DOCKER_HOST": host} if host else {})}
        try:
            client = docker.DockerClient.from_env(environment=settings, version="auto", timeout=120)
        except (DockerException, requests.RequestException) as error:
            raise _unusable(error, host or _DEFAULT_SOCKET, environ) from error
        return cls(client, host)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def size(self) -> DockerSize:
        """How many processors and how much memory containers have."""
        info = self._client.info()
        return DockerSize(cpus=int(info["NCPU"]), memory_bytes=int(info["MemTotal"]))

    def has_image(self, name: str) -> bool:
        """Whether the image is here, without a look at any registry."""
        return bool(self._client.api.images(name=name, quiet=True))

    def containers_of(self, instance_id: str) -> list[str]:
        """The ids of an instance's containers, running or not."""
        label = f"{INSTANCE_LABEL}={instance_id}"
        found: list[dict[str, Any]] = self._client.api.containers(all=True, filters={"label": label})
        return [str(item["Id"]) for item in found]

    def sweep(self, instance_id: str) -> int:
        """Kill and remove an instance's containers, also those that are started meanwhile.

        Returns:
            How many were removed.

        Raises:
            DockerTrouble: the daemon does not do it within a minute.
        """
        swept: set[str] = set()
        trouble: Exception | None = None
        deadline = self._clock.monotonic() + _SWEEP_S
        while self._clock.monotonic() < deadline:
            try:
                found = self.containers_of(instance_id)
                if not found:
                    return len(swept)
                for container in found:
                    self._remove(container)
                    swept.add(container)
            except (DockerException, requests.RequestException) as error:
                trouble = error
                self._clock.sleep(0.5)
        raise DockerTrouble(
            f"Containers of {instance_id} could not be removed: {trouble or 'they come again'}"
        )

    def _remove(self, container: str) -> None:
        try:
            self._client.api.remove_container(container, force=True, v=True)
        except NotFound:
            return
        except APIError as error:
            # 409: somebody, or --rm, removes it already.
            if error.status_code != requests.codes.conflict:
                raise
            self._clock.sleep(0.05)

    def remove_folder(self, folder: Path, images: tuple[str, ...]) -> None:
        """Remove a folder with all that is in it, also files that containers wrote as root.

        Args:
            folder: goes; nothing need be there.
            images: one of them, the first that is here, has an `rm` to borrow.

        Raises:
            DockerTrouble: it cannot be removed.
        """
        if not folder.exists():
            return
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        try:
            image = next((name for name in images if self.has_image(name)), None)
            if image is None:
                raise DockerTrouble(
                    f"{folder} has files of root and no image is here to remove them: sudo rm -rf {folder}"
                )
            self._client.containers.run(
                image,
                entrypoint=["rm", "-rf", "--", f"/parent/{folder.name}"],
                command=[],
                user="0",
                network_mode="none",
                volumes={str(folder.parent): {"bind": "/parent", "mode": "rw"}},
                remove=True,
            )
        except (DockerException, requests.RequestException) as error:
            raise DockerTrouble(f"{folder} could not be removed: {error}") from error


class DockerTrouble(Exception):
    """The daemon did not do what was asked."""


def _context_host() -> str | None:
    """The address of the chosen `docker context`; None for the default one."""
    try:
        context = ContextAPI.get_current_context()
    except (DockerException, OSError, ValueError):
        return None
    host = context.Host if context else None
    return None if host in (None, "", _DEFAULT_SOCKET, "http+unix:///var/run/docker.sock") else str(host)


def _unusable(
    error: Exception, host: str, environ: Mapping[str, str], which: Callable[..., str | None] = shutil.which
) -> UserError:
    """Why Docker cannot be used, and what to do, by what is behind the SDK's one kind of error."""
    causes = _causes(error)
    if any(isinstance(cause, PermissionError) for cause in causes):
        return UserError(
            f"This user may not use Docker ({host})",
            hint="Join its group and log in again: sudo usermod -aG docker $USER; or use sudo",
        )
    if which("docker", path=environ.get("PATH")) is None:
        return UserError("Docker is not installed: the local cloud runs real containers", hint=_INSTALL)
    if any(isinstance(cause, FileNotFoundError | ConnectionError) for cause in causes):
        return UserError(
            f"Docker does not run ({host})",
            hint="Start it: sudo systemctl start docker, or Docker Desktop; then try again",
        )
    return UserError(f"Docker cannot be used ({host}): {error}", hint="Does `docker info` work?")


def _causes(error: BaseException) -> list[BaseException]:
    """The error and all that led to it: requests and urllib3 keep causes among their arguments."""
    found: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        cause = waiting.pop()
        if cause is None or cause in found:
            continue
        found.append(cause)
        waiting += [cause.__cause__, cause.__context__]
        waiting += [part for part in cause.args if isinstance(part, BaseException)]
        reason = getattr(cause, "reason", None)
        waiting += [reason] if isinstance(reason, BaseException) else []
    return found
