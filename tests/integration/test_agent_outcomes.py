"""What becomes of a run on a real machine's agent: every way to end, with the truth in its status."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.contract import (
    AGENT_LOG,
    NEXTFLOW_LOG,
    SPEC,
    STOP,
    TRACE,
    WORKLOAD_LOG,
    RunState,
    StopReason,
    StopRequest,
)
from agent.run import AgentExit
from tests.fakes.clock import START
from tests.fakes.s3_server import S3Server
from tests.integration.lone_machine import (
    assert_gone,
    eventually,
    execute,
    lone_machine,
    submit,
)

_NO_REGISTRY = "127.0.0.1:1"
"""Where nobody answers: Docker asks no registry of somebody else's."""


def test_a_run_that_ends_well_leaves_everything_in_s3(aws: S3Server, tmp_path: Path) -> None:
    """Results, both logs, trace, reports and metrics are in S3, the log stream has every line, the machine is off."""
    run = submit(aws, "hello")
    with lone_machine(tmp_path, run) as machine:
        machine.boot()
        assert machine.ends() == AgentExit.DONE
        assert_gone(run, machine)
    status = run.status()
    assert (status.state, status.stop_reason) == (RunState.SUCCEEDED, StopReason.COMPLETED)
    assert status.exit_code == 0
    assert (status.tasks.succeeded, status.tasks.running, status.tasks.failed) == (3, 0, 0)
    assert status.instance_id == machine.instance_id
    assert status.started_at is not None
    assert status.finished_at is not None
    assert status.submitted_at <= status.started_at <= status.finished_at
    assert status.artifacts is not None
    assert status.artifacts.not_uploaded == ()
    assert {f"artifacts/{name}.txt" for name in ("one", "two", "three")} <= run.names()
    assert {
        WORKLOAD_LOG,
        AGENT_LOG,
        NEXTFLOW_LOG,
        TRACE,
        "logs/report.html",
        "logs/metrics.jsonl",
    } <= run.names()
    assert run.body("artifacts/one.txt") == b"hello one\n"
    whole = run.body(WORKLOAD_LOG).decode()
    assert "made three.txt" in whole
    assert run.log_lines() == [line or " " for line in whole.splitlines()]
    assert "claimed run" in run.body(AGENT_LOG).decode()
    sample = json.loads(run.body("logs/metrics.jsonl").splitlines()[0])
    assert sample


def test_a_failed_task_is_named_with_its_exit_code(aws: S3Server, tmp_path: Path) -> None:
    """The message says which process failed with which code, and what it said."""
    run = execute(aws, tmp_path, "failing")
    status = run.status()
    assert (status.state, status.stop_reason) == (RunState.FAILED, StopReason.WORKLOAD_FAILED)
    for word in ("FAIL", "7", "the reagent is used up"):
        assert word in status.message
    assert status.tasks.failed == 1


def test_a_syntax_error_is_told_with_its_line(aws: S3Server, tmp_path: Path) -> None:
    """A script that does not parse fails the run with the file and the line."""
    run = execute(aws, tmp_path, "syntax-error")
    status = run.status()
    assert status.stop_reason is StopReason.WORKLOAD_FAILED
    assert "line" in status.message
    assert "main.nf" in status.message


def test_a_task_that_asks_for_too_much_is_told_so(aws: S3Server, tmp_path: Path) -> None:
    """Somebody who asks for 1000 cpus on a machine of 2 reads so in the run's status."""
    run = execute(aws, tmp_path, "too-big")
    status = run.status()
    told = " ".join((status.message, *status.warnings))
    assert "TOO_BIG" in told
    assert "1000" in told


def test_a_container_image_that_is_not_there_is_named(aws: S3Server, tmp_path: Path) -> None:
    """The head's image and a task's image both end the run as image_unavailable, with the image's name."""
    cases: tuple[tuple[str, dict[str, Any], str], ...] = (
        ("hello", {"container_image": f"{_NO_REGISTRY}/no-such-head:0"}, f"{_NO_REGISTRY}/no-such-head:0"),
        ("missing-image", {}, f"{_NO_REGISTRY}/does-not-exist:0"),
    )
    for pipeline, fields, image in cases:
        run = submit(aws, pipeline, **fields)
        with lone_machine(tmp_path, run) as machine:
            machine.boot()
            machine.ends()
            assert_gone(run, machine)
        status = run.status()
        assert (status.state, status.stop_reason) == (RunState.FAILED, StopReason.IMAGE_UNAVAILABLE)
        assert image in status.message
        assert AGENT_LOG in run.names()


def test_a_spec_altered_to_nonsense_lists_every_problem(aws: S3Server, tmp_path: Path) -> None:
    """FAILED with spec_invalid, each field by its path; nothing was started and the machine is gone."""
    run = submit(aws, "hello")
    spec = json.loads(run.body(SPEC))
    spec["time_limit_s"] = "soon"
    spec["workload"]["profiles"] = 7
    spec["colour"] = "blue"
    run.put(SPEC, json.dumps(spec).encode())
    with lone_machine(tmp_path, run) as machine:
        machine.boot()
        machine.ends()
        assert_gone(run, machine)
    status = run.status()
    assert (status.state, status.stop_reason) == (RunState.FAILED, StopReason.SPEC_INVALID)
    assert {problem.split(":")[0] for problem in status.problems} == {
        "time_limit_s",
        "workload.profiles",
        "colour",
    }
    assert status.started_at is None


def test_the_time_limit_stops_a_run(aws: S3Server, tmp_path: Path) -> None:
    """At its limit a run is FAILED with time_limit, and its log is saved."""
    run = execute(aws, tmp_path, "sleepy", time_limit_s=12)
    status = run.status()
    assert (status.state, status.stop_reason) == (RunState.FAILED, StopReason.TIME_LIMIT)
    assert status.finished_at is not None
    assert status.finished_at - status.submitted_at >= timedelta(seconds=12)
    assert WORKLOAD_LOG in run.names()


def test_a_stop_request_ends_a_run_that_ignores_it(aws: S3Server, tmp_path: Path) -> None:
    """A task that traps TERM does not keep a cancelled machine on."""
    run = submit(aws, "ignores-term", params={"seconds": 300})
    with lone_machine(tmp_path, run) as machine:
        machine.boot()
        run.until(RunState.RUNNING)
        eventually("the task runs", lambda: run.status().tasks.running == 1)
        run.put(STOP, StopRequest(requested_by="ada@desk", requested_at=START).model_dump_json().encode())
        machine.ends()
        assert_gone(run, machine)
    status = run.status()
    assert (status.state, status.stop_reason) == (RunState.CANCELLED, StopReason.CANCELLED)
    assert "ada@desk" in status.message


def test_sigterm_is_a_shutdown_from_outside(aws: S3Server, tmp_path: Path) -> None:
    """When the machine is told to shut down, the run says so and its logs are saved in time."""
    run = submit(aws, "sleepy")
    with lone_machine(tmp_path, run) as machine:
        agent = machine.boot()
        run.until(RunState.RUNNING)
        agent.terminate()
        machine.ends()
        assert_gone(run, machine)
    assert run.status().stop_reason is StopReason.TERMINATED
    assert WORKLOAD_LOG in run.names()


def test_of_two_machines_on_one_run_one_wins(aws: S3Server, tmp_path: Path) -> None:
    """One machine executes the run; the other says that it is not its own, touches nothing, and shuts down."""
    run = submit(aws, "hello")
    with (
        lone_machine(tmp_path / "a", run) as first,
        lone_machine(tmp_path / "b", run) as second,
    ):
        first.boot()
        second.boot()
        assert first.ends() == second.ends() == AgentExit.DONE
        assert_gone(run, first)
        assert_gone(run, second)
        loser = first if run.status().instance_id == second.instance_id else second
        assert "is claimed by" in loser.console
    assert run.status().state is RunState.SUCCEEDED
    assert run.status().tasks.succeeded == 3


def test_a_run_that_is_over_is_not_executed_again(aws: S3Server, tmp_path: Path) -> None:
    """An agent that is started on a finished run shuts down and leaves the final status as it is."""
    run = submit(aws, "hello")
    with lone_machine(tmp_path, run) as machine:
        machine.boot()
        machine.ends()
        before = run.status()
        machine.power_off.unlink()
        machine.boot()
        assert machine.ends() == AgentExit.DONE
        assert_gone(run, machine)
    assert run.status() == before


@pytest.mark.parametrize("user_data", [None, b"#!/bin/sh\necho hello\n", b'{"other": 1}', b"\xff\xfe"])
def test_a_machine_started_by_hand_is_left_alone(tmp_path: Path, user_data: bytes | None) -> None:
    """Without a run pointer the agent says so and turns nothing off."""
    with lone_machine(tmp_path, None, user_data=user_data) as machine:
        machine.boot()
        assert machine.ends() == AgentExit.NO_POINTER
        assert not machine.power_off.exists()
        assert "left alone" in machine.console


def test_a_pointer_that_cannot_be_read_turns_the_machine_off(tmp_path: Path) -> None:
    """A machine that was started for a run, but nobody can tell for which, must not stay on."""
    with lone_machine(tmp_path, None, user_data=b'{"solorun": 1, "run_id": "nonsense"}') as machine:
        machine.boot()
        assert machine.ends() == AgentExit.DONE
        assert machine.power_off.exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    root = [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]
    subprocess.run(
        [*root, "mount", "-t", "tmpfs", "-o", "size=400m,mode=777", "solorun-test", str(folder)], check=True
    )
    try:
        yield folder
    finally:
        subprocess.run([*root, "umount", str(folder)], check=True)
        shutil.rmtree(folder)


def test_a_full_disk_stops_the_run_in_order(aws: S3Server, tmp_path: Path, small_disk: Path) -> None:
    """A pipeline that fills the disk ends as disk_full with its logs saved, before the disk is full."""
    run = submit(aws, "disk-filler", params={"megabytes": 2000})
    with lone_machine(tmp_path, run, scratch=small_disk / "scratch") as machine:
        machine.boot()
        machine.ends()
        assert_gone(run, machine)
    status = run.status()
    assert (status.state, status.stop_reason) == (RunState.FAILED, StopReason.DISK_FULL)
    assert {WORKLOAD_LOG, AGENT_LOG, NEXTFLOW_LOG} <= run.names()


def test_a_hundred_megabytes_on_one_line_get_through(aws: S3Server, tmp_path: Path) -> None:
    """A line of 100 MB is split, not lost, and the line after it is there."""
    run = execute(aws, tmp_path, "long-line", params={"megabytes": 100}, within=240)
    assert run.status().state is RunState.SUCCEEDED
    lines = run.log_lines()
    assert "".join(lines).count("abcdefghi ") == 100 * 100_000
    assert "after the long line" in lines
    assert len(run.body(WORKLOAD_LOG)) > 100_000_000


def test_binary_output_survives(aws: S3Server, tmp_path: Path) -> None:
    """Bytes that are no UTF-8 are in S3 as they were, and do not take their neighbours out of the stream."""
    run = execute(aws, tmp_path, "binary")
    assert run.status().state is RunState.SUCCEEDED
    lines = run.log_lines()
    assert "before the bytes" in lines
    assert any("after the bytes" in line for line in lines)
    assert len(run.body(WORKLOAD_LOG)) >= 1024
