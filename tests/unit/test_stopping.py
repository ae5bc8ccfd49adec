"""The first stop reason wins, and one deadline is divided."""

import threading
from datetime import timedelta
from pathlib import Path

import pytest

from agent.contract import StopReason
from agent.journal import Exited, Journal, Started, Stop
from agent.stopping import FINISH_S, MAX_GRACE_S, StopLatch, plan_stop
from tests.fakes.clock import START, ScriptedClock


def latch_in(folder: Path) -> StopLatch:
    return StopLatch(Journal(folder), ScriptedClock())


def test_the_first_reason_wins(tmp_path: Path) -> None:
    """A reason that comes later is refused and changes nothing."""
    latch = latch_in(tmp_path)
    assert latch.stop is None
    assert latch.offer(StopReason.TIME_LIMIT, "too long")
    assert not latch.offer(StopReason.CANCELLED, "a person")
    assert latch.wait().reason is StopReason.TIME_LIMIT


def test_of_many_at_once_one_wins(tmp_path: Path) -> None:
    """Threads that offer reasons at the same moment agree on one."""
    latch = latch_in(tmp_path)
    barrier = threading.Barrier(8)
    won: list[bool] = []

    def offer() -> None:
        barrier.wait()
        won.append(latch.offer(StopReason.CANCELLED, threading.current_thread().name))

    threads = [threading.Thread(target=offer) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False] * 7 + [True]


def test_a_restarted_agent_keeps_the_reason(tmp_path: Path) -> None:
    """A run that was being cancelled when the agent was killed is still a cancelled one."""
    latch_in(tmp_path).offer(StopReason.CANCELLED, "a person")
    again = latch_in(tmp_path)
    assert again.wait().reason is StopReason.CANCELLED
    assert not again.offer(StopReason.COMPLETED, "exit 0")


def test_a_full_disk_does_not_keep_a_run_from_stopping(tmp_path: Path) -> None:
    """Where the reason cannot be saved, the run stops all the same."""
    latch = latch_in(tmp_path / "missing")
    assert latch.offer(StopReason.DISK_FULL, "full")
    assert latch.wait().reason is StopReason.DISK_FULL


def test_the_first_record_of_a_kind_stays(tmp_path: Path) -> None:
    """A journal keeps what was written first, so that a workload has one start and one exit."""
    journal = Journal(tmp_path)
    assert journal.read(Started) is None
    first = journal.write(Started(container_id="a", started_at=START))
    assert journal.write(Started(container_id="b", started_at=START)) == first
    assert journal.read(Started) == first
    assert journal.read(Exited) is None


def stop_for(reason: StopReason, notice_s: float | None = None) -> Stop:
    ends = None if notice_s is None else START + timedelta(seconds=notice_s)
    return Stop(reason=reason, message="", at=START, machine_ends_at=ends)


@pytest.mark.parametrize("reason", StopReason)
def test_the_workload_never_gets_the_uploads_share(reason: StopReason) -> None:
    """Whatever the reason, the grace is short and most of the time is left for saving results."""
    plan = plan_stop(stop_for(reason), ScriptedClock())
    grace, everything = plan.workload_by.remaining(), plan.all_by.remaining()
    assert 0 < grace <= MAX_GRACE_S
    assert everything - grace >= everything / 2


@pytest.mark.parametrize("notice_s", [120.0, 90.0, 30.0, 5.0, 0.0, -10.0])
def test_a_spot_notice_is_the_limit_of_everything(notice_s: float) -> None:
    """Grace and uploads fit into what EC2 leaves, however short the notice."""
    plan = plan_stop(stop_for(StopReason.SPOT_INTERRUPTED, notice_s), ScriptedClock())
    assert plan.all_by.remaining() <= max(notice_s - FINISH_S, 1.0)
    assert plan.workload_by.remaining() < plan.all_by.remaining()


def test_time_that_went_by_is_not_given_twice() -> None:
    """An agent that comes back after a kill divides only what is left since the reason came up."""
    clock = ScriptedClock()
    clock.advance(50.0)
    plan = plan_stop(stop_for(StopReason.SPOT_INTERRUPTED, 120.0), clock)
    assert plan.all_by.remaining() == pytest.approx(70.0 - FINISH_S)
    assert plan.workload_by.passed


def test_a_spot_notice_during_uploads_brings_the_end_nearer(tmp_path: Path) -> None:
    """The first reason stays, and a deadline that was handed out before ends with the machine."""
    clock = ScriptedClock()
    latch = StopLatch(Journal(tmp_path), clock)
    latch.offer(StopReason.COMPLETED, "exit 0")
    plan = plan_stop(latch.wait(), clock, latch.machine_ends)
    uploads = plan.all_by.less(10.0)
    assert uploads.remaining() > 3600
    latch.offer(StopReason.SPOT_INTERRUPTED, "notice", machine_ends_at=START + timedelta(seconds=120))
    assert latch.wait().reason is StopReason.COMPLETED
    assert plan.all_by.remaining() == pytest.approx(120 - FINISH_S)
    assert uploads.remaining() == pytest.approx(110 - FINISH_S)
