"""Machines of the local cloud, with a scripted agent: from RunInstances to nothing left."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from obstore.store import S3Store

from tests.integration.localcloud_tools import CloudUser, cloud, containers_of, eventually, gone

SESSION = "11111111-2222-3333-4444-{:012d}"


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CloudUser]:
    with cloud(tmp_path_factory.mktemp("state") / "localcloud") as somebody:
        yield somebody


def test_an_instance_gets_an_agent_that_ends_it(user: CloudUser) -> None:
    """The agent finds user data and tags, and its shutdown terminates the instance as EC2 tells it."""
    instance_id = user.start("finish", run="r1", user_data="#!/bin/sh\n")
    found = user.until(instance_id, "terminated")
    assert found["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"
    facts = user.facts(instance_id)
    assert facts["instance_id"] == instance_id
    assert facts["user_data"] == "#!/bin/sh\n"
    assert facts["tags"] == {"act": "finish", "solorun:run": "r1", "solorun:name": "name-of-r1"}
    assert "the fake agent was here" in user.folder.machine(instance_id).console.read_text()


def test_the_agents_environment_is_the_machines(user: CloudUser) -> None:
    """An agent sees the local cloud only: no AWS set-up of the person, no home of theirs, no real shutdown."""
    instance_id = user.start("finish")
    environ = user.facts(instance_id)["environ"]
    assert environ["AWS_ENDPOINT_URL"] == user.state.endpoint_url
    assert environ["HOME"] == str(user.home(instance_id))
    assert json.loads(environ["RUN_AGENT_SHUTDOWN_COMMAND"]) == [
        "touch",
        str(user.home(instance_id) / "power-off"),
    ]
    assert {name for name in environ if name.startswith("AWS_")} == {
        "AWS_ENDPOINT_URL",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
    }
    assert 1 <= int(environ["RUN_AGENT_CPUS"]) <= 2
    assert int(environ["RUN_AGENT_MEMORY_BYTES"]) <= 8 * 1024**3
    user.until(instance_id, "terminated")


def test_the_runs_folder_goes_with_its_machine(user: CloudUser) -> None:
    """The folder of the run that the machine claimed is removed; that of another machine's run stays."""
    winner = user.start_run("hang", "20260101t000000-aaaaaa", SESSION.format(1))
    user.facts(winner)
    folder = user.folder.scratch / SESSION.format(1)
    eventually((folder / "file").exists, "the run's folder")
    loser = user.start_run("finish", "20260101t000000-aaaaaa", SESSION.format(1))
    user.until(loser, "terminated")
    assert (folder / "file").exists()
    user.folder.machine(winner).power_off.touch()
    user.until(winner, "terminated")
    assert not folder.exists()
    eventually(lambda: not any(user.folder.trash.iterdir()), "the trash is empty")


def test_a_killed_agent_is_started_again(user: CloudUser) -> None:
    """SIGKILL of the agent is not the end of its machine: the next agent goes on."""
    instance_id = user.start("crash once")
    user.until(instance_id, "terminated")
    assert user.facts(instance_id)["starts"] == 2


def test_an_agent_that_crashes_again_and_again_ends_its_machine(user: CloudUser) -> None:
    """After five crashes within a minute the sixth powers the machine off."""
    instance_id = user.start("crash")
    user.until(instance_id, "terminated", 120)
    console = user.folder.machine(instance_id).console.read_text()
    assert "--- agent start 6" in console
    assert "powered off: its agent crashed 6 times" in console


def test_a_machine_started_by_hand_is_left_alone(user: CloudUser) -> None:
    """An agent that says so leaves the instance running, and is not started again, until it is terminated."""
    instance_id = user.start("left alone")
    eventually(lambda: state_of(user, instance_id) == "left alone", "left alone")
    assert user.is_in_state(instance_id, "running")
    assert user.facts(instance_id)["starts"] == 1
    user.ec2.terminate_instances(InstanceIds=[instance_id])
    eventually(lambda: state_of(user, instance_id) == "off", "off")


def test_an_agent_that_hangs_after_its_shutdown_is_killed(user: CloudUser) -> None:
    """The switch counts, whatever the agent does after it."""
    instance_id = user.start("shut down and hang")
    pid = user.facts(instance_id)["pid"]
    user.until(instance_id, "terminated")
    assert gone(pid)


def test_terminating_takes_everything_with_it(user: CloudUser) -> None:
    """TerminateInstances is a power loss: agent, its children in other sessions, and containers are gone."""
    instance_id = user.start("hang with company")
    eventually((user.home(instance_id) / "company").exists, "company")
    assert len(containers_of(instance_id)) == 1
    child = int((user.home(instance_id) / "company").read_text())
    user.ec2.terminate_instances(InstanceIds=[instance_id])
    eventually(lambda: state_of(user, instance_id) == "off", "off")
    assert containers_of(instance_id) == []
    assert gone(child)
    assert gone(user.facts(instance_id)["pid"])


def test_a_spot_interruption_is_a_notice_and_then_the_end(user: CloudUser) -> None:
    """The agent reads the notice; at its time the instance is terminated, with EC2's reason."""
    instance_id = user.start("wait for notice")
    user.facts(instance_id)
    ends_at = user.control.interrupt(instance_id, 10)
    eventually((user.home(instance_id) / "notice").exists, "the agent has the notice", 10)
    told = datetime.fromisoformat((user.home(instance_id) / "notice").read_text())
    assert told == ends_at.replace(microsecond=0)
    found = user.until(instance_id, "terminated")
    assert found["StateReason"]["Code"] == "Server.SpotInstanceTermination"
    assert datetime.now(UTC) >= ends_at


def test_a_stopped_machine_can_be_started_again(user: CloudUser) -> None:
    """With shutdown behaviour `stop` the machine stops; StartInstances boots it anew, on the same disk."""
    instance_id = user.start("hang", shutdown="stop")
    user.facts(instance_id)
    user.folder.machine(instance_id).power_off.touch()
    found = user.until(instance_id, "stopped")
    assert found["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"
    eventually(lambda: state_of(user, instance_id) == "off", "off")
    user.ec2.start_instances(InstanceIds=[instance_id])
    user.facts(instance_id, starts=2)
    user.ec2.stop_instances(InstanceIds=[instance_id])
    eventually(lambda: state_of(user, instance_id) == "off", "off")
    assert user.is_in_state(instance_id, "stopped")
    user.ec2.terminate_instances(InstanceIds=[instance_id])


def test_ten_machines_run_side_by_side(user: CloudUser) -> None:
    """Ten instances at once each get an agent, facts of their own, and an end."""
    started = [user.start("finish", run=f"many-{number}") for number in range(10)]
    for number, instance_id in enumerate(started):
        user.until(instance_id, "terminated", 60)
        assert user.facts(instance_id)["tags"]["solorun:run"] == f"many-{number}"


def test_run_instances_is_idempotent_by_its_client_token(user: CloudUser) -> None:
    """A repeated RunInstances with the same token gives the same instance, and no second machine."""
    first = user.start("finish", token="the same")
    assert user.start("finish", token="the same") == first
    user.until(first, "terminated")


def test_obstore_gets_its_credentials_from_the_machines_service(user: CloudUser) -> None:
    """The agent's S3 client signs with the instance's own keys, which the endpoint takes."""
    instance_id = user.start("hang")
    endpoint = user.facts(instance_id)["environ"]["AWS_EC2_METADATA_SERVICE_ENDPOINT"]
    store = S3Store(
        "solorun-local",
        region="us-east-1",
        endpoint=user.state.endpoint_url,
        metadata_endpoint=endpoint,
        client_options={"allow_http": True},
        virtual_hosted_style_request=False,
    )
    store.put("by-obstore", b"hello")
    assert user.s3.get_object(Bucket="solorun-local", Key="by-obstore")["Body"].read() == b"hello"
    user.ec2.terminate_instances(InstanceIds=[instance_id])


def test_a_stopped_process_is_no_hiding_place(user: CloudUser) -> None:
    """An agent that is suspended (SIGSTOP) is ended like any other."""
    instance_id = user.start("hang")
    pid = user.facts(instance_id)["pid"]
    os.kill(pid, signal.SIGSTOP)
    user.ec2.terminate_instances(InstanceIds=[instance_id])
    eventually(lambda: gone(pid), "the agent is gone")


def state_of(user: CloudUser, instance_id: str) -> str | None:
    """The machine's own state."""
    return next(
        (machine.state for machine in user.control.machines() if machine.instance_id == instance_id), None
    )
