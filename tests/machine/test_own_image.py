"""A machine from an image of somebody else's: cloud-init brings the agent, or the machine is off and says why."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from agent.contract import BOOT_REPORT, RunPointer, RunState, StopReason, program_key
from bundle.packages import own_arch
from launcher.bringing import Bringing
from launcher.catalog import NEXTFLOW_IMAGE
from launcher.user_data import script
from tests.fakes.s3_server import REGION, S3Server
from tests.integration.lone_machine import LOG_GROUP, LoneRun, eventually, submit
from tests.machine import build, leftovers, stranger
from tests.machine.fabric import Fabric
from tests.machine.image import test_agent as suite
from tests.machine.machine import Image, Machine, booted
from tests.machine.nsenter import inside
from tests.machine.test_doctor import content

# Together, as each would wait for the first to have made all that they need; and that takes its time.
pytestmark = [pytest.mark.xdist_group("own image"), pytest.mark.timeout(900)]

OURS = ("/opt/solorun", "/etc/solorun/dead-man.conf", "/usr/libexec/solorun", "/scratch")


@pytest.fixture(scope="module")
def brought(aws: S3Server) -> Bringing:
    """Agent and Nextflow's container image, in the work bucket."""
    leftovers.clear()
    return stranger.bring(aws)


@pytest.fixture
def machines() -> Iterator[ExitStack]:
    """Machines that are started in it are gone afterwards."""
    with ExitStack() as stack:
        yield stack


def start(machines: ExitStack, network: Fabric, user_data: str) -> Machine:
    """A machine of that image; its Docker has nothing."""
    image = Image(stranger.root(), None)
    for path in OURS:
        assert not (image.root / path.lstrip("/")).exists()
    return machines.enter_context(
        booted(
            image,
            network,
            build.FOLDER,
            user_data=user_data.encode(),
            limits=None,
            files=stranger.CLOUD_INIT,
            empty_docker=True,
        )
    )


def user_data(run: LoneRun, network: Fabric, brought: Bringing, *, limit_s: int = 60) -> str:
    """What the launcher would give to the machine of a run; with the links that lead to S3 from there."""
    pointer = RunPointer(run_id=run.spec.run_id, prefix=run.prefix, region=REGION, log_group=LOG_GROUP)
    store = stranger.store_at(network.endpoint_url, run.aws)
    links = brought.links(store, run.spec.work_dir, run.spec.run_id)
    return script(pointer, own_arch(), brought.agent.sha256, links, limit_s=limit_s)


def test_a_run_on_a_machine_image_of_ones_own(
    aws: S3Server, network: Fabric, machines: ExitStack, brought: Bringing
) -> None:
    """Boot, cloud-init, agent, container image from the bucket, a run with its results in S3, off; Python its own."""
    assert brought.container_image is not None
    run = submit(
        aws,
        "sleepy",
        params={"seconds": 60},
        container_archive_sha256=brought.container_image.sha256,
        workload={"config": f"process.container = '{NEXTFLOW_IMAGE}'"},
    )
    text = user_data(run, network, brought)
    machine = start(machines, network, text)
    eventually(
        "the run runs", lambda: machine.is_off or run.status().state is not RunState.SUBMITTED, within=150
    )
    assert not machine.is_off, machine.console[-3000:]

    # the same units as on our own image, in the same state
    assert machine.is_active("machine-limit.timer")
    assert machine.is_active("machine-limit-force.timer")
    for timer in ("machine-cap.timer", "bring-limit.timer", "bring-limit-force.timer"):
        assert not machine.is_active(timer), timer
    host = inside(machine)
    suite.test_it_starts_at_boot_as_soon_as_it_can(host)
    suite.test_giving_up_ends_the_machine(host)
    suite.test_the_caps_are_armed_at_boot(host)
    suite.test_every_shutdown_has_a_limit(host)
    suite.test_the_agent_is_fenced_off(host)
    findings = content(machine)
    assert findings["dead-man-armed"]["found"] == "with the limit of the run"
    for name in suite.UNITS:
        if name != "scratch.service":
            suite.test_systemd_takes_the_unit_as_it_is(host, name)

    # nothing of the system's Python, and nothing that the agent starts gets any of ours
    pid = machine.unit("run-agent.service", "MainPID")
    assert machine.exec("readlink", f"/proc/{pid}/exe").strip() == "/opt/solorun/python/bin/python3.12"
    assert "/usr/lib/python3" not in machine.exec("cat", f"/proc/{pid}/maps")
    assert "LD_LIBRARY_PATH" not in machine.exec("cat", f"/proc/{pid}/environ")
    # a second time, and on a machine that has its agent: it is left alone
    again = machine.exec("sh", "-s", stdin=text)
    assert "has its agent already" in again
    assert machine.unit("run-agent.service", "MainPID") == pid

    machine.wait_off(within=180)
    status = run.status()
    assert status.stop_reason is StopReason.COMPLETED, status.message
    assert {"logs/workload.log", "logs/agent.log", "logs/trace.txt"} <= run.names()
    assert BOOT_REPORT not in run.names()


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        ("missing", "could not be fetched from the work bucket"),
        ("altered", "has another checksum"),
    ],
)
def test_an_agent_that_cannot_be_brought_ends_the_machine(
    aws: S3Server, network: Fabric, machines: ExitStack, brought: Bringing, trouble: str, said: str
) -> None:
    """The bundle is gone from S3, or not what was sent: off at once, the reason on the console and in S3."""
    run = submit(aws, "hello", work_dir=f"s3://{aws.bucket}/{trouble}")
    if trouble == "altered":
        key = program_key(run.spec.work_dir, brought.agent.sha256)
        aws.client.put_object(Bucket=aws.bucket, Key=key, Body=b"something else")
    machine = start(machines, network, user_data(run, network, brought))
    machine.wait_off(within=150)
    assert said in machine.console
    assert said in run.body(BOOT_REPORT).decode()
    assert run.status().state is RunState.SUBMITTED


def test_a_download_that_never_ends_meets_the_limit(
    aws: S3Server, network: Fabric, machines: ExitStack, brought: Bringing
) -> None:
    """S3 does not answer at all: the timer that was armed first turns the machine off."""
    run = submit(aws, "hello")
    machine = start(machines, network, user_data(run, network, brought, limit_s=8))
    machine.cut(aws=True)
    machine.wait_off(within=150)
    assert "was not brought in time" in machine.console
