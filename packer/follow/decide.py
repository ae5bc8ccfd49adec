"""Pure: whether there is a new release to build. A message may only wake us: what is built is what SSM confirms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final

from launcher.catalog import Arch
from packer.release.pins import AMI_NAME, RELEASEVER, order

LONGEST: Final = 262_144
"""SNS sends no longer message."""


@unique
class Verdict(StrEnum):
    """What is to be done."""

    BUILD = "build"
    """A newer release is out, and SSM leads to its images."""
    NOTHING_NAMED = "nothing named"
    """The message names no release of Amazon Linux 2023."""
    NOT_NEWER = "not newer"
    """What is out, or announced, is not newer than the pins."""
    NOT_CONFIRMED = "not confirmed"
    """A newer release is announced, and SSM does not lead to it: the message is early, or wrong."""


@dataclass(frozen=True)
class Newest:
    """Amazon's newest images, as its SSM parameters lead to them."""

    releasever: str
    names: Mapping[Arch, str]


@dataclass(frozen=True)
class Decision:
    """What is to be done, and why."""

    verdict: Verdict
    why: str
    releasever: str = ""
    """What to build."""


def announced(message: str) -> str | None:
    """The newest release that a message names, in its subject, text or JSON; None where it names none.

    Only that the version is in the message is promised, so nothing is asked of its form.
    """
    found = [match[0] for match in RELEASEVER.finditer(message[:LONGEST])]
    return max(found, key=order, default=None)


def confirmed(names: Mapping[Arch, str], kernel: str) -> Newest | str:
    """What Amazon's image names say together; a sentence where they do not go together."""
    found: dict[Arch, str] = {}
    for arch, name in names.items():
        match = AMI_NAME.fullmatch(name)
        if match is None or match["arch"] != arch or match["kernel"] != kernel:
            return f"{name!r} is no name of Amazon's image for {arch} with kernel {kernel}"
        found[arch] = match["releasever"]
    if set(found) != set(Arch):
        return "Amazon's images are not there for every processor"
    if len(set(found.values())) != 1:
        return "Amazon is at " + " and ".join(f"{found[arch]} for {arch}" for arch in sorted(found))
    return Newest(found[Arch.X86_64], dict(names))


def wakes(message: str | None, pinned: str) -> Decision | None:
    """Whether a message is worth a look at AWS; None: it is, and so is the daily check, which has none."""
    if message is None:
        return None
    said = announced(message)
    if said is None:
        return Decision(Verdict.NOTHING_NAMED, "the message names no release of Amazon Linux 2023")
    if order(said) <= order(pinned):
        return Decision(Verdict.NOT_NEWER, f"{said} is announced, {pinned} is pinned")
    return None


def decide(message: str | None, pinned: str, newest: Newest | str) -> Decision:
    """What is to be done.

    Args:
        message: what was received; None for the daily check.
        pinned: the releasever of the pin file.
        newest: Amazon's newest images, or why they are not known.
    """
    asleep = wakes(message, pinned)
    if asleep is not None:
        return asleep
    said = announced(message) if message is not None else None
    if isinstance(newest, str):
        return Decision(Verdict.NOT_CONFIRMED, newest)
    if order(newest.releasever) > order(pinned):
        return Decision(Verdict.BUILD, f"{newest.releasever} is out, {pinned} is pinned", newest.releasever)
    if said is not None:
        return Decision(
            Verdict.NOT_CONFIRMED,
            f"{said} is announced, and SSM leads to {newest.releasever}: the daily check looks again",
        )
    return Decision(Verdict.NOT_NEWER, f"{newest.releasever} is the newest, {pinned} is pinned")
