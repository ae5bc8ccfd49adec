"""What the doctor says: checks, findings, and the report that they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final

SCHEMA_VERSION: Final = 1
"""Of the report as JSON; raised when a reader of the older one would go wrong."""


@unique
class Level(StrEnum):
    """How much a check matters."""

    REQUIRED = "required"
    """Without it runs fail, or the machine stays on and costs money."""
    RECOMMENDED = "recommended"
    """Runs execute without it, but slower, or less safely, or less of them is seen."""


@unique
class State(StrEnum):
    """How a check ended."""

    MET = "met"
    """It is as it should be."""
    NOT_MET = "not met"
    """It is not; the advice says what to do."""
    UNKNOWN = "unknown"
    """It could not be found out; the advice says how it can."""
    NOT_APPLICABLE = "not applicable"
    """The question does not arise on this machine."""


@unique
class Part(StrEnum):
    """Where a person changes what is not met."""

    IMAGE = "image"
    """What the machine image brings."""
    INSTANCE = "instance"
    """What the instance was started with."""
    AWS = "aws"
    """What the instance reaches of AWS."""


@dataclass(frozen=True)
class Finding:
    """The answer to one check."""

    name: str
    """For programs: words with hyphens, never renamed."""
    title: str
    """For people."""
    part: Part
    level: Level
    state: State
    found: str
    """What was seen, in a line or two."""
    advice: str
    """What to do; empty where nothing is to be done, or where another finding says it."""


@dataclass(frozen=True)
class Check:
    """A requirement, before it was looked at. Its methods make the findings."""

    name: str
    title: str
    part: Part
    level: Level

    def met(self, found: str) -> Finding:
        """It is as it should be."""
        return self._finding(State.MET, found, "")

    def not_met(self, found: str, advice: str) -> Finding:
        """It is not as it should be, and this is to be done."""
        return self._finding(State.NOT_MET, found, advice)

    def unknown(self, found: str, advice: str = "") -> Finding:
        """It could not be found out, for this reason; no advice where the reason is a finding of its own."""
        return self._finding(State.UNKNOWN, found, advice)

    def not_applicable(self, found: str) -> Finding:
        """The question does not arise."""
        return self._finding(State.NOT_APPLICABLE, found, "")

    def _finding(self, state: State, found: str, advice: str) -> Finding:
        return Finding(self.name, self.title, self.part, self.level, state, found, advice)


@unique
class Verdict(StrEnum):
    """All findings in a word."""

    READY = "ready"
    """Everything that is required is met."""
    NOT_READY = "not ready"
    """Something that is required is not met."""
    UNSURE = "unsure"
    """Nothing that is required is known to be missing, but not all of it could be found out."""


@dataclass(frozen=True)
class Report:
    """Everything that was found out about one machine, in the order in which it is shown."""

    schema_version: int
    agent_version: str
    user_id: int
    """Who asked; 0, root, has the most answers."""
    instance_id: str | None
    """None where no metadata service told it."""
    verdict: Verdict
    findings: tuple[Finding, ...]


def verdict_of(findings: Sequence[Finding]) -> Verdict:
    """What the required findings come to."""
    states = {finding.state for finding in findings if finding.level is Level.REQUIRED}
    if State.NOT_MET in states:
        return Verdict.NOT_READY
    return Verdict.UNSURE if State.UNKNOWN in states else Verdict.READY
