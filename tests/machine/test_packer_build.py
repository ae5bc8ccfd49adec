"""The template, built: real Packer, real Ansible over ssh, moto for EC2."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
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
from packer.release.plan import Request
from packer.release.record import Record
from tests.fakes.s3_server import S3Server
from tests.integration.release_kit import Account, Maintainer, cleaned, moto_pins
from tests.integration.test_release import allowed
from tests.machine.packer_machine import REGION, Builder, DerivedPacker, client, machine, prepare
from tests.machine.packer_template import ROOT

pytestmark = pytest.mark.skipif(
    shutil.which("packer") is None, reason="no Packer on PATH: developer.hashicorp.com/packer/install"
)
PINS = moto_pins()
ASKED = Request(PINS, REGION, REGIONS)


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
    """IAM's names of what was called outside of our own clients."""

    @property
    def output(self) -> Path:
        return self.maintainer.output(ASKED)

    @property
    def images(self) -> dict[Arch, dict[str, Any]]:
        """The images in the build's region, as EC2 describes them."""
        named = self.account.images(REGION, PINS.release)
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
def built(aws: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """A release to 22 regions, built once by real Packer and Ansible; sa-east-1 fails at first."""
    folder = tmp_path_factory.mktemp("packer")
    account = Account(aws.url)
    with machine(folder, aws.url) as target, cleaned(account, REGIONS):
        packer = DerivedPacker(prepare(folder, target))
        maintainer = Maintainer(account, folder, packer)
        account.failing.add("sa-east-1")
        with recorded(folder / "recorded") as actions:
            first = maintainer.release(ASKED)
        yield Built(maintainer, account, packer.log, first, actions)


def test_is_formatted(tmp_path: Path) -> None:
    """`packer fmt` has nothing to change in the template."""
    command = ["packer", "fmt", "-check", "-diff", str(ROOT / "packer")]
    result = subprocess.run(
        command, env=Builder(tmp_path, "", old=False).environ, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout


def test_makes_an_image_for_each_architecture(built: Built) -> None:
    """One image a processor comes out, and the manifest names both with their region."""
    manifest = json.loads((built.output / "manifest.json").read_text())
    made = {build["name"]: build["artifact_id"] for build in manifest["builds"]}
    assert made == {arch: f"{REGION}:{image['ImageId']}" for arch, image in built.images.items()}


def test_images_say_where_they_come_from(built: Built) -> None:
    """Every image carries its release, the source image and the commit as tags."""
    for arch, image in built.images.items():
        tags = {tag["Key"]: tag["Value"] for tag in image["Tags"]}
        assert tags["solorun:releasever"] == PINS.releasever
        assert tags["solorun:release"] == PINS.release
        assert tags["solorun:git-commit"] == "0123456789abcdef"
        assert tags["solorun:source-ami-name"] == PINS.source_ami_name[arch]
        assert tags["solorun:source-ami"].startswith("ami-")


def test_package_lists_are_real(built: Built) -> None:
    """The build writes down what is installed on the machine, for each processor."""
    for arch in Arch:
        lines = (built.output / f"packages-{arch}.txt").read_text().splitlines()
        assert len(lines) > 50
        assert any(line.split("\t")[:2] == ["deb", "openssh-server"] for line in lines)


def test_proves_before_it_cleans_up(built: Built) -> None:
    """The suite runs on the provisioned machine, and the last role after it."""
    order = [built.log.index(word) for word in ("Write what the build was told", "Run the suite", "Clean up")]
    assert order == sorted(order)


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
    assert list(built.first.failed) == ["sa-east-1"]
    assert set(built.first.published) == set(REGIONS) - {"sa-east-1"}
    built.account.failing.clear()
    second = built.maintainer.release(ASKED)
    assert set(second.published) == set(REGIONS)
    ids = built.account.images("sa-east-1", PINS.release)
    assert (
        built.account.parameter("sa-east-1", image_parameter(Arch.ARM64))
        == (ids[PINS.image_name(Arch.ARM64)]["ImageId"])
    )


def test_bill_of_materials_is_of_the_real_machine(built: Built) -> None:
    """The bill of materials lists every package of the machine that was built, and passes CycloneDX's schema."""
    for arch in Arch:
        text = (built.output / notes.bom_file(arch)).read_text()
        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
        lines = (built.output / notes.packages_file(arch)).read_text().splitlines()
        assert len(json.loads(text)["components"]) == len(lines)


def test_a_suite_that_fails_stops_the_build(aws: S3Server, tmp_path: Path) -> None:
    """A machine that does not pass its tests never becomes an image, and its instance is terminated."""
    suite = tmp_path / "suite"
    suite.mkdir()
    (suite / "test_refuses.py").write_text("def test_refuses(host):\n    assert host.run('false').rc == 0\n")
    region = "eu-south-2"
    with machine(tmp_path, aws.url, region) as target:
        result = prepare(tmp_path, target).build(tmp_path, region=region, suite=suite)
    assert result.returncode != 0
    assert "test_refuses" in result.stdout
    ec2 = client(aws.url, "ec2", region)
    assert (
        ec2.describe_images(Filters=[{"Name": "name", "Values": [f"solorun-{PINS.release}-*"]}])["Images"]
        == []
    )
    alive = [{"Name": "instance-state-name", "Values": ["pending", "running", "stopped"]}]
    assert ec2.describe_instances(Filters=alive)["Reservations"] == []
