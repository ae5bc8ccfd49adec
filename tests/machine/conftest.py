"""What machine tests share: the image, the network, AWS, and machines of which nothing is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import pytest

from agent.contract import RunPointer
from tests.fakes.s3_server import REGION, S3Server, s3_server
from tests.integration.lone_machine import LOG_GROUP, LoneRun
from tests.machine import build, leftovers
from tests.machine.fabric import Fabric, fabric
from tests.machine.machine import Image, Limits, Machine, booted

Boot = Callable[..., Machine]
_SHORT = Limits()


@pytest.fixture(scope="session", autouse=True)
def nobodys_aws_settings() -> Iterator[None]:
    """The person's own AWS configuration is of no account here."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"):
            patch.delenv(name, raising=False)
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            patch.setenv(name, "/nonexistent")
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share much, and so stay together, take longest: where several run at a time, they come first."""
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(600))  # several machines boot and run beside each other


@pytest.fixture(scope="session")
def image() -> Image:
    """The image, built by the roles; what an earlier test run left is removed first."""
    leftovers.clear()
    return build.image()


@pytest.fixture(scope="session")
def network() -> Iterator[Fabric]:
    """The network of all machines."""
    with fabric() as made:
        yield made


@pytest.fixture(scope="session")
def aws() -> Iterator[S3Server]:
    """moto, as this process sees it; machines see the same one."""
    with s3_server() as server:
        yield server


@pytest.fixture
def boot(image: Image, network: Fabric) -> Iterator[Boot]:
    """Boots a machine for a run, or for none; it is gone when the test is over."""
    with ExitStack() as stack:

        def start(run: LoneRun | None = None, *, limits: Limits | None = _SHORT, **options: Any) -> Machine:
            if run is not None:
                options.setdefault("user_data", pointer_of(run))
            machine: AbstractContextManager[Machine] = booted(
                image, network, build.FOLDER, limits=limits, **options
            )
            return stack.enter_context(machine)

        yield start


def pointer_of(run: LoneRun) -> bytes:
    """The user data of the machine of a run."""
    pointer = RunPointer(run_id=run.spec.run_id, prefix=run.prefix, region=REGION, log_group=LOG_GROUP)
    return pointer.model_dump_json().encode()
