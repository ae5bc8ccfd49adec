"""The user data of a machine: where its run is, and how its agent gets there where the machine image has none."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from importlib import resources
from typing import Final

from agent.contract import RunPointer, pointer_line
from launcher.catalog import Arch
from launcher.errors import UserError

MAX_BYTES: Final = 16 * 1024
"""What EC2 takes."""
LIMIT_S: Final = 300
"""The machine is off after this time where the agent could not be brought."""
_MACHINE: Final = {Arch.X86_64: "x86_64", Arch.ARM64: "aarch64"}


@dataclass(frozen=True)
class Links:
    """Presigned URLs, good for one object and a short time each."""

    agent: str
    """GET brings the agent bundle: public code."""
    report: str
    """PUT takes the reason why that failed."""


def script(pointer: RunPointer, arch: Arch, sha256: str, links: Links, *, limit_s: int = LIMIT_S) -> str:
    """A script for cloud-init that brings the agent; the run pointer is in it.

    Raises:
        UserError: it is larger than EC2 takes.
    """
    values = {
        "AGENT_URL": links.agent,
        "AGENT_SHA256": sha256,
        "REPORT_URL": links.report,
        "MACHINE": _MACHINE[arch],
        "LIMIT_S": str(limit_s),
    }
    lines = [f"{name}={shlex.quote(value)}" for name, value in values.items()]
    body = resources.files("launcher").joinpath("user_data.sh").read_text(encoding="utf-8")
    text = "\n".join(("#!/bin/sh", pointer_line(pointer), *lines, body))
    if len(text.encode()) > MAX_BYTES:
        raise UserError(
            f"The user data that bring the agent are {len(text.encode())} bytes; EC2 takes {MAX_BYTES}",
            hint="The links in them are long because of the session token of your AWS credentials, or of the work "
            "dir's path. Use a shorter work dir, or other credentials",
        )
    return text
