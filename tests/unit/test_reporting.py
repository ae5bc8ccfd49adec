"""The run status in S3."""

import pytest

from agent.clock import Deadline
from agent.contract import STATUS, RunState, RunStatus, StopReason, TaskCounts, parse
from agent.errors import StoreError
from agent.reporting import Reporter
from tests.fakes.clock import START, ScriptedClock


class StatusLog:
    """Takes every status that is written; refuses while told to."""

    def __init__(self) -> None:
        self.written: list[RunStatus] = []
        self.refuse = False

    def put(
        self, key: str, body: bytes, content_type: str | None = None, *, deadline: Deadline | None = None
    ) -> None:
        assert deadline is not None
        if self.refuse:
            raise StoreError("no")
        assert (key, content_type) == (STATUS, "application/json")
        self.written.append(parse(RunStatus, body))


def reporter_on(store: StatusLog, clock: ScriptedClock | None = None) -> Reporter:
    status = RunStatus(
        run_id="20260101t120000-abcdef",
        name="a_run",
        state=RunState.SUBMITTED,
        submitted_at=START,
        heartbeat_at=START,
    )
    return Reporter(store, status, clock or ScriptedClock())


def test_a_change_is_written_at_once_with_the_time() -> None:
    """A change of state is in S3 when `change` returns, and carries a fresh heartbeat."""
    store, clock = StatusLog(), ScriptedClock()
    clock.advance(5)
    reporter_on(store, clock).change(state=RunState.RUNNING)
    assert [status.state for status in store.written] == [RunState.RUNNING]
    assert store.written[0].heartbeat_at == clock.now()


def test_a_final_status_is_the_last_one() -> None:
    """After the final status no heartbeat and no late change reaches S3."""
    store = StatusLog()
    reporter = reporter_on(store)
    reporter.change(state=RunState.FAILED, stop_reason=StopReason.TIME_LIMIT)
    reporter.heartbeat(TaskCounts(running=1))
    reporter.change(state=RunState.RUNNING, message="late")
    assert store.written[-1].state is RunState.FAILED
    assert store.written[-1].message == ""
    assert len({status.model_dump_json() for status in store.written}) == 1


def test_a_heartbeat_outlives_a_refusal() -> None:
    """S3 that refuses a heartbeat does not end the run, and the next one carries everything."""
    store = StatusLog()
    reporter = reporter_on(store)
    store.refuse = True
    reporter.warn("disk is slow")
    reporter.heartbeat(TaskCounts(running=1))
    store.refuse = False
    reporter.warn("disk is slow")
    reporter.heartbeat(TaskCounts(running=2))
    assert store.written[0].tasks.running == 2
    assert store.written[0].warnings == ("disk is slow",)


def test_a_warning_that_holds_no_more_is_withdrawn() -> None:
    """The next status is without it, and with all others; one that was never given is nothing to take back."""
    store = StatusLog()
    reporter = reporter_on(store)
    reporter.warn("disk is slow")
    reporter.warn("clock is slow")
    reporter.withdraw("disk is slow")
    reporter.withdraw("never said")
    reporter.heartbeat()
    assert store.written[0].warnings == ("clock is slow",)


def test_a_refused_change_is_told_and_kept() -> None:
    """The caller hears that a change of state did not reach S3; the heartbeat after it brings the change."""
    store = StatusLog()
    reporter = reporter_on(store)
    store.refuse = True
    with pytest.raises(StoreError):
        reporter.change(state=RunState.RUNNING)
    store.refuse = False
    reporter.heartbeat()
    assert store.written[0].state is RunState.RUNNING
