"""Finding, listing and viewing runs, against moto."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from moto.s3.models import s3_backends

from agent import contract
from agent.contract import Artifacts, RunState, TaskCounts
from launcher.aws import connect
from launcher.compute_envs import ComputeEnvs
from launcher.places import newest
from launcher.run_book import RunBook
from tests.fakes.s3_server import S3Server
from tests.integration.launcher_kit import Kit, operator

LOST = timedelta(minutes=2)


@pytest.fixture
def kit(aws: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kit]:
    with operator(aws.url, tmp_path, monkeypatch) as kit:
        kit.add_compute_env()
        yield kit


def test_the_newest_twenty_of_ten_thousand_take_few_calls(kit: Kit) -> None:
    """21 S3 calls: one page of the index, and a status for each run shown."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    backend = s3_backends["123456789012"]["aws"]
    ids = [f"{start + timedelta(minutes=number):%Y%m%dt%H%M%S}-aaaaaa" for number in range(10_000)]
    for run_id in ids:
        backend.put_object(kit.bucket, contract.index_key(kit.work_dir, run_id), b"")
    for number, run_id in enumerate(ids[-30:]):
        status = contract.RunStatus(
            run_id=run_id,
            name=f"run-{number}",
            state=RunState.SUCCEEDED,
            submitted_at=start,
            heartbeat_at=start,
        )
        kit.put(run_id, contract.STATUS, status.model_dump_json())
    calls: list[str] = []
    aws = connect(ComputeEnvs(kit.folder / "config").get("main"), lambda: None)
    aws.s3.meta.events.register("before-call.s3", lambda model, **_: calls.append(model.name))
    shown = newest(RunBook(aws, kit.work_dir), lambda _: True, 20, print)
    assert [status.run_id for status in shown] == ids[:-21:-1]
    assert len(calls) <= 25
    assert calls.count("ListObjectsV2") == 1


def test_a_run_is_found_by_id_by_its_beginning_and_by_name(kit: Kit) -> None:
    """All three lead to the same run."""
    run_id = kit.submit("-n", "findable")["run_id"]
    for word in (run_id, run_id[:-3], "findable"):
        assert kit.ok("runs", "view", word, "--json").json()["run_id"] == run_id


def test_an_ambiguous_beginning_lists_the_candidates(kit: Kit) -> None:
    """Both runs are named with their states; nothing is done to either."""
    kit.submit("-n", "one")
    kit.submit("-n", "two")
    result = kit("runs", "cancel", "2")
    assert result.code == 2
    assert "one SUBMITTED" in result.err
    assert "two SUBMITTED" in result.err
    assert {item["state"] for item in kit.ok("runs", "list", "--json").json()} == {"SUBMITTED"}


def test_an_unknown_run_brings_the_nearest_name(kit: Kit) -> None:
    """Every command says that there is no such run, and which was probably meant."""
    kit.submit("-n", "nimble_mendel")
    for command in ("view", "logs", "tasks", "cancel", "download", "relaunch", "delete"):
        result = kit("runs", command, "nimbel_mendel")
        assert result.code == 2
        assert "Did you mean nimble_mendel?" in result.err
    assert kit("runs", "delete", "../../etc").code == 2


def test_runs_are_listed_newest_first_over_all_compute_environments(kit: Kit) -> None:
    """A cloud that is down is said and left out; with -c only its own runs are shown."""
    kit.add_compute_env("second")
    kit.add_compute_env("here", "--local")
    kit.submit("-n", "older", "-c", "main")
    kit.clock.shift += timedelta(seconds=1)  # ids sort by the second
    kit.submit("-n", "newer", "-c", "second")
    kit.report(kit.ok("runs", "view", "newer", "--json").json()["run_id"], RunState.RUNNING)
    result = kit.ok("runs", "list")
    assert result.out.index("newer") < result.out.index("older")
    assert "\x1b" not in result.out
    assert [item["name"] for item in kit.ok("runs", "list", "-c", "second", "--json").json()] == ["newer"]
    assert [item["name"] for item in kit.ok("runs", "list", "--state", "submitted", "--json").json()] == [
        "older"
    ]


def test_a_failed_run_is_explained(kit: Kit) -> None:
    """Reason, its meaning, the advice, tasks and results stand in the view."""
    kit.ended(
        "broken",
        RunState.FAILED,
        message="Process ALIGN failed with exit code 137.",
        tasks=TaskCounts(succeeded=3, failed=1),
        artifacts=Artifacts(location="s3://bucket/a", files=2, bytes=2048, not_uploaded=("x: too slow",)),
        warnings=("the clock was off",),
        exit_code=1,
    )
    view = kit.ok("runs", "view", "broken").out
    for words in (
        "FAILED",
        "ended by itself, with an error",
        "ALIGN failed with exit code 137",
        "launcher runs relaunch",
        "3 succeeded, 1 failed",
        "2 files, 2.0 KiB",
        "x: too slow",
        "the clock was off",
    ):
        assert words in view


def test_a_run_whose_machine_is_gone_is_unknown_and_can_be_relaunched(kit: Kit) -> None:
    """Terminated, and silent for longer than a heartbeat may take: UNKNOWN; its stored status stays."""
    run = kit.submit("-n", "lost")
    kit.report(run["run_id"], RunState.RUNNING, instance_id=run["instance_id"])
    kit.ec2.terminate_instances(InstanceIds=[run["instance_id"]])
    assert kit.ok("runs", "view", "lost", "--json").json()["state"] == "RUNNING"
    kit.clock.shift = LOST
    seen = kit.ok("runs", "view", "lost", "--json").json()
    assert (seen["state"], seen["stop_reason"]) == ("UNKNOWN", "machine_lost")
    assert run["instance_id"] in seen["message"]
    assert kit.ok("runs", "list", "--json").json()[0]["state"] == "UNKNOWN"
    assert kit.status(run["run_id"]).state is RunState.RUNNING
    assert "is over already" in kit.ok("runs", "cancel", "lost").err
    assert kit.ok("runs", "relaunch", "lost", "-n", "found").code == 0


def test_a_silent_machine_that_still_exists_is_not_given_up(kit: Kit) -> None:
    """No heartbeat for long, but EC2 has the instance: the stored state stands."""
    run = kit.submit("-n", "quiet")
    kit.report(run["run_id"], RunState.RUNNING)
    kit.clock.shift = LOST
    assert kit.ok("runs", "view", "quiet", "--json").json()["state"] == "RUNNING"


def test_tasks_come_from_the_trace(kit: Kit) -> None:
    """Names, states and exit codes, as a table and as JSON; before there is a trace, that is said."""
    run_id = kit.ended("traced")
    assert "no trace" in kit.ok("runs", "tasks", "traced").err
    kit.put(
        run_id,
        contract.TRACE,
        "task_id\tname\tstatus\texit\tduration\t%cpu\tpeak_rss\n"
        "1\tALIGN (a)\tCOMPLETED\t0\t2.1s\t99.0%\t12 MB\n2\tALIGN (b)\tFAILED\t137\t1s\t-\t-\n3\ttor",
    )
    table = kit.ok("runs", "tasks", "traced").out
    assert table.splitlines()[0].split() == ["NAME", "STATUS", "EXIT", "DURATION", "%CPU", "PEAK_RSS"]
    assert "ALIGN (b)  FAILED" in table
    tasks = kit.ok("runs", "tasks", "traced", "--json").json()
    assert [task["exit"] for task in tasks] == ["0", "137"]


def test_a_status_that_somebody_destroyed_is_said(kit: Kit) -> None:
    """Exit code 2 with the file and what is wrong in it."""
    run_id = kit.submit("-n", "mangled")["run_id"]
    kit.put(run_id, contract.STATUS, '{"run_id": 7}')
    result = kit("runs", "view", "mangled")
    assert result.code == 2
    assert "status.json is not what solorun wrote" in result.err
    assert "state: Field required" in result.err


def test_a_status_that_cannot_be_read_does_not_hide_the_other_runs(kit: Kit) -> None:
    """The list shows the rest, and says on stderr what is left out and why."""
    kit.submit("-n", "good")
    mangled = kit.submit("-n", "mangled")["run_id"]
    kit.put(mangled, contract.STATUS, "{")
    result = kit.ok("runs", "list", "--json")
    assert [item["name"] for item in result.json()] == ["good"]
    assert f"{mangled}/status.json is not what solorun wrote" in result.err
    assert "1 run" in result.err
    assert mangled in kit("runs", "view", "2").err


def test_a_status_of_a_newer_solorun_says_to_update(kit: Kit) -> None:
    """Not that somebody changed it: the hint is another."""
    run_id = kit.submit("-n", "later")["run_id"]
    kit.put(
        run_id,
        contract.STATUS,
        json.dumps({**json.loads(kit.status(run_id).model_dump_json()), "schema_version": 999}),
    )
    result = kit("runs", "view", "later")
    assert result.code == 2
    assert "newer solorun" in result.err
    assert "Update solorun" in result.err
    assert "changed it" not in result.err
    assert "Update solorun" in kit.ok("runs", "list").err
