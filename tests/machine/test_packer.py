"""Packer builds on a booted machine: the project's own roles over ssh, the whole suite, and the last role, for real."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.catalog import NEXTFLOW_IMAGE, Arch
from packer.release import notes
from packer.release.packages import parse
from tests.fakes.s3_server import S3Server
from tests.integration.lone_machine import eventually
from tests.integration.release_kit import moto_pins
from tests.machine import build
from tests.machine.fabric import Fabric
from tests.machine.machine import Image, Machine, booted
from tests.machine.packer_machine import Builder, client, packer_version
from tests.machine.packer_template import Machine as Target
from tests.machine.packer_template import derived

pytestmark = pytest.mark.skipif(
    shutil.which("packer") is None, reason="no Packer on PATH: developer.hashicorp.com/packer/install"
)
PINS = moto_pins()
REGION = "eu-west-3"
"""Of no other test."""
CLOUD_INIT = "#!/bin/sh\nexit 0\n"
"""In place of the one that Packer waits for on Amazon Linux."""


@pytest.fixture(scope="module")
def reachable(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The image with what every EC2 instance has and the test machine has not: sshd, sudo, ec2-user."""
    layer = tmp_path_factory.mktemp("layer")
    for part in ("upper", "work", "root"):
        (layer / part).mkdir()
    root = layer / "root"
    script = f"""set -e
        mount -t overlay overlay -o lowerdir={image.root},upperdir={layer}/upper,workdir={layer}/work {root}
        mount -t proc proc {root}/proc
        cp /etc/resolv.conf {root}/etc/resolv.conf
        export DEBIAN_FRONTEND=noninteractive
        chroot {root} apt-get update -qq
        chroot {root} apt-get install -y -qq --no-install-recommends openssh-server sudo
        chroot {root} useradd --create-home --shell /bin/bash ec2-user
        echo 'ec2-user ALL=(ALL) NOPASSWD: ALL' > {root}/etc/sudoers.d/ec2-user
    """
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-2000:]
    (layer / "upper" / "usr/bin").mkdir(parents=True, exist_ok=True)
    cloud_init = layer / "upper" / "usr/bin/cloud-init"
    cloud_init.write_text(CLOUD_INIT)
    cloud_init.chmod(0o755)
    # A machine's root may be of several layers.
    return replace(image, root=Path(f"{layer}/upper:{image.root}"))


@contextmanager
def with_ssh(image: Image, network: Fabric, folder: Path) -> Iterator[tuple[Machine, Path]]:
    """A booted machine that takes a key, and the key."""
    key = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    ssh = "~ec2-user/.ssh"
    trust = f"umask 077 && mkdir -p {ssh} && cat > {ssh}/authorized_keys && chown -R ec2-user: {ssh}"
    with booted(image, network, build.FOLDER) as machine:
        machine.wait_up()
        machine.exec("sh", "-c", trust, stdin=key.with_suffix(".pub").read_text())
        eventually("sshd runs", lambda: machine.is_active("ssh.service"))
        yield machine, key


def test_builds_an_image_of_a_booted_machine(
    reachable: Image, network: Fabric, aws: S3Server, tmp_path: Path
) -> None:
    """The roles change little on a machine that has them, the suite passes over ssh, nothing of the machine is left."""
    ec2 = client(aws.url, "ec2", REGION)
    with with_ssh(reachable, network, tmp_path) as (machine, key):
        ec2.import_key_pair(KeyName=machine.name, PublicKeyMaterial=key.with_suffix(".pub").read_bytes())
        # Packer and Ansible run where the machine can be reached; moto answers there as well.
        target = Target(machine.address, 22, key, machine.name, network.endpoint_url)
        old = packer_version() < (1, 7)
        template = tmp_path / "packer"
        template.mkdir()
        (template / "solorun.pkr.hcl").write_text(derived(target, tmp_path / "no-playbooks", old=old))
        (template / "pins.auto.pkrvars.json").write_text(PINS.text())
        builder = Builder(
            template, network.endpoint_url, old, ("nsenter", "--target", str(network.pid), "--net")
        )
        (wheels,) = build.FOLDER.glob("wheels-*")
        roles = {"run_agent_wheelhouse": str(wheels), "docker_nofile": str(build._VARIABLES["docker_nofile"])}
        done = builder.build(
            tmp_path,
            region=REGION,
            suite=build.REPOSITORY / "tests/machine/image",
            only=Arch.X86_64,
            wheel=build.wheel(tmp_path),
            nextflow_image=NEXTFLOW_IMAGE,
            roles=roles,
            looked_up=aws.url,
        )
        assert done.returncode == 0, done.stdout[-20000:] + done.stderr[-2000:]
        assert machine.exec("cat", "/etc/machine-id") == ""
        assert (
            machine.exec("sh", "-c", "ls -d /etc/ssh/ssh_host_* /home/*/.ssh/authorized_keys || true") == ""
        )
        ec2.delete_key_pair(KeyName=machine.name)
    named = [{"Name": "name", "Values": [PINS.image_name(arch) for arch in PINS.source_ami_name]}]
    (made,) = ec2.describe_images(Filters=named)["Images"]
    ec2.deregister_image(ImageId=made["ImageId"])
    packages = {package.name for package in parse((tmp_path / notes.packages_file(Arch.X86_64)).read_text())}
    assert {"docker.io", "systemd", "openssh-server"} <= packages
