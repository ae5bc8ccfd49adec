"""A full disk, and power that goes in the middle of a run."""

from __future__ import annotations

from agent.contract import RunState, StopReason
from tests.fakes.s3_server import S3Server
from tests.integration.lone_machine import eventually, submit
from tests.machine.conftest import Boot


def test_a_full_disk_ends_the_run_and_the_status_says_so(aws: S3Server, boot: Boot) -> None:
    """A workload that fills the machine's disk is stopped while there is room for its end."""
    run = submit(aws, "disk-filler", params={"megabytes": 100_000, "seconds": 5})
    machine = boot(run, scratch_bytes=800_000_000)
    machine.wait_off(within=120)
    assert run.status().stop_reason is StopReason.DISK_FULL, run.status().message


def test_another_machine_goes_on_after_power_loss(aws: S3Server, boot: Boot) -> None:
    """The claim outlives the machine: nobody else executes the run; a second one goes on from its finished tasks."""
    first = submit(aws, "resumable", resumable=True, params={"gate": "/never"})
    machine = boot(first)
    eventually("a finished task is in S3", first.can_be_resumed, within=120)
    machine.power_loss()
    assert first.status().state is RunState.RUNNING

    latecomer = boot(first)
    latecomer.wait_off(within=120)
    assert first.status().state is RunState.RUNNING, "a run that another machine has claimed was taken"

    workload = {"resume_from": first.spec.run_id, "session_id": first.spec.workload.session_id}
    second = submit(aws, "resumable", resumable=True, params={"gate": "/etc/hostname"}, workload=workload)
    boot(second).wait_off(within=180)
    status = second.status()
    assert status.state is RunState.SUCCEEDED, status.message
    assert status.tasks.cached >= 1
