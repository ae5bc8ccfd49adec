"""What a command works with, made of the environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import boto3

from launcher.clock import SystemClock
from packer.release.aws import Aws
from packer.release.building import Packer
from packer.release.cli import Settings, say


def settings_of(environment: Mapping[str, str]) -> Settings:
    """The settings of this checkout, the person's AWS credentials, the Packer on PATH."""
    return Settings(
        root=Path(__file__).parents[2],
        aws=lambda: Aws(boto3.Session(), endpoint_url=environment.get("AWS_ENDPOINT_URL")),
        builder=lambda: Packer(environment, say),
        clock=SystemClock(),
    )
