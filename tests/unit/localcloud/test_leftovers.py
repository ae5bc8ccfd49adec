"""Removing what a local cloud has left, with a Docker that does not always do what it is asked."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from launcher.errors import UserError
from launcher.localcloud.docker_host import DockerTrouble
from launcher.localcloud.folders import CloudFolder
from launcher.localcloud.lifecycle import remove_leftovers


class FakeDocker:
    """Removes folders; the containers of machines in `stuck` stay."""

    def __init__(self, *stuck: str) -> None:
        self.stuck = set(stuck)
        self.asked: list[str] = []

    def sweep(self, instance_id: str) -> int:
        """One container of every machine that is not stuck."""
        self.asked.append(instance_id)
        if instance_id in self.stuck:
            raise DockerTrouble(f"Containers of {instance_id} could not be removed")
        return 1

    def remove_folder(self, folder: Path, images: tuple[str, ...]) -> None:
        """Remove it, as if nothing in it were of root."""
        assert images
        shutil.rmtree(folder)


@pytest.fixture
def place(tmp_path: Path) -> CloudFolder:
    """The folder of a local cloud that crashed with two machines."""
    place = CloudFolder(tmp_path / "localcloud")
    place.create()
    for instance_id in ("i-1", "i-2"):
        place.machine(instance_id).create()
    (place.scratch / "session").mkdir()
    place.state.write_text("{}")
    return place


def test_everything_goes(place: CloudFolder) -> None:
    """Where Docker does what it is asked nothing stays."""
    assert remove_leftovers(place.root, FakeDocker(), lambda _: None)
    assert not any(place.root.iterdir())


def test_containers_that_stay_are_found_again(place: CloudFolder) -> None:
    """A machine whose containers could not be removed stays known, so that the next call removes them."""
    docker = FakeDocker("i-2")
    with pytest.raises(UserError) as error:
        remove_leftovers(place.root, docker, lambda _: None)
    assert error.value.problems == ("Containers of i-2 could not be removed",)
    assert [path.name for path in place.machines.iterdir()] == ["i-2"]
    assert not place.scratch.exists()
    assert place.state.exists()

    docker.stuck.clear()
    docker.asked.clear()
    assert remove_leftovers(place.root, docker, lambda _: None)
    assert docker.asked == ["i-2"]
    assert not any(place.root.iterdir())
