"""Container images on the machine: those that are there, pulled ones, and those that come as an archive."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from agent.clock import Clock, Deadline
from agent.container_errors import load_failed, pull_failed
from agent.container_plan import PLUGINS_LABEL, split_image
from agent.docker_daemon import REQUEST_S, DaemonAway, daemon, words
from agent.errors import DockerError, ImageUnavailable

if TYPE_CHECKING:
    from docker import APIClient

log = logging.getLogger(__name__)

PULL_S: Final = 900.0
"""How long a pull may take: 10 GB at 12 MB/s."""


class Images:
    """The container images that the Docker daemon has."""

    def __init__(self, api: APIClient, clock: Clock) -> None:
        self._api = api
        self._clock = clock

    def ensure_image(self, image: str, timeout_s: float = PULL_S) -> None:
        """Have `image` on the machine: nothing is asked of any registry where it is there already.

        Raises:
            ImageUnavailable: it is not there and cannot be pulled, or not within `timeout_s` seconds.
            DockerError: the daemon does not answer.
        """
        import requests

        if self._image(image) is not None:
            return
        log.info("pulling image %s", image)
        by = Deadline.after(timeout_s, self._clock)
        name, tag = split_image(image)
        try:
            with daemon(f"pull image {image}"):
                for event in self._api.pull(name, tag=tag, stream=True, decode=True):
                    if "error" in event:
                        raise ImageUnavailable(pull_failed(image, str(event["error"])))
                    if by.passed:
                        raise ImageUnavailable(
                            pull_failed(image, f"timeout: not complete after {timeout_s:.0f} s")
                        )
        except DaemonAway as error:
            if not isinstance(error.__cause__, TimeoutError | requests.Timeout):
                raise
            raise ImageUnavailable(pull_failed(image, f"timeout: nothing for {REQUEST_S} s")) from error
        except DockerError as error:
            raise ImageUnavailable(pull_failed(image, words(error.__cause__))) from error
        if self._image(image) is None:
            raise ImageUnavailable(pull_failed(image, "the pull ended without the image"))

    def has_image(self, image: str) -> bool:
        """Whether `image` is on the machine.

        Raises:
            DockerError: the daemon does not answer.
        """
        return self._image(image) is not None

    def load_image(self, image: str, archive: Iterator[bytes], timeout_s: float = PULL_S) -> None:
        """Have `image` from an archive as `docker image save` writes it, which may be compressed.

        What `archive` raises ends the load, and is raised: an archive that is cut off leaves no image behind.

        Raises:
            ImageUnavailable: the archive cannot be loaded, holds other images, or not within `timeout_s` seconds.
            DockerError: the daemon does not answer.
        """
        by = Deadline.after(timeout_s, self._clock)

        def in_time() -> Iterator[bytes]:
            for chunk in archive:
                if by.passed:
                    raise ImageUnavailable(
                        load_failed(image, f"timeout: not complete after {timeout_s:.0f} s")
                    )
                yield chunk

        try:
            with daemon(f"load image {image}"):
                for event in self._api.load_image(in_time()):  # type: ignore[no-untyped-call]  # the stubs lack it
                    if "error" in event:
                        raise ImageUnavailable(load_failed(image, str(event["error"])))
        except DaemonAway:
            raise
        except DockerError as error:
            raise ImageUnavailable(load_failed(image, words(error.__cause__))) from error
        if self._image(image) is None:
            raise ImageUnavailable(load_failed(image, "the archive holds another image"))

    def has_plugins(self, image: str) -> bool:
        """Whether the image's Nextflow can have its plugins: ours says so by label, of others it is assumed.

        Raises:
            DockerError: the daemon does not answer.
        """
        found = self._image(image)
        labels = (found or {}).get("Config", {}).get("Labels") or {}
        return labels.get(PLUGINS_LABEL) != ""

    def _image(self, image: str) -> dict[str, Any] | None:
        from docker.errors import ImageNotFound, NotFound

        with daemon(f"look for image {image}"):
            try:
                found: dict[str, Any] = self._api.inspect_image(image)  # type: ignore[no-untyped-call]  # the stubs lack it
            except (ImageNotFound, NotFound):
                return None
        return found
