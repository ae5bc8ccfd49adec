"""How the tests run Packer."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from launcher.localcloud.processes import carrying
from tests.integration.lone_machine import eventually
from tests.machine.fabric import Fabric
from tests.machine.packer_machine import PackerOnPath

# It leaves its session, its group and its parent, as ssh and Ansible's workers do.
_HANGS = """#!/bin/sh
setsid sh -c 'echo started > "$HOME/started"; exec sleep 1000' &
wait
"""


def test_a_packer_that_hangs_takes_all_that_it_started_along(
    network: Fabric, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When its time is over, no process that it started is left, wherever that has gone."""
    program = tmp_path / "packer"
    program.write_text(_HANGS)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    packer = PackerOnPath(tmp_path, tmp_path, tmp_path, network, network.endpoint_url)
    with pytest.raises(subprocess.TimeoutExpired):
        packer.run("build", {}, limit_s=15)
    assert (tmp_path / "started").exists()
    eventually("all is gone", lambda: not carrying("HOME", str(tmp_path)), within=30)
