"""Packer, with moto for AWS and booted machines for what it builds on."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import boto3
import pytest

from launcher.catalog import NEXTFLOW_IMAGE, Arch
from packer.release.building import OLDEST_PACKER, BuildRequest
from packer.release.pins import Pins
from tests.integration.release_kit import moto_pins
from tests.machine import build
from tests.machine.fabric import Fabric
from tests.machine.packer_template import ROOT, Target, derived
from tests.machine.persons_home import PersonsHome

REGION: Final = "us-east-1"
SUITE: Final = ROOT / "tests" / "machine" / "image"
PLUGINS: Final = ROOT / "build" / "packer-plugins"
"""Of a current Packer, kept from one test run to the next."""
BUILD_S: Final = 1200
"""What a build may take, which takes three minutes beside other tests."""


def packer_on_path() -> None:
    """Skip, where this system has no Packer to install; set-up has installed it where there is one."""
    if (
        shutil.which("packer") is None
        and platform.freedesktop_os_release().get("VERSION_CODENAME") != "bookworm"
    ):
        pytest.skip(
            "the build of the machine image was NOT tested: there is no Packer on PATH, and only Debian 12 has a "
            "package of it: developer.hashicorp.com/packer/install"
        )


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


def clean_environ(home: Path, aws: str) -> dict[str, str]:
    """What Packer gets: moto for AWS, and nothing of the person who runs the tests."""
    return {
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "LC_ALL": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "made-up",
        "AWS_ENDPOINT_URL": aws,
        "AWS_EC2_METADATA_DISABLED": "true",
        "CHECKPOINT_DISABLE": "1",
        "PACKER_PLUGIN_PATH": str(PLUGINS),
        "ANSIBLE_NOCOLOR": "1",
    }


@contextmanager
def trusted(key: Path, url: str, region: str) -> Iterator[str]:
    """A key pair of moto's, for the duration; yields its name."""
    ec2, name = client(url, "ec2", region), f"packer-test-{key.parent.name}"
    ec2.import_key_pair(KeyName=name, PublicKeyMaterial=key.with_suffix(".pub").read_bytes())
    try:
        yield name
    finally:
        ec2.delete_key_pair(KeyName=name)


@dataclass(frozen=True)
class PackerOnPath:
    """The Packer on PATH, with a template derived for it, in the network of the machines. Made by `prepare`."""

    folder: Path
    """The template's."""
    home: Path
    ssh_folder: Path
    network: Fabric
    aws: str
    """Where moto listens for this process."""
    persons_home: PersonsHome | None = None
    """The guard on the home of who runs the tests."""

    @property
    def old(self) -> bool:
        """Whether it is one that the template is not written for."""
        return packer_version() < OLDEST_PACKER

    def run(
        self, command: str, variables: Mapping[str, str], *options: str, limit_s: float = BUILD_S
    ) -> subprocess.CompletedProcess[str]:
        """Run one of Packer's commands on the template, with these variables.

        Raises:
            subprocess.TimeoutExpired: it took longer than `limit_s` seconds; nothing that it started lives on.
        """
        within = ("nsenter", "--target", str(self.network.pid), "--net")
        given = [word for name, value in variables.items() for word in ("-var", f"{name}={value}")]
        environ = clean_environ(self.home, self.network.endpoint_url)
        guard: tuple[str, ...] = ()
        if self.persons_home:
            guard = self.persons_home.prefix
            environ["SSH_AUTH_SOCK"] = str(self.persons_home.agent)
        # With the first process of a PID namespace goes all that it started: ansible, ssh, the tests.
        together = ("unshare", "--pid", "--fork", "--kill-child")
        own_proc = ("unshare", "--mount-proc")
        return subprocess.run(
            [*together, *guard, *within, *own_proc, "packer", command, *options, *given, str(self.folder)],
            cwd=ROOT, env=environ, capture_output=True, text=True, check=False, timeout=limit_s,
        )  # fmt: skip

    def variables(self, output: Path, region: str = REGION, suite: Path = SUITE) -> dict[str, str]:
        """Those of a build."""
        roles = {"docker_nofile": build.VARIABLES["docker_nofile"], "gpu_enabled": "false"}
        variables = {
            "region": region,
            "output": str(output),
            "suite": str(suite),
            "ansible_playbook": str(Path(sys.executable).with_name("ansible-playbook")),
            "wheel": str(build.wheel()),
            "ssh_cidrs": '["192.0.2.0/24"]',
            "ssh_folder": str(self.ssh_folder),
            "nextflow_image": NEXTFLOW_IMAGE,
            "studio_images": f'["{build.TASKS_IMAGE}"]',
            "role_variables": "{" + ",".join(f'{name}="{value}"' for name, value in roles.items()) + "}",
        }
        if self.old:
            variables["source_ami"] = self._source_ami(region)
        return variables

    def init(self) -> None:
        """Have the plugins of a current Packer."""
        if not self.old:
            environ = clean_environ(self.home, self.aws)
            command = ["packer", "init", str(self.folder)]
            done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr

    def _source_ami(self, region: str) -> str:
        """In HCL, the ids of the pinned source images: 1.6.6 has no data sources to look them up."""
        pins = Pins.model_validate_json((self.folder / "pins.auto.pkrvars.json").read_text())
        ec2 = client(self.aws, "ec2", region)
        images = {
            arch: ec2.describe_images(Filters=[{"Name": "name", "Values": [name]}])["Images"][0]["ImageId"]
            for arch, name in pins.source_ami_name.items()
        }
        return "{" + ",".join(f'{arch}="{image}"' for arch, image in images.items()) + "}"


@contextmanager
def prepared(
    target: Target,
    network: Fabric,
    aws: str,
    playbooks: Path | None = None,
    persons_home: PersonsHome | None = None,
) -> Iterator[PackerOnPath]:
    """Packer with the template for a target, in a home of its own."""
    # Not in pytest's folder: its name would make the paths of sockets too long.
    with tempfile.TemporaryDirectory(prefix="solorun-") as folder:
        template, home, ssh = Path(folder, "template"), Path(folder, "home"), Path(folder, "ssh")
        template.mkdir()
        home.mkdir()
        old = packer_version() < OLDEST_PACKER
        (template / "solorun.pkr.hcl").write_text(derived(target, playbooks, old=old))
        (template / "pins.auto.pkrvars.json").write_text(moto_pins().text())
        made = PackerOnPath(template, home, ssh, network, aws, persons_home)
        made.init()
        try:
            yield made
        finally:
            close_connections(ssh)


def close_connections(folder: Path) -> None:
    """End those whose sockets are in a folder: kept open by ssh, they would outlive their machine by a minute."""
    for path in folder.rglob("*"):
        if path.is_socket():
            close = ["ssh", "-F", "none", "-S", str(path), "-O", "exit", "-"]
            subprocess.run(close, capture_output=True, check=False)


@dataclass
class DerivedPacker:
    """What a release asks to build, done by the Packer on PATH with the derived template."""

    packer: PackerOnPath
    log: str = ""
    """What Packer said."""

    def version(self) -> str:
        return f"packer {'.'.join(map(str, packer_version()))}"

    def build(self, request: BuildRequest, archs: Collection[Arch]) -> None:
        assert set(archs) == set(Arch)
        variables = {
            **self.packer.variables(request.output, request.region),
            **{"git_commit": request.git_commit, "builder": request.builder},
            **request.variables,
        }
        done = self.packer.run("build", variables, "-color=false", "-timestamp-ui")
        self.log = done.stdout
        assert done.returncode == 0, done.stdout[-20000:] + done.stderr[-2000:]
