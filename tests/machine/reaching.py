"""Whether the suite can look at a machine by ssh, and if not, why and what to do."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

_CONNECT_S: Final = 15
_SSH_FAILED: Final = 255


@dataclass(frozen=True)
class Way:
    """How ssh gets to the machine."""

    address: str
    user: str | None = None
    port: int | None = None
    key: str | None = None
    config: str | None = None
    """Another file of settings than the person's own."""
    extra: str = ""
    """More options of ssh, as a shell would take them."""

    @property
    def command(self) -> list[str]:
        """ssh with all of this, so that it never asks anything."""
        words = ["ssh", *shlex.split(self.extra)]
        words += ["-F", self.config] if self.config else []
        words += ["-i", self.key] if self.key else []
        words += ["-p", str(self.port)] if self.port else []
        words += ["-o", "BatchMode=yes", "-o", f"ConnectTimeout={_CONNECT_S}"]
        return [*words, f"{self.user}@{self.address}" if self.user else self.address]


def way_to(host: str, *, key: str | None, config: str | None, extra: str | None) -> Way:
    """The way that `ssh://USER@ADDRESS:PORT` means.

    Raises:
        ValueError: it means none.
    """
    parts = urlsplit(host if "://" in host else f"ssh://{host}")
    if parts.scheme != "ssh" or not parts.hostname:
        raise ValueError(
            f"HOST={host} names no machine: it is HOST=ssh://USER@ADDRESS, or ssh://USER@ADDRESS:PORT"
        )
    return Way(parts.hostname, parts.username, parts.port, key, config, extra or "")


def hindrance(way: Way) -> str:
    """Why the suite cannot look at the machine, with what to do; empty where it can."""
    done = subprocess.run([*way.command, "sudo -n true"], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ""
    said = done.stderr.strip() or "ssh says nothing"
    user = way.user or "you"
    if done.returncode != _SSH_FAILED:
        return (
            f"{user} may not become root on {way.address} without a password ({said}).\n"
            "The suite looks at the machine as root: name a user who may, ec2-user on Amazon Linux."
        )
    if "Permission denied" in said:
        return (
            f"{way.address} does not let {user} in: {said}\n"
            "On Amazon Linux the user is ec2-user: HOST=ssh://ec2-user@ADDRESS. The key is the one that the instance "
            "was started with: ARGS=--ssh-identity-file=FILE, or have it in your ssh agent."
        )
    if "Host key verification failed" in said:
        return (
            f"Nobody here knows the host key of {way.address}, or it was another machine's before: {said}\n"
            f"Connect once by hand, `{shlex.join(['ssh', way.command[-1]])}`, and accept it; an old one goes with "
            f"`ssh-keygen -R {way.address}`."
        )
    return (
        f"{way.address} cannot be reached: {said}\n"
        "Does the instance run? Is the address right, and does its security group let ssh in from here?"
    )
