"""The template, built: real Packer, real Ansible over ssh, moto for EC2."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from launcher.catalog import Arch
from tests.fakes.s3_server import S3Server
from tests.integration.packer_machine import REGION, Builder, client, machine, prepare
from tests.integration.packer_template import ROOT
from tests.integration.release_kit import moto_pins

PINS = moto_pins()
RELEASE = PINS.release


@dataclass(frozen=True)
class Built:
    """What one `packer build` left."""

    output: Path
    log: str
    images: dict[str, dict[str, Any]]
    """By processor, as EC2 describes them."""


@pytest.fixture(scope="module")
def built(aws: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """Both architectures, built once."""
    folder = tmp_path_factory.mktemp("packer")
    output = folder / "output"
    output.mkdir()
    with machine(folder, aws.url) as target:
        result = prepare(folder, target).build(output)
        assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
        ec2 = client(aws.url, "ec2")
        names = {arch: f"solorun-{RELEASE}-{arch}" for arch in ("x86_64", "arm64")}
        images = {
            arch: ec2.describe_images(Filters=[{"Name": "name", "Values": [name]}])["Images"][0]
            for arch, name in names.items()
        }
        yield Built(output, result.stdout, images)
        for image in images.values():
            ec2.deregister_image(ImageId=image["ImageId"])


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
        assert tags["solorun:release"] == RELEASE
        assert tags["solorun:git-commit"] == "0123456789abcdef"
        assert tags["solorun:source-ami-name"] == PINS.source_ami_name[Arch(arch)]
        assert tags["solorun:source-ami"].startswith("ami-")


def test_package_lists_are_real(built: Built) -> None:
    """The build writes down what is installed on the machine, for each processor."""
    for arch in ("x86_64", "arm64"):
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
    tagged = [{"Name": "tag:solorun:release", "Values": [RELEASE]}]
    assert ec2.describe_instances(Filters=alive + tagged)["Reservations"] == []
    assert not [
        group for group in ec2.describe_security_groups()["SecurityGroups"] if "packer" in group["GroupName"]
    ]


def test_a_suite_that_fails_stops_the_build(aws: S3Server, tmp_path: Path) -> None:
    """A machine that does not pass its tests never becomes an image, and its instance is terminated."""
    suite = tmp_path / "suite"
    suite.mkdir()
    (suite / "test_refuses.py").write_text("def test_refuses(host):\n    assert host.run('false').rc == 0\n")
    region = "eu-north-1"
    with machine(tmp_path, aws.url, region) as target:
        result = prepare(tmp_path, target).build(tmp_path, region=region, suite=suite)
    assert result.returncode != 0
    assert "test_refuses" in result.stdout
    ec2 = client(aws.url, "ec2", region)
    assert ec2.describe_images(Filters=[{"Name": "name", "Values": [f"solorun-{RELEASE}-*"]}])["Images"] == []
    alive = [{"Name": "instance-state-name", "Values": ["pending", "running", "stopped"]}]
    assert ec2.describe_instances(Filters=alive)["Reservations"] == []
