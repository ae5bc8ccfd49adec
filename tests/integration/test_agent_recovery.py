"""What a run survives: a killed agent, services that fail, a machine that is taken away."""

from __future__ import annotations

import json
import subprocess
import uuid
from pathlib import Path

import pytest

from agent.container_plan import ROLE_LABEL, RUN_LABEL, Role
from agent.contract import (
    AGENT_LOG,
    CACHE,
    NEXTFLOW_LOG,
    STOP,
    TRACE,
    WORKLOAD_LOG,
    Phase,
    RunState,
    StopReason,
    StopRequest,
)
from agent.run import AgentExit
from tests.fakes.clock import START
from tests.fakes.flaky_proxy import flaky_proxy
from tests.fakes.s3_server import S3Server
from tests.integration.lone_machine import (
    LoneRun,
    assert_gone,
    containers,
    eventually,
    lone_machine,
    submit,
)

LINES = 20_000


def assert_every_line_once(run: LoneRun, count: int) -> None:
    """The numbered lines of the pipeline `noisy` are in the stream exactly once, in order."""
    numbered = [line for line in run.log_lines() if line.startswith("line ")]
    assert numbered == [f"line {n} of {count}" for n in range(1, count + 1)]


def test_a_killed_agent_takes_the_running_container_up_again(aws: S3Server, tmp_path: Path) -> None:
    """SIGKILL during execution, three times: same container, same run, no line lost or doubled."""
    run = submit(aws, "noisy", params={"lines": LINES})
    with lone_machine(tmp_path, run) as machine:
        machine.boot()
        run.until(RunState.RUNNING)
        started = containers(f"solorun.run={run.spec.run_id}")
        for _ in range(3):
            machine.kill_agent()
            machine.boot()
            eventually("the agent is back", lambda: machine.console.count("run ") >= 2, within=60)
        assert machine.ends() == AgentExit.DONE
        assert_gone(run, machine)
    status = run.status()
    assert status.state is RunState.SUCCEEDED
    assert len(started) == 1
    assert "taking up" in machine.console
    assert_every_line_once(run, LINES)


def test_a_machine_that_refuses_at_first_is_told_of_its_run(aws: S3Server, tmp_path: Path) -> None:
    """A command that fails once is called again while the run goes, with less of the limit left; no warning stays."""
    told = tmp_path / "told"
    refuses_once = f'[ -e "{told}" ] && said=0 || said=1; echo "$@" >> "{told}"; exit $said'
    command = json.dumps(["/bin/sh", "-c", refuses_once, "claimed"])
    run = submit(aws, "sleepy", params={"seconds": 12}, time_limit_s=300)
    with lone_machine(tmp_path, run, environment={"RUN_AGENT_CLAIMED_COMMAND": command}) as machine:
        machine.boot()
        run.until(RunState.RUNNING)
        eventually("it is told again", lambda: len(told.read_text().splitlines()) == 2, within=60)
        machine.ends()
        assert_gone(run, machine)
    first, second = (line.split() for line in told.read_text().splitlines())
    assert first[1:] == second[1:] == [run.spec.run_id, run.spec.log_group]
    assert 300 >= int(first[0]) > int(second[0]) > 270
    status = run.status()
    assert status.state is RunState.SUCCEEDED
    assert status.warnings == ()
    assert "could not be told" in machine.console


def test_a_killed_agent_keeps_the_reason_why_it_stopped(aws: S3Server, tmp_path: Path) -> None:
    """A run that was being cancelled when the agent was killed ends as cancelled, not as failed."""
    run = submit(aws, "ignores-term", params={"seconds": 300})
    with lone_machine(tmp_path, run) as machine:
        machine.boot()
        eventually("the task runs", lambda: run.status().tasks.running == 1)
        run.put(STOP, StopRequest(requested_by="ada@desk", requested_at=START).model_dump_json().encode())
        eventually("the agent stops the run", lambda: "stopping: cancelled" in machine.console)
        machine.kill_agent()
        machine.boot()
        machine.ends()
        assert_gone(run, machine)
    assert run.status().stop_reason is StopReason.CANCELLED


def test_a_spot_notice_is_heeded_where_docker_has_gone_too(aws: S3Server, tmp_path: Path) -> None:
    """Started again without a Docker to ask, the agent does not wait for it past a notice: logs are saved in time."""
    run = submit(aws, "sleepy", params={"seconds": 300})
    with lone_machine(tmp_path, run) as machine:
        machine.boot()
        eventually("the task runs", lambda: run.status().tasks.running == 1)
        machine.kill_agent()
        machine.environment["DOCKER_HOST"] = f"unix://{tmp_path}/nobody.sock"
        machine.interrupt(40)
        machine.boot()
        assert machine.ends(within=40) == AgentExit.DONE
        assert machine.power_off.exists()
    status = run.status()
    assert (status.state, status.stop_reason) == (RunState.FAILED, StopReason.SPOT_INTERRUPTED)
    assert any("could not be taken up" in warning for warning in status.warnings)
    assert {WORKLOAD_LOG, NEXTFLOW_LOG, AGENT_LOG, TRACE} <= run.names()


def test_a_workload_that_ended_while_nobody_watched(aws: S3Server, tmp_path: Path) -> None:
    """The agent is dead while the workload ends; started again it reads the exit code and collects everything."""
    run = submit(aws, "hello")
    with lone_machine(tmp_path, run) as machine:
        machine.boot()
        run.until(RunState.RUNNING)
        machine.kill_agent()
        (head,) = containers(f"{RUN_LABEL}={run.spec.run_id}", f"{ROLE_LABEL}={Role.WORKLOAD}")
        subprocess.run(["docker", "wait", head], check=True, capture_output=True, timeout=150)
        machine.boot()
        machine.ends()
        assert_gone(run, machine)
    assert run.status().state is RunState.SUCCEEDED
    assert {"artifacts/one.txt", "artifacts/two.txt", "artifacts/three.txt", WORKLOAD_LOG} <= run.names()


def test_a_kill_during_upload_loses_nothing(aws: S3Server, tmp_path: Path) -> None:
    """SIGKILL while artifacts are on their way: the agent goes on, and every file is there in the end."""
    run = submit(aws, "many-files", params={"files": 1000})
    # Every answer takes a while, so that the kill comes between two uploads.
    with (
        flaky_proxy(aws.url, delay_s=0.05) as proxy,
        lone_machine(tmp_path, run, endpoint_url=proxy.url) as machine,
    ):
        machine.boot()
        eventually("the upload has begun", lambda: _artifacts(run) >= 20, within=90)
        assert run.status().phase is Phase.COLLECT
        machine.kill_agent()
        before = _artifacts(run)
        assert before < 1000
        machine.boot()
        machine.ends()
        assert_gone(run, machine)
    status = run.status()
    assert status.state is RunState.SUCCEEDED
    assert _artifacts(run) >= 1000
    assert status.artifacts is not None
    assert status.artifacts.not_uploaded == ()
    assert status.artifacts.files == _artifacts(run)


def _artifacts(run: LoneRun) -> int:
    return sum(key.startswith("artifacts/") for key in run.names())


def test_a_logs_service_that_fails_half_of_the_calls(aws: S3Server, tmp_path: Path) -> None:
    """5xx, throttling and lost answers on every second call: nothing lost, nothing doubled, order kept."""
    run = submit(aws, "noisy", params={"lines": LINES})
    with (
        flaky_proxy(
            aws.url, fraction=0.5, matching=lambda request: "Logs_" in request.headers.get("X-Amz-Target", "")
        ) as proxy,
        lone_machine(tmp_path, run, endpoint_url=proxy.url) as machine,
    ):
        machine.boot()
        machine.ends(within=240)
        assert_gone(run, machine)
        assert proxy.failed > 3
    assert run.status().state is RunState.SUCCEEDED
    assert_every_line_once(run, LINES)


def test_an_s3_that_fails_a_third_of_the_calls(aws: S3Server, tmp_path: Path) -> None:
    """Refusals, resets and lost answers on every third call: the run ends well with all it made."""
    run = submit(aws, "hello")
    with (
        flaky_proxy(
            aws.url, fraction=0.34, seed=3, matching=lambda request: "X-Amz-Target" not in request.headers
        ) as proxy,
        lone_machine(tmp_path, run, endpoint_url=proxy.url) as machine,
    ):
        machine.boot()
        machine.ends(within=240)
        assert_gone(run, machine)
        assert proxy.failed > 3
    status = run.status()
    assert status.state is RunState.SUCCEEDED
    assert status.artifacts is not None
    assert status.artifacts.not_uploaded == ()
    assert {"artifacts/one.txt", "artifacts/two.txt", "artifacts/three.txt", WORKLOAD_LOG} <= run.names()


@pytest.mark.parametrize("notice_s", [120.0, 20.0])
def test_after_a_spot_notice_another_machine_goes_on(aws: S3Server, tmp_path: Path, notice_s: float) -> None:
    """The finished tasks of an interrupted run are cached in the run that resumes it, on another machine; where the
    notice is far too short, those are that were in S3 before."""
    session = str(uuid.uuid4())
    scratch = tmp_path / "scratch"
    first = submit(aws, "chain", params={"seconds": 5}, resumable=True, workload={"session_id": session})
    with lone_machine(tmp_path, first, scratch=scratch) as machine:
        machine.boot()
        eventually(
            "two tasks are done, and one of them at least is in S3",
            lambda: first.status().tasks.succeeded >= 2 and first.can_be_resumed(),
            within=150,
        )
        machine.interrupt(notice_s)
        machine.ends(within=notice_s + 10)
        assert_gone(first, machine)
    status = first.status()
    assert (status.state, status.stop_reason) == (RunState.FAILED, StopReason.SPOT_INTERRUPTED)
    assert any(key.startswith(CACHE) for key in first.names())
    done = status.tasks.succeeded if notice_s > 100 else 1
    # The machine is gone with its disk.
    subprocess.run(["rm", "-rf", str(scratch)], check=True)

    second = submit(
        aws,
        "chain",
        params={"seconds": 5},
        resumable=True,
        workload={"session_id": session, "resume_from": first.spec.run_id},
    )
    with lone_machine(tmp_path, second, scratch=scratch) as machine:
        machine.boot()
        machine.ends()
        assert_gone(second, machine)
    status = second.status()
    assert status.state is RunState.SUCCEEDED
    assert status.tasks.cached >= done
    assert status.tasks.cached + status.tasks.succeeded == 5
    assert second.body("artifacts/chain.txt") == b"first\nsecond\nthird\nfourth\nfifth\n"
