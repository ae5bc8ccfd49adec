"""What an image is made of, pinned in one file that Packer reads as well: pins.auto.pkrvars.json."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from launcher.catalog import Arch
from launcher.errors import UserError

RELEASEVER: Final = re.compile(r"(?<![\d.])2023\.(\d+)\.(\d{8})(?!\d)")
"""A release of Amazon Linux 2023 anywhere in a text, like 2023.12.20260930."""
AMI_NAME: Final = re.compile(
    r"al2023-ami-(?P<releasever>2023\.\d+\.\d{8})\.\d+-kernel-(?P<kernel>[\d.]+)-(?P<arch>x86_64|arm64)"
)
"""What Amazon calls its image of a release; the number after the releasever counts its builds."""
AMAZON: Final = "137112412989"
"""The account that Amazon publishes Amazon Linux from."""


def order(releasever: str) -> tuple[int, int]:
    """For sorting: minor version, then date.

    Raises:
        UserError: this is no release of Amazon Linux 2023.
    """
    match = RELEASEVER.fullmatch(releasever)
    if match is None:
        raise UserError(f"{releasever!r} is no release of Amazon Linux 2023; one looks like 2023.12.20260930")
    return int(match[1]), int(match[2])


def release_order(release: str) -> tuple[int, int, int]:
    """For sorting our own releases, like 2023.12.20260930-1.

    Raises:
        UserError: this is no release of ours.
    """
    releasever, dash, revision = release.partition("-")
    if not (dash and revision.isdecimal()):
        raise UserError(f"{release!r} is no release of the machine image; one looks like 2023.12.20260930-1")
    return (*order(releasever), int(revision))


class Pins(BaseModel):
    """The pin file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    releasever: Annotated[str, Field(pattern=r"^2023\.\d+\.\d{8}$")]
    """The release of Amazon Linux 2023 that all packages come from."""
    revision: Annotated[int, Field(ge=1)]
    """Counts our own releases of one releasever."""
    kernel: Annotated[str, Field(pattern=r"^\d+\.\d+$")]
    source_ami_name: dict[Arch, str]
    """For each processor the exact name of Amazon's image."""

    @property
    def release(self) -> str:
        """The name of the release that these pins make."""
        return f"{self.releasever}-{self.revision}"

    def image_name(self, arch: Arch) -> str:
        """The name of our image; no two images of an account have the same in one region."""
        return f"solorun-{self.release}-{arch}"

    def text(self) -> str:
        """The file's content."""
        return json.dumps(self.model_dump(mode="json"), indent=2) + "\n"


def read(path: Path) -> Pins:
    """Read the pin file.

    Raises:
        UserError: it is not there, or not as it must be; with every problem in it.
    """
    try:
        return Pins.model_validate_json(path.read_text())
    except OSError as error:
        raise UserError(f"the pin file cannot be read: {error}") from error
    except ValidationError as error:
        found = tuple(
            f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()
        )
        raise UserError(f"the pin file {path} is not as it must be", problems=found) from error


def source_parameter(kernel: str, arch: Arch) -> str:
    """Amazon's SSM parameter that holds the id of its newest image."""
    return f"/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-{kernel}-{arch}"
