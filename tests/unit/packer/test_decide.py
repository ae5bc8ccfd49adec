"""Whether a message or a daily check leads to a build: known shapes, garbage, old news, lies."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.catalog import Arch
from packer.follow.decide import Newest, Verdict, announced, confirmed, decide, wakes

PINNED = "2023.12.20260930"
NEW = "2023.13.20261015"
MESSAGES = sorted((Path(__file__).parent / "messages").iterdir())


def names(releasever: str, kernel: str = "6.12") -> dict[Arch, str]:
    return {arch: f"al2023-ami-{releasever}.0-kernel-{kernel}-{arch}" for arch in Arch}


def newest(releasever: str) -> Newest:
    return Newest(releasever, names(releasever))


@pytest.mark.parametrize("path", MESSAGES, ids=lambda path: path.stem)
def test_known_shapes_lead_to_a_build(path: Path) -> None:
    """Every known shape of a message names the new release, and SSM's release is built."""
    decision = decide(path.read_text(), PINNED, newest(NEW))
    assert decision.verdict is Verdict.BUILD
    assert decision.releasever == NEW


@pytest.mark.parametrize(
    "message",
    [
        "hello",
        "{",
        '{"v1": null}',
        "2023.12",
        "2023.12.2026093",
        "2023.12.202609301",
        "12023.12.20260930",
        "10.2023.12.20260930",
        "amzn2-ami-hvm-2.0.20260930.0-x86_64-gp2",
        "\x00" * 100,
        "9" * 1_000_000,
    ],
)
def test_garbage_is_ignored(message: str) -> None:
    """A message that names no release of Amazon Linux 2023 leads to nothing, and AWS is not asked."""
    decision = wakes(message, PINNED)
    assert decision is not None
    assert decision.verdict is Verdict.NOTHING_NAMED


@given(st.text())
def test_any_text_can_be_looked_at(message: str) -> None:
    """No text makes the look at a message fail, and nothing is built that SSM does not have."""
    assert decide(message, PINNED, newest(PINNED)).verdict is not Verdict.BUILD


@pytest.mark.parametrize("said", ["2023.12.20260930", "2023.12.20260831", "2023.9.20270101"])
def test_old_and_repeated_releases_are_ignored(said: str) -> None:
    """A release that is pinned already, or older, leads to nothing; the minor version counts before the date."""
    decision = wakes(f"Amazon Linux {said}", PINNED)
    assert decision is not None
    assert decision.verdict is Verdict.NOT_NEWER


def test_a_message_that_lies_builds_nothing() -> None:
    """A release that is announced, and that SSM does not have, is not built."""
    decision = decide("2023.99.20991231", PINNED, newest(PINNED))
    assert decision.verdict is Verdict.NOT_CONFIRMED
    assert decision.releasever == ""
    assert "SSM leads to 2023.12.20260930" in decision.why


def test_what_ssm_has_is_built_whatever_was_announced() -> None:
    """Where a message names one release and SSM leads to another new one, the latter is built."""
    decision = decide("2023.99.20991231", PINNED, newest(NEW))
    assert (decision.verdict, decision.releasever) == (Verdict.BUILD, NEW)


def test_the_daily_check_needs_no_message() -> None:
    """Without a message SSM alone decides."""
    assert decide(None, PINNED, newest(NEW)).verdict is Verdict.BUILD
    assert decide(None, PINNED, newest(PINNED)).verdict is Verdict.NOT_NEWER


def test_a_mixed_message_counts_by_its_newest() -> None:
    """A message that names several releases announces the newest of them."""
    assert announced(f"{NEW} replaces {PINNED}") == NEW
    assert announced(f"{PINNED} is replaced by {NEW}") == NEW


def test_processors_must_agree() -> None:
    """While Amazon has published for one processor only, nothing is confirmed, and it says where they are."""
    mixed = names(PINNED) | {Arch.X86_64: names(NEW)[Arch.X86_64]}
    assert confirmed(mixed, "6.12") == f"Amazon is at {PINNED} for arm64 and {NEW} for x86_64"
    assert decide(None, PINNED, str(confirmed(mixed, "6.12"))).verdict is Verdict.NOT_CONFIRMED


@pytest.mark.parametrize(
    "name",
    [
        f"al2023-ami-minimal-{NEW}.0-kernel-6.12-x86_64",
        f"al2023-ami-{NEW}.0-kernel-6.18-x86_64",
        f"al2023-ami-{NEW}.0-kernel-6.12-arm64",
        f"x-al2023-ami-{NEW}.0-kernel-6.12-x86_64",
    ],
)
def test_images_of_another_kind_are_not_confirmed(name: str) -> None:
    """An image of another kind, kernel or processor is not taken for the one that is pinned."""
    said = confirmed(names(NEW) | {Arch.X86_64: name}, "6.12")
    assert isinstance(said, str)
    assert name in said


def test_all_of_it_is_confirmed() -> None:
    """Images of both processors with one release and the kernel that was asked for are the newest release."""
    assert confirmed(names(NEW), "6.12") == newest(NEW)
    assert isinstance(confirmed({Arch.X86_64: names(NEW)[Arch.X86_64]}, "6.12"), str)
