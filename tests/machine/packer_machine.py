"""A container with sshd that Packer and Ansible work on, and moto with a key pair that the container trusts."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import boto3

from launcher.catalog import Arch
from packer.release.building import BuildRequest
from tests.integration.localcloud_tools import eventually
from tests.integration.release_kit import moto_pins
from tests.machine.packer_template import ROOT, Machine, derived

REGION: Final = "us-east-1"
IMAGE: Final = "solorun/packer-target:test"
TARGET: Final = Path(__file__).parent / "packer_target"


def packer_version() -> tuple[int, ...]:
    """The version of the Packer on PATH."""
    said = subprocess.run(["packer", "version"], capture_output=True, text=True, check=True).stdout
    return tuple(int(part) for part in said.split()[1].removeprefix("v").split("."))


def client(url: str, service: str, region: str = REGION) -> Any:
    """A client of moto."""
    return boto3.client(  # type: ignore[call-overload]  # any service
        service,
        region_name=region,
        endpoint_url=url,
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="made-up",
    )


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


@contextmanager
def machine(folder: Path, url: str, region: str = REGION) -> Iterator[Machine]:
    """Start the container; its ssh is on a port of 127.0.0.1 that Docker picks."""
    key = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    public, name = key.with_suffix(".pub").read_text(), f"packer-test-{uuid.uuid4().hex[:12]}"
    client(url, "ec2", region).import_key_pair(KeyName=name, PublicKeyMaterial=public.encode())
    subprocess.run(
        ["docker", "build", "--quiet", "--tag", IMAGE, str(TARGET)], check=True, capture_output=True
    )
    run = [
        "docker",
        "run",
        "--detach",
        "--rm",
        "--publish",
        "127.0.0.1::22",
        "--env",
        f"AUTHORIZED_KEY={public}",
    ]
    container = subprocess.run([*run, IMAGE], check=True, capture_output=True, text=True).stdout.strip()
    try:
        ports = subprocess.run(
            ["docker", "port", container, "22"], check=True, capture_output=True, text=True
        )
        port = int(ports.stdout.split()[0].rpartition(":")[2])
        eventually(lambda: _answers(port), "an answer of the target's sshd", 60)
        yield Machine("127.0.0.1", port, key, name, url)
    finally:
        subprocess.run(["docker", "rm", "--force", container], check=False, capture_output=True)
        client(url, "ec2", region).delete_key_pair(KeyName=name)


@dataclass(frozen=True)
class Builder:
    """Packer in a folder of its own, with the derived template in it."""

    folder: Path
    aws: str
    old: bool
    prefix: tuple[str, ...] = ()
    """What Packer is started by, where it must run in another network."""

    @property
    def environ(self) -> dict[str, str]:
        """What Packer gets: moto for AWS, and nothing of the person who runs the tests."""
        return {
            "HOME": os.environ["HOME"],
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "LC_ALL": "C.UTF-8",
            "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "made-up",
            "AWS_ENDPOINT_URL": self.aws,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/nonexistent",
            "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
            "CHECKPOINT_DISABLE": "1",
            "ANSIBLE_NOCOLOR": "1",
            # Few connections, none of which outlives the build; patience for a busy machine.
            "ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=5s",
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_TIMEOUT": "60",
            "ANSIBLE_SSH_RETRIES": "3",
        }

    def build(
        self,
        output: Path,
        *,
        region: str = REGION,
        suite: Path = TARGET / "suite",
        git_commit: str = "unknown",
        only: Arch | None = None,
        wheel: Path = Path("build/solorun-0.1.0-py3-none-any.whl"),
        nextflow_image: str = "",
        roles: Mapping[str, str] | None = None,
        looked_up: str = "",
    ) -> subprocess.CompletedProcess[str]:
        """Run `packer build`; both architectures one after the other, as they share the target.

        `looked_up`: where moto listens for this process, if not where it does for Packer.
        """
        variables = {
            "region": region,
            "output": str(output),
            "suite": str(suite),
            "ansible_playbook": str(Path(sys.executable).with_name("ansible-playbook")),
            "wheel": str(wheel),
            "git_commit": git_commit,
            "ssh_cidrs": '["192.0.2.0/24"]',
            "nextflow_image": nextflow_image,
            "role_variables": "{" + ",".join(f'{k}="{v}"' for k, v in (roles or {}).items()) + "}",
        }
        if self.old:
            variables["source_ami"] = self._source_ami(region, looked_up or self.aws)
        else:
            init = ["packer", "init", str(self.folder)]
            subprocess.run(init, cwd=ROOT, env=self.environ, capture_output=True, check=True)
        options = [option for name, value in variables.items() for option in ("-var", f"{name}={value}")]
        if only:
            options.append(f"-only=*amazon-ebs.{only}")
        return subprocess.run(
            [*self.prefix, "packer", "build", "-color=false", "-parallel-builds=1", *options, str(self.folder)],
            cwd=ROOT, env=self.environ, capture_output=True, text=True, check=False, timeout=280,
        )  # fmt: skip

    def _source_ami(self, region: str, url: str) -> str:
        """In HCL, the ids of the pinned source images: 1.6.6 has no data sources to look them up."""
        names = json.loads((self.folder / "pins.auto.pkrvars.json").read_text())["source_ami_name"]
        ec2 = client(url, "ec2", region)
        images = {
            arch: ec2.describe_images(Filters=[{"Name": "name", "Values": [name]}])["Images"][0]["ImageId"]
            for arch, name in names.items()
        }
        return "{" + ",".join(f'{arch}="{image}"' for arch, image in images.items()) + "}"


@dataclass
class DerivedPacker:
    """What a release asks to build, done by the Packer on PATH with the derived template."""

    builder: Builder
    log: str = ""
    """What Packer said."""

    def version(self) -> str:
        return f"packer {'.'.join(map(str, packer_version()))}"

    def build(self, request: BuildRequest, archs: Collection[Arch]) -> None:
        assert set(archs) == set(Arch)
        done = self.builder.build(request.output, region=request.region, git_commit=request.git_commit)
        self.log = done.stdout
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def prepare(folder: Path, target: Machine) -> Builder:
    """Write the derived template into `folder`."""
    old = packer_version() < (1, 7)
    template = folder / "packer"
    template.mkdir()
    (template / "solorun.pkr.hcl").write_text(derived(target, TARGET, old=old))
    (template / "pins.auto.pkrvars.json").write_text(moto_pins().text())
    return Builder(template, target.aws, old)
