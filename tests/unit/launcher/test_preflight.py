"""What is asked before a run is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.errors import UserError
from launcher.preflight import check_docker, check_instance_profile
from tests.unit.launcher.test_plan import CE


def test_a_docker_that_does_not_run_is_told_before_a_run_is_written(tmp_path: Path) -> None:
    """The local cloud cannot run containers without it; the way to start it is told."""
    docker = tmp_path / "docker"
    docker.touch(mode=0o755)
    environ = {"DOCKER_HOST": f"unix://{tmp_path}/no.sock", "PATH": str(tmp_path)}
    with pytest.raises(UserError, match="Docker does not run") as caught:
        check_docker(environ, "any")
    assert "systemctl start docker" in caught.value.hint


def test_a_computer_without_docker_is_told_how_to_get_it(tmp_path: Path) -> None:
    """No program of that name: it must be installed first."""
    environ = {"DOCKER_HOST": f"unix://{tmp_path}/no.sock", "PATH": str(tmp_path)}
    with pytest.raises(UserError, match="not installed"):
        check_docker(environ, "any")


def test_a_machine_that_could_not_read_its_spec_is_not_started() -> None:
    """On AWS an instance profile is needed, unless an image of one's own may bring credentials."""
    with pytest.raises(UserError, match="no instance_profile") as caught:
        check_instance_profile(CE)
    assert "instance_profile: NAME" in caught.value.hint
    for change in ({"instance_profile": "solorun"}, {"image_id": "ami-12345678"}, {"local": True}):
        check_instance_profile(CE.model_copy(update=change))
