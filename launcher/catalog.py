"""What the launcher knows by heart: container image, regions, the machine's defaults, tag names."""

from __future__ import annotations

import re
from enum import StrEnum, unique
from typing import Final

NEXTFLOW_VERSION: Final = "24.10.0"
NEXTFLOW_IMAGE: Final = f"solorun/nextflow:{NEXTFLOW_VERSION}"
"""The head's container image; built by `make images`, baked into the machine image."""

REGIONS: Final = (
    "af-south-1",
    "ap-east-1",
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-northeast-3",
    "ap-south-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-southeast-3",
    "ca-central-1",
    "eu-central-1",
    "eu-north-1",
    "eu-south-1",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "me-south-1",
    "sa-east-1",
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
)
"""Where machine images are published."""


@unique
class Arch(StrEnum):
    """The processor of a machine, as EC2 names it."""

    X86_64 = "x86_64"
    """Intel and AMD."""
    ARM64 = "arm64"
    """Graviton."""


DEFAULT_INSTANCE_TYPE: Final = {Arch.X86_64: "m5d.large", Arch.ARM64: "m6gd.large"}
"""Both have a local NVMe disk."""

BOOT_DISK_GB: Final = 50
BOOT_DISK_MIN_GB: Final = 50
BOOT_DISK_MAX_GB: Final = 16384
BOOT_DEVICE: Final = "/dev/xvda"
"""The root device of Amazon Linux 2023."""

RELEASE_NAME: Final = re.compile(r"solorun-\d+\.\d+\.\d+-\d+-(x86_64|arm64)")
"""The names of our own machine images: releasever, revision, processor. An image that somebody else calls solorun-… is
not taken for one: without the agent nothing on it would turn the machine off."""

LOG_GROUP: Final = "/solorun"
TIME_LIMIT: Final = "24h"
"""Every run has a limit: a machine that nobody looks at must not go on for ever."""

TAG_RUN: Final = "solorun:run"
TAG_NAME: Final = "solorun:name"
TAG_OWNER: Final = "solorun:owner"
TAG_COMPUTE_ENV: Final = "solorun:compute-env"

_GRAVITON: Final = re.compile(r"^(a1|[a-z]+\d+g[a-z]*)(-[a-z0-9]+)?\.")


def image_parameter(arch: Arch) -> str:
    """The SSM parameter that holds the id of the newest published machine image."""
    return f"/solorun/ami/latest/{arch}/image_id"


def arch_of(instance_type: str) -> Arch:
    """The processor of an instance type, by its name: a `g` after the generation means Graviton."""
    return Arch.ARM64 if _GRAVITON.match(instance_type) else Arch.X86_64
