"""Pure: what a release would do, from the pins, what is asked for, and what is there already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum, unique
from typing import Final

from launcher.catalog import REGIONS, Arch, image_parameter
from launcher.errors import UserError
from packer.release.model import Encryption, Image, Sharing
from packer.release.parameters import versioned
from packer.release.pins import Pins

SNAPSHOT_USD: Final = 0.05
"""For a GB of snapshot and a month, in us-east-1. Other regions cost up to half as much again."""
TRANSFER_USD: Final = 0.02
"""For a GB that is copied to another region."""
STORED_GB: Final = 6.0
"""What of the root disk is written: a snapshot holds no more than that."""


@unique
class Step(StrEnum):
    """What must be done for an image in a region."""

    BUILD = "build"
    """In the build's region: it is not there yet."""
    COPY = "copy"
    """In another region: it is not there yet."""
    REPLACE = "replace"
    """EC2 failed to make it: remove it, and do it again."""
    WAIT = "wait"
    """It is being made."""
    KEEP = "keep"
    """It is there."""


def step_for(image: Image | None, *, build: bool) -> Step:
    """What must be done, by what is there."""
    if image is None:
        return Step.BUILD if build else Step.COPY
    if image.state == "available":
        return Step.KEEP
    return Step.WAIT if image.state in ("pending", "transient") else Step.REPLACE


@dataclass(frozen=True)
class Request:
    """What a maintainer asks for."""

    pins: Pins
    build_region: str = "us-east-1"
    regions: tuple[str, ...] = REGIONS
    """Where the images shall be, with the build's region."""
    sharing: Sharing = field(default_factory=Sharing)
    encryption: Encryption = field(default_factory=Encryption)
    stored_gb: float = STORED_GB


def check(request: Request) -> None:
    """Refuse what cannot work, before anything is started.

    Raises:
        UserError: with every problem.
    """
    problems = []
    if request.build_region not in request.regions:
        problems.append(f"the build's region {request.build_region} must be one of the release's regions")
    if len(set(request.regions)) != len(request.regions):
        problems.append("a region is named twice")
    missing = [arch for arch in Arch if arch not in request.pins.source_ami_name]
    problems += [f"the pin file names no source image for {arch}" for arch in missing]
    if request.sharing.public and request.sharing.accounts:
        problems.append("public images need not be shared with accounts as well")
    problems += [
        f"{account!r} is no account number: it has 12 digits"
        for account in request.sharing.accounts
        if not (account.isdecimal() and len(account) == 12)
    ]
    if request.encryption.encrypted and request.sharing.public:
        problems.append("encrypted images cannot be public")
    if request.encryption.encrypted and request.sharing.accounts and not request.encryption.key:
        problems.append(
            "images encrypted with AWS's own key cannot be shared: name a key of yours (--kms-key)"
        )
    if problems:
        raise UserError("this release cannot be made", problems=tuple(problems))


@dataclass(frozen=True)
class Plan:
    """What would be done."""

    request: Request
    steps: Mapping[str, Mapping[Arch, Step]]
    """By region and processor; the build's region first."""
    unseen: Mapping[str, str] = field(default_factory=dict)
    """The other regions that were asked for: why they could not be looked at."""

    @property
    def copies(self) -> int:
        """How many images are copied."""
        made = (Step.COPY, Step.REPLACE, Step.WAIT)
        return sum(
            step in made
            for region, steps in self.steps.items()
            if region != self.request.build_region
            for step in steps.values()
        )

    @property
    def parameters(self) -> tuple[str, ...]:
        """The SSM parameters that are written in each region."""
        release = self.request.pins.release
        return tuple(name for arch in Arch for name in (versioned(release, arch), image_parameter(arch)))

    @property
    def usd_once(self) -> float:
        """What the copying costs."""
        return self.copies * self.request.stored_gb * TRANSFER_USD

    @property
    def usd_a_month(self) -> float:
        """What the release costs while it is kept, at the price of us-east-1."""
        return len(self.steps) * len(Arch) * self.request.stored_gb * SNAPSHOT_USD


def plan(
    request: Request, there: Mapping[tuple[str, Arch], Image], unseen: Mapping[str, str] | None = None
) -> Plan:
    """What would be done.

    Args:
        request: what is asked for.
        there: the images of this release that are there.
        unseen: regions that could not be looked at, each with its problem.

    Raises:
        UserError: what is asked for cannot work.
    """
    check(request)
    home = request.build_region
    unseen = unseen or {}
    regions = (home, *(region for region in request.regions if region != home and region not in unseen))
    steps = {
        region: {arch: step_for(there.get((region, arch)), build=region == home) for arch in Arch}
        for region in regions
    }
    return Plan(request, steps, unseen)


def text(made: Plan) -> str:
    """The plan for a person."""
    request = made.request
    pins = request.pins
    lines = [
        f"Release {pins.release}: Amazon Linux {pins.releasever}, kernel {pins.kernel}",
        *(f"  from   {name}" for name in pins.source_ami_name.values()),
        f"  access {request.sharing}" + (", encrypted" if request.encryption.encrypted else ""),
        "",
    ]
    for region, steps in made.steps.items():
        lines.append(
            f"  {region:<16}" + "  ".join(f"{step:<7} {arch:<7}" for arch, step in steps.items()).rstrip()
        )
    lines += [f"  {region:<16}{problem}" for region, problem in made.unseen.items()]
    lines += [
        "",
        "In each region these SSM parameters then lead to the images:",
        *(f"  {name}" for name in made.parameters),
        "",
        f"Copying {made.copies} images of about {request.stored_gb:g} GB: {made.usd_once:.2f} USD once.",
        f"Keeping the release in {len(made.steps)} regions: {made.usd_a_month:.2f} USD a month at us-east-1's price,",
        "up to half as much again elsewhere. Building: two machines for about a quarter of an hour.",
    ]
    return "\n".join(lines) + "\n"
