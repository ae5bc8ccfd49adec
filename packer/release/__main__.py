"""`python -m packer.release`: the environment, exit codes, wiring."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import boto3

from launcher.clock import SystemClock
from packer.release.aws import Aws
from packer.release.building import Packer
from packer.release.cli import Settings, make_app
from packer.release.exits import ended

if __name__ == "__main__":
    environment = dict(os.environ)
    made = Settings(
        root=Path(__file__).parents[2],
        aws=lambda: Aws(boto3.Session(), endpoint_url=environment.get("AWS_ENDPOINT_URL")),
        builder=lambda: Packer(environment),
        clock=SystemClock(),
    )
    sys.exit(ended(lambda: make_app(made)()))
