"""Cancelling, relaunching and deleting runs, against moto."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

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


def test_a_run_that_seems_lost_before_a_claim_can_be_cancelled(kit: Kit) -> None:
    """Its machine may be there though EC2 does not list it yet: the launcher's claim ends the run for good."""
    run = kit.submit("-n", "unseen")
    kit.ec2.terminate_instances(InstanceIds=[run["instance_id"]])
    kit.clock.shift = LOST
    assert kit.ok("runs", "view", "unseen", "--json").json()["state"] == "UNKNOWN"
    result = kit.ok("runs", "cancel", "unseen", "--json").json()
    assert (result["cancelled"], result["state"]) == ("before_claim", "CANCELLED")


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


def test_relaunch_starts_the_same_again_from_scratch(kit: Kit) -> None:
    """A run that was not resumable: new id and session, the same files and parameters, and that is said."""
    old = kit.ended("first", RunState.FAILED, "--param", "n=1", "--instance-type", "m5d.xlarge")
    result = kit.ok("runs", "relaunch", "first", "-n", "second", "--json")
    assert "from scratch" in result.err
    new = result.json()["run_id"]
    before, after = kit.spec(old), kit.spec(new)
    assert after.workload.params == before.workload.params
    assert after.workload.source == before.workload.source
    assert after.machine == before.machine
    assert after.workload.session_id != before.workload.session_id
    bundle = [kit.body(contract.run_key(kit.work_dir, run_id) + contract.BUNDLE) for run_id in (old, new)]
    assert bundle[0] == bundle[1]


def test_relaunch_resumes_a_resumable_run(kit: Kit) -> None:
    """The session is kept and the earlier run named, as long as it left finished tasks; --no-resume does not."""
    old = kit.ended("taken", RunState.FAILED, "--spot", stop_reason=StopReason.SPOT_INTERRUPTED)
    assert "left no finished tasks" in kit.ok("runs", "relaunch", "taken", "--dry-run").err
    kit.put(old, contract.CACHE + "tasks.json", "{}")
    scratch = kit.ok("runs", "relaunch", "taken", "--no-resume", "--dry-run", "--json").json()
    assert scratch["spec"]["workload"]["resume_from"] is None
    new = kit.ok("runs", "relaunch", "taken", "--on-demand", "--json").json()["run_id"]
    spec = kit.spec(new)
    assert spec.workload.resume_from == old
    assert spec.workload.session_id == kit.spec(old).workload.session_id
    assert spec.resumable
    assert spec.machine is not None
    assert not spec.machine.spot
    refused = kit("runs", "relaunch", "taken")
    assert refused.code == 2
    assert new in refused.err


def test_a_lost_run_does_not_hold_its_session(kit: Kit) -> None:
    """A relaunch whose machine vanished is over, whatever its stored status says: the run resumes again."""
    old = kit.ended("origin", RunState.FAILED, "--spot", stop_reason=StopReason.SPOT_INTERRUPTED)
    kit.put(old, contract.CACHE + "tasks.json", "{}")
    lost = kit.ok("runs", "relaunch", "origin", "--json").json()
    kit.report(lost["run_id"], RunState.RUNNING, instance_id=lost["instance_id"])
    assert kit("runs", "relaunch", "origin").code == 2
    kit.ec2.terminate_instances(InstanceIds=[lost["instance_id"]])
    kit.clock.shift = LOST
    again = kit.ok("runs", "relaunch", "origin", "--json").json()
    assert kit.spec(again["run_id"]).workload.session_id == kit.spec(old).workload.session_id


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
    run_id = kit.ended("old")
    kit.ended("keep")
    kit.put(run_id, "artifacts/a", b"x")
    assert kit("runs", "delete", "old").code == 2
    kit.ok("runs", "delete", "old", "--yes")
    left = kit.keys()
    assert not [key for key in left if run_id in key or key.endswith("/old")]
    assert [item["name"] for item in kit.ok("runs", "list", "--json").json()] == ["keep"]
    assert kit.submit("-n", "old")
