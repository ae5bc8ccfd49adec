"""The state file, and the proof that the local cloud in it still lives."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from launcher.localcloud.folders import CloudFolder
from launcher.localcloud.processes import CLOUD_ID, carrying, environment_of, kill_all
from launcher.localcloud.state import LocalCloudState, current, default_folder, save, saved


def carrier(value: str) -> subprocess.Popen[bytes]:
    """A process that carries this id of a cloud, as anybody can see."""
    environment = {"PATH": os.environ["PATH"], CLOUD_ID: value}
    started = subprocess.Popen(["cat"], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    # Popen returns as soon as the kernel begins to load the program: its environment is readable a little later.
    assert started.stdin is not None
    assert started.stdout is not None
    started.stdin.write(b"here\n")
    started.stdin.flush()
    assert started.stdout.readline() == b"here\n"
    return started


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A process that carries the id of cloud `one`."""
    with carrier("one") as started:
        yield started
        started.kill()


def state(folder: Path, pid: int, cloud_id: str = "one") -> LocalCloudState:
    return LocalCloudState(
        cloud_id=cloud_id,
        pid=pid,
        endpoint_url="http://127.0.0.1:1",
        region="us-east-1",
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        folder=folder,
        access_key="a",
        secret_key="b",
        control_token="c",
    )


def test_a_saved_state_is_read_again(tmp_path: Path) -> None:
    """What was written is what is read, and only its owner can."""
    save(state(tmp_path, 1))
    assert saved(tmp_path) == state(tmp_path, 1)
    assert CloudFolder(tmp_path).state.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_a_living_server_is_current(tmp_path: Path, process: subprocess.Popen[bytes]) -> None:
    """A process with the cloud's id in its environment is its server."""
    save(state(tmp_path, process.pid))
    assert current(tmp_path) == state(tmp_path, process.pid)


def test_a_process_id_that_is_another_programs_now_proves_nothing(
    tmp_path: Path, process: subprocess.Popen[bytes]
) -> None:
    """After a crash and a reboot the process id may belong to anybody: the id in the environment decides."""
    save(state(tmp_path, process.pid, cloud_id="two"))
    assert current(tmp_path) is None


def test_a_dead_server_is_not_current(tmp_path: Path, process: subprocess.Popen[bytes]) -> None:
    """When the process is gone, so is the cloud."""
    save(state(tmp_path, process.pid))
    process.kill()
    process.wait()
    assert current(tmp_path) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}'])
def test_a_damaged_state_file_is_no_cloud(tmp_path: Path, text: str) -> None:
    """Whatever is in the file, reading it does not fail."""
    CloudFolder(tmp_path).state.write_text(text)
    assert current(tmp_path) is None


def test_no_folder_is_no_cloud(tmp_path: Path) -> None:
    """Before the first `up` there is nothing."""
    assert current(tmp_path / "none") is None


def test_the_folder_can_be_chosen(tmp_path: Path) -> None:
    """SOLORUN_STATE_DIR says where; without it the platform does."""
    assert default_folder({"SOLORUN_STATE_DIR": str(tmp_path)}) == tmp_path / "localcloud"
    assert default_folder({}).parts[-2:] == ("solorun", "localcloud")


def test_processes_are_found_by_what_they_carry(process: subprocess.Popen[bytes]) -> None:
    """The variable finds the process, another value does not, and nobody's own process is found."""
    assert environment_of(process.pid)[CLOUD_ID] == "one"
    assert process.pid in [found.pid for found in carrying(CLOUD_ID, "one")]
    assert carrying(CLOUD_ID, "no such cloud") == []


def test_killing_ends_what_carries_the_value_and_nothing_else(tmp_path: Path) -> None:
    """Children in sessions of their own go too; a process with another value stays."""
    mark = str(tmp_path)
    family = "setsid sleep 60 & setsid sleep 60 & echo started && wait"
    environment = {"PATH": os.environ["PATH"], CLOUD_ID: mark}
    with (
        subprocess.Popen(["sh", "-c", family], env=environment, stdout=subprocess.PIPE) as parent,
        carrier(f"{mark}-other") as other,
    ):
        try:
            assert parent.stdout is not None
            assert parent.stdout.readline() == b"started\n"
            assert kill_all(CLOUD_ID, mark) >= 1
            assert carrying(CLOUD_ID, mark) == []
            assert other.poll() is None
        finally:
            other.kill()
