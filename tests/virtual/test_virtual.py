"""What only a machine with a kernel of its own shows: control groups of version 2, NVMe disks, a real power-off."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.contract import METRICS, RunState
from tests.fakes.s3_server import S3Server
from tests.integration.lone_machine import submit
from tests.machine import build
from tests.machine.conftest import pointer_of
from tests.machine.fabric import Fabric
from tests.machine.machine import Image
from tests.virtual.disk import SCRIPT, bootable
from tests.virtual.machine import store_disks, virtual

pytestmark = pytest.mark.timeout(3600)
"""Every instruction is emulated."""


def test_a_run_on_instance_store_disks_and_version_2_of_control_groups(
    aws: S3Server, image: Image, network: Fabric, tmp_path: Path
) -> None:
    """Two disks become one /scratch with Docker's data, the run succeeds there, what its container used is measured."""
    run = submit(aws, "hello", time_limit_s=3600)
    made = bootable(image)
    store = store_disks(tmp_path, 2)
    with virtual(made, network, build.FOLDER, user_data=pointer_of(run), store=store) as machine:
        machine.wait_off(within=1800)
        console = machine.console
    assert "/dev/nvme1n1 /dev/nvme2n1 mounted at /scratch" in console
    assert "Docker's data are at /scratch/docker" in console
    status = run.status()
    assert status.state is RunState.SUCCEEDED, status.message
    samples = [json.loads(line) for line in aws.body(run.key(METRICS)).splitlines()]
    assert all(sample["disk_free_bytes"] > 30e9 for sample in samples), "the run was not on the two disks"
    seen = [container for sample in samples for container in sample["containers"]]
    used = max(seen, key=lambda container: container["cpu_s"])
    assert used["cpu_s"] > 1
    assert used["memory_bytes"] > 50e6
    assert used["written_bytes"] > 0


@pytest.mark.parametrize("count", [1, 2])
def test_a_reset_keeps_what_is_on_instance_store_disks(
    image: Image, network: Fabric, tmp_path: Path, count: int
) -> None:
    """After a reset /scratch and Docker's data are as they were: real arrays and file systems, udev at work beside."""
    made, store = bootable(image), store_disks(tmp_path, count)
    found = []
    for _ in range(3):
        with virtual(made, network, build.FOLDER, store=store, script=SCRIPT) as machine:
            machine.wait_off(within=300)
            found.append(next(line for line in machine.console.splitlines() if "found:" in line).split()[1:])
    assert found == [["xfs"], ["journal", "container", "xfs"], ["journal", "container", "xfs"]]
