"""When a run counts as lost."""

from __future__ import annotations

from datetime import timedelta
from typing import cast

import pytest

from agent.contract import RunState, RunStatus
from launcher.machines import PROFILE_PATIENCE_S, Machine, Machines
from launcher.observing import SILENCE, observe
from tests.fakes.aws_clients import SleepyClock
from tests.unit.launcher.test_plan import IDENTITY, plan

RUN = IDENTITY.run_id
STARTING = timedelta(seconds=PROFILE_PATIENCE_S) + SILENCE


class Listed:
    """In the place of Machines: what EC2 lists."""

    def __init__(self, *states: str) -> None:
        self.found = [Machine(f"i-{number}", RUN, state) for number, state in enumerate(states)]

    def of_runs(self, run_ids: list[str]) -> dict[str, list[Machine]]:
        return dict.fromkeys(run_ids, self.found)


def judged(age: timedelta, *machines: str, **changes: object) -> RunState:
    """The state of a run whose status was written so long ago, and whose machines are in these states."""
    clock = SleepyClock()
    then = clock.now() - age
    status: RunStatus = plan().status.model_copy(
        update={"submitted_at": then, "heartbeat_at": then, **changes}
    )
    return observe([status], cast(Machines, Listed(*machines)), clock)[0].state


@pytest.mark.parametrize(
    ("age", "state"),
    [
        (SILENCE + timedelta(seconds=1), RunState.SUBMITTED),
        (STARTING, RunState.SUBMITTED),
        (STARTING + timedelta(seconds=1), RunState.UNKNOWN),
    ],
)
def test_a_run_whose_machine_was_never_seen_is_given_time(age: timedelta, state: RunState) -> None:
    """The launcher may still be waiting for an instance profile: only after that the run counts as lost."""
    assert judged(age) is state


def test_a_machine_that_was_seen_and_is_gone_is_lost_at_once() -> None:
    """Listed as terminated, or named in the status: silence is enough then."""
    age = SILENCE + timedelta(seconds=1)
    assert judged(age, "terminated") is RunState.UNKNOWN
    assert judged(age, instance_id="i-1") is RunState.UNKNOWN
    assert judged(age, state=RunState.RUNNING) is RunState.UNKNOWN
    assert judged(age, "terminated", "pending") is RunState.SUBMITTED
