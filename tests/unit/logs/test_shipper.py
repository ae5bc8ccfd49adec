"""The spool to the stream: every line, once, in order."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agent.clock import Deadline, SystemClock
from agent.logs.batches import WINDOW_BYTES
from agent.logs.journal import ShippingJournal
from agent.logs.redact import Redactor
from agent.logs.shipper import JOURNAL, LogShipper, ShipReport, Timing
from agent.logs.sink import Denied, Receipt, Refused, SinkError, Unacceptable, Unsure
from tests.fakes.log_sink import FakeSink

FAST = Timing(
    poll_s=0.002,
    linger_s=0.0,
    patience_s=0.02,
    patience_max_s=0.1,
    settle_s=0.01,
    retry_s=0.001,
    retry_max_s=0.002,
)
CLOCK = SystemClock()
SOME_LINES = b"".join(b"line %06d\n" % number for number in range(200_000))


def shipper(
    folder: Path, sink: FakeSink, redactor: Redactor | None = None, timing: Timing = FAST
) -> LogShipper:
    """A shipper of `folder/spool`, its journal beside it."""
    return LogShipper(folder / "spool", folder / "state", sink, redactor or Redactor(), CLOCK, timing)


def finish(ship: LogShipper, seconds: float = 60) -> ShipReport:
    """Finish within the deadline."""
    return ship.finish(Deadline.after(seconds, CLOCK))


def wait_for(condition: Callable[[], bool]) -> None:
    """Poll until it is so, for up to a minute."""
    deadline = Deadline.after(60, CLOCK)
    while not condition():
        assert not deadline.passed, "this did not happen in a minute"
        time.sleep(0.001)


def lines_of(data: bytes) -> list[str]:
    """What the stream should hold."""
    return data.decode().splitlines()


def test_follows_the_spool(tmp_path: Path) -> None:
    """Lines arrive as they are printed, from a spool that was not there at first."""
    sink = FakeSink()
    with shipper(tmp_path, sink) as ship:
        with (tmp_path / "spool").open("ab", buffering=0) as spool:
            spool.write(b"one\n")
            wait_for(lambda: sink.events == ["one"])
            spool.write(b"two\nthree\n")
            wait_for(lambda: sink.events == ["one", "two", "three"])
            spool.write(b"last, without end")
        report = finish(ship)

    assert sink.events == ["one", "two", "three", "last, without end"]
    assert report == ShipReport(31, 31, events=4, rejected=0, complete=True, warnings=())
    assert sink.closed == 1


def test_nothing_to_ship(tmp_path: Path) -> None:
    """A workload that never printed leaves a complete log, and no request was made."""
    sink = FakeSink()
    with shipper(tmp_path, sink) as ship:
        report = finish(ship)

    assert report.complete
    assert report.bytes_total == 0
    assert sink.puts == 0


def test_backlog_goes_by_several_connections(tmp_path: Path) -> None:
    """A backlog is sent by four at once, never more, and is in order whatever arrives first."""
    (tmp_path / "spool").write_bytes(SOME_LINES * 2)
    sink = FakeSink()
    four, lock = threading.Barrier(4), threading.Lock()
    came = inside = most = 0

    def meet(_timestamp: int) -> None:
        nonlocal came, inside, most
        with lock:
            came, inside = came + 1, inside + 1
            most = max(most, inside)
            is_one_of_the_first = came <= four.parties
        if is_one_of_the_first:
            four.wait(60)
        with lock:
            inside -= 1

    sink.on_put = meet
    with shipper(tmp_path, sink) as ship:
        report = finish(ship)

    assert sink.events == lines_of(SOME_LINES) * 2
    assert report.complete
    assert report.events == 400_000
    assert most == 4


def test_small_batches_go_one_by_one(tmp_path: Path) -> None:
    """While a batch is on its way, new lines gather for the next one."""
    sink = FakeSink()
    on_its_way, go_on = threading.Event(), threading.Event()

    def hold(_timestamp: int) -> None:
        on_its_way.set()
        go_on.wait(60)

    sink.on_put = hold
    with shipper(tmp_path, sink) as ship, (tmp_path / "spool").open("ab", buffering=0) as spool:
        spool.write(b"one\n")
        assert on_its_way.wait(60)
        for number in range(50):
            spool.write(b"more %d\n" % number)
        go_on.set()
        assert finish(ship).complete

    assert len(sink.events) == 51
    assert sink.puts <= 3


def test_a_line_without_end_waits_a_little(tmp_path: Path) -> None:
    """A prompt or a row of dots is shipped after a short while; its end makes no blank line later."""
    sink = FakeSink()
    with shipper(tmp_path, sink) as ship, (tmp_path / "spool").open("ab", buffering=0) as spool:
        spool.write(b"working ...")
        wait_for(lambda: sink.events == ["working ..."])
        spool.write(b"\ndone\n")
        report = finish(ship)

    assert sink.events == ["working ...", "done"]
    assert report.complete


def test_a_long_line_is_one_batch_after_the_other(tmp_path: Path) -> None:
    """A line without an end that is larger than a batch does not wait for it."""
    (tmp_path / "spool").write_bytes(b"x" * (3 * WINDOW_BYTES))
    sink = FakeSink()
    with shipper(tmp_path, sink, timing=replace(FAST, patience_s=60, patience_max_s=60)) as ship:
        wait_for(lambda: sum(map(len, sink.events)) > 2 * WINDOW_BYTES)
        report = finish(ship)

    assert "".join(sink.events) == "x" * (3 * WINDOW_BYTES)
    assert report.complete


def test_secrets_do_not_get_out(tmp_path: Path) -> None:
    """A secret that is printed in two halves, with a pause between them, is masked."""
    sink = FakeSink()
    with (
        shipper(tmp_path, sink, Redactor(["hunter2!"])) as ship,
        (tmp_path / "spool").open("ab", buffering=0) as spool,
    ):
        spool.write(b"password: hun")
        wait_for(lambda: bool(sink.events))
        spool.write(b"ter2!\n")
        finish(ship)

    assert "".join(sink.events) == "password: [redacted]"


@pytest.mark.parametrize("error", [Refused("slow down"), Unsure("no answer")])
def test_tries_again(tmp_path: Path, error: SinkError) -> None:
    """A batch that was not taken is sent again, until it is."""
    (tmp_path / "spool").write_bytes(SOME_LINES)
    sink = FakeSink()
    sink.before = [error] * 10
    with shipper(tmp_path, sink) as ship:
        report = finish(ship)

    assert sink.events == lines_of(SOME_LINES)
    assert report.complete
    assert report.warnings == ()


def test_taken_without_an_answer(tmp_path: Path) -> None:
    """A batch that was taken although the answer was an error is not sent twice, be it seen late."""
    (tmp_path / "spool").write_bytes(SOME_LINES)
    sink = FakeSink()
    sink.after = [Unsure("500"), Unsure("500"), None, Unsure("500")]
    sink.unseen = [False, Refused("slow down")]
    with shipper(tmp_path, sink, timing=replace(FAST, settle_s=5)) as ship:
        report = finish(ship)

    assert sink.events == lines_of(SOME_LINES)
    assert report.complete


def test_looking_is_denied(tmp_path: Path) -> None:
    """Where the stream may not be read, a batch in doubt is sent again: twice is better than never."""
    (tmp_path / "spool").write_bytes(b"line\n")
    sink = FakeSink()
    sink.after = [Unsure("500")]
    sink.unseen = [Denied("logs:GetLogEvents")]
    with shipper(tmp_path, sink) as ship:
        report = finish(ship)

    assert sink.events == ["line", "line"]
    assert report.complete
    assert "lines may come twice" in report.warnings[0]


def test_denied_until_mended(tmp_path: Path) -> None:
    """A missing permission is told once and asked for again; nothing is lost when it comes."""
    (tmp_path / "spool").write_bytes(b"line\n")
    sink = FakeSink()
    sink.before = [Denied("logs:PutLogEvents"), Denied("logs:PutLogEvents")]
    with shipper(tmp_path, sink) as ship:
        wait_for(lambda: bool(ship.warnings))
        report = finish(ship)

    assert sink.events == ["line"]
    assert report.complete
    assert len(report.warnings) == 1
    assert "logs:PutLogEvents" in report.warnings[0]


@pytest.mark.parametrize("why", ["receipt", "error"])
def test_refused_for_good_is_told(tmp_path: Path, why: str) -> None:
    """Events that the service will never take are counted and told, and do not hold up what follows."""
    sink = FakeSink()
    if why == "receipt":
        sink.receipts = [Receipt(rejected=2, why="they are too old")]
    else:
        sink.before = [Unacceptable("they are too old")]
    with shipper(tmp_path, sink) as ship, (tmp_path / "spool").open("ab", buffering=0) as spool:
        spool.write(b"one\ntwo\n")
        wait_for(lambda: bool(ship.warnings))
        spool.write(b"three\n")
        report = finish(ship)

    assert sink.events == ["three"]
    assert (report.events, report.rejected, report.complete) == (1, 2, False)
    assert report.bytes_shipped == report.bytes_total
    assert "they are too old" in report.warnings[0]


@pytest.mark.timeout(60, func_only=True)  # without the deadline it goes on for ever
def test_the_deadline_holds(tmp_path: Path) -> None:
    """When the service stays away, the end comes at the deadline, says what is missing, and can be gone on from."""
    (tmp_path / "spool").write_bytes(b"line\n")
    sink = FakeSink()
    sink.before = [Refused("no route to host")] * 100_000
    with shipper(tmp_path, sink) as ship:
        report = finish(ship, seconds=1)

    assert (report.bytes_shipped, report.bytes_total, report.complete) == (0, 5, False)
    assert "no route to host" in report.warnings[0]

    sink.before = []
    with shipper(tmp_path, sink) as ship:
        assert finish(ship).complete
    assert sink.events == ["line"]


def test_goes_on_after_a_kill(tmp_path: Path) -> None:
    """Of the batches that were on their way, those in the stream are kept and the others are sent, in their order."""
    lines = [b"line %d\n" % number for number in range(8)]
    (tmp_path / "spool").write_bytes(b"".join(lines))
    sink = FakeSink()
    with ShippingJournal(tmp_path / "state" / JOURNAL) as journal:
        intents = [journal.intend(len(line), 1_000) for line in lines[:5]]
        journal.accept(intents[0], 1, 0)
    for arrived in (0, 2, 4):
        sink.batches[intents[arrived].timestamp] = [lines[arrived].decode().strip()]

    with shipper(tmp_path, sink) as ship:
        report = finish(ship)

    assert sink.events == [line.decode().strip() for line in lines]
    assert report.complete
    assert report.events == 8


def test_goes_on_with_other_secrets(tmp_path: Path) -> None:
    """A batch that no longer fits, as its secrets changed meanwhile, still arrives whole."""
    secret = b"s3cret-" * 20
    data = (secret + b"\n") * 30_000
    (tmp_path / "spool").write_bytes(data)
    with ShippingJournal(tmp_path / "state" / JOURNAL) as journal:
        journal.intend(len(data), 1_000)
    sink = FakeSink()
    with shipper(tmp_path, sink) as ship:
        report = finish(ship)

    assert sink.events == lines_of(data)
    assert report.complete


def test_a_bug_does_not_stop_it(tmp_path: Path) -> None:
    """What nobody thought of is told, and the shipping goes on."""
    (tmp_path / "spool").write_bytes(b"line\n")
    sink = FakeSink()
    bugs = [RuntimeError("nobody thought of this")]

    def fail_once(_timestamp: int) -> None:
        if bugs:
            raise bugs.pop()

    sink.on_put = fail_once
    with shipper(tmp_path, sink) as ship:
        report = finish(ship)

    assert sink.events == ["line"]
    assert report.complete
    assert "nobody thought of this" in report.warnings[0]


def test_a_spool_that_shrank_is_told(tmp_path: Path) -> None:
    """A spool that is shorter than what was shipped is no reason to send anything twice."""
    sink = FakeSink()
    with shipper(tmp_path, sink) as ship:
        (tmp_path / "spool").write_bytes(b"one\ntwo\n")
        wait_for(lambda: sink.events == ["one", "two"])
        (tmp_path / "spool").write_bytes(b"one\n")
        wait_for(lambda: bool(ship.warnings))
        report = finish(ship)

    assert sink.events == ["one", "two"]
    assert not report.complete
