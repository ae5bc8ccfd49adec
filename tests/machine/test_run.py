"""A machine that was started for a run executes it by itself, and is off."""

from __future__ import annotations

from agent.contract import RunState, StopReason
from tests.fakes.s3_server import S3Server
from tests.integration.lone_machine import eventually, submit
from tests.machine.conftest import Boot


def test_a_machine_takes_its_run_and_turns_itself_off(aws: S3Server, boot: Boot) -> None:
    """Boot, claim, real Nextflow in the baked-in container image, results in S3, off: without a word from outside."""
    run = submit(aws, "hello")
    machine = boot(run)
    machine.wait_off(within=90)
    status = run.status()
    assert status.state is RunState.SUCCEEDED, status.message
    assert status.stop_reason is StopReason.COMPLETED
    assert {"logs/workload.log", "logs/agent.log", "logs/trace.txt"} <= run.names()


def test_a_machine_without_a_run_is_left_alone(boot: Boot) -> None:
    """User data of somebody else's: the agent says so, and nothing is left that would turn the machine off."""
    machine = boot(user_data=b"#!/bin/sh\necho hello\n")
    machine.wait_up()
    # The boot is over before the agent is: it has asked the metadata service by now, or is about to.
    eventually("the agent has ended", lambda: machine.unit("run-agent.service", "ActiveState") == "inactive")
    assert machine.unit("run-agent.service", "ExecMainStatus") == "3"
    assert not any(machine.is_active(timer) for timer in ("machine-cap.timer", "machine-cap-force.timer"))
    assert "left-alone" in machine.exec("ls", "/run/solorun")
