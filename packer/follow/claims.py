"""Who builds a release: claims in SSM parameters, each written once, so that no release is built twice at a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum, unique
from typing import Final, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from launcher.errors import AlreadyThere

PREFIX: Final = "/solorun/ami/builds"
ATTEMPTS: Final = 3
"""So often a release is tried without a person."""
STALE: Final = timedelta(hours=9)
"""After that a build that says nothing is dead: CodeBuild ends every build after eight hours."""


@unique
class State(StrEnum):
    """How far an attempt is."""

    BUILDING = "building"
    """It runs, or died without a word."""
    FAILED = "failed"
    """It ended; the next one goes on with what it left."""
    DONE = "done"
    """The release is published, its pins are committed."""


class Claim(BaseModel):
    """The value of a claim's parameter."""

    model_config = ConfigDict(frozen=True)

    state: State
    by: str
    """The build that made it."""
    at: datetime


@dataclass(frozen=True)
class Attempt:
    """A claim that is ours."""

    releasever: str
    number: int
    claim: Claim


class ClaimStore(Protocol):
    """SSM parameters, or a test's."""

    def get(self, region: str, name: str, /) -> str | None:
        """A value; None where there is none."""

    def create(self, region: str, name: str, value: str, /) -> None:
        """Write what must not be there yet.

        Raises:
            AlreadyThere: it is there.
        """

    def replace(self, region: str, name: str, value: str, /) -> None:
        """Write, whether it is there or not."""


class Claims:
    """Claims on releases, in one region."""

    def __init__(self, parameters: ClaimStore, region: str) -> None:
        self._parameters = parameters
        self._region = region

    def take(self, releasever: str, by: str, now: datetime) -> Attempt | str:
        """Claim a release; a sentence where it is another's, or done, or tried often enough."""
        number = 1
        while (claim := self._read(releasever, number)) is not None:
            if claim.state is State.DONE:
                return f"{releasever} was released by {claim.by}"
            if claim.state is State.BUILDING and now - claim.at < STALE:
                return f"{releasever} is being built by {claim.by}"
            number += 1
        if number > ATTEMPTS:
            return (
                f"{releasever} failed {ATTEMPTS} times: mend it, then delete the parameters below "
                f"{PREFIX}/{releasever}"
            )
        claim = Claim(state=State.BUILDING, by=by, at=now)
        try:
            self._parameters.create(self._region, _name(releasever, number), claim.model_dump_json())
        except AlreadyThere:
            return f"{releasever} was claimed by another build just now"
        return Attempt(releasever, number, claim)

    def settle(self, attempt: Attempt, state: State, now: datetime) -> None:
        """Say how it ended."""
        claim = attempt.claim.model_copy(update={"state": state, "at": now})
        self._parameters.replace(
            self._region, _name(attempt.releasever, attempt.number), claim.model_dump_json()
        )

    def _read(self, releasever: str, number: int) -> Claim | None:
        value = self._parameters.get(self._region, _name(releasever, number))
        if value is None:
            return None
        try:
            return Claim.model_validate_json(value)
        except ValidationError:
            # Written by a person: it counts as an attempt that ended.
            return Claim(state=State.FAILED, by="?", at=datetime.min)


def _name(releasever: str, number: int) -> str:
    return f"{PREFIX}/{releasever}/{number}"
