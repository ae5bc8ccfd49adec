"""Why Docker cannot be used is told by what is behind the SDK's one error."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests
from docker.errors import DockerException
from urllib3.exceptions import ProtocolError

from launcher.errors import UserError
from launcher.localcloud.docker_host import DockerHost, _unusable


def behind(cause: Exception) -> DockerException:
    """An error as the SDK raises it: the cause is among the arguments of requests' own error."""
    error = DockerException("Error while fetching server API version")
    error.__cause__ = requests.ConnectionError(ProtocolError("Connection aborted.", cause))
    return error


@pytest.mark.parametrize(
    ("cause", "installed", "said", "to_do"),
    [
        (PermissionError(13, "Permission denied"), True, "may not use Docker", "usermod -aG docker"),
        (FileNotFoundError(2, "No such file"), True, "does not run", "systemctl start docker"),
        (ConnectionRefusedError(111, "refused"), True, "does not run", "systemctl start docker"),
        (FileNotFoundError(2, "No such file"), False, "not installed", "apt-get install docker.io"),
        (ValueError("odd"), True, "cannot be used", "docker info"),
    ],
)
def test_each_cause_has_its_own_words(cause: Exception, installed: bool, said: str, to_do: str) -> None:
    """Not installed, not running, not allowed: three sentences, each with its next step."""
    which = (lambda *_a, **_k: "/usr/bin/docker") if installed else (lambda *_a, **_k: None)
    error = _unusable(behind(cause), "unix:///var/run/docker.sock", {"PATH": "/usr/bin"}, which)
    assert isinstance(error, UserError)
    assert said in error.message
    assert to_do in error.hint


def test_a_missing_socket_is_met_for_real(tmp_path: Path) -> None:
    """Connecting where no socket is raises the error that says so."""
    with pytest.raises(UserError) as caught:
        DockerHost.connect({"DOCKER_HOST": f"unix://{tmp_path}/none.sock", "PATH": "/nonexistent"})
    assert "not installed" in caught.value.message


def test_an_address_that_makes_no_sense_is_an_error_too() -> None:
    """A malformed DOCKER_HOST does not end in a traceback."""
    with pytest.raises(UserError):
        DockerHost.connect({"DOCKER_HOST": "nonsense://x", "PATH": "/usr/bin"})
