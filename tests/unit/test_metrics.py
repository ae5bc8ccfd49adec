"""Samples of machine and containers: from a scripted Docker and files as the kernel writes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.cgroups import Usage, read_usage
from agent.container_plan import Listed
from agent.errors import DockerError
from agent.folder import RunFolder
from agent.metrics import LIST_S, Metrics
from tests.fakes.clock import ScriptedClock

ID = "f" * 64
VERSION_2 = {
    "cgroup.controllers": "cpu io memory\n",
    "{}/cpu.stat": "usage_usec 2500000\nuser_usec 2000000\n",
    "{}/memory.current": "1000\n",
    "{}/memory.stat": "anon 500\ninactive_file 300\n",
    "{}/io.stat": "8:0 rbytes=10 wbytes=20 rios=1 wios=1 dbytes=0 dios=0\n8:16 rbytes=1 wbytes=2 rios=1 wios=1\n",
}
VERSION_1 = {
    "cpuacct/{}/cpuacct.usage": "2500000000\n",
    "memory/{}/memory.usage_in_bytes": "1000\n",
    "memory/{}/memory.stat": "inactive_file 1\ntotal_inactive_file 300\n",
    "blkio/{}/blkio.throttle.io_service_bytes": "8:0 Read 11\n8:0 Write 22\n8:0 Total 33\nTotal 33\n",
}


class Docker:
    """Says which containers run, and how often it was asked."""

    def __init__(self) -> None:
        self.listed: list[Listed] = [Listed(ID, "nxf-1", "task", "/w/ab"), Listed("0" * 64, "gone", "task")]
        self.asked = 0
        self.down = False

    def running(self, run_id: str) -> Sequence[Listed]:
        """The scripted containers."""
        assert run_id == "run"
        self.asked += 1
        if self.down:
            raise DockerError("down")
        return self.listed


def write(root: Path, files: dict[str, str], folder: str) -> None:
    for name, text in files.items():
        path = root / name.format(folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.create()
    return folder


@pytest.mark.parametrize("files", [VERSION_1, VERSION_2])
@pytest.mark.parametrize("where", ["docker/{}", "system.slice/docker-{}.scope"])
def test_usage(tmp_path: Path, files: dict[str, str], where: str) -> None:
    """Both versions of control groups, with either of Docker's drivers, give the same numbers."""
    write(tmp_path, files, where.format(ID))
    assert read_usage(ID, tmp_path) == Usage(2.5, 700, 11, 22)


def test_usage_of_a_container_that_ended(tmp_path: Path) -> None:
    """A container that is gone has no usage; one that goes while it is read has zeros."""
    assert read_usage(ID, tmp_path) is None
    (tmp_path / "cgroup.controllers").touch()
    (tmp_path / "docker" / ID).mkdir(parents=True)
    assert read_usage(ID, tmp_path) == Usage(0.0, 0, 0, 0)


def test_a_line_a_sample(tmp_path: Path, folder: RunFolder) -> None:
    """Each sample is a JSON object on a line of its own, with the machine and the containers that are there."""
    write(tmp_path, VERSION_2, f"docker/{ID}")
    clock = ScriptedClock()
    metrics = Metrics(folder, Docker(), "run", clock, cgroup_root=tmp_path)
    metrics.sample()
    clock.advance(5)
    metrics.sample()
    first, second = map(json.loads, folder.metrics.read_text().splitlines())
    assert (first["at"], second["at"]) == ("2026-01-01T12:00:00.000+00:00", "2026-01-01T12:00:05.000+00:00")
    assert second["containers"] == [
        {
            "id": ID[:12],
            "name": "nxf-1",
            "role": "task",
            "work_dir": "/w/ab",
            "cpu_s": 2.5,
            "memory_bytes": 700,
            "read_bytes": 11,
            "written_bytes": 22,
        }
    ]
    assert 0 < second["memory_used_bytes"] < second["memory_total_bytes"]
    assert second["disk_free_bytes"] > 0
    assert 0 <= second["cpu_percent"] <= 100
    assert first["network_sent_bytes_s"] == 0.0


def test_docker_is_asked_seldom(folder: RunFolder, tmp_path: Path) -> None:
    """However often samples are taken, Docker is asked once in ten seconds."""
    clock, docker = ScriptedClock(), Docker()
    metrics = Metrics(folder, docker, "run", clock, cgroup_root=tmp_path)
    for _ in range(21):
        metrics.measure()
        clock.advance(1)
    assert docker.asked == 1 + 20 // LIST_S


def test_docker_that_is_down(folder: RunFolder, tmp_path: Path) -> None:
    """Without Docker the machine is still sampled."""
    docker = Docker()
    docker.down = True
    assert Metrics(folder, docker, "run", ScriptedClock(), cgroup_root=tmp_path).sample().containers == ()


def test_full_disk(folder: RunFolder, tmp_path: Path) -> None:
    """A sample that cannot be written is lost without harm."""
    folder.metrics.mkdir()
    assert Metrics(folder, Docker(), "run", ScriptedClock(), cgroup_root=tmp_path).sample().load_1m >= 0
