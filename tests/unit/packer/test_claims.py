"""One release is never built twice at a time, and not for ever."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from launcher.errors import AlreadyThere
from packer.follow.claims import ATTEMPTS, STALE, Attempt, Claims, State

NOW = datetime(2026, 10, 16, 6, 0, tzinfo=UTC)
RELEASE = "2023.13.20261015"


class FakeParameters:
    """SSM parameters of one region."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.hidden = False

    def get(self, _region: str, name: str) -> str | None:
        return None if self.hidden else self.values.get(name)

    def create(self, _region: str, name: str, value: str) -> None:
        if name in self.values:
            raise AlreadyThere(name)
        self.values[name] = value

    def replace(self, _region: str, name: str, value: str) -> None:
        self.values[name] = value


def claims(parameters: FakeParameters) -> Claims:
    return Claims(parameters, "us-east-1")


def taken(found: Attempt | str) -> Attempt:
    assert isinstance(found, Attempt), found
    return found


def test_the_second_of_two_gets_nothing() -> None:
    """While one builds a release, another that comes is told who builds it."""
    parameters = FakeParameters()
    taken(claims(parameters).take(RELEASE, "build:1", NOW))
    said = claims(parameters).take(RELEASE, "build:2", NOW + timedelta(minutes=1))
    assert said == f"{RELEASE} is being built by build:1"


def test_of_two_at_the_same_moment_one_wins() -> None:
    """Two that both saw no claim cannot both write one."""
    parameters = FakeParameters()
    parameters.hidden = True
    taken(claims(parameters).take(RELEASE, "build:1", NOW))
    assert "claimed by another" in str(claims(parameters).take(RELEASE, "build:2", NOW))


def test_what_is_done_is_not_done_again() -> None:
    """A release that was published is never claimed again."""
    parameters = FakeParameters()
    attempt = taken(claims(parameters).take(RELEASE, "build:1", NOW))
    claims(parameters).settle(attempt, State.DONE, NOW)
    assert (
        claims(parameters).take(RELEASE, "build:2", NOW + timedelta(days=30))
        == f"{RELEASE} was released by build:1"
    )


def test_a_failed_or_dead_attempt_is_taken_up_a_few_times() -> None:
    """A failed attempt is followed by the next at once, a dead one after its time; after a few a person is needed."""
    parameters = FakeParameters()
    first = taken(claims(parameters).take(RELEASE, "build:1", NOW))
    claims(parameters).settle(first, State.FAILED, NOW)
    second = taken(claims(parameters).take(RELEASE, "build:2", NOW))
    assert second.number == 2
    assert isinstance(claims(parameters).take(RELEASE, "build:3", NOW + STALE / 2), str)
    third = taken(claims(parameters).take(RELEASE, "build:3", NOW + STALE))
    claims(parameters).settle(third, State.FAILED, NOW)
    assert third.number == ATTEMPTS
    assert "failed 3 times" in str(claims(parameters).take(RELEASE, "build:4", NOW + STALE))


def test_a_claim_written_by_hand_counts_as_failed() -> None:
    """A claim that cannot be read stops nobody."""
    parameters = FakeParameters()
    parameters.values[f"/solorun/ami/builds/{RELEASE}/1"] = "stop!"
    assert taken(claims(parameters).take(RELEASE, "build:1", NOW)).number == 2
