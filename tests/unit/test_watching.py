"""What looks out while a run goes."""

import os
import shutil
import signal
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from agent.contract import StopReason, StopRequest
from agent.errors import KeyMissing, StoreError
from agent.journal import Journal
from agent.metadata import SpotNotice
from agent.stopping import StopLatch
from agent.watching import (
    Ballast,
    Signals,
    Watch,
    look_at_disk,
    look_at_time_limit,
    look_for_spot_notice,
    look_for_stop_request,
    watches,
)
from tests.fakes.clock import START, ScriptedClock


@pytest.fixture
def latch(tmp_path: Path) -> StopLatch:
    return StopLatch(Journal(tmp_path), ScriptedClock())


class OneKey:
    """A store with one object, or none."""

    def __init__(self, body: bytes | None) -> None:
        self.body = body

    def get(self, key: str) -> bytes:
        if self.body is None:
            raise KeyMissing(key)
        return self.body


def test_a_stop_request_says_who_asked(latch: StopLatch) -> None:
    """A request in S3 stops the run as cancelled, and the message names the person."""
    look_for_stop_request(OneKey(None), latch)
    assert latch.stop is None
    request = StopRequest(requested_by="ada@desk", requested_at=START)
    look_for_stop_request(OneKey(request.model_dump_json().encode()), latch)
    assert latch.wait().reason is StopReason.CANCELLED
    assert "ada@desk" in latch.wait().message


def test_a_stop_request_that_cannot_be_read_stops_too(latch: StopLatch) -> None:
    """Whoever wrote stop.json wanted the end: garbage in it costs nobody money."""
    look_for_stop_request(OneKey(b"please stop"), latch)
    assert latch.wait().reason is StopReason.CANCELLED


def test_the_time_limit_counts_from_the_claim(latch: StopLatch) -> None:
    """One second before the limit nothing happens, at the limit the run stops."""
    clock = ScriptedClock()
    clock.advance(99)
    look_at_time_limit(START, 100, clock, latch)
    assert latch.stop is None
    clock.advance(1)
    look_at_time_limit(START, 100, clock, latch)
    assert latch.wait().reason is StopReason.TIME_LIMIT
    assert "0:01:40" in latch.wait().message


class Notices:
    """A metadata service with a Spot notice, or none."""

    def __init__(self, notice: SpotNotice | None) -> None:
        self.notice = notice

    def spot_action(self) -> SpotNotice | None:
        return self.notice


def test_a_spot_notice_brings_its_own_deadline(latch: StopLatch) -> None:
    """The moment at which EC2 ends the machine is kept with the reason."""
    look_for_spot_notice(Notices(None), latch)
    assert latch.stop is None
    ends = START + timedelta(seconds=120)
    look_for_spot_notice(Notices(SpotNotice(action="terminate", time=ends)), latch)
    assert latch.wait().reason is StopReason.SPOT_INTERRUPTED
    assert latch.wait().machine_ends_at == ends


class Usage(NamedTuple):
    """As shutil.disk_usage answers."""

    total: int
    used: int
    free: int


@pytest.mark.parametrize(
    ("total", "free", "stops"),
    [
        (50 << 30, 2 << 30, False),
        (50 << 30, (1 << 30) - 1, True),
        (300 << 20, 31 << 20, False),
        (300 << 20, 29 << 20, True),
    ],
)
def test_a_disk_stops_the_run_before_it_is_full(
    latch: StopLatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, total: int, free: int, stops: bool
) -> None:
    """Under 1 GiB, or a tenth of a small disk, the run is stopped while there is room to finish."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(total, total - free, free))
    ballast = tmp_path / "ballast"
    ballast.touch()
    look_at_disk(Path(), Ballast(ballast), latch)
    assert (latch.stop is not None) == stops
    assert ballast.exists() != stops


def test_the_ballast_takes_real_blocks_and_gives_them_back(tmp_path: Path) -> None:
    """Room that is kept for the end is really taken from the disk, and free again afterwards."""
    ballast = Ballast(tmp_path / "ballast")
    ballast.take()
    info = (tmp_path / "ballast").stat()
    assert info.st_blocks * 512 >= info.st_size > 0
    ballast.release()
    ballast.release()
    assert not (tmp_path / "ballast").exists()


def looks(*results: Exception | None) -> tuple[Callable[[], None], threading.Event]:
    """A look that has these results one after the other; the event is set when all are used up."""
    left, over = list(results), threading.Event()

    def look() -> None:
        result = left.pop(0) if left else None
        if not left:
            over.set()
        if result is not None:
            raise result

    return look, over


def test_a_watch_outlives_the_errors_of_the_cloud(latch: StopLatch) -> None:
    """S3 that cannot be reached is logged; the next look comes as planned and the run goes on."""
    look, over = looks(StoreError("down"), StoreError("down"), None)
    with watches(Watch("test watch", 0.001, look, latch)):
        assert over.wait(60)
    assert latch.stop is None


def test_a_watch_that_breaks_stops_the_run(latch: StopLatch) -> None:
    """A defect in a watch ends the run with its name: a run that nobody watches is an orphan."""
    look, _ = looks(ZeroDivisionError("oops"))
    with watches(Watch("test watch", 0.001, look, latch)):
        assert latch.wait().reason is StopReason.AGENT_FAILED
    assert "test watch" in latch.wait().message


def test_a_closed_watch_looks_no_more(latch: StopLatch) -> None:
    """After `close` at most the look under way still ends."""
    count = 0
    seen = threading.Event()

    def look() -> None:
        nonlocal count
        count += 1
        seen.set()

    watch = Watch("test watch", 3600, look, latch)
    assert seen.wait(60)
    watch.close()
    watch.join(60)
    assert count == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_run_and_handlers_come_back(latch: StopLatch, number: signal.Signals) -> None:
    """SIGTERM and SIGINT become a stop reason inside, and mean what they meant before afterwards."""
    former = signal.getsignal(number)
    with Signals.held() as signals, signals.stopping(latch, ScriptedClock()):
        os.kill(os.getpid(), number)
        assert latch.wait().reason is StopReason.TERMINATED
    assert signal.getsignal(number) is former


def test_a_signal_before_the_run_is_known_is_not_lost(latch: StopLatch) -> None:
    """What came while the run was being claimed stops it as soon as there is something to stop."""
    with Signals.held() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        assert latch.stop is None
        with signals.stopping(latch, ScriptedClock()):
            assert latch.wait().reason is StopReason.TERMINATED
        os.kill(os.getpid(), signal.SIGTERM)
