"""`launcher local spot-interrupt RUN` finds the machine that is meant."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from launcher.commands.local import _machine_of
from launcher.errors import NotThere, UserError
from launcher.localcloud.control import MachineReport


def machine(number: int, state: str = "running", name: str | None = None) -> MachineReport:
    return MachineReport(
        instance_id=f"i-{number}",
        instance_type="m5d.large",
        region="us-east-1",
        state=state,
        run_id=f"20260101t00000{number}-abcdef",
        run_name=name or f"name-{number}",
        agent_pid=None,
        agent_starts=1,
        launched_at=datetime(2026, 1, 1, tzinfo=UTC),
        interruption_at=None,
        console=Path("/console.log"),
        spot=False,
    )


MACHINES = [machine(1), machine(2), machine(3, "off"), machine(4, "ending")]


@pytest.mark.parametrize("run", ["20260101t000001-abcdef", "20260101t000001", "name-1", "i-1"])
def test_a_run_is_known_by_id_prefix_name_or_machine(run: str) -> None:
    """Every way to name a run leads to its machine."""
    assert _machine_of(run, MACHINES).instance_id == "i-1"


def test_a_prefix_of_several_is_ambiguous() -> None:
    """An ambiguous prefix lists the candidates and interrupts none."""
    with pytest.raises(UserError, match="name-1, name-2"):
        _machine_of("20260101t", MACHINES)


@pytest.mark.parametrize("run", ["name-3", "name-4"])
def test_a_run_that_ended_has_no_machine(run: str) -> None:
    """Machines that are off, or about to be, cannot be interrupted."""
    with pytest.raises(NotThere):
        _machine_of(run, MACHINES)


def test_a_name_nearly_right_is_offered() -> None:
    """A typing error is met with the name that was meant."""
    with pytest.raises(NotThere) as caught:
        _machine_of("nam-2", MACHINES)
    assert "name-2" in caught.value.hint


def test_a_restarted_run_means_its_living_machine() -> None:
    """Of two machines with the same run name the one that runs is meant."""
    assert _machine_of("twice", [machine(1, "off", "twice"), machine(2, name="twice")]).instance_id == "i-2"
