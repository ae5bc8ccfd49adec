"""Looks that hang, fail or answer."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from agent.clock import SystemClock
from agent.doctor import examination
from agent.doctor.asking import Asked
from agent.doctor.checks import State
from agent.doctor.facts import Silence
from tests.unit.doctor.machines import Patient


def test_an_answer_is_an_answer() -> None:
    """What the look brought."""
    assert Asked(lambda: 7, 60.0, SystemClock()).answer() == 7


def test_a_failure_is_silence_with_its_reason() -> None:
    """The error's words, or its name; a refusal is marked."""

    def fail(error: Exception) -> int:
        raise error

    clock = SystemClock()
    assert Asked(lambda: fail(ValueError("odd")), 60.0, clock).answer() == Silence("odd")
    assert Asked(lambda: fail(KeyError()), 60.0, clock).answer() == Silence("KeyError")
    assert Asked(lambda: fail(PermissionError("no")), 60.0, clock).answer() == Silence("no", forbidden=True)


def test_what_hangs_is_not_waited_for() -> None:
    """After its time there is silence, and the thread does not keep the process."""
    never = threading.Event()
    try:
        answer = Asked(never.wait, 0.05, SystemClock()).answer()
        assert isinstance(answer, Silence)
        assert "no answer within" in answer.why
    finally:
        never.set()


@pytest.mark.timeout(60, func_only=True)  # it hangs otherwise
def test_a_machine_on_which_everything_hangs_is_reported_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look hangs: the report is there after the longest time all the same, and nothing is met."""
    monkeypatch.setattr(examination, "MACHINE_S", 0.2)
    monkeypatch.setattr(examination, "CLOUD_S", 0.2)
    never = threading.Event()
    looks = ("host", "docker", "docker_settings", "instance", "s3", "logs", "run")
    hangs: dict[str, Any] = dict.fromkeys(looks, never.wait)
    patient = Patient(**hangs, disk=lambda _: never.wait())
    patient.systemd = Silence("no answer within 6 s")
    try:
        report = patient.examined()
    finally:
        never.set()
    assert State.MET not in {finding.state for finding in report.findings}
