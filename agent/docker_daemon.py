"""Errors of the Docker SDK and of its connection, as the agent's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from agent.errors import DockerError

REQUEST_S: Final = 60
"""How long the daemon may be silent within one request."""


class DaemonAway(DockerError):
    """The daemon could not be reached, or hung up."""


@contextmanager
def daemon(what: str) -> Iterator[None]:
    """Docker's and its connection's errors end here."""
    import requests
    from docker.errors import APIError, DockerException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except APIError as error:
        raise DockerError(f"Docker would not {what}: {words(error)}") from error
    except (requests.RequestException, HTTPError, DockerException, ConnectionError, TimeoutError) as error:
        raise DaemonAway(
            f"Could not {what}: the Docker daemon does not answer ({error}). It is probably not running, or "
            "its socket may not be read by this user: look at `systemctl status docker`."
        ) from error


def words(error: Any) -> str:
    """The daemon's own words of an APIError."""
    return str(error.explanation or error)
