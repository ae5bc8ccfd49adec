"""The template as the Packer on PATH sees it, without a build."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from launcher.catalog import Arch
from packer.release.building import OLDEST_PACKER
from tests.fakes.s3_server import S3Server
from tests.machine.fabric import Fabric
from tests.machine.packer_machine import REGION, clean_environ, packer_on_path, packer_version, prepared
from tests.machine.packer_template import ROOT, Target
from tests.machine.reachable import key_pair

pytestmark = pytest.mark.xdist_group("packer")


@pytest.fixture(autouse=True, scope="module")
def packer() -> None:
    packer_on_path()


def said(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Packer in the repository, without AWS."""
    return subprocess.run(
        ["packer", *words], cwd=ROOT, env=clean_environ(home, ""), capture_output=True, text=True, check=False
    )


def test_is_formatted(tmp_path: Path) -> None:
    """`packer fmt` has nothing to change in the template."""
    result = said(tmp_path, "fmt", "-check", "-diff", "packer")
    assert result.returncode == 0, result.stdout


def test_is_valid(network: Fabric, aws: S3Server, tmp_path: Path) -> None:
    """`packer validate` finds no fault with the template as it stands; 1.6.6 finds none with what it knows of it."""
    target = Target(dict.fromkeys(Arch, "192.0.2.1"), key_pair(tmp_path), "nobody", network.endpoint_url)
    with prepared(target, network, aws.url) as packer:
        if packer_version() >= OLDEST_PACKER:
            result = said(packer.home, "validate", "-var=wheel=none.whl", "-var=ssh_folder=none", "packer")
            assert result.returncode == 0, result.stdout + result.stderr
        result = packer.run("validate", packer.variables(tmp_path, REGION))
        assert result.returncode == 0, result.stdout + result.stderr
