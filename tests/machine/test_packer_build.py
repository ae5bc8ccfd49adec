"""The template, built and released: real Packer, real Ansible over ssh, booted machines, moto for EC2.

One build of both processors' images takes three minutes, so its tests look at one. On the machines are the project's
own roles, run once more by Packer, the whole suite, and the last role.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from moto.moto_api import recorder

from launcher.catalog import REGIONS, Arch, image_parameter
from packer.release import notes
from packer.release.packages import parse
from packer.release.plan import Request
from packer.release.record import Record
from tests.fakes.s3_server import S3Server
from tests.integration.release_kit import Account, Maintainer, cleaned, moto_pins
from tests.integration.test_release import allowed
from tests.machine.build import FOLDER, TASKS_IMAGE
from tests.machine.fabric import Fabric
from tests.machine.machine import Image, Machine, booted
from tests.machine.packer_machine import (
    BUILD_S,
    REGION,
    DerivedPacker,
    PackerOnPath,
    client,
    packer_on_path,
    prepared,
    trusted,
)
from tests.machine.packer_template import ROOT, Target, user_data
from tests.machine.persons_home import PersonsHome, guarded
from tests.machine.reachable import key_pair, reachable, with_ssh

# One worker, where tests run at the same time: else each would build for itself.
pytestmark = [pytest.mark.xdist_group("packer"), pytest.mark.timeout(BUILD_S + 60)]
PINS = moto_pins()
ASKED = Request(PINS, REGION, REGIONS)
ELSEWHERE = "eu-central-1"
FAILING = "sa-east-1"
STAND_INS = Path(__file__).with_name("packer_target")


@dataclass(frozen=True)
class Built:
    """What a release by Packer left, with a region that failed at first."""

    maintainer: Maintainer
    account: Account
    log: str
    """What Packer said."""
    first: Record
    """Where the release stood when one region had failed."""
    packers_calls: set[str]
    """IAM's names of what was called, by Packer too."""
    home: PersonsHome
    packer: PackerOnPath
    machines: Mapping[Arch, Machine]
    """As the build left them."""

    @property
    def output(self) -> Path:
        return self.maintainer.output(ASKED)

    def images(self, region: str) -> dict[Arch, dict[str, Any]]:
        """The images in a region, as EC2 describes them."""
        named = self.account.images(region, PINS.release)
        return {arch: named[PINS.image_name(arch)] for arch in Arch}


@contextmanager
def recorded(path: Path) -> Iterator[set[str]]:
    """The actions that moto was asked for, whoever asked."""
    actions: set[str] = set()
    before, recorder._location = recorder._location, str(path)
    recorder.start_recording()
    try:
        yield actions
    finally:
        recorder.stop_recording()
        recorder._location = before
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            asked = parse_qs(base64.b64decode(entry["body"] or "").decode()) if entry["body_encoded"] else {}
            actions |= {f"ec2:{action}" for action in asked.get("Action", [])}


@pytest.fixture(scope="module")
def with_sshd(image: Image) -> Image:
    """What the machines are started from."""
    packer_on_path()
    return reachable(image)


@pytest.fixture(scope="module")
def built(
    with_sshd: Image, network: Fabric, aws: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Built]:
    """A release to 22 regions of what Packer and Ansible made of two machines; one region fails at first."""
    folder = tmp_path_factory.mktemp("packer")
    account, key = Account(aws.url), key_pair(folder)
    with ExitStack() as stack:
        enter = stack.enter_context
        enter(cleaned(account, REGIONS))
        machines = {arch: enter(with_ssh(with_sshd, network, key)) for arch in Arch}
        for machine in machines.values():
            machine.exec("sh", stdin=user_data())  # as cloud-init does
        hosts = {arch: machine.address for arch, machine in machines.items()}
        target = Target(hosts, key, enter(trusted(key, aws.url, REGION)), network.endpoint_url)
        home = enter(guarded(folder, ROOT))
        packer = DerivedPacker(enter(prepared(target, network, aws.url, persons_home=home)))
        maintainer = Maintainer(account, folder, packer)
        account.failing.add(FAILING)
        with recorded(folder / "recorded") as actions:
            first = maintainer.release(ASKED)
        yield Built(maintainer, account, packer.log, first, actions, home, packer.packer, machines)


def test_makes_an_image_for_each_architecture(built: Built) -> None:
    """One image a processor comes out, and the manifest names both with their region."""
    manifest = json.loads((built.output / "manifest.json").read_text())
    made = {build["name"]: build["artifact_id"] for build in manifest["builds"]}
    assert made == {arch: f"{REGION}:{image['ImageId']}" for arch, image in built.images(REGION).items()}


@pytest.mark.parametrize("region", [REGION, ELSEWHERE])
def test_images_say_where_they_come_from(built: Built, region: str) -> None:
    """Where they were built as where they were copied to: the release, the source image and the commit are tags."""
    for arch, image in built.images(region).items():
        tags = {tag["Key"]: tag["Value"] for tag in image["Tags"]}
        assert tags["solorun:releasever"] == PINS.releasever
        assert tags["solorun:release"] == PINS.release
        assert tags["solorun:git-commit"] == "0123456789abcdef"
        assert tags["solorun:source-ami-name"] == PINS.source_ami_name[arch]
        assert tags["solorun:source-ami"].startswith("ami-")


def test_package_lists_are_real(built: Built) -> None:
    """The build writes down what is installed on the machine, for each processor."""
    for arch in Arch:
        packages = parse((built.output / notes.packages_file(arch)).read_text())
        assert {"docker.io", "systemd", "openssh-server"} <= {package.name for package in packages}


def test_proves_before_it_seals(built: Built) -> None:
    """For each processor the suite runs on the machine with the roles on it, and the last role after it."""
    for arch in Arch:
        said = [line for line in built.log.splitlines() if f".{arch}: " in line]
        plays = ("PLAY [Machine image]", "TASK [Run the suite over ssh]", "PLAY [Seal the machine]")
        order = [next(at for at, line in enumerate(said) if play in line) for play in plays]
        assert order == sorted(order)


def test_the_roles_get_what_was_asked_for(built: Built) -> None:
    """Images of Studio templates arrive as a list, and what is said to be false is false."""
    assert f"(item={TASKS_IMAGE})" in built.log
    for machine in built.machines.values():
        assert "nvidia" not in machine.exec("cat", "/etc/docker/daemon.json")


def test_nothing_of_the_machine_is_in_the_image(built: Built) -> None:
    """What the image is made of has no machine id, no host key, and nobody whom it trusts."""
    for machine in built.machines.values():
        assert machine.exec("cat", "/etc/machine-id") == ""
        personal = "ls -d /etc/ssh/ssh_host_* /home/*/.ssh/authorized_keys || true"
        assert machine.exec("sh", "-c", personal) == ""


def test_a_building_machine_carries_its_end_in_memory_only(built: Built, aws: S3Server) -> None:
    """Every machine is given its own end in its user data; it waits until the build is over, on no disk."""
    ec2 = client(aws.url, "ec2")
    tagged = [{"Name": "tag:solorun:release", "Values": [PINS.release]}]
    given = [
        ec2.describe_instance_attribute(InstanceId=machine["InstanceId"], Attribute="userData")
        for reservation in ec2.describe_instances(Filters=tagged)["Reservations"]
        for machine in reservation["Instances"]
    ]
    assert [base64.b64decode(item["UserData"]["Value"]).decode() for item in given] == [user_data()] * 2
    for machine in built.machines.values():
        assert machine.is_active("building-cap.timer")
        assert machine.exec("find", "/", "-ignore_readdir_race", "-xdev", "-name", "building-cap*") == ""


def test_a_forgotten_building_machine_ends_itself(with_sshd: Image, network: Fabric) -> None:
    """When the time in its user data is over the machine is off, whatever runs on it."""
    assert "--on-active=3h" in user_data()
    with booted(with_sshd, network, FOLDER) as machine:
        machine.wait_up()
        # To the moment: systemd may otherwise let a timer wait for up to a minute more.
        soon = user_data().replace("--on-active=3h", "--on-active=2s --timer-property=AccuracySec=100ms")
        machine.run("sh", stdin=soon.encode())
        machine.wait_off(within=120)


def test_leaves_the_persons_own_things_alone(built: Built) -> None:
    """A build reads nobody's ssh settings, asks no ssh agent, writes nothing to the home; host keys are its own."""
    assert built.home.written == []
    assert built.home.asked == []
    # Packer asks for Ansible's version, and Ansible makes its folders.
    assert [path for path in built.packer.home.rglob("*") if not path.is_dir()] == []
    for arch in Arch:
        assert f"UserKnownHostsFile={built.packer.ssh_folder}/{arch}/known_hosts" in built.log


@pytest.mark.usefixtures("built")
def test_leaves_nothing_behind(aws: S3Server) -> None:
    """No machine, key pair or security group of the builds is left."""
    ec2 = client(aws.url, "ec2")
    alive = [{"Name": "instance-state-name", "Values": ["pending", "running", "stopped"]}]
    tagged = [{"Name": "tag:solorun:release", "Values": [PINS.release]}]
    assert ec2.describe_instances(Filters=alive + tagged)["Reservations"] == []
    assert not [
        group for group in ec2.describe_security_groups()["SecurityGroups"] if "packer" in group["GroupName"]
    ]


def test_packer_needs_no_more_than_the_documented_rights(built: Built) -> None:
    """All that Packer calls in a build is in the policy of the docs."""
    assert "ec2:RunInstances" in built.packers_calls
    assert built.packers_calls - allowed() == set()


def test_what_packer_built_is_released(built: Built) -> None:
    """With one region out of 22 failing, the others get what Packer built; a second run makes up for it, unbuilt."""
    assert list(built.first.failed) == [FAILING]
    assert set(built.first.published) == set(REGIONS) - {FAILING}
    built.account.failing.clear()
    second = built.maintainer.release(ASKED)
    assert set(second.published) == set(REGIONS)
    assert built.images(FAILING)[Arch.ARM64]["ImageId"] == built.account.parameter(
        FAILING, image_parameter(Arch.ARM64)
    )


def test_bill_of_materials_is_of_the_real_machine(built: Built) -> None:
    """The bill of materials lists every package of the machine that was built, and passes CycloneDX's schema."""
    for arch in Arch:
        text = (built.output / notes.bom_file(arch)).read_text()
        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
        lines = (built.output / notes.packages_file(arch)).read_text().splitlines()
        assert len(json.loads(text)["components"]) == len(lines)


def test_a_suite_that_fails_stops_the_build(
    with_sshd: Image, network: Fabric, aws: S3Server, tmp_path: Path
) -> None:
    """A machine that does not pass its tests never becomes an image, and its instance is terminated."""
    suite = tmp_path / "suite"
    suite.mkdir()
    (suite / "test_refuses.py").write_text("def test_refuses(host):\n    assert host.run('false').rc == 0\n")
    region, key = "eu-south-2", key_pair(tmp_path)
    with with_ssh(with_sshd, network, key) as machine, trusted(key, aws.url, region) as name:
        target = Target(dict.fromkeys(Arch, machine.address), key, name, network.endpoint_url)
        with prepared(target, network, aws.url, STAND_INS) as packer:
            variables = packer.variables(tmp_path, region, suite)
            result = packer.run("build", variables, "-color=false", f"-only=*amazon-ebs.{Arch.X86_64}")
    assert result.returncode != 0
    assert "test_refuses" in result.stdout
    ec2 = client(aws.url, "ec2", region)
    made = [{"Name": "name", "Values": [f"solorun-{PINS.release}-*"]}]
    assert ec2.describe_images(Filters=made)["Images"] == []
    alive = [{"Name": "instance-state-name", "Values": ["pending", "running", "stopped"]}]
    assert ec2.describe_instances(Filters=alive)["Reservations"] == []
