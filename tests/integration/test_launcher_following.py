"""Logs, following, waiting and exit codes, against moto."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agent import contract
from agent.contract import RunState, StopReason
from tests.fakes.s3_server import S3Server
from tests.integration.launcher_kit import Kit, operator

LOST = timedelta(minutes=2)


@pytest.fixture
def kit(aws: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kit]:
    with operator(aws.url, tmp_path, monkeypatch) as kit:
        kit.add_compute_env()
        yield kit


def test_the_log_comes_from_cloudwatch(kit: Kit) -> None:
    """Every line in order, blank ones too; the agent's own log is another stream."""
    run = kit.submit("-n", "chatty")
    kit.write_log(run["run_id"], *(f"line {number}" for number in range(30)), "", "end")
    kit.write_log(run["run_id"], "claimed", agent=True)
    lines = kit.ok("runs", "logs", "chatty").out.splitlines()
    assert lines == [*(f"line {number}" for number in range(30)), "", "end"]
    assert kit.ok("runs", "logs", "chatty", "--agent").out == "claimed\n"
    first = json.loads(kit.ok("runs", "logs", "chatty", "--json").out.splitlines()[0])
    assert first["message"] == "line 0"
    assert first["timestamp"] > 0


def test_the_log_comes_from_s3_where_the_stream_is_gone(kit: Kit) -> None:
    """No stream: the whole log that the agent brought to S3, also when it is followed; broken UTF-8 survives."""
    run_id = kit.ended("archived")
    assert "no log" in kit("runs", "logs", "archived").err
    kit.put(run_id, contract.WORKLOAD_LOG, b"one\r\n\ntwo \xff\nthree")
    expected = "one\n\ntwo �\nthree\n"
    assert kit.ok("runs", "logs", "archived").out == expected
    assert kit.ok("runs", "logs", "archived", "--follow").out == expected


def test_following_a_log_ends_with_the_run(kit: Kit) -> None:
    """Lines that come later are shown once each, and those of the last moment too."""
    run_id = kit.submit("-n", "live")["run_id"]

    def finish() -> None:
        kit.report(run_id, RunState.SUCCEEDED, stop_reason=StopReason.COMPLETED)
        kit.write_log(run_id, "three")

    kit.clock.while_asleep = [
        lambda: kit.write_log(run_id, "one", "two"),
        lambda: kit.report(run_id, RunState.RUNNING),
        finish,
    ]
    assert kit.ok("runs", "logs", "live", "--follow").out == "one\ntwo\nthree\n"


def follow_to(kit: Kit, state: RunState, reason: StopReason, *arguments: str) -> Any:
    """`launcher run … ` while an agent starts the run and brings it to `state`."""

    def newest_id() -> str:
        found: str = kit.ok("runs", "list", "--json").json()[0]["run_id"]
        return found

    kit.clock.while_asleep = [
        lambda: kit.report(newest_id(), RunState.RUNNING),
        lambda: kit.report(newest_id(), state, stop_reason=reason, message="The end."),
    ]
    return kit("run", str(kit.pipeline()), *arguments)


@pytest.mark.parametrize(
    ("state", "reason", "arguments", "code"),
    [
        (RunState.SUCCEEDED, StopReason.COMPLETED, ["--follow"], 0),
        (RunState.FAILED, StopReason.WORKLOAD_FAILED, ["--follow"], 3),
        (RunState.CANCELLED, StopReason.CANCELLED, ["--follow"], 4),
        (RunState.SUCCEEDED, StopReason.COMPLETED, ["--wait", "SUCCEEDED"], 0),
        (RunState.SUCCEEDED, StopReason.COMPLETED, ["--wait", "running"], 0),
        (RunState.FAILED, StopReason.WORKLOAD_FAILED, ["--wait", "RUNNING"], 0),
        (RunState.FAILED, StopReason.WORKLOAD_FAILED, ["--wait", "SUCCEEDED"], 3),
        (RunState.FAILED, StopReason.WORKLOAD_FAILED, ["--wait", "FAILED"], 0),
        (RunState.SUCCEEDED, StopReason.COMPLETED, ["--wait", "FAILED"], 7),
        (RunState.FAILED, StopReason.WORKLOAD_FAILED, ["--wait", "SUBMITTED"], 0),
        (RunState.FAILED, StopReason.WORKLOAD_FAILED, ["--follow", "--wait", "RUNNING"], 0),
    ],
)
def test_the_exit_code_tells_how_it_ended(
    kit: Kit, state: RunState, reason: StopReason, arguments: list[str], code: int
) -> None:
    """--follow gives the run's own end; --wait gives 0 only when the state was reached or gone through."""
    result = follow_to(kit, state, reason, *arguments)
    assert result.code == code, result.err
    assert "run " in result.out


def test_followed_json_is_one_document(kit: Kit) -> None:
    """With --json stdout is the final status and nothing else."""
    result = follow_to(kit, RunState.SUCCEEDED, StopReason.COMPLETED, "--follow", "--json")
    assert result.json()["state"] == "SUCCEEDED"


def test_a_lost_machine_ends_the_following(kit: Kit) -> None:
    """The machine goes without a word: exit code 5, after a minute and not for ever."""

    def vanish() -> None:
        run = kit.ok("runs", "list", "--json").json()[0]
        kit.report(run["run_id"], RunState.RUNNING)
        kit.ec2.terminate_instances(InstanceIds=[item["InstanceId"] for item in kit.instances(run["run_id"])])

    kit.clock.while_asleep = [vanish]
    result = kit("run", str(kit.pipeline()), "--follow")
    assert result.code == 5
    assert "is gone" in result.out


def test_ctrl_c_leaves_the_run_alone(kit: Kit) -> None:
    """Exit code 130, and how to go on; the run is as it was."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    kit.clock.while_asleep = [interrupt]
    result = kit("run", str(kit.pipeline()), "--follow", "-n", "left")
    assert result.code == 130
    assert "launcher runs cancel left" in result.err
    assert kit.ok("runs", "view", "left", "--json").json()["state"] == "SUBMITTED"
