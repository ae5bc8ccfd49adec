"""Machines that are reached by ssh, as EC2 instances are: sshd, sudo, and a user ec2-user."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from tests.integration.lone_machine import eventually
from tests.machine import build
from tests.machine.fabric import Fabric
from tests.machine.machine import Image, Machine, booted

USER: Final = "ec2-user"
# cloud-init: Packer waits for Amazon Linux's own.
_INSTALL: Final = f"""{build.INSTALL_ON_A_ROOT} openssh-server sudo
    chroot $2/root useradd --create-home --shell /bin/bash {USER}
    echo '{USER} ALL=(ALL) NOPASSWD: ALL' > $2/root/etc/sudoers.d/{USER}
    printf '#!/bin/sh\\nexit 0\\n' > $2/root/usr/bin/cloud-init
    chmod 755 $2/root/usr/bin/cloud-init
"""


def reachable(image: Image) -> Image:
    """The image with what every EC2 instance has and the test machine has not."""

    def make(layer: Path) -> None:
        for part in ("upper", "work", "root"):
            (layer / part).mkdir(parents=True)
        command = ["unshare", "--mount", "sh", "-c", _INSTALL, "sh", str(image.root), str(layer)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"no sshd for the machine: {done.stdout[-1000:]}{done.stderr[-2000:]}")

    with build.locked(build.FOLDER, "ssh"):
        layer = build.kept(build.FOLDER, "ssh", [image.root.name, _INSTALL], make)
    # A machine's root may be of several layers.
    return replace(image, root=Path(f"{layer}/upper:{image.root}"))


def key_pair(folder: Path) -> Path:
    """A private key in `folder`, with its public half beside it."""
    key = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    return key


@contextmanager
def with_ssh(image: Image, network: Fabric, key: Path) -> Iterator[Machine]:
    """A booted machine that takes the key."""
    ssh = f"~{USER}/.ssh"
    trust = f"umask 077 && mkdir -p {ssh} && cat > {ssh}/authorized_keys && chown -R {USER}: {ssh}"
    with booted(image, network, build.FOLDER) as machine:
        machine.wait_up()
        machine.exec("sh", "-c", trust, stdin=key.with_suffix(".pub").read_text())
        eventually("sshd runs", lambda: machine.is_active("ssh.service"))
        yield machine
