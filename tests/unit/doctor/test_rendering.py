"""The doctor's report as people and programs see it; what it looked like is saved beside."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from agent.doctor.checks import Report
from agent.doctor.rendering import json_schema, show, to_json
from agent.errors import DockerError
from tests.unit.doctor.machines import HOST, INSTANCE, Patient

SAVED = Path(__file__).with_name("saved")
"""A change there is a change of what people read, or of what programs rely on."""


def ill() -> Report:
    """A machine with a finding of every state."""
    return Patient(
        docker=DockerError("Docker does not answer: silent for 4 s"),
        host=replace(HOST, cloudwatch_agent=False),
        instance=replace(INSTANCE, pointer=None, two_hops=False),
        user_id=1000,
    ).examined()


def printed(report: Report, width: int) -> str:
    """What a person sees, without colours."""
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    show(report, console)
    assert isinstance(console.file, io.StringIO)
    return "".join(f"{line.rstrip()}\n" for line in console.file.getvalue().splitlines())


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_is_as_saved(width: int) -> None:
    """All findings with what to do, in so many columns."""
    text = printed(ill(), width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert text == (SAVED / f"table-{width}.txt").read_text()


def test_a_healthy_machine_needs_no_advice() -> None:
    """Nothing to do, and the verdict says so."""
    text = printed(Patient().examined(), 100)
    assert "→" not in text
    assert "can execute runs" in text


def test_json_keeps_its_shape() -> None:
    """Programs rely on the schema; what is printed fits it, and names are never renamed."""
    saved = json.loads((SAVED / "report.schema.json").read_text())
    assert json_schema() == saved
    found = json.loads(to_json(ill()))
    assert set(found) == set(saved["required"])
    names = (SAVED / "names.txt").read_text().split()
    assert [finding["name"] for finding in found["findings"]] == names
