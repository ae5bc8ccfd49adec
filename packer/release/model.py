"""What the steps of a release hand to each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from launcher.catalog import Arch

TAG_RELEASE = "solorun:release"
TAG_SOURCE = "solorun:source-ami"
TAG_SOURCE_NAME = "solorun:source-ami-name"
TAG_PACKAGES = "solorun:packages-sha256"
"""The checksum of the package list: ties an image to its notes and bill of materials."""


@dataclass(frozen=True)
class Image:
    """A machine image in one region."""

    id: str
    name: str
    region: str
    arch: Arch
    state: str
    """As EC2 says it: pending, available, failed, …"""
    created: datetime
    tags: Mapping[str, str] = field(default_factory=dict)
    snapshots: tuple[str, ...] = ()
    deprecated_at: datetime | None = None
    imdsv2: bool = False
    """Machines made of it are offered metadata with a token only."""
    problem: str = ""
    """Why it failed, in EC2's words."""

    @property
    def release(self) -> str:
        """The release that it is of; empty where its tags do not say."""
        return self.tags.get(TAG_RELEASE, "")


@dataclass(frozen=True)
class Sharing:
    """Who may start machines from the images, besides the account that owns them."""

    public: bool = False
    accounts: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.public:
            return "public: every AWS account"
        return f"shared with {', '.join(self.accounts)}" if self.accounts else "private: this account only"


@dataclass(frozen=True)
class Encryption:
    """Whether snapshots are encrypted, and with which key."""

    encrypted: bool = False
    key: str = ""
    """An alias that exists in every region; empty: AWS's own key."""


@dataclass(frozen=True)
class RegionOutcome:
    """How a step ended in one region."""

    region: str
    images: Mapping[Arch, Image] = field(default_factory=dict)
    problem: str = ""
    """Empty where it went well; else what failed, why, and what to do."""
