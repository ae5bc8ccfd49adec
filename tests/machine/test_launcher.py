"""From `launcher run` to a booted machine that is gone: the third place where a run can live."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from agent.contract import RunState, StopReason
from launcher.errors import ExitCode
from launcher.localcloud.metadata_values import Credentials
from launcher.localcloud.provision import Clients
from launcher.localcloud.state import current, default_folder
from tests.integration.lone_machine import eventually
from tests.integration.spine import ROOT, Person
from tests.integration.variants import by_sample
from tests.machine.cloud.operator import operator
from tests.machine.machine import Image


@pytest.fixture(scope="module")
def ada(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """Somebody with a cloud of booted machines."""
    del image  # made before the cloud needs it
    with operator(tmp_path_factory.mktemp("cloud")) as somebody:
        yield somebody


def ec2_of(somebody: Person) -> Any:
    """EC2, past the launcher."""
    state = current(default_folder(somebody.environment))
    assert state is not None
    return Clients(state.endpoint_url, Credentials(state.access_key, state.secret_key, "")).client("ec2")


def instance(somebody: Person, instance_id: str | None) -> dict[str, Any]:
    """What EC2 says of an instance."""
    answer = ec2_of(somebody).describe_instances(InstanceIds=[instance_id])
    found: dict[str, Any] = answer["Reservations"][0]["Instances"][0]
    return found


def assert_gone(somebody: Person, *instance_ids: str | None) -> None:
    """EC2 says terminated, and nothing of the machines is left on this computer."""
    for instance_id in instance_ids:
        eventually(
            f"{instance_id} is terminated",
            lambda one=instance_id: instance(somebody, one)["State"]["Name"] == "terminated",
        )
    eventually("no machine is noted down", lambda: not somebody.machines(), within=30)


def test_the_demo_from_launcher_run_to_a_machine_that_is_gone(ada: Person) -> None:
    """RunInstances boots a machine; it finds the planted variants by itself, powers off, and is terminated in EC2."""
    said = ada.launcher("run", str(ROOT / "examples/lambda-variants"), "-n", "demo", "--follow", within=280)
    assert said.code == ExitCode.OK, said
    assert "Submitted process > REPORT" in said.out
    status = ada.status("demo")
    assert status.state is RunState.SUCCEEDED
    assert status.stop_reason is StopReason.COMPLETED
    assert ada.launcher("runs", "download", "demo", "--to", "results").code == ExitCode.OK
    samples = by_sample(next((ada.folder / "results").rglob("truth")).parent)
    assert len(samples) == 3
    assert all(min(one.recall, one.precision) >= 0.95 for one in samples.values()), samples
    assert_gone(ada, status.instance_id)
    found = instance(ada, status.instance_id)
    assert found["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"
