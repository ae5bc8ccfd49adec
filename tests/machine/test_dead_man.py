"""However a machine fails, it is off within its limit. Every limit is short here; see `Limits`."""

from __future__ import annotations

import pytest

from agent.contract import RunState, StopReason
from tests.fakes.s3_server import S3Server
from tests.integration.lone_machine import LoneRun, eventually, submit
from tests.machine.conftest import Boot
from tests.machine.machine import Limits, Machine

SLACK_S = 60.0
"""For a busy computer, whose disks the last step of a machine waits for; that the limit ended it is on its console."""


def running(
    aws: S3Server, boot: Boot, pipeline: str = "sleepy", limits: Limits | None = None
) -> tuple[LoneRun, Machine]:
    """A machine in the middle of a run whose time limit is far away."""
    run = submit(aws, pipeline, time_limit_s=40, params={"seconds": 3600})
    machine = boot(run, limits=limits)
    eventually(
        "the run runs",
        lambda: machine.is_off or run.status().state is RunState.RUNNING,
        within=120,
    )
    assert not machine.is_off, machine.console[-3000:]
    return run, machine


def assert_truth(run: LoneRun, *reasons: StopReason) -> None:
    """The status tells one of these reasons; or the run's agent came to telling nothing more."""
    status = run.status()
    assert status.state is RunState.RUNNING or status.stop_reason in reasons, status.message


def hard_limit(run: LoneRun, limits: Limits) -> float:
    """Seconds from the claim after which no machine of this run may be on."""
    return run.spec.time_limit_s + limits.reserve + limits.force_after + SLACK_S


def test_the_limit_of_the_run_takes_the_place_of_the_cap(aws: S3Server, boot: Boot) -> None:
    """At the claim two timers for the run's own limit are set, then those from boot are stopped; the next claim does so
    too, where one was cut off in between, and stretches no limit."""
    limits, caps = (
        ["machine-limit.timer", "machine-limit-force.timer"],
        ["machine-cap.timer", "machine-cap-force.timer"],
    )
    _, machine = running(aws, boot, limits=Limits(cap=300))
    assert [machine.is_active(timer) for timer in limits + caps] == [True, True, False, False]
    ends = [machine.unit(timer, "NextElapseUSecMonotonic") for timer in limits]
    machine.exec("systemctl", "start", *caps)
    machine.exec("/usr/libexec/solorun/dead-man", "claimed", "3600")
    assert [machine.is_active(timer) for timer in limits + caps] == [True, True, False, False]
    assert [machine.unit(timer, "NextElapseUSecMonotonic") for timer in limits] == ends


def test_a_killed_agent_takes_its_run_up_again(aws: S3Server, boot: Boot) -> None:
    """SIGKILL: systemd starts it again, it takes up the running container, and the run ends as if nothing had been."""
    run = submit(aws, "sleepy", params={"seconds": 15})
    machine = boot(run)
    run.until(RunState.RUNNING)
    machine.kill("run-agent.service", "KILL")
    machine.wait_off(within=150)
    assert run.status().stop_reason is StopReason.COMPLETED, run.status().message
    assert "taking up container" in run.body("logs/agent.log").decode()


def test_a_stopped_agent_is_killed_by_the_watchdog(aws: S3Server, boot: Boot) -> None:
    """SIGSTOP: no sign of life, so systemd kills it and starts it again; the run ends well."""
    run = submit(aws, "sleepy", params={"seconds": 40})
    machine = boot(run, limits=Limits(watchdog=8))
    run.until(RunState.RUNNING)
    machine.kill("run-agent.service", "STOP")
    eventually(
        "the agent is started again", lambda: machine.unit("run-agent.service", "NRestarts") != "0", within=60
    )
    machine.wait_off(within=150)
    assert run.status().stop_reason is StopReason.COMPLETED, run.status().message


def test_an_agent_that_crashes_at_every_start_is_given_up(aws: S3Server, boot: Boot) -> None:
    """After a few starts the machine turns itself off; the run was never claimed."""
    run = submit(aws, "hello")
    broken = "[Service]\nExecStart=\nExecStart=/bin/sh -c 'exit 1'\nStartLimitBurst=3\n"
    machine = boot(run, files={"/etc/systemd/system/run-agent.service.d/u.conf": broken})
    machine.wait_off(within=120)
    assert run.status().state is RunState.SUBMITTED
    assert "gave up" in machine.console


def test_a_broken_agent_on_a_machine_of_somebody_else_turns_nothing_off(boot: Boot) -> None:
    """No run pointer: even an agent that cannot start leaves the machine alone."""
    broken = "[Service]\nExecStart=\nExecStart=/bin/sh -c 'exit 1'\n"
    machine = boot(user_data=b"#!/bin/sh\n", files={"/etc/systemd/system/run-agent.service.d/u.conf": broken})
    eventually("it is left alone", lambda: "left alone" in machine.console or machine.is_off, within=120)
    machine.wait_up()
    assert not machine.is_active("machine-cap.timer")
    assert not machine.is_active("machine-cap-force.timer")


def test_an_agent_that_hangs_before_its_claim_meets_the_cap(aws: S3Server, boot: Boot) -> None:
    """Nothing was claimed when the cap from boot has passed: off."""
    run = submit(aws, "hello")
    hanging = "[Service]\nType=simple\nWatchdogSec=0\nExecStart=\nExecStart=/bin/sleep infinity\n"
    limits = Limits(cap=15)
    machine = boot(run, limits=limits, files={"/etc/systemd/system/run-agent.service.d/u.conf": hanging})
    machine.wait_off(within=limits.cap + SLACK_S)
    assert "no run was claimed in time" in machine.console


@pytest.mark.parametrize("unit", ["docker.service", "containerd.service"])
def test_a_stopped_docker_ends_the_run_and_the_machine(aws: S3Server, boot: Boot, unit: str) -> None:
    """Docker that is stopped, and does not come back, cannot keep the machine on."""
    limits = Limits(reserve=15)
    run, machine = running(aws, boot, limits=limits)
    machine.exec(
        "systemctl", "mask", "--now", "--runtime", unit, *(["docker.socket"] if "docker" in unit else [])
    )
    machine.wait_off(within=hard_limit(run, limits))
    assert_truth(run, StopReason.AGENT_FAILED, StopReason.TIME_LIMIT)


def test_a_docker_that_hangs_cannot_keep_the_machine_on(aws: S3Server, boot: Boot) -> None:
    """dockerd and containerd are SIGSTOPped: they answer nobody, and no signal but the last ends them."""
    limits = Limits(reserve=15)
    run, machine = running(aws, boot, limits=limits)
    for unit in ("docker.service", "containerd.service"):
        machine.kill(unit, "STOP")
    machine.wait_off(within=hard_limit(run, limits))
    assert_truth(run, StopReason.AGENT_FAILED, StopReason.TIME_LIMIT)


def test_a_service_that_ignores_its_end_cannot_keep_the_machine_on(aws: S3Server, boot: Boot) -> None:
    """The agent hangs for good and a service ignores SIGTERM for ever: the forced timer ends it all the same."""
    limits = Limits(reserve=5, force_after=6, watchdog=3600)
    run, machine = running(aws, boot, limits=limits)
    stubborn = (
        "[Service]\nExecStart=/bin/sh -c 'trap : TERM; while :; do sleep 1; done'\nTimeoutStopSec=infinity\n"
    )
    machine.exec("sh", "-c", "cat > /run/systemd/system/stubborn.service", stdin=stubborn)
    machine.exec("systemctl", "daemon-reload")
    machine.exec("systemctl", "start", "stubborn.service")
    machine.kill("run-agent.service", "STOP")
    machine.wait_off(within=hard_limit(run, limits))
    assert "over its limit, the machine is turned off by force" in machine.console
    # systemd wakes the agent to tell it of the shutdown.
    assert_truth(run, StopReason.TIME_LIMIT, StopReason.TERMINATED)


def test_a_workload_that_ignores_its_end_is_ended(aws: S3Server, boot: Boot) -> None:
    """The time limit is the agent's to keep: the stubborn workload is killed, the status says why."""
    run = submit(aws, "ignores-term", time_limit_s=10)
    machine = boot(run, limits=Limits(reserve=120))
    machine.wait_off(within=150)
    assert run.status().stop_reason is StopReason.TIME_LIMIT, run.status().message


def test_without_aws_from_the_start_the_machine_ends(aws: S3Server, boot: Boot) -> None:
    """S3 does not answer when the machine boots: nothing can be claimed, so it goes off."""
    run = submit(aws, "hello")
    limits = Limits(cap=30)
    unreachable = "AWS_ENDPOINT_URL=http://10.77.0.1:9\n"
    machine = boot(run, limits=limits, files={"/etc/solorun/run-agent.env": unreachable})
    machine.wait_off(within=limits.cap + limits.force_after + SLACK_S)
    assert run.status().state is RunState.SUBMITTED


def test_without_aws_in_the_middle_the_machine_ends(aws: S3Server, boot: Boot) -> None:
    """The network to AWS is cut while the run goes: the machine is off when its hard limit has passed."""
    limits = Limits(reserve=10)
    run, machine = running(aws, boot, limits=limits)
    machine.cut(aws=True)
    machine.wait_off(within=hard_limit(run, limits))
    assert not run.status().state.final


def test_without_a_metadata_service_the_machine_ends(boot: Boot) -> None:
    """Nobody says whether there is a run: a machine that may cost money for nothing goes off."""
    machine = boot(metadata=False, limits=Limits(cap=200))
    machine.wait_off(within=150)
    assert "gave up" in machine.console


def test_a_metadata_service_that_dies_does_not_end_a_run(aws: S3Server, boot: Boot) -> None:
    """What was needed of it is known once logs arrive: the run goes on to its end."""
    run = submit(aws, "sleepy", params={"seconds": 10})
    machine = boot(run)
    eventually("the first line of the log is there", run.log_lines, within=120)
    machine.cut(metadata=True)
    machine.wait_off(within=150)
    assert run.status().stop_reason is StopReason.COMPLETED, run.status().message
