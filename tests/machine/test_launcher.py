"""From `launcher run` to a booted machine that is gone: the third place where a run can live."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from agent.contract import RunState, StopReason
from launcher.catalog import NEXTFLOW_IMAGE
from launcher.errors import ExitCode
from tests.integration.lone_machine import eventually
from tests.integration.spine import PIPELINES, ROOT
from tests.integration.variants import by_sample
from tests.machine.cloud.operator import Operator, operator
from tests.machine.fabric import METADATA
from tests.machine.machine import Image

ONE_CLOUD = pytest.mark.xdist_group("one cloud")
OTHER_CLOUD = pytest.mark.xdist_group("another cloud")
"""Side by side where tests are: each of these takes minutes."""


@pytest.fixture(scope="module")
def ada(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """Somebody with a cloud of booted machines."""
    with operator(image, tmp_path_factory.mktemp("cloud")) as somebody:
        yield somebody


@ONE_CLOUD
def test_the_demo_from_launcher_run_to_a_machine_that_is_gone(ada: Operator) -> None:
    """RunInstances boots a machine; it finds the planted variants by itself, powers off, and is terminated in EC2."""
    said = ada.launcher("run", str(ROOT / "examples/lambda-variants"), "-n", "demo", "--follow", within=500)
    assert said.code == ExitCode.OK, said
    assert "Submitted process > REPORT" in said.out
    status = ada.status("demo")
    assert status.state is RunState.SUCCEEDED
    assert status.stop_reason is StopReason.COMPLETED
    assert ada.launcher("runs", "download", "demo", "--to", "results").code == ExitCode.OK
    samples = by_sample(next((ada.folder / "results").rglob("truth")).parent)
    assert len(samples) == 3
    assert all(min(one.recall, one.precision) >= 0.95 for one in samples.values()), samples
    ada.assert_terminated(status.instance_id)
    assert ada.instance(status.instance_id)["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"


@ONE_CLOUD
def test_cancel_stops_a_machine_in_order(ada: Operator) -> None:
    """`runs cancel` while a task runs: the agent stops it, keeps its log, and turns the machine off."""
    run = ada.start("sleepy", "--param", "seconds=3600")
    eventually("the task runs", lambda: ada.status(run).tasks.running == 1, within=180, every=0.5)
    assert ada.launcher("runs", "cancel", run).code == ExitCode.OK
    status = ada.until(run, RunState.CANCELLED)
    assert status.stop_reason is StopReason.CANCELLED
    assert "Submitted process > SLEEP" in ada.launcher("runs", "logs", run).out
    ada.assert_terminated(status.instance_id)


@OTHER_CLOUD
def test_after_power_loss_a_relaunch_goes_on(ada: Operator) -> None:
    """The launcher says that the machine is lost; `runs relaunch` takes up the finished tasks on another one."""
    run = ada.start("resumed", "--resumable")
    eventually(
        "two tasks have ended, and one of them at least is in S3",
        lambda: ada.status(run).tasks.succeeded >= 2 and ada.can_be_resumed(run),
        within=180,
        every=0.3,
    )
    lost = ada.status(run).instance_id
    ada.cut_power(lost)
    ada.assert_terminated(lost)
    eventually(
        "the launcher says that the machine is lost",
        lambda: ada.says("runs", "view", run)["state"] == RunState.UNKNOWN,
        within=150,
        every=1,
    )
    assert ada.says("runs", "view", run)["stop_reason"] == StopReason.MACHINE_LOST
    again = str(ada.says("runs", "relaunch", run)["run_id"])
    resumed = ada.until(again, RunState.SUCCEEDED)
    assert resumed.tasks.cached >= 1
    assert resumed.instance_id != lost
    ada.assert_terminated(resumed.instance_id)


@OTHER_CLOUD
def test_three_launches_at_once_do_not_disturb_each_other(ada: Operator) -> None:
    """Three `launcher run` side by side: three machines, each with its own run's results, and none is left."""

    def launch(number: int) -> int:
        name = f"beside-{number}"
        words = (
            "run",
            str(PIPELINES / "hello"),
            "-n",
            name,
            "--param",
            f"outdir=results-{number}",
            "--follow",
        )
        return ada.launcher(*words, within=500).code

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(launch, range(3))) == [ExitCode.OK] * 3
    statuses = [ada.status(f"beside-{number}") for number in range(3)]
    assert len({status.instance_id for status in statuses}) == 3
    assert [status.artifacts and status.artifacts.files for status in statuses] == [3, 3, 3]
    ada.assert_terminated(*(status.instance_id for status in statuses))


@ONE_CLOUD
def test_a_spot_notice_ends_a_run_in_order(ada: Operator) -> None:
    """The agent sees EC2's notice on its machine, stops the run, saves what is done, and says why."""
    run = ada.start("sleepy", "--param", "seconds=3600", "--spot")
    ada.until(run, RunState.RUNNING)
    assert ada.launcher("local", "spot-interrupt", run, "--in", "60").code == ExitCode.OK
    status = ada.until(run, RunState.FAILED)
    assert status.stop_reason is StopReason.SPOT_INTERRUPTED
    ada.assert_terminated(status.instance_id)


@OTHER_CLOUD
def test_a_machine_of_somebody_else_is_what_ec2_says_of_it(ada: Operator) -> None:
    """Its metadata are the instance's record; only it turns itself off, and is stopped then, as it asked for."""
    asked = {"Key": "team", "Value": "genomes"}
    instance_id = ada.ec2.run_instances(
        ImageId=ada.machine_image(),
        MinCount=1,
        MaxCount=1,
        UserData="#!/bin/sh\n",
        InstanceType="m5d.large",
        InstanceInitiatedShutdownBehavior="stop",
        MetadataOptions={"InstanceMetadataTags": "enabled", "HttpPutResponseHopLimit": 1},
        TagSpecifications=[{"ResourceType": "instance", "Tags": [asked]}],
    )["Instances"][0]["InstanceId"]
    eventually("it is left alone", lambda: "left alone" in ada.console_of(instance_id))

    metadata = f"http://{METADATA}/latest"
    ask = f"curl -s -m 10 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' {metadata}/api/token"
    get = f'curl -s -m 10 -H "X-aws-ec2-metadata-token: $T" {metadata}/meta-data'
    look = f"T=$({ask}); for k in instance-id ami-id tags/instance/team; do {get}/$k; echo; done"
    assert ada.within(instance_id, look).split() == [instance_id, ada.machine_image(), "genomes"]
    assert ada.within(instance_id, f"docker run --rm {NEXTFLOW_IMAGE} {ask} || echo none").split() == ["none"]

    ada.within(instance_id, "systemctl poweroff --no-block")
    eventually("it is stopped", lambda: ada.instance(instance_id)["State"]["Name"] == "stopped")
    ada.ec2.terminate_instances(InstanceIds=[instance_id])
    ada.assert_terminated(instance_id)
