"""The machine's own switch learns of the run, however often it must be told."""

from __future__ import annotations

import time

import pytest

import agent.run
from agent.contract import STATUS, RunSpec, RunState, StopReason
from agent.telling import WARNING
from tests.fakes.containers import Program
from tests.fakes.stage import INSTANCE, Stage, assert_over

LIMIT_S = 3600


def until_running(stage: Stage) -> None:
    """Wait until the status in S3 says so."""
    deadline = time.monotonic() + 20
    while stage.status.state is not RunState.RUNNING and time.monotonic() < deadline:
        time.sleep(0.01)


@pytest.mark.timeout(60)
def test_a_machine_that_does_not_listen_is_told_again(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """It hears of the run while the workload runs, with what is left of the limit then, and no warning stays."""
    monkeypatch.setattr(agent.run, "TELL_S", 0.01)
    stage.submit(time_limit_s=LIMIT_S)
    stage.containers.programs[()] = Program(code=None)
    left: list[float] = []
    warned: list[tuple[str, ...]] = []

    def tell(_spec: RunSpec, left_s: float) -> bool:
        left.append(left_s)
        if len(left) < 3:
            return False
        until_running(stage)
        warned.append(stage.status.warnings)
        stage.containers.end(next(iter(stage.containers.containers)), 0)
        return True

    stage.tell_machine = tell
    stage.live()
    assert_over(stage, StopReason.COMPLETED)
    assert LIMIT_S > left[0] > left[1] > left[2] > LIMIT_S - 60
    assert len(left) == 3
    assert warned == [(WARNING,)]
    assert stage.status.warnings == ()


def test_a_machine_that_never_listens_is_a_warning(stage: Stage) -> None:
    """The run goes on, and its status says that the machine may not."""
    stage.submit()
    stage.tell_machine = lambda _spec, _left_s: False
    stage.live()
    assert_over(stage, StopReason.COMPLETED)
    assert stage.status.warnings == (WARNING,)


def test_a_machine_that_listened_is_told_once(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not told again; and what an agent before this one warned of is taken back."""
    monkeypatch.setattr(agent.run, "TELL_S", 0.01)
    stage.submit()
    stage.claim(INSTANCE)
    warned = stage.status.model_copy(update={"warnings": (WARNING, "The disk is slow.")})
    stage.store.put(STATUS, warned.model_dump_json().encode())
    told: list[str] = []

    def tell(spec: RunSpec, _left_s: float) -> bool:
        told.append(spec.run_id)
        return True

    stage.tell_machine = tell
    stage.live()
    assert_over(stage, StopReason.COMPLETED)
    assert len(told) == 1
    assert stage.status.warnings == ("The disk is slow.",)
