"""`launcher runs` against moto: finding, looking, following, ending, fetching, repeating and deleting runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from moto.s3.models import s3_backends

from agent import contract
from agent.contract import Artifacts, RunSpec, RunState, StopReason, TaskCounts
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


def ended(kit: Kit, name: str, state: RunState = RunState.SUCCEEDED, *arguments: str, **changes: Any) -> str:
    """A run that the agent has brought to its end."""
    run_id: str = kit.submit("-n", name, *arguments)["run_id"]
    reasons = {RunState.SUCCEEDED: StopReason.COMPLETED, RunState.FAILED: StopReason.WORKLOAD_FAILED}
    kit.report(run_id, state, **{"stop_reason": reasons.get(state, StopReason.CANCELLED), **changes})
    return run_id


def spec_of(kit: Kit, run_id: str) -> RunSpec:
    return contract.parse(RunSpec, kit.body(contract.run_key(kit.work_dir, run_id) + contract.SPEC))


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
    shown = newest(RunBook(aws, kit.work_dir), lambda _: True, 20)
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
    ended(
        kit,
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


def test_cancelling_before_a_claim_is_final(kit: Kit) -> None:
    """The launcher claims the run, writes CANCELLED, and ends the machine; no machine can claim it any more."""
    run = kit.submit("-n", "early")
    result = kit.ok("runs", "cancel", "early", "--json")
    assert result.json()["cancelled"] == "before_claim"
    status = kit.status(run["run_id"])
    assert (status.state, status.stop_reason) == (RunState.CANCELLED, StopReason.CANCELLED)
    claim = json.loads(kit.body(contract.run_key(kit.work_dir, run["run_id"]) + contract.CLAIM))
    assert claim["claimed_by"] == "launcher"
    assert [machine["State"]["Name"] for machine in kit.instances(run["run_id"])] == ["terminated"]
    again = kit.ok("runs", "cancel", "early")
    assert "over already: CANCELLED" in again.err


def test_cancelling_a_claimed_run_asks_its_machine_and_waits(kit: Kit) -> None:
    """stop.json is written; the agent's own final status is what counts."""
    run = kit.submit("-n", "running")
    kit.report(run["run_id"], RunState.RUNNING)

    def agent_stops() -> None:
        stop = json.loads(kit.body(contract.run_key(kit.work_dir, run["run_id"]) + contract.STOP))
        assert stop["requested_by"] == "ada@example"
        kit.report(run["run_id"], RunState.CANCELLED, stop_reason=StopReason.CANCELLED, message="Stopped.")

    kit.clock.while_asleep = [agent_stops]
    result = kit.ok("runs", "cancel", "running")
    assert "The run running is CANCELLED. Stopped." in result.err
    assert [machine["State"]["Name"] for machine in kit.instances(run["run_id"])] == ["running"]


def test_cancelling_does_not_wait_for_ever(kit: Kit) -> None:
    """After --timeout the person is told how to use force; --no-wait does not wait at all."""
    run = kit.submit("-n", "stubborn")
    kit.report(run["run_id"], RunState.RUNNING)
    assert "--force" in kit.ok("runs", "cancel", "stubborn", "--timeout", "20s").err
    slept = len(kit.clock.slept)
    kit.ok("runs", "cancel", "stubborn", "--no-wait")
    assert len(kit.clock.slept) == slept


def test_force_terminates_the_machine_and_ends_the_run(kit: Kit) -> None:
    """The machine is gone, and the run is CANCELLED though no agent said so."""
    run = kit.submit("-n", "hung")
    kit.report(run["run_id"], RunState.RUNNING)
    result = kit.ok("runs", "cancel", "hung", "--force", "--json").json()
    assert (result["cancelled"], result["state"]) == ("forced", "CANCELLED")
    assert [machine["State"]["Name"] for machine in kit.instances(run["run_id"])] == ["terminated"]


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
    run_id = ended(kit, "archived")
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


def test_tasks_come_from_the_trace(kit: Kit) -> None:
    """Names, states and exit codes, as a table and as JSON; before there is a trace, that is said."""
    run_id = ended(kit, "traced")
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


def test_relaunch_starts_the_same_again_from_scratch(kit: Kit) -> None:
    """A run that was not resumable: new id and session, the same files and parameters, and that is said."""
    old = ended(kit, "first", RunState.FAILED, "--param", "n=1", "--instance-type", "m5d.xlarge")
    result = kit.ok("runs", "relaunch", "first", "-n", "second", "--json")
    assert "from scratch" in result.err
    new = result.json()["run_id"]
    before, after = spec_of(kit, old), spec_of(kit, new)
    assert after.workload.params == before.workload.params
    assert after.workload.source == before.workload.source
    assert after.machine == before.machine
    assert after.workload.session_id != before.workload.session_id
    bundle = [kit.body(contract.run_key(kit.work_dir, run_id) + contract.BUNDLE) for run_id in (old, new)]
    assert bundle[0] == bundle[1]


def test_relaunch_resumes_a_resumable_run(kit: Kit) -> None:
    """The session is kept and the earlier run named, as long as it left finished tasks; --no-resume does not."""
    old = ended(kit, "taken", RunState.FAILED, "--spot", stop_reason=StopReason.SPOT_INTERRUPTED)
    assert "left no finished tasks" in kit.ok("runs", "relaunch", "taken", "--dry-run").err
    kit.put(old, contract.CACHE + "tasks.json", "{}")
    scratch = kit.ok("runs", "relaunch", "taken", "--no-resume", "--dry-run", "--json").json()
    assert scratch["spec"]["workload"]["resume_from"] is None
    new = kit.ok("runs", "relaunch", "taken", "--on-demand", "--json").json()["run_id"]
    spec = spec_of(kit, new)
    assert spec.workload.resume_from == old
    assert spec.workload.session_id == spec_of(kit, old).workload.session_id
    assert spec.resumable
    assert spec.machine is not None
    assert not spec.machine.spot
    refused = kit("runs", "relaunch", "taken")
    assert refused.code == 2
    assert new in refused.err


def test_a_run_that_still_goes_is_neither_relaunched_nor_deleted(kit: Kit) -> None:
    """Both say so and what to do; nothing is started or removed."""
    kit.submit("-n", "alive")
    before = kit.keys()
    for command in (["relaunch", "alive"], ["delete", "alive", "--yes"]):
        result = kit("runs", *command)
        assert result.code == 2
        assert "launcher runs cancel alive" in result.err
    assert kit.keys() == before
    assert kit.started() == 1


def test_delete_removes_everything_and_frees_the_name(kit: Kit) -> None:
    """Nothing is left under the prefix, in the index or of the name; other runs are not touched."""
    run_id = ended(kit, "old")
    ended(kit, "keep")
    kit.put(run_id, "artifacts/a", b"x")
    assert kit("runs", "delete", "old").code == 2
    kit.ok("runs", "delete", "old", "--yes")
    left = kit.keys()
    assert not [key for key in left if run_id in key or key.endswith("/old")]
    assert [item["name"] for item in kit.ok("runs", "list", "--json").json()] == ["keep"]
    assert kit.submit("-n", "old")


def test_a_status_that_somebody_destroyed_is_said(kit: Kit) -> None:
    """Exit code 2 with the file and what is wrong in it."""
    run_id = kit.submit("-n", "mangled")["run_id"]
    kit.put(run_id, contract.STATUS, '{"run_id": 7}')
    result = kit("runs", "view", "mangled")
    assert result.code == 2
    assert "status.json is not what solorun wrote" in result.err
    assert "state: Field required" in result.err
